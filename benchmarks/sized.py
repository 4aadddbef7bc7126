"""A row's sizes and group as marks of pytest-benchmark."""

from __future__ import annotations

import pytest

from .rows import Row, clock

__all__ = ["sized"]


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
