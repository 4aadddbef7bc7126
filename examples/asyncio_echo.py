"""An asyncio echo server and client on two of our hosts, in real time."""

import asyncio

from e1000emu import AsyncioClock
from e1000emu.lab import two_hosts
from stack import aio
from stack.host import Host


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Send back each line."""
    while line := await reader.readline():
        writer.write(line)
        await writer.drain()
    writer.close()


async def main(a: Host, b: Host) -> None:
    """Serve on b, ask from a."""
    server = await aio.start_server(b, echo, "10.0.0.2", 7)
    reader, writer = await aio.open_connection(a, "10.0.0.2", 7)
    for word in ("one", "two", "three"):
        writer.write(f"{word}\n".encode())
        print("echo:", (await reader.readline()).decode().strip())
    writer.close()
    server.close()


# Bringing a link up takes time, so the hosts are made before the loop runs and closed after it.
with asyncio.Runner() as runner:
    a, b = two_hosts(AsyncioClock(runner.get_loop()))
    runner.run(main(a, b))
    a.close()
    b.close()
