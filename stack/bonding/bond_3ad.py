"""drivers/net/bonding/bond_3ad.c: link aggregation with LACP (IEEE 802.1AX, first 802.3ad).

Each slave is a port with four machines of the standard's clause 5.4, and the bond chooses among
aggregators, which are sets of ports that lead to one partner. Every 100 ms, for each port:

    ad_rx_machine               5.4.12: the partner's parameters, and how long they are valid
    ad_periodic_machine         5.4.13: when to send periodically
    ad_port_selection_logic     5.4.14: the aggregator of the port
        ad_agg_selection_logic          the aggregator of the bond, by ad_select
    ad_mux_machine              5.4.15: detached, waiting, attached, collecting and distributing
    ad_tx_machine               5.4.16: send, three times a second at most

bond_3ad_lacpdu_recv runs the receive machine for a LACPDU, and answers markers. A LACPDU:

    | subtype 1, version 1 | 1, 20, actor 18 | 2, 20, partner 18 | 3, 16, delay 2, 12 | 0, 0, 50 |

Actor and partner: system priority 2, system 6, key 2, port priority 2, port 2, state 1, reserved 3.
The churn machines, which only report, are left out. State: ad_bond_info of a bond, ad_slave_info
of a slave with its `port` and `aggregator`. Read bond_3ad_state_machine_handler first.
"""

from __future__ import annotations

import struct
from collections.abc import Callable

from fastpath.base.skbuff import alloc_skb, sk_buff, skb_copy_bits, skb_put_data
from stack.bonding.bonding import (
    BOND_AD_COUNT,
    BOND_AD_STABLE,
    BOND_LINK_UP,
    BOND_MODE_8023AD,
    bond_set_active_flags,
    bond_set_inactive_flags,
    bond_slave_can_tx,
    bond_slave_is_up,
    bonding,
    slave,
)
from stack.core.dev_queue import dev_queue_xmit
from stack.core.link_watch import netif_carrier_off, netif_carrier_on
from stack.core.netdevice import netif_running
from stack.core.rows import row, state
from stack.core.timer import TIMER_DEFERRABLE, mod_timer, timer_delete, timer_list

PKT_TYPE_LACPDU = 0x8809
"""The EtherType of slow protocols (IEEE 802.3 annex 57A)."""
lacpdu_mcast_addr = b"\x01\x80\xc2\x00\x00\x02"
AD_TYPE_LACPDU = 1
AD_TYPE_MARKER = 2
AD_MARKER_INFORMATION_SUBTYPE = 1
AD_MARKER_RESPONSE_SUBTYPE = 2

# Bits of a port's state (5.4.2.2)
LACP_STATE_LACP_ACTIVITY = 0x01
LACP_STATE_LACP_TIMEOUT = 0x02
LACP_STATE_AGGREGATION = 0x04
LACP_STATE_SYNCHRONIZATION = 0x08
LACP_STATE_COLLECTING = 0x10
LACP_STATE_DISTRIBUTING = 0x20
LACP_STATE_DEFAULTED = 0x40
LACP_STATE_EXPIRED = 0x80

# Times of 5.4.4, in ticks of 100 ms
TICK_NS = 100_000_000
TICKS_PER_SEC = 10
AD_FAST_PERIODIC_TIME = 1 * TICKS_PER_SEC
AD_SLOW_PERIODIC_TIME = 30 * TICKS_PER_SEC
AD_SHORT_TIMEOUT_TIME = 3 * AD_FAST_PERIODIC_TIME
AD_LONG_TIMEOUT_TIME = 3 * AD_SLOW_PERIODIC_TIME
AD_AGGREGATE_WAIT_TIME = 2 * TICKS_PER_SEC
AD_MAX_TX_IN_SECOND = 3
AD_SELECT_TIME = 1 * TICKS_PER_SEC
"""How long no aggregator is selected after the first slave, unless the bond is opened."""

# States of the receive machine, of the periodic and of the mux machine
RX_INITIALIZE, RX_PORT_DISABLED, RX_LACP_DISABLED = "initialize", "port disabled", "LACP disabled"
RX_EXPIRED, RX_DEFAULTED, RX_CURRENT = "expired", "defaulted", "current"
NO_PERIODIC, FAST_PERIODIC, SLOW_PERIODIC, PERIODIC_TX = "none", "fast", "slow", "send"
MUX_DETACHED, MUX_WAITING, MUX_ATTACHED = "detached", "waiting", "attached"
MUX_COLLECTING_DISTRIBUTING = "collecting, distributing"

SPEEDS = (1, 10, 100, 1000, 2500, 5000, 10000, 14000, 20000, 25000, 40000, 50000, 56000, 100000)
"""Mb/s; a speed's number in a key is its index, from 1."""
PORT_PRIORITY = 255
INFO = struct.Struct(">H6sHHHB3x")
LACPDU = struct.Struct(f">BB BB{INFO.size}s BB{INFO.size}s BBH12x BB50x")
MARKER = struct.Struct(">BB BBH6sI2x BB90x")
NO_SYSTEM = bytes(6)


@state
class port_params:
    """include/net/bond_3ad.h: one end's parameters in a LACPDU. The values fit into its fields."""

    system_priority: int = 0
    system: bytes = NO_SYSTEM
    key: int = 0
    port_priority: int = 0
    port_number: int = 0
    port_state: int = 0


@state
class lacpdu:
    """include/net/bond_3ad.h: the contents of a LACPDU."""

    actor: port_params
    partner: port_params


@state
class aggregator:
    """include/net/bond_3ad.h: ports that may be used together."""

    slave: slave
    aggregator_identifier: int
    is_individual: bool = row(False)
    is_active: bool = row(False)
    """Whether the bond uses it."""
    actor_oper_aggregator_key: int = row(0)
    partner_system: bytes = row(NO_SYSTEM)
    partner_system_priority: int = row(0)
    partner_oper_aggregator_key: int = row(0)
    lag_ports: list[port] = row(make=list)


@state
class port:
    """include/net/bond_3ad.h: a slave's machines. Timers are in ticks, 0: stopped."""

    slave: slave
    actor: port_params = row(make=port_params)
    """Operational parameters, as are `partner`'s."""
    partner: port_params = row(make=port_params)
    is_enabled: bool = row(False)
    begin: bool = row(True)
    lacp_enabled: bool = row(False)
    selected: bool = row(False)
    ready_n: bool = row(False)
    ntt: bool = row(False)
    """Need to transmit."""
    rx_state: str = row(RX_INITIALIZE)
    rx_timer: int = row(0)
    periodic_state: str = row(NO_PERIODIC)
    periodic_timer: int = row(0)
    mux_state: str = row(MUX_DETACHED)
    mux_timer: int = row(0)
    sent: list[int] = row(make=list)
    """When the last LACPDUs were sent, in ticks."""
    aggregator: aggregator | None = row()


@state
class ad_slave_info:
    """include/net/bond_3ad.h."""

    port: port
    aggregator: aggregator


@state
class ad_bond_info:
    """include/net/bond_3ad.h."""

    timer: timer_list
    system: bytes = row(NO_SYSTEM)
    """The address of the first slave, unless another is set."""
    next_id: int = row(1)
    """The number of the next port and aggregator."""
    agg_select_timer: int = row(0)
    ticks: int = row(0)


# --- LACPDUs and markers --------------------------------------------------------------------------


def _info(data: bytes) -> port_params:
    return port_params(*INFO.unpack(data))


def _pack(params: port_params) -> bytes:
    numbers = (params.key, params.port_priority, params.port_number, params.port_state)
    return INFO.pack(params.system_priority, params.system, *numbers)


def lacpdu_parse(data: bytes) -> lacpdu | None:
    """Parse a slow protocol's frame, from its subtype on; None: it is no complete LACPDU."""
    if len(data) < LACPDU.size or data[0] != AD_TYPE_LACPDU:
        return None
    _, _, _, _, actor, _, _, partner, *_ = LACPDU.unpack_from(data)
    return lacpdu(_info(actor), _info(partner))


def lacpdu_build(p: port) -> bytes:
    """drivers/net/bonding/bond_3ad.c __update_lacpdu_from_port: the port's current LACPDU."""
    size = INFO.size + 2
    actor, partner = _pack(p.actor), _pack(p.partner)
    return LACPDU.pack(AD_TYPE_LACPDU, 1, 1, size, actor, 2, size, partner, 3, 16, 0, 0, 0)


def marker_response(data: bytes) -> bytes | None:
    """ad_marker_info_received: the response to a marker; None: it is no complete marker."""
    if len(data) < MARKER.size:
        return None
    _, version, kind, size, *rest = MARKER.unpack_from(data)
    if kind != AD_MARKER_INFORMATION_SUBTYPE:
        return None
    return MARKER.pack(AD_TYPE_MARKER, version, AD_MARKER_RESPONSE_SUBTYPE, size, *rest)


def ad_send(one: slave, payload: bytes) -> bool:
    """ad_lacpdu_send, ad_marker_send: a slow protocol's frame, from the slave's own address."""
    dev = one.dev
    skb = alloc_skb(dev.net.skb_small, len(payload) + 14, dev.needed_headroom + 2)
    if skb is None:
        return False
    head = lacpdu_mcast_addr + one.perm_hwaddr + PKT_TYPE_LACPDU.to_bytes(2, "big")
    skb_put_data(skb, head + payload)
    skb.dev = dev
    skb.protocol = PKT_TYPE_LACPDU
    skb.priority = 7  # TC_PRIO_CONTROL
    dev_queue_xmit(skb)
    return True


def bond_3ad_lacpdu_recv(skb: sk_buff, one: slave) -> None:
    """drivers/net/bonding/bond_3ad.c: receive a slow protocol's frame. Borrows skb."""
    if one.ad is None or not skb.len:
        return
    data = skb_copy_bits(skb, 0, min(skb.len, LACPDU.size))
    if data[0] == AD_TYPE_MARKER:
        answer = marker_response(data)
        if answer is not None:
            ad_send(one, answer)
        return
    pdu = lacpdu_parse(data)
    if pdu is not None:
        ad_rx_machine(pdu, one.ad.port)


# --- the receive machine (5.4.12) -----------------------------------------------------------------


def _same_end(one: port_params, other: port_params) -> bool:
    """Whether port, system, key and aggregatability are the same."""
    return (
        one.port_number == other.port_number
        and one.port_priority == other.port_priority
        and one.system == other.system
        and one.system_priority == other.system_priority
        and one.key == other.key
        and not (one.port_state ^ other.port_state) & LACP_STATE_AGGREGATION
    )


def record_pdu(pdu: lacpdu, p: port) -> None:
    """recordPDU (5.4.9): store the partner's parameters; it is in sync if it knows ours.

    As in Linux, this is so even if both ends are passive, although the standard makes an exception.
    """
    actor, partner = pdu.actor, pdu.partner
    individual = not actor.port_state & LACP_STATE_AGGREGATION
    port_state = actor.port_state
    if not individual and not _same_end(partner, p.actor):
        port_state &= ~LACP_STATE_SYNCHRONIZATION
    p.partner = actor
    p.partner.port_state = port_state
    p.actor.port_state &= ~LACP_STATE_DEFAULTED


def record_default(p: port) -> None:
    """recordDefault (5.4.9): there is no partner, or it does not use LACP."""
    p.partner = partner_admin()
    p.actor.port_state |= LACP_STATE_DEFAULTED


def partner_admin() -> port_params:
    """The partner that is assumed (ad_initialize_port): a single link without LACP."""
    return port_params(0xFFFF, NO_SYSTEM, 1, 0xFF, 1)


def update_selected(p: port, partner: port_params) -> None:
    """update_Selected, update_Default_Selected: another partner ends the selection."""
    if not _same_end(partner, p.partner):
        p.selected = False


NTT_BITS = (
    LACP_STATE_LACP_ACTIVITY
    | LACP_STATE_LACP_TIMEOUT
    | LACP_STATE_SYNCHRONIZATION
    | LACP_STATE_AGGREGATION
)


def update_ntt(pdu: lacpdu, p: port) -> None:
    """update_NTT (5.4.9): the partner has an old view of us."""
    theirs = pdu.partner
    if not _same_end(theirs, p.actor) or (theirs.port_state ^ p.actor.port_state) & NTT_BITS:
        p.ntt = True


def ad_rx_machine(pdu: lacpdu | None, p: port) -> None:
    """drivers/net/bonding/bond_3ad.c: a LACPDU, or without one a tick."""
    was = p.rx_state
    if p.begin:
        p.rx_state = RX_INITIALIZE
    elif not p.is_enabled:
        p.rx_state = RX_PORT_DISABLED
    elif pdu is not None and was in (RX_EXPIRED, RX_DEFAULTED, RX_CURRENT):
        p.rx_state = RX_CURRENT
        _rx_current(p, pdu)
        return
    elif p.rx_timer and pdu is None:
        p.rx_timer -= 1
        if not p.rx_timer and was == RX_EXPIRED:
            p.rx_state = RX_DEFAULTED
        elif not p.rx_timer and was == RX_CURRENT:
            p.rx_state = RX_EXPIRED
    elif was == RX_PORT_DISABLED:
        p.rx_state = RX_EXPIRED if p.lacp_enabled else RX_LACP_DISABLED
    elif was == RX_LACP_DISABLED and p.lacp_enabled:
        p.rx_state = RX_PORT_DISABLED
    if p.rx_state != was or p.begin:
        RX_ENTRY[p.rx_state](p)


def _rx_initialize(p: port) -> None:
    p.selected = False
    record_default(p)
    p.actor.port_state &= ~LACP_STATE_EXPIRED
    p.rx_state = RX_PORT_DISABLED
    _rx_port_disabled(p)


def _rx_port_disabled(p: port) -> None:
    p.partner.port_state &= ~LACP_STATE_SYNCHRONIZATION
    p.rx_timer = 0


def _rx_lacp_disabled(p: port) -> None:
    p.selected = False
    record_default(p)
    p.partner.port_state &= ~LACP_STATE_AGGREGATION
    p.actor.port_state &= ~LACP_STATE_EXPIRED


def _rx_expired(p: port) -> None:
    p.partner.port_state &= ~LACP_STATE_SYNCHRONIZATION
    p.partner.port_state |= LACP_STATE_LACP_TIMEOUT
    p.rx_timer = AD_SHORT_TIMEOUT_TIME
    p.actor.port_state |= LACP_STATE_EXPIRED


def _rx_defaulted(p: port) -> None:
    update_selected(p, partner_admin())
    record_default(p)
    p.actor.port_state &= ~LACP_STATE_EXPIRED


def _rx_current(p: port, pdu: lacpdu) -> None:
    if pdu.actor.system == p.actor.system:
        return  # our own frame: the link is looped
    update_selected(p, pdu.actor)
    update_ntt(pdu, p)
    record_pdu(pdu, p)
    short = p.actor.port_state & LACP_STATE_LACP_TIMEOUT
    p.rx_timer = AD_SHORT_TIMEOUT_TIME if short else AD_LONG_TIMEOUT_TIME
    p.actor.port_state &= ~LACP_STATE_EXPIRED


RX_ENTRY: dict[str, Callable[[port], None]] = {
    RX_INITIALIZE: _rx_initialize,
    RX_PORT_DISABLED: _rx_port_disabled,
    RX_LACP_DISABLED: _rx_lacp_disabled,
    RX_EXPIRED: _rx_expired,
    RX_DEFAULTED: _rx_defaulted,
}
"""The actions of the standard's states. CURRENT needs the LACPDU, so it is not here."""


# --- the periodic machine (5.4.13), the transmit machine (5.4.16) ---------------------------------


def ad_periodic_machine(p: port) -> None:
    """drivers/net/bonding/bond_3ad.c: a tick."""
    activity = (p.actor.port_state | p.partner.port_state) & LACP_STATE_LACP_ACTIVITY
    fast = bool(p.partner.port_state & LACP_STATE_LACP_TIMEOUT)
    if p.begin or not p.lacp_enabled or not p.is_enabled or not activity:
        p.periodic_state, p.periodic_timer = NO_PERIODIC, 0
        return
    was = p.periodic_state
    if p.periodic_timer:
        p.periodic_timer -= 1
    if was == NO_PERIODIC:
        p.periodic_state = FAST_PERIODIC
    elif was == FAST_PERIODIC and p.periodic_timer and not fast:
        p.periodic_state = SLOW_PERIODIC
    elif not p.periodic_timer or (was == SLOW_PERIODIC and fast):
        p.ntt = True  # PERIODIC_TX, which is left at once
        p.periodic_state = PERIODIC_TX
    if p.periodic_state == PERIODIC_TX:
        p.periodic_state = FAST_PERIODIC if fast else SLOW_PERIODIC
        was = PERIODIC_TX
    if p.periodic_state != was:
        slow = p.periodic_state == SLOW_PERIODIC
        p.periodic_timer = AD_SLOW_PERIODIC_TIME if slow else AD_FAST_PERIODIC_TIME


def ad_tx_machine(p: port, now: int) -> None:
    """drivers/net/bonding/bond_3ad.c: send a LACPDU if due; `now` in ticks."""
    if not p.ntt or not p.lacp_enabled or not p.is_enabled:
        return
    p.sent = [when for when in p.sent if when > now - AD_FAST_PERIODIC_TIME]
    if len(p.sent) < AD_MAX_TX_IN_SECOND and ad_send(p.slave, lacpdu_build(p)):
        p.sent.append(now)
        p.ntt = False


# --- the mux machine (5.4.15) ---------------------------------------------------------------------


def ad_mux_machine(p: port) -> None:
    """drivers/net/bonding/bond_3ad.c: a tick. Collecting and distributing go together."""
    was = p.mux_state
    agg = p.aggregator
    in_step = p.selected and bool(p.partner.port_state & LACP_STATE_SYNCHRONIZATION)
    if p.begin:
        p.mux_state = MUX_DETACHED
    elif was == MUX_DETACHED and p.selected:
        p.mux_state = MUX_WAITING
    elif was == MUX_WAITING and not p.selected:
        p.mux_state = MUX_DETACHED
    elif was == MUX_WAITING and agg is not None:
        if p.mux_timer:
            p.mux_timer -= 1
            p.ready_n = p.ready_n or not p.mux_timer
        if all(other.ready_n for other in agg.lag_ports):
            p.mux_state = MUX_ATTACHED
    elif was == MUX_ATTACHED and not p.selected:
        p.mux_state = MUX_DETACHED
    elif was == MUX_ATTACHED and in_step and p.actor.port_state & LACP_STATE_SYNCHRONIZATION:
        p.mux_state = MUX_COLLECTING_DISTRIBUTING
    elif was == MUX_COLLECTING_DISTRIBUTING and not (in_step and agg is not None and agg.is_active):
        p.mux_state = MUX_ATTACHED
    elif was == MUX_ATTACHED and agg is not None:
        _synchronize(p, agg.is_active)
    if p.mux_state != was or p.begin:
        MUX_ENTRY[p.mux_state](p)


def _synchronize(p: port, on: bool) -> None:
    """Only ports of the active aggregator are in sync; the others stand by."""
    if on != bool(p.actor.port_state & LACP_STATE_SYNCHRONIZATION):
        p.actor.port_state ^= LACP_STATE_SYNCHRONIZATION
        p.ntt = True


def _distribute(p: port, on: bool) -> None:
    both = LACP_STATE_COLLECTING | LACP_STATE_DISTRIBUTING
    p.actor.port_state = p.actor.port_state | both if on else p.actor.port_state & ~both
    p.ntt = True
    if on:
        enable_port(p)
    elif p.aggregator is None or agg_has_partner(p.aggregator):
        bond_set_inactive_flags(p.slave)
    bond_update_slave_arr(p.slave.bond)


def _mux_detached(p: port) -> None:
    p.actor.port_state &= ~LACP_STATE_SYNCHRONIZATION
    p.ready_n = False
    p.mux_timer = 0
    _distribute(p, False)


def _mux_waiting(p: port) -> None:
    p.mux_timer = AD_AGGREGATE_WAIT_TIME


def _mux_attached(p: port) -> None:
    _synchronize(p, p.aggregator is not None and p.aggregator.is_active)
    _distribute(p, False)


def _mux_collecting_distributing(p: port) -> None:
    _distribute(p, True)


MUX_ENTRY: dict[str, Callable[[port], None]] = {
    MUX_DETACHED: _mux_detached,
    MUX_WAITING: _mux_waiting,
    MUX_ATTACHED: _mux_attached,
    MUX_COLLECTING_DISTRIBUTING: _mux_collecting_distributing,
}


def enable_port(p: port) -> None:
    """__enable_port: the slave sends and receives, if it is up."""
    if p.slave.link == BOND_LINK_UP and bond_slave_is_up(p.slave):
        bond_set_active_flags(p.slave)


# --- selection (5.4.14) ---------------------------------------------------------------------------


def _ports(bond: bonding) -> list[port]:
    return [one.ad.port for one in bond.slave_list if one.ad is not None]


def _aggregators(bond: bonding) -> list[aggregator]:
    return [one.ad.aggregator for one in bond.slave_list if one.ad is not None]


def agg_has_partner(agg: aggregator) -> bool:
    """__agg_has_partner."""
    return agg.partner_system != NO_SYSTEM


def _fits(p: port, agg: aggregator) -> bool:
    """Whether the port has the same partner as this aggregator, and both ends can aggregate."""
    return (
        bool(agg.lag_ports)
        and not agg.is_individual
        and agg_has_partner(agg)
        and agg.actor_oper_aggregator_key == p.actor.key
        and agg.partner_system == p.partner.system
        and agg.partner_system_priority == p.partner.system_priority
        and agg.partner_oper_aggregator_key == p.partner.key
        and bool(p.partner.port_state & LACP_STATE_AGGREGATION)
        and bool(p.actor.port_state & LACP_STATE_AGGREGATION)
    )


def ad_port_selection_logic(p: port) -> None:
    """drivers/net/bonding/bond_3ad.c: the aggregator of a port that has none."""
    if p.selected:
        return
    bond = p.slave.bond
    leave_aggregator(p)
    # In the standard, a port is detached before it is attached to another aggregator.
    if p.mux_state != MUX_DETACHED:
        return
    found = next((agg for agg in _aggregators(bond) if _fits(p, agg)), None)
    if found is None:
        assert p.slave.ad is not None
        own = p.slave.ad.aggregator
        free = (agg for agg in (own, *_aggregators(bond)) if not agg.lag_ports)
        found = next(free, None)
        if found is None:
            return
        clear_aggregator(found)
        found.is_individual = (
            not p.lacp_enabled or not p.partner.port_state & LACP_STATE_AGGREGATION
        )
        found.actor_oper_aggregator_key = p.actor.key
        found.partner_system = p.partner.system
        found.partner_system_priority = p.partner.system_priority
        found.partner_oper_aggregator_key = p.partner.key
    found.lag_ports.append(p)
    p.aggregator = found
    p.selected = True
    ad_agg_selection_logic(bond)


def leave_aggregator(p: port) -> None:
    """Remove the port from its aggregator; clear an empty aggregator."""
    agg, p.aggregator = p.aggregator, None
    if agg is not None:
        agg.lag_ports.remove(p)
        if not agg.lag_ports:
            clear_aggregator(agg)


def clear_aggregator(agg: aggregator) -> None:
    """ad_clear_agg."""
    agg.is_individual = agg.is_active = False
    agg.actor_oper_aggregator_key = agg.partner_oper_aggregator_key = 0
    agg.partner_system, agg.partner_system_priority = NO_SYSTEM, 0


def agg_active_ports(agg: aggregator) -> int:
    """drivers/net/bonding/bond_3ad.c __agg_active_ports: ports whose link is up."""
    return sum(p.is_enabled for p in agg.lag_ports)


def agg_bandwidth(agg: aggregator) -> int:
    """drivers/net/bonding/bond_3ad.c __get_agg_bandwidth: Mb/s of those ports."""
    return sum(max(0, p.slave.speed) for p in agg.lag_ports if p.is_enabled)


def agg_rank(agg: aggregator, ad_select: int) -> tuple[int, ...]:
    """ad_agg_selection_test: the higher, the better."""
    count = agg_active_ports(agg) if ad_select == BOND_AD_COUNT else 0
    return (not agg.is_individual, agg_has_partner(agg), count, agg_bandwidth(agg))


def ad_agg_selection_logic(bond: bonding) -> None:
    """drivers/net/bonding/bond_3ad.c: choose the aggregator of the bond.

    `stable` keeps the active one while a port of it is up. bandwidth and count select again.
    """
    if bond.ad is None or bond.ad.agg_select_timer:
        return
    active = bond_active_aggregator(bond)
    usable = [agg for agg in _aggregators(bond) if agg_active_ports(agg)]
    select = bond.params.ad_select
    best = max(usable, key=lambda agg: agg_rank(agg, select), default=None)
    if active is not None and active in usable and best is not None:
        kept = agg_has_partner(active) or not agg_has_partner(best)
        kept = kept and select == BOND_AD_STABLE
        if kept or agg_rank(active, select) >= agg_rank(best, select):
            best = active
    if best is active:
        if active is not None and not agg_has_partner(active):
            for p in active.lag_ports:
                enable_port(p)
    else:
        if active is not None:
            active.is_active = False
            for p in active.lag_ports:
                bond_set_inactive_flags(p.slave)
        if best is not None:
            best.is_active = True
            # A partner without LACP is never in sync: its single link works without it.
            for p in best.lag_ports if not agg_has_partner(best) else ():
                enable_port(p)
    bond_update_slave_arr(bond)
    bond_3ad_set_carrier(bond)


def bond_active_aggregator(bond: bonding) -> aggregator | None:
    """drivers/net/bonding/bond_3ad.c __get_active_agg."""
    return next((agg for agg in _aggregators(bond) if agg.is_active), None)


def bond_update_slave_arr(bond: bonding) -> None:
    """drivers/net/bonding/bond_main.c: the slaves among which a hash chooses."""
    slaves = bond.slave_list
    if bond.params.mode == BOND_MODE_8023AD:
        active = bond_active_aggregator(bond)
        slaves = [p.slave for p in active.lag_ports] if active is not None else []
        slaves = [one for one in bond.slave_list if one in slaves]
    bond.usable_slaves = [one for one in slaves if bond_slave_can_tx(one)]


def bond_3ad_set_carrier(bond: bonding) -> None:
    """drivers/net/bonding/bond_3ad.c: a carrier needs min_links ports of the active aggregator."""
    active = bond_active_aggregator(bond)
    if active is not None and agg_active_ports(active) >= max(1, bond.params.min_links):
        netif_carrier_on(bond.dev)
    else:
        netif_carrier_off(bond.dev)


# --- adding, changing and removing ports ----------------------------------------------------------


def ad_info(bond: bonding) -> ad_bond_info:
    """BOND_AD_INFO: created by bond_3ad_initialize."""
    assert bond.ad is not None
    return bond.ad


def bond_3ad_initialize(bond: bonding) -> None:
    """drivers/net/bonding/bond_3ad.c: with the first slave, set the system's address."""
    if bond.ad is None:
        machine = bond.dev.machine
        timer = timer_list(machine, bond_3ad_state_machine_handler, TIMER_DEFERRABLE, bond)
        bond.ad = ad_bond_info(timer)
    bond.ad.next_id = 1
    bond_3ad_update_actor(bond)
    if netif_running(bond.dev):
        bond_3ad_start(bond)
    bond.ad.agg_select_timer = AD_SELECT_TIME


def bond_3ad_update_actor(bond: bonding) -> None:
    """drivers/net/bonding/bond_3ad.c bond_3ad_update_ad_actor_settings: system and priority."""
    ad = ad_info(bond)
    chosen = bond.params.ad_actor_system
    ad.system = chosen if any(chosen) else bond.dev.dev_addr
    for p in _ports(bond):
        p.actor.system = ad.system
        p.actor.system_priority = bond.params.ad_actor_sys_prio
        p.ntt = True


def bond_3ad_update_port_state(bond: bonding) -> None:
    """bond_3ad_update_lacp_rate, bond_3ad_update_lacp_active: update the ports' state bits."""
    for p in _ports(bond):
        p.actor.port_state &= ~(LACP_STATE_LACP_TIMEOUT | LACP_STATE_LACP_ACTIVITY)
        p.actor.port_state |= _own_state(bond)


def _own_state(bond: bonding) -> int:
    params = bond.params
    found = LACP_STATE_AGGREGATION
    found |= LACP_STATE_LACP_ACTIVITY if params.lacp_active else 0
    return found | (LACP_STATE_LACP_TIMEOUT if params.lacp_fast else 0)


def bond_3ad_bind_slave(one: slave) -> None:
    """drivers/net/bonding/bond_3ad.c: a slave becomes a port."""
    bond = one.bond
    ad = ad_info(bond)
    number, ad.next_id = ad.next_id, ad.next_id + 1
    p = port(one)
    p.actor = port_params(
        bond.params.ad_actor_sys_prio, ad.system, 0, PORT_PRIORITY, number, _own_state(bond)
    )
    record_default(p)
    one.ad = ad_slave_info(p, aggregator(one, number))
    p.is_enabled = one.link == BOND_LINK_UP
    ad_update_actor_keys(p)


def ad_update_actor_keys(p: port) -> None:
    """drivers/net/bonding/bond_3ad.c: compute the key from user key, speed and duplex.

    A half-duplex port has no LACP (IEEE 802.1AX 5.3.1). A new key is a new selection.
    """
    one = p.slave
    speed = duplex = 0
    if one.link == BOND_LINK_UP:
        speed = SPEEDS.index(one.speed) + 1 if one.speed in SPEEDS else 0
        duplex = one.duplex
    key = one.bond.params.ad_user_port_key << 6 | speed << 1 | duplex
    p.lacp_enabled = bool(duplex)
    if key != p.actor.key:
        p.actor.key = key
        p.selected = False
        p.ntt = True


def bond_3ad_handle_link_change(one: slave, link: int) -> None:
    """drivers/net/bonding/bond_3ad.c: the slave's link went up or down."""
    if one.ad is None:
        return
    p = one.ad.port
    p.is_enabled = link == BOND_LINK_UP
    ad_update_actor_keys(p)
    ad_agg_selection_logic(one.bond)


def bond_3ad_adapter_speed_duplex_changed(one: slave) -> None:
    """drivers/net/bonding/bond_3ad.c."""
    if one.ad is not None and one.link == BOND_LINK_UP:
        ad_update_actor_keys(one.ad.port)


def bond_3ad_unbind_slave(one: slave) -> None:
    """drivers/net/bonding/bond_3ad.c: remove a port; move others out of its own aggregator.

    The partner is notified that the link can no longer be aggregated.
    """
    bond, found = one.bond, one.ad
    if found is None:
        return
    p, own = found.port, found.aggregator
    p.actor.port_state &= ~(LACP_STATE_SYNCHRONIZATION | LACP_STATE_AGGREGATION)
    if p.is_enabled and p.lacp_enabled:
        ad_send(one, lacpdu_build(p))
    leave_aggregator(p)
    if own.lag_ports:
        others = (agg for agg in _aggregators(bond) if agg is not own and not agg.lag_ports)
        heir = next(others)  # there is one: fewer ports than aggregators remain
        heir.is_individual, heir.is_active = own.is_individual, own.is_active
        heir.actor_oper_aggregator_key = own.actor_oper_aggregator_key
        heir.partner_system = own.partner_system
        heir.partner_system_priority = own.partner_system_priority
        heir.partner_oper_aggregator_key = own.partner_oper_aggregator_key
        heir.lag_ports = own.lag_ports
        for other in heir.lag_ports:
            other.aggregator = heir
    one.ad = None
    ad_agg_selection_logic(bond)


def bond_3ad_start(bond: bonding) -> None:
    """The bond is opened: the machines run."""
    if bond.ad is None:
        return
    bond.ad.agg_select_timer = 1
    mod_timer(bond.ad.timer, bond.dev.machine.clock.now_ns())


def bond_3ad_stop(bond: bonding) -> None:
    """The bond is closed: the machines stop."""
    if bond.ad is not None:
        timer_delete(bond.ad.timer)


def bond_3ad_state_machine_handler(timer: timer_list) -> None:
    """drivers/net/bonding/bond_3ad.c: a tick of 100 ms of all machines."""
    bond: bonding = timer.data
    ad = ad_info(bond)
    ad.ticks += 1
    if ad.agg_select_timer:
        ad.agg_select_timer -= 1
        if not ad.agg_select_timer:
            ad_agg_selection_logic(bond)
    for p in _ports(bond):
        ad_rx_machine(None, p)
        ad_periodic_machine(p)
        ad_port_selection_logic(p)
        ad_mux_machine(p)
        ad_tx_machine(p, ad.ticks)
        p.begin = False
    mod_timer(timer, bond.dev.machine.clock.now_ns() + TICK_NS)
