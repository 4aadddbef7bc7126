"""The cable: every frame arrives once, in order, when the cable's length and rate say; its pool."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

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
    ops: list[tuple[str, int]], latency: int, rate: int, queue: int, sink: bool = False
) -> list[Any]:
    """Do it, checking each frame; return what the ports were told, with the times."""
    clock, log = Clock(), []
    a, b = cable.CableEnd(), cable.CableEnd()
    for end, peer in ((a, b), (b, a)):
        end.clock, end.stats, end.peer, end._carrier = clock, cable.LinkStats(), peer, True
        end._shape(latency, rate, queue)
    a.port, b.port = Port(a, clock, log), Port(b, clock, log)
    if sink:
        b.sink = sink_of(b.port)
    on_way: deque[tuple[int, bytes]] = deque()  # when each frame arrives
    number = sent = lost = cut = busy = seen = 0
    starved = False
    for name, value in ops:
        began = clock.now
        if name == "send":
            frames = [n.to_bytes(4, "big") * (1 + n % 30) for n in range(number, number + value)]
            number += value
            if a._carrier and value:
                when = clock.now
                if rate:
                    bits = 8 * (sum(map(len, frames)) + value * (8 + 4 + a.gap_bytes))
                    busy = when = max(when, busy) + bits * 10**9 // rate
                on_way += [(when + latency, frame) for frame in frames]
                sent += value
            else:
                lost += value
            a.transmit(FrameBatch(frames))
        elif name == "room":
            b.port.room += value
            b.rx_ready()
        elif name == "run":
            clock.run(clock.now + value)
        elif name == "gap":
            a.gap_bytes = 7 * value
        elif name == "ask":
            assert a.tx_room() == max(queue - len(on_way), 0)
            starved = starved or len(on_way) >= queue
        elif name == "flush":
            assert b._flush() == len(on_way)
            cut += len(on_way)
            on_way.clear()
            b._offer_room()
        else:
            a._carrier = bool(value)
        for now, told in log[seen:]:
            if isinstance(told, bytes):
                when, frame = on_way.popleft()
                assert told == frame
                assert now == max(when, began) or (now >= when and not b.port.room)
            starved = starved and told != "ready"
        seen = len(log)
        assert b._queued == len(on_way)
        assert not (starved and len(on_way) < queue and name == "run")
    assert (a.stats.tx_frames, a.stats.drops) == (sent, {"no carrier": lost} if lost else {})
    if not on_way and not cut:
        assert (b.stats.rx_frames, b.stats.rx_bytes) == (sent, a.stats.tx_bytes)
    return log


@given(
    OPS,
    st.sampled_from((0, 700)),
    st.sampled_from((0, 10**9)),
    st.sampled_from((4, 4096)),
    st.booleans(),
)
def test_frames_arrive_once_in_order_and_in_time(
    ops: list[tuple[str, int]], latency: int, rate: int, queue: int, sink: bool
) -> None:
    frames = frames_of(play([*ops, ("room", 1000), ("run", 10**6)], latency, rate, queue, sink))
    if not {"flush", "carrier"} & {name for name, _ in ops}:
        assert len(frames) == sum(value for name, value in ops if name == "send")


def frames_of(log: list[Any]) -> list[bytes]:
    return [told for _, told in log if isinstance(told, bytes)]


def test_a_sink_takes_at_once_and_the_news_comes_by_an_event() -> None:
    log = play([("room", 9), ("send", 3), ("send", 1)], 0, 0, 4096, True)
    assert len(frames_of(log)) == 4
    assert (0, "news") not in log
    log = play([("room", 9), ("send", 3), ("send", 1), ("run", 0)], 0, 0, 4096, True)
    assert log.count((0, "news")) == 1
    # Behind a delay, a rate, or frames that wait, there is nothing to take at once.
    assert not frames_of(play([("room", 9), ("send", 3)], 700, 0, 4096, True))
    assert not frames_of(play([("room", 9), ("send", 3)], 0, 10**9, 4096, True))
    assert not frames_of(play([("send", 3), ("room", 9), ("send", 1)], 0, 0, 4096, True))


def test_more_batches_than_the_first_ring_stay_in_order() -> None:
    ops = [("send", 1)] * 60 + [("room", 7), ("run", 10)] + [("send", 2)] * 30
    assert len(frames_of(play([*ops, ("room", 200), ("run", 10)], 0, 0, 4096))) == 120


def test_a_pool_gives_empty_batches_and_keeps_so_many() -> None:
    pool = cable.BatchPool(2)
    batches = [pool.get() for _ in range(4)]
    for batch in batches:
        batch.append(b"x" * 60)
        pool.put(batch)
    assert (pool.made, pool.returned) == (4, 4)
    assert [len(pool.get()) for _ in range(3)] == [0, 0, 0]
    assert pool.made == 5


def test_stats_count_nothing_for_nothing() -> None:
    stats = cable.LinkStats()
    stats.drop("a", 0)
    stats.drop("b", 2)
    stats.drop("b", 3)
    assert stats.drops == {"b": 5}
    assert "b" in repr(stats)
