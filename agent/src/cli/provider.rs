//! `lifeboat provider`: what a store really does.

use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt as _;
use std::process::ExitCode;
use std::time::Instant;

use clap::{Args, Subcommand};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use lifeboat_providers::conformance::{self, Outcome};
#[cfg(any(feature = "s3", feature = "gdrive"))]
use lifeboat_providers::pace::Pace;
use serde_json::json;

use super::destinations;
use super::session::{Session, Target};
use super::text::{self, count};
use crate::backup::destinations::{proof_word, proof_words};
#[cfg(any(feature = "s3", feature = "gdrive"))]
use crate::repository::connect;
#[cfg(feature = "s3")]
use crate::repository::connect::Location;
use crate::repository::connect::Mode;
use crate::repository::runtime;
use crate::tree::path_text;
use crate::{Error, Kind, Result};

/// What to do with a store.
#[derive(Debug, Subcommand)]
pub enum Provider {
    /// Try what a store really does: whether it verifies hashes, creates conditionally, lists completely
    Check(Check),
    /// Sign in to a provider, once, for all later runs
    #[command(subcommand)]
    Login(Login),
}

/// Where to sign in.
#[derive(Debug, Subcommand)]
pub enum Login {
    /// A Google account: opens a page in the browser, and keeps the grant in a file that only this user can read
    Gdrive(Gdrive),
}

/// Arguments of `provider login gdrive`.
#[derive(Debug, Args)]
#[command(
    after_help = "docs/operations/gdrive.md says how to register an app with Google, which is needed once. The file from Google is looked for \
                        at ~/.config/lifeboat/google-client.json."
)]
pub struct Gdrive {
    /// The client secret from Google's console
    #[arg(long, value_name = "FILE")]
    client: Option<std::path::PathBuf>,
    /// Where the grant is kept
    #[arg(long, value_name = "FILE")]
    token: Option<std::path::PathBuf>,
    /// Show a code to type on another machine, for a server without a browser
    #[arg(long)]
    device: bool,
    /// Make this folder in the Drive, and print the repository's URL
    #[arg(long, value_name = "NAME", default_value = "Lifeboat")]
    folder: String,
    /// The root URL in place of Google's
    #[arg(long, value_name = "URL", hide = true)]
    endpoint: Option<String>,
}

/// Arguments of `provider check`.
#[derive(Debug, Args)]
#[command(
    after_help = "It writes into a folder of its own, provider-check/, about 12 MB in 1,300 objects, and removes them again. What it finds out \
                        about an S3 store is remembered on this machine.\n\nExit code 1: the store breaks a promise that Lifeboat relies on."
)]
pub struct Check {
    /// A directory, a URL, or the name of a destination; without it, the first destination
    #[arg(value_name = "PLACE")]
    place: Option<OsString>,
    /// Lock an object for a minute too, which then stays
    #[arg(long)]
    retention: bool,
}

impl Provider {
    /// Does it.
    ///
    /// # Errors
    /// `Usage` for a place that means nothing; `NoRepository` if it is not there; errors of the store.
    pub fn run(self, session: &Session) -> Result<ExitCode> {
        match self {
            Self::Check(arguments) => check(session, &arguments),
            #[cfg(feature = "gdrive")]
            Self::Login(Login::Gdrive(arguments)) => login(session, &arguments),
            #[cfg(not(feature = "gdrive"))]
            Self::Login(_) => Err(Error::usage("this lifeboat was built without Google Drive")),
        }
    }
}

fn check(session: &Session, arguments: &Check) -> Result<ExitCode> {
    let target = target(session, arguments)?;
    let runtime = runtime::shared()?;
    #[cfg(feature = "s3")]
    if let Location::S3(address) = &target.location {
        let provider = connect::connect_s3(address, &target.options, &Pace::unlimited())?;
        let found = runtime.block_on(provider.probe_anew())?;
        let swept = runtime.block_on(provider.sweep_uploads(lifeboat_providers::s3::STALE_AFTER));
        abilities(session, &found, swept.ok())?;
    }
    let provider = target.connect(Mode::Open).map_err(|e| not_made_yet(e, &target))?;
    let options = conformance::Options { retention: arguments.retention, ..Default::default() };
    let report = shown(session, &provider.location(), |begun| {
        runtime.block_on(conformance::run_shown(provider.clone(), options, begun))
    });
    let proof = provider.capabilities().proof;
    let output = &session.output;
    if output.json() {
        for case in &report.cases {
            let (outcome, reason) = match &case.outcome {
                Outcome::Passed => ("passed", None),
                Outcome::Failed(reason) => ("failed", Some(reason)),
                Outcome::NotSupported(reason) => ("not supported", Some(reason)),
            };
            output.object("case", &json!({ "name": case.name, "outcome": outcome, "reason": reason }))?;
        }
        output.object(
            "summary",
            &json!({
                "location": report.location,
                "passed": report.passed(),
                "verified": proof_word(proof),
                "left_behind": report.left_behind,
            }),
        )?;
    } else {
        for case in &report.cases {
            match &case.outcome {
                Outcome::Passed if output.verbose() == 0 => {}
                Outcome::Passed => output.line(format_args!("  holds: {}", case.name.replace('_', " ")))?,
                Outcome::NotSupported(why) => {
                    output.line(format_args!("  does without: {} ({why})", case.name.replace('_', " ")))?;
                }
                Outcome::Failed(why) => {
                    output.line(format_args!("  BROKEN: {}: {why}", case.name.replace('_', " ")))?;
                }
            }
        }
        output.line(format_args!(
            "{}: {} of {} promises hold; what is stored there is {}.",
            report.location,
            report.kept(),
            report.promised(),
            proof_words(proof)
        ))?;
    }
    if let Some(first) = report.left_behind.first() {
        output.warning(format_args!(
            "{} of the check could not be removed: {first}. Remove the folder provider-check there by another way",
            count(report.left_behind.len() as u64, "object", "objects")
        ));
    }
    if report.passed() {
        return Ok(ExitCode::SUCCESS);
    }
    Err(Error::failed(format_args!("{} does not do what Lifeboat relies on", report.location))
        .with_hint("Do not keep backups there until this is mended."))
}

/// Runs the suite with a line that says what is tried: it may take minutes on a store far away.
fn shown<T>(
    session: &Session,
    place: &str,
    run: impl FnOnce(&mut (dyn FnMut(&'static str) + Send)) -> T,
) -> T {
    let output = &session.output;
    if !output.draws_progress() {
        output.say(format_args!(
            "Trying {place} with 1,300 small objects; far away that takes a minute or more."
        ));
        let mut begun = |name: &'static str| {
            output.say_verbose(format_args!("trying: {} …", name.replace('_', " ")));
        };
        return run(&mut begun);
    }
    let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
    // A constant; one with an error would show as the plain bar.
    bar.set_style(ProgressStyle::with_template("{msg}").unwrap_or_else(|_| ProgressStyle::default_bar()));
    output.set_bar(Some(bar.clone()));
    let started = Instant::now();
    let mut tried = 0_u32;
    let mut begun = |name: &'static str| {
        tried += 1;
        let time = text::duration(started.elapsed().as_secs() as f64);
        bar.set_message(format!("  {time} · {tried}: {}", name.replace('_', " ")));
    };
    let result = run(&mut begun);
    output.set_bar(None);
    bar.finish_and_clear();
    result
}

/// A directory is tried before there is a repository in it.
fn not_made_yet(error: Error, target: &Target) -> Error {
    match target.location.local_path() {
        Some(path) if error.kind() == Kind::NoRepository && !path.exists() => {
            let shown = path_text::display(path.as_os_str().as_bytes());
            Error::new(Kind::NoRepository, format_args!("there is no directory {shown}")).with_hint(
                "Check the path, or make the directory first: it need not hold a repository to be tried.",
            )
        }
        _ => error,
    }
}

/// Signs in and makes the folder. Only ever begun by a person: nothing else in Lifeboat asks for a sign-in.
#[cfg(feature = "gdrive")]
fn login(session: &Session, arguments: &Gdrive) -> Result<ExitCode> {
    use lifeboat_providers::gdrive::{Credentials, create_folder, login};

    let google = &session.settings.google;
    let client_file = arguments.client.as_ref().unwrap_or(&google.client);
    let token_file = arguments.token.as_ref().unwrap_or(&google.token);
    let mut client = connect::google_client(client_file)?;
    let endpoint = arguments.endpoint.as_deref();
    if let Some(endpoint) = endpoint {
        // The file from Google does not say where the sign-in by a code begins.
        client.device_uri = format!("{}/device/code", endpoint.trim_end_matches('/'));
    }
    let connector = || connect::google_connector(endpoint, &Pace::unlimited());
    let output = &session.output;
    let runtime = runtime::shared()?;
    let connection = connector()?;
    let signed_in = async {
        if arguments.device {
            let show = |prompt: &login::DevicePrompt| {
                output.complain(format_args!(
                    "On any machine, open {} and type the code {}",
                    prompt.url, prompt.code
                ));
            };
            login::device_flow(&client, token_file, connection, show).await
        } else {
            let show = |url: &str| {
                output.complain(
                    "Open this page in a browser on this machine (or see --device), and allow the access:",
                );
                output.complain(url);
            };
            login::installed_flow(&client, token_file, connection, show).await
        }
    };
    let stopped = async {
        while !session.signals.stop().load(std::sync::atomic::Ordering::Relaxed) {
            tokio::time::sleep(std::time::Duration::from_millis(100)).await;
        }
    };
    runtime.block_on(async {
        tokio::select! {
            signed_in = signed_in => signed_in.map_err(Error::from),
            () = stopped => Err(Error::interrupted()),
        }
    })?;
    let credentials = Credentials::User { client, token_file: token_file.clone() };
    let folder =
        runtime.block_on(create_folder(&credentials, endpoint, &arguments.folder, None, connector()?))?;
    if output.json() {
        output.object("summary", &json!({ "token": token_file, "url": format!("gdrive://{folder}") }))?;
        return Ok(ExitCode::SUCCESS);
    }
    output.say(format_args!("The grant is kept in {}.", token_file.display()));
    output.line(format_args!("gdrive://{folder}"))?;
    output.say("That is the folder's URL: name it by --repository, or as a [[destination]].");
    Ok(ExitCode::SUCCESS)
}

fn target(session: &Session, arguments: &Check) -> Result<Target> {
    let Some(place) = &arguments.place else { return session.target() };
    if let Some(name) = place.to_str()
        && let Ok(found) = destinations::named(session, &[name.to_owned()])
        && let Some(target) = found.into_iter().next()
    {
        return Ok(target);
    }
    destinations::at(session, place)
}

#[cfg(feature = "s3")]
fn abilities(
    session: &Session,
    found: &lifeboat_providers::s3::Abilities,
    swept: Option<(u64, u64)>,
) -> Result<()> {
    let output = &session.output;
    let (removed, under_way) = swept.unwrap_or_default();
    if output.json() {
        return output.object(
            "abilities",
            &json!({
                "verifies_checksum": found.checksum,
                "states_checksum": found.states_checksum,
                "verifies_signed_payload": found.signed_payload,
                "conditional_create": found.conditional_create,
                "stale_uploads_removed": removed,
                "uploads_under_way": under_way,
            }),
        );
    }
    let answer = |yes: bool| if yes { "yes" } else { "no" };
    for (question, yes) in [
        ("compares x-amz-checksum-sha256 with what it received", found.checksum),
        ("states the checksum of what it holds", found.states_checksum),
        ("compares the signature's hash with what it received", found.signed_payload),
        ("creates only what is not there (If-None-Match)", found.conditional_create),
    ] {
        output.line(format_args!("  {:<3}  {question}", answer(yes)))?;
    }
    if removed > 0 {
        output.line(format_args!("  Removed the parts of {removed} uploads that were cut off."))?;
    }
    Ok(())
}
