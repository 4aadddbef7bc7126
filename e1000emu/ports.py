"""The borders of the device, as protocols: DMA memory, interrupt line, link, clock, management.

Nothing here has a body: a port says what crosses a border, so that a test, a lab and an embedding
can each bring their own end.  ``DmaMemory`` is a compiled class (`fastpath.base.dma.DmaTable`),
because the ring engines walk its regions without entering Python; the protocol below names the part
that other Python code may rely on.

Threading: everything on one clock is guarded by ``clock.lock``.  Ports are called with it held.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

if TYPE_CHECKING:
    from fastpath.base.batch import FrameBatch


@runtime_checkable
class DmaMemory(Protocol):
    """What the device sees as bus master.

    An access outside every region is a PCI master abort: reads give all ones, writes vanish and
    `aborts` counts it; never an exception.
    """

    enabled: bool
    """Bus mastering is on (PCI command bit 2); while False every access aborts."""

    @property
    def aborts(self) -> int:
        """Accesses that ended in a master abort, since the table was made."""

    def read(self, addr: int, n: int) -> bytes:
        """Return `n` bytes at bus address `addr`; bytes outside every region read FF."""

    def write(self, addr: int, data: bytes) -> Any:
        """Store `data` at bus address `addr`; bytes outside every region vanish."""


class InterruptLine(Protocol):
    """A level-triggered interrupt input of the host (INTx)."""

    def set_level(self, level: bool) -> None:
        """Drive the line.  The host may run its handler before this returns."""


class TimerHandle(Protocol):
    """A pending call on a clock."""

    def cancel(self) -> None:
        """Forget the call; harmless when it has already run."""


class Clock(Protocol):
    """Time, timers and the one sleeping primitive of everything on this clock.

    A clock may have three more methods, which hosts call when they exist. `realtime_ns()` returns
    the wall time, ns since 1970-01-01 UTC; without it that is the machine's.
    `require_running(what)` raises when time would stand still during a sleep outside of the
    clock (in select, in an asyncio loop). Each host calls `watch(interrupt, progress, describe)` to
    say how to see that nothing happens on it any more (e1000emu/clock/stall.py).
    """

    @property
    def lock(self) -> AbstractContextManager[Any]:
        """The lock that guards everything on this clock (an RLock, or one that does nothing)."""

    def now_ns(self) -> int:
        """Return the time in ns; never goes back."""

    def call_at(self, when_ns: int, fn: Callable[[], None]) -> TimerHandle:
        """Run `fn` at `when_ns` (at once, but not before this returns, when that has passed)."""

    def call_soon(self, fn: Callable[[], None]) -> None:
        """Run `fn` after the current event at the same time, in the order of the calls."""

    def cancel(self, handle: Any) -> None:
        """Forget a pending call."""

    def add_reader(self, fd: int, fn: Callable[[], None]) -> None:
        """Run `fn` whenever `fd` is readable."""

    def remove_reader(self, fd: int) -> None:
        """Stop watching `fd`."""

    def wait(self, cond: Callable[[], bool], timeout_ns: int | None = None) -> bool:
        """Sleep until `cond()` or the timeout; return the last `cond()`.  Call with lock held."""

    def wake(self) -> None:
        """Say that something a waiter may wait for has changed."""


class Stage(Protocol):
    """A stage before a ring engine, for memory that answers by messages and not at once.

    It fetches what a run is going to read, lets the engine run, and raises the run's causes when
    its writes have arrived.
    """

    @property
    def busy(self) -> bool:
        """Memory has not yet answered a read or a write."""

    def run(self) -> None:
        """The ring or the link has changed: fetch, or let the engine run."""

    def forget(self) -> None:
        """Drop what was fetched, because the ring has changed."""

    def after(self, causes: int) -> None:
        """The engine has run: raise `causes` once its writes are in memory."""


class LinkPort(Protocol):
    """The side of a link that a NIC (or a generator, a tap, a host) implements."""

    def receive(self, batch: FrameBatch, start: int, hold: bool) -> int:
        """Take frames of `batch` from index `start`; return the index after the last one taken.

        Borrows `batch` until return.  With `hold` the link can keep what is not taken, and the
        port calls `Link.rx_ready` when it has room again; without it the port takes or drops all.
        """

    def link_changed(self, up: bool, speed_mbps: int, full_duplex: bool) -> None:
        """The carrier, or what the far end offers, has changed."""

    def tx_ready(self) -> None:
        """The link takes frames again after `tx_room` said 0."""


class Link(Protocol):
    """What a NIC plugs into: batches of frames both ways, and a carrier.

    A link that can do more has an attribute `caps`, a `links.LinkCaps`; without it the link takes
    the frames of a wire in no time.
    """

    @property
    def carrier(self) -> bool:
        """The far end is there."""

    @property
    def speed_mbps(self) -> int:
        """The best speed that the far end offers."""

    def attach(self, port: LinkPort) -> None:
        """Plug `port` in; carrier changes reach it from now on."""

    def detach(self) -> None:
        """Unplug the port."""

    def tx_room(self) -> int:
        """Return how many frames the link takes now; 0 means wait for `LinkPort.tx_ready`."""

    def transmit(self, batch: FrameBatch) -> None:
        """Send the frames.  Takes ownership of `batch`; its consumer returns it to the pool.

        They are the frames of a wire, unless `caps.gso_max_bytes` is above 0. Then plain TCP may
        come as super-frames of that many IP bytes, which the link cuts up or has cut up. These have
        FB_GSO_TCPV4 or FB_GSO_TCPV6 and a mark (fastpath/base/batch.pxd). With `caps.gso_udp` plain
        UDP may too (FB_GSO_UDP).
        """

    def rx_ready(self) -> None:
        """The port has room again after it left frames of a held batch."""


class ManagementController(Protocol):
    """A board's management controller: the host of the part's SMBus.

    Frames that MANC's filters take wait in a FIFO of the part until it reads them (`Nic.management`
    is its `ManagementPort`).
    """

    @property
    def reset_on_force(self) -> bool:
        """MANC.R_ON_FORCE: `ManagementPort.force_tco` resets the part."""

    def attach(self, port: ManagementPort) -> None:
        """Take the port; do nothing with it before the Nic is made."""

    def alert(self) -> None:
        """SMBALERT#: there is a frame to read, room to send again, or the status has changed.

        The port may be called before this returns, except for `force_tco`.
        """


@dataclass(frozen=True, slots=True)
class ManagementStatus:
    """The part's status for its controller."""

    link_up: bool
    """STATUS.LU."""
    asleep: bool
    """The function is not in D0: no driver serves it."""
    tco_reset: bool
    """MANC.TCO_RESET: a forced reset was done."""


class ManagementPort(Protocol):
    """The side of the SMBus that a Nic implements (`Nic.management`), a frame at a time."""

    def receive_enable(
        self, filters: Sequence[str] | None = None, report_status: bool = False, /
    ) -> None:
        """Let frames in: MANC.RCV_TCO_EN, its filters, REPORT_STATUS."""

    def receive_disable(self) -> None:
        """Let no frames in any more."""

    @property
    def waiting(self) -> int:
        """Frames that can be read."""

    def read(self) -> bytes | None:
        """Return the oldest frame that waits, without FCS."""

    def send(self, frame: bytes, /) -> bool:
        """Send a frame, without FCS; False: one still waits, and `alert` is called when it is
        sent."""

    def force_tco(self) -> None:
        """Reset the part when its host does not respond any more."""

    def status(self) -> ManagementStatus:
        """Return what the part is doing."""


class PciSlot(Protocol):
    """What a host's PCI layer drives; offered by a Nic, a qtest adapter, a vfio-user client."""

    def config_read(self, off: int, size: int) -> int:
        """Read `size` (1, 2, 4) bytes of configuration space at `off`, little endian."""

    def config_write(self, off: int, value: int, size: int) -> None:
        """Write `size` (1, 2, 4) bytes of configuration space at `off`."""

    def bar_read(self, bar: int, off: int, size: int) -> int:
        """Read `size` bytes at `off` inside base address register `bar`."""

    def bar_write(self, bar: int, off: int, value: int, size: int) -> None:
        """Write `size` bytes at `off` inside base address register `bar`."""

    def bar_size(self, bar: int) -> int:
        """Return the size of `bar` in bytes; 0 when it is not implemented."""
