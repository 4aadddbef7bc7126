"""`e1000emu bench`: measure rates and put each beside its peer, measured in the same run."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import click

from e1000emu.cli.common import emit_json, report_options
from e1000emu.cli.output import console, plain_table
from e1000emu.errors import E1000Error

__all__ = ["HEADLINE", "command", "rows"]

MODULES = ("bench_device", "bench_csum", "bench_stack")
HEADLINE = ("device_pair_60B", "device_pair_1514B", "csum_1500B", "udp_64B_single", "tcp_bulk")


def _module(name: str) -> ModuleType:
    """Import one of the project's benchmarks, from the wheel or from the source tree."""
    try:
        return importlib.import_module(f"e1000emu._benchmarks.{name}")
    except ModuleNotFoundError as error:
        if not (error.name or "").startswith("e1000emu._benchmarks"):
            raise
    root = Path(__file__).resolve().parents[2]
    if not (root / "benchmarks" / f"{name}.py").is_file():
        raise E1000Error(f"bench: {name} is missing from this installation; install the wheel anew")
    if str(root) not in sys.path:
        sys.path.insert(0, str(root))
    return importlib.import_module(f"benchmarks.{name}")


def rows(*, quick: bool, only: str | None = None, progress: Any = None) -> list[dict[str, Any]]:
    """Measure and return the rows, headline rows first."""
    out: list[dict[str, Any]] = []
    for name in MODULES:
        if only is not None and only not in name:
            continue
        if progress is not None:
            progress(name)
        out += _module(name).collect(quick=quick)
    order = {name: i for i, name in enumerate(HEADLINE)}
    return sorted(out, key=lambda row: order.get(row["name"], len(order)))


def show(value: float) -> str:
    """Return four significant digits with thousands separators."""
    return f"{value:,.0f}" if value >= 10000 else f"{value:,.4g}"


@click.command()
@click.option(
    "--quick", is_flag=True, help="Fewer rounds: a minute becomes seconds, noise doubles."
)
@click.option("--only", type=click.Choice(["device", "csum", "stack"]), help="One group alone.")
@click.option("--all", "everything", is_flag=True, help="Show every row, not only the headline.")
@report_options
def command(quick: bool, only: str | None, everything: bool, as_json: bool) -> None:
    """Measure rates per CPU second, each with the ratio to a peer measured in the same run."""
    progress = console(stderr=True)
    found = rows(quick=quick, only=only, progress=lambda name: progress.print(f"[dim]{name} …[/]"))
    if as_json:
        emit_json(found)
        return
    table = plain_table("", "value", "unit", "ratio", "to", right=("value", "ratio"), folded="to")
    for row in found:
        if not everything and row["name"] not in HEADLINE:
            continue
        ratio = "" if row["ratio"] is None else f"{row['ratio']:.2f}"
        table.add_row(row["name"], show(row["value"]), row["unit"], ratio, row["peer"] or "")
    console().print(table)
