"""net/bridge/br_stp_if.c, br_stp.c: bridges and ports that start and stop, and STP's settings.

Times are ns. Functions with a result return 0 or -errno.
"""

from __future__ import annotations

import errno

from stack.bridge import br_private
from stack.bridge.br_fdb import br_fdb_change_mac_address, br_fdb_delete_by_port, br_fdb_gc
from stack.bridge.br_multicast import br_multicast_disable_port
from stack.bridge.br_private import mod_timer_in, net_bridge, net_bridge_port
from stack.bridge.br_stp import (
    __br_set_topology_change,
    br_become_designated_port,
    br_config_bpdu_generation,
    br_configuration_update,
    br_elect,
    br_ifinfo_notify,
    br_init_port,
    br_is_designated_port,
    br_is_root_bridge,
    br_port_state_selection,
    br_set_state,
)
from stack.core.netdevice import IFF_UP, NET_ADDR_SET, netif_carrier_ok, netif_running
from stack.core.timer import timer_delete
from stack.core.workqueue import cancel_delayed_work

GC_FIRST_NS = 100_000_000


def br_stp_enable_port(p: net_bridge_port) -> None:
    """net/bridge/br_stp_if.c: enable a port that has a carrier while the bridge is up."""
    br_init_port(p)
    br_port_state_selection(p.br)
    br_ifinfo_notify(p)


def br_stp_disable_port(p: net_bridge_port) -> None:
    """net/bridge/br_stp_if.c: disable a port and forget the addresses learned there."""
    br = p.br
    was_root = br_is_root_bridge(br)
    br_become_designated_port(p)
    br_set_state(p, br_private.BR_STATE_DISABLED)
    p.topology_change_ack = p.config_pending = False
    br_ifinfo_notify(p)
    for timer in (p.message_age_timer, p.forward_delay_timer, p.hold_timer):
        timer_delete(timer)
    br_fdb_delete_by_port(br, p, False)
    br_multicast_disable_port(p)
    br_elect(br, was_root)


def br_stp_enable_bridge(br: net_bridge) -> None:
    """net/bridge/br_stp_if.c: the bridge comes up, with every port that has a carrier."""
    if br.stp_enabled == br_private.BR_KERNEL_STP:
        mod_timer_in(br.hello_timer, br.hello_time)
    br_fdb_gc(br, GC_FIRST_NS)
    br_config_bpdu_generation(br)
    for p in br.port_list:
        if netif_running(p.dev) and netif_carrier_ok(p.dev):
            br_stp_enable_port(p)


def br_stp_disable_bridge(br: net_bridge) -> None:
    """net/bridge/br_stp_if.c: the bridge goes down, and every port with it."""
    for p in br.port_list:
        if p.state != br_private.BR_STATE_DISABLED:
            br_stp_disable_port(p)
    __br_set_topology_change(br, False)
    br.topology_change_detected = False
    for timer in (br.hello_timer, br.topology_change_timer, br.tcn_timer):
        timer_delete(timer)
    cancel_delayed_work(br.gc_work)


def br_stp_set_enabled(br: net_bridge, enabled: bool) -> None:
    """net/bridge/br_stp_if.c: `stp_state`: br_stp_start and br_stp_stop.

    A blocking port stays blocking until the BPDU that caused it is too old.
    """
    if enabled == (br.stp_enabled != br_private.BR_NO_STP):
        return
    if not enabled:
        br.stp_enabled = br_private.BR_NO_STP
        return
    low, high = br_private.BR_MIN_FORWARD_DELAY, br_private.BR_MAX_FORWARD_DELAY
    __br_set_forward_delay(br, min(max(br.bridge_forward_delay, low), high))
    br.stp_enabled = br_private.BR_KERNEL_STP
    if br.dev.flags & IFF_UP:
        mod_timer_in(br.hello_timer, br.hello_time)
    br_port_state_selection(br)


def br_stp_change_bridge_id(br: net_bridge, addr: bytes) -> None:
    """net/bridge/br_stp_if.c: set the bridge's address and id to `addr`."""
    was_root = br_is_root_bridge(br)
    oldaddr = br.bridge_id[2:]
    br_fdb_change_mac_address(br, addr)
    br.dev.dev_addr = addr
    br.bridge_id = br.bridge_id[:2] + addr
    if br.designated_root[2:] == oldaddr:
        br.designated_root = br.designated_root[:2] + addr
    for p in br.port_list:
        if p.designated_bridge[2:] == oldaddr:
            p.designated_bridge = p.designated_bridge[:2] + addr
        if p.designated_root[2:] == oldaddr:
            p.designated_root = p.designated_root[:2] + addr
    br_elect(br, was_root)


def br_stp_recalculate_bridge_id(br: net_bridge) -> bool:
    """net/bridge/br_stp_if.c: the lowest of the ports' addresses, unless one was set. Changed?"""
    if br.dev.addr_assign_type == NET_ADDR_SET:
        return False
    addr = min((p.dev.dev_addr for p in br.port_list), default=bytes(6))
    if addr == br.bridge_id[2:]:
        return False
    br_stp_change_bridge_id(br, addr)
    return True


# --- settings -------------------------------------------------------------------------------------


def br_stp_set_bridge_priority(br: net_bridge, newprio: int) -> None:
    """net/bridge/br_stp_if.c: 16 bits of `newprio`, as Linux takes them."""
    was_root = br_is_root_bridge(br)
    bridge_id = (newprio & 0xFFFF).to_bytes(2, "big") + br.bridge_id[2:]
    for p in br.port_list:
        if p.state != br_private.BR_STATE_DISABLED and br_is_designated_port(p):
            p.designated_bridge = bridge_id
    br.bridge_id = bridge_id
    br_elect(br, was_root)


def br_stp_set_port_priority(p: net_bridge_port, newprio: int) -> int:
    """net/bridge/br_stp_if.c. -ERANGE: more than 63."""
    if newprio > br_private.BR_MAX_PORT_PRIORITY:
        return -errno.ERANGE
    designated = br_is_designated_port(p)
    p.priority = newprio
    p.port_id = newprio << br_private.BR_PORT_BITS | p.port_no
    if designated:
        p.designated_port = p.port_id
    if p.br.bridge_id == p.designated_bridge and p.port_id < p.designated_port:
        br_become_designated_port(p)
        br_port_state_selection(p.br)
    return 0


def br_stp_set_path_cost(p: net_bridge_port, path_cost: int) -> int:
    """net/bridge/br_stp_if.c: it no longer follows the speed. -ERANGE: not 1 to 65535."""
    if not br_private.BR_MIN_PATH_COST <= path_cost <= br_private.BR_MAX_PATH_COST:
        return -errno.ERANGE
    p.flags |= br_private.BR_ADMIN_COST
    p.path_cost = path_cost
    br_configuration_update(p.br)
    br_port_state_selection(p.br)
    return 0


def br_set_hello_time(br: net_bridge, val: int) -> int:
    """net/bridge/br_stp.c. -ERANGE: not 1 to 10 s."""
    if not br_private.BR_MIN_HELLO_TIME <= val <= br_private.BR_MAX_HELLO_TIME:
        return -errno.ERANGE
    br.bridge_hello_time = val
    if br_is_root_bridge(br):
        br.hello_time = val
    return 0


def br_set_max_age(br: net_bridge, val: int) -> int:
    """net/bridge/br_stp.c. -ERANGE: not 6 to 40 s."""
    if not br_private.BR_MIN_MAX_AGE <= val <= br_private.BR_MAX_MAX_AGE:
        return -errno.ERANGE
    br.bridge_max_age = val
    if br_is_root_bridge(br):
        br.max_age = val
    return 0


def __br_set_forward_delay(br: net_bridge, val: int) -> None:
    """net/bridge/br_stp.c."""
    br.bridge_forward_delay = val
    if br_is_root_bridge(br):
        br.forward_delay = val


def br_set_forward_delay(br: net_bridge, val: int) -> int:
    """net/bridge/br_stp.c. -ERANGE: not 2 to 30 s while STP runs."""
    fits = br_private.BR_MIN_FORWARD_DELAY <= val <= br_private.BR_MAX_FORWARD_DELAY
    if br.stp_enabled != br_private.BR_NO_STP and not fits:
        return -errno.ERANGE
    __br_set_forward_delay(br, val)
    return 0


def br_set_ageing_time(br: net_bridge, val: int) -> None:
    """net/bridge/br_stp.c: set the time after which learned addresses are removed."""
    br.bridge_ageing_time = br.ageing_time = val
    if br.dev.flags & IFF_UP:
        br_fdb_gc(br, 0)


def br_set_port_state(p: net_bridge_port, state: int) -> int:
    """net/bridge/br_netlink.c: `bridge link set dev PORT state STATE`.

    -EINVAL: no state; -EBUSY: STP decides; -ENETDOWN. As in Linux without STP a blocking port
    forwards again at once; listening and learning stay.
    """
    if not br_private.BR_STATE_DISABLED <= state <= br_private.BR_STATE_BLOCKING:
        return -errno.EINVAL
    if p.br.stp_enabled == br_private.BR_KERNEL_STP:
        return -errno.EBUSY
    dev = p.dev
    if not netif_running(dev) or not (
        netif_carrier_ok(dev) or state == br_private.BR_STATE_DISABLED
    ):
        return -errno.ENETDOWN
    br_set_state(p, state)
    br_port_state_selection(p.br)
    return 0
