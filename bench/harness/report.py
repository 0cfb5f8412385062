"""Turns the figures of all runs into one Markdown table per corpus.

A cell holds medians over the runs: wall seconds / CPU seconds / peak memory in MB. The last columns
compare Lifeboat with the best peer of the row, which is what the goals are about.
"""

from __future__ import annotations

from collections.abc import Callable
from statistics import median

from scenario import CHECK, FIRST, NO_CHANGE, PRUNE, RESTORE

MB = 1e6
RSS_GOAL_BYTES = 150e6
# Goals as ratios to the best peer of the row; rows that are not named are changes.
GOALS = {FIRST: 0.6, RESTORE: 0.7, CHECK: 0.7, PRUNE: 1.0}
CHANGE_GOAL = 0.3
NEW_BYTES_GOAL = 0.05
REPOSITORY_GOAL = 0.95
NO_CHANGE_GOAL = 1.5
# The kernel's own work for the measured command (writeback, interrupts) stays below this.
DISTURBED_SHARE = 0.08

# corpus → tool → row → figure → median
Medians = dict[str, dict[str, dict[str, float]]]


def medians(runs: dict[str, list[dict[str, dict]]]) -> Medians:
    """Medians per tool, row and figure over the runs."""
    result: Medians = {}
    for tool, played in runs.items():
        rows: dict[str, dict[str, float]] = {}
        for row in {name: None for run in played for name in run}:
            figures = [run[row] for run in played if row in run]
            keys = [key for key, value in figures[0].items() if isinstance(value, int | float)]
            rows[row] = {key: median(f[key] for f in figures) for key in keys}
        result[tool] = rows
    return result


def table(runs: dict[str, list[dict[str, dict]]], floors: set[str], ours: str = "lifeboat") -> str:
    """The Markdown table of one corpus."""
    values = medians(runs)
    tools = list(values)
    lines = [
        "| | " + " | ".join(tools) + " | best peer | ratio | goal |",
        "|---" * (len(tools) + 4) + "|",
    ]
    rows = list({row: None for tool in tools for row in values[tool]})
    for row in sorted(rows, key=lambda r: (r in (RESTORE, CHECK, PRUNE), rows.index(r))):
        lines.append(time_line(values, row, floors, ours))
        if row == PRUNE:
            lines.append(bytes_line(values, row, "repository_bytes", "… repository after it, MB", floors, ours, None))
        if row not in (FIRST, NO_CHANGE, RESTORE, CHECK, PRUNE):
            goal = NEW_BYTES_GOAL if "update" in row else None
            lines.append(bytes_line(values, row, "new_bytes", "… new repository bytes, MB", floors, ours, goal))
    title = "repository after the first, MB"
    lines.append(bytes_line(values, FIRST, "repository_bytes", title, floors, ours, REPOSITORY_GOAL))
    lines.append(memory_line(values, ours))
    return "\n".join(lines)


def time_line(values: Medians, row: str, floors: set[str], ours: str) -> str:
    """Wall / CPU / memory of one row; the ratio is of wall times."""
    best, ratio = against_best(values, row, "wall_seconds", floors, ours)
    goal = f"≤ {GOALS.get(row, CHANGE_GOAL):g}"
    if row == NO_CHANGE:
        floor = next((values[f][row]["wall_seconds"] for f in floors if row in values.get(f, {})), None)
        mine = values.get(ours, {}).get(row, {}).get("wall_seconds")
        shown = f": {mine / floor:.2f}" if floor and mine else ""
        goal = f"≤ {NO_CHANGE_GOAL:g} × floor{shown}"
    cells = cells_of(values, row, best, lambda f: three(f) if "wall_seconds" in f else "")
    return f"| {row} | {cells} | {best or ''} | {ratio} | {goal} |"


def bytes_line(
    values: Medians, row: str, key: str, title: str, floors: set[str], ours: str, goal: float | None
) -> str:
    """One figure in MB."""
    # An archive written anew has no meaningful growth.
    without = floors | ({"tar-zstd"} if key == "new_bytes" else set())
    best, ratio = against_best(values, row, key, without, ours)
    shown = {tool: rows for tool, rows in values.items() if tool not in without}
    cells = cells_of({**{t: {} for t in values}, **shown}, row, best, lambda f: f"{f[key] / MB:.1f}" if key in f else "")
    return f"| {title} | {cells} | {best or ''} | {ratio} | {f'≤ {goal:g}' if goal else ''} |"


def memory_line(values: Medians, ours: str) -> str:
    """The largest peak memory of all steps."""
    peaks = {tool: max((f["rss_bytes"] for f in rows.values()), default=0) for tool, rows in values.items()}
    cells = " | ".join(f"{peak / MB:.0f}" if peak else "" for peak in peaks.values())
    mine = f"{peaks[ours] / RSS_GOAL_BYTES:.2f}" if peaks.get(ours) else ""
    return f"| peak memory of all steps, MB | {cells} | | {mine} | ≤ {RSS_GOAL_BYTES / MB:.0f} MB |"


def against_best(values: Medians, row: str, key: str, without: set[str], ours: str) -> tuple[str | None, str]:
    """The best peer of a row by `key`, and our ratio to it."""
    peers = {
        tool: rows[row][key]
        for tool, rows in values.items()
        if tool not in without and not tool.startswith("lifeboat") and key in rows.get(row, {})
    }
    best = min(peers, key=peers.__getitem__, default=None)
    mine = values.get(ours, {}).get(row, {}).get(key)
    if best is None or mine is None or not peers[best]:
        return best, ""
    return best, f"{mine / peers[best]:.2f}"


def cells_of(values: Medians, row: str, best: str | None, show: Callable[[dict[str, float]], str]) -> str:
    """The cells of a row, the best peer's in bold."""
    shown = {tool: show(rows[row]) if row in rows else "" for tool, rows in values.items()}
    return " | ".join(f"**{text}**" if tool == best and text else text for tool, text in shown.items())


def three(figures: dict[str, float]) -> str:
    """Wall / CPU / memory."""
    wall, cpu = figures["wall_seconds"], figures["cpu_seconds"]
    return f"{seconds(wall)}/{seconds(cpu)}/{figures['rss_bytes'] / MB:.0f}"


def seconds(value: float) -> str:
    """Seconds with as many digits as mean something."""
    return f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def disturbance(runs: dict[str, list[dict[str, dict]]], processors: int) -> str:
    """A line on how much of the machine other processes used meanwhile; empty if hardly any."""
    steps = [figures for played in runs.values() for run in played for figures in run.values()]
    available = sum(step["wall_seconds"] for step in steps) * processors
    share = sum(step["others_cpu_seconds"] for step in steps) / available if available else 0
    if share < DISTURBED_SHARE:
        return ""
    return f"Other processes used {share:.0%} of the processors during the measured commands: repeat on an idle machine."


def troubles(runs: dict[str, list[dict[str, dict]]]) -> list[str]:
    """Restores that were not equal to the corpus."""
    return [
        f"{tool}: restored differently: {'; '.join(run[row]['differences'])}"
        for tool, played in runs.items()
        for run in played
        for row in (RESTORE, PRUNE)
        if run.get(row, {}).get("differences")
    ]
