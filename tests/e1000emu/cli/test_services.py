"""The servers of `--serve`: what they answer, and that no answer waits for a delayed ACK."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from e1000emu.cli.errors import ArgumentError
from e1000emu.cli.servespec import parse_serve
from e1000emu.cli.services import serve
from e1000emu.clock import VirtualClock
from e1000emu.lab import two_hosts
from stack import aio

PORT = 80
REQUESTS = 20
DELAYED_ACK_NS = 40_000_000


async def _requests(client: object, head: bytes, length: int) -> list[bytes]:
    """Send `REQUESTS` requests one after the other over one connection; return the bodies."""
    reader, writer = await aio.open_connection(client, "10.0.0.2", PORT)
    bodies = []
    for _ in range(REQUESTS):
        writer.write(head)
        answer = await reader.readuntil(b"\r\n\r\n")
        assert answer.startswith(b"HTTP/1.1 200 OK\r\n")
        assert b"Connection: keep-alive" in answer
        assert b"Content-Length: %d\r\n" % length in answer
        bodies.append(await reader.readexactly(length))
    writer.close()
    return bodies


@pytest.mark.parametrize("length", [0, 1, 5, 1400, 1461, 100_000, 300_000])
def test_keep_alive_waits_for_no_delayed_ack(tmp_path: Path, length: int) -> None:
    """Head and body leave together and without Nagle's delay, in virtual time to the nanosecond."""
    content = bytes(n * 31 & 0xFF for n in range(length))
    (tmp_path / "file").write_bytes(content)
    (service,) = parse_serve(f"http:{PORT}:{tmp_path}")
    clock = VirtualClock()
    client, server = two_hosts(clock)

    async def main() -> int:
        serving = asyncio.create_task(serve(server, service))
        await asyncio.sleep(0)
        start = clock.now_ns()
        bodies = await _requests(client, b"GET /file HTTP/1.1\r\n\r\n", length)
        took = clock.now_ns() - start
        serving.cancel()
        await asyncio.gather(serving, return_exceptions=True)
        assert bodies == [content] * REQUESTS
        return took

    took_ns = aio.run(main(), clock=clock)
    assert took_ns < DELAYED_ACK_NS  # one of them in 20 answers would be more than all may take
    assert service.bytes_out == REQUESTS * length
    client.close()
    server.close()


def test_an_echo_of_small_pieces_waits_for_no_delayed_ack() -> None:
    (service,) = parse_serve("echo:7")
    clock = VirtualClock()
    client, server = two_hosts(clock)

    async def main() -> int:
        serving = asyncio.create_task(serve(server, service))
        await asyncio.sleep(0)
        reader, writer = await aio.open_connection(client, "10.0.0.2", 7)
        start = clock.now_ns()
        for n in range(REQUESTS):
            # the second piece comes while the echo of the first is not yet acknowledged
            writer.write(b"one %03d" % n)
            await asyncio.sleep(0.0001)
            writer.write(b"two %03d" % n)
            assert await reader.readexactly(14) == b"one %03dtwo %03d" % (n, n)
        took = clock.now_ns() - start
        writer.close()
        serving.cancel()
        await asyncio.gather(serving, return_exceptions=True)
        return took

    assert aio.run(main(), clock=clock) < DELAYED_ACK_NS
    client.close()
    server.close()


@pytest.mark.parametrize("text", ["echo:²", "echo:\u0667", "ecko:7"])
def test_what_is_no_service_is_refused(text: str) -> None:
    with pytest.raises(ArgumentError, match=r"^--serve "):
        parse_serve(text)


def test_a_mistyped_service_is_guessed() -> None:
    with pytest.raises(ArgumentError, match="did you mean http"):
        parse_serve("htpp:80")
