"""Compares a restored tree with the corpus: names, kinds, modes, link targets and contents.

Times and owners are left to Lifeboat's own tests: not every peer restores them by default.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path

BLOCK_BYTES = 1 << 20
DIFFERENCES_MAX = 10


def restored_root(source: Path, target: Path) -> Path:
    """Where below `target` the tool put `source`: whole path, last name, or its contents."""
    for candidate in (target / str(source).lstrip("/"), target / source.name):
        if candidate.is_dir():
            return candidate
    return target


def differences(source: Path, restored: Path) -> list[str]:
    """What differs, as lines of text; empty if nothing does. Stops after a few."""
    found: list[str] = []
    device = os.lstat(source).st_dev
    folders = [""]
    while folders and len(found) < DIFFERENCES_MAX:
        folder = folders.pop()
        here = {e.name: e for e in os.scandir(source / folder)}
        there = set(os.listdir(restored / folder))
        for name in there - here.keys():
            found.append(f"{folder}/{name}: not in the corpus")
        for name, entry in here.items():
            path = os.path.join(folder, name)
            status = entry.stat(follow_symlinks=False)
            if status.st_dev != device or stat.S_ISSOCK(status.st_mode):
                continue
            if name not in there:
                found.append(f"{path}: not restored")
            elif not same(source / path, restored / path, status):
                found.append(f"{path}: differs")
            elif stat.S_ISDIR(status.st_mode):
                folders.append(path)
    return found[:DIFFERENCES_MAX]


def same(source: Path, restored: Path, status: os.stat_result) -> bool:
    """Whether one entry was restored as it is."""
    other = os.lstat(restored)
    if stat.S_ISLNK(status.st_mode):
        return stat.S_ISLNK(other.st_mode) and os.readlink(source) == os.readlink(restored)
    if status.st_mode != other.st_mode:
        return False
    if not stat.S_ISREG(status.st_mode):
        return True
    return status.st_size == other.st_size and same_content(source, restored)


def same_content(one: Path, two: Path) -> bool:
    """Whether two files of equal size hold equal bytes."""
    with open(one, "rb", buffering=0) as left, open(two, "rb", buffering=0) as right:
        while block := left.read(BLOCK_BYTES):
            if block != right.read(len(block)):
                return False
    return True
