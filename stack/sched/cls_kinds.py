"""net/sched/cls_api.c: the classifiers by name."""

from __future__ import annotations

import errno

from stack.core.extack import ExtAckError
from stack.sched.cls_api import tcf_chain, tcf_proto
from stack.sched.cls_basic import cls_basic
from stack.sched.cls_bpf import cls_bpf
from stack.sched.cls_flower import cls_flower
from stack.sched.cls_fw import cls_fw
from stack.sched.cls_matchall import cls_matchall
from stack.sched.cls_u32 import cls_u32

CLASSIFIERS: dict[str, type[tcf_proto]] = {
    cls.kind: cls for cls in (cls_u32, cls_flower, cls_matchall, cls_bpf, cls_basic, cls_fw)
}
"""register_tcf_proto_ops: the class of each kind that `tc filter add` makes."""


def tcf_proto_create(kind: str, protocol: int, prio: int, chain: tcf_chain) -> tcf_proto:
    """net/sched/cls_api.c: a proto that is in no chain yet. Raises: OSError ENOENT."""
    cls = CLASSIFIERS.get(kind)
    if cls is None:
        raise ExtAckError(errno.ENOENT, "TC classifier not found")
    tp = cls(chain, prio, protocol)
    tp.init()
    return tp
