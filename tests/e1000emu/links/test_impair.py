"""Impairments: what they do, and that the seed alone decides."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from e1000emu.clock import VirtualClock
from e1000emu.errors import LinkError
from e1000emu.links import Impair, NullLink, pair
from tests.e1000emu.links.ports import RecordingPort, frame, number


class Setup:
    """Two recording ports, the first behind an Impair."""

    def __init__(self, queue: int = 4096, room: int | None = None, **options: object) -> None:
        self.clock = VirtualClock()
        end_a, end_b = pair(self.clock, queue_frames=queue)
        self.impair = Impair(end_a, **options)
        self.a = RecordingPort(self.impair)
        self.b = RecordingPort(end_b, room)

    def send(self, frames: int, batch: int = 16) -> list[int]:
        """Send numbered frames from a; return the numbers that b got, in their order."""
        for first in range(0, frames, batch):
            self.a.send(*(frame(i) for i in range(first, min(first + batch, frames))))
        self.clock.run_until_idle()
        return [number(f) for f in self.b.frames]


def test_without_options_everything_passes_both_ways_in_order() -> None:
    s = Setup()
    s.b.send(*(frame(i) for i in range(50)))
    assert s.send(100) == list(range(100))
    assert s.a.frames == [frame(i) for i in range(50)]
    assert s.impair.events == {}


def test_fate_of_a_frame_depends_on_seed_and_number_alone() -> None:
    options = {"loss": 0.1, "reorder": 0.1, "duplicate": 0.05, "corrupt": 0.05}
    runs = []
    for batch in (1, 7, 64, 400):
        s = Setup(seed=5, **options)
        s.send(400, batch)
        runs.append((Counter(s.b.frames), s.impair.events))
    assert all(run == runs[0] for run in runs)
    other = Setup(seed=6, **options)
    other.send(400)
    assert Counter(other.b.frames) != runs[0][0]


def test_same_seed_gives_the_same_run_frame_by_frame() -> None:
    runs = []
    for _ in range(2):
        s = Setup(seed=9, loss=0.05, reorder=0.1, duplicate=0.1, jitter_ns=5000, delay_ns=10000)
        s.send(300)
        runs.append((s.b.frames, s.b.times))
    assert runs[0] == runs[1]


@pytest.mark.parametrize("p", [0.01, 0.05, 0.5])
def test_loss_is_near_its_probability(p: float) -> None:
    got = Setup(seed=1, loss=p).send(20000)
    assert abs((20000 - len(got)) / 20000 - p) < 0.02
    assert got == sorted(got)


def test_probability_one_hits_every_frame() -> None:
    assert Setup(loss=1).send(30) == []
    assert Setup(duplicate=1).send(3) == [0, 0, 1, 1, 2, 2]
    s = Setup(corrupt=1)
    s.send(30)
    assert len(s.b.frames) == 30
    for i, data in enumerate(s.b.frames):
        changed = int.from_bytes(data, "big") ^ int.from_bytes(frame(i), "big")
        assert changed.bit_count() == 1


def test_reordered_frames_are_overtaken_by_few_and_lost_never() -> None:
    got = Setup(seed=3, reorder=0.2, reorder_span=3).send(2000)
    assert sorted(got) == list(range(2000))
    assert got != sorted(got)
    # A frame held back waits for three that come after; those can be held back too.
    assert max(abs(place - i) for place, i in enumerate(got)) < 30


def test_last_frame_held_back_comes_by_the_timer() -> None:
    s = Setup(reorder=1)
    s.a.send(frame(1))
    s.clock.run_until_idle()
    assert [number(f) for f in s.b.frames] == [1]
    assert s.b.times[0] > 0


def test_crc_error_marks_the_frame_for_the_adapter() -> None:
    s = Setup(crc_error=1)
    s.send(2)
    assert s.b.flags == [2, 2]
    assert s.b.frames == [frame(0), frame(1)]


def test_delay_and_rate_move_the_arrival() -> None:
    s = Setup(delay_ns=5_000_000)
    s.send(1)
    assert s.b.times == [5_000_000]
    s = Setup(rate_bps=8_000_000)
    s.a.send(frame(0, 1514 - 38))
    s.a.send(frame(1, 1514 - 38))
    s.clock.run_until_idle()
    assert s.b.times == [1_500_000, 3_000_000]


@pytest.mark.parametrize("jitter_ns", [0, 1])
def test_frames_of_a_batch_take_their_time_one_after_the_other(jitter_ns: int) -> None:
    s = Setup(rate_bps=8_000_000, delay_ns=1_000_000, jitter_ns=jitter_ns)
    s.a.send(*(frame(n, 1514 - 38) for n in range(4)))
    s.clock.run_until_idle()
    assert s.b.times == pytest.approx([2_500_000, 4_000_000, 5_500_000, 7_000_000], abs=jitter_ns)


def test_frames_of_a_fast_wire_arrive_by_the_tenth_of_a_millisecond() -> None:
    s = Setup(rate_bps=1_000_000_000)
    s.a.send(*(frame(n, 1250 - 24) for n in range(25)))
    s.clock.run_until_idle()
    assert s.b.frames == [frame(n, 1250 - 24) for n in range(25)]
    assert s.b.times == [100_000] * 10 + [200_000] * 10 + [250_000] * 5


def test_jitter_keeps_every_frame_inside_its_bounds() -> None:
    s = Setup(delay_ns=1_000_000, jitter_ns=300_000, seed=2)
    got = s.send(100, batch=100)
    assert sorted(got) == list(range(100))
    assert got != sorted(got)
    assert all(700_000 <= when <= 1_300_000 for when in s.b.times)


def test_one_direction_leaves_the_other_alone() -> None:
    s = Setup(loss=1, direction="rx")
    s.b.send(frame(7))
    assert s.send(5) == [0, 1, 2, 3, 4]
    assert s.a.frames == []
    s = Setup(loss=1, direction="tx")
    s.b.send(frame(7))
    assert s.send(5) == []
    assert s.a.frames == [frame(7)]


def test_full_far_end_pushes_back_through_the_impairment() -> None:
    s = Setup(queue=8, room=0, queue_frames=16, delay_ns=1000)
    sent = 0
    while s.a.link.tx_room() and sent < 100:
        s.a.send(frame(sent))
        sent += 1
        s.clock.run_until_idle()
    assert sent < 30
    ready = s.a.ready
    s.b.give_room(None)
    s.clock.run_until_idle()
    assert [number(f) for f in s.b.frames] == list(range(sent))
    assert s.a.ready > ready


def test_full_port_pushes_back_to_the_far_sender() -> None:
    s = Setup(queue=8, queue_frames=4, delay_ns=1000)
    s.a.room = 0
    sent = 0
    while s.b.link.tx_room() and sent < 100:
        s.b.send(frame(sent))
        sent += 1
        s.clock.run_until_idle()
    assert sent < 30
    s.a.give_room(3)
    s.clock.run_until_idle()
    assert len(s.a.frames) == 3
    s.a.give_room(None)
    s.clock.run_until_idle()
    assert [number(f) for f in s.a.frames] == list(range(sent))


def test_unplugging_forgets_what_is_on_the_way() -> None:
    s = Setup(delay_ns=1000, reorder=0.5, seed=1)
    s.a.send(*(frame(i) for i in range(10)))
    s.impair.detach()
    s.clock.run_until_idle()
    assert s.b.frames == []
    assert s.impair.stats.drops == {"unplugged": 10}


@given(
    st.floats(0, 1),
    st.floats(0, 1),
    st.floats(0, 1),
    st.integers(0, 3000),
    st.integers(0, 2000),
    st.lists(st.integers(1, 9), max_size=12),
    st.integers(0, 2**32),
)
def test_frames_are_conserved(
    loss: float,
    reorder: float,
    duplicate: float,
    delay: int,
    jitter: int,
    batches: list[int],
    seed: int,
) -> None:
    s = Setup(
        loss=loss,
        reorder=reorder,
        duplicate=duplicate,
        delay_ns=delay,
        jitter_ns=jitter,
        seed=seed,
    )
    sent = 0
    for n in batches:
        s.a.send(*(frame(sent + i) for i in range(n)))
        sent += n
    s.clock.run_until_idle()
    events = s.impair.events
    assert len(s.b.frames) == sent - events.get("loss", 0) + events.get("duplicate", 0)
    assert {number(f) for f in s.b.frames} <= set(range(sent))


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"loss": 1.5}, "loss=1.5"),
        ({"duplicate": -0.1}, "duplicate=-0.1"),
        ({"delay_ns": -1}, "delay_ns=-1"),
        ({"rate_bps": 0}, "rate_bps=0"),
        ({"direction": "up"}, "direction='up'"),
        ({"reorder_span": 0}, "reorder_span"),
    ],
)
def test_wrong_options_are_named(options: dict[str, object], text: str) -> None:
    with pytest.raises(LinkError, match=text):
        Impair(NullLink(VirtualClock()), **options)


def test_link_without_clock_asks_for_one() -> None:
    with pytest.raises(LinkError, match="pass clock="):
        Impair(object())  # type: ignore[arg-type]
