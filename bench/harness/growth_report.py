"""Tables and a plot of growth: Markdown, and an SVG that needs no library."""

from __future__ import annotations

import math

MB = 1e6
FILE_ROWS = ["walk", "no change", "first backup", "check", "check, all data", "restore"]
COLOURS = {
    "walk": "#888888", "no change": "#1b7837", "first backup": "#2166ac", "check": "#e08214",
    "check, all data": "#b2182b", "restore": "#762a83",
    "cache rebuilt": "#2166ac", "backup, warm": "#1b7837", "ls, warm": "#e08214",
}
CHUNK_ROWS = ["cache rebuilt", "backup, warm", "ls, warm", "check"]
WIDTH, HEIGHT, MARGIN = 460, 320, 60


def tables(results: dict[str, dict]) -> str:
    """Both tables as Markdown; what was not measured is left out."""
    parts = []
    if results["files"]:
        parts.append(file_table(ordered(results["files"])))
    if results["chunks"]:
        parts.append(chunk_table(ordered(results["chunks"])))
    return "\n\n".join(parts)


def ordered(rows: dict[str, dict]) -> list[tuple[int, dict]]:
    """The rows by number."""
    return sorted((int(count), row) for count, row in rows.items())


def file_table(rows: list[tuple[int, dict]]) -> str:
    """One line a step, one column a number of files."""
    lines = ["| files | " + " | ".join(f"{count:,}" for count, _ in rows) + " |", "|---|" + "---|" * len(rows)]
    for name in FILE_ROWS:
        lines.append(f"| {title(name)} | " + " | ".join(cell(row.get(name)) for _, row in rows) + " |")
    ratios = (row["no change"]["wall_seconds"] / row["walk"]["wall_seconds"] for _, row in rows)
    lines.append("| no change ÷ walk | " + " | ".join(f"{ratio:.2f}" for ratio in ratios) + " |")
    stored = (row["repository"] for _, row in rows)
    lines.append("| repository, MB (objects) | " + " | ".join(f"{r['bytes'] / MB:.1f} ({r['objects']})" for r in stored) + " |")
    return "\n".join(lines)


def chunk_table(rows: list[tuple[int, dict]]) -> str:
    """One line a figure, one column a number of chunks."""
    lines = ["| chunks | " + " | ".join(f"{count:,}" for count, _ in rows) + " |", "|---|" + "---|" * len(rows)]

    def line(name: str, figure) -> None:
        lines.append(f"| {name} | " + " | ".join(figure(row) for _, row in rows) + " |")

    line("packs; shards named by", lambda row: f"{row['made']['packs']:,}; {row['made']['shards']:,}")
    line("plain data they stand for, GB", lambda row: f"{row['made']['plain_bytes'] / 1e9:,.0f}")
    line("shards; local index, MB", lambda row: f"{row['made']['shard_bytes'] / MB:,.0f}; {row['cache']['bytes'] / MB:,.0f}")
    for name in CHUNK_ROWS:
        line(title(name), lambda row, name=name: cell(row[name]))
    line("opening, ms", lambda row: f"{row['lookups']['open_seconds'] * 1e3:.0f}")
    for name in ("present", "absent"):
        line(f"look-ups a second, {name}", lambda row, name=name: f"{row['lookups'][name + '_per_second'] / 1e6:.2f} M")
    line("memory after them, MB: own / with files", lambda row: memory(row["lookups"], "resident_bytes"))
    return "\n".join(lines)


def title(name: str) -> str:
    """What a row is called in the table."""
    return {"walk": "walk (`find -printf`)", "cache rebuilt": "backup of 10 files, local index made anew",
            "backup, warm": "backup of 10 files, warm", "ls, warm": "`ls latest`, warm"}.get(name, name)


def cell(row: dict | None) -> str:
    """Wall and CPU seconds, own memory and all memory in MB."""
    if row is None:
        return "–"
    return f"{row['wall_seconds']:.2f} / {row['cpu_seconds']:.2f} / {memory(row, 'rss_bytes')}"


def memory(row: dict, resident: str) -> str:
    """Own memory and all memory in MB."""
    return f"{row['own_bytes'] / MB:.0f} / {row[resident] / MB:.0f}"


def plot(results: dict[str, dict]) -> str:
    """An SVG: seconds and memory over files and over chunks, all on logarithmic scales."""
    panels = []
    for kind, names in (("files", FILE_ROWS), ("chunks", CHUNK_ROWS)):
        rows = ordered(results[kind])
        if rows:
            panels.append(panel(f"seconds over {kind}", lines_of(rows, names, "wall_seconds", 1)))
            panels.append(panel(f"peak resident memory in MB over {kind}", lines_of(rows, names, "rss_bytes", MB)))
            panels.append(panel(f"peak own memory in MB over {kind}", lines_of(rows, names, "own_bytes", MB)))
    columns = 3
    height = math.ceil(len(panels) / columns) * (HEIGHT + 20)
    placed = (
        f'<g transform="translate({at % columns * WIDTH},{at // columns * (HEIGHT + 20)})">{panel}</g>'
        for at, panel in enumerate(panels)
    )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH * columns} {height}" font-family="sans-serif" '
        f'font-size="12"><rect width="100%" height="100%" fill="white"/>{"".join(placed)}</svg>\n'
    )


def lines_of(rows: list[tuple[int, dict]], names: list[str], figure: str, unit: float) -> dict[str, list]:
    """The points of each step that was measured."""
    lines = {}
    for name in names:
        points = [(count, row[name][figure] / unit) for count, row in rows if name in row]
        lines[name] = [(x, y) for x, y in points if y > 0]
    return {name: points for name, points in lines.items() if points}


def panel(heading: str, lines: dict[str, list]) -> str:
    """One diagram."""
    everything = [point for points in lines.values() for point in points]
    x_low, x_high = decades([x for x, _ in everything])
    y_low, y_high = decades([y for _, y in everything])
    right, bottom = WIDTH - 120, HEIGHT - 40

    def at(x: float, y: float) -> tuple[float, float]:
        across = (math.log10(x) - x_low) / (x_high - x_low)
        up = (math.log10(y) - y_low) / (y_high - y_low)
        return MARGIN + across * (right - MARGIN), bottom - up * (bottom - 30)

    parts = [f'<text x="{MARGIN}" y="18" font-weight="bold">{heading}</text>']
    for decade in range(x_low, x_high + 1):
        x, _ = at(10**decade, 10**y_low)
        parts.append(f'<path d="M{x:.1f} 30V{bottom}" stroke="#dddddd"/>')
        parts.append(f'<text x="{x:.1f}" y="{bottom + 16}" text-anchor="middle">{power(decade)}</text>')
    for decade in range(y_low, y_high + 1):
        _, y = at(10**x_low, 10**decade)
        parts.append(f'<path d="M{MARGIN} {y:.1f}H{right}" stroke="#dddddd"/>')
        parts.append(f'<text x="{MARGIN - 6}" y="{y + 4:.1f}" text-anchor="end">{10.0**decade:g}</text>')
    label_y = 0.0
    for name, points in sorted(lines.items(), key=lambda line: -line[1][-1][1]):
        placed = [at(x, y) for x, y in points]
        path = "L".join(f"{x:.1f} {y:.1f}" for x, y in placed)
        parts.append(f'<path d="M{path}" fill="none" stroke="{COLOURS[name]}" stroke-width="2"/>')
        parts += [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{COLOURS[name]}"/>' for x, y in placed]
        # Labels of lines that end at the same height stand one below the other.
        label_y = max(label_y + 14, placed[-1][1] + 4)
        parts.append(f'<text x="{right + 8}" y="{label_y:.1f}" fill="{COLOURS[name]}">{name}</text>')
    return "".join(parts)


def decades(values: list[float]) -> tuple[int, int]:
    """Powers of ten below and above all values."""
    low, high = math.floor(math.log10(min(values))), math.ceil(math.log10(max(values)))
    return low, max(high, low + 1)


def power(decade: int) -> str:
    """A power of ten as SVG text."""
    return f'10<tspan dy="-5" font-size="9">{decade}</tspan>'
