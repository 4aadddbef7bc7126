"""Measure cases in turn: a round takes every case of a group, then comes the next round.

What else the machine does hits ours and its peers alike, which is what a ratio needs.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

from . import Case, Unavailable, Work, clock

ROUNDS, QUICK_ROUNDS = 9, 3
ROUND_S, QUICK_ROUND_S = 0.1, 0.015
"""CPU seconds that a round of a case takes at least."""
MAX_LOOPS = 20_000


@dataclass(slots=True)
class Figure:
    """What was found for a case: a value for each round, in the case's unit."""

    case: Case
    rounds: list[float] = field(default_factory=list)

    @property
    def value(self) -> float:
        """The median of the rounds."""
        return statistics.median(self.rounds)


def seconds(work: Work, loops: int) -> float:
    """Return the CPU time of so many runs, preparation excluded."""
    if work.prepare is None:
        run, start = work.run, clock()
        for _ in range(loops):
            run()
        return clock() - start
    total = 0.0
    for _ in range(loops):
        work.prepare()
        start = clock()
        work.run()
        total += clock() - start
    return total


def calibrated(work: Work, round_s: float) -> int:
    """Return how many runs take `round_s`, from a warm one."""
    seconds(work, 1)
    once = seconds(work, 1)
    return max(1, min(MAX_LOOPS, round(round_s / once))) if once > 0 else MAX_LOOPS


def measure_group(
    cases: Iterable[Case],
    rounds: int,
    round_s: float,
    left_out: Callable[[str], object] = lambda reason: None,
) -> list[Figure]:
    """Measure cases of one group, interleaved.

    Those that this machine cannot run are left out, and `left_out` is told why.
    """
    with ExitStack() as stack:
        works: list[tuple[Figure, Work, int]] = []
        for case in cases:
            try:
                work = stack.enter_context(case.start())
            except Unavailable as error:
                left_out(f"without {case.row.name}: {error}")
                continue
            works.append((Figure(case), work, calibrated(work, round_s)))
        for number in range(rounds):
            # Every other round backwards, so that nobody always follows the same neighbour.
            for figure, work, loops in works if number % 2 else reversed(works):
                taken = seconds(work, loops)
                figure.rounds.append(figure.case.unit.value(work.amount * loops, taken))
        return [figure for figure, _, _ in works]


def measure(
    cases: Iterable[Case],
    *,
    quick: bool = False,
    rounds: int | None = None,
    progress: Callable[[str], object] | None = None,
) -> list[dict[str, Any]]:
    """Measure cases group by group and return a row for each, as `e1000emu bench --json` has it.

    `progress` gets a line at the beginning of a group and one for what is left out of it, once.
    """
    groups: dict[str, list[Case]] = {}
    for case in cases:
        groups.setdefault(case.group, []).append(case)
    out: list[dict[str, Any]] = []
    said: set[str] = set()

    def left_out(reason: str) -> None:
        if progress is not None and reason not in said:
            said.add(reason)
            progress(reason)

    for name, members in groups.items():
        if progress is not None:
            progress(f"{name} …")
        count = rounds or (QUICK_ROUNDS if quick else ROUNDS)
        figures = measure_group(members, count, QUICK_ROUND_S if quick else ROUND_S, left_out)
        rival = best_peer(figures)
        out += [as_row(figure, rival) for figure in figures]
    return out


def best_peer(figures: list[Figure]) -> Figure | None:
    """Return the peer that is hardest to beat; None when none could be measured."""
    peers = [f for f in figures if f.case.row.peer is not None and not f.case.row.ceiling]
    return max(peers, key=lambda f: f.case.unit.better(f.value, 1.0), default=None)


def as_row(figure: Figure, rival: Figure | None) -> dict[str, Any]:
    """Return a figure as JSON has it; a ratio above 1 is to the advantage of ours."""
    case, better = figure.case, figure.case.unit.better
    row: dict[str, Any] = {
        "name": case.name,
        "group": case.group,
        "size": case.size,
        "value": figure.value,
        "unit": case.unit.name,
        "lower_is_better": case.unit.inverse,
        "is_peer": case.row.peer is not None,
        "peer": None,
        "peer_value": None,
        "ratio": None,
        "rounds": figure.rounds,
        "peer_rounds": [],
        "ratio_rounds": [],
    }
    if case.row.peer is None and rival is not None:
        row["peer"], row["peer_value"] = rival.case.row.peer, rival.value
        row["ratio"] = better(figure.value, rival.value)
        row["peer_rounds"] = rival.rounds
        row["ratio_rounds"] = [
            better(ours, theirs) for ours, theirs in zip(figure.rounds, rival.rounds, strict=True)
        ]
    return row
