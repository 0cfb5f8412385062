//! A person with something to back up, for tests of the real binary.

use std::fs;
use std::path::{Path, PathBuf};

use lifeboat_tests::binary::{Ended, Person};
use lifeboat_tests::world::World;

/// A world with a person, a source with some files, and a repository that is not made yet.
pub struct Scene {
    pub world: World,
    pub person: Person,
}

impl Scene {
    pub fn new() -> Self {
        let world = World::new();
        fs::create_dir(world.source().join("sub")).unwrap();
        fs::write(world.source().join("sub/file"), "content").unwrap();
        fs::write(world.source().join("top"), "top").unwrap();
        let person = Person::new(&world.path("home"))
            .with("LIFEBOAT_REPOSITORY", world.path("repository"))
            .with("LIFEBOAT_PASSPHRASE", "secret");
        Self { world, person }
    }

    /// With a repository and a snapshot.
    pub fn backed_up() -> Self {
        let scene = Self::new();
        scene.run(&["init"]).expect(0);
        scene.backup().expect(0);
        scene
    }

    pub fn run(&self, arguments: &[&str]) -> Ended {
        self.person.run(arguments)
    }

    pub fn backup(&self) -> Ended {
        self.run(&["backup", self.source()])
    }

    pub fn source(&self) -> &'static str {
        Box::leak(self.world.source().to_str().unwrap().to_owned().into_boxed_str())
    }

    pub fn path(&self, name: &str) -> String {
        self.world.path(name).to_str().unwrap().to_owned()
    }

    pub fn snapshots(&self) -> usize {
        self.run(&["snapshots", "--json"]).expect(0).json().len()
    }
}

/// The file of this name below a folder.
pub fn find(folder: &Path, name: &str) -> PathBuf {
    let found =
        walk(folder).into_iter().find(|path| path.is_file() && path.file_name().is_some_and(|n| n == name));
    found.unwrap_or_else(|| panic!("no {name} below {}", folder.display()))
}

/// All paths below a folder.
pub fn walk(folder: &Path) -> Vec<PathBuf> {
    let mut paths = Vec::new();
    for entry in fs::read_dir(folder).into_iter().flatten() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            paths.extend(walk(&path));
        }
        paths.push(path);
    }
    paths
}
