"""Links without a far end."""

from __future__ import annotations

import pytest

from e1000emu.clock import VirtualClock
from e1000emu.errors import LinkError
from e1000emu.links import Generator, NullLink
from tests.e1000emu.links.ports import RecordingPort, frame, number


def test_null_link_has_carrier_and_swallows() -> None:
    clock = VirtualClock()
    port = RecordingPort(NullLink(clock))
    assert port.link.carrier
    port.send(frame(1), frame(2))
    assert port.link.stats.tx_frames == 2
    assert port.link.stats.tx_bytes == 120


def test_generator_sends_exactly_its_count_in_turn() -> None:
    clock = VirtualClock()
    link = Generator(clock, [frame(i) for i in range(3)], count=100, batch_frames=8)
    port = RecordingPort(link)
    clock.run_until_idle()
    assert [number(f) for f in port.frames] == [i % 3 for i in range(100)]
    assert link.done


def test_generator_keeps_its_rate() -> None:
    clock = VirtualClock()
    port = RecordingPort(Generator(clock, [frame(0)], rate_pps=1e6, batch_frames=10, count=1000))
    clock.run_until_idle()
    assert len(port.frames) == 1000
    assert port.times[-1] == 990_000


def test_generator_waits_for_room_and_skips_nothing() -> None:
    clock = VirtualClock()
    link = Generator(clock, [frame(i) for i in range(4)], count=21, batch_frames=8)
    port = RecordingPort(link, room=3)
    clock.run_until_idle()
    assert len(port.frames) == 3
    while not link.done:
        port.give_room(2)
        clock.run_until_idle()
    assert [number(f) for f in port.frames] == [i % 4 for i in range(21)]


def test_generator_names_what_is_wrong() -> None:
    with pytest.raises(LinkError, match="at least one frame"):
        Generator(VirtualClock(), [])
    with pytest.raises(LinkError, match="rate_pps=0"):
        Generator(VirtualClock(), [frame(1)], rate_pps=0)


def test_another_port_gets_what_the_first_did_not_accept() -> None:
    clock = VirtualClock()
    link = Generator(clock, [frame(i) for i in range(4)], count=8, batch_frames=8)
    RecordingPort(link, room=3)
    clock.run_until_idle()
    link.detach()
    port = RecordingPort(link)
    clock.run_until_idle()
    assert [number(f) for f in port.frames] == [3, 0, 1, 2, 3]
    assert (link.stats.rx_frames, link.stats.rx_bytes) == (8, 8 * 60)
