"""Traffic of a guest's stock driver, with each offload on and off, judged on the wire.

The parts have one data path between them, so what is tried in many ways is shared out to them.
"""

from __future__ import annotations

import pytest

from e1000emu.registers.regs import reg
from tests.guest.setup import (
    DATA_PORT,
    GUEST,
    LINUX,
    MAC,
    VLAN_GUEST,
    VLAN_ID,
    VLAN_LINUX,
    OnTap,
    all_traffic,
    content,
    feature,
    fields,
    frame,
    on_parts,
    ping,
    statistics,
    tcp_from_peer,
    tcp_to_peer,
    udp_from_peer,
    udp_to_peer,
    wait_carrier,
    wire_is_right,
)

pytestmark = [pytest.mark.netns, pytest.mark.slow]


@pytest.fixture(autouse=True)
def no_trouble(on_tap: OnTap):
    """After each test the guest's log is clean, and its driver has done nothing wrong."""
    yield
    on_tap.assert_no_trouble()


def features(on_tap: OnTap, **wanted: bool) -> None:
    """Switch offloads by ethtool's short names and see that it was done."""
    long = {
        "rx": "rx-checksumming",
        "tx": "tx-checksumming",
        "tso": "tcp-segmentation-offload",
        "rxvlan": "rx-vlan-offload",
    }
    words = " ".join(f"{name} {'on' if on else 'off'}" for name, on in wanted.items())
    if "rx" in wanted:
        # The driver begins with RXCSUM.TUOFL set and its feature off; a change alone writes both.
        on_tap.guest.run(f"ethtool -K eth0 rx {'off' if wanted['rx'] else 'on'}").check()
    on_tap.guest.run(f"ethtool -K eth0 {words}").check()
    for name, on in wanted.items():
        assert feature(on_tap.guest, long[name]) == on
    wait_carrier(on_tap.guest)


@on_parts(
    ("rx", "tx", "tso"),
    ("82540EM", True, True, True),
    ("82540EM", False, False, False),
    ("82540EM", False, True, True),
    ("82545EM", False, True, True),
    ("82545EM", True, True, False),
    ("82544GC", True, False, False),
    ("82544GC", False, True, False),
)
def test_content_arrives_whole_and_the_wire_is_right(on_tap, rx, tx, tso):
    features(on_tap, rx=rx, tx=tx, tso=tso)
    guest, peer = on_tap.guest, on_tap.peer
    assert on_tap.registers("RXCSUM") == [reg("RXCSUM").mask("TUOFL") if rx else 0]
    before = statistics(guest)
    with on_tap.recorder.on() as path:
        tcp_to_peer(guest, peer)
        tcp_from_peer(guest, peer)
        udp_to_peer(guest, peer)
        udp_from_peer(guest, peer)
    after = statistics(guest)
    wire_is_right(path)
    sent = fields(path, f"tcp.dstport == {DATA_PORT} && ip.src == {GUEST}", "frame.len", "tcp.len")
    assert sum(int(length) for _, length in sent) >= len(content())
    assert max(int(size) for size, _ in sent) == 1514
    # who cut and who checked: the hardware's counters tell
    assert (after["tx_tcp_seg_good"] > before["tx_tcp_seg_good"]) == tso
    assert (after["rx_csum_offload_good"] > before["rx_csum_offload_good"]) == rx
    assert after["rx_csum_offload_errors"] == before["rx_csum_offload_errors"]


def test_pings_of_every_length_around_the_limits(on_tap):
    for size in (0, 1, 17, 18, 19, 1471, 1472):
        ping(on_tap.guest, size=size, count=2)
    made = on_tap.guest.run(f"ping -M do -c 1 -s 1473 {LINUX}")
    assert "message too long" in made.stdout.lower()


def test_datagrams_longer_than_a_frame_are_fragmented(on_tap):
    with on_tap.recorder.on() as path:
        udp_to_peer(on_tap.guest, on_tap.peer, size=8000, count=30)
        udp_from_peer(on_tap.guest, on_tap.peer, size=8000, count=30)
    wire_is_right(path)
    assert len(fields(path, f"ip.flags.mf == 1 && ip.src == {GUEST}", "ip.len")) >= 30 * 5


@pytest.fixture
def vlan(on_tap: OnTap):
    guest = on_tap.guest
    guest.run("modprobe 8021q").check()
    guest.run(f"ip link add link eth0 name eth0.7 type vlan id {VLAN_ID}").check()
    guest.run(f"ip addr add {VLAN_GUEST}/24 dev eth0.7; ip link set eth0.7 up").check()
    yield
    guest.run("ip link del eth0.7").check()


@pytest.mark.usefixtures("vlan")
@on_parts(
    ("offload",),
    ("82540EM", True),
    ("82540EM", False),
    ("82545EM", True),
    ("82544GC", True),
)
def test_vlan(on_tap, offload):
    guest = on_tap.guest
    features(on_tap, rxvlan=offload, tx=True, tso=True)
    assert feature(guest, "tx-vlan-offload") == offload
    (ctrl,) = on_tap.registers("CTRL")
    assert bool(ctrl & reg("CTRL").mask("VME")) == offload  # the hardware strips and inserts tags
    with on_tap.recorder.on() as path:
        all_traffic(guest, on_tap.peer, VLAN_LINUX)
        ping(guest)  # and frames without a tag beside them
    wire_is_right(path)
    assert fields(path, f"ip.addr == {VLAN_GUEST} && !vlan", "frame.number") == []
    ids = {row[0] for row in fields(path, f"ip.addr == {VLAN_GUEST}", "vlan.id")}
    assert ids == {str(VLAN_ID)}
    assert fields(path, f"ip.addr == {GUEST} && vlan", "frame.number") == []


@pytest.mark.usefixtures("vlan")
def test_vlan_filter_keeps_other_vlans_out(on_tap):
    guest = on_tap.guest
    strangers = [frame(MAC, n, tag=VLAN_ID + 1) for n in range(20)]
    (rctl,) = on_tap.registers("RCTL")
    assert rctl & reg("RCTL").mask("VFE")
    ping(guest, VLAN_LINUX)
    before = statistics(guest)
    on_tap.send(strangers)
    ping(guest, VLAN_LINUX)  # what was sent before has been judged when this is answered
    between = statistics(guest)
    guest.run("ip link add link eth0 name eth0.8 type vlan id 8; ip link set eth0.8 up").check()
    on_tap.send(strangers)
    ping(guest, VLAN_LINUX)
    after = statistics(guest)
    guest.run("ip link del eth0.8").check()
    assert between["rx_packets"] - before["rx_packets"] < 20
    assert after["rx_packets"] - between["rx_packets"] >= 20


@pytest.fixture
def jumbo(on_tap: OnTap):
    yield
    on_tap.guest.run("ip link set eth0 mtu 1500").check()
    on_tap.peer.ip("link", "set", on_tap.tap.name, "mtu", "1500")
    wait_carrier(on_tap.guest)


@pytest.mark.usefixtures("jumbo")
@on_parts(
    ("mtu",),
    ("82540EM", 68),
    ("82540EM", 16110),
    ("82545EM", 1501),
    ("82545EM", 9000),
    ("82544GC", 4082),
    ("82544GC", 16110),
)
def test_mtu(on_tap, mtu):
    guest, peer = on_tap.guest, on_tap.peer
    guest.run(f"ip link set eth0 mtu {mtu}").check()
    peer.ip("link", "set", on_tap.tap.name, "mtu", str(mtu))
    wait_carrier(guest)
    ping(guest, size=mtu - 28)
    too_long = guest.run(f"ping -M do -c 1 -s {mtu - 27} {LINUX}").stdout
    assert "message too long" in too_long.lower()
    if mtu < 1280:
        return  # content by frames of 28 bytes would take long and show no more
    with on_tap.recorder.on() as path:
        tcp_to_peer(guest, peer)
        tcp_from_peer(guest, peer)
        udp_to_peer(guest, peer, size=mtu - 28, count=50)
        udp_from_peer(guest, peer, size=mtu - 28, count=50)
    wire_is_right(path)
    for direction in (f"ip.src == {GUEST}", f"ip.dst == {GUEST}"):
        rows = fields(path, f"{direction} && tcp.len > 0", "ip.len")
        assert max(int(row[0]) for row in rows) == mtu


def test_an_mtu_beyond_the_hardware_is_refused(on_tap):
    made = on_tap.guest.run("ip link set eth0 mtu 16111")
    assert made.returncode != 0
    assert "mtu greater than device maximum" in made.stdout
    ping(on_tap.guest)
