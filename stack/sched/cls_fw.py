"""net/sched/cls_fw.c: filters by the packet's mark, which is the filter's number.

Without filters the mark is the class itself.
"""

from __future__ import annotations

import errno
from typing import Any

from fastpath.base.skbuff import sk_buff
from stack.core.errors import os_error
from stack.core.rows import row, state
from stack.sched.act_api import TC_ACT_OK, TC_ACT_UNSPEC, tcf_action_destroy, tcf_result
from stack.sched.act_kinds import tcf_exts_dump, tcf_exts_validate
from stack.sched.cls_api import tcf_exts_exec, tcf_filter, tcf_proto
from stack.sched.sch_generic import Options

U32 = 0xFFFFFFFF
MAJOR = 0xFFFF0000


@state
class cls_fw(tcf_proto):
    """net/sched/cls_fw.c. `mask`: the bits of the mark that count."""

    kind = "fw"

    mask: int = row(U32)
    made: bool = row(False)
    """A filter was made, so the mark is no longer the class itself."""

    def classify(self, skb: sk_buff, res: tcf_result) -> int:
        """net/sched/cls_fw.c: fw_classify."""
        if not self.made:
            q = self.chain.block.q
            if skb.mark and (not skb.mark & MAJOR or (skb.mark ^ q.handle) & MAJOR == 0):
                res.classid = skb.mark
                return TC_ACT_OK
            return TC_ACT_UNSPEC
        f = self.filters.get(skb.mark & self.mask)
        if f is None:
            return TC_ACT_UNSPEC
        res.classid = f.classid
        return tcf_exts_exec(skb, f, res)

    def change(self, handle: int, opt: Options | None, f: Any, replace: bool) -> Any:
        """net/sched/cls_fw.c: fw_change. Raises: OSError EINVAL."""
        if opt is None:
            if handle:
                raise os_error(errno.EINVAL)
            return None
        if f is None and not handle:
            raise os_error(errno.EINVAL)
        mask = opt.get("mask", U32)
        if self.made and mask != self.mask:
            raise os_error(errno.EINVAL)
        actions = tcf_exts_validate(self, opt, replace)
        new = tcf_filter(handle)
        new.classid = opt.get("classid", f.classid if f is not None else 0)
        new.actions = actions
        if f is not None:
            tcf_action_destroy(f.actions, True)
        self.mask, self.made = mask, True
        self.filters[handle] = new
        return new

    def dump(self, f: tcf_filter) -> Options:
        return {
            "classid": f.classid or None,
            "mask": self.mask if self.mask != U32 else None,
            **tcf_exts_dump(f.actions),
        }
