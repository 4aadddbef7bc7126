"""Path MTU through tunnels: a router between the ends has a smaller link behind it.

Its ICMP (RFC 1191, RFC 8201) lowers the tunnel's path MTU, and TCP inside goes on with segments
that fit. The figures are the link's MTU less the tunnel's headers: RFC 2003 for ipip, RFC 2784 for
gre, RFC 4213 for sit, RFC 2473 for ip6tnl, RFC 7348 for vxlan, RFC 8926 for geneve. On such a path
Debian's kernel 6.12, in QEMU, has learned the same.
"""

from __future__ import annotations

import socket as stdlib
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import pytest

from e1000emu.clock import VirtualClock
from stack.api.netns import Namespace
from stack.api.socket import create_connection, create_server
from stack.host import Host
from stack.ipv6.ip6_icmp import ICMPV6_PKT_TOOBIG
from stack.tunnel.geneve import geneve_config, geneve_newlink
from stack.tunnel.vxlan import vxlan_config, vxlan_newlink
from tests.stack.core.wire import QUIET6, assert_no_leak

NARROW = 1400
HEADERS = {"ipip": 20, "sit": 20, "gre": 24, "gretap": 38, "vxlan": 50, "geneve": 50}
HEADERS |= {"ip6tnl": 48, "ip6gre": 52, "vxlan6": 70, "geneve6": 70}
"""What a tunnel puts before a packet inside, by kind; ip6tnl with its limit of encapsulations."""
FORWARDING = QUIET6 | {"net.ipv4.ip_forward": 1, "net.ipv6.conf.all.forwarding": 1}


def number(text: str) -> int:
    family = stdlib.AF_INET6 if ":" in text else stdlib.AF_INET
    return int.from_bytes(stdlib.inet_pton(family, text), "big")


class Path:
    """a - r - b, each a namespace; the link between r and b is narrow."""

    def __init__(self) -> None:
        self.clock = VirtualClock()
        self.host = Host("h", clock=self.clock, sysctl=QUIET6, drivers=False)
        self.a, self.b = (self.host.netns_add(name, sysctl=QUIET6) for name in "ab")
        self.r = self.host.netns_add("r", sysctl=FORWARDING)
        for name, net, third in (("ra", self.a, 1), ("rb", self.b, 2)):
            self.host.add_veth(name, "e0", up=True)
            self.host.set_netns(name, self.r)
            self.host.set_netns("e0", net)
            for host, dev, last in ((self.r, name, 1), (net, "e0", 2)):
                host.ifconfig(dev, f"10.0.{third}.{last}/24", up=True)
                host.ifconfig(dev, f"fd00:{third}::{last}/64")
                host.ifconfig(dev, f"fe80::{last}/64")
            net.route_add("default", via=f"10.0.{third}.1")
            net.route_add("::/0", via=f"fd00:{third}::1")
        for host, dev in ((self.r, "rb"), (self.b, "e0")):
            host.ifconfig(dev, mtu=NARROW)
        self.clock.run_for(3 * 10**9)

    def tunnel(self, kind: str, **words: Any) -> None:
        """The same on both hosts, with 192.168.0.1, .2 and fd01::1, ::2 inside."""
        six = "6" in kind
        ends = ("fd00:1::2", "fd00:2::2") if six else ("10.0.1.2", "10.0.2.2")
        for at, net in enumerate((self.a, self.b)):
            local, remote = ends[at], ends[1 - at]
            kinds: dict[str, tuple[Any, Callable[..., Any]]] = {
                "vxlan": (vxlan_config, vxlan_newlink),
                "geneve": (geneve_config, geneve_newlink),
            }
            if kind.removesuffix("6") in kinds:
                made, newlink = kinds[kind.removesuffix("6")]
                cfg = made()
                cfg.family = stdlib.AF_INET6 if six else stdlib.AF_INET
                cfg.vni, cfg.remote, cfg.dst_port = 7, number(remote), 4789
                for name, value in words.items():
                    setattr(cfg, name, value)
                with net.lock:
                    newlink(net, "t0", cfg)
                net.ifconfig("t0", up=True)
            else:
                net.add_tunnel("t0", kind, local=local, remote=remote, up=True, **words)
            if kind != "sit":
                net.ifconfig("t0", f"192.168.0.{at + 1}/24")
            if kind != "ipip":
                net.ifconfig("t0", f"fd01::{at + 1}/64")
                net.ifconfig("t0", f"fe80::{at + 1}/64")
            # What the ends agree upon at first is too much for the path.
            net.ifconfig("t0", mtu=1500 - HEADERS[kind])
        self.clock.run_for(3 * 10**9)


@pytest.fixture
def path() -> Iterator[Path]:
    made = Path()
    yield made
    assert_no_leak(made.host)


def stream(source: Namespace, dest: Namespace, addr: str, size: int = 200_000) -> int:
    """`size` bytes go over a connection; the segments' size in the end (TCP_MAXSEG)."""
    family = stdlib.AF_INET6 if ":" in addr else stdlib.AF_INET
    listener = create_server(dest, (addr, 80), family=family)
    client = create_connection(source, (addr, 80))
    server, _ = listener.accept()
    server.settimeout(200)
    client.setblocking(False)
    sent, got = 0, 0
    while got < size:
        with suppress(BlockingIOError):
            sent += client.send(bytes(min(size - sent, 1 << 16))) if sent < size else 0
        got += len(server.recv(1 << 20))
    mss: int = client.getsockopt(stdlib.IPPROTO_TCP, stdlib.TCP_MAXSEG)
    for sock in (client, server, listener):
        sock.close()
    return mss


TCP, STAMPS = 20, 12
CASES = [
    (kind, six)
    for kind in HEADERS
    for six in (False, True)
    if not (kind == "ipip" and six) and not (kind == "sit" and not six)
]


@pytest.mark.parametrize(("kind", "six"), CASES)
def test_tcp_goes_on_with_segments_that_fit(path: Path, kind: str, six: bool) -> None:
    path.tunnel(kind, **({"df": 1} if "vxlan" in kind or "geneve" in kind else {}))
    mss = stream(path.a, path.b, "fd01::2" if six else "192.168.0.2")
    assert mss == NARROW - HEADERS[kind] - (40 if six else 20) - TCP - STAMPS
    if "6" in kind:
        assert path.r.mib.icmp6msg.outtype[ICMPV6_PKT_TOOBIG]
    else:
        assert path.r.mib.ip.FragFails
        assert not path.r.mib.ip.FragCreates
    # The end has learned it: the next connection loses nothing.
    before = path.a.mib.tcp.RetransSegs
    assert stream(path.a, path.b, "fd01::2" if six else "192.168.0.2") == mss
    assert path.a.mib.tcp.RetransSegs == before


@pytest.mark.parametrize("kind", ["ipip", "gre", "gretap"])
def test_df_of_ipv4_inside_counts_without_pmtudisc(path: Path, kind: str) -> None:
    """`nopmtudisc` alone: a packet with DF has it outside, too, and learns the path's MTU."""
    path.tunnel(kind, pmtudisc=False)
    assert stream(path.a, path.b, "192.168.0.2") == NARROW - HEADERS[kind] - 20 - TCP - STAMPS
    assert not path.r.mib.ip.FragCreates


NO_DF: list[tuple[str, bool, dict[str, Any]]] = [
    ("ipip", False, {"pmtudisc": False, "ignore_df": True}),
    ("gre", False, {"pmtudisc": False, "ignore_df": True}),
    ("gretap", False, {"pmtudisc": False, "ignore_df": True}),
    ("sit", True, {"pmtudisc": False}),
    ("gre", True, {"pmtudisc": False}),
    ("gretap", True, {"pmtudisc": False}),
    ("vxlan", False, {"df": 0}),
    ("vxlan", True, {"df": 0}),
    ("geneve", False, {"df": 0}),
    ("geneve", True, {"df": 0}),
]


@pytest.mark.parametrize(("kind", "six", "words"), NO_DF)
def test_without_df_the_router_makes_fragments(
    path: Path, kind: str, six: bool, words: dict[str, Any]
) -> None:
    """`nopmtudisc`, `df unset`: nobody is told, and segments stay as large as the tunnel's MTU."""
    path.tunnel(kind, **words)
    mss = stream(path.a, path.b, "fd01::2" if six else "192.168.0.2")
    assert mss == 1500 - HEADERS[kind] - (40 if six else 20) - TCP - STAMPS
    assert path.r.mib.ip.FragCreates > 200
    assert path.b.mib.ip.ReasmOKs > 100
    assert not path.r.mib.ip.FragFails
    assert not path.a.mib.tcp.RetransSegs


@pytest.mark.parametrize("family", [stdlib.AF_INET, stdlib.AF_INET6])
def test_df_of_a_vxlan_is_that_inside_when_it_inherits(path: Path, family: int) -> None:
    """`df inherit`: that of the packet; IPv6 counts as not to be fragmented (ip-link(8))."""
    path.tunnel("vxlan", df=2)
    six = family == stdlib.AF_INET6
    mss = stream(path.a, path.b, "fd01::2" if six else "192.168.0.2")
    assert mss == NARROW - 50 - (40 if six else 20) - TCP - STAMPS
