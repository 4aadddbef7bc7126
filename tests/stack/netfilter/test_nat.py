"""NAT between hosts of ours, and what rules say and refuse."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from typing import Any

import pytest

from stack.netfilter import firewall, nat
from stack.netfilter import nf_nat_masquerade as masquerade
from stack.netfilter.nf_conntrack import IPS_DST_NAT, IPS_SRC_NAT
from stack.netfilter.nf_nat_hooks import nf_nat_register_fn
from tests.stack.netfilter.rig import ADDRS, INNER, OUTER, OUTSIDE, Lan, lan


class Path:
    def __init__(self, net: Lan, version: int) -> None:
        self.net = net
        self.version = version
        self.af = socket.AF_INET if version == 4 else socket.AF_INET6
        self.near, self.inside, self.far, self.outside = ADDRS[version]
        self.ip = "ip" if version == 4 else "ip6"
        self.made: list[Any] = []

    def open(self, host: Any, kind: int = socket.SOCK_DGRAM, proto: int = 0) -> Any:
        made = host.socket(self.af, kind, proto)
        made.settimeout(5)
        self.made.append(made)
        return made

    def server(self, host: Any, addr: str, port: int, kind: int = socket.SOCK_DGRAM) -> Any:
        made = self.open(host, kind)
        made.bind((addr, port))
        if kind == socket.SOCK_STREAM:
            made.listen(5)
        return made

    def to(self, addr: str, port: int | str = "") -> str:
        if port == "":
            return addr
        return f"[{addr}]:{port}" if self.version == 6 else f"{addr}:{port}"

    def table(self) -> list[Any]:
        return [one.ct for one in self.net.router.ct.hash.values() if not one.dir]


@pytest.fixture(params=[4, 6], ids=["IPv4", "IPv6"])
def path(request: pytest.FixtureRequest) -> Iterator[Path]:
    with lan() as net:
        made = Path(net, request.param)
        yield made
        for sock in made.made:
            sock.close()
        net.run(200)


def test_masquerade_udp_tcp_and_ping(path: Path) -> None:
    nat.masquerade(path.net.router, oif="eth1", ip=path.ip)
    server = path.server(path.net.outer, path.far, 7)
    client = path.open(path.net.inner)
    client.sendto(b"x", (path.far, 7))
    data, peer = server.recvfrom(10)
    assert peer[:2] == (path.outside, client.getsockname()[1])
    server.sendto(data + b"!", peer)
    assert client.recvfrom(10)[0] == b"x!"
    listener = path.server(path.net.outer, path.far, 80, socket.SOCK_STREAM)
    stream = path.open(path.net.inner, socket.SOCK_STREAM)
    stream.connect((path.far, 80))
    taken, peer = listener.accept()
    path.made.append(taken)
    assert peer[0] == path.outside
    data = bytes(range(256)) * 1000
    for one, two in ((stream, taken), (taken, stream)):
        got = b""
        at = 0
        while len(got) < len(data):  # super-packets and acknowledgements, both ways
            at += one.send(data[at : at + 60_000]) if at < len(data) else 0
            got += two.recv(1 << 18)
        assert got == data
    proto = socket.IPPROTO_ICMP if path.version == 4 else socket.IPPROTO_ICMPV6
    ping = path.open(path.net.inner, proto=proto)
    ping.connect((path.far, 0))
    kind = b"\x08\0" if path.version == 4 else b"\x80\0"
    ping.send(kind + b"\0\0\0\0\0\1" + bytes(100))
    assert len(ping.recv(1000)) == 108
    assert {ct.protonum for ct in path.table()} == {6, 17, proto}
    assert all(ct.status & IPS_SRC_NAT for ct in path.table())


def test_two_with_one_port_get_two(path: Path) -> None:
    router = path.net.router
    nat.masquerade(router, oif="eth1", ip=path.ip)
    server = path.server(path.net.outer, path.far, 7)
    ours = path.server(router, path.outside, 5000)
    theirs = path.server(path.net.inner, path.near, 5000)
    peers = {}
    for sock, word in ((ours, b"ours"), (theirs, b"theirs")):
        sock.sendto(word, (path.far, 7))
        data, peer = server.recvfrom(10)
        peers[data] = peer
        server.sendto(data + b"!", peer)
        assert sock.recv(10) == word + b"!"
    assert peers[b"ours"][1] == 5000
    assert peers[b"theirs"][1] != 5000
    assert peers[b"theirs"][0] == path.outside


def test_ports_of_a_range_run_out(path: Path) -> None:
    router = path.net.router
    nat.masquerade(router, oif="eth1", ip=path.ip, proto="udp", ports="6000-6003")
    server = path.server(path.net.outer, path.far, 7)
    seen = []
    for number in range(6):
        path.open(path.net.inner).sendto(b"%d" % number, (path.far, 7))
        try:
            seen.append(server.recvfrom(10)[1][1])
        except TimeoutError:
            seen.append(0)
    assert sorted(seen[:4]) == [6000, 6001, 6002, 6003]
    assert seen[4:] == [0, 0]
    assert router.ct.stat.insert_failed == 2


def test_the_choice_of_ports_is_the_seeds(path: Path) -> None:
    def ports(net: Lan) -> list[int]:
        other = Path(net, path.version)
        nat.masquerade(net.router, oif="eth1", ip=other.ip, random=True)
        server = other.server(net.outer, other.far, 7)
        found = []
        for _ in range(3):
            client = other.open(net.inner)
            client.sendto(b"x", (other.far, 7))
            found.append(server.recvfrom(10)[1][1])
            assert found[-1] != client.getsockname()[1]
        for sock in other.made:
            sock.close()
        net.run(200)
        return found

    first = ports(path.net)
    with lan() as again:
        assert ports(again) == first


def test_dnat_to_a_port_inside(path: Path) -> None:
    router = path.net.router
    to = path.to(path.near, 8000)
    nat.dnat(router, to, iif="eth1", proto="tcp", dport=80)
    listener = path.server(path.net.inner, path.near, 8000, socket.SOCK_STREAM)
    client = path.open(path.net.outer, socket.SOCK_STREAM)
    client.connect((path.outside, 80))
    taken, peer = listener.accept()
    path.made.append(taken)
    assert peer[0] == path.far
    client.sendall(b"question")
    assert taken.recv(100) == b"question"
    taken.sendall(b"answer")
    assert client.recv(100) == b"answer"
    assert client.getpeername()[:2] == (path.outside, 80)
    (ct,) = path.table()
    assert ct.status & (IPS_SRC_NAT | IPS_DST_NAT) == IPS_DST_NAT


def test_dnat_of_what_the_router_itself_sends(path: Path) -> None:
    router = path.net.router
    nat.dnat(router, path.to(path.far, 7), proto="udp", daddr=path.near, dport=9)
    nat.masquerade(router, oif="eth1", ip=path.ip)  # its source is that of the first route
    server = path.server(path.net.outer, path.far, 7)
    client = path.open(router)
    client.sendto(b"x", (path.near, 9))  # routed inside first
    data, peer = server.recvfrom(10)
    server.sendto(data, peer)
    assert client.recvfrom(10)[1][:2] == (path.near, 9)


def test_hairpin(path: Path) -> None:
    """A client inside reaches a server inside by the router's outer address."""
    router = path.net.router
    nat.dnat(router, path.to(path.near, 8000), proto="tcp", daddr=path.outside, dport=80)
    nat.masquerade(router, oif="eth0", ip=path.ip, saddr=path.near, daddr=path.near)
    listener = path.server(path.net.inner, path.near, 8000, socket.SOCK_STREAM)
    client = path.open(path.net.inner, socket.SOCK_STREAM)
    client.connect((path.outside, 80))
    taken, peer = listener.accept()
    path.made.append(taken)
    assert peer[0] == path.inside
    client.sendall(b"x")
    assert taken.recv(10) == b"x"


def test_snat_to_an_address_and_ports(path: Path) -> None:
    router = path.net.router
    other = "192.0.2.77" if path.version == 4 else "2001:db8:2::77"
    router.ifconfig("eth1", f"{other}/{24 if path.version == 4 else 64}")
    path.net.run(3)
    nat.snat(router, path.to(other, "7000-7010"), oif="eth1", proto="udp")
    server = path.server(path.net.outer, path.far, 7)
    client = path.open(path.net.inner)
    client.sendto(b"x", (path.far, 7))
    _, peer = server.recvfrom(10)
    assert peer[0] == other
    assert 7000 <= peer[1] <= 7010
    server.sendto(b"y", peer)
    assert client.recv(10) == b"y"


def test_errors_are_translated_back(path: Path) -> None:
    nat.masquerade(path.net.router, oif="eth1", ip=path.ip)
    client = path.open(path.net.inner)
    client.connect((path.far, 9))
    client.send(b"x")
    with pytest.raises(ConnectionRefusedError):
        client.recv(10)


def test_masqueraded_connections_end_with_the_address(path: Path) -> None:
    router = path.net.router
    nat.masquerade(router, oif="eth1", ip=path.ip)
    path.server(path.net.outer, path.far, 7)
    client = path.open(path.net.inner)
    client.sendto(b"x", (path.far, 7))
    path.net.run(1)
    assert len(path.table()) == 1
    prefix = 24 if path.version == 4 else 64
    router.addr_del("eth1", f"{path.outside}/{prefix}")
    assert path.table() == []
    router.ifconfig("eth1", f"{path.outside}/{prefix}")
    path.net.run(3)
    client.sendto(b"x", (path.far, 7))
    path.net.run(1)
    assert len(path.table()) == 1
    router.ifconfig("eth1", up=False)
    assert path.table() == []


def test_addresses_are_watched_until_the_last_rule_that_masquerades(path: Path) -> None:
    router = path.net.router
    rule = nat.masquerade(router, oif="eth1", ip=path.ip)
    masquerade.nf_nat_masquerade_inet_register_notifiers(router)  # as a rule of nft does
    nat.delete(router, rule)
    assert masquerade.masq_device_event in router.netdev_chain
    masquerade.nf_nat_masquerade_inet_unregister_notifiers(router)
    assert masquerade.masq_device_event not in router.netdev_chain


def test_rules_are_listed_and_deleted(path: Path) -> None:
    router = path.net.router
    one = nat.masquerade(router, oif="eth1", ip=path.ip)
    two = nat.dnat(router, path.to(path.near, 80), iif="eth1", proto="tcp", dport=8080)
    assert nat.rules(router) == [two, one]
    assert repr(two).startswith("<nat iif eth1 proto tcp dport 8080 dnat to")
    nf_nat_register_fn(router, 0, lambda skb, state, ct: 1, 2, -100)  # a chain of nft
    assert nat.rules(router) == [two, one]
    nat.delete(router, two)
    nat.delete(router, one)
    assert nat.rules(router) == []
    assert not any(router.nf_hooks)
    assert not any(router.ipv6.nf_hooks)
    with pytest.raises(ValueError, match="no rule"):
        nat.delete(router, one)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda net: nat.snat(net, "10.0.0.9-10.0.0.1"), "no range"),
        (lambda net: nat.snat(net, "10.0.0.1:70000"), "ports are"),
        (lambda net: nat.snat(net, "eth0"), "eth0"),
        (lambda net: nat.dnat(net, "[::1]80"), "is written"),
        (lambda net: nat.dnat(net, "10.0.0.1", saddr="::/0"), "IPv4 or about IPv6"),
        (lambda net: nat.snat(net, "10.0.0.1", ip="ip6"), "IPv4 or about IPv6"),
        (lambda net: nat.masquerade(net, of="eth1"), "asks for"),
        (lambda net: nat.masquerade(net, ports=(9, 8)), "ports are"),
    ],
)
def test_rules_that_mean_nothing_are_refused(make: Any, message: str) -> None:
    with lan() as net:
        with pytest.raises(ValueError, match=message):
            make(net.router)
        assert nat.rules(net.router) == []


def test_a_reject_behind_dnat_comes_from_the_outer_address() -> None:
    """The reset belongs to the connection, and is translated as its answers are."""
    with lan() as net:
        nat.dnat(net.router, f"{INNER}:80", iif="eth1", proto="tcp", dport=80)
        firewall.reject(net.router, "forward", proto="tcp", with_="tcp reset")
        client = net.outer.socket(socket.AF_INET, socket.SOCK_STREAM)
        client.settimeout(5)
        with pytest.raises(ConnectionRefusedError):
            client.connect((OUTSIDE, 80))
        client.close()
        net.run(200)


def test_a_namespace_has_a_table_of_its_own() -> None:
    with lan() as net:
        nat.masquerade(net.router, oif="eth1")
        blue = net.router.netns_add("blue")
        assert blue.ct is not net.router.ct
        assert nat.rules(blue) == []
        assert not any(blue.nf_hooks)
        assert OUTER
