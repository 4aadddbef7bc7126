"""The small servers of `e1000emu up --serve`: echo, discard, chargen, http, iperf3, dhcp. One
coroutine per connection.

Each takes the host and a port and serves TCP (echo, discard and iperf3 also UDP) until cancelled.
"""

from __future__ import annotations

import asyncio
import email.utils
import functools
import html
import mimetypes
import os
import urllib.parse
from collections.abc import Callable, Coroutine
from typing import Any

from e1000emu.cli.addressing import DEVICE
from e1000emu.cli.iperf3 import Iperf3
from e1000emu.cli.servespec import Service
from e1000emu.errors import E1000Error
from stack import aio
from stack.services.dhcpd import Dhcpd
from stack.socket import AF_INET6, IPPROTO_TCP, SOCK_DGRAM, TCP_NODELAY, Socket, create_server

CHUNK = 1 << 18
FIRST = 1 << 14
"""A connection's first buffer: most never fill it, and zeroing CHUNK costs a connect's time."""
MAX_HEADER_BYTES = 16384
RFC864 = bytes(range(32, 127))


def _larger(buffer: memoryview, filled: int) -> memoryview:
    """The buffer to read into next: one of CHUNK when this one was too small."""
    if filled < len(buffer) or filled == CHUNK:
        return buffer
    return memoryview(bytearray(CHUNK))


async def echo(conn: Any, service: Service) -> None:
    """Echo received data (RFC 862), with half close: our FIN follows the peer's."""
    buffer = memoryview(bytearray(FIRST))
    while n := await aio.sock_recv_into(conn, buffer):
        service.bytes_in += n
        await aio.sock_sendall(conn, buffer[:n])
        service.bytes_out += n
        buffer = _larger(buffer, n)


async def discard(conn: Any, service: Service) -> None:
    """Read and discard (RFC 863)."""
    buffer = memoryview(bytearray(FIRST))
    while n := await aio.sock_recv_into(conn, buffer):
        service.bytes_in += n
        buffer = _larger(buffer, n)


async def chargen(conn: Any, service: Service) -> None:
    """Send lines of 72 characters until the peer closes (RFC 864)."""
    ring = RFC864 * 2
    block = b"".join(ring[i : i + 72] + b"\r\n" for i in range(len(RFC864))) * 30
    try:
        while True:
            await aio.sock_sendall(conn, block)
            service.bytes_out += len(block)
    except (ConnectionError, BrokenPipeError):
        return


async def http(conn: Any, service: Service) -> None:
    """Serve files below the directory (or a page about this host) over HTTP/1.1, GET and HEAD,
    keep-alive."""
    answer = functools.partial(_answer, conn, service)
    pending = b""
    buffer = memoryview(bytearray(65536))
    while True:
        while b"\r\n\r\n" not in pending:
            if len(pending) > MAX_HEADER_BYTES:
                await answer(431, "Request Header Fields Too Large", b"", close=True)
                return
            n = await aio.sock_recv_into(conn, buffer)
            if n == 0:
                return
            service.bytes_in += n
            pending += buffer[:n]
        head, _, pending = pending.partition(b"\r\n\r\n")
        lines = head.decode("latin-1").split("\r\n")
        words = lines[0].split(" ")
        service.requests += 1
        if len(words) != 3 or not words[2].startswith("HTTP/1."):
            await answer(400, "Bad Request", b"bad request line\n", close=True)
            return
        method, target, version = words
        headers = {}
        for line in lines[1:]:
            key, _, value = line.partition(":")
            headers[key.strip().lower()] = value.strip()
        if headers.get("transfer-encoding") or headers.get("content-length", "0") != "0":
            await answer(413, "Content Too Large", b"no request body here\n", close=True)
            return
        tokens = headers.get("connection", "").lower()
        close = "close" in tokens or (version == "HTTP/1.0" and "keep-alive" not in tokens)
        if method not in ("GET", "HEAD"):
            await answer(501, "Not Implemented", b"only GET and HEAD\n", close=close)
        else:
            await _resource(conn, service, method, target, close)
        if close:
            return


async def _resource(conn: Any, service: Service, method: str, target: str, close: bool) -> None:
    answer = functools.partial(_answer, conn, service, close=close)
    try:
        path = urllib.parse.unquote(urllib.parse.urlsplit(target).path)
    except ValueError:  # `//[`
        path = "\0"
    if "\0" in path:
        await answer(400, "Bad Request", b"bad path\n")
        return
    if service.root is None:
        body = _about(service).encode() if path == "/" else b"not found\n"
        status = (200, "OK") if path == "/" else (404, "Not Found")
        await answer(*status, body, head=method == "HEAD", kind="text/html")
        return
    root = service.root.resolve()
    try:
        file = (root / path.lstrip("/")).resolve()
        if file.is_dir():
            file = (file / "index.html").resolve()
        found = file.is_relative_to(root) and file.is_file() and os.access(file, os.R_OK)
    except (OSError, ValueError, RuntimeError):  # too long, not a name, a loop of links
        found = False
    if not found:
        await answer(404, "Not Found", b"not found\n", head=method == "HEAD")
        return
    with file.open("rb") as source:
        size = file.stat().st_size
        kind = mimetypes.guess_type(file.name)[0] or "application/octet-stream"
        start = _head(200, "OK", size, kind, close)
        if method == "HEAD":
            await aio.sock_sendall(conn, start)
            return
        # The head is sent with the first piece of the body, as by other servers. Alone it would be
        # a small segment, and the next would wait for its delayed acknowledgement.
        buffer = memoryview(bytearray(len(start) + min(size, CHUNK)))
        buffer[: len(start)] = start
        filled, left = len(start), size
        while True:
            n = source.readinto(buffer[filled : filled + left])
            await aio.sock_sendall(conn, buffer[: filled + n])
            service.bytes_out += n
            left -= n
            filled = 0
            if not n or not left:
                break
        if left:  # the file shrank: the promised length cannot be kept, so end the connection
            raise ConnectionAbortedError(f"{file.name} shrank while it was sent")


def _head(status: int, reason: str, size: int, kind: str, close: bool) -> bytes:
    return (
        f"HTTP/1.1 {status} {reason}\r\nServer: e1000emu\r\n"
        f"Date: {email.utils.formatdate(usegmt=True)}\r\nContent-Type: {kind}\r\n"
        f"Content-Length: {size}\r\nConnection: {'close' if close else 'keep-alive'}\r\n\r\n"
    ).encode("latin-1")


async def _answer(
    conn: Any,
    service: Service,
    status: int,
    reason: str,
    body: bytes,
    *,
    close: bool,
    head: bool = False,
    kind: str = "text/plain",
) -> None:
    start = _head(status, reason, len(body), kind, close)
    if head:
        body = b""
    await aio.sock_sendall(conn, start + body)
    service.bytes_out += len(body)


def _about(service: Service) -> str:
    rows = "".join(
        f"<tr><td>{html.escape(key)}</td><td>{value}</td></tr>"
        for key, value in (("connections", service.connections), ("requests", service.requests))
    )
    return (
        "<!doctype html><title>e1000emu</title><h1>e1000emu</h1>"
        f"<p>This page came through an emulated 82540EM and our own TCP.</p><table>{rows}</table>\n"
    )


async def _dhcp(dhcpd: Dhcpd) -> None:
    """Give out addresses until cancelled."""
    try:
        await asyncio.Event().wait()
    finally:
        dhcpd.stop()


SERVICES: dict[str, Callable[[Any, Service], Coroutine[Any, Any, None]]] = {
    "echo": echo,
    "http": http,
    "discard": discard,
    "chargen": chargen,
}


async def _connection(conn: Any, service: Service) -> None:
    service.connections += 1
    service.active += 1
    try:
        # Answers of less than a segment must not wait for the acknowledgement of the one before.
        conn.setsockopt(IPPROTO_TCP, TCP_NODELAY, 1)
        await SERVICES[service.name](conn, service)
    except OSError:
        pass  # the peer has closed: serve the next one
    finally:
        service.active -= 1
        conn.close()


async def _datagrams(host: Any, service: Service) -> None:
    """Serve UDP on the same port: echo answers, discard drops."""
    sock = Socket(host, AF_INET6, SOCK_DGRAM)  # takes IPv4 too, from v4-mapped addresses
    service.sockets.append(sock)
    sock.bind(("::", service.port))
    sock.setblocking(False)
    while True:
        try:
            data, source = await aio.sock_recvfrom(sock, 65536)
            service.bytes_in += len(data)
            # RFC 862: never answer another echo server's well-known port, or two would talk for
            # ever
            if service.name == "echo" and source[1] != service.port:
                await aio.sock_sendto(sock, data, source)
                service.bytes_out += len(data)
        except OSError:
            continue  # an ICMP error for an earlier answer


def listen(host: Any, service: Service) -> None:
    """Bind and listen on the service's port in both families; dhcp serves at once.

    Raises: E1000Error when it is taken, or the addresses are none of the interface's network.
    """
    try:
        if service.name == "dhcp":
            service.dhcpd = host.dhcpd(DEVICE, service.addresses, lease_s=service.lease_s)
            return
        listener = create_server(host, ("::", service.port), family=AF_INET6, dualstack_ipv6=True)
    except OSError as error:
        raise E1000Error(f"{service.name}:{service.port}: {error.strerror or error}") from None
    listener.setblocking(False)
    service.sockets.append(listener)


async def serve(host: Any, service: Service) -> None:
    """Serve until cancelled, on the port bound by `listen` or bound now.

    Raises: E1000Error, the port cannot be had.
    """
    if not service.sockets and service.dhcpd is None:
        listen(host, service)
    if service.dhcpd is not None:
        await _dhcp(service.dhcpd)
        return
    listener = service.sockets[0]
    try:
        if service.name == "iperf3":
            await Iperf3(host, service).serve(listener)
            return
        async with asyncio.TaskGroup() as group:  # a server that fails ends the others, and says so
            if service.name in ("echo", "discard"):
                group.create_task(_datagrams(host, service))
            while True:
                conn, _ = await aio.sock_accept(listener)
                group.create_task(_connection(conn, service))
    finally:
        for sock in service.sockets:
            sock.close()
