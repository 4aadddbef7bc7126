"""STP with the kernel's bridge: what two bridges of the kernel decide, one of ours decides too.

An election takes the seconds that its timers have, in which nobody works. So all elections are held
at once (`elections`), and each test judges its own.
"""

from __future__ import annotations

import contextlib
import itertools
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from e1000emu.clock import RealClock
from e1000emu.links import Capture, Tap
from stack.bridge.br_private import BR_STATE_NAMES, net_bridge
from stack.host import Host
from stack.netlink.rt_kinds import br_fill_info, brport_fill
from tests.linux.peer import Peer, judged
from tests.stack.core.wire import QUIET6
from tests.support import Rig, eventually, kept, require

pytestmark = pytest.mark.netns

TIMES: dict[str, Any] = {"forward_delay": 2, "hello_time": 1, "max_age": 6}
SETTLED = {"forwarding", "blocking"}


@dataclass(frozen=True)
class Case:
    """Two bridges with two wires between them: priorities, and of each port cost and priority."""

    priorities: tuple[int, int]
    costs: tuple[tuple[int, int], tuple[int, int]] = ((10, 10), (10, 10))
    ports: tuple[tuple[int, int], tuple[int, int]] = ((32, 32), (32, 32))


CASES = {
    "the first is the root by its address": Case((0x8000, 0x8000)),
    "the second is the root by its priority": Case((0x8000, 0x7000)),
    "the cheaper port leads to the root": Case((0x1000, 0x8000), ((10, 10), (20, 19))),
    "the root's port of the lower priority leads there": Case(
        (0x1000, 0x8000), ports=((32, 31), (32, 32))
    ),
    "the root's port decides before one's own": Case((0x8000, 0x1000), ports=((1, 63), (32, 16))),
}


def mac(bridge: int, port: int) -> str:
    """The address of a port; the bridge has the lower one of its two."""
    return f"02:00:00:00:{bridge + 1:02x}:{port + 1:02x}"


def kernel_bridge(peer: Peer, case: Case, number: int, ports: list[str]) -> None:
    """Make bridge `number` of a case in the kernel."""
    words = [word for name, s in TIMES.items() for word in (name, str(s * 100))]
    name = f"br{number}"
    peer.ip("link", "add", name, "type", "bridge", *words, "mcast_snooping", "0")
    peer.ip("link", "set", name, "type", "bridge", "priority", str(case.priorities[number]))
    for port, end in enumerate(ports):
        peer.ip("link", "set", end, "address", mac(number, port))
        peer.ip("link", "set", end, "master", name)
        cost, priority = case.costs[number][port], case.ports[number][port]
        slave = ("cost", str(cost), "priority", str(priority))
        peer.ip("link", "set", end, "type", "bridge_slave", *slave)
    peer.ip("link", "set", name, "type", "bridge", "stp_state", "1")
    peer.ip("link", "set", name, "up")


def kernel_facts(peer: Peer, number: int, ports: list[str]) -> list[dict[str, Any]]:
    """What the kernel tells of a bridge and of its two ports."""
    found = []
    for name in (f"br{number}", *ports):
        (told,) = json.loads(peer.ip("-j", "-d", "link", "show", name))
        info = told["linkinfo"]
        found.append(info["info_data"] if name.startswith("br") else info["info_slave_data"])
    return found


def our_facts(br: net_bridge, ports: list[str]) -> list[dict[str, Any]]:
    """The same of ours, under the kernel's names."""
    found = [br_fill_info(br.dev)]
    found += [brport_fill(br.dev.net.dev_by_name[port]) for port in ports]
    out = []
    for one in found:
        facts = {name.split("_", 2)[2].lower(): value for name, value in one.items()}
        out.append(facts)
    return out


def id_of(value: object) -> str:
    """The id of a bridge, however it is told."""
    if isinstance(value, bytes):
        return value.hex()
    text = str(value)
    priority, address = text.split(".")
    return f"{int(priority, 16):04x}" + "".join(f"{int(x, 16):02x}" for x in address.split(":"))


def same_words(facts: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """What both tell, in one form. (iproute2 shows a bridge's own id as that of its root.)"""
    out = []
    names = ("priority", "root_port", "root_path_cost", "cost", "designated_port")
    for number, one in enumerate(facts):
        made = {name: one[name] for name in (*names, "designated_cost") if name in one}
        made["bridge"] = id_of(one["bridge_id"])
        if number:
            made["root"], state = id_of(one["root_id"]), one["state"]
            made["state"] = BR_STATE_NAMES[state] if isinstance(state, int) else state
            made["id"] = int(str(one["id"]), 0)
        out.append(made)
    return out


def settled(facts: list[dict[str, Any]]) -> bool:
    """Whether no port is on its way to forward."""
    return all(one["state"] in SETTLED for one in facts[1:])


class Kernels(Rig):
    """Two bridges of the kernel with the two wires of a case."""

    def __init__(self, case: Case) -> None:
        with contextlib.ExitStack() as stack:
            self.peer = peer = kept(stack, Peer())
            self._names = [[f"{end}{port}" for port in range(2)] for end in "ab"]
            for first, second in zip(*self._names, strict=True):
                peer.ip("link", "add", first, "type", "veth", "peer", "name", second)
            for number in range(2):
                kernel_bridge(peer, case, number, self._names[number])
            for name in itertools.chain(*self._names):
                peer.ip("link", "set", name, "up")
            self._stack = stack.pop_all()

    def _decided(self) -> list[list[dict[str, Any]]] | None:
        facts = [same_words(kernel_facts(self.peer, n, self._names[n])) for n in range(2)]
        states = [one["state"] for bridge in facts for one in bridge[1:]]
        one_root = len({bridge[1]["root"] for bridge in facts}) == 1
        ready = one_root and all(map(settled, facts)) and "blocking" in states
        return facts if ready else None

    def decision(self) -> list[list[dict[str, Any]]]:
        """What they decide, as soon as they have."""
        found: list[list[dict[str, Any]]] = eventually(self._decided, "the kernel's decision")
        return found


class Mixed(Rig):
    """Bridge `ours` of a case on a host, the other one in the kernel, two TAPs between them."""

    def __init__(self, case: Case, ours: int, captures: Path) -> None:
        self.ours, self.case = ours, case
        self.captures = [captures / f"wire{port}.pcapng" for port in range(2)]
        with contextlib.ExitStack() as stack:
            self.clock = kept(stack, RealClock())
            self.peer = kept(stack, Peer())
            self.clock.start()
            stack.callback(self.clock.stop)
            self.host = host = Host("ours", clock=self.clock, drivers=False, sysctl=QUIET6)
            stack.callback(host.close)
            br = host.add_bridge(f"br{ours}", stp=True, priority=case.priorities[ours], **TIMES)
            self.br: net_bridge = br.priv
            self.taps, self.ports = [], []
            for port in range(2):
                name = f"{self.peer.tap_name}{port}"
                tap = kept(stack, Tap(name, self.clock))
                self.peer.take(name)
                self.taps.append(name)
                link = Capture(tap, self.captures[port])
                stack.callback(link.writer.close)
                self.ports.append(f"p{port}")
                host.add_tap(f"p{port}", link, mac=bytes.fromhex(mac(ours, port).replace(":", "")))
                host.set_master(f"p{port}", br.name)
                cost, priority = case.costs[ours][port], case.ports[ours][port]
                host.bridge_port(f"p{port}", cost=cost, priority=priority)
            kernel_bridge(self.peer, case, 1 - ours, self.taps)
            for name in self.taps:
                self.peer.write(f"/proc/sys/net/ipv6/conf/{name}/disable_ipv6", 1)
                self.peer.ip("link", "set", name, "up")
            for name in (*self.ports, br.name):
                host.ifconfig(name, up=True)
            self._stack = stack.pop_all()

    def facts(self) -> list[list[dict[str, Any]]]:
        """What both tell, in the order of the case."""
        with self.host.lock:
            ours = same_words(our_facts(self.br, self.ports))
        theirs = same_words(kernel_facts(self.peer, 1 - self.ours, self.taps))
        return [ours, theirs] if self.ours == 0 else [theirs, ours]


@dataclass
class Elections:
    """All that are held: by case, those of the kernel; by case and place, those with our bridge."""

    kernels: dict[str, Kernels]
    mixed: dict[tuple[str, int], Mixed]
    replaced: Mixed
    """One whose link will go."""


@pytest.fixture(scope="module")
def elections(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Elections]:
    require.taps()
    with contextlib.ExitStack() as stack:

        def begin(case: Case, ours: int) -> Mixed:
            made = kept(stack, Mixed(case, ours, tmp_path_factory.mktemp("wires")))
            return made

        kernels = {}
        for name, case in CASES.items():
            kernels[name] = kept(stack, Kernels(case))
        mixed = {(name, ours): begin(CASES[name], ours) for name in CASES for ours in (0, 1)}
        yield Elections(kernels, mixed, begin(CASES["the first is the root by its address"], 1))


def assert_well_formed(net: Mixed) -> None:
    """What the two wires carried up to now has no mistake."""
    net.close()
    for path in net.captures:
        assert list(judged(path)) == []


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("ours", [0, 1], ids=["ours first", "ours second"])
def test_our_bridge_decides_as_the_kernels_would(
    name: str, ours: int, elections: Elections
) -> None:
    want = elections.kernels[name].decision()
    net = elections.mixed[name, ours]
    got: list[Any] = []

    def decided() -> bool:
        got[:] = net.facts()
        return all(map(settled, got)) and got == want

    with contextlib.suppress(AssertionError):
        eventually(decided, "the kernel's decision")
    assert got == want
    assert_well_formed(net)


def test_a_link_that_goes_is_replaced_by_the_one_that_was_blocked(elections: Elections) -> None:
    net = elections.replaced
    eventually(lambda: net.br.root_port == 1 and settled(net.facts()[1]), "the first way")
    assert [one["state"] for one in net.facts()[1][1:]] == ["forwarding", "blocking"]
    net.peer.ip("link", "set", net.taps[0], "down")
    eventually(lambda: net.br.root_port == 2, "the second way")
    eventually(lambda: net.facts()[1][2]["state"] == "forwarding", "the port to forward")
    assert_well_formed(net)
