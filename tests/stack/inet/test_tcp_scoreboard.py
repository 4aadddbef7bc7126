"""The scoreboard's lists and cursors against a scan of the whole queue, and what an ACK costs."""

from __future__ import annotations

import contextlib
import errno
import random
import sys
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import stack.inet
from stack.inet import tcp_ack, tcp_input, tcp_recovery
from stack.inet import tcp_sock as opt
from stack.inet.sack_ranges import sack_ranges
from stack.inet.tcp_close import tcp_abort
from stack.inet.tcp_options import tcp_parse_sack_blocks
from stack.inet.tcp_recovery import tcp_rack_reo_wnd, tcp_rack_skb_timeout, tcp_skb_sent_after
from stack.inet.tcp_sack import tcp_is_sackblock_valid
from stack.inet.tcp_sock import (
    TCPCB_EVER_RETRANS,
    TCPCB_LOST,
    TCPCB_SACKED_ACKED,
    TCPCB_SACKED_RETRANS,
    before,
    s32,
)
from tests.stack.inet.tcpnet import ACK, MS, B, S, TcpNet, build_segment, transfer
from tests.support import examples

M32 = 0xFFFFFFFF
INET = str(Path(next(iter(stack.inet.__path__))))


# --- sack_ranges --------------------------------------------------------------------------

spans = st.tuples(st.integers(0, 60), st.integers(1, 20)).map(lambda t: (t[0], t[0] + t[1]))


@given(st.lists(st.tuples(st.sampled_from(["add", "gaps", "forget"]), spans), max_size=40))
def test_ranges_are_sets_of_bytes(steps: list[tuple[str, tuple[int, int]]]) -> None:
    ranges, have = sack_ranges(), set()
    for op, (start, end) in steps:
        if op == "add":
            ranges.add(start, end)
            have |= set(range(start, end))
        elif op == "gaps":
            found = ranges.gaps(start, end)
            assert all(a < b for a, b in found)
            assert {n for a, b in found for n in range(a, b)} == set(range(start, end)) - have
            assert sum(b - a for a, b in found) == len(set(range(start, end)) - have)
        else:
            ranges.forget(start)
            kept = {n for a, b in pairs(ranges) for n in range(a, b)}
            assert {n for n in have if n >= start} <= kept <= have
            assert all(b > start for a, b in pairs(ranges))
            have = kept
        assert ranges.edges == sorted(set(ranges.edges)), "disjoint, apart and in order"
    assert {n for a, b in pairs(ranges) for n in range(a, b)} == have


def pairs(ranges: sack_ranges) -> list[tuple[int, int]]:
    return list(zip(ranges.edges[::2], ranges.edges[1::2], strict=True))


# --- against the full scan ----------------------------------------------------------------


def scan_for_loss(sk: Any) -> tuple[list[Any], int]:
    """What RACK marks, by looking at every member in sequence order (RFC 8985 6.2)."""
    marked, timeout = [], 0
    reo_wnd = tcp_rack_reo_wnd(sk)
    for skb in sk.tcp_rtx_queue:
        sacked = skb.sacked
        if sacked & TCPCB_SACKED_ACKED:
            continue
        if sacked & TCPCB_LOST and not sacked & TCPCB_SACKED_RETRANS:
            continue
        if not tcp_skb_sent_after(sk.rack_mstamp, skb.tx_tstamp_ns, sk.rack_end_seq, skb.end_seq):
            if not sacked & TCPCB_EVER_RETRANS:
                break
            continue
        remaining = tcp_rack_skb_timeout(sk, skb, reo_wnd)
        if remaining <= 0:
            marked.append(skb)
        else:
            timeout = max(timeout, remaining)
    return marked, timeout


def scan_for_sacks(sk: Any, blocks: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """The ranges from SND.UNA that are SACKed once all members were looked at.

    A super-packet that a block covers in part counts up to a border of its segments.
    """
    una = sk.snd_una
    parts = [
        [
            s32(skb.seq - una),
            s32(skb.end_seq - una),
            skb.tcp_gso_size,
            skb.tcp_gso_segs,
            bool(skb.sacked & TCPCB_SACKED_ACKED),
        ]
        for skb in sk.tcp_rtx_queue
    ]
    used = [b for b in blocks if tcp_is_sackblock_valid(sk, False, *b)]
    used.sort(key=lambda b: (b[0] - una) & M32)
    for start, end in ((s32(a - una), s32(b - una)) for a, b in used):
        i = 0
        while i < len(parts):
            seq, stop, mss, segs, sacked = parts[i]
            i += 1
            if sacked or stop <= max(start, 0) or seq >= end:
                continue
            if start <= seq and stop <= end:
                parts[i - 1][4] = True
            elif segs > 1:
                if start <= seq:
                    length = (end - seq) // mss * mss
                    if not length or length >= stop - seq:
                        continue
                else:
                    length = -(-(start - seq) // mss) * mss
                    if length >= stop - seq:
                        continue
                first = [seq, seq + length, mss, -(-length // mss), start <= seq]
                rest = stop - seq - length
                parts[i - 1 : i] = [first, [seq + length, stop, mss, -(-rest // mss), False]]
    return joined([(seq, stop) for seq, stop, _, _, sacked in parts if sacked])


def marks(sk: Any) -> list[tuple[int, int]]:
    """The ranges that are SACKed, in the same terms."""
    una = sk.snd_una
    return joined(
        [
            (s32(skb.seq - una), s32(skb.end_seq - una))
            for skb in sk.tcp_rtx_queue
            if skb.sacked & TCPCB_SACKED_ACKED
        ]
    )


def joined(parts: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """Ranges in order, with those joined that touch."""
    found: list[tuple[int, int]] = []
    for start, stop in parts:
        if found and found[-1][1] == start:
            found[-1] = found[-1][0], stop
        else:
            found.append((start, stop))
    return found


def check_lists(sk: Any) -> None:
    """Who is on which list, and in which order; the ranges are those of the marks."""
    queue = sk.tcp_rtx_queue
    flying, lost, ranges = [], [], sack_ranges()
    for skb in queue:
        flags = skb.sacked & (TCPCB_SACKED_ACKED | TCPCB_LOST | TCPCB_SACKED_RETRANS)
        if flags & TCPCB_SACKED_ACKED:
            at = sk.bytes_acked + s32(skb.seq - sk.snd_una)
            ranges.add(at, at + ((skb.end_seq - skb.seq) & M32))
        elif flags == TCPCB_LOST:
            lost.append(skb)
        else:
            flying.append(skb)
    una = sk.snd_una
    flying.sort(key=lambda skb: (skb.tx_tstamp_ns, (skb.end_seq - una) & M32))
    assert queue.lost_list() == lost
    assert queue.sent_list() == flying
    queue.depth()
    if sk.rx_opt.sack_ok:
        sk.sacked_ranges.forget(sk.bytes_acked)
        if sk.sacked_out:
            assert sk.sacked_ranges.edges == ranges.edges


@contextlib.contextmanager
def watched(checked: dict[str, int]) -> Iterator[None]:
    """Compare every detection of losses, every set of SACK blocks and the lists at every ACK."""
    detect, tag, ack = (
        tcp_recovery.tcp_rack_detect_loss,
        tcp_ack.tcp_sacktag_write_queue,
        tcp_input.tcp_ack,
    )

    def detecting(sk: Any) -> int:
        expected, timeout = scan_for_loss(sk)
        lost = {skb for skb in sk.tcp_rtx_queue if skb.sacked & TCPCB_LOST}
        resent = {skb for skb in lost if skb.sacked & TCPCB_SACKED_RETRANS}
        assert detect(sk) == timeout
        now = {skb for skb in sk.tcp_rtx_queue if skb.sacked & TCPCB_LOST}
        again = {skb for skb in resent if not skb.sacked & TCPCB_SACKED_RETRANS}
        assert (now - lost) | again == set(expected)
        checked["loss"] += len(expected)
        return timeout

    def tagging(sk: Any, skb: Any, prior: int, state: Any) -> int:
        blocks = tcp_parse_sack_blocks(sk.net, skb)
        # Blocks of an ACK from long ago, or after everything was acknowledged, count for nothing.
        usable = sk.packets_out and not before(skb.ack_seq, (prior - sk.max_window) & M32)
        expected = scan_for_sacks(sk, blocks) if usable else None
        flag = tag(sk, skb, prior, state)
        if expected is not None:
            assert marks(sk) == expected
            checked["sack"] += 1
        return flag

    def acking(sk: Any, skb: Any, flag: int) -> int:
        result = ack(sk, skb, flag)
        check_lists(sk)
        checked["ack"] += 1
        return result

    tcp_recovery.tcp_rack_detect_loss = tcp_ack.tcp_rack_detect_loss = detecting
    tcp_ack.tcp_sacktag_write_queue = tagging
    tcp_input.tcp_ack = acking
    try:
        yield
    finally:
        tcp_recovery.tcp_rack_detect_loss = tcp_ack.tcp_rack_detect_loss = detect
        tcp_ack.tcp_sacktag_write_queue = tag
        tcp_input.tcp_ack = ack


@pytest.mark.uncompiled
@settings(max_examples=examples(25), deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    seed=st.integers(0, 1 << 30),
    loss=st.sampled_from([0.01, 0.05, 0.2]),
    reorder=st.sampled_from([0.0, 0.05, 0.3]),
    duplicate=st.sampled_from([0.0, 0.05]),
    gso=st.booleans(),
    sack=st.sampled_from([1, 1, 1, 0]),
    probe=st.booleans(),
)
def test_marks_are_those_of_a_scan_of_the_whole_queue(
    seed: int, loss: float, reorder: float, duplicate: float, gso: bool, sack: int, probe: bool
) -> None:
    checked = {"loss": 0, "sack": 0, "ack": 0}
    with (
        watched(checked),
        TcpNet(
            seed=seed,
            loss=loss,
            reorder=reorder,
            duplicate=duplicate,
            gso=gso,
            latency_ns=10 * MS,
            sysctl={"tcp_sack": sack, "tcp_early_retrans": 3 if probe else 0},
        ) as net,
    ):
        net.keep_log = False
        client, server = net.pair()
        data = random.Random(seed).randbytes(150_000)
        assert transfer(net, client, server, data) == data
        net.loss = net.reorder = net.duplicate = 0
    assert checked["ack"] > 5


@pytest.mark.uncompiled
def test_what_the_comparison_compares_happens() -> None:
    """With this wire there are losses, lost retransmissions, SACKs and undone reductions."""
    checked = {"loss": 0, "sack": 0, "ack": 0}
    with (
        watched(checked),
        TcpNet(seed=5, loss=0.05, reorder=0.1, latency_ns=10 * MS, gso=False) as net,
    ):
        net.keep_log = False
        client, server = net.pair()
        assert len(transfer(net, client, server, bytes(2_000_000))) == 2_000_000
        linux = net.a.mib.linux
        assert linux.TCPLostRetransmit > 0
        assert linux.TCPFullUndo + linux.TCPPartialUndo + linux.TCPDSACKUndo + linux.TCPLossUndo > 0
        client.close()
        server.close()
        net.loss = 0
        net.run(400 * S)
    assert checked["loss"] > 50
    assert checked["sack"] > 100


# --- what an ACK costs --------------------------------------------------------------------


class Flight:
    """`n` segments of 100 bytes from A, none of them delivered; ACKs made by hand."""

    def __init__(self, n: int) -> None:
        big = (4096, 1 << 26, 1 << 26)
        self.net = TcpNet(
            gso=False,
            latency_ns=2 * S,
            ram_bytes=1 << 29,
            sysctl={
                "tcp_timestamps": 0,
                "tcp_wmem": big,
                "tcp_rmem": big,
                "tcp_early_retrans": 0,
                "tcp_slow_start_after_idle": 0,
            },
        )
        self.net.keep_log = False
        self.client, self.server = self.net.pair()
        sk = self.sk = self.client.sk
        self.net.filter = lambda segment: False
        sk.snd_cwnd, sk.snd_wnd, sk.mss_cache = 1 << 20, 1 << 26, 100
        self.client.setsockopt(opt.TCP_NODELAY, 1)
        self.first = sk.snd_una
        for _ in range(n):
            self.client.send(bytes(100))
            self.net.run(1000)
        assert (sk.packets_out, sk.tcp_rtx_queue.qlen) == (n, n)
        self.lines = 0

    def seq(self, i: int) -> int:
        return (self.first + 100 * i) & M32

    def ack(self, *blocks: tuple[int, int]) -> int:
        """SACK segments first ... last - 1 of each block; returns how many lines of stack ran."""
        value = b"".join(
            self.seq(a).to_bytes(4, "big") + self.seq(b).to_bytes(4, "big") for a, b in blocks
        )
        sk = self.sk
        packet = build_segment(
            B,
            sk.inet_dport,
            sk.inet_sport,
            sk.rcv_nxt,
            self.first,
            ACK,
            options=b"\1\1\5" + bytes((2 + len(value),)) + value,
        )
        self.lines = 0
        self.net.run(10_000)
        sys.settrace(self.enter)
        try:
            self.net.inject(packet)
            self.net.run(0)
        finally:
            sys.settrace(None)
        return self.lines

    def enter(self, frame: FrameType, event: str, arg: object) -> Any:
        return self.line if frame.f_code.co_filename.startswith(INET) else None

    def line(self, frame: FrameType, event: str, arg: object) -> Any:
        self.lines += event == "line"
        return self.line

    def close(self) -> None:
        for sock in (self.client, self.server):
            tcp_abort(sock.sk, errno.ECONNRESET)
            sock.close()
        self.net.close()


PATTERNS = {
    "the last block grows": lambda n, i: [(n - 2 - i, n)],
    "new blocks at both ends": lambda n, i: [
        (n - 2 - 2 * i, n - 1 - 2 * i) if i % 2 else (1 + 2 * i, 2 + 2 * i)
    ],
    "four blocks of many in turn": lambda n, i: [
        (at, at + 1) for at in sorted((i * k * 97 + k) % (n - 2) | 1 for k in range(1, 4))
    ],
}


@pytest.mark.slow
@pytest.mark.parametrize("name", PATTERNS)
def test_work_of_an_ack_does_not_grow_with_the_flight(name: str) -> None:
    """200 ACKs, with 500 and with 10,000 segments in flight. A segment may cost something once:
    when it is SACKed, when RACK passes it, when it is marked lost."""
    total = {}
    for n in (500, 10_000):
        flight = Flight(n)
        flight.sk.snd_cwnd = 1  # nothing is sent again, so that what is counted is the scoreboard
        spent = [flight.ack(*PATTERNS[name](n, i)) for i in range(200)]
        assert flight.sk.sacked_out
        check_lists(flight.sk)
        total[n] = sum(spent)
        flight.close()
    assert total[10_000] - total[500] < 120 * 9500, total
