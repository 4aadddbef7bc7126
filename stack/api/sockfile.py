"""`Socket.makefile`: file objects over a connection, as in the standard library's socket.py."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer, WriteableBuffer

    from stack.api.socket import Socket


class SocketIO(io.RawIOBase):
    """The raw file of `Socket.makefile`."""

    def __init__(self, sock: Socket, reading: bool, writing: bool) -> None:
        super().__init__()
        self._sock: Socket | None = sock
        self._reading = reading
        self._writing = writing
        self._timed_out = False
        sock._io_refs += 1

    @property
    def mode(self) -> str:
        """ "rb", "wb" or "rwb"."""
        return ("r" if self._reading else "") + ("w" if self._writing else "") + "b"

    @property
    def name(self) -> int:
        """The descriptor, -1 when closed.

        Raises AttributeError, as a file without a name, if the clock allows no waiting on one.
        """
        try:
            return -1 if self._sock is None else self._sock.fileno()
        except RuntimeError as exc:
            raise AttributeError(str(exc)) from exc

    def _check(self) -> None:
        """Raises: ValueError: closed."""
        if self.closed:
            raise ValueError("I/O operation on closed socket.")

    def readable(self) -> bool:
        self._check()
        return self._reading

    def writable(self) -> bool:
        self._check()
        return self._writing

    def seekable(self) -> bool:
        self._check()
        return False

    def readinto(self, buffer: WriteableBuffer) -> int | None:
        self._check()
        assert self._sock is not None
        if not self._reading:
            raise io.UnsupportedOperation("not readable")
        if self._timed_out:  # data read before the timeout is lost
            raise OSError("cannot read from timed out object")
        try:
            return self._sock.recv_into(buffer)
        except BlockingIOError:
            return None
        except TimeoutError:
            self._timed_out = True
            raise

    def write(self, data: ReadableBuffer) -> int | None:
        self._check()
        assert self._sock is not None
        if not self._writing:
            raise io.UnsupportedOperation("not writable")
        try:
            return self._sock.send(data)
        except BlockingIOError:
            return None

    def fileno(self) -> int:
        self._check()
        assert self._sock is not None
        try:
            return self._sock.fileno()
        except RuntimeError as exc:  # this clock allows no waiting on it
            raise io.UnsupportedOperation(str(exc)) from exc

    def close(self) -> None:
        if not self.closed:
            super().close()
            sock, self._sock = self._sock, None
            if sock is not None:
                sock._io_refs -= 1
                if sock._closed:
                    sock.close()


def open_file(
    sock: Socket,
    mode: str,
    buffering: int | None,
    encoding: str | None,
    errors: str | None,
    newline: str | None,
) -> Any:
    """What `Socket.makefile` returns: raw, buffered or text, as io.open chooses.

    Raises: ValueError: a mode other than of r, w and b; unbuffered text.
    """
    if not set(mode) <= {"r", "w", "b"}:
        raise ValueError(f"invalid mode {mode!r} (only r, w, b allowed)")
    reading = "r" in mode or "w" not in mode
    writing = "w" in mode
    if buffering is None or buffering < 0:
        buffering = io.DEFAULT_BUFFER_SIZE
    if buffering == 0 and "b" not in mode:
        raise ValueError("unbuffered streams must be binary")
    raw = SocketIO(sock, reading, writing)
    if buffering == 0:
        return raw
    buffer: Any  # of three classes
    if reading and writing:
        buffer = io.BufferedRWPair(raw, raw, buffering)
    elif reading:
        buffer = io.BufferedReader(raw, buffering)
    else:
        buffer = io.BufferedWriter(raw, buffering)
    if "b" in mode:
        return buffer
    text = io.TextIOWrapper(buffer, encoding, errors, newline)
    text.mode = mode  # type: ignore[misc]
    return text
