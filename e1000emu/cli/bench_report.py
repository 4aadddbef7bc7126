"""`e1000emu bench --report`: one HTML page with figures, nothing to fetch from anywhere.

The figures are matplotlib's, as SVG in the page. Readers know such figures, error bars and
logarithmic axes included, and a page without scripts can be mailed and archived.
"""

from __future__ import annotations

import html
from collections.abc import Iterable
from typing import Any

import e1000emu.cli.bench_figures as figures
from e1000emu.cli.bench import growth_cells, words
from e1000emu.cli.bench_compare import Comparison

STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 76rem; margin: 2rem auto; padding: 0 1rem;
  color: #222; background: #fff }
table { border-collapse: collapse; font-size: 0.85rem; display: block; overflow-x: auto }
td, th { padding: 0.15rem 0.6rem 0.15rem 0; text-align: right; vertical-align: top }
td:first-child, th:first-child, td:last-child, th:last-child { text-align: left }
tr.peer { color: #777 } tr.grows { color: #b30000; font-weight: bold }
svg { max-width: 100%; height: auto } figure { margin: 1.5rem 0 }
"""
BATCH = ("messages of a call",)
GROWING = ("flows", "open connections", "routes", "neighbours")
WIRE = ("loss in per cent", "round-trip time in ms")
LATENCY = ("min", "p1", "p10", "p50", "p90", "p99", "p99_9", "max", "samples")


def page(
    rows: list[dict[str, Any]],
    changes: list[Comparison],
    growths: list[dict[str, Any]],
    machine: dict[str, str],
) -> str:
    """Return the page. Raises E1000Error, naming the remedy, without matplotlib."""
    parts = [
        "<h1>e1000emu bench</h1>",
        f"<p>{html.escape(', '.join(machine.values()))}</p>",
        "<p>Everything is per second of CPU time of the process, user and system. Points are "
        "medians of the rounds, bars reach from the lowest to the highest round. Ours and its "
        "peers (dashed) took turns in each round.</p>",
        *_section("Rate by size", "", figures.families(rows, figures.BYTES)),
        *_section("Rate by batch", "", figures.families(rows, *BATCH)),
        *_latency(rows),
        *_layers(rows),
        *_growth(rows, growths),
        *_section(
            "Over a wire that loses or is long",
            "<p>What a second of CPU time moves; the goodput, which is the virtual clock's and "
            f"depends on the seed alone, is in the table.</p>{_facts(rows, WIRE)}",
            figures.families(rows, *WIRE),
        ),
    ]
    if any(row["ratio"] is not None for row in rows):
        parts += [
            "<h2>Ratio to the peer</h2>",
            "<p>Above 1 ours is better. Each bar is the spread of the rounds' own ratios.</p>",
            _figure(figures.ratios(rows)),
        ]
    if changes:
        parts += [
            "<h2>Against the older run</h2>",
            "<p>Above 1 it is better now; 95 % interval by bootstrap over the rounds.</p>",
            _figure(figures.changed(changes)),
        ]
    parts += ["<h2>Rows</h2>", table(rows)]
    return (
        '<!doctype html>\n<html lang="en"><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>e1000emu bench</title><style>{STYLE}</style>\n" + "\n".join(parts) + "\n</html>\n"
    )


def _figure(text: str) -> str:
    return f"<figure>{text}</figure>"


def _section(title: str, words: str, found: Iterable[list[dict[str, Any]]]) -> list[str]:
    """Return a heading with a figure of each family, nothing without one."""
    drawn = [_figure(figures.over(family)) for family in found]
    return [f"<h2>{title}</h2>", words, *drawn] if drawn else []


def _grid(heads: Iterable[str], lines: Iterable[tuple[str, Iterable[str | None]]]) -> str:
    """Return a table; a line is the class of its row and its cells."""
    out = ["<table><tr>" + "".join(f"<th>{html.escape(head)}</th>" for head in heads) + "</tr>"]
    for kind, cells in lines:
        texts = "".join(f"<td>{html.escape(cell or '')}</td>" for cell in cells)
        out.append((f'<tr class="{kind}">' if kind else "<tr>") + texts + "</tr>")
    return "\n".join(out) + "</table>"


def _kind(row: dict[str, Any]) -> str:
    return "peer" if row["is_peer"] else ""


def _latency(rows: list[dict[str, Any]]) -> list[str]:
    timed = sorted((r for r in rows if r["latency_ns"]), key=lambda r: str(r["group"]))
    if not timed:
        return []
    groups: dict[str, list[dict[str, Any]]] = {}
    for row in timed:
        groups.setdefault(row["group"], []).append(row)
    cells = [
        (
            _kind(row),
            [words(row["name"]), *(f"{row['latency_ns'][mark]:,.0f}" for mark in LATENCY), ""],
        )
        for row in timed
    ]
    return [
        "<h2>Latency of single round trips</h2>",
        "<p>CPU nanoseconds of a request and its answer, both ends and what is between.</p>",
        *(_figure(figures.latency(members)) for members in groups.values()),
        _grid(["row", *(mark.replace("_", ".") for mark in LATENCY), ""], cells),
    ]


def _layers(rows: list[dict[str, Any]]) -> list[str]:
    sampled = [row for row in rows if row["layers_ns"]]
    if not sampled:
        return []
    total = {row["name"]: sum(row["layers_ns"].values()) for row in sampled}
    names = sorted(
        {name for row in sampled for name in row["layers_ns"]},
        key=lambda name: -sum(r["layers_ns"].get(name, 0) / total[r["name"]] for r in sampled),
    )
    cells = [
        (
            "",
            [
                words(row["name"]),
                f"{total[row['name']]:,.0f}",
                *(f"{row['layers_ns'].get(name, 0):,.0f}" for name in names),
                "64 KiB" if row["unit"] == "Gbit/s" else "one",
            ],
        )
        for row in sampled
    ]
    return [
        "<h2>Nanoseconds by layer</h2>",
        "<p>Self time, sampled in a run of its own after the rounds: of one datagram, round trip "
        "or connection, and of 64 KiB of a stream.</p>",
        _figure(figures.layers(sampled)),
        _grid(["row", "in all", *names, "of"], cells),
    ]


def _growth(rows: list[dict[str, Any]], growths: list[dict[str, Any]]) -> list[str]:
    drawn = [_figure(figures.growing(family)) for family in figures.families(rows, *GROWING)]
    if not drawn:
        return []
    cells = [
        (
            "grows" if growth["grows"] else "peer" if growth["is_peer"] else "",
            [*growth_cells(growth, " … "), "grows" if growth["grows"] else ""],
        )
        for growth in growths
    ]
    return [
        "<h2>Growth</h2>",
        "<p>What an operation costs beside many of something, in costs beside the fewest. Flat is "
        "1 throughout; the dotted line is the bound. A row is marked when its cost grows by more "
        "than its peer's growth times the bound.</p>",
        _grid(["row", "from", "to", "slope", "of rounds", "peer", "bound", ""], cells),
        _facts(rows, GROWING),
        *drawn,
    ]


def _facts(rows: list[dict[str, Any]], axes: tuple[str, ...]) -> str:
    """Return the rows' other results as a table; nothing when there are none."""
    found = [row for row in rows if row["facts"] and row["axis"] in axes]
    if not found:
        return ""
    names = list(dict.fromkeys(name for row in found for name in row["facts"]))
    cells = [
        (
            _kind(row),
            [
                words(row["name"]),
                *(f"{row['facts'][n]:,.1f}" if n in row["facts"] else "" for n in names),
            ],
        )
        for row in found
    ]
    return _grid(["row", *(name.replace("_", " ") for name in names)], cells)


def table(rows: list[dict[str, Any]]) -> str:
    """Return the rows as a table."""
    lines = []
    for row in rows:
        ratio = "" if row["ratio"] is None else f"{row['ratio']:.2f}"
        values = (row["value"], min(row["rounds"]), max(row["rounds"]))
        cells = [
            words(row["name"]),
            *(f"{v:,.4g}" for v in values),
            row["unit"],
            ratio,
            row["peer"],
        ]
        lines.append((_kind(row), cells))
    return _grid(["row", "median", "lowest", "highest", "unit", "ratio", "to"], lines)
