"""Calls on a virtual clock that can never return say so; those that can are left alone."""

from __future__ import annotations

import asyncio
import errno

import pytest

from e1000emu.clock import ClockError, SimulationDeadlock
from e1000emu.lab import two_hosts
from stack import aio
from stack.socket import (
    AF_INET6,
    IPPROTO_TCP,
    POLLIN,
    SO_KEEPALIVE,
    SOL_SOCKET,
    create_connection,
    create_server,
    wait_any,
)
from tests.support import errno_of

pytestmark = pytest.mark.slow
SECOND = 1_000_000_000
DATA = bytes(16 << 20)  # more than all buffers on the way
LONG_S = 90_000  # a wait without end is given up before
TCP_KEEPIDLE, TCP_KEEPINTVL, TCP_KEEPCNT, TCP_USER_TIMEOUT = 4, 5, 6, 18
UNREAD = r"sk_stream_memory_came.*a: \d+ bytes for 10\.0\.0\.2:80 wait because nobody reads"


def connect(a, b):
    listener = create_server(b, ("", 80))
    client = create_connection(a, ("10.0.0.2", 80))
    conn, _ = listener.accept()
    return client, conn


@pytest.fixture(params=[{}, {"impair": {"loss": 0.02, "seed": 1}}], ids=["clean", "lossy"])
def wire(request):
    a, b = two_hosts(**request.param)
    yield a, b
    a.close()
    b.close()


@pytest.fixture
def hosts():
    a, b = two_hosts()
    yield a, b
    a.close()
    b.close()
    assert a.clock.watches == []


# --- for ever ----------------------------------------------------------------------------------


def test_sending_to_nobody(wire):
    client, _conn = connect(*wire)
    with pytest.raises(SimulationDeadlock, match=UNREAD + r".*pump"):
        client.sendall(DATA)


def test_sending_to_nobody_over_ipv6(a):
    create_server(a, ("::1", 80), family=AF_INET6)
    client = create_connection(a, ("::1", 80))
    with pytest.raises(SimulationDeadlock, match=r"bytes for \[::1\]:80 wait because nobody reads"):
        client.sendall(DATA)


def test_sending_to_oneself(a):
    create_server(a, ("", 80))
    client = create_connection(a, ("127.0.0.1", 80))
    with pytest.raises(SimulationDeadlock, match=r"nobody reads"):
        client.sendall(DATA)


def test_both_ends_send_and_none_reads(a, b):
    client, conn = connect(a, b)
    tasks = [a.clock.spawn(sock.sendall, DATA, name="sender") for sock in (client, conn)]
    with pytest.raises(SimulationDeadlock, match=r"tasks also waiting: sender, sender"):
        tasks[0].join()
    a.clock.close()


def test_waiting_for_a_peer_that_only_answers_keep_alives(hosts):
    client, _conn = connect(*hosts)
    client.setsockopt(SOL_SOCKET, SO_KEEPALIVE, 1)
    with pytest.raises(SimulationDeadlock):
        client.recv(1)
    client, _conn = create_connection(hosts[0], ("10.0.0.2", 80)), None
    client.setsockopt(SOL_SOCKET, SO_KEEPALIVE, 1)
    client.setsockopt(IPPROTO_TCP, TCP_KEEPIDLE, 32767)
    with pytest.raises(SimulationDeadlock):
        wait_any(hosts[0], [(client, POLLIN)])


def test_a_coroutine_that_sends_to_nobody(a, b):
    async def never_read(reader, writer):
        await asyncio.Event().wait()

    async def main():
        await aio.start_server(b, never_read, "", 80, limit=1)
        _, writer = await aio.open_connection(a, "10.0.0.2", 80)
        writer.write(DATA)
        await writer.drain()

    with pytest.raises(SimulationDeadlock, match=r"nobody reads"):
        aio.run(main(), clock=a.clock)


def test_plain_asyncio_on_a_virtual_clock(b):
    async def main():
        await aio.start_server(b, lambda reader, writer: None, "", 80)

    with pytest.raises(ClockError, match=r"stack\.aio\.run\(main\(\), clock=clock\)"):
        asyncio.run(main())


# --- only long ---------------------------------------------------------------------------------


def reading(clock, conn, total):
    """A callback for the clock that reads until `total` bytes have come."""
    conn.setblocking(False)
    buffer = bytearray(1 << 20)
    got = 0

    def read():
        nonlocal got
        try:
            while got < total:
                got += conn.recv_into(buffer)
        except BlockingIOError:
            clock.call_at(clock.now_ns() + SECOND // 1000, read)

    return read


def test_a_callback_reads_a_day_later(a, b):
    client, conn = connect(a, b)
    a.clock.call_at(LONG_S * SECOND, reading(a.clock, conn, len(DATA)))
    client.sendall(DATA)
    assert a.clock.now_ns() > LONG_S * SECOND
    a.clock.run_for(SECOND)  # the rest is read


def test_a_task_reads_a_day_later(a, b):
    client, conn = connect(a, b)

    def reader():
        a.clock.wait(lambda: False, LONG_S * SECOND)
        left = len(DATA)
        while left:
            left -= len(conn.recv(1 << 20))

    task = a.clock.spawn(reader)
    client.sendall(DATA)
    task.join()
    a.clock.close()


def test_a_coroutine_reads_a_day_later(a, b):
    async def serve(reader, writer):
        await asyncio.sleep(LONG_S)
        writer.write(b"%d" % len(await reader.readexactly(len(DATA))))

    async def main():
        await aio.start_server(b, serve, "", 80)
        reader, writer = await aio.open_connection(a, "10.0.0.2", 80)
        writer.write(DATA)
        await writer.drain()
        return await reader.read(100)

    assert aio.run(main(), clock=a.clock) == b"%d" % len(DATA)


def timed_out(call):
    assert errno_of(call) == errno.ETIMEDOUT


def test_a_peer_that_vanished_is_found_by_slow_keep_alives(a, b):
    client, _conn = connect(a, b)
    client.setsockopt(SOL_SOCKET, SO_KEEPALIVE, 1)
    client.setsockopt(IPPROTO_TCP, TCP_KEEPIDLE, 32767)
    client.setsockopt(IPPROTO_TCP, TCP_KEEPINTVL, 32767)
    client.setsockopt(IPPROTO_TCP, TCP_KEEPCNT, 5)
    b.ifconfig("eth0", up=False)
    timed_out(lambda: client.recv(1))
    assert a.clock.now_ns() > 6 * 32767 * SECOND


def test_a_peer_that_vanished_with_its_window_closed_is_found_by_probes(a, b):
    client, _conn = connect(a, b)
    a.clock.call_at(1000 * SECOND, lambda: b.ifconfig("eth0", up=False))
    timed_out(lambda: client.sendall(DATA))


def test_a_user_timeout_ends_what_is_only_probed(a, b):
    """TCP_USER_TIMEOUT counts the time that data waits, though every probe is answered."""
    client, _conn = connect(a, b)
    client.setsockopt(IPPROTO_TCP, TCP_USER_TIMEOUT, LONG_S * 1000)
    timed_out(lambda: client.sendall(DATA))
    assert a.clock.now_ns() > LONG_S * SECOND
