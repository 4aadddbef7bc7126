"""XTP behind the socket calls, over two NICs; tshark judges every frame (see conftest.py)."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import shutil
import socket as stdlib
import struct
import subprocess
from pathlib import Path
from random import Random
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from e1000emu.lab import two_hosts
from stack import aio
from stack.core.ioctl import sys_ioctl
from stack.core.uapi import IPPROTO_XTP, SIOCINQ, SIOCOUTQ
from stack.host import Host
from stack.socket import Socket
from stack.xtp.packet import XTP_SERVICE_ACKED_DATAGRAM, XTP_SERVICE_TRANSACTION
from stack.xtp.sockopt import (
    SOL_XTP,
    XTP_BURST,
    XTP_DREQ,
    XTP_FASTNAK,
    XTP_INFO,
    XTP_INFO_FORMAT,
    XTP_INRATE,
    XTP_NOCHECK,
    XTP_NOERR,
    XTP_RATE,
    XTP_SERVICE,
    XTP_SORT,
)
from tests.support import errno_of, examples, missing

SERVER = ("10.0.0.2", 7)
SEC = 1_000_000_000


def stream(host: Host) -> Socket:
    return host.socket(stdlib.AF_INET, stdlib.SOCK_STREAM, IPPROTO_XTP)


def dgram(host: Host) -> Socket:
    return host.socket(stdlib.AF_INET, stdlib.SOCK_DGRAM, IPPROTO_XTP)


def connected(a: Host, b: Host) -> tuple[Socket, Socket, Socket]:
    listener = stream(b)
    listener.bind(SERVER)
    listener.listen(5)
    client = stream(a)
    client.connect(SERVER)
    server, name = listener.accept()
    assert name == client.getsockname() == server.getpeername()
    assert client.getpeername() == server.getsockname() == SERVER
    return client, server, listener


def read_all(sock: Socket) -> bytes:
    parts = []
    while part := sock.recv(65536):
        parts.append(part)
    return b"".join(parts)


def info(sock: Socket) -> dict[str, int]:
    names = [
        "state",
        "service",
        "rtt_us",
        "rttvar_us",
        "mss",
        "acked",
        "backlog",
        "alloc",
        "delivered",
        "received",
        "unread",
        "packets_out",
        "packets_in",
        "retransmits",
        "requests",
        "rate",
    ]
    values = struct.unpack(XTP_INFO_FORMAT, sock.getsockopt(SOL_XTP, XTP_INFO, 128))
    return dict(zip(names, values, strict=True))


def nothing_left(*hosts: Host) -> None:
    """Sockets are closed: no association, no port, no packet, no timer stays."""
    hosts[0].clock.run_for(300 * SEC)
    for host in hosts:
        xtp = host.xtp
        assert (xtp.initiated, xtp.accepted, xtp.ports) == ({}, {}, {})
        assert host.skb_small.in_use == 0 or not any(host.fdtable.fd)
        for name in ("XTP", "XTP-DGRAM"):
            assert name not in host.prot_mem or not host.prot_mem[name].sockets_allocated


def test_a_stream_both_ways(a: Host, b: Host) -> None:
    client, server, listener = connected(a, b)
    there = Random(1).randbytes(300_000)
    back = Random(2).randbytes(100_000)
    task = a.clock.spawn(lambda: (client.sendall(there), client.shutdown(stdlib.SHUT_WR)))
    assert read_all(server) == there
    task.join()
    server.sendall(back)
    server.close()
    assert read_all(client) == back
    client.close()
    listener.close()
    nothing_left(a, b)


@settings(
    deadline=None,
    max_examples=examples(10),
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@example(16568, {"loss": 0.2}, False)  # ARP fails first
@given(
    st.integers(0, 1 << 30),
    st.sampled_from([{"loss": 0.2}, {"loss": 0.2, "duplicate": 0.2, "reorder": 0.2}]),
    st.booleans(),
)
def test_a_bad_wire(seed: int, impair: dict[str, float], fastnak: bool) -> None:
    a, b = two_hosts(impair=impair, seed=seed, latency_ns=1_000_000)
    listener = stream(b)
    listener.bind(SERVER)
    listener.listen(5)
    while True:
        client = stream(a)
        client.setsockopt(SOL_XTP, XTP_FASTNAK, fastnak)
        if errno_of(client.connect, SERVER) != errno.EHOSTUNREACH:
            break
        client.close()  # three requests of ARP got lost
    # A FIRST of one that has given up may still arrive: it is accepted, and refused by its sender.
    server, peer = listener.accept()
    while peer != client.getsockname():
        server.close()
        server, peer = listener.accept()
    data = Random(seed).randbytes(200_000)
    task = a.clock.spawn(lambda: (client.sendall(data), client.shutdown(stdlib.SHUT_WR)))
    assert read_all(server) == data
    task.join()
    server.sendall(b"thanks")
    server.close()
    assert read_all(client) == b"thanks"
    client.close()
    listener.close()
    nothing_left(a, b)


def test_messages_keep_their_ends(a: Host, b: Host) -> None:
    client, server, _ = connected(a, b)
    client.sendmsg([b"one"], [], stdlib.MSG_EOR)
    client.sendmsg([b"twenty"], [], stdlib.MSG_EOR)
    client.send(b"rest")
    assert server.recvmsg(100)[:3:2] == (b"one", stdlib.MSG_EOR)
    assert server.recvmsg(3)[:3:2] == (b"twe", 0)
    assert server.recvmsg(100)[:3:2] == (b"nty", stdlib.MSG_EOR)
    assert server.recvmsg(100)[:3:2] == (b"rest", 0)


def test_a_transaction(a: Host, b: Host) -> None:
    listener = stream(b)
    listener.bind(SERVER)
    listener.listen(5)
    client = stream(a)
    client.setsockopt(SOL_XTP, XTP_SERVICE, XTP_SERVICE_TRANSACTION)
    client.connect(SERVER)
    client.sendall(b"question")
    server, _ = listener.accept()
    assert server.getsockopt(SOL_XTP, XTP_SERVICE) == XTP_SERVICE_TRANSACTION
    assert read_all(server) == b"question"
    server.sendall(b"answer")
    with pytest.raises(BrokenPipeError):
        server.send(b"more")
    assert read_all(client) == b"answer"
    for sock in (server, client, listener):
        sock.close()
    nothing_left(a, b)


def test_datagrams(a: Host, b: Host) -> None:
    server = dgram(b)
    server.bind(SERVER)
    client = dgram(a)
    for size in (0, 1, 1400, 1500, 60_000):
        assert client.sendto(bytes(size), SERVER) == size
        data, name = server.recvfrom(65536)
        assert data == bytes(size)
        assert name == ("10.0.0.1", client.getsockname()[1])
    with pytest.raises(OSError, match="at most 65443") as caught:
        client.sendto(bytes(65536), SERVER)
    assert caught.value.errno == errno.EMSGSIZE
    assert a.xtp.mib.InPkts == 0  # nobody answers


def test_an_acknowledged_datagram_waits_for_its_answer() -> None:
    a, b = two_hosts(impair={"loss": 0.3}, seed=3, latency_ns=1_000_000)
    server = dgram(b)
    server.bind(SERVER)
    client = dgram(a)
    client.setsockopt(SOL_XTP, XTP_SERVICE, XTP_SERVICE_ACKED_DATAGRAM)
    for i in range(60):
        client.sendto(b"%d" % i, SERVER)
    got = [server.recv(100) for _ in range(60)]
    assert got == [b"%d" % i for i in range(60)]
    with pytest.raises(BlockingIOError):
        server.recv(100, stdlib.MSG_DONTWAIT)
    assert b.xtp.mib.DupDatagrams > 0
    client.close()
    server.close()
    nothing_left(a, b)


def test_an_acknowledged_datagram_that_is_to_be_read(a: Host, b: Host) -> None:
    server = dgram(b)
    server.bind(SERVER)
    client = dgram(a)
    client.setsockopt(SOL_XTP, XTP_SERVICE, XTP_SERVICE_ACKED_DATAGRAM)
    client.setsockopt(SOL_XTP, XTP_DREQ, 1)
    client.settimeout(2)
    with pytest.raises((BlockingIOError, TimeoutError)):
        client.sendto(b"never read", SERVER)
    assert server.recv(100) == b"never read"
    task = a.clock.spawn(lambda: client.sendto(b"read", SERVER))
    assert server.recv(100) == b"read"
    task.join()


def test_refused(a: Host, b: Host) -> None:
    client = stream(a)
    with pytest.raises(ConnectionRefusedError):
        client.connect(SERVER)
    again = dgram(a)
    again.setsockopt(SOL_XTP, XTP_SERVICE, XTP_SERVICE_ACKED_DATAGRAM)
    with pytest.raises(ConnectionRefusedError):
        again.sendto(b"x", SERVER)
    again.setblocking(False)
    again.sendto(b"x", SERVER)
    a.clock.run_for(SEC)
    assert again.getsockopt(stdlib.SOL_SOCKET, stdlib.SO_ERROR) == errno.ECONNREFUSED
    assert b.xtp.mib.OutDiags == 3
    # the same socket can connect once somebody listens
    listener = stream(b)
    listener.bind(SERVER)
    listener.listen()
    client.connect(SERVER)
    listener.accept()


def test_nobody_at_home(a: Host) -> None:
    client = stream(a)
    assert errno_of(client.connect, ("10.0.0.77", 9)) in (
        errno.EHOSTUNREACH,
        errno.ETIMEDOUT,
    )
    assert errno_of(stream(a).connect, ("192.0.2.1", 9)) == errno.ENETUNREACH


def test_a_full_backlog_makes_them_wait(a: Host, b: Host) -> None:
    listener = stream(b)
    listener.bind(SERVER)
    listener.listen(0)
    first, second = stream(a), stream(a)
    first.connect(SERVER)
    second.setblocking(False)
    with pytest.raises(BlockingIOError):
        second.connect(SERVER)
    a.clock.run_for(SEC // 2)
    assert b.xtp.mib.ListenOverflows > 0
    listener.accept()
    a.clock.run_for(5 * SEC)
    listener.accept()
    assert second.getpeername() == SERVER


def test_close_with_unread_data_resets(a: Host, b: Host) -> None:
    client, server, _ = connected(a, b)
    client.sendall(b"unread")
    a.clock.run_for(SEC)
    server.close()
    a.clock.run_for(SEC)
    with pytest.raises(ConnectionResetError):
        client.recv(10)


def test_linger() -> None:
    a, b = two_hosts(latency_ns=50_000_000)
    client, server, listener = connected(a, b)
    client.setsockopt(stdlib.SOL_SOCKET, stdlib.SO_LINGER, struct.pack("ii", 1, 10))
    client.send(b"x" * 50_000)
    before = a.clock.now_ns()
    client.close()
    assert a.clock.now_ns() - before >= 100_000_000  # a round trip
    assert read_all(server) == b"x" * 50_000
    other = stream(a)
    other.connect(SERVER)
    accepted, _ = listener.accept()
    other.setsockopt(stdlib.SOL_SOCKET, stdlib.SO_LINGER, struct.pack("ii", 1, 0))
    other.close()
    with pytest.raises(ConnectionResetError):
        accepted.recv(1)


def test_shutdown_for_reading_stops_the_writer(a: Host, b: Host) -> None:
    client, server, _ = connected(a, b)
    server.shutdown(stdlib.SHUT_RD)
    a.clock.run_for(SEC)
    assert server.recv(10) == b""
    with pytest.raises(BrokenPipeError):
        client.send(b"for nobody")


def test_timeouts_and_polling(a: Host, b: Host) -> None:
    client, server, listener = connected(a, b)
    client.settimeout(1)
    with pytest.raises(TimeoutError):
        client.recv(1)
    server.setblocking(False)
    with pytest.raises(BlockingIOError):
        server.recv(1)
    listener.settimeout(0.5)
    with pytest.raises(TimeoutError):
        listener.accept()
    total = 0
    server.setsockopt(stdlib.SOL_SOCKET, stdlib.SO_SNDBUF, 20_000)
    with contextlib.suppress(BlockingIOError):
        while total < 10_000_000:
            total += server.send(bytes(10_000))
    assert 20_000 <= total < 10_000_000
    client.send(b"123")
    a.clock.run_for(SEC)
    assert sys_ioctl(b, server.host_fd, SIOCINQ) == 3
    assert sys_ioctl(b, server.host_fd, SIOCOUTQ) == 0  # all is acknowledged


def test_options() -> None:
    a, b = two_hosts(latency_ns=1_000_000)
    client, server, _ = connected(a, b)
    assert (
        errno_of(client.setsockopt, SOL_XTP, XTP_SERVICE, XTP_SERVICE_TRANSACTION) == errno.EISCONN
    )
    fresh = stream(a)
    for value in (0, 1, 2, 5):
        assert errno_of(fresh.setsockopt, SOL_XTP, XTP_SERVICE, value) == errno.EINVAL
    for option in (XTP_NOERR, XTP_NOCHECK, XTP_FASTNAK, XTP_DREQ):
        fresh.setsockopt(SOL_XTP, option, 5)
        assert fresh.getsockopt(SOL_XTP, option) == 1
        fresh.setsockopt(SOL_XTP, option, 0)
        assert fresh.getsockopt(SOL_XTP, option) == 0
    for option in (XTP_RATE, XTP_BURST, XTP_SORT):
        fresh.setsockopt(SOL_XTP, option, 1000)
        assert fresh.getsockopt(SOL_XTP, option) == 1000
    assert errno_of(fresh.setsockopt, SOL_XTP, XTP_SORT, 1 << 16) == errno.EINVAL
    assert errno_of(fresh.setsockopt, SOL_XTP, 99, 1) == errno.ENOPROTOOPT
    assert errno_of(fresh.getsockopt, SOL_XTP, XTP_INFO, 128) == errno.ENOTCONN
    client.sendall(bytes(5000))
    assert len(server.recv(5000, stdlib.MSG_WAITALL)) == 5000
    a.clock.run_for(SEC)
    assert info(client)["acked"] == info(server)["received"] == 5000
    assert info(client)["mss"] == 1500 - 20 - 32
    assert 2000 <= info(client)["rtt_us"] < 4000


def test_rate_is_kept_on_the_wire(a: Host, b: Host) -> None:
    listener = stream(b)
    listener.setsockopt(SOL_XTP, XTP_INRATE, 1_000_000)  # the receiver wishes it so
    listener.bind(SERVER)
    listener.listen(5)
    client = stream(a)
    client.connect(SERVER)
    server, _ = listener.accept()
    before = a.clock.now_ns()
    task = a.clock.spawn(lambda: client.sendall(bytes(1_000_000)))
    left = 1_000_000
    while left:
        left -= len(server.recv(65536))
    task.join()
    assert 0.95 * SEC < a.clock.now_ns() - before < 1.1 * SEC


def test_noerr_and_nocheck() -> None:
    a, b = two_hosts(impair={"loss": 0.1}, seed=5)
    listener = stream(b)
    listener.bind(SERVER)
    listener.listen(5)
    client = stream(a)
    client.setsockopt(SOL_XTP, XTP_NOERR, 1)
    client.setsockopt(SOL_XTP, XTP_NOCHECK, 1)
    client.connect(SERVER)
    server, _ = listener.accept()
    task = a.clock.spawn(lambda: (client.sendall(bytes(200_000)), client.close()))
    got = read_all(server)
    task.join()
    assert 100_000 < len(got) < 200_000
    assert a.xtp.mib.Retransmits == 0


def test_coroutines(a: Host, b: Host) -> None:

    async def serve() -> bytes:
        listener = stream(b)
        listener.bind(SERVER)
        listener.listen(5)
        sock, _ = await aio.sock_accept(listener)
        data = await aio.sock_recv(sock, 100)
        await aio.sock_sendall(sock, data.upper())
        return bytes(data)

    async def ask() -> bytes:
        await asyncio.sleep(0.1)
        client = stream(a)
        await aio.sock_connect(client, SERVER)
        await aio.sock_sendall(client, b"hello")
        return bytes(await aio.sock_recv(client, 100))

    async def both() -> list[Any]:
        return list(await asyncio.gather(serve(), ask()))

    assert aio.run(both(), clock=a.clock) == [b"hello", b"HELLO"]


def test_ports(b: Host) -> None:
    one, two = stream(b), stream(b)
    one.bind(SERVER)
    assert errno_of(two.bind, SERVER) == errno.EADDRINUSE
    dgram(b).bind(SERVER)  # a space of its own
    two.bind(("10.0.0.2", 0))
    assert two.getsockname()[1] >= 32768
    assert errno_of(stream(b).bind, ("10.0.0.9", 1)) == errno.EADDRNOTAVAIL


def test_path_mtu_shrinks_the_packets(a: Host, b: Host) -> None:
    client, server, _ = connected(a, b)
    client.sendall(bytes(10_000))
    assert len(server.recv(10_000, stdlib.MSG_WAITALL)) == 10_000
    assert info(client)["mss"] == 1448
    a.ifconfig("eth0", mtu=1000)
    client.sendall(bytes(10_000))
    assert len(server.recv(10_000, stdlib.MSG_WAITALL)) == 10_000


def test_two_namespaces_and_the_same_port_at_once(a: Host, b: Host) -> None:
    listener = stream(b)
    listener.bind(("0.0.0.0", 7))
    listener.listen(50)
    clients = [stream(a) for _ in range(30)]
    for client in clients:
        client.connect(SERVER)
    servers = [listener.accept()[0] for _ in clients]
    for i, client in enumerate(clients):
        client.sendall(b"%d" % i)
    assert [s.recv(10) for s in servers] == [b"%d" % i for i in range(30)]
    for sock in (*clients, *servers, listener):
        sock.close()
    nothing_left(a, b)


def test_a_host_that_closes_takes_its_associations_along(a: Host, b: Host) -> None:
    client, _, _ = connected(a, b)
    client.send(b"x" * 1000)
    b.close()
    client.close()


def test_tshark_names_what_we_send(tmp_path: Path) -> None:
    """The dissector of XTP is not ours: fields of every format, and no bad checksum or span."""
    tshark = shutil.which("tshark")
    if tshark is None:
        missing("tshark", "apt-get install tshark")
    path = tmp_path / "xtp.pcapng"
    a, b = two_hosts(impair={"loss": 0.15}, seed=9, capture=str(path), latency_ns=1_000_000)
    client, server, listener = connected(a, b)
    task = a.clock.spawn(lambda: (client.sendall(bytes(100_000)), client.shutdown(stdlib.SHUT_WR)))
    assert len(read_all(server)) == 100_000
    task.join()
    server.close()
    client.close()
    listener.close()
    with pytest.raises(ConnectionRefusedError):
        stream(a).connect(SERVER)
    datagrams = dgram(b)
    datagrams.bind(SERVER)
    dgram(a).sendto(b"alone", SERVER)
    a.close()
    b.close()
    fields = [
        "xtp.cmd.ptype.pformat",
        "xtp.checksum.status",
        "xtp.aseg.dstport",
        "xtp.tspec.service",
        "xtp.ecntl.nspan",
        "xtp.diag.code",
        "xtp.diag.val",
        "xtp.diag.msg",
        "xtp.cmd.options.end",
    ]
    out = subprocess.run(
        [tshark, "-r", str(path), "-Y", "xtp", "-T", "fields"]
        + [part for name in fields for part in ("-e", name)],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    ).stdout
    rows = [line.split("\t") for line in out.splitlines()]
    formats = {row[0] for row in rows}
    assert {"0x00", "0x01", "0x02", "0x03", "0x05", "0x08"} <= {
        f"0x{int(f, 0):02x}" for f in formats
    }
    assert {row[1] for row in rows} <= {"", "1", "Good"}
    firsts = [row for row in rows if int(row[0], 0) == 2]
    assert {row[2] for row in firsts} == {"7"}
    assert {row[3] for row in firsts} == {"4", "1"}
    assert all(int(row[4]) > 0 for row in rows if row[4])
    diags = [row for row in rows if int(row[0], 0) == 8]
    assert diags
    assert {(row[5], row[6]) for row in diags} <= {("1", "1"), ("3", "12")}
    bad = subprocess.run(
        [tshark, "-r", str(path), "-Y", "_ws.malformed or xtp.bad_checksum or xtp.spans_bad"],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    ).stdout
    assert bad == ""
