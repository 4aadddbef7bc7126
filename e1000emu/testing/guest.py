"""GuestRings: the fake driver.

The least a program must do to move frames through an 8254x: enable it, reset it, give it two
rings, ring the doorbells, look at the descriptors that come back. It drives any PCI slot (a
:class:`e1000emu.device.nic.Nic`'s, another emulator's: :class:`Slot`) and keeps its rings in a
:class:`fastpath.base.dma.HostMemory`. Device tests, fuzzers, benchmarks and users take this one.

It never hides what it does: every register and every descriptor bit can be given by the caller,
also wrong ones, and nothing is corrected on the way.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from enum import IntEnum, IntFlag
from typing import TYPE_CHECKING, Protocol

from fastpath.errors import check_callable, check_methods, whole_number

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from fastpath.base.dma import HostMemory

DESC_BYTES = 16
ALL_ONES = 0xFFFF_FFFF


class Slot(Protocol):
    """What the fake driver needs of a PCI slot: configuration space, 32-bit accesses to BAR0."""

    def config_read(self, off: int, size: int) -> int: ...

    def config_write(self, off: int, value: int, size: int) -> None: ...

    def bar_read(self, bar: int, off: int, size: int) -> int: ...

    def bar_write(self, bar: int, off: int, value: int, size: int) -> None: ...


PCI_COMMAND = 0x04


class Command(IntFlag):
    """PCI command register (SDM 4.1, table 4-2)."""

    IO = 1 << 0
    MEMORY = 1 << 1
    MASTER = 1 << 2


class Reg(IntEnum):
    """Register offsets a driver of the 8254x writes down for itself (SDM 13.3, table 13-2)."""

    CTRL = 0x0000
    STATUS = 0x0008
    EECD = 0x0010
    EERD = 0x0014
    CTRL_EXT = 0x0018
    MDIC = 0x0020
    FCAL = 0x0028
    FCAH = 0x002C
    FCT = 0x0030
    VET = 0x0038
    ICR = 0x00C0
    ITR = 0x00C4
    ICS = 0x00C8
    IMS = 0x00D0
    IMC = 0x00D8
    RCTL = 0x0100
    FCTTV = 0x0170
    TXCW = 0x0178
    RXCW = 0x0180
    TCTL = 0x0400
    TIPG = 0x0410
    LEDCTL = 0x0E00
    PBA = 0x1000
    RDBAL = 0x2800
    RDBAH = 0x2804
    RDLEN = 0x2808
    RDH = 0x2810
    RDT = 0x2818
    RDTR = 0x2820
    RXDCTL = 0x2828
    RADV = 0x282C
    RSRPD = 0x2C00
    TDBAL = 0x3800
    TDBAH = 0x3804
    TDLEN = 0x3808
    TDH = 0x3810
    TDT = 0x3818
    TIDV = 0x3820
    TXDCTL = 0x3828
    TADV = 0x382C
    TSPMT = 0x3830
    RXCSUM = 0x5000
    MTA = 0x5200
    RAL = 0x5400
    RAH = 0x5404
    VFTA = 0x5600


class Ctrl(IntFlag):
    """CTRL (SDM 13.4.1)."""

    FD = 1 << 0
    LRST = 1 << 3
    ASDE = 1 << 5
    SLU = 1 << 6
    RST = 1 << 26
    RFCE = 1 << 27
    TFCE = 1 << 28
    VME = 1 << 30
    PHY_RST = 1 << 31


class Rctl(IntFlag):
    """RCTL (SDM 13.4.22)."""

    EN = 1 << 1
    SBP = 1 << 2
    UPE = 1 << 3
    MPE = 1 << 4
    LPE = 1 << 5
    LBM_MAC = 1 << 6
    RDMTS_QUARTER = 1 << 8
    RDMTS_EIGHTH = 2 << 8
    BAM = 1 << 15
    BSIZE_1024 = 1 << 16
    BSIZE_512 = 2 << 16
    BSIZE_256 = 3 << 16
    VFE = 1 << 18
    CFIEN = 1 << 19
    CFI = 1 << 20
    DPF = 1 << 22
    PMCF = 1 << 23
    BSEX = 1 << 25
    SECRC = 1 << 26


RCTL_BSIZE = {
    256: Rctl.BSIZE_256,
    512: Rctl.BSIZE_512,
    1024: Rctl.BSIZE_1024,
    2048: Rctl(0),
    4096: Rctl.BSEX | Rctl.BSIZE_256,
    8192: Rctl.BSEX | Rctl.BSIZE_512,
    16384: Rctl.BSEX | Rctl.BSIZE_1024,
}
"""RCTL.BSIZE and BSEX by receive buffer bytes (SDM table 13-67)."""


class Tctl(IntFlag):
    """TCTL (SDM 13.4.33)."""

    EN = 1 << 1
    PSP = 1 << 3
    CT = 0x0F << 4
    COLD_FD = 0x40 << 12


class Int(IntFlag):
    """Interrupt causes in ICR, ICS, IMS and IMC (SDM 13.4.17)."""

    TXDW = 1 << 0
    TXQE = 1 << 1
    LSC = 1 << 2
    RXSEQ = 1 << 3
    RXDMT0 = 1 << 4
    RXO = 1 << 6
    RXT0 = 1 << 7
    MDAC = 1 << 9
    RXCFG = 1 << 10
    PHYINT = 1 << 12
    TXD_LOW = 1 << 15
    SRPD = 1 << 16


class TxCmd(IntFlag):
    """Command bits of a transmit descriptor (SDM 3.3.3.1, 3.3.6, 3.3.7)."""

    EOP = 1 << 0
    IFCS = 1 << 1
    IC = 1 << 2  # legacy descriptor
    TSE = 1 << 2  # context and data descriptor
    RS = 1 << 3
    RPS = 1 << 4
    DEXT = 1 << 5
    VLE = 1 << 6
    IDE = 1 << 7


class Tucmd(IntFlag):
    """TUCMD bits of a context descriptor (SDM 3.3.6.1)."""

    TCP = 1 << 0
    IP = 1 << 1
    TSE = 1 << 2
    RS = 1 << 3
    DEXT = 1 << 5
    IDE = 1 << 7


class Popts(IntFlag):
    """Packet options of a data descriptor (SDM 3.3.7.1)."""

    IXSM = 1 << 0
    TXSM = 1 << 1


class RxStatus(IntFlag):
    """Status of a receive descriptor (SDM 3.2.3.1)."""

    DD = 1 << 0
    EOP = 1 << 1
    IXSM = 1 << 2
    VP = 1 << 3
    TCPCS = 1 << 5
    IPCS = 1 << 6
    PIF = 1 << 7


class RxErrors(IntFlag):
    """Errors of a receive descriptor (SDM 3.2.3.2)."""

    CE = 1 << 0
    SE = 1 << 1
    SEQ = 1 << 2
    CXE = 1 << 4
    TCPE = 1 << 5
    IPE = 1 << 6
    RXE = 1 << 7


TX_DD = 1
"""Descriptor done in the status field of a transmit descriptor."""


@dataclass(frozen=True, slots=True)
class RxFrame:
    """One received frame, put together from its descriptors."""

    data: bytes
    status: RxStatus
    errors: RxErrors
    checksum: int
    """Packet checksum of the first descriptor, host order (SDM 3.2.3)."""
    special: int
    """VLAN tag of the last descriptor; valid when ``status`` has VP."""
    descriptors: int

    @property
    def ok(self) -> bool:
        """Tell whether no error bit is set."""
        return not self.errors


@dataclass(frozen=True, slots=True)
class RxDescriptor:
    """A receive descriptor as it lies in memory (SDM 3.2.3)."""

    addr: int
    length: int
    checksum: int
    status: RxStatus
    errors: RxErrors
    special: int


@dataclass(slots=True)
class Ring:
    """A descriptor ring in host memory and the driver's place in it."""

    base: int
    count: int
    next_to_use: int = 0
    next_to_clean: int = 0
    buffers: list[tuple[int, int]] = field(default_factory=list)

    @property
    def size_bytes(self) -> int:
        """Bytes of the ring, for TDLEN or RDLEN."""
        return self.count * DESC_BYTES

    def address(self, index: int) -> int:
        """Return the bus address of descriptor `index`, counted around the ring."""
        return self.base + (index % self.count) * DESC_BYTES


class GuestRings:
    """Two rings and a handful of register writes: enough to send and to receive.

    ``up()`` does all that is needed; each of its steps can be called alone. Frames are bytes
    without FCS (with it when RCTL.SECRC is left off, as the device then stores it).
    """

    def __init__(
        self,
        slot: Slot,
        memory: HostMemory,
        *,
        tx_count: int = 256,
        rx_count: int = 256,
        rx_buffer_bytes: int = 2048,
        step: Callable[[], object] | None = None,
    ) -> None:
        """Make the driver; nothing is written to the device yet.

        `step` lets time pass while the driver polls (``clock.run_until_idle``); without it the
        device is expected to act at the doorbell.
        """
        check_methods("GuestRings", "slot", slot, ("bar_read", "config_read"), "such as Nic.slot")
        takes = "the guest's memory, such as host_memory()[0]"
        check_methods("GuestRings", "memory", memory, ("alloc",), takes)
        tx_count = whole_number("GuestRings", "tx_count", tx_count, 1)
        rx_count = whole_number("GuestRings", "rx_count", rx_count, 1)
        rx_buffer_bytes = whole_number("GuestRings", "rx_buffer_bytes", rx_buffer_bytes, 1)
        if step is not None:
            check_callable("GuestRings", "step", step)
        self.slot = slot
        self.memory = memory
        self.step = step
        self.rx_buffer_bytes = rx_buffer_bytes
        self.tx = Ring(memory.alloc(tx_count * DESC_BYTES, 128), tx_count)
        self.rx = Ring(memory.alloc(rx_count * DESC_BYTES, 128), rx_count)
        self.rctl = Rctl(0)
        self._tx_arena: list[list[tuple[int, int]]] = [[] for _ in range(tx_count)]

    # -- registers ---------------------------------------------------------------------------------

    def read(self, reg: int) -> int:
        """Read a 32-bit register of BAR0."""
        return self.slot.bar_read(0, int(reg), 4)

    def write(self, reg: int, value: int) -> None:
        """Write a 32-bit register of BAR0; only the low 32 bits of `value` are used."""
        self.slot.bar_write(0, int(reg), int(value) & ALL_ONES, 4)

    # -- bring-up ----------------------------------------------------------------------------------

    def pci_enable(self) -> None:
        """Decode the BARs and allow DMA, as pci_enable_device and pci_set_master do (SDM 4.1).

        Bits that are set stay; a slot that has them all is not written.
        """
        wanted = Command.MEMORY | Command.MASTER
        command = self.slot.config_read(PCI_COMMAND, 2)
        if command & wanted != wanted:
            self.slot.config_write(PCI_COMMAND, command | wanted, 2)

    def reset(self) -> None:
        """Reset as a driver does (SDM 14.3): mask, stop, CTRL.RST, mask, read the causes."""
        self.write(Reg.IMC, ALL_ONES)
        self.write(Reg.RCTL, 0)
        self.write(Reg.TCTL, Tctl.PSP)
        self.read(Reg.STATUS)
        self.write(Reg.CTRL, self.read(Reg.CTRL) | Ctrl.RST)
        self._pass_time()
        self.write(Reg.IMC, ALL_ONES)
        self.read(Reg.ICR)
        for ring in (self.tx, self.rx):
            ring.next_to_use = ring.next_to_clean = 0

    def set_mac(self, mac: bytes, index: int = 0) -> None:
        """Put `mac` into receive address entry `index` with AV set (SDM 13.5.2)."""
        low = int.from_bytes(mac[:4], "little")
        high = int.from_bytes(mac[4:6], "little") | 1 << 31
        self.write(Reg.RAL + 8 * index, low)
        self.write(Reg.RAH + 8 * index, high)

    def setup_tx(self, tctl: int = Tctl.EN | Tctl.PSP | Tctl.CT | Tctl.COLD_FD) -> None:
        """Write the transmit ring's registers and enable the transmitter (SDM 14.5)."""
        ring = self.tx
        self.memory.write(ring.base, bytes(ring.size_bytes))
        ring.next_to_use = ring.next_to_clean = 0
        self.write(Reg.TDBAL, ring.base)
        self.write(Reg.TDBAH, ring.base >> 32)
        self.write(Reg.TDLEN, ring.size_bytes)
        self.write(Reg.TDH, 0)
        self.write(Reg.TDT, 0)
        self.write(Reg.TIPG, 10 | 8 << 10 | 6 << 20)
        self.write(Reg.TCTL, tctl)

    def setup_rx(self, rctl: int | None = None, *, fill: int | None = None) -> None:
        """Fill the receive ring with buffers, write its registers, enable the receiver (SDM 14.4).

        `rctl` default: EN, BAM, SECRC and the buffer size. `fill`: how many descriptors to give to
        the device; default all but one, as RDT == RDH means none (SDM 3.2.6).
        """
        ring = self.rx
        if not ring.buffers:
            size = self.rx_buffer_bytes
            ring.buffers = [(self.memory.alloc(size, 16), size) for _ in range(ring.count)]
        for index, (address, _) in enumerate(ring.buffers):
            self.memory.write(ring.address(index), struct.pack("<QQ", address, 0))
        if rctl is None:
            rctl = Rctl.EN | Rctl.BAM | Rctl.SECRC | RCTL_BSIZE[self.rx_buffer_bytes]
        self.rctl = Rctl(rctl)
        ring.next_to_clean = 0
        ring.next_to_use = (ring.count - 1 if fill is None else fill) % ring.count
        self.write(Reg.RDBAL, ring.base)
        self.write(Reg.RDBAH, ring.base >> 32)
        self.write(Reg.RDLEN, ring.size_bytes)
        self.write(Reg.RDH, 0)
        self.write(Reg.RDT, 0)
        self.write(Reg.RCTL, rctl)
        self.write(Reg.RDT, ring.next_to_use)

    def link_up(self) -> None:
        """Force the link up from the driver's side (CTRL.SLU, SDM 13.4.1), out of link reset."""
        self.write(Reg.CTRL, self.read(Reg.CTRL) & ~Ctrl.LRST | Ctrl.SLU | Ctrl.ASDE)

    def up(self, *, mac: bytes | None = None, rctl: int | None = None, ims: int = 0) -> None:
        """Enable, reset, set the link, fill the filters and rings, unmask the causes `ims`."""
        self.pci_enable()
        self.reset()
        self.link_up()
        if mac is not None:
            self.set_mac(mac)
        self.setup_tx()
        self.setup_rx(rctl)
        if ims:
            self.write(Reg.IMS, ims)

    def close(self) -> None:
        """Stop the device and give the memory back."""
        self.write(Reg.IMC, ALL_ONES)
        self.write(Reg.RCTL, 0)
        self.write(Reg.TCTL, 0)
        for slot in self._tx_arena:
            for address, size in slot:
                self.memory.free(address, size)
            slot.clear()
        for address, size in self.rx.buffers:
            self.memory.free(address, size)
        self.rx.buffers.clear()
        for ring in (self.tx, self.rx):
            self.memory.free(ring.base, ring.size_bytes)

    # -- transmit ----------------------------------------------------------------------------------

    def post_raw(self, descriptor: bytes, *, index: int | None = None) -> int:
        """Write 16 descriptor bytes as they are; return the index. The doorbell is not rung."""
        ring = self.tx
        where = ring.next_to_use if index is None else index
        self.memory.write(ring.address(where), descriptor)
        if index is None:
            ring.next_to_use = (where + 1) % ring.count
        return where

    def post_legacy(
        self,
        data: bytes | None,
        *,
        cmd: int = TxCmd.EOP | TxCmd.IFCS | TxCmd.RS,
        cso: int = 0,
        css: int = 0,
        special: int = 0,
        address: int | None = None,
        length: int | None = None,
    ) -> int:
        """Post one legacy descriptor (SDM 3.3.3) over a copy of `data`; return its index.

        `address` and `length` override what follows from `data`.
        """
        where = self._buffer(data) if address is None else address
        size = (len(data or b"") if length is None else length) & 0xFFFF
        return self.post_raw(
            struct.pack(
                "<QHBBBBH", where, size, cso & 0xFF, int(cmd) & 0xFF, 0, css & 0xFF, special
            )
        )

    def post_context(
        self,
        *,
        ipcss: int = 0,
        ipcso: int = 0,
        ipcse: int = 0,
        tucss: int = 0,
        tucso: int = 0,
        tucse: int = 0,
        paylen: int = 0,
        tucmd: int = Tucmd.DEXT,
        hdrlen: int = 0,
        mss: int = 0,
    ) -> int:
        """Post one TCP/IP context descriptor (SDM 3.3.6); return its index."""
        word0 = ipcss & 0xFF | (ipcso & 0xFF) << 8 | (ipcse & 0xFFFF) << 16
        word1 = tucss & 0xFF | (tucso & 0xFF) << 8 | (tucse & 0xFFFF) << 16
        word2 = paylen & 0xFFFFF | (int(tucmd) & 0xFF) << 24
        word3 = (hdrlen & 0xFF) << 8 | (mss & 0xFFFF) << 16
        return self.post_raw(struct.pack("<IIII", word0, word1, word2, word3))

    def post_data(
        self,
        data: bytes | None,
        *,
        dcmd: int = TxCmd.DEXT | TxCmd.EOP | TxCmd.IFCS | TxCmd.RS,
        popts: int = 0,
        special: int = 0,
        address: int | None = None,
        length: int | None = None,
    ) -> int:
        """Post one data descriptor (SDM 3.3.7) over a copy of `data`; return its index."""
        where = self._buffer(data) if address is None else address
        size = (len(data or b"") if length is None else length) & 0xFFFFF
        word2 = size | 1 << 20 | (int(dcmd) & 0xFF) << 24
        word3 = (int(popts) & 0xFF) << 8 | (special & 0xFFFF) << 16
        return self.post_raw(struct.pack("<QII", where, word2, word3))

    def post_pieces(self, pieces: Iterable[bytes], **fields: int) -> int:
        """Post one frame over several legacy descriptors; the last has EOP. Return its index."""
        parts = list(pieces)
        index = self.tx.next_to_use
        for number, part in enumerate(parts):
            last = number == len(parts) - 1
            cmd = TxCmd.IFCS | TxCmd.RS | (TxCmd.EOP if last else TxCmd(0))
            index = self.post_legacy(part, cmd=cmd, **fields)
        return index

    def kick(self, tail: int | None = None) -> None:
        """Ring the transmit doorbell (TDT)."""
        self.write(Reg.TDT, self.tx.next_to_use if tail is None else tail)

    def send(self, *frames: bytes, **fields: int) -> int:
        """Post each frame as one legacy descriptor, ring once, reap; return how many are done.

        More frames than the ring holds are sent in rounds.
        """
        done = 0
        for frame in frames:
            if self.tx_unused() == 0:
                self.kick()
                self._pass_time()
                done += self.reap()
            self.post_legacy(frame, **fields)
        self.kick()
        self._pass_time()
        return done + self.reap()

    def tx_unused(self) -> int:
        """Return how many descriptors the driver may still post."""
        ring = self.tx
        return (ring.next_to_clean - ring.next_to_use - 1) % ring.count

    def tx_done(self, index: int) -> bool:
        """Tell whether descriptor `index` was written back with DD."""
        status = self.memory.read(self.tx.address(index) + 12, 1)[0]
        return bool(status & TX_DD)

    def reap(self) -> int:
        """Take back every descriptor before TDH; return how many of them carry DD."""
        ring = self.tx
        head = self.read(Reg.TDH)
        done = 0
        while ring.next_to_clean != ring.next_to_use and ring.next_to_clean != head % ring.count:
            done += self.tx_done(ring.next_to_clean)
            for address, size in self._tx_arena[ring.next_to_clean]:
                self.memory.free(address, size)
            self._tx_arena[ring.next_to_clean].clear()
            ring.next_to_clean = (ring.next_to_clean + 1) % ring.count
        return done

    def _buffer(self, data: bytes | None) -> int:
        """Copy `data` into memory that stays until the next descriptor's slot is reaped."""
        if not data:
            return self.tx.base  # a valid address: zero-length descriptors must not fault
        address = self.memory.alloc(len(data), 16)
        self.memory.write(address, data)
        self._tx_arena[self.tx.next_to_use].append((address, len(data)))
        return address

    # -- receive -----------------------------------------------------------------------------------

    def rx_descriptor(self, index: int) -> RxDescriptor:
        """Read receive descriptor `index` as it lies in memory."""
        raw = self.memory.read(self.rx.address(index), DESC_BYTES)
        addr, length, checksum, status, errors, special = struct.unpack("<QHHBBH", raw)
        return RxDescriptor(addr, length, checksum, RxStatus(status), RxErrors(errors), special)

    def receive(self, *, refill: bool = True) -> list[RxFrame]:
        """Collect the ring's complete frames, in order; `refill` gives the descriptors back."""
        frames: list[RxFrame] = []
        ring = self.rx
        parts: list[bytes] = []
        index = ring.next_to_clean
        first_checksum = 0
        for _ in range(ring.count):
            entry = self.rx_descriptor(index)
            if not entry.status & RxStatus.DD:
                break
            if not parts:
                first_checksum = entry.checksum
            parts.append(self.memory.read(entry.addr, entry.length) if entry.length else b"")
            index = (index + 1) % ring.count
            if entry.status & RxStatus.EOP:
                frames.append(
                    RxFrame(
                        b"".join(parts),
                        entry.status,
                        entry.errors,
                        first_checksum,
                        entry.special,
                        len(parts),
                    )
                )
                parts = []
                ring.next_to_clean = index
        if refill and frames:
            self.refill()
        return frames

    def refill(self) -> None:
        """Give every reaped receive descriptor back to the device and move RDT."""
        ring = self.rx
        last = (ring.next_to_clean - 1) % ring.count
        while ring.next_to_use != last:
            address, _ = ring.buffers[ring.next_to_use]
            self.memory.write(ring.address(ring.next_to_use), struct.pack("<QQ", address, 0))
            ring.next_to_use = (ring.next_to_use + 1) % ring.count
        # The slot RDT points at must not look done once the device reaches it.
        address, _ = ring.buffers[last]
        self.memory.write(ring.address(last), struct.pack("<QQ", address, 0))
        self.write(Reg.RDT, ring.next_to_use)

    def _pass_time(self) -> None:
        if self.step is not None:
            self.step()
