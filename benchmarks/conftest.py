"""Rows of `rows/` as tests of pytest-benchmark."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from .rows import Row, Unavailable, Work
from .rows.interleave import seconds

Measured = Callable[[Row, str], None]


def rounds_for(work: Work, config: pytest.Config) -> int:
    """Return as many rounds as pytest-benchmark would take if the work needed no preparation."""
    longest = float(config.getoption("benchmark_max_time"))
    fewest: int = config.getoption("benchmark_min_rounds")
    return max(fewest, math.ceil(longest / max(seconds(work, 1), 1e-6)))


@pytest.fixture
def measured(benchmark: BenchmarkFixture, request: pytest.FixtureRequest) -> Measured:
    """Return a function that measures a row at a size.

    A round is one run of the row's work. `extra_info` has its rate per second of CPU time in the
    row's unit, by the median round, and what a run did.
    """

    def run(row: Row, size: str) -> None:
        case = next(c for c in row.cases() if c.size == size)
        try:
            with case.start() as work:
                if work.prepare is None:
                    benchmark(work.run)
                else:
                    rounds = rounds_for(work, request.config)
                    benchmark.pedantic(work.run, setup=work.prepare, rounds=rounds)
                if benchmark.stats is not None:
                    median = statistics.median(benchmark.stats.stats.data)
                    benchmark.extra_info["unit"] = case.unit.name
                    benchmark.extra_info["rate"] = case.unit.value(work.amount, median)
                    benchmark.extra_info["amount"] = work.amount
                    benchmark.extra_info["peer"] = row.peer
        except Unavailable as error:
            benchmark.skipped = True
            pytest.skip(str(error))

    return run
