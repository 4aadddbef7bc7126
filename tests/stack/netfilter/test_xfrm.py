"""Policies without IPsec: what may come in, go on and leave."""

from __future__ import annotations

import errno
import socket
from collections.abc import Iterator
from typing import Any

import pytest

from stack import proc
from stack.core.drop_reason import drop_names
from stack.inet.xfrm_policy import (
    XFRM_POLICY_ALLOW,
    XFRM_POLICY_BLOCK,
    XFRM_POLICY_FWD,
    XFRM_POLICY_IN,
    XFRM_POLICY_OUT,
    selector,
    xfrm_policy,
    xfrm_policy_delete,
    xfrm_policy_flush,
    xfrm_policy_insert,
)
from tests.stack.netfilter.rig import ADDRS, Lan, lan


class Path:
    """Sockets between `inner` and `outer`, through the router, in one family."""

    def __init__(self, net: Lan, version: int) -> None:
        self.net = net
        self.af = socket.AF_INET if version == 4 else socket.AF_INET6
        self.near, self.inside, self.far, _ = ADDRS[version]
        self.any = "0.0.0.0/0" if version == 4 else "::/0"
        net.outer.route_add("0.0.0.0/0", via=ADDRS[4][3])
        net.outer.route_add("::/0", via=ADDRS[6][3])
        self.server = self.socket(net.outer)
        self.server.bind((self.far, 7))
        self.client = self.socket(net.inner)

    def socket(self, host: Any, kind: int = socket.SOCK_DGRAM) -> Any:
        made = host.socket(self.af, kind)
        made.settimeout(2)
        return made

    def arrives(self, data: bytes = b"x", client: Any = None, port: int = 7) -> bool:
        (client or self.client).sendto(data, (self.far, port))
        try:
            return bool(self.server.recv(100) == data)
        except TimeoutError:
            return False

    def insert(self, host: Any, direction: int, action: int, **words: Any) -> xfrm_policy:
        priority = words.pop("priority", 0)
        words.setdefault("src", self.any)
        words.setdefault("dst", self.any)
        made = xfrm_policy(selector(**words), direction, action, priority)
        return xfrm_policy_insert(host, made)


@pytest.fixture(params=[4, 6], ids=["IPv4", "IPv6"])
def path(request: pytest.FixtureRequest) -> Iterator[Path]:
    with lan() as net:
        made = Path(net, request.param)
        assert made.arrives()
        yield made
        made.client.close()
        made.server.close()


def test_in_is_blocked_and_counted(path: Path) -> None:
    outer = path.net.outer
    made = path.insert(outer, XFRM_POLICY_IN, XFRM_POLICY_BLOCK, src=path.near, proto=17, dport=7)
    assert not path.arrives()
    assert outer.mib.xfrm.XfrmInPolBlock == 1
    assert made.packets == 1
    assert outer.drop_reasons
    assert "XfrmInPolBlock          \t1\n" in proc.read(outer, "xfrm_stat")
    xfrm_policy_delete(outer, made)
    assert path.arrives()


def test_tcp_in_is_blocked_without_a_reset(path: Path) -> None:
    outer = path.net.outer
    path.insert(outer, XFRM_POLICY_IN, XFRM_POLICY_BLOCK, proto=6, dport=80)
    with path.socket(path.net.inner, socket.SOCK_STREAM) as client, pytest.raises(TimeoutError):
        client.connect((path.far, 80))
    xfrm_policy_flush(outer)
    client = path.socket(path.net.inner, socket.SOCK_STREAM)
    with client, pytest.raises(ConnectionRefusedError):
        client.connect((path.far, 80))


def test_raw_sockets_get_nothing_that_is_blocked(path: Path) -> None:
    sniffer = path.net.outer.socket(path.af, socket.SOCK_RAW, 17)
    sniffer.settimeout(1)
    path.arrives()
    assert sniffer.recv(100).endswith(b"x")
    path.insert(path.net.outer, XFRM_POLICY_IN, XFRM_POLICY_BLOCK, proto=17)
    assert not path.arrives()
    with pytest.raises(TimeoutError):
        sniffer.recv(100)
    sniffer.close()


def test_forwarding_is_blocked(path: Path) -> None:
    router = path.net.router
    path.insert(router, XFRM_POLICY_FWD, XFRM_POLICY_BLOCK, dst=path.far)
    assert not path.arrives()
    assert router.mib.xfrm.XfrmInPolBlock == 1
    xfrm_policy_flush(router)
    path.insert(router, XFRM_POLICY_OUT, XFRM_POLICY_BLOCK, dst=path.far)
    assert not path.arrives()
    assert router.mib.xfrm.XfrmOutPolBlock == 1
    xfrm_policy_flush(router)
    assert path.arrives()


def test_out_is_eperm_and_counted(path: Path) -> None:
    inner = path.net.inner
    connected = path.socket(inner)
    connected.connect((path.far, 7))
    connected.send(b"x")
    assert path.server.recv(10) == b"x"
    path.insert(inner, XFRM_POLICY_OUT, XFRM_POLICY_BLOCK, dst=path.far, proto=17, dport=7)
    with pytest.raises(PermissionError):
        path.arrives()
    with pytest.raises(PermissionError):  # whose route it has
        connected.send(b"x")
    blocked = inner.mib.xfrm.XfrmOutPolBlock
    assert blocked >= 2
    path.client.sendto(b"x", (path.far, 8))  # another port
    with pytest.raises(PermissionError):
        path.socket(inner).connect((path.far, 7))
    xfrm_policy_flush(inner)
    connected.send(b"y")
    assert path.server.recv(10) == b"y"
    connected.close()


def test_priority_and_order_decide(path: Path) -> None:
    inner = path.net.inner
    path.insert(inner, XFRM_POLICY_OUT, XFRM_POLICY_BLOCK, priority=10)
    with pytest.raises(PermissionError):
        path.arrives()
    path.insert(inner, XFRM_POLICY_OUT, XFRM_POLICY_ALLOW, priority=5, dst=path.far)
    assert path.arrives()
    path.insert(inner, XFRM_POLICY_OUT, XFRM_POLICY_BLOCK, priority=5, dst=path.far)
    assert path.arrives()  # the older one comes first
    path.insert(inner, XFRM_POLICY_OUT, XFRM_POLICY_BLOCK, priority=1, dst=path.far)
    with pytest.raises(PermissionError):
        path.arrives()


def test_selectors_know_interfaces_and_ports(path: Path) -> None:
    outer = path.net.outer
    index = outer.dev("eth0").ifindex
    path.insert(outer, XFRM_POLICY_IN, XFRM_POLICY_BLOCK, ifindex=index + 1)
    assert path.arrives()
    path.insert(outer, XFRM_POLICY_IN, XFRM_POLICY_BLOCK, proto=17, sport=1)
    assert path.arrives()
    path.insert(outer, XFRM_POLICY_IN, XFRM_POLICY_BLOCK, ifindex=index)
    assert not path.arrives()


def test_misuse_is_named() -> None:
    with pytest.raises(ValueError, match="two families"):
        selector("10.0.0.0/8", "2001:db8::/32")
    with pytest.raises(ValueError, match="dport 70000"):
        selector(dport=70000)
    with lan() as net:
        with pytest.raises(ValueError, match="direction 9"):
            xfrm_policy_insert(net.inner, xfrm_policy(selector(), 9))
        with pytest.raises(ValueError, match="action 9"):
            xfrm_policy_insert(net.inner, xfrm_policy(selector(), 0, 9))


def test_a_segment_asks_the_policy_once(path: Path) -> None:
    """From SYN to TIME_WAIT, and to a port that nobody has: Linux asks in tcp_v4_rcv alone."""
    outer = path.net.outer
    server = path.socket(outer, socket.SOCK_STREAM)
    server.bind((path.far, 80))
    server.listen(1)
    made = path.insert(outer, XFRM_POLICY_IN, XFRM_POLICY_ALLOW, proto=6)
    client = path.socket(path.net.inner, socket.SOCK_STREAM)
    client.connect((path.far, 80))
    conn, _ = server.accept()
    client.send(b"x")
    assert conn.recv(10) == b"x"
    conn.close()
    assert client.recv(1) == b""
    client.close()
    server.close()
    with path.socket(path.net.inner, socket.SOCK_STREAM) as late:
        assert late.connect_ex((path.far, 80)) == errno.ECONNREFUSED
    assert outer.mib.tcp.InSegs >= 5
    assert made.packets == outer.mib.tcp.InSegs


@pytest.mark.parametrize("when", ["syn", "request", "connection", "time wait"])
def test_a_blocked_segment_counts_once(path: Path, when: str) -> None:
    outer, clock = path.net.outer, path.net.clock
    server = path.socket(outer, socket.SOCK_STREAM)
    server.bind((path.far, 80))
    server.listen(1)
    client = path.socket(path.net.inner, socket.SOCK_STREAM)
    client.setblocking(False)

    def block() -> None:
        path.insert(outer, XFRM_POLICY_IN, XFRM_POLICY_BLOCK, proto=6)
        outer.mib.tcp.InSegs = 0
        outer.drop_reasons.clear()

    if when == "syn":
        block()
    client.connect_ex((path.far, 80))
    if when == "request":
        assert clock.wait(lambda: outer.mib.tcp.InSegs == 1, 10**9)
        block()
    elif when != "syn":
        conn, _ = server.accept()
        if when == "time wait":
            conn.close()
            clock.run_for(10**8)
            block()
            client.close()
        else:
            block()
            client.send(b"x")
    clock.run_for(5 * 10**8)
    assert outer.mib.tcp.InSegs
    assert outer.mib.xfrm.XfrmInPolBlock == outer.mib.tcp.InSegs
    assert drop_names(outer) == {"SKB_DROP_REASON_XFRM_POLICY": outer.mib.tcp.InSegs}
    client.close()


def test_datagrams_and_echoes_ask_once(path: Path) -> None:
    outer = path.net.outer
    made = path.insert(outer, XFRM_POLICY_IN, XFRM_POLICY_ALLOW, proto=17)
    assert path.arrives()
    assert made.packets == 1
    path.client.sendto(b"x", (path.far, 9))  # nobody there: port unreachable
    path.net.clock.run_for(10**8)
    assert made.packets == 2
    icmp = 1 if path.af == socket.AF_INET else 58
    made = path.insert(outer, XFRM_POLICY_IN, XFRM_POLICY_BLOCK, proto=icmp)
    with path.net.inner.socket(path.af, socket.SOCK_DGRAM, icmp) as ping:
        ping.sendto(bytes((8 if icmp == 1 else 128, *7 * [0])), (path.far, 0))
        path.net.clock.run_for(10**8)
    assert made.packets == outer.mib.xfrm.XfrmInPolBlock == 1


def test_a_blocked_datagram_is_an_error_of_its_socket(path: Path) -> None:
    outer = path.net.outer
    path.insert(outer, XFRM_POLICY_IN, XFRM_POLICY_BLOCK, proto=17)
    mib = outer.mib.udp if path.af == socket.AF_INET else outer.mib.udp6
    assert not path.arrives()
    assert mib.InErrors == 1
    path.client.sendto(b"x", (path.far, 9))
    path.net.clock.run_for(10**8)
    assert (mib.InErrors, mib.NoPorts) == (2, 0)
    assert drop_names(outer) == {"SKB_DROP_REASON_XFRM_POLICY": 2}
