"""net/sched/cls_api.c: filters, which select a packet's class and apply actions.

    tcf_block       the filters of a discipline, a class, or a device's ingress or egress
      tcf_chain     a list in order of priority; chain 0 is the first
        tcf_proto   the filters of one priority and protocol, all of one kind
          tcf_filter    matches by cls_u32.py, cls_flower.py ...

    tcf_classify                    the protos of a chain, until one has a verdict
        tcf_proto.classify          one kind's filters
            tcf_exts_exec           the actions of the filter that matches

A discipline calls qdisc_classify for packets that it queues. sch_handle_ingress and
sch_handle_egress (stack/core/dev_tc.py) call the filters of a device. Read tcf_classify first.
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterator
from typing import Any

from fastpath.base.skbuff import consume_skb, sk_buff, skb_reset_mac_header
from stack.core.drop_reason import SKB_DROP_REASON_QDISC_DROP
from stack.core.errors import os_error
from stack.core.extack import ExtAckError
from stack.core.netdevice import ETH_P_ALL, NET_XMIT_BYPASS, NET_XMIT_STOLEN
from stack.core.rows import row, state
from stack.core.uapi import NLM_F_CREATE, NLM_F_EXCL, RTM_DELCHAIN, RTM_NEWCHAIN
from stack.sched.act_api import (
    TC_ACT_CONSUMED,
    TC_ACT_GOTO_CHAIN,
    TC_ACT_OK,
    TC_ACT_RECLASSIFY,
    TC_ACT_SHOT,
    TC_ACT_UNSPEC,
    tc_act_ext,
    tc_action,
    tcf_action_destroy,
    tcf_action_exec,
    tcf_result,
)
from stack.sched.sch_generic import Options, Qdisc, qdisc_drop

MAX_RECLASSIFY_LOOP = 16
AUTO_PRIO = 0xC000
"""The priority of the first filter that is given none; the next ones are before it."""
TCA_CLS_FLAGS_SKIP_HW = 1 << 0
TCA_CLS_FLAGS_SKIP_SW = 1 << 1
TCA_CLS_FLAGS_IN_HW = 1 << 2
TCA_CLS_FLAGS_NOT_IN_HW = 1 << 3
TCA_CLS_FLAGS_VERBOSE = 1 << 4


@state
class tcf_filter:
    """One filter: fields common to all kinds. `handle` is its number."""

    handle: int
    classid: int = row(0)
    actions: list[tc_action] = row(make=list)
    flags: int = row(0)
    """TCA_CLS_FLAGS_*."""


@state
class tcf_proto:
    """The filters of one kind with one priority and protocol: tcf_proto_ops as methods.

    `filters` has them by their numbers, in the order in which they are tried and listed.
    """

    kind = "none"

    chain: tcf_chain
    prio: int
    protocol: int
    """EtherType in host order; ETH_P_ALL: any."""
    filters: dict[int, Any] = row(make=dict)
    usesw: bool = row(True)
    """It has, or had, a filter that packets come to."""
    counted: bool = row(False)
    """It is in the block's `useswcnt`."""

    def classify(self, skb: sk_buff, res: tcf_result) -> int:
        """The verdict of the first filter that matches; TC_ACT_UNSPEC: none does."""
        raise NotImplementedError

    def get(self, handle: int) -> Any:
        """The filter with a number; None: there is none."""
        return self.filters.get(handle)

    def init(self) -> None:
        """Set up a new proto that is in its chain's block."""

    def change(self, handle: int, opt: Options | None, f: Any, replace: bool) -> Any:
        """Make a filter (`f` is None) or give one other parameters. Returns it. Raises: OSError."""
        raise NotImplementedError

    def delete(self, f: Any) -> bool:
        """Take one out. True: there is none left. Raises: OSError."""
        del self.filters[f.handle]
        tcf_action_destroy(f.actions, True)
        return not self.filters

    def replace(self, f: Any, new: Any) -> None:
        """Put `new` in the place of `f`, or before the others if that is None."""
        if f is not None:
            self.filters[new.handle] = new
            tcf_action_destroy(f.actions, True)
        else:
            self.filters = {new.handle: new, **self.filters}

    def walk(self) -> list[Any]:
        """All of them."""
        return list(self.filters.values())

    def dump(self, f: Any) -> Options:
        """The parameters of one."""
        raise NotImplementedError

    def destroy(self) -> None:
        """Take all out."""
        for f in self.walk():
            self.delete(f)

    def new_handle(self) -> int:
        """The lowest number that is free."""
        handle = 1
        while handle in self.filters:
            handle += 1
        return handle


@state
class tcf_chain:
    """A list of protos. It exists while it has protos, or was made explicitly, or is a target."""

    block: tcf_block
    index: int
    protos: list[tcf_proto] = row(make=list)
    explicit: bool = row(False)
    """`tc chain add` made it."""
    acts: int = row(0)
    """Actions that go to it."""
    live: bool = row(False)
    """It exists for more than such actions, and programs were notified of it."""

    def get(self) -> None:
        """Notify programs of the chain, if that was not done: it has a filter, or `tc` made it."""
        if not self.live:
            self.live = True
            self.notify(RTM_NEWCHAIN)

    def put(self) -> None:
        """Remove it from its block when nothing needs it."""
        if self.protos or self.explicit:
            return
        if self.live:
            self.live = False
            self.notify(RTM_DELCHAIN)
        if not self.acts:
            self.block.chains.pop(self.index, None)

    def notify(self, kind: int) -> None:
        """net/sched/cls_api.c: tc_chain_notify."""
        net = self.block.q.dev.net
        if net.rtnl is not None:
            flags = NLM_F_CREATE | NLM_F_EXCL if kind == RTM_NEWCHAIN else 0
            net.rtnl(kind, self, flags)

    def put_by_act(self) -> None:
        """net/sched/cls_api.c tcf_chain_put_by_act: one action fewer goes to it."""
        self.acts -= 1
        self.put()

    def find(self, prio: int, protocol: int, allocate: bool) -> tuple[int, tcf_proto | None]:
        """net/sched/cls_api.c tcf_chain_tp_find: the proto of a priority, and its place.

        Raises: OSError EINVAL: that is another protocol's. ENOSPC: `allocate`, and it is taken.
        """
        for at, tp in enumerate(self.protos):
            if tp.prio < prio:
                continue
            if tp.prio > prio:
                return at, None
            if allocate:
                text = "Lowest ID from auto-alloc range already in use"
                raise ExtAckError(errno.ENOSPC, text)
            if protocol and tp.protocol != protocol:
                text = "Protocol mismatch for filter with specified priority"
                raise ExtAckError(errno.EINVAL, text)
            return at, tp
        return len(self.protos), None

    def auto_prio(self, at: int) -> int:
        """net/sched/cls_api.c tcf_auto_prio: the priority before that of the proto at a place."""
        return self.protos[at].prio - 1 if at < len(self.protos) else AUTO_PRIO

    def insert(self, at: int, tp: tcf_proto) -> None:
        """Put a proto at its place."""
        self.protos.insert(at, tp)
        self.block.head_changed(self)

    def remove(self, tp: tcf_proto) -> None:
        """Take a proto with its filters out."""
        self.protos.remove(tp)
        tcf_proto_count_usesw(tp, False)
        tp.destroy()
        self.block.head_changed(self)
        self.put()

    def flush(self) -> None:
        """net/sched/cls_api.c tcf_chain_flush: without filters."""
        for tp in tuple(self.protos):
            self.remove(tp)
        self.put()


@state
class tcf_block:
    """The chains of one place. `head_change(chain)` gets the first chain; None: it is empty."""

    q: Qdisc
    head_change: Callable[[tcf_chain | None], None] | None = None
    chains: dict[int, tcf_chain] = row(make=dict)
    classid: int = row(0)
    """The parent of the last new filter, which dumps show for all."""
    head: tcf_chain | None = row()
    """Chain 0, when it has filters."""
    useswcnt: int = row(0)
    """Protos with filters that packets come to."""

    def chain_get(self, index: int) -> tcf_chain:
        """A chain, created if needed; the caller must release it by `put`."""
        chain = self.chains.get(index)
        if chain is None:
            chain = self.chains[index] = tcf_chain(self, index)
        return chain

    def chain_get_by_act(self, index: int) -> tcf_chain:
        """net/sched/cls_api.c tcf_chain_get_by_act: the chain that an action goes to."""
        chain = self.chain_get(index)
        chain.acts += 1
        return chain

    def head_changed(self, chain: tcf_chain) -> None:
        """net/sched/cls_api.c tcf_chain_head_change: a proto came or went."""
        if chain.index:
            return
        self.head = chain if chain.protos else None
        if self.head_change is not None:
            self.head_change(self.head)

    def filters(self) -> Iterator[Any]:
        """All filters of all chains."""
        for chain in tuple(self.chains.values()):
            for tp in chain.protos:
                yield from tp.walk()

    def put(self) -> None:
        """net/sched/cls_api.c tcf_block_put: its place ends."""
        for chain in tuple(self.chains.values()):
            chain.explicit = False
            chain.flush()


def tcf_proto_count_usesw(tp: tcf_proto, add: bool) -> None:
    """net/sched/cls_api.c: a proto that packets come to is there, or goes."""
    if tp.usesw and tp.counted != add:
        tp.counted = add
        block = tp.chain.block
        step = 1 if add else -1
        block.useswcnt += step
        block.q.dev.machine.net_hotdata.tcf_sw_enabled += step


# --- classification -------------------------------------------------------------------------------


def tcf_exts_exec(skb: sk_buff, f: tcf_filter, res: tcf_result) -> int:
    """include/net/pkt_cls.h: execute the actions of the matching filter. TC_ACT_*."""
    return tcf_action_exec(skb, f.actions, res) if f.actions else TC_ACT_OK


def tcf_classify(skb: sk_buff, chain: tcf_chain, res: tcf_result) -> int:
    """net/sched/cls_api.c: the verdict of the filters from a chain on. TC_ACT_*; UNSPEC: none.

    Takes ownership of skb with TC_ACT_CONSUMED only.
    """
    first = chain
    for _ in range(MAX_RECLASSIFY_LOOP + 1):
        follow: tcf_chain | None = None
        for tp in chain.protos:
            if tp.protocol not in (ETH_P_ALL, skb.vlan_proto or skb.protocol):
                continue
            verdict = tp.classify(skb, res)
            if verdict == TC_ACT_RECLASSIFY:
                follow = first
            elif tc_act_ext(verdict) == TC_ACT_GOTO_CHAIN:
                follow = res.goto_chain
            elif verdict >= 0:
                return verdict
            else:
                continue
            break
        if follow is None:
            return TC_ACT_UNSPEC
        chain = follow
    return TC_ACT_SHOT


def qdisc_classify(block: tcf_block | None, skb: sk_buff, res: tcf_result) -> int:
    """The verdict of the filters of a discipline or class. TC_ACT_*; UNSPEC: none.

    With a verdict of TC_ACT_TAKES the caller passes the packet to qdisc_taken.
    """
    if block is None or block.head is None:
        return TC_ACT_UNSPEC
    skb_reset_mac_header(skb)
    return tcf_classify(skb, block.head, res)


def qdisc_taken(sch: Qdisc, skb: sk_buff, verdict: int) -> int:
    """A filter consumed the packet that a discipline should queue. NET_XMIT_*. Takes ownership."""
    if verdict == TC_ACT_SHOT:
        qdisc_drop(skb, sch, SKB_DROP_REASON_QDISC_DROP)
        return NET_XMIT_BYPASS
    if verdict != TC_ACT_CONSUMED:
        consume_skb(skb)
    return NET_XMIT_STOLEN


def tcf_change_indev(tp: tcf_proto, opt: Options) -> int | None:
    """include/net/pkt_cls.h: the index of the device that is named. Raises: OSError EINVAL."""
    if opt.get("indev") is None:
        return None
    dev = tp.chain.block.q.dev.net.dev_by_name.get(opt["indev"])
    if dev is None:
        raise ExtAckError(errno.EINVAL, "Interface name too long or not found")
    return dev.ifindex


def tcf_indev_name(tp: tcf_proto, ifindex: int | None) -> str | None:
    """The present name of a filter's device; None: it names none, or that was removed."""
    dev = tp.chain.block.q.dev.net.dev_by_index.get(ifindex or 0)
    return dev.name if dev is not None else None


def tc_flags_valid(flags: int) -> bool:
    """include/net/pkt_cls.h: a filter may skip hardware or software, not both."""
    skips = TCA_CLS_FLAGS_SKIP_HW | TCA_CLS_FLAGS_SKIP_SW
    return not flags & ~(skips | TCA_CLS_FLAGS_VERBOSE) and flags & skips != skips


def cls_flags(opt: Options) -> int:
    """The flags of a filter. Raises: OSError EINVAL."""
    flags: int = opt.get("flags") or 0
    if not tc_flags_valid(flags):
        raise ExtAckError(errno.EINVAL, "Invalid filter flags")
    return flags


def cls_hw(flags: int) -> int:
    """The flags after tc_setup_cb_add, as no device takes filters. Raises: OSError EOPNOTSUPP."""
    if flags & TCA_CLS_FLAGS_SKIP_SW:
        raise os_error(errno.EOPNOTSUPP)
    return flags | TCA_CLS_FLAGS_NOT_IN_HW
