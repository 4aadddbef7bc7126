"""Time of a register read over vfio-user, with a client that spins and with one that sleeps.

    .venv/bin/python -m benchmarks.bench_vfio_read [--reads N] [--idle-ms MS] [--server-args "…"]

The client sends one REGION_READ of STATUS at a time, as QEMU does, and waits for its answer. A
spinning client polls its socket, so that it need not be woken; a sleeping one blocks, as QEMU's
thread does. `--idle-ms` is the pause between two reads, in which the server may go to sleep too.
The client's own two system calls are timed separately: the rest of a spinning client's read is the
server's time.
"""

from __future__ import annotations

import argparse
import shlex
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import quantiles

from e1000emu.embed.vfio_user import protocol as vu
from e1000emu.registers.regs import reg

PCI_COMMAND, PCI_BASE_ADDRESS_0 = 0x04, 0x10
READ = vu.pack(1, vu.Command.REGION_READ, vu.REGION_ACCESS.pack(reg("STATUS").offset, 0, 4))
ANSWER_BYTES = len(READ) + 4


def spin(sock: socket.socket) -> None:
    """Receive one answer by polling."""
    left = ANSWER_BYTES
    while left:
        try:
            found = sock.recv(left, socket.MSG_DONTWAIT)
        except BlockingIOError:
            continue
        left -= len(found)


def sleep(sock: socket.socket) -> None:
    """Receive one answer by a blocking read."""
    left = ANSWER_BYTES
    while left:
        left -= len(sock.recv(left))


def read_us(sock: socket.socket, take: Callable[[socket.socket], None], idle_s: float) -> float:
    """Time one read, after so long without any, us."""
    if idle_s:
        time.sleep(idle_s)
    begun = time.perf_counter_ns()
    sock.send(READ)
    take(sock)
    return (time.perf_counter_ns() - begun) / 1000


def calls_us(count: int) -> float:
    """Time the client's own system calls and Python, with an answer that is there already, us."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.send(bytes(count * ANSWER_BYTES))
        begun = time.perf_counter_ns()
        for _ in range(count):
            ours.send(READ)
            spin(ours)
        return (time.perf_counter_ns() - begun) / 1000 / count


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--reads", type=int, default=20_000, help="reads of each kind")
    parser.add_argument("--idle-ms", type=float, default=0, help="time without a read before each")
    parser.add_argument("--server-args", default="", help="more options for e1000emu vfio-user")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory, "nic")
        command = [sys.executable, "-m", "e1000emu", "vfio-user", "--socket", str(path)]
        command += ["--link", "null", *shlex.split(options.server_args)]
        server = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        try:
            while not path.exists():
                if server.poll() is not None:
                    raise SystemExit(f"bench_vfio_read: the server ended with {server.returncode}")
                time.sleep(0.01)
            measure(path, options.reads, options.idle_ms / 1000)
        finally:
            server.send_signal(signal.SIGINT)
            server.wait()


def measure(path: Path, reads: int, idle_s: float) -> None:
    """Print the median and the middle half of each kind of client."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
        while sock.connect_ex(str(path)):  # it is bound, and listens a moment later
            time.sleep(0.01)
        sock.send(vu.pack(0, vu.Command.VERSION, bytes(4) + b"{}\0"))
        sock.recv(1 << 16)
        for offset, value in ((PCI_BASE_ADDRESS_0, 0xFEBC_0000), (PCI_COMMAND, 0x0007)):
            where = vu.REGION_ACCESS.pack(offset, vu.VFIO_PCI_CONFIG_REGION_INDEX, 4)
            sock.send(vu.pack(0, vu.Command.REGION_WRITE, where + value.to_bytes(4, "little")))
            sock.recv(1 << 16)
        print(f"the client's own two calls   {calls_us(100):6.2f} us")
        for name, take in (("spinning", spin), ("sleeping", sleep)):
            times = [read_us(sock, take, idle_s) for _ in range(reads)]
            low, middle, high = quantiles(times, n=4)
            print(f"a read, the client {name}   {middle:6.2f} us ({low:.2f} to {high:.2f})")


if __name__ == "__main__":
    main()
