"""The retransmit queue against three Python lists; members that leave by other doors."""

from __future__ import annotations

import gc
import math
import random
from collections.abc import Iterator

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from fastpath._ref.retransmit_queue import rtx_queue as Twin
from fastpath.base import skbuff as S
from fastpath.base.dma import HostMemory
from fastpath.net.retransmit_queue import rtx_queue
from tests.support import examples

M32 = 0xFFFFFFFF


@pytest.fixture
def pool() -> Iterator[S.SkbPool]:
    made = S.SkbPool(HostMemory(4 << 20), 256, 12_000)
    yield made
    gc.collect()
    assert made.in_use == 0


def packet(pool: S.SkbPool, seq: int, size: int = 10) -> S.sk_buff:
    skb = S.skb_from_bytes(pool, bytes(size))
    skb.seq, skb.end_seq = seq & M32, (seq + size) & M32
    return skb


def filled(pool: S.SkbPool, n: int, start: int = 0) -> tuple[rtx_queue, list[S.sk_buff]]:
    queue = rtx_queue()
    members = [packet(pool, start + 10 * i) for i in range(n)]
    for skb in members:
        queue.queue_tail(skb)
    return queue, members


def test_find_needs_few_steps_among_ten_thousand(pool: S.SkbPool) -> None:
    """About 1.4 log2 n expected for a treap whose keys come in order; twice that is generous."""
    queue, members = filled(pool, 10_000, start=M32 - 50_000)
    assert queue.depth() <= 4 * math.log2(10_000)
    for i in (0, 1, 4999, 5000, 5001, 9999):
        assert queue.find((members[i].seq + 3) & M32) is members[i]
    assert queue.find((members[0].seq - 1000) & M32) is members[0]
    assert queue.find(members[-1].end_seq) is None
    rng = random.Random(1)
    rng.shuffle(members)
    for skb in members[:9000]:
        queue.unlink(skb)
    assert queue.depth() <= 4 * math.log2(1000)
    queue.purge()
    assert queue.depth() == 0


def test_a_member_that_is_freed_leaves_everything(pool: S.SkbPool) -> None:
    queue, (a, b, c) = filled(pool, 3)
    queue.lose(b)
    queue.sent_pass()
    S.kfree_skb(b)
    S.kfree_skb(a)
    assert (queue.sent_list(), queue.lost_list(), list(queue)) == ([c], [], [c])
    assert queue.sent_passed is None
    assert queue.depth() == 1
    assert queue.dequeue() is c
    assert queue.sent_first is None


def test_other_doors_in_are_shut(pool: S.SkbPool) -> None:
    queue, (a, b) = filled(pool, 2)
    extra, plain = packet(pool, 50), S.sk_buff_head()
    for way in (
        lambda: S.sk_buff_head.queue_tail(queue, extra),
        lambda: queue.insert_before(a, extra),
        lambda: plain.splice_tail_init(queue),
        lambda: queue.splice_tail_init(plain),
    ):
        with pytest.raises(TypeError, match="index"):
            way()
    for op in (queue.sent, queue.lose, queue.settle, queue.unlink):
        with pytest.raises(ValueError, match="not on this queue"):
            op(extra)
    with pytest.raises(ValueError, match="already"):
        queue.queue_tail(b)
    assert queue.depth() <= 2
    assert list(queue) == [a, b]


def test_queue_frees_members_when_it_dies(pool: S.SkbPool) -> None:
    queue, members = filled(pool, 5)
    queue.lose(members[2])
    del queue
    assert pool.in_use == 0
    assert all(skb.users == 0 for skb in members)


def test_a_cycle_through_a_member_is_collected(pool: S.SkbPool) -> None:
    class Holder:
        def __init__(self) -> None:
            self.queue = rtx_queue()

    holder = Holder()
    skb = packet(pool, 0)
    skb.cb = holder
    holder.queue.queue_tail(skb)
    walker = iter(holder.queue)
    del skb, holder, walker
    gc.collect()
    assert pool.in_use == 0


def test_coalesce_joins_members_and_keeps_places_when_it_cannot(pool: S.SkbPool) -> None:
    queue, (a, b, c) = filled(pool, 3)
    queue.lose(b)
    # Payload in the head cannot be moved behind other payload for ever: fragments are limited.
    joined = queue.coalesce(a, b)
    if joined:
        assert list(queue) == [a, c]
        assert (a.len, b.users) == (20, 0)
        assert queue.lost_list() == []
    else:
        assert list(queue) == [a, b, c]
        assert queue.lost_list() == [b]
    assert queue.depth() <= 3
    with pytest.raises(ValueError, match="not on this queue"):
        queue.coalesce(a, packet(pool, 90))


def test_coalesce_of_a_member_with_itself_changes_nothing(pool: S.SkbPool) -> None:
    queue, (a, b) = filled(pool, 2)
    with pytest.raises(ValueError, match="the same"):
        queue.coalesce(b, b)
    assert list(queue) == queue.sent_list() == [a, b]
    assert queue.find(b.seq) is b
    assert queue.depth() == 2


class AgainstTwin(RuleBasedStateMachine):
    """The same operations on both, sequence numbers around the wrap."""

    def __init__(self) -> None:
        super().__init__()
        self.pool = S.SkbPool(HostMemory(1 << 20), 256, 400)
        self.queue, self.twin = rtx_queue(), Twin()
        self.seq = M32 - 300
        self.now = 0

    def pick(self, at: int) -> S.sk_buff:
        return self.twin.members[at % len(self.twin.members)]  # type: ignore[return-value]

    def stamp(self, skb: S.sk_buff) -> None:
        self.now += 1
        skb.tx_tstamp_ns = self.now

    @rule(size=st.integers(2, 40))
    def send(self, size: int) -> None:
        if len(self.twin.members) >= 300:
            return
        skb = packet(self.pool, self.seq, size)
        self.seq += size
        self.stamp(skb)
        self.queue.queue_tail(skb)
        self.twin.queue_tail(skb)

    @precondition(lambda self: self.twin.members)
    @rule(at=st.integers(0, 999))
    def split(self, at: int) -> None:
        skb = self.pick(at)
        if skb.len < 2 or len(self.twin.members) >= 300:
            return
        half = skb.len // 2
        other = packet(self.pool, skb.seq + half, skb.len - half)
        S.skb_trim(skb, half)
        skb.end_seq = other.seq
        other.tx_tstamp_ns = skb.tx_tstamp_ns
        self.queue.insert_after(skb, other)
        self.twin.insert_after(skb, other)

    @precondition(lambda self: self.twin.members)
    @rule(at=st.integers(0, 999), op=st.sampled_from(["lose", "settle", "sent", "unlink", "free"]))
    def change(self, at: int, op: str) -> None:
        skb = self.pick(at)
        if op == "free":
            S.kfree_skb(skb)
            self.twin.unlink(skb)
            return
        if op == "sent":
            self.stamp(skb)
        getattr(self.queue, op)(skb)
        getattr(self.twin, op)(skb)

    @precondition(lambda self: self.twin.members)
    @rule(n=st.integers(1, 5))
    def acknowledge(self, n: int) -> None:
        for skb in list(self.twin.members[:n]):
            assert self.queue.dequeue() is skb
            self.twin.unlink(skb)

    @rule()
    def advance(self) -> None:
        self.queue.sent_pass()
        self.twin.sent_pass()

    @rule()
    def unlose(self) -> None:
        self.queue.unlose()
        self.twin.unlose()

    @rule(offset=st.integers(-500, 100))
    def find(self, offset: int) -> None:
        seq = (self.seq + offset) & M32
        assert self.queue.find(seq) is self.twin.find(seq)

    @invariant()
    def same(self) -> None:
        queue, twin = self.queue, self.twin
        assert list(queue) == twin.members
        assert list(reversed(queue)) == twin.members[::-1]
        assert queue.qlen == len(twin.members)
        assert queue.sent_list() == twin.flight
        assert queue.lost_list() == twin.waiting
        assert queue.sent_passed is twin.passed
        assert queue.sent_ahead is twin.ahead()
        assert queue.sent_first is (twin.flight[0] if twin.flight else None)
        assert queue.lost_first is (twin.waiting[0] if twin.waiting else None)
        queue.depth()

    def teardown(self) -> None:
        self.queue.purge()
        assert self.pool.in_use == 0


TestAgainstTwin = AgainstTwin.TestCase
TestAgainstTwin.settings = settings(
    max_examples=examples(60), stateful_step_count=60, deadline=None
)
