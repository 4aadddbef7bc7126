"""The window protocol against a run without windows, with ranks that only count."""

from __future__ import annotations

import heapq
import random
from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from e1000emu.parallel.window import NEVER_NS, Report, WindowError, Windows, distances
from tests.support import examples

UNTIL = 5_000


@dataclass
class Toy:
    """Something that sends at random times and answers at random: the same for the same seed."""

    number: int
    seed: int
    neighbours: dict[int, int]
    """Rank -> delay."""
    heap: list[tuple[int, int, int]] = field(default_factory=list)
    log: list[tuple[int, int, int]] = field(default_factory=list)
    sequence: int = 0
    now: int = 0

    def __post_init__(self) -> None:
        self.random = random.Random(f"{self.seed}/{self.number}")
        for _ in range(self.random.randint(0, 3)):
            heapq.heappush(self.heap, (self.random.randint(0, UNTIL), self.number, self._next()))

    def _next(self) -> int:
        self.sequence += 1
        return self.sequence

    @property
    def due(self) -> int:
        return self.heap[0][0] if self.heap else NEVER_NS

    def step(self) -> list[tuple[int, tuple[int, int, int]]]:
        """Do the first event; return what is sent: rank, and when it arrives and its number."""
        event = heapq.heappop(self.heap)
        assert event[0] >= self.now, "a frame in the past"
        self.now = event[0]
        self.log.append(event)
        sent = []
        if self.neighbours and self.random.random() < 0.8:  # less than one each, or it explodes
            rank = self.random.choice(sorted(self.neighbours))
            when = self.now + self.neighbours[rank] + self.random.choice([0, 0, 1, 50])
            sent.append((rank, (when, self.number, self._next())))
        if self.random.random() < 0.15:
            later = self.now + self.random.randint(1, 400)
            heapq.heappush(self.heap, (later, self.number, self._next()))
        return sent


Links = list[tuple[int, int, int]]


@st.composite
def networks(draw: st.DrawFn) -> tuple[int, Links]:
    ranks = draw(st.integers(1, 6))
    pairs = [(a, b) for a in range(ranks) for b in range(a)]
    chosen = draw(st.lists(st.sampled_from(pairs), unique=True)) if pairs else []
    return ranks, [(a, b, draw(st.integers(1, 300))) for a, b in chosen]


def toys(ranks: int, links: Links, seed: int) -> list[Toy]:
    near: list[dict[int, int]] = [{} for _ in range(ranks)]
    for a, b, delay in links:
        near[a][b] = near[b][a] = delay
    return [Toy(rank, seed, near[rank]) for rank in range(ranks)]


def at_once(ranks: int, links: Links, seed: int) -> list[list[tuple[int, int, int]]]:
    """The logs of a run that does the earliest event of all, one after the other."""
    found = toys(ranks, links, seed)
    while min(toy.due for toy in found) <= UNTIL:
        toy = min(found, key=lambda toy: (toy.due, toy.number))
        for rank, event in toy.step():
            heapq.heappush(found[rank].heap, event)
    return [toy.log for toy in found]


@settings(max_examples=examples(200), deadline=None)
@given(networks(), st.integers(0, 1 << 32), st.integers(0, 1 << 32))
def test_windows_do_what_one_queue_does(network: tuple[int, Links], seed: int, order: int) -> None:
    """No frame in the past, none lost, all end together; reports come in any order, also early."""
    ranks, links = network
    found, shuffle = toys(ranks, links, seed), random.Random(order)
    distance = distances(ranks, links)
    windows = [Windows(rank, distance, until_ns=UNTIL) for rank in range(ranks)]
    boxes: list[list[tuple[Report, list[tuple[int, int, int]]]]] = [[] for _ in range(ranks)]

    def report(rank: int, sent: dict[int, list[tuple[int, int, int]]]) -> None:
        arrivals = {to: min(events)[0] for to, events in sent.items()}
        made = windows[rank].report(found[rank].due, arrivals)
        assert Report.unpack(made.pack(), ranks) == made
        for other in range(ranks):
            if other != rank:
                boxes[other].append((made, sent.get(other, [])))

    for rank in range(ranks):
        report(rank, {})
    while not all(window.finished for window in windows):
        rank = shuffle.randrange(ranks)
        window, toy = windows[rank], found[rank]
        if window.finished:
            continue
        if window.complete:
            sent: dict[int, list[tuple[int, int, int]]] = {}
            while toy.due < window.end_ns:
                for to, event in toy.step():
                    sent.setdefault(to, []).append(event)
            report(rank, sent)
        elif boxes[rank]:
            # Those of one sender come in their order.
            sender = shuffle.choice([made.rank for made, _ in boxes[rank]])
            at = next(i for i, (made, _) in enumerate(boxes[rank]) if made.rank == sender)
            made, events = boxes[rank].pop(at)
            for event in events:
                heapq.heappush(toy.heap, event)
            window.received(made)
    assert not any(boxes)
    assert len({(window.window, window.stop_ns) for window in windows}) == 1
    assert [toy.log for toy in found] == at_once(ranks, links, seed)


def test_idle_time_is_skipped_in_one_window() -> None:
    a, b = (Windows(rank, distances(2, [(0, 1, 10)]), until_ns=10**12) for rank in (0, 1))
    made = a.report(10**9, {}), b.report(NEVER_NS, {})
    a.received(made[1])
    b.received(made[0])
    # Nothing reaches a before its own frames have been answered, nor b before a's have arrived.
    assert (a.end_ns, b.end_ns) == (10**9 + 20, 10**9 + 10)


def test_who_is_not_connected_runs_to_the_end() -> None:
    window = Windows(0, distances(2, []), until_ns=500)
    window.report(3, {})
    window.received(Report(0, 1, False, (NEVER_NS, 7)))
    assert window.end_ns == 501


def test_it_ends_at_a_check_at_which_nobody_is_busy() -> None:
    window = Windows(0, distances(1, []), until_ns=1000, check_ns=100)
    window.report(0, {})
    assert window.end_ns == 101
    window.report(250, {}, busy=True)
    assert (window.finished, window.end_ns) == (False, 301)
    window.report(420, {})
    assert (window.finished, window.stop_ns) == (True, 300)


def test_who_is_busy_for_ever_ends_at_the_limit() -> None:
    window = Windows(0, distances(1, []), until_ns=1000, check_ns=400)
    window.report(0, {})
    window.report(NEVER_NS, {}, busy=True)
    window.report(NEVER_NS, {}, busy=True)
    assert (window.finished, window.stop_ns) == (True, 1000)


def test_a_frame_in_the_past_is_refused() -> None:
    window = Windows(0, distances(2, [(0, 1, 100)]), until_ns=1000)
    window.report(0, {})
    window.received(Report(0, 1, False, (NEVER_NS, 0)))
    with pytest.raises(WindowError, match="a frame arrives at 99 ns, and rank 1 has run up to 100"):
        window.report(200, {1: 99})


def test_an_event_that_was_left_is_refused() -> None:
    window = Windows(0, distances(1, []), until_ns=1000)
    window.report(0, {})
    with pytest.raises(WindowError, match="an event at 7 ns was left"):
        window.report(7, {})


def test_reports_of_other_windows_are_refused() -> None:
    window = Windows(0, distances(3, []), until_ns=1000)
    window.report(0, {})
    with pytest.raises(WindowError, match="window 0 got"):
        window.received(Report(2, 1, False, (NEVER_NS, 0, 0)))
    window.received(Report(0, 1, False, (NEVER_NS, 0, 0)))
    with pytest.raises(WindowError, match="window 0 got"):
        window.received(Report(0, 1, False, (NEVER_NS, 0, 0)))
    with pytest.raises(WindowError, match="in the middle of window 0"):
        window.report(0, {})


def test_distances_are_of_the_shortest_way_and_of_the_shortest_round_trip() -> None:
    found = distances(4, [(0, 1, 10), (1, 2, 5), (0, 2, 100)])
    assert found[0][2] == 15
    assert found[0][0] == 20
    assert found[2][2] == 10
    assert min(found[3]) >= NEVER_NS
