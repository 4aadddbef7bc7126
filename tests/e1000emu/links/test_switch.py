"""The switch: learning, ageing, flooding, queues."""

from __future__ import annotations

from e1000emu.clock import VirtualClock
from e1000emu.links import Patch, Switch
from tests.e1000emu.links.ports import RecordingPort

BROADCAST = b"\xff" * 6


def mac(n: int) -> bytes:
    return b"\x02\0\0\0\0" + bytes([n])


def ether(dst: bytes, src: bytes, n: int = 0) -> bytes:
    return dst + src + b"\x88\xb5" + bytes([n]) * 46


def make(ports: int = 3, **options: int) -> tuple[VirtualClock, Switch, list[RecordingPort]]:
    clock = VirtualClock()
    switch = Switch(clock, **options)
    return clock, switch, [RecordingPort(switch.port()) for _ in range(ports)]


def test_unknown_destination_is_flooded_and_a_learned_one_is_not() -> None:
    clock, switch, (a, b, c) = make()
    hello = ether(mac(2), mac(1))
    a.send(hello)
    clock.run_until_idle()
    assert (a.frames, b.frames, c.frames) == ([], [hello], [hello])
    reply = ether(mac(1), mac(2))
    b.send(reply)
    a.send(hello)
    clock.run_until_idle()
    assert a.frames == [reply]
    assert b.frames == [hello, hello]
    assert c.frames == [hello]
    assert switch.lookup(mac(1)) is a.link


def test_broadcast_and_multicast_go_everywhere_else() -> None:
    clock, _, (a, b, c) = make()
    frames = [ether(BROADCAST, mac(1)), ether(bytes.fromhex("01005e000001"), mac(1))]
    a.send(*frames)
    clock.run_until_idle()
    assert a.frames == []
    assert b.frames == c.frames == frames


def test_address_that_moves_is_found_at_its_new_port() -> None:
    clock, switch, (a, b, _) = make()
    a.send(ether(BROADCAST, mac(1)))
    b.send(ether(BROADCAST, mac(1)))
    clock.run_until_idle()
    assert switch.lookup(mac(1)) is b.link


def test_silent_address_ages_out() -> None:
    clock, switch, (a, b, c) = make(aging_ns=1000)
    a.send(ether(BROADCAST, mac(1)))
    clock.run_for(1000)
    assert switch.lookup(mac(1)) is a.link
    clock.run_for(1)
    assert switch.lookup(mac(1)) is None
    b.send(ether(mac(1), mac(2)))
    clock.run_until_idle()
    assert len(c.frames) == 2


def test_full_table_forgets_the_longest_silent() -> None:
    clock, switch, (a, _, _) = make(table_entries=2)
    for n in (1, 2, 1, 3):
        a.send(ether(BROADCAST, mac(n)))
    clock.run_until_idle()
    assert switch.lookup(mac(2)) is None
    assert switch.lookup(mac(1)) is switch.lookup(mac(3)) is a.link


def test_group_address_as_source_is_not_learned() -> None:
    clock, switch, (a, _, _) = make()
    a.send(ether(mac(9), BROADCAST))
    clock.run_until_idle()
    assert switch.lookup(BROADCAST) is None


def test_bad_reserved_and_homing_frames_are_dropped_with_their_reason() -> None:
    clock, switch, (a, b, c) = make()
    a.send(ether(BROADCAST, mac(1)))
    a.send(b"short", ether(bytes.fromhex("0180c2000001"), mac(1)), ether(mac(1), mac(4)))
    clock.run_until_idle()
    assert len(b.frames) == len(c.frames) == 1
    assert switch.stats.drops == {"bad frame": 1, "reserved address": 1, "same port": 1}


def test_slow_port_drops_beyond_its_queue_and_holds_nobody_up() -> None:
    clock, _, (a, b, c) = make(queue_frames=10)
    b.room = 4
    for i in range(30):
        a.send(ether(BROADCAST, mac(1), i))
        clock.run_until_idle()
    assert [f[14] for f in c.frames] == list(range(30))
    assert [f[14] for f in b.frames] == [0, 1, 2, 3]
    assert b.link.stats.drops == {"queue full": 16}
    b.give_room(3)
    clock.run_until_idle()
    b.give_room(None)
    clock.run_until_idle()
    assert [f[14] for f in b.frames] == list(range(14))


def test_unplugged_port_is_forgotten() -> None:
    clock, switch, (a, b, c) = make()
    b.send(ether(BROADCAST, mac(2)))
    clock.run_until_idle()
    b.link.detach()
    assert switch.lookup(mac(2)) is None
    a.send(ether(mac(2), mac(1)))
    clock.run_until_idle()
    assert len(c.frames) == 2
    assert not b.link.carrier


def test_isolated_ports_reach_the_others_and_not_each_other() -> None:
    for snooping in (False, True):
        clock, switch, (up,) = make(1, multicast_snooping=snooping)
        one, two = (RecordingPort(switch.port(isolated=True)) for _ in range(2))
        group = bytes.fromhex("01005e000001")
        said = [ether(BROADCAST, mac(1)), ether(mac(9), mac(1)), ether(group, mac(1))]
        one.send(*said)
        two.send(ether(BROADCAST, mac(2)))
        clock.run_until_idle()
        assert (up.frames, one.frames, two.frames) == ([*said, ether(BROADCAST, mac(2))], [], [])
        one.send(ether(mac(2), mac(1)))
        clock.run_until_idle()
        assert switch.stats.drops == {"isolated": 1}
        up.send(ether(BROADCAST, mac(3)), ether(mac(2), mac(3)))
        clock.run_until_idle()
        assert one.frames == [ether(BROADCAST, mac(3))]
        assert two.frames == [ether(BROADCAST, mac(3)), ether(mac(2), mac(3))]


def test_storm_control_bounds_floods_by_port_and_second_and_no_known_address() -> None:
    clock, _, (a, b, c) = make(storm_pps=3)
    b.send(ether(mac(1), mac(2)))  # unknown: counts against b
    clock.run_until_idle()
    a.send(*(ether(BROADCAST, mac(1), n) for n in range(5)), ether(mac(2), mac(1)))
    b.send(ether(BROADCAST, mac(2)))
    clock.run_until_idle()
    assert (len(b.frames), len(c.frames)) == (3 + 1, 1 + 3 + 1)
    assert a.link.stats.drops == {"storm control": 2}
    assert b.link.stats.drops == {}
    clock.run_for(1_000_000_000)
    a.send(ether(BROADCAST, mac(1)))
    clock.run_until_idle()
    assert len(b.frames) == 5


def test_storm_between_switches_joined_twice_ends_by_storm_control() -> None:
    clock = VirtualClock()
    one, other = (Switch(clock, storm_pps=100) for _ in range(2))
    for _ in range(2):
        Patch(one.port(), other.port())
    a, b = RecordingPort(one.port()), RecordingPort(other.port())
    a.send(ether(BROADCAST, mac(1)))
    assert clock.run_until_idle()
    dropped = sum(p.stats.drops.get("storm control", 0) for s in (one, other) for p in s.ports)
    assert dropped == 2  # it went round in both directions, and each was cut once
    assert 100 <= len(b.frames) <= 400
