"""How time and memory grow with the number of files and of chunks: steps, table, plot.

Trees are real, of tiny and empty files. Chunks are made up: index shards name them in packs that are sparse
files, so the index of terabytes needs a few gigabytes.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from statistics import median

import growth_report
import measure
from main import DEFAULT_DIRECTORY
from scenario import stored_bytes
from tools import REPOSITORY_ROOT, Floor, Lifeboat

TIMEOUT_SECONDS = 3_600
# Short commands vary by more than what is to be seen; long ones are measured once.
REPEATS, REPEATED_FILES_MAX = 3, 1_000_000


def main() -> int:
    """Measure what the options name, and report it."""
    parser = argparse.ArgumentParser(prog="bench/scale", description="Measure growth with files and chunks.")
    parser.add_argument("--files", type=numbers, default=[], help="numbers of files, with commas")
    parser.add_argument("--chunks", type=numbers, default=[], help="numbers of chunks, with commas")
    parser.add_argument("--restore-max", type=int, default=1_000_000, help="restore trees of up to as many files")
    parser.add_argument("--generator", help="the built example `scale` of bench/micro, if it is not in target/release")
    parser.add_argument("--merge", type=Path, action="append", default=[], help="results of earlier runs, to show as well")
    parser.add_argument("--plot", type=Path, help="write the plot, an SVG, to this file")
    parser.add_argument("--keep", action="store_true", help="keep trees and repositories")
    parser.add_argument("--again", type=Path, help="the folder of a run that was kept: its trees are used again")
    options = parser.parse_args()
    work = Path(os.environ.get("LIFEBOAT_BENCH_DIR") or DEFAULT_DIRECTORY).resolve()
    generator = options.generator or str(REPOSITORY_ROOT / "target" / "release" / "examples" / "scale")
    results: dict[str, dict] = {"files": {}, "chunks": {}}
    for path in options.merge:
        for kind, rows in json.loads(path.read_text()).items():
            results[kind].update(rows)
    stamp = time.strftime("%Y%m%d-%H%M%S")
    home = options.again or work / "runs" / f"growth-{stamp}-{os.getpid()}"
    written = work / "results" / f"growth-{stamp}.json"
    written.parent.mkdir(parents=True, exist_ok=True)
    for count in options.chunks:
        results["chunks"][str(count)] = chunks(count, home / f"chunks-{count}", generator)
        written.write_text(json.dumps(results, indent=1))
    for count in options.files:
        results["files"][str(count)] = files(count, home / f"files-{count}", generator, options.restore_max)
        written.write_text(json.dumps(results, indent=1))
    print(growth_report.tables(results))
    if options.plot:
        options.plot.write_text(growth_report.plot(results))
    print(f"\nwritten to {written}", file=sys.stderr)
    # All at the end: removing millions of files keeps the disk's journal busy, which the next step would pay for.
    if not options.keep and home.exists():
        shutil.rmtree(home)
    return 0


def numbers(words: str) -> list[int]:
    """Numbers with commas between them, the smallest first."""
    return sorted(int(word) for word in words.split(",") if word)


def files(count: int, home: Path, generator: str, restore_max: int) -> dict[str, dict]:
    """The rows of a tree of so many files."""
    lifeboat, tree = prepare(home), home / "tree"
    if not tree.exists():
        say(f"{count} files: making the tree")
        subprocess.run([generator, "tree", str(tree), str(count)], check=True)
    rows: dict[str, dict] = {}
    repeats = REPEATS if count <= REPEATED_FILES_MAX else 1
    walk = Floor(home)
    # Once unmeasured: a tree that was just made is not in the order in which a walk finds it.
    step(lifeboat, walk.backup(tree, "no-change"))
    rows["first backup"] = step(lifeboat, lifeboat.backup(tree, ""))
    # In turn, so that what else the machine does meets both.
    turns = [(step(lifeboat, walk.backup(tree, "no-change")), step(lifeboat, lifeboat.backup(tree, ""))) for _ in range(repeats)]
    rows["walk"], rows["no change"] = (middle([turn[at] for turn in turns]) for at in (0, 1))
    rows["check"] = step(lifeboat, lifeboat.command("check"))
    rows["check, all data"] = step(lifeboat, lifeboat.check())
    if count <= restore_max:
        target = home / "restored"
        rows["restore"] = step(lifeboat, lifeboat.restore(tree, target))
        shutil.rmtree(target)
    rows["repository"] = {"bytes": stored_bytes(lifeboat.repository), "objects": stored_objects(lifeboat.repository)}
    return rows


def chunks(count: int, home: Path, generator: str) -> dict[str, dict]:
    """The rows of an index of so many chunks."""
    lifeboat, tree = prepare(home), home / "tree"
    if not tree.exists():
        subprocess.run([generator, "tree", str(tree), "10"], check=True)
    say(f"{count} chunks: making the index shards")
    made = subprocess.run(
        [generator, "shards", str(lifeboat.repository), str(home / "key"), str(count)],
        check=True, capture_output=True, text=True,
    )
    rows: dict[str, dict] = {"made": json.loads(made.stdout)}
    rows["made"]["shard_bytes"] = stored_bytes(lifeboat.repository / "index")
    # The first backup of a machine that has no cache yet: of ten files, so nearly all of it is the index.
    rows["cache rebuilt"] = step(lifeboat, lifeboat.backup(tree, ""))
    rows["cache"] = {"bytes": stored_bytes(home / "cache")}
    rows["backup, warm"] = middle([step(lifeboat, lifeboat.backup(tree, "")) for _ in range(REPEATS)])
    rows["ls, warm"] = middle([step(lifeboat, lifeboat.command("ls", "latest")) for _ in range(REPEATS)])
    looked = [generator, "lookups", str(lifeboat.repository), str(home / "key"), str(home / "cache"), str(count)]
    rows["check"] = step(lifeboat, lifeboat.command("check"))
    answers = [json.loads(subprocess.run(looked, check=True, capture_output=True, text=True).stdout) for _ in range(REPEATS)]
    rows["lookups"] = {name: median(answer[name] for answer in answers) for name in answers[0]}
    return rows


def prepare(home: Path) -> Lifeboat:
    """A new repository with a key file: deriving a key from a passphrase takes memory and time of its own."""
    lifeboat = Lifeboat(home)
    for left in ("repository", "cache", "data", "restored"):
        shutil.rmtree(home / left, ignore_errors=True)
    (home / "key").unlink(missing_ok=True)
    (home / "tmp").mkdir(parents=True, exist_ok=True)
    for command in lifeboat.init():
        step(lifeboat, command)
    return lifeboat


def step(lifeboat: Lifeboat, command: list[str]) -> dict:
    """Measure one command."""
    os.sync()
    log = lifeboat.home / "step.log"
    figures = measure.run(command, lifeboat.environment(), str(lifeboat.home), str(log), TIMEOUT_SECONDS)
    own = [word for word in command if not word.startswith(("/", "-"))]
    say(f"  {' '.join(own)[:40]}: {figures['wall_seconds']:.2f} s, {figures['rss_bytes'] / 1e6:.0f} MB")
    return figures


def middle(runs: list[dict]) -> dict:
    """The run with the median wall time, and the largest memory of all."""
    chosen = sorted(runs, key=lambda run: run["wall_seconds"])[len(runs) // 2]
    peaks = {name: max(run[name] for run in runs) for name in ("rss_bytes", "own_bytes")}
    return {**chosen, **peaks}


def stored_objects(folder: Path) -> int:
    """How many files are below a folder."""
    return sum(len(names) for _, _, names in os.walk(folder))


def say(line: str) -> None:
    """Tell how far it is; the tables alone go to standard output."""
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
