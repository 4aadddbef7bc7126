"""net/ipv4/udp.c __udp4_lib_err_encap, net/ipv6/udp.c: ICMP errors about datagrams of tunnels.

A tunnel's device sends from ports that change with the flow, so an error finds no socket. The
tunnel is found by the port that the datagram went to, which is its own port, too.
"""

from __future__ import annotations

from collections.abc import Callable

from fastpath.base.skbuff import sk_buff
from fastpath.net.hdr import udphdr_at
from stack.net import Net

UDP_HLEN, TUNNEL_HLEN = 8, 8
LOOKUPS = "udp_encap_err_lookup"
"""Their name in `net.gen`."""
Lookup = Callable[[sk_buff, int], bool]
"""`lookup(skb, at)`: whether a device sent the datagram at data, the tunnel's header at `at`."""


def udp_encap_err_register(net: Net, family: int, port: int, lookup: Lookup) -> None:
    """encap_err_lookup of the socket of a port."""
    net.gen.setdefault(LOOKUPS, {})[family, port] = lookup


def udp_encap_err_unregister(net: Net, family: int, port: int) -> None:
    """The port's socket is closed."""
    net.gen[LOOKUPS].pop((family, port), None)


def udp_lib_err_encap(net: Net, skb: sk_buff, family: int, offset: int) -> bool:
    """Whether an error is about a tunnel's datagram, whose IP header is at data. Borrows skb."""
    lookups: dict[tuple[int, int], Lookup] | None = net.gen.get(LOOKUPS)
    if not lookups or skb.len < offset + UDP_HLEN + TUNNEL_HLEN:
        return False
    lookup = lookups.get((family, udphdr_at(skb, offset).dest))
    return lookup is not None and lookup(skb, offset + UDP_HLEN)
