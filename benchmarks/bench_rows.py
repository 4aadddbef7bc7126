"""The rows of `rows/` as tests of pytest-benchmark: a row's sizes and its group as marks."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from .conftest import Measured
from .rows import Row, clock, every_row


def test_of(row: Row) -> Callable[..., None]:
    """Return a test that runs once for each size of `row`, in a group with its peers of that
    size."""

    @pytest.mark.parametrize(
        "size",
        [
            pytest.param(
                case.size, id=case.size, marks=pytest.mark.benchmark(group=case.group, timer=clock)
            )
            for case in row.cases()
        ],
    )
    def test(measured: Measured, size: str) -> None:
        measured(row, size)

    test.__name__ = f"bench_{row.name}"
    return test


# Peers that only `--peers` measures have no test.
globals().update((f"bench_{row.name}", test_of(row)) for row in every_row() if not row.extra)
