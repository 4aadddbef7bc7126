"""stack/core/bsd_socket.py and stack/ipv4/af_inet.py: calls, descriptors, families."""

from __future__ import annotations

import errno

import pytest

from stack.core.bsd_socket import (
    sock_create_kern,
    sock_poll,
    sock_register,
    sock_release,
    sockfd_lookup,
    sys_accept,
    sys_bind,
    sys_close,
    sys_connect,
    sys_getpeername,
    sys_getsockname,
    sys_listen,
    sys_poll_one,
    sys_recv,
    sys_recvfrom,
    sys_recvmmsg,
    sys_send,
    sys_sendmmsg,
    sys_sendto,
    sys_set_nonblocking,
    sys_setsockopt,
    sys_socket,
    sys_socketpair,
)
from stack.core.fcntl import sys_dup
from stack.core.file import NR_OPEN
from stack.core.ioctl import sys_ioctl
from stack.core.iov import msghdr
from stack.core.security import register_security
from stack.core.select import sys_poll
from stack.core.sockaddr import sockaddr
from stack.core.uapi import (
    AF_INET,
    AF_UNIX,
    FIONBIO,
    IPPROTO_ICMP,
    IPPROTO_TCP,
    IPPROTO_UDP,
    MSG_DONTWAIT,
    MSG_WAITFORONE,
    POLLIN,
    POLLNVAL,
    POLLOUT,
    SO_RCVTIMEO,
    SOCK_DGRAM,
    SOCK_NONBLOCK,
    SOCK_RAW,
    SOCK_STREAM,
    SOL_SOCKET,
)
from stack.host import Host
from stack.inet.protocol import inet_add_protocol, inet_del_protocol, net_protocol
from stack.inet.protosw import (
    INET_PROTOSW_PERMANENT,
    inet_protosw,
    inet_register_protosw,
    inet_unregister_protosw,
)
from stack.ipv4.af_inet import inet_dgram_ops, inet_sockraw_ops, inet_stream_ops
from stack.ipv4.udp import udp_prot
from tests.stack.ipv4.net import at
from tests.support import errno_of

LO = 0x7F000001


def pair(host: Host) -> tuple[int, int]:
    a, b = (sys_socket(host, AF_INET, SOCK_DGRAM) for _ in range(2))
    sys_bind(host, b, at(LO, 7))
    sys_connect(host, a, at(LO, 7))
    return a, b


@pytest.mark.parametrize(
    ("args", "err"),
    [
        ((99, SOCK_STREAM, 0), errno.EAFNOSUPPORT),
        ((-1, SOCK_STREAM, 0), errno.EAFNOSUPPORT),
        ((AF_UNIX, SOCK_STREAM, 2), errno.EPROTONOSUPPORT),
        ((AF_UNIX, 4, 0), errno.ESOCKTNOSUPPORT),
        ((AF_INET, 15, 0), errno.EINVAL),
        ((AF_INET, 4, 0), errno.ESOCKTNOSUPPORT),
        ((AF_INET, SOCK_STREAM, IPPROTO_UDP), errno.EPROTONOSUPPORT),
        ((AF_INET, SOCK_STREAM, 300), errno.EINVAL),
        ((AF_INET, SOCK_RAW, 0), errno.EPROTONOSUPPORT),
        ((AF_INET, SOCK_STREAM | 0o20000000, 0), errno.EINVAL),
    ],
)
def test_socket_errors(host: Host, args: tuple, err: int) -> None:
    assert errno_of(sys_socket, host, *args) == err
    assert host.fdtable.fd == {}


@pytest.mark.parametrize(
    ("kind", "protocol", "name", "ops"),
    [
        (SOCK_STREAM, 0, "TCP", inet_stream_ops),
        (SOCK_STREAM, IPPROTO_TCP, "TCP", inet_stream_ops),
        (SOCK_DGRAM, 0, "UDP", inet_dgram_ops),
        (SOCK_DGRAM, IPPROTO_ICMP, "PING", inet_sockraw_ops),
        (SOCK_RAW, 200, "RAW", inet_sockraw_ops),
    ],
)
def test_inetsw_finds_the_protocol(host: Host, kind: int, protocol: int, name: str, ops) -> None:
    sock = sockfd_lookup(host, sys_socket(host, AF_INET, kind, protocol))
    assert sock.sk.sk_prot.name == name
    assert sock.ops is ops


def test_protosw_rows_can_be_added_and_removed(host: Host) -> None:
    row = inet_protosw(SOCK_DGRAM, 136, udp_prot, inet_dgram_ops, 0)
    inet_register_protosw(host.inetsw, row)
    fd = sys_socket(host, AF_INET, SOCK_DGRAM, 136)
    assert sockfd_lookup(host, fd).sk.sk_protocol == 136
    inet_unregister_protosw(host.inetsw, row)
    assert errno_of(sys_socket, host, AF_INET, SOCK_DGRAM, 136) == errno.EPROTONOSUPPORT
    permanent = inet_protosw(SOCK_DGRAM, 17, udp_prot, inet_dgram_ops, INET_PROTOSW_PERMANENT)
    for call in (inet_register_protosw, inet_unregister_protosw):
        with pytest.raises(PermissionError):
            call(host.inetsw, permanent)


def test_protocol_numbers_are_taken_once(host: Host) -> None:
    mine, other = net_protocol(handler=lambda skb: 0), net_protocol(handler=lambda skb: 0)
    assert inet_add_protocol(host, mine, 200) == 0
    assert inet_add_protocol(host, other, 200) == -1
    assert inet_del_protocol(host, other, 200) == -1
    assert inet_del_protocol(host, mine, 200) == 0


def test_families_register_once(host: Host) -> None:
    assert sock_register(host, host.net_families[AF_INET]) == -errno.EEXIST


def test_lowest_free_descriptor_is_used(host: Host) -> None:
    fds = [sys_socket(host, AF_INET, SOCK_DGRAM) for _ in range(4)]
    assert fds == [3, 4, 5, 6]
    sys_close(host, 5)
    sys_close(host, 3)
    assert sys_socket(host, AF_INET, SOCK_DGRAM) == 3
    assert sys_socket(host, AF_INET, SOCK_DGRAM) == 5
    for fd in (99, -1):
        assert errno_of(sys_close, host, fd) == errno.EBADF


def test_dup_shares_the_socket_until_the_last_close(host: Host) -> None:
    a, b = pair(host)
    c = sys_dup(host, a)
    sys_close(host, a)
    sys_send(host, c, b"still")
    assert sys_recv(host, b, bytearray(9)) == 5
    sys_close(host, c)
    sys_close(host, b)
    assert host.udp_table.ports == {}


def test_nonblocking_in_all_its_forms(host: Host) -> None:
    fd = sys_socket(host, AF_INET, SOCK_DGRAM | SOCK_NONBLOCK)
    other = sys_socket(host, AF_INET, SOCK_DGRAM)
    with pytest.raises(BlockingIOError):
        sys_recv(host, fd, bytearray(1))
    with pytest.raises(BlockingIOError):
        sys_recv(host, other, bytearray(1), MSG_DONTWAIT)
    sys_ioctl(host, other, FIONBIO, 1)
    with pytest.raises(BlockingIOError):
        sys_recv(host, other, bytearray(1))
    sys_set_nonblocking(host, other, False)
    sys_setsockopt(host, other, SOL_SOCKET, SO_RCVTIMEO, 0.5)
    before = host.clock.now_ns()
    with pytest.raises(BlockingIOError):
        sys_recv(host, other, bytearray(1))
    assert host.clock.now_ns() - before == 500_000_000


def test_sendmmsg_and_recvmmsg(host: Host) -> None:
    a, b = pair(host)
    out = [msghdr(None, [bytes([i]) * i]) for i in range(1, 6)]
    assert sys_sendmmsg(host, a, out) == 5
    inn = [msghdr(None, bytearray(10)) for _ in range(8)]
    assert sys_recvmmsg(host, b, inn, MSG_WAITFORONE) == [1, 2, 3, 4, 5]
    assert bytes(inn[2].buf[:3]) == b"\3\3\3"
    bad = [msghdr(None, b"x"), msghdr(at(LO, 0), b"x"), msghdr(None, b"y")]
    assert sys_sendmmsg(host, a, bad) == 1
    assert errno_of(sys_sendmmsg, host, a, bad[1:]) == errno.EINVAL
    with pytest.raises(BlockingIOError):
        sys_recvmmsg(host, b, [*inn[:1], *inn[:1]], MSG_DONTWAIT) and sys_recvmmsg(
            host, b, inn[:1], MSG_DONTWAIT
        )


def test_poll_waits_for_the_first_ready(host: Host) -> None:
    a, b = pair(host)
    assert sys_poll(host, [(b, POLLIN)], 0) == []
    assert sys_poll(host, [(b, POLLIN)], 1000) == []
    assert sys_poll(host, [(a, POLLOUT), (b, POLLIN)], 1000) == [(a, POLLOUT)]
    assert sys_poll(host, [(99, POLLIN)], 0) == [(99, POLLNVAL)]
    host.clock.call_at(host.clock.now_ns() + 500, lambda: sys_send(host, a, b"x"))
    assert sys_poll(host, [(b, POLLIN)]) == [(b, POLLIN)]
    woken = []
    sock = sockfd_lookup(host, b)
    sock_poll(sock, lambda: woken.append(1))
    sys_send(host, a, b"y")
    host.clock.run_for(1000)
    assert woken
    assert sys_poll_one(host, b) & POLLIN


@pytest.mark.parametrize("addr", ["text", 5, (LO, 5)])
def test_only_a_sockaddr_is_an_address(host: Host, addr: object) -> None:
    fd = sys_socket(host, AF_INET, SOCK_DGRAM)
    for call in (sys_bind, sys_connect, lambda *a: sys_sendto(host, fd, b"x", 0, a[2])):
        with pytest.raises(OSError, match="is no sockaddr") as info:
            call(host, fd, addr)
        assert info.value.errno == errno.EFAULT


def test_an_address_of_another_family_is_refused(host: Host) -> None:
    fd = sys_socket(host, AF_INET, SOCK_DGRAM)
    name = sockaddr(10, LO, 5)
    for call in (sys_bind, sys_connect, lambda *a: sys_sendto(host, fd, b"x", 0, a[2])):
        with pytest.raises(OSError, match="family 10") as info:
            call(host, fd, name)
        assert info.value.errno == errno.EAFNOSUPPORT


def test_datagram_sockets_do_not_listen_accept_or_pair(host: Host) -> None:
    fd = sys_socket(host, AF_INET, SOCK_DGRAM)
    for call in (
        lambda: sys_listen(host, fd, 1),
        lambda: sys_accept(host, fd),
        lambda: sys_socketpair(host, AF_INET, SOCK_DGRAM),
    ):
        assert errno_of(call) == errno.EOPNOTSUPP


def test_accept_without_a_free_descriptor_keeps_the_connection(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    listener = sys_socket(host, AF_INET, SOCK_STREAM)
    sys_bind(host, listener, at(LO, 80))
    sys_listen(host, listener, 1)
    client = sys_socket(host, AF_INET, SOCK_STREAM)
    sys_connect(host, client, at(LO, 80))
    table = host.fdtable
    monkeypatch.setattr(table, "next_fd", NR_OPEN)
    assert errno_of(lambda: sys_accept(host, listener)) == errno.EMFILE
    monkeypatch.undo()
    _, name = sys_accept(host, listener)
    assert name == sys_getsockname(host, client)


class OneSocket:
    """A security module that denies the second socket."""

    def __init__(self) -> None:
        self.made = 0

    def socket_create(self, *args: object) -> int:
        self.made += 1
        return -errno.EACCES if self.made > 1 else 0


def test_half_a_pair_is_released(host: Host) -> None:
    register_security(host, OneSocket())
    assert errno_of(lambda: sys_socketpair(host, AF_INET, SOCK_DGRAM)) == errno.EACCES
    assert host.prot_mem["UDP"].sockets_allocated == 0


def test_names(host: Host) -> None:
    a, b = pair(host)
    assert sys_getpeername(host, a) == at(LO, 7)
    assert sys_getsockname(host, a).addr == LO
    assert sys_getsockname(host, b) == at(LO, 7)
    sys_sendto(host, b, b"x", 0, sys_getsockname(host, a))
    assert sys_recvfrom(host, a, bytearray(3)) == (1, at(LO, 7))


def test_kernel_sockets_have_no_descriptor(host: Host) -> None:
    sock = sock_create_kern(host, AF_INET, SOCK_DGRAM, 0)
    assert sock.sk.sk_kern_sock
    assert host.fdtable.fd == {}
    sock_release(sock)
    sock_release(sock)
    assert host.prot_mem["UDP"].sockets_allocated == 0


def test_closing_the_host_closes_its_sockets(host: Host) -> None:
    pair(host)
    sys_socket(host, AF_INET, SOCK_STREAM)
    host.close()
    assert host.fdtable.fd == {}
    assert host.skb_small.in_use == 0


def test_unbound_stream_listens_on_a_free_port(host: Host) -> None:
    fd = sys_socket(host, AF_INET, SOCK_STREAM)
    sys_listen(host, fd, 5)
    assert sys_getsockname(host, fd).port >= 32768
