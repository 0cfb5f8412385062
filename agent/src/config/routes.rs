//! Which source goes to which destination.

use std::collections::BTreeSet;

use super::{Settings, Source};
use crate::tree::path_text;

/// What the repository is called that is used when none is named.
pub const DEFAULT_NAME: &str = "default";

impl Settings {
    /// The source of this name.
    pub fn source(&self, name: &str) -> Option<&Source> {
        self.sources.iter().find(|source| source.name == name)
    }

    /// The names of all destinations; of the one repository, if that is all there is, its place.
    pub fn destination_names(&self) -> Vec<String> {
        match (&self.repository, self.destinations.as_slice()) {
            (_, [_, ..]) => self.destinations.iter().map(|destination| destination.name.clone()).collect(),
            (Some(place), []) => vec![path_text::display(place.as_encoded_bytes())],
            (None, []) => vec![DEFAULT_NAME.to_owned()],
        }
    }

    /// The names of the destinations that a source goes to, the primary first.
    pub fn destinations_of(&self, source: &Source) -> Vec<String> {
        let mut names = self.destination_names();
        if !source.to.is_empty() {
            names.retain(|name| source.to.contains(name));
        }
        names
    }

    /// The sources that do not go to a destination of the configuration. A place that is none takes what it is given.
    pub fn elsewhere(&self, destination: &str) -> BTreeSet<String> {
        if !self.destinations.iter().any(|known| known.name == destination) {
            return BTreeSet::new();
        }
        let goes =
            |source: &&Source| source.to.is_empty() || source.to.iter().any(|name| name == destination);
        self.sources.iter().filter(|source| !goes(source)).map(|source| source.name.clone()).collect()
    }
}
