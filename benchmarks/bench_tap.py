"""TCP between our stack and the kernel through a TAP, with and without super-packets.

    sudo .venv/bin/python -m benchmarks.bench_tap [--rounds N] [--mib N]

Runs in a network namespace of its own; both settings and both directions interleaved, medians.
Gbit per CPU second of the process: our stack, the NIC, the TAP's system calls with the kernel's TCP
inside them, and the kernel's socket at the other end. System calls are those on the TAP.
"""

from __future__ import annotations

import argparse
import os
import socket
import subprocess
import sys
import threading
import time
from contextlib import ExitStack
from statistics import median
from typing import Any

from benchmarks.rows.ends import namespace

LINUX, OURS, PORT = "10.9.0.1", "10.9.0.2", 27777
BLOCK = 1 << 20


class Wire:
    """Our host on a NIC on a TAP, and the kernel behind it."""

    def __init__(self, offload: bool) -> None:
        from e1000emu.clock import RealClock
        from e1000emu.lab import add_nic
        from e1000emu.links import Tap
        from stack.host import Host

        self.clock = RealClock()
        self.tap = Tap("bench0", self.clock, offload=offload)
        for words in (["addr", "add", f"{LINUX}/24", "dev"], ["link", "set", "up", "dev"]):
            subprocess.run(["ip", *words, self.tap.name], check=True)
        self.clock.start()
        self.host = Host(name="ours", clock=self.clock, seed=1)
        self.nic = add_nic(self.host, self.tap, addr=f"{OURS}/24")

    def close(self) -> None:
        """Take it down; the TAP goes with it."""
        self.host.close()
        self.clock.stop()
        self.tap.close()
        self.clock.close()


def measure(offload: bool, to_kernel: bool, total: int) -> tuple[float, float, float]:
    """Move `total` bytes; return Gbit per CPU second, Gbit per second, system calls per MB."""
    wire = Wire(offload)
    try:
        with socket.create_server((LINUX, PORT)) as listener:
            ours: Any = wire.host.socket(socket.AF_INET, socket.SOCK_STREAM)
            ours.settimeout(60)
            ours.connect((LINUX, PORT))
            theirs, _ = listener.accept()
        with theirs:
            theirs.settimeout(60)
            sender, receiver = (ours, theirs) if to_kernel else (theirs, ours)
            block = bytearray(BLOCK)

            def send() -> None:
                for _ in range(total // BLOCK):
                    sender.sendall(block)

            queue = wire.tap.queue
            calls = queue.reads + queue.writes
            cpu, wall = time.process_time(), time.perf_counter()
            thread = threading.Thread(target=send)
            thread.start()
            buffer, got = bytearray(BLOCK), 0
            while got < total:
                n = receiver.recv_into(buffer)
                if not n:
                    raise RuntimeError("bench_tap: the connection ended early")
                got += n
            cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
            thread.join()
            calls = queue.reads + queue.writes - calls
        ours.close()
    finally:
        wire.close()
    return got * 8e-9 / cpu, got * 8e-9 / wall, calls / (got / 1e6)


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=5, help="transfers of each kind")
    parser.add_argument("--mib", type=int, default=256, help="payload of one transfer")
    args = parser.parse_args()
    if os.geteuid():
        sys.exit("bench_tap: needs root, for a namespace and a TAP device")
    found: dict[tuple[bool, bool], list[tuple[float, float, float]]] = {}
    with ExitStack() as stack:
        stack.enter_context(namespace(stack, f"bench-tap-{os.getpid()}"))
        for _ in range(args.rounds):
            for to_kernel in (True, False):
                for offload in (False, True):
                    got = measure(offload, to_kernel, args.mib << 20)
                    found.setdefault((to_kernel, offload), []).append(got)
    print(f"{'direction':12} {'frames':8} {'Gbit/cpu-s':>10} {'Gbit/s':>8} {'calls/MB':>9}")
    for to_kernel in (True, False):
        rows = [[median(c) for c in zip(*found[to_kernel, o], strict=True)] for o in (False, True)]
        for name, row in zip(("plain", "offload"), rows, strict=True):
            where = "to kernel" if to_kernel else "from kernel"
            print(f"{where:12} {name:8} {row[0]:10.2f} {row[1]:8.2f} {row[2]:9.1f}")
        print(f"{'':12} {'ratio':8} {rows[1][0] / rows[0][0]:10.2f} {rows[1][1] / rows[0][1]:8.2f}")


if __name__ == "__main__":
    main()
