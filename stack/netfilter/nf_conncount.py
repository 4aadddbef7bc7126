"""net/netfilter/nf_conncount.c: counting of active connections."""

from __future__ import annotations

from stack.core.rows import wide
from stack.netfilter.nf_conntrack import IPS_CONFIRMED, IPS_DYING, nf_conn
from stack.netfilter.nf_conntrack_life import nf_ct_is_expired
from stack.netfilter.nf_conntrack_proto_tcp import CLOSE, TIME_WAIT

CONNCOUNT_GC_MAX_NODES = 8


class nf_conncount_list:
    """struct nf_conncount_list: the added connections that are still active."""

    def __init__(self) -> None:
        self.conns: dict[nf_conn, None] = {}

    def add(self, ct: nf_conn | None) -> int:
        """net/netfilter/nf_conncount.c nf_conncount_add: add one; returns how many are active.

        None: of an untracked packet. It counts this once.
        """
        active = self.active()
        if ct is None:
            return active + 1
        self.conns[ct] = None
        return len(self.conns)

    def active(self) -> int:
        """nf_conncount_gc_list: forget connections that ended; returns how many are active."""
        self.conns = {one: None for one in self.conns if lasts(one)}
        return len(self.conns)


class nf_conncount_data:
    """struct nf_conncount_data: a list for each key, such as a network."""

    def __init__(self) -> None:
        self.lists: dict[wide, nf_conncount_list] = {}
        self.room = CONNCOUNT_GC_MAX_NODES
        """With so many lists, those without an active connection are removed before another."""

    def count(self, key: wide, ct: nf_conn | None) -> int:
        """net/netfilter/nf_conncount.c nf_conncount_count: nf_conncount_list.add of the key's."""
        if key not in self.lists:
            if len(self.lists) >= self.room:
                self.lists = {one: held for one, held in self.lists.items() if held.active()}
                self.room = 2 * len(self.lists) + CONNCOUNT_GC_MAX_NODES
            self.lists[key] = nf_conncount_list()
        return self.lists[key].add(ct)


def lasts(ct: nf_conn) -> bool:
    """nf_conncount_gc_list: whether it is in the table and not closed (already_closed)."""
    if ct.status & IPS_DYING or (ct.status & IPS_CONFIRMED and nf_ct_is_expired(ct)):
        return False
    return ct.tcp is None or ct.tcp.state not in (TIME_WAIT, CLOSE)
