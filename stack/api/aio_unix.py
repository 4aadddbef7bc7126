"""asyncio over AF_UNIX sockets of this stack; the counterpart of stack.aio for TCP."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

from fastpath.errors import check_callable, whole_number
from stack.api.aio import Server, SocketTransport, sock_connect, stream_factory
from stack.api.socket import AF_UNIX, SOCK_STREAM, SOMAXCONN, Socket
from stack.net import Net

P = TypeVar("P", bound=asyncio.BaseProtocol)

__all__ = [
    "create_unix_connection",
    "create_unix_server",
    "open_unix_connection",
    "start_unix_server",
]


async def create_unix_connection(
    net: Net, protocol_factory: Callable[[], P], path: str | bytes
) -> tuple[SocketTransport, P]:
    """Connect to a name in `net`; as `loop.create_unix_connection`."""
    check_callable("create_unix_connection", "protocol_factory", protocol_factory)
    sock = Socket(net, AF_UNIX, SOCK_STREAM)
    try:
        sock.setblocking(False)
        await sock_connect(sock, path)
    except BaseException:
        sock.close()
        raise
    protocol = protocol_factory()
    return SocketTransport(asyncio.get_running_loop(), sock, protocol), protocol


async def create_unix_server(
    net: Net,
    protocol_factory: Callable[[], asyncio.BaseProtocol],
    path: str | bytes,
    *,
    backlog: int = SOMAXCONN,
) -> Server:
    """Listen under a name in `net`; as `loop.create_unix_server`. Closing keeps the name."""
    check_callable("create_unix_server", "protocol_factory", protocol_factory)
    backlog = whole_number("create_unix_server", "backlog", backlog)
    sock = Socket(net, AF_UNIX, SOCK_STREAM)
    try:
        sock.setblocking(False)
        sock.bind(path)
        sock.listen(backlog)
    except BaseException:
        sock.close()
        raise
    return Server(sock, protocol_factory, asyncio.get_running_loop())


async def open_unix_connection(
    net: Net, path: str | bytes, *, limit: int = 1 << 18
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """As `asyncio.open_unix_connection`, in `net`."""
    limit = whole_number("open_unix_connection", "limit", limit, 1, unit="bytes")
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader(limit=limit, loop=loop)
    protocol = asyncio.StreamReaderProtocol(reader, loop=loop)
    transport, _ = await create_unix_connection(net, lambda: protocol, path)
    return reader, asyncio.StreamWriter(transport, protocol, reader, loop)


async def start_unix_server(
    net: Net,
    client_connected_cb: Callable[
        [asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None] | None
    ],
    path: str | bytes,
    *,
    limit: int = 1 << 18,
    backlog: int = SOMAXCONN,
) -> Server:
    """As `asyncio.start_unix_server`, in `net`."""
    factory = stream_factory("start_unix_server", client_connected_cb, limit)
    return await create_unix_server(net, factory, path, backlog=backlog)
