"""A host of ours on a TAP beside a Linux host in the same place.

    sudo .venv/bin/python -m benchmarks.bench_tap_host [--rounds N] [--seconds S] [--only NAME,...]

The client is a network namespace with two TAP devices. Behind the first is `e1000emu up`. Behind
the second is another namespace with the same services on the kernel's stack (`tap_services.py`),
joined by a pump in C that copies frames between the two TAPs (`peers/tap_pump.c`). In both cases a
packet leaves the client by the same queue, super-packets included, and one process reads it and
writes the answer into the same TAP. Only the answering stack differs. A veth pair would not
compare: no packet would leave the kernel. `--veth` measures it too, to show the cost of a TAP.

The same client code does every operation on ours and on Linux in turn; shown are the median, least
and most of the rounds. A rate counts operations per second; `cpu` is the CPU time of the host under
test (our process; the pump and the server) per operation, us.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import re
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

from benchmarks.rows.ends import Namespace, namespace
from e1000emu.compiler import c_compiler

HERE = Path(__file__).resolve().parent
TICK_S = 1 / os.sysconf("SC_CLK_TCK")
BLOCK = 1 << 18
PLAIN = ["--impair", "delay=0s"]
"""Options for a link between NIC and TAP, which then carries single frames."""
SERVICES = "echo:7,discard:9,chargen:19"


def up(place: Namespace, device: str, addr: str) -> None:
    """Bring a device of a namespace up, silent until it is spoken to."""
    knob = f"/proc/sys/net/ipv6/conf/{device}/disable_ipv6"
    run(place, "sh", "-c", f"[ ! -e {knob} ] || echo 1 >{knob}")
    place.ip(["addr", "add", addr, "dev", device], ["link", "set", "up", "dev", device])


def run(place: Namespace, *words: str) -> None:
    """Run a program in a namespace."""
    words = ("ip", "netns", "exec", place.name, *words)
    subprocess.run(words, check=True, capture_output=True)


def start(place: Namespace, *words: str) -> subprocess.Popen[str]:
    """Start a program in a namespace and wait for its first line."""
    words = ("nsenter", f"--net=/run/netns/{place.name}", *words)
    made = subprocess.Popen(words, stdout=subprocess.PIPE, text=True, cwd=HERE.parent)
    assert made.stdout is not None
    if not made.stdout.readline():
        raise SystemExit(f"bench_tap_host: {words[2:]} ended with {made.wait()}")
    return made


@dataclass
class Host:
    """The address and the processes of a host under test."""

    name: str
    addr: str
    device: str
    pids: list[int]

    def cpu_s(self) -> float:
        """CPU time of its processes so far."""
        total = 0
        for pid in self.pids:
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            total += int(fields[11]) + int(fields[12])
        return total * TICK_S

    def dropped(self) -> int:
        """Packets that the client's TAP had no room for."""
        # /proc/net/dev: eight columns of what was received, then bytes, packets, errs and drop
        found = re.search(rf"{self.device}:(.*)", Path("/proc/self/net/dev").read_text())
        assert found is not None
        return int(found[1].split()[11])


# --- operations: each returns count and time -----------------------------------------------


def download(addr: str, seconds: float) -> tuple[float, float]:
    """Gbit that the host sends."""
    buffer = memoryview(bytearray(4 * BLOCK))
    with socket.create_connection((addr, 19), timeout=20) as sock:
        begin = time.perf_counter()
        got = 0
        while (now := time.perf_counter()) < begin + seconds:
            got += sock.recv_into(buffer)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, bytes([1, 0, 0, 0] + [0] * 4))
    return got * 8e-9, now - begin


def upload(addr: str, seconds: float) -> tuple[float, float]:
    """Gbit that the host receives, to its end of file."""
    block = bytes(BLOCK)
    with socket.create_connection((addr, 9), timeout=20) as sock:
        begin = time.perf_counter()
        sent = 0
        while time.perf_counter() < begin + seconds:
            sock.sendall(block)
            sent += BLOCK
        sock.shutdown(socket.SHUT_WR)
        sock.recv(1)
    return sent * 8e-9, time.perf_counter() - begin


def flood(addr: str, seconds: float) -> tuple[float, float]:
    """Answered echo requests of `ping -f`: the next as soon as the last is answered."""
    words = ["ping", "-f", "-q", "-w", str(max(1, round(seconds))), addr]
    text = subprocess.run(words, check=False, capture_output=True, text=True).stdout
    found = re.search(r"(\d+) received,.* time (\d+)ms", text)
    assert found is not None, text
    return int(found[1]), int(found[2]) / 1e3


def connections(addr: str, seconds: float) -> tuple[float, float]:
    """Connections: connect, our FIN, the host's FIN, close."""
    begin = time.perf_counter()
    done = 0
    while (now := time.perf_counter()) < begin + seconds:
        with socket.create_connection((addr, 7), timeout=20) as sock:
            sock.shutdown(socket.SHUT_WR)
            sock.recv(1)
        done += 1
    return done, now - begin


def round_trips(addr: str, seconds: float) -> tuple[float, float]:
    """Round trips of 64 bytes on one connection."""
    data = bytes(64)
    with socket.create_connection((addr, 7), timeout=20) as sock:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        begin = time.perf_counter()
        done = 0
        while (now := time.perf_counter()) < begin + seconds:
            sock.sendall(data)
            left = 64
            while left:
                left -= len(sock.recv(left))
            done += 1
    return done, now - begin


OPERATIONS: dict[str, tuple[Callable[[str, float], tuple[float, float]], str]] = {
    "download": (download, "Gbit/s"),
    "upload": (upload, "Gbit/s"),
    "ping": (flood, "1/s"),
    "connections": (connections, "1/s"),
    "round-trips": (round_trips, "1/s"),
}


@dataclass
class Found:
    """The results of one operation on one host, by round."""

    rates: list[float] = field(default_factory=list)
    cpu_us: list[float] = field(default_factory=list)
    dropped: list[int] = field(default_factory=list)


# --- the set-up -----------------------------------------------------------------------------------


def compiled(directory: str) -> str:
    """The pump, compiled."""
    out = f"{directory}/tap_pump"
    source = str(HERE / "peers/tap_pump.c")
    subprocess.run([*c_compiler(), "-O2", "-o", out, source], check=True)
    return out


@contextlib.contextmanager
def reached(python: list[str], options: list[str], veth: bool, plain: bool) -> Iterator[list[Host]]:
    """Enter the client's namespace; the hosts that it reaches. `options` are of `e1000emu up`."""
    with contextlib.ExitStack() as stack:
        directory = stack.enter_context(tempfile.TemporaryDirectory())
        client = namespace(stack, f"bth{os.getpid()}c")
        # Otherwise 28,000 closed connections hold all ports for a minute, and the search for a free
        # one would be measured.
        run(client, "sysctl", "-qw", "net.ipv4.tcp_max_tw_buckets=0")

        def started(where: Namespace, *words: str) -> int:
            process = start(where, *words)
            stack.callback(process.wait)
            stack.callback(process.terminate)
            return process.pid

        def linux_host(name: str, addr: str) -> tuple[Namespace, list[str]]:
            space = namespace(stack, f"bth{os.getpid()}{name}")
            return space, [sys.executable, "-m", "benchmarks.tap_services", addr]

        pid = started(
            client, *python, "-m", "e1000emu", "up", "--link", "tap:bth0", "--addr",
            "10.98.0.2/24", "--serve", SERVICES, "--json", *options,
        )  # fmt: skip
        up(client, "bth0", "10.98.0.1/24")
        hosts = [Host("ours", "10.98.0.2", "bth0", [pid])]

        server, words = linux_host("s", "10.98.1.2")
        pump = started(client, compiled(directory), *(["-p"] if plain else []), "bth1", "bth2")
        client.ip(["link", "set", "bth2", "netns", server.name])
        up(client, "bth1", "10.98.1.1/24")
        up(server, "bth2", "10.98.1.2/24")
        hosts.append(Host("linux", "10.98.1.2", "bth1", [pump, started(server, *words)]))

        if veth:
            server, words = linux_host("v", "10.98.2.2")
            peer = ["peer", "name", "bth4", "netns", server.name]
            client.ip(["link", "add", "bth3", "type", "veth", *peer])
            up(client, "bth3", "10.98.2.1/24")
            up(server, "bth4", "10.98.2.2/24")
            hosts.append(Host("veth", "10.98.2.2", "bth3", [started(server, *words)]))
        stack.enter_context(client)
        yield hosts


def show(values: list[float], digits: int) -> str:
    """Median, least and most."""
    return f"{median(values):.{digits}f} [{min(values):.{digits}f}, {max(values):.{digits}f}]"


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=5, help="how often to do each operation")
    parser.add_argument("--seconds", type=float, default=2.0, help="of one operation, about")
    parser.add_argument("--only", default=",".join(OPERATIONS), help="operations, with commas")
    parser.add_argument("--veth", action="store_true", help="a Linux host on a veth pair as well")
    parser.add_argument(
        "--plain", action="store_true", help="frames of at most 1514 bytes across both TAPs"
    )
    parser.add_argument("--up", default="", help="further options of `e1000emu up`")
    parser.add_argument(
        "--python", default=sys.executable, help="the interpreter of our host, with its options"
    )
    args = parser.parse_args()
    if os.geteuid():
        sys.exit("bench_tap_host: needs root, for namespaces and TAP devices")
    names = args.only.split(",")
    found: dict[tuple[str, str], Found] = {}
    options = args.up.split() + (PLAIN if args.plain else [])
    with reached(args.python.split(), options, args.veth, args.plain) as hosts:
        for host in hosts:  # neighbours, caches
            for name in names:
                OPERATIONS[name][0](host.addr, 0.2)
        for _ in range(args.rounds):
            for name in names:
                for host in hosts:
                    one = found.setdefault((name, host.name), Found())
                    cpu, dropped = host.cpu_s(), host.dropped()
                    amount, seconds = OPERATIONS[name][0](host.addr, args.seconds)
                    one.rates.append(amount / seconds)
                    one.cpu_us.append((host.cpu_s() - cpu) * 1e6 / max(amount, 1e-9))
                    one.dropped.append(host.dropped() - dropped)
        order = [host.name for host in hosts]
    print(f"{'operation':12} {'host':6} {'rate':>28} {'':7} {'cpu us':>26} {'dropped':>8}  ratio")
    for name in names:
        digits = 2 if OPERATIONS[name][1] == "Gbit/s" else 0
        peer = median(found[name, "linux"].rates)
        for host_name in order:
            one = found[name, host_name]
            ratio = "" if host_name == "linux" else f"{median(one.rates) / peer:6.2f}"
            print(
                f"{name:12} {host_name:6} {show(one.rates, digits):>28} {OPERATIONS[name][1]:7} "
                f"{show(one.cpu_us, 1):>26} {sum(one.dropped):8} {ratio:>6}"
            )


if __name__ == "__main__":
    main()
