"""net/sched/sch_htb.c: the hierarchical token bucket: classes with a rate and a ceiling.

A class sends at its `rate`. Above it, up to `ceil`, it borrows from its parent. Leaves hold the
packets, each in a discipline of its own.

    enqueue     htb_classify: the class is the packet's priority, or given by a filter, else the
                default one, else direct
    dequeue     of the leaves with packets, those that may send or borrow (htb_class.lender)
                the lowest level of the lender first, then the lowest `prio`, then round robin
                htb_charge_class: charge the class and its ancestors

Tokens are times in ns: the time that a packet takes at the class' rate. A class whose tokens are
below zero may borrow; one whose `ctokens` are cannot send. This is its `cmode`, which changes when
it is charged, and back at the time `pq_key`, level by level in dequeue. Read dequeue first.
"""

from __future__ import annotations

import errno
from collections.abc import Sequence
from itertools import chain

from fastpath.base.skbuff import sk_buff, sk_buff_head
from stack.core.drop_reason import SKB_DROP_REASON_QDISC_OVERLIMIT
from stack.core.errors import os_error
from stack.core.extack import ExtAckError, netlink_ext_ack
from stack.core.netdevice import NET_XMIT_SUCCESS
from stack.core.rows import row, state
from stack.core.time64 import NSEC_PER_SEC
from stack.sched.act_api import TC_ACT_OK, TC_ACT_TAKES, tcf_result
from stack.sched.cls_api import qdisc_classify, qdisc_taken, tcf_block
from stack.sched.gen_estimator import gen_new_estimator, net_rate_estimator
from stack.sched.psched import PSCHED_SHIFT, psched_ratecfg, psched_ticks, rate_from, rate_told
from stack.sched.sch_api import (
    TC_H_MAJ_MASK,
    qdisc_replace,
    qdisc_watchdog,
    qdisc_watchdog_schedule_ns,
)
from stack.sched.sch_fifo import pfifo_qdisc
from stack.sched.sch_generic import (
    TC_H_ROOT,
    Options,
    Qdisc,
    Qdisc_class,
    bstats_update,
    class_dump,
    fields,
    gnet_stats_basic_sync,
    gnet_stats_queue,
    net_xmit_drop_count,
    qdisc_child_enqueue,
    qdisc_child_sent,
    qdisc_default_leaf,
    qdisc_drop,
    qdisc_enqueue_tail,
    qdisc_hash_add,
    qdisc_pkt_len,
    qdisc_purge_queue,
)

HTB_VER = 0x30011
TC_HTB_MAXDEPTH = 8
TC_HTB_NUMPRIO = 8
INT_MAX = 0x7FFFFFFF
MBUFFER_NS = 60_000_000_000
"""Lower limit of tokens, ns."""
HTB_CANT_SEND, HTB_MAY_BORROW, HTB_CAN_SEND = range(3)
"""enum htb_cmode."""
MAX_WAIT_NS = 5_000_000_000
"""The longest time of the watchdog."""


@state
class htb_class:
    """struct htb_class. `level`: 0 for leaves, 7 for an inner class at the top."""

    classid: int
    parent: htb_class | None
    children: list[htb_class] = row(make=list)
    level: int = row(0)
    q: Qdisc | None = row()
    """The leaf's discipline."""
    rate: psched_ratecfg = row()
    ceil: psched_ratecfg = row()
    buffer: int = row(0)
    """The burst at `rate`, ns."""
    cbuffer: int = row(0)
    quantum: int = row(0)
    """Bytes that it sends in its turn."""
    prio: int = row(0)
    tokens: int = row(0)
    ctokens: int = row(0)
    t_c: int = row(0)
    """When the tokens were last counted, ns."""
    cmode: int = row(HTB_CAN_SEND)
    pq_key: int = row(0)
    """When `cmode` may change next, ns; while it is not HTB_CAN_SEND."""
    deficit: dict[int, int] = row(make=dict)
    """By level of the lender: bytes left of its turn."""
    bstats: gnet_stats_basic_sync = row(make=gnet_stats_basic_sync)
    drops: int = row(0)
    overlimits: int = row(0)
    lends: int = row(0)
    borrows: int = row(0)
    block: tcf_block | None = row()
    """Filters for the packets that come to it as an inner class."""
    rate_est: net_rate_estimator | None = row()
    """The estimator of its rate; None: nobody asked for one."""

    def lender(self) -> htb_class | None:
        """net/sched/sch_htb.c htb_activate_prios: the lender of a leaf: itself or an ancestor."""
        cl: htb_class | None = self
        while cl is not None and cl.cmode == HTB_MAY_BORROW:
            cl = cl.parent
        return cl if cl is not None and cl.cmode == HTB_CAN_SEND else None

    def mode_after(self, passed: int) -> tuple[int, int]:
        """net/sched/sch_htb.c: htb_class_mode: the mode, and for how long it stays, ns."""
        if self.ctokens + passed < 0:
            return HTB_CANT_SEND, -(self.ctokens + passed)
        if self.tokens + passed >= 0:
            return HTB_CAN_SEND, 0
        return HTB_MAY_BORROW, -(self.tokens + passed)


def _hash(cl: htb_class, size: int) -> int:
    """include/net/sch_generic.h: qdisc_class_hash."""
    number = cl.classid ^ cl.classid >> 8
    return (number ^ number >> 4) & (size - 1)


def _pay(tokens: int, most: int, cost: int) -> int:
    """htb_accnt_tokens."""
    return max(min(tokens, most) - cost, 1 - MBUFFER_NS)


@state
class htb_qdisc(Qdisc_class):
    """net/sched/sch_htb.c: packets without a class are sent at once (`direct_queue`)."""

    kind = "htb"

    rate2quantum: int = row(10)
    defcls: int = row(0)
    direct_qlen: int = row(0)
    direct_pkts: int = row(0)
    direct_queue: sk_buff_head = row(make=sk_buff_head)
    classes: dict[int, htb_class] = row(make=dict)
    clhash: list[list[htb_class]] = row(make=lambda: [[] for _ in range(4)])
    """The same in the buckets of Linux, whose order is that of `tc class show`."""
    active: dict[int, htb_class] = row(make=dict)
    """Leaves that have packets."""
    wait_pq: tuple[dict[int, htb_class], ...] = row(
        make=lambda: tuple({} for _ in range(TC_HTB_MAXDEPTH))
    )
    """By level: the classes whose mode is to change."""
    near_ev_cache: list[int] = row(make=lambda: [0] * TC_HTB_MAXDEPTH)
    """By level: when the next of them does so, or before, ns."""
    turn: dict[tuple[int, int], int] = row(make=dict)
    """By level and priority: the class whose turn it is."""

    def init(self, opt: Options | None) -> None:
        """`defcls`, `rate2quantum`, `direct_qlen`. Raises: OSError EINVAL, EOPNOTSUPP."""
        if opt is None or opt.get("version", HTB_VER >> 16) != HTB_VER >> 16:
            raise os_error(errno.EINVAL)
        if "offload" in opt:
            raise ExtAckError(errno.EOPNOTSUPP, "hw-tc-offload ethtool feature flag must be on")
        self.watchdog = qdisc_watchdog(self)
        self.block = tcf_block(self)
        self.defcls = opt.get("defcls", 0)
        self.rate2quantum = max(opt.get("rate2quantum", 10), 1)
        self.direct_qlen = opt.get("direct_qlen", self.dev.tx_queue_len)

    def dump(self) -> Options:
        return {
            "version": HTB_VER,
            **fields(self, "rate2quantum", "defcls", "direct_pkts", "direct_qlen"),
            "debug": 0,
        }

    def htb_classify(self, skb: sk_buff) -> tuple[htb_class | None, int]:
        """net/sched/sch_htb.c: the leaf for a packet; None: it goes directly.

        The number is a verdict of TC_ACT_TAKES when a filter took the packet, else TC_ACT_OK. An
        inner class has filters of its own, which are tried next.
        """
        if skb.priority == self.handle:
            return None, TC_ACT_OK
        cl = self.classes.get(skb.priority)
        block = self.block
        if cl is not None:
            if not cl.level:
                return cl, TC_ACT_OK
            block = cl.block
        res = tcf_result()
        while (verdict := qdisc_classify(block, skb, res)) >= 0:
            if verdict in TC_ACT_TAKES:
                return None, verdict
            if res.classid == self.handle:
                return None, TC_ACT_OK
            cl = self.classes.get(res.classid)
            if cl is None:
                break
            if not cl.level:
                return cl, TC_ACT_OK
            block = cl.block
        cl = self.classes.get(self.handle | self.defcls)
        return cl if cl is not None and not cl.level else None, TC_ACT_OK

    def enqueue(self, skb: sk_buff) -> int:
        """net/sched/sch_htb.c: htb_enqueue. Takes ownership of skb."""
        cl, verdict = self.htb_classify(skb)
        if verdict:
            return qdisc_taken(self, skb, verdict)
        if cl is None:
            if self.direct_queue.qlen >= self.direct_qlen:
                return qdisc_drop(skb, self, SKB_DROP_REASON_QDISC_OVERLIMIT)
            self.direct_pkts += 1
            return qdisc_enqueue_tail(skb, self, self.direct_queue)
        assert cl.q is not None
        ret = qdisc_child_enqueue(self, cl.q, skb)
        if ret == NET_XMIT_SUCCESS:
            self.active[cl.classid] = cl
        elif net_xmit_drop_count(ret):
            cl.drops += 1
        return ret

    def dequeue(self) -> sk_buff | None:
        """net/sched/sch_htb.c: htb_dequeue."""
        skb = self.direct_queue.dequeue()
        if skb is not None:
            return qdisc_child_sent(self, skb)
        if not self.qlen:
            return None
        now = self.dev.net.clock.now_ns()
        next_event = now + MAX_WAIT_NS
        for level in range(TC_HTB_MAXDEPTH):
            if now >= self.near_ev_cache[level]:
                self.htb_do_events(level, now)
            next_event = min(next_event, self.near_ev_cache[level])
            ready: dict[int, list[tuple[htb_class, htb_class]]] = {}
            for cl in self.active.values():
                lender = cl.lender()
                if lender is not None and lender.level == level:
                    ready.setdefault(cl.prio, []).append((cl, lender))
            for prio in sorted(ready):
                skb = self.htb_dequeue_tree((level, prio), ready[prio], now)
                if skb is not None:
                    return skb
        assert self.watchdog is not None
        qdisc_watchdog_schedule_ns(self.watchdog, next_event)
        return None

    def htb_do_events(self, level: int, now: int) -> None:
        """net/sched/sch_htb.c: other modes for the classes of a level whose time has come."""
        waiting = self.wait_pq[level]
        for cl in tuple(waiting.values()):
            if cl.pq_key <= now:
                self.htb_change_class_mode(cl, min(now - cl.t_c, MBUFFER_NS), now)
        nearest = min((cl.pq_key for cl in waiting.values()), default=now + NSEC_PER_SEC)
        self.near_ev_cache[level] = nearest

    def htb_change_class_mode(self, cl: htb_class, passed: int, now: int) -> None:
        """net/sched/sch_htb.c: the mode after a time, and when it may change next."""
        mode, stays = cl.mode_after(passed)
        if mode != cl.cmode and mode == HTB_CANT_SEND:
            cl.overlimits += 1
            self.qstats.overlimits += 1
        cl.cmode = mode
        if mode == HTB_CAN_SEND:
            self.wait_pq[cl.level].pop(cl.classid, None)
            return
        cl.pq_key = now + max(stays, 1)
        self.wait_pq[cl.level][cl.classid] = cl
        self.near_ev_cache[cl.level] = min(self.near_ev_cache[cl.level], cl.pq_key)

    def htb_charge_class(self, leaf: htb_class, level: int, nbytes: int, now: int) -> None:
        """net/sched/sch_htb.c: take tokens of a leaf and of those above it."""
        cl: htb_class | None = leaf
        while cl is not None:
            passed = min(now - cl.t_c, MBUFFER_NS)
            if cl.level >= level:
                cl.lends += cl.level == level
                cl.tokens = _pay(cl.tokens + passed, cl.buffer, cl.rate.l2t_ns(nbytes))
            else:
                cl.borrows += 1
                cl.tokens += passed  # t_c moves
            cl.ctokens = _pay(cl.ctokens + passed, cl.cbuffer, cl.ceil.l2t_ns(nbytes))
            cl.t_c = now
            if cl.mode_after(0)[0] != cl.cmode:  # else its time stays as it is
                self.htb_change_class_mode(cl, 0, now)
            cl = cl.parent

    def forget_mode(self, cl: htb_class) -> None:
        """A class changes its level or is removed: it may send and has no timer."""
        self.wait_pq[cl.level].pop(cl.classid, None)
        cl.cmode = HTB_CAN_SEND

    def htb_dequeue_tree(
        self, at: tuple[int, int], ready: list[tuple[htb_class, htb_class]], now: int
    ) -> sk_buff | None:
        """net/sched/sch_htb.c: the packet of the leaf whose turn it is, of a level and priority."""
        turn = self.turn.get(at, 0)
        ready.sort(key=lambda pair: (pair[0].classid < turn, pair[0].classid))
        for cl, lender in ready:
            assert cl.q is not None
            skb = cl.q.dequeue_peeked()
            if skb is None:
                continue  # its discipline holds packets back
            if not cl.q.qlen:
                self.active.pop(cl.classid, None)
            nbytes = qdisc_pkt_len(skb)
            left = cl.deficit.get(lender.level, 0) - nbytes
            self.turn[at] = cl.classid
            if left < 0:
                left += cl.quantum
                self.turn[at] = cl.classid + 1
            cl.deficit[lender.level] = left
            self.htb_charge_class(cl, lender.level, nbytes, now)
            above: htb_class | None = cl
            while above is not None:
                bstats_update(above.bstats, skb)
                above = above.parent
            return qdisc_child_sent(self, skb)
        return None

    def reset(self) -> None:
        super().reset()
        self.direct_queue.purge()
        self.active.clear()
        for cl in self.classes.values():
            self.forget_mode(cl)

    # classes

    def find(self, classid: int) -> htb_class | None:
        return self.classes.get(classid)

    def walk(self) -> Sequence[htb_class]:
        return [*chain.from_iterable(self.clhash)]

    def class_hash_insert(self, cl: htb_class) -> None:
        """net/sched/sch_api.c: qdisc_class_hash_insert and qdisc_class_hash_grow."""
        self.clhash[_hash(cl, len(self.clhash))].insert(0, cl)
        if len(self.classes) * 4 > len(self.clhash) * 3:
            grown: list[list[htb_class]] = [[] for _ in range(2 * len(self.clhash))]
            for each in self.walk():
                grown[_hash(each, len(grown))].insert(0, each)
            self.clhash = grown

    def leaf(self, cl: htb_class) -> Qdisc | None:
        return cl.q

    def graft(self, cl: htb_class, new: Qdisc | None) -> Qdisc | None:
        if cl.level:
            raise os_error(errno.EINVAL)
        if new is None:
            new = qdisc_default_leaf(self, pfifo_qdisc(self.dev), cl.classid)
        old, cl.q = cl.q, new
        self.active.pop(cl.classid, None)
        return qdisc_replace(self, new, old, cl.classid)

    def qlen_notify(self, classid: int) -> None:
        self.active.pop(classid, None)

    def change_class(
        self,
        classid: int,
        parent: int,
        opt: Options | None,
        cl: htb_class | None,
        extack: netlink_ext_ack,
    ) -> htb_class:
        """net/sched/sch_htb.c: htb_change_class: `rate`, `ceil`, `buffer`, `cbuffer`, `prio` ...

        Raises: OSError EINVAL.
        """
        if opt is None or "rate" not in opt:
            raise os_error(errno.EINVAL)
        rate = rate_from(opt, "rate", "rate64")
        ceil = rate_from(opt, "ceil", "ceil64") if "ceil" in opt else rate
        if not rate.bytes_ps or not ceil.bytes_ps:
            raise os_error(errno.EINVAL)
        fresh = cl is None
        if cl is None:
            cl = self.new_class(classid, parent)
        if "est" in opt:
            try:
                cl.rate_est = gen_new_estimator(self.dev.net, cl, opt["est"], cl.rate_est)
            except OSError:
                if fresh:
                    self.delete_class(cl)
                raise
        cl.rate, cl.ceil = rate, ceil
        default = self.dev.mtu + 100  # tc's: bytes of the largest packet, and 100
        cl.buffer = opt["buffer"] << PSCHED_SHIFT if "buffer" in opt else rate.l2t_ns(default)
        cl.cbuffer = opt["cbuffer"] << PSCHED_SHIFT if "cbuffer" in opt else ceil.l2t_ns(default)
        if not cl.level:
            cl.quantum = opt.get("quantum") or self.computed_quantum(classid, rate, extack)
            cl.prio = min(opt.get("prio", 0), TC_HTB_NUMPRIO - 1)
        if fresh:
            cl.tokens, cl.ctokens = cl.buffer, cl.cbuffer
            cl.t_c = self.dev.net.clock.now_ns()
        return cl

    def computed_quantum(self, classid: int, rate: psched_ratecfg, extack: netlink_ext_ack) -> int:
        """The default quantum of a class, with a warning if the rate is unsuitable."""
        computed = min(rate.bytes_ps // self.rate2quantum, INT_MAX)
        least, most = 1000, 200_000
        if not least <= computed <= most:
            size = "small" if computed < least else "big"
            text = f"quantum of class {classid:X} is {size}. Consider r2q change."
            extack.msg = f"sch_htb: {text}"
        return min(max(computed, least), most)

    def new_class(self, classid: int, parentid: int) -> htb_class:
        """A class in the tree, with a pfifo as its discipline. Raises: OSError EINVAL."""
        if classid & TC_H_MAJ_MASK != self.handle:
            raise os_error(errno.EINVAL)
        parent = self.classes.get(parentid) if parentid != TC_H_ROOT else None
        if parent is not None and parent.parent is not None and parent.parent.level < 2:
            raise ExtAckError(errno.EINVAL, "tree is too deep")
        if parent is not None and not parent.level:  # it becomes an inner class
            assert parent.q is not None
            qdisc_purge_queue(parent.q)
            parent.q.destroy()
            parent.q = None
            self.active.pop(parent.classid, None)
            self.forget_mode(parent)
            above = parent.parent
            parent.level = (above.level if above is not None else TC_HTB_MAXDEPTH) - 1
        cl = htb_class(classid, parent)
        cl.block = tcf_block(self)
        cl.q = qdisc_default_leaf(self, pfifo_qdisc(self.dev), classid)
        qdisc_hash_add(cl.q, True)
        if parent is not None:
            parent.children.append(cl)
        self.classes[classid] = cl
        self.class_hash_insert(cl)
        return cl

    def delete_class(self, cl: htb_class) -> None:
        """net/sched/sch_htb.c: htb_delete. Raises: OSError EBUSY."""
        filtered = (f.classid for block in self.blocks() for f in block.filters())
        if cl.children or cl.classid in filtered:
            raise ExtAckError(errno.EBUSY, "HTB class in use")
        self.end_class(cl)
        if cl.q is not None:
            qdisc_purge_queue(cl.q)
            cl.q.destroy()
        self.active.pop(cl.classid, None)
        self.forget_mode(cl)
        del self.classes[cl.classid]
        self.clhash[_hash(cl, len(self.clhash))].remove(cl)
        parent = cl.parent
        if parent is not None:
            parent.children.remove(cl)
            if not parent.children:  # it is a leaf again
                self.forget_mode(parent)
                parent.level = 0
                parent.q = qdisc_default_leaf(self, pfifo_qdisc(self.dev), parent.classid)
                parent.tokens, parent.ctokens = parent.buffer, parent.cbuffer
                parent.t_c = self.dev.net.clock.now_ns()

    def end_class(self, cl: htb_class) -> None:
        """Remove a class' filters and estimator."""
        if cl.block is not None:
            cl.block.put()
        if cl.rate_est is not None:
            cl.rate_est.kill()

    def destroy(self) -> None:
        super().destroy()
        for cl in self.classes.values():
            self.end_class(cl)

    def block_of(self, cl: htb_class | None) -> tcf_block | None:
        return self.block if cl is None else cl.block

    def blocks(self) -> list[tcf_block]:
        every = [self.block, *(cl.block for cl in self.classes.values())]
        return [block for block in every if block is not None]

    def dump_class(self, cl: htb_class) -> class_dump:
        queue = gnet_stats_queue()
        queue.drops, queue.overlimits = cl.drops, cl.overlimits
        if cl.q is not None:
            queue.backlog = cl.q.qstats.backlog
        opt = {
            **rate_told(cl.rate, "rate", "rate64"),
            **rate_told(cl.ceil, "ceil", "ceil64"),
            "buffer": psched_ticks(cl.buffer),
            "cbuffer": psched_ticks(cl.cbuffer),
            **fields(cl, "quantum", "prio", "level"),
        }
        app = {
            **fields(cl, "lends", "borrows"),
            "tokens": min(cl.tokens >> PSCHED_SHIFT, INT_MAX),
            "ctokens": min(cl.ctokens >> PSCHED_SHIFT, INT_MAX),
        }
        parent = cl.parent.classid if cl.parent is not None else TC_H_ROOT
        qlen = cl.q.qlen if cl.q is not None else 0
        return class_dump(cl.classid, parent, cl.q, opt, cl.bstats, queue, qlen, app, cl.rate_est)
