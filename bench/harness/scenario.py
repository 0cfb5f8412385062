"""What one tool is put through on one corpus, and the figures that come of it.

The order is that of a repository's life: first backup, nothing changed, each change, a restore of
the newest state, a check of everything, most of it forgotten and freed. Before each measured command the disk is left idle, so
that no tool pays for what another one wrote; what a tool leaves unwritten itself it does not pay for
either, as in daily use.
"""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import compare
import measure
from corpora import Corpus, read_all
from tools import Tool

# Far above what any tool needs for any corpus; a hang must not stop the whole run.
TIMEOUT_SECONDS = 3_600
# The rows that exist for every corpus; changes add a row each.
FIRST, NO_CHANGE, RESTORE, CHECK = "first backup", "no change", "restore", "check, all data"
PRUNE = "prune, half is forgotten"


def play(tool: Tool, corpus: Corpus, skip: set[str], verify: bool) -> dict[str, dict]:
    """Run the scenario; returns figures by row. `skip` may hold `changes`, `restore`, `check`, `prune`."""
    rows: dict[str, dict] = {}
    (tool.home / "tmp").mkdir(parents=True)
    corpus.set_state("first")
    measure.fill_page_cache(tool.home.parent / "filler")
    corpus.warm()
    for number, command in enumerate(tool.init()):
        run_untimed(tool, command, f"init-{number}")
    back_up(tool, corpus, rows, FIRST, "first")
    back_up(tool, corpus, rows, NO_CHANGE, "no-change")
    for change in [] if "changes" in skip else corpus.changes:
        corpus.set_state(change.state)
        back_up(tool, corpus, rows, change.title, change.state)
    # Some tools leave what they wrote in the page cache, some do not: that is no property of a restore or a check.
    if tool.repository.exists():
        read_all(tool.repository)
    if "restore" not in skip:
        restore(tool, corpus, rows, verify)
    if "check" not in skip:
        step(tool, rows, CHECK, tool.check())
    if "prune" not in skip and tool.forget():
        prune(tool, corpus, rows, verify)
    return rows


def prune(tool: Tool, corpus: Corpus, rows: dict[str, dict], verify: bool) -> None:
    """Back up every second file by itself, forget all else, and measure how that is freed: half of every pack is needed."""
    half = tool.home / "half"
    link_half(corpus.data, half)
    run_untimed(tool, tool.backup(half, "half"), "half")
    run_untimed(tool, tool.forget(), "forget")
    before = stored_bytes(tool.repository)
    step(tool, rows, PRUNE, tool.prune())
    rows[PRUNE]["repository_bytes"] = stored_bytes(tool.repository)
    rows[PRUNE]["freed_bytes"] = before - rows[PRUNE]["repository_bytes"]
    if verify:
        target = tool.home / "restored-half"
        target.mkdir()
        run_untimed(tool, tool.restore(half, target), "restore-half")
        rows[PRUNE]["differences"] = compare.differences(half, compare.restored_root(half, target))


def link_half(source: Path, target: Path) -> None:
    """Every second file of `source` under the same names, as hard links where the disk is the same."""
    number = 0
    for folder, folders, names in os.walk(source):
        folders.sort()
        into = target / Path(folder).relative_to(source)
        into.mkdir(parents=True)
        for name in sorted(names):
            path = Path(folder) / name
            number += 1
            if number % 2 and path.is_file() and not path.is_symlink():
                os.link(path, into / name)


def back_up(tool: Tool, corpus: Corpus, rows: dict[str, dict], row: str, name: str) -> None:
    """Measure one backup and what it added to the repository."""
    before = stored_bytes(tool.repository)
    if step(tool, rows, row, tool.backup(corpus.data, name)):
        rows[row]["repository_bytes"] = stored_bytes(tool.repository)
        rows[row]["new_bytes"] = rows[row]["repository_bytes"] - before


def restore(tool: Tool, corpus: Corpus, rows: dict[str, dict], verify: bool) -> None:
    """Measure a restore into an empty directory, and compare it outside of the measured time."""
    target = tool.home / "restored"
    target.mkdir()
    if step(tool, rows, RESTORE, tool.restore(corpus.data, target)) and verify and not tool.is_floor:
        root = compare.restored_root(corpus.data, target)
        rows[RESTORE]["differences"] = compare.differences(corpus.data, root)


def step(tool: Tool, rows: dict[str, dict], row: str, command: list[str] | None) -> bool:
    """Measure one command into `rows`; False if the tool has none."""
    if command is None:
        return False
    os.sync()
    log = tool.home / f"step-{len(rows)}.log"
    rows[row] = measure.run(command, tool.environment(), str(tool.home), str(log), TIMEOUT_SECONDS)
    return True


def run_untimed(tool: Tool, command: list[str], name: str) -> None:
    """Run a preparation; its output is only seen if it fails."""
    log = tool.home / f"{name}.log"
    measure.run(command, tool.environment(), str(tool.home), str(log), TIMEOUT_SECONDS)


def stored_bytes(repository: Path) -> int:
    """The repository's size: the sum of the sizes of its files, whatever blocks they occupy."""
    total = 0
    for folder, _, names in os.walk(repository):
        total += sum(os.lstat(os.path.join(folder, name)).st_size for name in names)
    return total


def file_system_of(path: Path) -> str:
    """The kind of file system `path` is on, for the record."""
    shown = subprocess.run(["stat", "-f", "-c", "%T", str(path)], capture_output=True, text=True, check=False)
    return shown.stdout.strip() or "unknown"
