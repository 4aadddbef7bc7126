"""The compiled cable, pool and counters against their twins."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from fastpath._ref import cable as ref
from fastpath.base.batch import FrameBatch
from fastpath.nic import cable


class Clock:
    """Just enough of a virtual clock."""

    def __init__(self) -> None:
        self.now = 0
        self.soon: deque[Callable[[], None]] = deque()
        self.later: list[tuple[int, int, Callable[[], None]]] = []

    def now_ns(self) -> int:
        return self.now

    def call_soon(self, fn: Callable[[], None]) -> None:
        self.soon.append(fn)

    def call_at(self, when: int, fn: Callable[[], None]) -> None:
        self.later.append((when, len(self.later), fn))

    def run(self, until: int) -> None:
        while True:
            while self.soon:
                self.soon.popleft()()
            due = sorted(entry for entry in self.later if entry[0] <= until)
            if not due:
                break
            self.later.remove(due[0])
            self.now = max(self.now, due[0][0])
            due[0][2]()
        self.now = until


class Port:
    """Takes `room` frames, then holds."""

    def __init__(self, end: Any, clock: Clock, log: list[Any]) -> None:
        self.end, self.clock, self.log = end, clock, log
        self.room = 0

    def receive(self, batch: FrameBatch, start: int, hold: bool) -> int:
        end = min(len(batch), start + self.room)
        self.room -= end - start
        self.log += [(self.clock.now, bytes(batch[i])) for i in range(start, end)]
        return end

    def tx_ready(self) -> None:
        self.log.append((self.clock.now, "ready"))


def sink_of(port: Port) -> cable.FrameSink:
    """The sink of a port: takes what it has room for at once, and logs that it was told to say so.

    Both kinds of cable take it.
    """

    class Sink(cable.FrameSink):
        def store(self, batch: FrameBatch) -> int:
            return port.receive(batch, 0, True)

        def stored(self) -> int:
            port.log.append((port.clock.now, "news"))
            return 0

    return Sink()


OPS = st.lists(
    st.one_of(
        st.tuples(st.just("send"), st.integers(0, 5)),
        st.tuples(st.just("room"), st.integers(0, 12)),
        st.tuples(st.just("run"), st.integers(0, 3000)),
        st.tuples(st.just("ask"), st.just(0)),
        st.tuples(st.just("gap"), st.integers(0, 9)),
        st.tuples(st.just("flush"), st.just(0)),
        st.tuples(st.just("carrier"), st.integers(0, 1)),
    ),
    max_size=40,
)


def play(
    kind: Any, ops: list[tuple[str, int]], latency: int, rate: int, queue: int, sink: bool = False
) -> list[Any]:
    clock, log = Clock(), []
    a, b = kind.CableEnd(), kind.CableEnd()
    for end, peer in ((a, b), (b, a)):
        end.clock, end.stats, end.peer, end._carrier = clock, kind.LinkStats(), peer, True
        end._shape(latency, rate, queue)
    a.port, b.port = Port(a, clock, []), Port(b, clock, log)
    a.port.log = log
    if sink:
        b.sink = sink_of(b.port)
    number = 0
    for name, value in ops:
        if name == "send":
            batch = FrameBatch()
            for _ in range(value):
                number += 1
                batch.append(number.to_bytes(4, "big") * (1 + number % 30))
            a.transmit(batch)
        elif name == "room":
            b.port.room += value
            b.rx_ready()
        elif name == "run":
            clock.run(clock.now + value)
        elif name == "gap":
            a.gap_bytes = 7 * value
        elif name == "ask":
            log.append(a.tx_room())
        elif name == "flush":
            b.stats.drop("unplugged", b._flush())
            b._offer_room()
        else:
            a._carrier = bool(value)
        log.append(b._queued)
    for stats in (a.stats, b.stats):
        log.append((stats.tx_frames, stats.tx_bytes, stats.rx_frames, stats.rx_bytes, stats.drops))
    return log


@given(
    OPS,
    st.sampled_from((0, 700)),
    st.sampled_from((0, 10**9)),
    st.sampled_from((4, 4096)),
    st.booleans(),
)
def test_cable_equals_reference(
    ops: list[tuple[str, int]], latency: int, rate: int, queue: int, sink: bool
) -> None:
    compiled = play(cable, ops, latency, rate, queue, sink)
    assert compiled == play(ref, ops, latency, rate, queue, sink)


def frames_of(log: list[Any]) -> list[bytes]:
    return [entry[1] for entry in log if isinstance(entry, tuple) and isinstance(entry[1], bytes)]


@given(OPS)
def test_a_sink_gets_the_same_frames_in_the_same_order(ops: list[tuple[str, int]]) -> None:
    ops = [op for op in ops if op[0] not in ("flush", "carrier")] + [("room", 1000), ("run", 1)]
    assert frames_of(play(cable, ops, 0, 0, 4096, True)) == frames_of(play(cable, ops, 0, 0, 4096))


def test_a_sink_takes_at_once_and_the_news_comes_by_an_event() -> None:
    log = play(cable, [("room", 9), ("send", 3), ("send", 1)], 0, 0, 4096, True)
    assert len(frames_of(log)) == 4
    assert (0, "news") not in log
    log = play(cable, [("room", 9), ("send", 3), ("send", 1), ("run", 0)], 0, 0, 4096, True)
    assert log.count((0, "news")) == 1
    # Behind a delay, a rate, or frames that wait, there is nothing to take at once.
    assert not frames_of(play(cable, [("room", 9), ("send", 3)], 700, 0, 4096, True))
    assert not frames_of(play(cable, [("room", 9), ("send", 3)], 0, 10**9, 4096, True))
    assert not frames_of(play(cable, [("send", 3), ("room", 9), ("send", 1)], 0, 0, 4096, True))


def test_more_batches_than_the_first_ring_stay_in_order() -> None:
    ops = [("send", 1)] * 60 + [("room", 7), ("run", 10)] + [("send", 2)] * 30
    ops += [("room", 200), ("run", 10)]
    log = play(cable, ops, 0, 0, 4096)
    assert log == play(ref, ops, 0, 0, 4096)
    assert len([entry for entry in log if isinstance(entry, tuple)]) == 120 + 2


def test_pool_equals_reference() -> None:
    for kind in (cable, ref):
        pool = kind.BatchPool(2)
        batches = [pool.get() for _ in range(4)]
        for batch in batches:
            batch.append(b"x" * 60)
            pool.put(batch)
        assert (pool.made, pool.returned) == (4, 4)
        assert [len(pool.get()) for _ in range(3)] == [0, 0, 0]
        assert pool.made == 5


def test_stats_count_nothing_for_nothing() -> None:
    for kind in (cable, ref):
        stats = kind.LinkStats()
        stats.drop("a", 0)
        stats.drop("b", 2)
        stats.drop("b", 3)
        assert stats.drops == {"b": 5}
        assert "b" in repr(stats)
