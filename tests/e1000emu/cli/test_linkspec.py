"""Link specs: what each opens, what is refused, and a host of ours at the other end."""

from __future__ import annotations

import asyncio
import gc
import ipaddress
import os
import socket
from contextlib import ExitStack
from pathlib import Path

import pytest

from e1000emu.capture import read_capture
from e1000emu.cli.addressing import Addressing
from e1000emu.cli.common import StationOptions
from e1000emu.cli.linkspec import LINKS, open_link
from e1000emu.cli.plugs import Plug, nic_macs, open_links, plug_in
from e1000emu.cli.stackhost import StackLink
from e1000emu.cli.stackspec import MTU_RANGE, parse_stack
from e1000emu.cli.vfio_user import counters_event
from e1000emu.clock import AsyncioClock, RealClock
from e1000emu.errors import E1000Error
from e1000emu.links import NullLink
from e1000emu.testing.guest import GuestRings, Int
from stack import aio
from tests.e1000emu.cli.test_cli import run
from tests.e1000emu.embed.fakeclient import FakeClient
from tests.e1000emu.embed.test_vfio_user import FRAME
from tests.linux.peer import LINUX, Peer
from tests.support import require

ADDR = "10.9.0.1/24"
OURS = (10, 9, 0, 2)


def arp_request(mac: bytes, ours: tuple[int, ...] = OURS) -> bytes:
    """Who has 10.9.0.1? (RFC 826)"""
    body = bytes.fromhex("0001080006040001") + mac + bytes(ours) + bytes(6) + bytes([10, 9, 0, 1])
    return b"\xff" * 6 + mac + b"\x08\x06" + body + bytes(18)


# --- what is written -----------------------------------------------------------------------------


def test_stack_spec_says_address_gateway_mtu_and_services(tmp_path: Path) -> None:
    spec = parse_stack(f"stack:10.9.0.1/24,gw=10.9.0.2,mtu=9000,serve=echo:7+http:80:{tmp_path}")
    assert list(map(str, spec.addrs)) == [ADDR]
    assert list(map(str, spec.gws)) == ["10.9.0.2"]
    assert spec.mtu == 9000
    assert [(s.name, s.port, s.root) for s in spec.services] == [
        ("echo", 7, None),
        ("http", 80, tmp_path),
    ]


def test_stack_spec_of_both_families() -> None:
    spec = parse_stack("stack:10.9.0.1/24+2001:db8::1/64,gw=10.9.0.2+2001:db8::2")
    assert [a.version for a in spec.addrs] == [g.version for g in spec.gws] == [4, 6]


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ("stack:2001:db8::1", "no prefix length"),
        ("stack:10.9.0.1/24+::1/128", "loopback"),
        ("stack:10.9.0.1/24+ff02::1/64", "multicast"),
        ("stack:10.9.0.1/24,gw=2001:db8::1", "not inside an IPv6 network"),
        ("stack:10.9.0.1", "no prefix length"),
        ("stack:10.9.0.0/24", "network address"),
        ("stack:10.9.0.1/40", "10.9.0.1/40"),
        ("stack:10.9.0.1/24,gw=10.8.0.1", "not inside 10.9.0.0/24"),
        ("stack:10.9.0.1/24,gw=x", "'x'"),
        ("stack:10.9.0.1/24,mtu=67", "68 to 16092"),
        ("stack:10.9.0.1/24,mtu=lots", "68 to 16092"),
        ("stack:10.9.0.1/24,serve=finger:79", "echo, http, discard, chargen, iperf3"),
        ("stack:10.9.0.1/24,serve=echo:7,serve=echo:8", "serve is given twice"),
        ("stack:10.9.0.1/24,colour=red", "no option 'colour=red'"),
    ],
)
def test_a_stack_spec_that_cannot_be_is_explained(spec: str, words: str) -> None:
    with pytest.raises(E1000Error) as caught:
        parse_stack(spec)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("spec", ["", "tap", "tap:", "null:", "stack:", "wet:string", "Tap:x"])
def test_an_unknown_link_is_refused_with_all_that_there_are(spec: str) -> None:
    with pytest.raises(E1000Error) as caught:
        open_link(spec, RealClock())
    for kind in LINKS.values():
        assert kind.form in str(caught.value)


def test_longest_mtu_of_the_range_is_taken_by_the_driver(clock: RealClock) -> None:
    link = StackLink(f"stack:{ADDR},mtu={MTU_RANGE[-1]}", clock)
    assert link.far.host.dev("eth0").mtu == MTU_RANGE[-1]
    link.close()


def test_services_need_an_asyncio_clock(clock: RealClock) -> None:
    with pytest.raises(E1000Error, match="leave serve= out"):
        open_link(f"stack:{ADDR},serve=echo:7", clock)


# --- a host of ours at the other end -------------------------------------------------------------


def test_ping_reaches_the_host_in_the_same_process() -> None:
    done = run("ping", "10.9.0.1", "--addr", "10.9.0.2/24", "-c", "2", "-i", "0.01",
               "--link", f"stack:{ADDR}")  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "2 received, 0% packet loss" in done.stdout


def test_services_answer_and_end_with_the_link(tmp_path: Path) -> None:
    (tmp_path / "hello").write_text("from the far end\n")
    gc.collect()
    before = len(os.listdir("/proc/self/fd"))
    with asyncio.Runner() as runner:
        clock = AsyncioClock(runner.get_loop())
        spec = f"stack:{ADDR},serve=echo:7+http:80:{tmp_path}"
        own = Addressing((ipaddress.ip_interface("10.9.0.2/24"),))
        station = StationOptions(spec, own).start(clock)

        async def talk() -> tuple[bytes, bytes]:
            reader, writer = await aio.open_connection(station.host, "10.9.0.1", 7)
            writer.write(b"anybody there?")
            echoed = await reader.readexactly(14)
            writer.close()
            reader, writer = await aio.open_connection(station.host, "10.9.0.1", 80)
            writer.write(b"GET /hello HTTP/1.0\r\n\r\n")
            page = await reader.read()
            writer.close()
            return echoed, page

        echoed, page = runner.run(talk())
        assert echoed == b"anybody there?"
        assert page.endswith(b"\r\n\r\nfrom the far end\n")
        far = station.wrapped[0].far
        assert [(s.name, s.connections) for s in far.services] == [("echo", 1), ("http", 1)]
        station.close()
        station.close()
        assert far.host.closed
    gc.collect()
    assert len(os.listdir("/proc/self/fd")) <= before


# --- vfio-user: several sockets ------------------------------------------------------------------


def start(plug: Plug, clock: RealClock) -> tuple[FakeClient, GuestRings]:
    """Connect a client to `plug` and bring its fake driver up."""
    client = FakeClient(plug.server.path, clock)
    guest = client.start()
    guest.up(ims=int(Int.RXT0))
    client.run(lambda: plug.server.nic.link_up)
    guest.read(0xC0)  # ICR: the link came up
    client.unmask()
    client.interrupts()
    return client, guest


def until_received(client: FakeClient, guest: GuestRings) -> list[bytes]:
    """Wait for an interrupt and return what has come."""
    client.run(lambda: client.interrupts() > 0)
    got = [frame.data for frame in guest.receive()]
    guest.read(0xC0)
    client.unmask()
    return got


def test_three_guests_on_a_switch_reach_each_other(tmp_path: Path, clock: RealClock) -> None:
    capture = tmp_path / "all.pcapng"
    sockets = [tmp_path / name for name in "abc"]
    with ExitStack() as stack:
        links = open_links("switch", 3, clock, stack)
        macs = nic_macs(["02:00:00:00:00:0a"], 3)
        plugs = plug_in(sockets, links, macs, clock, stack, capture=capture, autoneg_ns=0)
        rigs = [start(plug, clock) for plug in plugs]
        a, b, c = (mac for mac in macs)
        hello = b"\xff" * 6 + a + b"\x88\xb5" + bytes(46)
        assert rigs[0][1].send(hello) == 1
        assert until_received(*rigs[1]) == [hello]
        assert until_received(*rigs[2]) == [hello]
        reply = a + c + b"\x88\xb5" + b"\x07" * 46
        assert rigs[2][1].send(reply) == 1
        assert until_received(*rigs[0]) == [reply]
        assert rigs[1][1].receive() == []  # the switch had learned where a is
        assert rigs[1][0].region_read(0, 0x5400, 6) == b  # RAL, RAH: its own EEPROM's address
        total = counters_event(plugs, "end")
        assert (total["clients"], total["tx_frames"], total["rx_frames"]) == (3, 2, 3)
        assert [nic["tx_frames"] for nic in total["nics"]] == [1, 0, 1]
        for client, _ in rigs:
            client.close()
    assert not any(path.exists() for path in sockets)
    records = list(read_capture(capture))
    assert {record.interface for record in records} == {0, 1, 2}
    assert [record.data for record in records if record.interface == 0] == [hello, reply]


def test_two_guests_and_our_stack_on_one_switch(tmp_path: Path, clock: RealClock) -> None:
    with ExitStack() as stack:
        links = open_links(f"switch:stack:{ADDR}", 2, clock, stack)
        macs = nic_macs([], 2)
        plugs = plug_in([tmp_path / "a", tmp_path / "b"], links, macs, clock, stack, autoneg_ns=0)
        far = links[0].switch.ports[0].port
        assert clock.run(lambda: far.link_up, timeout_ns=10_000_000_000)
        for n, (plug, mac) in enumerate(zip(plugs, macs, strict=True)):
            client, guest = start(plug, clock)
            assert guest.send(arp_request(mac, (10, 9, 0, 20 + n))) == 1
            got = until_received(client, guest)
            assert got[-1][:6] == mac
            assert got[-1][12:14] == b"\x08\x06"
            assert got[-1][28:32] == bytes([10, 9, 0, 1])
            client.close()


def test_an_uplink_of_any_kind_gets_what_the_guests_send(tmp_path: Path, clock: RealClock) -> None:
    with ExitStack() as stack:
        links = open_links("switch:null", 1, clock, stack)
        plugs = plug_in([tmp_path / "a"], links, nic_macs([], 1), clock, stack, autoneg_ns=0)
        client, guest = start(plugs[0], clock)
        assert guest.send(FRAME) == 1
        uplink = links[0].switch.ports[0].port.far.link
        assert isinstance(uplink, NullLink)
        client.run(lambda: uplink.stats.tx_frames == 1)
        client.close()
    assert uplink.port is None


@pytest.mark.netns
def test_a_switch_with_a_tap_reaches_the_kernel(tmp_path: Path) -> None:
    require.taps()
    clock, peer = RealClock(), Peer()
    try:
        with ExitStack() as stack:
            links = open_links(f"switch:tap:{peer.tap_name}", 2, clock, stack)
            peer.adopt(peer.tap_name)
            kernel = socket.inet_aton(LINUX)
            macs = nic_macs([], 2)
            sockets = [tmp_path / "a", tmp_path / "b"]
            plugs = plug_in(sockets, links, macs, clock, stack, autoneg_ns=0)
            for n, (plug, mac) in enumerate(zip(plugs, macs, strict=True)):
                client, guest = start(plug, clock)
                assert guest.send(arp_request(mac, (10, 9, 0, 20 + n))) == 1
                got: list[bytes] = []
                while not any(frame[:6] == mac and frame[28:32] == kernel for frame in got):
                    got += until_received(client, guest)
                client.close()
    finally:
        peer.close()
        clock.close()


def test_macs_are_given_or_counted_up() -> None:
    assert nic_macs([], 2) == [bytes.fromhex("525400123456"), bytes.fromhex("525400123457")]
    assert nic_macs(["02:00:00:ff:ff:ff"], 2)[1] == bytes.fromhex("020000000000")
    assert nic_macs(["02:00:00:00:00:01", "02:00:00:00:00:09"], 2)[1][5] == 9
    with pytest.raises(E1000Error, match="2 addresses for 3 --socket"):
        nic_macs(["02:00:00:00:00:01", "02:00:00:00:00:02"], 3)
    with pytest.raises(E1000Error, match="given twice"):
        nic_macs(["02:00:00:00:00:01", "02:00:00:00:00:01"], 2)


@pytest.mark.parametrize(
    ("spec", "count", "words"),
    [
        ("null", 2, "--link switch:null"),
        ("switch:", 1, "not a link|one link here"),
        ("switch:switch", 1, "one link here"),
        ("switch:wet:string", 2, "not a link"),
        ("switch:stack:10.9.0.1", 2, "no prefix length"),
    ],
)
def test_links_that_cannot_be_opened_leave_nothing(spec: str, count: int, words: str) -> None:
    gc.collect()
    before = len(os.listdir("/proc/self/fd"))
    clock = RealClock()
    with pytest.raises(E1000Error, match=words), ExitStack() as stack:
        open_links(spec, count, clock, stack)
    clock.close()
    gc.collect()
    assert len(os.listdir("/proc/self/fd")) <= before


def test_a_switch_makes_no_sense_for_one_host() -> None:
    done = run("ping", "10.9.0.1", "--addr", "10.9.0.2/24", "--link", "switch:tap:x")
    assert done.returncode == 2
    assert "e1000emu vfio-user" in done.stderr
    assert done.stderr.count("\n") == 1
