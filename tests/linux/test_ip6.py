"""IPv6 against a Linux kernel: echoes of any size both ways, and our host as its router."""

from __future__ import annotations

import contextlib
import re
import socket
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from e1000emu.clock import RealClock
from e1000emu.lab import add_nic
from e1000emu.links import Tap
from stack import proc
from stack.host import Host
from tests.linux.peer import Peer, Wire, Worker, judged, pattern, receive_all
from tests.linux.test_tcp6 import LINUX6, OURS6, give_addresses
from tests.stack.ipv6.tcpnet6 import configure_ipv6
from tests.support import require

pytestmark = pytest.mark.netns

SIZES = (0, 1, 8, 56, 1451, 1452, 1453, 2896, 2897, 8000, 32768, 65507)
NEAR, FAR = "2001:db8:a::", "2001:db8:b::"
PMTU = 1300


@pytest.fixture(scope="module")
def wire6() -> Iterator[Wire]:
    require.netns()
    require.tun()
    with Wire() as wire:
        give_addresses(wire)
        yield wire


@pytest.mark.parametrize("size", SIZES)
def test_linux_pings_us(wire6: Wire, size: int) -> None:
    ping = require.tool("ping", "iputils-ping")
    words = ("-6", "-c", "3", "-i", "0.05", "-W", "5", "-s", str(size), OURS6)
    out = wire6.peer.run(ping, *words)
    assert b"3 received" in out.stdout, out.stdout.decode()
    assert b"wrong" not in out.stdout


@pytest.mark.parametrize("size", SIZES)
def test_we_ping_linux(wire6: Wire, size: int) -> None:
    payload = pattern(size, seed=size)
    request = struct.pack("!BBHHH", 128, 0, 0, 77, size & 0xFFFF) + payload
    sock = wire6.host.socket(socket.AF_INET6, socket.SOCK_RAW, socket.IPPROTO_ICMPV6)
    sock.settimeout(10)
    with contextlib.closing(sock):
        sock.sendto(request, (LINUX6, 0))  # the stack fills the checksum in (RFC 3542 3.1)
        while True:
            answer, source = sock.recvfrom(70000)
            if answer[0] == 129 and struct.unpack_from("!HH", answer, 4) == (77, size & 0xFFFF):
                break
    assert source[0] == LINUX6
    assert answer[8:] == payload


def test_the_kernel_and_tshark_find_our_fragments_right(need_linux: None, tmp_path: Path) -> None:
    path = tmp_path / "ip6.pcapng"
    require.tool("tshark")
    ping = require.tool("ping", "iputils-ping")
    with Wire(capture=path) as wire:
        give_addresses(wire)
        for size in (56, 1453, 20000):
            wire.peer.run(ping, "-6", "-c", "2", "-i", "0.05", "-s", str(size), OURS6)
    assert list(judged(path)) == []


def test_unknown_protocols_are_reported_to_linux(wire6: Wire) -> None:
    """Its raw socket of protocol 253 gets our parameter problem as EPROTO."""
    with wire6.peer.socket(socket.SOCK_RAW, 253, family=socket.AF_INET6) as sock:
        sock.connect((OURS6, 0))
        sock.send(b"anybody there?")
        sock.settimeout(5)
        with pytest.raises(OSError, match="Protocol error"):
            sock.recv(100)


def test_our_counters_have_linuxs_names_in_its_order(wire6: Wire) -> None:
    theirs = [
        line.split()[0]
        for line in wire6.peer.run("cat", "/proc/net/snmp6").stdout.decode().splitlines()
    ]
    ours = [line.split()[0] for line in proc.read(wire6.host, "snmp6").splitlines()]
    known = [name for name in ours if name in theirs]
    lacking = [name for name in ours if name not in theirs and "Type" not in name]
    # A kernel of another age may lack some of the newest.
    assert set(lacking) <= {"Ip6OutTransmits", "Icmp6OutRateLimitHost", "Icmp6InMLDv2Reports"}
    assert known == [name for name in theirs if name in ours]


def test_our_settings_begin_with_linuxs_values(wire6: Wire) -> None:
    """`all` and `default` of a new namespace; a kernel of another age may lack some."""
    script = "cd /proc/sys/net/ipv6/conf; grep -s . all/* default/*"
    fresh = Peer()
    try:
        lines = fresh.run("sh", "-c", script, check=False).stdout.decode().splitlines()
    finally:
        fresh.close()
    theirs = dict(line.split(":", 1) for line in lines)
    conf = Host(name="fresh", clock=RealClock()).ipv6.sysctl.conf
    ours = {
        f"{where}/{name}": str(value)
        for where in ("all", "default")
        for name, value in conf[where].items()
    }
    differ = {n: (ours[n], theirs[n]) for n in ours if n in theirs and ours[n] != theirs[n]}
    assert len(theirs) > 80
    assert differ == {}


# --- our host as a router ------------------------------------------------------------------


@dataclass
class Router:
    """Two kernels and our host between them; `taps` are its links."""

    host: Host
    near: Peer
    far: Peer


@pytest.fixture(scope="module")
def router() -> Iterator[Router]:
    """Linux - TAP - us - TAP - Linux; the far link takes packets of PMTU bytes."""
    require.netns()
    require.tun()
    with contextlib.ExitStack() as stack:
        clock = RealClock()
        stack.callback(clock.close)
        ends = []
        for net in (NEAR, FAR):
            peer = Peer()
            stack.callback(peer.close)
            tap = Tap(peer.tap_name, clock)
            stack.callback(tap.close)
            peer.adopt(tap.name)
            peer.run("sh", "-c", f"echo 0 >/proc/sys/net/ipv6/conf/{tap.name}/disable_ipv6")
            peer.ip("-6", "addr", "add", f"{net}2/64", "dev", tap.name, "nodad")
            ends.append((net, peer, tap))
        clock.start()
        stack.callback(clock.stop)
        host = Host(name="router", clock=clock, seed=2, sysctl={"net.ipv6.conf.all.forwarding": 1})
        stack.callback(host.close)
        for i, (net, peer, tap) in enumerate(ends):
            add_nic(host, tap, addr=f"10.9.{i + 1}.1/24")
            dev = host.dev(f"eth{i}")
            mac = peer.run("cat", f"/sys/class/net/{tap.name}/address").stdout.decode().strip()
            with host.lock:
                configure_ipv6(dev, f"{net}1/64", {f"{net}2": mac})
            ours = dev.dev_addr.hex(":")
            peer.ip("-6", "neigh", "replace", f"{net}1", "lladdr", ours, "dev", tap.name)
            peer.ip("-6", "route", "add", "default", "via", f"{net}1")
        host.ifconfig("eth1", mtu=PMTU)
        dev = host.dev("eth1")
        with host.lock:
            assert dev.ip6_ptr is not None
            dev.ip6_ptr.cnf.store("mtu", PMTU)
        for name in ("eth0", "eth1"):
            assert host.wait_carrier(name)
        yield Router(host, ends[0][1], ends[1][1])


def test_linux_reaches_linux_through_us(router: Router) -> None:
    ping = require.tool("ping", "iputils-ping")
    for size in (0, 56, 1000, 1252, 1253, 8000):
        words = ("-6", "-c", "3", "-i", "0.05", "-W", "5", "-s", str(size), f"{FAR}2")
        out = router.near.run(ping, *words, check=False).stdout.decode()
        assert re.search(r"[23] received", out), f"{size}: {out}"  # the first may find the MTU
    assert router.host.mib.ip6.OutForwDatagrams > 20


def test_tracepath_finds_us_and_the_path_mtu(router: Router) -> None:
    tracepath = require.tool("tracepath", "iputils-tracepath")
    router.near.ip("-6", "route", "flush", "cache")
    out = router.near.run(tracepath, "-6", "-n", f"{FAR}2").stdout.decode()
    assert f"{NEAR}1" in out, out
    assert f"pmtu {PMTU}" in out, out
    assert re.search(rf"Resume: pmtu {PMTU} hops 2", out), out


def test_a_stream_through_us_obeys_packet_too_big(router: Router) -> None:
    """The kernel's TCP learns the path MTU from us; every byte arrives."""
    router.near.ip("-6", "route", "flush", "cache")
    data = pattern(2_000_000)
    with (
        router.far.socket(family=socket.AF_INET6) as listener,
        router.near.socket(family=socket.AF_INET6) as client,
    ):
        # The far end offers an MSS that the link cannot carry.
        listener.bind((f"{FAR}2", 5001))
        listener.listen(1)
        client.connect((f"{FAR}2", 5001))
        server, _ = listener.accept()
        server.settimeout(60)
        reader = Worker(receive_all, (server,))
        client.sendall(data)
        client.shutdown(socket.SHUT_WR)
        assert reader.result() == data
        server.close()
    assert router.host.mib.ip6.InTooBigErrors > 0


def test_no_route_and_hop_limit_are_told(router: Router) -> None:
    once = (require.tool("ping", "iputils-ping"), "-6", "-c", "1", "-W", "3")
    out = router.near.run(*once, "2001:db8:ffff::1", check=False).stdout
    assert b"No route" in out, out
    out = router.near.run(*once, "-t", "1", f"{FAR}2", check=False).stdout
    assert b"Time exceeded" in out, out
