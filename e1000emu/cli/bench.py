"""`e1000emu bench`: measure rates and put each beside its peer, measured in the same run."""

from __future__ import annotations

import importlib
import json
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import click
from rich.table import Table

from e1000emu.cli.common import console
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
@click.option(
    "--json",
    "json_file",
    type=click.Path(path_type=Path),
    help="Also write the rows here (- = stdout).",
)
@click.option("--only", type=click.Choice(["device", "csum", "stack"]), help="One group alone.")
@click.option("--all", "everything", is_flag=True, help="Show every row, not only the headline.")
def command(quick: bool, json_file: Path | None, only: str | None, everything: bool) -> None:
    """Measure rates per CPU second, each with the ratio to a peer measured in the same run."""
    to_stdout = json_file is not None and str(json_file) == "-"
    if json_file is not None and not to_stdout and not json_file.parent.is_dir():
        raise E1000Error(f"--json {json_file}: {json_file.parent} is not a directory")
    say = None if to_stdout else (lambda name: console.print(f"[dim]{name} …[/]"))
    found = rows(quick=quick, only=only, progress=say)
    text = json.dumps(found, indent=2)
    if to_stdout:
        click.echo(text)
        return
    table = Table(box=None, pad_edge=False)
    for heading, justify in (
        ("", "left"),
        ("value", "right"),
        ("unit", "left"),
        ("ratio", "right"),
    ):
        table.add_column(heading, justify=justify)  # type: ignore[arg-type]
    table.add_column("to")
    for row in found:
        if not everything and row["name"] not in HEADLINE:
            continue
        ratio = "" if row["ratio"] is None else f"{row['ratio']:.2f}"
        table.add_row(row["name"], show(row["value"]), row["unit"], ratio, row["peer"] or "")
    console.print(table)
    if json_file is not None:
        json_file.write_text(text + "\n")
        console.print(f"{json_file}: {len(found)} rows")
