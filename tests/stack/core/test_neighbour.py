"""The neighbour states and their timers, and ARP on the wire: two hosts without IP input."""

from __future__ import annotations

import errno

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastpath.base.skbuff import alloc_skb, kfree_skb, skb_put_data, skb_to_bytes
from fastpath.net.hdr import ip_push
from stack.core.dev import dev_set_mac_address
from stack.core.dev_receive import dev_add_pack
from stack.core.drop_reason import (
    SKB_DROP_REASON_ARP_INHDR,
    SKB_DROP_REASON_HDR_TRUNC,
    SKB_DROP_REASON_NEIGH_FAILED,
    SKB_DROP_REASON_NEIGH_QUEUEFULL,
)
from stack.core.link_watch import netif_carrier_off
from stack.core.neigh_table import (
    NEIGH_UPDATE_F_ADMIN,
    NEIGH_UPDATE_F_OVERRIDE,
    NEIGH_UPDATE_F_WEAK_OVERRIDE,
    NUD_NAMES,
)
from stack.core.neighbour import (
    __neigh_lookup,
    neigh_confirm,
    neigh_lookup,
    neigh_output,
    neigh_update,
)
from stack.core.net_namespace import register_pernet_subsys
from stack.core.netdevice import packet_type
from stack.core.time64 import NSEC_PER_SEC
from stack.core.uapi import (
    NUD_CONNECTED,
    NUD_DELAY,
    NUD_FAILED,
    NUD_INCOMPLETE,
    NUD_NOARP,
    NUD_PERMANENT,
    NUD_PROBE,
    NUD_REACHABLE,
    NUD_STALE,
    NUD_VALID,
)
from stack.ipv4.af_inet import inet_netns
from stack.ipv4.arp import arp_net_ops, arp_req_delete, arp_req_get, arp_req_set, arp_state_to_flags
from stack.ipv4.arp_send import arp_send, arp_send_gratuitous
from stack.ipv4.devinet import devinet_net_ops, inet_addr_add, register_inetaddr_notifier
from stack.ipv4.fib import fib_inetaddr_event, netns_fib
from stack.ipv4.neigh import ip_neigh_gw4
from tests.stack.core.wire import assert_no_leak, wired_pair
from tests.support import examples

A = 0x0A000001
B = 0x0A000002
C = 0x0A000003
MAC_A = b"\x02\x00\x00\x00\x00\x01"
MAC_B = b"\x02\x00\x00\x00\x00\x02"


def add_ipv4(host, wire, addr):
    """What ARP needs of IPv4: addresses and the local table; no IP input."""
    inet_netns(host)
    host.fib = netns_fib(host)
    register_pernet_subsys(host.machine, arp_net_ops)
    register_pernet_subsys(host.machine, devinet_net_ops)
    register_inetaddr_notifier(host, fib_inetaddr_event)
    inet_addr_add(wire.dev, addr, 24)


@pytest.fixture
def pair():
    clock, a, b, wa, wb = wired_pair()
    add_ipv4(a, wa, A)
    add_ipv4(b, wb, B)
    yield clock, a, b, wa, wb
    assert_no_leak(a, b)


class IpCollector:
    def __init__(self, host):
        self.frames = []
        dev_add_pack(host, packet_type(0x0800, self.func))

    def func(self, skb, dev, pt, orig_dev):
        self.frames.append(skb_to_bytes(skb))
        kfree_skb(skb)
        return 0


def ip_packet(host, wire, daddr, payload=b"data", saddr=None):
    skb = alloc_skb(host.skb_small, 200, 64)
    skb_put_data(skb, payload)
    saddr = wire.dev.ip_ptr.ifa_list[0].ifa_local if saddr is None else saddr
    ip_push(skb, 0, 20 + len(payload), 1, 0, 64, 253, saddr, daddr)
    skb.dev = wire.dev
    skb.protocol = 0x0800
    return skb


def send(host, wire, daddr, payload=b"data"):
    n = ip_neigh_gw4(wire.dev, daddr)
    neigh_output(n, ip_packet(host, wire, daddr, payload))
    return n


def arp_frames(wire):
    return [f for f in wire.sent if f[12:14] == b"\x08\x06"]


def test_the_first_packet_waits_for_the_answer(pair):
    clock, a, b, wa, wb = pair
    got = IpCollector(b)
    n = send(a, wa, B, b"one")
    assert n.nud_state == NUD_INCOMPLETE
    send(a, wa, B, b"two")
    assert got.frames == []
    clock.run_for(NSEC_PER_SEC // 10)
    assert n.nud_state == NUD_REACHABLE
    assert n.ha == MAC_B
    assert [f[20:] for f in got.frames] == [b"one", b"two"]
    request, reply = arp_frames(wa)[0], arp_frames(wb)[0]
    assert request == (
        b"\xff" * 6
        + MAC_A
        + bytes.fromhex("080600010800060400010200000000010a0000010000000000000a000002")
    )
    assert reply == (
        MAC_A
        + MAC_B
        + bytes.fromhex("080600010800060400020200000000020a0000020200000000010a000001")
    )
    # b learnt a from the request, as STALE.
    assert neigh_lookup(b.arp_tbl, A, wb.dev).nud_state == NUD_STALE
    # The next packet goes straight out with the cached header.
    before = len(arp_frames(wa))
    send(a, wa, B, b"three")
    clock.run_for(NSEC_PER_SEC // 10)
    assert len(arp_frames(wa)) == before
    assert got.frames[-1][20:] == b"three"


def test_nobody_answers_three_times_then_failed(pair):
    clock, a, _b, wa, _wb = pair
    n = send(a, wa, C)
    clock.run_for(10 * NSEC_PER_SEC)
    assert n.nud_state == NUD_FAILED
    assert len(arp_frames(wa)) == 3
    assert all(f[:6] == b"\xff" * 6 for f in arp_frames(wa))
    assert a.drop_reasons == {SKB_DROP_REASON_NEIGH_FAILED: 1}
    assert a.arp_tbl.stats.res_failed == 1
    # A new packet starts again.
    send(a, wa, C)
    assert n.nud_state == NUD_INCOMPLETE


def test_reachable_goes_stale_then_delay_probe_reachable(pair):
    clock, a, _b, wa, wb = pair
    n = send(a, wa, B)
    clock.run_for(NSEC_PER_SEC)
    assert n.nud_state == NUD_REACHABLE
    clock.run_for(60 * NSEC_PER_SEC)
    assert n.nud_state == NUD_STALE
    asked = len(arp_frames(wa))
    send(a, wa, B)
    assert n.nud_state == NUD_DELAY
    clock.run_for(5 * NSEC_PER_SEC + NSEC_PER_SEC // 2)
    assert n.nud_state == NUD_REACHABLE
    probes = arp_frames(wa)[asked:]
    assert [f[:6] for f in probes] == [MAC_B]
    assert len(arp_frames(wb)) == 2


def test_a_probe_without_answer_fails(pair):
    clock, a, _b, wa, wb = pair
    n = send(a, wa, B)
    clock.run_for(61 * NSEC_PER_SEC)
    assert n.nud_state == NUD_STALE
    wb.drop = lambda frame: True
    send(a, wa, B)
    clock.run_for(5 * NSEC_PER_SEC + 1)
    assert n.nud_state == NUD_PROBE
    clock.run_for(4 * NSEC_PER_SEC)
    assert n.nud_state == NUD_FAILED


def test_confirmation_from_above_saves_the_probe(pair):
    clock, a, _b, wa, _wb = pair
    n = send(a, wa, B)
    clock.run_for(61 * NSEC_PER_SEC)
    asked = len(arp_frames(wa))
    send(a, wa, B)
    assert n.nud_state == NUD_DELAY
    clock.run_for(2 * NSEC_PER_SEC)
    neigh_confirm(n)
    clock.run_for(4 * NSEC_PER_SEC)
    assert n.nud_state == NUD_REACHABLE
    assert len(arp_frames(wa)) == asked


def test_the_waiting_queue_is_bounded_and_drops_the_oldest(pair):
    clock, a, b, wa, _wb = pair
    got = IpCollector(b)
    size = ip_packet(a, wa, B)
    wa.dev.ip_ptr.arp_parms.queue_len_bytes = 3 * size.truesize
    kfree_skb(size)
    for i in range(5):
        send(a, wa, B, bytes([i]))
    clock.run_for(NSEC_PER_SEC // 10)
    assert [f[20] for f in got.frames] == [2, 3, 4]
    assert a.drop_reasons == {SKB_DROP_REASON_NEIGH_QUEUEFULL: 2}
    assert a.arp_tbl.stats.unres_discards == 2


def test_broadcast_and_multicast_need_no_asking(pair):
    _clock, a, _b, wa, _wb = pair
    n = send(a, wa, 0x0A0000FF)
    assert n.nud_state == NUD_NOARP
    assert wa.sent[-1][:6] == b"\xff" * 6
    send(a, wa, 0xE0000001)
    assert wa.sent[-1][:6] == b"\x01\x00\x5e\x00\x00\x01"
    send(a, wa, 0xEF8A0102)
    assert wa.sent[-1][:6] == b"\x01\x00\x5e\x0a\x01\x02"
    assert arp_frames(wa) == []


def test_a_changed_address_is_believed_after_locktime_only(pair):
    clock, a, _b, wa, wb = pair
    n = send(a, wa, B)
    clock.run_for(NSEC_PER_SEC // 10)
    other = b"\x02\x00\x00\x00\x00\x77"

    def reply():
        arp_send(2, 0x0806, A, wb.dev, B, MAC_A, other, MAC_A)
        clock.run_for(NSEC_PER_SEC // 10)

    reply()
    assert n.ha == MAC_B
    clock.run_for(2 * NSEC_PER_SEC)
    reply()
    assert n.ha == other
    send(a, wa, B)
    assert wa.sent[-1][:6] == other  # the cached header followed
    assert a.arp_conflicts == 0


def test_gratuitous_arp_updates_an_entry_but_makes_none(pair):
    clock, a, _b, wa, wb = pair
    arp_send_gratuitous(wb.dev, B)
    clock.run_for(NSEC_PER_SEC // 10)
    assert neigh_lookup(a.arp_tbl, B, wa.dev) is None
    n = send(a, wa, B)
    clock.run_for(NSEC_PER_SEC // 10)
    assert dev_set_mac_address(wb.dev, b"\x02\x00\x00\x00\x00\x88") == 0
    arp_send_gratuitous(wb.dev, B)
    clock.run_for(NSEC_PER_SEC // 10)
    assert n.ha == b"\x02\x00\x00\x00\x00\x88"
    assert n.nud_state == NUD_STALE
    a.sysctl.arp_accept = 1
    arp_send(1, 0x0806, C, wb.dev, C, None, None, None)
    clock.run_for(NSEC_PER_SEC // 10)
    assert neigh_lookup(a.arp_tbl, C, wa.dev).nud_state == NUD_STALE
    a.sysctl.drop_gratuitous_arp = 1
    arp_send_gratuitous(wb.dev, B)
    clock.run_for(NSEC_PER_SEC // 10)
    assert a.drop_reasons == {SKB_DROP_REASON_ARP_INHDR: 1}


def test_our_own_address_from_elsewhere_is_a_counted_conflict(pair):
    clock, a, _b, _wa, wb = pair
    arp_send(1, 0x0806, A, wb.dev, A, None, None, None)
    clock.run_for(NSEC_PER_SEC // 10)
    assert a.arp_conflicts == 1
    assert len(a.arp_tbl) == 0


def test_duplicate_address_detection_is_answered(pair):
    clock, a, _b, wa, wb = pair
    arp_send(1, 0x0806, A, wb.dev, 0, None, None, None)
    clock.run_for(NSEC_PER_SEC // 10)
    reply = arp_frames(wa)[0]
    assert reply[:6] == MAC_B
    assert reply[38:42] == bytes(4)
    assert len(a.arp_tbl) == 0


@pytest.mark.parametrize(("level", "answered"), [(0, True), (1, True), (2, True), (8, False)])
def test_arp_ignore(pair, level, answered):
    clock, a, _b, wa, wb = pair
    a.sysctl.arp_ignore = level
    arp_send(1, 0x0806, A, wb.dev, B, None, None, None)
    clock.run_for(NSEC_PER_SEC // 10)
    assert bool(arp_frames(wa)) is answered


def test_requests_for_others_are_not_answered(pair):
    clock, a, _b, wa, wb = pair
    arp_send(1, 0x0806, C, wb.dev, B, None, None, None)
    clock.run_for(NSEC_PER_SEC // 10)
    assert arp_frames(wa) == []
    assert len(a.arp_tbl) == 0


def arp_frame(hrd=1, pro=0x0800, hln=6, pln=4, op=1, sha=MAC_B, sip=B, tha=bytes(6), tip=A):
    return (
        b"\xff" * 6
        + MAC_B
        + b"\x08\x06"
        + hrd.to_bytes(2, "big")
        + pro.to_bytes(2, "big")
        + bytes([hln, pln])
        + op.to_bytes(2, "big")
        + sha
        + sip.to_bytes(4, "big")
        + tha
        + tip.to_bytes(4, "big")
    )


@pytest.mark.parametrize(
    "bad",
    [
        {"hrd": 7},
        {"pro": 0x86DD},
        {"op": 3},
        {"op": 0},
        {"tip": 0xE0000001},
        {"tip": 0x7F000001},
        {"hln": 5},
        {"pln": 16},
    ],
)
def test_a_malformed_arp_is_dropped_with_its_reason(pair, bad):
    clock, a, _b, wa, _wb = pair
    wa.receive(arp_frame(**bad))
    clock.run_for(NSEC_PER_SEC // 10)
    assert a.drop_reasons == {SKB_DROP_REASON_ARP_INHDR: 1}
    assert wa.sent == []
    assert len(a.arp_tbl) == 0


def test_a_sender_with_an_impossible_address_is_neither_answered_nor_learned(pair):
    clock, a, _b, wa, _wb = pair
    wa.receive(arp_frame(sip=0xFFFFFFFF))
    clock.run_for(NSEC_PER_SEC // 10)
    assert wa.sent == []
    assert len(a.arp_tbl) == 0


@pytest.mark.parametrize("sha", [b"\x01\x00\x5e\x00\x00\x01", bytes(6)])
def test_any_hardware_address_is_answered_as_on_linux(pair, sha):
    clock, _a, _b, wa, _wb = pair
    wa.receive(arp_frame(sha=sha))
    clock.run_for(NSEC_PER_SEC // 10)
    assert [frame[:6] for frame in wa.sent] == [sha]


def test_a_truncated_arp_is_dropped(pair):
    clock, a, _b, wa, _wb = pair
    wa.receive(arp_frame()[:41])
    clock.run_for(NSEC_PER_SEC // 10)
    assert a.drop_reasons == {SKB_DROP_REASON_HDR_TRUNC: 1}


@given(st.binary(max_size=60))
@settings(max_examples=examples(200))
def test_no_arp_payload_crashes(data):
    clock, a, b, wa, wb = wired_pair()
    add_ipv4(a, wa, A)
    wa.receive(b"\xff" * 6 + MAC_B + b"\x08\x06" + data)
    clock.run_for(NSEC_PER_SEC)
    assert_no_leak(a, b)
    assert wb is not None


def test_the_administrators_table(pair):
    _clock, a, _b, wa, _wb = pair
    arp_req_set(wa.dev, C, b"\x02\x00\x00\x00\x00\x33")
    n = arp_req_get(wa.dev, C)
    assert n.nud_state == NUD_PERMANENT
    assert arp_state_to_flags(n) == 0x06
    send(a, wa, C)
    assert wa.sent[-1][:6] == b"\x02\x00\x00\x00\x00\x33"
    assert neigh_update(n, MAC_B, NUD_REACHABLE, NEIGH_UPDATE_F_OVERRIDE) == -errno.EPERM
    arp_req_delete(wa.dev, C)
    with pytest.raises(OSError, match="No such device"):
        arp_req_get(wa.dev, C)
    with pytest.raises(OSError, match="hardware address"):
        arp_req_set(wa.dev, C, b"\x02")
    assert n.dead
    assert neigh_update(n, MAC_B, NUD_REACHABLE) == -errno.EINVAL


def test_an_entry_that_needs_no_arp_is_not_found_but_goes(pair):
    _clock, a, _b, wa, _wb = pair
    n = __neigh_lookup(a.arp_tbl, C, wa.dev, True)
    neigh_update(n, MAC_B, NUD_NOARP, NEIGH_UPDATE_F_OVERRIDE | NEIGH_UPDATE_F_ADMIN)
    with pytest.raises(OSError, match="no such entry"):
        arp_req_get(wa.dev, C)
    with pytest.raises(OSError, match="no such entry"):
        arp_req_delete(wa.dev, C)
    assert n.dead


def test_loss_of_carrier_forgets_what_was_learnt(pair):
    clock, a, _b, wa, _wb = pair
    send(a, wa, B)
    clock.run_for(NSEC_PER_SEC // 10)
    arp_req_set(wa.dev, C, MAC_B)
    netif_carrier_off(wa.dev)
    clock.run_for(NSEC_PER_SEC // 10)
    assert [n.primary_key for n in a.arp_tbl] == [C]


def test_the_table_is_bounded_by_forced_collection(pair):
    clock, a, _b, wa, _wb = pair
    tbl = a.arp_tbl
    tbl.gc_thresh2, tbl.gc_thresh3 = 8, 16
    refused = 0
    for i in range(64):
        n = ip_neigh_gw4(wa.dev, 0x0A000100 + i)
        if n is None:
            refused += 1
        clock.run_for(NSEC_PER_SEC)
    assert len(tbl) <= 16
    assert tbl.stats.forced_gc_runs
    assert refused == 0
    # Entries too young to go: the table is full.
    results = [ip_neigh_gw4(wa.dev, 0x0A000200 + i) for i in range(40)]
    assert None in results
    assert tbl.stats.table_fulls


def test_unused_entries_are_collected_in_time(pair):
    clock, a, _b, wa, _wb = pair
    a.arp_tbl.gc_thresh1 = 1
    send(a, wa, B)
    clock.run_for(200 * NSEC_PER_SEC)
    assert len(a.arp_tbl) == 0


# --- every state, every event ------------------------------------------------------------------

STATES = [NUD_INCOMPLETE, NUD_REACHABLE, NUD_STALE, NUD_DELAY, NUD_PROBE, NUD_FAILED, NUD_PERMANENT]


def in_state(pair, state):
    """A fresh neighbour of `a` brought into `state` the way it gets there."""
    _clock, a, _b, wa, wb = pair
    wb.drop = wa.drop = lambda frame: True
    n = ip_neigh_gw4(wa.dev, B)
    if state == NUD_INCOMPLETE:
        send(a, wa, B)
    else:
        neigh_update(n, MAC_B if state & NUD_VALID else None, state, NEIGH_UPDATE_F_ADMIN)
    assert n.nud_state == state
    return n


def kernel_neigh_update(old, new, same, flags):
    """The state after neigh_update, written down as rules (net/core/neighbour.c)."""
    if old == NUD_PERMANENT and not flags & NEIGH_UPDATE_F_ADMIN:
        return old
    if not new & NUD_VALID:
        return new
    if not old & NUD_VALID:
        # The packet that waited goes out at once, which a STALE entry notes.
        return NUD_DELAY if old == NUD_INCOMPLETE and new == NUD_STALE else new
    if not same and not flags & NEIGH_UPDATE_F_OVERRIDE:
        if flags & NEIGH_UPDATE_F_WEAK_OVERRIDE and old & NUD_CONNECTED:
            return NUD_STALE
        return old
    if same and new == NUD_STALE and not flags & NEIGH_UPDATE_F_ADMIN:
        return old
    return new


@pytest.mark.parametrize(
    "flags",
    [
        0,
        NEIGH_UPDATE_F_OVERRIDE,
        NEIGH_UPDATE_F_WEAK_OVERRIDE,
        NEIGH_UPDATE_F_ADMIN | NEIGH_UPDATE_F_OVERRIDE,
    ],
)
@pytest.mark.parametrize("same", [True, False])
@pytest.mark.parametrize("new", [NUD_REACHABLE, NUD_STALE, NUD_FAILED])
@pytest.mark.parametrize("old", STATES, ids=lambda s: NUD_NAMES[s])
def test_neigh_update_in_every_state(pair, old, new, same, flags):
    n = in_state(pair, old)
    lladdr = MAC_B if same else b"\x02\x00\x00\x00\x00\x99"
    neigh_update(n, lladdr, new, flags)
    expected = kernel_neigh_update(old, new, same, flags)
    assert NUD_NAMES[n.nud_state] == NUD_NAMES[expected]
    connected = n.nud_state & NUD_CONNECTED and n.ops.connected_output
    assert n.output is (connected or n.ops.output)


@pytest.mark.parametrize(
    ("state", "after_send", "queued"),
    [
        (NUD_INCOMPLETE, NUD_INCOMPLETE, True),
        (NUD_REACHABLE, NUD_REACHABLE, False),
        (NUD_STALE, NUD_DELAY, False),
        (NUD_DELAY, NUD_DELAY, False),
        (NUD_PROBE, NUD_PROBE, False),
        (NUD_FAILED, NUD_INCOMPLETE, True),
        (NUD_PERMANENT, NUD_PERMANENT, False),
    ],
)
def test_sending_in_every_state(pair, state, after_send, queued):
    _clock, a, _b, wa, _wb = pair
    n = in_state(pair, state)
    before = len(wa.sent) - len(arp_frames(wa))
    waiting = n.arp_queue.qlen
    neigh_output(n, ip_packet(a, wa, B))
    assert NUD_NAMES[n.nud_state] == NUD_NAMES[after_send]
    assert n.arp_queue.qlen == waiting + queued
    assert len(wa.sent) - len(arp_frames(wa)) == before + (not queued)
