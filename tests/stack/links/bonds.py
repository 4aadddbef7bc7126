"""Two hosts joined by several cables, with a bond over them at each end, in virtual time."""

from __future__ import annotations

from typing import Any

from e1000emu.clock import VirtualClock
from e1000emu.links import pair
from stack.bonding.bonding import bonding, slave
from stack.host import Host
from stack.socket import AF_PACKET, SOCK_RAW
from tests.stack.core.wire import QUIET6

SECOND = 1_000_000_000
ETH_P_ALL = 0x0300  # network order
IP = ("10.0.0.1", "10.0.0.2")


def port_mac(host: int, number: int) -> bytes:
    """The address of a port before it is enslaved."""
    return b"\x02\x00\x00\x00" + bytes([host + 1, number + 1])


class Cabled:
    """Hosts `a` and `b` with TAPs eth0 ... on both ends of `cables`; bonds are added by `bond`."""

    def __init__(self, cables: int, **sysctl: int) -> None:
        self.clock = VirtualClock()
        settings = {**QUIET6, **sysctl}
        self.hosts = [Host(n, clock=self.clock, drivers=False, sysctl=settings) for n in "ab"]
        self.a, self.b = self.hosts
        self.names = [f"eth{i}" for i in range(cables)]
        self.cables = [pair(self.clock, latency_ns=1000) for _ in range(cables)]
        for i, ends in enumerate(self.cables):
            for h, (host, end) in enumerate(zip(self.hosts, ends, strict=True)):
                host.add_tap(self.names[i], end, mac=port_mac(h, i))

    def bond(
        self, host: int, mode: str, slaves: list[str] | None = None, **options: Any
    ) -> bonding:
        """bond0 of a host, up, over all its ports or some, with the host's address."""
        made = self.hosts[host]
        dev = made.add_bond("bond0", self.names if slaves is None else slaves, mode=mode, **options)
        made.ifconfig("bond0", f"{IP[host]}/24", up=True)
        return dev.priv

    def both(self, mode: str, **options: Any) -> tuple[bonding, bonding]:
        """The same bond on both hosts."""
        return self.bond(0, mode, **options), self.bond(1, mode, **options)

    def run_for(self, seconds: float) -> None:
        self.clock.run_for(int(seconds * SECOND))

    def plug(self, number: int, connected: bool, seconds: float = 0) -> None:
        """Cut a cable, or mend it, and let so many seconds pass."""
        with self.a.lock:
            self.cables[number][0].plug(connected)
        self.run_for(seconds)

    def watch(self, host: int, name: str) -> Any:
        """A packet socket that sees what passes an interface."""
        sock = self.hosts[host].socket(AF_PACKET, SOCK_RAW, ETH_P_ALL)
        sock.bind((name, 3))
        sock.setblocking(False)
        return sock

    def close(self) -> None:
        for host in self.hosts:
            host.close()


def heard(sock: Any) -> list[bytes]:
    """What a packet socket has seen since."""
    frames = []
    while True:
        try:
            frames.append(sock.recv(65536))
        except BlockingIOError:
            return frames


def slave_of(bond: bonding, name: str) -> slave:
    """A slave by its name."""
    return next(one for one in bond.slave_list if one.dev.name == name)


def active(bond: bonding) -> str | None:
    """The name of the active slave."""
    return bond.curr_active_slave.dev.name if bond.curr_active_slave is not None else None
