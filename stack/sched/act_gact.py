"""net/sched/act_gact.c: a verdict, for all packets or for some of them."""

from __future__ import annotations

import errno

from fastpath.base.skbuff import sk_buff
from stack.core.errors import os_error
from stack.core.extack import ExtAckError
from stack.core.rows import row, state
from stack.sched.act_api import (
    TC_ACT_GOTO_CHAIN,
    TC_ACT_SHOT,
    tc_act_ext,
    tc_action,
    tcf_action_check_ctrlact,
    tcf_result,
)
from stack.sched.cls_api import tcf_block
from stack.sched.sch_generic import Options, fields

PGACT_NONE, PGACT_NETRAND, PGACT_DETERM = range(3)


@state
class tcf_gact(tc_action):
    """`action`, but one packet of `pval`, by chance or in turn, gets `paction`."""

    kind = "gact"

    ptype: int = row(PGACT_NONE)
    pval: int = row(0)
    paction: int = row(0)
    packets: int = row(0)
    """Packets that were counted for PGACT_DETERM; a super-packet is one."""

    def init(self, opt: Options, block: tcf_block | None) -> None:
        """`ptype`, `pval` and `paction`: which packets get the other verdict.

        Raises: OSError EINVAL.
        """
        ptype, paction = opt.get("ptype"), opt.get("paction", 0)
        if ptype is not None:
            if ptype > PGACT_DETERM:
                raise os_error(errno.EINVAL)
            if tc_act_ext(paction) == TC_ACT_GOTO_CHAIN:
                raise ExtAckError(errno.EINVAL, "goto chain not allowed on fallback")
        self.set_ctrlact(opt["action"], tcf_action_check_ctrlact(opt["action"], block))
        if ptype is not None:
            self.ptype, self.pval, self.paction = ptype, max(opt["pval"], 1), paction

    def act(self, skb: sk_buff, res: tcf_result) -> int:
        """net/sched/act_gact.c: tcf_gact_act."""
        self.used(skb, res)
        verdict = self.action
        if self.ptype == PGACT_NETRAND:
            if not self.net.random.randrange(self.pval):
                verdict = self.paction
        elif self.ptype == PGACT_DETERM:
            self.packets += 1
            if not self.packets % self.pval:
                verdict = self.paction
        if verdict == TC_ACT_SHOT:
            self.qstats.drops += 1
        return verdict

    def parms(self) -> Options:
        return fields(self, "ptype", "pval", "paction") if self.ptype else {}
