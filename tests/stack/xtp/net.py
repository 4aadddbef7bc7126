"""Two contexts of XTP and a wire between them that loses, repeats and reorders, without a host."""

from __future__ import annotations

from heapq import heappop, heappush
from random import Random

from stack.xtp.context import XTP_CLOSED, XTP_INACTIVE, xtp_context, xtp_deadline
from stack.xtp.input import xtp_input, xtp_read
from stack.xtp.output import xtp_check_end, xtp_close_write, xtp_open, xtp_write, xtp_xmit
from stack.xtp.packet import (
    XTP_FIRST,
    XTP_SERVICE_STREAM,
    xtp_checksum_ok,
    xtp_first_segment,
    xtp_packet,
    xtp_parse,
    xtp_tspec,
)
from stack.xtp.timeout import xtp_timeout

KEY = 0x1234_5678_9ABC_DEF0


class Wire:
    """`a` is the initiator. Times are ns; `delay` one way; each packet's fate comes of `seed`."""

    def __init__(
        self,
        seed: int = 1,
        *,
        loss: float = 0.0,
        duplicate: float = 0.0,
        jitter_ns: int = 0,
        delay_ns: int = 1_000_000,
        service: int = XTP_SERVICE_STREAM,
    ) -> None:
        self.random = Random(seed)
        self.loss = loss
        self.duplicate = duplicate
        self.jitter_ns = jitter_ns
        self.delay_ns = delay_ns
        self.now = 1_000
        self.order = 0
        self.flying: list[tuple[int, int, int, bytes]] = []
        self.seen: list[tuple[str, xtp_packet]] = []
        first = xtp_first_segment(1, 2, 3, 4, xtp_tspec(service))
        self.a = xtp_context(KEY, True, first, service)
        self.b = xtp_context(KEY, False, b"", service)
        for ctx in (self.a, self.b):
            ctx.mss = 1000
        self.got = {0: bytearray(), 1: bytearray()}
        self.messages: dict[int, list[bytes]] = {0: [], 1: []}
        self.reading = [True, True]
        self.sent_packets = 0

    def end(self, i: int) -> xtp_context:
        return (self.a, self.b)[i]

    def collect(self) -> None:
        """Take what the ends want to send, and read what they have for the application."""
        for i in (0, 1):
            ctx = self.end(i)
            while self.reading[i] and ctx.pieces:
                data, eom = xtp_read(ctx, 1 << 20, self.now)
                self.got[i] += data
                if eom:
                    self.messages[i].append(bytes(self.got[i]))
            for packet in ctx.out:
                self.sent_packets += 1
                assert xtp_checksum_ok(packet)
                parsed = xtp_parse(packet)
                assert parsed is not None
                assert parsed.rtn == bool(i)
                self.seen.append(("ab"[i], parsed))
                copies = 1 + (self.random.random() < self.duplicate)
                for _ in range(copies):
                    if self.random.random() < self.loss:
                        continue
                    when = self.now + self.delay_ns
                    if self.jitter_ns:
                        when += self.random.randrange(self.jitter_ns)
                    self.order += 1
                    heappush(self.flying, (when, self.order, 1 - i, packet))
            ctx.out.clear()

    def step(self, limit_ns: int) -> bool:
        """The next thing that happens up to `limit_ns`; False when there is none."""
        self.collect()
        next_ns = [(ctx, xtp_deadline(ctx)) for ctx in (self.a, self.b)]
        timers = [(when, ctx) for ctx, when in next_ns if when]
        first = min((when for when, _ in timers), default=None)
        if self.flying and (first is None or self.flying[0][0] <= first):
            if self.flying[0][0] > limit_ns:
                return False
            when, _, to, packet = heappop(self.flying)
            self.now = max(self.now, when)
            parsed = xtp_parse(packet)
            assert parsed is not None
            ctx = self.end(to)
            if ctx.state == XTP_INACTIVE:
                if parsed.format != XTP_FIRST:
                    return True
                ctx.state = 2
            xtp_input(ctx, parsed, self.now)
            return True
        if first is None or first > limit_ns:
            return False
        self.now = max(self.now, first)
        for ctx in (self.a, self.b):
            deadline = xtp_deadline(ctx)
            if deadline and deadline <= self.now:
                xtp_timeout(ctx, self.now)
        return True

    def run(self, seconds: float = 1000.0, steps: int = 50_000) -> None:
        """Until nothing is left to do, or both have ended, or the time is over."""
        limit = self.now + int(seconds * 1e9)
        for _ in range(steps):
            if not self.step(limit):
                return
            if self.a.state == self.b.state == XTP_CLOSED and not self.flying:
                self.collect()
                return
        raise AssertionError(f"still busy after {steps} steps: {self.a.state} {self.b.state}")

    def open(self) -> None:
        xtp_open(self.a, self.now)

    def write(self, i: int, data: bytes, eom: bool = False) -> None:
        xtp_write(self.end(i), data, eom)
        xtp_xmit(self.end(i), self.now)

    def close(self, i: int) -> None:
        xtp_close_write(self.end(i))
        xtp_xmit(self.end(i), self.now)
        xtp_check_end(self.end(i), self.now)
