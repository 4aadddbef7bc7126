"""net/sched/cls_basic.c: filters that match every packet; ematches are not supported."""

from __future__ import annotations

import errno

from fastpath.base.skbuff import sk_buff
from stack.core.errors import os_error
from stack.core.extack import ExtAckError
from stack.core.rows import row, state
from stack.sched.act_api import TC_ACT_UNSPEC, tcf_result
from stack.sched.act_kinds import tcf_exts_dump, tcf_exts_validate
from stack.sched.cls_api import tcf_exts_exec, tcf_filter, tcf_proto
from stack.sched.sch_generic import Options, fields


@state
class basic_filter(tcf_filter):
    """`rcnt` packets were checked, `rhit` matched."""

    rcnt: int = row(0)
    rhit: int = row(0)


@state
class cls_basic(tcf_proto):
    """net/sched/cls_basic.c."""

    kind = "basic"

    def classify(self, skb: sk_buff, res: tcf_result) -> int:
        """net/sched/cls_basic.c: basic_classify."""
        for f in self.filters.values():
            f.rcnt += 1
            f.rhit += 1
            res.classid = f.classid
            verdict = tcf_exts_exec(skb, f, res)
            if verdict >= 0:
                return verdict
        return TC_ACT_UNSPEC

    def change(
        self, handle: int, opt: Options | None, f: basic_filter | None, replace: bool
    ) -> basic_filter:
        """net/sched/cls_basic.c: basic_change. Raises: OSError EINVAL, EOPNOTSUPP."""
        if opt is None or (f is not None and handle and f.handle != handle):
            raise os_error(errno.EINVAL)
        if opt.get("ematches"):
            raise ExtAckError(errno.EOPNOTSUPP, "extended matches are not served")
        actions = tcf_exts_validate(self, opt, replace)
        new = basic_filter(f.handle if f is not None else handle or self.new_handle())
        new.classid, new.actions = opt.get("classid", 0), actions
        self.replace(f, new)
        return new

    def dump(self, f: basic_filter) -> Options:
        return {
            "classid": f.classid or None,
            **tcf_exts_dump(f.actions),
            **fields(f, "rcnt", "rhit"),
        }
