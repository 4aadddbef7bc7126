"""Measure cases in turn: a round takes every case of a group, then comes the next round.

Other load on the machine then slows ours and its peers alike, so that ratios are fair. Rows that
look for growth measure all sizes in turn as well.
"""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from stack.tools.profile import Profile

from . import AXES, Case, Unavailable, Work, clock, number, point, words

ROUNDS = 5
ROUND_S, QUICK_ROUND_S = 0.1, 0.015
"""CPU seconds that a round of a case takes at least."""
START_S = 0.4
"""What it takes about to set a case up and to find out how often it fits into a round."""
MAX_LOOPS = 20_000
LAYERS_S = 1.0
"""CPU seconds that a layered row is sampled for."""
BYTE_UNITS, LAYERS_BYTES = ("Gbit/s", "GB/s"), 1 << 16
PERCENTILES = {"p1": 1, "p10": 10, "p50": 50, "p90": 90, "p99": 99, "p99_9": 99.9}
BINS = 60


@dataclass(slots=True)
class Figure:
    """The result of a case: a value for each round, in the case's unit."""

    case: Case
    rounds: list[float] = field(default_factory=list)
    facts: dict[str, float] = field(default_factory=dict)
    """What else the work found."""
    latency_ns: dict[str, Any] | None = None
    """Percentiles and a histogram of single operations."""
    layers_ns: dict[str, float] | None = None
    """CPU nanoseconds by layer, of one operation or, where bytes are counted, of 64 KiB."""

    @property
    def value(self) -> float:
        """The median of the rounds."""
        return statistics.median(self.rounds)


def seconds(work: Work, loops: int) -> float:
    """Return the CPU time of so many runs, preparation excluded."""
    if work.timed is not None:
        return work.timed(loops)
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
    layers_s: float = 0,
) -> list[Figure]:
    """Measure cases, interleaved; then sample those of layered rows for `layers_s`, if any.

    Those that this machine cannot run are left out, and `left_out` is told why.
    """
    with ExitStack() as stack:
        works: list[tuple[Figure, Work, int]] = []
        for case in cases:
            try:
                work = stack.enter_context(case.start())
            except Unavailable as error:
                left_out(f"without {words(case.row.name)}: {error}")
                continue
            works.append((Figure(case), work, calibrated(work, round_s)))
            if work.samples is not None:
                work.samples.clear()  # those of the runs that warm up
        for number in range(rounds):
            # Every other round backwards, so that no case always follows the same one.
            for figure, work, loops in works if number % 2 else reversed(works):
                taken = seconds(work, loops)
                figure.rounds.append(figure.case.unit.value(work.amount * loops, taken))
        for figure, work, _ in works:
            if work.facts is not None:
                figure.facts.update(work.facts())
            if work.samples:
                figure.latency_ns = distribution(work.samples)
            if layers_s and figure.case.row.layered:
                of = LAYERS_BYTES if figure.case.unit.name in BYTE_UNITS else 1
                figure.layers_ns = by_layer(work, layers_s, of)
        return [figure for figure, _, _ in works]


def measure(
    cases: Iterable[Case],
    *,
    quick: bool = False,
    rounds: int | None = None,
    progress: Callable[[str], object] | None = None,
    layers: bool = False,
) -> list[dict[str, Any]]:
    """Measure cases group by group and return a row for each, as `e1000emu bench --json` has it.

    `progress` gets a line with the number of cases and an estimate of the time. It gets one at the
    beginning of each group with the time left, and one for each case that is left out. With
    `layers` the time of layered rows is told by layer too, sampled after the rounds.
    """
    groups: dict[str, list[Case]] = {}
    for case in cases:
        together = case.group if case.row.growth is None else case.row.group
        groups.setdefault(together, []).append(case)
    out: list[dict[str, Any]] = []
    said: set[str] = set()
    round_s = QUICK_ROUND_S if quick else ROUND_S
    layers_s = LAYERS_S if layers else 0

    def about_s(members: Iterable[Case]) -> float:
        """How long a group takes at least, in seconds of CPU time."""
        return sum(
            START_S + (rounds or ROUNDS) * round_s + layers_s * case.row.layered for case in members
        )

    whole_s = sum(map(about_s, groups.values()))
    started, done_s = time.monotonic(), 0.0
    if progress is not None:
        count = sum(map(len, groups.values()))
        progress(f"{count} rows in {len(groups)} groups, about {show_s(whole_s)}")

    def left_out(reason: str) -> None:
        if progress is not None and reason not in said:
            said.add(reason)
            progress(reason)

    for turn, (name, members) in enumerate(groups.items(), 1):
        if progress is not None:
            pace = (time.monotonic() - started) / done_s if done_s else 1.0
            left = show_s((whole_s - done_s) * pace)
            progress(f"[{turn}/{len(groups)}] {words(name)} …, about {left} left")
        done_s += about_s(members)
        figures = measure_group(members, rounds or ROUNDS, round_s, left_out, layers_s)
        for figure in figures:
            beside = [f for f in figures if f.case.group == figure.case.group]
            out.append(as_row(figure, best_peer(beside), peers_of(beside)))
    return out


def show_s(seconds_s: float) -> str:
    """Return `40 s` or `3 min`."""
    if seconds_s < 90:
        return f"{math.ceil(seconds_s)} s"
    return f"{round(seconds_s / 60)} min"


def peers_of(figures: list[Figure]) -> list[Figure]:
    """Return the peers among `figures` that do as much as ours."""
    return [f for f in figures if f.case.row.peer is not None and not f.case.row.ceiling]


def best_peer(figures: list[Figure]) -> Figure | None:
    """Return the peer that is hardest to beat; None when none could be measured.

    A peer that `--peers` adds is taken only when there is no other, so that a row's ratio means the
    same with and without that option.
    """
    peers = peers_of(figures)
    usual = [f for f in peers if not f.case.row.extra]
    return max(usual or peers, key=lambda f: f.case.unit.better(f.value, 1.0), default=None)


def distribution(samples: list[int]) -> dict[str, Any]:
    """Return percentiles of nanoseconds and a histogram over logarithmic bins.

    `edges_ns` has one more than `counts`.
    """
    values = np.asarray(samples, dtype=np.float64)
    marks = np.percentile(values, list(PERCENTILES.values()))
    low, high = max(1.0, float(marks[0]) / 2), float(marks[-1]) * 1.2
    edges = np.geomspace(low, max(high, low * 2), BINS + 1)
    counts, _ = np.histogram(np.clip(values, edges[0], edges[-1]), edges)
    return {
        **{name: float(mark) for name, mark in zip(PERCENTILES, marks, strict=True)},
        "min": float(values.min()),
        "max": float(values.max()),
        "samples": len(samples),
        "edges_ns": [round(float(edge), 1) for edge in edges],
        "counts": [int(count) for count in counts],
    }


def by_layer(work: Work, seconds_s: float, of: int = 1) -> dict[str, float] | None:
    """Sample the work for about `seconds_s` of CPU time: nanoseconds of `of` things by layer.

    None where nothing can be sampled (`stack.tools.profile`).
    """
    if not Profile.available() or work.timed is not None:
        return None
    profile = Profile()
    done = 0.0
    with profile:
        until = clock() + seconds_s
        while clock() < until:
            if work.prepare is not None:
                with profile.paused():
                    work.prepare()
            work.run()
            done += work.amount
    done /= of
    rest = profile.unattributed_ns / done
    found = {share.name: share.ns / done for share in profile.layers() if share.ns}
    return {**found, "unattributed": rest} if rest > 0 else found


def growth(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return, for each row over a growing number, how its cost at the last size compares.

    `slope` is the median cost at the last size divided by that at the first; `slope_rounds` are the
    lowest and highest of single rounds. `peer_slope` is the smallest slope of a peer with the same
    work and numbers, None without one: more memory means more cache misses for every stack. `grows`
    is true when the slope exceeds the row's bound times the peer's slope, if that is above 1.
    """
    families: dict[str, list[dict[str, Any]]] = {}
    for found in rows:
        if found["growth"] is not None:
            families.setdefault(found["name"].split("[")[0], []).append(found)
    out = []
    for name, points in families.items():
        if len(points) < 2:
            continue
        points.sort(key=lambda r: r["x"])
        first, last = points[0], points[-1]
        slopes = [a / b for a, b in zip(first["rounds"], last["rounds"], strict=True)]
        if first["lower_is_better"]:
            slopes = [1 / slope for slope in slopes]
        bound = first["growth"]
        slope = first["value"] / last["value"]
        slope = 1 / slope if first["lower_is_better"] else slope
        out.append(
            {
                "name": name,
                "first": first["size"],
                "last": last["size"],
                "slope": slope,
                "slope_rounds": [min(slopes), max(slopes)],
                "bound": bound if bound else None,
                "grows": False,
                "is_peer": first["is_peer"],
                "peer_slope": None,
                "group": first["group"].split("[")[0],
            }
        )
    for ours in out:
        beside = [
            other["slope"]
            for other in out
            if other["is_peer"]
            and not ours["is_peer"]
            and (other["group"], other["first"], other["last"])
            == (ours["group"], ours["first"], ours["last"])
        ]
        ours["peer_slope"] = min(beside, default=None)
        allowed = (ours["bound"] or 0.0) * max(1.0, ours["peer_slope"] or 0.0)
        ours["grows"] = bool(ours["bound"]) and ours["slope"] > allowed
    return out


def as_row(figure: Figure, rival: Figure | None, peers: Sequence[Figure] = ()) -> dict[str, Any]:
    """Return a figure as JSON has it; with a ratio above 1, ours is better."""
    case, better = figure.case, figure.case.unit.better
    row: dict[str, Any] = {
        "name": case.name,
        "group": case.group,
        "size": case.size,
        "axis": AXES[point(case.size)[1]],
        "x": number(case.size),
        "value": figure.value,
        "unit": case.unit.name,
        "lower_is_better": case.unit.inverse,
        "is_peer": case.row.peer is not None,
        "peer": None,
        "peer_value": None,
        "ratio": None,
        "median": figure.value,
        "min": min(figure.rounds),
        "max": max(figure.rounds),
        "rounds": figure.rounds,
        "peer_rounds": [],
        "ratio_rounds": [],
        "ratios": {},
        "growth": case.row.growth,
        "facts": figure.facts,
        "latency_ns": figure.latency_ns,
        "layers_ns": figure.layers_ns,
    }
    if case.row.peer is None:
        row["ratios"] = {f.case.row.peer: better(figure.value, f.value) for f in peers}
    if case.row.peer is None and rival is not None:
        row["peer"], row["peer_value"] = rival.case.row.peer, rival.value
        row["ratio"] = better(figure.value, rival.value)
        row["peer_rounds"] = rival.rounds
        row["ratio_rounds"] = [
            better(ours, theirs) for ours, theirs in zip(figure.rounds, rival.rounds, strict=True)
        ]
    return row
