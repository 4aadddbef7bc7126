"""Choosing the address and port that NAT gives a connection (net/netfilter/nf_nat_core.c)."""

from __future__ import annotations

from fastpath.net.inetkey import inet_siphash
from stack.core import netfilter
from stack.core.rows import state, wide
from stack.core.secure_seq import SECURE_NAT
from stack.core.uapi import IPPROTO_ICMP, IPPROTO_ICMPV6, IPPROTO_TCP, IPPROTO_UDP
from stack.netfilter import nf_conntrack
from stack.netfilter.nf_conntrack import Tuple, nf_conn
from stack.netfilter.nf_conntrack_table import nf_conntrack_tuple_taken
from stack.netfilter.nf_conntrack_tuple import nf_ct_invert_tuple

NF_NAT_MANIP_SRC = 0
NF_NAT_MANIP_DST = 1

# include/uapi/linux/netfilter/nf_nat.h
NF_NAT_RANGE_MAP_IPS = 1 << 0
NF_NAT_RANGE_PROTO_SPECIFIED = 1 << 1
NF_NAT_RANGE_PROTO_RANDOM = 1 << 2
NF_NAT_RANGE_PERSISTENT = 1 << 3
NF_NAT_RANGE_PROTO_RANDOM_FULLY = 1 << 4
NF_NAT_RANGE_PROTO_OFFSET = 1 << 5
NF_NAT_RANGE_NETMAP = 1 << 6
NF_NAT_RANGE_PROTO_RANDOM_ALL = NF_NAT_RANGE_PROTO_RANDOM | NF_NAT_RANGE_PROTO_RANDOM_FULLY

MAX_ATTEMPTS = 128


@state
class nf_nat_range2:
    """struct nf_nat_range2: addresses and ports to choose from. ICMP's ports are identifiers."""

    flags: int = 0
    min_addr: wide = 0
    max_addr: wide = 0
    min_proto: int = 0
    max_proto: int = 0


def HOOK2MANIP(hook: int) -> int:
    """include/net/netfilter/nf_nat.h: which end of a tuple a hook point changes."""
    if hook in (netfilter.NF_INET_POST_ROUTING, netfilter.NF_INET_LOCAL_IN):
        return NF_NAT_MANIP_SRC
    return NF_NAT_MANIP_DST


def nf_nat_initialized(ct: nf_conn, maniptype: int) -> bool:
    """include/net/netfilter/nf_nat.h: whether NAT of this kind was decided."""
    done = nf_conntrack.IPS_DST_NAT_DONE if maniptype else nf_conntrack.IPS_SRC_NAT_DONE
    return ct.status & done != 0


def with_end(tup: Tuple, maniptype: int, addr: wide, port: int) -> Tuple:
    """The tuple with another source (or destination) address and port. ICMP has one identifier,
    which is always its source port.
    """
    pf, proto = tup[0], tup[1]
    if maniptype == NF_NAT_MANIP_SRC:
        return pf, proto, addr, port, tup[4], tup[5]
    if proto in (IPPROTO_ICMP, IPPROTO_ICMPV6):
        return pf, proto, tup[2], port, addr, tup[5]
    return pf, proto, tup[2], tup[3], addr, port


def port_of(tup: Tuple, maniptype: int) -> int:
    """The port or identifier that NAT may change."""
    if maniptype == NF_NAT_MANIP_SRC or tup[1] in (IPPROTO_ICMP, IPPROTO_ICMPV6):
        return tup[3]
    return tup[5]


def addr_of(tup: Tuple, maniptype: int) -> wide:
    """The address that NAT may change."""
    return tup[2] if maniptype == NF_NAT_MANIP_SRC else tup[4]


def nf_nat_used_tuple(tup: Tuple, ignored: nf_conn) -> bool:
    """net/netfilter/nf_nat_core.c: whether another connection has its reply tuple."""
    reply = nf_ct_invert_tuple(tup)
    return reply is None or nf_conntrack_tuple_taken(reply, ignored)


def nf_nat_inet_in_range(addr: wide, rng: nf_nat_range2) -> bool:
    """net/netfilter/nf_nat_core.c: whether the address is in the range."""
    return rng.min_addr <= addr <= rng.max_addr


def l4proto_in_range(tup: Tuple, maniptype: int, rng: nf_nat_range2) -> bool:
    """net/netfilter/nf_nat_core.c: whether the port is in the range."""
    return rng.min_proto <= port_of(tup, maniptype) <= rng.max_proto


def nf_in_range(tup: Tuple, rng: nf_nat_range2) -> bool:
    """net/netfilter/nf_nat_core.c: whether the source is already in the range."""
    if rng.flags & NF_NAT_RANGE_MAP_IPS and not nf_nat_inet_in_range(tup[2], rng):
        return False
    return not rng.flags & NF_NAT_RANGE_PROTO_SPECIFIED or l4proto_in_range(
        tup, NF_NAT_MANIP_SRC, rng
    )


def find_appropriate_src(ct: nf_conn, tup: Tuple, rng: nf_nat_range2) -> Tuple | None:
    """net/netfilter/nf_nat_core.c: the translation of another connection from the source."""
    other: nf_conn
    for other in ct.net.ct.nat_bysource.get((tup[0], tup[1], tup[2], tup[3]), ()):
        inverse = nf_ct_invert_tuple(other.reply.tuple)
        if inverse is None:
            continue
        result = with_end(tup, NF_NAT_MANIP_SRC, inverse[2], inverse[3])
        if nf_in_range(result, rng):
            return result
    return None


def find_best_ips_proto(ct: nf_conn, tup: Tuple, rng: nf_nat_range2, maniptype: int) -> Tuple:
    """net/netfilter/nf_nat_core.c: choose an address of the range by a hash of the client's address
    and, unless NF_NAT_RANGE_PERSISTENT, the server's."""
    if not rng.flags & NF_NAT_RANGE_MAP_IPS:
        return tup
    addr = rng.min_addr
    if rng.max_addr > addr:
        far = 0 if rng.flags & NF_NAT_RANGE_PERSISTENT else tup[4]
        mixed = inet_siphash(ct.net.secret, tup[2], far, tup[1], SECURE_NAT)
        addr += mixed % (rng.max_addr - addr + 1)
    return with_end(tup, maniptype, addr, port_of(tup, maniptype))


def get_unique_tuple(ct: nf_conn, orig: Tuple, rng: nf_nat_range2, maniptype: int) -> Tuple:
    """net/netfilter/nf_nat_core.c: translate `orig` to a tuple whose replies no other connection
    has. Keeps the port if possible.
    """
    random = rng.flags & NF_NAT_RANGE_PROTO_RANDOM_ALL
    if maniptype == NF_NAT_MANIP_SRC and not random:
        if nf_in_range(orig, rng):
            if not nf_nat_used_tuple(orig, ct):
                return orig
        else:
            same = find_appropriate_src(ct, orig, rng)
            if same is not None and not nf_nat_used_tuple(same, ct):
                return same
    tup = find_best_ips_proto(ct, orig, rng, maniptype)
    if not random:
        if rng.flags & NF_NAT_RANGE_PROTO_SPECIFIED:
            if l4proto_in_range(tup, maniptype, rng) and (
                rng.min_proto == rng.max_proto or not nf_nat_used_tuple(tup, ct)
            ):
                return tup
        elif not nf_nat_used_tuple(tup, ct):
            return tup
    return nf_nat_l4proto_unique_tuple(ct, tup, rng, maniptype)


def nf_nat_l4proto_unique_tuple(
    ct: nf_conn, tup: Tuple, rng: nf_nat_range2, maniptype: int
) -> Tuple:
    """net/netfilter/nf_nat_core.c: try ports, from a random one on (seeded per machine).

    As in the kernel, not all are tried: 128, then 64 from another port, and so on. If all are
    taken, the last one is returned, and the packet is dropped when its connection is confirmed.
    """
    proto = tup[1]
    port = port_of(tup, maniptype)
    if proto not in (IPPROTO_TCP, IPPROTO_UDP, IPPROTO_ICMP, IPPROTO_ICMPV6):
        return tup
    if rng.flags & NF_NAT_RANGE_PROTO_SPECIFIED:
        low = rng.min_proto
        size = rng.max_proto - low + 1
        if size < 1:  # the ends are swapped
            low, size = rng.max_proto, 2 - size
    elif proto in (IPPROTO_ICMP, IPPROTO_ICMPV6):
        low, size = 0, 65536
    elif maniptype == NF_NAT_MANIP_DST:
        return tup
    elif port < 512:
        low, size = 1, 511
    elif port < 1024:
        low, size = 600, 424
    else:
        low, size = 1024, 64512
    random = ct.net.random
    if rng.flags & NF_NAT_RANGE_PROTO_RANDOM_ALL or maniptype == NF_NAT_MANIP_SRC:
        off = random.randrange(65536)
    else:
        off = 0
    addr = addr_of(tup, maniptype)
    attempts = min(size, MAX_ATTEMPTS)
    while True:
        for i in range(attempts):
            tup = with_end(tup, maniptype, addr, low + (off + i) % size)
            if not nf_nat_used_tuple(tup, ct):
                return tup
        if attempts >= size or attempts < 16:
            return tup
        attempts >>= 1
        off = random.randrange(65536)


def nf_nat_setup_info(ct: nf_conn, rng: nf_nat_range2, maniptype: int) -> int:
    """net/netfilter/nf_nat_core.c: decide a connection's NAT of one kind, once; a verdict."""
    if ct.status & nf_conntrack.IPS_CONFIRMED or nf_nat_initialized(ct, maniptype):
        return netfilter.NF_ACCEPT
    # The current tuple: NAT of the other kind may have changed it.
    current = nf_ct_invert_tuple(ct.reply.tuple)
    if current is None:
        return netfilter.NF_ACCEPT
    new = get_unique_tuple(ct, current, rng, maniptype)
    if new != current:
        reply = nf_ct_invert_tuple(new)
        if reply is not None:
            ct.reply.tuple = reply  # nf_conntrack_alter_reply
            ct.status |= nf_conntrack.IPS_DST_NAT if maniptype else nf_conntrack.IPS_SRC_NAT
    ct.status |= nf_conntrack.IPS_DST_NAT_DONE if maniptype else nf_conntrack.IPS_SRC_NAT_DONE
    return netfilter.NF_ACCEPT


def nf_nat_alloc_null_binding(ct: nf_conn, hook: int) -> int:
    """net/netfilter/nf_nat_core.c: no rule matches: keep the address. The source port changes only
    if another connection with the same address has it.
    """
    maniptype = HOOK2MANIP(hook)
    reply = ct.reply.tuple
    addr = reply[4] if maniptype == NF_NAT_MANIP_SRC else reply[2]
    return nf_nat_setup_info(ct, nf_nat_range2(NF_NAT_RANGE_MAP_IPS, addr, addr), maniptype)
