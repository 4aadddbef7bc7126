"""net/sched/act_api.c: the kinds of actions by name, and creation of actions."""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterable

from stack.core.errors import os_error
from stack.core.extack import ExtAckError
from stack.net import Net
from stack.sched.act_api import (
    tc_action,
    tcf_action_destroy,
    tcf_idr,
    tcf_idr_alloc,
)
from stack.sched.act_gact import tcf_gact
from stack.sched.act_mirred import tcf_mirred
from stack.sched.act_pedit import tcf_pedit
from stack.sched.act_police import tcf_police
from stack.sched.act_skbedit import tcf_skbedit
from stack.sched.act_vlan import tcf_vlan
from stack.sched.cls_api import (
    TCA_CLS_FLAGS_SKIP_HW,
    TCA_CLS_FLAGS_SKIP_SW,
    tcf_block,
    tcf_proto,
)
from stack.sched.gen_estimator import gen_new_estimator
from stack.sched.sch_generic import Options

ACTIONS: dict[str, type[tc_action]] = {
    cls.kind: cls for cls in (tcf_gact, tcf_mirred, tcf_police, tcf_vlan, tcf_pedit, tcf_skbedit)
}
"""tcf_register_action: the class of each kind."""


def tcf_action_init_1(
    net: Net,
    block: tcf_block | None,
    spec: Options,
    *,
    bind: bool,
    replace: bool,
    est: bytes | None = None,
) -> tuple[tc_action, bool]:
    """net/sched/act_api.c: one action, and whether it is new. `spec`: kind, options, cookie ...

    With `bind` for a filter, which keeps the parameters of an existing one.
    Raises: OSError ENOENT (unknown kind), EEXIST, EINVAL, and errors of the kind.
    """
    cls = ACTIONS.get(spec["kind"])
    if cls is None:
        raise ExtAckError(errno.ENOENT, "Failed to load TC action module")
    opt = spec.get("options")
    if opt is None:
        raise ExtAckError(errno.EINVAL, f"{spec['kind']} requires attributes to be passed")
    if "action" not in opt:
        raise ExtAckError(errno.EINVAL, f"Missing required {spec['kind']} parameters")
    table = tcf_idr(net, cls.kind)
    found = table.get(opt["index"])
    if found is not None and not bind:
        cls.check(opt)
        if not replace:
            raise os_error(errno.EEXIST)
    action = found if found is not None else cls(net, opt["index"] or tcf_idr_alloc(table))
    if found is None or not bind:
        if est is not None:
            action.rate_est = gen_new_estimator(net, action, est, action.rate_est)
        try:
            action.init(opt, block)
        except OSError:
            if found is None and action.rate_est is not None:
                action.rate_est.kill()
            raise
        action.flags = spec.get("flags", 0)
    if found is None:
        table[action.index] = action
        action.bindcnt = int(bind)
        action.of_filter = bind
    elif bind:
        found.refcnt += 1
        found.bindcnt += 1
    if spec.get("cookie"):
        action.cookie = spec["cookie"]
    action.hw_stats = spec.get("hw_stats", 3)
    action.compat = spec.get("compat", False)
    return action, found is None


def tcf_action_init(
    net: Net,
    block: tcf_block | None,
    specs: Iterable[Options],
    *,
    bind: bool,
    replace: bool,
    est: bytes | None = None,
    skips: int = 0,
) -> list[tc_action]:
    """net/sched/act_api.c: all actions of a filter or of a request. Raises: as tcf_action_init_1.

    If one fails, the previous ones are removed. `skips`: TCA_CLS_FLAGS_SKIP_* of the filter.
    """
    made: list[tc_action] = []
    fresh: list[tc_action] = []
    try:
        for spec in specs:
            action, new = tcf_action_init_1(net, block, spec, bind=bind, replace=replace, est=est)
            made.append(action)
            if new or bind:
                fresh.append(action)
            if bind:
                # What a filter made takes over the flags of another that has it.
                if action.skips & ~skips if action.of_filter else action.skips != skips:
                    text = "Mismatch between action and filter offload flags"
                    raise ExtAckError(errno.EINVAL, text)
                action.skips = skips
    except OSError:
        tcf_action_destroy(fresh, bind)
        raise
    return made


def tcf_exts_validate(tp: tcf_proto, opt: Options, replace: bool) -> list[tc_action]:
    """net/sched/cls_api.c: the actions that a filter is given. Raises: as tcf_action_init_1."""
    specs: Callable[[], Iterable[Options]] | None = opt.get("police") or opt.get("actions")
    if specs is None:
        return []
    block = tp.chain.block
    net = block.q.dev.net
    skips = (opt.get("flags") or 0) & (TCA_CLS_FLAGS_SKIP_HW | TCA_CLS_FLAGS_SKIP_SW)
    est = opt.get("est")
    return tcf_action_init(net, block, specs(), bind=True, replace=replace, est=est, skips=skips)


def tcf_exts_dump(actions: list[tc_action]) -> dict[str, list[tc_action] | None]:
    """net/sched/cls_api.c: the actions of a filter, as its parameters."""
    compat = bool(actions) and actions[0].compat
    return {
        "police": actions if compat else None,
        "actions": actions if actions and not compat else None,
    }
