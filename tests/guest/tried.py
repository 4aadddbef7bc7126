"""Record of tried drivers: each passing guest test adds to it, and docs/tried.md is made of it.

`E1000EMU_TRIED=1 make test-guest` writes the passed tests to docs/tried.json; without the variable
nothing is written.
"""

from __future__ import annotations

import fcntl
import json
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple, Protocol

TRIED = Path(__file__).parents[2] / "docs" / "tried.json"
VARIABLE = "E1000EMU_TRIED"


class Trial(NamedTuple):
    """A foreign driver that has worked."""

    driver: str
    version: str
    architecture: str
    """Debian's name."""
    model: str
    what: str
    """The tested operation."""
    result: str
    test: str
    """The test."""


class Tried(Protocol):
    """Call it at the end of a test, if it has passed."""

    def __call__(
        self,
        driver: str,
        version: str,
        architecture: str,
        model: str,
        what: str,
        result: str = "works",
    ) -> None: ...


def store(trials: Iterable[Trial], path: Path = TRIED) -> None:
    """Put `trials` into the file; replaces earlier results of the same test and model."""
    with path.open("a+") as file:
        fcntl.flock(file, fcntl.LOCK_EX)  # another worker of pytest-xdist may use it
        file.seek(0)
        rows = {(row["test"], row["model"]): row for row in json.loads(file.read() or "[]")}
        rows |= {(trial.test, trial.model): trial._asdict() for trial in trials}
        found = sorted(rows.values(), key=lambda row: [row[name] for name in Trial._fields])
        file.truncate(0)
        file.write(json.dumps(found, indent=1) + "\n")
