"""net/bridge/br_stp.c: the computation of the spanning tree protocol (IEEE 802.1D-1998 clause 8).

Without STP (`stp_enabled` 0) a bridge is the root, its ports are designated and forward at once.

Callers:

    br_stp_rcv.py       br_received_config_bpdu, br_received_tcn_bpdu
    br_stp_timer.py     expired timers
    br_stp_if.py        ports and bridges that go up and down, and settings

They call, in this order:

    br_configuration_update         br_root_selection: which port leads to the best root
                                    br_designated_port_selection: on which segments we send BPDUs
    br_port_state_selection         root port and designated ports br_make_forwarding,
                                    others br_make_blocking
    br_become_root_bridge           after these, when the bridge was none before
    br_config_bpdu_generation       br_transmit_config for each designated port
    br_topology_change_detection    notify the root, or as the root notify all

The state is in `net_bridge` and `net_bridge_port`. `designated_*` of a port is the best BPDU of its
segment, received or sent by this bridge. Smaller is better. Read
br_received_config_bpdu first.
"""

from __future__ import annotations

from stack.bridge import br_private
from stack.bridge.br_fdb import br_fdb_gc
from stack.bridge.br_multicast import br_multicast_enable_port
from stack.bridge.br_private import mod_timer_in, net_bridge, net_bridge_port
from stack.bridge.br_stp_bpdu import TICK_NS, br_config_bpdu, br_send_config_bpdu, br_send_tcn_bpdu
from stack.core.link_watch import netif_carrier_off, netif_carrier_on
from stack.core.netdevice import IFF_UP
from stack.core.timer import timer_delete, timer_pending
from stack.core.uapi import RTM_NEWLINK

MESSAGE_AGE_INCR = TICK_NS
"""The increment of a BPDU's age in each bridge."""


def br_set_state(p: net_bridge_port, state: int) -> None:
    """net/bridge/br_stp.c."""
    p.state = state


def br_ifinfo_notify(p: net_bridge_port, event: int = RTM_NEWLINK) -> None:
    """net/bridge/br_netlink.c: notify listeners of a changed or removed port (RTM_DELLINK)."""
    rtnl = p.dev.net.rtnl
    if rtnl is not None:
        rtnl(event, p, 0)


def br_is_root_bridge(br: net_bridge) -> bool:
    """net/bridge/br_private_stp.h."""
    return br.bridge_id == br.designated_root


def br_is_designated_port(p: net_bridge_port) -> bool:
    """net/bridge/br_private_stp.h: whether this bridge sends the BPDUs of the port's segment."""
    return p.designated_bridge == p.br.bridge_id and p.designated_port == p.port_id


def br_get_port(br: net_bridge, port_no: int) -> net_bridge_port | None:
    """net/bridge/br_stp.c: a port by its number."""
    return next((p for p in br.port_list if p.port_no == port_no), None)


def br_init_port(p: net_bridge_port) -> None:
    """net/bridge/br_stp.c: initialize a port: designated, and blocking."""
    p.port_id = p.priority << br_private.BR_PORT_BITS | p.port_no
    br_become_designated_port(p)
    br_set_state(p, br_private.BR_STATE_BLOCKING)
    p.topology_change_ack = p.config_pending = False


# --- which port leads to the root, which ports are designated -------------------------------------


def _towards_root(p: net_bridge_port) -> tuple[bytes, int, bytes, int, int]:
    """The key that compares ports as paths to the root; the smallest is the best (8.6.8.3.1)."""
    cost = p.designated_cost + p.path_cost
    return p.designated_root, cost, p.designated_bridge, p.designated_port, p.port_id


def br_should_become_root_port(p: net_bridge_port, root_port: net_bridge_port | None) -> bool:
    """net/bridge/br_stp.c: whether `p` leads to a root, and better than the best port so far."""
    br = p.br
    if p.state == br_private.BR_STATE_DISABLED or br_is_designated_port(p):
        return False
    if br.bridge_id <= p.designated_root:
        return False
    return root_port is None or _towards_root(p) < _towards_root(root_port)


def br_root_port_block(p: net_bridge_port) -> None:
    """net/bridge/br_stp.c: a port with root_block gets a better root's BPDU: it only listens."""
    br_set_state(p, br_private.BR_STATE_LISTENING)
    br_ifinfo_notify(p)
    if p.br.forward_delay:
        mod_timer_in(p.forward_delay_timer, p.br.forward_delay)


def br_root_selection(br: net_bridge) -> None:
    """net/bridge/br_stp.c: find the root port, and with it the root (8.6.8)."""
    root_port: net_bridge_port | None = None
    for p in br.port_list:
        if not br_should_become_root_port(p, root_port):
            continue
        if p.flags & br_private.BR_ROOT_BLOCK:
            br_root_port_block(p)
        else:
            root_port = p
    if root_port is None:
        br.root_port, br.designated_root, br.root_path_cost = 0, br.bridge_id, 0
        return
    br.root_port = root_port.port_no
    br.designated_root = root_port.designated_root
    br.root_path_cost = root_port.designated_cost + root_port.path_cost


def br_should_become_designated_port(p: net_bridge_port) -> bool:
    """net/bridge/br_stp.c: whether this bridge's BPDU is better than the received one."""
    br = p.br
    if br_is_designated_port(p) or p.designated_root != br.designated_root:
        return True
    ours = br.root_path_cost, br.bridge_id, p.port_id
    return ours < (p.designated_cost, p.designated_bridge, p.designated_port)


def br_become_designated_port(p: net_bridge_port) -> None:
    """net/bridge/br_stp.c (8.6.11)."""
    br = p.br
    p.designated_root, p.designated_cost = br.designated_root, br.root_path_cost
    p.designated_bridge, p.designated_port = br.bridge_id, p.port_id


def br_designated_port_selection(br: net_bridge) -> None:
    """net/bridge/br_stp.c (8.6.9)."""
    for p in br.port_list:
        if p.state != br_private.BR_STATE_DISABLED and br_should_become_designated_port(p):
            br_become_designated_port(p)


def br_configuration_update(br: net_bridge) -> None:
    """net/bridge/br_stp.c (8.6.7)."""
    br_root_selection(br)
    br_designated_port_selection(br)


def br_become_root_bridge(br: net_bridge) -> None:
    """net/bridge/br_stp.c: the bridge becomes the root: its own times apply."""
    br.max_age, br.hello_time = br.bridge_max_age, br.bridge_hello_time
    br.forward_delay = br.bridge_forward_delay
    br_topology_change_detection(br)
    timer_delete(br.tcn_timer)
    if br.dev.flags & IFF_UP:
        br_config_bpdu_generation(br)
        mod_timer_in(br.hello_timer, br.hello_time)


# --- states of ports ------------------------------------------------------------------------------


def br_port_state_selection(br: net_bridge) -> None:
    """net/bridge/br_stp.c: the states of all ports; the bridge has a carrier when one forwards."""
    liveports = 0
    for p in br.port_list:
        if p.state == br_private.BR_STATE_DISABLED:
            continue
        if p.port_no == br.root_port:
            p.config_pending = p.topology_change_ack = False
            br_make_forwarding(p)
        elif br_is_designated_port(p):
            timer_delete(p.message_age_timer)
            br_make_forwarding(p)
        else:
            p.config_pending = p.topology_change_ack = False
            br_make_blocking(p)
        if p.state != br_private.BR_STATE_BLOCKING:
            br_multicast_enable_port(p)
        if p.state == br_private.BR_STATE_FORWARDING:
            liveports += 1
    if liveports:
        netif_carrier_on(br.dev)
    else:
        netif_carrier_off(br.dev)


def br_elect(br: net_bridge, was_root: bool) -> None:
    """After a change: elect again, and act as the root if the bridge is it now."""
    br_configuration_update(br)
    br_port_state_selection(br)
    if br_is_root_bridge(br) and not was_root:
        br_become_root_bridge(br)


def br_make_blocking(p: net_bridge_port) -> None:
    """net/bridge/br_stp.c (8.6.13)."""
    if p.state in (br_private.BR_STATE_DISABLED, br_private.BR_STATE_BLOCKING):
        return
    if p.state in (br_private.BR_STATE_FORWARDING, br_private.BR_STATE_LEARNING):
        br_topology_change_detection(p.br)
    br_set_state(p, br_private.BR_STATE_BLOCKING)
    br_ifinfo_notify(p)
    timer_delete(p.forward_delay_timer)


def br_make_forwarding(p: net_bridge_port) -> None:
    """net/bridge/br_stp.c: without STP forward at once, else listen first (8.6.12)."""
    br = p.br
    if p.state != br_private.BR_STATE_BLOCKING:
        return
    if br.stp_enabled == br_private.BR_NO_STP or not br.forward_delay:
        br_set_state(p, br_private.BR_STATE_FORWARDING)
        br_topology_change_detection(br)
        timer_delete(p.forward_delay_timer)
    else:
        br_set_state(p, br_private.BR_STATE_LISTENING)
    br_ifinfo_notify(p)
    if br.stp_enabled != br_private.BR_NO_STP and br.forward_delay:
        mod_timer_in(p.forward_delay_timer, br.forward_delay)


# --- sending --------------------------------------------------------------------------------------


def br_transmit_config(p: net_bridge_port) -> None:
    """net/bridge/br_stp.c: send a BPDU through a port, one a second at most (8.6.1)."""
    br = p.br
    if timer_pending(p.hold_timer):
        p.config_pending = True
        return
    message_age = 0
    root = br_get_port(br, br.root_port)
    if root is not None:
        message_age = br.dev.machine.clock.now_ns() - root.designated_age + MESSAGE_AGE_INCR
    if message_age >= br.max_age:
        return
    br_send_config_bpdu(
        p,
        br_config_bpdu(
            root=br.designated_root,
            root_path_cost=br.root_path_cost,
            bridge_id=br.bridge_id,
            port_id=p.port_id,
            message_age=message_age,
            max_age=br.max_age,
            hello_time=br.hello_time,
            forward_delay=br.forward_delay,
            topology_change=br.topology_change,
            topology_change_ack=p.topology_change_ack,
        ),
    )
    p.topology_change_ack = p.config_pending = False
    if br.stp_enabled == br_private.BR_KERNEL_STP:
        mod_timer_in(p.hold_timer, br_private.BR_HOLD_TIME)


def br_config_bpdu_generation(br: net_bridge) -> None:
    """net/bridge/br_stp.c: send BPDUs on all segments of designated ports (8.6.4)."""
    for p in br.port_list:
        if p.state != br_private.BR_STATE_DISABLED and br_is_designated_port(p):
            br_transmit_config(p)


def br_transmit_tcn(br: net_bridge) -> None:
    """net/bridge/br_stp.c: report a topology change towards the root (8.6.6)."""
    p = br_get_port(br, br.root_port)
    if p is not None:
        br_send_tcn_bpdu(p)


# --- receiving ------------------------------------------------------------------------------------


def br_supersedes_port_info(p: net_bridge_port, bpdu: br_config_bpdu) -> bool:
    """net/bridge/br_stp.c: whether a BPDU is as good as what is recorded, or better (8.6.2.2)."""
    told = bpdu.root, bpdu.root_path_cost, bpdu.bridge_id
    known = p.designated_root, p.designated_cost, p.designated_bridge
    if told != known:
        return told < known
    return bpdu.bridge_id != p.br.bridge_id or bpdu.port_id <= p.designated_port


def br_record_config_information(p: net_bridge_port, bpdu: br_config_bpdu) -> None:
    """net/bridge/br_stp.c (8.6.2)."""
    p.designated_root, p.designated_cost = bpdu.root, bpdu.root_path_cost
    p.designated_bridge, p.designated_port = bpdu.bridge_id, bpdu.port_id
    p.designated_age = p.dev.machine.clock.now_ns() - bpdu.message_age
    mod_timer_in(p.message_age_timer, bpdu.max_age - bpdu.message_age)


def br_record_config_timeout_values(br: net_bridge, bpdu: br_config_bpdu) -> None:
    """net/bridge/br_stp.c: the root's times (8.6.3)."""
    br.max_age, br.hello_time = bpdu.max_age, bpdu.hello_time
    br.forward_delay = bpdu.forward_delay
    __br_set_topology_change(br, bpdu.topology_change)


def br_received_config_bpdu(p: net_bridge_port, bpdu: br_config_bpdu) -> None:
    """net/bridge/br_stp.c: a configuration BPDU (8.7.1)."""
    br = p.br
    was_root = br_is_root_bridge(br)
    if not br_supersedes_port_info(p, bpdu):
        if br_is_designated_port(p):
            br_transmit_config(p)  # whoever sent it knows less
        return
    br_record_config_information(p, bpdu)
    br_configuration_update(br)
    br_port_state_selection(br)
    if not br_is_root_bridge(br) and was_root:
        timer_delete(br.hello_timer)
        if br.topology_change_detected:
            timer_delete(br.topology_change_timer)
            br_transmit_tcn(br)
            mod_timer_in(br.tcn_timer, br.bridge_hello_time)
    if p.port_no == br.root_port:
        br_record_config_timeout_values(br, bpdu)
        br_config_bpdu_generation(br)
        if bpdu.topology_change_ack:
            br_topology_change_acknowledged(br)


def br_received_tcn_bpdu(p: net_bridge_port) -> None:
    """net/bridge/br_stp.c: a bridge farther from the root reports a change (8.7.2)."""
    if br_is_designated_port(p):
        br_topology_change_detection(p.br)
        p.topology_change_ack = True
        br_transmit_config(p)


# --- changes of the topology ----------------------------------------------------------------------


def br_topology_change_detection(br: net_bridge) -> None:
    """net/bridge/br_stp.c: a port began or stopped to forward (8.6.14)."""
    if br.stp_enabled != br_private.BR_KERNEL_STP:
        return
    if br_is_root_bridge(br):
        __br_set_topology_change(br, True)
        mod_timer_in(br.topology_change_timer, br.bridge_forward_delay + br.bridge_max_age)
    elif not br.topology_change_detected:
        br_transmit_tcn(br)
        mod_timer_in(br.tcn_timer, br.bridge_hello_time)
    br.topology_change_detected = True


def br_topology_change_acknowledged(br: net_bridge) -> None:
    """net/bridge/br_stp.c: the next bridge towards the root has acknowledged (8.6.15)."""
    br.topology_change_detected = False
    timer_delete(br.tcn_timer)


def __br_set_topology_change(br: net_bridge, val: bool) -> None:
    """net/bridge/br_stp.c: during a change addresses age in the forward delay, not `ageing_time`.

    `ageing_time` is twice the forward delay then, as a switch's hardware would be told.
    """
    if br.stp_enabled == br_private.BR_KERNEL_STP and br.topology_change != val:
        br.ageing_time = 2 * br.forward_delay if val else br.bridge_ageing_time
    if val and not br.topology_change and br.dev.flags & IFF_UP:
        br_fdb_gc(br, 0)
    br.topology_change = val
