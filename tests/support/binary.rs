//! Running the real binary, as a person would: own home, own configuration, nothing of the caller's environment.

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

/// The binary that cargo built beside this one; `LIFEBOAT_BINARY` names another.
pub fn lifeboat() -> PathBuf {
    beside("lifeboat", "LIFEBOAT_BINARY")
}

/// The program that is killed at a chosen call.
pub fn victim() -> PathBuf {
    beside("lifeboat-victim", "LIFEBOAT_VICTIM")
}

fn beside(name: &str, variable: &str) -> PathBuf {
    if let Some(path) = std::env::var_os(variable) {
        return path.into();
    }
    // target/debug/deps/it-… → target/debug
    let own = std::env::current_exe().unwrap();
    let path = own.parent().and_then(Path::parent).unwrap().join(name);
    assert!(path.exists(), "{} is not built: run tests/run, or cargo build --workspace", path.display());
    path
}

/// What a command came to.
#[derive(Debug)]
pub struct Ended {
    /// The exit code; `None` if a signal ended it.
    pub code: Option<i32>,
    /// Standard output.
    pub out: String,
    /// Standard error.
    pub err: String,
}

impl Ended {
    fn of(output: Output) -> Self {
        Self {
            code: output.status.code(),
            out: String::from_utf8_lossy(&output.stdout).into_owned(),
            err: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    /// Panics with all output unless it ended with this code and without a panic.
    #[track_caller]
    pub fn expect(self, code: i32) -> Self {
        assert!(
            self.code == Some(code) && !self.err.contains("panicked at"),
            "exit code {:?} instead of {code}\n--- out\n{}\n--- err\n{}",
            self.code,
            self.out,
            self.err
        );
        self
    }

    /// Panics unless it failed in one of the ways that are no crash.
    #[track_caller]
    pub fn expect_failure(self) -> Self {
        match self.code {
            Some(code @ (1 | 2 | 12)) => self.expect(code),
            _ => panic!("{self:#?}"),
        }
    }

    /// Panics unless standard error has this text.
    #[track_caller]
    pub fn says(self, text: &str) -> Self {
        assert!(self.err.contains(text), "no {text:?} in:\n{}", self.err);
        self
    }

    /// Panics unless standard output has this text.
    #[track_caller]
    pub fn prints(self, text: &str) -> Self {
        assert!(self.out.contains(text), "no {text:?} in:\n{}", self.out);
        self
    }

    /// Standard output as JSON, one value a line.
    #[track_caller]
    pub fn json(&self) -> Vec<serde_json::Value> {
        let parse = |line: &str| serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}"));
        self.out.lines().map(parse).collect()
    }
}

/// A person with a home of their own.
#[derive(Debug, Clone)]
pub struct Person {
    home: PathBuf,
    environment: Vec<(OsString, OsString)>,
    /// Run as this user and group.
    user: Option<u32>,
    program: Option<PathBuf>,
}

impl Person {
    /// A person whose home is the new directory `home`.
    pub fn new(home: &Path) -> Self {
        std::fs::create_dir_all(home).unwrap();
        Self { home: home.to_path_buf(), environment: Vec::new(), user: None, program: None }
    }

    /// With a variable in the environment.
    #[must_use]
    pub fn with(mut self, name: impl AsRef<OsStr>, value: impl AsRef<OsStr>) -> Self {
        self.environment.push((name.as_ref().into(), value.as_ref().into()));
        self
    }

    /// As another user (only root can do that).
    #[must_use]
    pub fn as_user(mut self, user: u32) -> Self {
        std::os::unix::fs::chown(&self.home, Some(user), Some(user)).unwrap();
        self.user = Some(user);
        self
    }

    /// With this copy of the binary: another user may not reach cargo's.
    #[must_use]
    pub fn program(mut self, program: &Path) -> Self {
        self.program = Some(program.to_path_buf());
        self
    }

    /// A command that is not started yet.
    pub fn command<S: AsRef<OsStr>>(&self, arguments: &[S]) -> Command {
        use std::os::unix::process::CommandExt as _;
        let mut command = Command::new(self.program.clone().unwrap_or_else(lifeboat));
        command.args(arguments).env_clear().current_dir(&self.home).stdin(Stdio::null());
        command.env("HOME", &self.home).env("PATH", "/usr/local/bin:/usr/bin:/bin").env("LANG", "C.UTF-8");
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        if let Some(user) = self.user {
            command.uid(user).gid(user);
        }
        command
    }

    /// Runs the binary to its end.
    pub fn run<S: AsRef<OsStr>>(&self, arguments: &[S]) -> Ended {
        Ended::of(self.command(arguments).output().unwrap())
    }

    /// Starts it; for signals and for two at once.
    pub fn start<S: AsRef<OsStr>>(&self, arguments: &[S]) -> Child {
        self.command(arguments).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    }
}

/// Waits for a child.
pub fn ended(child: Child) -> Ended {
    Ended::of(child.wait_with_output().unwrap())
}
