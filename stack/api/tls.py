"""TLS over a socket of a host: the counterpart of `ssl.SSLSocket`.

An SSLSocket reads and writes a kernel descriptor directly. A `TlsSocket` has an SSLObject
between two memory buffers, and transfers their contents by `Socket.recv` and `Socket.send`. It has
SSLSocket's methods, and exceptions: SSLWantReadError and SSLWantWriteError for non-blocking ones,
TimeoutError for one with a timeout.

`SSLContext.wrap_socket` creates one inside `stack.dropin`.
"""

from __future__ import annotations

import contextlib
import ssl
import threading
from collections.abc import Callable
from typing import IO, TYPE_CHECKING, Any, Self

from stack.api.sockfile import open_file
from stack.core.uapi import SOCK_STREAM

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer, WriteableBuffer

    from stack.api.sockaddr import RetAddress
    from stack.api.socket import Socket

__all__ = ["TlsSocket"]

READ_BYTES = 65536
"""Bytes read from the connection at a time: four records of maximal length."""
OF_SSL_OBJECT = frozenset(
    {
        "cipher",
        "compression",
        "get_channel_binding",
        "get_unverified_chain",
        "get_verified_chain",
        "getpeercert",
        "pending",
        "selected_alpn_protocol",
        "selected_npn_protocol",
        "session",
        "session_reused",
        "shared_ciphers",
        "verify_client_post_handshake",
        "version",
    }
)
"""Attributes taken from the SSLObject; the others are taken from the Socket."""


class TlsSocket:
    """A TLS connection, or a listener whose connections are."""

    def __init__(
        self,
        sock: Socket,
        context: ssl.SSLContext,
        server_side: bool,
        server_hostname: str | None,
        do_handshake_on_connect: bool,
        suppress_ragged_eofs: bool,
        session: ssl.SSLSession | None,
    ) -> None:
        self._sock = sock
        self.context = context
        self.server_side = server_side
        self.server_hostname = server_hostname
        self.do_handshake_on_connect = do_handshake_on_connect
        self.suppress_ragged_eofs = suppress_ragged_eofs
        self._session = session
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._lock = threading.Lock()
        """Held while TLS creates or reads records, but never during a wait."""
        self._sending, self._receiving = threading.RLock(), threading.Lock()
        """Held while sending or awaiting records, which keeps them in order."""
        self._received = 0
        """The number of times that records have arrived."""
        self._unsent = b""
        """Bytes that are being sent to the connection."""
        self._stuck = False
        """Bytes that a non-blocking connection did not accept; the next call retries."""
        self._written: int | None = None
        """Bytes already in TLS of a `send` that must be repeated."""
        self._tls: ssl.SSLObject | None = None
        self._io_refs = 0
        self._closed = False

    @classmethod
    def _create(
        cls,
        sock: Socket,
        server_side: bool = False,
        do_handshake_on_connect: bool = True,
        suppress_ragged_eofs: bool = True,
        server_hostname: str | None = None,
        context: ssl.SSLContext | None = None,
        session: ssl.SSLSession | None = None,
    ) -> Self:
        """Called by `SSLContext.wrap_socket`.  Raises: as `SSLSocket`."""
        if sock.type != SOCK_STREAM:
            raise NotImplementedError("only stream sockets are supported")
        assert context is not None
        if server_side and server_hostname:
            raise ValueError("server_hostname can only be specified in client mode")
        if server_side and session is not None:
            raise ValueError("session can only be specified in client mode")
        if context.check_hostname and not server_side and not server_hostname:
            raise ValueError("check_hostname requires server_hostname")
        self = cls(
            sock,
            context,
            server_side,
            server_hostname,
            do_handshake_on_connect,
            suppress_ragged_eofs,
            session,
        )
        try:
            sock.getpeername()
        except OSError:
            return self  # not connected yet, or a listener
        self._connected()
        return self

    def _connected(self) -> None:
        """The connection is established: begin TLS on it."""
        self._tls = self.context.wrap_bio(
            self._incoming, self._outgoing, self.server_side, self.server_hostname, self._session
        )
        if self.do_handshake_on_connect:
            if self._sock.gettimeout() == 0:
                raise ValueError(
                    "do_handshake_on_connect should not be specified for non-blocking sockets"
                )
            try:
                self.do_handshake()
            except BaseException:
                self.close()
                raise

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        if name not in OF_SSL_OBJECT:
            return getattr(self._sock, name)
        if self._tls is not None:
            return getattr(self._tls, name)
        if name in ("session", "session_reused"):
            return None
        return lambda *args, **kwargs: 0 if name == "pending" else None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    # --- records --------------------------------------------------------------------------------

    def _send_records(self) -> None:
        """Send the output of TLS.  Raises: SSLWantWriteError, OSError."""
        with self._sending:
            with self._lock:
                self._unsent += self._outgoing.read()
            while self._unsent:
                try:
                    done = self._sock.send(self._unsent)
                except BlockingIOError as exc:
                    self._stuck = True
                    raise ssl.SSLWantWriteError(
                        ssl.SSL_ERROR_WANT_WRITE, "the connection takes no more now"
                    ) from exc
                self._unsent = self._unsent[done:]
            self._stuck = False

    def _receive_records(self, seen: int) -> None:
        """Wait for bytes of the connection, unless some have arrived since `_received` was `seen`.

        Raises: SSLWantReadError, OSError.
        """
        with self._receiving:
            if self._received != seen:
                return
            try:
                data = self._sock.recv(READ_BYTES)
            except BlockingIOError as exc:
                raise ssl.SSLWantReadError(
                    ssl.SSL_ERROR_WANT_READ, "the connection has nothing now"
                ) from exc
            with self._lock:
                self._received += 1
                if data:
                    self._incoming.write(data)
                else:
                    self._incoming.write_eof()

    def _do(self, call: Callable[..., Any], *args: Any) -> Any:
        """Call a method of the SSLObject until it needs no more of the connection."""
        while True:
            if self._stuck:
                self._send_records()
            wants: ssl.SSLError | None = None
            with self._lock:
                seen, before = self._received, self._outgoing.pending
                try:
                    result = call(*args)
                except ssl.SSLError as exc:
                    wants = exc
                made = self._outgoing.pending > before
            if isinstance(wants, ssl.SSLWantReadError):
                if made:
                    self._send_records()
                self._receive_records(seen)
                continue
            if wants is not None:
                with contextlib.suppress(OSError):  # the alert; the error itself is raised
                    self._send_records()
                raise wants
            # A reader does not wait for records of a writer in another thread.
            if made:
                self._send_records()
            return result

    def do_handshake(self, block: bool = False) -> None:
        """Perform the handshake; with `block` wait for it regardless of the timeout."""
        tls = self._need_tls()
        timeout = self._sock.gettimeout()
        if timeout == 0 and block:
            self._sock.settimeout(None)
        try:
            self._do(tls.do_handshake)
        finally:
            if timeout == 0 and block:
                self._sock.settimeout(timeout)

    def _need_tls(self) -> ssl.SSLObject:
        if self._tls is None:
            self._sock.getpeername()  # ENOTCONN
            raise ValueError("No SSL wrapper around " + str(self))
        return self._tls

    # --- data -----------------------------------------------------------------------------------

    def read(self, len: int = 1024, buffer: Any = None) -> Any:  # noqa: A002 -- SSLSocket's name
        """Up to `len` bytes, or with `buffer` their number; at the end b"" or 0."""
        tls = self._need_tls()
        try:
            if buffer is None:
                return self._do(tls.read, len)
            return self._do(tls.read, len, buffer)
        except ssl.SSLZeroReturnError:
            pass
        except ssl.SSLEOFError:
            if not self.suppress_ragged_eofs:
                raise
        return b"" if buffer is None else 0

    def write(self, data: ReadableBuffer) -> int:
        """Send; bytes taken.  Repeat the call with the same data after SSLWantWriteError."""
        tls = self._need_tls()
        with self._sending:
            self._send_records()
            if self._written is None:
                self._written = self._do(self._encrypt, tls, data)
                self._send_records()
            done, self._written = self._written, None
        assert done is not None
        return done

    def _encrypt(self, tls: ssl.SSLObject, data: ReadableBuffer) -> int:
        self._written = tls.write(data)
        return self._written

    def recv(self, buflen: int = 1024, flags: int = 0) -> Any:
        """As `read`; without TLS, before the connection and after `unwrap`, as the Socket."""
        if self._tls is None:
            return self._sock.recv(buflen, flags)
        self._no_flags(flags, "recv")
        return self.read(buflen)

    def recv_into(self, buffer: WriteableBuffer, nbytes: int | None = None, flags: int = 0) -> int:
        """As `read` into `buffer`; bytes received."""
        if self._tls is None:
            return self._sock.recv_into(buffer, nbytes or 0, flags)
        self._no_flags(flags, "recv_into")
        view = memoryview(buffer).cast("B")
        nbytes = nbytes or len(view)
        return int(self.read(nbytes, view)) if nbytes else 0

    def send(self, data: ReadableBuffer, flags: int = 0) -> int:
        """As `write`; without TLS as the Socket."""
        if self._tls is None:
            return self._sock.send(data, flags)
        self._no_flags(flags, "send")
        return self.write(data)

    def sendall(self, data: ReadableBuffer, flags: int = 0) -> None:
        """Send everything."""
        view = memoryview(data).cast("B")
        done = 0
        while done < len(view):
            done += self.send(view[done:], flags)

    def sendfile(self, file: IO[bytes], offset: int = 0, count: int | None = None) -> int:
        """Send a binary file, as `Socket.sendfile`."""
        return type(self._sock).sendfile(self, file, offset, count)  # type: ignore[arg-type]

    def sendto(self, *args: Any) -> int:
        """Datagrams have no TLS.  Raises: ValueError."""
        raise ValueError("sendto not allowed on instances of TlsSocket")

    def recvfrom(self, *args: Any) -> Any:
        """Datagrams have no TLS.  Raises: ValueError."""
        raise ValueError("recvfrom not allowed on instances of TlsSocket")

    recvfrom_into = recvfrom

    def sendmsg(self, *args: Any, **kwargs: Any) -> int:
        """TLS carries no control messages.  Raises: NotImplementedError."""
        raise NotImplementedError("sendmsg not allowed on instances of TlsSocket")

    def recvmsg(self, *args: Any, **kwargs: Any) -> Any:
        """TLS carries no control messages.  Raises: NotImplementedError."""
        raise NotImplementedError("recvmsg not allowed on instances of TlsSocket")

    recvmsg_into = recvmsg

    def _no_flags(self, flags: int, name: str) -> None:
        if flags:
            raise ValueError(f"non-zero flags not allowed in calls to {name}() on {type(self)}")

    # --- life -----------------------------------------------------------------------------------

    def connect(self, address: Any) -> None:
        """Connect, then perform the handshake."""
        self._may_connect()
        self._sock.connect(address)
        self._connected()

    def connect_ex(self, address: Any) -> int:
        """`connect` that returns the errno of the connection."""
        self._may_connect()
        err = self._sock.connect_ex(address)
        if not err:
            self._connected()
        return err

    def _may_connect(self) -> None:
        if self.server_side:
            raise ValueError("can't connect in server-side mode")
        if self._tls is not None:
            raise ValueError("attempt to connect already-connected SSLSocket!")

    def accept(self) -> tuple[TlsSocket, RetAddress]:
        """The next connection, after its handshake, and its peer."""
        sock, peer = self._sock.accept()
        wrapped = self.context.wrap_socket(
            sock,  # type: ignore[arg-type]
            server_side=True,
            do_handshake_on_connect=self.do_handshake_on_connect,
            suppress_ragged_eofs=self.suppress_ragged_eofs,
        )
        return wrapped, peer  # type: ignore[return-value]

    def unwrap(self) -> Socket:
        """End TLS on the connection; returns the Socket without it."""
        self._do(self._need_tls().unwrap)
        self._tls = None
        return self._sock

    def shutdown(self, how: int) -> None:
        """Shut the connection down, without TLS's close_notify."""
        self._tls = None
        self._sock.shutdown(how)

    def dup(self) -> None:
        """Two sockets cannot share the state of TLS.  Raises: NotImplementedError."""
        raise NotImplementedError("Can't dup() TlsSocket instances")

    detach = dup

    def close(self) -> None:
        """Close; the connection remains until the files of `makefile` close."""
        self._closed = True
        if not self._io_refs:
            self._sock.close()

    def makefile(
        self,
        mode: str = "r",
        buffering: int | None = None,
        *,
        encoding: str | None = None,
        errors: str | None = None,
        newline: str | None = None,
    ) -> Any:
        """A file object over the connection, as `Socket.makefile`."""
        return open_file(self, mode, buffering, encoding, errors, newline)  # type: ignore[arg-type]

    def __repr__(self) -> str:
        return f"<TlsSocket {self._sock!r}>"
