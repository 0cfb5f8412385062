//! All layers that belong over a store that is used in earnest, in their order:
//!
//! | layer | because |
//! |---|---|
//! | [`retry`](super::retry) | outermost: each attempt waits for its turn anew |
//! | [`limit`](super::limit) | calls wait here, before anything counts their time |
//! | [`circuit`](super::circuit) | looks at a call when its turn has come: a queue before a dead store drains at once |
//! | [`timeout`](super::timeout) | sees nothing but the store's own time |
//!
//! [`RecordProvider`](super::RecordProvider) around the stack counts what callers ask for; between stack and store it counts
//! the attempts.

use std::fmt;
use std::sync::Arc;

use super::circuit::{CircuitPolicy, CircuitProvider};
use super::limit::{LimitPolicy, LimitProvider};
use super::retry::{RetryNotify, RetryPolicy, RetryProvider};
use super::timeout::{TimeoutPolicy, TimeoutProvider};
use crate::SharedProvider;
use crate::pace::Pace;

/// How each layer behaves.
#[derive(Clone)]
pub struct StackOptions {
    /// How persistent calls are.
    pub retry: RetryPolicy,
    /// How many calls at once, and where bodies are paced.
    pub limit: LimitPolicy,
    /// When a store counts as dead.
    pub circuit: CircuitPolicy,
    /// When an attempt counts as hung.
    pub timeout: TimeoutPolicy,
    /// The limits of the destination; the same pace that its connections keep, where it has any.
    pub pace: Pace,
    /// Told of every attempt that failed.
    pub notify: Option<RetryNotify>,
}

impl Default for StackOptions {
    /// No limits of bandwidth, everything else as for a store on the internet.
    fn default() -> Self {
        Self {
            retry: RetryPolicy::default(),
            limit: LimitPolicy::default(),
            circuit: CircuitPolicy::default(),
            timeout: TimeoutPolicy::default(),
            pace: Pace::unlimited(),
            notify: None,
        }
    }
}

impl fmt::Debug for StackOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { retry, limit, circuit, timeout, pace, notify } = self;
        let mut options = f.debug_struct("StackOptions");
        options.field("retry", retry).field("limit", limit).field("circuit", circuit);
        options.field("timeout", timeout).field("pace", pace).field("notify", &notify.is_some());
        options.finish()
    }
}

/// The layers over a store, with what can be watched of them.
#[derive(Debug, Clone)]
pub struct Stack {
    /// The outermost layer: what callers use.
    pub provider: SharedProvider,
    /// Calls at once, and how often the store throttled.
    pub limit: Arc<LimitProvider>,
    /// Whether the store answers.
    pub circuit: Arc<CircuitProvider>,
}

impl Stack {
    /// Puts all layers over `store`.
    pub fn new(store: SharedProvider, options: StackOptions) -> Self {
        let mut timeout = TimeoutProvider::new(store, &options.timeout);
        if options.limit.transport_is_paced {
            let preferred = crate::Provider::capabilities(&timeout).concurrency_preferred;
            let at_once = options.limit.concurrency_max.unwrap_or(preferred);
            timeout = timeout.with_pace(&options.pace, at_once);
        }
        let circuit = Arc::new(CircuitProvider::new(Arc::new(timeout), options.circuit));
        let limit = Arc::new(LimitProvider::new(circuit.clone(), &options.limit, options.pace));
        let mut retry = RetryProvider::new(limit.clone(), options.retry);
        if let Some(notify) = options.notify {
            retry = retry.with_notify(notify);
        }
        Self { provider: Arc::new(retry), limit, circuit }
    }
}

/// Puts all layers over `store`.
pub fn stack(store: SharedProvider, options: StackOptions) -> SharedProvider {
    Stack::new(store, options).provider
}

#[cfg(test)]
mod tests;
