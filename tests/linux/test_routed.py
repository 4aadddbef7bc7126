"""Linux reaches Linux through our host: ping, tracepath, streams, iperf3, ssh and scp."""

from __future__ import annotations

import json
import re
import socket
from collections.abc import Iterator
from ipaddress import IPv4Address
from pathlib import Path

import pytest

from stack.core.neigh_gc import pneigh_create, pneigh_delete
from tests.linux.peer import DATA_PORT, connection, judged, pattern, stream
from tests.linux.router import PMTU, ROUTED4, ROUTED6, SSH_PORT, Route, Router
from tests.support import require

pytestmark = pytest.mark.netns


@pytest.fixture(scope="module")
def router(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Router]:
    """One router for all; in the end tshark judges every frame of both links."""
    require.taps()
    require.tool("tshark")
    with Router(tmp_path_factory.mktemp("routed")) as made:
        yield made
    for path in made.captures:
        assert list(judged(path)) == []


@pytest.fixture(params=[ROUTED4, ROUTED6], ids=str)
def path(request: pytest.FixtureRequest, router: Router) -> Route:
    """The way through in each family, with no path MTU learned."""
    router.forget_paths()
    made: Route = request.param
    return made


def test_pings_of_every_size_come_through(router: Router, path: Route) -> None:
    fits = PMTU - path.header_bytes - 8
    for size in (0, 56, fits, fits + 1, 8000, 65507):
        router.near.ping(path.far, path.flag, size=size, count=1)  # finds the path's MTU out
        assert router.near.ping(path.far, path.flag, size=size) >= 3, size


def test_tracepath_finds_us_and_the_path_mtu(router: Router, path: Route) -> None:
    router.tracepath(path)


@pytest.mark.parametrize("how", ["proxy_arp", "an entry"])
def test_linux_takes_us_for_who_is_behind_us(router: Router, how: str) -> None:
    """It asks for the far end on the near wire, and we answer (proxy ARP)."""
    near, host, far = router.near, router.host, ROUTED4.far
    onlink = (f"{far}/32", "dev", near.tap_name)
    near.ip("route", "add", *onlink)
    dev = host.dev_by_name["eth0"]
    try:
        assert near.ping(far, count=1) == 0
        with host.lock:
            if how == "proxy_arp":
                host.sysctl.proxy_arp = 1
            else:
                pneigh_create(host.arp_tbl, int(IPv4Address(far)), dev)
        assert near.ping(far) >= 3
        (entry,) = json.loads(near.ip("-j", "neigh", "show", far))
        assert bytes.fromhex(entry["lladdr"].replace(":", "")) == dev.dev_addr
    finally:
        with host.lock:
            host.sysctl.proxy_arp = 0
            pneigh_delete(host.arp_tbl, int(IPv4Address(far)), dev)
        near.ip("route", "del", *onlink)
        near.ip("neigh", "flush", "all")


def stream_through(router: Router, path: Route, data: bytes, port: int = DATA_PORT) -> None:
    """Send data through the router, over TCP; every byte arrives."""
    with connection(router.near, router.far, path.far, path.af, port) as (client, server):
        stream(client, server, data)


def test_linux_keeps_the_path_mtu_that_we_told(router: Router, path: Route) -> None:
    """Its route has the MTU, and its TCP sends no segment that is bigger; every byte arrives."""
    stream_through(router, path, pattern(2_000_000))
    (route,) = json.loads(router.near.ip("-j", path.flag, "route", "get", path.far))
    assert any(entry.get("mtu") == PMTU for entry in route["metrics"]), route


def test_no_route_and_the_end_of_the_hops_are_told(router: Router, path: Route) -> None:
    once = (require.tool("ping", "iputils-ping"), path.flag, "-n", "-c", "1", "-W", "3")
    out = router.near.run(*once, path.nowhere, check=False).stdout.decode()
    assert f"From {path.near_router}" in out, out
    assert re.search(r"No route|Net Unreachable", out), out
    out = router.near.run(*once, "-t", "1", path.far, check=False).stdout.decode()
    assert f"From {path.near_router}" in out, out
    assert re.search("Time (to live )?exceeded", out), out


@pytest.mark.parametrize("way", ["there", "back", "datagrams"])
def test_iperf3(router: Router, path: Route, way: str) -> None:
    how = {
        "there": ("-n", "8M"),
        "back": ("-n", "8M", "-R"),
        "datagrams": ("-u", "-n", "1M", "-b", "20M", "-l", "1200"),
    }[way]
    end = router.iperf3(path, *how)
    if way == "datagrams":
        total = end["sum"]
        # A machine with other work may lose some; no router may exchange any.
        assert total["packets"] > 800
        assert total["lost_packets"] < total["packets"] // 2
        assert end["streams"][0]["udp"]["out_of_order"] == 0
    else:
        # It counts until the sender has sent all, when some is still on its way.
        assert end["sum_received"]["bytes"] > 1 << 20


# --- ssh -----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def login(router: Router, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, ...]:
    """The options of who logs in at the far end."""
    return router.sshd(tmp_path_factory.mktemp("ssh"))


def test_ssh_sends_and_gets(router: Router, path: Route, login: tuple[str, ...]) -> None:
    router.ssh_cat(path, login, pattern(3_000_000, seed=9))


def test_scp_both_ways(router: Router, path: Route, login: tuple[str, ...], tmp_path: Path) -> None:
    scp = require.tool("scp", "openssh-client")
    data = pattern(3_000_000, seed=10)
    (tmp_path / "data").write_bytes(data)
    options = (path.flag, *login, "-q", "-P", str(SSH_PORT))
    there = f"root@[{path.far}]:{tmp_path}/there"
    router.near.run(scp, *options, str(tmp_path / "data"), there)
    assert (tmp_path / "there").read_bytes() == data
    router.near.run(scp, *options, there, str(tmp_path / "back"))
    assert (tmp_path / "back").read_bytes() == data


def test_what_goes_through_is_counted(router: Router, path: Route) -> None:
    """As Linux counts: a super-packet is one datagram forwarded, of all its bytes, and as many
    packets received as it stands for."""
    mib = router.host.mib

    def counted() -> tuple[int, int, int]:
        if path.af == socket.AF_INET:
            through = mib.ip.InReceives - mib.ip.InDelivers
            return mib.ipext.OutOctets, through, mib.ip.ForwDatagrams
        return mib.ip6.OutOctets, mib.ip6.InReceives - mib.ip6.InDelivers, mib.ip6.OutForwDatagrams

    before = counted()
    stream_through(router, path, pattern(2_000_000), DATA_PORT + 1)
    octets, through, forwarded = (now - then for now, then in zip(counted(), before, strict=True))
    assert octets > 2_000_000
    assert through > 2_000_000 // PMTU
    assert 0 < forwarded <= through
    if path.af == socket.AF_INET6:
        assert mib.ip6.InTooBigErrors > 0
