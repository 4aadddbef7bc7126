"""net/core/dev.c: interfaces, the transmit path from `dev_queue_xmit` to the driver, and reception.

Sending: dev_queue_xmit -> __dev_queue_xmit -> __dev_xmit_skb -> qdisc.enqueue -> qdisc_run ->
qdisc_restart -> qdisc.dequeue -> sch_direct_xmit -> dev_hard_start_xmit -> dev_queue_xmit_nit
(taps) -> ndo_start_xmit. Receiving: netif_receive_skb -> __netif_receive_skb_core -> deliver_skb ->
packet_type.func; NAPI itself is in napi.py, the disciplines in qdisc.py.
"""

from __future__ import annotations

import errno
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

from fastpath.gso import skb_gso_segment
from fastpath.inet import skb_enter_network
from fastpath.skbuff import (
    CHECKSUM_PARTIAL,
    CHECKSUM_UNNECESSARY,
    PACKET_HOST,
    PACKET_LOOPBACK,
    PACKET_OTHERHOST,
    PACKET_OUTGOING,
    SKB_GSO_TCP_ECN,
    SKB_GSO_TCPV4,
    SKB_GSO_TCPV6,
    SKB_GSO_UDP_L4,
    consume_skb,
    kfree_skb,
    pskb_may_pull,
    sk_buff,
    skb_checksum_help,
    skb_clone,
    skb_copy_bits,
    skb_cow_head,
    skb_get,
    skb_linearize,
    skb_pull,
    skb_push_data,
    skb_reset_mac_header,
    skb_reset_network_header,
    skb_share_check,
)
from stack.core.drop_reason import (
    SKB_DROP_REASON_CPU_BACKLOG,
    SKB_DROP_REASON_DEV_HDR,
    SKB_DROP_REASON_DEV_READY,
    SKB_DROP_REASON_NOMEM,
    SKB_DROP_REASON_SKB_CSUM,
    SKB_DROP_REASON_SKB_GSO_SEG,
    SKB_DROP_REASON_UNHANDLED_PROTO,
    kfree_skb_reason,
)
from stack.core.net_namespace import (
    pernet_operations,
    register_pernet_device,
    register_pernet_subsys,
)
from stack.core.netdevice import (
    ETH_P_8021AD,
    ETH_P_8021Q,
    ETH_P_ALL,
    IFF_ALLMULTI,
    IFF_DEBUG,
    IFF_MULTICAST,
    IFF_NOARP,
    IFF_PROMISC,
    IFF_UP,
    IFNAMSIZ,
    LINK_STATE_NOCARRIER,
    LINK_STATE_PRESENT,
    LINK_STATE_START,
    NAPI_STATE_SCHED,
    NET_RX_DROP,
    NET_RX_SUCCESS,
    NETDEV_CHANGE,
    NETDEV_CHANGEADDR,
    NETDEV_CHANGEMTU,
    NETDEV_CHANGENAME,
    NETDEV_DOWN,
    NETDEV_FEAT_CHANGE,
    NETDEV_GOING_DOWN,
    NETDEV_PRE_UP,
    NETDEV_REGISTER,
    NETDEV_UNREGISTER,
    NETDEV_UP,
    NETIF_F_ALL_TSO,
    NETIF_F_CSUM_MASK,
    NETIF_F_GSO,
    NETIF_F_GSO_UDP_L4,
    NETIF_F_HW_CSUM,
    NETIF_F_HW_VLAN_CTAG_TX,
    NETIF_F_IP_CSUM,
    NETIF_F_IPV6_CSUM,
    NETIF_F_SG,
    NETIF_F_SOFT_FEATURES,
    NETIF_F_TSO,
    NETIF_F_TSO6,
    NETIF_F_TSO_ECN,
    NETREG_REGISTERED,
    NETREG_RELEASED,
    NETREG_UNREGISTERED,
    NOTIFY_BAD,
    RX_HANDLER_ANOTHER,
    RX_HANDLER_CONSUMED,
    RX_HANDLER_EXACT,
    VLAN_HLEN,
    VLAN_VID_MASK,
    dev_get_flags,
    napi_struct,
    net_device,
    net_device_ops,
    netdev_priv,
    netdev_xmit_more,
    netif_carrier_ok,
    netif_device_present,
    netif_running,
    packet_type,
    softnet_data,
)
from stack.core.snmp import rtnl_link_stats64
from stack.core.softirq import (
    NET_RX_SOFTIRQ,
    NET_TX_SOFTIRQ,
    do_softirq,
    local_bh_disable,
    local_bh_enable,
    open_softirq,
    raise_softirq_irqoff,
)
from stack.core.timer import TIMER_DEFERRABLE, mod_timer, timer_delete, timer_list
from stack.sched.sch_generic import Qdisc, noop_qdisc, qdisc_create_dflt

if TYPE_CHECKING:
    from stack.machine import Machine
    from stack.net import Net

__all__ = [
    "Qdisc",
    "__dev_queue_xmit",
    "__netif_receive_skb",
    "__netif_schedule",
    "alloc_netdev_mqs",
    "deliver_skb",
    "dev_add_pack",
    "dev_close",
    "dev_get_by_index",
    "dev_get_by_name",
    "dev_get_flags",
    "dev_hard_start_xmit",
    "dev_kfree_skb_irq",
    "dev_mc_add",
    "dev_mc_del",
    "dev_open",
    "dev_queue_xmit",
    "dev_queue_xmit_nit",
    "dev_remove_pack",
    "dev_set_mtu",
    "dev_uc_add",
    "dev_uc_del",
    "free_netdev",
    "napi_complete",
    "napi_complete_done",
    "napi_disable",
    "napi_enable",
    "napi_gro_receive",
    "napi_schedule",
    "napi_struct",
    "net_device",
    "net_device_ops",
    "net_rx_action",
    "net_tx_action",
    "netdev_priv",
    "netdev_xmit_more",
    "netif_carrier_off",
    "netif_carrier_ok",
    "netif_carrier_on",
    "netif_napi_add",
    "netif_receive_skb",
    "netif_running",
    "netif_rx",
    "netif_schedule",
    "netif_start_queue",
    "netif_stop_queue",
    "netif_wake_queue",
    "packet_type",
    "qdisc_restart",
    "qdisc_run",
    "register_netdev",
    "register_netdevice",
    "register_netdevice_notifier",
    "rtnl_link_stats64",
    "softnet_data",
    "unregister_netdev",
]

MAX_XMIT_RECURSION = 8
NETDEV_MAX_BACKLOG = 1000
_NET_TX = 1 << NET_TX_SOFTIRQ
_CSUM_SG = NETIF_F_HW_CSUM | NETIF_F_SG

# A packet that has none of these needs no look from validate_xmit_skb.
_GSO_FEATURE = {
    SKB_GSO_TCPV4: NETIF_F_TSO,
    SKB_GSO_TCPV6: NETIF_F_TSO6,
    SKB_GSO_UDP_L4: NETIF_F_GSO_UDP_L4,
}
_GSO_KINDS = SKB_GSO_TCPV4 | SKB_GSO_TCPV6 | SKB_GSO_UDP_L4


# --- sending -----------------------------------------------------------------------------------


def dev_queue_xmit(skb: sk_buff) -> int:
    """net/core/dev.c: send a complete frame through skb.dev. NET_XMIT_* or -errno.

    Takes ownership of skb (data at the MAC header). __dev_queue_xmit and __dev_xmit_skb of the
    kernel are in this one body: every call costs. No TCQ_F_CAN_BYPASS: enqueue and dequeue see
    every packet (kernel-flow order).
    """
    dev = skb.dev
    machine = dev.machine
    q = dev.qdisc
    machine.softirq_count += 1  # rcu_read_lock_bh()
    if q.noqueue:
        rc = __dev_xmit_noqueue(skb, dev)
    else:
        rc = q.enqueue(skb)
        qdisc_run(q)
    machine.softirq_count = count = machine.softirq_count - 1
    if not count and machine.softirq_pending and not machine.hardirq_count:
        do_softirq(machine)
    return rc


__dev_queue_xmit = dev_queue_xmit


def __dev_xmit_noqueue(skb: sk_buff, dev: net_device) -> int:
    """net/core/dev.c: the part of __dev_queue_xmit for lo, vlan and the like."""
    net = dev.net
    sd = dev.machine.softnet_data
    skb_reset_mac_header(skb)
    if dev.flags & IFF_UP and sd.xmit_recursion < MAX_XMIT_RECURSION:
        skbs = validate_xmit_skb(skb, dev) or []
        sd.xmit_recursion += 1
        try:
            if skbs:
                skbs = dev_hard_start_xmit(skbs[0], dev, skbs) or []
        finally:
            sd.xmit_recursion -= 1
        if not skbs:
            return 0
        skb_list_free(net, skbs, SKB_DROP_REASON_DEV_READY)  # BUSY without a queue: dropped
        return -errno.ENETDOWN
    dev.stats.tx_dropped += 1
    kfree_skb_reason(net, skb, SKB_DROP_REASON_DEV_READY)
    return -errno.ENETDOWN


def qdisc_run(q: Qdisc) -> None:
    """include/net/pkt_sched.h: send what the discipline gives, unless that is going on already.

    With __qdisc_run: up to `dev_weight` packets now, the rest by NET_TX_SOFTIRQ.
    """
    if q.running:
        return
    q.running = True
    sent = qdisc_restart(q)
    if sent and q.qlen:
        __qdisc_run(q, q.dev.machine.net_hotdata.dev_tx_weight - sent)
    q.running = False


def __qdisc_run(q: Qdisc, quota: int) -> None:
    """net/sched/sch_generic.c: go on sending; what is left after `quota` by NET_TX_SOFTIRQ."""
    while quota > 0:
        sent = qdisc_restart(q)
        if not sent or not q.qlen:
            return
        quota -= sent
    __netif_schedule(q)


def qdisc_restart(q: Qdisc) -> int:
    """net/sched/sch_generic.c: take packets off the discipline and send them.

    Packets handled; 0 when there is none to send now, or the driver is busy.
    """
    dev = q.dev
    if q.qlen != 1 or dev.queue_stopped or q.gso_skb:
        skbs = dequeue_skb(q)
        if skbs is None:
            return 0
        return sch_direct_xmit(skbs, q, dev)
    # One packet: dequeue_skb and sch_direct_xmit without their lists.
    skb = q.dequeue()
    if skb is None:
        return 0
    if not dev.xmit_simple or skb.gso_size or skb.vlan_proto:
        skbs = validate_xmit_skb(skb, dev)
        return sch_direct_xmit(skbs, q, dev) if skbs else 1
    left = dev_hard_start_xmit(skb, dev)
    if left is not None:
        dev_requeue_skb(left, q)
        return 0
    return 1


def dequeue_skb(q: Qdisc) -> list[sk_buff] | None:
    """net/sched/sch_generic.c: what was refused first, else from the discipline, in bulk.

    None while the driver has stopped its queue. When more wait, up to `dev_weight` are taken at
    once (xmit_more).
    """
    dev = q.dev
    if dev.queue_stopped:
        return None
    if q.gso_skb:
        skbs = list(q.gso_skb)
        q.gso_skb.clear()
        q.qlen -= len(skbs)
        return skbs
    skb = q.dequeue()
    if skb is None:
        return None
    if not q.qlen:
        return validate_xmit_skb(skb, dev)
    return try_bulk_dequeue_skb(q, skb, dev)


def try_bulk_dequeue_skb(q: Qdisc, skb: sk_buff, dev: net_device) -> list[sk_buff] | None:
    """net/sched/sch_generic.c: add packets to `skb` so that the doorbell rings once for all."""
    skbs = validate_xmit_skb(skb, dev) or []
    room = dev.machine.net_hotdata.dev_tx_weight - 1
    while room and q.qlen:
        more = q.dequeue()
        if more is None:
            break
        skbs += validate_xmit_skb(more, dev) or ()
        room -= 1
    return skbs


def sch_direct_xmit(skbs: list[sk_buff], q: Qdisc, dev: net_device) -> int:
    """net/sched/sch_generic.c: hand packets to the driver; requeue what it refuses."""
    if not skbs:
        return 1
    left = dev_hard_start_xmit(skbs[0], dev, skbs)
    if left:
        dev_requeue_skb(left, q)
        return 0
    return len(skbs)


def dev_requeue_skb(skbs: list[sk_buff], q: Qdisc) -> None:
    """net/sched/sch_generic.c: the driver was busy: these go first, soon."""
    q.gso_skb.extendleft(reversed(skbs))
    q.qlen += len(skbs)
    q.qstats.requeues += len(skbs)
    if not q.dev.queue_stopped:
        __netif_schedule(q)


def dev_hard_start_xmit(
    first: sk_buff, dev: net_device, skbs: list[sk_buff] | None = None
) -> list[sk_buff] | None:
    """net/core/dev.c: give packets to taps and driver; those the driver did not take, or None.

    `skbs` is the whole list when `first` is not alone. Takes ownership of the packets that are not
    returned. `dev.xmit_more` is true for all but the last.
    """
    start_xmit = dev.netdev_ops.ndo_start_xmit
    if skbs is None or len(skbs) == 1:
        dev_queue_xmit_nit(first, dev)
        return [first] if start_xmit(first, dev) else None
    last = len(skbs) - 1
    try:
        for index, skb in enumerate(skbs):
            dev.xmit_more = index < last
            dev_queue_xmit_nit(skb, dev)
            if start_xmit(skb, dev):  # NETDEV_TX_BUSY: still ours
                return skbs[index:]
            if dev.queue_stopped and index < last:
                return skbs[index + 1 :]
    finally:
        dev.xmit_more = False
    return None


def dev_queue_xmit_nit(skb: sk_buff, dev: net_device) -> None:
    """net/core/dev.c: show an outgoing packet to the taps (ETH_P_ALL). Borrows skb."""
    net = dev.net
    if not net.ptype_all and not dev.ptype_specific:
        return
    sk = skb.sk
    for ptype in (*net.ptype_all, *dev.ptype_specific):
        if ptype.type != ETH_P_ALL or ptype.ignore_outgoing:
            continue
        if ptype.dev is not None and ptype.dev is not dev:
            continue
        if sk is not None and ptype.af_packet_priv is sk:
            continue
        clone = skb_clone(skb)
        clone.tstamp_ns = net.clock.now_ns()
        clone.pkt_type = PACKET_OUTGOING
        skb_reset_mac_header(clone)
        ptype.func(clone, dev, ptype, dev)


def netif_skb_features(skb: sk_buff, dev: net_device) -> int:
    """net/core/dev.c: the device's features that hold for this packet."""
    features = dev.features
    if skb.gso_size and (skb.gso_segs > dev.gso_max_segs or skb.len > dev.gso_max_size + 14):
        features &= ~(NETIF_F_ALL_TSO | NETIF_F_GSO_UDP_L4)
    check = dev.netdev_ops.ndo_features_check
    if check is not None:
        features &= check(skb, dev, features)
    return features


def validate_xmit_skb(skb: sk_buff, dev: net_device) -> list[sk_buff] | None:
    """net/core/dev.c: do in software what the device does not offer: VLAN tag, GSO, checksum.

    Takes ownership of skb. The frames to send, or None when it was dropped.
    """
    gso_size = skb.gso_size
    if (
        not gso_size
        and skb.ip_summed != CHECKSUM_PARTIAL
        and not skb.vlan_proto
        and (not skb.data_len or dev.features & NETIF_F_SG)
    ):
        return [skb]
    return __validate_xmit_skb(skb, dev, gso_size)


def __validate_xmit_skb(skb: sk_buff, dev: net_device, gso_size: int) -> list[sk_buff] | None:
    """net/core/dev.c: the rest of validate_xmit_skb: the packet wants something of the device."""
    skb_reset_mac_header(skb)
    features = dev.features
    if gso_size or dev.netdev_ops.ndo_features_check is not None:
        features = netif_skb_features(skb, dev)
    tag_in_frame = skb.vlan_proto and not features & NETIF_F_HW_VLAN_CTAG_TX
    if tag_in_frame and not vlan_insert_tag_set(skb):
        return _drop_tx(skb, dev, SKB_DROP_REASON_NOMEM)
    if gso_size:
        kind = skb.gso_type & _GSO_KINDS
        if (
            features & _GSO_FEATURE.get(kind, 0)
            and features & NETIF_F_SG
            and csum_ok(skb, features)
            and (not skb.gso_type & SKB_GSO_TCP_ECN or features & NETIF_F_TSO_ECN)
        ):
            return [skb]
        return _gso_in_software(skb, dev, features)
    if skb.data_len and not features & NETIF_F_SG and not skb_linearize(skb):
        return _drop_tx(skb, dev, SKB_DROP_REASON_NOMEM)
    in_software = skb.ip_summed == CHECKSUM_PARTIAL and not csum_ok(skb, features)
    if in_software and not skb_checksum_help(skb):
        return _drop_tx(skb, dev, SKB_DROP_REASON_SKB_CSUM)
    return [skb]


def csum_ok(skb: sk_buff, features: int) -> bool:
    """include/linux/netdevice.h can_checksum_protocol: the device completes this checksum."""
    if features & NETIF_F_HW_CSUM:
        return True
    if skb.protocol == 0x0800:
        return bool(features & NETIF_F_IP_CSUM)
    if skb.protocol == 0x86DD:
        return bool(features & NETIF_F_IPV6_CSUM)
    return False


def _gso_in_software(skb: sk_buff, dev: net_device, features: int) -> list[sk_buff] | None:
    """net/core/gso.c: cut a super-packet that the device cannot cut. Takes ownership of skb."""
    net = dev.net
    try:
        segs = skb_gso_segment(skb, net.skb_small, csum_partial=csum_ok(skb, features))
    except ValueError:
        return _drop_tx(skb, dev, SKB_DROP_REASON_SKB_GSO_SEG)
    except MemoryError:
        return _drop_tx(skb, dev, SKB_DROP_REASON_NOMEM)
    consume_skb(skb)
    if not features & NETIF_F_SG:
        for seg in segs:
            if seg.data_len:
                skb_linearize(seg)
    return segs


def _drop_tx(skb: sk_buff, dev: net_device, reason: int) -> list[sk_buff] | None:
    """Count and free a packet that cannot be sent as it is. Takes ownership of skb."""
    dev.stats.tx_dropped += 1
    kfree_skb_reason(dev.net, skb, reason)
    return None


def vlan_insert_tag_set(skb: sk_buff) -> bool:
    """include/linux/if_vlan.h __vlan_hwaccel_push_inside: put skb.vlan_tci into the frame."""
    if not skb_cow_head(skb, VLAN_HLEN):
        return False
    proto, tci = skb.vlan_proto, skb.vlan_tci
    addrs = skb_copy_bits(skb, 0, 12)
    skb_pull(skb, 12)
    skb_push_data(skb, addrs + proto.to_bytes(2, "big") + tci.to_bytes(2, "big"))
    skb_reset_mac_header(skb)
    skb.vlan_present = False
    return True


def skb_list_free(net: Net, skbs: list[sk_buff], reason: int) -> None:
    """Drop several packets for one reason."""
    for skb in skbs:
        kfree_skb_reason(net, skb, reason)


# --- NET_TX softirq ----------------------------------------------------------------------------


def __netif_schedule(q: Qdisc) -> None:
    """net/core/dev.c: have NET_TX_SOFTIRQ run the discipline."""
    if not q.scheduled and not q.deactivated:
        q.scheduled = True
        machine = q.dev.machine
        machine.softnet_data.output_queue.append(q)
        raise_softirq_irqoff(machine, NET_TX_SOFTIRQ)


def netif_schedule(q: Qdisc) -> None:
    """The old name of __netif_schedule, which the sources use (watchdog expiry)."""
    __netif_schedule(q)


def dev_kfree_skb_irq(skb: sk_buff) -> None:
    """net/core/dev.c: free a sent packet in a hard interrupt: put off to NET_TX_SOFTIRQ.

    Takes ownership of skb.
    """
    machine = skb.dev.machine
    machine.softnet_data.completion_queue.queue_tail(skb)
    raise_softirq_irqoff(machine, NET_TX_SOFTIRQ)


dev_consume_skb_irq = dev_kfree_skb_irq


def dev_kfree_skb_any(skb: sk_buff) -> None:
    """net/core/dev.c: free in whatever context. Takes ownership of skb."""
    if skb.dev is not None and skb.dev.machine.hardirq_count:
        dev_kfree_skb_irq(skb)
    else:
        kfree_skb(skb)


dev_consume_skb_any = dev_kfree_skb_any


def net_tx_action(machine: Machine) -> None:
    """net/core/dev.c: NET_TX_SOFTIRQ: free what interrupts sent, run the scheduled disciplines."""
    sd = machine.softnet_data
    completion = sd.completion_queue
    while completion.qlen:
        consume_skb(completion.dequeue())
    if sd.output_queue:
        queue, sd.output_queue = sd.output_queue, deque()
        for q in queue:
            q.scheduled = False
            if not q.deactivated:
                qdisc_run(q)


# --- receiving ---------------------------------------------------------------------------------


def netif_rx(skb: sk_buff) -> int:
    """net/core/dev.c: queue a received packet to the backlog; any context. NET_RX_*.

    Takes ownership of skb (data past the MAC header, protocol set).
    """
    machine = skb.dev.machine
    if machine.softirq_count or machine.hardirq_count:
        return enqueue_to_backlog(skb, machine)
    local_bh_disable(machine)
    ret = enqueue_to_backlog(skb, machine)
    local_bh_enable(machine)
    return ret


def dev_loopback_xmit(net: Net, sk: Any, skb: sk_buff) -> int:
    """net/core/dev.c: receive our own multicast. Takes ownership of skb (data at L3)."""
    skb_reset_mac_header(skb)
    skb.pkt_type = PACKET_LOOPBACK
    skb.ip_summed = CHECKSUM_UNNECESSARY
    return netif_rx(skb)


def enqueue_to_backlog(skb: sk_buff, machine: Machine) -> int:
    """net/core/dev.c: append to input_pkt_queue, schedule the backlog NAPI; drop when full."""
    sd = machine.softnet_data
    queue = sd.input_pkt_queue
    if queue.qlen > machine.net_hotdata.max_backlog or not netif_running(skb.dev):
        sd.dropped += 1
        skb.dev.stats.rx_dropped += 1
        kfree_skb_reason(skb.dev.net, skb, SKB_DROP_REASON_CPU_BACKLOG)
        return NET_RX_DROP
    queue.queue_tail(skb)
    backlog = sd.backlog
    if not backlog.state & NAPI_STATE_SCHED:
        backlog.state |= NAPI_STATE_SCHED
        __napi_schedule(backlog)
    return NET_RX_SUCCESS


def netif_receive_skb(skb: sk_buff) -> int:
    """net/core/dev.c: pass a received packet up, in softirq context. NET_RX_*.

    Takes ownership of skb (data past the MAC header; dev, protocol, pkt_type, mac_header set).
    `dev.rx_fast` answers for the usual case (one handler, no tap, no rx_handler, no tag); the rest
    is __netif_receive_skb_core's.
    """
    dev = skb.dev
    ptype = dev.rx_fast.get(skb_enter_network(skb, dev.ifindex))
    if ptype is None:
        return __netif_receive_skb(skb)
    return deliver_skb(skb, ptype, dev)


def rx_fast_update(net: Net) -> None:
    """Recompute `rx_fast` of every device: handlers, taps or rx_handlers changed."""
    alone = {
        proto: handlers[0]
        for proto, handlers in net.ptype_base.items()
        if len(handlers) == 1 and proto not in (ETH_P_8021Q, ETH_P_8021AD)
    }
    for dev in net.dev_base_head:
        slow = net.ptype_all or dev.ptype_specific or dev.rx_handler is not None
        dev.rx_fast = {} if slow else alone


def netif_receive_skb_list(skbs: list[sk_buff]) -> None:
    """net/core/dev.c: several packets. Takes ownership of them; the list stays the caller's."""
    for skb in skbs:
        netif_receive_skb(skb)


def __netif_receive_skb(skb: sk_buff) -> int:
    """net/core/dev.c."""
    return __netif_receive_skb_core(skb)


def __netif_receive_skb_core(skb: sk_buff) -> int:
    """net/core/dev.c: taps, VLAN, rx_handler, then the handlers of the protocol."""
    dev = orig_dev = skb.dev
    net = dev.net
    skb_reset_network_header(skb)
    if not skb.skb_iif:
        skb.skb_iif = dev.ifindex
    proto = skb.protocol
    if proto in (ETH_P_8021Q, ETH_P_8021AD):
        untagged = skb_vlan_untag(skb)
        if untagged is None:
            return NET_RX_DROP
        skb = untagged
        proto = skb.protocol
    while True:
        if net.ptype_all or dev.ptype_specific:
            for ptype in (*net.ptype_all, *dev.ptype_specific):
                if ptype.type == ETH_P_ALL and (ptype.dev is None or ptype.dev is dev):
                    deliver_skb(skb_get(skb), ptype, orig_dev)
        if skb.vlan_proto and vlan_do_receive(skb):
            dev = skb.dev
            continue
        handler = dev.rx_handler
        exact = False
        if handler is not None:
            verdict = handler(skb)
            if verdict == RX_HANDLER_CONSUMED:
                return NET_RX_SUCCESS
            if verdict == RX_HANDLER_ANOTHER:
                dev = skb.dev
                proto = skb.protocol
                continue
            exact = verdict == RX_HANDLER_EXACT
        break
    handlers = net.ptype_base.get(proto)
    if handlers is not None and not exact and len(handlers) == 1 and not dev.ptype_specific:
        ptype = handlers[0]
        if ptype.dev is None or ptype.dev is dev:
            return deliver_skb(skb, ptype, orig_dev)
    pt_prev = None
    for ptype in (*(handlers or ()), *dev.ptype_specific):
        if ptype.type != proto or (ptype.dev is None and exact):
            continue
        if ptype.dev is not None and ptype.dev is not dev and ptype.dev is not orig_dev:
            continue
        if pt_prev is not None:
            deliver_skb(skb_get(skb), pt_prev, orig_dev)
        pt_prev = ptype
    if pt_prev is not None:
        return deliver_skb(skb, pt_prev, orig_dev)
    if skb.pkt_type != PACKET_OTHERHOST:
        dev.stats.rx_nohandler += 1
    kfree_skb_reason(net, skb, SKB_DROP_REASON_UNHANDLED_PROTO)
    return NET_RX_DROP


def deliver_skb(skb: sk_buff, pt_prev: packet_type, orig_dev: net_device) -> int:
    """net/core/dev.c: one handler gets the packet. Takes ownership of (one reference to) skb."""
    func = pt_prev.func
    return func(skb, skb.dev, pt_prev, orig_dev)


def skb_vlan_untag(skb: sk_buff) -> sk_buff | None:
    """net/core/skbuff.c: take the tag out of the frame into skb.vlan_*; None when it is too short.

    Takes ownership of skb; data and mac header stay where a plain frame has them.
    """
    if skb.vlan_proto:  # the driver stripped the outer tag; the inner one is left alone
        return skb
    net = skb.dev.net
    shared = skb_share_check(skb)
    if shared is None or not pskb_may_pull(shared, VLAN_HLEN + 2):
        kfree_skb_reason(net, shared, SKB_DROP_REASON_DEV_HDR)
        return None
    skb = shared
    if not skb_cow_head(skb, 0):
        kfree_skb_reason(net, skb, SKB_DROP_REASON_NOMEM)
        return None
    head = skb_copy_bits(skb, 0, VLAN_HLEN)
    proto = skb.protocol
    macs = skb_copy_bits(skb, -14, 12)
    skb_pull(skb, VLAN_HLEN)
    skb.vlan_proto = proto
    skb.vlan_tci = int.from_bytes(head[:2], "big")
    inner = int.from_bytes(head[2:], "big")
    skb_push_data(skb, macs + head[2:])
    skb_reset_mac_header(skb)
    skb_pull(skb, 14)
    skb_reset_network_header(skb)
    skb.protocol = inner if inner >= 0x0600 else 4
    return skb


def vlan_do_receive(skb: sk_buff) -> bool:
    """net/8021q/vlan_core.c: move to the VLAN's device; a tag nobody has makes it OTHERHOST."""
    dev = skb.dev
    vid = skb.vlan_tci & VLAN_VID_MASK
    vlans = dev.vlan_info
    vlan_dev = vlans.get((skb.vlan_proto, vid)) if vlans else None
    if vlan_dev is None or not vlan_dev.flags & IFF_UP:
        if vid:
            skb.pkt_type = PACKET_OTHERHOST
        skb.vlan_present = False  # priority tag (VID 0), or refused below as OTHERHOST
        return False
    skb.dev = vlan_dev
    if skb.pkt_type == PACKET_OTHERHOST:
        from fastpath.hdr import eth_hdr

        if eth_hdr(skb).h_dest == vlan_dev.dev_addr:
            skb.pkt_type = PACKET_HOST
    skb.priority = skb.vlan_tci >> 13
    skb.vlan_present = False
    stats = vlan_dev.stats
    stats.rx_packets += 1
    stats.rx_bytes += skb.len
    return True


def dev_add_pack(net: Net, pt: packet_type) -> None:
    """net/core/dev.c: add a protocol handler or tap."""
    _ptype_head(net, pt).append(pt)
    rx_fast_update(net)


def dev_remove_pack(net: Net, pt: packet_type) -> None:
    """net/core/dev.c: remove it; unknown ones are ignored."""
    head = _ptype_head(net, pt)
    if pt in head:
        head.remove(pt)
    if not head and pt.type != ETH_P_ALL:
        net.ptype_base.pop(pt.type, None)
    rx_fast_update(net)


def _ptype_head(net: Net, pt: packet_type) -> list[packet_type]:
    if pt.type == ETH_P_ALL:
        return net.ptype_all if pt.dev is None else pt.dev.ptype_specific
    if pt.dev is not None:
        return pt.dev.ptype_specific
    return net.ptype_base.setdefault(pt.type, [])


def netdev_rx_handler_register(dev: net_device, handler: Callable[[Any], int], data: Any) -> int:
    """net/core/dev.c: a bridge or bond takes over. 0 or -EBUSY."""
    if dev.rx_handler is not None:
        return -errno.EBUSY
    dev.rx_handler_data = data
    dev.rx_handler = handler
    rx_fast_update(dev.net)
    return 0


def netdev_rx_handler_unregister(dev: net_device) -> None:
    """net/core/dev.c."""
    dev.rx_handler = None
    dev.rx_handler_data = None
    rx_fast_update(dev.net)


# --- the driver's queue ------------------------------------------------------------------------


def netif_start_queue(dev: net_device) -> None:
    """include/linux/netdevice.h: allow transmit."""
    dev.queue_stopped = False


def netif_stop_queue(dev: net_device) -> None:
    """include/linux/netdevice.h: the ring is full: no more packets until netif_wake_queue."""
    dev.queue_stopped = True
    dev.trans_start = dev.net.clock.now_ns()


def netif_wake_queue(dev: net_device) -> None:
    """include/linux/netdevice.h: room again: allow transmit and schedule what waits."""
    if dev.queue_stopped:
        dev.queue_stopped = False
        q = dev.qdisc
        if q is not None and not q.noqueue:
            __netif_schedule(q)


def netif_queue_stopped(dev: net_device) -> bool:
    """include/linux/netdevice.h."""
    return dev.queue_stopped


def netif_carrier_on(dev: net_device) -> None:
    """net/sched/sch_generic.c: the driver saw the link come up."""
    if dev.state & LINK_STATE_NOCARRIER:
        dev.state &= ~LINK_STATE_NOCARRIER
        if dev.reg_state == NETREG_REGISTERED:
            linkwatch_fire_event(dev)
            if netif_running(dev):
                __netdev_watchdog_up(dev)


def netif_carrier_off(dev: net_device) -> None:
    """net/sched/sch_generic.c: the driver saw the link go down."""
    if not dev.state & LINK_STATE_NOCARRIER:
        dev.state |= LINK_STATE_NOCARRIER
        if dev.reg_state == NETREG_REGISTERED:
            linkwatch_fire_event(dev)


def linkwatch_fire_event(dev: net_device) -> None:
    """net/core/link_watch.c: (de)activate the queue and tell the notifiers, as soon as possible."""
    machine = dev.machine
    if dev not in machine.linkwatch_events:
        machine.linkwatch_events.append(dev)
        if len(machine.linkwatch_events) == 1:
            machine.clock.call_soon(machine.linkwatch_run_queue)


def linkwatch_run_queue(machine: Machine) -> None:
    """net/core/link_watch.c: the work of linkwatch_fire_event, in process context."""
    if machine.closed:
        return
    events, machine.linkwatch_events = machine.linkwatch_events, []
    for dev in events:
        if dev.reg_state != NETREG_REGISTERED:
            continue
        if dev.flags & IFF_UP:
            if netif_carrier_ok(dev):
                dev_activate(dev)
            else:
                dev_deactivate(dev)
        netdev_state_change(dev)
    machine.clock.wake()


def linkwatch_pending(dev: net_device) -> bool:
    """The link is down, or its coming up has not been acted on yet."""
    return not netif_carrier_ok(dev) or dev in dev.machine.linkwatch_events


def netif_device_detach(dev: net_device) -> None:
    """net/core/dev.c: the hardware is gone for now (suspend)."""
    if dev.state & LINK_STATE_PRESENT:
        dev.state &= ~LINK_STATE_PRESENT
        if netif_running(dev):
            netif_stop_queue(dev)


def netif_device_attach(dev: net_device) -> None:
    """net/core/dev.c: undo netif_device_detach."""
    if not dev.state & LINK_STATE_PRESENT:
        dev.state |= LINK_STATE_PRESENT
        if netif_running(dev):
            netif_wake_queue(dev)
            __netdev_watchdog_up(dev)


def dev_activate(dev: net_device) -> None:
    """net/sched/sch_generic.c: attach the default discipline; wait for the carrier first."""
    if not netif_carrier_ok(dev):
        return
    if isinstance(dev.qdisc, noop_qdisc):
        saved, dev.qdisc_sleeping = dev.qdisc_sleeping, None
        dev.qdisc = saved if saved is not None else qdisc_create_dflt(dev)
        dev.qdisc.deactivated = False
    __netdev_watchdog_up(dev)


def dev_deactivate(dev: net_device) -> None:
    """net/sched/sch_generic.c: no discipline: packets are dropped; what was queued is freed."""
    old = dev.qdisc
    if not isinstance(old, noop_qdisc):
        old.deactivated = True
        old.reset()
        dev.qdisc_sleeping = old
        dev.qdisc = noop_qdisc(dev)
    if dev.watchdog_timer is not None:
        timer_delete(dev.watchdog_timer)


def __netdev_watchdog_up(dev: net_device) -> None:
    """net/sched/sch_generic.c: watch for a queue that stays stopped."""
    if dev.netdev_ops.ndo_tx_timeout is None:
        return
    if dev.watchdog_timeo <= 0:
        dev.watchdog_timeo = 5_000_000_000
    if dev.watchdog_timer is None:
        dev.watchdog_timer = timer_list(dev.machine, dev_watchdog, TIMER_DEFERRABLE, data=dev)
    if not dev.watchdog_timer.pending:
        mod_timer(dev.watchdog_timer, dev.net.clock.now_ns() + dev.watchdog_timeo)


def dev_watchdog(timer: timer_list) -> None:
    """net/sched/sch_generic.c: call ndo_tx_timeout when the queue was stopped for too long."""
    dev = timer.data
    if not (netif_running(dev) and netif_device_present(dev) and netif_carrier_ok(dev)):
        return
    now = dev.net.clock.now_ns()
    if dev.queue_stopped and now - dev.trans_start >= dev.watchdog_timeo:
        dev.trans_timeout += 1
        dev.netdev_ops.ndo_tx_timeout(dev)
        dev.trans_start = now
    mod_timer(timer, now + dev.watchdog_timeo)


# --- registration ------------------------------------------------------------------------------


def alloc_netdev_mqs(
    net: Net,
    priv_factory: Callable[..., Any] | None,
    name: str,
    setup: Callable[[net_device], None],
    txqs: int = 1,
    rxqs: int = 1,
) -> net_device:
    """net/core/dev.c: a new, unregistered device; `setup(dev)` fills in its kind.

    `name` may contain %d. `priv_factory(dev)` makes the private part.

    Raises:
        ValueError: name too long or empty; more than one queue.
    """
    if not name or len(name) >= IFNAMSIZ:
        raise ValueError(f"interface name {name!r}: 1 to {IFNAMSIZ - 1} characters")
    if txqs != 1 or rxqs != 1:
        raise ValueError(f"{name}: {txqs} TX and {rxqs} RX queues asked for; one each is offered")
    dev = net_device(net, name)
    setup(dev)
    dev.qdisc = noop_qdisc(dev)
    if priv_factory is not None:
        dev.priv = priv_factory(dev)
    return dev


def dev_alloc_name(net: Net, name: str) -> str | None:
    """net/core/dev.c: the first free name for a pattern with %d; None when the name is taken."""
    if "%d" not in name:
        return None if name in net.dev_by_name else name
    for number in range(32768):
        candidate = name.replace("%d", str(number), 1)
        if candidate not in net.dev_by_name:
            return candidate
    return None


def register_netdevice(dev: net_device) -> int:
    """net/core/dev.c: name, ifindex, features; list it; NETDEV_REGISTER. 0 or -errno."""
    net = dev.net
    name = dev_alloc_name(net, dev.name)
    if name is None:
        return -errno.EEXIST
    dev.name = name
    ops = dev.netdev_ops
    if ops.ndo_init is not None:
        err = ops.ndo_init(dev)
        if err:
            return err
    net.dev_ifindex += 1
    dev.ifindex = net.dev_ifindex
    dev.hw_features |= NETIF_F_SOFT_FEATURES
    dev.features |= NETIF_F_SOFT_FEATURES
    dev.wanted_features = dev.features & dev.hw_features
    if not dev.perm_addr:
        dev.perm_addr = dev.dev_addr
    dev.reg_state = NETREG_REGISTERED
    netdev_update_features(dev)
    list_netdevice(dev)
    err = call_netdevice_notifiers(NETDEV_REGISTER, dev)
    if err:
        unregister_netdevice(dev)
    return err


def register_netdev(dev: net_device) -> int:
    """net/core/dev.c: register_netdevice (the host's lock is held: no rtnl to take)."""
    return register_netdevice(dev)


def list_netdevice(dev: net_device) -> None:
    """net/core/dev.c: make it visible by name and index."""
    net = dev.net
    net.dev_base_head.append(dev)
    net.dev_by_name[dev.name] = dev
    net.dev_by_index[dev.ifindex] = dev
    netdev_xmit_simple(dev)
    rx_fast_update(net)


def unregister_netdevice(dev: net_device) -> None:
    """net/core/dev.c: close, NETDEV_UNREGISTER, unlist."""
    net = dev.net
    if dev.reg_state != NETREG_REGISTERED:
        return
    dev_close(dev)
    dev.reg_state = NETREG_UNREGISTERED
    call_netdevice_notifiers(NETDEV_UNREGISTER, dev)
    dev.qdisc_sleeping = None
    if dev in dev.machine.linkwatch_events:
        dev.machine.linkwatch_events.remove(dev)
    if dev.netdev_ops.ndo_uninit is not None:
        dev.netdev_ops.ndo_uninit(dev)
    if dev in net.dev_base_head:
        net.dev_base_head.remove(dev)
        net.dev_by_name.pop(dev.name, None)
        net.dev_by_index.pop(dev.ifindex, None)
    flush_backlog(dev)


def unregister_netdev(dev: net_device) -> None:
    """net/core/dev.c: unregister_netdevice under rtnl."""
    unregister_netdevice(dev)


def free_netdev(dev: net_device) -> None:
    """net/core/dev.c: the last step; NAPI contexts go too."""
    for napi in list(dev.napi_list):
        netif_napi_del(napi)
    dev.priv = None
    dev.reg_state = NETREG_RELEASED


def flush_backlog(dev: net_device) -> None:
    """net/core/dev.c: free queued packets of a device that goes away."""
    sd = dev.machine.softnet_data
    for queue in (sd.input_pkt_queue, sd.process_queue):
        for skb in queue:
            if skb.dev is dev:
                queue.unlink(skb)
                kfree_skb_reason(dev.net, skb, SKB_DROP_REASON_DEV_READY)


def dev_get_by_name(net: Net, name: str) -> net_device | None:
    """net/core/dev.c."""
    return net.dev_by_name.get(name)


def dev_get_by_index(net: Net, ifindex: int) -> net_device | None:
    """net/core/dev.c."""
    return net.dev_by_index.get(ifindex)


__dev_get_by_name = dev_get_by_name
__dev_get_by_index = dev_get_by_index


def for_each_netdev(net: Net) -> tuple[net_device, ...]:
    """include/linux/netdevice.h: the registered devices in order; safe against changes."""
    return tuple(net.dev_base_head)


def register_netdevice_notifier(net: Net, fn: Callable[[int, net_device], int | None]) -> None:
    """net/core/dev.c: call `fn(event, dev)`; it first hears of what exists already."""
    net.netdev_chain.append(fn)
    for dev in for_each_netdev(net):
        fn(NETDEV_REGISTER, dev)
        if dev.flags & IFF_UP:
            fn(NETDEV_UP, dev)


def unregister_netdevice_notifier(net: Net, fn: Callable[[int, net_device], int | None]) -> None:
    """net/core/dev.c."""
    if fn in net.netdev_chain:
        net.netdev_chain.remove(fn)


def call_netdevice_notifiers(event: int, dev: net_device) -> int:
    """net/core/dev.c: tell everybody; the first -errno (or NOTIFY_BAD) stops and is returned."""
    for fn in tuple(dev.net.netdev_chain):
        ret = fn(event, dev)
        if ret is not None and (ret < 0 or ret == NOTIFY_BAD):
            return ret if ret < 0 else -errno.EINVAL
    return 0


def netdev_state_change(dev: net_device) -> None:
    """net/core/dev.c: NETDEV_CHANGE to those who listen."""
    if dev.flags & IFF_UP:
        call_netdevice_notifiers(NETDEV_CHANGE, dev)


# --- open, close, change -----------------------------------------------------------------------


def dev_open(dev: net_device) -> int:
    """net/core/dev.c: bring the interface up. 0 or -errno."""
    if dev.flags & IFF_UP:
        return 0
    err = __dev_open(dev)
    if not err:
        call_netdevice_notifiers(NETDEV_UP, dev)
    return err


def __dev_open(dev: net_device) -> int:
    """net/core/dev.c: ndo_open, flags, receive mode, queue."""
    if dev.reg_state != NETREG_REGISTERED or not netif_device_present(dev):
        return -errno.ENODEV
    err = call_netdevice_notifiers(NETDEV_PRE_UP, dev)
    if err:
        return err
    ops = dev.netdev_ops
    dev.state |= LINK_STATE_START
    if ops.ndo_validate_addr is not None:
        err = ops.ndo_validate_addr(dev)
    if not err and ops.ndo_open is not None:
        err = ops.ndo_open(dev)
    if err:
        dev.state &= ~LINK_STATE_START
        return err
    dev.flags |= IFF_UP
    dev_set_rx_mode(dev)
    dev_activate(dev)
    return 0


def dev_close(dev: net_device) -> None:
    """net/core/dev.c: take the interface down."""
    if dev.flags & IFF_UP:
        __dev_close(dev)
        call_netdevice_notifiers(NETDEV_DOWN, dev)


def __dev_close(dev: net_device) -> None:
    """net/core/dev.c."""
    call_netdevice_notifiers(NETDEV_GOING_DOWN, dev)
    dev.state &= ~LINK_STATE_START
    dev_deactivate(dev)
    if dev.netdev_ops.ndo_stop is not None:
        dev.netdev_ops.ndo_stop(dev)
    dev.flags &= ~IFF_UP
    dev.queue_stopped = False


_CHANGEABLE = IFF_DEBUG | IFF_NOARP | IFF_MULTICAST | IFF_ALLMULTI | IFF_PROMISC


def dev_change_flags(dev: net_device, flags: int) -> int:
    """net/core/dev.c: `ip link set up/down/promisc/arp ...`. 0 or -errno."""
    old = dev.flags
    if (old ^ flags) & IFF_PROMISC:
        dev_set_promiscuity(dev, 1 if flags & IFF_PROMISC else -1)
    if (old ^ flags) & IFF_ALLMULTI:
        dev_set_allmulti(dev, 1 if flags & IFF_ALLMULTI else -1)
    keep = IFF_DEBUG | IFF_NOARP | IFF_MULTICAST
    dev.flags = dev.flags & ~keep | flags & keep
    if (old ^ flags) & IFF_UP:
        if flags & IFF_UP:
            return dev_open(dev)
        dev_close(dev)
    elif (old ^ dev.flags) & _CHANGEABLE:
        netdev_state_change(dev)
    return 0


def dev_set_mtu(dev: net_device, mtu: int) -> int:
    """net/core/dev.c: 0 or -EINVAL / what the driver says."""
    if mtu == dev.mtu:
        return 0
    if mtu < dev.min_mtu or (dev.max_mtu and mtu > dev.max_mtu):
        return -errno.EINVAL
    if dev.netdev_ops.ndo_change_mtu is not None:
        err = dev.netdev_ops.ndo_change_mtu(dev, mtu)
        if err:
            return err
    dev.mtu = mtu
    call_netdevice_notifiers(NETDEV_CHANGEMTU, dev)
    return 0


def dev_set_mac_address(dev: net_device, addr: bytes) -> int:
    """net/core/dev.c: 0 or -errno."""
    if dev.netdev_ops.ndo_set_mac_address is None:
        return -errno.EOPNOTSUPP
    if len(addr) != dev.addr_len:
        return -errno.EINVAL
    err = dev.netdev_ops.ndo_set_mac_address(dev, addr)
    if err:
        return err
    dev.addr_assign_type = 3  # NET_ADDR_SET
    call_netdevice_notifiers(NETDEV_CHANGEADDR, dev)
    return 0


def dev_change_name(dev: net_device, name: str) -> int:
    """net/core/dev.c: 0, -EBUSY while up, -EEXIST, -EINVAL."""
    net = dev.net
    if dev.flags & IFF_UP:
        return -errno.EBUSY
    if not name or len(name) >= IFNAMSIZ or "/" in name or any(c.isspace() for c in name):
        return -errno.EINVAL
    new = dev_alloc_name(net, name)
    if new is None:
        return -errno.EEXIST
    del net.dev_by_name[dev.name]
    dev.name = new
    net.dev_by_name[new] = dev
    call_netdevice_notifiers(NETDEV_CHANGENAME, dev)
    return 0


def dev_set_rx_mode(dev: net_device) -> None:
    """net/core/dev.c: tell the driver about promiscuity and address lists."""
    if not dev.flags & IFF_UP or not netif_device_present(dev):
        return
    if dev.netdev_ops.ndo_set_rx_mode is not None:
        dev.netdev_ops.ndo_set_rx_mode(dev)


def dev_set_promiscuity(dev: net_device, inc: int) -> None:
    """net/core/dev.c: count users of promiscuous mode."""
    dev.promiscuity = max(0, dev.promiscuity + inc)
    dev.flags = dev.flags | IFF_PROMISC if dev.promiscuity else dev.flags & ~IFF_PROMISC
    dev_set_rx_mode(dev)


def dev_set_allmulti(dev: net_device, inc: int) -> None:
    """net/core/dev.c: count users of all-multicast mode."""
    dev.allmulti = max(0, dev.allmulti + inc)
    dev.flags = dev.flags | IFF_ALLMULTI if dev.allmulti else dev.flags & ~IFF_ALLMULTI
    dev_set_rx_mode(dev)


def dev_uc_add(dev: net_device, addr: bytes) -> int:
    """net/core/dev_addr_lists.c: receive frames to one more unicast address."""
    if dev.uc.add(bytes(addr)):
        dev_set_rx_mode(dev)
    return 0


def dev_uc_del(dev: net_device, addr: bytes) -> int:
    """net/core/dev_addr_lists.c."""
    if dev.uc.remove(bytes(addr)):
        dev_set_rx_mode(dev)
    return 0


def dev_mc_add(dev: net_device, addr: bytes) -> int:
    """net/core/dev_addr_lists.c: receive frames to a multicast address."""
    if dev.mc.add(bytes(addr)):
        dev_set_rx_mode(dev)
    return 0


def dev_mc_del(dev: net_device, addr: bytes) -> int:
    """net/core/dev_addr_lists.c."""
    if dev.mc.remove(bytes(addr)):
        dev_set_rx_mode(dev)
    return 0


def netdev_fix_features(dev: net_device, features: int) -> int:
    """net/core/dev.c: take away what lacks its basis (TSO needs SG and checksums)."""
    if features & NETIF_F_TSO and not features & (NETIF_F_HW_CSUM | NETIF_F_IP_CSUM):
        features &= ~(NETIF_F_ALL_TSO & ~NETIF_F_TSO6)
    if features & NETIF_F_TSO6 and not features & (NETIF_F_HW_CSUM | NETIF_F_IPV6_CSUM):
        features &= ~NETIF_F_TSO6
    if features & NETIF_F_GSO_UDP_L4 and not features & NETIF_F_CSUM_MASK:
        features &= ~NETIF_F_GSO_UDP_L4
    if features & (NETIF_F_ALL_TSO | NETIF_F_GSO) and not features & NETIF_F_SG:
        features &= ~(NETIF_F_ALL_TSO | NETIF_F_GSO_UDP_L4 | NETIF_F_GSO)
    return features


def __netdev_update_features(dev: net_device) -> bool:
    """net/core/dev.c: features = wanted, as far as hardware and rules allow. True when changed."""
    features = dev.features & ~dev.hw_features | dev.wanted_features & dev.hw_features
    if dev.netdev_ops.ndo_fix_features is not None:
        features = dev.netdev_ops.ndo_fix_features(dev, features)
    features = netdev_fix_features(dev, features)
    if features == dev.features:
        return False
    err = 0
    dev.xmit_simple = False  # until the driver has answered
    if dev.netdev_ops.ndo_set_features is not None:
        err = dev.netdev_ops.ndo_set_features(dev, features)
    if not err:
        dev.features = features
    netdev_xmit_simple(dev)
    return err >= 0


def netdev_xmit_simple(dev: net_device) -> None:
    """Note whether the device takes every packet without GSO and VLAN tag as it is."""
    able = dev.features & _CSUM_SG == _CSUM_SG
    dev.xmit_simple = able and dev.netdev_ops.ndo_features_check is None


def netdev_update_features(dev: net_device) -> None:
    """net/core/dev.c: recompute and tell the notifiers."""
    if __netdev_update_features(dev):
        netdev_features_change(dev)


def netdev_features_change(dev: net_device) -> None:
    """net/core/dev.c."""
    call_netdevice_notifiers(NETDEV_FEAT_CHANGE, dev)


def dev_get_stats(dev: net_device) -> rtnl_link_stats64:
    """net/core/dev.c: the device's counters; the driver may compute them."""
    if dev.netdev_ops.ndo_get_stats64 is not None:
        stats = dev.netdev_ops.ndo_get_stats64(dev)
        if stats is not None:
            return stats
    return dev.stats


def netdev_init(net: Net) -> None:
    """net/core/dev.c: the device tables of a namespace."""
    net.dev_base_head = []
    net.dev_by_name = {}
    net.dev_by_index = {}
    net.dev_ifindex = 0
    net.ptype_all = []
    net.ptype_base = {}
    net.netdev_chain = []
    machine = net.machine
    if net is machine.init_net:
        sysctl, hot = net.sysctl, machine.net_hotdata
        sysctl.on_write("dev_weight", partial(setattr, machine.softnet_data.backlog, "weight"))
        sysctl.on_write("dev_weight", partial(setattr, hot, "dev_tx_weight"))
        sysctl.on_write("netdev_budget", partial(setattr, hot, "netdev_budget"))
        sysctl.on_write("netdev_max_backlog", partial(setattr, hot, "max_backlog"))


def default_device_exit_net(net: Net) -> None:
    """net/core/dev.c: a namespace ends: its devices go, the last registered first."""
    for dev in reversed(for_each_netdev(net)):
        unregister_netdev(dev)


netdev_net_ops = pernet_operations(init=netdev_init)
default_device_ops = pernet_operations(exit=default_device_exit_net, device=True)


def net_dev_init(machine: Machine) -> None:
    """net/core/dev.c: the backlog, the two network softirqs, what each namespace gets."""
    machine.softnet_data.backlog.poll = process_backlog
    machine.linkwatch_run_queue = partial(linkwatch_run_queue, machine)
    open_softirq(machine, NET_TX_SOFTIRQ, net_tx_action)
    open_softirq(machine, NET_RX_SOFTIRQ, net_rx_action)
    register_pernet_subsys(machine, netdev_net_ops)
    register_pernet_device(machine, default_device_ops)


from stack.core.napi import (  # noqa: E402  (one file in the kernel: both need the other)
    __napi_schedule,
    napi_complete,
    napi_complete_done,
    napi_disable,
    napi_enable,
    napi_gro_receive,
    napi_schedule,
    net_rx_action,
    netif_napi_add,
    netif_napi_del,
    process_backlog,
)
