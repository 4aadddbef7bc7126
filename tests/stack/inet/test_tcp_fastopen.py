"""TCP Fast Open (RFC 7413) between two hosts, and what goes wrong on the way."""

from __future__ import annotations

import contextlib
import errno
from typing import Any

import pytest

from stack.core.bsd_socket import (
    sockfd_lookup,
    sys_accept4,
    sys_bind,
    sys_close,
    sys_connect,
    sys_listen,
    sys_recv,
    sys_sendto,
    sys_setsockopt,
    sys_socket,
)
from stack.core.sockaddr import sockaddr
from stack.core.uapi import (
    AF_INET,
    MSG_DONTWAIT,
    MSG_FASTOPEN,
    O_NONBLOCK,
    SOCK_NONBLOCK,
    SOCK_STREAM,
)
from tests.stack.inet.tcpnet import (
    ACK,
    FIN,
    MS,
    RST,
    SYN,
    A,
    B,
    S,
    Segment,
    TcpNet,
    build_segment,
    dest_unreach,
)

SOL_TCP = 6
TCP_FASTOPEN, TCP_FASTOPEN_CONNECT, TCP_FASTOPEN_KEY = 23, 30, 33
TFO = 34
BOTH = {"tcp_fastopen": 3}
PORT = 80
TO_B = sockaddr(AF_INET, B, PORT)
KEYS = bytes(range(16)), bytes(range(16, 32))


class Pair:
    """A listener with Fast Open on b, and clients on a."""

    def __init__(self, net: TcpNet, backlog: int = 8) -> None:
        self.net = net
        self.listener = sys_socket(net.b, AF_INET, SOCK_STREAM, 0)
        sys_setsockopt(net.b, self.listener, SOL_TCP, TCP_FASTOPEN, backlog)
        sys_bind(net.b, self.listener, sockaddr(AF_INET, B, PORT))
        sys_listen(net.b, self.listener, 8)

    def send(self, data: bytes) -> int:
        """A new client that sends `data` with its SYN; its descriptor."""
        fd = sys_socket(self.net.a, AF_INET, SOCK_STREAM, 0)
        self.write(fd, data)
        return fd

    def write(self, fd: int, data: bytes) -> None:
        """Send with the SYN of a client."""
        with contextlib.suppress(BlockingIOError):  # EINPROGRESS: there is no cookie
            sys_sendto(self.net.a, fd, data, MSG_FASTOPEN | MSG_DONTWAIT, TO_B)

    def accept(self) -> int:
        """The next connection; its descriptor on b."""
        self.net.run(50 * MS)
        fd, _ = sys_accept4(self.net.b, self.listener, O_NONBLOCK)
        return fd

    def learn(self) -> None:
        """A first connection, whose SYN-ACK brings the cookie."""
        fd = self.send(b"")
        sys_close(self.net.b, self.accept())
        sys_close(self.net.a, fd)
        self.net.run(S)
        self.net.log.clear()

    @property
    def syns(self) -> list[Segment]:
        return [s for s in self.net.log if s.flags & (SYN | ACK) == SYN]

    @property
    def synacks(self) -> list[Segment]:
        return [s for s in self.net.log if s.flags & (SYN | ACK) == SYN | ACK]


def sk_of(host: Any, fd: int) -> Any:
    return sockfd_lookup(host, fd).sk


def test_data_is_read_before_the_handshake_is_over() -> None:
    with TcpNet(sysctl=BOTH) as net:
        pair = Pair(net)
        pair.learn()
        fd = pair.send(b"hello")
        net.filter = lambda s: s.src == A or not s.flags & SYN  # the SYN-ACK is lost
        net.run(6 * MS)
        conn, _ = sys_accept4(net.b, pair.listener, O_NONBLOCK)
        child = sk_of(net.b, conn)
        assert child.fastopen_rsk is not None
        assert net.b.mib.linux.TCPFastOpenPassive == 1
        room = bytearray(10)
        assert sys_recv(net.b, conn, room, MSG_DONTWAIT) == 5
        sys_sendto(net.b, conn, b"answer", MSG_DONTWAIT, None)
        net.filter = None
        net.run(3 * S)  # the SYN-ACK goes again, and the data after it
        assert child.fastopen_rsk is None
        assert sys_recv(net.a, fd, room, MSG_DONTWAIT) == 6
        assert len(pair.syns[0].payload) == 5
        assert pair.synacks[0].ack == pair.syns[0].seq + 6
        assert sk_of(net.b, pair.listener).fastopenq.qlen == 0
        assert net.a.mib.linux.TCPFastOpenActive == 1
        for host, end in ((net.a, fd), (net.b, conn), (net.b, pair.listener)):
            sys_close(host, end)
        net.run(200 * S)


def test_a_lost_syn_with_data_goes_again_without() -> None:
    with TcpNet(sysctl=BOTH) as net:
        pair = Pair(net)
        pair.learn()
        net.filter = lambda s: not s.payload or not s.flags & SYN
        fd = pair.send(b"hello")
        net.run(3 * S)
        net.filter = None
        conn = pair.accept()
        room = bytearray(10)
        assert sys_recv(net.b, conn, room, MSG_DONTWAIT) == 5
        assert [(len(s.payload), s.opt(TFO) is None) for s in pair.syns] == [(5, False), (0, True)]
        assert sk_of(net.a, fd).fastopen_client_fail == 3
        assert net.a.mib.linux.TCPFastOpenActiveFail == 1
        for host, end in ((net.a, fd), (net.b, conn), (net.b, pair.listener)):
            sys_close(host, end)
        net.run(200 * S)


def test_a_wrong_cookie_gets_a_new_one_and_its_data_goes_again() -> None:
    with TcpNet(sysctl=BOTH) as net:
        pair = Pair(net)
        pair.learn()
        sys_setsockopt(net.b, pair.listener, SOL_TCP, TCP_FASTOPEN_KEY, KEYS[0])
        fd = pair.send(b"hello")
        conn = pair.accept()
        room = bytearray(10)
        assert sys_recv(net.b, conn, room, MSG_DONTWAIT) == 5
        assert pair.synacks[0].ack == pair.syns[0].seq + 1
        assert pair.synacks[0].opt(TFO) != pair.syns[0].opt(TFO)
        assert net.b.mib.linux.TCPFastOpenPassiveFail == 1
        assert sk_of(net.a, fd).fastopen_client_fail == 2
        for host, end in ((net.a, fd), (net.b, conn), (net.b, pair.listener)):
            sys_close(host, end)
        net.run(200 * S)


def test_a_cookie_of_the_old_key_works_and_is_exchanged() -> None:
    with TcpNet(sysctl=BOTH) as net:
        pair = Pair(net)
        sys_setsockopt(net.b, pair.listener, SOL_TCP, TCP_FASTOPEN_KEY, KEYS[0])
        pair.learn()
        sys_setsockopt(net.b, pair.listener, SOL_TCP, TCP_FASTOPEN_KEY, KEYS[1] + KEYS[0])
        cookies = []
        for _ in range(2):
            fd = pair.send(b"hello")
            conn = pair.accept()
            cookies += [s.opt(TFO) for s in (pair.syns[0], pair.synacks[0])]
            sys_close(net.a, fd)
            sys_close(net.b, conn)
            net.run(S)
            net.log.clear()
        assert cookies[1] == cookies[2] != cookies[0]
        assert cookies[3] is None
        assert net.b.mib.linux.TCPFastOpenPassiveAltKey == 1
        sys_close(net.b, pair.listener)
        net.run(200 * S)


def test_children_without_an_ack_are_counted_and_limited() -> None:
    with TcpNet(sysctl={"tcp_fastopen": 0x203}) as net:  # no cookie is needed
        pair = Pair(net, backlog=2)
        for port in range(5):
            net.inject(build_segment(A, 5000 + port, PORT, 1000, 0, SYN, payload=b"data"))
        net.filter = lambda s: False
        net.run(20 * MS)
        queue = sk_of(net.b, pair.listener).fastopenq
        assert (queue.qlen, net.b.mib.linux.TCPFastOpenListenOverflow) == (2, 3)
        sys_close(net.b, pair.listener)
        net.run(200 * S)


def test_a_rst_counts_for_a_minute() -> None:
    with TcpNet(sysctl={"tcp_fastopen": 0x203}) as net:
        pair = Pair(net, backlog=1)
        net.filter = lambda s: s.src == A
        net.inject(build_segment(A, 5000, PORT, 1000, 0, SYN, payload=b"data"))
        net.run(MS)
        conn, _ = sys_accept4(net.b, pair.listener, O_NONBLOCK)
        net.inject(build_segment(A, 5000, PORT, 1005, 0, RST))
        queue = sk_of(net.b, pair.listener).fastopenq
        assert sk_of(net.b, conn).sk_err == errno.ECONNRESET
        assert queue.qlen == 1
        net.inject(build_segment(A, 5001, PORT, 1000, 0, SYN, payload=b"data"))
        assert net.b.mib.linux.TCPFastOpenListenOverflow == 1
        net.run(61 * S)
        net.inject(build_segment(A, 5002, PORT, 1000, 0, SYN, payload=b"data"))
        assert net.b.mib.linux.TCPFastOpenPassive == 2
        sys_close(net.b, conn)
        sys_close(net.b, pair.listener)
        net.run(200 * S)


def test_a_path_that_swallows_it_is_left_alone() -> None:
    """A middlebox lets the handshake pass and nothing else: the third timeout stops Fast Open."""
    with TcpNet(sysctl=BOTH | {"tcp_fastopen_blackhole_timeout_sec": 60}) as net:
        pair = Pair(net)
        pair.learn()
        net.filter = lambda s: (bool(s.flags & SYN) and not s.payload) or s.src == B
        first = pair.send(b"hello")
        net.run(20 * S)
        assert net.a.mib.linux.TCPFastOpenBlackhole == 1
        net.log.clear()
        second = pair.send(b"hello")
        net.run(S)
        assert pair.syns[0].payload == b""
        assert pair.syns[0].opt(TFO) is None
        net.filter = None
        net.run(60 * S)
        net.log.clear()
        third = pair.send(b"hello")
        assert pair.syns[0].payload == b"hello"
        for fd in (first, second, third):
            sys_close(net.a, fd)
        sys_close(net.b, pair.listener)
        net.run(1000 * S)


def test_a_deferred_connect_sends_with_the_first_write() -> None:
    with TcpNet(sysctl=BOTH) as net:
        pair = Pair(net)
        pair.learn()
        fd = sys_socket(net.a, AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0)
        sys_setsockopt(net.a, fd, SOL_TCP, TCP_FASTOPEN_CONNECT, 1)
        sys_connect(net.a, fd, TO_B)
        net.run(S)
        assert pair.syns == []
        with pytest.raises(OSError, match="connection is being made") as caught:
            sys_connect(net.a, fd, TO_B)
        assert caught.value.errno == errno.EISCONN
        assert sys_sendto(net.a, fd, b"hello", MSG_DONTWAIT, None) == 5
        conn = pair.accept()
        assert pair.syns[0].payload == b"hello"
        for host, end in ((net.a, fd), (net.b, conn), (net.b, pair.listener)):
            sys_close(host, end)
        net.run(200 * S)


@pytest.mark.parametrize("cookie", [b"", bytes(2), bytes(3), bytes(5), bytes(17), bytes(18)])
def test_wrong_lengths_of_the_option_do_no_harm(cookie: bytes) -> None:
    with TcpNet(sysctl=BOTH) as net:
        pair = Pair(net)
        option = bytes((TFO, 2 + len(cookie))) + cookie
        net.inject(build_segment(A, 5000, PORT, 1000, 0, SYN, options=option, payload=b"data"))
        net.run(6 * MS)
        (synack,) = pair.synacks
        assert synack.ack == 1001
        assert (synack.opt(TFO) is not None) == (not cookie)
        sys_close(net.b, pair.listener)
        net.run(200 * S)


def test_a_server_that_closes_before_the_handshake_is_over() -> None:
    with TcpNet(sysctl=BOTH) as net:
        pair = Pair(net)
        pair.learn()
        fd = pair.send(b"hello")
        net.run(6 * MS)
        conn, _ = sys_accept4(net.b, pair.listener, O_NONBLOCK)
        room = bytearray(10)
        assert sys_recv(net.b, conn, room, MSG_DONTWAIT) == 5
        sys_close(net.b, conn)
        net.run(S)
        assert sys_recv(net.a, fd, room, MSG_DONTWAIT) == 0
        sys_close(net.a, fd)
        net.run(S)
        assert {s.src for s in net.log if s.flags & FIN} == {A, B}
        assert not any(s.flags & RST for s in net.log)
        sys_close(net.b, pair.listener)
        net.run(200 * S)


@pytest.mark.parametrize("accepted", [False, True])
def test_an_icmp_error_about_the_syn_ack(accepted: bool) -> None:
    """It ends a child that was not accepted yet; accepted, it counts as connected."""
    with TcpNet(sysctl=BOTH) as net:
        pair = Pair(net)
        pair.learn()
        fd = pair.send(b"hello")
        net.filter = lambda s: s.src == A or not s.flags & SYN  # the SYN-ACK is lost
        net.run(6 * MS)
        room = bytearray(10)
        if accepted:
            conn, _ = sys_accept4(net.b, pair.listener, O_NONBLOCK)
        (synack,) = pair.synacks

        def unreachable(seq: int) -> None:
            net.inject(dest_unreach(build_segment(B, PORT, synack.dport, seq, 0, SYN | ACK), 1))

        unreachable(synack.seq + 5000)
        assert net.b.mib.linux.OutOfWindowIcmps == 1
        unreachable(synack.seq)
        if not accepted:
            conn, _ = sys_accept4(net.b, pair.listener, O_NONBLOCK)
        child = sk_of(net.b, conn)
        assert sys_recv(net.b, conn, room, MSG_DONTWAIT) == 5
        if accepted:
            assert child.sk_err_soft == errno.EHOSTUNREACH
            assert child.fastopen_rsk is not None
        else:
            with pytest.raises(OSError, match="No route") as wrong:
                sys_recv(net.b, conn, room, MSG_DONTWAIT)
            assert wrong.value.errno == errno.EHOSTUNREACH
            assert child.fastopen_rsk is None
        net.filter = None
        for host, end in ((net.a, fd), (net.b, conn), (net.b, pair.listener)):
            sys_close(host, end)
        net.run(200 * S)
