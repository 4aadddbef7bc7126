"""The identifier of a connection (net/netfilter/nf_conntrack_core.c nf_ct_get_id)."""

from __future__ import annotations

from zlib import crc32

from stack.netfilter.nf_conntrack import nf_conn


def nf_ct_get_id(ct: nf_conn) -> int:
    """net/netfilter/nf_conntrack_core.c: an identifier, from the original tuple."""
    return crc32(repr(ct.orig.tuple).encode())
