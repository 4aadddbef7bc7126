"""An asyncio echo server and client on two of our hosts, in real time."""

import asyncio

from e1000emu import AsyncioClock
from e1000emu.lab import two_hosts
from stack import aio


async def echo(reader, writer):
    """Send back each line."""
    while line := await reader.readline():
        writer.write(line)
        await writer.drain()
    writer.close()


async def main():
    """Serve on b, ask from a."""
    a, b = two_hosts(AsyncioClock(asyncio.get_running_loop()))
    server = await aio.start_server(b, echo, "10.0.0.2", 7)
    reader, writer = await aio.open_connection(a, "10.0.0.2", 7)
    for word in ("one", "two", "three"):
        writer.write(f"{word}\n".encode())
        print("echo:", (await reader.readline()).decode().strip())
    writer.close()
    server.close()
    a.close()
    b.close()


asyncio.run(main())
