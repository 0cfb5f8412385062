"""Where Lifeboat spends its time: processor seconds by stage, and what each kind of thread waits for.

The stages come from samples of `perf record`, by thread and function; the waiting from the scheduler's account in
/proc, read while the command runs. The sampling costs a few percent itself.
"""

from __future__ import annotations

import argparse
import collections
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import measure
from corpora import open_corpus
from main import DEFAULT_DIRECTORY
from tools import Lifeboat

SAMPLES_PER_SECOND = 499
# How often the scheduler's account is read; what a thread does after the last reading is not seen.
POLL_SECONDS = 0.02
# First match counts: thread, function.
STAGES = [
    ("compress", "", r"^(ZSTD_(?!decompress|buildFSETable|execSequence)|HUF_(compress|buildCTable|cpu|write)|HIST_|FSE_(?!.*DTable))"),
    ("decode", "", r"^(ZSTD_|HUF_|FSE_)"),
    ("seal and open", "", r"chacha|poly1305|aes_|gcm"),
    ("SHA-256, name of the pack", "upload", r"sha2|sha256"),
    ("SHA-256, what was read back", "store", r"sha2|sha256"),
    ("SHA-256", "", r"sha2|sha256"),
    ("BLAKE3, ids of chunks", "", r"blake3"),
    ("cut", "", r"[Gg]ear|[Cc]utter"),
    ("compare with what was decoded", "", r"memcmp"),
    ("derive the key", "", r"argon2|blake2"),
    ("write and read packs (kernel)", "store", r"\[k\]"),
    ("files of the user (kernel)", "", r"\[k\]"),
    ("copies in memory", "", r"mem(cpy|move|set)"),
    ("all else", "", r""),
]


def main() -> int:
    """Measure one command and print two Markdown tables."""
    parser = argparse.ArgumentParser(prog="bench/budget", description="Where Lifeboat spends its time.")
    parser.add_argument("--corpus", default="mixed", help="mixed, tree, system or path:DIR")
    parser.add_argument("--restore", action="store_true", help="measure a restore in place of a first backup")
    options = parser.parse_args()
    if not shutil.which("perf"):
        raise SystemExit("perf is not installed: Debian has it in the package linux-perf")
    work = Path(os.environ.get("LIFEBOAT_BENCH_DIR") or DEFAULT_DIRECTORY).resolve()
    corpus = open_corpus(options.corpus, work, 1.0)
    tool = Lifeboat(work / "runs" / f"budget-{os.getpid()}")
    (tool.home / "tmp").mkdir(parents=True)
    try:
        corpus.set_state("first")
        measure.fill_page_cache(tool.home / "filler")
        corpus.warm()
        steps = [*tool.init(), tool.backup(corpus.data, "first")]
        if options.restore:
            steps.append(tool.restore(corpus.data, tool.home / "restored"))
        for step in steps[:-1]:
            subprocess.run(step, env=tool.environment(), cwd=tool.home, check=True, stdout=subprocess.DEVNULL)
        os.sync()
        wall, threads = watch(tool, steps[-1])
        gigabytes = corpus.facts.get("bytes", 0) / 1e9 or 1.0
        print_stages(samples(tool), sum(run for run, _, _ in threads.values()), gigabytes)
        print_threads(threads, wall)
    finally:
        shutil.rmtree(tool.home, ignore_errors=True)
    return 0


def watch(tool: Lifeboat, command: list[str]) -> tuple[float, dict[str, tuple[float, float, float]]]:
    """Run `command` under perf; wall seconds, and by kind of thread the seconds run, waited for a core, and lived."""
    record = ["perf", "record", "-q", "-F", str(SAMPLES_PER_SECOND), "-o", tool.home / "perf.data", "--", *command]
    started = time.perf_counter()
    process = subprocess.Popen(
        [str(word) for word in record], env=tool.environment(), cwd=tool.home, stdout=subprocess.DEVNULL
    )
    seen: dict[str, tuple[str, int, int, float, float]] = {}
    while process.poll() is None:
        now = time.perf_counter()
        for child in children(process.pid):
            for thread, (name, run, wait) in accounts(child).items():
                first = seen[thread][3] if thread in seen else now
                seen[thread] = (name, run, wait, first, now)
        time.sleep(POLL_SECONDS)
    wall = time.perf_counter() - started
    if process.returncode != 0:
        raise SystemExit(f"`{' '.join(command)}` ended with {process.returncode}")
    kinds: dict[str, tuple[float, float, float]] = collections.defaultdict(lambda: (0.0, 0.0, 0.0))
    for name, run, wait, first, last in seen.values():
        kind = re.sub(r"[-\d]+$", "", name)
        ran, waited, lived = kinds[kind]
        kinds[kind] = (ran + run / 1e9, waited + wait / 1e9, lived + last - first)
    return wall, dict(kinds)


def children(pid: int) -> list[int]:
    """Processes that `pid` has started."""
    try:
        return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []


def accounts(pid: int) -> dict[str, tuple[str, int, int]]:
    """By thread: its name, nanoseconds run, nanoseconds waited for a core."""
    found = {}
    for task in Path(f"/proc/{pid}/task").glob("*"):
        try:
            run, wait, _ = (task / "schedstat").read_text().split()
            found[task.name] = ((task / "comm").read_text().strip(), int(run), int(wait))
        except (OSError, ValueError):
            continue
    return found


def samples(tool: Lifeboat) -> collections.Counter[str]:
    """How many samples fell into each stage."""
    script = ["perf", "report", "-i", str(tool.home / "perf.data"), "--no-children", "-n", "--stdio"]
    shown = subprocess.run(
        [*script, "--sort", "comm,symbol", "-t", "\t", "--percent-limit", "0"],
        capture_output=True, text=True, check=True,
    )
    counts: collections.Counter[str] = collections.Counter()
    for line in shown.stdout.splitlines():
        fields = [field.strip() for field in line.split("\t")]
        if line.startswith("#") or len(fields) < 4 or not fields[1].isdigit():
            continue
        counts[stage_of(fields[2], fields[3])] += int(fields[1])
    return counts


def stage_of(thread: str, symbol: str) -> str:
    """The stage that a sample belongs to."""
    function = symbol if symbol.startswith("[k]") else symbol.removeprefix("[.]").strip()
    return next(
        stage for stage, prefix, pattern in STAGES if thread.startswith(prefix) and re.search(pattern, function)
    )


def print_stages(counts: collections.Counter[str], cpu_seconds: float, gigabytes: float) -> None:
    """The first table; stages in the order of their weight."""
    total = sum(counts.values()) or 1
    print(f"\n{cpu_seconds:.1f} processor seconds for {gigabytes:.2f} GB\n")
    print("| stage | share | s per GB |\n|---|---|---|")
    for stage, count in counts.most_common():
        print(f"| {stage} | {100 * count / total:.0f} % | {cpu_seconds * count / total / gigabytes:.2f} |")


def print_threads(threads: dict[str, tuple[float, float, float]], wall: float) -> None:
    """The second table: where each thread is while the others work."""
    print(f"\n{wall:.1f} s in all\n")
    print("| threads | run, s | wait for a core | wait for others or the disk |\n|---|---|---|---|")
    for name, (run, wait, lived) in sorted(threads.items(), key=lambda item: -item[1][0]):
        if run > 0.05:
            print(f"| {name} | {run:.1f} | {wait:.1f} | {max(0.0, lived - run - wait):.1f} |")


if __name__ == "__main__":
    sys.exit(main())
