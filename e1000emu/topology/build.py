"""The hosts, NICs, switches and cables of a topology, or of a part of it.

Each host's seed is derived from its name, and that of a link's direction from the link's number
and side. In virtual time all hosts boot at once: drivers sleep while they probe, so the clock is
set back for each host. All cables are plugged in when all hosts of the topology are ready.
So a part behaves as it does in the complete topology.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from functools import partial
from hashlib import sha256
from typing import Any

from e1000emu.capture import PcapngWriter
from e1000emu.clock import VirtualClock
from e1000emu.errors import ArgumentError
from e1000emu.lab import Lab, add_nic
from e1000emu.lab.hosts import FORWARDING, counters_text
from e1000emu.links import Capture, Impair, Switch, pair
from e1000emu.links.base import Middleware
from e1000emu.links.caps import link_caps
from e1000emu.links.patch import Patch
from e1000emu.links.switch import TABLE_ENTRIES
from e1000emu.ports import Clock, Link
from e1000emu.topology.entries import NO_NIC
from e1000emu.topology.flat import Flat, FlatLink, FlatNode
from fastpath.errors import check_callable, check_type
from stack.core.drop_reason import drop_names
from stack.host import Host

Cut = Callable[[FlatLink, int], "Link"]
"""`cut(link, side)`: the end of `link` at `side`, whose other end is not built here. It replaces
an end of `pair()` with the link's delay, rate and queue; its other effects are applied here."""
BOOT_NS = 50_000_000
"""Maximum time for a driver to probe a NIC and bring up its interface."""


def side_seed(seed: int | str, link: FlatLink, side: int) -> int:
    """Return the seed for frames sent by `side` of `link`."""
    text = f"{seed}/link {link.number}/{side}"
    return int.from_bytes(sha256(text.encode()).digest()[:8], "big")


def interface_mac(link: FlatLink, side: int) -> bytes:
    """Return 52:54:00 and the number of the interface."""
    return b"\x52\x54\x00" + (2 * link.number + side).to_bytes(3, "big")


class TopologyLab(Lab):
    """The built nodes: hosts and routers by name (`lab["client7"]`), switches, ends of links."""

    def __init__(self, flat: Flat, clock: Clock | None = None) -> None:
        super().__init__(clock, seed=flat.seed)
        self.flat = flat
        self.switches: dict[str, Switch] = {}
        self.ends: dict[tuple[int, int], Link] = {}
        """(number of the link, side): its link end; None if not built."""
        self.cables: dict[tuple[int, int], Any] = {}
        """The same, without impairment and capture."""
        self._patches: list[Patch] = []

    def __contains__(self, name: object) -> bool:
        return name in self._hosts

    def ready(self) -> bool:
        """Whether each interface has a carrier, if its link is built."""
        return all(
            self[name].wait_carrier(interface, 0)
            for link in self.flat.links
            for side, (name, interface) in enumerate(link.ends)
            if (link.number, side) in self.ends and not self.flat.nodes[name].is_switch
        )

    def drops(self) -> dict[str, int]:
        """Return frames and packets that did not arrive, by place and reason."""
        found: dict[str, int] = {}

        def add(where: str, drops: Mapping[str, int]) -> None:
            for reason, count in drops.items():
                found[f"{where}: {reason}"] = found.get(f"{where}: {reason}", 0) + count

        for end in self.ends.values():
            layer: Any = end
            while layer is not None:
                stats = link_caps("build", layer).stats  # a cut end may have none
                if stats is not None:
                    add("link", stats.drops)
                if isinstance(layer, Impair):
                    add("link", {k: n for k, n in layer.events.items() if k == "loss"})
                layer = getattr(layer, "link", None)
        for switch in self.switches.values():
            add("switch", switch.stats.drops)
        for host in self:
            add("host", drop_names(host))
        return dict(sorted(found.items()))

    def digest(self) -> dict[str, str]:
        """Return a hash of each host's counters; with the time, equal for equal runs."""
        return {host.name: sha256(counters_text(host)).hexdigest()[:16] for host in self}

    def fingerprint(self) -> str:
        """Return one hash of all digests and the time."""
        text = f"{self.clock.now_ns()} {sorted(self.digest().items())}"
        return sha256(text.encode()).hexdigest()[:16]

    def close(self) -> None:
        """Close every host and every link. Idempotent."""
        super().close()
        for patch in self._patches:
            patch.close()
        self._patches.clear()


def build(
    flat: Flat,
    clock: Clock | None = None,
    *,
    nodes: Collection[str] | None = None,
    cut: Cut | None = None,
    captures: Mapping[int, PcapngWriter | str] | None = None,
    wait: bool = True,
) -> TopologyLab:
    """Build `nodes` (None: all) of a topology on `clock`; with `wait` returns when links are up.

    `cut` creates the ends of links whose other end is not built. `captures`: number of a link ->
    capture file of its side 0, or of side 1 if only that is built.

    Raises:
        ArgumentError: unknown node, or a link to an unbuilt one without `cut`.
        OSError: a driver rejected a device, or an interface its configuration.
    """
    check_type("build", "flat", flat, Flat, "what Topology.flat() returns")
    wanted = set(flat.nodes if nodes is None else nodes)
    if unknown := wanted - flat.nodes.keys():
        raise ArgumentError(f"build: nodes has {min(unknown)!r}; give names of the topology's")
    if cut is not None:
        check_callable("build", "cut", cut)
    lab = TopologyLab(flat, clock)
    try:
        _Building(lab, wanted, cut, captures or {}).build()
        if wait:
            for host in lab:
                for interface in flat.nodes[host.name].interfaces:
                    if not host.wait_carrier(interface):
                        raise OSError(f"{host.name}: {interface} has no link")
    except BaseException:
        lab.close()
        raise
    return lab


def _nics(node: FlatNode) -> int:
    """Return how many NICs a node has that drivers probe."""
    return 0 if node.is_switch or node.nic == NO_NIC else len(node.interfaces)


class _Plug(Middleware):
    """A link without a carrier until it is plugged in."""

    def __init__(self, link: Link) -> None:
        super().__init__(link)
        self.plugged = False

    @property
    def carrier(self) -> bool:
        """Whether it is plugged in and the link below has a carrier."""
        return self.plugged and self.link.carrier

    def plug(self) -> None:
        """Show the carrier to the port above."""
        self.plugged = True
        if self.port is not None and self.link.carrier:
            self.port.link_changed(True, self.link.speed_mbps, True)

    def link_changed(self, up: bool, speed_mbps: int, full_duplex: bool) -> None:
        """Pass a change of carrier up, if plugged in."""
        if self.plugged:
            super().link_changed(up, speed_mbps, full_duplex)


class _Building:
    def __init__(
        self,
        lab: TopologyLab,
        wanted: set[str],
        cut: Cut | None,
        captures: Mapping[int, PcapngWriter | str],
    ) -> None:
        self.lab = lab
        self.wanted = wanted
        self.cut = cut
        self.captures = captures
        self.plugs: list[Callable[[], None]] = []

    def build(self) -> None:
        lab, flat = self.lab, self.lab.flat
        clock = lab.clock
        began = clock.now_ns()
        entries = max(TABLE_ENTRIES, 2 * len(flat.links))
        for name, node in flat.nodes.items():
            if node.is_switch and name in self.wanted:
                lab.switches[name] = Switch(lab.clock, table_entries=entries)
        for link in flat.links:  # in the order of a switch's ports
            self.lay(link)
        ready = began + BOOT_NS * max(map(_nics, flat.nodes.values()), default=0)
        for name, node in flat.nodes.items():
            if node.is_switch or name not in self.wanted:
                continue
            if isinstance(clock, VirtualClock):
                clock.rewind(began)
            self.host(node)
            if isinstance(clock, VirtualClock) and clock.now_ns() > ready:
                raise OSError(f"{name}: drivers took longer than {BOOT_NS} ns for each NIC")
        if isinstance(clock, VirtualClock):
            clock.run_until(ready)
        for plug in self.plugs:
            plug()

    def lay(self, link: FlatLink) -> None:
        """Create the required ends of a link, and plug in those of switches."""
        here = [name in self.wanted for name, _ in link.ends]
        if not any(here):
            return
        ends: list[Any]
        if all(here):
            one, other = pair(
                self.lab.clock,
                latency_ns=link.delay_ns,
                rate_bps=link.rate_bps,
                queue_frames=link.queue_frames,
            )
            one.plug(False)
            self.plugs.append(partial(one.plug, True))
            ends = [one, other]
        elif self.cut is None:
            raise ArgumentError(
                f"build: link {link.number}, {link}: one end is not among the nodes; "
                "give cut=, which makes the other end"
            )
        else:
            cuts = [_Plug(self.cut(link, side)) if here[side] else None for side in (0, 1)]
            self.plugs += [cut.plug for cut in cuts if cut is not None]
            ends = list(cuts)
        for side in (0, 1):
            if here[side]:
                self.end(link, side, ends[side], captured=side == (0 if here[0] else 1))

    def end(self, link: FlatLink, side: int, cable: Link, *, captured: bool) -> None:
        lab = self.lab
        lab.cables[link.number, side] = cable
        made: Link = cable
        chances = {k: getattr(link, k) for k in ("loss", "reorder", "duplicate", "corrupt")}
        if link.jitter_ns or any(chances.values()):
            made = Impair(
                made,
                clock=lab.clock,
                direction="tx",  # each side impairs what it sends
                seed=side_seed(lab.seed, link, side),
                jitter_ns=link.jitter_ns,
                **chances,
            )
        if captured and link.number in self.captures:
            made = Capture(made, self.captures[link.number], clock=lab.clock)
        lab.ends[link.number, side] = made
        switch = lab.switches.get(link.ends[side][0])
        if switch is not None:
            lab._patches.append(Patch(switch.port(), made))

    def host(self, node: FlatNode) -> None:
        lab = self.lab
        sysctl = (FORWARDING if node.kind == "router" else {}) | node.sysctl
        host = lab.host(node.name, sysctl)
        for interface in sorted(node.interfaces, key=lambda name: int(name[3:])):
            self.interface(host, node, interface)
        for route in node.routes:
            extra = {} if route.metric is None else {"metric": route.metric}
            host.route_add(route.prefix, via=route.via, dev=route.dev, **extra)

    def interface(self, host: Host, node: FlatNode, interface: str) -> None:
        link = self.lab.flat.links[node.interfaces[interface]]
        side = link.ends.index((node.name, interface))
        end, mac = self.lab.ends[link.number, side], interface_mac(link, side)
        if node.nic == NO_NIC:
            host.add_tap(interface, end, mac=mac, mtu=link.mtu, up=True)
        else:
            add_nic(host, end, mac=mac, model=node.nic, mtu=link.mtu, wait=False)
        for address in node.addresses.get(interface, ()):
            host.ifconfig(interface, address)
