"""net/bridge/br_stp_timer.c: the seven timers of IEEE 802.1D 8.5.6 and 8.5.7.

All but the forward delay's are housekeeping: alone they do not keep a simulation going.
"""

from __future__ import annotations

from stack.bridge import br_private
from stack.bridge.br_private import br_timer, mod_timer_in, net_bridge, net_bridge_port
from stack.bridge.br_stp import (
    __br_set_topology_change,
    br_become_designated_port,
    br_config_bpdu_generation,
    br_elect,
    br_ifinfo_notify,
    br_is_root_bridge,
    br_set_state,
    br_topology_change_detection,
    br_transmit_config,
    br_transmit_tcn,
)
from stack.core.link_watch import netif_carrier_on
from stack.core.netdevice import IFF_UP
from stack.core.timer import timer_list, timer_shutdown


def br_is_designated_for_some_port(br: net_bridge) -> bool:
    """net/bridge/br_stp_timer.c."""
    return any(
        p.state != br_private.BR_STATE_DISABLED and p.designated_bridge == br.bridge_id
        for p in br.port_list
    )


def br_hello_timer_expired(timer: timer_list) -> None:
    """net/bridge/br_stp_timer.c: the root sends BPDUs."""
    br: net_bridge = timer.data
    if not br.dev.flags & IFF_UP:
        return
    br_config_bpdu_generation(br)
    if br.stp_enabled == br_private.BR_KERNEL_STP:
        mod_timer_in(timer, br.hello_time)


def br_message_age_timer_expired(timer: timer_list) -> None:
    """net/bridge/br_stp_timer.c: the designated bridge of a segment was silent for too long."""
    p: net_bridge_port = timer.data
    br = p.br
    if p.state == br_private.BR_STATE_DISABLED:
        return
    was_root = br_is_root_bridge(br)
    br_become_designated_port(p)
    br_elect(br, was_root)


def br_forward_delay_timer_expired(timer: timer_list) -> None:
    """net/bridge/br_stp_timer.c: listening, learning, forwarding."""
    p: net_bridge_port = timer.data
    br = p.br
    if p.state == br_private.BR_STATE_LISTENING:
        br_set_state(p, br_private.BR_STATE_LEARNING)
        mod_timer_in(timer, br.forward_delay)
    elif p.state == br_private.BR_STATE_LEARNING:
        br_set_state(p, br_private.BR_STATE_FORWARDING)
        if br_is_designated_for_some_port(br):
            br_topology_change_detection(br)
        netif_carrier_on(br.dev)
    br_ifinfo_notify(p)


def br_tcn_timer_expired(timer: timer_list) -> None:
    """net/bridge/br_stp_timer.c: the notification was not acknowledged: send it again."""
    br: net_bridge = timer.data
    if not br_is_root_bridge(br) and br.dev.flags & IFF_UP:
        br_transmit_tcn(br)
        mod_timer_in(timer, br.bridge_hello_time)


def br_topology_change_timer_expired(timer: timer_list) -> None:
    """net/bridge/br_stp_timer.c: the root has announced the change for long enough."""
    br: net_bridge = timer.data
    br.topology_change_detected = False
    __br_set_topology_change(br, False)


def br_hold_timer_expired(timer: timer_list) -> None:
    """net/bridge/br_stp_timer.c: the next BPDU may be sent."""
    p: net_bridge_port = timer.data
    if p.config_pending:
        br_transmit_config(p)


def br_stp_timer_init(br: net_bridge) -> None:
    """net/bridge/br_stp_timer.c: the timers of a bridge."""
    br.hello_timer = br_timer(br.dev, br_hello_timer_expired, br)
    br.tcn_timer = br_timer(br.dev, br_tcn_timer_expired, br)
    br.topology_change_timer = br_timer(br.dev, br_topology_change_timer_expired, br)


def br_stp_port_timer_init(p: net_bridge_port) -> None:
    """net/bridge/br_stp_timer.c: the timers of a port."""
    p.message_age_timer = br_timer(p.dev, br_message_age_timer_expired, p)
    p.forward_delay_timer = timer_list(p.dev.machine, br_forward_delay_timer_expired, data=p)
    p.hold_timer = br_timer(p.dev, br_hold_timer_expired, p)


def br_stp_timer_shutdown(*timers: timer_list) -> None:
    """Stop these timers; their bridge or port is removed."""
    for timer in timers:
        timer_shutdown(timer)


def br_timer_value(timer: timer_list) -> int:
    """net/bridge/br_stp_timer.c: ns until the timer expires; 0: it is not armed."""
    return max(timer.expires - timer.machine.clock.now_ns(), 0) if timer.pending else 0
