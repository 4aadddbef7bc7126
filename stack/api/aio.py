"""asyncio over this stack: socket awaitables, streams, transports, and a loop in virtual time.

The sockets are `stack.socket.Socket`s in non-blocking mode; a waiting coroutine registers
a callback on the socket's wait queue. Works with any clock. On an `AsyncioClock` hosts live in the
loop itself; on a `RealClock` they live in its thread and wake the loop. With `VirtualTimeLoop`
asyncio code runs deterministically in virtual time.

    loop = VirtualTimeLoop(clock)
    loop.run_until_complete(main())       # or: run(main(), clock=clock)
"""

from __future__ import annotations

import asyncio
import errno
import functools
import math
import selectors
from collections.abc import Awaitable, Callable, Coroutine
from typing import TYPE_CHECKING, Any, TypeVar

from fastpath.errors import check_callable, check_clock, check_methods, check_type, whole_number
from stack.api.aio_netdb import check_host, getaddrinfo, getnameinfo, resolved
from stack.api.socket import (
    AF_INET,
    AF_INET6,
    AF_UNIX,
    IPPROTO_IPV6,
    IPPROTO_TCP,
    IPV6_V6ONLY,
    POLLERR,
    POLLHUP,
    POLLIN,
    SHUT_WR,
    SO_ERROR,
    SO_REUSEADDR,
    SOCK_DGRAM,
    SOCK_STREAM,
    SOL_SOCKET,
    SOMAXCONN,
    TCP_NODELAY,
    Socket,
)
from stack.clients.addrinfo import AI_PASSIVE
from stack.core.clock import is_threaded, require_running
from stack.core.errors import os_error
from stack.net import Net, check_net

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer, WriteableBuffer

    from stack.api.select import epoll
    from stack.api.sockaddr import Address, RetAddress

T = TypeVar("T")
P = TypeVar("P", bound=asyncio.BaseProtocol)
D = TypeVar("D", bound=asyncio.DatagramProtocol)

__all__ = [
    "DatagramTransport",
    "Server",
    "SocketTransport",
    "VirtualTimeLoop",
    "create_connection",
    "create_datagram_endpoint",
    "create_server",
    "getaddrinfo",
    "getnameinfo",
    "open_connection",
    "run",
    "sock_accept",
    "sock_connect",
    "sock_recv",
    "sock_recv_into",
    "sock_recvfrom",
    "sock_sendall",
    "sock_sendto",
    "start_server",
]

READ_BYTES = 256 * 1024
READABLE = POLLIN | POLLERR | POLLHUP
OWN_DESCRIPTORS = 1  # a loop's selector watches the loop's own wake-up descriptor


# --- waiting -----------------------------------------------------------------------------------


class _Waker:
    """Calls `fn` at each wake-up of a socket's wait queue, in the loop's thread.

    `fn` must only schedule work: where loop and host share a thread, it runs inside the wake-up
    while a packet is processed.
    """

    __slots__ = ("_fn", "_loop", "_wake", "_wq")

    def __init__(self, sock: Socket | epoll, fn: Callable[[], Any]) -> None:
        self._loop = asyncio.get_running_loop()
        self._fn = fn
        clock = sock.net.clock
        # A RealClock runs the host in its own thread, the other clocks in this one.
        self._wake = self._wake_loop if is_threaded(clock) else fn
        self._wq = sock.wait_queue()
        with sock.net.lock:
            require_running(clock, "a coroutine that waits")
            self._wq.add(self._wake)

    def _wake_loop(self) -> None:
        try:
            self._loop.call_soon_threadsafe(self._fn)
        except RuntimeError:  # the loop was closed before the socket
            self.close()

    def close(self) -> None:
        self._wq.remove(self._wake)


class _Sleep(_Waker):
    """One sleep of a coroutine on a socket: `future` is done at the next wake-up.

    Call with the host's lock held from the coroutine's check on, so that no wake-up is lost in
    between.
    """

    __slots__ = ("future",)

    def __init__(self, sock: Socket | epoll) -> None:
        self.future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        super().__init__(sock, self._done)

    def _done(self) -> None:
        if not self.future.done() and not self._loop.is_closed():
            self.future.set_result(None)


async def _retry(sock: Socket, attempt: Callable[[], T], events: int = 0) -> T:
    """Call `attempt()` until it does not raise EAGAIN, sleeping on the socket in between.

    With `events` (POLL*) it is called only if one of them, POLLERR or POLLHUP is set: a poll
    costs a sixth of a failed attempt.
    """
    lock = sock.net.lock
    events |= POLLERR | POLLHUP if events else 0
    while True:
        with lock:
            if not events or sock.poll() & events:
                try:
                    return attempt()
                except (BlockingIOError, InterruptedError):
                    pass
            sleep = _Sleep(sock)
        try:
            await sleep.future
        finally:
            sleep.close()


def _check_sock(where: str, sock: object) -> None:
    check_type(where, "sock", sock, Socket, "a Socket of a host")


def _readable(sock: Socket, flags: int = 0) -> int:
    """The events without which recv(2) fails with EAGAIN; 0 if it may succeed anyway."""
    return 0 if flags or not sock.waits_for_data() else POLLIN


async def sock_recv(sock: Socket, n: int, flags: int = 0) -> bytes:
    """Receive up to `n` bytes; b"" at the end of the stream."""
    _check_sock("sock_recv", sock)
    return await _retry(sock, lambda: sock.recv(n, flags), _readable(sock, flags))


async def sock_recv_into(sock: Socket, buffer: WriteableBuffer, n: int = 0) -> int:
    """Receive into a writable buffer; the bytes received."""
    _check_sock("sock_recv_into", sock)
    return await _retry(sock, lambda: sock.recv_into(buffer, n), _readable(sock))


async def sock_recvfrom(sock: Socket, n: int) -> tuple[bytes, RetAddress]:
    """Receive one datagram and its sender."""
    _check_sock("sock_recvfrom", sock)
    return await _retry(sock, lambda: sock.recvfrom(n), _readable(sock))


async def sock_sendall(sock: Socket, data: ReadableBuffer) -> None:
    """Send all of `data`."""
    _check_sock("sock_sendall", sock)
    rest = memoryview(data).cast("B")
    while rest:
        done = await _retry(sock, functools.partial(sock.send, rest))
        rest = rest[done:]


async def sock_sendto(sock: Socket, data: ReadableBuffer, addr: Address) -> int:
    """Send one datagram."""
    _check_sock("sock_sendto", sock)
    return await _retry(sock, lambda: sock.sendto(data, addr))


async def sock_accept(sock: Socket) -> tuple[Socket, RetAddress]:
    """Wait for a connection; the new socket is non-blocking."""
    _check_sock("sock_accept", sock)
    conn, addr = await _retry(sock, sock.accept, POLLIN)
    conn.setblocking(False)
    return conn, addr


async def sock_connect(sock: Socket, addr: Address) -> None:
    """Connect; a name is resolved to its first address.

    Raises: OSError: ConnectionRefusedError, TimeoutError ... as connect(2); socket.gaierror.
    """
    _check_sock("sock_connect", sock)
    if sock.family == AF_UNIX:  # connected, or (a full backlog) BlockingIOError
        sock.connect(addr)
        return
    addr = await resolved(sock.net, sock.family, sock.type, addr)
    err = sock.connect_ex(addr)
    if err in (errno.EINPROGRESS, errno.EAGAIN, errno.EALREADY):

        def established() -> None:
            again = sock.getsockopt(SOL_SOCKET, SO_ERROR)
            if again:
                raise os_error(again)
            if not sock.connected():
                raise os_error(errno.EAGAIN, "connecting")

        await _retry(sock, established)
    elif err:
        raise os_error(err, f"connect to {addr!r}")


# --- transports --------------------------------------------------------------------------------


class SocketTransport(asyncio.Transport):
    """asyncio's transport over a connected stream socket of this stack."""

    _extra: dict[str, Any]

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        sock: Socket,
        protocol: asyncio.BaseProtocol,
        server: Server | None = None,
    ) -> None:
        super().__init__({"socket": sock})
        sock.setblocking(False)
        self._loop = loop
        self._sock = sock
        self._server = server
        self._buffer: list[memoryview] = []
        self._size = 0
        self._high, self._low = 256 * 1024, 64 * 1024
        self._paused_writing = False
        self._paused = False
        self._eof_sent = False
        self._eof_seen = False
        self._write_eof = False
        self._closing = False
        self._lost = False
        self._queued = False
        self._protocol = protocol
        self._extra["peername"] = _name(sock.getpeername)
        self._extra["sockname"] = _name(sock.getsockname)
        self._waker = _Waker(sock, self._schedule)
        if server is not None:
            server._attach(self)
        loop.call_soon(protocol.connection_made, self)
        self._schedule()

    def __repr__(self) -> str:
        state = "closing" if self._closing else "open"
        return f"<SocketTransport {state} {self._extra['sockname']}-{self._extra['peername']}>"

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        self._protocol = protocol

    def get_protocol(self) -> asyncio.BaseProtocol:
        return self._protocol

    def is_closing(self) -> bool:
        return self._closing

    # reading

    def pause_reading(self) -> None:
        self._paused = True

    def resume_reading(self) -> None:
        self._paused = False
        self._schedule()

    def is_reading(self) -> bool:
        return not (self._paused or self._closing or self._eof_seen)

    def _schedule(self) -> None:
        """Schedule one call of `_ready` in the loop's next iteration."""
        if not self._queued and not self._lost and not self._loop.is_closed():
            self._queued = True
            self._loop.call_soon(self._ready)

    def _ready(self) -> None:
        self._queued = False
        if self._lost:
            return
        if self._buffer or self._write_eof:
            self._flush()
        if not self._lost and self.is_reading():
            self._read()

    def _read(self) -> None:
        # Most wake-ups are due to ACKs, and a poll costs a sixth of a failed attempt.
        if not self._sock.poll() & READABLE:
            return
        protocol: Any = self._protocol
        try:
            if isinstance(protocol, asyncio.BufferedProtocol):
                buffer = protocol.get_buffer(-1)
                n = self._sock.recv_into(buffer)
                if n:
                    protocol.buffer_updated(n)
            else:
                data = self._sock.recv(READ_BYTES)
                n = len(data)
                if n:
                    protocol.data_received(data)
        except (BlockingIOError, InterruptedError):
            return
        except OSError as exc:
            self._fail(exc)
            return
        if n:
            if self.is_reading():
                self._schedule()
            return
        self._eof_seen = True
        if not protocol.eof_received():
            self.close()

    # writing

    def write(self, data: Any) -> None:
        if self._write_eof:
            raise RuntimeError("Cannot call write() after write_eof()")
        if self._closing or not len(data):
            return
        view = memoryview(data).cast("B")
        if not self._buffer:
            try:
                done = self._sock.send(view)
            except (BlockingIOError, InterruptedError):
                done = 0
            except OSError as exc:
                self._fail(exc)
                return
            if done == len(view):
                return
            view = view[done:]
        # The caller may change its buffer after write() returns.
        self._buffer.append(memoryview(bytes(view)))
        self._size += len(view)
        self._maybe_pause()

    def _flush(self) -> None:
        try:
            while self._buffer:
                view = self._buffer[0]
                done = self._sock.send(view)
                self._size -= done
                if done < len(view):
                    self._buffer[0] = view[done:]
                else:
                    self._buffer.pop(0)
        except (BlockingIOError, InterruptedError):
            pass
        except OSError as exc:
            self._fail(exc)
            return
        if self._paused_writing and self._size <= self._low:
            self._paused_writing = False
            self._protocol.resume_writing()
        if not self._buffer:
            if self._write_eof and not self._eof_sent:
                self._eof_sent = True
                try:
                    self._sock.shutdown(SHUT_WR)
                except OSError as exc:
                    self._fail(exc)
                    return
            if self._closing:
                self._finish(None)

    def _maybe_pause(self) -> None:
        if self._size > self._high and not self._paused_writing:
            self._paused_writing = True
            self._protocol.pause_writing()

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        if high is None:
            high = 256 * 1024 if low is None else 4 * low
        if low is None:
            low = high // 4
        if not 0 <= low <= high:
            raise ValueError(f"high ({high}) must be >= low ({low}) must be >= 0")
        self._high, self._low = high, low
        self._maybe_pause()

    def get_write_buffer_limits(self) -> tuple[int, int]:
        return self._low, self._high

    def get_write_buffer_size(self) -> int:
        return self._size

    def can_write_eof(self) -> bool:
        return True

    def write_eof(self) -> None:
        if not (self._write_eof or self._closing):
            self._write_eof = True
            self._flush()

    # end

    def close(self) -> None:
        if not self._closing:
            self._closing = True
            if not self._buffer:
                self._loop.call_soon(self._finish, None)

    def abort(self) -> None:
        self._fail(None)

    def _fail(self, exc: BaseException | None) -> None:
        self._closing = True
        self._buffer.clear()
        self._size = 0
        self._loop.call_soon(self._finish, exc)

    def _finish(self, exc: BaseException | None) -> None:
        if self._lost:
            return
        self._lost = True
        self._waker.close()
        try:
            self._protocol.connection_lost(exc)  # type: ignore[arg-type]
        finally:
            self._sock.close()
            if self._server is not None:
                self._server._detach(self)


def _name(get: Callable[[], Any]) -> Any:
    try:
        return get()
    except OSError:
        return None


async def create_connection(
    net: Net,
    protocol_factory: Callable[[], P],
    host: str,
    port: int,
    *,
    local_addr: Address | None = None,
) -> tuple[SocketTransport, P]:
    """Connect from host `net`; as `loop.create_connection`.

    Tries each address of the name `host`; if all fail, raises the first exception.
    """
    check_net("create_connection", net)
    check_callable("create_connection", "protocol_factory", protocol_factory)
    failure: OSError | None = None
    for family, _, _, _, target in await getaddrinfo(net, host, port, type=SOCK_STREAM):
        try:
            sock = await _connected(net, family, target, local_addr)
        except OSError as error:
            failure = failure or error
            continue
        protocol = protocol_factory()
        transport = SocketTransport(asyncio.get_running_loop(), sock, protocol)
        return transport, protocol
    assert failure is not None  # getaddrinfo never returns nothing
    raise failure


async def _connected(net: Net, family: int, target: Address, local_addr: Address | None) -> Socket:
    """A non-blocking stream socket, connected."""
    sock = Socket(net, family, SOCK_STREAM)
    try:
        sock.setblocking(False)
        sock.setsockopt(IPPROTO_TCP, TCP_NODELAY, 1)
        if local_addr is not None:
            sock.bind(local_addr)
        await sock_connect(sock, target)
    except BaseException:
        sock.close()
        raise
    return sock


class Server(asyncio.AbstractServer):
    """A listening socket that creates a transport per connection."""

    def __init__(
        self, sock: Socket, protocol_factory: Callable[[], asyncio.BaseProtocol], loop: Any
    ) -> None:
        self._sock: Socket | None = sock
        self._factory = protocol_factory
        self._loop = loop
        self._active: set[SocketTransport] = set()
        self._closed = loop.create_future()
        self._queued = False
        self._waker = _Waker(sock, self._schedule)
        self._schedule()

    @property
    def sockets(self) -> tuple[Socket, ...]:
        return () if self._sock is None else (self._sock,)

    def _schedule(self) -> None:
        if not self._queued and not self._loop.is_closed():
            self._queued = True
            self._loop.call_soon(self._accept)

    def _accept(self) -> None:
        self._queued = False
        while self._sock is not None and self._sock.poll() & POLLIN:
            try:
                conn, _ = self._sock.accept()
            except (BlockingIOError, InterruptedError):
                return
            except ConnectionAbortedError:
                continue
            if conn.family != AF_UNIX:
                conn.setsockopt(IPPROTO_TCP, TCP_NODELAY, 1)
            SocketTransport(self._loop, conn, self._factory(), self)

    def _attach(self, transport: SocketTransport) -> None:
        self._active.add(transport)

    def _detach(self, transport: SocketTransport) -> None:
        self._active.discard(transport)
        self._maybe_done()

    def _maybe_done(self) -> None:
        if self._sock is None and not self._active and not self._closed.done():
            self._closed.set_result(None)

    def is_serving(self) -> bool:
        return self._sock is not None

    def get_loop(self) -> Any:
        return self._loop

    async def start_serving(self) -> None:
        return None

    async def serve_forever(self) -> None:
        """Serve until cancelled or closed."""
        try:
            await asyncio.shield(self._closed)
        except asyncio.CancelledError:
            self.close()
            raise

    def close(self) -> None:
        """Stop listening; connections continue."""
        if self._sock is not None:
            self._waker.close()
            self._sock.close()
            self._sock = None
            self._maybe_done()

    def close_clients(self) -> None:
        """Close every connection of this server."""
        for transport in list(self._active):
            transport.close()

    async def wait_closed(self) -> None:
        """Wait until the listener and all of its connections are closed."""
        await asyncio.shield(self._closed)


async def create_server(
    net: Net,
    protocol_factory: Callable[[], asyncio.BaseProtocol],
    host: str | None = "0.0.0.0",
    port: int = 0,
    *,
    backlog: int = SOMAXCONN,
) -> Server:
    """Listen on host `net`; as `loop.create_server`, but on one socket: the first address of
    the name `host`, with "" any IPv4 address, with None any address of both families."""
    check_net("create_server", net)
    check_callable("create_server", "protocol_factory", protocol_factory)
    check_host("create_server", host)
    backlog = whole_number("create_server", "backlog", backlog)
    family: int = AF_INET6 if host is None else AF_INET
    name: Address = host or "", port
    if host:
        rows = await getaddrinfo(net, host, port, type=SOCK_STREAM, flags=AI_PASSIVE)
        family, _, _, _, name = rows[0]
    sock = Socket(net, family, SOCK_STREAM)
    try:
        sock.setblocking(False)
        sock.setsockopt(SOL_SOCKET, SO_REUSEADDR, 1)
        if family == AF_INET6:
            sock.setsockopt(IPPROTO_IPV6, IPV6_V6ONLY, host is not None)
        sock.bind(name)
        sock.listen(backlog)
    except BaseException:
        sock.close()
        raise
    return Server(sock, protocol_factory, asyncio.get_running_loop())


async def open_connection(
    net: Net,
    host: str,
    port: int,
    *,
    limit: int = 1 << 18,
    local_addr: Address | None = None,
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """As `asyncio.open_connection`, from host `net`."""
    limit = whole_number("open_connection", "limit", limit, 1, unit="bytes")
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader(limit=limit, loop=loop)
    protocol = asyncio.StreamReaderProtocol(reader, loop=loop)
    transport, _ = await create_connection(net, lambda: protocol, host, port, local_addr=local_addr)
    return reader, asyncio.StreamWriter(transport, protocol, reader, loop)


async def start_server(
    net: Net,
    client_connected_cb: Callable[
        [asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None] | None
    ],
    host: str | None = "0.0.0.0",
    port: int = 0,
    *,
    limit: int = 1 << 18,
    backlog: int = SOMAXCONN,
) -> Server:
    """As `asyncio.start_server`, on host `net`."""
    factory = stream_factory("start_server", client_connected_cb, limit)
    return await create_server(net, factory, host, port, backlog=backlog)


def stream_factory(
    where: str, client_connected_cb: Callable[..., Awaitable[None] | None], limit: int
) -> Callable[[], asyncio.StreamReaderProtocol]:
    """The protocol factory of a server of streams. Raises: ArgumentError."""
    check_callable(where, "client_connected_cb", client_connected_cb)
    limit = whole_number(where, "limit", limit, 1, unit="bytes")
    loop = asyncio.get_running_loop()

    def factory() -> asyncio.StreamReaderProtocol:
        reader = asyncio.StreamReader(limit=limit, loop=loop)
        return asyncio.StreamReaderProtocol(reader, client_connected_cb, loop=loop)

    return factory


class DatagramTransport(asyncio.DatagramTransport):
    """asyncio's transport over a datagram socket of this stack."""

    _extra: dict[str, Any]

    def __init__(self, loop: Any, sock: Socket, protocol: Any, remote: Any) -> None:
        super().__init__({"socket": sock})
        self._loop = loop
        self._sock = sock
        self._protocol = protocol
        self._remote = remote
        self._closing = False
        self._queued = False
        self._extra["sockname"] = _name(sock.getsockname)
        self._extra["peername"] = remote
        self._waker = _Waker(sock, self._schedule)
        loop.call_soon(protocol.connection_made, self)
        self._schedule()

    def _schedule(self) -> None:
        if not self._queued and not self._closing and not self._loop.is_closed():
            self._queued = True
            self._loop.call_soon(self._read)

    def _read(self) -> None:
        self._queued = False
        for _ in range(64):
            if self._closing:
                return
            try:
                data, addr = self._sock.recvfrom(65536)
            except (BlockingIOError, InterruptedError):
                return
            except OSError as exc:
                self._protocol.error_received(exc)
                continue
            self._protocol.datagram_received(data, addr)
        self._schedule()

    def sendto(self, data: Any, addr: Any = None) -> None:
        """Send one datagram; a full send buffer drops it, as UDP allows."""
        if self._closing:
            return
        try:
            if self._remote is not None:
                self._sock.send(data)
            else:
                self._sock.sendto(data, addr)
        except (BlockingIOError, InterruptedError):
            return
        except OSError as exc:
            self._protocol.error_received(exc)

    def is_closing(self) -> bool:
        return self._closing

    def close(self) -> None:
        if not self._closing:
            self._closing = True
            self._waker.close()
            self._loop.call_soon(self._finish)

    abort = close

    def _finish(self) -> None:
        try:
            self._protocol.connection_lost(None)
        finally:
            self._sock.close()


async def create_datagram_endpoint(
    net: Net,
    protocol_factory: Callable[[], D],
    local_addr: Address | None = None,
    remote_addr: Address | None = None,
) -> tuple[DatagramTransport, D]:
    """As `loop.create_datagram_endpoint`, on host `net`, of the family of `remote_addr`'s first
    address, else of `local_addr`'s; IPv4 if neither is given."""
    check_net("create_datagram_endpoint", net)
    check_callable("create_datagram_endpoint", "protocol_factory", protocol_factory)
    family = AF_INET
    for name, address in (("remote_addr", remote_addr), ("local_addr", local_addr)):
        if address is not None:
            takes = 'a pair such as ("10.0.0.2", 80), or None'
            check_type("create_datagram_endpoint", name, address, tuple, takes)
        if address is not None and isinstance(address[0], str) and address[0]:
            rows = await getaddrinfo(net, address[0], address[1], type=SOCK_DGRAM)
            family = rows[0][0]
            break
    if remote_addr is not None:
        remote_addr = await resolved(net, family, SOCK_DGRAM, remote_addr)
    sock = Socket(net, family, SOCK_DGRAM)
    try:
        sock.setblocking(False)
        if local_addr is not None:
            sock.bind(await resolved(net, family, SOCK_DGRAM, local_addr))
        if remote_addr is not None:
            sock.connect(remote_addr)
    except BaseException:
        sock.close()
        raise
    protocol = protocol_factory()
    loop = asyncio.get_running_loop()
    return DatagramTransport(loop, sock, protocol, remote_addr), protocol


# --- virtual time ------------------------------------------------------------------------------


class _VirtualSelector(selectors.DefaultSelector):
    """Instead of sleeping, run the virtual clock until the loop has work."""

    loop: VirtualTimeLoop

    def select(self, timeout: float | None = None) -> list[Any]:
        loop = self.loop
        clock = loop.clock
        ready = loop._ready  # type: ignore[attr-defined]
        if timeout is not None and timeout <= 0:
            clock.run_until(clock.now_ns())
            return super().select(0)
        executor = getattr(loop, "_default_executor", None)
        if timeout is None and executor is not None:
            # Executor threads wake up the loop through its descriptor, in real time.
            if not clock.run_until_idle():
                return super().select(0)
            return super().select(0 if ready else None)
        left = None if timeout is None else math.ceil(timeout * 1e9)
        if len(self.get_map()) == OWN_DESCRIPTORS:
            clock.wait(lambda: bool(ready), left)
            return super().select(0)
        # Descriptors are registered: `fileno` of hosts' sockets, or those of the real machine.
        poll = functools.partial(super().select, 0)
        found: list[Any] = []

        def due() -> bool:
            found[:] = poll()
            return bool(found or ready)

        clock.wait(due, left)
        return found


class VirtualTimeLoop(asyncio.SelectorEventLoop):
    """An asyncio loop whose time is a VirtualClock: `asyncio.sleep(3600)` returns at once.

    Coroutines, hosts and links share the clock, so a program with a fixed seed runs the same way
    every time. If nothing can wake up a coroutine, `SimulationDeadlock` is raised.
    """

    _closed = True  # read by __del__, also if the clock was rejected

    def __init__(self, clock: Any) -> None:
        check_clock("VirtualTimeLoop", clock)
        takes = "a VirtualClock(); the other clocks work with asyncio's own loop"
        check_methods("VirtualTimeLoop", "clock", clock, ("run_until_idle",), takes)
        self.clock = clock
        selector = _VirtualSelector()
        selector.loop = self
        super().__init__(selector)
        self._clock_resolution = 1e-9

    def time(self) -> float:
        """Virtual time in seconds."""
        now_ns: int = self.clock.now_ns()
        return now_ns / 1e9


def run(main: Coroutine[Any, Any, T], *, clock: Any) -> T:
    """`asyncio.run` in virtual time."""
    takes = "a coroutine, as main() of async def main(): ..."
    check_type("run", "main", main, Coroutine, takes)
    with asyncio.Runner(loop_factory=lambda: VirtualTimeLoop(clock)) as runner:
        return runner.run(main)
