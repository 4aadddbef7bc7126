"""Link kinds of tunnels: net/ipv4/ipip.c, ip_gre.c, net/ipv6/sit.c and so on."""

from __future__ import annotations

import errno

from stack.core.errors import os_error
from stack.core.net_namespace import load_module
from stack.core.netdevice import net_device, net_device_ops, rtnl_link_ops
from stack.core.rows import wide
from stack.core.uapi import AF_INET
from stack.ethernet.eth import eth_mac_addr, eth_validate_addr
from stack.net import Net
from stack.tunnel.ip_tunnel import (
    KINDS,
    ip_tunnel,
    ip_tunnel_dellink,
    ip_tunnel_find,
    ip_tunnel_parm,
    ip_tunnel_update,
    register_tunnel,
)
from stack.tunnel.ip_tunnel_rcv import tunnel_net_ops
from stack.tunnel.ip_tunnel_xmit import tunnel_xmit

ip_tunnel_netdev_ops = net_device_ops(ndo_start_xmit=tunnel_xmit)
tap_netdev_ops = net_device_ops(
    ndo_start_xmit=tunnel_xmit,
    ndo_set_mac_address=eth_mac_addr,
    ndo_validate_addr=eth_validate_addr,
)
TUNNEL_OPS: dict[str, rtnl_link_ops] = {
    kind: rtnl_link_ops(kind, ip_tunnel_dellink) for kind in KINDS
}


def tunnel_newlink(
    net: Net, name: str, kind: str, p: ip_tunnel_parm, mac: bytes | None = None
) -> net_device:
    """`ip link add NAME type KIND ...`. Raises: OSError EEXIST, EADDRNOTAVAIL; ValueError."""
    load_module(net.machine, "ip_tunnel", tunnel_net_ops)
    row = KINDS[kind]
    ops = tap_netdev_ops if row.ether else ip_tunnel_netdev_ops
    return register_tunnel(net, name, row, TUNNEL_OPS[kind], ops, p, mac)


def tunnel_changelink(dev: net_device, p: ip_tunnel_parm, keep_mtu: bool = False) -> None:
    """net/ipv4/ip_tunnel.c ip_tunnel_changelink and similar.

    The MTU follows the device below, unless `keep_mtu`: the caller gives another.

    Raises:
        OSError: EEXIST: another tunnel is like that. EINVAL: no remote, a host and a group cannot
            be exchanged for each other.
    """
    t: ip_tunnel = dev.priv
    other = ip_tunnel_find(t.net, t.kind.kind, p)
    if other is not None and other is not t:
        raise os_error(errno.EEXIST, f"{dev.name}: another tunnel is like that")
    four = t.kind.family == AF_INET
    if four and not t.kind.ether and reach(p.remote) != reach(t.parms.remote):
        raise os_error(errno.EINVAL, f"{dev.name}: a tunnel to one host remains one")
    old = t.parms
    moved = (p.link, p.fwmark, p.o_flags) != (old.link, old.fwmark, old.o_flags)
    ip_tunnel_update(t, p, not keep_mtu and (moved or not four))


def reach(remote: wide) -> int:
    """The kind of an IPv4 address: 0 none, 1 a host, 2 a group."""
    return 2 if remote >> 28 == 0xE else int(remote != 0)
