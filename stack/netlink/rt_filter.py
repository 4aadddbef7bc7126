"""net/sched/cls_api.c: RTM_*TFILTER and RTM_*CHAIN: the requests of `tc filter`, `tc chain`.

    RTM_NEWTFILTER  tc_new_tfilter      creates or changes a filter
    RTM_DELTFILTER  tc_del_tfilter      one, all of a priority, or all of a chain
    RTM_GETTFILTER  tc_get_tfilter      one, tc_dump_tfilter all => tcf_fill_node
    RTM_*CHAIN      tc_ctl_chain        one, tc_dump_chain all => tc_chain_fill_node

Filters are at a discipline or a class (stack/sched/cls_api.py); `place_of` finds it. Their
parameters become attributes by stack/netlink/cls_attrs.py. Read tc_new_tfilter first.
"""

from __future__ import annotations

import errno
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from stack.core.netdevice import IFNAMSIZ, net_device
from stack.core.uapi import (
    NLM_F_CREATE,
    NLM_F_EXCL,
    RTM_DELCHAIN,
    RTM_DELTFILTER,
    RTM_NEWCHAIN,
    RTM_NEWTFILTER,
)
from stack.netlink.af_netlink import netlink_reply, nlmsg_part
from stack.netlink.cls_attrs import CLASSIFIERS
from stack.netlink.netlink_sock import nlmsg
from stack.netlink.nlattr import Attrs, NlError
from stack.netlink.rt_link import device_of, nlmsg_parse
from stack.netlink.rt_qdisc import rtnetlink_send
from stack.netlink.tc_attrs import TCA, TCMSG
from stack.sched.act_api import TC_ACT_EXT_VAL_MASK
from stack.sched.cls_api import tcf_block, tcf_chain, tcf_proto, tcf_proto_count_usesw
from stack.sched.cls_kinds import CLASSIFIERS as KINDS
from stack.sched.cls_kinds import tcf_proto_create
from stack.sched.cls_u32 import cls_u32
from stack.sched.sch_api import TC_H_MAJ_MASK, TC_H_MIN_MASK, qdisc_lookup
from stack.sched.sch_generic import Qdisc, Qdisc_class

AUTO_KEY = 0x8000
"""Start of the automatic priorities."""
IFINDEX_BLOCK = -1
"""TCM_IFINDEX_MAGIC_BLOCK: a block that several devices share; there is none here."""


@dataclass(slots=True)
class Place:
    """The place of a request's filters."""

    dev: net_device
    parent: int
    block: tcf_block


# --- dumping ------------------------------------------------------------------------------------


def tcf_fill_node(place: Place, tp: tcf_proto, f: Any) -> bytes:
    """net/sched/cls_api.c: struct tcmsg and the attributes of a filter; None: only the proto."""
    info = tp.prio << 16 | int.from_bytes(tp.protocol.to_bytes(2, "big"), "little")
    head = TCMSG.pack(0, place.dev.ifindex, f.handle if f is not None else 0, place.parent, info)
    options = CLASSIFIERS[tp.kind].build(tp.dump(f)) if f is not None else None
    return head + TCA.build(
        {"TCA_KIND": tp.kind, "TCA_CHAIN": tp.chain.index, "TCA_OPTIONS": options}
    )


def tc_chain_fill_node(chain: tcf_chain) -> bytes:
    """net/sched/cls_api.c: struct tcmsg and the attributes of a chain."""
    q = chain.block.q
    head = TCMSG.pack(0, q.dev.ifindex, 0, q.handle, 0)
    return head + TCA.build({"TCA_CHAIN": chain.index})


def tell(nlh: nlmsg, kind: int, payload: bytes) -> None:
    """net/sched/cls_api.c tfilter_notify: with the flags of the request."""
    rtnetlink_send(nlh, kind, payload, nlh.flags)


# --- lookup -------------------------------------------------------------------------------------


def q_block_of(q: Qdisc, classid: int) -> tcf_block | None:
    """The filters of a discipline, or of its class; None: no such class, or no filters.

    Raises: NlError ENOENT.
    """
    cl = None
    if classid & TC_H_MIN_MASK:
        cl = q.find(classid) if isinstance(q, Qdisc_class) else None
        if cl is None:
            raise NlError(errno.ENOENT, "Specified class doesn't exist")
    return q.block_of(cl)


def chain_index(tb: Attrs) -> int:
    """TCA_CHAIN. Raises: NlError EINVAL."""
    index: int = tb.get("TCA_CHAIN", 0)
    if index > TC_ACT_EXT_VAL_MASK:
        raise NlError(errno.EINVAL, "Specified chain index exceeds upper limit")
    return index


@dataclass(slots=True)
class Asked:
    """A request about filters: its header and attributes."""

    index: int
    handle: int
    parent: int
    prio: int
    protocol: int
    """EtherType in host order; 0: none."""
    tb: Attrs

    @property
    def kind(self) -> str | None:
        """TCA_KIND."""
        return self.tb.get("TCA_KIND")


def asked(nlh: nlmsg) -> Asked:
    """A request. Raises: NlError EINVAL."""
    (_, index, handle, parent, info), tb = nlmsg_parse(nlh, TCMSG, TCA)
    protocol = int.from_bytes((info & 0xFFFF).to_bytes(2, "little"), "big")
    return Asked(index, handle, parent, info >> 16, protocol, tb)


def place_of(nlh: nlmsg, t: Asked, named: bool = True) -> Place:
    """net/sched/cls_api.c __tcf_qdisc_find, __tcf_qdisc_cl_find, __tcf_block_find.

    With `named` the length of the kind's name is checked. Raises: NlError ENODEV, EINVAL,
    EOPNOTSUPP, ENOENT.
    """
    index, parent = t.index, t.parent
    if index == IFINDEX_BLOCK:
        raise NlError(errno.EINVAL, "Block of given index was not found")
    dev = device_of(nlh.sk.net, index)
    q: Qdisc | None
    if parent:
        q = qdisc_lookup(dev, parent & TC_H_MAJ_MASK)
    else:
        q = dev.qdisc
        parent = q.handle
    if q is None:
        raise NlError(errno.EINVAL, "Parent Qdisc doesn't exists")
    if q.block is None:
        if isinstance(q, Qdisc_class):
            raise NlError(errno.EOPNOTSUPP, "Class doesn't support blocks")
        raise NlError(errno.EINVAL, "Qdisc not classful")
    if named and t.kind is not None and len(t.kind) >= IFNAMSIZ:
        raise NlError(errno.EINVAL, "Specified TC filter name too long")
    block = q_block_of(q, parent)
    if block is None:
        raise NlError(errno.EINVAL)
    return Place(dev, parent, block)


def tc_new_tfilter(nlh: nlmsg) -> None:
    """net/sched/cls_api.c: RTM_NEWTFILTER. Raises: OSError."""
    t = asked(nlh)
    create = bool(nlh.flags & NLM_F_CREATE)
    allocate = not t.prio
    if allocate and not create:
        raise NlError(errno.ENOENT, "Invalid filter command with priority of zero")
    place = place_of(nlh, t)
    place.block.classid = place.parent
    kind = t.kind
    chain = place.block.chain_get(chain_index(t.tb))
    chain.get()
    tp: tcf_proto | None = None
    fresh = False
    try:
        at, tp = chain.find(t.prio or AUTO_KEY, t.protocol, allocate)
        if tp is None:
            if kind is None or not t.protocol:
                raise NlError(errno.EINVAL, "Filter kind and protocol must be specified")
            if not create:
                text = "Need both RTM_NEWTFILTER and NLM_F_CREATE to create a new filter"
                raise NlError(errno.ENOENT, text)
            prio = chain.auto_prio(at) if allocate else t.prio
            tp = tcf_proto_create(kind, t.protocol, prio, chain)
            chain.insert(at, tp)
            fresh = True
        elif kind is not None and kind != tp.kind:
            raise NlError(errno.EINVAL, "Specified filter kind does not match existing one")
        was = tp.get(t.handle)
        # Linux's u32 notifies the old state of a changed filter.
        payload = tcf_fill_node(place, tp, was) if isinstance(tp, cls_u32) and was else None
        f = tc_change_tfilter(nlh, t, tp, create)
        tell(nlh, RTM_NEWTFILTER, payload or tcf_fill_node(place, tp, f))
    except OSError:
        if fresh and tp is not None:
            chain.remove(tp)
        chain.put()
        raise
    tcf_proto_count_usesw(tp, True)
    place.block.q.can_bypass = False


def tc_change_tfilter(nlh: nlmsg, t: Asked, tp: tcf_proto, create: bool) -> Any:
    """The part of tc_new_tfilter that sets the filter. Returns it. Raises: OSError."""
    f = tp.get(t.handle)
    if f is None:
        if not create:
            text = "Need both RTM_NEWTFILTER and NLM_F_CREATE to create a new filter"
            raise NlError(errno.ENOENT, text)
    elif nlh.flags & NLM_F_EXCL:
        raise NlError(errno.EEXIST, "Filter already exists")
    data = t.tb.get("TCA_OPTIONS")
    opt = CLASSIFIERS[tp.kind].parse(data) if data is not None else None
    if opt is not None and "TCA_RATE" in t.tb:
        opt["est"] = t.tb["TCA_RATE"]
    return tp.change(t.handle, opt, f, not create)


def tc_find_tfilter(t: Asked, place: Place) -> tuple[tcf_chain | None, tcf_proto | None]:
    """The chain and the proto of a request; None: there is none. Raises: NlError."""
    chain = place.block.chains.get(chain_index(t.tb))
    if chain is None or not t.prio:
        return chain, None
    _, tp = chain.find(t.prio, t.protocol, False)
    if tp is None:
        raise NlError(errno.ENOENT, "Filter with specified priority/protocol not found")
    if t.kind is not None and t.kind != tp.kind:
        raise NlError(errno.EINVAL, "Specified filter kind does not match existing one")
    return chain, tp


def tc_del_tfilter(nlh: nlmsg) -> None:
    """net/sched/cls_api.c: RTM_DELTFILTER. Raises: OSError."""
    t = asked(nlh)
    if not t.prio and (t.protocol or t.handle or "TCA_KIND" in t.tb):
        raise NlError(errno.ENOENT, "Cannot flush filters with protocol, handle or kind set")
    place = place_of(nlh, t)
    chain, tp = tc_find_tfilter(t, place)
    if chain is None:
        if t.prio:
            raise NlError(errno.ENOENT, "Cannot find specified filter chain")
        return
    if tp is None:
        tc_flush_chain(nlh, place, chain)
        return
    if not t.handle:
        tell(nlh, RTM_DELTFILTER, tcf_fill_node(place, tp, None))
        chain.remove(tp)
        return
    f = tp.get(t.handle)
    if f is None:
        raise NlError(errno.ENOENT, "Specified filter handle not found")
    payload = tcf_fill_node(place, tp, f)
    last = tp.delete(f)
    tell(nlh, RTM_DELTFILTER, payload)
    if last:
        chain.remove(tp)


def tc_flush_chain(nlh: nlmsg, place: Place, chain: tcf_chain) -> None:
    """net/sched/cls_api.c tfilter_notify_chain, tcf_chain_flush: all of a chain."""
    for tp in tuple(chain.protos):
        tell(nlh, RTM_DELTFILTER, tcf_fill_node(place, tp, None))
    chain.flush()


def tc_get_tfilter(nlh: nlmsg) -> None:
    """net/sched/cls_api.c: RTM_GETTFILTER of one. Raises: OSError."""
    t = asked(nlh)
    if not t.prio:
        raise NlError(errno.ENOENT, "Invalid filter command with priority of zero")
    place = place_of(nlh, t)
    chain, tp = tc_find_tfilter(t, place)
    if chain is None or tp is None:
        raise NlError(errno.EINVAL, "Cannot find specified filter chain")
    f = tp.get(t.handle)
    if f is None:
        raise NlError(errno.ENOENT, "Specified filter handle not found")
    netlink_reply(nlh, RTM_NEWTFILTER, tcf_fill_node(place, tp, f))


def dump_place(nlh: nlmsg) -> tuple[Asked, Place] | None:
    """The scope of a dump; None: empty."""
    t = asked(nlh)
    dev = nlh.sk.net.dev_by_index.get(t.index)
    if dev is None:
        return None
    q = qdisc_lookup(dev, t.parent & TC_H_MAJ_MASK) if t.parent else dev.qdisc
    if q is None or q.block is None:
        return None
    try:
        block = q_block_of(q, t.parent)
    except NlError:
        return None
    if block is None:
        return None
    return t, Place(dev, block.classid or t.parent or q.handle, block)


def dump_chains(nlh: nlmsg) -> Iterator[tuple[Asked, Place, tcf_chain]]:
    """The chains of a dump: all of a place, or one."""
    found = dump_place(nlh)
    if found is None:
        return
    t, place = found
    for chain in tuple(place.block.chains.values()):
        if t.tb.get("TCA_CHAIN", chain.index) == chain.index:
            yield t, place, chain


def tc_dump_tfilter(nlh: nlmsg) -> Iterator[bytes]:
    """net/sched/cls_api.c: RTM_GETTFILTER of all filters of a place."""
    for t, place, chain in dump_chains(nlh):
        for tp in tuple(chain.protos):
            if t.prio not in (0, tp.prio) or t.protocol not in (0, tp.protocol):
                continue
            for f in (None, *tp.walk()):
                yield nlmsg_part(nlh, RTM_NEWTFILTER, tcf_fill_node(place, tp, f))


# --- chains -------------------------------------------------------------------------------------


def tc_ctl_chain(nlh: nlmsg) -> None:
    """net/sched/cls_api.c: RTM_NEWCHAIN, RTM_DELCHAIN, RTM_GETCHAIN of one. Raises: OSError."""
    t = asked(nlh)
    place = place_of(nlh, t, False)
    index = chain_index(t.tb)
    chain = place.block.chains.get(index)
    if chain is not None and not chain.live:
        chain = None  # only actions refer to it
    if nlh.type == RTM_NEWCHAIN:
        tc_new_chain(nlh, t, place, chain, index)
        return
    if chain is None:
        raise NlError(errno.EINVAL, "Cannot find specified filter chain")
    if nlh.type != RTM_DELCHAIN:
        netlink_reply(nlh, nlh.type, tc_chain_fill_node(chain))
        return
    chain.explicit = False
    tc_flush_chain(nlh, place, chain)


def tc_new_chain(nlh: nlmsg, t: Asked, place: Place, chain: tcf_chain | None, index: int) -> None:
    """RTM_NEWCHAIN. Raises: NlError EEXIST, ENOENT, EOPNOTSUPP."""
    if chain is not None:
        raise NlError(errno.EEXIST, "Filter chain already exists")
    if not nlh.flags & NLM_F_CREATE:
        raise NlError(errno.ENOENT, "Need both RTM_NEWCHAIN and NLM_F_CREATE to create a new chain")
    if "TCA_KIND" in t.tb:
        if t.tb["TCA_KIND"] not in KINDS:
            raise NlError(errno.ENOENT, "TC classifier not found")
        text = "Chain templates are not supported with specified classifier"
        raise NlError(errno.EOPNOTSUPP, text)
    chain = place.block.chain_get(index)
    chain.explicit = True
    chain.get()


def tc_dump_chain(nlh: nlmsg) -> Iterator[bytes]:
    """net/sched/cls_api.c: RTM_GETCHAIN of all chains of a place."""
    for _, _, chain in dump_chains(nlh):
        if chain.live:
            yield nlmsg_part(nlh, RTM_NEWCHAIN, tc_chain_fill_node(chain))
