"""The services of `e1000emu up --serve` on the sockets of the machine, as asyncio has them.

    python -m benchmarks.tap_services ADDR

Serves echo on port 7, discard on 9 and chargen on 19 until it is killed; prints "ready". The same
coroutines on the kernel's stack: what differs from a host of ours is the host.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import sys
from collections.abc import Awaitable, Callable

CHUNK = 1 << 18
LINE = bytes(range(32, 127)) * 2
BLOCK = b"".join(LINE[i : i + 72] + b"\r\n" for i in range(95)) * 30

Conn = Callable[[asyncio.AbstractEventLoop, socket.socket], Awaitable[None]]


async def echo(loop: asyncio.AbstractEventLoop, conn: socket.socket) -> None:
    """Echo received data (RFC 862)."""
    buffer = memoryview(bytearray(CHUNK))
    while n := await loop.sock_recv_into(conn, buffer):
        await loop.sock_sendall(conn, buffer[:n])


async def discard(loop: asyncio.AbstractEventLoop, conn: socket.socket) -> None:
    """Read and discard (RFC 863)."""
    buffer = memoryview(bytearray(CHUNK))
    while await loop.sock_recv_into(conn, buffer):
        pass


async def chargen(loop: asyncio.AbstractEventLoop, conn: socket.socket) -> None:
    """Send until the peer closes (RFC 864)."""
    while True:
        await loop.sock_sendall(conn, BLOCK)


async def serve(listener: socket.socket, service: Conn) -> None:
    """One task per connection."""
    loop = asyncio.get_running_loop()
    tasks: set[asyncio.Task[None]] = set()

    async def one(conn: socket.socket) -> None:
        with conn, contextlib.suppress(ConnectionError):
            await service(loop, conn)

    while True:
        conn, _ = await loop.sock_accept(listener)
        conn.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        task = asyncio.create_task(one(conn))
        tasks.add(task)
        task.add_done_callback(tasks.discard)


async def main(addr: str) -> None:
    """Listen and serve."""
    pending = []
    for port, service in ((7, echo), (9, discard), (19, chargen)):
        listener = socket.create_server((addr, port), backlog=128)
        listener.setblocking(False)
        pending.append(serve(listener, service))
    print("ready", flush=True)
    await asyncio.gather(*pending)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
