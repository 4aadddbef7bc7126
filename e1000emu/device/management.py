"""Management: frames for and from a controller on the board (MANC's filters).

The controller is the host of the part's SMBus (`ports.ManagementController`, `Nic(management=…)`);
this file models the packet level of that interface, not the bytes on the bus. Without a controller
there is no management: SMBUS_EN is 0 and the filters match nothing.

The part's manual (SDM 13.7.38 to 13.7.40) says what is counted, and refers to application notes for
the filters.  So MANC's bits mean what the first drivers for these parts call them (e1000_hw.h). The
frame formats of ARP requests and neighbour solicitations are those of the wake-up filters (SDM
6.4.3). Documents of later parts say that RCV_TCO_EN enables all of it, that the address filters
come first, and what a TCO reset does. They are the 82598's datasheet (5.3.10, Receive Control
Byte), the I210's (10.5.9, 10.6.3.12) and the 82575's manual (14.7).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Annotated

import msgspec

from e1000emu.device.state import BlockState
from e1000emu.device.tx import FCS_BYTES, MIN_FRAME
from e1000emu.errors import ArgumentError
from e1000emu.ports import ManagementStatus
from e1000emu.registers.regs import reg
from fastpath.nic.macpath import TX_NO_WIRE, WATCH_MANAGEMENT
from fastpath.nic.rxfilter import ACCEPT, BROADCAST, MULTICAST

if TYPE_CHECKING:
    from e1000emu.device.filters import Filters
    from e1000emu.device.interrupts import Interrupts
    from e1000emu.device.linkunit import LinkUnit
    from e1000emu.device.pci import PciFunction
    from e1000emu.device.regview import Registers
    from e1000emu.device.rx import Rx
    from e1000emu.device.tx import Tx
    from e1000emu.ports import Clock, Link, ManagementController, TimerHandle
    from e1000emu.registers.models import Model
    from fastpath.base.batch import FrameBatch
    from fastpath.nic.macpath import MacState
    from fastpath.nic.regfile import Stats

__all__ = ["FILTERS", "FRAME_BYTES", "RECEIVE_BYTES", "Management", "ManagementState", "required"]

MANC = reg("MANC")
SMBUS_EN, R_ON_FORCE, TCO_RESET = (MANC.mask(n) for n in ("SMBUS_EN", "R_ON_FORCE", "TCO_RESET"))
RCV_TCO_EN, REPORT_STATUS = MANC.mask("RCV_TCO_EN"), MANC.mask("REPORT_STATUS")
FILTERS = (
    *("RMCP_EN", "0298_EN", "IPV4_EN", "IPV6_EN"),
    *("SNAP_EN", "ARP_EN", "NEIGHBOR_EN", "ARP_RES_EN"),
)
"""The bits of MANC that select the frames that pass."""
RMCP_EN, PORT_0298_EN, IPV4_EN, IPV6_EN, SNAP_EN, ARP_EN, NEIGHBOR_EN, ARP_RES_EN = (
    MANC.mask(name) for name in FILTERS
)
ALL_FILTERS = MANC.mask(*FILTERS)
RCTL, RCTL_EN, RCTL_BAM = reg("RCTL"), reg("RCTL").mask("EN"), reg("RCTL").mask("BAM")
VET = reg("VET").offset
ETH_P_ARP, ETH_P_IP, ETH_P_IPV6 = 0x0806, 0x0800, 0x86DD
MAX_LENGTH = 1500
"""A type field up to here is a length (IEEE 802.3 3.2.6)."""
SNAP = bytes.fromhex("aaaa03000000")
ARP_IPV4 = bytes.fromhex("00010800060400")
"""The start of an ARP packet up to the high byte of its operation: Ethernet and IPv4."""
ARP_FILTERS = {1: ARP_EN, 2: ARP_RES_EN}
RMCP_FILTERS = {0x26F: RMCP_EN, 0x298: PORT_0298_EN}
IPPROTO_UDP, IPPROTO_ICMPV6 = 17, 58
EXTENSIONS = frozenset((0, 43, 60))
"""Hop-by-hop options, routing, destination options: passed over (SDM 6.4.3.4)."""
NEIGHBOUR_SOLICITATION = bytes((135, 0))
ARP_BYTES, UDP_BYTES, IPV4_BYTES, IPV6_BYTES = 28, 8, 20, 40
MIN_WIRE, MAX_WIRE = 64, 1522
FRAME_BYTES = 200
"""A longer frame, FCS included, passes the filters and is dropped (SDM 13.7.39)."""
RECEIVE_BYTES = 1024
"""The most bytes of frames that wait for the controller; the manual gives no number."""
SEND_BYTES = MAX_WIRE - FCS_BYTES
RETRY_NS = 200_000
BUCKETS = ((64, "PRC64"), (127, "PRC127"), (255, "PRC255"), (511, "PRC511"), (1023, "PRC1023"))


def required(frame: bytes, vet: int) -> int:
    """Return the bits of MANC that have to be set, all of them, for `frame` to pass.

    0: no filter is for it.  `frame` is without FCS; one tag of type `vet` is passed over.
    """
    at = 12
    if _word(frame, at) == vet:
        at += 4
    bits = 0
    if _word(frame, at) <= MAX_LENGTH and frame[at + 2 : at + 2 + len(SNAP)] == SNAP:
        bits = SNAP_EN
        at += 2 + len(SNAP)
    kind, packet = _word(frame, at), frame[at + 2 :]
    if kind == ETH_P_ARP:
        found = _arp(packet)
    elif kind == ETH_P_IP:
        found = _ipv4(packet)
    elif kind == ETH_P_IPV6:
        found = _ipv6(packet)
    else:
        return 0
    return found and found | bits


def _word(data: bytes, at: int) -> int:
    return int.from_bytes(data[at : at + 2], "big")


def _arp(packet: bytes) -> int:
    if len(packet) < ARP_BYTES or packet[:7] != ARP_IPV4:
        return 0
    return ARP_FILTERS.get(packet[7], 0)


def _ipv4(packet: bytes) -> int:
    """A UDP datagram's first fragment, or all of it: the port is not in the others."""
    if len(packet) < IPV4_BYTES or packet[0] >> 4 != 4:
        return 0
    header = 4 * (packet[0] & 15)
    whole = min(_word(packet, 2), len(packet))
    if header < IPV4_BYTES or whole < header + UDP_BYTES:
        return 0
    if packet[9] != IPPROTO_UDP or _word(packet, 6) & 0x1FFF:
        return 0
    found = RMCP_FILTERS.get(_word(packet, header + 2), 0)
    return found and found | IPV4_EN


def _ipv6(packet: bytes) -> int:
    if len(packet) < IPV6_BYTES or packet[0] >> 4 != 6:
        return 0
    end = min(IPV6_BYTES + _word(packet, 4), len(packet))
    following, at = packet[6], IPV6_BYTES
    while following in EXTENSIONS and at + 8 <= end:
        following, at = packet[at], at + 8 * (packet[at + 1] + 1)
    if following == IPPROTO_UDP and at + UDP_BYTES <= end:
        found = RMCP_FILTERS.get(_word(packet, at + 2), 0)
        return found and found | IPV6_EN
    if following == IPPROTO_ICMPV6 and at + 24 <= end and packet[7] == 255:
        return NEIGHBOR_EN if packet[at : at + 2] == NEIGHBOUR_SOLICITATION else 0
    return 0


Frame = Annotated[bytes, msgspec.Meta(min_length=MIN_FRAME, max_length=SEND_BYTES)]


class ManagementState(BlockState):
    """Frames on their way to the controller and from it; MANC is a register."""

    waiting: list[Frame]
    sending: Frame | None
    refused: bool = False


class Management:
    """`Nic.management`: MANC, the receive FIFO of the controller, the frame that it sends.

    The calls below are the controller's; call them with the clock's lock held, and with the
    `DataPath` if one works for the device.  They raise ArgumentError on a board without one.
    """

    def __init__(
        self,
        controller: ManagementController | None,
        *,
        model: Model,
        regs: Registers,
        stats: Stats,
        shared: MacState,
        clock: Clock,
        link: Link,
        interrupts: Interrupts,
        filters: Filters,
        tx: Tx,
        rx: Rx,
        link_unit: LinkUnit,
        pci: PciFunction,
        on_reset: Callable[[], None],
    ) -> None:
        """`on_reset` resets the MAC, as CTRL.RST does.  Raises: ArgumentError, the part has no
        MANC."""
        if controller is not None and MANC.name in model.lacks:
            raise ArgumentError(
                f"management: the {model.name} has no management interface (MANC); "
                "use another model, or give no controller"
            )
        self._regs, self._stats, self._filters = regs, stats, filters
        self._shared, self._clock, self._link, self._interrupts = shared, clock, link, interrupts
        self._tx, self._rx, self._link_unit, self._pci = tx, rx, link_unit, pci
        self._on_reset = on_reset
        self._controller = controller
        self._waiting: deque[bytes] = deque()
        self._sending: bytes | None = None
        self._refused = False
        """A frame found another one still waiting to be sent."""
        self._owed = False
        """An alert is due that a pause of the device has held back."""
        self._retry: TimerHandle | None = None

    @property
    def attached(self) -> bool:
        """The board has a controller."""
        return self._controller is not None

    # --- calls of the controller -----------------------------------------------------------------

    def receive_enable(
        self, filters: Sequence[str] | None = None, report_status: bool = False, /
    ) -> None:
        """Set MANC.RCV_TCO_EN: frames that the filters take go to the controller, not to the host.

        `filters` are names out of `FILTERS`, to be set in MANC while the others are cleared; None
        leaves them as they are.  `report_status` is MANC.REPORT_STATUS: alert at a change of link.
        Raises: ArgumentError.
        """
        self._need()
        peek, poke = self._regs.peek, self._regs.poke
        value = peek(MANC.offset)
        if filters is not None:
            unknown = [name for name in filters if name not in FILTERS]
            if unknown:
                raise ArgumentError(f"filters {unknown}: not of MANC; use {', '.join(FILTERS)}")
            value = value & ~ALL_FILTERS | MANC.mask(*set(filters))
        value = value & ~REPORT_STATUS | (REPORT_STATUS if report_status else 0)
        poke(MANC.offset, value | RCV_TCO_EN)
        self.update()

    def receive_disable(self) -> None:
        """Clear MANC.RCV_TCO_EN and REPORT_STATUS; frames that wait can still be read."""
        self._need()
        self._regs.clear_bits(MANC.offset, RCV_TCO_EN | REPORT_STATUS)
        self.update()

    @property
    def waiting(self) -> int:
        """Frames that can be read."""
        return len(self._waiting)

    def read(self) -> bytes | None:
        """Return the oldest frame that waits, without its FCS; None: there is none."""
        self._need()
        return self._waiting.popleft() if self._waiting else None

    def send(self, frame: bytes, /) -> bool:
        """Put `frame` (without FCS; padded to 60 bytes) into the transmit FIFO.

        It is sent when the link is up and has room, and no PAUSE holds it.  False: an earlier one
        still waits there; `alert` is called when that has been sent.  Raises: ArgumentError, it is
        shorter than a header or longer than a frame.
        """
        self._need()
        if not 14 <= len(frame) <= SEND_BYTES:
            raise ArgumentError(f"frame of {len(frame)} bytes: give 14 to {SEND_BYTES}, no FCS")
        if self._sending is not None:
            self._refused = True
            return False
        self._sending = bytes(frame).ljust(MIN_FRAME, b"\0")
        self.pump()
        return True

    def force_tco(self) -> None:
        """Reset the MAC as CTRL.RST does, and set TCO_RESET, if R_ON_FORCE is set; else nothing.

        For a host that hangs: rings and filters are cleared, the link stays up. Do not call it from
        `alert`.
        """
        self._need()
        if self._regs.peek(MANC.offset) & R_ON_FORCE:
            self._regs.set_bits(MANC.offset, TCO_RESET)
            self._on_reset()

    def status(self) -> ManagementStatus:
        """Return the part's status."""
        return ManagementStatus(
            link_up=self._link_unit.up,
            asleep=bool(self._pci.power_state),
            tco_reset=bool(self._regs.peek(MANC.offset) & TCO_RESET),
        )

    def _need(self) -> None:
        if self._controller is None:
            raise ArgumentError("the board has no management controller; give Nic(management=…)")

    def _alert(self) -> None:
        if self._controller is None:
            return
        if self._shared.still:
            self._owed = True
            return
        self._controller.alert()

    # --- the device ------------------------------------------------------------------------------

    def update(self) -> None:
        """Enable or disable the filters after a change of MANC."""
        on = self.attached and bool(self._regs.peek(MANC.offset) & RCV_TCO_EN)
        self._rx.watch(WATCH_MANAGEMENT, on)

    def passes(self, frame: bytes) -> bool:
        """Return whether a good frame is the controller's: address filters first, then MANC's.

        Broadcast passes whatever RCTL.BAM is, and RCTL.EN may be clear, because no driver need run.
        """
        peek = self._regs.peek
        manc = peek(MANC.offset)
        if self._controller is None or not manc & RCV_TCO_EN:
            return False
        vet = peek(VET) & 0xFFFF
        bits = required(frame, vet)
        if not bits or bits & manc != bits:
            return False
        verdict = self._filters.engine.verdict(frame, peek(RCTL.offset) | RCTL_BAM, vet)
        return bool(verdict & ACCEPT)

    def find(self, batch: FrameBatch, start: int) -> tuple[int, bytes]:
        """Find the first frame of `batch`, from `start` on, that is the controller's.

        Returns its index, and the frame without FCS; (length of `batch`, empty) if there is none.
        """
        for i in range(start, len(batch)):
            frame = self._rx.good(batch, i)
            if MIN_WIRE <= len(frame) + FCS_BYTES <= MAX_WIRE and self.passes(frame):
                return i, frame
        return len(batch), b""

    def take(self, frame: bytes) -> None:
        """A frame has passed: count it, and keep it for the controller (SDM 13.7.38, 13.7.39)."""
        stats, wire = self._stats, len(frame) + FCS_BYTES
        stats.add("MGTPRC")
        if self._regs.peek(RCTL.offset) & RCTL_EN:
            self._count(frame, wire)
        used = sum(map(len, self._waiting))
        if wire > FRAME_BYTES or used + len(frame) > RECEIVE_BYTES:
            stats.add("MGTPDC")
            return
        self._waiting.append(frame)
        self._alert()

    def _count(self, frame: bytes, wire: int) -> None:
        """Count a good frame as every other one is, the receiver being on."""
        add = self._stats.add
        for name in ("TPR", "GPRC"):
            add(name)
        for name in ("TOR", "GORC"):
            add(name, wire)
        add(next((name for size, name in BUCKETS if wire <= size), "PRC1522"))
        verdict = self._filters.engine.verdict(frame, self._regs.peek(RCTL.offset) | RCTL_BAM)
        if verdict & BROADCAST:
            add("BPRC")
        elif verdict & MULTICAST:
            add("MPRC")

    def pump(self) -> None:
        """Send the frame that waits if link, PAUSE and run state allow it now (SDM 13.7.40)."""
        tx = self._tx
        if self._sending is None or tx.stopped_by & TX_NO_WIRE or tx.loop is not None:
            return
        if tx.room() <= 0:
            # The link promises a tx_ready; with threads that is the data thread's.
            if self._interrupts.threaded and self._retry is None:
                self._retry = self._clock.call_at(self._clock.now_ns() + RETRY_NS, self._try_again)
            return
        frame, self._sending = self._sending, None
        self._stats.add("MGTPTC")
        tx.send_frame(frame)
        if self._refused:
            self._refused = False
            self._alert()

    def halt(self) -> None:
        """Do not look again whether the frame that waits can be sent."""
        if self._retry is not None:
            self._retry.cancel()
            self._retry = None

    def _try_again(self) -> None:
        self._retry = None
        self.pump()

    def link_changed(self) -> None:
        """STATUS.LU has changed."""
        self.pump()
        if self.attached and self._regs.peek(MANC.offset) & REPORT_STATUS:
            self._alert()

    def go_on(self) -> None:
        """Process requests made during a pause of the device."""
        if self._owed:
            self._owed = False
            self._alert()
        self.pump()

    # --- reset, snapshot -------------------------------------------------------------------------

    def before_reset(self) -> int:
        """Return what `reset` restores: only power-on clears MANC (as in 82575 14.7)."""
        return self._regs.peek(MANC.offset) if self.attached else 0

    def reset(self, kept: int, power_on: bool) -> None:
        """The MAC was reset; `kept` is what `before_reset` returned.

        A controller's session continues across a driver's resets.
        """
        if self.attached:
            if power_on:
                kept = 0
                self._waiting.clear()
                self._sending, self._refused, self._owed = None, False, False
                self.halt()
            self._strap(kept)
        self.update()

    def _strap(self, manc: int) -> None:
        """Store MANC with the bits that the board sets: a controller exists and may reset the
        part."""
        assert self._controller is not None
        force = R_ON_FORCE if self._controller.reset_on_force else 0
        self._regs.poke(MANC.offset, manc & ~R_ON_FORCE | SMBUS_EN | force)

    def state(self) -> ManagementState | None:
        """Return what a snapshot needs; nothing without a controller."""
        if not self.attached:
            return None
        return ManagementState.of(self, waiting=list(self._waiting))

    def load(self, state: ManagementState | None) -> None:
        """Take back what `state` returned; the registers are loaded already."""
        if self.attached:
            state = state or ManagementState(waiting=[], sending=None)
            if sum(map(len, state.waiting)) > RECEIVE_BYTES:
                raise ValueError("management.waiting")
            self._waiting = deque(state.waiting)
            self._sending, self._refused = state.sending, state.refused
            self._strap(self._regs.peek(MANC.offset))
        self.update()

    def loaded(self) -> None:
        """Tell the controller, perhaps another one than before, after the whole device was
        loaded."""
        if self._waiting:
            self._alert()
        self.pump()
