"""Ready-made set-ups: hosts with NICs on a wire, for the demo, the tests and the benchmarks."""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from inspect import signature
from ipaddress import IPv4Network, IPv6Network, ip_network
from typing import TYPE_CHECKING, Any, TypedDict, Unpack

from e1000emu.capture import PcapngWriter
from e1000emu.clock import VirtualClock
from e1000emu.closing import Closing
from e1000emu.device.nic import Nic
from e1000emu.errors import ArgumentError
from e1000emu.insight.faults import Faults
from e1000emu.links import AnnotatedCapture, Capture, Impair, Switch, pair
from e1000emu.links.base import DEFAULT_QUEUE_FRAMES
from e1000emu.links.caps import close_link
from e1000emu.links.switch import TABLE_ENTRIES
from fastpath.base.skbuff import sk_buff, skb_copy_bits, skb_network_offset
from fastpath.errors import check_callable, check_clock, check_type, known_words, whole_number
from stack import proc
from stack.core.drop_reason import SKB_DROP_REASON_NAMES
from stack.host import Host
from stack.ipv4.devinet import parse_ifaddr
from stack.ipv6.addr import parse_ifaddr6

if TYPE_CHECKING:
    from e1000emu.device.bus import Bus
    from e1000emu.ports import Clock, Link
    from e1000emu.record.recorder import Recorder
    from stack.socket import Socket

AnyNetwork = IPv4Network | IPv6Network

DEFAULT_MODEL = "82540EM"
FIRST_IRQ = 10
MAX_HOSTS = 50_000
"""The most hosts of a `lan`: so many MAC addresses differ."""
CLOSED_AT_ONCE = 64
"""Hosts whose drivers sleep at the same time: with 16 to 256 the cost of a host is the same."""
IMPAIRMENTS = sorted(signature(Impair).parameters.keys() - {"link", "clock"})
FORWARDING = {"ip_forward": 1, "net.ipv6.conf.all.forwarding": 1}
COUNTERS = ("dev", "snmp", "snmp6", "netstat")
"""Files of /proc/net whose text a digest has."""


class NicOptions(TypedDict, total=False):
    """Further arguments of `Nic`."""

    strict: bool
    autoneg_ns: int
    faults: Faults | None
    bus: str | Bus | None


class LanOptions(NicOptions, total=False):
    """Further arguments of `add_nic` for every host of a `lan`."""

    model: str
    mtu: int | None
    up: bool


def mac_address(number: int) -> bytes:
    """Return 52:54:00:12 and `number`: 52:54:00 is the block that virtual machines use."""
    number = whole_number("mac_address", "number", number, 0, 0xFFFF)
    return b"\x52\x54\x00\x12" + number.to_bytes(2, "big")


def add_nic(
    host: Host,
    link: Link,
    *,
    mac: bytes | None = None,
    addr: str | None = None,
    model: str = DEFAULT_MODEL,
    mtu: int | None = None,
    up: bool = True,
    wait: bool = True,
    record: Recorder | None = None,
    **nic_options: Unpack[NicOptions],
) -> Nic:
    """Plug a NIC into `host` and `link`, let the driver probe it, configure its interface.

    The NIC is kept in `host.nics` under the interface's name. `wait` waits for the link.
    `record` records all that crosses the NIC's ports; the caller closes it, after the host.

    Raises:
        OSError: the driver refused the device, or the interface its configuration.
    """
    check_type("add_nic", "host", host, Host, "the Host first: add_nic(host, link)")
    known_words("add_nic", nic_options, NicOptions.__annotations__)
    if addr is not None:
        check_type("add_nic", "addr", addr, str, "text such as 10.0.0.1/24")
        parse_ifaddr6(addr) if ":" in addr else parse_ifaddr(addr)
    nics: dict[str, Nic] = host.nics
    irq = FIRST_IRQ + len(nics)
    with host.lock:
        nic = Nic(
            memory=host.dma_table(),
            irq=host.irq_line(irq),
            link=link,
            clock=host.clock,
            model=model,
            mac=mac if mac is not None else mac_address(len(nics) + 1),
            record=record,
            **nic_options,
        )
        dev = host.pci_add(nic.slot, irq)
        if dev is None:
            link.detach()
            raise OSError(f"{host.name}: no driver took the {model}")
        nics[dev.name if dev.name not in nics else f"{dev.name}.{irq}"] = nic
        host.on_closed(lambda: _unplug(link))
    host.ifconfig(dev.name, addr, up=up or None, mtu=mtu)
    if up and wait and not host.wait_carrier(dev.name):
        raise OSError(f"{host.name}: {dev.name} has no link")
    return nic


def _unplug(link: Link) -> None:
    link.detach()
    close_link(link)


def two_hosts(
    clock: Clock | None = None,
    *,
    names: Sequence[str] = ("a", "b"),
    addrs: Sequence[str] = ("10.0.0.1/24", "10.0.0.2/24"),
    models: Sequence[str] = (DEFAULT_MODEL, DEFAULT_MODEL),
    latency_ns: int = 0,
    rate_bps: int | None = None,
    queue_frames: int = DEFAULT_QUEUE_FRAMES,
    impair: Mapping[str, Any] | None = None,
    capture: str | os.PathLike[str] | PcapngWriter | None = None,
    annotate: bool = False,
    ram_bytes: int = 128 << 20,
    mtu: int | None = None,
    seed: int | str = 0,
    sysctl: Mapping[str, Any] | None = None,
    wait: bool = True,
    records: Sequence[Recorder | None] = (None, None),
    **nic_options: Unpack[NicOptions],
) -> tuple[Host, Host]:
    """Return two hosts, a NIC each, joined by a cable; drivers up, addresses set, link up.

    `impair` are arguments of `Impair` (loss=0.01, reorder=0.02 ...), applied to the cable in both
    directions. `queue_frames` bounds the frames on the cable in each direction: with 1 and a rate,
    frames leave one by one, and a capture has the time of each. `capture` names a pcapng file of
    a's end of the wire, or is a writer, possibly shared. With `annotate` a dropped frame's comment
    says where it was dropped (the wire, a's device, either stack) and why. `records` are
    the `record` of `add_nic` for each NIC. Without `clock` they share a `VirtualClock`. Close both
    hosts in the end (they are context managers).
    """
    pairs = {"names": names, "addrs": addrs, "models": models, "records": records}
    for what, given in pairs.items():
        if not isinstance(given, tuple | list) or len(given) != 2:
            raise ArgumentError(f"two_hosts: {what}={given!r}; give one for each of two hosts")
    for addr in addrs:
        parse_ifaddr(addr)
    if impair is not None:
        check_type("two_hosts", "impair", impair, Mapping, 'a mapping such as {"loss": 0.01}')
        known_words("two_hosts: impair", impair, IMPAIRMENTS)
    if sysctl is not None:
        check_type("two_hosts", "sysctl", sysctl, Mapping, 'a mapping such as {"tcp_sack": 0}')
    clock = VirtualClock() if clock is None else clock
    ends = pair(clock, latency_ns=latency_ns, rate_bps=rate_bps, queue_frames=queue_frames)
    links: list[Link] = list(ends)
    if impair:
        links[0] = Impair(links[0], clock=clock, **{"seed": seed_number(seed), **impair})
    if capture is not None:
        kind = AnnotatedCapture if annotate else Capture
        links[0] = kind(links[0], capture, clock=clock)
    with ExitStack() as failed:  # nothing stays open then
        for link in links:
            failed.callback(close_link, link)
        hosts = [
            Host(name=name, clock=clock, ram_bytes=ram_bytes, seed=f"{seed}/{name}", sysctl=sysctl)
            for name in names
        ]
        for host in hosts:
            failed.callback(host.close)
        for number, host in enumerate(hosts):
            add_nic(
                host,
                links[number],
                mac=mac_address(0x3456 + number),
                addr=addrs[number],
                model=models[number],
                mtu=mtu,
                wait=False,
                record=records[number],
                **nic_options,
            )
        if isinstance(links[0], AnnotatedCapture):
            _annotate(links[0], hosts)
        if wait:
            for host in hosts:
                if not host.wait_carrier("eth0"):
                    raise OSError(f"{host.name}: eth0 has no link")
        failed.pop_all()
    return hosts[0], hosts[1]


def _annotate(capture: AnnotatedCapture, hosts: Sequence[Host]) -> None:
    """Make `capture`, at the first host's end, comment on drops by that host's device and all
    stacks."""
    capture.watch_device(hosts[0].nics["eth0"].stats.as_dict)
    for number, host in enumerate(hosts):

        def dropped(
            skb: sk_buff, reason: int, name: str = host.name, received: bool = number == 0
        ) -> None:
            start = skb_network_offset(skb)
            packet = skb_copy_bits(skb, start, min(64, skb.len - start))
            why = SKB_DROP_REASON_NAMES.get(reason, str(reason))
            capture.dropped_by_stack(f"{name}'s stack", packet, why, received=received)

        host.on_drop = dropped


def counters_text(host: Host) -> bytes:
    """Return what a digest has of a host's counters."""
    return "".join(proc.read(host, name) for name in COUNTERS).encode()


def seed_number(seed: int | str) -> int:
    """Return a seed for links from a seed for hosts."""
    return seed if isinstance(seed, int) else sum(map(ord, seed))


@contextmanager
def _without_gc() -> Iterator[None]:
    """Build hosts without garbage collections.

    A host is thousands of objects and no garbage. Collections would visit those of all hosts again
    for every few new ones.
    """
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            if not gc.get_freeze_count():
                gc.freeze()  # then all objects count as old, and the next collection is a small one
                gc.unfreeze()
            gc.enable()


@_without_gc()
def lan(
    count: int,
    clock: Clock | None = None,
    *,
    network: str = "10.0.0",
    seed: int | str = 0,
    isolated: bool = False,
    **options: Unpack[LanOptions],
) -> list[Host]:
    """Return `count` hosts on one switch: h1 10.0.0.1/24, h2 10.0.0.2/24 ...

    `network` is the beginning of a /24, or a network such as 10.0.0.0/16 for more than 254 hosts.
    With `isolated` the hosts after h1 reach h1 and not each other (`Switch.port`).
    """
    check_type("lan", "network", network, str, "text such as 10.0.0.0/16")
    try:
        addresses = ip_network(network if "/" in network else f"{network}.0/24")
    except ValueError as error:
        raise ArgumentError(
            f"lan: network={network!r}: {error}; give one such as 10.0.0.0/16"
        ) from None
    room = addresses.num_addresses - 2
    count = whole_number("lan", "count", count, 1, min(room, MAX_HOSTS))
    clock = VirtualClock() if clock is None else clock
    check_clock("lan", clock)
    switch = Switch(clock, table_entries=max(TABLE_ENTRIES, count), multicast_snooping=True)
    up = options.get("up", True)
    options["up"] = False
    hosts: list[Host] = []
    # Probing sleeps, and each host would run its timers during the probes of all that follow. So
    # their interfaces are not up yet, and on a clock without others they boot at the same time.
    alone = clock if isinstance(clock, VirtualClock) and clock.idle() else None
    began = ready = clock.now_ns()
    with ExitStack() as failed:
        failed.callback(close_hosts, hosts)
        for number in range(1, count + 1):
            if alone is not None:
                alone.rewind(began)
            host = Host(name=f"h{number}", clock=clock, seed=f"{seed}/h{number}")
            hosts.append(host)
            mac = mac_address(0x3456 + number)
            port = switch.port(isolated=isolated and number > 1)
            add_nic(host, port, mac=mac, wait=False, **options)
            ready = max(ready, clock.now_ns())
        if alone is not None:
            alone.run_until(ready)
        for number, host in enumerate(hosts, 1):
            host.ifconfig("eth0", f"{addresses[number]}/{addresses.prefixlen}", up=up or None)
        for host in hosts:
            if up and not host.wait_carrier("eth0"):
                raise OSError(f"{host.name}: eth0 has no link")
        failed.pop_all()
    return hosts


@_without_gc()
def close_hosts(hosts: Iterable[Host]) -> None:
    """Close many hosts at once, at a cost that is the same for each of 10 and of 10,000.

    A driver that stops its NIC sleeps, and meanwhile the hosts still open run their timers. So on
    a VirtualClock `CLOSED_AT_ONCE` of them close together, as tasks of the clock. On other clocks,
    whose time passes by itself, they close in turn.

    Raises:
        Exception: what the first `close` that failed raised, after the other hosts closed.
    """
    todo = list(hosts)
    for host in todo:
        check_type("close_hosts", "hosts", host, Host, "Hosts, as lan() returns them")
    errors = []
    for start in range(0, len(todo), CLOSED_AT_ONCE):
        batch = todo[start : start + CLOSED_AT_ONCE]
        closing = [_begin_close(host) for host in batch]
        for end in closing:
            try:
                end()
            except Exception as error:
                errors.append(error)
    if errors:
        raise errors[0]


def _begin_close(host: Host) -> Callable[[], object]:
    """Start closing `host` beside others where its clock can; returns what waits for the end."""
    clock = host.clock
    if isinstance(clock, VirtualClock):
        return clock.spawn(host.close, name=f"close {host.name}").join
    return host.close


class LabLan:
    """A network of a Lab: a switch, its hosts and their addresses."""

    def __init__(self, switch: Switch, networks: Sequence[AnyNetwork]) -> None:
        self.switch = switch
        self.networks = networks
        self.interface: dict[str, str] = {}
        """Host's name -> name of its interface on this network."""
        self._hosts = [iter(network.hosts()) for network in networks]
        self._addrs: dict[str, list[str]] = {}

    def addr(self, host: Host, *, family: int = 4) -> str:
        """The host's address on this network, without its prefix length.

        Raises:
            KeyError: the host is not on it, or has no address of the family.
        """
        for addr in self._addrs[host.name]:
            if (":" in addr) == (family == 6):
                return addr
        raise KeyError(f"{host.name} has no address of IPv{family} here")

    def join(self, host: Host, interface: str) -> list[str]:
        """Give the host the next address of each network; they, with their prefix lengths."""
        try:
            addrs = [str(next(hosts)) for hosts in self._hosts]
        except StopIteration:
            names = ", ".join(str(network) for network in self.networks)
            raise ArgumentError(f"Lab: {names} has no address left for {host.name}") from None
        self.interface[host.name] = interface
        self._addrs[host.name] = addrs
        return [f"{a}/{n.prefixlen}" for a, n in zip(addrs, self.networks, strict=True)]


class Lab(Closing):
    """Hosts by name, and networks that join them, on one clock; closing it closes all.

        with Lab() as lab:
            router = lab.router("router")
            near = lab.lan("10.1.0.0/24", router, *lab.hosts("a", 5), gateway=router)
            far = lab.lan("10.2.0.0/24", router, *lab.hosts("b", 5), gateway=router)
            server = create_server(lab["b3"], (far.addr(lab["b3"]), 80))
            client = create_connection(lab["a1"], (far.addr(lab["b3"]), 80))

    Without `clock` it is a VirtualClock. `sysctl` are those of every host.
    """

    def __init__(
        self,
        clock: Clock | None = None,
        *,
        seed: int | str = 0,
        sysctl: Mapping[str, Any] | None = None,
        ram_bytes: int = 128 << 20,
    ) -> None:
        self.clock: Clock = VirtualClock() if clock is None else clock
        check_clock("Lab", self.clock)
        if sysctl is not None:
            check_type("Lab", "sysctl", sysctl, Mapping, 'a mapping such as {"tcp_sack": 0}')
        check_type("Lab", "seed", seed, (int, str), "an int or text")
        self.seed = seed
        self.sysctl = dict(sysctl or {})
        self.ram_bytes = whole_number("Lab", "ram_bytes", ram_bytes, 1, unit="bytes")
        self._hosts: dict[str, Host] = {}
        self._nics = 0

    def __getitem__(self, name: str) -> Host:
        """The host called `name`."""
        if name not in self._hosts:
            raise KeyError(f"no host {name!r}; there are: {', '.join(self._hosts)}")
        return self._hosts[name]

    def __iter__(self) -> Iterator[Host]:
        return iter(tuple(self._hosts.values()))

    def __len__(self) -> int:
        return len(self._hosts)

    def host(self, name: str, sysctl: Mapping[str, Any] | None = None) -> Host:
        """One more host, without a NIC yet.

        Raises:
            ArgumentError: there is one of that name.
        """
        if name in self._hosts:
            raise ArgumentError(f"Lab: there is a host {name!r} already")
        self._hosts[name] = made = Host(
            name=name,
            clock=self.clock,
            ram_bytes=self.ram_bytes,
            seed=f"{self.seed}/{name}",
            sysctl=self.sysctl | dict(sysctl or {}),
        )
        return made

    @_without_gc()
    def hosts(self, prefix: str, count: int) -> list[Host]:
        """`count` hosts: a1, a2, ... for the prefix "a"."""
        count = whole_number("Lab.hosts", "count", count, 1)
        return [self.host(f"{prefix}{number}") for number in range(1, count + 1)]

    def router(self, name: str) -> Host:
        """A host that forwards packets of both families."""
        return self.host(name, FORWARDING)

    @_without_gc()
    def lan(
        self,
        network: str | Sequence[str],
        *members: Host,
        gateway: Host | None = None,
        **options: Unpack[LanOptions],
    ) -> LabLan:
        """A switch with a NIC of each member on it; they have the first addresses, in that order.

        `network`: "10.0.0.0/24", or several, one of each family say. The members other than
        `gateway` have their default routes by it. `options` are those of `add_nic`.

        Raises:
            ArgumentError: no network, more members than addresses, a gateway that is no member.
        """
        takes = "a network such as 10.0.0.0/24, or a list of them"
        check_type("Lab.lan", "network", network, (str, tuple, list), takes)
        for member in members:
            check_type("Lab.lan", "member", member, Host, "the Hosts behind the network")
        names = [network] if isinstance(network, str) else list(network)
        try:
            networks = [ip_network(name) for name in names]
        except ValueError as error:
            raise ArgumentError(f"Lab.lan: {error}; give a network such as 10.0.0.0/24") from None
        if gateway is not None and gateway not in members:
            raise ArgumentError(f"Lab.lan: the gateway {gateway.name} is none of the members")
        entries = max(TABLE_ENTRIES, len(members))
        switch = Switch(self.clock, table_entries=entries, multicast_snooping=True)
        lan = LabLan(switch, networks)
        up = options.get("up", True)
        options["up"] = False
        joined = []
        for member in members:
            self._nics += 1
            before = set(member.dev_by_name)
            mac = mac_address(self._nics)
            add_nic(member, switch.port(), mac=mac, wait=False, **options)
            (interface,) = set(member.dev_by_name) - before
            joined.append((member, interface, lan.join(member, interface)))
        for member, interface, addrs in joined:  # up when all are probed, as in `lan`
            member.ifconfig(interface, up=up or None)
            for addr in addrs:
                member.ifconfig(interface, addr)
        for member in members:
            interface = lan.interface[member.name]
            if up and not member.wait_carrier(interface):
                raise OSError(f"{member.name}: {interface} has no link")
            if gateway is not None and member is not gateway:
                for net in lan.networks:
                    via = lan.addr(gateway, family=net.version)
                    member.route_add("default", via=via, dev=interface)
        return lan

    def close(self) -> None:
        """Close every host, the last one first, as `close_hosts` does. Idempotent."""
        close_hosts(tuple(self._hosts.values())[::-1])


def _never() -> bool:
    return False


def pump(
    sender: Socket,
    receiver: Socket,
    source: Callable[[], memoryview | None],
    sink: Callable[[memoryview], None],
    *,
    read_bytes: int = 1 << 20,
) -> int:
    """Move a stream from one socket to another of the same clock, both driven by this thread.

    `source()` gives the next piece to send, None at the end (then the sender's direction is shut
    down); `sink(piece)` receives data and must copy what it keeps. Returns the number
    of bytes received when the receiver has seen the end.
    """
    from stack.socket import POLLERR, POLLHUP, POLLIN, POLLOUT, SHUT_WR, Socket, wait_any

    for name, sock in (("sender", sender), ("receiver", receiver)):
        check_type("pump", name, sock, Socket, "a Socket of a host")
    check_callable("pump", "source", source)
    check_callable("pump", "sink", sink)
    sender.setblocking(False)
    receiver.setblocking(False)
    buffer = memoryview(bytearray(read_bytes))
    both: tuple[tuple[Socket, int], ...] = ((receiver, POLLIN), (sender, POLLOUT))
    net = receiver.net
    pending = source()
    sent = received = 0
    # Large pieces fill packets by themselves, so no more is in flight than one call reads, and it
    # is still in the cache then. Small pieces queue up until they fill packets.
    large = pending is not None and 4 * len(pending) >= read_bytes
    ahead = read_bytes if large else sys.maxsize
    while True:
        blocked = pending is None
        while pending is not None and sent < received + ahead:
            try:
                n = sender.send(pending)
            except BlockingIOError:
                blocked = True
                break
            sent += n
            pending = pending[n:] if n < len(pending) else source()
            if pending is None:
                sender.shutdown(SHUT_WR)
                both = both[:1]
        with net.lock:  # run what is due
            net.clock.wait(_never, 0)
        if receiver.poll() & (POLLIN | POLLERR | POLLHUP):
            n = receiver.recv_into(buffer)
            if not n:
                return received
            sink(buffer[:n])
            received += n
        elif blocked:
            # Either end may be the one that can go on: a full send buffer empties without new data
            # for the receiver when only the last acknowledgement was outstanding.
            wait_any(net, both)
        else:
            wait_any(net, both[:1])
