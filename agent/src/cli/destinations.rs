//! Which places a command means: what was named on the command line, the destinations of the configuration, or the default repository.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::output::Output;
use super::retries;
use super::session::{Session, Target};
use crate::backup::destinations::Destination as Other;
use crate::config::file::nearest;
use crate::config::name::unknown;
use crate::config::routes::DEFAULT_NAME;
use crate::config::{Destination, Settings};
use crate::repository::connect::{Location, Mode, StoreOptions, Watch};
use crate::repository::siblings::{Connect, Place};
use crate::repository::{Repository, Siblings};
use crate::space::{Elsewhere, SpacePolicy};
use crate::tree::path_text;
use crate::{Error, Result, threads};

/// All places that are meant, the primary first.
///
/// # Errors
/// `Usage` if one of them means nothing.
pub fn all(session: &Session) -> Result<Vec<Target>> {
    let settings = &session.settings;
    let Some(named) = &settings.repository else {
        if settings.destinations.is_empty() {
            return Ok(vec![default(settings)]);
        }
        let all = settings.destinations.iter().map(|destination| target(session, destination));
        return all.collect::<Result<_>>().and_then(all_different);
    };
    let destination = settings.destinations.iter().find(|destination| named == destination.name.as_str());
    if let Some(destination) = destination {
        // The others are still there to heal from, and to be used when this one cannot be: only the order is another.
        let rest = settings.destinations.iter().filter(|other| other.name != destination.name);
        let all = std::iter::once(destination).chain(rest).map(|each| target(session, each));
        return all.collect::<Result<_>>().and_then(all_different);
    }
    Ok(vec![at(session, named)?])
}

/// A place that is no destination of the configuration.
///
/// # Errors
/// `Usage` if it means nothing.
pub fn at(session: &Session, place: &OsStr) -> Result<Target> {
    refuse_mistyped(&session.settings, place)?;
    let name = path_text::display(place.as_bytes());
    Ok(Target {
        location: Location::parse(place)?,
        is_default: false,
        options: StoreOptions {
            state: Some(stores(&session.settings)),
            #[cfg(feature = "gdrive")]
            google: session.settings.google.clone(),
            watch: watch(session, &name),
            ..StoreOptions::default()
        },
        name,
        space: space(&session.settings, "", None),
    })
}

/// A word that is nearly a destination's name is that name mistyped, unless there is such a directory.
fn refuse_mistyped(settings: &Settings, place: &OsStr) -> Result<()> {
    let Some(word) = place.to_str().filter(|word| !word.contains(['/', ':'])) else { return Ok(()) };
    let names: Vec<&str> = settings.destinations.iter().map(|d| d.name.as_str()).collect();
    match nearest(word, &names) {
        Some(near) if !Path::new(word).exists() => {
            Err(Error::usage(format_args!("there is no destination {word}, and no directory ./{word}"))
                .with_hint(format_args!(
                    "Did you mean {near}? A directory that is to be called so is ./{word}."
                )))
        }
        _ => Ok(()),
    }
}

/// The first of them.
///
/// # Errors
/// As [`all`].
pub fn primary(session: &Session) -> Result<Target> {
    Ok(all(session)?.into_iter().next().unwrap_or_else(|| default(&session.settings)))
}

/// Those with the names given, in that order; all of them if none is given.
///
/// # Errors
/// `Usage` for a name that no destination has.
pub fn named(session: &Session, names: &[String]) -> Result<Vec<Target>> {
    let all = all(session)?;
    if names.is_empty() {
        return Ok(all);
    }
    let find = |name: &str| {
        all.iter().find(|target| target.name == name).cloned().ok_or_else(|| {
            unknown("destination", name, session.settings.destinations.iter().map(|d| d.name.as_str()))
        })
    };
    // A name has no comma: several may be given at once.
    let names = names.iter().flat_map(|name| name.split(','));
    names.map(find).collect()
}

/// Those that a command which writes is to write to: the ones named, the one that `--repository` names, or all.
///
/// # Errors
/// As [`named`].
pub fn chosen(session: &Session, names: &[String]) -> Result<Vec<Target>> {
    if names.is_empty() && session.settings.repository.is_some() {
        return Ok(vec![primary(session)?]);
    }
    named(session, names)
}

/// All but one of them, to heal from.
pub fn siblings(targets: &[Target], own: &Target, output: &Arc<Output>) -> Siblings {
    let others = targets.iter().filter(|target| target.name != own.name);
    let connections = others.map(|target| {
        let place = target.clone();
        let connect: Connect = Arc::new(move || place.connect(Mode::Open));
        Place { name: target.name.clone(), connect, space: target.space.clone() }
    });
    let output = output.clone();
    Siblings::new(connections.collect(), Arc::new(move |text| output.warning(text)))
}

/// The directories of this machine that destinations of the configuration are, also of those that this command does not use.
pub fn local_places(settings: &Settings) -> Arc<[PathBuf]> {
    let locations = settings.destinations.iter().filter_map(|each| Location::parse(&each.location).ok());
    locations.filter_map(|location| location.local_path().map(Path::to_path_buf)).collect()
}

/// A place that was opened by the keys of another, or why it cannot be used.
pub struct OpenedOther {
    /// What it is called.
    pub name: String,
    /// The repository there.
    pub repository: Result<Repository>,
}

/// Opens places besides the first, all at once, by the keys of the first.
pub fn open_others(first: &Repository, targets: &[Target]) -> Vec<OpenedOther> {
    let opened = threads::at_once(targets, |target| target.open_beside(first));
    let other = |(target, repository): (&Target, _)| OpenedOther { name: target.name.clone(), repository };
    targets.iter().zip(opened).map(other).collect()
}

/// Places besides the first, to be opened by the keys of the first.
pub fn others(first: &Repository, targets: &[Target]) -> Vec<Other> {
    let other = |target: &Target| {
        let (first, target) = (first.clone(), target.clone());
        Other {
            name: target.name.clone(),
            place: target.location.place(),
            open: Box::new(move || target.open_beside(&first)),
        }
    };
    targets.iter().map(other).collect()
}

/// Refuses the same place under two names: what is there would count as two copies.
fn all_different(targets: Vec<Target>) -> Result<Vec<Target>> {
    for (at, target) in targets.iter().enumerate() {
        if let Some(other) = targets.iter().take(at).find(|other| other.real_place() == target.real_place()) {
            return Err(Error::usage(format_args!(
                "the destinations {} and {} are one place: {}",
                other.name,
                target.name,
                target.location.place()
            ))
            .with_hint("Take one of them out of the configuration: a second copy must lie somewhere else."));
        }
    }
    Ok(targets)
}

/// Who is told of failed attempts, and what ends calls.
fn watch(session: &Session, name: &str) -> Watch {
    Watch { stop: Some(session.signals.stop().clone()), notify: Some(retries::teller(&session.output, name)) }
}

fn default(settings: &Settings) -> Target {
    Target {
        name: DEFAULT_NAME.to_owned(),
        location: Location::Local(settings.default_repository.path.clone()),
        is_default: true,
        options: StoreOptions::default(),
        space: space(settings, DEFAULT_NAME, None),
    }
}

/// What a place may take up. What `forget` keeps there is what is kept when it is full.
fn space(settings: &Settings, name: &str, destination: Option<&Destination>) -> SpacePolicy {
    SpacePolicy {
        elsewhere: Elsewhere { host: settings.host.clone(), sources: settings.elsewhere(name) },
        quota: destination.and_then(|destination| destination.quota),
        when_full: destination.map(|destination| destination.when_full).unwrap_or_default(),
        keep: settings.retention.policies(name),
        zone: settings.retention.zone,
    }
}

fn target(session: &Session, destination: &Destination) -> Result<Target> {
    let named = |e: Error| e.context(format_args!("destination {}", destination.name));
    Ok(Target {
        name: destination.name.clone(),
        location: Location::parse(&destination.location).map_err(named)?,
        is_default: false,
        options: StoreOptions {
            state: Some(stores(&session.settings)),
            watch: watch(session, &destination.name),
            #[cfg(feature = "s3")]
            access_key: access_key(destination).map_err(named)?,
            #[cfg(feature = "gdrive")]
            google: destination.google.clone(),
            limits: destination.limits.clone(),
        },
        space: space(&session.settings, &destination.name, Some(destination)),
    })
}

#[cfg(feature = "s3")]
fn access_key(destination: &Destination) -> Result<Option<lifeboat_providers::s3::AccessKey>> {
    let Some(key) = &destination.access_key else { return Ok(None) };
    let secret = key.secret()?.to_string();
    Ok(Some(lifeboat_providers::s3::AccessKey { id: key.id.clone(), secret, session_token: None }))
}

/// Where this machine keeps what it finds out about stores.
fn stores(settings: &Settings) -> PathBuf {
    settings.directories.state.join("stores")
}
