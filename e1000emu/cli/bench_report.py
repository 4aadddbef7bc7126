"""`e1000emu bench --report`: one HTML page with figures, nothing to fetch from anywhere.

The figures are matplotlib's, as SVG in the page. Whoever measures knows them, error bars and
logarithmic axes included, and a page without scripts can be mailed and archived.
"""

from __future__ import annotations

import datetime
import html
import platform
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from e1000emu.cli.bench_compare import Comparison
from e1000emu.figures import new_figure, svg

__all__ = ["page"]

OURS, PEERS, INK = "#1668a8", "#b35806", "#444444"
STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem;
  color: #222; background: #fff }
table { border-collapse: collapse; font-size: 0.85rem; display: block; overflow-x: auto }
td, th { padding: 0.15rem 0.7rem 0.15rem 0; text-align: right; white-space: nowrap }
td:first-child, th:first-child, td:last-child, th:last-child { text-align: left }
tr.peer { color: #777 } svg { max-width: 100%; height: auto } figure { margin: 1.5rem 0 }
"""


def page(rows: list[dict[str, Any]], changes: list[Comparison]) -> str:
    """Return the page. Raises E1000Error, naming the remedy, without matplotlib."""
    parts = [
        "<h1>e1000emu bench</h1>",
        f"<p>{html.escape(machine())}</p>",
        "<p>Everything is per second of CPU time of the process, user and system. Points are "
        "medians of the rounds, bars reach from the lowest to the highest round. Ours and its "
        "peers took turns in each round.</p>",
        "<h2>Rate by size</h2>",
        *(_figure(rate_by_size(group)) for group in with_sizes(rows)),
        "<h2>Ratio to the peer</h2>",
        "<p>Above 1 ours is better. Each bar is the spread of the rounds' own ratios.</p>",
        _figure(ratios(rows)),
    ]
    if changes:
        parts += [
            "<h2>Against the older run</h2>",
            "<p>Above 1 it is better now; 95 % interval by bootstrap over the rounds.</p>",
            _figure(changed(changes)),
        ]
    parts += ["<h2>Rows</h2>", table(rows)]
    return (
        '<!doctype html>\n<html lang="en"><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>e1000emu bench</title><style>{STYLE}</style>\n" + "\n".join(parts) + "\n</html>\n"
    )


def machine() -> str:
    """Return when and on what it was measured, in one line."""
    model = platform.processor() or platform.machine()
    try:
        found = re.search(r"^model name\s*: (.*)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
        model = found[1] if found else model
    except OSError:
        pass
    when = datetime.datetime.now().astimezone().isoformat(" ", "minutes")
    return (
        f"{when}: {model}, {platform.python_implementation()} {platform.python_version()}, "
        f"{platform.system()} {platform.release()}"
    )


def _figure(text: str) -> str:
    return f"<figure>{text}</figure>"


def with_sizes(rows: list[dict[str, Any]]) -> Iterable[list[dict[str, Any]]]:
    """Yield the rows of each family of groups that was measured at several sizes."""
    families: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        families.setdefault(row["group"].split("[")[0], []).append(row)
    for family in families.values():
        if len({row["size"] for row in family}) > 1:
            yield family


def in_bytes(size: str) -> int:
    """Return 60B, 64KiB, 256MiB as a number."""
    number, unit = re.fullmatch(r"(\d+)(\D+)", size).groups()  # type: ignore[union-attr]
    return int(number) * {"B": 1, "KiB": 1 << 10, "MiB": 1 << 20}[unit]


def rate_by_size(rows: list[dict[str, Any]]) -> str:
    """Return a family of groups as lines over the size, peers dashed."""
    figure, axes = new_figure(1, height=4.2)
    (axis,) = axes
    lines: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        lines.setdefault(row["name"].split("[")[0], []).append(row)
    for number, (name, points) in enumerate(lines.items()):
        points.sort(key=lambda row: in_bytes(row["size"]))
        values = [row["value"] for row in points]
        low = [row["value"] - min(row["rounds"]) for row in points]
        high = [max(row["rounds"]) - row["value"] for row in points]
        axis.errorbar(
            [in_bytes(row["size"]) for row in points],
            values,
            yerr=[low, high],
            label=name,
            color=f"C{number % 10}",
            linestyle="--" if points[0]["is_peer"] else "-",
            marker="o",
            capsize=3,
        )
    sizes = sorted({row["size"] for row in rows}, key=in_bytes)
    axis.set_xscale("log")
    axis.set_xticks([in_bytes(size) for size in sizes], sizes)
    axis.minorticks_off()
    axis.set_ylim(bottom=0)
    axis.set_ylabel(rows[0]["unit"])
    axis.set_title(rows[0]["group"].split("[")[0])
    axis.grid(alpha=0.3)
    axis.legend(fontsize="small", loc="center left", bbox_to_anchor=(1.0, 0.5))
    return svg(figure)


def _whiskers(points: list[tuple[str, float, float, float]], label: str, colour: str) -> str:
    """Return named points with their spread on a logarithmic axis, the first on top."""
    figure, axes = new_figure(1, height=0.9 + 0.26 * len(points))
    (axis,) = axes
    at = range(len(points))[::-1]
    middle = [point[1] for point in points]
    axis.errorbar(
        middle,
        list(at),
        xerr=[[p[1] - p[2] for p in points], [p[3] - p[1] for p in points]],
        fmt="o",
        color=colour,
        capsize=3,
    )
    axis.axvline(1, color=INK, linewidth=1)
    axis.set_yticks(list(at), [point[0] for point in points])
    if max(middle) > 3 * min(middle):
        axis.set_xscale("log")
        axis.xaxis.set_major_formatter("{x:g}")
    axis.set_xlabel(label)
    axis.grid(axis="x", alpha=0.3)
    return svg(figure)


def ratios(rows: list[dict[str, Any]]) -> str:
    """Return every row's ratio to its peer."""
    points = [
        (
            f"{row['name']} : {row['peer']}",
            row["ratio"],
            min(*row["ratio_rounds"], row["ratio"]),
            max(*row["ratio_rounds"], row["ratio"]),
        )
        for row in rows
        if row["ratio"] is not None
    ]
    return _whiskers(points, "ratio to the peer", OURS)


def changed(changes: list[Comparison]) -> str:
    """Return every row's ratio to the older run."""
    points = []
    for change in changes:
        low, high = change.interval or (change.ratio, change.ratio)
        points.append((change.name, change.ratio, min(low, change.ratio), max(high, change.ratio)))
    return _whiskers(points, "now / then", PEERS)


def table(rows: list[dict[str, Any]]) -> str:
    """Return the rows as a table."""
    out = [
        "<table><tr><th>row</th><th>median</th><th>lowest</th><th>highest</th><th>unit</th>"
        "<th>ratio</th><th>to</th></tr>"
    ]
    for row in rows:
        ratio = "" if row["ratio"] is None else f"{row['ratio']:.2f}"
        figures = (row["value"], min(row["rounds"]), max(row["rounds"]))
        cells = [row["name"], *(f"{v:,.4g}" for v in figures), row["unit"], ratio, row["peer"]]
        kind = ' class="peer"' if row["is_peer"] else ""
        texts = "".join(f"<td>{html.escape(cell or '')}</td>" for cell in cells)
        out.append(f"<tr{kind}>{texts}</tr>")
    return "\n".join(out) + "</table>"
