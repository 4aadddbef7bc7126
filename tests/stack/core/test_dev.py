"""The device layer: the order of calls, taps, queueing, refusal, NAPI, softirqs, features."""

from __future__ import annotations

import errno
import sys

import pytest

from fastpath.base.skbuff import PACKET_OUTGOING, kfree_skb, skb_from_bytes, skb_to_bytes
from stack.core import dev as dev_c
from stack.core.backlog import netif_rx
from stack.core.dev import (
    dev_change_flags,
    dev_change_name,
    dev_close,
    dev_get_by_index,
    dev_get_by_name,
    dev_mc_add,
    dev_mc_del,
    dev_open,
    dev_set_mac_address,
    dev_set_mtu,
    dev_set_promiscuity,
    free_netdev,
    netdev_update_features,
    register_netdev,
    unregister_netdev,
)
from stack.core.dev_notifier import register_netdevice_notifier, unregister_netdevice_notifier
from stack.core.dev_queue import (
    dev_kfree_skb_irq,
    dev_queue_xmit,
    netif_stop_queue,
    netif_wake_queue,
)
from stack.core.dev_receive import (
    dev_add_pack,
    dev_remove_pack,
    netdev_rx_handler_register,
    netdev_rx_handler_unregister,
)
from stack.core.drop_reason import (
    SKB_DROP_REASON_QDISC_DROP,
    SKB_DROP_REASON_QDISC_OVERLIMIT,
    SKB_DROP_REASON_UNHANDLED_PROTO,
)
from stack.core.link_watch import netif_carrier_off, netif_carrier_on
from stack.core.netdevice import (
    ETH_P_8021Q,
    ETH_P_ALL,
    IFF_PROMISC,
    IFF_UP,
    NETDEV_CHANGE,
    NETDEV_DOWN,
    NETDEV_REGISTER,
    NETDEV_UNREGISTER,
    NETDEV_UP,
    NETIF_F_HW_CSUM,
    NETIF_F_SG,
    NETIF_F_TSO,
    RX_HANDLER_ANOTHER,
    RX_HANDLER_CONSUMED,
    net_device_ops,
    packet_type,
    vlan_info,
)
from stack.core.softirq import (
    NET_RX_SOFTIRQ,
    irq_enter,
    irq_exit,
    local_bh_disable,
    local_bh_enable,
    open_softirq,
    raise_softirq,
)
from stack.ethernet.eth import alloc_etherdev
from stack.sched.sch_api import qdisc_graft
from stack.sched.sch_fifo import pfifo_qdisc
from stack.sched.sch_generic import TC_H_ROOT
from stack.sched.sch_kinds import qdisc_create
from tests.stack.core.wire import assert_no_leak, frame_skb, wired_pair

PROTO = 0x88B5


def tbf(dev, rate, burst):
    """A token bucket of so many bytes/s and bytes at the device's root."""
    opt = {"rate": rate, "burst": burst, "limit": 10_000}
    qdisc_graft(dev, qdisc_create(dev, "tbf", TC_H_ROOT, 0, opt))


class Collector:
    """A packet handler that keeps what it got."""

    def __init__(self, host, proto=PROTO, dev=None):
        self.frames = []
        self.kinds = []
        self.devs = []
        self.pt = packet_type(proto, self.func, dev)
        dev_add_pack(host, self.pt)

    def func(self, skb, dev, pt, orig_dev):
        self.frames.append(skb_to_bytes(skb))
        self.kinds.append(skb.pkt_type)
        self.devs.append(dev.name)
        kfree_skb(skb)
        return 0


@pytest.fixture
def pair():
    clock, a, b, wa, wb = wired_pair()
    yield clock, a, b, wa, wb
    assert_no_leak(a, b)


def test_a_frame_reaches_the_handler_of_its_protocol(pair):
    clock, _a, b, wa, _wb = pair
    got = Collector(b)
    assert dev_queue_xmit(frame_skb(wa, b"hello")) == 0
    clock.run_until_idle()
    assert got.frames == [b"hello"]
    assert b.machine.softnet_data.processed == 1


def record_calls(fn, wanted):
    """Names from `wanted` in the order they were entered while fn() ran."""
    seen = []

    def hook(frame, event, arg):
        if event == "call" and frame.f_code.co_name in wanted:
            seen.append(frame.f_code.co_name)

    sys.setprofile(hook)
    try:
        fn()
    finally:
        sys.setprofile(None)
    return seen


@pytest.mark.uncompiled
def test_the_send_path_has_the_kernels_order(pair):
    _clock, _a, _b, wa, _wb = pair
    order = [
        "dev_queue_xmit",
        "__dev_xmit_skb",
        "enqueue",
        "qdisc_run",
        "qdisc_restart",
        "dequeue",
        "validate_xmit_skb",
        "sch_direct_xmit",
        "dev_hard_start_xmit",
        "dev_queue_xmit_nit",
        "start_xmit",
    ]
    assert wa.dev.qdisc.can_bypass
    wa.dev.qdisc.can_bypass = False  # as a discipline that may hold packets back
    skb = frame_skb(wa, b"x")
    assert record_calls(lambda: dev_queue_xmit(skb), set(order)) == order
    # TCQ_F_CAN_BYPASS: an empty pfifo_fast is passed by.
    wa.dev.qdisc.can_bypass = True
    skb = frame_skb(wa, b"x")
    queued = ("enqueue", "qdisc_run", "qdisc_restart", "dequeue")
    straight = [name for name in order if name not in queued]
    assert record_calls(lambda: dev_queue_xmit(skb), set(order)) == straight
    assert not wa.dev.qdisc.running


@pytest.mark.uncompiled
def test_the_receive_path_has_the_kernels_order(pair):
    clock, _a, b, wa, _wb = pair
    Collector(b)
    dev_queue_xmit(frame_skb(wa, b"x"))
    order = [
        "interrupt",
        "napi_schedule",
        "net_rx_action",
        "poll",
        "napi_gro_receive",
        "netif_receive_skb",
        "deliver_skb",
        "func",
    ]
    assert record_calls(clock.run_until_idle, set(order)) == order


def test_taps_see_outgoing_and_incoming_frames(pair):
    clock, a, b, wa, _wb = pair
    out = Collector(a, ETH_P_ALL)
    into = Collector(b, ETH_P_ALL)
    Collector(b)
    dev_queue_xmit(frame_skb(wa, b"tapped"))
    clock.run_until_idle()
    assert out.frames == [wa.sent[0]]
    assert out.kinds == [PACKET_OUTGOING]
    assert into.frames == [b"tapped"]


def test_a_tap_on_one_interface_sees_only_that(pair):
    clock, a, _b, wa, _wb = pair
    other = Collector(a, ETH_P_ALL, a.loopback_dev)
    mine = Collector(a, ETH_P_ALL, wa.dev)
    dev_queue_xmit(frame_skb(wa, b"1"))
    clock.run_until_idle()
    assert (len(other.frames), len(mine.frames)) == (0, 1)
    dev_remove_pack(a, mine.pt)
    dev_remove_pack(a, mine.pt)
    dev_queue_xmit(frame_skb(wa, b"2"))
    assert len(mine.frames) == 1


def test_several_handlers_of_one_protocol_share_the_packet(pair):
    clock, _a, b, wa, _wb = pair
    got = [Collector(b) for _ in range(3)]
    dev_queue_xmit(frame_skb(wa, b"shared"))
    clock.run_until_idle()
    assert [c.frames for c in got] == [[b"shared"]] * 3


def test_an_unknown_protocol_is_dropped_and_counted(pair):
    clock, _a, b, wa, wb = pair
    dev_queue_xmit(frame_skb(wa, b"?", proto=0x9999))
    clock.run_until_idle()
    assert b.drop_reasons == {SKB_DROP_REASON_UNHANDLED_PROTO: 1}
    assert (wb.dev.stats.rx_dropped, wb.dev.stats.rx_nohandler) == (1, 0)


def test_pfifo_fast_serves_lower_bands_first(pair):
    _clock, _a, _b, wa, _wb = pair
    netif_stop_queue(wa.dev)
    for priority, name in ((1, b"bulk"), (0, b"best"), (7, b"ctrl"), (2, b"bulk2"), (6, b"inter")):
        skb = frame_skb(wa, name)
        skb.priority = priority
        dev_queue_xmit(skb)
    assert wa.sent == []
    netif_wake_queue(wa.dev)
    wa.dev.net.clock.run_until_idle()
    assert [f[14:] for f in wa.sent] == [b"ctrl", b"inter", b"best", b"bulk", b"bulk2"]


def test_a_burst_rings_the_doorbell_once(pair):
    clock, _a, _b, wa, _wb = pair
    netif_stop_queue(wa.dev)
    for n in range(4):
        dev_queue_xmit(frame_skb(wa, bytes([n])))
    netif_wake_queue(wa.dev)
    clock.run_until_idle()
    assert wa.more == [True, True, True, False]
    assert not wa.dev.xmit_more


def test_a_full_queue_drops_the_newest(pair):
    _clock, a, _b, wa, _wb = pair
    netif_stop_queue(wa.dev)
    wa.dev.qdisc.limit = 2
    results = [dev_queue_xmit(frame_skb(wa, bytes([n]))) for n in range(3)]
    assert results == [0, 0, 1]
    assert a.drop_reasons == {SKB_DROP_REASON_QDISC_OVERLIMIT: 1}
    assert wa.dev.qdisc.qstats.drops == 1


def test_a_refused_packet_is_requeued_and_sent_first(pair):
    clock, _a, _b, wa, _wb = pair
    wa.busy = 25  # more than one run of softirqs tries
    dev_queue_xmit(frame_skb(wa, b"first"))
    assert wa.sent == []
    assert wa.dev.qdisc.qlen == 1
    dev_queue_xmit(frame_skb(wa, b"second"))
    clock.run_until_idle()
    assert [f[14:] for f in wa.sent] == [b"first", b"second"]
    assert wa.dev.qdisc.qstats.requeues == 25
    assert wa.dev.qdisc.qlen == 0


@pytest.mark.uncompiled
def test_a_throttled_qdisc_goes_on_by_its_watchdog(pair):
    """blocked qdisc -> watchdog -> __netif_schedule -> net_tx_action (kernel-flow §10)."""
    clock, a, _b, wa, _wb = pair
    tbf(wa.dev, 1_000_000, 1500)
    times = []
    real = wa.start_xmit
    wa.dev.netdev_ops.ndo_start_xmit = lambda skb, dev: (
        times.append(clock.now_ns()),
        real(skb, dev),
    )[1]
    for _ in range(4):
        dev_queue_xmit(frame_skb(wa, bytes(986)))
    assert len(times) == 1
    names = record_calls(
        lambda: clock.run_until_idle(),
        {"qdisc_watchdog_timer", "__netif_schedule", "net_tx_action", "qdisc_run"},
    )
    assert names[:4] == ["qdisc_watchdog_timer", "__netif_schedule", "net_tx_action", "qdisc_run"]
    assert len(times) == 4
    # 1000 bytes at 1 MB/s: one ms each once the bucket of 1500 is empty.
    assert times == [0, 500_000, 1_500_000, 2_500_000]
    assert wa.dev.qdisc.qstats.overlimits >= 3
    assert a.drop_reasons == {}


def test_tbf_refuses_what_never_fits(pair):
    _clock, _a, _b, wa, _wb = pair
    tbf(wa.dev, 125, 100)
    assert dev_queue_xmit(frame_skb(wa, bytes(200))) == 1
    with pytest.raises(OSError, match="rate"):
        tbf(wa.dev, 0, 1)


def test_grafting_frees_what_the_old_qdisc_held(pair):
    _clock, a, _b, wa, _wb = pair
    netif_stop_queue(wa.dev)
    dev_queue_xmit(frame_skb(wa, b"old"))
    qdisc_graft(wa.dev, qdisc_create(wa.dev, "pfifo", TC_H_ROOT, 0, {"limit": 1}))
    assert a.skb_small.in_use == 0
    dev_queue_xmit(frame_skb(wa, b"1"))
    assert dev_queue_xmit(frame_skb(wa, b"2")) == 1


@pytest.mark.uncompiled
def test_frees_from_an_interrupt_wait_for_net_tx_action(pair):
    _clock, a, _b, wa, _wb = pair
    skb = frame_skb(wa, b"sent")
    irq_enter(a.machine)
    dev_kfree_skb_irq(skb)
    assert a.machine.softnet_data.completion_queue.qlen == 1
    names = record_calls(lambda: irq_exit(a.machine), {"net_tx_action"})
    assert names == ["net_tx_action"]
    assert a.skb_small.in_use == 0


@pytest.mark.uncompiled
def test_netif_rx_goes_through_the_backlog(pair):
    _clock, a, _b, wa, _wb = pair
    got = Collector(a)
    skb = frame_skb(wa, b"old style", dst=wa.dev.dev_addr)
    from stack.ethernet.eth import eth_type_trans

    skb.protocol = eth_type_trans(skb, wa.dev)
    names = record_calls(
        lambda: netif_rx(skb),
        {"netif_rx", "enqueue_to_backlog", "net_rx_action", "process_backlog", "deliver_skb"},
    )
    assert names == [
        "netif_rx",
        "enqueue_to_backlog",
        "net_rx_action",
        "process_backlog",
        "deliver_skb",
    ]
    assert got.frames == [b"old style"]


def test_the_backlog_is_bounded(pair):
    _clock, a, _b, wa, _wb = pair
    got = Collector(a)
    a.sysctl.netdev_max_backlog = 10
    local_bh_disable(a.machine)
    from stack.ethernet.eth import eth_type_trans

    for _ in range(20):
        skb = frame_skb(wa, b"x", dst=wa.dev.dev_addr)
        skb.protocol = eth_type_trans(skb, wa.dev)
        netif_rx(skb)
    local_bh_enable(a.machine)
    assert len(got.frames) == 11
    assert a.machine.softnet_data.dropped == 9
    assert wa.dev.stats.rx_dropped == 9


def test_polling_goes_on_while_the_budget_is_used_up(pair):
    clock, _a, b, _wa, wb = pair
    got = Collector(b)
    frame = wb.dev.dev_addr + bytes(6) + PROTO.to_bytes(2, "big") + b"flood"
    for _ in range(1000):
        wb.inbox.append(frame)
    wb.receive(frame)
    clock.run_until_idle()
    assert len(got.frames) == 1001
    assert b.machine.softirq_vec[NET_RX_SOFTIRQ].count == 16  # 64 frames each


def test_softirqs_run_after_the_interrupt_and_never_nest(pair):
    _clock, a, _b, _wa, _wb = pair
    log = []
    depth = [0]

    def action(machine):
        depth[0] += 1
        assert depth[0] == 1
        log.append("softirq")
        if len(log) < 3:
            irq_enter(machine)
            raise_softirq(machine, NET_RX_SOFTIRQ)
            irq_exit(machine)
        depth[0] -= 1

    open_softirq(a.machine, NET_RX_SOFTIRQ, action)
    irq_enter(a.machine)
    raise_softirq(a.machine, NET_RX_SOFTIRQ)
    assert log == []
    irq_exit(a.machine)
    assert log == ["softirq"] * 3


def test_an_endless_softirq_is_left_to_ksoftirqd(pair):
    clock, a, _b, _wa, _wb = pair
    runs = []

    def action(machine):
        runs.append(1)
        if len(runs) < 25:
            machine.softirq_pending |= 1 << NET_RX_SOFTIRQ

    open_softirq(a.machine, NET_RX_SOFTIRQ, action)
    local_bh_disable(a.machine)
    raise_softirq(a.machine, NET_RX_SOFTIRQ)
    local_bh_enable(a.machine)
    assert len(runs) == 10
    clock.run_until_idle()
    assert len(runs) == 25


def test_a_raise_in_process_context_wakes_ksoftirqd(pair):
    clock, a, _b, _wa, _wb = pair
    runs = []
    open_softirq(a.machine, NET_RX_SOFTIRQ, lambda machine: runs.append(1))
    raise_softirq(a.machine, NET_RX_SOFTIRQ)
    assert runs == []
    clock.run_until_idle()
    assert runs == [1]


def test_notifiers_hear_what_happens_and_what_was_before(pair):
    _clock, a, _b, wa, _wb = pair
    events = []

    def notify(event, dev):
        events.append((event, dev.name))

    register_netdevice_notifier(a, notify)
    assert events == [
        (NETDEV_REGISTER, "lo"),
        (NETDEV_UP, "lo"),
        (NETDEV_REGISTER, "eth0"),
        (NETDEV_UP, "eth0"),
    ]
    events.clear()
    dev_close(wa.dev)
    assert (NETDEV_DOWN, "eth0") in events
    unregister_netdev(wa.dev)
    assert events[-1] == (NETDEV_UNREGISTER, "eth0")
    unregister_netdevice_notifier(a, notify)
    free_netdev(wa.dev)
    assert dev_get_by_name(a, "eth0") is None


def test_without_carrier_packets_are_dropped(pair):
    clock, a, _b, wa, _wb = pair
    events = []
    register_netdevice_notifier(a, lambda event, dev: events.append(event))
    events.clear()
    netif_carrier_off(wa.dev)
    clock.run_until_idle()
    assert events == [NETDEV_CHANGE]
    assert dev_queue_xmit(frame_skb(wa, b"lost")) != 0
    assert a.drop_reasons == {SKB_DROP_REASON_QDISC_DROP: 1}
    netif_carrier_on(wa.dev)
    clock.run_until_idle()
    assert dev_queue_xmit(frame_skb(wa, b"sent")) == 0
    assert len(wa.sent) == 1


def test_a_custom_qdisc_survives_loss_of_carrier(pair):
    clock, _a, _b, wa, _wb = pair
    q = pfifo_qdisc(wa.dev)
    qdisc_graft(wa.dev, q)
    netif_carrier_off(wa.dev)
    clock.run_until_idle()
    assert wa.dev.qdisc is not q
    netif_carrier_on(wa.dev)
    clock.run_until_idle()
    assert wa.dev.qdisc is q


def test_close_frees_what_was_queued(pair):
    _clock, a, _b, wa, _wb = pair
    netif_stop_queue(wa.dev)
    dev_queue_xmit(frame_skb(wa, b"waits"))
    dev_close(wa.dev)
    assert a.skb_small.in_use == 0
    assert dev_queue_xmit(frame_skb(wa, b"late")) != 0
    assert dev_open(wa.dev) == 0
    assert dev_queue_xmit(frame_skb(wa, b"again")) == 0


def test_a_stopped_queue_times_out(pair):
    clock, _a, _b, wa, _wb = pair
    calls = []
    wa.dev.netdev_ops.ndo_tx_timeout = lambda dev: calls.append(clock.now_ns())
    dev_close(wa.dev)
    dev_open(wa.dev)
    netif_stop_queue(wa.dev)
    clock.run_until(12_000_000_000)
    assert len(calls) == 2


def test_mtu_mac_name_and_flags_are_checked(pair):
    _clock, a, _b, wa, _wb = pair
    dev = wa.dev
    assert dev_set_mtu(dev, 67) == -errno.EINVAL
    assert dev_set_mtu(dev, 1501) == -errno.EINVAL
    assert dev_set_mtu(dev, 1400) == 0
    assert dev.mtu == 1400
    assert dev_set_mac_address(dev, b"\x01\x00\x00\x00\x00\x01") == -errno.EADDRNOTAVAIL
    assert dev_set_mac_address(dev, b"\x02") == -errno.EINVAL
    assert dev_set_mac_address(dev, b"\x02\x00\x00\x00\x00\x09") == 0
    assert dev_change_name(dev, "bad name") == -errno.EINVAL
    assert dev_change_name(dev, "lo") == -errno.EEXIST
    assert dev_change_name(dev, "eth0") == 0
    assert dev_change_name(dev, "lan") == 0
    assert dev_get_by_name(a, "lan") is dev
    assert dev_get_by_index(a, dev.ifindex) is dev
    dev_change_flags(dev, dev.flags | IFF_PROMISC)
    assert dev.promiscuity == 1


def test_receive_mode_is_told_to_the_driver_once_per_change(pair):
    _clock, _a, _b, wa, _wb = pair
    calls = []
    wa.dev.netdev_ops.ndo_set_rx_mode = lambda dev: calls.append(tuple(dev.mc))
    group = b"\x01\x00\x5e\x00\x00\x01"
    dev_mc_add(wa.dev, group)
    dev_mc_add(wa.dev, group)
    dev_mc_del(wa.dev, group)
    dev_mc_del(wa.dev, group)
    assert calls == [(group,), ()]
    dev_set_promiscuity(wa.dev, 1)
    assert wa.dev.flags & IFF_PROMISC
    dev_set_promiscuity(wa.dev, -1)
    assert not wa.dev.flags & IFF_PROMISC


def test_features_lose_what_they_stand_on(pair):
    _clock, _a, _b, wa, _wb = pair
    dev = wa.dev
    dev.hw_features |= NETIF_F_TSO | NETIF_F_SG | NETIF_F_HW_CSUM
    dev.wanted_features = dev.hw_features
    netdev_update_features(dev)
    assert dev.features & NETIF_F_TSO
    dev.wanted_features &= ~NETIF_F_HW_CSUM
    netdev_update_features(dev)
    assert not dev.features & NETIF_F_TSO
    assert dev.features & NETIF_F_SG


def test_rx_handler_may_consume_or_redirect(pair):
    clock, a, b, wa, wb = pair
    got = Collector(b)
    taken = []

    def consume(skb):
        taken.append(skb_to_bytes(skb))
        kfree_skb(skb)
        return RX_HANDLER_CONSUMED

    assert netdev_rx_handler_register(wb.dev, consume, None) == 0
    assert netdev_rx_handler_register(wb.dev, consume, None) == -errno.EBUSY
    dev_queue_xmit(frame_skb(wa, b"bridge"))
    clock.run_until_idle()
    assert (taken, got.frames) == ([b"bridge"], [])
    netdev_rx_handler_unregister(wb.dev)

    def another(skb):
        skb.dev = b.loopback_dev
        return RX_HANDLER_ANOTHER

    netdev_rx_handler_register(wb.dev, another, None)
    dev_queue_xmit(frame_skb(wa, b"moved"))
    clock.run_until_idle()
    assert (got.frames, got.devs) == ([b"moved"], ["lo"])
    assert a.drop_reasons == {}


def test_vlan_tags_go_in_and_out_in_software(pair):
    clock, _a, b, wa, wb = pair
    got = Collector(b)
    vlan = alloc_etherdev(b, None)
    vlan.name = "eth0.5"
    assert register_netdev(vlan) == 0
    dev_open(vlan)
    wb.dev.vlan_info = vlan_info()
    wb.dev.vlan_info.vlan_group[ETH_P_8021Q << 16 | 5] = vlan
    skb = frame_skb(wa, b"tagged")
    skb.vlan_proto = ETH_P_8021Q
    skb.vlan_tci = 3 << 13 | 5
    dev_queue_xmit(skb)
    assert wa.sent[0][12:20] == bytes.fromhex("8100600588b57461")
    clock.run_until_idle()
    assert (got.frames, got.devs) == ([b"tagged"], ["eth0.5"])
    assert vlan.stats.rx_packets == 1
    # Priority tag: no VLAN, the packet is the interface's own.
    skb = frame_skb(wa, b"prio")
    skb.vlan_proto = ETH_P_8021Q
    skb.vlan_tci = 3 << 13
    dev_queue_xmit(skb)
    clock.run_until_idle()
    assert (got.frames[-1], got.devs[-1]) == (b"prio", "eth0")


def test_a_truncated_vlan_frame_is_dropped(pair):
    clock, _a, b, _wa, wb = pair
    wb.receive(wb.dev.dev_addr + bytes(6) + b"\x81\x00\x00")
    clock.run_until_idle()
    assert sum(b.drop_reasons.values()) == 1


def test_registration_names_and_errors(pair):
    _clock, a, _b, _wa, _wb = pair
    dev = alloc_etherdev(a, None)
    assert register_netdev(dev) == 0
    assert dev.name == "eth1"
    same = alloc_etherdev(a, None)
    same.name = "eth1"
    assert register_netdev(same) == -errno.EEXIST
    failing = alloc_etherdev(a, None)
    failing.netdev_ops = net_device_ops(ndo_init=lambda dev: -errno.EIO)
    assert register_netdev(failing) == -errno.EIO
    with pytest.raises(ValueError, match="interface name"):
        dev_c.alloc_netdev_mqs(a, None, "a-name-that-is-too-long", lambda dev: None)
    with pytest.raises(TypeError, match="ndo_fly"):
        net_device_ops(ndo_fly=None)
    dev.netdev_ops = net_device_ops(ndo_open=lambda dev: -errno.ENOMEM)
    assert dev_open(dev) == -errno.ENOMEM
    assert not dev.flags & IFF_UP


def test_loopback_brings_packets_back(pair):
    clock, a, _b, _wa, _wb = pair
    got = Collector(a)
    lo = a.loopback_dev
    skb = skb_from_bytes(a.skb_small, bytes(12) + PROTO.to_bytes(2, "big") + b"self", 64)
    skb.dev = lo
    skb.protocol = PROTO
    assert dev_queue_xmit(skb) == 0
    clock.run_until_idle()
    assert got.frames == [b"self"]
    assert (lo.stats.tx_packets, lo.stats.rx_packets) == (1, 1)
    dev_close(lo)
    skb = skb_from_bytes(a.skb_small, bytes(12) + PROTO.to_bytes(2, "big") + b"down", 64)
    skb.dev = lo
    assert dev_queue_xmit(skb) != 0


def test_two_runs_give_the_same_trace():
    def run():
        clock, a, b, wa, wb = wired_pair()
        trace = []
        dev_add_pack(b, packet_type(PROTO, lambda skb, dev, pt, od: echo(skb)))
        dev_add_pack(a, packet_type(PROTO, lambda skb, dev, pt, od: kfree_skb(skb) or 0))

        def echo(skb):
            trace.append((clock.now_ns(), skb_to_bytes(skb)))
            kfree_skb(skb)
            dev_queue_xmit(frame_skb(wb, b"re"))
            return 0

        for n in range(50):
            clock.call_at(
                a.random.randrange(10000), lambda n=n: dev_queue_xmit(frame_skb(wa, bytes([n])))
            )
        clock.run_until_idle()
        assert_no_leak(a, b)
        return trace, wa.sent, wb.sent

    assert run() == run()
