//! A person with something to back up, for tests of the real binary.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use lifeboat_tests::binary::{Ended, Person};
use lifeboat_tests::world::World;
use lifeboat_tests::{binary, grow};

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

    /// Somebody who may only do what permissions say, with a home of their own in the world; `None`, which is said, unless this is root.
    pub fn nobody(&self) -> Option<Person> {
        if !grow::is_root() {
            println!("skipped: needs root to become another user");
            return None;
        }
        fs::set_permissions(self.world.path(""), fs::Permissions::from_mode(0o755)).unwrap();
        let program = self.world.path("program");
        fs::copy(binary::lifeboat(), &program).unwrap();
        Some(Person::new(&self.world.path("nobody")).as_user(65534).program(&program))
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

/// A small file system of its own, gone when dropped.
pub struct Tmpfs(PathBuf);

impl Tmpfs {
    /// Mounts one of this size at a new directory; `None`, which is said, where that cannot be.
    pub fn mount(at: &Path, size: &str) -> Option<Self> {
        fs::create_dir(at).unwrap();
        let options = format!("size={size},mode=0755");
        let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", &options, "tmpfs"]).arg(at).output();
        if mounted.is_ok_and(|output| output.status.success()) {
            return Some(Self(at.to_path_buf()));
        }
        println!("skipped: cannot mount a tmpfs here");
        None
    }

    /// Mounts it again with other options.
    pub fn remount(&self, options: &str) {
        let option = format!("remount,{options}");
        assert!(Command::new("mount").args(["-o", &option]).arg(&self.0).status().unwrap().success());
    }
}

impl Drop for Tmpfs {
    fn drop(&mut self) {
        // A process that is killed late may hold it for a moment: lazily, it goes away with that.
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}
