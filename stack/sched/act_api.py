"""net/sched/act_api.c: actions of filters, applied to packets that a filter matches.

An action is an object of a class below `tc_action`. Those of one kind have numbers, and several
filters may share one (`net.tc_actions`). A filter has a list of them:

    tcf_action_exec         one after the other, while each returns TC_ACT_PIPE
        tc_action.act       changes, counts or consumes the packet; returns a verdict TC_ACT_*

Verdicts above TC_ACT_VALUE_MAX carry a number in their lower 28 bits: so many actions to skip
(TC_ACT_JUMP), or the chain to continue with (TC_ACT_GOTO_CHAIN). act_kinds.py makes actions.
"""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING, Any

from fastpath.base.skbuff import sk_buff
from stack.core.extack import ExtAckError
from stack.core.redirect import skb_skip_tc_classify
from stack.core.rows import row, state
from stack.core.time64 import TICK_NS
from stack.net import Net
from stack.sched.sch_generic import (
    Options,
    fields,
    gnet_stats_basic_sync,
    gnet_stats_queue,
    qdisc_pkt_len,
    qdisc_pkt_len_init,
)

if TYPE_CHECKING:
    from stack.sched.cls_api import tcf_block, tcf_chain
    from stack.sched.gen_estimator import net_rate_estimator

# include/uapi/linux/pkt_cls.h
TC_ACT_UNSPEC = -1
TC_ACT_OK = 0
TC_ACT_RECLASSIFY = 1
TC_ACT_SHOT = 2
TC_ACT_PIPE = 3
TC_ACT_STOLEN = 4
TC_ACT_QUEUED = 5
TC_ACT_REPEAT = 6
TC_ACT_REDIRECT = 7
TC_ACT_TRAP = 8
TC_ACT_VALUE_MAX = TC_ACT_TRAP
TC_ACT_CONSUMED = TC_ACT_VALUE_MAX + 1
"""The action has taken ownership of the packet."""
TC_ACT_EXT_VAL_MASK = (1 << 28) - 1
TC_ACT_JUMP = 1 << 28
TC_ACT_GOTO_CHAIN = 2 << 28
TCA_ACT_MAX_PRIO = 32
TCA_ACT_MAX_PRIO_MASK = 0x1FF
REPEAT_TTL = 32
TC_ACT_TAKES = frozenset({TC_ACT_SHOT, TC_ACT_STOLEN, TC_ACT_QUEUED, TC_ACT_TRAP, TC_ACT_CONSUMED})
"""Verdicts that consume the packet."""


def tc_act_ext(verdict: int) -> int:
    """include/net/pkt_cls.h TC_ACT_EXT_OPCODE: TC_ACT_JUMP, TC_ACT_GOTO_CHAIN, else 0."""
    return 0 if verdict < 0 else verdict & ~TC_ACT_EXT_VAL_MASK


@state
class tcf_result:
    """include/net/sch_generic.h: the result of classification, and the packet's direction."""

    at_ingress: bool = False
    """It was received: data is after the MAC header. Otherwise data is at it."""
    at_qdisc: bool = True
    """The discipline that classifies, whose size table gives the packet's bytes."""
    classid: int = row(0)
    goto_chain: tcf_chain | None = row()

    def pkt_len(self, skb: sk_buff) -> int:
        """include/net/sch_generic.h qdisc_skb_cb: the bytes that the packet counts here."""
        if self.at_ingress:
            return skb.len
        return qdisc_pkt_len(skb) if self.at_qdisc else qdisc_pkt_len_init(skb)

    def mac_len(self, skb: sk_buff) -> int:
        """Bytes of the MAC header, which were pulled of a received packet; 0 of a sent one."""
        return skb.network_header - skb.mac_header if self.at_ingress else 0


@state
class tc_action:
    """include/net/act_api.h: an action. Subclasses give `init`, `act` and `parms`."""

    kind = "none"

    net: Net
    index: int
    """Its number among those of its kind."""
    action: int = row(TC_ACT_OK)
    """The verdict."""
    goto_chain: tcf_chain | None = row()
    """The chain of a verdict TC_ACT_GOTO_CHAIN."""
    refcnt: int = row(1)
    bindcnt: int = row(0)
    """Filters that have it."""
    bstats: gnet_stats_basic_sync = row(make=gnet_stats_basic_sync)
    qstats: gnet_stats_queue = row(make=gnet_stats_queue)
    rate_est: net_rate_estimator | None = row()
    """The estimator of its rate; None: not requested."""
    install: int = row(of=lambda action: action.net.clock.now_ns())
    lastuse: int = row(of=lambda action: action.install)
    """When it was created and last used, ns."""
    firstuse: int = row(0)
    """When it was used first, ns; 0: never."""
    cookie: bytes = row(b"")
    """The cookie of the program that made it."""
    used_hw_stats: bool = row(False)
    """It was listed before, so Linux reports that no hardware counts for it."""
    flags: int = row(0)
    hw_stats: int = row(3)
    of_filter: bool = row(False)
    """It was made by a filter (tc_act_bind), not by `tc actions`."""
    skips: int = row(0)
    """TCA_CLS_FLAGS_SKIP_* of the filters that may have it."""
    compat: bool = row(False)
    """It was given in the old attribute of filters for a policer."""

    @classmethod
    def check(cls, opt: Options) -> None:
        """What is refused even where there is such an action already. Raises: OSError EINVAL."""

    def init(self, opt: Options, block: tcf_block | None) -> None:
        """Take parameters, all at once. Raises: OSError."""
        raise NotImplementedError

    def act(self, skb: sk_buff, res: tcf_result) -> int:
        """Apply it. TC_ACT_*. Takes ownership of skb with TC_ACT_CONSUMED only."""
        raise NotImplementedError

    def parms(self) -> Options:
        """The parameters of its own, as `init` takes them."""
        raise NotImplementedError

    def dump(self) -> Options:
        """Its parameters as `init` takes them, and what all kinds tell."""
        return {**self.tc_gen(), **self.parms(), **self.tcf_tm_dump()}

    def cleanup(self) -> None:
        """Its last user is gone."""

    def tc_gen(self) -> dict[str, Any]:
        """include/uapi/linux/pkt_cls.h: what all kinds tell first."""
        return {**fields(self, "index", "action", "refcnt", "bindcnt"), "capab": 0}

    def tcf_tm_dump(self) -> dict[str, int]:
        """net/sched/act_api.c: times since, in hundredths of a second."""
        now = self.net.clock.now_ns()
        return {
            "install": (now - self.install) // TICK_NS,
            "lastuse": (now - self.lastuse) // TICK_NS,
            "expires": 0,
            "firstuse": (now - self.firstuse) // TICK_NS if self.firstuse else 0,
        }

    def used(self, skb: sk_buff, res: tcf_result) -> None:
        """tcf_lastuse_update and tcf_action_update_bstats: one packet more."""
        self.lastuse = now = self.net.clock.now_ns()
        if not self.firstuse:
            self.firstuse = now
        self.bstats.bytes += res.pkt_len(skb)
        self.bstats.packets += skb.gso_segs if skb.gso_size else 1

    def set_ctrlact(self, action: int, chain: tcf_chain | None) -> None:
        """net/sched/act_api.c tcf_action_set_ctrlact: another verdict, checked before."""
        old, self.goto_chain = self.goto_chain, chain
        self.action = action
        if old is not None:
            old.put_by_act()


def tcf_action_check_ctrlact(action: int, block: tcf_block | None) -> tcf_chain | None:
    """net/sched/act_api.c: whether a verdict is one; the chain that it goes to.

    Raises: OSError EINVAL.
    """
    ext = tc_act_ext(action)
    if (not ext and action > TC_ACT_VALUE_MAX) or ext > TC_ACT_GOTO_CHAIN:
        raise ExtAckError(errno.EINVAL, "invalid control action")
    if ext != TC_ACT_GOTO_CHAIN:
        return None
    if block is None:
        raise ExtAckError(errno.EINVAL, "can't goto NULL proto/chain")
    return block.chain_get_by_act(action & TC_ACT_EXT_VAL_MASK)


def tcf_action_exec(skb: sk_buff, actions: list[tc_action], res: tcf_result) -> int:
    """net/sched/act_api.c: the actions of a filter, until one has a verdict. TC_ACT_*."""
    if skb_skip_tc_classify(skb):
        return TC_ACT_OK
    skip, jumps, at = 0, TCA_ACT_MAX_PRIO, 0
    verdict = TC_ACT_UNSPEC
    while at < len(actions):
        if skip > 0:
            skip -= 1
            at += 1
            continue
        action = actions[at]
        for _ in range(REPEAT_TTL):
            verdict = action.act(skb, res)
            if verdict != TC_ACT_REPEAT:
                break
        else:
            return TC_ACT_OK
        ext = tc_act_ext(verdict)
        if ext == TC_ACT_JUMP:
            skip = verdict & TCA_ACT_MAX_PRIO_MASK
            jumps -= 1
            if not 0 < skip <= len(actions) or not jumps:
                return TC_ACT_OK
            at = 0  # the count is from the first action
            continue
        if ext == TC_ACT_GOTO_CHAIN:
            if action.goto_chain is None:
                return TC_ACT_SHOT
            res.goto_chain = action.goto_chain
        if verdict != TC_ACT_PIPE:
            break
        at += 1
    return verdict


# --- one kind's actions by number -----------------------------------------------------------------


def tcf_idr(net: Net, kind: str) -> dict[int, tc_action]:
    """The actions of a kind."""
    return net.tc_actions.setdefault(kind, {})


def tcf_idr_alloc(table: dict[int, tc_action]) -> int:
    """The lowest number that is free."""
    index = 1
    while index in table:
        index += 1
    return index


def tcf_action_put(action: tc_action, bound: bool) -> None:
    """net/sched/act_api.c: one user fewer; the last one's action ends."""
    action.refcnt -= 1
    action.bindcnt -= bound
    if action.refcnt:
        return
    tcf_idr(action.net, action.kind).pop(action.index, None)
    action.set_ctrlact(TC_ACT_OK, None)
    if action.rate_est is not None:
        action.rate_est.kill()
    action.cleanup()


def tcf_action_destroy(actions: list[tc_action], bound: bool) -> None:
    """net/sched/act_api.c: put all of them."""
    for action in actions:
        tcf_action_put(action, bound)


def tcf_action_delete(action: tc_action) -> None:
    """net/sched/act_api.c tcf_idr_delete_index. Raises: OSError EPERM: a filter has it."""
    if action.bindcnt:
        raise ExtAckError(errno.EPERM, "Failed to delete TC action")
    tcf_action_put(action, False)
