"""QEMU's socket netdevs: frames of a machine in QEMU, without privileges.

`QemuStream` speaks `-netdev stream` (and the older `-netdev socket`): each frame after its length
as 4 bytes, big endian. `QemuDgram` speaks `-netdev dgram`: one frame per datagram. Both need QEMU
7.2 or newer, and a clock that can wait for file descriptors; a `VirtualClock` polls the socket
every `poll_ns` instead.
"""

from __future__ import annotations

import errno
import os
import socket
import stat
from abc import abstractmethod
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol

from e1000emu.errors import LinkError
from e1000emu.links import pool
from e1000emu.links.base import ReadingLink, optional_rate
from e1000emu.ports import Clock
from fastpath.base.batch import FB_ALIGN_ERR, FB_BAD_CRC, FB_HAS_FCS, FB_SYMBOL_ERR
from fastpath.errors import check_clock, check_type
from fastpath.nic.linkops import dgram_read, dgram_write

if TYPE_CHECKING:
    from fastpath.base.batch import FrameBatch

MAX_FRAME_BYTES = 4096 + 65536
"""Longest frame of QEMU (NET_BUFSIZE); a longer one means that framing is lost."""
MIN_FRAME_BYTES = 60
BATCH_FRAMES = 256
READ_BYTES = 1 << 18
BACKLOG_BYTES = 1 << 18
"""`tx_room` is 0 while more than this is queued for the socket."""
SOCKET_BYTES = 1 << 20
RETRY_NS = 200_000
FB_ANY_ERR = FB_BAD_CRC | FB_ALIGN_ERR | FB_SYMBOL_ERR


class PollClock(Clock, Protocol):
    """A clock with background timers, as all of `e1000emu.clock`."""

    def call_at(self, when_ns: int, fn: Callable[[], None], *, background: bool = False) -> Any:
        """Run `fn` at `when_ns`; a background call does not keep a waiter alive."""


class _SocketLink(ReadingLink):
    """Common part of both framings: watching or polling, push-back, retries, the end."""

    def __init__(self, clock: PollClock, poll_ns: int | None) -> None:
        super().__init__(clock)
        poll_ns = optional_rate(self, "poll_ns", poll_ns)
        self._timers = clock
        self._poll_ns = poll_ns
        self._timer: Any = None
        self._retrying = False
        self._watched: dict[int, None] = {}

    # --- framing-specific part --------------------------------------------------------------------

    @abstractmethod
    def fileno(self) -> int:
        """Return the descriptor that becomes readable, -1 when closed."""

    @abstractmethod
    def _fill(self, batch: FrameBatch) -> bool:
        """Append received frames; returns whether more may be pending."""

    @abstractmethod
    def _flush(self) -> None:
        """Write queued data, as far as the socket accepts it."""

    @abstractmethod
    def _waiting(self) -> bool:
        """Whether data is queued for writing."""

    # --- readiness --------------------------------------------------------------------------------

    def _resume(self) -> None:
        """Start watching the socket."""
        if self.port is None or self._batch is not None or self.fileno() < 0:
            return
        if self._poll_ns is not None:
            if self._timer is None:
                self._timer = self._timers.call_at(
                    self.clock.now_ns() + self._poll_ns, self._polled, background=True
                )
            return
        fd = self.fileno()
        if fd in self._watched:
            return
        self._pause()
        try:
            self.clock.add_reader(fd, self.poll)
        except RuntimeError as error:
            raise LinkError(f"{self!r}: {error}; or pass poll_ns=50_000") from error
        self._watched[fd] = None

    def _pause(self) -> None:
        for fd in self._watched:
            self.clock.remove_reader(fd)
        self._watched.clear()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _polled(self) -> None:
        self._timer = None
        self.poll()
        if self._waiting():
            self._write()
        self._resume()

    def poll(self) -> None:
        """Read at most one batch of received frames, and pass it to the port."""
        if self.port is None or self._batch is not None or self.fileno() < 0:
            return
        batch = pool.get()
        more = self._fill(batch)
        frames = len(batch)
        if not frames:
            pool.put(batch)
        else:
            self.stats.rx_frames += frames
            self.stats.rx_bytes += batch.nbytes
            self._batch, self._at = batch, 0
            self._give()
        if more and self._batch is None:
            self.clock.call_soon(self.poll)

    def _given(self) -> None:
        self._give()
        if self._batch is None:
            self.poll()  # frames already read do not make the descriptor readable

    def rx_ready(self) -> None:
        """The port has room again."""
        if not self._held:
            return
        self._held = False
        if self._batch is not None:
            self.clock.call_soon(self._given)

    def _write(self) -> None:
        """Write, and retry later if the socket is full."""
        full = self.tx_room() == 0
        self._flush()
        if self._waiting() and not self._retrying:
            self._retrying = True
            self.clock.call_at(self.clock.now_ns() + RETRY_NS, self._retry)
        if full and self.port is not None and self.tx_room():
            self.port.tx_ready()

    def _retry(self) -> None:
        self._retrying = False
        if self._waiting():
            self._write()


def _check_socket(where: str, name: str, sock: object) -> None:
    check_type(where, name, sock, socket.socket, "a socket of the standard library")


def _path(where: str, name: str, path: str | os.PathLike[str]) -> str:
    check_type(where, name, path, (str, os.PathLike), "a path")
    return os.fspath(path)


class QemuStream(_SocketLink):
    """A stream socket to QEMU: `QemuStream.listen(PATH, clock)`, or `.connect(PATH, clock)`.

    With a connected socket, it takes ownership of it (`addr.type=fd` on QEMU's side). The
    carrier is the connection; a listening link waits for the next one when QEMU ends.
    """

    def __init__(
        self,
        sock: socket.socket | None,
        clock: PollClock,
        *,
        poll_ns: int | None = None,
        listener: socket.socket | None = None,
        path: str = "",
    ) -> None:
        super().__init__(clock, poll_ns)
        for name, given in (("sock", sock), ("listener", listener)):
            if given is not None:
                _check_socket("QemuStream", name, given)
        check_type("QemuStream", "path", path, str, "text")
        self.path = path
        self._listener = listener
        self._sock: socket.socket | None = None
        self._in = bytearray()
        self._out = bytearray()
        self._scratch = bytearray(READ_BYTES)
        if listener is not None:
            listener.setblocking(False)
        if sock is not None:
            self._connected(sock)

    @classmethod
    def connect(
        cls, path: str | os.PathLike[str], clock: PollClock, *, poll_ns: int | None = None
    ) -> QemuStream:
        """Connect to a QEMU that listens at `path`.

        Raises:
            LinkError: no listener; the text has QEMU's option.
        """
        name = _path("QemuStream.connect", "path", path)
        check_clock("QemuStream.connect", clock)
        sock = _unix(name, socket.SOCK_STREAM, "stream")
        try:
            sock.connect(name)
        except OSError as error:
            sock.close()
            raise LinkError(
                f"stream {name!r}: {error.strerror}; first start QEMU with -netdev stream,"
                f"id=n0,server=on,addr.type=unix,addr.path={name}"
            ) from None
        return cls(sock, clock, poll_ns=poll_ns, path=name)

    @classmethod
    def listen(
        cls, path: str | os.PathLike[str], clock: PollClock, *, poll_ns: int | None = None
    ) -> QemuStream:
        """Wait for QEMU at `path`: `-netdev stream,id=n0,addr.type=unix,addr.path=PATH`.

        Raises:
            LinkError: the path cannot be used.
        """
        name = _path("QemuStream.listen", "path", path)
        check_clock("QemuStream.listen", clock)
        listener = _bound(name, socket.SOCK_STREAM, "stream")
        listener.listen(1)
        return cls(None, clock, poll_ns=poll_ns, listener=listener, path=name)

    def __repr__(self) -> str:
        return f"QemuStream({self.path or self.fileno()!r}, carrier={self._carrier})"

    def fileno(self) -> int:
        """Return the descriptor of the connection, else of the listener, -1 when closed."""
        sock = self._sock or self._listener
        return -1 if sock is None else sock.fileno()

    def _connected(self, sock: socket.socket) -> None:
        sock.setblocking(False)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SOCKET_BYTES)
        self._sock = sock
        self._set_carrier(True)

    def _disconnected(self, reason: str, count: int = 1) -> None:
        """Drop the connection; a listener accepts the next."""
        self._pause()
        if self._sock is not None:
            self._sock.close()
            self._sock = None
        self.stats.drop(reason, count)
        self._in.clear()
        self._out.clear()
        self._set_carrier(False)
        self._resume()

    def _fill(self, batch: FrameBatch) -> bool:
        if self._sock is None:
            return self._accept()
        if not self._parse(batch):
            return False
        if len(batch) >= BATCH_FRAMES:
            return True
        try:
            got = self._sock.recv_into(self._scratch)
        except (BlockingIOError, InterruptedError):
            return False
        except OSError as error:
            self._disconnected(f"read {errno.errorcode.get(error.errno or 0, 'error')}")
            return False
        if not got:
            self._disconnected("half a frame", 1 if self._in else 0)
            return False
        self._in += memoryview(self._scratch)[:got]
        return self._parse(batch) and (got == READ_BYTES or len(batch) >= BATCH_FRAMES)

    def _accept(self) -> bool:
        if self._listener is None:
            return False
        try:
            sock, _ = self._listener.accept()
        except (BlockingIOError, InterruptedError, ConnectionAbortedError):
            return False
        self._pause()
        self._connected(sock)
        self._resume()
        return True

    def _parse(self, batch: FrameBatch) -> bool:
        """Move whole frames from `_in` to `batch`; False if the connection was dropped."""
        data = self._in
        at, end = 0, len(data)
        room = BATCH_FRAMES - len(batch)
        bad = False
        with memoryview(data) as view:
            while room and end - at >= 4:
                size = int.from_bytes(view[at : at + 4], "big")
                if not 0 < size <= MAX_FRAME_BYTES:
                    bad = True
                    break
                if end - at < 4 + size:
                    break
                frame = view[at + 4 : at + 4 + size]
                if size < MIN_FRAME_BYTES:
                    batch.append(bytes(frame).ljust(MIN_FRAME_BYTES, b"\0"))
                else:
                    batch.append(frame)
                frame.release()
                at += 4 + size
                room -= 1
        del data[:at]
        if bad:
            self._disconnected("bad length")
        return not bad

    def tx_room(self) -> int:
        """Return how many frames `transmit` accepts now."""
        return 0 if len(self._out) > BACKLOG_BYTES else super().tx_room()

    def transmit(self, batch: FrameBatch) -> None:
        """Write the frames, each after its length. Takes ownership of `batch`."""
        if self._sock is None:
            self.stats.drop("no peer", len(batch))
        else:
            parts = []
            for i, data in enumerate(batch):
                flags = batch.flags(i)
                if flags & FB_HAS_FCS:
                    data = data[:-4]
                if flags & FB_ANY_ERR or not data:
                    self.stats.drop("bad frame", 1)
                    continue
                parts.append(len(data).to_bytes(4, "big"))
                parts.append(data)
            self.stats.tx_frames += len(parts) // 2
            self.stats.tx_bytes += sum(map(len, parts[1::2]))
            self._out += b"".join(parts)
        pool.put(batch)
        if self._out:
            self._write()

    def _waiting(self) -> bool:
        return bool(self._out)

    def _flush(self) -> None:
        while self._out and self._sock is not None:
            try:
                sent = self._sock.send(self._out)
            except (BlockingIOError, InterruptedError):
                return
            except OSError as error:
                self._disconnected(f"write {errno.errorcode.get(error.errno or 0, 'error')}")
                return
            del self._out[:sent]

    def close(self) -> None:
        """Close the connection and remove the path."""
        self.detach()
        if self._sock is not None:
            self._sock.close()
            self._sock = None
        if self._listener is not None:
            self._listener.close()
            self._listener = None
            _unlink(self.path)
        self._carrier = False


class QemuDgram(_SocketLink):
    """A datagram socket to QEMU: `QemuDgram.open(LOCAL, REMOTE, clock)`.

    With a connected socket, it takes ownership of it (`local.type=fd` on QEMU's side). There
    is no connection, so the carrier is always up; frames sent while QEMU is away are counted as
    dropped.
    """

    def __init__(
        self,
        sock: socket.socket,
        clock: PollClock,
        *,
        poll_ns: int | None = None,
        local: str = "",
        remote: str = "",
    ) -> None:
        super().__init__(clock, poll_ns)
        _check_socket("QemuDgram", "sock", sock)
        check_type("QemuDgram", "local", local, str, "text")
        check_type("QemuDgram", "remote", remote, str, "text")
        self.local, self.remote = local, remote
        self._sock: socket.socket | None = sock
        sock.setblocking(False)
        # A bound socket that is also connected would reject datagrams of a restarted QEMU.
        self._sender: socket.socket | None = None if remote else sock
        self._unsent: list[list[Any]] = []  # [batch, index of its next frame]
        self._unsent_frames = 0
        self._carrier = True

    @classmethod
    def open(
        cls,
        local: str | os.PathLike[str],
        remote: str | os.PathLike[str],
        clock: PollClock,
        *,
        poll_ns: int | None = None,
    ) -> QemuDgram:
        """Receive at `local` and send to `remote`; QEMU has them reversed.

        `-netdev dgram,id=n0,local.type=unix,local.path=REMOTE,remote.type=unix,remote.path=LOCAL`

        Raises:
            LinkError: `local` cannot be used.
        """
        here = _path("QemuDgram.open", "local", local)
        there = _path("QemuDgram.open", "remote", remote)
        check_clock("QemuDgram.open", clock)
        if not there:
            raise LinkError("dgram: no remote path; give the one of QEMU's local.path")
        sock = _bound(here, socket.SOCK_DGRAM, "dgram")
        return cls(sock, clock, poll_ns=poll_ns, local=here, remote=there)

    def __repr__(self) -> str:
        return f"QemuDgram({self.local or self.fileno()!r}, {self.remote!r})"

    def fileno(self) -> int:
        """Return the descriptor that receives, -1 when closed."""
        return -1 if self._sock is None else self._sock.fileno()

    def _fill(self, batch: FrameBatch) -> bool:
        frames, error = dgram_read(self.fileno(), batch, BATCH_FRAMES, MIN_FRAME_BYTES)
        if error not in (0, errno.EAGAIN):
            self.stats.drop(f"read {errno.errorcode.get(error, error)}", 1)
        return frames == BATCH_FRAMES

    def tx_room(self) -> int:
        """Return how many frames `transmit` accepts now."""
        return max(0, super().tx_room() - self._unsent_frames)

    def transmit(self, batch: FrameBatch) -> None:
        """Send the frames, each in its datagram. Takes ownership of `batch`."""
        self.stats.tx_frames += len(batch)
        self.stats.tx_bytes += batch.nbytes
        self._unsent.append([batch, 0])
        self._unsent_frames += len(batch)
        if len(self._unsent) == 1:
            self._write()

    def _waiting(self) -> bool:
        return bool(self._unsent)

    def _flush(self) -> None:
        while self._unsent:
            entry = self._unsent[0]
            batch, start = entry
            sender = self._connected()
            if sender is None:
                end, dropped, error = len(batch), len(batch) - start, errno.ENOTCONN
            else:
                end, dropped, error = dgram_write(sender.fileno(), batch, start)
            reason = "no peer" if error in _AWAY else errno.errorcode.get(error, "bad frame")
            self.stats.drop(reason, dropped)
            if error in _AWAY and self.remote and self._sender is not None:
                self._sender.close()
                self._sender = None
            self._unsent_frames -= end - start
            if end < len(batch):
                entry[1] = end
                return
            self._unsent.pop(0)
            pool.put(batch)

    def _connected(self) -> socket.socket | None:
        """Return the socket that sends; None while `remote` has no listener."""
        if self._sender is None and self.remote and self._sock is not None:
            sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
            sock.setblocking(False)
            try:
                sock.connect(self.remote)
            except OSError:
                sock.close()
                return None
            self._sender = sock
        return self._sender

    def close(self) -> None:
        """Close the sockets and remove the path."""
        self.detach()
        for sock in (self._sock, self._sender):
            if sock is not None:
                sock.close()
        if self._sock is not None and self.local:
            _unlink(self.local)
        self._sock = self._sender = None
        self._carrier = False


_AWAY = (errno.ECONNREFUSED, errno.ENOTCONN, errno.ECONNRESET, errno.EPIPE, errno.ENOENT)


def _unix(path: str, kind: int, what: str) -> socket.socket:
    if not path or len(os.fsencode(path)) > 107:
        raise LinkError(f"{what} {path!r}: a UNIX socket's path has 1 to 107 bytes; choose another")
    return socket.socket(socket.AF_UNIX, kind)


def _bound(path: str, kind: int, what: str) -> socket.socket:
    """Return a socket bound to `path`. Raises LinkError with the remedy."""
    sock = _unix(path, kind, what)
    try:
        sock.bind(path)
    except OSError as error:
        sock.close()
        remedies = {
            errno.EADDRINUSE: "exists; stop the program that uses it, or remove it",
            errno.ENOENT: "its directory does not exist; make it first",
            errno.EACCES: "not permitted; choose a directory of your own",
        }
        text = remedies.get(error.errno or 0, str(error.strerror))
        raise LinkError(f"{what} {path!r}: {text}") from None
    return sock


def _unlink(path: str) -> None:
    """Remove our socket, unless already removed."""
    try:
        if stat.S_ISSOCK(os.lstat(path).st_mode):
            os.unlink(path)
    except OSError:
        return
