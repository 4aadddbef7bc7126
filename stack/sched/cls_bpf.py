"""net/sched/cls_bpf.c: filters that are classic BPF programs.

A program returns 0 (no match), the class, or -1: the filter's own class. With `direct` it returns
the verdict.
"""

from __future__ import annotations

import errno

from fastpath.base.bpf import BPF_MAXINSNS, bpf_prog, bpf_prog_run
from fastpath.base.skbuff import sk_buff
from stack.core.errors import os_error
from stack.core.filter import INSN_BYTES
from stack.core.rows import row, state
from stack.sched.act_api import (
    TC_ACT_OK,
    TC_ACT_REDIRECT,
    TC_ACT_SHOT,
    TC_ACT_STOLEN,
    TC_ACT_TRAP,
    TC_ACT_UNSPEC,
    tcf_action_destroy,
    tcf_result,
)
from stack.sched.act_kinds import tcf_exts_dump, tcf_exts_validate
from stack.sched.cls_api import (
    TCA_CLS_FLAGS_VERBOSE,
    cls_hw,
    tc_flags_valid,
    tcf_exts_exec,
    tcf_filter,
    tcf_proto,
)
from stack.sched.sch_generic import Options

TCA_BPF_FLAG_ACT_DIRECT = 1
MINUS_1 = 0xFFFFFFFF
VERDICTS = frozenset({TC_ACT_OK, TC_ACT_SHOT, TC_ACT_STOLEN, TC_ACT_TRAP, TC_ACT_REDIRECT})


@state
class cls_bpf_prog(tcf_filter):
    """A program. `direct`: its result is the verdict."""

    prog: bpf_prog = row()
    direct: bool = row(False)


@state
class cls_bpf(tcf_proto):
    """net/sched/cls_bpf.c."""

    kind = "bpf"

    def classify(self, skb: sk_buff, res: tcf_result) -> int:
        """net/sched/cls_bpf.c: cls_bpf_classify."""
        off = -res.mac_len(skb)
        for f in self.filters.values():
            found = bpf_prog_run(f.prog, skb, off)
            if f.direct:
                res.classid = f.classid
                if found in VERDICTS:
                    return found
                continue
            if not found:
                continue
            res.classid = f.classid if found == MINUS_1 else found
            verdict = tcf_exts_exec(skb, f, res)
            if verdict >= 0:
                return verdict
        return TC_ACT_UNSPEC

    def change(
        self, handle: int, opt: Options | None, f: cls_bpf_prog | None, replace: bool
    ) -> cls_bpf_prog:
        """net/sched/cls_bpf.c: cls_bpf_change: `ops`, `ops_len`, `classid`, `bpf_flags`, `flags`.

        Raises: OSError EINVAL, ENOSPC, EBADF.
        """
        if opt is None or (f is not None and handle and f.handle != handle):
            raise os_error(errno.EINVAL)
        has_ops = "ops" in opt and "ops_len" in opt
        if has_ops == ("fd" in opt):
            raise os_error(errno.EINVAL)
        actions = tcf_exts_validate(self, opt, replace)
        try:
            bpf_flags, flags = opt.get("bpf_flags", 0), opt.get("flags", 0)
            wrong = bpf_flags & ~TCA_BPF_FLAG_ACT_DIRECT or flags & TCA_CLS_FLAGS_VERBOSE
            if wrong or not tc_flags_valid(flags):
                raise os_error(errno.EINVAL)
            prog = self.program(opt)
            flags = cls_hw(flags)
        except OSError:
            tcf_action_destroy(actions, True)
            raise
        new = cls_bpf_prog(f.handle if f is not None else handle or self.new_handle())
        new.prog, new.direct, new.flags = prog, bool(bpf_flags), flags
        new.classid, new.actions = opt.get("classid", 0), actions
        self.replace(f, new)
        return new

    def program(self, opt: Options) -> bpf_prog:
        """net/sched/cls_bpf.c cls_bpf_prog_from_ops. Raises: OSError EINVAL, EBADF."""
        if "fd" in opt:
            raise os_error(errno.EBADF, f"{opt['fd']} is no BPF program")
        ops, count = opt["ops"], opt["ops_len"]
        if not 0 < count <= BPF_MAXINSNS or len(ops) != count * INSN_BYTES:
            raise os_error(errno.EINVAL)
        try:
            return bpf_prog(ops, self.chain.block.q.dev.net.random.getrandbits(64))
        except ValueError as error:
            raise os_error(errno.EINVAL, str(error)) from None

    def dump(self, f: cls_bpf_prog) -> Options:
        return {
            "classid": f.classid or None,
            "ops_len": f.prog.len,
            "ops": f.prog.filter,
            **tcf_exts_dump(f.actions),
            "bpf_flags": TCA_BPF_FLAG_ACT_DIRECT if f.direct else None,
            "flags": f.flags,
        }
