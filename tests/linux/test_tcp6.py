"""TCP over IPv6 between our sockets and a Linux kernel's. Addresses and neighbours are given."""

from __future__ import annotations

import hashlib
import socket
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from stack.ipv6.addr import parse_addr6
from tests.linux.peer import Wire, pattern, receive_all
from tests.stack.inet.tcpnet import Sock
from tests.stack.ipv6.tcpnet6 import Sock6, configure_ipv6, registered_family
from tests.support import require

pytestmark = pytest.mark.netns

LINUX6, OURS6 = "2001:db8:9::1", "2001:db8:9::2"
LINUX_MAC = "02:00:00:00:09:01"


@pytest.fixture(scope="module")
def wire6() -> Iterator[Wire]:
    """A wire whose two ends know each other over IPv6."""
    require.netns()
    require.tun()
    with registered_family(), Wire() as wire:
        give_addresses(wire)
        yield wire


def give_addresses(wire: Wire) -> None:
    """Tell both ends the other's address."""
    peer, tap = wire.peer, wire.tap.name
    dev = wire.host.dev_by_name["eth0"]
    peer.run("sh", "-c", f"echo 0 >/proc/sys/net/ipv6/conf/{tap}/disable_ipv6")
    peer.ip("link", "set", tap, "address", LINUX_MAC)
    peer.ip("-6", "addr", "add", f"{LINUX6}/64", "dev", tap, "nodad")
    mac = dev.dev_addr.hex(":")
    peer.ip("-6", "neigh", "replace", OURS6, "lladdr", mac, "dev", tap, "nud", "permanent")
    with wire.host.lock:
        configure_ipv6(dev, f"{OURS6}/64", {LINUX6: LINUX_MAC})


class Ours:
    """One of our sockets, used from the test's thread: a call that would block is tried again."""

    def __init__(self, wire: Wire, sock: Sock | None = None) -> None:
        self.wire = wire
        self.lock = wire.host.lock
        with self.lock:
            self.sock = sock or Sock6(None, wire.host)

    def again(self, call: Any, *args: Any) -> Any:
        """The call's result, once it does not ask to wait."""
        while True:
            try:
                with self.lock:
                    return call(*args)
            except BlockingIOError:
                time.sleep(0.001)

    def connect(self, port: int) -> None:
        with self.lock:
            self.sock.connect(parse_addr6(LINUX6), port)
        while self.sock.connecting:
            time.sleep(0.001)

    def listen(self, port: int) -> None:
        with self.lock:
            self.sock.bind(port)
            self.sock.listen(8)

    def accept(self) -> Ours:
        return Ours(self.wire, self.again(self.sock.accept))

    def send_all(self, data: bytes) -> None:
        view = memoryview(data)
        while view:
            view = view[self.again(self.sock.send, view[:65536]) :]

    def read_all(self) -> bytes:
        out = bytearray()
        while piece := self.again(self.sock.recv):
            out += piece
        return bytes(out)

    def end(self) -> None:
        with self.lock:
            self.sock.shutdown(2)

    def close(self) -> None:
        with self.lock:
            self.sock.close()


def connected(wire: Wire, port: int, *, from_us: bool) -> tuple[Ours, socket.socket]:
    """(our end, the kernel's end) of a new connection."""
    theirs = wire.peer.socket(family=socket.AF_INET6)
    if from_us:
        theirs.bind((LINUX6, port))
        theirs.listen(1)
        ours = Ours(wire)
        ours.connect(port)
        accepted, address = theirs.accept()
        assert address[0] == OURS6
        theirs.close()
        accepted.settimeout(60)
        return ours, accepted
    listener = Ours(wire)
    listener.listen(port)
    theirs.connect((OURS6, port))
    ours = listener.accept()
    listener.close()
    return ours, theirs


@pytest.mark.parametrize("from_us", [True, False], ids=["we connect", "linux connects"])
@pytest.mark.parametrize("size", [0, 1, 1440, 1441, 3_000_000])
def test_bytes_arrive_both_ways(wire6: Wire, from_us: bool, size: int) -> None:
    ours, theirs = connected(wire6, 5000 + size % 999 + from_us, from_us=from_us)
    up, down = pattern(size, 1), pattern(size, 2)
    got: list[bytes] = []

    def kernel() -> None:
        sender = threading.Thread(
            target=lambda: (theirs.sendall(down), theirs.shutdown(socket.SHUT_WR))
        )
        sender.start()
        got.append(receive_all(theirs))
        sender.join()

    thread = threading.Thread(target=kernel)
    thread.start()
    sender = threading.Thread(target=lambda: (ours.send_all(up), ours.end()))
    sender.start()
    assert ours.read_all() == down
    sender.join()
    thread.join()
    assert got == [up]
    ours.close()
    theirs.close()


def test_curl_fetches_from_us(wire6: Wire) -> None:
    require.tool("curl")
    listener = Ours(wire6)
    listener.listen(8080)
    body = pattern(2_000_000, 3)

    def serve() -> None:
        conn = listener.accept()
        request = b""
        while b"\r\n\r\n" not in request:
            request += conn.again(conn.sock.recv)
        head = f"HTTP/1.1 200 OK\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
        conn.send_all(head.encode() + body)
        conn.end()
        conn.read_all()
        conn.close()

    worker = wire6.spawn(serve)
    out = wire6.peer.run("curl", "-sg", f"http://[{OURS6}]:8080/").stdout
    worker.result()
    assert hashlib.sha256(out).digest() == hashlib.sha256(body).digest()
    listener.close()


def test_refused_by_either_side(wire6: Wire) -> None:
    ours = Ours(wire6)
    ours.connect(9)
    assert (ours.sock.state, ours.sock.sk.sk_err) == ("CLOSE", 111)
    theirs = wire6.peer.socket(family=socket.AF_INET6)
    with pytest.raises(ConnectionRefusedError):
        theirs.connect((OURS6, 9))
    theirs.close()


def test_kernel_answers_our_zero_window_probes(wire6: Wire) -> None:
    ours, theirs = connected(wire6, 6100, from_us=True)
    data = pattern(4_000_000, 4)
    sender = wire6.spawn(ours.send_all, data)
    # The reader sleeps until its window is shut and was probed.
    probes = wire6.host.mib.linux
    while not probes.TCPWinProbe:
        time.sleep(0.01)
    got = bytearray()
    while len(got) < len(data):
        got += theirs.recv(1 << 20)
    sender.result()
    assert bytes(got) == data
    ours.close()
    theirs.close()


@pytest.mark.parametrize("from_us", [True, False], ids=["we connect", "linux connects"])
def test_loss_reordering_and_duplication(need_linux: None, from_us: bool) -> None:
    bad = {"loss": 0.02, "reorder": 0.05, "duplicate": 0.02, "seed": 5}
    with registered_family(), Wire(impair=bad) as wire:
        give_addresses(wire)
        ours, theirs = connected(wire, 6200, from_us=from_us)
        data = pattern(1_500_000, 6)
        sender = wire.spawn(lambda: (ours.send_all(data), ours.end()))
        assert receive_all(theirs) == data
        sender.result()
        theirs.sendall(data[:300_000])
        theirs.shutdown(socket.SHUT_WR)
        assert ours.read_all() == data[:300_000]
        assert wire.host.mib.tcp.RetransSegs > 0
        ours.close()
        theirs.close()
