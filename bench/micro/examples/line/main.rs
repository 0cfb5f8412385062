//! A long, narrow line to a server, for measurements: a TCP proxy with delay and rate, that counts what goes over it.
//!
//! ```text
//! line --to 127.0.0.1:3900 [--delay-ms 25] [--mbit 100] [--queue-ms 50]
//! ```
//!
//! Listens on a free port of the loopback interface and says which: `{"listening":"127.0.0.1:40001"}`. To each line on
//! standard input it answers with one line of JSON, what went over the line since the last, and counts from zero again.
//! It ends with standard input. Root is not needed, unlike for what the kernel has for this.
//!
//! # The line
//! - Delay: `--delay-ms` one way. A new connection costs a round trip before its first byte is carried, as a handshake does.
//! - Rate: `--mbit` million bits a second in each direction, shared by all connections. Payload of TCP is counted, headers
//!   of packets are not.
//! - A queue before each direction holds at most `--queue-ms` of data (and a buffer of each connection); who sends more
//!   has to wait.
//! - Not modelled: loss, slow start, and what rises from them. Timers tick in milliseconds, so a round trip takes up to
//!   two more than it should; the rate is exact.

mod carry;
mod link;
mod scan;

use std::io::{BufRead as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use carry::Line;

type Fault = Box<dyn std::error::Error + Send + Sync>;

const USAGE: &str = "usage: line --to ADDRESS:PORT [--delay-ms 25] [--mbit 100] [--queue-ms 50]";

/// What was asked for on the command line.
struct Options {
    to: SocketAddr,
    delay: Duration,
    bytes_per_second: f64,
    queue: Duration,
}

fn parse(mut words: impl Iterator<Item = String>) -> Result<Options, Fault> {
    let (mut to, mut delay_ms, mut mbit, mut queue_ms) = (None, 25, 100.0, 50);
    while let Some(word) = words.next() {
        let value = words.next().ok_or(USAGE)?;
        match word.as_str() {
            "--to" => to = Some(value.parse()?),
            "--delay-ms" => delay_ms = value.parse()?,
            "--mbit" => mbit = value.parse::<f64>()?,
            "--queue-ms" => queue_ms = value.parse()?,
            _ => return Err(USAGE.into()),
        }
    }
    if !(mbit.is_finite() && mbit > 0.0) {
        return Err("--mbit must be above zero".into());
    }
    Ok(Options {
        to: to.ok_or(USAGE)?,
        delay: Duration::from_millis(delay_ms),
        bytes_per_second: mbit * 1e6 / 8.0,
        queue: Duration::from_millis(queue_ms),
    })
}

fn run() -> Result<(), Fault> {
    let options = parse(std::env::args().skip(1))?;
    let line = Arc::new(Line::new(options.to, options.delay, options.bytes_per_second, options.queue));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let listener = runtime.block_on(async { carry::listen((Ipv4Addr::LOCALHOST, 0).into()) })?;
    say(&serde_json::json!({ "listening": listener.local_addr()?.to_string() }))?;
    let carried = line.clone();
    std::thread::spawn(move || runtime.block_on(carried.serve(listener)));
    for word in std::io::stdin().lock().lines() {
        word?;
        say(&line.take())?;
    }
    Ok(())
}

fn say(value: &serde_json::Value) -> std::io::Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{value}")?;
    out.flush()
}

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("line: {e}");
            ExitCode::FAILURE
        }
    }
}
