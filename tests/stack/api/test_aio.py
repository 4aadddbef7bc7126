"""asyncio over the stack: in virtual time, on a real loop, and beside a host thread."""

from __future__ import annotations

import asyncio
import functools
import struct

import pytest

from e1000emu.clock import AsyncioClock, SimulationDeadlock, VirtualClock
from e1000emu.lab import two_hosts
from stack import aio
from stack.core.uapi import SO_RCVLOWAT
from stack.socket import (
    AF_INET,
    SHUT_WR,
    SO_LINGER,
    SOCK_DGRAM,
    SOCK_STREAM,
    SOL_SOCKET,
    Socket,
    create_server,
)
from tests.hosts import real_hosts
from tests.support import missing


def in_virtual_time(test):
    """Run a test as a coroutine, by the clock of its hosts."""

    @functools.wraps(test)
    def run(hosts, **more):
        aio.run(test(hosts, **more), clock=hosts[0].clock)

    return run


async def echo(reader, writer):
    try:
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    finally:
        writer.close()


async def exchange(a, b, payload):
    """An echo server on b, a client on a; what came back."""
    server = await aio.start_server(b, echo, "", 7)
    reader, writer = await aio.open_connection(a, "10.0.0.2", 7)
    writer.write(payload)
    await writer.drain()
    writer.write_eof()
    got = await reader.read()
    writer.close()
    await writer.wait_closed()
    server.close()
    await server.wait_closed()
    return got


def test_streams_in_virtual_time(hosts):
    a, b = hosts
    payload = bytes(range(256)) * 1000
    assert aio.run(exchange(a, b, payload), clock=a.clock) == payload


@pytest.mark.slow
@pytest.mark.parametrize("server", ["aio", "socket"])
@in_virtual_time
async def test_a_thousand_clients_at_once_need_not_wait(hosts, server):
    """The listener's queue holds somaxconn of them: no SYN and no third ACK is dropped.

    With a backlog of 128 the slowest of them had its answer after 12.8 s.
    """
    a, b = hosts
    count = 1000

    async def answer(reader, writer):
        writer.write(await reader.readexactly(4))
        writer.close()

    async def ask(number):
        reader, writer = await aio.open_connection(a, "10.0.0.2", 7)
        asked = number.to_bytes(4, "big")
        writer.write(asked)
        assert await reader.read() == asked
        writer.close()
        return a.clock.now_ns()

    if server == "aio":
        listener = await aio.start_server(b, answer, "", 7)
    else:
        listener = create_server(b, ("", 7))
        listener.setblocking(False)
    serving = None
    if server == "socket":

        async def accept_all():
            for _ in range(count + 1):
                sock, _ = await aio.sock_accept(listener)
                await aio.sock_sendall(sock, await aio.sock_recv(sock, 4))
                sock.close()

        serving = asyncio.create_task(accept_all())
    start = await ask(0)  # the addresses are resolved from here on
    ends = await asyncio.gather(*(ask(number) for number in range(count)))
    if serving is not None:
        await serving
    listener.close()
    assert max(ends) - start < 100_000_000
    assert b.mib.linux.ListenOverflows == b.mib.linux.TCPReqQFullDoCookies == 0
    assert a.mib.tcp.RetransSegs == b.mib.tcp.RetransSegs == 0


def test_sleeping_takes_no_time():
    clock = VirtualClock()

    async def main():
        loop = asyncio.get_running_loop()
        start = loop.time()
        await asyncio.gather(asyncio.sleep(3600), asyncio.sleep(1800))
        return loop.time() - start

    assert aio.run(main(), clock=clock) == pytest.approx(3600)
    assert clock.now_ns() == 3600 * 10**9


def test_waiting_for_ever_is_a_deadlock():
    async def main():
        await asyncio.Event().wait()

    with pytest.raises(SimulationDeadlock):
        aio.run(main(), clock=VirtualClock())


def test_two_virtual_runs_are_the_same():
    def run():
        a, b = two_hosts(seed=3, impair={"loss": 0.05, "delay_ns": 50_000})
        payload = bytes(100_000)
        assert aio.run(exchange(a, b, payload), clock=a.clock) == payload
        result = a.now(), a.mib.tcp.nonzero(), b.mib.tcp.nonzero()
        a.close()
        b.close()
        return result

    assert run() == run()


@in_virtual_time
async def test_many_clients_at_once(hosts):
    a, b = hosts
    server = await aio.start_server(b, echo, "", 7)

    async def client(number):
        reader, writer = await aio.open_connection(a, "10.0.0.2", 7)
        writer.write(b"%d\n" % number)
        line = await reader.readline()
        writer.close()
        return int(line)

    got = await asyncio.gather(*(client(n) for n in range(20)))
    server.close()
    await server.wait_closed()
    assert got == list(range(20))


@in_virtual_time
async def test_back_pressure_pauses_the_writer(hosts):
    a, b = hosts
    received = bytearray()
    done = asyncio.Event()

    async def slow(reader, writer):
        while data := await reader.read(200_000):
            received.extend(data)
            await asyncio.sleep(0.001)
        writer.close()
        done.set()

    server = await aio.start_server(b, slow, "", 7)
    reader, writer = await aio.open_connection(a, "10.0.0.2", 7)
    payload = bytes(20_000_000)
    writer.transport.set_write_buffer_limits(high=100_000)
    drained_at = []
    for offset in range(0, len(payload), 100_000):
        writer.write(payload[offset : offset + 100_000])
        await writer.drain()
        drained_at.append(asyncio.get_running_loop().time())
    writer.close()
    await done.wait()
    assert bytes(received) == payload
    assert drained_at[-1] - drained_at[0] > 0.01
    server.close()
    assert reader is not None


@in_virtual_time
async def test_sock_calls(hosts):
    a, b = hosts
    server = Socket(b, AF_INET, SOCK_STREAM)
    server.bind(("", 80))
    server.listen()
    server.setblocking(False)
    client = Socket(a, AF_INET, SOCK_STREAM)
    client.setblocking(False)
    accepted = asyncio.ensure_future(aio.sock_accept(server))
    await aio.sock_connect(client, ("10.0.0.2", 80))
    conn, addr = await accepted
    assert addr[0] == "10.0.0.1"
    payload = bytes(500_000)
    send = asyncio.ensure_future(aio.sock_sendall(client, payload))
    got = 0
    buffer = bytearray(65536)
    while got < len(payload):
        got += await aio.sock_recv_into(conn, buffer)
    await send
    client.close()
    assert await aio.sock_recv(conn, 10) == b""
    conn.close()
    with Socket(a, AF_INET, SOCK_STREAM) as refused:
        refused.setblocking(False)
        with pytest.raises(ConnectionRefusedError):
            await aio.sock_connect(refused, ("10.0.0.2", 81))
    server.close()


@in_virtual_time
async def test_datagrams(hosts):
    a, b = hosts
    loop = asyncio.get_running_loop()
    got = loop.create_future()

    class Echo(asyncio.DatagramProtocol):
        def connection_made(self, transport):
            self.transport = transport

        def datagram_received(self, data, addr):
            self.transport.sendto(data.upper(), addr)

    class Client(asyncio.DatagramProtocol):
        def datagram_received(self, data, addr):
            got.set_result((data, addr))

    server, _ = await aio.create_datagram_endpoint(b, Echo, local_addr=("", 9))
    client, _ = await aio.create_datagram_endpoint(a, Client, remote_addr=("10.0.0.2", 9))
    client.sendto(b"hello")
    result = await got
    client.close()
    server.close()
    sock = Socket(a, AF_INET, SOCK_DGRAM)
    sock.bind(("", 10))
    sock.setblocking(False)
    other = Socket(b, AF_INET, SOCK_DGRAM)
    await aio.sock_sendto(other, b"x", ("10.0.0.1", 10))
    data, addr = await aio.sock_recvfrom(sock, 100)
    assert (data, addr[0]) == (b"x", "10.0.0.2")
    sock.close()
    other.close()
    await asyncio.sleep(0)
    assert result == (b"HELLO", ("10.0.0.2", 9))


def test_hosts_inside_a_real_loop():
    async def main():
        clock = AsyncioClock(asyncio.get_running_loop())
        a, b = two_hosts(clock, autoneg_ns=1_000_000, wait=False)
        while not all(h.dev("eth0").state & 4 == 0 for h in (a, b)):
            await asyncio.sleep(0.001)
        await asyncio.sleep(0.001)
        payload = bytes(50_000)
        got = await asyncio.wait_for(exchange(a, b, payload), 30)
        a.close()
        b.close()
        clock.close()
        return got == payload

    assert asyncio.run(main())


def test_a_loop_beside_a_host_thread():
    with real_hosts(autoneg_ns=1_000_000) as (a, b):
        payload = bytes(50_000)

        async def main():
            return await asyncio.wait_for(exchange(a, b, payload), 30)

        assert asyncio.run(main()) == payload


@in_virtual_time
async def test_a_coroutine_that_waits_tries_twice_and_wakes_in_the_next_turn(hosts):
    """Once before it sleeps, once when it is woken: each further turn of the loop, each further
    EAGAIN is paid for every message of a conversation.
    """
    a, b = hosts
    loop = asyncio.get_running_loop()
    sock = Socket(b, AF_INET, SOCK_DGRAM)
    sock.bind(("", 9))
    sock.setblocking(False)
    turns, tries, woken = [0], [], []

    def turn():
        turns[0] += 1
        loop.call_soon(turn)

    def attempt():
        tries.append(turns[0])
        return sock.recv(100)

    task = asyncio.create_task(aio._retry(sock, attempt))
    await asyncio.sleep(0)
    other = Socket(a, AF_INET, SOCK_DGRAM)
    sock.wait_queue().add(lambda: woken.append(turns[0]))
    turn()
    other.sendto(b"x", ("10.0.0.2", 9))
    assert await task == b"x"
    assert len(tries) == 2
    assert tries[1] - woken[0] <= 1
    sock.close()
    other.close()


@in_virtual_time
async def test_a_cancelled_coroutine_leaves_the_wait_queue(hosts):
    a, _ = hosts
    sock = Socket(a, AF_INET, SOCK_DGRAM)
    sock.bind(("", 9))
    sock.setblocking(False)
    task = asyncio.create_task(aio.sock_recv(sock, 10))
    await asyncio.sleep(0)
    assert len(sock.wait_queue().waiters) == 1
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert not sock.wait_queue().waiters
    sock.close()


@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_a_packet_after_the_loop_was_closed_wakes_nobody(hosts):
    a, b = hosts
    sock = Socket(b, AF_INET, SOCK_DGRAM)
    sock.bind(("", 10))
    sock.setblocking(False)

    async def main():
        await aio.create_datagram_endpoint(b, asyncio.DatagramProtocol, local_addr=("", 9))
        task = asyncio.create_task(aio.sock_recv(sock, 10))
        await asyncio.sleep(0)
        return task

    loop = aio.VirtualTimeLoop(a.clock)
    task = loop.run_until_complete(main())
    loop.close()
    with Socket(a, AF_INET, SOCK_DGRAM) as other:
        for port in (9, 10):
            other.sendto(b"x", ("10.0.0.2", port))
        a.clock.run_for(1_000_000_000)
    assert sock.recv(10) == b"x"
    assert not task.done()
    task.get_coro().close()
    task._log_destroy_pending = False
    sock.close()


def test_the_limits_of_a_transport_follow_from_one_of_them(hosts):
    async def main():
        server = await aio.start_server(hosts[1], echo, "", 7)
        _, writer = await aio.open_connection(hosts[0], "10.0.0.2", 7)
        transport = writer.transport
        found = []
        for limits in ({"low": 1 << 20}, {"high": 1 << 10}, {}):
            transport.set_write_buffer_limits(**limits)
            found.append(transport.get_write_buffer_limits())
        with pytest.raises(ValueError, match="must be >= low"):
            transport.set_write_buffer_limits(high=1, low=2)
        found.append(transport.get_write_buffer_limits())
        transport.abort()
        server.close()
        return found

    default = (1 << 16, 1 << 18)
    found = aio.run(main(), clock=hosts[0].clock)
    assert found == [(1 << 20, 1 << 22), (1 << 8, 1 << 10), default, default]


def test_wake_ups_from_a_host_thread_are_not_lost():
    """Each message is sent by the thread that answers the last; none may fall between a
    coroutine's attempt and its sleep."""
    with real_hosts(autoneg_ns=1_000_000) as (a, b):
        payload = bytes(64)

        async def main():
            server = await aio.start_server(b, echo, "", 7)
            sock = Socket(a, AF_INET, SOCK_STREAM)
            sock.setblocking(False)
            await aio.sock_connect(sock, ("10.0.0.2", 7))
            for _ in range(300):
                await aio.sock_sendall(sock, payload)
                got = b""
                while len(got) < len(payload):
                    got += await aio.sock_recv(sock, 100)
                assert got == payload
            sock.close()
            server.close()
            await server.wait_closed()

        asyncio.run(asyncio.wait_for(main(), 60))


def test_hosts_inside_a_loop_of_uvloop():
    """Its time has milliseconds, and its handles say nothing of theirs."""
    try:
        import uvloop
    except ImportError:
        missing("uvloop is not installed", "pip install e1000emu[fast]")

    async def main():
        clock = AsyncioClock(asyncio.get_running_loop())
        a, b = two_hosts(clock, autoneg_ns=1_000_000, wait=False)
        while not all(h.dev("eth0").state & 4 == 0 for h in (a, b)):
            await asyncio.sleep(0.001)
        order = []
        now = clock.now_ns()
        for delay in (3_000_000, 0, 1_000_000, 2_000_000, 1_000_000):
            at = now + delay
            clock.call_at(at, lambda at=at: order.append((at, clock.now_ns() >= at)))
        payload = bytes(50_000)
        got = await asyncio.wait_for(exchange(a, b, payload), 30)
        while len(order) < 5:
            await asyncio.sleep(0.001)
        a.close()
        b.close()
        clock.close()
        assert got == payload
        assert order == sorted(order)
        assert all(late for _, late in order)

    uvloop.run(main())


@in_virtual_time
async def test_the_answer_to_a_connection_that_ends_at_once_carries_the_ack(hosts):
    """A delayed ACK waits a tick at least: no segment for the peer's FIN, then one with ours."""
    a, b = hosts
    listener = create_server(b, ("", 7))
    listener.setblocking(False)

    async def serve():
        conn, _ = await aio.sock_accept(listener)
        came = asyncio.Event()
        conn.wait_queue().add(came.set)
        await came.wait()
        for _ in range(3):  # a task for the connection, and so on: turns of the loop
            await asyncio.sleep(0)
        assert await aio.sock_recv(conn, 10) == b""
        conn.close()

    server = asyncio.create_task(serve())
    sock = Socket(a, AF_INET, SOCK_STREAM)
    sock.setblocking(False)
    await aio.sock_connect(sock, ("10.0.0.2", 7))
    sock.shutdown(SHUT_WR)
    assert await aio.sock_recv(sock, 10) == b""
    await server
    sock.close()
    listener.close()
    await asyncio.sleep(0.5)
    assert b.mib.tcp.OutSegs == 2  # SYN and ACK; ACK and FIN
    assert b.mib.linux.DelayedACKs == 0


@in_virtual_time
async def test_receiving_says_what_recv_says_where_nothing_will_come(hosts):
    """The end, errors and low-water marks are recv(2)'s to tell, not poll(2)'s."""
    a, b = hosts
    listener = create_server(b, ("", 7))
    listener.setblocking(False)
    with pytest.raises(OSError, match="Transport endpoint is not connected"):
        await aio.sock_recv(listener, 10)
    sock = Socket(a, AF_INET, SOCK_STREAM)
    sock.setblocking(False)
    await aio.sock_connect(sock, ("10.0.0.2", 7))
    conn, _ = await aio.sock_accept(listener)
    conn.setsockopt(SOL_SOCKET, SO_RCVLOWAT, 100)
    await aio.sock_sendall(sock, b"few")
    await asyncio.sleep(0.1)
    assert await aio.sock_recv(conn, 10) == b"few"
    conn.setsockopt(SOL_SOCKET, SO_RCVLOWAT, 1)
    waiting = asyncio.create_task(aio.sock_recv(conn, 10))
    await asyncio.sleep(0.1)
    sock.setsockopt(SOL_SOCKET, SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()
    with pytest.raises(ConnectionResetError):
        await waiting
    conn.close()
    with pytest.raises(OSError, match="not an open socket"):
        await aio.sock_recv(conn, 10)
    listener.close()
