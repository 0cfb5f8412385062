//! Which places a command means: what was named on the command line, the destinations of the configuration, or the default repository.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::output::Output;
use super::session::Target;
use crate::backup::destinations::Destination as Other;
use crate::config::{Destination, Settings};
use crate::repository::connect::{Location, Mode, StoreOptions};
use crate::repository::siblings::Connect;
use crate::repository::{Repository, Siblings};
use crate::tree::path_text;
use crate::{Error, Result, threads};

/// All places that are meant, the primary first.
///
/// # Errors
/// `Usage` if one of them means nothing.
pub fn all(settings: &Settings) -> Result<Vec<Target>> {
    let Some(named) = &settings.repository else {
        if settings.destinations.is_empty() {
            return Ok(vec![default(settings)]);
        }
        return settings.destinations.iter().map(|destination| target(settings, destination)).collect();
    };
    let destination = settings.destinations.iter().find(|destination| named == destination.name.as_str());
    if let Some(destination) = destination {
        // The others are still there to heal from, and to be used when this one cannot be: only the order is another.
        let rest = settings.destinations.iter().filter(|other| other.name != destination.name);
        return std::iter::once(destination).chain(rest).map(|each| target(settings, each)).collect();
    }
    Ok(vec![at(settings, named)?])
}

/// A place that is no destination of the configuration.
///
/// # Errors
/// `Usage` if it means nothing.
pub fn at(settings: &Settings, place: &OsStr) -> Result<Target> {
    Ok(Target {
        name: path_text::display(place.as_bytes()),
        location: Location::parse(place)?,
        is_default: false,
        options: StoreOptions {
            state: Some(stores(settings)),
            #[cfg(feature = "gdrive")]
            google: settings.google.clone(),
            ..StoreOptions::default()
        },
    })
}

/// The first of them.
///
/// # Errors
/// As [`all`].
pub fn primary(settings: &Settings) -> Result<Target> {
    Ok(all(settings)?.into_iter().next().unwrap_or_else(|| default(settings)))
}

/// Those with the names given, in that order; all of them if none is given.
///
/// # Errors
/// `Usage` for a name that no destination has.
pub fn named(settings: &Settings, names: &[String]) -> Result<Vec<Target>> {
    let all = all(settings)?;
    if names.is_empty() {
        return Ok(all);
    }
    let find = |name: &String| {
        all.iter().find(|target| target.name == *name).cloned().ok_or_else(|| {
            let known: Vec<&str> = settings.destinations.iter().map(|d| d.name.as_str()).collect();
            Error::usage(format_args!("there is no destination {name}")).with_hint(if known.is_empty() {
                "The configuration has no [[destination]].".to_owned()
            } else {
                format!("The configuration has these: {}.", known.join(", "))
            })
        })
    };
    names.iter().map(find).collect()
}

/// Those that a command which writes is to write to: the ones named, the one that `--repository` names, or all.
///
/// # Errors
/// As [`named`].
pub fn chosen(settings: &Settings, names: &[String]) -> Result<Vec<Target>> {
    if names.is_empty() && settings.repository.is_some() {
        return Ok(vec![primary(settings)?]);
    }
    named(settings, names)
}

/// All but one of them, to heal from.
pub fn siblings(targets: &[Target], own: &Target, output: &Arc<Output>) -> Siblings {
    let others = targets.iter().filter(|target| target.name != own.name);
    let connections = others.map(|target| {
        let place = target.clone();
        let connect: Connect = Arc::new(move || place.connect(Mode::Open));
        (target.name.clone(), connect)
    });
    let output = output.clone();
    Siblings::new(connections.collect(), Arc::new(move |text| output.warning(text)))
}

/// The directories of this machine that destinations of the configuration are, also of those that this command does not use.
pub fn local_places(settings: &Settings) -> Arc<[PathBuf]> {
    let locations = settings.destinations.iter().filter_map(|each| Location::parse(&each.location).ok());
    locations.filter_map(|location| location.local_path().map(Path::to_path_buf)).collect()
}

/// Opens places besides the first, all at once, by the keys of the first.
pub fn open_others(first: &Repository, targets: &[Target]) -> Vec<Other> {
    let opened = threads::at_once(targets, |target| first.open_sibling(target.connect(Mode::Open)?));
    let other = |(target, repository): (&Target, _)| Other {
        name: target.name.clone(),
        place: target.location.place(),
        repository,
    };
    targets.iter().zip(opened).map(other).collect()
}

fn default(settings: &Settings) -> Target {
    Target {
        name: "default".to_owned(),
        location: Location::Local(settings.default_repository.path.clone()),
        is_default: true,
        options: StoreOptions::default(),
    }
}

fn target(settings: &Settings, destination: &Destination) -> Result<Target> {
    let named = |e: Error| e.context(format_args!("destination {}", destination.name));
    Ok(Target {
        name: destination.name.clone(),
        location: Location::parse(&destination.location).map_err(named)?,
        is_default: false,
        options: StoreOptions {
            state: Some(stores(settings)),
            #[cfg(feature = "s3")]
            access_key: access_key(destination).map_err(named)?,
            #[cfg(feature = "gdrive")]
            google: destination.google.clone(),
            limits: destination.limits.clone(),
        },
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
