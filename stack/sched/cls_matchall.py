"""net/sched/cls_matchall.c: the filter that matches every packet; one per priority."""

from __future__ import annotations

import errno

from fastpath.base.skbuff import sk_buff
from stack.core.errors import os_error
from stack.core.rows import row, state
from stack.sched.act_api import TC_ACT_UNSPEC, tcf_action_destroy, tcf_result
from stack.sched.act_kinds import tcf_exts_dump, tcf_exts_validate
from stack.sched.cls_api import (
    cls_flags,
    cls_hw,
    tcf_exts_exec,
    tcf_filter,
    tcf_proto,
)
from stack.sched.sch_generic import Options


@state
class cls_mall_head(tcf_filter):
    """The filter; `hits`: packets that came to it."""

    hits: int = row(0)


@state
class cls_matchall(tcf_proto):
    """net/sched/cls_matchall.c."""

    kind = "matchall"

    def classify(self, skb: sk_buff, res: tcf_result) -> int:
        """net/sched/cls_matchall.c: mall_classify."""
        for f in self.filters.values():
            res.classid = f.classid
            f.hits += 1
            return tcf_exts_exec(skb, f, res)
        return TC_ACT_UNSPEC

    def change(
        self, handle: int, opt: Options | None, f: cls_mall_head | None, replace: bool
    ) -> cls_mall_head:
        """net/sched/cls_matchall.c: mall_change. Raises: OSError EINVAL, EEXIST."""
        if opt is None:
            raise os_error(errno.EINVAL)
        if self.filters:
            raise os_error(errno.EEXIST)
        flags = cls_flags(opt)
        actions = tcf_exts_validate(self, opt, replace)
        try:
            flags = cls_hw(flags)
        except OSError:
            tcf_action_destroy(actions, True)
            raise
        new = cls_mall_head(handle or 1)
        new.classid, new.actions, new.flags = opt.get("classid", 0), actions, flags
        self.filters[new.handle] = new
        return new

    def dump(self, f: cls_mall_head) -> Options:
        return {
            "classid": f.classid or None,
            "flags": f.flags,
            "hits": f.hits,
            **tcf_exts_dump(f.actions),
        }
