"""net/sched/sch_api.c: RTM_*QDISC and RTM_*TCLASS: the requests of `tc qdisc`, `tc class`.

    RTM_NEWQDISC    tc_modify_qdisc     creates, changes, moves or replaces one
    RTM_DELQDISC    tc_get_qdisc        and RTM_GETQDISC of one
    RTM_GETQDISC    tc_dump_qdisc       all => tc_fill_qdisc
    RTM_*TCLASS     tc_ctl_tclass       one class, tc_dump_tclass all => tc_fill_tclass

The disciplines are in stack/sched; their parameters become attributes by stack/netlink/tc_attrs.py.
Programs that listen to the group RTNLGRP_TC get each change. Read tc_modify_qdisc first.
"""

from __future__ import annotations

import contextlib
import errno
from collections.abc import Iterator
from functools import partial
from typing import Any

from stack.core.netdevice import net_device
from stack.core.uapi import (
    NLM_F_CREATE,
    NLM_F_EXCL,
    NLM_F_REPLACE,
    RTM_DELQDISC,
    RTM_DELTCLASS,
    RTM_GETQDISC,
    RTM_NEWQDISC,
    RTM_NEWTCLASS,
)
from stack.netlink.af_netlink import nlmsg_notify, nlmsg_part
from stack.netlink.gen_stats import tc_stats
from stack.netlink.netlink_sock import NETLINK_ROUTE, NLM_F_ECHO, NLMSG_HDRLEN, nlmsg
from stack.netlink.nlattr import Attrs, NlError
from stack.netlink.rt_link import device_of, header, nlmsg_parse
from stack.netlink.tc_attrs import (
    CLASS_OPTIONS,
    CLASS_XSTATS,
    OPTIONS,
    STAB,
    TCA,
    TCMSG,
    XSTATS,
    Options,
    Shape,
)
from stack.sched.gen_estimator import gen_new_estimator
from stack.sched.sch_api import (
    TC_H_INGRESS,
    TC_H_MAJ_MASK,
    TC_H_MIN_MASK,
    dev_ingress_queue_create,
    qdisc_all,
    qdisc_graft,
    qdisc_leaf,
    qdisc_lookup,
    qdisc_root,
)
from stack.sched.sch_generic import TC_H_ROOT, Qdisc, Qdisc_class, class_dump, noop_qdisc
from stack.sched.sch_htb import htb_qdisc
from stack.sched.sch_ingress import ingress_qdisc
from stack.sched.sch_kinds import qdisc_create
from stack.sched.sch_stab import qdisc_get_stab

RTNLGRP_TC = 4


# --- dumping ------------------------------------------------------------------------------------


def app_stats(shapes: dict[str, Shape], kind: str, values: Any) -> bytes:
    """TCA_STATS_APP: a discipline's own statistics, or those of its classes."""
    return shapes[kind].put(values) if values is not None else b""


def qdisc_refcnt(q: Qdisc) -> int:
    """Reference count of a discipline: 2 for the root (device and queue), else 1."""
    return 2 if q.parent == TC_H_ROOT else 1


def tc_fill_qdisc(dev: net_device, q: Qdisc, clid: int, held: int = 0) -> bytes:
    """net/sched/sch_api.c: struct tcmsg and the attributes of a discipline.

    `clid`: its parent, or the request's. `held`: extra references while
    it is moved.
    """
    q.update_stats()
    opt = q.dump()
    app = app_stats(XSTATS, q.kind, q.dump_stats())
    head = TCMSG.pack(0, dev.ifindex, q.handle, clid, qdisc_refcnt(q) + held)
    return head + TCA.build(
        {
            "TCA_KIND": q.kind,
            "TCA_OPTIONS": OPTIONS[q.kind].build(opt) if opt is not None else None,
            "TCA_HW_OFFLOAD": 0,
            "TCA_STAB": STAB.build(q.size_table.szopts) if q.size_table is not None else None,
            **tc_stats(q.bstats, q.qstats, q.qlen, app, q.rate_est),
        }
    )


def tc_fill_tclass(dev: net_device, q: Qdisc_class, cl: Any) -> bytes:
    """net/sched/sch_api.c: struct tcmsg and the attributes of a class."""
    told: class_dump = q.dump_class(cl)
    leaf = told.leaf.handle if told.leaf is not None else 0
    opt = CLASS_OPTIONS[q.kind].build(told.opt) if told.opt is not None else None
    stats: dict[str, Any] = {"TCA_STATS2": b""}
    if told.bstats is not None and told.qstats is not None:
        app = app_stats(CLASS_XSTATS, q.kind, told.app)
        stats = tc_stats(told.bstats, told.qstats, told.qlen, app, told.rate_est)
    head = TCMSG.pack(0, dev.ifindex, told.handle, told.parent, leaf)
    return head + TCA.build({"TCA_KIND": q.kind, "TCA_OPTIONS": opt, **stats})


def rtnetlink_send(nlh: nlmsg, kind: int, payload: bytes, flags: int = 0) -> None:
    """net/core/rtnetlink.c: notify the group, and with NLM_F_ECHO the requester."""
    who, echo = nlh.sk.portid, bool(nlh.flags & NLM_F_ECHO)
    net = nlh.sk.net
    nlmsg_notify(net, NETLINK_ROUTE, RTNLGRP_TC, kind, payload, flags, who, echo, nlh.seq)


def tc_qdisc_dump_ignore(q: Qdisc) -> bool:
    """net/sched/sch_api.c: not reported unless requested: noop, and default leaves."""
    return q.invisible or isinstance(q, noop_qdisc)


def qdisc_graft_notify(
    nlh: nlmsg, dev: net_device, clid: int, old: Qdisc | None, new: Qdisc | None
) -> None:
    """net/sched/sch_api.c qdisc_notify: notify the old and the new discipline.

    Linux does so midway: the queue is already replaced, unless `new` has an `attach`.
    """
    attach = isinstance(new, htb_qdisc)
    if old is not None and not tc_qdisc_dump_ignore(old):
        whole = attach or old.parent not in (TC_H_ROOT, TC_H_INGRESS)
        rtnetlink_send(nlh, RTM_DELQDISC, tc_fill_qdisc(dev, old, clid, 0 if whole else -1))
    if new is not None:
        flags = NLM_F_REPLACE if old is not None else 0
        held = -1 if attach and new.parent == TC_H_ROOT else 0
        rtnetlink_send(nlh, RTM_NEWQDISC, tc_fill_qdisc(dev, new, clid, held), flags)


# --- lookup -------------------------------------------------------------------------------------


def tcmsg(nlh: nlmsg) -> tuple[net_device, int, int, Attrs]:
    """Device, handle, parent and attributes of a request. Raises: NlError ENODEV, EINVAL."""
    (_, index, handle, parent, _), tb = nlmsg_parse(nlh, TCMSG, TCA)
    dev = device_of(nlh.sk.net, index)
    return dev, handle, parent, tb


def given(table: dict[str, Options], kind: str, tb: Attrs) -> dict[str, Any] | None:
    """TCA_OPTIONS as a mapping; None: there is none. Raises: NlError."""
    data = tb.get("TCA_OPTIONS")
    if data is None or kind not in table:
        return None
    return table[kind].parse(data)


def tc_dump_qdisc(nlh: nlmsg) -> Iterator[bytes]:
    """net/sched/sch_api.c: RTM_GETQDISC of all devices; those below root too."""
    tb = TCA.parse(nlh.whole, NLMSG_HDRLEN + TCMSG.size)
    for dev in tuple(nlh.sk.net.dev_base_head):
        for q in qdisc_all(dev):
            if not q.invisible or "TCA_DUMP_INVISIBLE" in tb:
                yield nlmsg_part(nlh, RTM_NEWQDISC, tc_fill_qdisc(dev, q, q.parent))


def tc_find_parent(dev: net_device, parent: int, text: str) -> tuple[Qdisc | None, Qdisc | None]:
    """The discipline that has the class `parent` (None: the root), and its current child.

    Raises: NlError ENOENT, EOPNOTSUPP.
    """
    if parent == TC_H_ROOT:
        root = qdisc_root(dev)
        return None, None if isinstance(root, noop_qdisc) else root
    if parent == TC_H_INGRESS:
        return None, dev_ingress_queue_create(dev)
    p = qdisc_lookup(dev, parent & TC_H_MAJ_MASK)
    if p is None:
        raise NlError(errno.ENOENT, text)
    if isinstance(p, ingress_qdisc):
        raise NlError(errno.EOPNOTSUPP, "Cannot add children to ingress/clsact qdisc")
    return p, qdisc_leaf(p, parent)


def tc_get_qdisc(nlh: nlmsg) -> None:
    """net/sched/sch_api.c: RTM_GETQDISC or RTM_DELQDISC of one. Raises: OSError."""
    dev, handle, parent, tb = tcmsg(nlh)
    p: Qdisc | None = None
    q: Qdisc | None
    if parent:
        if parent & TC_H_MAJ_MASK == TC_H_INGRESS & TC_H_MAJ_MASK and parent != TC_H_ROOT:
            q = dev.ingress_queue
        else:
            text = "Failed to find qdisc with specified classid"
            p, q = tc_find_parent(dev, parent, text)
        if q is None:
            raise NlError(errno.ENOENT, "Cannot find specified qdisc on specified device")
        if handle and q.handle != handle:
            raise NlError(errno.EINVAL, "Invalid handle")
    else:
        q = qdisc_lookup(dev, handle)
        if q is None:
            raise NlError(errno.ENOENT, "Failed to find qdisc with specified handle")
    if "TCA_KIND" in tb and tb["TCA_KIND"] != q.kind:
        raise NlError(errno.EINVAL, "Invalid qdisc name: must match existing qdisc")
    if nlh.type == RTM_GETQDISC:
        rtnetlink_send(nlh, RTM_NEWQDISC, tc_fill_qdisc(dev, q, parent))
        return
    if not parent:
        raise NlError(errno.EINVAL, "Classid cannot be zero")
    if not q.handle:
        raise NlError(errno.ENOENT, "Cannot delete qdisc with handle of zero")
    at = parent if not isinstance(q, ingress_qdisc) else TC_H_INGRESS
    qdisc_graft(dev, None, p, at, partial(qdisc_graft_notify, nlh, dev, parent, new=None))


def tc_modify_qdisc(nlh: nlmsg) -> None:
    """net/sched/sch_api.c: RTM_NEWQDISC: make, replace, move or change one. Raises: OSError."""
    dev, handle, parent, tb = tcmsg(nlh)
    flags = nlh.flags
    p: Qdisc | None = None
    q: Qdisc | None = None
    replaces = False
    if parent:
        p, q = tc_find_parent(dev, parent, "Failed to find specified qdisc")
        if q is not None and not q.handle:
            q = None  # a default one
    if parent and (q is None or not handle or q.handle != handle):
        if handle:
            if q is not None and not flags & NLM_F_REPLACE:
                raise NlError(errno.EEXIST, "NLM_F_REPLACE needed to override")
            if handle & TC_H_MIN_MASK:
                raise NlError(errno.EINVAL, "Invalid minor handle")
            q = qdisc_lookup(dev, handle)
            if q is not None:
                text = "Cannot move an existing qdisc to a different parent"
                raise NlError(errno.EINVAL, text)
        elif q is not None and tc_replaces(flags, tb, q):
            q, replaces = None, True
        if q is None:
            if not flags & NLM_F_CREATE and not replaces:
                raise NlError(errno.ENOENT, "Qdisc not found. To create specify NLM_F_CREATE flag")
            tc_create_qdisc(nlh, dev, tb, handle, p, parent)
            return
    elif not parent:
        if not handle:
            raise NlError(errno.EINVAL, "Handle cannot be zero")
        q = qdisc_lookup(dev, handle)
    if q is None:
        raise NlError(errno.ENOENT, "Specified qdisc not found")
    if flags & NLM_F_EXCL:
        raise NlError(errno.EEXIST, "Exclusivity flag on, cannot modify")
    if "TCA_KIND" in tb and tb["TCA_KIND"] != q.kind:
        raise NlError(errno.EINVAL, "Invalid qdisc name: must match existing qdisc")
    opt = given(OPTIONS, q.kind, tb)
    if opt is not None and not isinstance(q, ingress_qdisc):
        q.change(opt)
    elif "TCA_OPTIONS" in tb:
        raise NlError(errno.EINVAL, "Change operation not supported by specified qdisc")
    q.size_table = qdisc_get_stab(STAB.parse(tb["TCA_STAB"])) if "TCA_STAB" in tb else None
    if "TCA_RATE" in tb:
        with contextlib.suppress(OSError):  # the other changes cannot be taken back
            q.rate_est = gen_new_estimator(dev.net, q, tb["TCA_RATE"], q.rate_est)
    rtnetlink_send(nlh, RTM_NEWQDISC, tc_fill_qdisc(dev, q, parent))


def tc_replaces(flags: int, tb: Attrs, q: Qdisc) -> bool:
    """Whether a request without a handle creates a replacement of `q`."""
    if "TCA_KIND" not in tb or tb["TCA_KIND"] == q.kind:
        return False
    if flags & NLM_F_CREATE:
        return bool(flags & (NLM_F_REPLACE | NLM_F_EXCL))
    return not flags & (NLM_F_REPLACE | NLM_F_EXCL)  # `tc qdisc change`


def tc_create_qdisc(
    nlh: nlmsg, dev: net_device, tb: Attrs, handle: int, p: Qdisc | None, parent: int
) -> None:
    """net/sched/sch_api.c tc_modify_qdisc: create a discipline and attach it."""
    kind = tb.get("TCA_KIND", "")
    if "TCA_INGRESS_BLOCK" in tb or "TCA_EGRESS_BLOCK" in tb:
        raise NlError(errno.EOPNOTSUPP, "blocks that devices share are not served")
    stab = STAB.parse(tb["TCA_STAB"]) if "TCA_STAB" in tb else None
    opt, est = given(OPTIONS, kind, tb), tb.get("TCA_RATE")
    new = qdisc_create(dev, kind, parent, handle, opt, stab=stab, est=est)
    try:
        qdisc_graft(dev, new, p, parent, partial(qdisc_graft_notify, nlh, dev, parent, new=new))
    except OSError:
        new.destroy()
        raise


# --- classes ------------------------------------------------------------------------------------


def tc_dump_tclass(nlh: nlmsg) -> Iterator[bytes]:
    """net/sched/sch_api.c: RTM_GETTCLASS: the classes of a device, or of one discipline."""
    _, index, _, parent, _ = header(nlh, TCMSG)
    dev = nlh.sk.net.dev_by_index.get(index)
    if dev is None:
        return
    for q in qdisc_all(dev):
        if not isinstance(q, Qdisc_class) or q.invisible:
            continue
        if parent and parent & TC_H_MAJ_MASK != q.handle:
            continue
        for cl in q.walk():
            yield nlmsg_part(nlh, RTM_NEWTCLASS, tc_fill_tclass(dev, q, cl))


def tc_class_parent(dev: net_device, parent: int, classid: int) -> tuple[int, int]:
    """The handle of the discipline of a class request, and the parent's number."""
    qid = classid & TC_H_MAJ_MASK
    if parent != TC_H_ROOT:
        major = parent & TC_H_MAJ_MASK
        if qid and major and qid != major:
            raise NlError(errno.EINVAL)
        qid = qid or major or qdisc_root(dev).handle
        if parent:
            parent = qid | parent & TC_H_MIN_MASK
    return qid or qdisc_root(dev).handle, parent


def tc_ctl_tclass(nlh: nlmsg) -> None:
    """net/sched/sch_api.c: RTM_NEWTCLASS, RTM_DELTCLASS, RTM_GETTCLASS of one. Raises: OSError."""
    dev, classid, parent, tb = tcmsg(nlh)
    qid, portid = tc_class_parent(dev, parent, classid)
    q = qdisc_lookup(dev, qid)
    if q is None:
        raise NlError(errno.ENOENT)
    if not isinstance(q, Qdisc_class):
        raise NlError(errno.EINVAL)
    if classid:
        classid = qid | classid & TC_H_MIN_MASK
    elif parent == TC_H_ROOT:
        classid = qid
    cl = q.find(classid) if classid else None
    if cl is None:
        if nlh.type != RTM_NEWTCLASS or not nlh.flags & NLM_F_CREATE:
            raise NlError(errno.ENOENT)
    elif nlh.type == RTM_NEWTCLASS:
        if nlh.flags & NLM_F_EXCL:
            raise NlError(errno.EEXIST)
    elif nlh.type == RTM_DELTCLASS:
        payload = tc_fill_tclass(dev, q, cl)
        q.delete_class(cl)
        rtnetlink_send(nlh, RTM_DELTCLASS, payload)
        return
    else:
        rtnetlink_send(nlh, RTM_NEWTCLASS, tc_fill_tclass(dev, q, cl))
        return
    opt = given(CLASS_OPTIONS, q.kind, tb)
    if opt is not None and "TCA_RATE" in tb:
        opt["est"] = tb["TCA_RATE"]
    cl = q.change_class(classid, portid, opt, cl, nlh.extack)
    payload = tc_fill_tclass(dev, q, cl)
    rtnetlink_send(nlh, RTM_NEWTCLASS, payload)
