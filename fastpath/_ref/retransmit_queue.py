"""TCP's retransmit queue as three Python lists: the twin of ``fastpath.net.retransmit_queue``."""

from __future__ import annotations

from typing import Protocol

HALF = 0x80000000
M32 = 0xFFFFFFFF


class Sent(Protocol):
    """The members used of an sk_buff."""

    seq: int
    end_seq: int
    tx_tstamp_ns: int


def after(a: int, b: int) -> bool:
    """a comes after b."""
    return (b - a) & M32 >= HALF


class rtx_queue:
    """Members by sequence; `flight` by time, `waiting` by sequence; two cursors."""

    def __init__(self) -> None:
        self.members: list[Sent] = []
        self.flight: list[Sent] = []
        self.waiting: list[Sent] = []
        self.passed: Sent | None = None

    def _check(self, skb: Sent) -> None:
        if skb not in self.members:
            raise ValueError("not on this queue")

    def _take(self, skb: Sent) -> None:
        if skb in self.flight:
            at = self.flight.index(skb)
            if self.passed is skb:
                self.passed = self.flight[at - 1] if at else None
            self.flight.remove(skb)
        if skb in self.waiting:
            self.waiting.remove(skb)

    def queue_tail(self, skb: Sent) -> None:
        """Append."""
        if skb in self.members:
            raise ValueError("on a queue already")
        self.members.append(skb)
        self.flight.append(skb)

    def queue_head(self, skb: Sent) -> None:
        """Prepend, on neither list."""
        if skb in self.members:
            raise ValueError("on a queue already")
        self.members.insert(0, skb)

    def insert_after(self, prev: Sent, skb: Sent) -> None:
        """Insert a piece of prev."""
        self._check(prev)
        if skb in self.members:
            raise ValueError("on a queue already")
        for each in (self.members, self.flight, self.waiting):
            if prev in each:
                each.insert(each.index(prev) + 1, skb)

    def unlink(self, skb: Sent) -> None:
        """Remove."""
        self._check(skb)
        self._take(skb)
        self.members.remove(skb)

    def find(self, seq: int) -> Sent | None:
        """The first that ends after seq."""
        return next((skb for skb in self.members if after(skb.end_seq, seq)), None)

    def sent(self, skb: Sent) -> None:
        """Mark as retransmitted."""
        self._check(skb)
        self._take(skb)
        self.flight.append(skb)

    def lose(self, skb: Sent) -> None:
        """Insert into the lost ones."""
        self._check(skb)
        self._take(skb)
        at = sum(not after(other.seq, skb.seq) for other in self.waiting)
        self.waiting.insert(at, skb)

    def settle(self, skb: Sent) -> None:
        """Remove from both lists."""
        self._check(skb)
        self._take(skb)

    def unlose(self) -> None:
        """Move the lost ones to the sent ones."""
        if not self.waiting:
            return
        base = self.members[0].seq
        self.flight += self.waiting
        self.waiting = []
        self.flight.sort(key=lambda skb: (skb.tx_tstamp_ns, (skb.end_seq - base) & M32))
        self.passed = None

    def ahead(self) -> Sent | None:
        """The first after the cursor."""
        at = 0 if self.passed is None else self.flight.index(self.passed) + 1
        return self.flight[at] if at < len(self.flight) else None

    def sent_pass(self) -> None:
        """Advance the cursor."""
        self.passed = self.ahead() or self.passed
