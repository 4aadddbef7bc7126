"""`e1000emu bench`: measure rates and put each beside its peer, measured in the same run.

The rows, and how they are measured, are in `benchmarks/rows`; pytest-benchmark runs the same rows
from `benchmarks/bench_rows.py`.
"""

from __future__ import annotations

import datetime
import importlib
import json
import os
import platform
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import click
from rich.markup import escape
from rich.table import Table

from e1000emu.cli.bench_compare import Comparison, Sample, compare, load
from e1000emu.cli.common import emit_json, report_options
from e1000emu.cli.errors import ArgumentError
from e1000emu.cli.output import console, plain_table
from e1000emu.cli.params import OUT_FILE
from e1000emu.errors import E1000Error

HEADLINE = (
    "device__pair__offload[60B]",
    "device__pair__offload[1514B]",
    "csum__partial__best[1500B]",
    "stack__udp__single[64B]",
    "stack__udp__mmsg[32msgs]",
    "stack__udp__gso[64B]",
    "stack__tcp__bulk[1MiB]",
    "stack__tcp__trip[64B]",
    "stack__tcp__connect[1conns]",
)


def benchmarks(name: str) -> ModuleType:
    """Import one of the project's benchmark modules, from the wheel or from the source tree."""
    try:
        return importlib.import_module(f"e1000emu._benchmarks.{name}")
    except ModuleNotFoundError as error:
        if not (error.name or "").startswith("e1000emu._benchmarks"):
            raise
    root = Path(__file__).resolve().parents[2]
    if not (root / "benchmarks" / "rows").is_dir():
        raise E1000Error(f"bench: {name} is missing from this installation; install the wheel anew")
    if str(root) not in sys.path:
        sys.path.insert(0, str(root))
    return importlib.import_module(f"benchmarks.{name}")


def words(name: str) -> str:
    """Return the name of a row in words, as people read it in a report."""
    said: str = benchmarks("rows").words(name)
    return said


def size_words(size: str) -> str:
    """Return a row's size in words."""
    said: str = benchmarks("rows").size_words(size)
    return said


def rows(
    *,
    quick: bool = False,
    only: str | None = None,
    everything: bool = False,
    rounds: int | None = None,
    progress: Callable[[str], object] | None = None,
    peers: bool = False,
    layers: bool = False,
) -> list[dict[str, Any]]:
    """Measure and return the rows, headline rows first.

    `only` is a part of the names to measure; `everything`, or `only`, adds the rows that are not
    headline. Peers of what is measured are always measured with it, and with `peers` those that
    want root, a package or a program as well. `layers` adds the nanoseconds by layer.
    """
    chosen = [
        case
        for row in benchmarks("rows").every_row()
        if peers or not row.extra or (only is not None and only in row.name)
        for case in row.cases(quick=quick)
    ]
    if only is not None:
        wanted = {case.name for case in chosen if only in case.name or only in words(case.name)}
        if not wanted:
            parts = sorted({case.name.split("__")[0] for case in chosen})
            raise ArgumentError(
                f"--only {only!r}: no row has that in its name; they begin with {', '.join(parts)}"
            )
    else:
        wanted = {case.name for case in chosen if everything or case.name in HEADLINE}
    groups = {case.group for case in chosen if case.name in wanted}
    cases = [
        case
        for case in chosen
        if case.name in wanted or (case.group in groups and case.row.peer is not None)
    ]
    measured: list[dict[str, Any]] = benchmarks("rows.interleave").measure(
        cases, quick=quick, rounds=rounds, progress=progress, layers=layers
    )
    order = {name: i for i, name in enumerate(HEADLINE)}
    return sorted(measured, key=lambda row: order.get(row["name"], len(order)))


def show(value: float) -> str:
    """Return three significant digits, or the whole number with thousands separators."""
    return f"{value:,.0f}" if value >= 1000 else f"{value:.3g}"


def spread(values: list[float], text: Callable[[float], str] = show) -> str:
    """Return the lowest and the highest of the rounds."""
    return f"{text(min(values))}…{text(max(values))}"


def growth_cells(growth: dict[str, Any], to: str) -> list[str]:
    """Return the text on how a cost grows; `to` is put between the lowest and the highest."""
    low, high = growth["slope_rounds"]
    return [
        words(growth["name"]),
        size_words(growth["first"]),
        size_words(growth["last"]),
        f"{growth['slope']:.2f}",
        f"{low:.2f}{to}{high:.2f}",
        f"{growth['peer_slope']:.2f}" if growth["peer_slope"] else "",
        f"{growth['bound']:.1f}" if growth["bound"] else "",
    ]


def growth_table(found: list[dict[str, Any]]) -> Table:
    """Return the table of how costs grow. It fits 80 columns."""
    right = ("slope", "of rounds", "peer", "bound")
    table = plain_table("row", "from", "to", *right, "", right=right, folded="row")
    table.caption_justify = "left"
    table.caption = (
        "cost at the last over cost at the first; GROWS: more than the bound times "
        "the peer's growth"
    )
    for growth in found:
        table.add_row(*growth_cells(growth, "…"), "GROWS" if growth["grows"] else "")
    return table


def rate_table(found: list[dict[str, Any]]) -> Table:
    """Return the table of values and ratios. It fits 80 columns."""
    right = ("value", "ratio", "of rounds")
    table = plain_table(
        "row", "value", "unit", "ratio", "of rounds", "to", right=right, folded="row"
    )
    table.caption, table.caption_justify = "per second of CPU time", "left"
    for row in found:
        ratio, rounds = "", ""
        if row["ratio"] is not None:
            ratio = f"{row['ratio']:.2f}"
            rounds = spread(row["ratio_rounds"], "{:.2f}".format)
        table.add_row(
            words(row["name"]), show(row["value"]), row["unit"], ratio, rounds, row["peer"] or ""
        )
    return table


def comparison_table(found: list[Comparison], old: Path) -> Table:
    """Return the table of `--compare`. It fits 80 columns."""
    right = ("was", "is", "ratio", "interval", "peer")
    table = plain_table("row", "unit", *right, right=right, folded="row")
    table.caption_justify = "left"
    table.caption = (
        f"was: {old}. Medians of the rounds, with lowest and highest; above 1 is better now, 95 % "
        "interval by bootstrap over the rounds of these two runs. 'peer': the same for the ratio "
        "to the peer, which a faster or busier machine does not move."
    )
    for row in found:
        table.add_row(
            words(row.name),
            row.unit,
            f"{show(row.old.median)} {spread(row.old.rounds)}",
            f"{show(row.new.median)} {spread(row.new.rounds)}",
            f"{row.ratio:.2f}",
            "" if row.interval is None else "{:.2f}…{:.2f}".format(*row.interval),
            "" if row.beside_peer is None else f"{row.beside_peer:.2f}",
        )
    return table


def recorded(found: list[dict[str, Any]]) -> str:
    """Return the rows as JSON, with when, where and from which commit they were measured."""
    root = Path(__file__).resolve().parents[2]
    words = ["git", "-C", str(root), "describe", "--always", "--dirty", "--exclude=*"]
    try:
        done = subprocess.run(words, capture_output=True, text=True, check=True)
        commit = done.stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        commit = "no repository"
    head = json.dumps({"machine": machine(), "commit": commit})[:-1]
    rows_text = ",\n".join(json.dumps(row) for row in found)  # a line each, for diffs
    return f'{head}, "rows": [\n{rows_text}\n]}}\n'


def machine() -> dict[str, str]:
    """Return when and on what it is measured."""
    model = platform.processor() or platform.machine()
    try:
        found = re.search(r"^model name\s*: (.*)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
        model = found[1] if found else model
    except OSError:
        pass
    return {
        "when": datetime.datetime.now().astimezone().isoformat(" ", "minutes"),
        "processor": f"{os.cpu_count()} of {model}",
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "system": f"{platform.system()} {platform.release()}",
    }


class OlderRun(click.Path):
    """A file with an older run, read with the arguments, because `-o` may name the same file."""

    name = "OLD.json"

    def __init__(self) -> None:
        super().__init__(exists=True, dir_okay=False, path_type=Path)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return (path, rows by name)."""
        path: Path = super().convert(value, param, ctx)  # type: ignore[assignment]
        return path, load(path)


@click.command()
@click.option(
    "--quick",
    is_flag=True,
    help="Fewer and shorter rounds, fewer sizes: takes seconds, with more noise.",
)
@click.option(
    "--all", "everything", is_flag=True, help="Measure every row, not only the main ones."
)
@click.option(
    "--only",
    metavar="TEXT",
    help="Measure only rows with TEXT in their name (as shown, or as in --json), and their peers.",
)
@click.option(
    "--peers",
    is_flag=True,
    help="Measure also the peers that need root, a package or a program: veth, lwIP, DPDK, PyTCP.",
)
@click.option(
    "--rounds", type=click.IntRange(1), help="How often to measure each row  [default: 5]"
)
@click.option(
    "--compare",
    "older",
    type=OlderRun(),
    help="Compare with a file of --json -o, or of pytest-benchmark.",
)
@click.option(
    "--report",
    type=OUT_FILE,
    help="Write one self-contained HTML page with figures of every row (needs matplotlib).",
)
@click.option(
    "--record",
    type=OUT_FILE,
    help="Write the rows with machine and commit, from which docs/generate.py makes its figures.",
)
@report_options
def command(
    quick: bool,
    everything: bool,
    only: str | None,
    peers: bool,
    rounds: int | None,
    older: tuple[Path, dict[str, Sample]] | None,
    report: Path | None,
    record: Path | None,
    as_json: bool,
) -> None:
    """Measure rates per CPU second, each with the ratio to a peer measured in the same run.

    Ours and the peer take turns, so that other load hits both; a ratio above 1 means that ours is
    better, for times too.
    """
    draw = None if report is None else importlib.import_module("e1000emu.cli.bench_report").page
    progress = console(stderr=True)
    found = rows(
        quick=quick,
        only=only,
        everything=everything or report is not None,
        rounds=rounds,
        progress=lambda line: progress.print(f"[dim]{escape(line)}[/]"),
        peers=peers,
        layers=report is not None or record is not None,
    )
    growths = benchmarks("rows.interleave").growth(found)
    changes = [] if older is None else compare(older[1], found)
    if report is not None and draw is not None:
        report.write_text(draw(found, changes, growths, machine()), encoding="utf-8")
        progress.print(f"{report}: {len(found)} rows")
    if record is not None:
        record.write_text(recorded(found))
        progress.print(f"{record}: {len(found)} rows")
    if as_json:
        by_name = {change.name: change.as_dict() for change in changes}
        for row in found if older is not None else ():
            row["compared"] = by_name.get(row["name"])
        emit_json(found)
        return
    screen = console()
    screen.print(rate_table(found))
    if growths:
        screen.print(growth_table(growths))
    if older is not None and changes:
        screen.print(comparison_table(changes, older[0]))
    elif older is not None:
        screen.print(f"{older[0]}: no row of it was measured now; --all measures every one")
