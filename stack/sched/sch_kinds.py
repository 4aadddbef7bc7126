"""net/sched/sch_api.c: the kinds of disciplines by name, and creation of disciplines."""

from __future__ import annotations

import errno
from functools import partial
from typing import TYPE_CHECKING

from stack.core.errors import os_error
from stack.core.extack import ExtAckError
from stack.core.net_namespace import pernet_operations
from stack.core.netdevice import DEFAULT_TX_QUEUE_LEN, IFF_NO_QUEUE, net_device
from stack.core.sysctl_net_core import SysctlError
from stack.sched.gen_estimator import gen_new_estimator
from stack.sched.sch_api import AUTOHANDLE, TC_H_INGRESS, TC_H_MAJ_MASK, qdisc_lookup
from stack.sched.sch_codel import codel_qdisc
from stack.sched.sch_etf import etf_qdisc
from stack.sched.sch_fifo import bfifo_qdisc, pfifo_head_drop_qdisc, pfifo_qdisc
from stack.sched.sch_fq import fq_qdisc
from stack.sched.sch_fq_codel import fq_codel_qdisc
from stack.sched.sch_generic import (
    TC_H_ROOT,
    Options,
    Qdisc,
    blackhole_qdisc,
    noqueue_qdisc,
    pfifo_fast_qdisc,
    qdisc_hash_add,
)
from stack.sched.sch_htb import htb_qdisc
from stack.sched.sch_ingress import clsact_qdisc, ingress_qdisc
from stack.sched.sch_netem import netem_qdisc
from stack.sched.sch_prio import prio_qdisc
from stack.sched.sch_red import red_qdisc
from stack.sched.sch_sfq import sfq_qdisc
from stack.sched.sch_stab import qdisc_get_stab
from stack.sched.sch_tbf import tbf_qdisc

if TYPE_CHECKING:
    from stack.machine import Machine
    from stack.net import Net

QDISCS: dict[str, type[Qdisc]] = {
    cls.kind: cls
    for cls in (
        *(pfifo_fast_qdisc, noqueue_qdisc, pfifo_qdisc, bfifo_qdisc, pfifo_head_drop_qdisc),
        *(tbf_qdisc, prio_qdisc, netem_qdisc, htb_qdisc, red_qdisc),
        *(codel_qdisc, fq_codel_qdisc, fq_qdisc, sfq_qdisc, etf_qdisc),
        *(ingress_qdisc, clsact_qdisc, blackhole_qdisc),
    )
}
"""register_qdisc: the class of each kind that `tc qdisc add` makes."""


def qdisc_default(cls: type[Qdisc], dev: net_device) -> Qdisc:
    """qdisc_create_dflt of sch_generic.c; noqueue for one that wants parameters, or ingress."""
    if issubclass(cls, ingress_qdisc):
        return noqueue_qdisc(dev)
    sch = cls(dev)
    try:
        sch.init(None)
    except OSError:
        return noqueue_qdisc(dev)
    return sch


def qdisc_set_default(machine: Machine, name: str) -> None:
    """net/sched/sch_api.c, of net.core.default_qdisc. Raises: SysctlError ENOENT."""
    cls = QDISCS.get(name)
    if cls is None:
        text = f"sysctl net.core.default_qdisc={name!r}: there are {', '.join(sorted(QDISCS))}"
        raise SysctlError(errno.ENOENT, text)
    plain = cls is pfifo_fast_qdisc
    machine.net_hotdata.default_qdisc = None if plain else partial(qdisc_default, cls)


def psched_net_init(net: Net) -> None:
    """net/sched/sch_api.c: the machine's first namespace has the knob."""
    if net is net.machine.init_net:
        net.sysctl.on_write("default_qdisc", partial(qdisc_set_default, net.machine))


psched_net_ops = pernet_operations(init=psched_net_init)


def qdisc_alloc_handle(dev: net_device) -> int:
    """net/sched/sch_api.c: a handle that the device does not use yet."""
    net = dev.net
    while True:
        handle = max(net.qdisc_autohandle, AUTOHANDLE) + 0x10000
        net.qdisc_autohandle = handle if handle < TC_H_ROOT & TC_H_MAJ_MASK else AUTOHANDLE
        if handle == net.qdisc_autohandle and qdisc_lookup(dev, handle) is None:
            return handle


def qdisc_create(
    dev: net_device,
    kind: str,
    parent: int,
    handle: int,
    opt: Options | None,
    *,
    stab: Options | None = None,
    est: bytes | None = None,
) -> Qdisc:
    """net/sched/sch_api.c: create a discipline. `handle` 0: any free one.

    `stab`: a size table, `est`: a struct gnet_estimator.

    Raises: OSError ENOENT (unknown kind), EINVAL, and errors of the discipline for `opt`.
    """
    if kind == "mq":
        raise os_error(errno.EOPNOTSUPP)  # it needs a device with several queues
    cls = QDISCS.get(kind)
    if cls is None:
        raise ExtAckError(errno.ENOENT, "Specified qdisc kind is unknown")
    sch = cls(dev)
    sch.parent = parent
    if parent == TC_H_INGRESS:
        if not isinstance(sch, ingress_qdisc):
            text = "Specified parent ID is reserved for ingress and clsact Qdiscs"
            raise ExtAckError(errno.EINVAL, text)
        sch.handle = TC_H_INGRESS & TC_H_MAJ_MASK
    else:
        sch.handle = handle or qdisc_alloc_handle(dev)
    if dev.priv_flags & IFF_NO_QUEUE and not dev.tx_queue_len:
        dev.tx_queue_len = DEFAULT_TX_QUEUE_LEN
    if stab is not None:
        if parent != TC_H_ROOT:
            raise ExtAckError(errno.EINVAL, "STAB not supported on a non root")
        sch.size_table = qdisc_get_stab(stab)
    sch.init(opt)
    if parent not in (TC_H_ROOT, TC_H_INGRESS):
        qdisc_hash_add(sch, False)
    if est is not None:
        try:
            sch.rate_est = gen_new_estimator(dev.net, sch, est)
        except OSError:
            sch.destroy()
            raise
    return sch
