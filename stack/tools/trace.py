"""Record the calls that process a packet, with the kernel's names.

Off, tracing costs nothing: the stack's functions have no code for it. On, each entry and exit of a
Python function gets a time stamp (`fastpath.base.calltrace`), and `Tracer` keeps the functions of
its packages. Functions that process packets have their kernel names, so the record is the kernel's
call chain. The time of compiled kernels is in the self time of their callers.

A time stamp costs as much as a short function, so the recorder's cost is measured (`calibrate`,
`Cost.fitted`) and subtracted (`net_times`). Figures for people are medians over many runs of a
packet that was sent often before (`typical`).
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from types import CodeType
from typing import Any

from fastpath.base import calltrace
from stack.tools.layers import ROOT, layer_of


@dataclass(slots=True)
class Call:
    """One call: `start_ns` on the monotonic clock, `ns` with the calls below it, `self_ns`
    without. `skipped` counts the calls that it made and that were not recorded."""

    name: str
    depth: int
    file: str
    layer: str
    start_ns: int = 0
    ns: int = 0
    self_ns: int = 0
    skipped: int = 0

    @classmethod
    def of(cls, row: Mapping[str, Any]) -> Call:
        """Return the call of a row that `as_dict` made."""
        return cls(
            row["name"],
            row["depth"],
            row["file"],
            row["layer"],
            ns=row["ns"],
            self_ns=row["self_ns"],
        )

    def as_dict(self) -> dict[str, Any]:
        """Return the row of `e1000emu trace --format json`."""
        return {
            "name": self.name,
            "depth": self.depth,
            "file": self.file,
            "layer": self.layer,
            "ns": self.ns,
            "self_ns": self.self_ns,
        }


@dataclass(frozen=True, slots=True)
class Cost:
    """The recorder's cost in ns: `inner_ns` in a recorded call's own time, `outer_ns` in its
    caller's, and `skipped_ns` in the caller's of a call that is not recorded."""

    inner_ns: float = 0.0
    outer_ns: float = 0.0
    skipped_ns: float = 0.0

    def of(self, calls: Sequence[Call]) -> float:
        """Return the cost of recording all of `calls`, ns."""
        roots = sum(call.depth == 0 for call in calls)
        skipped = sum(call.skipped for call in calls)
        # A root's outer cost is outside of the measured time.
        return (
            len(calls) * self.inner_ns
            + (len(calls) - roots) * self.outer_ns
            + skipped * self.skipped_ns
        )

    def fitted(self, runs: Sequence[Sequence[Call]], untraced_ns: float) -> Cost:
        """Return the cost scaled to `runs`, whose outermost calls take `untraced_ns` untraced.

        `calibrate` measures the cost in a loop with warm caches. Between the instructions of a real
        function the same steps take longer; one factor scales all three.
        """
        if not (usual := self.of(runs[0])):
            return self
        raw = median(sum(call.ns for call in run if call.depth == 0) for run in runs)
        factor = max(0.0, raw - untraced_ns) / usual
        return Cost(self.inner_ns * factor, self.outer_ns * factor, self.skipped_ns * factor)


TIMER_HEAP = frozenset(
    {"timer_base_arm", "timer_base_disarm", "timer_before", "timer_sift_down", "timer_sift_up"}
)
"""Not recorded: how often they run depends on timers of other packets (stack/core/timer.py)."""

ARGUMENTS = frozenset({"check_net"})
"""Excluded: argument checks before the kernel's function."""


def _of_the_kernel(name: str) -> bool:
    """Tell whether a function has a kernel name: no dunder, lambda or private helper."""
    if name.startswith("__"):
        return not name.endswith("__")
    return not name.startswith(("_", "<"))


class Tracer:
    """Context manager that records calls into `calls`, in call order, with raw times.

    `packages` are source folders below the root; `root(name, arguments)` is called once for each
    outermost call and keeps or drops its whole subtree. With `roots_only` only outermost calls are
    recorded, and run at full speed. With the `classes` of an earlier tracer no function has to be
    classified while times are taken. Traces the calling thread only.
    """

    def __init__(
        self,
        packages: Iterable[str] = ("stack",),
        *,
        root: Callable[[str, Mapping[str, Any]], bool] | None = None,
        roots_only: bool = False,
        classes: calltrace.Classes | None = None,
    ) -> None:
        self.calls: list[Call] = []
        self._prefixes = tuple(str(ROOT / p) + "/" for p in packages)
        self.classes = calltrace.Classes(self._wanted) if classes is None else classes
        self._recorder = calltrace.Recorder(
            self.classes,
            None if root is None else lambda code, arguments: root(code.co_name, arguments),
            roots_only,
        )

    def _wanted(self, code: CodeType) -> bool:
        file = code.co_filename
        name = code.co_name
        own = file.startswith(self._prefixes) and file != __file__
        return own and _of_the_kernel(name) and name not in TIMER_HEAP | ARGUMENTS

    def __enter__(self) -> Tracer:
        self._recorder.__enter__()
        return self

    def __exit__(self, *exc: object) -> None:
        self._recorder.__exit__(*exc)
        for code, depth, start_ns, end_ns, skipped in self._recorder.calls():
            file = str(Path(code.co_filename).relative_to(ROOT))
            ns = max(0, end_ns - start_ns)
            self.calls.append(
                Call(code.co_name, depth, file, layer_of(file), start_ns, ns, ns, skipped)
            )
        for call, below in children(self.calls):
            call.self_ns -= sum(child.ns for child in below)

    def names(self) -> list[str]:
        """Return the names alone, in call order."""
        return [call.name for call in self.calls]


def children(calls: Sequence[Call]) -> list[tuple[Call, list[Call]]]:
    """Pair each call with those it made itself."""
    pairs: list[tuple[Call, list[Call]]] = []
    open_calls: list[tuple[Call, list[Call]]] = []
    for call in calls:
        del open_calls[call.depth :]
        pair: tuple[Call, list[Call]] = (call, [])
        if open_calls:
            open_calls[-1][1].append(call)
        open_calls.append(pair)
        pairs.append(pair)
    return pairs


def net_times(calls: Sequence[Call], cost: Cost) -> list[Call]:
    """Return `calls` with the recorder's cost subtracted; no self time becomes negative.

    A call's own time contains its inner cost, the outer cost of each recorded call it made, and the
    cost of unrecorded ones. Total times are the sums of the remaining self times.
    """
    net = [replace(call) for call in calls]
    for call, below in reversed(children(net)):
        own = call.self_ns - cost.inner_ns
        own -= len(below) * cost.outer_ns + call.skipped * cost.skipped_ns
        call.self_ns = max(0, round(own))
        call.ns = call.self_ns + sum(child.ns for child in below)
    return net


def alike(runs: Sequence[list[Call]]) -> list[list[Call]]:
    """Return the runs with the most frequent chain of calls. A chain differs when a timer fires or
    a path runs for the first time."""
    shapes = [tuple((c.name, c.depth) for c in run) for run in runs]
    most = Counter(shapes).most_common(1)[0][0] if shapes else ()
    return [run for run, shape in zip(runs, shapes, strict=True) if shape == most]


def typical(runs: Sequence[list[Call]]) -> list[Call]:
    """Return one run with the medians of the self times of `alike` runs.

    Calls are placed one after the other, as their times say.
    """
    runs = alike(runs)
    if not runs:
        return []
    made = [replace(call) for call in runs[0]]
    for i, call in enumerate(made):
        call.self_ns = round(median(run[i].self_ns for run in runs))
    pairs = children(made)
    for call, below in reversed(pairs):
        call.ns = call.self_ns + sum(child.ns for child in below)
    now = 0
    for call, below in pairs:
        if call.depth == 0:
            call.start_ns, now = now, now + call.ns
        at = call.start_ns
        for n, child in enumerate(below, 1):
            # Its self time is split equally before, between and after its calls.
            child.start_ns = at + n * call.self_ns // (len(below) + 1)
            at += child.ns
    return made


def _nothing() -> None:
    pass


def _calls(n: int) -> None:
    for _ in range(n):
        _nothing()


def _empty(n: int) -> None:
    for _ in range(n):
        pass


def calibrate(
    *,
    calls: int = 500,
    rounds: int = 15,
    clock_ns: Callable[[], int] = time.perf_counter_ns,
) -> Cost:
    """Measure the recorder's cost on this machine with an empty function.

    Each figure is the least of `rounds`, since disturbances only add time.
    """

    def bare(function: Callable[[int], None]) -> float:
        spent = []
        for _ in range(rounds):
            start = clock_ns()
            function(calls)
            spent.append(clock_ns() - start)
        return min(spent) / calls

    def recorded(*functions: Callable[..., None]) -> tuple[float, float]:
        classes = calltrace.Classes({function.__code__ for function in functions}.__contains__)
        whole, inside = [], []
        for _ in range(rounds):
            with calltrace.Recorder(classes) as record:
                _calls(calls)
            first, *below = record.calls()
            whole.append(first[3] - first[2])
            inside.append(median(call[3] - call[2] for call in below) if below else 0)
        return min(whole) / calls, min(inside)

    plain = bare(_calls)
    true = max(0.0, plain - bare(_empty))  # a call that does nothing
    each, inside = recorded(_calls, _nothing)
    skipped, _ = recorded(_calls)
    inner = max(0.0, inside - true)
    return Cost(inner, max(0.0, each - plain - inner), max(0.0, skipped - plain))
