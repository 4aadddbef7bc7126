"""Transmit ring engine in plain Python: the twin of ``fastpath.nic.txring``.

Written for reading: a frame's bytes are gathered whole, and a segmentation context is cut once its
last descriptor has arrived. So it has no pauses; `max_frames` is not offered.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from struct import unpack_from
from typing import Any

from fastpath._ref.csum import csum_fold, csum_partial
from fastpath._ref.e1000_hw import CTRL_VME, TCTL_EN, TCTL_PSP, Registers
from fastpath._ref.pktbuf import FEW, HEADER, PacketBuffer, words_of
from fastpath._ref.ring import DescriptorRing
from fastpath.base.batch import FB_HAS_FCS

TXDW, TXQE, TXD_LOW = 0x1, 0x2, 0x8000
RUN_DELAYED, RUN_MORE, RUN_ABORT, RUN_DATA_ABORT, RUN_OFF = (1 << bit for bit in range(24, 29))

EOP, IFCS, IC, RS, RPS, DEXT, VLE, IDE = (1 << bit for bit in range(8))
TSE = IC
IXSM, TXSM = 1, 2


@dataclass(slots=True)
class Context:
    """A TCP/IP context descriptor (SDM 3.3.6)."""

    ipcss: int = 0
    ipcso: int = 0
    ipcse: int = 0
    tucss: int = 0
    tucso: int = 0
    tucse: int = 0
    paylen: int = 0
    tucmd: int = 0
    hdrlen: int = 0
    mss: int = 0

    @classmethod
    def parse(cls, raw: bytes) -> Context:
        """From the descriptor's 16 bytes."""
        ipcss, ipcso, ipcse, tucss, tucso, tucse, low, _sta, hdrlen, mss = unpack_from(
            "<BBHBBHIBBH", raw
        )
        return cls(ipcss, ipcso, ipcse, tucss, tucso, tucse, low & 0xFFFFF, low >> 24, hdrlen, mss)


@dataclass(slots=True)
class _Open:
    """The frame between its first descriptor and EOP."""

    kind: str
    css: int = 0
    popts: int = 0
    cmd: int = 0
    special: int = 0
    context: Context = field(default_factory=Context)
    data: bytearray = field(default_factory=bytearray)
    dead: bool = False  # dropped: the rest up to EOP is discarded
    sent: int = 0  # TSO: payload bytes already sent
    segments: int = 0


def insert_checksum(frame: bytearray, css: int, cse: int, cso: int, udp: bool = False) -> bool:
    """Put the check of frame[css:cse+1] at cso; False if that is outside the frame."""
    end = len(frame) if cse == 0 else min(cse + 1, len(frame))
    if css >= len(frame) or end <= css or cso + 2 > len(frame):
        return False
    check = csum_fold(csum_partial(bytes(frame[css:end])))
    if udp and check == 0:
        check = 0xFFFF
    frame[cso : cso + 2] = check.to_bytes(2, "big")
    return True


class TxEngine(DescriptorRing):
    """One transmit queue over any memory with read(addr, n) and write(addr, data)."""

    def __init__(self, dma: Any, stats: Any, file: Any, buffer: PacketBuffer | None = None) -> None:
        super().__init__("T", dma, stats, Registers(file), buffer)
        self.rps = False
        self.low_cause = TXD_LOW
        self.reset()

    def reset(self) -> None:
        """CTRL.RST or power-on."""
        self.max_frame = 16384
        self.hold = 0
        self.chip.all.clear()
        self._owed: list[tuple[int, int]] = []
        self.mixed_drops = self.oversize_drops = self.tso_fails = 0
        self.empty_frames = self.csum_skips = 0
        self.ring_errors = self.desc_aborts = self.data_aborts = 0
        self.contexts = [Context(), Context()]
        self._open: _Open | None = None
        self._flags = self._record = 0
        self._begun()

    def mid_frame(self) -> bool:
        """Whether a frame is unfinished."""
        return self._open is not None

    def ring_moved(self) -> None:
        """Drop the unfinished frame, fetched descriptors and held write-backs."""
        self.chip.all.clear()
        self._open = None
        self._owed.clear()
        self._begun()

    def prefetch(self, low: int, host: int) -> None:
        """PTHRESH and HTHRESH; with `low` 0 only runs fetch."""
        self.chip.low, self.chip.host = low, host

    def fill(self) -> int:
        """Fetch descriptors while not sending."""
        regs = self.regs
        n, head, tail = regs["TDLEN"] >> 4, regs["TDH"], regs["TDT"]
        tail = 0 if tail == n else tail
        if not regs["TCTL"] & TCTL_EN or not self.dma.enabled or self.off:
            return 0
        base = self.base
        if base + n * 16 >= 1 << 64 or len(self.chip.all) >= self.chip.low:
            return 0
        if self.chip.fetch(self.dma, base, n, head, (tail - head) % n):
            return 0
        self.desc_aborts += 1
        return RUN_ABORT

    def run(self, batch: Any) -> int:
        """Take descriptors until tail; appends frames to `batch`, returns causes."""
        regs = self.regs
        n, head, tail, txdctl = regs["TDLEN"] >> 4, regs["TDH"], regs["TDT"], regs["TXDCTL"]
        tail = 0 if tail == n else tail
        if not regs["TCTL"] & TCTL_EN or not self.dma.enabled:
            return RUN_OFF
        if self.off:
            self.ring_errors += head != tail
            return RUN_OFF
        base = self.base
        if base + n * 16 >= 1 << 64:
            self.ring_errors += 1
            self.dma.aborts += 1
            return RUN_OFF | RUN_ABORT
        del self.chip.all[(tail - head) % n :]
        self._flags = self.repay() if self.hold <= 1 else 0
        if head == tail:
            return self._flags
        before = (tail - head) % n
        self._record = FEW if before <= FEW else 0
        while head != tail:
            at = base + head * 16
            if not self.chip.fetch(self.dma, base, n, head, (tail - head) % n):
                self.desc_aborts += 1
                self._flags |= RUN_ABORT
                break
            raw = self.chip.all[0]
            cmd = raw[11]
            dtyp = raw[10] >> 4
            if not cmd & DEXT:
                self._legacy(raw, batch)
            elif dtyp == 1:
                self._data(raw, batch)
            elif dtyp == 0:
                self.contexts[bool(cmd & TSE)] = Context.parse(raw)
            else:
                self.mixed_drops += 1
            hold = self.hold
            reports = bool(cmd & RS or (self.rps and cmd & RPS))
            if hold > 1:
                over = bool(reports and cmd & IDE and not regs["TIDV"] & 0xFFFF)
                if over:
                    cmd &= ~IDE
                if reports or self._owed:
                    self._owed.append((head, cmd if reports else IDE))
                    if reports and cmd & IDE:
                        self._report(True)
                if over or len(self._owed) >= hold:
                    back = self.repay()
                    if back & TXDW:
                        self._report(False)
                    self._flags |= back
            elif reports or hold:
                aborts = self.dma.aborts
                self.dma.write(at + 12, bytes([raw[12] & 0xF0 | 1]))
                if self.dma.aborts != aborts:
                    self.desc_aborts += 1
                    self._flags |= RUN_ABORT
                    break
                self._report(bool(cmd & IDE))
            self.chip.all.pop(0)
            head = (head + 1) % n
        regs["TDH"] = head
        if head == tail:
            self._flags |= TXQE
        low = (txdctl >> 25) * 8
        if before > low >= (tail - head) % n:
            self._flags |= self.low_cause
        self._begun()
        return self._flags

    def _report(self, delayed: bool) -> None:
        """A descriptor was written back; the last one decides whether the delay begins or ends."""
        self._flags |= RUN_DELAYED if delayed else TXDW
        if not delayed:
            self._flags &= ~RUN_DELAYED

    def repay(self) -> int:
        """Write back descriptors held by WTHRESH."""
        flags = 0
        if not self.dma.enabled:
            return 0
        for index, cmd in self._owed:
            at = self.base + index * 16 + 12
            self.dma.write(at, bytes([self.dma.read(at, 1)[0] & 0xF0 | 1]))
            flags |= 0 if cmd & IDE else TXDW
        delayed = RUN_DELAYED if self._owed and not flags else 0
        self._owed.clear()
        return flags | delayed

    def _begun(self) -> None:
        """Show the present part of an incomplete frame in the FIFO."""
        frame, fifo = self._open, self.buffer.tx
        data = b"" if frame is None or frame.dead else bytes(frame.data)
        if frame is not None and frame.kind == "tso" and len(data) <= frame.context.hdrlen:
            data = b""  # of a segment, only with the first byte of its payload
        fifo.begun = (len(data) + HEADER + 7) // 8 if data else 0
        if data:
            self.buffer.frame(fifo, data)

    def _fetch(self, addr: int, n: int) -> bytes:
        aborts = self.dma.aborts
        data: bytes = self.dma.read(addr, n)
        if self.dma.aborts != aborts:
            self.data_aborts += 1
            self._flags |= RUN_DATA_ABORT
        return data

    def _close(self, frame: _Open, eop: bool) -> None:
        """Drop `frame` now; keep discarding until EOP."""
        frame.dead = True
        if eop:
            self._open = None

    def _add(self, frame: _Open, addr: int, n: int, eop: bool) -> bool:
        if addr == 0 or n == 0:
            return True
        if len(frame.data) + n > self.max_frame:
            self.oversize_drops += 1
            self._close(frame, eop)
            return False
        frame.data += self._fetch(addr, n)
        return True

    def _legacy(self, raw: bytes, batch: Any) -> None:
        addr, n, cso, cmd, _sta, css, special = unpack_from("<QHBBBBH", raw)
        eop = bool(cmd & EOP)
        frame = self._open
        if frame is None:
            frame = self._open = _Open("legacy", css=css)
        elif frame.dead:
            if eop:
                self._open = None
            return
        elif frame.kind != "legacy":
            self.mixed_drops += 1
            if frame.kind == "tso":
                self._tso_fail()
            self._close(frame, eop)
            return
        if not self._add(frame, addr, n, eop) or not eop:
            return
        self._open = None
        if not frame.data:
            self.empty_frames += 1
            return
        if cmd & IC and not insert_checksum(frame.data, frame.css, 0, cso):
            self.csum_skips += 1
        self._emit(batch, frame.data, cmd, special)

    def _data(self, raw: bytes, batch: Any) -> None:
        addr, low, _sta, popts, special = unpack_from("<QIBBH", raw)
        n, cmd = low & 0xFFFFF, low >> 24
        eop = bool(cmd & EOP)
        frame = self._open
        if frame is None:
            context = self.contexts[bool(cmd & TSE)]
            kind = "tso" if cmd & TSE else "data"
            frame = self._open = _Open(kind, popts=popts, cmd=cmd, special=special, context=context)
            if kind == "tso" and not self._plausible(frame):
                self._tso_fail()
                self._close(frame, eop)
                return
        elif frame.dead:
            if eop:
                self._open = None
            return
        elif frame.kind == "legacy":
            self.mixed_drops += 1
            self._close(frame, eop)
            return
        if frame.kind == "tso":
            self._tso(frame, addr, n, eop, batch)
            return
        if not self._add(frame, addr, n, eop) or not eop:
            return
        self._open = None
        if not frame.data:
            self.empty_frames += 1
            return
        c = frame.context
        if frame.popts & IXSM and not insert_checksum(frame.data, c.ipcss, c.ipcse, c.ipcso):
            self.csum_skips += 1
        if frame.popts & TXSM and not insert_checksum(
            frame.data, c.tucss, c.tucse, c.tucso, not c.tucmd & 1
        ):
            self.csum_skips += 1
        self._emit(batch, frame.data, cmd, special)

    def _plausible(self, frame: _Open) -> bool:
        c = frame.context
        return (
            c.mss > 0
            and c.paylen > 0
            and c.hdrlen >= c.ipcss + (20 if c.tucmd & 2 else 40)
            and c.hdrlen >= c.tucss + (20 if c.tucmd & 1 else 8)
            and c.hdrlen + c.mss <= self.max_frame
            and not (frame.popts & IXSM and c.ipcso + 2 > c.hdrlen)
            and not (frame.popts & TXSM and c.tucso + 2 > c.hdrlen)
        )

    def _tso_fail(self) -> None:
        self.tso_fails += 1
        self.stats.add("TSCTFC")

    def _tso(self, frame: _Open, addr: int, n: int, eop: bool, batch: Any) -> None:
        c = frame.context
        if addr and n:
            # bytes beyond PAYLEN are never fetched
            room = c.hdrlen + c.paylen - frame.sent - len(frame.data)
            if room > 0:
                frame.data += self._fetch(addr, min(n, room))
            over = n > room
        else:
            over = False
        header = bytes(frame.data[: c.hdrlen])
        while len(header) == c.hdrlen:
            have = len(frame.data) - c.hdrlen
            left = c.paylen - frame.sent
            size = min(c.mss, left)
            if have < size or size == 0:
                break
            self._segment(frame, header, size, size == left, batch)
        if over:
            self._tso_fail()
            self._close(frame, eop)
        elif eop:
            self._open = None
            if frame.sent == c.paylen:
                self.stats.add("TSCTC")
                return
            rest = len(frame.data) - c.hdrlen
            if rest > 0:
                self._segment(frame, header, rest, True, batch)
            self._tso_fail()

    def _segment(self, frame: _Open, header: bytes, size: int, last: bool, batch: Any) -> None:
        c = frame.context
        out = bytearray(header) + frame.data[c.hdrlen : c.hdrlen + size]
        del frame.data[c.hdrlen : c.hdrlen + size]

        def put(at: int, value: int, width: int) -> None:
            out[at : at + width] = (value % (1 << 8 * width)).to_bytes(width, "big")

        def get(at: int, width: int) -> int:
            return int.from_bytes(header[at : at + width], "big")

        if c.tucmd & 2:
            put(c.ipcss + 2, c.hdrlen - c.ipcss + size, 2)
            put(c.ipcss + 4, get(c.ipcss + 4, 2) + frame.segments, 2)
        else:
            put(c.ipcss + 4, c.hdrlen - c.ipcss - 40 + size, 2)
        if frame.popts & IXSM:
            head = out[: c.hdrlen]
            if insert_checksum(head, c.ipcss, c.ipcse, c.ipcso):
                out[: c.hdrlen] = head
            else:
                self.csum_skips += 1
        if c.tucmd & 1:
            put(c.tucss + 4, get(c.tucss + 4, 4) + frame.sent, 4)
            flags = out[c.tucss + 13]
            if not last:
                flags &= ~0x09
            if frame.segments:
                flags &= ~0x80
            out[c.tucss + 13] = flags
        else:
            put(c.tucss + 4, c.hdrlen - c.tucss + size, 2)
        if frame.popts & TXSM:
            length = c.hdrlen - c.tucss + size
            check = csum_fold(csum_partial(bytes(out[c.tucss :]), length))
            if check == 0 and not c.tucmd & 1:
                check = 0xFFFF
            put(c.tucso, check, 2)
        frame.sent += size
        frame.segments += 1
        self._emit(batch, out, frame.cmd, frame.special)

    def _emit(self, batch: Any, frame: bytearray, cmd: int, special: int) -> None:
        ifcs = bool(cmd & IFCS)
        if cmd & VLE and self.regs["CTRL"] & CTRL_VME and len(frame) >= 12:
            frame[12:12] = self.regs["VET"].to_bytes(2, "big") + special.to_bytes(2, "big")
        if ifcs and self.regs["TCTL"] & TCTL_PSP and len(frame) < 60:
            frame += bytes(60 - len(frame))
        batch.append(bytes(frame), 0 if ifcs else FB_HAS_FCS)
        if self._record or self.buffer.exact:
            self._record -= 1 if self._record else 0
            self.buffer.frame(self.buffer.tx, bytes(frame))
        self.buffer.passed(self.buffer.tx, words_of(len(frame)))
        wire = len(frame) + (4 if ifcs else 0)
        self.stats.add("TOT", wire)
        if wire < 64:
            return
        self.stats.add("TPT")
        self.stats.add("GPTC")
        self.stats.add("GOTC", wire)
        self.stats.add("PTC" + bucket(wire))
        if frame[0] & 1:
            self.stats.add("BPTC" if frame[:6] == b"\xff" * 6 else "MPTC")


def bucket(wire: int) -> str:
    """Suffix of the size counter for a length with FCS."""
    for top in (64, 127, 255, 511, 1023):
        if wire <= top:
            return str(top)
    return "1522"
