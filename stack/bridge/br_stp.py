"""net/bridge/br_stp.c, br_stp_if.c: states of ports, and the bridge's id. There is no STP.

As in Linux with `stp_state 0`: a port forwards as soon as it has a carrier, and `forward_delay`
says only how fast addresses age while `topology_change` is set. A BPDU is a frame like others.
"""

from __future__ import annotations

import errno

from stack.bridge import br_private
from stack.bridge.br_fdb import (
    br_fdb_change_mac_address,
    br_fdb_delete_by_port,
    br_fdb_gc,
)
from stack.bridge.br_private import net_bridge, net_bridge_port
from stack.core.link_watch import netif_carrier_off, netif_carrier_on
from stack.core.netdevice import IFF_UP, NET_ADDR_SET, netif_carrier_ok, netif_running
from stack.core.workqueue import cancel_delayed_work

GC_FIRST_NS = 100_000_000


def br_set_state(p: net_bridge_port, state: int) -> None:
    """net/bridge/br_stp.c."""
    p.state = state


def br_make_forwarding(p: net_bridge_port) -> None:
    """net/bridge/br_stp.c: forward at once, as there is no STP."""
    if p.state == br_private.BR_STATE_BLOCKING:
        br_set_state(p, br_private.BR_STATE_FORWARDING)


def br_port_state_selection(br: net_bridge) -> None:
    """net/bridge/br_stp.c: blocking ports forward; the bridge has a carrier when one does."""
    liveports = 0
    for p in br.port_list:
        if p.state == br_private.BR_STATE_DISABLED:
            continue
        br_make_forwarding(p)
        if p.state == br_private.BR_STATE_FORWARDING:
            liveports += 1
    if liveports:
        netif_carrier_on(br.dev)
    else:
        netif_carrier_off(br.dev)


def br_stp_enable_port(p: net_bridge_port) -> None:
    """net/bridge/br_stp_if.c: enable a port that has a carrier while the bridge is up."""
    br_set_state(p, br_private.BR_STATE_BLOCKING)  # br_init_port
    br_port_state_selection(p.br)


def br_stp_disable_port(p: net_bridge_port) -> None:
    """net/bridge/br_stp_if.c: disable a port and forget the addresses learned there."""
    br_set_state(p, br_private.BR_STATE_DISABLED)
    br_fdb_delete_by_port(p.br, p, False)
    br_port_state_selection(p.br)


def br_stp_enable_bridge(br: net_bridge) -> None:
    """net/bridge/br_stp_if.c: the bridge comes up, with every port that has a carrier."""
    br_fdb_gc(br, GC_FIRST_NS)
    for p in br.port_list:
        if netif_running(p.dev) and netif_carrier_ok(p.dev):
            br_stp_enable_port(p)


def br_stp_disable_bridge(br: net_bridge) -> None:
    """net/bridge/br_stp_if.c: the bridge goes down, and every port with it."""
    for p in br.port_list:
        if p.state != br_private.BR_STATE_DISABLED:
            br_stp_disable_port(p)
    br.topology_change = False
    cancel_delayed_work(br.gc_work)


def br_stp_change_bridge_id(br: net_bridge, addr: bytes) -> None:
    """net/bridge/br_stp_if.c: the bridge's address, and its id, are `addr` from now on."""
    br_fdb_change_mac_address(br, addr)
    br.dev.dev_addr = br.bridge_addr = addr


def br_stp_recalculate_bridge_id(br: net_bridge) -> bool:
    """net/bridge/br_stp_if.c: the lowest of the ports' addresses, unless one was set. Changed?"""
    if br.dev.addr_assign_type == NET_ADDR_SET:
        return False
    addr = min((p.dev.dev_addr for p in br.port_list), default=bytes(6))
    if addr == br.bridge_addr:
        return False
    br_stp_change_bridge_id(br, addr)
    return True


def br_set_port_state(p: net_bridge_port, state: int) -> int:
    """net/bridge/br_netlink.c: `bridge link set dev PORT state STATE`. 0, -EINVAL or -ENETDOWN.

    As in Linux without STP a blocking port forwards again at once; listening and learning stay.
    """
    if not br_private.BR_STATE_DISABLED <= state <= br_private.BR_STATE_BLOCKING:
        return -errno.EINVAL
    dev = p.dev
    if not netif_running(dev) or not (
        netif_carrier_ok(dev) or state == br_private.BR_STATE_DISABLED
    ):
        return -errno.ENETDOWN
    br_set_state(p, state)
    br_port_state_selection(p.br)
    return 0


def br_port_carrier_check(p: net_bridge_port) -> None:
    """net/bridge/br_if.c: the port's carrier changed."""
    br = p.br
    if not br.dev.flags & IFF_UP:
        return
    if netif_running(p.dev) and netif_carrier_ok(p.dev):
        if p.state == br_private.BR_STATE_DISABLED:
            br_stp_enable_port(p)
    elif p.state != br_private.BR_STATE_DISABLED:
        br_stp_disable_port(p)
