"""The cable: order, push-back, delay, rate, carrier."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from e1000emu.clock import VirtualClock
from e1000emu.errors import LinkError
from e1000emu.links import pair
from fastpath.base.batch import FrameBatch
from tests.e1000emu.links.ports import RecordingPort, frame, number


def two(**options: int) -> tuple[VirtualClock, RecordingPort, RecordingPort]:
    clock = VirtualClock()
    a, b = pair(clock, **options)
    return clock, RecordingPort(a), RecordingPort(b)


def test_frames_arrive_whole_and_in_order_both_ways() -> None:
    clock, a, b = two()
    a.send(frame(1), frame(2, 1514))
    b.send(frame(3, 9000))
    a.send(frame(4))
    clock.run_until_idle()
    assert b.frames == [frame(1), frame(2, 1514), frame(4)]
    assert a.frames == [frame(3, 9000)]
    assert a.link.stats.tx_frames == b.link.stats.rx_frames == 3
    assert b.link.stats.rx_bytes == 60 + 1514 + 60


def test_transmit_never_delivers_before_it_returns() -> None:
    clock, a, b = two()
    a.send(frame(1))
    assert b.frames == []
    clock.run_until_idle()
    assert len(b.frames) == 1


def test_carrier_needs_both_ports_and_the_cable() -> None:
    clock = VirtualClock()
    end_a, end_b = pair(clock)
    a = RecordingPort(end_a)
    assert not end_a.carrier
    b = RecordingPort(end_b)
    assert end_a.carrier
    assert end_b.carrier
    end_a.plug(False)
    end_a.plug(True)
    end_b.detach()
    assert a.changes == [True, False, True, False]
    assert b.changes == [False, True]


def test_a_change_of_the_carrier_tells_the_duplex_that_the_end_has() -> None:
    clock = VirtualClock()
    end_a, end_b = pair(clock)
    end_a.full_duplex = False
    told = []
    port = RecordingPort(end_a)
    port.link_changed = lambda *what: told.append(what)  # type: ignore[method-assign]
    RecordingPort(end_b)
    assert told == [(True, 1000, False)]


def test_frames_without_carrier_are_counted_and_lost() -> None:
    clock = VirtualClock()
    end_a, _ = pair(clock)
    a = RecordingPort(end_a)
    a.send(frame(1), frame(2))
    clock.run_until_idle()
    assert end_a.stats.drops == {"no carrier": 2}


def test_second_port_on_one_end_is_refused() -> None:
    _, a, _ = two()
    with pytest.raises(LinkError, match="detach"):
        a.link.attach(a)


def test_full_receiver_pushes_back_to_the_sender_and_loses_nothing() -> None:
    clock, a, b = two(queue_frames=4)
    b.room = 1
    sent = 0
    while a.link.tx_room():
        a.send(frame(sent))
        sent += 1
    clock.run_until_idle()
    assert b.frames == [frame(0)]
    assert a.link.tx_room() in (0, 1)
    while a.link.tx_room():
        a.send(frame(sent))
        sent += 1
    assert a.ready <= 1
    before = a.ready
    b.give_room(2)
    clock.run_until_idle()
    assert [number(f) for f in b.frames] == [0, 1, 2]
    assert a.ready == before + 1
    b.give_room(None)
    clock.run_until_idle()
    assert [number(f) for f in b.frames] == list(range(sent))


def test_part_of_a_batch_can_be_held() -> None:
    clock, a, b = two()
    b.room = 2
    a.send(*(frame(i) for i in range(5)))
    clock.run_until_idle()
    assert len(b.frames) == 2
    b.give_room(1)
    clock.run_until_idle()
    assert len(b.frames) == 3
    b.give_room(None)
    clock.run_until_idle()
    assert b.frames == [frame(i) for i in range(5)]


def test_room_given_inside_receive_is_not_forgotten() -> None:
    clock, a, b = two()
    taken = []

    def receive(batch: FrameBatch, start: int, hold: bool) -> int:
        taken.append(batch[start])
        b.link.rx_ready()
        return start + 1

    b.receive = receive  # type: ignore[method-assign]
    a.send(*(frame(i) for i in range(4)))
    clock.run_until_idle()
    assert [number(f) for f in taken] == [0, 1, 2, 3]


def test_latency_and_rate_set_the_arrival() -> None:
    clock, a, b = two(latency_ns=1000, rate_bps=1_000_000_000)
    a.send(frame(1, 60))
    a.send(frame(2, 1514))
    clock.run_until_idle()
    # 60 + 24 bytes at 1 Gbit/s are 672 ns; 1514 + 24 are 12304 ns.
    assert b.times == [672 + 1000, 672 + 12304 + 1000]


def test_unplugging_drops_what_waits_and_tells_the_sender() -> None:
    clock, a, b = two(queue_frames=1)
    b.room = 0
    a.send(frame(1))
    assert a.link.tx_room() == 0
    clock.run_until_idle()
    b.link.detach()
    assert b.link.stats.drops == {"unplugged": 1}
    assert a.ready == 1
    assert a.changes[-1] is False


@given(
    st.lists(st.lists(st.integers(14, 300), min_size=1, max_size=8), max_size=12),
    st.lists(st.integers(0, 9), max_size=40),
)
def test_any_push_back_keeps_order_and_loses_nothing(
    batches: list[list[int]], rooms: list[int]
) -> None:
    clock, a, b = two(queue_frames=16)
    b.room = 0
    sent = []
    for sizes in batches:
        frames = [bytes([len(sent) + i & 0xFF]) * size for i, size in enumerate(sizes)]
        sent += frames
        a.send(*frames)
        clock.run_until_idle()
        if rooms:
            b.give_room(rooms.pop())
            clock.run_until_idle()
    b.give_room(None)
    clock.run_until_idle()
    assert b.frames == sent
