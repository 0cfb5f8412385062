"""The corpora: generated once into the work directory, and put into each state a scenario needs.

A corpus is a folder `data` plus what is needed to change it and to change it back: every tool is
shown the same states of the same files at the same path. Changing state rewrites only the bytes
that differ, in place, as the application that owns the file would.

A marker file, written last, keeps a change from being the newest in the tree: tools that distrust
the newest timestamps then re-read only the marker.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import random
import shutil
import sqlite3
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import folders
import mixed
import tree

# Raised whenever that generator changes what it writes, so that older corpora are not taken for it.
VERSIONS = {"mixed": 2, "tree": 1, "line": 1}
MARKER = ".bench-state"
# Longer than the timestamps of any file system and tool in use are coarse.
SETTLE_SECONDS = 1.2
PAGE_BYTES = 4096
ADDED_FILES = 200


@dataclass
class Change:
    """A step of a scenario: the state to enter, and how its row is titled."""

    state: str
    title: str


@dataclass
class Corpus:
    """A tree to back up, with the states it can be in."""

    name: str
    data: Path
    changes: list[Change] = field(default_factory=list)
    # Enters one of the states; None for trees that are measured as they are.
    enter: Callable[[str], None] | None = None
    facts: dict = field(default_factory=dict)

    def set_state(self, state: str) -> None:
        """Bring the data into `state` (`first`, or that of a change)."""
        if self.enter:
            self.enter(state)
            time.sleep(SETTLE_SECONDS)
            (self.data / MARKER).write_text(f"{state}\n")
            time.sleep(SETTLE_SECONDS)

    def warm(self) -> None:
        """Read everything once, so that all tools start with it in the page cache."""
        read_all(self.data)


def read_all(folder: Path) -> None:
    """Read every file of a folder, as far as they can be read."""
    buffer = bytearray(1 << 20)
    for path in regular_files(folder):
        try:
            with open(path, "rb", buffering=0) as file:
                while file.readinto(buffer):
                    pass
        except OSError:
            continue


def open_corpus(name: str, work: Path, scale: float) -> Corpus:
    """The corpus called `name`, generated first if it is not there yet."""
    if name == "system":
        return Corpus("system", Path("/usr"))
    if name.startswith("path:"):
        return Corpus(name, Path(name.removeprefix("path:")).resolve())
    if name not in VERSIONS:
        raise SystemExit(f"no corpus is called {name}: mixed, tree, line, system, path:DIR or all")
    root = work / "corpora" / f"{name}-{scale:g}"
    if not is_current(root, VERSIONS[name]):
        generate(name, root, work, scale)
    facts = json.loads((root / "manifest.json").read_text())
    if name == "mixed":
        changes = [
            Change("updated", "2,000 scattered updates + 4 MB of rows"),
            Change("appended", "20 MB appended to the log"),
        ]
        return Corpus(name, root / "data", changes, MixedStates(root).enter, facts)
    if name == "line":
        return Corpus(name, root / "data", facts=facts)
    changes = [Change("added", f"{ADDED_FILES} small files added")]
    return Corpus(name, root / "data", changes, TreeStates(root).enter, facts)


def is_current(root: Path, version: int) -> bool:
    """Whether a whole corpus of the generator's `version` is there."""
    try:
        return json.loads((root / "manifest.json").read_text())["version"] == version
    except FileNotFoundError:
        return False


def generate(name: str, root: Path, work: Path, scale: float) -> None:
    """Build a corpus beside its place and move it there when it is whole."""
    print(f"generating the corpus {name} at scale {scale:g} in {root}", flush=True)
    partial = root.with_name(root.name + ".partial")
    for stale in (root, partial):
        if stale.exists():
            shutil.rmtree(stale)
    data = partial / "data"
    data.mkdir(parents=True)
    if name == "mixed":
        mixed.build(data, scale)
        MixedStates(partial).prepare(scale)
    elif name == "line":
        folders.build(data, scale)
    else:
        tree.build(data, work / "downloads", scale)
    facts = {"version": VERSIONS[name], "scale": scale, **describe(data)}
    (partial / "manifest.json").write_text(json.dumps(facts, indent=1))
    partial.rename(root)
    print(f"  {facts['files']:,} files, {facts['bytes'] / 1e6:,.0f} MB, digest {facts['digest'][:16]}", flush=True)


def describe(data: Path) -> dict:
    """Counts and a digest over names and contents, to compare corpora between machines."""
    digest = hashlib.sha256()
    files = size = 0
    for path in regular_files(data):
        with open(path, "rb") as file:
            content = hashlib.file_digest(file, "sha256").hexdigest()
        digest.update(f"{os.path.relpath(path, data)}\0{content}\n".encode())
        files += 1
        size += os.path.getsize(path)
    versions = {"python": platform.python_version(), "sqlite": sqlite3.sqlite_version}
    return {"files": files, "bytes": size, "digest": digest.hexdigest(), **versions}


def regular_files(root: Path) -> list[str]:
    """All regular files below `root` on its file system, sorted."""
    device = os.lstat(root).st_dev
    found, folders = [], [str(root)]
    while folders:
        with os.scandir(folders.pop()) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    if entry.stat(follow_symlinks=False).st_dev == device:
                        folders.append(entry.path)
                elif entry.is_file(follow_symlinks=False):
                    found.append(entry.path)
    return sorted(found)


class MixedStates:
    """The states of the mixed corpus: `first`, `updated` (database), `appended` (and the log)."""

    def __init__(self, root: Path) -> None:
        self.database = root / "data" / "database" / "shop.sqlite"
        self.log = root / "data" / "log" / "access.log"
        self.changes = root / "changes"
        self.current = root / "state"

    def prepare(self, scale: float) -> None:
        """Work out, once, which pages the database's change touches, and what the log gains."""
        self.changes.mkdir()
        changed = self.changes / "changed.sqlite"
        shutil.copyfile(self.database, changed)
        mixed.change_database(changed, scale)
        self.record_pages(changed)
        changed.unlink()
        mixed.write_log(self.changes / "log.tail", round(mixed.APPENDED_LOG_BYTES * scale), 22, 5_000_000)
        self.record(first_log_bytes=self.log.stat().st_size)

    def record_pages(self, changed: Path) -> None:
        """Keep the pages that differ, before and after."""
        numbers = []
        with (
            self.database.open("rb") as old, changed.open("rb") as new,
            (self.changes / "pages.before").open("wb") as before, (self.changes / "pages.after").open("wb") as after,
        ):  # fmt: skip
            number = 0
            while page := new.read(PAGE_BYTES):
                was = old.read(PAGE_BYTES)
                if page != was:
                    numbers.append(number)
                    before.write(was.ljust(PAGE_BYTES, b"\0"))
                    after.write(page)
                number += 1
        sizes = {"before": self.database.stat().st_size, "after": changed.stat().st_size}
        self.record(pages=numbers, database_bytes=sizes)

    def record(self, **facts: object) -> None:
        """Add facts to the description of the changes."""
        path = self.changes / "changes.json"
        known = json.loads(path.read_text()) if path.exists() else {}
        path.write_text(json.dumps({**known, **facts}))

    def enter(self, state: str) -> None:
        """Rewrite what differs from the state last entered, or all of it if that is not known."""
        before = self.current.read_text() if self.current.exists() else "unknown"
        self.current.write_text("unknown")
        facts = json.loads((self.changes / "changes.json").read_text())
        if before == "unknown" or (before == "first") != (state == "first"):
            self.write_pages(facts, "before" if state == "first" else "after")
        if before == "unknown" or (before == "appended") != (state == "appended"):
            self.write_log(facts["first_log_bytes"], state == "appended")
        self.current.write_text(state)

    def write_pages(self, facts: dict, side: str) -> None:
        """Write the changed pages of one side into the database."""
        with (self.changes / f"pages.{side}").open("rb") as pages, self.database.open("r+b") as database:
            for number in facts["pages"]:
                database.seek(number * PAGE_BYTES)
                database.write(pages.read(PAGE_BYTES))
            database.truncate(facts["database_bytes"][side])

    def write_log(self, first_bytes: int, appended: bool) -> None:
        """Give the log its tail, or take it away."""
        with self.log.open("r+b") as log:
            log.truncate(first_bytes)
            if appended:
                log.seek(first_bytes)
                log.write((self.changes / "log.tail").read_bytes())


class TreeStates:
    """The states of the tree corpus: `first`, and `added` with small files in many folders."""

    PREFIX = "bench_added_"

    def __init__(self, root: Path) -> None:
        self.data = root / "data"

    def enter(self, state: str) -> None:
        """Add the files, or remove them."""
        folders = sorted(str(f) for f in self.data.rglob("*") if f.is_dir() and not f.is_symlink())
        rng = random.Random(41)
        words = mixed.Words(rng)
        # Ten files to a folder: an added package here and there, as an upgrade leaves.
        chosen = rng.sample(folders, max(1, min(len(folders), ADDED_FILES // 10)))
        for number in range(ADDED_FILES):
            path = Path(chosen[number % len(chosen)]) / f"{self.PREFIX}{number:03}.py"
            text = " ".join(words.take(rng.randrange(50, 1_200))) + "\n"
            if state == "added":
                path.write_text(text)
            else:
                path.unlink(missing_ok=True)
