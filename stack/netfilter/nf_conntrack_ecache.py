"""net/netfilter/nf_conntrack_ecache.c: connection events for listeners.

    nf_ct_ecache_ext_add            a new connection: does anybody listen?
    nf_conntrack_event_cache        a state changes: record it
    nf_ct_deliver_cached_events     the packet passed all hooks: one message for all its changes
    nf_conntrack_eventmask_report   at once: a connection ends, or a program changes it

Messages are sent by `net.ct.nf_conntrack_event_cb` (stack/netlink/ctnetlink.py).
"""

from __future__ import annotations

from stack.netfilter.nf_conntrack import (
    IPS_CONFIRMED,
    IPS_DYING,
    IPS_EVENTS,
    netns_ct,
    nf_conn,
    nf_conntrack_ecache,
)

# enum ip_conntrack_events, as bits
IPCT_NEW = 1 << 0
IPCT_RELATED = 1 << 1
IPCT_DESTROY = 1 << 2
IPCT_REPLY = 1 << 3
IPCT_ASSURED = 1 << 4
IPCT_PROTOINFO = 1 << 5
IPCT_HELPER = 1 << 6
IPCT_MARK = 1 << 7

EVENTS_ALWAYS, EVENTS_AUTO = 1, 2
"""Values of sysctl nf_conntrack_events; 0: never."""


def nf_ct_ecache_ext_add(ct: nf_conn) -> None:
    """net/netfilter/nf_conntrack_ecache.c: a new connection has events if somebody listens."""
    table: netns_ct = ct.net.ct
    mode: int = ct.net.sysctl.nf_conntrack_events
    if mode == EVENTS_ALWAYS or (mode == EVENTS_AUTO and table.ctnetlink_has_listener):
        ct.ecache = nf_conntrack_ecache()


def nf_conntrack_event_cache(event: int, ct: nf_conn) -> None:
    """include/net/netfilter/nf_conntrack_ecache.h: record a packet's change, an IPCT_*."""
    e = ct.ecache
    if e is not None:
        e.cache |= event
        ct.status |= IPS_EVENTS


def nf_ct_deliver_cached_events(ct: nf_conn) -> None:
    """net/netfilter/nf_conntrack_ecache.c: send the recorded events."""
    e = ct.ecache
    if e is None:
        return
    events, e.cache = e.cache, 0
    ct.status &= ~IPS_EVENTS
    if not ct.status & IPS_DYING:
        nf_conntrack_eventmask_report(events, ct, 0, False)


def nf_conntrack_eventmask_report(events: int, ct: nf_conn, portid: int, report: bool) -> None:
    """net/netfilter/nf_conntrack_ecache.c: send at once. `portid`: the program that caused it,
    which also gets the event if `report` is set.

    A listener that had no room and does not accept losses gets it with the next change.
    """
    e = ct.ecache
    if e is None or not ct.status & IPS_CONFIRMED:
        return
    events |= e.missed
    call = ct.net.ct.nf_conntrack_event_cb
    if events and call is not None:
        e.missed = 0 if call(ct, events, portid, report) >= 0 else events
