"""Neighbour discovery, SLAAC and MLD against radvd, dnsmasq and the kernel behind a TAP."""

from __future__ import annotations

import json
import re
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from stack.core.uapi import (
    AF_INET,
    AF_INET6,
    IPPROTO_IPV6,
    IPV6_JOIN_GROUP,
    IPV6_LEAVE_GROUP,
    SOCK_DGRAM,
)
from stack.ipv6.addr import IPV6_ADDR_LINKLOCAL, format_addr6, parse_addr6
from stack.ipv6.if_inet6 import IFA_F_DADFAILED, IFA_F_TEMPORARY, IFA_F_TENTATIVE
from stack.ipv6.nd_options import prefix_info, rdnss
from stack.services.router_advertiser import AdvertiserConfig
from tests.linux.peer import Wire
from tests.support import eventually, require

pytestmark = pytest.mark.netns

PREFIX = "fd09:1::"
SOON = {"net.ipv6.conf.default.router_solicitation_delay": 0}


def open_wire(**sysctl: int) -> Wire:
    """A wire whose kernel end speaks IPv6 with a link-local address at once."""
    require.taps()
    wire = Wire(sysctl={**SOON, **sysctl})
    tap = wire.tap.name
    for knob, value in (("accept_dad", 0), ("disable_ipv6", 0)):
        wire.peer.run("sh", "-c", f"echo {value} >/proc/sys/net/ipv6/conf/{tap}/{knob}")
    eventually(
        lambda: b"fe80" in wire.peer.run("ip", "-6", "addr", "show", "dev", tap).stdout, "fe80"
    )
    return wire


@pytest.fixture
def wire() -> Iterator[Wire]:
    with open_wire() as made:
        yield made


def ours(wire: Wire, start: str = "fd09:1:") -> list[str]:
    """Our usable addresses that begin so."""
    with wire.host.lock:
        return [
            format_addr6(ifp.addr)
            for ifp in wire.host.dev("eth0").ip6_ptr.addr_list
            if not ifp.flags & IFA_F_TENTATIVE and format_addr6(ifp.addr).startswith(start)
        ]


def test_we_configure_ourselves_from_radvd(wire: Wire, tmp_path: Path) -> None:
    tool = require.tool("radvd", "radvd")
    conf = tmp_path / "radvd.conf"
    conf.write_text(
        f"""interface {wire.tap.name} {{
            AdvSendAdvert on; MinRtrAdvInterval 3; MaxRtrAdvInterval 4; AdvDefaultPreference high;
            AdvLinkMTU 1400; AdvCurHopLimit 42; AdvReachableTime 20000; AdvRetransTimer 1500;
            prefix {PREFIX}/64 {{ AdvValidLifetime 600; AdvPreferredLifetime 300; }};
            route fd09:99::/48 {{ AdvRoutePreference low; }};
            RDNSS fd09:1::53 {{ }}; DNSSL lan.example {{ }};
        }};"""
    )
    idev = wire.host.dev("eth0").ip6_ptr
    idev.cnf.accept_ra_rt_info_max_plen = 64
    idev.cnf.use_tempaddr = 2
    wire.peer.run("sh", "-c", "echo 1 >/proc/sys/net/ipv6/conf/all/forwarding")
    log, pid = tmp_path / "log", tmp_path / "pid"
    words = ("-n", "-C", str(conf), "-m", "logfile", "-l", str(log), "-p", str(pid))
    wire.peer.start(tool, *words)
    found = eventually(lambda: len(ours(wire)) == 2 and ours(wire), "two addresses of the prefix")
    mac = wire.host.dev("eth0").dev_addr
    eui = bytes([mac[0] ^ 2]) + mac[1:3] + b"\xff\xfe" + mac[3:]
    assert format_addr6(parse_addr6(PREFIX) | int.from_bytes(eui, "big")) in found
    with wire.host.lock:
        kinds = [bool(i.flags & IFA_F_TEMPORARY) for i in idev.addr_list if not i.scope]
        assert sorted(kinds) == [False, True]
        assert (idev.cnf.mtu, idev.cnf.hop_limit) == (1400, 42)
        assert idev.nd_parms.retrans_time == 1_500_000_000
        assert idev.nd_parms.base_reachable_time == 20_000_000_000
        assert list(idev.nd.dns_servers) == [parse_addr6("fd09:1::53")]
        assert list(idev.nd.dns_search) == ["lan.example"]
        learned = {
            (format_addr6(r.fib6_dst), r.fib6_plen, r.fib6_flags >> 27 & 3)
            for r in wire.host.ipv6.fib6.tables[254].routes()
            if r.fib6_nh.fib_nh_gw6
        }
    assert {("::", 0, 1), ("fd09:99::", 48, 3)} <= learned
    wire.peer.ip("-6", "addr", "add", f"{PREFIX}1/64", "dev", wire.tap.name, "nodad")
    for addr in found:
        assert wire.peer.ping(addr, count=2) >= 2


def test_we_configure_ourselves_from_dnsmasq(wire: Wire, tmp_path: Path) -> None:
    tool = require.tool("dnsmasq", "dnsmasq-base")
    wire.peer.ip("-6", "addr", "add", f"{PREFIX}1/64", "dev", wire.tap.name, "nodad")
    wire.peer.start(
        tool,
        "--keep-in-foreground",
        "--conf-file=/dev/null",
        "--user=root",
        "--port=0",
        "--enable-ra",
        f"--interface={wire.tap.name}",
        f"--dhcp-range={PREFIX},ra-only,64,10m",
        f"--ra-param={wire.tap.name},4,600",
        f"--dhcp-leasefile={tmp_path / 'leases'}",
    )
    (addr,) = eventually(lambda: ours(wire), "an address of the prefix")
    assert wire.peer.ping(addr, count=2) >= 2


def test_linux_configures_itself_from_our_advertisements() -> None:
    with open_wire(**{"net.ipv6.conf.all.forwarding": 1}) as wire:
        tap = wire.tap.name
        host = wire.host
        host.ifconfig("eth0", f"{PREFIX}1/64")
        config = AdvertiserConfig(
            prefixes=(prefix_info(parse_addr6(PREFIX), 64),),
            rdnss=(rdnss((parse_addr6(f"{PREFIX}1"),)),),
            max_interval_s=4,
            link_mtu=1400,
            hop_limit=33,
            preference=1,
        )
        service = host.radvd("eth0", config)
        lladdr = eventually(
            lambda: [
                format_addr6(i.addr)
                for i in host.dev("eth0").ip6_ptr.addr_list
                if i.scope == IPV6_ADDR_LINKLOCAL and not i.flags & IFA_F_TENTATIVE
            ],
            "our link-local address",
        )[0]

        def linux() -> Any:
            shown = json.loads(wire.peer.ip("-j", "-6", "addr", "show", "dev", tap))
            return [
                a["local"]
                for a in shown[0]["addr_info"]
                if a.get("local", "").startswith("fd09:1:") and not a.get("tentative")
            ]

        (addr,) = eventually(linux, "Linux's address")
        (route,) = json.loads(wire.peer.ip("-j", "-6", "route", "show", "default"))
        assert (route["gateway"], route["protocol"], route["pref"]) == (lladdr, "ra", "high")
        for knob, value in (("mtu", "1400"), ("hop_limit", "33")):
            read = wire.peer.run("cat", f"/proc/sys/net/ipv6/conf/{tap}/{knob}").stdout
            assert read.decode().strip() == value
        eventually(lambda: ours(wire), "our own address")
        assert wire.peer.ping(f"{PREFIX}1", count=2) >= 2
        with host.lock:
            service.stop()
        eventually(lambda: "default" not in wire.peer.ip("-6", "route"), "the route's end")
        assert linux() == [addr]


def test_duplicate_address_detection_both_ways(wire: Wire) -> None:
    peer, tap, host = wire.peer, wire.tap.name, wire.host
    peer.ip("-6", "addr", "add", "fd09:2::7/64", "dev", tap, "nodad")
    # A second for an answer is little on a machine that pauses; it ends with the first one.
    host.sysctl["net.ipv6.conf.eth0.dad_transmits"] = 30
    host.ifconfig("eth0", "fd09:2::7/64")
    idev = host.dev("eth0").ip6_ptr
    theirs = parse_addr6("fd09:2::7")
    eventually(
        lambda: any(i.addr == theirs and i.flags & IFA_F_DADFAILED for i in idev.addr_list),
        "that the address is found taken",
    )
    host.sysctl["net.ipv6.conf.eth0.dad_transmits"] = 1
    host.ifconfig("eth0", "fd09:2::8/64")
    eventually(lambda: ours(wire, "fd09:2::8"), "our address")
    peer.write(f"/proc/sys/net/ipv6/conf/{tap}/accept_dad", 1)
    peer.write(f"/proc/sys/net/ipv6/conf/{tap}/dad_transmits", 30)
    peer.ip("-6", "addr", "add", "fd09:2::8/64", "dev", tap)
    eventually(
        lambda: "dadfailed" in peer.ip("-6", "addr", "show", "dev", tap), "Linux's dadfailed"
    )


def test_the_kernels_querier_sees_our_reports() -> None:
    """A bridge with snooping and a querier: its table has our groups while we are in them."""
    require.tool("bridge", "iproute2")
    with open_wire() as wire:
        peer, tap, host = wire.peer, wire.tap.name, wire.host
        eventually(lambda: ours(wire, "fe80"), "our link-local address")
        peer.ip("addr", "flush", "dev", tap)
        settings = "mcast_snooping 1 mcast_querier 1 mcast_stats_enabled 1 mcast_mld_version 2"
        settings += " mcast_igmp_version 3 mcast_startup_query_interval 100"
        settings += " mcast_query_response_interval 100"
        peer.ip("link", "add", "br0", "type", "bridge", *settings.split())
        peer.ip("link", "set", tap, "master", "br0")
        peer.ip("addr", "add", "10.9.0.1/24", "dev", "br0")
        peer.ip("link", "set", "br0", "up")
        group6, group4 = "ff05::4:7", "239.4.7.1"
        six, four = host.socket(AF_INET6, SOCK_DGRAM), host.socket(AF_INET, SOCK_DGRAM)
        mreq6 = parse_addr6(group6).to_bytes(16, "big") + struct.pack(
            "=i", host.dev("eth0").ifindex
        )
        six.setsockopt(IPPROTO_IPV6, IPV6_JOIN_GROUP, mreq6)
        mreq4 = bytes(map(int, group4.split("."))) + bytes((10, 9, 0, 2))
        four.setsockopt(0, 35, mreq4)  # IP_ADD_MEMBERSHIP

        def table() -> str:
            return peer.run("bridge", "mdb", "show").stdout.decode()

        eventually(
            lambda: group6 in table() and group4 in table(), "both groups in the bridge's table"
        )
        pattern = r"%s queries: .*?TX: v1 0 v2 (\d+).*?%s reports: RX: v1 0 v2 (\d+)(?: v3 (\d+))?"
        for kind in ("IGMP", "MLD"):

            def answered(kind: str = kind) -> bool:
                found = re.search(pattern % (kind, kind), _stats(peer, tap))
                assert found is not None
                # the change is reported twice; what is more answers a query
                return int(found[3] or found[2]) >= 3

            eventually(answered, f"an answer to the querier's {kind} query")
            assert f"{kind} parse errors: 0" in _stats(peer, tap)
        six.setsockopt(IPPROTO_IPV6, IPV6_LEAVE_GROUP, mreq6)
        four.setsockopt(0, 36, mreq4)
        eventually(lambda: group6 not in table() and group4 not in table(), "both groups gone")
        six.close()
        four.close()


def _stats(peer: Any, port: str) -> str:
    """`ip -s -s link xstats` of the bridge's port, on one line."""
    shown = peer.run("ip", "link", "xstats", "type", "bridge_slave", "dev", port, check=False)
    return " ".join(shown.stdout.decode().split())
