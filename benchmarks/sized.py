"""Rows as tests of pytest-benchmark: a row's sizes and its group as marks."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import pytest

from .conftest import Measured
from .rows import Row, clock

__all__ = ["sized", "tests_of"]


def sized(row: Row) -> pytest.MarkDecorator:
    """Run a benchmark once for each size of `row`, in a group with its peers of that size."""
    return pytest.mark.parametrize(
        "size",
        [
            pytest.param(
                case.size, id=case.size, marks=pytest.mark.benchmark(group=case.group, timer=clock)
            )
            for case in row.cases()
        ],
    )


def tests_of(rows: Iterable[Row]) -> dict[str, Callable[..., None]]:
    """Return a test for each row by its name; peers that only `--peers` measures have none."""

    def test_of(row: Row) -> Callable[..., None]:
        @sized(row)
        def test(measured: Measured, size: str) -> None:
            measured(row, size)

        test.__name__ = f"bench_{row.name}"
        return test

    return {f"bench_{row.name}": test_of(row) for row in rows if not row.extra}
