"""The figures of `e1000emu bench --report`: matplotlib's, as SVG in the page.

A figure shows one group of rows, ours as lines and its peers dashed, the median of the rounds with
a bar from the lowest to the highest.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from e1000emu.cli.bench import size_words, words
from e1000emu.cli.bench_compare import Comparison
from e1000emu.lab.figures import new_figure, svg

OURS, PEERS, INK = "#1668a8", "#b35806", "#444444"
BYTES = "bytes"
LOGARITHMIC = 20
"""Values that differ by more than this get a logarithmic axis."""


def families(rows: list[dict[str, Any]], *axes: str) -> Iterable[list[dict[str, Any]]]:
    """Yield the rows of each family of groups that has several points of one of `axes`."""
    found: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        if row["axis"] in axes:
            found.setdefault(row["group"].split("[")[0], []).append(row)
    for family in found.values():
        if any(len(points) > 1 for points in lines(family).values()):
            yield family


def lines(rows: list[dict[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    """Return the points of each row in their order."""
    out: dict[str, list[dict[str, Any]]] = {}
    for row in sorted(rows, key=lambda row: row["x"]):
        out.setdefault(row["name"].split("[")[0], []).append(row)
    return out


def _axes(rows: list[dict[str, Any]], axis: Any, label: str) -> None:
    """Give `axis` the points' names below, `label` beside and a legend."""
    points = {row["x"]: size_words(row["size"]) for row in rows}
    # A loss or a round trip of 0 has a place on a logarithmic axis, too.
    smallest = min((x for x in points if x > 0), default=1)
    if 0 in points:
        axis.set_xscale("symlog", linthresh=smallest)
    else:
        axis.set_xscale("log")
    axis.set_xticks(list(points), list(points.values()))
    axis.xaxis.minorticks_off()
    _named(axis, rows[0]["axis"], label, words(rows[0]["group"].split("[")[0]))


def _named(axis: Any, below: str, beside: str, title: str) -> None:
    """Give `axis` its labels, a title, a grid and a legend."""
    axis.set_xlabel(below)
    axis.set_ylabel(beside)
    axis.set_title(title)
    axis.grid(alpha=0.3)
    axis.legend(fontsize="small", loc="center left", bbox_to_anchor=(1.0, 0.5))


def _style(number: int, points: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "color": f"C{number % 10}",
        "linestyle": "--" if points[0]["is_peer"] else "-",
        "marker": "o" if number < 10 else "s",
        "capsize": 3,
    }


def over(rows: list[dict[str, Any]]) -> str:
    """Return a family's values over its axis."""
    figure, (axis,) = new_figure(1, height=4.2)
    for number, (name, points) in enumerate(lines(rows).items()):
        values = [row["value"] for row in points]
        spread = [
            [row["value"] - min(row["rounds"]) for row in points],
            [max(row["rounds"]) - row["value"] for row in points],
        ]
        xs = [row["x"] for row in points]
        axis.errorbar(xs, values, yerr=spread, label=words(name), **_style(number, points))
    medians = [row["value"] for row in rows]
    if max(medians) > LOGARITHMIC * min(medians):
        axis.set_yscale("log")
        axis.yaxis.set_major_formatter("{x:g}")
        axis.grid(which="minor", axis="y", alpha=0.15)
    else:
        axis.set_ylim(bottom=0)
    _axes(rows, axis, rows[0]["unit"])
    return svg(figure)


def growing(rows: list[dict[str, Any]]) -> str:
    """Return each point's cost as a multiple of the first point's; 1 throughout is flat."""
    figure, (axis,) = new_figure(1, height=4.2)
    for number, (name, points) in enumerate(lines(rows).items()):
        first = points[0]["value"]
        costs = [
            row["value"] / first if row["lower_is_better"] else first / row["value"]
            for row in points
        ]
        axis.errorbar(
            [row["x"] for row in points], costs, label=words(name), **_style(number, points)
        )
    bounds = {row["growth"] for row in rows if row["growth"]}
    for bound in bounds:
        axis.axhline(bound, color=INK, linewidth=1, linestyle=":")
    axis.set_ylim(bottom=0)
    _axes(rows, axis, "cost, in costs of the first")
    return svg(figure)


def latency(rows: list[dict[str, Any]]) -> str:
    """Return the distributions of single operations of a group's rows over one axis of time."""
    figure, (axis,) = new_figure(1, height=3.6)
    for number, row in enumerate(rows):
        found = row["latency_ns"]
        shares = [100 * count / found["samples"] for count in found["counts"]]
        axis.stairs(
            shares,
            found["edges_ns"],
            label=words(row["name"]),
            color=f"C{number % 10}",
            linestyle="--" if row["is_peer"] else "-",
        )
        axis.axvline(found["p50"], color=f"C{number % 10}", linewidth=0.8, linestyle=":")
    axis.set_xscale("log")
    below = "CPU nanoseconds of one round trip (dotted: median)"
    _named(axis, below, "% of round trips in a bin", words(rows[0]["group"]))
    return svg(figure)


def layers(rows: list[dict[str, Any]]) -> str:
    """Return the shares by layer of each row that was sampled, its nanoseconds beside its name."""
    figure, (axis,) = new_figure(1, height=1.4 + 0.5 * len(rows))
    names: dict[str, float] = {}
    for row in rows:
        for name, ns in row["layers_ns"].items():
            names[name] = names.get(name, 0) + ns / sum(row["layers_ns"].values())
    at = list(range(len(rows)))[::-1]
    left = [0.0] * len(rows)
    colours = [f"C{n}" for n in range(10)]
    for number, name in enumerate(sorted(names, key=lambda name: -names[name])):
        share = [
            100 * row["layers_ns"].get(name, 0) / sum(row["layers_ns"].values()) for row in rows
        ]
        axis.barh(
            at,
            share,
            left=left,
            label=name,
            color=colours[number % 10],
            hatch="" if number < 10 else "//",
            edgecolor="white",
            linewidth=0.5,
        )
        left = [a + b for a, b in zip(left, share, strict=True)]
    axis.set_yticks(
        at,
        [f"{words(row['name'])}\n{sum(row['layers_ns'].values()):,.0f} ns" for row in rows],
        fontsize="small",
    )
    axis.set_xlim(0, 100)
    axis.set_xlabel("% of the CPU time, by the layer whose function it was spent in")
    axis.legend(fontsize="small", loc="center left", bbox_to_anchor=(1.0, 0.5))
    return svg(figure)


def _whiskers(points: list[tuple[str, float, float, float]], label: str, colour: str) -> str:
    """Return named points with their spread on a logarithmic axis, the first on top."""
    figure, (axis,) = new_figure(1, height=0.9 + 0.26 * len(points))
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
    axis.set_ylim(-0.8, len(points) - 0.2)
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
            f"{words(row['name'])} : {row['peer']}",
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
        points.append(
            (words(change.name), change.ratio, min(low, change.ratio), max(high, change.ratio))
        )
    return _whiskers(points, "now / then", PEERS)
