"""Two runs of the benchmarks side by side: medians, spread, and a ratio with an interval."""

from __future__ import annotations

import json
import statistics
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from e1000emu.cli.errors import ArgumentError

RESAMPLES = 4000
CONFIDENCE = 0.95
PREFIX = "bench_"


@dataclass(frozen=True, slots=True)
class Sample:
    """The rounds of one row in one run, in its unit, and its ratio to its peer if it has one."""

    unit: str
    lower_is_better: bool
    rounds: list[float]
    ratio: float | None = None

    @property
    def median(self) -> float:
        """The middle round."""
        return statistics.median(self.rounds)

    @property
    def iqr(self) -> float:
        """Distance of the quartiles; 0 with fewer than two rounds."""
        if len(self.rounds) < 2:
            return 0.0
        low, _, high = statistics.quantiles(self.rounds, n=4, method="inclusive")
        return high - low

    def as_dict(self) -> dict[str, float]:
        """Return what a table needs of it."""
        return {
            "median": self.median,
            "min": min(self.rounds),
            "max": max(self.rounds),
            "iqr": self.iqr,
        }


@dataclass(frozen=True, slots=True)
class Comparison:
    """One row in both runs. `ratio` above 1: better now. `beside_peer`: the same of the ratios to
    the peer, None without one."""

    name: str
    unit: str
    old: Sample
    new: Sample
    ratio: float
    interval: tuple[float, float] | None
    beside_peer: float | None

    def as_dict(self) -> dict[str, Any]:
        """Return it as JSON has it."""
        return {
            "old": self.old.as_dict(),
            "new": self.new.as_dict(),
            "ratio": self.ratio,
            "interval": self.interval,
            "beside_peer": self.beside_peer,
        }


def load(path: Path) -> dict[str, Sample]:
    """Read what `bench --json -o` or --record, or pytest-benchmark's -json or -save, wrote.

    Raises ArgumentError for any other file.
    """
    try:
        document = json.loads(path.read_text())
    except (ValueError, UnicodeDecodeError) as error:
        raise ArgumentError(
            f"--compare {path}: not JSON ({error}); give a file of bench --json -o"
        ) from None
    try:
        if isinstance(document, dict) and "rows" in document:
            found = samples(document["rows"])
        elif isinstance(document, dict):
            found = _of_pytest_benchmark(document["benchmarks"])
        else:
            found = samples(document)
    except (KeyError, TypeError, AttributeError, ZeroDivisionError) as error:
        raise ArgumentError(
            f"--compare {path}: no rounds of a benchmark in it ({type(error).__name__}: {error}); "
            "give a file of bench --json -o or of pytest-benchmark"
        ) from None
    if not found:
        raise ArgumentError(f"--compare {path}: holds no rows")
    return found


def samples(rows: list[dict[str, Any]]) -> dict[str, Sample]:
    """Return the rows of a run by name."""
    return {
        row["name"]: Sample(row["unit"], row["lower_is_better"], row["rounds"], row["ratio"])
        for row in rows
    }


def _of_pytest_benchmark(entries: list[dict[str, Any]]) -> dict[str, Sample]:
    """Without --benchmark-save-data there are no rounds; lowest, median and highest take their
    place."""
    out: dict[str, Sample] = {}
    for entry in entries:
        stats, extra = entry["stats"], entry["extra_info"]
        unit, inverse = extra["unit"], extra["unit"] == "ns"
        # rate * median is the amount of a round in the unit, value * amount its time
        scale = extra["rate"] / stats["median"] if inverse else extra["rate"] * stats["median"]
        times = stats.get("data") or [stats["min"], stats["median"], stats["max"]]
        values = [t * scale if inverse else scale / t for t in times]
        out[entry["name"].removeprefix(PREFIX)] = Sample(unit, inverse, values)
    return out


def compare(old: dict[str, Sample], rows: list[dict[str, Any]]) -> list[Comparison]:
    """Return the rows that both runs have, in the order of the new one."""
    out = []
    for name, new in samples(rows).items():
        was = old.get(name)
        if was is None or was.unit != new.unit:
            continue
        ratio = new.median / was.median
        low_high = interval(was.rounds, new.rounds)
        if new.lower_is_better:
            ratio = 1 / ratio
            low_high = None if low_high is None else (1 / low_high[1], 1 / low_high[0])
        beside = None if was.ratio is None or new.ratio is None else new.ratio / was.ratio
        out.append(Comparison(name, new.unit, was, new, ratio, low_high, beside))
    return out


def interval(old: list[float], new: list[float]) -> tuple[float, float] | None:
    """Return the bootstrap interval of median(new) / median(old); None below three rounds each.

    It covers variation between rounds, not between runs (load of a shared machine, layout of
    memory).
    """
    if min(len(old), len(new)) < 3:
        return None
    rng = np.random.default_rng(0)
    medians = [
        np.median(rng.choice(np.asarray(rounds), (RESAMPLES, len(rounds))), axis=1)
        for rounds in (old, new)
    ]
    tail = 100 * (1 - CONFIDENCE) / 2
    low, high = np.percentile(medians[1] / medians[0], [tail, 100 - tail])
    return float(low), float(high)
