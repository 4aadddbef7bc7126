"""Performance of programs on a host and on the kernel's loopback: `python -m benchmarks.programs`.

Each row runs a server and a client twice, over the loopback of a host and over that of a namespace
of the kernel, by turns. The figure is the client's own; printed are the medians and their ratio.
Words after the command choose rows by a part of their name. Needs root and Debian's programs.
"""

from __future__ import annotations

import contextlib
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from e1000emu.clock import RealClock
from stack import proc
from stack.host import Host
from tests.linux.peer import Peer

__all__ = ["ROWS", "Row", "main"]

ROUNDS = 3
START_S = 30.0
CALLS = """
import os, socket, sys, time
sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
sock.bind(("127.0.0.1", 0))
sock.connect(sock.getsockname())
count = 5000
def option():
    sock.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF)
def echo():
    sock.send(b"x")
    sock.recv(10)
def stat():
    os.stat("/etc/passwd")
call = {"option": option, "echo": echo, "stat": stat}[sys.argv[1]]
for _ in range(200):
    call()
begin = time.perf_counter()
for _ in range(count):
    call()
print(count / (time.perf_counter() - begin))
"""
NGINX_CONF = """
daemon off; master_process off; pid nginx.pid; error_log stderr crit;
events { worker_connections 512; }
http { access_log off; client_body_temp_path b; proxy_temp_path p; fastcgi_temp_path f;
    uwsgi_temp_path u; scgi_temp_path s; server { listen 8080; root .; } }
"""


@dataclass(frozen=True)
class Row:
    """A client whose output has the figure (`found`, its first group), and its server."""

    unit: str
    client: Sequence[str]
    found: str
    server: Sequence[str] = ()
    port: int = 0


def redis(test: str, *more: str) -> Row:
    """redis-benchmark with 50 connections."""
    return Row(
        "requests/s",
        ["redis-benchmark", "-c", "50", "-n", "20000", "-t", test, "--csv", *more],
        r'"[SG]ET","([\d.]+)"',
        ["redis-server", "--port", "6379", "--save", "", "--bind", "127.0.0.1"],
        6379,
    )


def iperf3(*more: str) -> Row:
    """iperf3 for two seconds."""
    found = r"(?s).*\s([\d.]+) Gbits/sec.*receiver"
    client = ["iperf3", "-c", "127.0.0.1", "-f", "g", "-t", "2", *more]
    return Row("Gbit/s", client, found, ["iperf3", "-s", "-1"], 5201)


ROWS = {
    "getsockopt": Row("calls/s", [sys.executable, "-c", CALLS, "option"], r"([\d.]+)"),
    "send and recv": Row("pairs/s", [sys.executable, "-c", CALLS, "echo"], r"([\d.]+)"),
    "stat of a file": Row("calls/s", [sys.executable, "-c", CALLS, "stat"], r"([\d.]+)"),
    "redis SET": redis("set"),
    "redis GET": redis("get"),
    "redis SET, 16 at once": redis("set", "-P", "16"),
    "redis GET, 16 at once": redis("get", "-P", "16"),
    "nginx and wrk": Row(
        "requests/s",
        ["wrk", "-t2", "-c10", "-d2s", "http://127.0.0.1:8080/page"],
        r"Requests/sec:\s+([\d.]+)",
        ["nginx", "-p", ".", "-c", "nginx.conf", "-e", "stderr"],
        8080,
    ),
    "iperf3": iperf3(),
    "iperf3, 8 streams": iperf3("-P", "8"),
}


def measured(
    row: Row, start: Callable[..., subprocess.Popen[Any]], tcp: Callable[[], str], path: Path
) -> float:
    """The figure of one run."""
    quiet = {"stderr": subprocess.DEVNULL, "cwd": path}
    with contextlib.ExitStack() as stack:
        if row.server:
            server = stack.enter_context(start(row.server, stdout=subprocess.DEVNULL, **quiet))
            stack.callback(server.kill)
            end = time.monotonic() + START_S
            while not re.search(rf":{row.port:04X} \S+ 0A ", tcp()):
                assert time.monotonic() < end, "the server does not listen"
                time.sleep(0.02)
        client = stack.enter_context(start(row.client, stdout=subprocess.PIPE, **quiet))
        out = client.communicate(timeout=300)[0].decode()
    found = re.search(row.found, out)
    assert found, out
    return float(found[1])


@contextlib.contextmanager
def worlds() -> Iterator[list[tuple[Callable[..., Any], Callable[[], str]]]]:
    """For a host and for a namespace: the prefix to start a program, and /proc/net/tcp."""
    with contextlib.ExitStack() as stack:
        clock = stack.enter_context(contextlib.closing(RealClock().start()))
        host = stack.enter_context(Host("solo", clock=clock))
        peer = Peer()
        stack.callback(peer.close)
        peer.ip("link", "set", "lo", "up")

        def here(argv: Sequence[str], **popen: Any) -> Any:
            return subprocess.Popen(["ip", "netns", "exec", peer.name, *argv], **popen)

        def listening() -> str:
            with host.lock:
                return proc.read(host, "tcp") + proc.read(host, "tcp6")

        yield [
            (lambda argv, **popen: host.spawn(list(argv), **popen), listening),
            (here, lambda: peer.run("cat", "/proc/net/tcp", "/proc/net/tcp6").stdout.decode()),
        ]


def main(*names: str) -> None:
    """Print a line for each row, or for those with one of `names` in theirs."""
    with tempfile.TemporaryDirectory() as directory, worlds() as both:
        path = Path(directory)
        (path / "page").write_bytes(b"0123456789abcdef" * 64)
        (path / "nginx.conf").write_text(NGINX_CONF)
        path.chmod(0o755)
        print(f"{'':24} {'host':>12} {'kernel':>12} {'ratio':>6}  {ROUNDS} rounds")
        for name, row in ROWS.items():
            if names and not any(word in name for word in names):
                continue
            rounds = [[measured(row, *world, path) for world in both] for _ in range(ROUNDS)]
            ours, kernel = (statistics.median(column) for column in zip(*rounds, strict=True))
            shown = f"{name:24} {ours:12,.1f} {kernel:12,.1f} {ours / kernel:6.3f}  {row.unit}"
            print(shown, flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
