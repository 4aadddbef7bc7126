"""The kinds of tunnels as kinds of links: net/ipv4/ipip.c, ip_gre.c, net/ipv6/sit.c and so on."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

from stack.core.errors import os_error
from stack.core.netdevice import net_device, net_device_ops, rtnl_link_ops
from stack.ethernet.eth import eth_mac_addr, eth_validate_addr
from stack.tunnel.ip_tunnel import (
    KINDS,
    ip_tunnel,
    ip_tunnel_dellink,
    ip_tunnel_find,
    ip_tunnel_parm,
    ip_tunnel_update,
    register_tunnel,
)
from stack.tunnel.ip_tunnel_rcv import tunnels_init
from stack.tunnel.ip_tunnel_xmit import tunnel_xmit

if TYPE_CHECKING:
    from stack.net import Net

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
    tunnels_init(net.machine)
    row = KINDS[kind]
    ops = tap_netdev_ops if row.ether else ip_tunnel_netdev_ops
    return register_tunnel(net, name, row, TUNNEL_OPS[kind], ops, p, mac)


def tunnel_changelink(dev: net_device, p: ip_tunnel_parm) -> None:
    """net/ipv4/ip_tunnel.c ip_tunnel_changelink. Raises: OSError EEXIST."""
    t: ip_tunnel = dev.priv
    other = ip_tunnel_find(t.net, t.kind.kind, p)
    if other is not None and other is not t:
        raise os_error(errno.EEXIST, f"{dev.name}: another tunnel is like that")
    ip_tunnel_update(t, p, False)
