"""Conservative time windows of the processes of a simulation, without I/O.

Once per window every rank (process) sends all others the time of its next event, and of the first
arrival among its frames for each of them. From these reports all compute the same: nothing
reaches rank `i` before the earliest event of a rank `j` plus the delay of the way from `j` to `i`.
Up to there `i` runs alone. Idle time is skipped at once, since only events count.

Source: conservative synchronisation with lookahead (R. Fujimoto, "Parallel and Distributed
Simulation Systems", chapter 3). All times are virtual, in ns.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple, Self

from e1000emu.errors import E1000Error

NEVER_NS = (1 << 63) - 1


class WindowError(E1000Error, RuntimeError):
    """The ranks of a simulation disagree: a bug of ours or of a transport."""


class Report(NamedTuple):
    """The message of a rank to all others at the end of a window."""

    window: int
    """Counted from 0."""
    rank: int
    busy: bool
    """Programs of the rank's hosts still run."""
    earliest_ns: tuple[int, ...]
    """At the rank's own index its next event; at another's the first arrival of frames sent to it
    in this window. NEVER_NS: there is none."""

    @staticmethod
    def size(ranks: int) -> int:
        """Return the size of `pack`'s result."""
        return struct.calcsize(f"<QI?{ranks}q")

    def pack(self) -> bytes:
        """Return it as bytes."""
        return struct.pack(f"<QI?{len(self.earliest_ns)}q", *self[:3], *self.earliest_ns)

    @classmethod
    def unpack(cls, data: bytes, ranks: int) -> Self:
        """Parse the result of `pack`.  Raises: struct.error, too short."""
        window, rank, busy, *earliest = struct.unpack_from(f"<QI?{ranks}q", data)
        return cls(window, rank, busy, tuple(earliest))


def distances(ranks: int, links: Iterable[tuple[int, int, int]]) -> list[list[int]]:
    """Return the least delay of the way from each rank to each, and back to itself; NEVER_NS: none.

    `links`: rank, rank and delay (ns) of each link that joins two of them.
    """
    found = [[NEVER_NS] * ranks for _ in range(ranks)]
    for a, b, delay in links:
        found[a][b] = found[b][a] = min(found[a][b], delay)
    for via in range(ranks):
        for a in range(ranks):
            for b in range(ranks):
                found[a][b] = min(found[a][b], found[a][via] + found[via][b])
    return found


class Windows:
    """The windows of one rank. Call `report`, then `received` until it is `complete`, and so on.

    `distance[j][i]`: the result of `distances`. The run ends when `until_ns` has passed, or before
    that at a multiple of `check_ns` at which no rank is busy: all ranks end at the same time.
    """

    def __init__(
        self,
        rank: int,
        distance: Sequence[Sequence[int]],
        *,
        until_ns: int,
        check_ns: int | None = None,
    ) -> None:
        self.rank = rank
        self.until_ns = until_ns
        self.check_ns = check_ns
        self.window = 0
        self.end_ns = 0
        """The rank runs all events due before this."""
        self.finished = False
        """All events due up to `stop_ns` have run everywhere."""
        self.complete = True
        """The reports of all ranks have arrived, and `end_ns` is valid."""
        self._distance = distance
        self._reports: dict[int, Report] = {}
        self._early: dict[int, Report] = {}
        """A fast rank may be one window ahead with its report."""
        self._ends = [0] * len(distance)
        self._check_ns = until_ns if check_ns is None else min(until_ns, check_ns)

    @property
    def stop_ns(self) -> int:
        """The virtual time of the end, as far as known."""
        return self._check_ns

    def report(self, due_ns: int, arrivals: Mapping[int, int], *, busy: bool = False) -> Report:
        """Return the message to all others: the rank has run its window.

        `due_ns`: the next event, NEVER_NS without one. `arrivals`: rank -> when the first frame
        that was sent to it in this window arrives.

        Raises: WindowError, a window is not over, or something is in the past.
        """
        if self.finished or not self.complete:
            raise WindowError(f"rank {self.rank}: report() in the middle of window {self.window}")
        if due_ns < self.end_ns:
            raise WindowError(
                f"rank {self.rank}: an event at {due_ns} ns was left before {self.end_ns} ns"
            )
        earliest = [NEVER_NS] * len(self._distance)
        for rank, when in arrivals.items():
            if when < self._ends[rank]:
                raise WindowError(
                    f"rank {self.rank}: a frame arrives at {when} ns, and rank {rank} has run up "
                    f"to {self._ends[rank]} ns; is a link shorter than its delay?"
                )
            earliest[rank] = when
        earliest[self.rank] = due_ns
        made = Report(self.window, self.rank, busy, tuple(earliest))
        self.complete = False
        self._reports, self._early = self._early, {}
        self.received(made)
        return made

    def received(self, report: Report) -> None:
        """Take another rank's report; its frames are already in the inbox.

        Raises: WindowError, it is for another window, or a duplicate.
        """
        early = report.window == self.window + 1 and not self.complete
        early = early or (self.complete and report.window == self.window)
        reports = self._early if early else self._reports
        if (not early and report.window != self.window) or report.rank in reports:
            raise WindowError(f"rank {self.rank}: window {self.window} got {report}")
        reports[report.rank] = report
        if not early and len(reports) == len(self._distance):
            self._open()

    def _open(self) -> None:
        """Compute the next window of every rank."""
        reports = self._reports.values()
        ranks = range(len(self._distance))
        earliest = [min(report.earliest_ns[rank] for report in reports) for rank in ranks]
        first = min(earliest)
        if first > self._check_ns:
            if self._check_ns == self.until_ns or not any(report.busy for report in reports):
                self.finished = True
            else:
                assert self.check_ns is not None
                self._check_ns = min(self.until_ns, -(-first // self.check_ns) * self.check_ns)
        limit = self._check_ns + 1
        self._ends = [
            min(limit, *(earliest[other] + self._distance[other][rank] for other in ranks))
            for rank in ranks
        ]
        self.end_ns = self._ends[self.rank]
        self.window += 1
        self.complete = True
