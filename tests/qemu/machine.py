"""Host `a` with QEMU's e1000 under our driver, and host `b` with our own NIC at the other end."""

from __future__ import annotations

import socket
import struct
from typing import Any

from e1000emu.clock import RealClock
from e1000emu.closing import Closing
from e1000emu.embed.qtest import QtestMachine
from e1000emu.lab import add_nic, mac_address
from e1000emu.links import Impair
from e1000emu.links.base import Middleware
from fastpath.base.csum import ip_compute_csum
from stack.host import Host

SECOND_NS = 1_000_000_000
A, B = "10.0.0.1", "10.0.0.2"
MAC = bytes.fromhex("525400c0ffee")


class Tally(Middleware):
    """Keeps the frames that come from QEMU."""

    def __init__(self, link: Any) -> None:
        super().__init__(link)
        self.from_qemu: list[bytes] = []

    def receive(self, batch: Any, start: int, hold: bool) -> int:
        end = super().receive(batch, start, hold)
        self.from_qemu.extend(batch[i] for i in range(start, end))
        return end


class Machine(Closing):
    """Both hosts and QEMU; `up` configures them and waits for the link."""

    def __init__(
        self,
        *,
        device: str = "e1000",
        framing: str = "stream",
        impair: dict[str, Any] | None = None,
    ) -> None:
        self.clock = RealClock()
        self.qemu = QtestMachine(self.clock, device=device, mac=MAC, framing=framing)
        # Of IPv6 the tests send what they want to see; a host that configures itself sends more.
        quiet = {"net.ipv6.conf.default.disable_ipv6": 1}
        self.a = Host("a", clock=self.clock, ram=self.qemu.ram, sysctl=quiet)
        self.b = Host("b", clock=self.clock, ram_bytes=32 << 20, sysctl=quiet)
        self.qemu.connect_irq(self.a.irq_line(self.qemu.irq))
        self.dev = self.a.pci_add(self.qemu.slot, self.qemu.irq)
        self.tally = Tally(self.qemu.link)
        link = Impair(self.tally, clock=self.clock, **impair) if impair else self.tally
        self.nic = add_nic(self.b, link, mac=mac_address(2), addr=f"{B}/24", wait=False)

    def up(self) -> None:
        self.a.ifconfig("eth0", f"{A}/24", up=True)
        self.wait_link()

    def wait_link(self) -> None:
        assert self.a.wait_carrier("eth0", 20 * SECOND_NS)
        assert self.b.wait_carrier("eth0", 20 * SECOND_NS)

    def sleep(self, duration_ns: int) -> None:
        with self.clock.lock:
            self.clock.wait(lambda: False, duration_ns)

    def close(self) -> None:
        self.a.close()
        self.b.close()
        self.qemu.close()
        self.clock.close()


def ping(host: Host, to: str, size: int, seq: int) -> bool:
    """Send one ICMP echo request of `size` bytes; whether the same bytes came back."""
    payload = bytes((seq + i) & 0xFF for i in range(size))
    request = bytearray(struct.pack("!BBHHH", 8, 0, 0, 99, seq) + payload)
    struct.pack_into("!H", request, 2, ip_compute_csum(request))
    sock = host.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP)
    sock.settimeout(10)
    try:
        sock.sendto(bytes(request), (to, 0))
        while True:
            packet, (source, _) = sock.recvfrom(70000)
            body = packet[(packet[0] & 15) * 4 :]
            if source == to and body[0] == 0 and struct.unpack_from("!HH", body, 4) == (99, seq):
                return body[8:] == payload
    finally:
        sock.close()


def connection(server: Host, client: Host, address: str, port: int) -> tuple[Any, Any]:
    """Return two connected sockets, the client's first."""
    listener = server.socket(socket.AF_INET, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind((address, port))
    listener.listen(1)
    sock = client.socket(socket.AF_INET, socket.SOCK_STREAM)
    sock.settimeout(20)
    sock.connect((address, port))
    accepted, _ = listener.accept()
    listener.close()
    return sock, accepted
