"""The end of a connection, so that a client outlives its server.

A UNIX socket that is closed with unread bytes in it gives its peer ECONNRESET instead of the end of
the stream (Linux net/unix/af_unix.c, unix_release_sock).  QEMU's vfio-user client survives an end
of the stream: reads of the device give all ones, and the guest runs on. It aborts on a reset (11.1:
`error_setv: Assertion '*errp == NULL' failed`). During traffic there are always unread bytes.
`hang_up` ends a connection so that the client survives. A `Caretaker`, a small process that holds a
second descriptor of each connection, does so for a server that is killed.

This file is also that process: run by its path, with the standard library only.
"""

from __future__ import annotations

import contextlib
import os
import select
import socket
import subprocess
import sys

HOLD = b"hold"
END_TIMEOUT_S = 10.0
READ_BYTES = 1 << 16


def hang_up(sock: socket.socket) -> None:
    """Close `sock`; the other side reads the sent data, then the end of the stream."""
    with contextlib.suppress(OSError):
        # no more data can be received, so the queue stays empty
        sock.shutdown(socket.SHUT_RDWR)
        sock.setblocking(False)
        while sock.recv(READ_BYTES):
            pass
    sock.close()


class Caretaker:
    """A process that closes connections if this process ends without doing so.

    Raises: OSError when it cannot be started.
    """

    def __init__(self) -> None:
        self._sock, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        try:
            # In a session of its own: a Ctrl-C that ends us must not end it first.
            self._process = subprocess.Popen(
                [sys.executable, "-I", "-S", os.path.abspath(__file__), str(theirs.fileno())],
                pass_fds=(theirs.fileno(),),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
            )
        except BaseException:
            self._sock.close()
            raise
        finally:
            theirs.close()
        self._sock.setblocking(False)

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    def hold(self, sock: socket.socket) -> None:
        """Give it a second descriptor of a connection; it closes that after the connection."""
        # A caretaker that was killed is missed only if we are, too.
        with contextlib.suppress(OSError):
            socket.send_fds(self._sock, [HOLD], [sock.fileno()])

    def close(self) -> None:
        """Let it close its connections and exit; safe to call twice."""
        if self._sock.fileno() < 0:
            return
        self._sock.close()
        try:
            self._process.wait(END_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def __enter__(self) -> Caretaker:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


def main(descriptor: int) -> None:
    """Hold descriptors from `descriptor` until its other end closes; then close all."""
    orders = socket.socket(fileno=descriptor)
    held: dict[int, socket.socket] = {}
    poll = select.poll()
    poll.register(orders, select.POLLIN)
    while True:
        for fd, _ in poll.poll():
            if fd != orders.fileno():
                poll.unregister(fd)
                hang_up(held.pop(fd))
                continue
            data, fds, _, _ = socket.recv_fds(orders, len(HOLD), 4)
            if not data:
                for sock in held.values():
                    hang_up(sock)
                return
            for new in fds:
                held[new] = socket.socket(fileno=new)
                poll.register(new, 0)  # POLLHUP is always reported


if __name__ == "__main__":
    main(int(sys.argv[1]))
