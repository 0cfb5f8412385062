//! This process as others can tell it from all others, and whether one of this machine is known to be dead.
//!
//! "Known" is strict: containers share the boot id, machines share host names, and `/proc` may be another namespace's or hide the processes
//! of other users. Where anything of that is in doubt the answer is "not known", and the session is judged by its beats.

use rustix::io::Errno;
use rustix::process::{Pid, test_kill_process};

/// What tells a process from all others.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Process {
    /// The boot id of the kernel; empty if it is not known.
    pub boot: String,
    /// The namespace its id counts in, as `pid:[4026531836]`; empty if it is not known.
    pub pid_namespace: String,
    /// Its id there.
    pub pid: u32,
    /// When it was started, in clock ticks since the boot; 0 if it is not known.
    pub start: u64,
}

impl Process {
    /// This process.
    pub fn own() -> Self {
        let pid = std::process::id();
        Self {
            boot: boot_id(),
            pid_namespace: pid_namespace(),
            pid,
            start: proc_is_own().then(|| start_of(pid)).flatten().unwrap_or(0),
        }
    }

    /// Whether it is known to have ended, by one that looks from `own`.
    pub fn is_known_dead(&self, own: &Self) -> bool {
        if !self.shares_ids_with(own) {
            return false;
        }
        if does_not_exist(self.pid) {
            return true;
        }
        // The id is taken: by the same process or by a later one.
        self.start != 0 && proc_is_own() && start_of(self.pid).is_some_and(|start| start != self.start)
    }

    /// Whether it is this very process.
    pub fn is(&self, own: &Self) -> bool {
        self.shares_ids_with(own) && self.pid == own.pid && self.start == own.start
    }

    /// Whether ids mean the same to both: the same kernel since the same boot, the same namespace.
    fn shares_ids_with(&self, own: &Self) -> bool {
        !self.boot.is_empty()
            && !self.pid_namespace.is_empty()
            && self.boot == own.boot
            && self.pid_namespace == own.pid_namespace
    }
}

/// What this machine calls itself, for those who were not told.
pub fn host_name() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

fn boot_id() -> String {
    std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default().trim().to_owned()
}

fn pid_namespace() -> String {
    let link = std::fs::read_link("/proc/self/ns/pid").unwrap_or_default();
    link.to_str().unwrap_or_default().to_owned()
}

/// Whether `/proc` counts as this process does: after `unshare --pid` without a new mount it shows another namespace.
fn proc_is_own() -> bool {
    let shown = std::fs::read_link("/proc/self").ok();
    shown.and_then(|link| link.to_str()?.parse().ok()) == Some(std::process::id())
}

/// Whether the kernel has no process of that id. One of another user exists all the same.
fn does_not_exist(pid: u32) -> bool {
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw);
    pid.is_some_and(|pid| test_kill_process(pid) == Err(Errno::SRCH))
}

/// When a process was started, in clock ticks since the boot: tells it from a later one with the same id.
fn start_of(pid: u32) -> Option<u64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The second field is the program's name in parentheses and may hold anything; field 22 is what is wanted.
    stat.rsplit_once(')')?.1.split_whitespace().nth(19)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ended() -> Process {
        let mut child = std::process::Command::new("true").spawn().unwrap();
        let pid = child.id();
        child.wait().unwrap();
        Process { pid, start: 1, ..Process::own() }
    }

    #[test]
    fn only_what_this_kernel_and_namespace_know_is_known_to_be_dead() {
        let own = Process::own();
        assert!(!own.boot.is_empty() && own.pid_namespace.starts_with("pid:["), "{own:?}");
        assert!(!own.is_known_dead(&own) && own.is(&own));
        let dead = ended();
        assert!(dead.is_known_dead(&own));
        // The same id in another container, on another machine or after another boot says nothing.
        for other in [
            Process { pid_namespace: "pid:[1]".to_owned(), ..dead.clone() },
            Process { pid_namespace: String::new(), ..dead.clone() },
            Process { boot: "another".to_owned(), ..dead.clone() },
            Process { boot: String::new(), ..dead.clone() },
        ] {
            assert!(!other.is_known_dead(&own), "{other:?}");
            assert!(!other.is(&own));
        }
    }

    #[test]
    fn a_later_process_of_the_same_id_is_another_one() {
        let own = Process::own();
        let earlier = Process { start: own.start - 1, ..own.clone() };
        assert!(earlier.is_known_dead(&own) && !earlier.is(&own));
        // Of one whose start is not known nothing can be told while the id is taken.
        assert!(!Process { start: 0, ..own.clone() }.is_known_dead(&own));
        let impossible = Process { pid: u32::MAX, ..own.clone() };
        assert!(!impossible.is_known_dead(&own));
    }
}
