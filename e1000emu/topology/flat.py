"""The expanded topology: all nodes and links, numbered and checked for consistency.

The numbers are the order in the file, so they are the same in every process that reads it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from ipaddress import ip_address, ip_interface
from typing import Any

import msgspec

from e1000emu.cli.params import Interface, not_a_host
from e1000emu.cli.stackspec import MTU_RANGE
from e1000emu.errors import ArgumentError
from e1000emu.links.base import DEFAULT_QUEUE_FRAMES
from e1000emu.quantities import duration_ns, rate_bps, share
from e1000emu.registers.models import MODELS
from e1000emu.topology.entries import NO_NIC, Entries, Link, Node, Quantity, Wrong
from e1000emu.topology.programs import parse
from e1000emu.topology.toml import Path
from e1000emu.topology.words import MOST, Route, braces, parse_route, shares, spread
from fastpath.errors import did_you_mean
from stack.sysctl import SysctlError, sysctl_table

NAME = re.compile(r"[A-Za-z][A-Za-z0-9_-]{0,62}")
INTERFACE = re.compile(r"eth(0|[1-9][0-9]{0,4})")
PORT = re.compile(r"[A-Za-z][A-Za-z0-9_.-]{0,14}")
KINDS = ("host", "router", "switch")
RAM_BYTES = 128 << 20


class FlatNode(msgspec.Struct, frozen=True):
    """One host, router or switch."""

    number: int
    name: str
    group: str
    """Its name in the file."""
    kind: str
    nic: str
    addresses: dict[str, tuple[str, ...]]
    """Interface -> addresses with prefix lengths."""
    routes: tuple[Route, ...]
    sysctl: dict[str, int | str]
    run: tuple[str, ...]
    interfaces: dict[str, int]
    """Interface -> number of its link; a switch's ports too."""

    @property
    def is_switch(self) -> bool:
        """Whether it is a switch."""
        return self.kind == "switch"


class FlatLink(msgspec.Struct, frozen=True):
    """One cable; shares are from 0 to 1."""

    number: int
    ends: tuple[tuple[str, str], tuple[str, str]]
    """Node and interface of side 0, and of side 1."""
    delay_ns: int
    jitter_ns: int
    rate_bps: int | None
    loss: float
    reorder: float
    duplicate: float
    corrupt: float
    queue_frames: int
    mtu: int | None

    def __str__(self) -> str:
        return "-".join(":".join(end) for end in self.ends)


class Flat(msgspec.Struct, frozen=True):
    """All nodes by name and all links by number."""

    name: str
    seed: int | str
    start_ns: int
    """The virtual time at which programs begin."""
    nodes: dict[str, FlatNode]
    links: tuple[FlatLink, ...]


def flatten(topology: Entries) -> Flat:
    """Return every node and link of `topology`.  Raises: Wrong."""
    return _Flattening(topology).flat()


def _checked(path: Path, value: Any, read: Callable[[Any], Any]) -> Any:
    """Return `read(value)`; its exceptions become Wrong."""
    try:
        return read(value)
    except ValueError as error:
        raise Wrong(path, str(error), value) from None


def _number(value: Any, path: Path, low: int, high: int, what: str) -> int:
    if not low <= value <= high:
        raise Wrong(path, f"give {low} to {high:,} {what}", value)
    return int(value)


class _Flattening:
    def __init__(self, topology: Entries) -> None:
        self.topology = topology
        self.nodes: dict[str, FlatNode] = {}
        self.groups: dict[str, list[str]] = {}
        self.links: list[FlatLink] = []
        self.paths: list[Path] = []  # place of each link in the file

    def flat(self) -> Flat:
        topology = self.topology
        start = _checked(("start",), topology.start, lambda q: duration_ns(str(q)))
        for name, node in topology.nodes.items():
            self.add_nodes(name, node, ("nodes", name))
        self.add_links()
        for made in self.nodes.values():
            self.check_interfaces(made)
            self.check_programs(made)
        _Segments(self).check()
        return Flat(topology.name, topology.seed, start, self.nodes, tuple(self.links))

    # --- nodes ---------------------------------------------------------------------------------

    def add_nodes(self, group: str, node: Node, path: Path) -> None:
        if not NAME.fullmatch(group):
            raise Wrong(path, "no name for a node; give letters, digits and -, a letter first")
        count = 1
        if node.count is not None:
            count = _number(node.count, (*path, "count"), 1, MOST, "nodes")
        names = [group] if node.count is None else [f"{group}{i}" for i in range(1, count + 1)]
        self.check_kind(node, path)
        addresses = self.addresses(node, count, path)
        routes = self.texts(node.routes, count, (*path, "routes"), parse_route)
        runs = self.texts(node.run, count, (*path, "run"), parse)
        if len(self.nodes) + count > MOST:
            raise Wrong(path, f"this makes more than {MOST:,} nodes; give fewer")
        for i, name in enumerate(names):
            if name in self.nodes:
                other = self.nodes[name].group
                raise Wrong(path, f"nodes.{other} makes a node {name} too; rename one of them")
            self.nodes[name] = FlatNode(
                number=len(self.nodes),
                name=name,
                group=group,
                kind=node.kind,
                nic=node.nic,
                addresses={interface: given[i] for interface, given in addresses.items()},
                routes=routes[i],
                sysctl=node.sysctl,
                run=tuple(program.text for program in runs[i]),
                interfaces={},
            )
        self.groups[group] = names

    def check_kind(self, node: Node, path: Path) -> None:
        if node.kind not in KINDS:
            near = did_you_mean(node.kind, KINDS)
            raise Wrong((*path, "kind"), f"there are: {', '.join(KINDS)}{near}", node.kind)
        if node.kind == "switch":
            for key in ("addresses", "routes", "sysctl", "run"):
                if value := getattr(node, key):
                    raise Wrong((*path, key), "a switch has none; leave it out", value)
        if node.nic != NO_NIC and node.nic not in MODELS:
            known = [*MODELS, NO_NIC]
            near = did_you_mean(node.nic, known)
            raise Wrong(
                (*path, "nic"), f"no such model; there are: {', '.join(known)}{near}", node.nic
            )
        for key, value in node.sysctl.items():
            try:
                sysctl_table(RAM_BYTES, {key: value})
            except SysctlError as error:
                raise Wrong((*path, "sysctl", key), str(error), value) from None

    def texts(
        self, given: list[str], count: int, path: Path, read: Callable[[str], Any]
    ) -> list[tuple[Any, ...]]:
        """Distribute these texts to `count` nodes."""
        columns = []
        for i, text in enumerate(given):
            words = _checked((*path, i), text, braces)
            items = [_checked((*path, i), word, read) for word in words]
            columns.append(_checked((*path, i), items, lambda items: shares(items, count)))
        return _joined(columns, count)

    def addresses(self, node: Node, count: int, path: Path) -> dict[str, list[tuple[str, ...]]]:
        """Return the addresses of each interface, for each of `count` nodes."""
        found: dict[str, list[tuple[str, ...]]] = {}
        for interface, given in node.addresses.items():
            at: Path = (*path, "addresses", interface)
            if not INTERFACE.fullmatch(interface):
                raise Wrong(at, "no interface; they are called eth0, eth1 ...")
            texts = [given] if isinstance(given, str) else given
            columns = []
            for i, text in enumerate(texts):
                where = at if isinstance(given, str) else (*at, i)
                columns.append(self.counted(text, count, where))
            found[interface] = _joined(columns, count)
        return found

    def counted(self, text: str, count: int, path: Path) -> list[tuple[str, ...]]:
        words = _checked(path, text, braces)
        found = [_address(path, word) for word in words]
        if "{" in text:
            if len(found) % count:
                why = f"{len(found):,} addresses for {count:,} nodes; give each one, or as many"
                raise Wrong(path, why, text)
            return shares([str(address) for address in found], count)
        first = found[0]
        last = int(first.ip) + count - 1
        kind, length = type(first.ip), first.network.prefixlen
        most = int(first.network.broadcast_address)
        if count > 1 and (last > most or not_a_host(type(first)(f"{kind(last)}/{length}"))):
            raise Wrong(
                path,
                f"{count:,} nodes count up beyond {first.network}; give a larger network, or a "
                "list such as 10.1.{1..10}.{1..100}/24",
                text,
            )
        return [(f"{kind(n)}/{length}",) for n in range(int(first.ip), last + 1)]

    # --- links ---------------------------------------------------------------------------------

    def add_links(self) -> None:
        wires: list[tuple[Any, dict[str, Any], tuple[str, int]]] = []
        taken: dict[str, dict[str, int]] = {name: {} for name in self.nodes}
        for number, link in enumerate(self.topology.links):
            path = ("links", number)
            shape = self.shape(link, path)
            for ends in self.pairs(link, (*path, "endpoints")):
                for name, interface in ends:
                    if not interface:
                        continue
                    if interface in taken[name]:
                        other = wires[taken[name][interface]][-1][1]
                        raise Wrong(
                            (*path, "endpoints"),
                            f"{name}:{interface} is in links[{other}] already; an interface has "
                            "one link",
                            link.endpoints,
                        )
                    taken[name][interface] = len(wires)
                wires.append((ends, shape, path))
                if len(wires) > MOST:
                    raise Wrong(path, f"this makes more than {MOST:,} links; give fewer")
        free = {name: _free(interfaces) for name, interfaces in taken.items()}
        for number, (ends, shape, path) in enumerate(wires):
            (a, at_a), (b, at_b) = ends
            full = ((a, at_a or next(free[a])), (b, at_b or next(free[b])))
            for name, interface in full:
                self.nodes[name].interfaces[interface] = number
            self.links.append(FlatLink(number=number, ends=full, **shape))
            self.paths.append(path)

    def shape(self, link: Link, path: Path) -> dict[str, Any]:
        def read(key: str, parse: Callable[[str], Any]) -> Any:
            value: Quantity | None = getattr(link, key)
            if value is None:
                return None
            return _checked((*path, key), value, lambda value: parse(str(value)))

        shape: dict[str, Any] = {
            "delay_ns": read("delay", duration_ns),
            "jitter_ns": read("jitter", duration_ns),
            "rate_bps": read("rate", rate_bps),
            "queue_frames": DEFAULT_QUEUE_FRAMES,
            "mtu": link.mtu,
        }
        for key in ("loss", "reorder", "duplicate", "corrupt"):
            shape[key] = read(key, share)
        if link.queue is not None:
            shape["queue_frames"] = _number(link.queue, (*path, "queue"), 1, 1 << 31, "frames")
        if link.mtu is not None:
            _number(link.mtu, (*path, "mtu"), MTU_RANGE[0], MTU_RANGE[-1], "bytes")
        return shape

    def pairs(self, link: Link, path: Path) -> Iterator[tuple[tuple[str, str], tuple[str, str]]]:
        if len(link.endpoints) != 2:
            raise Wrong(path, "give two", link.endpoints)
        one, other = (self.ends(text, (*path, i)) for i, text in enumerate(link.endpoints))
        count = max(len(one), len(other))
        try:
            found = zip(spread(one, count), spread(other, count), strict=True)
        except ValueError:
            raise Wrong(
                path,
                f"{len(one):,} ends and {len(other):,} ends do not divide evenly; give as many, "
                "or a multiple",
                link.endpoints,
            ) from None
        for a, b in found:
            if a[0] == b[0]:
                raise Wrong(path, f"it joins {a[0]} with itself; give two nodes", link.endpoints)
            yield a, b

    def ends(self, text: str, path: Path) -> list[tuple[str, str]]:
        """Return the nodes and interfaces ("" for the next free one) of one endpoint."""
        found = []
        for word in _checked(path, text, braces):
            name, colon, interface = word.partition(":")
            names = [name]
            if name.endswith("*"):
                names = self.groups.get(name[:-1], [])
                if not names:
                    near = did_you_mean(name[:-1], self.groups)
                    raise Wrong(path, f"no nodes are called {name[:-1]!r}{near}", text)
            elif name not in self.nodes:
                near = did_you_mean(name, [*self.groups, *self.nodes])
                if name in self.groups:
                    near = f"; write {name}* for all of them, or {name}1 for the first"
                raise Wrong(path, f"there is no node {name!r}{near}", text)
            form = PORT if self.nodes[names[0]].is_switch else INTERFACE
            if colon and not form.fullmatch(interface):
                raise Wrong(path, f"no interface {interface!r}; write eth0, eth1 ...", text)
            found += [(each, interface) for each in names]
        return found

    # --- consistency checks -------------------------------------------------------------------

    def check_interfaces(self, node: FlatNode) -> None:
        path: Path = ("nodes", node.group)
        if node.is_switch:
            return
        for interface in node.addresses:
            if interface not in node.interfaces:
                raise Wrong(
                    (*path, "addresses", interface),
                    f"{node.name} has no link at {interface}; give it one, or leave this out",
                )
        for i in range(len(node.interfaces)):
            if f"eth{i}" not in node.interfaces:
                used = max(node.interfaces, key=lambda name: int(name[3:]))
                raise Wrong(
                    path,
                    f"{node.name} has a link at {used} and none at eth{i}; number them from eth0",
                )
        networks = [ip_interface(a).network for given in node.addresses.values() for a in given]
        for i, route in enumerate(node.routes):
            at: Path = (*path, "routes", i)
            if route.dev is not None and route.dev not in node.interfaces:
                raise Wrong(at, f"{node.name} has no interface {route.dev}; give one of its own")
            gateway = None if route.via is None else ip_address(route.via)
            if gateway is None or (gateway.version == 6 and gateway.is_link_local):
                continue
            own = [n for n in networks if n.version == gateway.version]
            if not any(gateway in network for network in own):
                inside = " or ".join(map(str, own)) or f"any IPv{gateway.version} network"
                raise Wrong(
                    at, f"{gateway} is not inside {inside}; give a gateway on a network of "
                    f"{node.name}'s",
                )  # fmt: skip

    def check_programs(self, node: FlatNode) -> None:
        for i, text in enumerate(node.run):
            dest = parse(text).dest
            if dest is None:
                continue
            try:
                address_of(self.nodes, dest)
            except ArgumentError as error:
                raise Wrong(("nodes", node.group, "run", i), str(error), text) from None


def address_of(nodes: Mapping[str, FlatNode], name: str) -> str:
    """Return `name` if it is an address, else the node's first address, IPv4 if available.

    Raises:
        ArgumentError: unknown node, or node without address.
    """
    try:
        ip_address(name)
        return name
    except ValueError:
        pass
    if name not in nodes:
        near = did_you_mean(name, nodes)
        raise ArgumentError(f"{name!r} is neither an address nor a node{near}")
    found = [a.partition("/")[0] for given in nodes[name].addresses.values() for a in given]
    if not found:
        raise ArgumentError(f"the node {name} has no address; give it one")
    return next((address for address in found if ":" not in address), found[0])


def _address(path: Path, text: str) -> Interface:
    if "/" not in text:
        raise Wrong(path, f"{text} has no prefix length; write {text}/{64 if ':' in text else 24}")
    try:
        address = ip_interface(text)
    except ValueError as error:
        raise Wrong(path, f"{error}; write for instance 10.0.0.1/24 or 2001:db8::1/64") from None
    if why := not_a_host(address):
        raise Wrong(path, f"{text} {why}; give a host's own address")
    return address


def _joined(columns: list[list[tuple[Any, ...]]], count: int) -> list[tuple[Any, ...]]:
    """Return, for each of `count` nodes, its items of all columns."""
    return [tuple(item for column in columns for item in column[i]) for i in range(count)]


def _free(taken: dict[str, int]) -> Iterator[str]:
    number = 0
    while True:
        if f"eth{number}" not in taken:
            yield f"eth{number}"
        number += 1


class _Segments:
    """Broadcast domains: interfaces connected by cables and switches."""

    def __init__(self, of: _Flattening) -> None:
        self.of = of
        self.above: dict[tuple[str, str], tuple[str, str]] = {}

    def root(self, key: tuple[str, str]) -> tuple[str, str]:
        while (above := self.above.get(key, key)) != key:
            self.above[key] = self.above.get(above, above)
            key = above
        return key

    def check(self) -> None:
        nodes = self.of.nodes
        for link in self.of.links:
            ends = [(n, "" if nodes[n].is_switch else i) for n, i in link.ends]
            a, b = map(self.root, ends)
            if a == b and not self.of.topology.loops:
                names = " and ".join(name for name, _ in link.ends)
                raise Wrong(
                    self.of.paths[link.number],
                    f"{names} are joined already: this closes a loop of switches, where a "
                    "broadcast goes round for ever; leave it out, or write loops = true at the top",
                )
            self.above[a] = b
        owners: dict[tuple[tuple[str, str], str], str] = {}
        for node in nodes.values():
            for interface, given in node.addresses.items():
                segment = self.root((node.name, interface))
                for address in given:
                    ip = address.partition("/")[0]
                    other = owners.setdefault((segment, ip), f"{node.name}:{interface}")
                    if other != f"{node.name}:{interface}" or given.count(address) > 1:
                        raise Wrong(
                            ("nodes", node.group, "addresses", interface),
                            f"{ip} of {node.name} is {other}'s already, on the same network; "
                            "give each its own",
                        )
