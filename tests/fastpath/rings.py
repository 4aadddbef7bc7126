"""Descriptors, frames and engine pairs for the tests of the ring engines."""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from typing import Any

from fastpath._ref import regfile as ref_regfile
from fastpath._ref import rxfilter as ref_rxfilter
from fastpath._ref import rxring as ref_rxring
from fastpath._ref import txring as ref_txring
from fastpath._ref.csum import csum_fold, csum_partial
from fastpath._ref.e1000_hw import CTRL_VME, REGISTERS, Registers
from fastpath.base.batch import FrameBatch
from fastpath.base.dma import DmaTable, HostMemory
from fastpath.nic.regfile import RegFile, Stats
from fastpath.nic.rxfilter import RxFilter
from fastpath.nic.rxring import RxEngine
from fastpath.nic.txring import RUN_MORE, TxEngine

EOP, IFCS, IC, RS, RPS, DEXT, VLE, IDE = (1 << bit for bit in range(8))
TSE = IC
IXSM, TXSM = 1, 2
TCP, IPV4 = 1, 2

ENGINE_REGISTERS = 0x5800
"""Bytes of BAR 0 that engines read."""
ONES = 0xFFFFFFFF

MAC = bytes.fromhex("525400123456")
PEER = bytes.fromhex("020000000001")


def legacy(
    addr: int, length: int, cmd: int = EOP | IFCS | RS, *, cso: int = 0, css: int = 0, tag: int = 0
) -> bytes:
    """A legacy transmit descriptor (SDM 3.3.3)."""
    return struct.pack("<QHBBBBH", addr, length, cso, cmd, 0, css, tag)


def context(
    *,
    ip: tuple[int, int, int] = (14, 24, 33),
    tu: tuple[int, int, int] = (34, 50, 0),
    paylen: int = 0,
    hdrlen: int = 0,
    mss: int = 0,
    cmd: int = 0,
) -> bytes:
    """A context descriptor (SDM 3.3.6); ip and tu are (start, offset, end)."""
    low = paylen | (cmd | DEXT) << 24
    return struct.pack("<BBHBBHIBBH", *ip, *tu, low, 0, hdrlen, mss)


def data(
    addr: int, length: int, cmd: int = EOP | IFCS | RS, *, popts: int = 0, tag: int = 0
) -> bytes:
    """A data descriptor (SDM 3.3.7)."""
    return struct.pack("<QIBBH", addr, length | 1 << 20 | (cmd | DEXT) << 24, 0, popts, tag)


def check(payload: bytes, acc: int = 0) -> int:
    """Internet checksum to insert."""
    return csum_fold(csum_partial(payload, acc))


def ipv4(
    payload: bytes, proto: int, *, ident: int = 1, frag: int = 0, total: int | None = None
) -> bytes:
    """An IPv4 packet 10.0.0.1 -> 10.0.0.2 with a right header check."""
    size = 20 + len(payload) if total is None else total
    head = struct.pack(">BBHHHBBHII", 0x45, 0, size, ident, frag, 64, proto, 0, *V4)
    return head[:10] + check(head).to_bytes(2, "big") + head[12:] + payload


V4 = (0x0A000001, 0x0A000002)
V6 = bytes.fromhex("fd000000000000000000000000000001fd000000000000000000000000000002")


def pseudo4(proto: int, length: int) -> bytes:
    """IPv4 pseudo header."""
    return struct.pack(">IIHH", *V4, proto, length)


def pseudo6(proto: int, length: int) -> bytes:
    """IPv6 pseudo header."""
    return V6 + struct.pack(">II", length, proto)


def udp(payload: bytes, pseudo: Any = pseudo4) -> bytes:
    """A UDP datagram with a right check."""
    head = struct.pack(">HHHH", 7, 9, 8 + len(payload), 0)
    value = check(pseudo(17, 8 + len(payload)) + head + payload) or 0xFFFF
    return head[:6] + value.to_bytes(2, "big") + payload


def tcp(payload: bytes, *, seq: int = 1000, flags: int = 0x18, pseudo: Any = pseudo4) -> bytes:
    """A TCP segment with a right check."""
    head = struct.pack(">HHIIBBHHH", 7, 9, seq, 5, 0x50, flags, 0x1000, 0, 0)
    value = check(pseudo(6, 20 + len(payload)) + head + payload)
    return head[:16] + value.to_bytes(2, "big") + head[18:] + payload


def ipv6(payload: bytes, proto: int) -> bytes:
    """An IPv6 packet."""
    return struct.pack(">IHBB", 0x60000000, len(payload), proto, 64) + V6 + payload


def eth(payload: bytes, kind: int = 0x0800, *, dst: bytes = MAC, src: bytes = PEER) -> bytes:
    """An Ethernet frame without FCS, not padded."""
    return dst + src + kind.to_bytes(2, "big") + payload


def tagged(frame: bytes, tci: int, vet: int = 0x8100) -> bytes:
    """The frame with an 802.1Q tag."""
    return frame[:12] + struct.pack(">HH", vet, tci) + frame[12:]


def set_address(regs: Registers, i: int, mac: bytes, top: int = 0, *, valid: bool = True) -> None:
    """Write RAL and RAH of entry `i`; `top` is AS."""
    regs.file.poke(REGISTERS["RAL"] + 8 * i, int.from_bytes(mac[:4], "little"))
    high = int.from_bytes(mac[4:], "little") | top << 16 | valid << 31
    regs.file.poke(REGISTERS["RAH"] + 8 * i, high)


def registers(*, reference: bool = False) -> Registers:
    """The registers of an engine, in a file of their own, compiled or reference."""
    regs = Registers((ref_regfile.RegFile if reference else RegFile)(ENGINE_REGISTERS // 4))
    regs["VET"] = 0x8100
    return regs


class Queue:
    """What is common to both directions."""

    regs: Registers
    side: str

    @property
    def base(self) -> int:
        """Where the ring begins."""
        return self.regs[f"{self.side}DBAH"] << 32 | self.regs[f"{self.side}DBAL"]

    @base.setter
    def base(self, value: int) -> None:
        self.regs[f"{self.side}DBAL"], self.regs[f"{self.side}DBAH"] = value & ONES, value >> 32

    @property
    def vme(self) -> bool:
        """CTRL.VME."""
        return bool(self.regs["CTRL"] & CTRL_VME)

    @vme.setter
    def vme(self, on: bool) -> None:
        self.regs["CTRL"] = CTRL_VME if on else 0


@dataclass
class Tx(Queue):
    """Host memory, a transmit ring and an engine (compiled or reference) on it."""

    side = "T"

    reference: bool = False
    count: int = 16
    ram: HostMemory = field(init=False)
    dma: DmaTable = field(init=False)
    stats: Stats = field(init=False)
    engine: Any = field(init=False)
    batch: FrameBatch = field(init=False)

    def __post_init__(self) -> None:
        self.ram = HostMemory(1 << 20)
        self.dma = DmaTable()
        self.dma.add(self.ram.base, self.ram.buffer)
        self.stats = Stats()
        self.regs = registers(reference=self.reference)
        make = ref_txring.TxEngine if self.reference else TxEngine
        self.engine = make(self.dma, self.stats, self.regs.file)
        self.ring = self.ram.alloc(self.count * 16, 4096)
        self.bufs = self.ram.alloc(1 << 18, 4096)
        self.batch = FrameBatch()
        self.base, self.regs["TDLEN"], self.regs["TCTL"] = self.ring, self.count * 16, 0x2
        self._room = self.bufs

    def put(self, payload: bytes) -> int:
        """Place bytes in host memory; return the address. Space is reused."""
        if self._room + len(payload) > self.bufs + (1 << 18):
            self._room = self.bufs
        addr = self._room
        self.ram.write(addr, payload)
        self._room += (len(payload) + 63) & ~63
        return addr

    def post(self, *descriptors: bytes) -> None:
        """Write descriptors at the tail and move it."""
        for raw in descriptors:
            self.ram.write(self.ring + self.regs["TDT"] * 16, raw)
            self.regs["TDT"] = (self.regs["TDT"] + 1) % self.count

    def send(self, *descriptors: bytes) -> list[bytes]:
        """Post, run to the end, and return the frames."""
        self.post(*descriptors)
        self.run()
        return self.take()

    def run(self) -> int:
        """Run until nothing is left; return the flags of all runs."""
        if self.reference:
            return int(self.engine.run(self.batch))
        out = RUN_MORE
        total = 0
        while out & RUN_MORE:
            out = self.engine.run(self.batch, 1 << 16)
            total |= out
        return total & ~RUN_MORE

    def take(self) -> list[bytes]:
        """Frames in the batch, emptied."""
        out = list(self.batch)
        self.batch.clear()
        return out

    def done(self, index: int) -> bool:
        """DD of descriptor `index`."""
        return bool(self.ram.read(self.ring + index * 16 + 12, 1)[0] & 1)


@dataclass
class Received:
    """One descriptor as software finds it."""

    data: bytes
    csum: int
    status: int
    errors: int
    special: int


@dataclass
class Rx(Queue):
    """Host memory, a receive ring and an engine (compiled or reference) on it."""

    side = "R"

    reference: bool = False
    count: int = 16
    buf_bytes: int = 2048
    ram: HostMemory = field(init=False)
    engine: Any = field(init=False)
    filter: Any = field(init=False)

    def __post_init__(self) -> None:
        self.ram = HostMemory(1 << 22)
        self.dma = DmaTable()
        self.dma.add(self.ram.base, self.ram.buffer)
        self.stats = Stats()
        self.regs = registers(reference=self.reference)
        self.filter = (ref_rxfilter.RxFilter if self.reference else RxFilter)(self.regs.file)
        make = ref_rxring.RxEngine if self.reference else RxEngine
        self.engine = make(self.dma, self.stats, self.filter)
        self.ring = self.ram.alloc(self.count * 16, 4096)
        self.bufs = self.ram.alloc(self.count * 16384, 4096)
        self.next = 0
        self.base, self.regs["RDLEN"] = self.ring, self.count * 16
        self.regs["RCTL"], self.regs["RXCSUM"] = 0x2 | 0x8000 | 1 << 26, 1 << 10
        self.set_address(0, MAC)
        self.refill(self.count - 1)

    def set_address(self, i: int, mac: bytes, top: int = 0, *, valid: bool = True) -> None:
        """Write RAL and RAH of entry `i`; `top` is AS."""
        set_address(self.regs, i, mac, top, valid=valid)

    def buffer(self, index: int) -> int:
        """Address of the buffer of descriptor `index`."""
        return self.bufs + index * 16384

    def refill(self, n: int) -> None:
        """Post `n` more descriptors."""
        for _ in range(n):
            at = self.regs["RDT"]
            self.ram.write(self.ring + at * 16, struct.pack("<QQ", self.buffer(at), 0))
            self.regs["RDT"] = (at + 1) % self.count

    def receive(self, *frames: bytes, flags: int = 0, hold: bool = False) -> int:
        """Receive frames; return the number consumed."""
        batch = FrameBatch()
        for frame in frames:
            batch.append(frame, flags)
        return int(self.engine.receive(batch, 0, hold))

    def reap(self) -> list[Received]:
        """Descriptors done since the last call."""
        out = []
        while len(out) < self.count:
            raw = self.ram.read(self.ring + self.next * 16, 16)
            addr, length, csum, status, errors, special = struct.unpack("<QHHBBH", raw)
            if not status & 1:
                break
            content = self.ram.read(addr, length) if 0 < addr < self.ram.size_bytes else b""
            out.append(Received(content, csum, status, errors, special))
            self.ram.write(self.ring + self.next * 16 + 8, bytes(8))
            self.next = (self.next + 1) % self.count
        return out

    def one(self, frame: bytes, flags: int = 0) -> Received:
        """A frame that must arrive in one descriptor; the descriptor is posted again."""
        self.receive(frame, flags=flags)
        (got,) = self.reap()
        self.refill(1)
        return got
