"""A learning switch: any number of ports, each of them a link for a NIC (IEEE 802.1D)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from e1000emu.links import pool
from e1000emu.links.base import DEFAULT_QUEUE_FRAMES, BaseLink, LinkStats, whole
from e1000emu.links.patch import Plug
from e1000emu.links.snooping import MulticastDatabase
from e1000emu.quantities import SECOND_NS
from fastpath.errors import check_clock
from fastpath.nic.linkops import address_runs

if TYPE_CHECKING:
    from e1000emu.ports import Clock
    from fastpath.base.batch import FrameBatch

# IEEE 802.1D-2004 table 7-5: recommended ageing time.
AGING_NS = 300_000_000_000
TABLE_ENTRIES = 8192
GROUP_BIT = 1 << 40
BROADCAST = (1 << 48) - 1
# 01-80-C2-00-00-00 to 0F: never forwarded by a bridge (IEEE 802.1D-2004 7.12.6).
RESERVED = 0x0180C2000000


class SwitchPort(BaseLink):
    """One port. It drops frames for its NIC beyond `queue_frames`, as a switch does."""

    def __init__(
        self, switch: Switch, number: int, multicast_router: bool | None, isolated: bool
    ) -> None:
        super().__init__(switch.clock)
        self.switch = switch
        self.number = number
        self.multicast_router = multicast_router
        self.isolated = isolated
        self._queue: list[FrameBatch] = []
        self._queued = 0
        self._start = 0
        self._scheduled = False
        self._held = False
        self.addresses: set[int] = set()
        """Addresses learned on this port."""
        self._storm_second = -1
        self._storm_frames = 0

    def __repr__(self) -> str:
        return f"SwitchPort({self.number}, carrier={self._carrier})"

    def _attached(self) -> None:
        self._carrier = True
        multicast = self.switch.multicast
        if multicast is not None and self.multicast_router is None and isinstance(self.port, Plug):
            multicast.routers[self] = False

    def _detached(self) -> None:
        self._carrier = False
        self.stats.drop("unplugged", self._queued)
        for batch in self._queue:
            pool.put(batch)
        self._queue.clear()
        self._queued = self._start = 0
        self._held = False
        self.switch.forget(self)

    def transmit(self, batch: FrameBatch) -> None:
        """Pass the frames to the switch. Takes ownership of `batch`."""
        self.stats.tx_frames += len(batch)
        self.stats.tx_bytes += batch.nbytes
        self.switch.forward(self, batch)
        pool.put(batch)

    def enqueue(self, batch: FrameBatch, start: int, stop: int) -> None:
        """Queue a copy of frames [start, stop) for the NIC. Borrows `batch` until return."""
        if self.port is None:
            return
        fits = min(stop, start + self.switch.queue_frames - self._queued)
        if fits < stop:
            self.stats.drop("queue full", stop - max(fits, start))
        if fits <= start:
            return
        # One batch collects the frames between two deliveries, so floods do not make tiny batches.
        if len(self._queue) < 2:
            self._queue.append(pool.get())
        self._queue[-1].extend(batch, start, fits)
        self._queued += fits - start
        self._schedule()

    def admit(self, start: int, stop: int, now: int) -> int:
        """Storm control: index in frames [start, stop) where this second's flood limit ends."""
        second = now // SECOND_NS
        if second != self._storm_second:
            self._storm_second, self._storm_frames = second, 0
        fits = min(stop, start + self.switch.storm_pps - self._storm_frames)
        self._storm_frames += fits - start
        if fits < stop:
            self.stats.drop("storm control", stop - fits)
        return fits

    def rx_ready(self) -> None:
        """The port has room again."""
        if self._held:
            self._held = False
            self._schedule()

    def _schedule(self) -> None:
        if self._queue and not self._scheduled and not self._held:
            self._scheduled = True
            self.clock.call_soon(self._deliver)

    def _deliver(self) -> None:
        self._scheduled = False
        if not self._queue or self.port is None:
            return
        batch, start = self._queue[0], self._start
        if len(self._queue) == 1:
            self._queue.append(pool.get())  # frames sent meanwhile must not grow this one
        n = len(batch)
        self._held = True
        end = self.port.receive(batch, start, True)
        if not self._queue or self._queue[0] is not batch:
            return  # unplugged on receiving
        self._queued -= end - start
        self.stats.rx_frames += end - start
        self._start = end
        if end >= n:
            self._held = False
            self.stats.rx_bytes += batch.nbytes
            self._start = 0
            self._queue.pop(0)
            pool.put(batch)
            if not len(self._queue[0]):
                pool.put(self._queue.pop(0))
        self._schedule()


class Switch:
    """Learns addresses, removes them after `aging_ns`, floods unknown destinations.

    At most `table_entries` addresses are kept; if the table is full, the least recently
    heard one is replaced. With `multicast_snooping` it forwards multicast to hosts that joined the
    group by IGMP or MLD (`links.snooping`), and floods it otherwise.

    There is no spanning tree, so a loop of switches circulates broadcasts forever. `storm_pps`
    limits flooding by each port per second (broadcast, multicast and unknown addresses). Frames
    beyond that are dropped and counted with the port as "storm control". 0: no limit.

    Call with the clock's lock held.
    """

    def __init__(
        self,
        clock: Clock,
        *,
        aging_ns: int = AGING_NS,
        queue_frames: int = DEFAULT_QUEUE_FRAMES,
        table_entries: int = TABLE_ENTRIES,
        multicast_snooping: bool = False,
        storm_pps: int = 0,
    ) -> None:
        check_clock("Switch", clock)
        self.clock = clock
        self.aging_ns = whole(self, "aging_ns", aging_ns, 0, unit="ns")
        self.queue_frames = whole(self, "queue_frames", queue_frames, 1)
        self.table_entries = whole(self, "table_entries", table_entries, 1)
        self.multicast: MulticastDatabase[SwitchPort] | None = None
        """With `multicast_snooping`: the members of groups."""
        if multicast_snooping:
            self.multicast = MulticastDatabase()
        self.storm_pps = whole(self, "storm_pps", storm_pps, 0)
        self.ports: list[SwitchPort] = []
        self._open: list[SwitchPort] = []  # those of `ports` that are not isolated
        self.stats = LinkStats()
        # Address -> (port, time last heard), least recent first.
        self._table: dict[int, tuple[SwitchPort, int]] = {}

    def __repr__(self) -> str:
        return f"Switch(ports={len(self.ports)}, addresses={len(self._table)})"

    def port(self, *, multicast_router: bool | None = None, isolated: bool = False) -> SwitchPort:
        """Add a port and return it: the link to give to a NIC.

        No frame goes from an isolated port to another isolated one, as with `isolated` of Linux's
        bridge: subscribers of an access network reach their uplink and not each other.

        With snooping, `multicast_router` sets whether a multicast router or another switch is
        there: it gets all multicast and all reports. None: while a `Patch` is plugged in. A port
        where a router's queries arrive is always one.
        """
        port = SwitchPort(self, len(self.ports), multicast_router, isolated)
        self.ports.append(port)
        if not isolated:
            self._open.append(port)
        if multicast_router and self.multicast is not None:
            self.multicast.routers[port] = True
        return port

    def lookup(self, address: bytes) -> SwitchPort | None:
        """Return the port where `address` was heard and has not aged out."""
        return self._find(int.from_bytes(address, "big"), self.clock.now_ns())

    def forget(self, port: SwitchPort) -> None:
        """Remove every address learned from `port`."""
        for address in port.addresses:
            del self._table[address]
        port.addresses.clear()
        if self.multicast is not None:
            self.multicast.forget(port)

    def _find(self, address: int, now: int) -> SwitchPort | None:
        entry = self._table.get(address)
        if entry is None:
            return None
        if now - entry[1] > self.aging_ns:
            self._drop(address)
            return None
        return entry[0]

    def _drop(self, address: int) -> None:
        self._table.pop(address)[0].addresses.discard(address)

    def _learn(self, address: int, port: SwitchPort, now: int) -> None:
        if address & GROUP_BIT or not address:
            return
        table = self._table
        known = table.pop(address, None)
        if known is None or known[0] is not port:
            if known is not None:
                known[0].addresses.discard(address)
            elif len(table) >= self.table_entries:
                self._drop(next(iter(table)))
            port.addresses.add(address)
        table[address] = (port, now)

    def forward(self, source: SwitchPort, batch: FrameBatch) -> None:
        """Queue the frames of `source` for their ports. Borrows `batch` until return."""
        now = self.clock.now_ns()
        for start, stop, dst, src in address_runs(batch):
            if dst < 0:
                self.stats.drop("bad frame", stop - start)
                continue
            self._learn(src, source, now)
            if dst & ~0xF == RESERVED:
                self.stats.drop("reserved address", stop - start)
                continue
            target = None if dst & GROUP_BIT else self._find(dst, now)
            if target is source:
                self.stats.drop("same port", stop - start)
            elif target is not None and source.isolated and target.isolated:
                self.stats.drop("isolated", stop - start)
            elif target is not None:
                target.enqueue(batch, start, stop)
            elif dst & GROUP_BIT and self.multicast is not None and dst != BROADCAST:
                for at in range(start, stop):
                    ports = self.multicast.route(source, dst, src, batch[at])
                    self._flood(source, batch, at, at + 1, ports)
            else:
                self._flood(source, batch, start, stop, None)

    def _flood(
        self,
        source: SwitchPort,
        batch: FrameBatch,
        start: int,
        stop: int,
        ports: Iterable[SwitchPort] | None,
    ) -> None:
        """Queue frames for `ports`, or for all, except the source port."""
        if self.storm_pps:
            stop = source.admit(start, stop, self.clock.now_ns())
            if stop <= start:
                return
        if ports is None:
            ports = self._open if source.isolated else self.ports
        elif source.isolated:
            ports = [port for port in ports if not port.isolated]
        for port in ports:
            if port is not source:
                port.enqueue(batch, start, stop)
