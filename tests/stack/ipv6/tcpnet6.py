"""The two hosts of tests.stack.inet.tcpnet, over IPv6."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

from stack.core.neigh_table import neigh_table
from stack.core.netdevice import ETH_P_IPV6
from stack.core.sockaddr import sockaddr
from stack.core.uapi import AF_INET, AF_INET6
from stack.host import Host
from stack.inet.af_ops import af_ops_of, inet_af_ops, inet_register_af_ops
from stack.ipv6.addr import format_addr6, ipv6_addr_loopback
from stack.ipv6.pinfo import ipv6_pinfo
from stack.ipv6.tcp_ipv6 import tcpv6_prot
from tests.stack.inet.tcpnet import A6, B6, Sock, TcpNet
from tests.stack.ipv6.net import _constructor, add_addr, static_neigh


def takes(sk: Any, family: int) -> bool:
    """A socket of IPv6 bound to nothing receives IPv4 too, unless IPV6_V6ONLY."""
    return family == AF_INET and not sk.sk_ipv6only and not sk.inet_rcv_saddr


def family_table() -> inet_af_ops:
    """What TCP asks of the family, for a host whose sockets of IPv6 nobody has set up."""
    unused: dict[str, Any] = dict.fromkeys(f.name for f in fields(inet_af_ops))
    ops = {"family": AF_INET6, "header_len": 40, "takes": takes, "is_loopback": ipv6_addr_loopback}
    return inet_af_ops(**{**unused, **ops})


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
        self.registered = AF_INET6 not in af_ops_of
        if self.registered:
            inet_register_af_ops(family_table())
        if self.both:
            super().configure()
        for i, wire in enumerate(self.wires):
            net = wire.dev.net
            if net.ipv6.nd_tbl is None:
                net.ipv6.nd_tbl = neigh_table(net, "ndisc_cache", ETH_P_IPV6, _constructor)
                add_addr(net.loopback_dev, "::1/128")
            add_addr(wire.dev, f"2001:db8::{i + 1}/64")
            add_addr(wire.dev, f"fe80::{i + 1}/64")
        for wire in self.wires:
            assert wire.peer is not None
            last = format_addr6(A6 if wire is self.wires[1] else B6)[-1]
            for prefix in ("2001:db8::", "fe80::"):
                static_neigh(wire.dev, prefix + last, wire.peer.dev.dev_addr)

    def __exit__(self, *exc: Any) -> None:
        try:
            super().__exit__(*exc)
        finally:
            if self.registered:
                del af_ops_of[AF_INET6]

    def socket(self, host: Host) -> Sock6:
        return Sock6(self, host)


class TcpNetBoth(TcpNet6):
    """Both families on the wire."""

    both = True


__all__ = ["A6", "B6", "Sock6", "TcpNet6", "TcpNetBoth"]
