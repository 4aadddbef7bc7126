"""net/core/neighbour.c: RTM_*NEIGH: the neighbours of both families, their proxies.

RTM_NEWNEIGH    neigh_add => neigh_update, pneigh_create
RTM_DELNEIGH    neigh_delete => neigh_remove_one, pneigh_delete
RTM_GETNEIGH    neigh_get, neigh_dump_info => neigh_fill_info
of AF_BRIDGE    see rt_fdb.py
"""

from __future__ import annotations

import contextlib
import errno
from collections.abc import Iterator

from stack.core import uapi
from stack.core.errors import check
from stack.core.neigh_gc import (
    neigh_remove_one,
    pneigh_create,
    pneigh_delete,
)
from stack.core.neigh_table import (
    NEIGH_UPDATE_F_ADMIN,
    NEIGH_UPDATE_F_FLAGS,
    NEIGH_UPDATE_F_ISROUTER,
    NEIGH_UPDATE_F_OVERRIDE,
    NEIGH_UPDATE_F_OVERRIDE_ISROUTER,
    neigh_table,
    neighbour,
    pneigh_entry,
)
from stack.core.neighbour import (
    neigh_create,
    neigh_event_send,
    neigh_lookup,
    neigh_update,
    neigh_update_managed_list,
    neigh_update_notify,
)
from stack.core.netdevice import ETH_P_IP, ETH_P_IPV6
from stack.core.rows import narrow, wide
from stack.core.time64 import TICK_NS
from stack.core.uapi import (
    NLM_F_CREATE,
    NLM_F_EXCL,
    NLM_F_REPLACE,
    NTF_EXT_LEARNED,
    NTF_EXT_SHIFT,
    NTF_MANAGED,
    NTF_PROXY,
    NTF_USE,
)
from stack.net import Net
from stack.netlink.af_netlink import netlink_reply, nlmsg_part
from stack.netlink.netlink_sock import NLM_F_DUMP_FILTERED, NLMSG_HDRLEN, nlmsg
from stack.netlink.nlattr import BINARY, DEPRECATED_STRICT, Attr, Attrs, AttrTable, NlError
from stack.netlink.rt_attrs import NDA, NDA_CACHE, NDMSG
from stack.netlink.rt_link import device_of, header, nlmsg_parse, only

NDA_FIND = AttrTable("NDA", Attr("NDA_DST", 1, BINARY, told=True), last=16)
"""Attributes of neigh_get and neigh_delete; others are not checked."""
ADDR_BYTES = {uapi.AF_INET: 4, uapi.AF_INET6: 16}
FAMILIES = {ETH_P_IP: uapi.AF_INET, ETH_P_IPV6: uapi.AF_INET6}
"""The family of a table, which names it by EtherType."""


def neigh_find_table(net: Net, family: int) -> neigh_table | None:
    """net/core/neighbour.c."""
    if family == uapi.AF_INET:
        return net.arp_tbl
    return net.ipv6.nd_tbl if family == uapi.AF_INET6 else None


# --- dumping ------------------------------------------------------------------------------------


def neigh_fill_info(n: neighbour) -> bytes:
    """net/core/neighbour.c: struct ndmsg and attributes of a neighbour."""
    family, now = FAMILIES[n.tbl.family], n.net.clock.now_ns()
    head = NDMSG.pack(family, 0, 0, n.dev.ifindex, n.nud_state, n.flags & 0xFF, n.type)
    ages = (max(now - at, 0) // TICK_NS & 0xFFFFFFFF for at in (n.confirmed, n.used, n.updated))
    return head + NDA.build(
        {
            "NDA_DST": n.primary_key.to_bytes(ADDR_BYTES[family], "big"),
            "NDA_LLADDR": n.ha if n.nud_state & uapi.NUD_VALID else None,
            "NDA_PROBES": n.probes,
            "NDA_CACHEINFO": NDA_CACHE.pack(*ages, 0),
            "NDA_PROTOCOL": n.protocol or None,
            "NDA_FLAGS_EXT": n.flags >> NTF_EXT_SHIFT or None,
        }
    )


def pneigh_fill_info(tbl: neigh_table, p: pneigh_entry) -> bytes:
    """net/core/neighbour.c: the same for a proxy entry."""
    index, family = p.dev.ifindex if p.dev is not None else 0, FAMILIES[tbl.family]
    head = NDMSG.pack(family, 0, 0, index, 0, p.flags | NTF_PROXY, 1)
    dst = p.key.to_bytes(ADDR_BYTES[family], "big")
    return head + NDA.build({"NDA_DST": dst, "NDA_PROTOCOL": p.protocol or None})


def ndm_header(nlh: nlmsg, what: str, known: int, indexed: bool = True) -> tuple[int, int, int]:
    """Family, interface and NTF_* (those `known`) of a request that sets no more of struct ndmsg.

    `indexed`: it may name an interface. Raises: NlError EINVAL.
    """
    family, pad1, pad2, index, state, flags, kind = header(nlh, NDMSG, f"Invalid header for {what}")
    if pad1 or pad2 or state or kind or (index and not indexed):
        raise NlError(errno.EINVAL, f"Invalid values in header for {what}")
    if flags & ~known:
        raise NlError(errno.EINVAL, f"Invalid flags in header for {what}")
    return family, index, flags


def pneigh_hash(key: wide) -> int:
    """net/core/neighbour.c: which of 16 lists a proxy is in, whose newest entry comes first."""
    found = narrow(key & 0xFFFFFFFF)
    for bits in (16, 8, 4):
        found ^= found >> bits
    return found & 0xF


def neigh_dump_info(nlh: nlmsg) -> Iterator[bytes]:
    """net/core/neighbour.c: RTM_GETNEIGH of all, or of an interface; with NTF_PROXY the proxies."""
    sk = nlh.sk
    family = nlh.payload[0]
    flags, tb = 0, Attrs()
    if sk.strict_chk:
        _, _, flags = ndm_header(nlh, "neighbor dump request", NTF_PROXY, indexed=False)
        tb = NDA.parse(nlh.whole, NLMSG_HDRLEN + NDMSG.size, DEPRECATED_STRICT)
        only(tb, ("NDA_IFINDEX", "NDA_MASTER"), "Unsupported attribute in neighbor dump request")
    else:
        # Old programs send arbitrary headers.
        with contextlib.suppress(NlError):
            flags = header(nlh, NDMSG)[5]
            tb = NDA.parse(nlh.whole, NLMSG_HDRLEN + NDMSG.size)
    wanted, master = tb.get("NDA_IFINDEX", 0), tb.get("NDA_MASTER", 0)
    answer = NLM_F_DUMP_FILTERED if wanted or master else 0
    for each in (uapi.AF_INET, uapi.AF_INET6):
        tbl = neigh_find_table(sk.net, each)
        if tbl is None or family not in (0, each):
            continue
        if flags == NTF_PROXY:
            newest = list(tbl.phash.values())[::-1]
            for p in sorted(newest, key=lambda p: pneigh_hash(p.key)):
                yield nlmsg_part(nlh, uapi.RTM_NEWNEIGH, pneigh_fill_info(tbl, p), answer)
            continue
        for n in tbl:
            up = n.dev.master
            if wanted not in (0, n.dev.ifindex):
                continue
            if master and (up is None or up.ifindex != master):
                continue
            yield nlmsg_part(nlh, uapi.RTM_NEWNEIGH, neigh_fill_info(n), answer)


# --- one entry ----------------------------------------------------------------------------------


def address(tbl: neigh_table, tb: Attrs) -> int:
    """NDA_DST as a number. Raises: NlError EINVAL."""
    size = ADDR_BYTES[FAMILIES[tbl.family]]
    if len(tb["NDA_DST"]) < size:
        raise NlError(errno.EINVAL, "Invalid network address")
    return int.from_bytes(tb["NDA_DST"][:size], "big")


def table_of(net: Net, family: int) -> neigh_table:
    """Raises: NlError EAFNOSUPPORT."""
    tbl = neigh_find_table(net, family)
    if tbl is None:
        raise NlError(errno.EAFNOSUPPORT)
    return tbl


def neigh_get(nlh: nlmsg) -> None:
    """net/core/neighbour.c: RTM_GETNEIGH of one neighbour or proxy."""
    net = nlh.sk.net
    what = "neighbor get request"
    family, index, flags = ndm_header(nlh, what, NTF_PROXY)
    if not flags & NTF_PROXY and not index:
        raise NlError(errno.EINVAL, "No device specified")
    tb = NDA.parse(nlh.whole, NLMSG_HDRLEN + NDMSG.size, DEPRECATED_STRICT)
    if "NDA_DST" not in tb:
        raise NlError(errno.EINVAL, missing=NDA.by_name["NDA_DST"].number)
    only(tb, ("NDA_DST",), f"Unsupported attribute in {what}")
    tbl = neigh_find_table(net, family)
    if tbl is None:
        raise NlError(errno.EAFNOSUPPORT, f"Unsupported family in header for {what}")
    if len(tb["NDA_DST"]) != ADDR_BYTES[family]:
        raise NlError(errno.EINVAL, f"Invalid network address in {what}")
    dev = device_of(net, index, "Unknown device ifindex") if index else None
    addr = address(tbl, tb)
    if flags & NTF_PROXY:
        proxy = tbl.phash.get((addr, 0)) or tbl.phash.get((addr, index))
        if proxy is None:
            raise NlError(errno.ENOENT, "Proxy neighbour entry not found")
        netlink_reply(nlh, uapi.RTM_NEWNEIGH, pneigh_fill_info(tbl, proxy))
        return
    assert dev is not None
    n = neigh_lookup(tbl, addr, dev)
    if n is None:
        raise NlError(errno.ENOENT, "Neighbour entry not found")
    netlink_reply(nlh, uapi.RTM_NEWNEIGH, neigh_fill_info(n))


def neigh_add(nlh: nlmsg) -> None:
    """net/core/neighbour.c: RTM_NEWNEIGH: `ip neigh add`, `replace`, `change`; of proxies too."""
    net = nlh.sk.net
    (family, _, _, index, state, flags, _), tb = nlmsg_parse(nlh, NDMSG, NDA)
    if "NDA_DST" not in tb:
        raise NlError(errno.EINVAL, "Network address not specified")
    dev = device_of(net, index) if index else None
    lladdr: bytes | None = tb.get("NDA_LLADDR")
    if dev is not None and lladdr is not None and len(lladdr) < dev.addr_len:
        raise NlError(errno.EINVAL, "Invalid link address")
    tbl = table_of(net, family)
    addr = address(tbl, tb)
    protocol: int = tb.get("NDA_PROTOCOL", 0)
    flags |= tb.get("NDA_FLAGS_EXT", 0) << NTF_EXT_SHIFT
    if flags & NTF_PROXY:
        if flags & NTF_MANAGED:
            raise NlError(errno.EINVAL, "Invalid NTF_* flag combination")
        if dev is None and family == uapi.AF_INET6:
            raise NlError(errno.ENOBUFS)  # the groups of its address belong to a device
        proxy = pneigh_create(tbl, addr, dev)
        proxy.flags = flags
        proxy.protocol = protocol or proxy.protocol
        return
    if dev is None:
        raise NlError(errno.EINVAL, "Device not specified")
    if lladdr is not None:
        lladdr = lladdr[: dev.addr_len]
    update = NEIGH_UPDATE_F_OVERRIDE | NEIGH_UPDATE_F_OVERRIDE_ISROUTER
    n = neigh_lookup(tbl, addr, dev)
    kept = NTF_EXT_LEARNED | NTF_MANAGED
    if n is None:
        if not nlh.flags & NLM_F_CREATE:
            raise NlError(errno.ENOENT)
        if state & uapi.NUD_PERMANENT and flags & NTF_MANAGED:
            raise NlError(errno.EINVAL, "Invalid NTF_* flag for permanent entry")
        n = neigh_create(tbl, addr, dev)
        if n is None:
            raise NlError(errno.ENOBUFS, "The table is full")
        n.flags = flags & kept
    else:
        if nlh.flags & NLM_F_EXCL:
            raise NlError(errno.EEXIST)
        if not nlh.flags & NLM_F_REPLACE:
            update = 0
    if flags & uapi.NTF_ROUTER:
        update |= NEIGH_UPDATE_F_ISROUTER
    n.protocol = protocol or n.protocol
    if (n.flags ^ flags) & kept:
        n.flags = n.flags & ~kept | flags & kept
        update |= NEIGH_UPDATE_F_FLAGS
    neigh_update_managed_list(n)
    if flags & (NTF_USE | NTF_MANAGED):
        n.nud_state &= ~uapi.NUD_PERMANENT
        if update & NEIGH_UPDATE_F_FLAGS:
            neigh_update_notify(n)
        neigh_event_send(n, None)
        return
    err = neigh_update(n, lladdr, state, update | NEIGH_UPDATE_F_ADMIN)
    if err == -errno.EINVAL:
        raise NlError(errno.EINVAL, "No link layer address given")
    check(err)


def neigh_delete(nlh: nlmsg) -> None:
    """net/core/neighbour.c: RTM_DELNEIGH."""
    net = nlh.sk.net
    if len(nlh.payload) < NDMSG.size:
        raise NlError(errno.EINVAL)
    (family, _, _, index, _, flags, _), tb = nlmsg_parse(nlh, NDMSG, NDA_FIND)
    if "NDA_DST" not in tb:
        raise NlError(errno.EINVAL, "Network address not specified")
    dev = device_of(net, index) if index else None
    tbl = table_of(net, family)
    addr = address(tbl, tb)
    if flags & NTF_PROXY:
        if not pneigh_delete(tbl, addr, dev):
            raise NlError(errno.ENOENT)
        return
    if dev is None:
        raise NlError(errno.EINVAL)
    n = neigh_lookup(tbl, addr, dev)
    if n is None:
        raise NlError(errno.ENOENT)
    n.flags &= ~(NTF_EXT_LEARNED | NTF_MANAGED)
    check(neigh_update(n, None, uapi.NUD_FAILED, NEIGH_UPDATE_F_OVERRIDE | NEIGH_UPDATE_F_ADMIN))
    neigh_remove_one(n)
