"""The adaptive policy on a threaded interrupt block, with ITR and the four delays beside it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastpath.errors import ArgumentError
from fastpath.nic.irqblock import REGISTERS, EventLine, IrqBlock, Worker
from fastpath.nic.moderation import PARAMETERS, AdaptiveModeration
from fastpath.nic.regfile import RegFile

ICR, ITR, IMS, IMC = (REGISTERS[name] for name in ("ICR", "ITR", "IMS", "IMC"))
RDTR, RADV, TIDV, TADV = (REGISTERS[name] for name in ("RDTR", "RADV", "TIDV", "TADV"))
FPD = 1 << 31
TXDW, LSC, RXT0 = 0x1, 0x4, 0x80
US = 1000
SILENCE_NS = 150 * US
START = 10**17


class Line:
    """An interrupt block on an eventfd, enabled for everything."""

    def __init__(self, policy: AdaptiveModeration | None = None) -> None:
        self.fd = os.eventfd(0, os.EFD_NONBLOCK)
        self.line = EventLine()
        self.line.attach(self.fd)
        self.irq = IrqBlock()
        regs = RegFile(0x1000)
        for off in (ICR, ITR, IMS, IMC, RDTR, RADV, TIDV, TADV):
            regs.define(off // 4, rw=0xFFFF if off not in (ICR, IMS, IMC) else 0)
        self.regs = regs
        self.policy = AdaptiveModeration() if policy is None else policy
        self.irq._bind(regs, self, None)
        regs.poke(IMS, 0x1FFFF)
        self.irq._set_policy(self.policy)
        self.irq._go_threaded(self.line, Worker())

    def now_ns(self) -> int:
        """Be the clock, before all that happens."""
        return 0

    def fired(self) -> int:
        """How often it was told since the last call."""
        try:
            return os.eventfd_read(self.fd)
        except BlockingIOError:
            return 0

    def serve(self, now: int) -> int:
        """What a guest does: read ICR, unmask."""
        causes = self.irq._read_at(ICR, now)
        self.line.let()
        return causes


@pytest.fixture
def rig() -> Iterator[Line]:
    line = Line()
    yield line
    os.close(line.fd)


def test_the_first_frame_interrupts_at_once(rig: Line) -> None:
    rig.irq._received_at(RXT0, 1, START)
    assert rig.fired() == 1
    assert rig.serve(START) == RXT0
    assert rig.irq._next_due() == 0


def test_one_frame_at_a_time_is_never_held_back(rig: Line) -> None:
    now = START
    for _ in range(100):
        rig.irq._received_at(RXT0, 1, now)
        assert rig.fired() == 1
        rig.serve(now)
        now += 5 * US
    assert rig.policy.floor_ns == 0


def test_itr_keeps_interrupts_apart(rig: Line) -> None:
    rig.regs.poke(ITR, 200 * US // 256)
    rig.irq._received_at(RXT0, 1, START)
    assert rig.fired() == 1
    rig.serve(START)
    rig.irq._received_at(RXT0, 1, START + 50 * US)
    assert rig.fired() == 0
    assert rig.irq._next_due() == START + 200 * US // 256 * 256
    rig.irq._tick_at(START + 199 * US)
    assert rig.fired() == 0
    rig.irq._tick_at(START + 200 * US)
    assert rig.fired() == 1


def test_thick_traffic_raises_the_wait_and_thin_traffic_ends_it(rig: Line) -> None:
    now, interrupts = START, 0
    for _ in range(1000):  # 10 frames each 50 us
        rig.irq._received_at(RXT0, 10, now)
        rig.irq._tick_at(now)
        if rig.fired():
            interrupts += 1
            rig.serve(now)
        now += 50 * US
    assert 100 * US < rig.policy.floor_ns <= rig.policy.floor_max_ns
    assert 40 <= interrupts < 500, "each brought more than one batch"
    for _ in range(20):
        rig.irq._received_at(RXT0, 1, now)
        now = rig.irq._next_due() or now
        rig.irq._tick_at(now)
        assert rig.fired() == 1
        rig.serve(now)
        now += 1000 * US
    assert rig.policy.floor_ns == 0


def test_half_of_the_receive_ring_does_not_wait(rig: Line) -> None:
    now = START
    for _ in range(100):
        rig.irq._sent_at(0, False, 1, now)  # it answers
        rig.irq._received_at(RXT0, 10, now)
        rig.irq._tick_at(now)
        if rig.fired():
            rig.serve(now)
        now += 50 * US
    assert rig.policy.floor_ns > 200 * US
    assert rig.irq._next_due() <= now + 250 * US, "the burst may be over"
    rig.irq._tick_at(now + 10_000 * US)
    rig.fired()
    rig.serve(now + 10_000 * US)
    now += 20_000 * US
    rig.irq._sent_at(0, False, 1, now)
    rig.irq._received_at(RXT0, 64, now, 256)
    assert rig.fired() == 1, "the last was long ago"
    rig.serve(now)
    rig.irq._received_at(RXT0, 127, now + US, 256)
    assert rig.fired() == 0
    rig.irq._received_at(RXT0, 1, now + 2 * US, 256)
    assert rig.fired() == 1


def test_the_end_of_a_burst_is_nothing_to_a_guest_that_answers_nothing(rig: Line) -> None:
    now = last = START
    for _ in range(100):
        rig.irq._received_at(RXT0, 10, now)
        rig.irq._tick_at(now)
        if rig.fired():
            rig.serve(now)
            last = now
        now += 50 * US
    assert rig.policy.floor_ns > 300 * US
    rig.irq._received_at(RXT0, 10, now)
    assert rig.irq._next_due() == last + rig.policy.floor_ns


def test_frames_gather_on_the_wire_until_someone_looks(rig: Line) -> None:
    assert rig.irq._gather_at(START) == 0, "while they are few each is stored at once"
    now = START
    for _ in range(400):  # 10 frames each 50 us
        rig.irq._received_at(RXT0, 10, now)
        rig.irq._tick_at(now)
        if rig.fired():
            rig.serve(now)
        now += 50 * US
    rig.irq._tick_at(now + 10_000 * US)
    now += 10_000 * US
    rig.fired()
    rig.serve(now)
    rig.irq._received_at(RXT0, 10, now + US)
    now += US
    held = rig.irq._next_due()
    assert rig.irq._gather_at(now) == held - 50 * US - now > 200 * US, "not long before they look"
    rig.irq._sent_at(0, False, 1, now)
    assert rig.irq._gather_at(now) == 200 * US, "whether a burst is over is told by when it came"


def test_exchanges_of_a_few_frames_do_not_wait_for_long(rig: Line) -> None:
    """Five frames, an answer 100 us after the interrupt, five frames: a caller and a server."""
    now, waited = START, 0
    for _ in range(200):
        rig.irq._sent_at(0, False, 1, now)
        rig.irq._received_at(RXT0, 5, now)
        if not rig.fired():
            due = rig.irq._next_due()
            waited += due - now
            now = due
            rig.irq._tick_at(now)
            assert rig.fired() == 1
        rig.serve(now)
        now += 100 * US
    assert waited / 200 <= 300 * US, "a silence, and the few that were waited out to no purpose"


def super_frames(rig: Line, gap: int, now: int = START, blocked: bool = False) -> tuple[int, int]:
    """Send 45 frames every `gap` for 200 ms, each acknowledged 50 us later: (interrupts, end).

    A `blocked` sender waits for the acknowledgement of one before it sends the next.
    """
    interrupts, end, send_at, acked_at = 0, now + 200_000 * US, now, 0
    while now < end:
        if now == send_at:
            rig.irq._sent_at(TXDW, False, 45, now, 256)
            acked_at = now + 50 * US
            send_at = 0 if blocked else now + gap
        if now == acked_at:
            rig.irq._received_at(RXT0, 1, now, 256)
        rig.irq._tick_at(now)
        if rig.fired():
            interrupts += 1
            if rig.serve(now) & RXT0 and not send_at:
                send_at = now + 20 * US
            rig.irq._write_at(IMS, 0x1FFFF, now)
        now += 10 * US
    return interrupts, end


def test_a_gap_that_ends_by_itself_is_no_silence(rig: Line) -> None:
    """A guest that makes a super-packet in 700 us goes on without the acknowledgement of it."""
    interrupts, _ = super_frames(rig, 700 * US)
    assert interrupts < 150, "one every 2 ms, and those in which that was found out"


def test_a_guest_that_waits_for_an_answer_gets_it_in_the_silence(rig: Line) -> None:
    interrupts, _ = super_frames(rig, 0, blocked=True)
    assert interrupts > 450, "one each 300 us or so, but for those that were waited out in vain"


def test_what_a_silence_is_is_learned_again_and_again(rig: Line) -> None:
    _, now = super_frames(rig, 700 * US)
    interrupts, now = super_frames(rig, 0, now, blocked=True)
    assert interrupts > 450
    _, now = super_frames(rig, 700 * US, now)
    interrupts, _ = super_frames(rig, 700 * US, now)
    assert interrupts < 150


def send_thick(rig: Line) -> int:
    """Send 8 frames each 50 us for 20 ms, with interrupts served; return when that is over."""
    now = START
    for _ in range(400):
        rig.irq._sent_at(TXDW, False, 8, now, 256)
        rig.irq._tick_at(now)
        if rig.fired():
            rig.serve(now)
        now += 50 * US
    return now


def test_sent_frames_wait_longer_until_nearly_all_of_the_ring_is_done(rig: Line) -> None:
    now = send_thick(rig)
    floor = rig.policy.floor_ns
    assert floor > 100 * US
    now += 10_000 * US
    rig.irq._tick_at(now)
    rig.fired()
    rig.serve(now)
    rig.irq._sent_at(TXDW, False, 20, now, 256)
    rig.fired()
    rig.serve(now)
    floor = rig.policy.floor_ns
    rig.irq._sent_at(TXDW, False, 20, now + US, 256)
    assert rig.irq._next_due() <= now + US + SILENCE_NS
    rig.irq._sent_at(TXDW, False, 20, now + 100 * US, 256)
    rig.irq._tick_at(now + US + SILENCE_NS)
    assert rig.fired() == 0, "it went on sending"
    assert rig.irq._next_due() == now + 100 * US + SILENCE_NS
    rig.irq._received_at(RXT0, 1, now + 102 * US)
    assert rig.irq._next_due() <= now + floor, "a received frame does not wait that long"
    rig.irq._tick_at(now + floor)
    assert rig.fired() == 1
    rig.serve(now + floor)
    rig.irq._sent_at(TXDW, False, 200, now + floor + US, 256)
    assert rig.fired() == 0
    rig.irq._sent_at(TXDW, False, 24, now + floor + 2 * US, 256)
    assert rig.fired() == 1, "224 of 256 are done"


def test_what_is_sent_before_the_handler_begins_is_left_in_the_ring(rig: Line) -> None:
    """An interrupt that takes long to arrive is asserted while more of the ring is free."""
    now = send_thick(rig)
    rig.irq._tick_at(now + 10_000 * US)
    now += 10_000 * US
    rig.fired()
    rig.irq._sent_at(TXDW, False, 60, now, 256)
    rig.serve(now)  # after 60 descriptors: keep 75 for the next
    rig.irq._sent_at(TXDW, False, 120, now, 256)
    assert rig.fired() == 0
    rig.irq._sent_at(TXDW, False, 1, now, 256)
    assert rig.fired() == 1, "181 = 256 - 75, with the 60 before"


def test_a_guest_that_falls_silent_is_told_that_its_frames_are_sent(rig: Line) -> None:
    now = send_thick(rig)
    rig.irq._tick_at(now + SILENCE_NS)
    assert rig.fired() == 1


def test_a_guest_in_its_handler_is_not_silent(rig: Line) -> None:
    now = send_thick(rig)
    rig.irq._tick_at(now + 10_000 * US)
    now += 10_000 * US
    assert rig.serve(now) == TXDW
    rig.fired()
    rig.irq._write_at(IMC, 0x1FFFF, now)
    rig.irq._sent_at(TXDW, False, 8, now, 256)
    now += 2 * SILENCE_NS
    rig.irq._write_at(IMS, 0x1FFFF, now)
    assert rig.fired() == 0, "its sender had no chance to go on"
    rig.irq._tick_at(now + SILENCE_NS)
    assert rig.fired() == 1


def handler(rig: Line, begin: int, end: int) -> None:
    """What a Linux guest does about an interrupt: read ICR, mask, work, unmask."""
    rig.serve(begin)
    rig.irq._write_at(IMC, 0x1FFFF, begin)
    rig.irq._write_at(IMS, 0x1FFFF, end)
    rig.fired()


def test_a_guest_that_answers_nothing_gets_time_without_frames(rig: Line) -> None:
    now = START
    assert rig.irq._room_at(64, now) == 64
    rig.irq._received_at(RXT0, 30, now)
    assert rig.fired() == 1
    rig.serve(now)
    rig.irq._write_at(IMC, 0x1FFFF, now)
    assert rig.irq._room_at(64, now) == 64, "a burst for the run of the handler"
    rig.irq._received_at(RXT0, 40, now)
    assert rig.irq._room_at(64, now) == 24
    rig.irq._received_at(RXT0, 24, now)
    assert rig.irq._room_at(64, now) == 0
    assert rig.irq._next_due() == now + 10_000 * US, "asked again, should it never end"
    rig.serve(now)
    now += 640 * US
    rig.irq._write_at(IMS, 0x1FFFF, now)
    assert rig.irq._next_due() == 0
    assert rig.irq._room_at(64, now) == 64, "the next burst, for after the pause"
    rig.irq._received_at(RXT0, 64, now, 128)
    assert rig.irq._room_at(64, now) == 0
    rig.irq._tick_at(now + 119 * US)
    assert rig.fired() == 0, "640 us in the handler: 120 without"
    rig.irq._tick_at(now + 120 * US)
    assert rig.fired() == 1
    assert rig.irq._room_at(64, now + 120 * US) == 64


def test_a_guest_that_answers_is_not_held_up(rig: Line) -> None:
    now = START
    rig.irq._sent_at(TXDW, False, 1, now)
    rig.fired()
    handler(rig, now, now + 2000 * US)
    now += 2000 * US
    for _ in range(10):
        rig.irq._received_at(RXT0, 64, now, 128)
        assert rig.irq._room_at(64, now) == 64
    assert rig.fired() == 1
    assert rig.irq._room_at(64, now + 20_000 * US) == 64, "and the pause is over by then"


def test_a_handler_that_does_not_mask_is_not_waited_for(rig: Line) -> None:
    rig.irq._received_at(RXT0, 64, START)
    rig.serve(START)
    rig.irq._received_at(RXT0, 64, START)
    assert rig.irq._room_at(64, START) == 64


def test_a_driver_that_polls_for_good_is_waited_for_once(rig: Line) -> None:
    rig.irq._received_at(RXT0, 64, START)
    rig.serve(START)
    rig.irq._write_at(IMC, 0x1FFFF, START)
    rig.irq._received_at(RXT0, 64, START)
    assert rig.irq._room_at(64, START + 9_999 * US) == 0
    for step in range(10):
        assert rig.irq._room_at(64, START + (10_000 + step) * US) == 64
        rig.irq._received_at(RXT0, 64, START + (10_000 + step) * US)


def test_a_handler_that_a_reset_cut_short_leaves_no_pause(rig: Line) -> None:
    rig.irq._received_at(RXT0, 64, START)
    rig.serve(START)
    rig.irq._write_at(IMC, 0x1FFFF, START)
    now = START + 60_000_000 * US  # another driver
    rig.fired()
    rig.irq._write_at(IMS, 0x1FFFF, now)
    rig.irq._received_at(RXT0, 1, now)
    assert rig.fired() == 1


def test_news_of_the_link_does_not_wait_for_frames(rig: Line) -> None:
    now = START
    for _ in range(200):
        rig.irq._received_at(RXT0, 50, now)
        rig.irq._tick_at(now)
        if rig.fired():
            rig.serve(now)
        now += 50 * US
    rig.irq._tick_at(now + 1000 * US)
    rig.fired()
    now += 1001 * US
    rig.serve(now)
    rig.irq._received_at(RXT0, 50, now)
    rig.fired()
    rig.serve(now)
    assert rig.policy.floor_ns > 0
    rig.irq._received_at(LSC, 0, now + US)
    assert rig.fired() == 1


@pytest.mark.parametrize(("direction", "bit"), [("rx", RXT0), ("tx", TXDW)])
def test_the_packet_delay_restarts_and_the_absolute_one_does_not(
    rig: Line, direction: str, bit: int
) -> None:
    irq, unit = rig.irq, 1024

    def event(now: int) -> None:
        if direction == "rx":
            irq._received_at(RXT0, 1, now)
        else:
            irq._sent_at(0, True, 1, now)

    for off, units in ((RDTR, 10), (TIDV, 10), (RADV, 25), (TADV, 25)):
        rig.regs.poke(off, units)
    now = START
    for step in range(5):
        event(now)
        assert rig.fired() == 0
        irq._tick_at(now)
        assert irq._next_due() == min(now + 10 * unit, START + 25 * unit), step
        now += 8 * unit
        if now >= START + 25 * unit:
            break
        irq._tick_at(now)
        assert rig.fired() == 0
    irq._tick_at(START + 25 * unit)
    assert rig.fired() == 1
    assert rig.serve(now) == bit
    assert irq._times()[1:] == (0, 0, 0, 0)


def test_a_cause_at_once_ends_the_transmit_delay(rig: Line) -> None:
    rig.regs.poke(TIDV, 100)
    rig.irq._sent_at(0, True, 1, START)
    rig.irq._sent_at(TXDW, False, 1, START + US)
    assert rig.fired() == 1
    assert rig.irq._times()[1:] == (0, 0, 0, 0)


def test_flush_expires_a_running_delay_only(rig: Line) -> None:
    rig.irq._write_at(RDTR, FPD | 1000, START)
    assert rig.fired() == 0
    rig.irq._received_at(RXT0, 1, START)
    assert rig.fired() == 0
    rig.irq._write_at(RDTR, FPD | 1000, START)
    assert rig.fired() == 1


STEPS = st.lists(
    st.tuples(
        st.sampled_from(["rx", "tx", "lsc", "read", "mask", "unmask", "tick", "itr"]),
        st.integers(0, 40),
        st.integers(0, 400),
    ),
    max_size=60,
)


@given(STEPS)
@settings(deadline=None)
def test_no_cause_is_ever_lost(steps: list[tuple[str, int, int]]) -> None:
    """After any history: an enabled cause interrupts, at the latest when what is due is done."""
    rig = Line()
    now, masks = START, 0x1FFFF
    for what, value, gap in steps:
        now += gap * US
        if what == "rx":
            rig.irq._received_at(RXT0, value, now)
        elif what == "tx":
            rig.irq._sent_at(TXDW, False, value, now)
        elif what == "lsc":
            rig.irq._received_at(LSC, 0, now)
        elif what == "read":
            rig.serve(now)
            rig.fired()
        elif what == "mask":
            masks = 0
            rig.irq._write_at(IMC, 0x1FFFF, now)
        elif what == "unmask":
            masks = 0x1FFFF
            rig.irq._write_at(IMS, 0x1FFFF, now)
        elif what == "itr":
            rig.irq._write_at(ITR, value * 40, now)
        rig.irq._tick_at(now)
        if rig.irq.causes & masks and not rig.irq.asserted:
            # half of the longest handler
            assert 0 < rig.irq._next_due() <= now + 12_000 * US or what == "mask"
        assert rig.irq._room_at(64, now) > 0 or rig.irq._next_due() > now
    rig.irq._write_at(IMS, 0x1FFFF, now)
    rig.irq._tick_at(now + 20_000 * US)
    assert rig.irq.asserted == bool(rig.irq.causes)
    assert rig.irq._room_at(64, now + 20_000 * US) == 64
    os.close(rig.fd)


def test_each_parameter_has_a_value_and_a_reason() -> None:
    policy = AdaptiveModeration()
    for name, (value, reason) in PARAMETERS.items():
        assert getattr(policy, name) == value
        assert len(reason.split()) > 5, name
    assert AdaptiveModeration(frames=7).frames == 7


@pytest.mark.parametrize(
    ("chosen", "wrong"),
    [
        ({"frame": 7}, "no argument frame=7; .*; did you mean frames"),
        ({"frames": -1}, "frames=-1 is out of range; give 0 to 1048576"),
        ({"thin_ns": 1.5}, "thin_ns=1.5 is a float, not an int"),
    ],
)
def test_what_is_no_parameter(chosen: dict[str, Any], wrong: str) -> None:
    with pytest.raises(ArgumentError, match=f"AdaptiveModeration: {wrong}"):
        AdaptiveModeration(**chosen)


@pytest.mark.parametrize(("sixteenths", "room"), [(0, 64), (3, 0), (16, 0)])
def test_the_pause_of_a_guest_that_only_receives_is_a_parameter(sixteenths: int, room: int) -> None:
    rig = Line(AdaptiveModeration(pause_sixteenths=sixteenths))
    rig.irq._received_at(RXT0, 64, START)
    rig.serve(START)
    rig.irq._write_at(IMS, 0x1FFFF, START + 1600)
    rig.irq._received_at(RXT0, 64, START + 1600)
    assert rig.irq._room_at(64, START + 1600) == room
    assert rig.irq._room_at(64, START + 1600 + sixteenths * 100) == 64
