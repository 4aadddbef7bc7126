"""net/sched/sch_netem.c: network emulation: delay, loss, duplication, corruption, reordering, rate.

    netem_enqueue       decides a packet's fate and transmit time; puts it into `waiting`
        loss_event          random with correlation, or a model with states (LOSS_MODELS)
        tabledist           the delay: uniform, or by a table of a distribution
    netem_dequeue       the packet that is due, else arm the watchdog
        get_slot_next       with `slot`, packets are sent in bursts

Numbers that are probabilities are parts of 2^32 - 1. Random numbers are the host's, so the same
seed gives the same network; `prng_seed` makes a source of its own. Read netem_enqueue first.
"""

from __future__ import annotations

import errno
from heapq import heappop, heappush
from random import Random
from typing import Any

from fastpath.base import skbuff
from fastpath.base.skbuff import (
    kfree_skb,
    sk_buff,
    skb_checksum_help,
    skb_clone,
    skb_copy_bits,
    skb_headlen,
    skb_orphan,
    skb_store_bits,
    skb_unshare,
)
from stack.core import drop_reason
from stack.core.dev_xmit import skb_gso_software
from stack.core.errors import os_error
from stack.core.extack import ExtAckError
from stack.core.inet_ecn import INET_ECN_set_ce
from stack.core.netdevice import NET_XMIT_BYPASS, NET_XMIT_DROP, NET_XMIT_SUCCESS
from stack.core.rows import row, state
from stack.sched.psched import PSCHED_SHIFT, psched_l2t_ns
from stack.sched.sch_api import (
    Qdisc_one_class,
    qdisc_all,
    qdisc_watchdog,
    qdisc_watchdog_schedule_ns,
)
from stack.sched.sch_generic import (
    Options,
    Qdisc,
    net_xmit_drop_count,
    qdisc_child_sent,
    qdisc_drop,
    qdisc_pkt_len,
    qdisc_tree_reduce_backlog,
)

NETEM_DIST_SCALE = 8192
NETEM_DIST_MAX = 16384
FOREVER_NS = 1 << 62
INT_MAX = (1 << 31) - 1
PROBABILITY_MAX = 0xFFFFFFFF

GAP, LOST_IN_GAP, BURST, LOST_IN_BURST = range(4)
GILBERT = ("p", "r", "h", "k1")
FOUR_STATES = ("p13", "p31", "p32", "p14", "p23")
NEXT: dict[int, tuple[tuple[str, int], ...]] = {
    GAP: (("p14", LOST_IN_GAP), ("p13", LOST_IN_BURST)),
    LOST_IN_GAP: (),
    BURST: (("p23", LOST_IN_BURST),),
    LOST_IN_BURST: (("p32", BURST), ("p31", GAP)),
}
"""loss_4state: the transition probabilities of each state."""
STAYS = {GAP: GAP, LOST_IN_GAP: GAP, BURST: BURST, LOST_IN_BURST: LOST_IN_BURST}
"""The next state otherwise."""
PLAIN = ("limit", "loss", "gap", "duplicate", "latency", "jitter", "ecn")
"""Parameters that keep their value when a change does not name them: in `p` under their names."""
SLOT = ("min_delay", "max_delay", "max_packets", "max_bytes", "dist_delay", "dist_jitter")
RATE = ("rate", "packet_overhead", "cell_size", "cell_overhead")
CORRELATIONS = ("delay_corr", "loss_corr", "dup_corr", "reorder_corr", "corrupt_corr")
EXTRA = (*CORRELATIONS, "reorder", "corrupt", *RATE, *SLOT)


@state
class crndstate:
    """struct crndstate: random numbers with the correlation `rho`."""

    rho: int = 0
    last: int = row(0)

    def next(self, random: Random) -> int:
        """get_crandom: 32 bits."""
        value = random.getrandbits(32)
        if not self.rho:
            return value
        rho = self.rho + 1
        self.last = (value * ((1 << 32) - rho) + self.last * rho) >> 32
        return self.last


@state
class netem_qdisc(Qdisc_one_class):
    """net/sched/sch_netem.c: delays, duplicates, corrupts, reorders or drops packets.

    Its class has an optional discipline, which packets pass when they are due; None: none.
    """

    kind = "netem"

    p: dict[str, Any] = row(make=dict)
    """The parameters by name; see PLAIN and EXTRA."""
    loss_model: dict[str, int] = row(make=dict)
    """The probabilities of FOUR_STATES or of GILBERT; empty: random loss."""
    loss_state: int = row(0)
    delay_dist: tuple[int, ...] = row(())
    slot_dist: tuple[int, ...] = row(())
    seed: int | None = row()
    random: Random = row(of=lambda sch: sch.dev.net.random)
    correlated: dict[str, crndstate] = row(make=dict)
    counter: int = row(0)
    """Packets since the last one that was put in front."""
    waiting: list[tuple[int, int, sk_buff]] = row(make=list)
    """A heap by the time at which a packet may leave, ns; then by order of arrival."""
    seq: int = row(0)
    tail_time: int = row(0)
    """When the last of them leaves."""
    slot_next: int = row(0)
    slot_packets: int = row(0)
    slot_bytes: int = row(0)

    def init(self, opt: Options | None) -> None:
        """Raises: OSError EINVAL."""
        if opt is None:
            raise os_error(errno.EINVAL)
        self.watchdog = qdisc_watchdog(self)
        self.p = dict.fromkeys((*PLAIN, *EXTRA), 0)
        self.p["limit"] = 1000
        self.change(opt)

    def change(self, opt: Options) -> None:
        """net/sched/sch_netem.c: netem_change.

        `limit` packets; `latency64`, `jitter64` in ns; parts of 1 `loss`, `duplicate`,
        `reorder`, `corrupt`; `rate` in bytes/s; models of loss `p13` ... or `p`, `r`, `h`, `k1`;
        `delay_dist` is a table of int16. Raises: OSError EINVAL.
        """
        fresh = {name: opt[name] for name in (*PLAIN, *EXTRA) if opt.get(name) is not None}
        for name in ("latency", "jitter"):  # in ticks, or in ns
            if name in fresh:
                fresh[name] <<= PSCHED_SHIFT
            if opt.get(f"{name}64") is not None:
                fresh[name] = opt[f"{name}64"]
        if "latency" in fresh:
            fresh["latency"] = max(fresh["latency"], 0)
        if "jitter" in fresh:
            fresh["jitter"] = min(abs(fresh["jitter"]), INT_MAX)
        if opt.get("rate64") is not None:
            fresh["rate"] = max(opt["rate64"], fresh.get("rate", 0))
        if fresh.get("gap") and "reorder" not in fresh:
            fresh["reorder"] = PROBABILITY_MAX  # as old versions of tc mean it
        self.counter = 0
        tables = {name: tuple(opt[name]) for name in ("delay_dist", "slot_dist") if opt.get(name)}
        if any(len(table) > NETEM_DIST_MAX for table in tables.values()):
            raise os_error(errno.EINVAL)
        self.check_netem_in_tree(bool(fresh.get("duplicate", self.p["duplicate"])))
        self.loss_model = {n: opt[n] for n in (*FOUR_STATES, *GILBERT) if opt.get(n) is not None}
        self.loss_state = GAP
        self.p.update(fresh)
        self.delay_dist = tables.get("delay_dist", self.delay_dist)
        self.slot_dist = tables.get("slot_dist", self.slot_dist)
        self.limit = self.p["limit"]
        for name in CORRELATIONS:
            if name in fresh or name not in self.correlated:
                self.correlated[name] = crndstate(self.p[name])
        self.seed = opt.get("prng_seed", self.seed)
        if self.seed is not None and "prng_seed" in opt:
            self.random = Random(self.seed)
        if any(self.p[name] for name in SLOT):
            self.slot_packets = self.p["max_packets"] or 1 << 31
            self.slot_bytes = self.p["max_bytes"] or 1 << 31
            self.slot_next = self.dev.net.clock.now_ns()

    def check_netem_in_tree(self, duplicates: bool) -> None:
        """net/sched/sch_netem.c: two with copies would make copies without end.

        Raises: OSError EINVAL.
        """
        for q in qdisc_all(self.dev):
            if not isinstance(q, netem_qdisc) or q.parent == self.parent:  # which it replaces
                continue
            if duplicates or q.p["duplicate"]:
                text = "netem: cannot mix duplicating netems with other netems in tree"
                raise ExtAckError(errno.EINVAL, text)

    def chance(self, of: str, correlation: str) -> bool:
        """Whether an event of a probability happens now."""
        return bool(self.p[of]) and self.p[of] >= self.correlated[correlation].next(self.random)

    def loss_event(self) -> bool:
        """net/sched/sch_netem.c: whether the packet is lost."""
        if not self.loss_model:
            return self.chance("loss", "loss_corr")
        if "p13" in self.loss_model:
            return self.loss_4state()
        return self.loss_gilb_ell()

    def loss_4state(self) -> bool:
        """net/sched/sch_netem.c: a Markov chain of four states, two of which lose the packet."""
        drawn = self.random.getrandbits(32)
        follows = STAYS[self.loss_state]
        for name, to in NEXT[self.loss_state]:
            if drawn < self.loss_model[name]:
                follows = to
                break
            drawn -= self.loss_model[name]
        self.loss_state = follows
        return follows in (LOST_IN_GAP, LOST_IN_BURST)

    def loss_gilb_ell(self) -> bool:
        """net/sched/sch_netem.c: a good and a bad state, each with a loss of its own."""
        draw, model = self.random.getrandbits, self.loss_model
        if self.loss_state == GAP:
            if draw(32) < model["p"]:
                self.loss_state = BURST
            return draw(32) < model["k1"]
        if draw(32) < model["r"]:
            self.loss_state = GAP
        return draw(32) > model["h"]

    def tabledist(
        self, mu: int, sigma: int, correlation: crndstate | None, table: tuple[int, ...]
    ) -> int:
        """net/sched/sch_netem.c: a random time around `mu`, with deviation `sigma`, ns."""
        if not sigma:
            return mu
        drawn = (
            self.random.getrandbits(32) if correlation is None else correlation.next(self.random)
        )
        if not table:
            return drawn % (2 * sigma) + mu - sigma
        t = table[drawn % len(table)]
        x = sigma % NETEM_DIST_SCALE * t
        x += NETEM_DIST_SCALE // 2 if x >= 0 else -NETEM_DIST_SCALE // 2
        return int(x / NETEM_DIST_SCALE) + sigma // NETEM_DIST_SCALE * t + mu

    def packet_time_ns(self, nbytes: int) -> int:
        """net/sched/sch_netem.c: how long a packet takes at the rate."""
        nbytes += self.p["packet_overhead"]
        cell = self.p["cell_size"]
        if cell:
            nbytes = -(-nbytes // cell) * (cell + self.p["cell_overhead"])
        return psched_l2t_ns(self.p["rate"], max(nbytes, 0))

    def enqueue(self, skb: sk_buff) -> int:
        """net/sched/sch_netem.c: netem_enqueue. Takes ownership of skb."""
        copies = 1 + self.chance("duplicate", "dup_corr")
        if self.loss_event():
            if self.p["ecn"] and INET_ECN_set_ce(skb):
                self.qstats.drops += 1  # marked instead
            else:
                copies -= 1
        if not copies:
            qdisc_drop(skb, self, drop_reason.SKB_DROP_REASON_QDISC_DROP)
            return NET_XMIT_SUCCESS | NET_XMIT_BYPASS
        if len(self.waiting) >= self.limit:
            return qdisc_drop(skb, self, drop_reason.SKB_DROP_REASON_QDISC_OVERLIMIT)
        if self.p["latency"] or self.p["jitter"] or self.p["rate"]:
            skb_orphan(skb)
        if copies > 1:
            self.enqueue_copy(skb_clone(skb))
        if not self.chance("corrupt", "corrupt_corr"):
            self.put(skb)
            return NET_XMIT_SUCCESS
        counted = qdisc_pkt_len(skb)
        pieces = self.corrupted(skb)
        if not pieces:
            self.qstats.drops += 1
            return NET_XMIT_DROP
        packets, nbytes = 1, qdisc_pkt_len(pieces[0])
        self.put(pieces[0])
        for piece in pieces[1:]:
            size = qdisc_pkt_len(piece)
            if self.enqueue(piece) == NET_XMIT_SUCCESS:
                packets += 1
                nbytes += size
        qdisc_tree_reduce_backlog(self, 1 - packets, counted - nbytes)
        return NET_XMIT_SUCCESS

    def enqueue_copy(self, skb: sk_buff) -> None:
        """Enqueue a duplicate at the root, so that the parents count it. Takes ownership of skb."""
        root: Qdisc = self
        while root.up is not None:
            root = root.up
        duplicate, self.p["duplicate"] = self.p["duplicate"], 0
        root.enqueue(skb)
        self.p["duplicate"] = duplicate

    def put(self, skb: sk_buff) -> None:
        """Queue a packet until its time. Takes ownership of skb."""
        p = self.p
        now = self.dev.net.clock.now_ns()
        self.seq += 1
        self.qlen += 1
        self.qstats.backlog += qdisc_pkt_len(skb)
        reorders = p["gap"] and self.counter >= p["gap"] - 1
        if reorders and self.chance("reorder", "reorder_corr"):
            self.counter = 0
            self.qstats.requeues += 1
            heappush(self.waiting, (0, -self.seq, skb))  # before all others
            return
        delay = self.tabledist(
            p["latency"], p["jitter"], self.correlated["delay_corr"], self.delay_dist
        )
        if p["rate"]:
            if self.waiting:  # it follows the last one
                delay = max(delay - (self.tail_time - now), 0)
                now = self.tail_time
            delay += self.packet_time_ns(qdisc_pkt_len(skb))
        at = min(now + delay, FOREVER_NS)
        self.tail_time = max(self.tail_time, at) if self.waiting else at
        self.counter += 1
        heappush(self.waiting, (at, self.seq, skb))

    def corrupted(self, skb: sk_buff) -> list[sk_buff]:
        """One wrong bit in the packet, of a super-packet in the first segment; []: it is lost."""
        pieces = [skb]
        if skb.gso_size:
            segs = skb_gso_software(skb, self.dev)
            if not segs:
                return []
            pieces = segs
        first = skb_unshare(pieces[0])
        summed = first is None or first.ip_summed != skbuff.CHECKSUM_PARTIAL
        if first is None or not (summed or skb_checksum_help(first)):
            for piece in pieces[1:] if first is None else [first, *pieces[1:]]:
                kfree_skb(piece, drop_reason.SKB_DROP_REASON_QDISC_DROP)
            return []
        at, bit = self.random.randrange(skb_headlen(first)), self.random.randrange(8)
        skb_store_bits(first, at, bytes((skb_copy_bits(first, at, 1)[0] ^ 1 << bit,)))
        pieces[0] = first
        return pieces

    def get_slot_next(self, now: int) -> None:
        """net/sched/sch_netem.c: when the next burst may leave, and how large it may be."""
        p = self.p
        if self.slot_dist:
            delay = self.tabledist(p["dist_delay"], p["dist_jitter"], None, self.slot_dist)
        else:
            spread = max(p["max_delay"] - p["min_delay"], 0)
            delay = p["min_delay"] + (self.random.getrandbits(32) * spread >> 32)
        self.slot_next = min(now + delay, FOREVER_NS)
        self.slot_packets = p["max_packets"] or 1 << 31
        self.slot_bytes = p["max_bytes"] or 1 << 31

    def due(self, now: int) -> sk_buff | None:
        """Dequeue the packet that is due; None: none is. Arms the watchdog."""
        if not self.waiting:
            return None
        at, _, skb = self.waiting[0]
        if self.slot_next and self.slot_next < at:
            self.get_slot_next(now)
        if at > now or self.slot_next > now:
            assert self.watchdog is not None
            qdisc_watchdog_schedule_ns(self.watchdog, max(at, self.slot_next))
            return None
        heappop(self.waiting)
        if self.slot_next:
            self.slot_packets -= 1
            self.slot_bytes -= qdisc_pkt_len(skb)
            if self.slot_packets <= 0 or self.slot_bytes <= 0:
                self.get_slot_next(now)
        return skb

    def dequeue(self) -> sk_buff | None:
        """net/sched/sch_netem.c: netem_dequeue."""
        now = self.dev.net.clock.now_ns()
        skb = self.due(now)
        if self.q is not None:
            while skb is not None:
                nbytes = qdisc_pkt_len(skb)
                ret = self.q.enqueue(skb)
                if ret != NET_XMIT_SUCCESS:
                    self.qlen -= 1
                    self.qstats.backlog -= nbytes
                    self.qstats.drops += net_xmit_drop_count(ret)
                    qdisc_tree_reduce_backlog(self, 1, nbytes)
                skb = self.due(now)
            skb = self.q.dequeue_peeked()
        return qdisc_child_sent(self, skb) if skb is not None else None

    def reset(self) -> None:
        super().reset()
        for _, _, skb in self.waiting:
            kfree_skb(skb, drop_reason.SKB_DROP_REASON_QDISC_DROP)
        self.waiting.clear()

    def dump(self) -> Options:
        p = self.p
        told = {name: value for name, value in p.items() if name not in SLOT}
        if any(p[name] for name in SLOT):
            told.update({name: p[name] for name in SLOT})
        most = 0xFFFFFFFF
        return {
            **told,
            **self.loss_model,
            "ecn": p["ecn"] or None,
            "latency": min(p["latency"] >> PSCHED_SHIFT, most),
            "jitter": min(p["jitter"] >> PSCHED_SHIFT, most),
            "latency64": p["latency"],
            "jitter64": p["jitter"],
            "rate": min(p["rate"], most),
            "rate64": p["rate"] if p["rate"] > most else None,
            "prng_seed": self.seed,
        }
