"""net/netfilter/nf_conncount.c: counting of active connections."""

from __future__ import annotations

from stack.netfilter.nf_conntrack import IPS_CONFIRMED, IPS_DYING, nf_conn
from stack.netfilter.nf_conntrack_life import nf_ct_is_expired
from stack.netfilter.nf_conntrack_proto_tcp import CLOSE, TIME_WAIT


class nf_conncount_list:
    """struct nf_conncount_list: the added connections that are still active."""

    def __init__(self) -> None:
        self.conns: dict[nf_conn, None] = {}

    def add(self, ct: nf_conn | None) -> int:
        """net/netfilter/nf_conncount.c nf_conncount_add: add one; returns how many are active.

        None: of an untracked packet. It counts this once.
        """
        self.conns = {one: None for one in self.conns if lasts(one)}
        if ct is None:
            return len(self.conns) + 1
        self.conns[ct] = None
        return len(self.conns)


def lasts(ct: nf_conn) -> bool:
    """nf_conncount_gc_list: whether it is in the table and not closed (already_closed)."""
    if ct.status & IPS_DYING or (ct.status & IPS_CONFIRMED and nf_ct_is_expired(ct)):
        return False
    return ct.tcp is None or ct.tcp.state not in (TIME_WAIT, CLOSE)
