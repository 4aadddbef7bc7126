"""The two hosts of tests.stack.inet.tcpnet, over IPv6."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

from stack.core.netdevice import net_device
from stack.core.rows import rows_of
from stack.core.sockaddr import sockaddr
from stack.core.uapi import AF_INET, AF_INET6
from stack.host import Host
from stack.inet.af_ops import af_ops_of, inet_af_ops, inet_register_af_ops
from stack.ipv6.addr import ipv6_addr_loopback
from stack.ipv6.pinfo import ipv6_pinfo
from stack.ipv6.tcp_ipv6 import tcpv6_prot
from tests.stack.inet.tcpnet import A6, B6, Sock, TcpNet
from tests.stack.ipv6.net import add_addr, static_neigh


def takes(sk: Any, family: int) -> bool:
    """A socket of IPv6 bound to nothing receives IPv4 too, unless IPV6_V6ONLY."""
    return family == AF_INET and not sk.sk_ipv6only and not sk.inet_rcv_saddr


def family_table() -> inet_af_ops:
    """What TCP asks of the family, for a host whose sockets of IPv6 nobody has set up."""
    unused: dict[str, Any] = dict.fromkeys(rows_of(inet_af_ops))
    ops = {"family": AF_INET6, "takes": takes, "is_loopback": ipv6_addr_loopback}
    return inet_af_ops(**{**unused, **ops})


@contextlib.contextmanager
def registered_family() -> Iterator[None]:
    """TCP's part of the family's table, as long as the stack itself registers none."""
    ours = AF_INET6 not in af_ops_of
    if ours:
        inet_register_af_ops(family_table())
    try:
        yield
    finally:
        if ours:
            del af_ops_of[AF_INET6]


def configure_ipv6(dev: net_device, addr: str, neighbours: dict[str, str]) -> None:
    """Give an interface `addr` and neighbours (address: MAC); call with the host's lock held."""
    add_addr(dev, addr)
    for neighbour, mac in neighbours.items():
        static_neigh(dev, neighbour, bytes.fromhex(mac.replace(":", "")))


class Sock6(Sock):
    """AF_INET6; takes IPv4 peers as ::ffff:a.b.c.d."""

    family = AF_INET6
    prot = tcpv6_prot

    def made(self, sk: Any) -> None:
        sk.pinet6 = ipv6_pinfo()

    def at(self, addr: int, port: int) -> sockaddr:
        return sockaddr(AF_INET6, addr, port, 0, self.scope_id)

    scope_id = 0


class TcpNet6(TcpNet):
    """Hosts `a` (2001:db8::1) and `b` (2001:db8::2); with `both`, IPv4's addresses too."""

    peer_addr = B6
    both = False

    def configure(self) -> None:
        self.family = contextlib.ExitStack()
        self.family.enter_context(registered_family())
        if self.both:
            super().configure()
        for i, wire in enumerate(self.wires):
            assert wire.peer is not None
            mac = wire.peer.dev.dev_addr.hex()
            for prefix in ("2001:db8::", "fe80::"):
                configure_ipv6(wire.dev, f"{prefix}{i + 1}/64", {f"{prefix}{2 - i}": mac})

    def __exit__(self, *exc: Any) -> None:
        try:
            super().__exit__(*exc)
        finally:
            self.family.close()

    def socket(self, host: Host) -> Sock6:
        return Sock6(self, host)


class TcpNetBoth(TcpNet6):
    """Both families on the wire."""

    both = True


__all__ = ["A6", "B6", "Sock6", "TcpNet6", "TcpNetBoth"]
