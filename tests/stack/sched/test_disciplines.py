"""Each discipline keeps its laws: what goes in comes out or is dropped, once, and is counted.

In virtual time, rates and delays are those that were asked for, within the bound beside each.
"""

from __future__ import annotations

import contextlib
import statistics
import struct
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scapy.layers.inet import IP
from scapy.layers.inet6 import IPv6

from e1000emu.clock import VirtualClock
from e1000emu.lab import two_hosts
from fastpath.base import skbuff
from fastpath.base.skbuff import consume_skb, skb_to_bytes
from stack.core.bsd_socket import sockfd_lookup
from stack.core.dev_queue import dev_queue_xmit
from stack.core.extack import netlink_ext_ack
from stack.core.inet_ecn import INET_ECN_set_ce
from stack.netlink.tc_attrs import CLASS_OPTIONS, CLASS_XSTATS, OPTIONS, XSTATS
from stack.sched.sch_generic import TC_H_ROOT, Qdisc
from stack.sched.sch_htb import htb_qdisc
from stack.sched.sch_kinds import QDISCS, qdisc_create
from tests.stack.core.wire import assert_no_leak, frame_skb, wired_pair
from tests.support import examples


def scapy_ip(frame: bytes) -> Any:
    """The packet behind the Ethernet header."""
    return (IP if frame[12:14] == b"\x08\x00" else IPv6)(frame[14:])


PERCENT = 0xFFFFFFFF // 100
MSEC = 1_000_000
CONSERVING: dict[str, dict[str, Any] | None] = {
    "pfifo": {"limit": 20},
    "bfifo": {"limit": 5000},
    "pfifo_head_drop": {"limit": 20},
    "pfifo_fast": None,
    "prio": {"bands": 3},
    "sfq": {"limit": 20, "flows": 5, "depth": 9},
    "red": {"limit": 9000, "qth_min": 2000, "qth_max": 6000, "Wlog": 2, "max_P": 1 << 30},
}
"""Those that give a packet whenever they have one."""
HOLDING: dict[str, dict[str, Any]] = {
    "tbf": {"rate": 1_000_000, "burst": 2000, "limit": 9000},
    "htb": {"defcls": 0},
    "codel": {"limit": 20, "target": 500, "interval": 3000},
    "fq_codel": {"limit": 20, "flows": 4, "quantum": 300, "target": 500, "interval": 3000},
    "fq": {"plimit": 20, "flow_plimit": 9, "quantum": 600, "flow_max_rate": 500_000},
    "etf": {"delta": 0, "clockid": 11, "flags": 4},
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


def ip_skb(wire: Any, sport: int, number: int, size: int, tos: int = 0) -> Any:
    """A UDP datagram over IPv4, `size` bytes of frame."""
    udp = struct.pack("!HHHH", sport, 9, size - 34, 0) + struct.pack("=Q", number)
    head = struct.pack("!BBHHHBBH8s", 0x45, tos, size - 14, 0, 0, 64, 17, 0, bytes(8))
    total = sum(struct.unpack("!10H", head))
    total = ~(total + (total >> 16)) & 0xFFFF
    payload = head[:10] + total.to_bytes(2, "big") + head[12:] + udp
    skb = frame_skb(wire, payload.ljust(size - 14, b"\0"), proto=0x0800)
    skb.network_header = skb.data_offset + 14
    skb.transport_header = skb.data_offset + 34
    return skb


def offered(wired: tuple[Any, Any, Any], tos: int = 0) -> list[int]:
    """How long packets have waited, ns, at a link of 1 Mbit/s that 1.05 Mbit/s are offered."""
    host, wire, times = wired
    start = host.clock.now_ns()
    for n in range(1600):
        dev_queue_xmit(ip_skb(wire, 5000, n, 1000, tos))
        host.clock.run_for(7_600_000)
    host.clock.run_until_idle()
    sent = [(at, struct.unpack_from("=Q", frame, 42)[0]) for at, frame in times]
    return [at - start - n * 7_600_000 for at, n in sent]


def bottleneck(host: Any, kind: str, **opt: Any) -> None:
    """A link of 1 Mbit/s, and what waits for it."""
    host.qdisc_add("eth0", "tbf", handle="1:", rate=125_000, burst=1514, limit=1 << 20)
    host.qdisc_add("eth0", kind, handle="2:", parent="1:1", **opt)


@pytest.mark.parametrize("kind", ["codel", "fq_codel"])
def test_controlled_delay_keeps_the_queue_short(wired: tuple[Any, Any, Any], kind: str) -> None:
    bottleneck(wired[0], "pfifo", limit=1000)
    assert offered(wired)[-1] > 500 * MSEC
    wired[2].clear()
    bottleneck(wired[0], kind, ecn=0)
    waited = offered(wired)
    assert statistics.fmean(waited[-400:]) < 40 * MSEC
    child = wired[0].qdisc_show("eth0")[1]
    assert child["kind"] == kind
    assert child["drops"] == 1600 - len(waited) > 0


def test_packets_that_take_marks_are_not_dropped(wired: tuple[Any, Any, Any]) -> None:
    bottleneck(wired[0], "codel", ecn=1)
    offered(wired, tos=2)
    frames = [frame for _, frame in wired[2]]
    marked = [frame for frame in frames if frame[15] & 3 == 3]
    told = wired[0].qdisc_show("eth0")[1]
    assert (len(frames), told["drops"]) == (1600, 0)
    assert len(marked) == told["ecn_mark"] > 10
    for frame in marked:
        total = sum(struct.unpack_from("!10H", frame, 14))
        assert (total & 0xFFFF) + (total >> 16) == 0xFFFF  # the header's checksum is right


@settings(max_examples=examples(60), deadline=None)
@given(tos=st.integers(0, 255), version=st.sampled_from([4, 6]))
def test_a_mark_changes_the_field_and_the_sum_only(tos: int, version: int) -> None:
    _, a, b, wire, _ = wired_pair()
    if version == 4:
        skb = ip_skb(wire, 1, 0, 100, tos)
    else:
        word = (6 << 28 | tos << 20 | 0x12345).to_bytes(4, "big")
        skb = frame_skb(wire, word + bytes(40), proto=0x86DD)
        skb.network_header = skb.data_offset + 14
    before = scapy_ip(skb_to_bytes(skb))
    took = INET_ECN_set_ce(skb)
    after = scapy_ip(skb_to_bytes(skb))
    consume_skb(skb)
    assert_no_leak(a, b)
    assert took == bool(tos & 3)
    assert (after.tos if version == 4 else after.tc) == (tos | 3 if took else tos)
    if version == 4:
        sent = after.chksum
        del after.chksum
        assert sent == IP(bytes(after)).chksum
        after.chksum, after.tos = before.chksum, before.tos
    else:
        after.tc = before.tc
    assert bytes(after) == bytes(before)


@pytest.mark.parametrize("kind", ["fq_codel", "sfq", "fq"])
def test_a_sparse_flow_does_not_wait_for_a_greedy_one(
    wired: tuple[Any, Any, Any], kind: str
) -> None:
    host, wire, times = wired
    bottleneck(host, kind, **({"initial_quantum": 3028} if kind == "fq" else {}))
    for n in range(100):
        for _ in range(5):
            dev_queue_xmit(ip_skb(wire, 5000, n, 1400))
        if n % 10 == 0:
            dev_queue_xmit(ip_skb(wire, 6000, n, 100))
        host.clock.run_for(20 * MSEC)
    sparse = [
        at - struct.unpack_from("=Q", frame, 42)[0] * 20 * MSEC
        for at, frame in times
        if frame[34:36] == (6000).to_bytes(2, "big")
    ]
    assert len(sparse) == 10
    assert max(sparse) < 40 * MSEC  # the packets on their way, and one of the other flow
    host.clock.run_until_idle()


def test_early_detection_drops_as_likely_as_the_queue_is_long() -> None:
    opt = {"limit": 60_000, "qth_min": 10_000, "qth_max": 30_000, "Wlog": 9, "max_P": 0.1}
    bench = Bench("red", {**opt, "max_P": round(0.1 * 2**32)})
    for level, share in ((9_000, 0.0), (20_000, 0.05), (29_000, 0.095)):
        while bench.q.qstats.backlog < level:
            bench.put(0, 978)
        bench.q.qavg = level << 9
        before, count = bench.q.qstats.drops, bench.count
        while bench.count < count + 3000:
            bench.put(0, 978)
            if bench.q.qstats.backlog > level:
                bench.get()
        # the distance between two drops is uniform between 1 and 1 / share
        lost = (bench.q.qstats.drops - before) / 3000
        assert lost == pytest.approx(2 * share / (1 + share), abs=0.02)
    bench.close()


def test_a_flow_has_its_rate(wired: tuple[Any, Any, Any]) -> None:
    host, wire, times = wired
    host.qdisc_add("eth0", "fq", flow_max_rate=125_000)
    send(host, wire, 20)
    send(host, wire, 1, size=70, priority=7)  # TC_PRIO_CONTROL
    host.clock.run_until_idle()
    assert [at for at, frame in times if len(frame) == 1000] == [8 * MSEC * n for n in range(20)]
    assert [at for at, frame in times if len(frame) == 70] == [0]


TCP_BYTES = 400_000


@pytest.mark.parametrize(
    ("kind", "opt"),
    [
        ("tbf", {"rate": 1_000_000, "burst": 3000, "limit": 200_000}),
        ("fq", {"flow_max_rate": 1_000_000}),
        ("netem", {"latency64": 10 * MSEC, "rate": 1_000_000}),
        ("netem", {"latency64": MSEC, "loss": 0.02, "duplicate": 0.02, "corrupt": 0.01}),
    ],
)
def test_super_packets_of_tcp_pass(kind: str, opt: dict[str, Any]) -> None:
    """The NIC cuts them up, tbf does where they are larger than its bucket."""
    clock = VirtualClock()
    with contextlib.closing(clock):
        a, b = two_hosts(clock)
        a.qdisc_add("eth0", kind, **opt)
        with b.socket(2, 1) as listener, a.socket(2, 1) as sender:
            listener.bind(("10.0.0.2", 80))
            listener.listen(1)
            sender.connect(("10.0.0.2", 80))
            start = clock.now_ns()
            receiver, _ = listener.accept()
            got = bytearray()

            def read() -> None:
                while len(got) < TCP_BYTES:
                    got.extend(receiver.recv(65536))

            reading = clock.spawn(read)
            sent = bytes(range(250)) * (TCP_BYTES // 250)
            sender.sendall(sent)
            reading.join()
            took = clock.now_ns() - start
            receiver.close()
        assert got == sent
        if "loss" not in opt:
            told = a.qdisc_show("eth0")[0]
            assert told["drops"] == 0
            assert told["bytes"] > TCP_BYTES + 54 * TCP_BYTES // 1460  # each segment's headers
            latency = 2 * opt.get("latency64", 0)
            want = TCP_BYTES * 1000 * 1.04 + latency
            last = 65536 * 1000 if kind == "fq" else 0  # fq waits behind a packet, not before it
            assert want * 0.95 - last < took < want * 1.05
        a.qdisc_del("eth0")
        clock.run_for(5000 * MSEC)
        assert (a.skb_small.in_use, a.skb_pages.in_use) == (0, 0)


def test_every_kind_is_tried() -> None:
    assert {*CONSERVING, *HOLDING, "noqueue", "blackhole", "ingress", "clsact"} == set(QDISCS)


@pytest.mark.parametrize(
    ("kind", "limit"), [("codel", "limit"), ("fq_codel", "limit"), ("fq", "plimit")]
)
def test_a_smaller_limit_drops_the_peeked_packet(kind: str, limit: str) -> None:
    bench = Bench(kind, None)
    for n in range(3):
        bench.put(n, 100)
    assert bench.q.peek() is not None
    bench.q.change({limit: 0})
    assert (bench.q.qlen, bench.q.qstats.drops, bench.q.qstats.backlog) == (0, 3, 0)
    bench.close()


def test_what_fq_codel_takes_at_the_start_only() -> None:
    bench = Bench("fq_codel", {"flows": 8, "quantum": 0})
    q: Any = bench.q
    assert (q.flows_cnt, q.quantum) == (8, 256)
    for opt in ({"flows": 8}, {"flows": 16}, {"quantum": (1 << 20) + 1}):
        with pytest.raises(OSError, match="Invalid"):
            q.change(opt)
    with pytest.raises(OSError, match="Invalid"):
        Bench("fq_codel", {"flows": 65537})
    bench.close()


def test_controlled_delay_counts_each_drop_of_a_full_queue() -> None:
    bench = Bench("fq_codel", {"limit": 10})
    q: Any = bench.q
    for _ in range(11):
        bench.put(0, 1000)
    (flow,) = q.flows.values()
    assert q.qstats.drops == flow.cvars.count == 6  # half of the queue
    bench.close()


def test_controlled_delay_ends_without_another_drop_time() -> None:
    bench = Bench("codel", {"target": 1000, "interval": 10_000, "ecn": 0})
    q: Any = bench.q
    for _ in range(9):
        bench.put(0, 1400)
    for wait in (5, 11, 1):  # above the target; for an interval: one is dropped
        bench.clock.run_for(wait * MSEC)
        assert bench.get()
    assert (q.vars.dropping, q.qstats.drops) == (True, 1)
    bench.clock.run_for(10 * MSEC)
    while q.qstats.backlog > 3 * 1514:
        q.queue.pop()
        q.qlen -= 1
        q.qstats.backlog -= 1422
    then = q.vars.drop_next
    assert bench.get()  # one is dropped, and the queue is short enough then
    assert (q.vars.dropping, q.qstats.drops, q.vars.drop_next) == (False, 2, then)
    bench.close()


def test_sfq_is_made_once() -> None:
    opt = {"limit": 20, "flows": 64, "divisor": 16}
    bench = Bench("sfq", opt)
    q: Any = bench.q
    assert (q.maxflows, q.limit, q.divisor) == (16, 20, 16)
    with pytest.raises(OSError, match="not supported"):
        q.change(opt)
    bench.close()
    bench = Bench("sfq", {"limit": 3, "flows": 64})
    assert bench.q.dump()["flows"] == 3  # type: ignore[index]
    bench.close()
    with pytest.raises(OSError, match="invalid limit"):
        Bench("sfq", {"limit": 9, "flows": 1, "depth": 1})


def test_red_refuses_what_it_cannot_do() -> None:
    opt: dict[str, Any] = {"limit": 60_000, "qth_min": 10_000, "qth_max": 30_000, "Wlog": 9}
    for wrong in ({"flags": 8}, {"stab": bytes(255) + b"\x20"}):
        with pytest.raises(OSError, match=r"Invalid|nodrop"):
            Bench("red", opt | wrong)
    bench = Bench("red", opt | {"flags": 9})
    q: Any = bench.q
    q.qavg = 99
    q.change(opt)
    assert q.qavg == 0
    bench.close()


def test_fq_tells_the_flows_of_an_unconnected_socket_apart() -> None:
    _, a, b, wire, _ = wired_pair(inet=True)
    q: Any = qdisc_create(wire.dev, "fq", TC_H_ROOT, 0x10000, None)
    with a.socket(2, 2) as one, a.socket(2, 2) as two:
        two.connect(("127.0.0.1", 9))
        for sock, flows in ((one, 3), (two, 4)):
            for port in (1, 2, 3):
                skb = ip_skb(wire, port, 0, 100)
                skb.sk = sockfd_lookup(a, sock._fd).sk
                q.enqueue(skb)
                skb.sk = None
            assert len(q.flows) == flows
    q.destroy()
    assert_no_leak(a, b)


def super_packet(wire: Any, segments: int) -> Any:
    """A packet of TCP over IPv4 with `segments` of 1000 bytes."""
    tcp = struct.pack("!HHIIHHHH", 1, 2, 0, 0, 0x5010, 0, 0, 0)
    head = bytes(IP(src="10.0.0.1", dst="10.0.0.2", proto=6, len=40 + 1000 * segments))
    skb = frame_skb(wire, head + tcp + bytes(1000 * segments), proto=0x0800)
    skb.network_header = skb.data_offset + 14
    skb.transport_header = skb.data_offset + 34
    skb.protocol = 0x0800
    skb.gso_size, skb.gso_segs, skb.gso_type = 1000, segments, skbuff.SKB_GSO_TCPV4
    skb.ip_summed = skbuff.CHECKSUM_PARTIAL
    skb.csum_start, skb.csum_offset = skb.transport_header, 16
    return skb


def test_a_bucket_smaller_than_a_header_drops_super_packets() -> None:
    bench = Bench("tbf", {"rate": 1000, "burst": 10, "limit": 9999})
    bench.q.enqueue(super_packet(bench.wire, 3))
    assert (bench.q.qlen, bench.q.qstats.drops) == (0, 1)
    bench.close()


def test_pieces_and_copies_are_counted_by_the_parents(wired: tuple[Any, Any, Any]) -> None:
    host, wire, times = wired
    host.qdisc_add("eth0", "prio", handle="1:", bands=3)
    netem = {"latency64": MSEC, "corrupt": 1.0, "duplicate": 1.0}
    host.qdisc_add("eth0", "netem", handle="2:", parent="1:1", **netem)
    root = wire.dev.qdisc
    skb = super_packet(wire, 3)
    skb.priority = 0x10001
    # the copy becomes three packets; of the other's three, the second and third are doubled
    dev_queue_xmit(skb)
    assert (root.qlen, root.qstats.backlog) == (8, 8 * 1054)
    assert root.queues[0].qlen == 8
    host.clock.run_until_idle()
    assert (root.qlen, root.qstats.backlog) == (0, 0)
    assert [len(frame) for _, frame in times] == [1054] * 8


def test_copies_have_a_fate_of_their_own(wired: tuple[Any, Any, Any]) -> None:
    host, wire, times = wired
    host.qdisc_add("eth0", "netem", duplicate=1.0, loss=0.5, limit=9000)
    send(host, wire, 1000)
    # half lose one of the two; of the rest, half the copies are lost
    assert len(times) == pytest.approx(1250, abs=70)


def test_copies_and_another_netem_are_refused(wired: tuple[Any, Any, Any]) -> None:
    """Each copy would come to the root and to the other one, which copies it again."""
    host, _, _ = wired
    host.qdisc_add("eth0", "netem", handle="1:", duplicate=0.1)
    with pytest.raises(OSError, match="mix duplicating"):
        host.qdisc_add("eth0", "netem", parent="1:1", latency64=MSEC)
    host.qdisc_add("eth0", "netem", handle="1:", latency64=MSEC)
    with pytest.raises(OSError, match="mix duplicating"):
        host.qdisc_add("eth0", "netem", parent="1:1", duplicate=0.1)
    host.qdisc_add("eth0", "netem", parent="1:1", latency64=MSEC)


def test_netem_takes_no_jitter_above_two_seconds() -> None:
    bench = Bench("netem", {"jitter64": -5 * MSEC})
    q: Any = bench.q
    assert q.p["jitter"] == 5 * MSEC
    q.change({"jitter64": 1 << 40})
    assert q.p["jitter"] == (1 << 31) - 1
    bench.close()


def test_a_default_discipline_leaves_with_its_bytes(wired: tuple[Any, Any, Any]) -> None:
    host, wire, _ = wired
    host.qdisc_add("eth0", "tbf", handle="1:", rate=1000, burst=1514, limit=100_000)
    host.qdisc_add("eth0", "pfifo_fast", handle="2:", parent="1:1")
    send(host, wire, 5)
    root = wire.dev.qdisc
    assert root.qlen > 2
    host.qdisc_add("eth0", "pfifo", handle="3:", parent="1:1", limit=5)
    assert (root.qlen, root.qstats.backlog) == (0, 0)


TABLES = st.sampled_from([b"", bytes(16), bytes(range(256)), bytes(16385)])
NUMBERS = st.sampled_from([0, 1, 2, 7, 255, 1000, 1 << 20, (1 << 31) - 1, 1 << 31, (1 << 32) - 1])


@settings(max_examples=examples(400), deadline=None)
@given(data=st.data())
def test_any_message_is_refused_or_told_again(data: st.DataObject) -> None:
    """Parameters of any value: an OSError, or a discipline that takes packets and tells its own."""
    kind = data.draw(st.sampled_from(sorted(OPTIONS)))
    options = OPTIONS[kind]
    opt: dict[str, Any] = {}
    for name in sorted(options.names):
        if data.draw(st.booleans()):
            opt[name] = data.draw(TABLES if name in options.tables else NUMBERS)
    try:
        message = options.build(opt)
    except struct.error:  # of fewer bits
        message = data.draw(st.binary(max_size=120))
    try:
        given_opt = options.parse(message)
        bench = Bench(kind, given_opt)
    except OSError:
        return
    try:
        for n in range(3):
            bench.put(n, 100 * n)
        bench.get()
        bench.clock.run_for(MSEC)
        bench.get()
        with contextlib.suppress(OSError):
            bench.q.change(given_opt)
            if isinstance(bench.q, htb_qdisc):
                drawn = data.draw(st.binary(min_size=48, max_size=48))
                classy = CLASS_OPTIONS["htb"].parse(struct.pack("=HH", 52, 1) + drawn)
                cl = bench.q.change_class(0x10001, TC_H_ROOT, classy, None, netlink_ext_ack())
                shown = bench.q.dump_class(cl)
                CLASS_OPTIONS["htb"].build(shown.opt or {})
                CLASS_XSTATS["htb"].put(shown.app or {})
                skb = ip_skb(bench.wire, 1, 1, 100)
                skb.priority = 0x10001
                bench.q.enqueue(skb)
                bench.get()
        told = bench.q.dump()
        app = bench.q.dump_stats()
        assert (app is None) == (kind not in XSTATS)
        if app is not None:
            XSTATS[kind].put(app)
        if told is not None:
            options.parse(options.build(told))
    finally:
        bench.close()
