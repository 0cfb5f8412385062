"""The command line of the bench: parse, generate, measure, report."""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import report
import scenario
import tools
from corpora import Corpus, open_corpus
from measure import StepFailed

DEFAULT_DIRECTORY = "/var/tmp/lifeboat-bench"
GENERATED = ["mixed", "tree"]
# Free disk a run needs, as a multiple of the corpus: a repository, a restored copy and caches.
FREE_DISK_FACTOR = 3


def main() -> int:
    """Run the bench; 1 if a tool failed or restored something else than it was given."""
    options = parse(sys.argv[1:])
    work = Path(os.environ.get("LIFEBOAT_BENCH_DIR") or DEFAULT_DIRECTORY).resolve()
    names = [name for word in options.corpus.split(",") for name in (GENERATED if word == "all" else [word])]
    (work / "corpora").mkdir(parents=True, exist_ok=True)
    corpora = [open_corpus(name, work, options.scale) for name in names]
    if options.corpora_only:
        for corpus in corpora:
            print(f"{corpus.name}: {corpus.data}")
        return 0
    present, absent = choose(options)
    stamp = time.strftime("%Y%m%d-%H%M%S")
    results = {"started": stamp, "scale": options.scale, "runs": options.runs, **machine(work)}
    results["tools"] = {tool.name: tool.version() for tool in present}
    results["absent"] = absent
    home = work / "runs" / f"{stamp}-{os.getpid()}"
    results["corpora"] = {}
    for corpus in corpora:
        measured = {"facts": corpus.facts, "runs": {tool.name: [] for tool in present}, "failures": {}}
        results["corpora"][corpus.name] = measured
        for _ in measure_corpus(corpus, present, options, home, measured):
            # After each tool, so that a run that is broken off is not lost.
            write_results(work, stamp, results)
    print(document(results))
    sound = not any(failures_of(measured) for measured in results["corpora"].values())
    print(f"\nwritten to {work / 'results' / stamp}.md and .json")
    if options.keep:
        print(f"repositories kept in {home}")
    return 0 if sound else 1


def parse(words: list[str]) -> argparse.Namespace:
    """The options."""
    parser = argparse.ArgumentParser(prog="bench/run", description="Measure Lifeboat and its peers.")
    parser.add_argument("--corpus", default="all", help="mixed, tree, system, path:DIR, all, or several with commas")
    parser.add_argument("--scale", type=float, default=1.0, help="size of generated corpora, 1 is about 2.5 GB each")
    parser.add_argument("--runs", type=int, default=3, help="how often each tool is run; medians are shown")
    parser.add_argument("--tools", default="", help=f"of {','.join(tool.name for tool in tools.ALL)}; default all")
    parser.add_argument("--skip", default="", help="of changes,restore,check,prune")
    parser.add_argument("--also", action="append", default=[], metavar="LABEL=BINARY", help="another build of Lifeboat")
    parser.add_argument("--keep", action="store_true", help="keep the repositories")
    parser.add_argument("--corpora-only", action="store_true", help="generate the corpora and measure nothing")
    return parser.parse_args(words)


def choose(options: argparse.Namespace) -> tuple[list[type[tools.Tool]], list[str]]:
    """The tools to run, and the names of those that are not installed."""
    wanted = options.tools.split(",") if options.tools else [tool.name for tool in tools.ALL]
    unknown = set(wanted) - {tool.name for tool in tools.ALL}
    if unknown:
        raise SystemExit(f"no tool is called {', '.join(sorted(unknown))}")
    chosen = [tool for tool in tools.ALL if tool.name in wanted]
    for number, word in enumerate(options.also):
        label, _, binary = word.partition("=")
        chosen.insert(1 + number, tools.another_lifeboat(f"lifeboat-{label}", str(Path(binary).resolve())))
    present = [tool for tool in chosen if tool.version()]
    return present, [tool.name for tool in chosen if tool not in present]


def measure_corpus(
    corpus: Corpus, present: list[type[tools.Tool]], options: argparse.Namespace, home: Path, measured: dict
) -> Iterator[None]:
    """Run every tool `options.runs` times, adding to `measured`; yields after each tool's turn.

    A tool that fails is left out of further runs.
    """
    failures = measured["failures"]
    leftovers: list[Path] = []
    require_space(corpus, home)
    for number in range(options.runs):
        # Each run starts with another tool, so that none is always first or always after the same one.
        turn = number % len(present)
        for kind in present[turn:] + present[:turn]:
            if kind.name in failures:
                continue
            print(f"{corpus.name}, run {number + 1} of {options.runs}: {kind.name}", file=sys.stderr, flush=True)
            tool = kind(home / f"{number}-{corpus.name.replace('/', '_')}-{kind.name}")
            try:
                rows = scenario.play(tool, corpus, set(options.skip.split(",")), verify=number == 0)
                measured["runs"][kind.name].append(rows)
            except StepFailed as failure:
                failures[kind.name] = str(failure)
            finally:
                if not options.keep:
                    leftovers.append(tool.home)
            make_room(corpus, home, leftovers)
            yield
    if not options.keep:
        shutil.rmtree(home, ignore_errors=True)
    corpus.set_state("first")


def make_room(corpus: Corpus, home: Path, leftovers: list[Path]) -> None:
    """Remove what earlier turns left, oldest first, until the next turn has space.

    Not before: ext4 passes over inodes that were freed in the last minutes, so whoever makes many files after a
    large removal pays for it; and a virtual machine may give freed memory back to its host.
    """
    while leftovers and not has_space(corpus, home):
        shutil.rmtree(leftovers.pop(0), ignore_errors=True)


def has_space(corpus: Corpus, home: Path) -> bool:
    """Whether the disk has room for a turn, where the corpus' size is known."""
    return shutil.disk_usage(home).free >= FREE_DISK_FACTOR * corpus.facts.get("bytes", 0)


def require_space(corpus: Corpus, home: Path) -> None:
    """Stop before the disk runs full, where the corpus' size is known."""
    home.mkdir(parents=True, exist_ok=True)
    if not has_space(corpus, home):
        free = shutil.disk_usage(home).free
        raise SystemExit(f"{free / 1e9:.0f} GB free in {home} are too few for the corpus {corpus.name}")


def machine(work: Path) -> dict:
    """What the figures depend on besides the tools."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    facts = {"processors": os.cpu_count(), "memory_bytes": memory, "kernel": platform.release()}
    return {**facts, "file_system": scenario.file_system_of(work)}


def preamble(results: dict) -> str:
    """The lines above the tables."""
    text = (
        f"{results['runs']} run(s) at scale {results['scale']:g}, {results['processors']} processors, "
        f"{results['memory_bytes'] / 1e9:.0f} GB memory, {results['file_system']}. "
        "Cells: wall s / CPU s / peak memory MB, medians; repository sizes are sums of file sizes; "
        "ratio is Lifeboat to the best peer."
    )
    versions = ", ".join(f"{name}: {version}" for name, version in results["tools"].items() if name != "floor")
    absent = f"\n\nNot installed and left out: {', '.join(results['absent'])}." if results["absent"] else ""
    return f"{text}\n\n{versions}.{absent}"


def section(name: str, measured: dict, processors: int) -> str:
    """One corpus with its table and what went wrong."""
    facts, runs = measured["facts"], measured["runs"]
    size = f" ({facts['files']:,} files, {facts['bytes'] / 1e6:,.0f} MB)" if facts else ""
    floors = {tool.name for tool in tools.ALL if tool.is_floor}
    table = report.table({tool: played for tool, played in runs.items() if played}, floors)
    notes = [report.disturbance(runs, processors), *(f"FAILED {line}" for line in failures_of(measured))]
    return "\n\n".join([f"**{name}**{size}", table, *filter(None, notes)])


def failures_of(measured: dict) -> list[str]:
    """What went wrong on one corpus."""
    return [f"{tool}: {what}" for tool, what in measured["failures"].items()] + report.troubles(measured["runs"])


def document(results: dict) -> str:
    """The whole report."""
    parts = [section(name, measured, results["processors"]) for name, measured in results["corpora"].items()]
    return "\n\n".join([preamble(results), *parts])


def write_results(work: Path, stamp: str, results: dict) -> None:
    """Keep the figures of this run beside those of earlier ones."""
    folder = work / "results"
    folder.mkdir(exist_ok=True)
    (folder / f"{stamp}.json").write_text(json.dumps(results, indent=1))
    (folder / f"{stamp}.md").write_text(document(results) + "\n")


if __name__ == "__main__":
    sys.exit(main())
