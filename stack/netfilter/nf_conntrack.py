"""Tracked connections: their tuples, their state, the table of a namespace.

include/net/netfilter/nf_conntrack.h, nf_conntrack_tuple.h, include/uapi/linux/netfilter.

A tuple is `(l3num, protonum, saddr, sport, daddr, dport)` of one direction of a connection. In ICMP
`sport` is the identifier and `dport` is `type << 8 | code`; in protocols without ports both are 0.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from fastpath.base.skbuff import sk_buff
from stack.core.netfilter import NF_INET_NUMHOOKS, nf_hook_state
from stack.core.rows import row, state, wide
from stack.core.timer import timer_list
from stack.net import Net

# enum ip_conntrack_info: a packet's relation to its connection (skb.nfctinfo)
IP_CT_ESTABLISHED = 0
IP_CT_RELATED = 1
IP_CT_NEW = 2
IP_CT_IS_REPLY = 3
IP_CT_ESTABLISHED_REPLY = 3
IP_CT_RELATED_REPLY = 4
IP_CT_UNTRACKED = 7

IP_CT_DIR_ORIGINAL = 0
IP_CT_DIR_REPLY = 1

# enum ip_conntrack_status
IPS_SEEN_REPLY = 1 << 1
IPS_ASSURED = 1 << 2
IPS_CONFIRMED = 1 << 3
IPS_SRC_NAT = 1 << 4
IPS_DST_NAT = 1 << 5
IPS_NAT_MASK = IPS_SRC_NAT | IPS_DST_NAT
IPS_SRC_NAT_DONE = 1 << 7
IPS_DST_NAT_DONE = 1 << 8
IPS_NAT_DONE_MASK = IPS_SRC_NAT_DONE | IPS_DST_NAT_DONE
IPS_DYING = 1 << 9
IPS_EVENTS = 1 << 16
"""Not in Linux or messages: `ecache.cache` is not 0. Tested together with IPS_CONFIRMED."""

Tuple = tuple[int, int, wide, int, wide, int]


@state
class ip_ct_tcp_state:
    """struct ip_ct_tcp_state: limits of what one side of a TCP connection sends. 32-bit numbers."""

    td_end: int = row(0)
    """The sequence number after the last byte sent."""
    td_maxend: int = row(0)
    """The sequence number after the last byte that the other side's window allows."""
    td_maxwin: int = row(0)
    td_maxack: int = row(0)
    td_scale: int = row(0)
    flags: int = row(0)


@state
class ip_ct_tcp:
    """struct ip_ct_tcp: a TCP connection as a router between its ends sees it."""

    orig: ip_ct_tcp_state = row(make=ip_ct_tcp_state)
    reply: ip_ct_tcp_state = row(make=ip_ct_tcp_state)
    state: int = row(0)
    last_dir: int = row(0)
    retrans: int = row(0)
    last_index: int = row(0)
    last_seq: int = row(0)
    last_ack: int = row(0)
    last_end: int = row(0)
    last_win: int = row(0)
    last_wscale: int = row(0)
    last_flags: int = row(0)


@state
class nf_conntrack_ecache:
    """struct nf_conntrack_ecache: events of a connection, bits of enum ip_conntrack_events."""

    cache: int = row(0)
    """Changes by the current packet."""
    missed: int = row(0)
    """Events that a listener had no room for."""


@state
class nf_conn:
    """struct nf_conn: one connection, from its first packet on.

    IPS_CONFIRMED: its first packet passed all hooks, and it is in the table. `timeout` is then a
    time of the clock, before that a duration (ns).
    """

    net: Net
    l3num: int
    protonum: int
    orig: nf_conntrack_tuple_hash = row()
    reply: nf_conntrack_tuple_hash = row()
    status: int = row(0)
    timeout: int = row(0)
    mark: int = row(0)
    tcp: ip_ct_tcp | None = row()
    stream_ts: int = row(0)
    """UDP: the time, ns, after which it counts as a stream (proto.udp.stream_ts)."""
    ecache: nf_conntrack_ecache | None = row()
    """None: no events are sent for it."""
    masq_index: int = row(0)
    """Masquerading: the index of the interface whose address is used; 0: none."""
    orig_packets: int = row(0)
    orig_bytes: int = row(0)
    reply_packets: int = row(0)
    reply_bytes: int = row(0)

    def __repr__(self) -> str:
        return f"<nf_conn {self.orig.tuple} reply {self.reply.tuple} status {self.status:#x}>"


@state
class nf_conntrack_tuple_hash:
    """struct nf_conntrack_tuple_hash: one direction of a connection, an entry of the table."""

    ct: nf_conn
    dir: int
    tuple: Tuple


@state
class ip_conntrack_stat:
    """struct ip_conntrack_stat: a row of /proc/net/stat/nf_conntrack."""

    found: int = row(0)
    invalid: int = row(0)
    insert: int = row(0)
    insert_failed: int = row(0)
    clash_resolve: int = row(0)
    drop: int = row(0)
    early_drop: int = row(0)
    error: int = row(0)
    search_restart: int = row(0)


NatRule = Callable[[sk_buff, nf_hook_state, nf_conn], int]
"""`rule(skb, state, ct) -> verdict`: sets up the connection's NAT, or does nothing."""


EventCall = Callable[[nf_conn, int, int, bool], int]
"""`call(ct, events, portid, report) -> 0 or -ENOBUFS`: see nf_conntrack_eventmask_report."""


@state
class nf_nat_lookup_hook_priv:
    """struct nf_nat_lookup_hook_priv: an nf_tables chain of type nat.

    `call` is the entry in `nat_rules` for `rule`.
    """

    rule: NatRule
    pf: int
    priority: int
    call: NatRule


def new_nat_chains() -> list[list[nf_nat_lookup_hook_priv]]:
    """No chains at any hook point."""
    return [[] for _ in range(NF_INET_NUMHOOKS)]


def new_nat_rules() -> list[list[NatRule]]:
    """No rules at any hook point."""
    return [[] for _ in range(NF_INET_NUMHOOKS)]


@state
class netns_ct:
    """struct netns_ct: the table of a namespace, and its users."""

    net: Net
    hash: dict[Tuple, nf_conntrack_tuple_hash] = row(make=dict)
    """By tuple, both directions of every confirmed connection."""
    count: int = row(0)
    """Connections in it."""
    stat: ip_conntrack_stat = row(make=ip_conntrack_stat)
    unassured: dict[nf_conn, None] = row(make=dict)
    """Connections that early drop may delete, oldest first."""
    gc_timer: timer_list | None = row()
    users: dict[int, int] = row(make=dict)
    """Users of connection tracking, by family."""
    nat_users: dict[int, int] = row(make=dict)
    nat_rules: list[list[NatRule]] = row(make=new_nat_rules)
    """By hook point, called in order until one decides."""
    nat_chains: list[list[nf_nat_lookup_hook_priv]] = row(make=new_nat_chains)
    """By hook point and priority: the chains of nf_tables among them."""
    masq_refcnt: int = row(0)
    """Rules that masquerade."""
    chains: dict[tuple[str, bool], Any] = row(make=dict)
    """Chains of the packet filter, by (name, raw): stack/netfilter/firewall.py."""
    ctnetlink_has_listener: bool = row(False)
    """There are listeners; new connections record events."""
    nf_conntrack_event_cb: EventCall | None = row()
    nat_bysource: dict[tuple[int, int, wide, int], list[nf_conn]] = row(make=dict)
    """By (l3num, protonum, source, port) before NAT (nf_nat_bysource)."""


def ctinfo2dir(info: int) -> int:
    """include/uapi/linux/netfilter/nf_conntrack_common.h CTINFO2DIR."""
    return IP_CT_DIR_REPLY if info >= IP_CT_IS_REPLY else IP_CT_DIR_ORIGINAL
