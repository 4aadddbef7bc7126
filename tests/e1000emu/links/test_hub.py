"""The repeater: CSMA/CD step by step, in byte times that are told beforehand (IEEE 802.3 4.2)."""

from __future__ import annotations

import pytest

from e1000emu.clock import VirtualClock
from e1000emu.errors import LinkError
from e1000emu.links import Hub, HubPort
from e1000emu.links.station import Station
from fastpath.base.batch import FrameBatch

BYTE_NS = 800  # at 10 Mb/s
WIRE = 8 + 4  # preamble and FCS
GAP = 12
JAM = 4


class Count(Station):
    """A station that remembers what happened, in words."""

    def __init__(self, **settings: object) -> None:
        self.said: list[str] = []
        for name, value in settings.items():
            setattr(self, name, value)

    def deferred(self) -> None:
        self.said.append("deferred")

    def collided(self) -> None:
        self.said.append("collided")

    def collided_late(self) -> None:
        self.said.append("late")

    def excessive(self) -> None:
        self.said.append("excessive")

    def sent(self, collisions: int, frame: bytes, with_fcs: bool = False) -> None:
        self.said.append(f"sent {collisions}")


class Ear:
    """A port that notes when a frame came, in byte times."""

    def __init__(self, clock: VirtualClock) -> None:
        self.clock = clock
        self.heard: list[tuple[float, bytes]] = []
        self.ready = 0

    def receive(self, batch: FrameBatch, start: int, hold: bool) -> int:
        for i in range(start, len(batch)):
            self.heard.append((self.clock.now_ns() / BYTE_NS, bytes(batch[i])))
        return len(batch)

    def link_changed(self, up: bool, speed_mbps: int, full_duplex: bool) -> None:
        raise AssertionError

    def tx_ready(self) -> None:
        self.ready += 1


class Rig:
    """A hub with a counting station and an ear at each plug."""

    def __init__(self, *stations: Count, delay_bytes: int = 0, seed: int = 0) -> None:
        self.clock = VirtualClock()
        count = len(stations)
        self.hub = Hub(self.clock, ports=count, delay_ns=delay_bytes * BYTE_NS, seed=seed)
        self.ears = [Ear(self.clock) for _ in stations]
        for port, station, ear in zip(self.hub.ports, stations, self.ears, strict=True):
            port.attach(ear)
            port.station = station
        self.stations = stations

    def send(self, number: int, *sizes: int) -> None:
        batch = FrameBatch()
        for size in sizes:
            batch.append(bytes([number]) * size)
        self.hub.ports[number].transmit(batch)

    def at(self, byte_time: float, number: int, *sizes: int) -> None:
        self.clock.call_at(int(byte_time * BYTE_NS), lambda: self.send(number, *sizes))

    def run(self) -> None:
        self.clock.run_for(10_000_000_000)

    def times(self, number: int) -> list[float]:
        return [when for when, _ in self.ears[number].heard]


def test_a_frame_takes_its_time_and_reaches_everybody_else() -> None:
    rig = Rig(Count(), Count(), Count(), delay_bytes=10)
    rig.send(0, 60, 100)
    rig.run()
    first = WIRE + 60
    assert rig.times(1) == rig.times(2) == [first + 10, first + GAP + WIRE + 100 + 10]
    assert rig.ears[0].heard == []
    assert rig.stations[0].said == ["sent 0", "sent 0"]


def test_who_hears_a_carrier_defers_until_a_gap_after_it() -> None:
    rig = Rig(Count(), Count(defer_bytes=20))
    rig.send(0, 60)
    rig.at(5, 1, 80)
    rig.run()
    end = WIRE + 60
    assert rig.times(0) == [end + 20 + WIRE + 80]
    assert rig.stations[1].said == ["deferred", "sent 0"]


def test_who_comes_within_the_gap_defers_too() -> None:
    rig = Rig(Count(), Count())
    rig.send(0, 60)
    end = WIRE + 60
    rig.at(end + 3, 1, 60)
    rig.run()
    assert rig.times(0) == [end + GAP + WIRE + 60]
    assert rig.stations[1].said == ["deferred", "sent 0"]


def test_two_that_begin_together_collide_and_both_get_through() -> None:
    rig = Rig(Count(), Count())
    rig.send(0, 60)
    rig.send(1, 60)
    rig.run()
    assert [len(ear.heard) for ear in rig.ears] == [1, 1]
    for station in rig.stations:
        collisions = station.said.count("collided")
        assert collisions >= 1
        assert station.said[-1] == f"sent {collisions}"


def test_a_collision_takes_the_jam_and_whole_slots() -> None:
    rig = Rig(Count(), Count())
    rig.send(0, 60)
    rig.send(1, 60)
    rig.run()
    rounds = rig.stations[0].said.count("collided")
    winner = min(rig.times(0) + rig.times(1)) - WIRE - 60
    # the jams of all rounds, and between them slots or, when there is no slot, the gap
    assert winner >= rounds * JAM
    first = rig.times(1)[0] if rig.times(1)[0] < rig.times(0)[0] else rig.times(0)[0]
    assert (first - WIRE - 60 - JAM) % 1 == 0


def test_signals_that_cross_on_the_wire_collide() -> None:
    rig = Rig(Count(), Count(), delay_bytes=20)
    rig.send(0, 200)
    rig.at(19, 1, 200)  # it has not heard the other one yet
    rig.run()
    assert all("collided" in station.said for station in rig.stations)
    heard = Rig(Count(), Count(), delay_bytes=20)
    heard.send(0, 200)
    heard.at(21, 1, 200)
    heard.run()
    assert heard.stations[0].said == ["sent 0"]
    assert heard.stations[1].said == ["deferred", "sent 0"]


def test_a_collision_after_a_slot_is_late_and_counts_as_sent() -> None:
    """The wire is longer than the standard allows."""
    rig = Rig(Count(), Count(), delay_bytes=100)
    rig.send(0, 400)
    rig.at(90, 1, 400)
    rig.run()
    assert rig.stations[0].said == ["late"]
    assert rig.stations[1].said[0] == "collided"  # it was on the wire for 10 byte times
    assert rig.times(1) == []
    assert len(rig.times(0)) == 1


def test_a_late_collision_is_tried_again_with_rtlc() -> None:
    rig = Rig(Count(retry_late=True), Count(), delay_bytes=100)
    rig.send(0, 400)
    rig.at(90, 1, 400)
    rig.run()
    assert rig.stations[0].said[0] == "late"
    assert len(rig.times(1)) == 1


@pytest.mark.parametrize("retries", [0, 3, 15, 20])
def test_a_frame_is_given_up_after_its_retries(retries: int) -> None:
    """The other station collides with everything: it listens to nobody."""
    rig = Rig(Count(retries=retries), Count(full_duplex=True))
    port = rig.hub.ports[0]
    start = port.hub.start

    def in_the_way(*args: object) -> object:
        sending = start(*args)  # type: ignore[arg-type]
        if args[0] is port:
            start(rig.hub.ports[1], b"x" * 10, 0, rig.clock.now_ns())
        return sending

    port.hub.start = in_the_way  # type: ignore[method-assign, assignment]
    rig.send(0, 1000)
    rig.run()
    said = [word for word in rig.stations[0].said if word != "deferred"]
    assert said.count("collided") == retries + 1
    assert said.count("excessive") == (retries >= 15)
    assert port.stats.drops == {"excessive collisions": 1}
    assert rig.times(1) == []


def test_a_duplex_mismatch_shows_as_it_does_in_life() -> None:
    """The station that is set to full duplex counts nothing, the other one late collisions."""
    rig = Rig(Count(), Count(full_duplex=True))
    rig.send(0, 1500)
    rig.at(500, 1, 60)
    rig.run()
    assert rig.stations[0].said == ["late"]
    assert rig.stations[1].said == ["sent 0"]
    assert rig.times(0) == rig.times(1) == []


def test_a_carrier_in_the_second_part_of_the_gap_is_not_heeded() -> None:
    """IEEE 802.3 4.2.3.2.1: fairness."""
    results = []
    for sense in (4, 12):
        rig = Rig(Count(), Count(sense_bytes=sense), Count(defer_bytes=8))
        rig.send(0, 60)
        rig.at(5, 1, 60)  # it waits for the end and 12 byte times
        rig.at(6, 2, 300)  # this one for 8
        rig.run()
        results.append("collided" in rig.stations[1].said)
    assert results == [True, False]


def test_room_is_told_when_there_is_some() -> None:
    rig = Rig(Count(), Count())
    port = rig.hub.ports[0]
    assert port.tx_room() == rig.hub.queue_frames
    rig.send(0, *[60] * rig.hub.queue_frames)
    assert port.tx_room() == 0
    rig.run()
    assert rig.ears[0].ready == 1
    assert len(rig.times(1)) == rig.hub.queue_frames


def outcome(seed: int) -> list[object]:
    rig = Rig(Count(), Count(), Count(), seed=seed)
    for number in range(3):
        rig.send(number, *range(60, 70))
    rig.run()
    assert all(ear.heard for ear in rig.ears)
    return [ear.heard for ear in rig.ears] + [station.said for station in rig.stations]


def test_the_seed_decides() -> None:
    assert outcome(1) == outcome(1)
    assert outcome(1) != outcome(2)


def test_unplugging_forgets_what_waited() -> None:
    rig = Rig(Count(), Count())
    rig.send(0, 60, 60)
    port = rig.hub.ports[0]
    assert isinstance(port, HubPort)
    port.detach()
    assert not port.carrier
    rig.run()
    assert port.stats.drops == {"unplugged": 2}


@pytest.mark.parametrize(
    ("options", "word"),
    [
        ({"speed_mbps": 1000}, "10 or 100"),
        ({"ports": 1}, "ports"),
        ({"delay_ns": -1}, "delay_ns"),
        ({"queue_frames": 0}, "queue_frames"),
    ],
)
def test_arguments(options: dict[str, int], word: str) -> None:
    with pytest.raises(LinkError, match=word):
        Hub(VirtualClock(), **options)  # type: ignore[arg-type]


def test_a_frame_cut_by_unplugging_takes_no_later_one_with_it() -> None:
    clock = VirtualClock()
    a, b = Hub(clock).ports
    ear = Ear(clock)
    b.attach(ear)
    a.attach(Ear(clock))
    a.transmit(FrameBatch([bytes(1000)]))
    clock.run_for(100 * BYTE_NS)
    a.detach()
    a.attach(Ear(clock))
    a.station = count = Count()
    a.transmit(FrameBatch([bytes(100)]))
    clock.run_until_idle()
    assert [len(data) for _, data in ear.heard] == [100]
    assert count.said == ["sent 0"]
