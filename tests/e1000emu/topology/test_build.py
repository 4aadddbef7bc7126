"""Built topologies: neighbours reach each other, runs repeat, a part is equal to the whole."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from e1000emu.cli.pinger import Pinger
from e1000emu.clock import VirtualClock
from e1000emu.errors import ArgumentError
from e1000emu.links import pool
from e1000emu.links.base import BaseLink
from e1000emu.topology import Flat, FlatLink, Link, Node, Topology, TopologyLab, build
from fastpath.base.batch import FrameBatch
from stack.socket import AF_INET, SOCK_DGRAM, Socket

SECOND_NS = 1_000_000_000

TWO = Topology(
    seed=3,
    nodes={
        "a": Node(addresses={"eth0": "10.0.0.1/24"}, routes=["default via 10.0.0.2"]),
        "r": Node(kind="router", addresses={"eth0": "10.0.0.2/24", "eth1": "10.0.1.2/24"}),
        "b": Node(addresses={"eth0": "10.0.1.1/24"}, routes=["default via 10.0.1.2"]),
        "s": Node(kind="switch"),
    },
    links=[
        Link(endpoints=["a", "s"], delay="3ms", loss="2%"),
        Link(endpoints=["s", "r:eth0"], delay="2ms", jitter="100us"),
        Link(endpoints=["r:eth1", "b"], delay="1ms", rate="10M", mtu=1400),
    ],
)


def talk(
    lab: TopologyLab, source: str, to: str, count: int, run_for: Callable[[int], None]
) -> None:
    """Send datagrams that come back as ICMP errors, as nobody listens; run until they have."""
    with Socket(lab[source], AF_INET, SOCK_DGRAM) as sock:
        for _ in range(count):
            sock.sendto(bytes(100), (to, 7))
            run_for(SECOND_NS // 50)


def answers(lab: TopologyLab, name: str, to: str) -> bool:
    """Whether one of three pings is answered."""
    pinger = Pinger(lab[name], to)
    found = any(pinger.ping(1.0) is not None for _ in range(3))
    pinger.close()
    return found


def test_router_switch_impairments_and_mtu() -> None:
    with build(TWO.flat()) as lab:
        assert lab.ready()
        assert answers(lab, "a", "10.0.1.1")
        talk(lab, "a", "10.0.1.1", 100, lab.clock.run_for)
        assert lab.drops()["link: loss"] > 0
        assert lab["b"].dev("eth0").mtu == 1400
        assert lab["r"].dev("eth1").mtu == 1400
        assert lab["r"].dev("eth0").mtu == 1500
        assert lab.switches["s"].stats is not None
        assert set(lab.digest()) == {"a", "b", "r"}


class CutEnd(BaseLink):
    """An end of a link whose other end is on another clock."""

    def __init__(self, clock: VirtualClock, delay_ns: int) -> None:
        super().__init__(clock)
        self._carrier = True
        self.delay_ns = delay_ns
        self.sent: list[tuple[int, list[bytes]]] = []

    def transmit(self, batch: FrameBatch) -> None:
        self.sent.append((self.clock.now_ns() + self.delay_ns, list(batch)))
        pool.put(batch)

    def arrive(self, when_ns: int, frames: list[bytes]) -> None:
        def deliver() -> None:
            assert self.port is not None
            assert self.port.receive(FrameBatch(frames), 0, False) == len(frames)

        self.clock.call_at(when_ns, deliver)


def test_a_part_is_equal_to_the_whole() -> None:
    """The whole, and two parts that exchange frames every two milliseconds, the link's delay."""
    flat = TWO.flat()
    with build(flat, wait=False) as whole:
        whole.clock.run_until(2 * SECOND_NS)
        talk(whole, "a", "10.0.1.1", 20, whole.clock.run_for)
        expected = whole.digest()
    ends: list[CutEnd] = []
    asked: list[tuple[int, int]] = []
    clocks = VirtualClock(), VirtualClock()

    def cut(link: FlatLink, side: int) -> CutEnd:
        asked.append((link.number, side))
        ends.append(CutEnd(clocks[side], link.delay_ns))
        return ends[-1]

    def run_until(when_ns: int) -> None:
        now, step = clocks[0].now_ns(), ends[0].delay_ns
        for window in range(now + step, when_ns + 1, step):
            for clock in clocks:
                clock.run_until(window)
            for end, other in ((ends[0], ends[1]), (ends[1], ends[0])):
                for when, frames in end.sent:
                    other.arrive(when, frames)
                end.sent.clear()

    with (
        build(flat, clocks[0], nodes={"a", "s"}, cut=cut, wait=False) as one,
        build(flat, clocks[1], nodes={"r", "b"}, cut=cut, wait=False) as other,
    ):
        assert clocks[0].now_ns() == clocks[1].now_ns()
        run_until(2 * SECOND_NS)
        assert one.ready()
        talk(one, "a", "10.0.1.1", 20, lambda ns: run_until(clocks[0].now_ns() + ns))
        assert one.digest() | other.digest() == expected
    assert asked == [(1, 0), (1, 1)]


def test_all_hosts_boot_at_once() -> None:
    """However many there are."""

    def booted(count: int) -> tuple[int, int]:
        host = Node(count=count, addresses={"eth0": "10.0.0.1/16"})
        made = Topology(
            nodes={"h": host, "s": Node(kind="switch")}, links=[Link(endpoints=["h*", "s"])]
        )
        with build(made.flat(), wait=False) as lab:
            began = lab.clock.now_ns()
            assert lab["h1"].wait_carrier("eth0")
            return began, lab.clock.now_ns()

    assert booted(2) == booted(40)


def test_a_part_needs_a_cut_and_known_nodes() -> None:
    flat = TWO.flat()
    with pytest.raises(ArgumentError, match=r"link 1, s:eth1-r:eth0: one end .* give cut="):
        build(flat, nodes=["r", "b"])
    with pytest.raises(ArgumentError, match="nodes has 'x'"):
        build(flat, nodes=["x"])
    with pytest.raises(ArgumentError, match="flat=Topology"):
        build(TWO)  # type: ignore[arg-type]


@st.composite
def topologies(draw: st.DrawFn) -> Topology:
    """A tree of switches with hosts, chained by routers."""
    nodes: dict[str, Node] = {}
    links: list[Link] = []
    lans = draw(st.integers(1, 3))

    def link(a: str, b: str) -> None:
        delay = draw(st.sampled_from([0, "10us", "1ms"]))
        rate = draw(st.sampled_from([None, "100M"]))
        links.append(Link(endpoints=[a, b], delay=delay, rate=rate))

    for lan in range(lans):
        hosts, switches = draw(st.integers(2, 4)), draw(st.integers(1, 3))
        nodes[f"h{lan}-"] = Node(
            count=hosts,
            nic=draw(st.sampled_from(["82540EM", "none"])),
            addresses={"eth0": f"10.0.{lan}.1/24"},
            routes=[f"default via 10.0.{lan}.254"],
        )
        nodes[f"s{lan}-"] = Node(kind="switch", count=switches)
        for number in range(2, switches + 1):
            link(f"s{lan}-{number}", f"s{lan}-{draw(st.integers(1, number - 1))}")
        for number in range(1, hosts + 1):
            link(f"h{lan}-{number}", f"s{lan}-{draw(st.integers(1, switches))}")
    addresses = {f"eth{lan}": f"10.0.{lan}.254/24" for lan in range(lans)}
    nodes["r"] = Node(kind="router", addresses=addresses)
    for lan in range(lans):
        link(f"r:eth{lan}", f"s{lan}-1")
    return Topology(seed=draw(st.integers(0, 99)), nodes=nodes, links=links)


def pinged(flat: Flat) -> tuple[dict[str, str], int]:
    """Let each host ping the next one; return digest and time."""
    with build(flat) as lab:
        hosts = [node for node in flat.nodes.values() if node.kind == "host"]
        for one, other in pairwise(hosts):
            to = other.addresses["eth0"][0].partition("/")[0]
            assert answers(lab, one.name, to), (one.name, to)
        return lab.digest(), lab.clock.now_ns()


@pytest.mark.slow
@settings(max_examples=8)
@given(topologies())
def test_in_random_topologies_neighbours_answer_and_runs_repeat(topology: Topology) -> None:
    flat = topology.flat()
    assert pinged(flat) == pinged(flat)
