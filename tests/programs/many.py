"""Many small programs on one host, one after the other: what remains in this process.

    python -m tests.programs.many 10000

prints, at each tenth of the way, open descriptors, memory, sockets of the host and objects of
`stack.api.programs` that are alive.
"""

from __future__ import annotations

import contextlib
import gc
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stack.api.programs import Program, spawn
from stack.host import Host
from tests.hosts import real_host
from tests.support import eventually

PORT = 99
SHELL = 'i=0; while [ $i -lt "$1" ]; do nc.openbsd -N 127.0.0.1 99; i=$((i+1)); done'
ARGS = ["sh", "-c", SHELL, "sh"]


@dataclass(frozen=True)
class Left:
    """The resources of a process."""

    descriptors: int
    sockets: int
    """On the host."""
    objects: int
    """Of the classes of stack.api.programs."""
    rss_kb: int


def left(host: Host, server: Program) -> Left:
    """This process's resources when the server waits for the next connection."""
    gc.collect()
    eventually(lambda: server.supervisor.waiting, "a server that waits")
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    rss = pages * os.sysconf("SC_PAGE_SIZE") // 1024
    with host.lock:  # to answer a call, descriptors are opened for a moment
        return Left(len(os.listdir("/proc/self/fd")), len(host.fdtable.fd), len(alive()), rss)


def alive() -> list[Any]:
    """The objects of the classes of stack.api.programs."""
    return [
        one
        for one in gc.get_objects()
        if str(type(one).__module__).startswith("stack.api.programs.")
    ]


@contextlib.contextmanager
def server(host: Host) -> Iterator[Program]:
    """A program that takes connections on `PORT`, and reads them to their end."""
    words = ["python3", "-c", SERVER]
    with spawn(host, words, stdout=subprocess.PIPE) as program:
        assert program.stdout.readline() == b"ready\n"
        try:
            yield program
        finally:
            program.kill()


SERVER = f"""
import socket
with socket.create_server(("127.0.0.1", {PORT}), backlog=64) as listener:
    print("ready", flush=True)
    while True:
        sock, _ = listener.accept()
        while sock.recv(1000):
            pass
        sock.close()
"""


def run(host: Host, count: int) -> None:
    """Start `count` programs: every second one from a shell, of which each starts a tenth."""
    each = max(count // 20, 1)
    for _ in range(count // 2 // each):
        with spawn(host, [*ARGS, str(each)], stdin=subprocess.DEVNULL) as shell:
            assert shell.wait(600) == 0
        for _ in range(each):
            words = ["nc.openbsd", "-N", "127.0.0.1", str(PORT)]
            with spawn(host, words, stdin=subprocess.DEVNULL) as program:
                assert program.wait(60) == 0


def main() -> None:
    """Start as many programs as the first argument says, and print what is left."""
    count = int(sys.argv[1])
    with real_host("solo") as host, server(host) as listening:
        began = time.monotonic()
        for part in range(11):
            if part:
                run(host, count // 10)
            seconds = time.monotonic() - began
            print(part * count // 10, left(host, listening), f"{seconds:.0f} s", flush=True)


if __name__ == "__main__":
    main()
