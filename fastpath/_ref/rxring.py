"""Receive ring engine in plain Python: the twin of ``fastpath.nic.rxring``."""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from struct import pack
from typing import Any

from fastpath._ref.csum import csum_fold, csum_partial
from fastpath._ref.e1000_hw import CTRL_VME
from fastpath._ref.pktbuf import FEW, HEADER, PacketBuffer, words_of
from fastpath._ref.ring import DescriptorRing
from fastpath._ref.rxfilter import ACCEPT, BROADCAST, MULTICAST, PIF, VLAN
from fastpath._ref.txring import bucket
from fastpath.base.batch import FB_ALIGN_ERR, FB_BAD_CRC, FB_CARRIER_EXT, FB_HAS_FCS, FB_SYMBOL_ERR

RXSEQ, RXDMT0, RXO, RXT0, SRPD = 0x8, 0x10, 0x40, 0x80, 0x10000
RX_ABORT, RX_DATA_ABORT = 1 << 26, 1 << 27

RCTL_EN, RCTL_SBP, RCTL_LPE = 1 << 1, 1 << 2, 1 << 5
RCTL_BSEX, RCTL_SECRC = 1 << 25, 1 << 26
RXCSUM_IPOFL, RXCSUM_TUOFL, RXCSUM_IPV6OFL = 1 << 8, 1 << 9, 1 << 10

# Status and error bits of the descriptor (SDM 3.2.3.1, 3.2.3.2)
DD, END, IXSM, VP, TCPCS, IPCS, ST_PIF = 0x01, 0x02, 0x04, 0x08, 0x20, 0x40, 0x80
CE, SE, CXE, TCPE, IPE, RXE = 0x01, 0x02, 0x10, 0x20, 0x40, 0x80
FB_ERRORS = FB_BAD_CRC | FB_ALIGN_ERR | FB_SYMBOL_ERR | FB_CARRIER_EXT

MAX_IMAGE = 16384 + 64


def crc32(data: bytes, crc: int = 0) -> int:
    """Ethernet FCS."""
    return zlib.crc32(data, crc)


@dataclass(slots=True)
class _Image:
    """A frame in the form for host memory, with its descriptor fields."""

    data: bytes
    csum: int
    status: int
    errors: int
    special: int


@dataclass(slots=True)
class _Waiting:
    """The data of a frame in the FIFO, besides its bytes."""

    size: int
    flags: int
    verdict: int


class RxEngine(DescriptorRing):
    """One receive queue over any memory with read(addr, n) and write(addr, data)."""

    def __init__(
        self,
        dma: Any,
        stats: Any,
        filter: Any,  # noqa: A002
        buffer: PacketBuffer | None = None,
    ) -> None:
        super().__init__("R", dma, stats, filter.regs, buffer)
        self.filter = filter
        self.pad_runts = True
        self.symbol_errors = 0
        self.reset()

    def reset(self) -> None:
        """CTRL.RST or power-on."""
        self.causes = 0
        self._owed: list[int] = []  # descriptors held by WTHRESH: written except for DD
        self._left = 0  # free descriptors, counted at the start of a run
        self.chip.all.clear()
        self._usable = False
        self._record = False
        self.fifo_bytes = 48 << 10
        self.frames_dropped_disabled = self.frames_filtered = 0
        self.frames_bad = self.frames_missed = 0
        self.ring_errors = self.desc_aborts = self.data_aborts = 0

    def flush_fifo(self) -> None:
        """Drop waiting frames."""
        self._waits: list[_Waiting] = []
        self._off = 0  # bytes of the first waiting image already in memory
        fifo = self.buffer.rx
        fifo.head = fifo.tail
        fifo.fill = fifo.count = fifo.taken = 0

    @property
    def fifo_bytes(self) -> int:
        """Size of the receive FIFO."""
        return self._fifo_bytes

    @fifo_bytes.setter
    def fifo_bytes(self, value: int) -> None:
        self.flush_fifo()
        self._fifo_bytes = min(value, 64 << 10)
        self.buffer.divide(self._fifo_bytes)

    @property
    def fifo_used(self) -> int:
        """Waiting bytes."""
        return self.buffer.rx.fill * 8

    @property
    def fifo_frames(self) -> int:
        """Waiting frames."""
        return len(self._waits)

    def take_causes(self) -> int:
        """Return and clear."""
        causes, self.causes = self.causes, 0
        return causes

    @property
    def _n(self) -> int:
        return self.regs["RDLEN"] >> 4

    @property
    def _rctl(self) -> int:
        return self.regs["RCTL"]

    @property
    def _bsize(self) -> int:
        code = self._rctl >> 16 & 3
        size = 2048 >> code
        return size * 16 if self._rctl & RCTL_BSEX and code else size

    def free_descriptors(self) -> int:
        """Descriptors that the device may fill."""
        tail = self.regs["RDT"]
        if not self.dma.enabled or self.off or self.base + self._n * 16 >= 1 << 64:
            return 0
        return tail - self.head if tail >= self.head else self._n - self.head + tail

    def prefetch(self, low: int, host: int) -> None:
        """PTHRESH and HTHRESH."""
        self.chip.low, self.chip.host = max(low, 1), host

    def wants(self) -> bool:
        """Whether to fetch descriptors."""
        return self.chip.wants(self.free_descriptors())

    def _begin(self) -> None:
        if self.hold <= 1:
            self.repay()
        self._left = self.free_descriptors()
        self._usable = self._left > 0
        if self.dma.enabled:
            del self.chip.all[self._left :]
        self._more()

    @property
    def _here(self) -> bool:
        return self._usable and bool(self.chip.all)

    def _more(self) -> None:
        if self._usable and not self.chip.fetch(
            self.dma, self.base, self._n, self.head, self._left
        ):
            self._stall()

    def receive(self, batch: Any, start: int = 0, hold: bool = False) -> int:
        """Receive frames [start, len); returns the index after the last one consumed."""
        if not self._rctl & RCTL_EN:
            self.frames_dropped_disabled += max(len(batch) - start, 0)
            return max(len(batch), start)
        self._begin()
        self._record = len(batch) - start <= FEW or self.buffer.exact
        self._drain()
        end = max(len(batch), start)
        for i in range(start, len(batch)):
            if not self._frame(batch[i], batch.flags(i), hold):
                end = i
                break
        self._taken()
        return end

    def kick(self) -> int:
        """Drain the FIFO; returns the frames stored."""
        if not self._rctl & RCTL_EN or not (self._waits or self.wants()):
            return 0
        self._begin()
        done = self._drain()
        self._taken()
        return done

    def _taken(self) -> None:
        self.buffer.rx.taken = (self._off + HEADER) // 8 if self._off else 0

    def _frame(self, frame: bytes, fflags: int, hold: bool) -> bool:
        fcs: bytes | None = None
        if fflags & FB_HAS_FCS:
            if len(frame) < 5:
                frame = b""
            else:
                frame, fcs = frame[:-4], frame[-4:]
                if not fflags & FB_ERRORS and zlib.crc32(frame) != int.from_bytes(fcs, "little"):
                    fflags |= FB_BAD_CRC
        elif self.pad_runts and not fflags & FB_ERRORS:
            frame = frame.ljust(60, b"\0")
        wire = len(frame) + 4
        # the filter checks bytes as received, including a runt's FCS
        verdict = self.filter.verdict(
            (frame + (fcs or b"")).ljust(18, b"\0"), self._rctl, self.regs["VET"]
        )
        if not verdict & ACCEPT:
            self._total(wire)
            self.frames_filtered += 1
            if fflags & FB_SYMBOL_ERR:
                self.causes |= RXSEQ
                self.symbol_errors += 1
            return True
        wrong_size = wire < 64 or wire > (16384 if self._rctl & RCTL_LPE else 1522)
        bad = bool(fflags & FB_ERRORS) or wrong_size
        if bad and (not self._rctl & RCTL_SBP or not 0 < len(frame) <= MAX_IMAGE - 8):
            self._total(wire)
            self._errors(wire, fflags, wrong_size)
            return True
        fifo, words = self.buffer.rx, words_of(wire)
        full = fifo.fill + words > fifo.size
        if full and hold and words <= fifo.size:
            return False
        self._total(wire)
        if bad:
            self._errors(wire, fflags, wrong_size)
        if self._waits or not self._here:
            self.stats.add("RNBC")
        if full:
            self.stats.add("MPC")
            self.causes |= RXO
            self.frames_missed += 1
            return True
        passes = not self._waits and self._here
        end = fcs if fcs is not None else zlib.crc32(frame).to_bytes(4, "little")
        image = self._image(frame, fcs, verdict, fflags)
        done = self._store(image, 0) if passes else 0
        whole = passes and done >= len(image.data)
        if self._record or not whole:
            self.buffer.frame(fifo, frame, end, fflags & FB_ERRORS)
        if whole:
            self.buffer.passed(fifo, words)
        else:
            self._wait(_Waiting(len(frame), fflags, verdict), words, done)
        if not bad:
            self._good(wire, verdict)
        return True

    def _wait(self, waiting: _Waiting, words: int, done: int) -> None:
        fifo = self.buffer.rx
        if not self._waits:
            self._off = done
            fifo.head = fifo.tail
        self._waits.append(waiting)
        fifo.tail = fifo.step(fifo.tail, words)
        fifo.fill += words
        fifo.count += 1

    def _total(self, wire: int) -> None:
        self.stats.add("TPR")
        self.stats.add("TOR", wire)

    def _good(self, wire: int, verdict: int) -> None:
        self.stats.add("GPRC")
        self.stats.add("GORC", wire)
        self.stats.add("PRC" + bucket(wire))
        if verdict & BROADCAST:
            self.stats.add("BPRC")
        elif verdict & MULTICAST:
            self.stats.add("MPRC")

    def _errors(self, wire: int, fflags: int, wrong_size: bool) -> None:
        self.frames_bad += 1
        crc = fflags & (FB_BAD_CRC | FB_ALIGN_ERR)
        if wrong_size:
            self.stats.add("RLEC")
            if wire < 64:
                self.stats.add("RFC" if crc else "RUC")
            else:
                self.stats.add("RJC" if crc else "ROC")
        if wire >= 64:
            for flag, name in (
                (FB_BAD_CRC, "CRCERRS"),
                (FB_ALIGN_ERR, "ALGNERRC"),
                (FB_SYMBOL_ERR, "RXERRC"),
            ):
                if fflags & flag:
                    self.stats.add(name)
        if fflags & FB_SYMBOL_ERR:
            self.causes |= RXSEQ
            self.symbol_errors += 1
        if fflags & FB_CARRIER_EXT:
            self.stats.add("CEXTERR")

    def _image(self, frame: bytes, fcs: bytes | None, verdict: int, fflags: int) -> _Image:
        status, errors, special = DD | END, 0, 0
        if verdict & PIF:
            status |= ST_PIF
        stored = frame
        if verdict & VLAN and self.regs["CTRL"] & CTRL_VME and len(frame) >= 18:
            status |= VP
            special = int.from_bytes(frame[14:16], "big")
            stored = frame[:12] + frame[16:]
        checked, wrong = self._checksums(stored)
        status |= checked or IXSM
        errors |= wrong
        if not self._rctl & RCTL_SECRC:
            stored += fcs if fcs is not None else zlib.crc32(frame).to_bytes(4, "little")
        csum = csum_fold(csum_partial(stored[self.regs["RXCSUM"] & 0xFF :]))
        if fflags & (FB_BAD_CRC | FB_ALIGN_ERR):
            errors |= CE
        if fflags & FB_SYMBOL_ERR:
            errors |= SE | RXE
        if fflags & FB_CARRIER_EXT:
            errors |= CXE
        return _Image(stored, csum, status, errors, special)

    def _checksums(self, frame: bytes) -> tuple[int, int]:
        """Status and error bits enabled by RXCSUM (SDM 3.2.9)."""
        at = 14
        kind = int.from_bytes(frame[12:14], "big")
        if kind == self.regs["VET"] and len(frame) >= 18:
            kind = int.from_bytes(frame[16:18], "big")
            at = 18
        if (
            kind <= 1500
            and len(frame) >= at + 8
            and frame[at : at + 6] == b"\xaa\xaa\x03\x00\x00\x00"
        ):
            kind = int.from_bytes(frame[at + 6 : at + 8], "big")
            at += 8
        packet = frame[at:]
        if kind == 0x0800:
            return self._ipv4(packet)
        both = RXCSUM_IPV6OFL | RXCSUM_TUOFL
        if kind == 0x86DD and self.regs["RXCSUM"] & both == both:
            return self._ipv6(packet)
        return 0, 0

    def _ipv4(self, packet: bytes) -> tuple[int, int]:
        if len(packet) < 20 or packet[0] >> 4 != 4:
            return 0, 0
        ihl = (packet[0] & 15) * 4
        total = int.from_bytes(packet[2:4], "big")
        if ihl < 20 or total < ihl or total > len(packet):
            return 0, 0
        status = errors = 0
        if self.regs["RXCSUM"] & RXCSUM_IPOFL:
            status |= IPCS
            if csum_fold(csum_partial(packet[:ihl])):
                errors |= IPE
        fragment = int.from_bytes(packet[6:8], "big") & 0x3FFF
        if self.regs["RXCSUM"] & RXCSUM_TUOFL and not fragment:
            checked, wrong = _segment(packet[12:20], packet[9], packet[ihl:total])
            status |= checked
            errors |= wrong
        return status, errors

    def _ipv6(self, packet: bytes) -> tuple[int, int]:
        total = int.from_bytes(packet[4:6], "big")
        if len(packet) < 40 + total or len(packet) < 40 or packet[0] >> 4 != 6:
            return 0, 0
        proto = packet[6]
        payload = packet[40 : 40 + total]
        for _ in range(4):
            if proto not in (0, 60):
                break
            if len(payload) < 8 or len(payload) < (payload[1] + 1) * 8:
                return 0, 0
            proto, payload = payload[0], payload[(payload[1] + 1) * 8 :]
        return _segment(packet[8:40], proto, payload)

    def _store(self, image: _Image, off: int) -> int:
        ring = self.base
        size = len(image.data)
        while off < size and self._here:
            at = ring + self.head * 16
            addr = int.from_bytes(self.chip.all[0][:8], "little")
            if addr == 0:
                if not self._writeback(at, pack("<HHBBH", 0, 0, DD, 0, 0)):
                    return off
                continue
            piece = image.data[off : off + self._bsize]
            aborts = self.dma.aborts
            self.dma.write(addr, piece)
            if self.dma.aborts != aborts:
                self.data_aborts += 1
                self.causes |= RX_DATA_ABORT
            csum = 0 if off else image.csum
            if off + len(piece) == size:
                last = (image.status, image.errors, image.special)
            else:
                last = (DD, 0, 0)
            if not self._writeback(at, pack("<HHBBH", len(piece), csum, *last)):
                return off
            off += len(piece)
        if off >= size:
            self.causes |= RXT0
            if size <= self.regs["RSRPD"]:
                self.causes |= SRPD
        return off

    def _stall(self) -> None:
        self.desc_aborts += 1
        self.causes |= RX_ABORT
        self._usable = False

    def _writeback(self, at: int, half: bytes) -> bool:
        aborts = self.dma.aborts
        status = half[4:5]
        # DD last and separately: the driver owns the descriptor from then on.
        self.dma.write(at + 8, half[:4] + bytes([status[0] & ~DD]) + half[5:])
        if self.dma.aborts == aborts and self.hold <= 1:
            self.dma.write(at + 12, status)
        if self.dma.aborts != aborts:
            self._stall()
            return False
        if self.hold > 1:
            self._owed.append(at + 12)
        self.regs["RDH"] = (self.head + 1) % self._n
        self._left -= 1
        self.chip.all.pop(0)
        self._more()
        if self._left == self._n >> (1 + (self._rctl >> 8 & 3)):
            self.causes |= RXDMT0
        if self.hold > 1 and len(self._owed) >= self.hold:
            self.repay()
        return True

    def repay(self) -> None:
        """Set DD held by WTHRESH; not without bus mastering."""
        if not self.dma.enabled:
            return
        for at in self._owed:
            self.dma.write(at, bytes([self.dma.read(at, 1)[0] | DD]))
        self._owed.clear()

    def ring_moved(self) -> None:
        """Drop fetched descriptors and those held by WTHRESH, as software moved the ring."""
        self._owed.clear()
        self.chip.all.clear()

    def _drain(self) -> int:
        done, fifo = 0, self.buffer.rx
        while self._waits and self._here:
            first = self._waits[0]
            data = self.buffer.get(fifo, fifo.head + HEADER // 8, first.size + 4)
            image = self._image(data[:-4], data[-4:], first.verdict, first.flags)
            self._off = self._store(image, self._off)
            if self._off < len(image.data):
                break
            words = words_of(first.size + 4)
            self._waits.pop(0)
            self._off = 0
            fifo.head = fifo.step(fifo.head, words)
            fifo.fill -= words
            fifo.count -= 1
            done += 1
        return done


def _segment(addresses: bytes, proto: int, payload: bytes) -> tuple[int, int]:
    """TCPCS, TCPE of one TCP or UDP segment under its pseudo header."""
    if proto == 6:
        if len(payload) < 20:
            return 0, 0
    elif (
        proto != 17
        or len(payload) < 8
        or int.from_bytes(payload[4:6], "big") != len(payload)
        or payload[6:8] == b"\0\0"
    ):
        return 0, 0
    pseudo = addresses + pack(">II", len(payload), proto)
    return TCPCS, TCPE if csum_fold(csum_partial(pseudo + payload)) else 0
