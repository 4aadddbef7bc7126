"""A Linux kernel at the other end of a TAP: a namespace, a TAP inside it, and our host in front.

The kernel's sockets are reached in two ways: programs run by `ip netns exec`, and the standard
library's sockets made inside the namespace (`Peer.socket`), which stay there for life.
"""

from __future__ import annotations

import contextlib
import ctypes
import itertools
import os
import re
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from e1000emu.clock import RealClock
from e1000emu.lab import add_nic
from e1000emu.links import Capture, Impair, Tap
from stack.host import Host
from stack.ipv6.if_inet6 import IFA_F_TENTATIVE
from tests.support import PATIENCE_S, Rig, kept, quiet_ipv6, require

CLONE_NEWNET = 0x40000000
LINUX, OURS = "10.9.0.1", "10.9.0.2"
LINUX6, OURS6 = "2001:db8:9::1", "2001:db8:9::2"
DATA_PORT = 27777
QUOTES = "icmp.type in {3, 4, 5, 11, 12} or icmpv6.type < 128"
"""tshark's words for an ICMP error."""
_serial = itertools.count()


@dataclass(frozen=True)
class Family:
    """The data of one address family, for tests of both."""

    name: str
    af: int
    linux: str
    ours: str
    prefix_len: int
    nobody: str
    """An address of the network without a host."""

    @property
    def our_addr(self) -> str:
        """Our address for `--addr` and `ifconfig`."""
        return f"{self.ours}/{self.prefix_len}"

    def in_url(self, addr: str) -> str:
        """The address in the form for a URL."""
        return f"[{addr}]" if self.af == socket.AF_INET6 else addr

    def __str__(self) -> str:
        return self.name


IPV4 = Family("IPv4", socket.AF_INET, LINUX, OURS, 24, "10.9.0.77")
IPV6 = Family("IPv6", socket.AF_INET6, LINUX6, OURS6, 64, "2001:db8:9::77")


def _setns(path: str) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    fd = os.open(path, os.O_RDONLY)
    try:
        if libc.setns(fd, CLONE_NEWNET):
            error = ctypes.get_errno()
            raise OSError(error, f"setns {path}: {os.strerror(error)}")
    finally:
        os.close(fd)


class Peer:
    """The namespace and its programs."""

    def __init__(self) -> None:
        tag = f"{os.getpid() % 100000}x{next(_serial)}"
        self.name = f"e1k-{tag}"
        self.tap_name = f"e{tag}"
        self._running: list[subprocess.Popen[bytes]] = []
        self._ip("netns", "add", self.name)
        # Of ICMP errors the kernel sends six at once, then one a second: a test's may be the next.
        knobs = "/proc/sys/net/ipv4/icmp_ratelimit /proc/sys/net/ipv6/icmp/ratelimit"
        self.run("sh", "-c", f"for knob in {knobs}; do [ ! -e $knob ] || echo 0 >$knob; done")

    def _ip(self, *words: str) -> str:
        return subprocess.run(["ip", *words], check=True, capture_output=True, text=True).stdout

    def ip(self, *words: str) -> str:
        """Run `ip` inside the namespace and return its output."""
        return self._ip("-n", self.name, *words)

    def adopt(self, tap_name: str, *, ipv6: bool = False) -> None:
        """Move the TAP into the namespace and bring it up with the kernel's addresses."""
        self.take(tap_name)
        self.bring_up(tap_name, ipv6=ipv6)

    def take(self, tap_name: str) -> None:
        """Move the TAP into the namespace, unchanged."""
        self._ip("link", "set", tap_name, "netns", self.name)

    def bring_up(self, tap_name: str, *, ipv6: bool = False) -> None:
        """Bring a TAP of the namespace up with the kernel's addresses."""
        quiet_ipv6(tap_name, self.name)
        self.ip("link", "set", "lo", "up")
        self.ip("addr", "add", f"{LINUX}/24", "dev", tap_name)
        self.ip("link", "set", tap_name, "up")
        if ipv6:
            self.write(f"/proc/sys/net/ipv6/conf/{tap_name}/accept_dad", 0)
            self.write(f"/proc/sys/net/ipv6/conf/{tap_name}/disable_ipv6", 0)
            self.ip("-6", "addr", "add", f"{LINUX6}/64", "dev", tap_name, "nodad")

    def write(self, path: str, value: object) -> None:
        """Write a file of the namespace's /proc/sys."""
        self.run("sh", "-c", f"echo {value} >{path}")

    def _command(self, words: tuple[str, ...]) -> list[str]:
        return ["ip", "netns", "exec", self.name, *words]

    def run(
        self, *words: str, check: bool = True, timeout: float = 120, stdin: bytes = b""
    ) -> subprocess.CompletedProcess[bytes]:
        """Run a program inside the namespace to its end."""
        return subprocess.run(
            self._command(words), check=check, capture_output=True, timeout=timeout, input=stdin
        )

    def ping(self, to: str, *options: str, size: int = 56, count: int = 3) -> int:
        """Send echo requests by iputils' ping until `count` intact answers have arrived; return how
        many have: fewer when an ICMP error came instead, more when they came together.

        The deadline makes ping wait for them all. Without one it gives up the last after twice the
        longest round trip so far or one interval, whatever -W says: a machine may pause for longer.
        """
        ping = require.tool("ping", "iputils-ping")
        words = ("-c", str(count), "-i", "0.05", "-w", f"{PATIENCE_S:.0f}", "-s", str(size))
        out = self.run(ping, *options, *words, to, check=False).stdout.decode()
        received = re.search(r"(\d+) received", out)
        assert received is not None, out
        assert "wrong" not in out, out
        return int(received[1])

    def start(self, *words: str) -> subprocess.Popen[bytes]:
        """Start a program inside the namespace; it is ended with the fixture at the latest."""
        made = subprocess.Popen(
            self._command(words),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        self._running.append(made)
        return made

    def wait_for_listener(self, port: int) -> None:
        """Wait until a program of the namespace listens on a port of TCP."""
        script = f"until ss -Hltn sport = :{port} | grep -q .; do sleep 0.05; done"
        self.run("sh", "-c", script, timeout=PATIENCE_S)

    def listen(self, address: str, port: int = 0, *, family: int = socket.AF_INET) -> socket.socket:
        """Create a listening TCP socket inside the namespace, even if its port is in TIME_WAIT."""
        sock = self.socket(family=family)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind((address, port))
        sock.listen(8)
        return sock

    def socket(
        self, kind: int = socket.SOCK_STREAM, proto: int = 0, *, family: int = socket.AF_INET
    ) -> socket.socket:
        """Create a kernel socket inside the namespace, with a timeout of PATIENCE_S."""
        made: list[socket.socket | BaseException] = []

        def inside() -> None:
            try:
                _setns(f"/run/netns/{self.name}")
                made.append(socket.socket(family, kind, proto))
            except BaseException as error:
                made.append(error)

        thread = threading.Thread(target=inside)
        thread.start()
        thread.join()
        (result,) = made
        if isinstance(result, BaseException):
            raise result
        result.settimeout(PATIENCE_S)
        return result

    def close(self) -> None:
        """End running programs and remove the namespace."""
        for process in self._running:
            if process.poll() is None:
                process.kill()
            process.communicate()
        subprocess.run(["ip", "netns", "del", self.name], check=False, capture_output=True)


def wait_for_addresses(host: Host) -> None:
    """Wait until duplicate address detection of the host has ended."""

    def settled() -> bool:
        devs = [dev.ip6_ptr for dev in host.dev_by_name.values() if dev.ip6_ptr is not None]
        return not any(ifp.flags & IFA_F_TENTATIVE for idev in devs for ifp in idev.addr_list)

    with host.lock:
        assert host.clock.wait(settled, int(PATIENCE_S * 1e9)), "addresses stay tentative"


class Wire(Rig):
    """Our host, its NIC, the TAP and the kernel behind it; `with Wire(...) as wire:`."""

    def __init__(
        self,
        *,
        impair: dict[str, Any] | None = None,
        capture: Path | None = None,
        sysctl: dict[str, Any] | None = None,
        mtu: int | None = None,
        around: Callable[[Any], Any] | None = None,
        ipv6: bool = False,
    ) -> None:
        """`ipv6`: both ends also have an IPv6 address, at once and without address detection."""
        with contextlib.ExitStack() as stack:
            self.peer = kept(stack, Peer())
            self.clock = kept(stack, RealClock())
            self.tap = kept(stack, Tap(self.peer.tap_name, self.clock))
            self.peer.adopt(self.tap.name, ipv6=ipv6)
            if mtu is not None:
                self.peer.ip("link", "set", self.tap.name, "mtu", str(mtu))
            link: Any = self.tap
            self.impair: Impair | None = None
            if impair is not None:
                link = self.impair = Impair(link, **impair)
            if around is not None:
                link = around(link)
            self.capture: Capture | None = None
            if capture is not None:
                link = self.capture = Capture(link, capture)
                stack.callback(self.capture.writer.close)
            self.clock.start()
            stack.callback(self.clock.stop)
            knobs = {**({"net.ipv6.conf.default.accept_dad": 0} if ipv6 else {}), **(sysctl or {})}
            self.host = kept(stack, Host(name="ours", clock=self.clock, sysctl=knobs, seed=1))
            self.nic = add_nic(self.host, link, addr=f"{OURS}/24", mtu=mtu)
            if ipv6:
                self.host.ifconfig("eth0", IPV6.our_addr)
                wait_for_addresses(self.host)
            self._threads: list[Worker] = []
            self._stack = stack.pop_all()

    def spawn(self, fn: Callable[..., Any], *args: Any) -> Worker:
        """Run `fn(*args)` in a thread; `.result()` returns its result or raises its exception."""
        worker = Worker(fn, args)
        self._threads.append(worker)
        return worker

    def connected(self, family: Family, *, from_us: bool) -> tuple[Any, socket.socket]:
        """Return (our end, the kernel's end) of a new connection."""
        listener: Any
        if from_us:
            listener = self.peer.listen(family.linux, family=family.af)
            client = self.socket(family=family.af)
        else:
            listener = self.listen(0, family)
            client = self.peer.socket(family=family.af)
        with listener:
            client.connect(listener.getsockname())
            accepted, _ = listener.accept()
        accepted.settimeout(PATIENCE_S)
        return (client, accepted) if from_us else (accepted, client)

    def socket(self, kind: int = socket.SOCK_STREAM, proto: int = 0, *, family: int = 0) -> Any:
        """Create a socket of our stack, by default of AF_INET, with a timeout of PATIENCE_S."""
        sock = self.host.socket(family or socket.AF_INET, kind, proto)
        sock.settimeout(PATIENCE_S)
        return sock

    def listen(self, port: int, family: Family = IPV4) -> Any:
        """Create a listening TCP socket of our stack."""
        sock = self.socket(family=family.af)
        sock.bind((family.ours, port))
        sock.listen(16)
        return sock


class Worker:
    """A thread whose result is awaited; its failure fails the awaiting test."""

    def __init__(self, fn: Callable[..., Any], args: tuple[Any, ...]) -> None:
        self._value: Any = None
        self._error: BaseException | None = None

        def main() -> None:
            try:
                self._value = fn(*args)
            except BaseException as error:
                self._error = error

        self._thread = threading.Thread(target=main, daemon=True)
        self._thread.start()

    def result(self, timeout: float = 120) -> Any:
        """Wait for the thread and return its value."""
        self._thread.join(timeout)
        assert not self._thread.is_alive(), "the thread is still at work"
        if self._error is not None:
            raise self._error
        return self._value


def pattern(size: int, seed: int = 1) -> bytes:
    """Return `size` bytes in which no stretch repeats soon, so that a swap of blocks shows."""
    import random

    return random.Random(seed).randbytes(size)


def receive_all(sock: Any, size: int | None = None) -> bytes:
    """Read until the end of the stream, or `size` bytes."""
    out = bytearray()
    while size is None or len(out) < size:
        data = sock.recv(1 << 18)
        if not data:
            break
        out += data
    return bytes(out)


@contextlib.contextmanager
def connection(
    near: Peer, far: Peer, to: str, family: int, port: int = DATA_PORT
) -> Iterator[tuple[socket.socket, socket.socket]]:
    """A TCP connection from one namespace to an address of another: client and server."""
    with far.listen(to, port, family=family) as listener, near.socket(family=family) as client:
        client.connect((to, port))
        server, _ = listener.accept()
        server.settimeout(PATIENCE_S)
        with server:
            yield client, server


def stream(source: Any, sink: Any, data: bytes) -> None:
    """Send data and the end of the stream over a connection; all of it arrives."""
    sender = Worker(lambda: (source.sendall(data), source.shutdown(socket.SHUT_WR)), ())
    assert receive_all(sink) == data
    sender.result()


def judged(path: Path) -> Iterator[str]:
    """Yield the errors that tshark finds in a capture: malformed frames and wrong checksums.

    What a stream carries is random, so tshark is kept from guessing protocols in it. A TCP check of
    0xFFFF in place of 0 is accepted: Linux's skb_checksum_help writes it (CSUM_MANGLED_0). What
    an ICMP error quotes may have a checksum that was still the card's to finish, as Linux's has.
    """
    command = ["tshark", "-r", str(path), "-T", "fields", "-e", "frame.number", "-e", "_ws.expert"]
    command += ["-o", "tcp.desegment_tcp_streams:FALSE", "-o", "tcp.try_heuristic_first:FALSE"]
    command += ["-d", "tcp.port==1-65535,data", "-d", f"udp.port=={DATA_PORT},data"]
    for name in ("ip", "tcp", "udp"):
        command += ["-o", f"{name}.check_checksum:TRUE"]
    bad = {c: f"{c}.checksum.status == 0" for c in ("ip", "tcp", "udp", "icmp", "icmpv6")}
    streams = f"({bad['tcp']} or {bad['udp']}) and not ({QUOTES})"
    rest = " or ".join(["_ws.malformed", bad["ip"], bad["icmp"], bad["icmpv6"]])
    wrong = f"({rest} or ({streams})) and not tcp.checksum.ffff"
    text = subprocess.run([*command, "-Y", wrong], check=True, capture_output=True, text=True)
    yield from text.stdout.splitlines()
