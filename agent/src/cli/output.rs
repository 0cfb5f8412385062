//! What a command prints: results on standard output (lines for people or one JSON object a line), all else on standard error.
//!
//! Nothing here panics when nobody reads: a closed standard output becomes an error that `main` turns into a silent end.

use std::fmt;
use std::io::{self, BufWriter, IsTerminal as _, Stdout, Write};

use indicatif::ProgressBar;
use parking_lot::Mutex;
use serde::Serialize;
use serde_json::{Value, json};

use crate::{Error, Result};

/// Bytes of output that are gathered before they are written.
const BUFFER_BYTES: usize = 32 << 10;

/// Where and how a command prints. Shared by all threads of a command.
pub struct Output {
    stdout: Mutex<BufWriter<Stdout>>,
    /// The progress line, while there is one: it steps aside for other lines.
    bar: Mutex<Option<ProgressBar>>,
    stdout_is_terminal: bool,
    stderr_is_terminal: bool,
    style: Style,
    tap: Mutex<Option<Tap>>,
}

/// Hears, with its level, what is said besides results: `notice`, `warning`, `damage`, `error`.
pub type Tap = Box<dyn Fn(&'static str, &str) + Send>;

/// How a command prints.
#[derive(Debug, Clone, Copy, Default)]
pub struct Style {
    /// One JSON object a line instead of text.
    pub json: bool,
    /// Only results and errors.
    pub quiet: bool,
    /// How many times `-v` was given.
    pub verbose: u8,
    /// Draw a progress line where there is a terminal.
    pub progress: bool,
    /// Use colours where there is a terminal.
    pub color: bool,
}

/// Marks an error that only says that the reader of standard output went away.
#[derive(Debug)]
struct OutputClosed;

impl fmt::Display for OutputClosed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("nobody reads standard output")
    }
}

impl std::error::Error for OutputClosed {}

/// Whether an error only says that the reader of standard output went away, as in `lifeboat ls latest | head`.
pub fn is_output_closed(error: &Error) -> bool {
    std::error::Error::source(error).is_some_and(|source| source.is::<OutputClosed>())
}

impl Output {
    /// An output of this style over the process's standard streams.
    pub fn new(style: Style) -> Self {
        Self {
            stdout: Mutex::new(BufWriter::with_capacity(BUFFER_BYTES, io::stdout())),
            bar: Mutex::new(None),
            stdout_is_terminal: io::stdout().is_terminal(),
            stderr_is_terminal: io::stderr().is_terminal(),
            style,
            tap: Mutex::new(None),
        }
    }

    /// From now on this hears what is said, too.
    pub fn set_tap(&self, tap: Option<Tap>) {
        *self.tap.lock() = tap;
    }

    /// Lets the one who listens hear something that is shown in another way.
    pub(super) fn tap(&self, level: &'static str, text: impl fmt::Display) {
        if let Some(tap) = self.tap.lock().as_ref() {
            tap(level, &text.to_string());
        }
    }

    /// Whether results are JSON objects.
    pub const fn json(&self) -> bool {
        self.style.json
    }

    /// Whether only results and errors are wanted.
    pub const fn quiet(&self) -> bool {
        self.style.quiet
    }

    /// How many times `-v` was given.
    pub const fn verbose(&self) -> u8 {
        self.style.verbose
    }

    /// Whether a progress line is drawn.
    pub const fn draws_progress(&self) -> bool {
        self.style.progress && self.stderr_is_terminal && !self.style.json && !self.style.quiet
    }

    /// Whether standard output is a terminal: then its lines may be shortened or coloured, and binary data is refused.
    pub const fn stdout_is_terminal(&self) -> bool {
        self.stdout_is_terminal
    }

    /// A line of the result on standard output.
    ///
    /// # Errors
    /// If it cannot be written; [`is_output_closed`] tells when that is no failure.
    pub fn line(&self, line: impl fmt::Display) -> Result<()> {
        self.write(|out| writeln!(out, "{line}"))
    }

    /// A JSON object of the result on standard output, with its `message_type`.
    ///
    /// # Errors
    /// As [`Output::line`].
    pub fn object(&self, message_type: &str, value: &impl Serialize) -> Result<()> {
        let text = message(message_type, value)?;
        self.write(|out| writeln!(out, "{text}"))
    }

    /// Raw bytes of the result on standard output.
    ///
    /// # Errors
    /// As [`Output::line`].
    pub fn bytes(&self, bytes: &[u8]) -> Result<()> {
        self.write(|out| out.write_all(bytes))
    }

    /// Writes out what was gathered. `main` does it at the end.
    ///
    /// # Errors
    /// As [`Output::line`].
    pub fn flush(&self) -> Result<()> {
        self.stdout.lock().flush().map_err(|e| write_error(&e))
    }

    fn write(&self, write: impl FnOnce(&mut BufWriter<Stdout>) -> io::Result<()>) -> Result<()> {
        self.aside(|| {
            let mut out = self.stdout.lock();
            write(&mut out)?;
            if self.stdout_is_terminal { out.flush() } else { Ok(()) }
        })
        .map_err(|e| write_error(&e))
    }

    /// Something a person should know; the command goes on. Not with `-q`.
    pub fn notice(&self, text: impl fmt::Display) {
        self.tap("notice", &text);
        if self.style.json {
            let _ = self.object("notice", &json!({ "message": text.to_string() }));
        } else if !self.style.quiet {
            self.message("note:", "36", text);
        }
    }

    /// Something is not as it should be; the command goes on.
    pub fn warning(&self, text: impl fmt::Display) {
        self.tap("warning", &text);
        if self.style.json {
            let _ = self.object("warning", &json!({ "message": text.to_string() }));
        } else {
            self.message("warning:", "33", text);
        }
    }

    /// Stored data is damaged or missing; the command goes on.
    pub fn damage(&self, text: impl fmt::Display) {
        self.tap("damage", &text);
        if self.style.json {
            let _ = self.object("damage", &json!({ "message": text.to_string() }));
        } else {
            self.message("damage:", "31", text);
        }
    }

    /// A line that matters, such as a further one of a warning, for people only; also with `-q`.
    pub fn complain(&self, text: impl fmt::Display) {
        if !self.style.json {
            self.to_stderr(text);
        }
    }

    /// A line of talk on standard error, for people only. Not with `-q`.
    pub fn say(&self, text: impl fmt::Display) {
        if !self.style.json && !self.style.quiet {
            self.to_stderr(text);
        }
    }

    /// As [`Output::say`], but only with `-v`.
    pub fn say_verbose(&self, text: impl fmt::Display) {
        if self.style.verbose > 0 {
            self.say(text);
        }
    }

    /// A word of a result that is to catch the eye, where there is a terminal with colours.
    pub fn alarmed(&self, word: &str) -> String {
        match self.style.color && self.stdout_is_terminal {
            true => format!("\x1b[1;31m{word}\x1b[0m"),
            false => word.to_owned(),
        }
    }

    /// The error that ends the command: `error: …` and `hint: …`, or `exit_error` as JSON; on standard error.
    pub fn fatal(&self, error: &Error) {
        if self.style.json {
            return self.to_stderr(exit_error(error.kind().exit_code(), &error.to_string(), error.hint()));
        }
        self.message("error:", "1;31", error);
        if self.style.verbose > 0 {
            let mut source = std::error::Error::source(error);
            while let Some(cause) = source {
                self.to_stderr(format_args!("  caused by: {cause}"));
                source = cause.source();
            }
        }
        if let Some(hint) = error.hint() {
            self.message("hint:", "36", hint);
        }
    }

    fn message(&self, word: &str, color: &str, text: impl fmt::Display) {
        if self.style.color && self.stderr_is_terminal {
            self.to_stderr(format_args!("\x1b[{color}m{word}\x1b[0m {text}"));
        } else {
            self.to_stderr(format_args!("{word} {text}"));
        }
    }

    /// After all results so far, so that the two are in order where they go to one place. Nothing can be done when standard error is gone.
    fn to_stderr(&self, text: impl fmt::Display) {
        self.aside(|| {
            let _ = self.stdout.lock().flush();
            let _ = writeln!(io::stderr().lock(), "{text}");
        });
    }

    /// Prints while the progress line steps aside.
    fn aside<T>(&self, print: impl FnOnce() -> T) -> T {
        let bar = self.bar.lock();
        match bar.as_ref() {
            Some(bar) => bar.suspend(print),
            None => print(),
        }
    }

    /// From now on this progress line steps aside for other lines.
    pub(super) fn set_bar(&self, bar: Option<ProgressBar>) {
        *self.bar.lock() = bar;
    }
}

/// The object that says why a command ended.
pub(super) fn exit_error(code: u8, text: &str, hint: Option<&str>) -> String {
    let fields = json!({ "code": code, "message": text, "hint": hint });
    message("exit_error", &fields).unwrap_or_else(|e| e.to_string())
}

/// A JSON object whose first field says what it is: a reader of a line knows before it has parsed the rest.
fn message(message_type: &str, value: &impl Serialize) -> Result<String> {
    let failed = |e: serde_json::Error| Error::failed(e.to_string());
    let value = match serde_json::to_value(value).map_err(failed)? {
        Value::Object(fields) => Value::Object(fields),
        other => json!({ "value": other }),
    };
    let (first, rest) = (Value::from(message_type), value.to_string());
    let rest = rest.strip_prefix('{').unwrap_or(&rest);
    let comma = if rest == "}" { "" } else { "," };
    Ok(format!("{{\"message_type\":{first}{comma}{rest}"))
}

/// The error of a standard output that could not be written; [`is_output_closed`] tells when that is no failure.
pub(super) fn write_error(error: &io::Error) -> Error {
    if error.kind() == io::ErrorKind::BrokenPipe {
        Error::failed("standard output was closed").with_source(OutputClosed)
    } else {
        // Whatever it is: the exit code for "no space" speaks of the store and the target, and a full disk behind `>` is neither.
        Error::failed(format_args!("cannot write to standard output: {}", crate::error::describe_io(error)))
    }
}

impl fmt::Debug for Output {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Output").field("style", &self.style).finish_non_exhaustive()
    }
}
