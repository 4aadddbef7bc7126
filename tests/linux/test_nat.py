"""Linux behind our NAT router reaches Linux in front of it, which has no route back to it."""

from __future__ import annotations

import re
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from stack import proc
from stack.netfilter import firewall, nat
from tests.linux.peer import DATA_PORT, Worker, connection, judged, pattern, receive_all, stream
from tests.linux.router import PMTU, ROUTED4, ROUTED6, Route, Router
from tests.support import require

pytestmark = pytest.mark.netns

WEB_PORT = 8088
"""Of the router, which hands it on to the near end."""
UDP_PORT = 27778


@pytest.fixture(scope="module")
def lan(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Router]:
    """One router for all; `far` knows nothing behind it. tshark judges every frame."""
    require.taps()
    require.tool("tshark")
    with Router(tmp_path_factory.mktemp("nat")) as made:
        for path in (ROUTED4, ROUTED6):
            made.far.ip(path.flag, "route", "del", "default")
        host = made.host
        with host.lock:
            nat.masquerade(host, oif="eth1", ip="inet")
            nat.dnat(host, f"{ROUTED4.near}:{DATA_PORT}", iif="eth1", proto="tcp", dport=WEB_PORT)
            nat.dnat(host, f"[{ROUTED6.near}]:{DATA_PORT}", iif="eth1", proto="tcp", dport=WEB_PORT)
            firewall.drop(host, "forward", state="invalid")
        yield made
        with host.lock:
            assert host.ct.stat.insert_failed == 0
    for path in made.captures:
        assert list(judged(path)) == []


@pytest.fixture(params=[ROUTED4, ROUTED6], ids=str)
def path(request: pytest.FixtureRequest, lan: Router) -> Route:
    """The way out in each family, with no path MTU learned."""
    lan.forget_paths()
    made: Route = request.param
    return made


def test_the_far_end_has_no_way_back(lan: Router, path: Route) -> None:
    ping = require.tool("ping", "iputils-ping")
    out = lan.far.run(ping, path.flag, "-n", "-c", "1", "-W", "1", path.near, check=False)
    assert out.returncode != 0
    assert b"bytes from" not in out.stdout


def test_pings_of_every_size(lan: Router, path: Route) -> None:
    """Small ones, those that fill the link, and those that are cut on both sides of the NAT."""
    fits = PMTU - path.header_bytes - 8
    for size in (0, 56, fits, 4000, 20000):
        lan.near.ping(path.far, path.flag, size=size, count=1)  # finds the path's MTU out
        assert lan.near.ping(path.far, path.flag, size=size) >= 3, size


def test_the_far_end_sees_the_router(lan: Router, path: Route) -> None:
    with connection(lan.near, lan.far, path.far, path.af) as (client, server):
        peer = server.getpeername()
        assert peer[0] == path.far_router
        assert client.getsockname()[0] == path.near
        assert peer[1] == client.getsockname()[1]  # the port was free
        listing = proc.read(lan.host, "nf_conntrack")
        assert f" dport={DATA_PORT} " in listing
        assert "ESTABLISHED" in listing
        assert "[ASSURED]" in listing


@pytest.mark.parametrize("way", ["there", "back", "both"])
def test_streams(lan: Router, path: Route, way: str) -> None:
    """TCP in bulk, either way and both at once (as ssh talks): every byte arrives."""
    data = pattern(2_000_000, seed=3)
    with connection(lan.near, lan.far, path.far, path.af) as (client, server):
        jobs = []
        for sender, reader, ways in (
            (client, server, ("there", "both")),
            (server, client, ("back", "both")),
        ):
            if way in ways:
                jobs.append(Worker(sender.sendall, (data,)))
                jobs.append(Worker(receive_all, (reader, len(data))))
        results = [job.result() for job in jobs]
        assert results[1::2] == [data] * (len(jobs) // 2)


def test_iperf3(lan: Router, path: Route) -> None:
    assert lan.iperf3(path, "-n", "8M")["sum_received"]["bytes"] > 1 << 20


def test_datagrams_whole_and_cut(lan: Router, path: Route) -> None:
    """UDP there and back again, of one frame and of fragments."""
    with (
        lan.far.socket(socket.SOCK_DGRAM, family=path.af) as server,
        lan.near.socket(socket.SOCK_DGRAM, family=path.af) as client,
    ):
        server.bind((path.far, UDP_PORT))
        for size in (1, 1000, 3000, 20000, 60000):
            data = pattern(size, seed=size)
            # The first one that is too big may be the one that finds the path's MTU out.
            for attempt in range(3):
                client.settimeout(60 if attempt == 2 else 2)
                try:
                    client.sendto(data, (path.far, UDP_PORT))
                    server.settimeout(client.gettimeout())
                    peer = receive(server, data)
                    break
                except (TimeoutError, OSError):
                    assert attempt < 2, size
            assert peer[0] == path.far_router
            server.sendto(data[::-1], peer)
            client.settimeout(60)
            receive(client, data[::-1])


def receive(sock: socket.socket, data: bytes) -> Any:
    """Receive `data`, behind what was sent twice because it was late; return its sender."""
    while True:
        got, peer = sock.recvfrom(65535)
        if got == data:
            return peer


def test_a_refused_datagram_is_told_to_who_sent_it(lan: Router, path: Route) -> None:
    """The error quotes the translated packet; it comes back translated, and means something."""
    with lan.near.socket(socket.SOCK_DGRAM, family=path.af) as client:
        client.connect((path.far, 9))
        client.send(b"nobody is there")
        with pytest.raises(ConnectionRefusedError):
            client.recv(100)


def test_traceroute_sees_router_and_far_end(lan: Router, path: Route) -> None:
    lan.tracepath(path)


def test_traceroute_by_each_kind_of_probe(lan: Router, path: Route) -> None:
    traceroute = require.tool("traceroute")
    for kind in (("-U", "-p", str(DATA_PORT)), ("-I",), ("-T", "-p", str(DATA_PORT))):
        # 0, 0: an answer may come as late as this also when those of other hops were quick
        words = (path.flag, "-n", "-q", "1", "-w", "5,0,0", *kind, path.far)
        out = lan.near.run(traceroute, *words).stdout.decode()
        hops = re.findall(r"^ *\d+ +(\S+)", out, re.MULTILINE)
        assert hops == [path.near_router, path.far], out


def test_a_port_is_handed_on_to_the_inside(lan: Router, path: Route) -> None:
    data = pattern(300_000, seed=5)
    with (
        lan.near.listen(path.near, DATA_PORT, family=path.af) as listener,
        lan.far.socket(family=path.af) as client,
    ):
        client.connect((path.far_router, WEB_PORT))
        server, peer = listener.accept()
        server.settimeout(60)
        with server:
            assert peer[0] == path.far
            stream(client, server, data)
            server.sendall(data[:1000])
            assert receive_all(client, 1000) == data[:1000]


def test_ssh_sends_and_gets(lan: Router, tmp_path: Path) -> None:
    login = lan.sshd(tmp_path)
    for path in (ROUTED4, ROUTED6):
        lan.ssh_cat(path, login, pattern(1_000_000, seed=9))


def test_many_clients_at_once_have_ports_of_their_own(lan: Router, path: Route) -> None:
    """The inside and the router itself use the same source port to the same server."""
    with lan.far.socket(socket.SOCK_DGRAM, family=path.af) as server:
        server.bind((path.far, UDP_PORT))
        inside = lan.near.socket(socket.SOCK_DGRAM, family=path.af)
        ours = lan.host.socket(path.af, socket.SOCK_DGRAM)
        with inside, ours:
            inside.bind((path.near, 5555))
            ours.bind((path.far_router, 5555))
            ours.settimeout(60)
            seen = set()
            for sock, word in ((inside, b"inside"), (ours, b"router")):
                sock.sendto(word, (path.far, UDP_PORT))
                got, peer = server.recvfrom(100)
                assert got == word
                seen.add(peer)
                server.sendto(word + b"!", peer)
                assert sock.recv(100) == word + b"!"
            assert len(seen) == 2
