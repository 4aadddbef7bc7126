"""The patch cable: frames both ways, push-back, the end."""

from __future__ import annotations

import pytest

from e1000emu.clock import VirtualClock
from e1000emu.errors import LinkError
from e1000emu.links import Impair, NullLink, Patch, Switch, pair
from e1000emu.testing.recorders import RecordingLink
from fastpath.base.batch import FrameBatch
from tests.e1000emu.links.ports import RecordingPort, frame


def frames(count: int) -> list[bytes]:
    return [frame(n) for n in range(count)]


def test_frames_cross_both_ways_in_order() -> None:
    clock = VirtualClock()
    (a, one), (b, other) = pair(clock), pair(clock)
    near, far = RecordingPort(a), RecordingPort(b)
    Patch(one, other)
    near.send(*frames(3))
    far.send(*frames(5))
    clock.run_until_idle()
    assert far.frames == frames(3)
    assert near.frames == frames(5)


def test_a_full_link_holds_the_other_one_back_and_nothing_is_lost() -> None:
    clock = VirtualClock()
    a, one = pair(clock)
    near, far = RecordingPort(a), RecordingLink(room=2)
    Patch(one, far)
    near.send(*frames(9))
    clock.run_until_idle()
    assert far.take() == frames(9)[:2]
    far.open_room(3)
    clock.run_until_idle()
    assert far.take() == frames(9)[2:5]
    far.open_room(100)
    clock.run_until_idle()
    assert far.take() == frames(9)[5:]


def test_more_than_a_queue_holds_crosses_in_time() -> None:
    """A link promises `tx_ready` only to whom it has said 0."""
    clock = VirtualClock()
    (a, one), (b, other) = pair(clock), pair(clock)
    near, far = RecordingPort(a), RecordingPort(b)
    Patch(one, Impair(other, delay_ns=1_000_000, queue_frames=2))
    near.send(*frames(9))
    clock.run_until_idle()
    assert far.frames == frames(9)


def test_what_a_link_cannot_hold_is_taken_and_lost() -> None:
    one, other = RecordingLink(), RecordingLink(room=1)
    Patch(one, other)
    assert one.port is not None
    assert one.port.receive(FrameBatch(frames(4)), 0, False) == 4
    assert other.take() == frames(4)[:1]


def test_a_switch_learns_through_it() -> None:
    clock = VirtualClock()
    switch = Switch(clock)
    inside, outside = RecordingPort(switch.port()), RecordingLink()
    Patch(switch.port(), outside)
    outside.inject(b"\xff" * 6 + b"\x02\0\0\0\0\x09" + bytes(48))
    clock.run_until_idle()
    assert len(inside.frames) == 1
    assert switch.lookup(b"\x02\0\0\0\0\x09") is switch.ports[1]
    inside.send(*frames(2))
    clock.run_until_idle()
    assert outside.take() == frames(2)


def test_both_ends_are_unplugged_and_a_taken_one_is_refused() -> None:
    clock = VirtualClock()
    one, other = NullLink(clock), NullLink(clock)
    patch = Patch(one, other)
    with pytest.raises(LinkError, match="plugged in already"):
        Patch(NullLink(clock), other)
    third = NullLink(clock)
    with pytest.raises(LinkError, match="plugged in already"):
        Patch(third, one)
    assert third.port is None
    patch.close()
    patch.close()
    assert one.port is None
    assert other.port is None
