"""net/sched/act_api.c: RTM_*ACTION: the requests of `tc actions`.

    RTM_NEWACTION   tc_ctl_action => tcf_action_add
    RTM_DELACTION   tca_action_gd: some by their numbers, or with NLM_F_ROOT all of a kind
    RTM_GETACTION   the same, tc_dump_action all of a kind

A message is struct tcamsg and a list of actions (TCA_ROOT_TAB). Read tc_ctl_action first.
"""

from __future__ import annotations

import errno
import struct
from collections.abc import Iterator
from typing import Any

from stack.core.uapi import NLM_F_REPLACE, RTM_DELACTION, RTM_GETACTION, RTM_NEWACTION
from stack.netlink.af_netlink import netlink_reply, nlmsg_part
from stack.netlink.cls_attrs import (
    ACT,
    ROOT,
    action_kind,
    action_payloads,
    actions_get,
    actions_put,
)
from stack.netlink.netlink_sock import NLM_F_ROOT, nlmsg
from stack.netlink.nlattr import NlError, nest
from stack.netlink.rt_link import nlmsg_parse
from stack.netlink.rt_qdisc import rtnetlink_send
from stack.sched.act_api import (
    TCA_ACT_MAX_PRIO,
    tc_action,
    tcf_action_delete,
    tcf_action_put,
    tcf_idr,
)
from stack.sched.act_kinds import ACTIONS, tcf_action_init

TCAMSG = struct.Struct("=B3x")
TCA_ACT_FLAG_LARGE_DUMP_ON = 1
TCA_FCNT = 5


def tcamsg(nlh: nlmsg) -> Any:
    """The attributes of a request. Raises: NlError EINVAL."""
    _, tb = nlmsg_parse(nlh, TCAMSG, ROOT)
    if "TCA_ROOT_TAB" not in tb:
        raise NlError(errno.EINVAL, "Netlink action attributes missing")
    return tb


def tca_get_fill(actions: list[tc_action]) -> bytes:
    """net/sched/act_api.c: build a message about actions."""
    return TCAMSG.pack(0) + ROOT.build({"TCA_ROOT_TAB": actions_put(actions)})


def tc_ctl_action(nlh: nlmsg) -> None:
    """net/sched/act_api.c: RTM_NEWACTION, RTM_DELACTION, RTM_GETACTION of some. Raises: OSError."""
    data = tcamsg(nlh)["TCA_ROOT_TAB"]
    if nlh.type == RTM_NEWACTION:
        net, replace = nlh.sk.net, bool(nlh.flags & NLM_F_REPLACE)
        made = tcf_action_init(net, None, actions_get(data), bind=False, replace=replace)
        rtnetlink_send(nlh, RTM_NEWACTION, tca_get_fill(made), nlh.flags)
        return
    payloads = action_payloads(data)
    if nlh.type == RTM_DELACTION and nlh.flags & NLM_F_ROOT:
        if not payloads:
            raise NlError(errno.EINVAL, "Invalid netlink attributes while flushing TC action")
        tca_action_flush(nlh, payloads[0])
        return
    found = [tcf_action_get_1(nlh, payload) for payload in payloads]
    if nlh.type == RTM_GETACTION:
        netlink_reply(nlh, RTM_GETACTION, tca_get_fill(found))
        return
    payload = tca_get_fill(found)
    for action in found:
        tcf_action_delete(action)
    rtnetlink_send(nlh, RTM_DELACTION, payload)


def tcf_action_get_1(nlh: nlmsg, payload: bytes) -> tc_action:
    """net/sched/act_api.c: an action by kind and number. Raises: NlError EINVAL, ENOENT."""
    tb = ACT.parse(payload)
    if "TCA_ACT_INDEX" not in tb:
        raise NlError(errno.EINVAL, "Invalid TC action index value")
    kind = tb.get("TCA_ACT_KIND")
    if kind not in ACTIONS:
        raise NlError(errno.EINVAL, "Specified TC action kind not found")
    action = tcf_idr(nlh.sk.net, kind).get(tb["TCA_ACT_INDEX"])
    if action is None:
        raise NlError(errno.ENOENT, "TC action with specified index not found")
    return action


def tca_action_flush(nlh: nlmsg, payload: bytes) -> None:
    """net/sched/act_api.c: delete those of a kind that no filter uses. Raises: NlError."""
    kind = ACT.parse(payload).get("TCA_ACT_KIND")
    if kind not in ACTIONS:
        raise NlError(errno.EINVAL, "Cannot flush unknown TC action")
    gone = 0
    for _, action in sorted(tcf_idr(nlh.sk.net, kind).items()):
        if action.bindcnt:
            if not gone:
                raise NlError(errno.EPERM)
            break
        tcf_action_put(action, False)
        gone += 1
    if not gone:
        return
    inner = ACT.build({"TCA_ACT_KIND": kind}) + nest(TCA_FCNT, gone.to_bytes(4, "little"))
    told = {"TCA_ROOT_TAB": nest(0, inner)}
    rtnetlink_send(nlh, RTM_DELACTION, TCAMSG.pack(0) + ROOT.build(told))


def tc_dump_action(nlh: nlmsg) -> Iterator[bytes]:
    """net/sched/act_api.c: RTM_GETACTION of all of a kind, by number, 32 in a message."""
    _, tb = nlmsg_parse(nlh, TCAMSG, ROOT)
    payloads = action_payloads(tb.get("TCA_ROOT_TAB", b""))
    if not payloads:
        return
    kind = action_kind(ACT.parse(payloads[0]))
    large = tb.get("TCA_ROOT_FLAGS", 0) & TCA_ACT_FLAG_LARGE_DUMP_ON
    found = [action for _, action in sorted(tcf_idr(nlh.sk.net, kind).items())]
    for at in range(0, len(found), TCA_ACT_MAX_PRIO):
        part = found[at : at + TCA_ACT_MAX_PRIO]
        for action in part:
            action.used_hw_stats = True
        told = {"TCA_ROOT_COUNT": len(part) if large else 0, "TCA_ROOT_TAB": actions_put(part, 0)}
        yield nlmsg_part(nlh, RTM_GETACTION, TCAMSG.pack(0) + ROOT.build(told))
