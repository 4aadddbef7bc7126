"""The table of goodput: which runs count for a cell, and what a line says of them."""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import Any

import pytest

from benchmarks.bench_goodput import HOSTS, Cell, cell_of, cells_of, quartiles, table


def line(cell: Cell, host: str, rate: float) -> dict[str, Any]:
    return asdict(cell) | {"host": host, "seed": 1, "mbit_s": rate}


def test_a_line_has_both_medians_and_their_ratio() -> None:
    (cell,) = cells_of("loss 5% 100 ms down IPv4", 50_000_000, 4, 0)
    rates = {"linux": (8.0, 2.0, 4.0), "ours": (6.0, 1.0, 3.0)}
    lines = [line(cell, host, rate) for host in HOSTS for rate in rates[host]]
    lines.append(line(replace(cell, rate_bps=0), "ours", 1000.0))
    _, row = table([cell], lines)
    words = row.split()
    assert "4.00" in words
    assert "3.00" in words
    assert words[-2:] == ["3", "0.75"]


def test_a_cell_that_one_host_has_not_run_has_no_line() -> None:
    cells = cells_of("", 0, 1, 1.0)
    assert len(list(table(cells, [line(cells[0], "ours", 1.0)]))) == 1


def test_a_line_of_the_file_names_its_cell() -> None:
    cells = cells_of("", 50_000_000, 4, 0)
    assert len(set(cells)) == len(cells) == 32
    assert [cell_of(line(cell, "ours", 1.0)) for cell in cells] == cells


def test_a_pattern_is_of_what_the_table_shows() -> None:
    shown = [str(cell) for cell in cells_of("corrupt 1% 0 ms up", 0, 1, 1.0)]
    assert [text.split() for text in shown] == [
        ["corrupt", "1%", "0", "ms", "up", family] for family in ("IPv4", "IPv6")
    ]


@pytest.mark.parametrize(
    ("values", "expected"), [([3.0], (3.0, 3.0, 3.0)), ([1.0, 2.0, 3.0, 4.0], (1.75, 2.5, 3.25))]
)
def test_quartiles_of_one_run_and_of_several(
    values: list[float], expected: tuple[float, float, float]
) -> None:
    assert quartiles(values) == pytest.approx(expected, abs=0.26)
