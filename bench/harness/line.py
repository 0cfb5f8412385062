"""Lifeboat and its peers over a long, narrow line to an S3 store: steps, table.

The store is Garage on this machine; the line is a proxy before it (`bench/micro/examples/line`), which delays, holds to a
rate, and counts. Nothing of this needs root.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import compare
import folders
import line_tools
import main as bench
import measure
from corpora import Corpus, open_corpus
from line_store import Store
from report import disturbance

FIRST, NO_CHANGE, CHECK, RESTORE = "first backup", "no change", "check, structure", "restore"
SNAPSHOTS, FOLDER = "`snapshots`, cold", "one small directory restored, cold"
# Rows whose goal is a share of the line's rate; the others' are seconds.
SHARES = {FIRST: 0.95, RESTORE: 0.95}
SECONDS = {SNAPSHOTS: 0.5, FOLDER: 0.9, NO_CHANGE: 0.7, CHECK: 0.7}
TIMEOUT_SECONDS = 1_800
BUCKET = "bench"


def run() -> int:
    """Measure what the options name, and report it."""
    options = parse(sys.argv[1:])
    work = Path(os.environ.get("LIFEBOAT_BENCH_DIR") or bench.DEFAULT_DIRECTORY).resolve()
    (work / "corpora").mkdir(parents=True, exist_ok=True)
    corpus = open_corpus("line", work, options.scale)
    present = [tool for tool in wanted(options.tools) if tool.version()]
    absent = [tool.name for tool in wanted(options.tools) if not tool.version()]
    stamp = time.strftime("%Y%m%d-%H%M%S")
    home = work / "runs" / f"line-{stamp}-{os.getpid()}"
    results: dict = {"started": stamp, "rtt_ms": options.rtt_ms, "mbit": options.mbit, **bench.machine(work)}
    results |= {"corpus": corpus.facts, "tools": {tool.name: tool.version() for tool in present}, "absent": absent}
    results |= {"runs": {tool.name: [] for tool in present}, "failures": {}}
    program = options.line or line_tools.proxy_program()
    if not program.exists():
        raise SystemExit(f"{program} is not built: cargo build --release -p lifeboat-micro-benches --example line")
    written = work / "results" / f"line-{stamp}"
    written.parent.mkdir(exist_ok=True)
    store = Store(home / "store")
    try:
        line = line_tools.Line(program, store.address, options.rtt_ms, options.mbit)
        try:
            for number in range(options.runs):
                # Each run starts with another tool.
                turn = number % len(present)
                for kind in present[turn:] + present[:turn]:
                    if kind.name in results["failures"]:
                        continue
                    say(f"run {number + 1} of {options.runs}: {kind.name}")
                    turn_of(kind, number, corpus, store, line, home, results)
                    keep(written, results, options)
        finally:
            line.close()
    finally:
        store.close()
        if options.keep:
            print(f"store and homes kept in {home}", file=sys.stderr)
        else:
            shutil.rmtree(home, ignore_errors=True)
    print(document(results))
    print(f"\nwritten to {written}.md and .json")
    return 1 if results["failures"] or troubles(results) else 0


def parse(words: list[str]) -> argparse.Namespace:
    """The options."""
    parser = argparse.ArgumentParser(prog="bench/line", description="Measure Lifeboat and its peers over a slow line.")
    parser.add_argument("--tools", default="", help=f"of {','.join(tool.name for tool in line_tools.ALL)}; default all")
    parser.add_argument("--runs", type=int, default=3, help="how often each tool is run; medians are shown")
    parser.add_argument("--scale", type=float, default=1.0, help="size of the corpus, 1 is 490 MB")
    parser.add_argument("--rtt-ms", type=int, default=50, help="milliseconds of a round trip")
    parser.add_argument("--mbit", type=float, default=100, help="million bits a second, each way")
    parser.add_argument("--line", type=Path, help="the built example `line` of bench/micro, if it is not in target/release")
    parser.add_argument("--requests", action="store_true", help="write every request with its times beside the results")
    parser.add_argument("--keep", action="store_true", help="keep the store and what the tools wrote")
    return parser.parse_args(words)


def wanted(names: str) -> list[type[line_tools.OverLine]]:
    """The tools that were asked for."""
    chosen = names.split(",") if names else [tool.name for tool in line_tools.ALL]
    unknown = set(chosen) - {tool.name for tool in line_tools.ALL}
    if unknown:
        raise SystemExit(f"no tool is called {', '.join(sorted(unknown))}")
    return [tool for tool in line_tools.ALL if tool.name in chosen]


def turn_of(
    kind: type[line_tools.OverLine], number: int, corpus: Corpus, store: Store, line: line_tools.Line, home: Path, results: dict
) -> None:
    """One tool's turn, in a bucket and a home of its own."""
    bucket = f"{BUCKET}-{number}-{kind.name}"
    store.create_bucket(bucket)
    tool = kind(home / f"{number}-{kind.name}", line.address, bucket)
    try:
        results["runs"][kind.name].append(play(tool, corpus, store, line, verify=number == 0))
    except measure.StepFailed as failure:
        results["failures"][kind.name] = str(failure)


def play(tool: line_tools.OverLine, corpus: Corpus, store: Store, line: line_tools.Line, verify: bool) -> dict[str, dict]:
    """The steps of one turn; figures by row."""
    rows: dict[str, dict] = {}
    (tool.home / "tmp").mkdir(parents=True)
    corpus.warm()
    for command in tool.init():
        measure.run(command, tool.environment(), str(tool.home), str(tool.home / "init.log"), TIMEOUT_SECONDS)
    before, _ = store.stored(tool.bucket)
    step(tool, line, rows, FIRST, tool.backup(corpus.data, "first"))
    after, objects = store.stored(tool.bucket)
    rows[FIRST] |= {"moved_bytes": after - before, "stored_bytes": after, "objects": objects}
    step(tool, line, rows, NO_CHANGE, tool.backup(corpus.data, "no-change"))
    step(tool, line, rows, CHECK, tool.check_structure())
    target = tool.home / "restored"
    target.mkdir()
    step(tool, line, rows, RESTORE, tool.restore(corpus.data, target))
    # The same bytes have to come back; what an unchanged backup added is not among them.
    rows[RESTORE]["moved_bytes"] = after - before
    if verify:
        rows[RESTORE]["differences"] = compare.differences(corpus.data, compare.restored_root(corpus.data, target))
    shutil.rmtree(target)
    tool.forget_cache()
    step(tool, line, rows, SNAPSHOTS, tool.snapshots())
    tool.forget_cache()
    target.mkdir()
    step(tool, line, rows, FOLDER, tool.restore_folder(corpus.data, folders.SMALL_FOLDER, target))
    rows[FOLDER]["differences"] = folder_differences(corpus.data / folders.SMALL_FOLDER, target)
    return rows


def folder_differences(source: Path, target: Path) -> list[str]:
    """What differs in the folder that was restored alone, wherever below `target` the tool put it."""
    for root in (target / str(source).lstrip("/"), target / source.name, target):
        if (root / sorted(os.listdir(source))[0]).exists():
            return compare.differences(source, root)
    return [f"{source.name}: not restored"]


def step(tool: line_tools.OverLine, line: line_tools.Line, rows: dict[str, dict], row: str, command: list[str]) -> None:
    """Measure one command, and what it sent over the line."""
    os.sync()
    line.take()
    log = tool.home / f"step-{len(rows)}.log"
    figures = measure.run(command, tool.environment(), str(tool.home), str(log), TIMEOUT_SECONDS)
    carried = line.take()
    rows[row] = {**figures, **{name: carried[name] for name in ("connections", "requests", "up_bytes", "down_bytes")}}
    rows[row] |= {"methods": carried["methods"], "log": carried["log"]}
    moved = f"{carried['up_bytes'] / 1e6:.1f} up, {carried['down_bytes'] / 1e6:.1f} down"
    say(f"  {row}: {figures['wall_seconds']:.2f} s, MB {moved}, {carried['requests']} requests")


def keep(written: Path, results: dict, options: argparse.Namespace) -> None:
    """Write what is known so far, so that a run that is broken off is not lost."""
    logs = {}
    shown = {**results, "runs": {}}
    for tool, runs in results["runs"].items():
        logs[tool] = [{row: figures["log"] for row, figures in played.items()} for played in runs]
        without = [{row: {k: v for k, v in f.items() if k != "log"} for row, f in played.items()} for played in runs]
        shown["runs"][tool] = without
    written.with_suffix(".json").write_text(json.dumps(shown, indent=1))
    written.with_suffix(".md").write_text(document(results) + "\n")
    if options.requests:
        written.with_name(written.name + "-requests.json").write_text(json.dumps(logs, indent=1))


def document(results: dict) -> str:
    """The whole report."""
    facts = results["corpus"]
    text = (
        f"Over a line of {results['rtt_ms']} ms round trip and {results['mbit']:g} Mbit/s each way to Garage; "
        f"{facts['files']:,} files, {facts['bytes'] / 1e6:,.0f} MB; {results['processors']} processors, "
        f"{max(map(len, results['runs'].values()), default=0)} run(s), medians. A share is the stored bytes over what the "
        "line carries in that time; `up/down` is what went over it, with all overhead."
    )
    versions = ", ".join(f"{name}: {version}" for name, version in results["tools"].items())
    absent = f" Not installed and left out: {', '.join(results['absent'])}." if results["absent"] else ""
    played = {tool: runs for tool, runs in results["runs"].items() if runs}
    notes = [disturbance(played, results["processors"])] if played else []
    notes += [f"FAILED {tool}: {what}" for tool, what in results["failures"].items()]
    notes += [f"FAILED {trouble}" for trouble in troubles(results)]
    return "\n\n".join([text, f"{versions}.{absent}", table(played, results["mbit"]), *filter(None, notes)])


def table(played: dict[str, list[dict[str, dict]]], mbit: float) -> str:
    """One table: for each step what it took, what it moved, and how many requests."""
    names = list(played)
    lines = ["| | " + " | ".join(names) + " | goal |", "|---" * (len(names) + 2) + "|"]

    def add(title: str, cell: Callable[[list[dict]], str], row: str, goal: str = "") -> None:
        cells = [cell([run[row] for run in played[tool] if row in run]) for tool in names]
        lines.append(f"| {title} | " + " | ".join(cells) + f" | {goal} |")

    for row in (FIRST, RESTORE):
        add(f"{row}: share of the line", lambda runs: share(runs, mbit), row, f"≥ {SHARES[row]:.0%}")
        add("… wall s / CPU s / memory MB", three, row)
        add("… MB up / down, requests, connections", carried, row)
    for row in (SNAPSHOTS, FOLDER, NO_CHANGE, CHECK):
        add(f"{row}: wall s / CPU s / memory MB", three, row, f"≤ {SECONDS[row]} s")
        add("… MB up / down, requests, connections", carried, row)
    add("stored after the first, MB in objects", stored, FIRST, "fewer")
    return "\n".join(lines)


def middle(runs: list[dict], name: str) -> float:
    """The median of a figure."""
    return median(figures[name] for figures in runs)


def share(runs: list[dict], mbit: float) -> str:
    """How much of the line's rate was used for bytes that had to be moved."""
    if not runs:
        return ""
    return f"{median(f['moved_bytes'] / (f['wall_seconds'] * mbit * 1e6 / 8) for f in runs):.1%}"


def three(runs: list[dict]) -> str:
    """Wall / CPU / memory."""
    if not runs:
        return ""
    return f"{middle(runs, 'wall_seconds'):.2f}/{middle(runs, 'cpu_seconds'):.2f}/{middle(runs, 'rss_bytes') / 1e6:.0f}"


def carried(runs: list[dict]) -> str:
    """What went over the line."""
    if not runs:
        return ""
    up, down = (middle(runs, name) / 1e6 for name in ("up_bytes", "down_bytes"))
    return f"{up:.2f}/{down:.2f}, {middle(runs, 'requests'):.0f}, {middle(runs, 'connections'):.0f}"


def stored(runs: list[dict]) -> str:
    """What is in the bucket."""
    return f"{middle(runs, 'stored_bytes') / 1e6:.1f} in {middle(runs, 'objects'):.0f}" if runs else ""


def troubles(results: dict) -> list[str]:
    """Restores that were not equal to the corpus."""
    return [
        f"{tool}, {row}: restored differently: {'; '.join(figures['differences'])}"
        for tool, runs in results["runs"].items()
        for played in runs
        for row, figures in played.items()
        if figures.get("differences")
    ]


def say(line: str) -> None:
    """Tell how far it is; the tables alone go to standard output."""
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(run())
