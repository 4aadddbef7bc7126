"""Sending from the caller's memory: ours beside the host's kernel, and over our own devices."""

from __future__ import annotations

import errno
import gc
import socket as std
import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from e1000emu.lab import two_hosts
from fastpath.base.skbuff import kfree_skb, skb_to_bytes
from stack.core import uapi
from stack.core.bsd_socket import sockfd_lookup
from stack.core.dev_receive import dev_add_pack, dev_remove_pack
from stack.core.netdevice import ETH_P_ALL, packet_type
from stack.host import Host
from stack.ipv6.addr import parse_addr6
from stack.ipv6.addrconf import inet6_addr_add
from stack.ipv6.if_inet6 import IFA_F_NODAD
from stack.socket import (
    AF_INET,
    AF_INET6,
    POLLERR,
    SHUT_WR,
    SO_LINGER,
    SO_RCVBUF,
    SOCK_DGRAM,
    SOCK_RAW,
    SOCK_STREAM,
    SOL_SOCKET,
    TCP_NODELAY,
    Socket,
)

MS = 1_000_000
ZEROCOPY, ERRQUEUE = uapi.MSG_ZEROCOPY, uapi.MSG_ERRQUEUE
LO = {AF_INET: "127.0.0.1", AF_INET6: "::1"}
THERE = {AF_INET: "10.0.0.2", AF_INET6: "2001:db8::2"}
FAMILIES = pytest.mark.parametrize("family", [AF_INET, AF_INET6], ids=["v4", "v6"])

Make = Callable[[int, int], Any]


def rest(host: Host, ms: int = 300) -> None:
    """Let time pass."""
    with host.lock:
        host.clock.wait(lambda: False, ms * MS)


@pytest.fixture
def hosts() -> Iterator[tuple[Host, Host]]:
    a, b = two_hosts()
    for host, text in ((a, "2001:db8::1"), (b, THERE[AF_INET6])):
        dev = host.dev_by_name["eth0"]
        inet6_addr_add(dev, parse_addr6(text), 64, flags=IFA_F_NODAD)
    with a, b:
        yield a, b


@contextmanager
def both() -> Iterator[list[Make]]:
    """How to make a socket of ours, and one of the kernel's."""
    a, b = two_hosts()
    with a, b:
        yield [
            lambda family, kind, proto=0: Socket(a, family, kind, proto),
            lambda family, kind, proto=0: std.socket(family, kind, proto),
        ]


def outcome(call: Callable[..., Any], *args: Any) -> Any:
    """What it returns, or the name of its errno."""
    try:
        return call(*args)
    except OSError as exc:
        return errno.errorcode[exc.errno or 0]


def notification(sock: Any) -> tuple[int, int, int, int] | str:
    """Level of the message, code, first and last number of the oldest notification."""
    try:
        data, control, flags, name = sock.recvmsg(100, 200, ERRQUEUE)
    except OSError as exc:
        return errno.errorcode[exc.errno or 0]
    assert (data, flags & ~ERRQUEUE) == (b"", 0)
    assert name is None
    ((level, kind, raw),) = control
    failed, origin, etype, code, pad, low, high = struct.unpack_from("=IBBBBII", raw)
    assert (failed, origin, etype, pad) == (0, uapi.SO_EE_ORIGIN_ZEROCOPY, 0, 0)
    assert kind == (uapi.IP_RECVERR if level == uapi.SOL_IP else uapi.IPV6_RECVERR)
    assert len(raw) == 16 + (16 if level == uapi.SOL_IP else 28)
    assert not any(raw[16:])
    return level, code, low, high


def stream(make: Make, family: int) -> tuple[Any, Any, Any]:
    """A listener and both ends of a connection over the loopback interface."""
    listener = make(family, SOCK_STREAM)
    listener.bind((LO[family], 0))
    listener.listen(1)
    client = make(family, SOCK_STREAM)
    client.connect(listener.getsockname()[:2])
    return listener, client, listener.accept()[0]


# --- beside the kernel ---------------------------------------------------------------------------


def options(make: Make, family: int) -> list[Any]:
    """What SO_ZEROCOPY says to each kind of socket."""
    told = []
    for kind, proto in ((SOCK_STREAM, 0), (SOCK_DGRAM, 0), (SOCK_RAW, 200)):
        try:
            sock = make(family, kind, proto)  # type: ignore[call-arg]
        except PermissionError:
            continue
        with sock:
            told.append(outcome(sock.getsockopt, SOL_SOCKET, uapi.SO_ZEROCOPY))
            for value in (1, 2, -1, 0, 1):
                told.append(outcome(sock.setsockopt, SOL_SOCKET, uapi.SO_ZEROCOPY, value))
                told.append(outcome(sock.getsockopt, SOL_SOCKET, uapi.SO_ZEROCOPY))
    return told[:22]  # not everybody may have the raw one


def datagrams(make: Make, family: int) -> list[Any]:
    """A program of calls on a datagram socket, and what each of them said."""
    receiver, sender = make(family, SOCK_DGRAM), make(family, SOCK_DGRAM)
    told: list[Any] = []
    with receiver, sender:
        receiver.bind((LO[family], 0))
        to = receiver.getsockname()[:2]
        sender.sendto(b"ignored", ZEROCOPY, to)
        told.append(notification(sender))
        sender.setsockopt(SOL_SOCKET, uapi.SO_ZEROCOPY, 1)
        sender.sendto(b"plain", to)
        told.append(notification(sender))
        for size in (100, 20000, 1):
            told.append(sender.sendto(bytes(size), ZEROCOPY, to))
        told.append(notification(sender))
        told.append(notification(sender))
        told.append(outcome(sender.sendto, bytes(70000), ZEROCOPY, to))
        told.append(notification(sender))
        sender.connect(to)
        told.append(sender.send(b"piece", ZEROCOPY | uapi.MSG_MORE))
        told.append(notification(sender))
        told.append(sender.send(b"piece", ZEROCOPY | uapi.MSG_MORE))
        told.append(sender.send(b"last", ZEROCOPY))
        told.append(sender.send(b"", ZEROCOPY))
        while (said := notification(sender)) != "EAGAIN":
            told.append(said[:1] + said[2:])
        told.extend(len(receiver.recv(1 << 16)) for _ in range(7))
        told.append(outcome(sender.getsockopt, SOL_SOCKET, uapi.SO_ERROR))
    return told


def numbers(sock: Any, wait: Callable[[], None], last: int) -> list[tuple[int, int]]:
    """Number and code of each notification up to `last`, in their order."""
    told: list[tuple[int, int]] = []
    for _ in range(200):
        said = notification(sock)
        if isinstance(said, str):
            if told and told[-1][0] == last:
                return told
            wait()
            continue
        told += [(number, said[1]) for number in range(said[2], said[3] + 1)]
    return told


@FAMILIES
def test_option_is_the_kernels(family: int) -> None:
    with both() as (ours, kernels):
        assert options(ours, family) == options(kernels, family)


@FAMILIES
def test_datagrams_are_notified_as_by_the_kernel(family: int) -> None:
    with both() as (ours, kernels):
        assert datagrams(ours, family) == datagrams(kernels, family)


@FAMILIES
def test_streams_are_notified_as_by_the_kernel(family: int) -> None:
    said = []
    with both() as makes:
        for make in makes:
            listener, client, server = stream(make, family)
            with listener, client, server:
                client.send(b"ignored", ZEROCOPY)
                client.setsockopt(SOL_SOCKET, uapi.SO_ZEROCOPY, 1)
                client.send(b"copied")
                got = 13
                for size in (10, 30000, 1, 1, 20000):
                    got += client.send(bytes(size), ZEROCOPY)
                while got:
                    got -= len(server.recv(got))
                host = getattr(client, "net", None)
                if host is None:
                    codes = numbers(client, lambda: std.socketpair()[0].close(), 4)
                else:
                    codes = numbers(client, lambda: rest(host, 10), 4)  # noqa: B023
                client.shutdown(SHUT_WR)
                failed = outcome(client.send, b"late", ZEROCOPY | uapi.MSG_NOSIGNAL)
                said.append((codes, failed, notification(client)))
    assert said[0] == said[1]


# --- over our own devices ------------------------------------------------------------------------


def connection(a: Host, b: Host, family: int, room: int = 0) -> tuple[Socket, Socket, Socket]:
    """A listener on b and both ends of a connection; `room` of its receiver."""
    listener = Socket(b, family, SOCK_STREAM)
    if room:
        listener.setsockopt(SOL_SOCKET, SO_RCVBUF, room)
    listener.bind((THERE[family], 5001))
    listener.listen(1)
    client = Socket(a, family, SOCK_STREAM)
    client.connect((THERE[family], 5001))
    client.setsockopt(SOL_SOCKET, uapi.SO_ZEROCOPY, 1)
    return listener, client, listener.accept()[0]


def receive(server: Socket, size: int) -> bytes:
    """Read exactly so much."""
    parts = []
    while size:
        parts.append(server.recv(size))
        size -= len(parts[-1])
    return b"".join(parts)


def level(family: int) -> int:
    return uapi.SOL_IP if family == AF_INET else uapi.SOL_IPV6


def free(buffer: bytearray) -> bool:
    """Whether nobody exports it."""
    try:
        buffer.append(0)
    except BufferError:
        return False
    buffer.pop()
    return True


@FAMILIES
def test_stream_goes_out_of_the_callers_memory(a: Host, b: Host, family: int) -> None:
    listener, client, server = connection(a, b, family, room=20000)
    buffer = bytearray(b"a" * 100000)
    with listener, client, server:
        client.setblocking(False)
        sent = client.send(buffer, ZEROCOPY)
        rest(a)
        assert sent > 50000  # more than the receiver has room for
        assert not free(buffer)
        assert notification(client) == "EAGAIN"
        buffer[sent - 1000 : sent] = b"b" * 1000  # a program must not; but so it shows
        got = receive(server, sent)
        assert got == b"a" * (sent - 1000) + b"b" * 1000
        rest(a)
        assert free(buffer)
        assert client.poll() & POLLERR
        assert notification(client) == (level(family), 0, 0, 0)
        assert not client.poll() & POLLERR
        assert len(a.nics["eth0"].memory.regions()) == 1
        assert a.skb_small_head.in_use == 0


@FAMILIES
def test_datagrams_go_out_of_the_callers_memory(a: Host, b: Host, family: int) -> None:
    with Socket(a, family, SOCK_DGRAM) as sender, Socket(b, family, SOCK_DGRAM) as receiver:
        receiver.bind((THERE[family], 5000))
        sender.setsockopt(SOL_SOCKET, uapi.SO_ZEROCOPY, 1)
        data = bytes(range(250)) * 200
        sender.sendto(data[:1000], ZEROCOPY, (THERE[family], 5000))
        assert receiver.recv(70000) == data[:1000]
        sender.sendto(data, ZEROCOPY, (THERE[family], 5000))  # in fragments
        assert receiver.recv(70000) == data
        sender.setsockopt(uapi.SOL_UDP, uapi.UDP_SEGMENT, 1000)
        sender.sendmsg([data[:25000], data[25000:]], (), ZEROCOPY, (THERE[family], 5000))
        assert b"".join(receiver.recv(2000) for _ in range(50)) == data
        rest(a)
        codes = [code for _, code in numbers(sender, lambda: rest(a), 2)]
        assert codes[0] == 0
        assert len(codes) == 3
    assert len(a.nics["eth0"].memory.regions()) == 1


def test_writers_pieces_and_notifications_in_order(a: Host, b: Host) -> None:
    listener, client, server = connection(a, b, AF_INET)
    with listener, client, server:
        buffers = [bytearray([i]) * (1 + i * 3000) for i in range(40)]
        plain = b""
        for i, buffer in enumerate(buffers):
            client.sendall(buffer, ZEROCOPY if i % 5 else 0)
            plain += bytes(buffer)
            assert receive(server, len(buffer)) == buffer
        rest(a)
        told = numbers(client, lambda: rest(a), 31)
        assert told == [(i, 0) for i in range(32)]
        assert all(map(free, buffers))


def test_a_packet_has_seventeen_of_a_writers_buffers(a: Host, b: Host) -> None:
    """As on Linux: a stream goes on in another segment, a datagram is refused."""
    listener, client, server = connection(a, b, AF_INET)
    with listener, client, server:
        assert client.sendmsg([b"x"] * 18, (), ZEROCOPY) == 18
        assert receive(server, 18) == b"x" * 18
        assert sockfd_lookup(a, client.host_fd).sk.data_segs_out == 2
        rest(a)
        assert notification(client) == (uapi.SOL_IP, 0, 0, 0)
    with Socket(a, AF_INET, SOCK_DGRAM) as sender:
        sender.setsockopt(SOL_SOCKET, uapi.SO_ZEROCOPY, 1)
        assert sender.sendmsg([b"x"] * 17, (), ZEROCOPY, (THERE[AF_INET], 5000)) == 17
        with pytest.raises(OSError, match="too many buffers") as caught:
            sender.sendmsg([b"x"] * 18, (), ZEROCOPY, (THERE[AF_INET], 5000))
        assert caught.value.errno == errno.EMSGSIZE
        rest(a)


def test_more_pieces_than_a_packet_has_fragments(a: Host, b: Host) -> None:
    listener, client, server = connection(a, b, AF_INET)
    with listener, client, server:
        pieces = [bytes([i & 255]) * 20 for i in range(1000)]
        client.setblocking(False)
        assert client.sendmsg(pieces, (), ZEROCOPY) == 20000
        assert receive(server, 20000) == b"".join(pieces)
        rest(a)
        assert notification(client) == (uapi.SOL_IP, 0, 0, 0)


def test_large_writes_split_by_the_limit_of_a_notification(a: Host, b: Host) -> None:
    listener, client, server = connection(a, b, AF_INET, room=4000)
    with listener, client, server:
        client.setblocking(False)
        client.setsockopt(SOL_SOCKET, uapi.SO_SNDBUFFORCE, 8 << 20)
        total = sum(client.send(bytes(300 << 10), ZEROCOPY) for _ in range(4))
        # the tail of the write queue holds the last call's, whose range may grow to 512 KiB
        assert client.getsockopt(SOL_SOCKET, uapi.SO_MEMINFO, 36)[24:28] != bytes(4)
        receive(server, total)
        rest(a)
        assert numbers(client, lambda: rest(a), 3) == [(i, 0) for i in range(4)]
        assert client.getsockopt(SOL_SOCKET, uapi.SO_MEMINFO, 36)[24:28] == bytes(4)


@pytest.mark.parametrize("reset", [False, True])
def test_closing_gives_the_buffer_back(a: Host, b: Host, reset: bool) -> None:
    listener, client, server = connection(a, b, AF_INET, room=4000)
    buffer = bytearray(60000)
    client.setblocking(False)
    sent = client.send(buffer, ZEROCOPY)
    assert not free(buffer)
    if reset:
        client.setsockopt(SOL_SOCKET, SO_LINGER, struct.pack("ii", 1, 0))
    client.close()
    if not reset:
        rest(a)
        assert not free(buffer)
        receive(server, sent)
    rest(a)
    assert free(buffer)
    assert len(a.nics["eth0"].memory.regions()) == 1
    server.close()
    listener.close()


def test_closing_the_host_gives_the_buffer_back(a: Host, b: Host) -> None:
    _, client, _ = connection(a, b, AF_INET, room=4000)
    buffer = bytearray(60000)
    client.setblocking(False)
    client.send(buffer, ZEROCOPY)
    a.close()
    assert free(buffer)


def test_option_memory_limits_what_waits_for_its_notification(a: Host, b: Host) -> None:
    listener, client, server = connection(a, b, AF_INET)
    a.sysctl.optmem_max = 3 * 832
    client.setsockopt(uapi.IPPROTO_TCP, TCP_NODELAY, 1)
    with listener, client, server:
        client.setblocking(False)
        for _ in range(3):
            client.send(bytes(100), ZEROCOPY)  # out at once, so the next is another packet's
        with pytest.raises(OSError, match="optmem_max") as info:
            client.send(bytes(100), ZEROCOPY)
        assert info.value.errno == errno.ENOBUFS
        assert len(receive(server, 300)) == 300
        rest(a)
        client.send(bytes(100), ZEROCOPY)
        rest(a)
        assert notification(client) == (uapi.SOL_IP, 0, 0, 3)


def test_a_tap_sees_bytes_that_do_not_change(a: Host, b: Host) -> None:
    seen: list[bytes] = []
    held = []

    def tap(skb: Any, dev: object, ptype: object, orig: object) -> int:
        held.append(skb)
        seen.append(skb_to_bytes(skb))
        return 0

    ptype = packet_type(ETH_P_ALL, tap)
    dev_add_pack(a, ptype)
    try:
        listener, client, server = connection(a, b, AF_INET)
        with listener, client, server:
            buffer = bytearray(b"x" * 5000)
            client.sendall(buffer, ZEROCOPY)
            assert receive(server, 5000) == bytes(buffer)
            rest(a)
            assert free(buffer)
            buffer[:] = bytes(5000)
            assert [skb_to_bytes(skb) for skb in held] == seen
            assert notification(client) == (uapi.SOL_IP, 1, 0, 0)
    finally:
        dev_remove_pack(a, ptype)
        for skb in held:
            kfree_skb(skb)


def test_a_device_that_reads_elsewhere_gets_a_copy(a: Host, b: Host) -> None:
    listener, client, server = connection(a, b, AF_INET)
    a.machine.dma_tables.clear()
    with listener, client, server:
        data = bytes(range(250)) * 100
        client.sendall(data, ZEROCOPY)
        assert receive(server, len(data)) == data
        rest(a)
        assert notification(client) == (uapi.SOL_IP, 1, 0, 0)


def test_a_notification_leaves_the_pending_error(a: Host, b: Host) -> None:
    listener, client, server = connection(a, b, AF_INET)
    client.sendall(b"x" * 100, ZEROCOPY)
    receive(server, 100)
    rest(a)
    server.setsockopt(SOL_SOCKET, SO_LINGER, struct.pack("ii", 1, 0))
    server.close()
    rest(a)
    assert notification(client) == (uapi.SOL_IP, 0, 0, 0)
    assert client.getsockopt(SOL_SOCKET, uapi.SO_ERROR) == errno.ECONNRESET
    client.close()
    listener.close()


def test_a_host_that_is_only_dropped_leaks_nothing_idle() -> None:
    buffer = bytearray(50000)

    def lose() -> None:
        a, b = two_hosts()
        _, client, server = connection(a, b, AF_INET)
        client.sendall(buffer, ZEROCOPY)
        receive(server, len(buffer))
        rest(a)

    lose()
    gc.collect()
    assert free(buffer)
