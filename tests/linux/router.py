"""Linux - TAP - our host as router - TAP - Linux, both families; the far link is narrower."""

from __future__ import annotations

import contextlib
import socket
from dataclasses import dataclass
from pathlib import Path

from e1000emu.clock import RealClock
from e1000emu.lab import add_nic
from e1000emu.links import Capture, Tap
from stack.host import Host
from tests.linux.peer import Peer, wait_for_addresses
from tests.support import Rig, kept, quiet_ipv6

PMTU = 1300
"""Bytes that the far link takes; the near one takes 1500."""


@dataclass(frozen=True)
class Route:
    """The addresses from end to end in one family, and the words it goes by."""

    name: str
    af: int
    near: str
    near_router: str
    far: str
    far_router: str
    nowhere: str
    """An address that the router has no route to."""
    prefix_len: int
    header_bytes: int

    @property
    def flag(self) -> str:
        """`-4` or `-6`, as programs take it."""
        return f"-{self.name[-1]}"

    def __str__(self) -> str:
        return self.name


ROUTED4 = Route(
    *("IPv4", socket.AF_INET, "10.10.1.2", "10.10.1.1", "10.10.2.2", "10.10.2.1"),
    *("10.99.0.1", 24, 20),
)
ROUTED6 = Route(
    *("IPv6", socket.AF_INET6, "2001:db8:a::2", "2001:db8:a::1", "2001:db8:b::2"),
    *("2001:db8:b::1", "2001:db8:ffff::1", 64, 40),
)


class Router(Rig):
    """`host` is ours; `near` and `far` are namespaces with a default route to it."""

    def __init__(self, captures: Path | None = None) -> None:
        """`captures`: a directory for near.pcapng and far.pcapng."""
        with contextlib.ExitStack() as stack:
            self.clock = kept(stack, RealClock())
            self.peers: list[Peer] = []
            self.captures: list[Path] = []
            links: list[Tap | Capture] = []
            for name in ("near", "far"):
                peer = kept(stack, Peer())
                tap = kept(stack, Tap(peer.tap_name, self.clock))
                self._adopt(peer, tap.name, name)
                link: Tap | Capture = tap
                if captures is not None:
                    self.captures.append(captures / f"{name}.pcapng")
                    link = Capture(tap, self.captures[-1])
                    stack.callback(link.writer.close)
                self.peers.append(peer)
                links.append(link)
            self.near, self.far = self.peers
            self.clock.start()
            stack.callback(self.clock.stop)
            knobs = {
                "net.ipv4.ip_forward": 1,
                "net.ipv6.conf.all.forwarding": 1,
                "net.ipv6.conf.default.accept_dad": 0,
            }
            self.host = kept(stack, Host(name="router", clock=self.clock, seed=2, sysctl=knobs))
            for i, link in enumerate(links):
                add_nic(self.host, link)
                for path in (ROUTED4, ROUTED6):
                    ours = (path.near_router, path.far_router)[i]
                    self.host.ifconfig(f"eth{i}", f"{ours}/{path.prefix_len}")
            self.host.ifconfig("eth1", mtu=PMTU)
            wait_for_addresses(self.host)
            for path in (ROUTED4, ROUTED6):
                for peer, via in ((self.near, path.near_router), (self.far, path.far_router)):
                    peer.ip(path.flag, "route", "add", "default", "via", via)
            self._stack = stack.pop_all()

    @staticmethod
    def _adopt(peer: Peer, tap: str, name: str) -> None:
        peer.take(tap)
        quiet_ipv6(tap, peer.name)
        peer.ip("link", "set", "lo", "up")
        peer.ip("link", "set", tap, "up")
        peer.write(f"/proc/sys/net/ipv6/conf/{tap}/accept_dad", 0)
        peer.write(f"/proc/sys/net/ipv6/conf/{tap}/disable_ipv6", 0)
        for path in (ROUTED4, ROUTED6):
            addr = path.near if name == "near" else path.far
            nodad = ("nodad",) if path.af == socket.AF_INET6 else ()
            peer.ip("addr", "add", f"{addr}/{path.prefix_len}", "dev", tap, *nodad)

    def forget_paths(self) -> None:
        """Have the near end learn path MTUs anew."""
        for path in (ROUTED4, ROUTED6):
            self.near.ip(path.flag, "route", "flush", "cache")
