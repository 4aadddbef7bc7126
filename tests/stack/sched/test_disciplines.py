"""Each discipline keeps its laws: what goes in comes out or is dropped, once, and is counted.

In virtual time, rates and delays are those that were asked for, within the bound beside each.
"""

from __future__ import annotations

import statistics
import struct
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastpath.base.skbuff import consume_skb, skb_to_bytes
from stack.core.dev_queue import dev_queue_xmit
from stack.sched.sch_generic import TC_H_ROOT, Qdisc
from stack.sched.sch_kinds import QDISCS, qdisc_create
from tests.stack.core.wire import assert_no_leak, frame_skb, wired_pair
from tests.support import examples

PERCENT = 0xFFFFFFFF // 100
MSEC = 1_000_000
CONSERVING: dict[str, dict[str, Any] | None] = {
    "pfifo": {"limit": 20},
    "bfifo": {"limit": 5000},
    "pfifo_head_drop": {"limit": 20},
    "pfifo_fast": None,
    "prio": {"bands": 3},
}
"""Those that give a packet whenever they have one."""
HOLDING: dict[str, dict[str, Any]] = {
    "tbf": {"rate": 1_000_000, "burst": 2000, "limit": 9000},
    "htb": {"defcls": 0},
    "netem": {"latency64": MSEC, "limit": 20, "loss": 10 * PERCENT, "duplicate": 10 * PERCENT},
}
FLOWS = st.lists(
    st.tuples(st.sampled_from("iiiod"), st.integers(0, 7), st.integers(1, 1400)), max_size=120
)
"""(i)n, (o)ut or (d)elay; a flow; bytes."""


class Bench:
    """A discipline on a device of its own, and what went in and came out."""

    def __init__(self, kind: str, opt: dict[str, Any] | None) -> None:
        self.clock, self.a, self.b, self.wire, _ = wired_pair()
        self.q: Qdisc = qdisc_create(self.wire.dev, kind, TC_H_ROOT, 0x10000, opt)
        self.sent: dict[int, list[int]] = {}
        self.count = 0
        self.out: dict[int, list[int]] = {}
        self.left = 0
        self.left_bytes = 0

    def put(self, flow: int, size: int) -> None:
        skb = frame_skb(self.wire, struct.pack("=II", flow, self.count) + bytes(size))
        skb.priority = flow
        self.q.enqueue(skb)
        self.count += 1

    def get(self) -> bool:
        skb = self.q.dequeue()
        if skb is None:
            return False
        flow, number = struct.unpack_from("=II", skb_to_bytes(skb), 14)
        self.out.setdefault(flow, []).append(number)
        self.left += 1
        self.left_bytes += skb.len
        consume_skb(skb)
        return True

    def drain(self) -> None:
        """Until nothing is left, as time passes."""
        while self.q.qlen:
            if not self.get():
                self.clock.run_for(MSEC)

    def close(self) -> None:
        self.q.destroy()
        assert (self.q.qlen, self.q.qstats.backlog) == (0, 0)
        assert_no_leak(self.a, self.b)


@pytest.mark.parametrize("kind", [*CONSERVING, *HOLDING])
@settings(max_examples=examples(40), deadline=None)
@given(steps=FLOWS)
def test_nothing_is_lost_or_made_uncounted(kind: str, steps: list[tuple[str, int, int]]) -> None:
    bench = Bench(kind, {**CONSERVING, **HOLDING}[kind])
    q = bench.q
    for what, flow, size in steps:
        if what == "i":
            bench.put(flow, size)
        elif what == "o":
            had = q.qlen
            assert bench.get() or not had or kind in HOLDING
        else:
            bench.clock.run_for(MSEC)
        made = bench.left + q.qlen + q.qstats.drops - bench.count
        assert made == 0 or (kind == "netem" and made > 0)
        assert (q.qstats.backlog == 0) == (q.qlen == 0) or kind == "pfifo_fast"
    bench.drain()
    q.update_stats()
    assert (q.qlen, q.qstats.backlog) == (0, 0)
    if kind != "pfifo_fast":  # whose numbers are the device's
        assert (q.bstats.packets, q.bstats.bytes) == (bench.left, bench.left_bytes)
    for numbers in bench.out.values():
        assert numbers == sorted(numbers)  # a flow keeps its order
    bench.close()


@pytest.fixture
def wired() -> Iterator[tuple[Any, Any, Any]]:
    clock, a, b, wire, _ = wired_pair()
    times: list[tuple[int, bytes]] = []
    real = wire.start_xmit

    def start_xmit(skb: Any, dev: Any) -> int:
        times.append((clock.now_ns(), skb_to_bytes(skb)))
        return real(skb, dev)

    wire.dev.netdev_ops.ndo_start_xmit = start_xmit
    yield a, wire, times
    a.qdisc_del("eth0")
    assert_no_leak(a, b)


def send(
    host: Any, wire: Any, count: int, size: int = 1000, gap_ns: int = 0, priority: int = 0
) -> None:
    """`count` frames of `size` bytes, one each `gap_ns`."""
    for n in range(count):
        skb = frame_skb(wire, struct.pack("=I", n) + bytes(size - 18))
        skb.priority = priority
        dev_queue_xmit(skb)
        if gap_ns:
            host.clock.run_for(gap_ns)


def test_a_token_bucket_sends_at_its_rate(wired: tuple[Any, Any, Any]) -> None:
    host, wire, times = wired
    host.qdisc_add("eth0", "tbf", rate=125_000, burst=5000, limit=100_000)
    send(host, wire, 100)
    host.clock.run_until_idle()
    assert len(times) == 100
    assert times[-1][0] == pytest.approx((100 - 5) * 8 * MSEC, abs=8 * MSEC)  # a packet's time
    assert host.qdisc_show("eth0")[0]["bytes"] == 100_000


def test_a_peak_rate_spreads_the_burst(wired: tuple[Any, Any, Any]) -> None:
    host, wire, times = wired
    host.qdisc_add(
        "eth0", "tbf", rate=125_000, burst=50_000, limit=100_000, peakrate=1_000_000, pburst=1514
    )
    send(host, wire, 40)
    host.clock.run_until_idle()
    assert times[39][0] == pytest.approx(39 * MSEC, abs=MSEC)


@pytest.mark.parametrize("table", ["", "normal", "pareto"])
def test_delays_are_of_their_distribution(wired: tuple[Any, Any, Any], table: str) -> None:
    host, wire, times = wired
    opt: dict[str, Any] = {}
    file = Path("/usr/lib/x86_64-linux-gnu/tc") / f"{table}.dist"
    if table:
        if not file.exists():
            pytest.skip(f"{file} is iproute2's; it is not there")
        lines = [line for line in file.read_text().splitlines() if not line.startswith("#")]
        opt["delay_dist"] = tuple(int(word) for line in lines for word in line.split())
    host.qdisc_add("eth0", "netem", latency64=10 * MSEC, jitter64=2 * MSEC, **opt)
    send(host, wire, 2000, gap_ns=50 * MSEC)
    host.clock.run_until_idle()
    found = [at - 50 * MSEC * n for n, (at, _) in enumerate(times)]
    # a uniform distribution has 1/sqrt(3) of its half width, the tables a deviation of 1
    deviation = 2 * MSEC / (1 if table else 3**0.5)
    assert statistics.fmean(found) == pytest.approx(10 * MSEC, abs=4 * deviation / 2000**0.5)
    assert statistics.stdev(found) == pytest.approx(deviation, rel=0.25 if table else 0.05)
    if not table:
        assert 8 * MSEC <= min(found) < max(found) <= 12 * MSEC


@pytest.mark.parametrize(
    ("opt", "share"),
    [
        ({"loss": 0.1}, 0.1),
        ({"loss": 0.1, "loss_corr": 0.25}, None),
        ({"p": 0.02, "r": 0.2, "h": 0.0, "k1": 0.0}, 0.02 / 0.22),
        ({"p": 0.1, "r": 0.3, "h": 0.5, "k1": 0.01}, 0.25 * 0.5 + 0.75 * 0.01),
        ({"p13": 0.05, "p31": 0.25, "p32": 0.0, "p14": 0.0, "p23": 1.0}, 0.05 / 0.30),
    ],
)
def test_losses_are_as_many_as_the_model_says(
    wired: tuple[Any, Any, Any], opt: dict[str, float], share: float | None
) -> None:
    host, wire, times = wired
    host.qdisc_add("eth0", "netem", limit=10_000, **opt)
    send(host, wire, 5000, size=60)
    host.clock.run_until_idle()
    lost = 1 - len(times) / 5000
    assert host.qdisc_show("eth0")[0]["drops"] == 5000 - len(times)
    if share is not None:
        assert lost == pytest.approx(share, abs=0.02)
    else:
        assert 0 < lost < 0.1  # correlation takes away the extremes


def test_duplicates_corruption_and_reordering(wired: tuple[Any, Any, Any]) -> None:
    host, wire, times = wired
    host.qdisc_add("eth0", "netem", duplicate=0.25, limit=9000)
    send(host, wire, 1000)
    seen = Counter(frame[14:18] for _, frame in times)
    assert set(seen.values()) == {1, 2}
    assert len(times) == pytest.approx(1250, abs=60)
    times.clear()
    host.qdisc_add("eth0", "netem", corrupt=0.5)
    send(host, wire, 1000)
    plain = {n: struct.pack("=I", n) + bytes(982) for n in range(1000)}
    wrong = [
        int.from_bytes(frame[14:], "big") ^ int.from_bytes(plain[n], "big")
        for n, (_, frame) in enumerate(times)
    ]
    assert {bits.bit_count() for bits in wrong} <= {0, 1}
    assert sum(map(bool, wrong)) == pytest.approx(500, abs=80)
    times.clear()
    host.qdisc_add("eth0", "netem", latency64=10 * MSEC, gap=5, reorder=1.0)
    send(host, wire, 50, gap_ns=MSEC // 10)
    host.clock.run_until_idle()
    numbers = [struct.unpack("=I", frame[14:18])[0] for _, frame in times]
    assert sorted(numbers) == list(range(50))
    assert numbers[:10] == [4, 9, 14, 19, 24, 29, 34, 39, 44, 49]


def test_the_rate_of_a_network_and_its_slots(wired: tuple[Any, Any, Any]) -> None:
    host, wire, times = wired
    host.qdisc_add("eth0", "netem", rate=1_000_000, latency64=5 * MSEC)
    send(host, wire, 20)
    host.clock.run_until_idle()
    assert [at for at, _ in times] == [5 * MSEC + (n + 1) * MSEC for n in range(20)] or [
        at for at, _ in times
    ] == [6 * MSEC + n * MSEC for n in range(20)]
    times.clear()
    start = host.clock.now_ns()
    host.qdisc_del("eth0")
    host.qdisc_add("eth0", "netem", min_delay=10 * MSEC, max_delay=10 * MSEC, max_packets=4)
    send(host, wire, 12)
    host.clock.run_until_idle()
    bursts = Counter((at - start) // MSEC for at, _ in times)
    assert list(bursts.values()) == [4, 4, 4]


def test_the_same_seed_is_the_same_network() -> None:
    def run() -> list[int]:
        clock, a, b, wire, _ = wired_pair()
        a.qdisc_add("eth0", "netem", jitter64=MSEC, latency64=2 * MSEC, loss=0.2, prng_seed=7)
        send(a, wire, 100, gap_ns=MSEC)
        clock.run_until_idle()
        a.qdisc_del("eth0")
        assert_no_leak(a, b)
        return [frame[14] for frame in wire.sent]

    assert run() == run()


def test_classes_share_what_is_left_by_quantum(wired: tuple[Any, Any, Any]) -> None:
    host, wire, times = wired
    host.qdisc_add("eth0", "htb", handle="1:", defcls=0x20)
    host.class_add("eth0", "1:1", rate=1_000_000, ceil=1_000_000)
    host.class_add("eth0", "1:10", parent="1:1", rate=200_000, ceil=1_000_000, quantum=4000)
    host.class_add("eth0", "1:20", parent="1:1", rate=100_000, ceil=1_000_000, quantum=1000)
    host.class_add("eth0", "1:30", parent="1:1", rate=100_000, ceil=150_000, quantum=1000)
    for minor, count in ((0x10, 900), (0x20, 900), (0x30, 900)):
        send(host, wire, count, size=1000 + minor, priority=0x10000 | minor)
    start = host.clock.now_ns()
    host.clock.run_for(1_000 * MSEC)
    sizes = Counter(len(frame) for at, frame in times if at <= start + 1_000 * MSEC)
    shares = {size - 1000: count * size for size, count in sizes.items()}
    assert sum(shares.values()) == pytest.approx(1_000_000, rel=0.02)
    assert shares[0x30] == pytest.approx(150_000, rel=0.05)  # its ceiling
    # of the 600,000 bytes/s that nobody is sure of, 1:30 takes 50,000, the rest goes four to one
    assert shares[0x10] == pytest.approx(200_000 + 550_000 * 4 / 5, rel=0.05)
    assert shares[0x20] == pytest.approx(100_000 + 550_000 / 5, rel=0.05)
    host.clock.run_until_idle()
    assert len(times) == 2700


def test_a_higher_band_goes_first(wired: tuple[Any, Any, Any]) -> None:
    host, wire, times = wired
    host.qdisc_add("eth0", "prio", handle="1:", bands=3)
    host.qdisc_add("eth0", "tbf", parent="1:2", rate=125_000, burst=1514, limit=100_000)
    send(host, wire, 10, priority=0x10002)  # the band that waits for tokens
    send(host, wire, 10, size=600, priority=0x10003)
    send(host, wire, 10, size=500, priority=0x10001)
    host.clock.run_until_idle()
    assert [len(frame) for _, frame in times][:21] == [1000, *[600] * 10, *[500] * 10]
    assert [at for at, _ in times][20] == 0  # nobody waits for the band that waits
    assert len(times) == 30


def test_every_kind_is_tried() -> None:
    assert {*CONSERVING, *HOLDING, "noqueue"} == set(QDISCS)
