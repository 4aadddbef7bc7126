"""What a connection is called (net/netfilter/nf_conntrack_core.c nf_ct_get_id)."""

from __future__ import annotations

from zlib import crc32

from stack.netfilter.nf_conntrack import nf_conn


def nf_ct_get_id(ct: nf_conn) -> int:
    """net/netfilter/nf_conntrack_core.c: a number for a connection, from what it connects."""
    return crc32(repr(ct.orig.tuple).encode())
