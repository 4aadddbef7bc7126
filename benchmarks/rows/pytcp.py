"""PyTCP as a peer: another TCP/IP stack in Python (`--peers`, where it is installed).

PyTCP allows one stack in a process, so two processes have one each, and a pair of local sockets is
their wire. The CPU time is that of both. Only the exchange of single datagrams is measured: PyTCP's
threads queue every packet, so a sender that does not wait would measure how the queues grow.
"""

from __future__ import annotations

import contextlib
import importlib.util
import socket
import subprocess
import sys
from collections.abc import Iterator

from . import Unavailable, Work, row, size_bytes, udp
from .peer import SOURCES

__all__ = ["ROWS"]


@contextlib.contextmanager
def _end(wire: socket.socket, kind: str, size: int) -> Iterator[subprocess.Popen[str]]:
    """A process with one end; -O leaves out its logging, as its authors do."""
    fd = wire.fileno()
    words = [sys.executable, "-O", str(SOURCES / "pytcp_end.py"), str(fd), kind, str(size)]
    child = subprocess.Popen(
        words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, pass_fds=(fd,)
    )
    assert child.stdin is not None
    assert child.stdout is not None
    try:
        if child.stdout.readline() != "ready\n":
            raise Unavailable("PyTCP does not start")
        yield child
    finally:
        with contextlib.suppress(BrokenPipeError):
            child.stdin.close()
        child.stdout.close()
        child.wait()


def _used(child: subprocess.Popen[str], trips: int) -> float:
    """Let it make so many round trips; return its CPU seconds so far."""
    assert child.stdin is not None
    assert child.stdout is not None
    child.stdin.write(f"{trips}\n")
    child.stdin.flush()
    answer = child.stdout.readline()
    if not answer:
        raise Unavailable("PyTCP's end has stopped")
    return float(answer)


@row(
    "stack__peer__udp_trip_pytcp",
    group="udp_trip",
    unit="k/s",
    sizes=udp.ONE,
    peer="PyTCP",
    extra=True,
)
def trip(size: str) -> Iterator[Work]:
    """Request and answer between two PyTCP stacks."""
    if importlib.util.find_spec("pytcp") is None:
        raise Unavailable("PyTCP is not installed; pip install PyTCP")
    n = size_bytes(size)
    near, far = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with near, far, _end(near, "CLIENT", n) as client, _end(far, "SERVER", n) as server:
        _used(client, 5)  # ARP

        def timed(loops: int) -> float:
            before = _used(client, 0) + _used(server, 0)
            return _used(client, loops * udp.TRIPS) + _used(server, 0) - before

        yield Work(lambda: timed(1), udp.TRIPS, timed=timed)


ROWS = (trip,)
