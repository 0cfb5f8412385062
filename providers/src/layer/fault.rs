//! A store that fails on purpose, by script and reproducibly: what must be survived is tested with this.
//!
//! A fault belongs to calls chosen by operation, folder and number. Random faults are drawn from a seed, the
//! operation, the key and how often that key was called, so that a run repeats even when its calls interleave
//! differently.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::StreamExt as _;
use futures_util::stream::{self, BoxStream};
use parking_lot::Mutex;

use super::Operation;
use crate::digest::Sha256Hasher;
use crate::{
    Body, Capabilities, Error, ErrorKind, Key, ObjectInfo, Prefix, Provider, PutMode, Receipt, Result,
    Sha256, SharedProvider, Usage,
};

/// Called at a chosen call with its operation and subject. It may end the process.
pub type FaultHook = Arc<dyn Fn(Operation, &str) + Send + Sync>;

/// What goes wrong with a call.
#[derive(Clone)]
pub enum Fault {
    /// The call fails and has no effect.
    FailBefore(ErrorKind),
    /// As [`Fault::FailBefore`] with `Throttled` and the delay the store asks for.
    Throttle(Duration),
    /// The call takes effect and then fails: a 500 after the commit, a lost answer.
    FailAfter(ErrorKind),
    /// The call takes this much longer.
    Delay(Duration),
    /// The call never ends.
    Hang,
    /// The hook is called before the store is.
    HookBefore(FaultHook),
    /// The hook is called when the store has done its work and the caller does not know yet.
    HookAfter(FaultHook),
    /// `get`: the second half is missing, and nothing says so.
    Truncate,
    /// `get`: one bit is flipped. `put`: other bytes are stored than the receipt says.
    FlipBit,
    /// `put`: the receipt is given and nothing is stored.
    Lose,
    /// `put`, `head`, `list`: the store states a digest that is not that of its bytes.
    WrongDigest,
    /// `list`: ends after so many objects as if that were all.
    ListShort(u64),
    /// `list`: one error after so many objects, then its end.
    ListBreak(u64, ErrorKind),
    /// `list`: one error after so many objects, then it goes on (see [`Error::is_resumable`]).
    ListStumble(u64, ErrorKind),
}

/// Which of the calls that a rule looks at have its fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum When {
    /// All.
    Always,
    /// The nth, from 1.
    Call(u64),
    /// The nth and all that follow.
    From(u64),
    /// Every nth.
    Every(u64),
    /// So many of a thousand, drawn from the seed.
    PerMille(u64),
}

/// One line of a script.
#[derive(Clone)]
pub struct Rule {
    operation: Option<Operation>,
    folder: Prefix,
    when: When,
    fault: Fault,
}

impl Rule {
    /// `fault` for those calls of `operation` (of any, if `None`) that `when` says.
    pub fn new(operation: impl Into<Option<Operation>>, when: When, fault: Fault) -> Self {
        Self { operation: operation.into(), folder: Prefix::all(), when, fault }
    }

    /// Looks only at calls on keys in this folder, and at listings of it.
    #[must_use]
    pub fn in_folder(mut self, folder: Prefix) -> Self {
        self.folder = folder;
        self
    }

    fn looks_at(&self, operation: Operation, subject: &str) -> bool {
        let folder = self.folder.as_str();
        let inside = subject
            .strip_prefix(folder)
            .is_some_and(|rest| folder.is_empty() || rest.is_empty() || rest.starts_with('/'));
        inside && self.operation.is_none_or(|wanted| wanted == operation)
    }
}

/// A provider with scripted faults. `delete_many` comes as single deletes, so that each may fail, and
/// `local_root` is hidden, so that nobody reads past the faults.
pub struct FaultProvider {
    inner: SharedProvider,
    rules: Vec<Rule>,
    seed: u64,
    state: Mutex<State>,
    bytes_left: AtomicU64,
}

#[derive(Default)]
struct State {
    /// How many calls each rule has looked at.
    looked_at: Vec<u64>,
    /// How often each operation was called on each subject.
    repeats: HashMap<(Operation, String), u64>,
    calls: BTreeMap<Operation, u64>,
}

/// The faults of one call.
#[derive(Default)]
struct Plan(Vec<Fault>);

impl FaultProvider {
    /// Over `inner`, without a fault yet.
    pub fn new(inner: SharedProvider) -> Self {
        Self {
            inner,
            rules: Vec::new(),
            seed: 0,
            state: Mutex::default(),
            bytes_left: AtomicU64::new(u64::MAX),
        }
    }

    /// Adds a rule. Where several apply to one call, all do, in the order of the script.
    #[must_use]
    pub fn with_rule(mut self, rule: Rule) -> Self {
        self.rules.push(rule);
        self.state.get_mut().looked_at.push(0);
        self
    }

    /// Where [`When::PerMille`] draws from.
    #[must_use]
    pub fn with_seed(mut self, seed: u64) -> Self {
        self.seed = seed;
        self
    }

    /// The store is full after so many bytes more: a put that does not fit is `Quota`.
    #[must_use]
    pub fn with_bytes_left(self, bytes: u64) -> Self {
        self.set_bytes_left(bytes);
        self
    }

    /// As [`Self::with_bytes_left`], at any time. Deletes give nothing back.
    pub fn set_bytes_left(&self, bytes: u64) {
        self.bytes_left.store(bytes, Ordering::SeqCst);
    }

    /// How many calls came so far, of one operation.
    pub fn calls(&self, operation: Operation) -> u64 {
        self.state.lock().calls.get(&operation).copied().unwrap_or_default()
    }

    /// How many calls came so far, of all operations.
    pub fn calls_in_all(&self) -> u64 {
        self.state.lock().calls.values().sum()
    }

    /// Counts the call and finds its faults.
    fn plan(&self, operation: Operation, subject: &str) -> Plan {
        let mut state = self.state.lock();
        *state.calls.entry(operation).or_default() += 1;
        let repeat = state.repeats.entry((operation, subject.to_owned())).or_default();
        *repeat += 1;
        let repeat = *repeat;
        let mut plan = Plan::default();
        for (index, rule) in
            self.rules.iter().enumerate().filter(|(_, rule)| rule.looks_at(operation, subject))
        {
            state.looked_at[index] += 1;
            let number = state.looked_at[index];
            let hit = match rule.when {
                When::Always => true,
                When::Call(wanted) => number == wanted,
                When::From(first) => number >= first,
                When::Every(step) => step > 0 && number.is_multiple_of(step),
                When::PerMille(share) => self.draw(index, operation, subject, repeat) % 1000 < share,
            };
            if hit {
                plan.0.push(rule.fault.clone());
            }
        }
        plan
    }

    fn draw(&self, rule: usize, operation: Operation, subject: &str, repeat: u64) -> u64 {
        let mut hasher = Sha256Hasher::new();
        hasher.update(&self.seed.to_le_bytes());
        hasher.update(&(rule as u64).to_le_bytes());
        hasher.update(&repeat.to_le_bytes());
        hasher.update(operation.as_str().as_bytes());
        hasher.update(subject.as_bytes());
        let digest = hasher.finish();
        digest.as_bytes()[..8].iter().fold(0, |number, byte| number << 8 | u64::from(*byte))
    }

    /// Counts the bytes of a put, if they fit.
    fn take_bytes(&self, key: &Key, bytes: u64) -> Result<()> {
        let taken = self.bytes_left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| {
            if left == u64::MAX { Some(left) } else { left.checked_sub(bytes) }
        });
        match taken {
            Ok(_) => Ok(()),
            Err(left) => {
                let reason = format_args!("injected: {bytes} bytes do not fit into the {left} left");
                Err(Error::new(ErrorKind::Quota, "put", key, reason))
            }
        }
    }
}

impl Plan {
    fn has(&self, wanted: impl Fn(&Fault) -> bool) -> bool {
        self.0.iter().any(wanted)
    }

    /// What happens before the store is called.
    async fn before(&self, operation: Operation, subject: &str) -> Result<()> {
        for fault in &self.0 {
            match fault {
                Fault::Delay(delay) => tokio::time::sleep(*delay).await,
                Fault::Hang => std::future::pending().await,
                Fault::HookBefore(hook) => hook(operation, subject),
                Fault::FailBefore(kind) => return Err(injected(*kind, operation, subject)),
                Fault::Throttle(delay) => {
                    return Err(injected(ErrorKind::Throttled, operation, subject).with_retry_after(*delay));
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// What happens when the store has done its work.
    fn after(&self, operation: Operation, subject: &str) -> Result<()> {
        for fault in &self.0 {
            match fault {
                Fault::HookAfter(hook) => hook(operation, subject),
                Fault::FailAfter(kind) => return Err(injected(*kind, operation, subject)),
                _ => {}
            }
        }
        Ok(())
    }

    fn describe(&self, mut info: ObjectInfo) -> ObjectInfo {
        if self.has(|fault| matches!(fault, Fault::WrongDigest)) {
            info.sha256 = info.sha256.map(wrong_digest);
        }
        info
    }
}

impl fmt::Debug for FaultProvider {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "FaultProvider({:?})", self.inner)
    }
}

#[async_trait]
impl Provider for FaultProvider {
    fn location(&self) -> String {
        self.inner.location()
    }

    async fn put(&self, key: &Key, body: Body, sha256: Sha256, mode: PutMode) -> Result<Receipt> {
        let plan = self.plan(Operation::Put, key.as_str());
        plan.before(Operation::Put, key.as_str()).await?;
        self.take_bytes(key, body.len())?;
        let mut receipt = if plan.has(|fault| matches!(fault, Fault::Lose)) {
            Receipt { size: body.len(), sha256, proof: self.capabilities().proof, version: None }
        } else if plan.has(|fault| matches!(fault, Fault::FlipBit)) {
            let damaged = Body::from(flip_bit(&body.to_bytes()));
            let digest = damaged.sha256();
            Receipt { sha256, ..self.inner.put(key, damaged, digest, mode).await? }
        } else {
            self.inner.put(key, body, sha256, mode).await?
        };
        plan.after(Operation::Put, key.as_str())?;
        if plan.has(|fault| matches!(fault, Fault::WrongDigest)) {
            receipt.sha256 = wrong_digest(receipt.sha256);
        }
        Ok(receipt)
    }

    async fn get(&self, key: &Key, range: Option<Range<u64>>) -> Result<Bytes> {
        let plan = self.plan(Operation::Get, key.as_str());
        plan.before(Operation::Get, key.as_str()).await?;
        let mut bytes = self.inner.get(key, range).await?;
        plan.after(Operation::Get, key.as_str())?;
        if plan.has(|fault| matches!(fault, Fault::FlipBit)) {
            bytes = flip_bit(&bytes);
        }
        if plan.has(|fault| matches!(fault, Fault::Truncate)) {
            bytes.truncate(bytes.len() / 2);
        }
        Ok(bytes)
    }

    async fn head(&self, key: &Key) -> Result<ObjectInfo> {
        let plan = self.plan(Operation::Head, key.as_str());
        plan.before(Operation::Head, key.as_str()).await?;
        let info = self.inner.head(key).await?;
        plan.after(Operation::Head, key.as_str())?;
        Ok(plan.describe(info))
    }

    fn list(&self, prefix: &Prefix) -> BoxStream<'_, Result<ObjectInfo>> {
        let plan = self.plan(Operation::List, prefix.as_str());
        let listing =
            Listing { plan, folder: prefix.to_string(), inner: self.inner.list(prefix), listed: None };
        stream::unfold(Some(listing), |listing| async move { listing?.next().await }).fuse().boxed()
    }

    async fn delete(&self, key: &Key) -> Result<()> {
        let plan = self.plan(Operation::Delete, key.as_str());
        plan.before(Operation::Delete, key.as_str()).await?;
        self.inner.delete(key).await?;
        plan.after(Operation::Delete, key.as_str())
    }

    async fn retain(&self, key: &Key, period: Duration) -> Result<()> {
        let plan = self.plan(Operation::Retain, key.as_str());
        plan.before(Operation::Retain, key.as_str()).await?;
        self.inner.retain(key, period).await?;
        plan.after(Operation::Retain, key.as_str())
    }

    async fn usage(&self) -> Result<Usage> {
        let plan = self.plan(Operation::Usage, "");
        plan.before(Operation::Usage, "").await?;
        let usage = self.inner.usage().await?;
        plan.after(Operation::Usage, "")?;
        Ok(usage)
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities { local_root: None, ..self.inner.capabilities() }
    }
}

struct Listing<'a> {
    plan: Plan,
    folder: String,
    inner: BoxStream<'a, Result<ObjectInfo>>,
    /// Objects listed so far; `None` before the first poll.
    listed: Option<u64>,
}

impl<'a> Listing<'a> {
    async fn next(mut self) -> Option<(Result<ObjectInfo>, Option<Listing<'a>>)> {
        if self.listed.is_none()
            && let Err(error) = self.plan.before(Operation::List, &self.folder).await
        {
            return Some((Err(error), None));
        }
        let listed = self.listed.unwrap_or(0);
        let due = |fault: &Fault| match fault {
            Fault::ListShort(after) | Fault::ListBreak(after, _) | Fault::ListStumble(after, _) => {
                *after == listed
            }
            _ => false,
        };
        if let Some(index) = self.plan.0.iter().position(due) {
            match self.plan.0.remove(index) {
                Fault::ListBreak(_, kind) => {
                    return Some((Err(injected(kind, Operation::List, &self.folder)), None));
                }
                Fault::ListStumble(_, kind) => {
                    self.listed = Some(listed);
                    let error = injected(kind, Operation::List, &self.folder).resumable();
                    return Some((Err(error), Some(self)));
                }
                _ => return None,
            }
        }
        let Some(item) = self.inner.next().await else {
            let error = self.plan.after(Operation::List, &self.folder).err()?;
            return Some((Err(error), None));
        };
        self.listed = Some(listed + 1);
        let item = item.map(|info| self.plan.describe(info));
        Some((item, Some(self)))
    }
}

fn injected(kind: ErrorKind, operation: Operation, subject: &str) -> Error {
    Error::new(kind, operation.as_str(), subject, "injected fault")
}

/// The same length with one bit in the middle flipped; an empty body gets one byte, to differ at all.
fn flip_bit(bytes: &Bytes) -> Bytes {
    let mut damaged = bytes.to_vec();
    let middle = damaged.len() / 2;
    match damaged.get_mut(middle) {
        Some(byte) => *byte ^= 1,
        None => damaged.push(1),
    }
    damaged.into()
}

fn wrong_digest(digest: Sha256) -> Sha256 {
    let mut bytes = *digest.as_bytes();
    bytes[0] ^= 1;
    Sha256::from_bytes(bytes)
}

#[cfg(test)]
mod tests;
