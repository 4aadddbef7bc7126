"""The stock driver of a guest's Linux: probe, ethtool, filters, up and down, reload."""

from __future__ import annotations

import re
import time

import pytest

from e1000emu.registers.models import MODELS
from e1000emu.registers.regs import reg
from tests.guest.setup import (
    GUEST,
    MAC,
    NO_WAKE_IN_LINUX,
    WAIT_S,
    OnTap,
    configure,
    frame,
    on_parts,
    ping,
    self_test,
    statistics,
    tcp_from_peer,
    tcp_to_peer,
    wait_carrier,
)

pytestmark = [pytest.mark.netns, pytest.mark.slow]

MULTICAST = bytes.fromhex("01005e0a0b0c")
STRANGER = bytes.fromhex("525400aabbcc")


@pytest.fixture(autouse=True)
def no_trouble(on_tap: OnTap):
    """After each test the guest's log is clean, and its driver has done nothing wrong."""
    yield
    if on_tap.guest.running:
        on_tap.assert_no_trouble()


@pytest.fixture
def guest(on_tap: OnTap):
    return on_tap.guest


def reload(on_tap: OnTap, parameters: str = "") -> None:
    driver = on_tap.driver
    on_tap.guest.run(f"rmmod {driver} && modprobe {driver} {parameters}").check()


def test_probe_finds_the_part(on_tap, guest, model):
    text = guest.run("ethtool -i eth0").check().stdout
    driver = re.search(r"^driver: (\S+)$", text, re.M)
    assert driver is not None
    assert driver[1] == on_tap.driver
    bus = re.search(r"^bus-info: (\S+)$", text, re.M)
    assert bus is not None
    ids = guest.run(f"cd /sys/bus/pci/devices/{bus[1]}; cat vendor device revision class")
    part = MODELS[model]
    want = ["0x8086", f"{part.device_id:#06x}", f"{part.revision:#04x}", "0x020000"]
    assert ids.check().stdout.split() == want
    assert MAC.hex(":") in guest.run("ip link show eth0").stdout


@on_parts((), ("82540EM",))  # what it tries, the other does too
def test_self_test_online(on_tap, guest):
    self_test(guest, "online")
    ping(guest)


def test_self_test_offline(on_tap, guest, tried):
    self_test(guest, "offline")
    release = guest.run("uname -r").check().stdout.strip()
    tried("Linux e1000.ko", release, "amd64", on_tap.model, "`ethtool -t eth0 offline`")
    wait_carrier(guest)
    ping(guest)
    with on_tap.clock.lock:  # it writes patterns into everything, which no driver may else
        assert on_tap.nic.misuse.total
        on_tap.nic.misuse.clear()


def test_link_settings_are_a_gigabit_by_negotiation(guest):
    text = guest.run("ethtool eth0").check().stdout
    for line in ("Speed: 1000Mb/s", "Duplex: Full", "Auto-negotiation: on", "Link detected: yes"):
        assert line in text
    assert "1000baseT/Full" in text


@pytest.mark.parametrize(("speed", "duplex"), [(100, "full"), (10, "half")])
def test_slower_links(on_tap, guest, speed, duplex):
    guest.run(f"ethtool -s eth0 autoneg off speed {speed} duplex {duplex}").check()
    wait_carrier(guest)
    text = guest.run("ethtool eth0").check().stdout
    assert f"Speed: {speed}Mb/s" in text
    assert f"Duplex: {duplex.capitalize()}" in text
    ping(guest)
    guest.run("ethtool -s eth0 autoneg on").check()
    wait_carrier(guest)
    assert "Speed: 1000Mb/s" in guest.run("ethtool eth0").stdout
    ping(guest)


def test_interface_goes_down_and_up(on_tap, guest):
    guest.run("ip link set eth0 down").check()
    rctl, tctl = on_tap.registers("RCTL", "TCTL")
    assert not rctl & reg("RCTL").mask("EN")
    assert not tctl & reg("TCTL").mask("EN")
    assert on_tap.peer.run("ping", "-c1", "-W1", GUEST, check=False).returncode != 0
    guest.run("ip link set eth0 up").check()
    wait_carrier(guest)
    ping(guest)


def test_ten_times_down_and_up(on_tap, guest):
    for _ in range(10):
        guest.run("ip link set eth0 down; ip link set eth0 up").check()
        wait_carrier(guest)
        ping(guest, count=1)


def test_traffic_while_the_interface_goes_down_and_up(on_tap, guest):
    flood = on_tap.peer.start("ping", "-f", "-s", "1000", GUEST)
    for _ in range(3):
        guest.run("ip link set eth0 down; ip link set eth0 up").check()
        wait_carrier(guest)
    flood.terminate()
    ping(guest)
    tcp_to_peer(guest, on_tap.peer)


def test_driver_is_unloaded_and_loaded(on_tap, guest):
    guest.run(f"rmmod {on_tap.driver}").check()
    assert guest.run("ip link show eth0").returncode != 0
    assert on_tap.server.connected
    guest.run(f"modprobe {on_tap.driver}").check()
    configure(guest)
    ping(guest)
    tcp_from_peer(guest, on_tap.peer)


def test_ring_sizes(on_tap, guest):
    guest.run("ethtool -G eth0 rx 80 tx 4096").check()
    wait_carrier(guest)
    now = guest.run("ethtool -g eth0").check().stdout.split("Current hardware settings")[1]
    assert re.search(r"^RX:\s+80$", now, re.M)
    assert re.search(r"^TX:\s+4096$", now, re.M)
    assert on_tap.registers("RDLEN", "TDLEN") == [80 * 16, 4096 * 16]
    tcp_to_peer(guest, on_tap.peer)
    tcp_from_peer(guest, on_tap.peer)
    assert guest.run("ethtool -G eth0 rx 5000").returncode != 0
    guest.run("ethtool -G eth0 rx 256 tx 256").check()
    wait_carrier(guest)
    assert on_tap.registers("RDLEN", "TDLEN") == [4096, 4096]
    ping(guest)


def test_flow_control_settings(on_tap, guest):
    assert re.search(r"^RX:\s+on$", guest.run("ethtool -a eth0").check().stdout, re.M)
    guest.run("ethtool -A eth0 autoneg off rx off tx off").check()
    wait_carrier(guest)
    (ctrl,) = on_tap.registers("CTRL")
    assert not ctrl & (reg("CTRL").mask("RFCE") | reg("CTRL").mask("TFCE"))
    ping(guest)
    guest.run("ethtool -A eth0 autoneg on rx on tx on").check()
    wait_carrier(guest)


def test_interrupt_moderation_as_the_module_is_told(on_tap, guest):
    reload(on_tap, "InterruptThrottleRate=8000")
    configure(guest)
    # in units of 256 ns; the 82544 has no such register and the driver leaves it alone
    interval = 0 if "ITR" in MODELS[on_tap.model].lacks else 10**9 // (8000 * 256)
    assert on_tap.registers("ITR") == [interval]
    ping(guest)
    tcp_from_peer(guest, on_tap.peer)
    reload(on_tap)
    configure(guest)


def test_registers_that_the_driver_dumps_are_the_nics(on_tap, guest):
    text = guest.run("ethtool -d eth0").check().stdout
    names = {"CTRL": 0x0, "RCTL": 0x100, "RDLEN": 0x2808, "TCTL": 0x400, "TDLEN": 0x3808}
    shown = {
        int(offset, 16): int(value, 16)
        for offset, value in re.findall(r"^(0x\w{5}): .*?(0x\w{8})\s*$", text, re.M)
    }
    want = dict(zip(names.values(), on_tap.registers(*names), strict=True))
    assert {offset: shown[offset] for offset in want} == want


def counted(on_tap: OnTap) -> tuple[int, int, dict[str, int]]:
    """Return frames sent and received by the TAP, and the guest's counters at that time."""

    def frames() -> tuple[int, int]:
        with on_tap.clock.lock:
            return on_tap.tap.stats.tx_frames, on_tap.tap.stats.rx_frames

    while True:  # a kernel may ask for its neighbour at any time
        before = frames()
        counters = statistics(on_tap.guest)
        if frames() == before:
            return *before, counters


def test_statistics_are_what_crossed_the_wire(on_tap, guest):
    sent, received, before = counted(on_tap)
    ping(guest, count=20)
    tcp_to_peer(guest, on_tap.peer)
    sent_then, received_then, after = counted(on_tap)
    assert after["tx_packets"] - before["tx_packets"] == sent_then - sent
    assert after["rx_packets"] - before["rx_packets"] == received_then - received
    assert received_then - received >= 20
    assert after["tx_errors"] == after["rx_errors"] == 0


def eeprom(guest) -> bytes:
    return guest.run("ethtool -e eth0 raw on").check().output


def test_eeprom_is_read_and_written(on_tap, guest, model):
    with on_tap.clock.lock:
        words = on_tap.nic.eeprom.words
    before = eeprom(guest)
    assert before == b"".join(word.to_bytes(2, "little") for word in words)
    assert before[:6] == MAC
    magic = f"0x{MODELS[model].device_id:04x}8086"
    guest.run(f"ethtool -E eth0 magic {magic} offset 0x10 value 0x5a").check()
    after = eeprom(guest)
    assert after[0x10] == 0x5A
    assert after[:0x10] == before[:0x10]
    assert after[0x11:0x7E] == before[0x11:0x7E]
    assert sum(int.from_bytes(after[i : i + 2], "little") for i in range(0, 128, 2)) & 0xFFFF == (
        0xBABA
    )
    guest.run(f"ethtool -E eth0 magic {magic} offset 0x10 value {before[0x10]}").check()
    assert eeprom(guest) == before
    assert guest.run("ethtool -E eth0 magic 0x12345678 offset 0x10 value 1").returncode != 0


def test_new_address_in_the_eeprom_is_there_after_a_reload(on_tap, guest, model):
    magic = f"0x{MODELS[model].device_id:04x}8086"
    guest.run(f"ethtool -E eth0 magic {magic} offset 5 value 0x99").check()
    reload(on_tap)
    assert (MAC[:5] + b"\x99").hex(":") in guest.run("ip link show eth0").stdout
    guest.run("ip link set eth0 up").check()  # the driver writes the EEPROM of a card that is up
    wait_carrier(guest)
    guest.run(f"ethtool -E eth0 magic {magic} offset 5 value {MAC[5]}").check()
    reload(on_tap)
    configure(guest)
    ping(guest)


def test_wake_on_lan_settings(on_tap, guest):
    text = guest.run("ethtool eth0").check().stdout
    if on_tap.model in NO_WAKE_IN_LINUX:
        assert not re.search(r"Supports Wake-on: \w*g", text)
        return
    assert re.search(r"Supports Wake-on: \w*g", text)
    guest.run("ethtool -s eth0 wol g").check()
    assert re.search(r"^\s*Wake-on: g$", guest.run("ethtool eth0").stdout, re.M)
    guest.run("ethtool -s eth0 wol d").check()
    assert re.search(r"^\s*Wake-on: d$", guest.run("ethtool eth0").stdout, re.M)


# --- filters -------------------------------------------------------------------------------------


def received(on_tap, frames, *names: str) -> list[int]:
    """Send frames at the guest; return by how much these counters of the hardware grow."""
    before = statistics(on_tap.guest)
    on_tap.send(frames)
    ping(on_tap.guest, count=1)  # it is answered when the frames before it have been judged
    after = statistics(on_tap.guest)
    return [after[name] - before[name] for name in names]


def test_promiscuous_mode(on_tap, guest):
    strangers = [frame(STRANGER, n) for n in range(50)]
    assert received(on_tap, strangers, "rx_packets")[0] < 50
    job = guest.spawn("tcpdump -i eth0 -c 50 -w /tmp/t.pcap -U ether proto 0x88b5 2>&1")
    deadline = time.monotonic() + WAIT_S
    while b"listening on" not in job.output():  # said after its filter is set
        assert time.monotonic() < deadline, job.output()
        time.sleep(0.1)
    guest.run("ip -d link show eth0 | grep -q 'promiscuity 1'").check()
    (rctl,) = on_tap.registers("RCTL")
    assert rctl & reg("RCTL").mask("UPE")
    assert received(on_tap, strangers, "rx_packets")[0] >= 50
    assert "50 packets captured" in job.wait().stdout
    assert received(on_tap, strangers, "rx_packets")[0] < 50


def test_multicast_is_received_where_joined(on_tap, guest):
    wanted = [frame(MULTICAST, n) for n in range(50)]
    assert received(on_tap, wanted, "rx_multicast")[0] < 50
    guest.run(f"ip maddr add {MULTICAST.hex(':')} dev eth0").check()
    assert received(on_tap, wanted, "rx_multicast")[0] >= 50
    guest.run(f"ip maddr del {MULTICAST.hex(':')} dev eth0").check()
    assert received(on_tap, wanted, "rx_multicast")[0] < 50


def test_more_groups_than_exact_filters_go_by_the_hash(on_tap, guest):
    groups = [bytes.fromhex("01005e0000") + bytes([0x40 + n]) for n in range(24)]
    frames = [frame(group, 1) for group in groups]
    loop = f"for group in {' '.join(group.hex(':') for group in groups)}; do ip maddr {{}} $group "
    loop += "dev eth0 || exit 1; done"
    guest.run(loop.format("add")).check()
    with on_tap.clock.lock:
        table = [on_tap.nic.regs.peek(reg("MTA").offset + 4 * i) for i in range(128)]
    assert any(table)
    assert received(on_tap, frames, "rx_multicast")[0] >= 24
    guest.run(loop.format("del")).check()
    assert received(on_tap, frames, "rx_multicast")[0] < 24


def test_all_multicast(on_tap, guest):
    wanted = [frame(MULTICAST, n) for n in range(50)]
    guest.run("ip link set eth0 allmulticast on").check()
    assert received(on_tap, wanted, "rx_multicast")[0] >= 50
    guest.run("ip link set eth0 allmulticast off").check()
    assert received(on_tap, wanted, "rx_multicast")[0] < 50


def test_multicast_group_is_pinged(on_tap, guest):
    """From an application's join (IGMP) down to the filter, and the answer back."""
    on_tap.peer.ip("route", "replace", "224.0.0.0/4", "dev", on_tap.tap.name)
    guest.run("sysctl -q -w net.ipv4.icmp_echo_ignore_broadcasts=0").check()
    guest.run("ip addr add 239.1.2.3/32 dev eth0 autojoin").check()
    made = on_tap.peer.run("ping", "-c3", "-W30", "239.1.2.3")
    assert f"from {GUEST}".encode() in made.stdout
    guest.run("ip addr del 239.1.2.3/32 dev eth0").check()
    assert on_tap.peer.run("ping", "-c1", "-W2", "239.1.2.3", check=False).returncode != 0


def test_another_address(on_tap, guest):
    on_tap.peer.ip("neigh", "flush", "all")
    guest.run(f"ip link set eth0 address {STRANGER.hex(':')}").check()
    ping(guest)
    assert STRANGER.hex(":") in on_tap.peer.ip("neigh", "show", GUEST)
    guest.run(f"ip link set eth0 address {MAC.hex(':')}").check()
    on_tap.peer.ip("neigh", "flush", "all")
    ping(guest)


def test_wrong_checksum_is_seen_by_the_hardware(on_tap, guest):
    guest.run("ethtool -K eth0 rx on").check()
    wait_carrier(guest)
    ping(guest)
    payload = b"x" * 30
    udp = bytes.fromhex("6c816c81") + (38).to_bytes(2, "big") + b"\xde\xad" + payload
    ip = bytearray(bytes.fromhex("4500003a00004000401100000a0900010a090002"))
    total = sum(int.from_bytes(ip[i : i + 2], "big") for i in range(0, 20, 2))
    ip[10:12] = (0xFFFF - (total + (total >> 16)) & 0xFFFF).to_bytes(2, "big")
    wrong = MAC + bytes.fromhex("020000000001") + b"\x08\x00" + bytes(ip) + udp
    good = received(on_tap, [wrong] * 10, "rx_csum_offload_errors", "rx_errors")
    assert good == [10, 0]
