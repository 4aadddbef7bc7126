"""The driver's descriptor rings and GRO, beside the plain-Python twins."""

from __future__ import annotations

import struct
from collections.abc import Iterator

from fastpath._ref import gro as ref_gro
from fastpath._ref import hdr as ref_hdr
from fastpath._ref import rings_driver as ref_ring
from fastpath.base.dma import HostMemory
from fastpath.base.skbuff import SkbPool, alloc_skb, kfree_skb, sk_buff, skb_add_data
from fastpath.net.gro import GroTable
from fastpath.net.rings_driver import RxRing, TxRing

from . import Work, row
from .gso import MSS
from .skbuff import MAC, TIMESTAMPS, TWIN, A, B, repeated

REPEAT = 500
FRAMES = 180
"""Of one NAPI batch that GRO merges to one packet of about 256 KiB."""
DD_EOP_TCPCS_IPCS = 0x63
ONE, FULL = ("64B",), ("1448B",)


@row("tx_ring__map__clean", group="tx_ring", unit="ns", sizes=ONE)
def map_clean(size: str) -> Iterator[Work]:
    """A small packet made, mapped to a descriptor, marked as sent and cleaned."""
    mem = HostMemory(64 << 20)
    heads, pages, ring = SkbPool(mem, 2048, 512), SkbPool(mem, 32768, 16), TxRing(mem, 256)
    data = bytes(64)

    def once() -> None:
        skb = alloc_skb(heads, 0, 128)
        assert skb is not None
        skb_add_data(skb, pages, data, 0, 64)
        ring.map(skb)
        mem.write32(ring.dma + 16 * ((ring.next_to_use - 1) % ring.count) + 12, 1)
        ring.clean()

    yield Work(repeated(once, REPEAT), REPEAT)
    ring.reset()


@row("tx_ring__twin__map_clean", group="tx_ring", unit="ns", sizes=ONE, peer=TWIN)
def map_clean_twin(size: str) -> Iterator[Work]:
    """The same in plain Python, the packet's buffers aside."""
    ring = ref_ring.TxRing(256)

    def once() -> None:
        ring.map([(4096, 64)], 0, 0x0B, -1, 4096, (1, 64))
        ring.done((ring.next_to_use - 1) % ring.count)
        ring.clean()

    yield Work(repeated(once, REPEAT), REPEAT)


def tcp_frames(*, v6: bool = False) -> list[bytes]:
    """The frames of one super-packet, as TSO makes them; the NIC reports their checksums good."""
    out = []
    for i in range(FRAMES):
        tcp = ref_hdr.tcp_header(1000, 80, 1 + i * MSS, 7, 0x10, 500, 0, TIMESTAMPS)
        if v6:
            eth = ref_hdr.eth_header(MAC, MAC, 0x86DD)
            ip = ref_hdr.ipv6_header(0, 0, 32 + MSS, 6, 64, A, B)
        else:
            eth = ref_hdr.eth_header(MAC, MAC, 0x0800)
            ip = ref_hdr.ip_header(0, 52 + MSS, i, 0x4000, 64, 6, A, B)
        out.append(eth + ip + tcp + bytes(MSS))
    return out


class Rx:
    """A receive ring and a stand-in for the device that fills it."""

    def __init__(self, *, v6: bool = False) -> None:
        self.mem = HostMemory(64 << 20)
        self.ring = RxRing(self.mem, 512, SkbPool(self.mem, 2048, 1024), 2048)
        self.frames = tcp_frames(v6=v6)
        self.gro = GroTable()
        self.head = 0
        self.taken: sk_buff | None = None
        self.ring.refill()

    def fill(self) -> None:
        """Put all frames in the ring, checksums reported as good."""
        self.drop()
        self.ring.refill()
        for frame in self.frames:
            at = self.ring.dma + 16 * self.head
            self.mem.write(self.mem.read64(at), frame)
            status = struct.pack("<HHBBH", len(frame), 0, DD_EOP_TCPCS_IPCS, 0, 0)
            self.mem.write(at + 8, status)
            self.head = (self.head + 1) % self.ring.count

    def take(self) -> None:
        """Take all of them off as one packet."""
        out: list[sk_buff] = []
        self.ring.clean(FRAMES, out, self.gro, True, True, False)
        self.gro.flush(out)
        (self.taken,) = out

    def drop(self) -> None:
        """Free the packet that was taken."""
        if self.taken is not None:
            kfree_skb(self.taken)
            self.taken = None


@row("rx_ring__clean__gro", group="gro", unit="ns", sizes=FULL)
def clean_gro(size: str) -> Iterator[Work]:
    """Frames taken off the ring and merged to one packet; time for a frame."""
    rx = Rx()
    yield Work(rx.take, FRAMES, rx.fill)
    rx.drop()
    rx.ring.reset()


@row("rx_ring__clean__gro6", group="gro", unit="ns", sizes=FULL)
def clean_gro6(size: str) -> Iterator[Work]:
    """The same over IPv6; the segments carry as much, so the frames are 20 bytes longer."""
    rx = Rx(v6=True)
    yield Work(rx.take, FRAMES, rx.fill)
    rx.drop()
    rx.ring.reset()


@row("gro__twin__receive", group="gro", unit="ns", sizes=FULL, peer=TWIN)
def gro_twin(size: str) -> Iterator[Work]:
    """The same merge in plain Python, without a ring."""
    frames = tcp_frames()

    def once() -> None:
        table: ref_gro.GroTable = ref_gro.GroTable()
        out: list = []
        for frame in frames:
            table.receive(frame, out, verified=True)
        table.flush(out)

    yield Work(once, FRAMES)


@row("rx_ring__refill__bulk", group="rx_refill", unit="ns", sizes=("2KiB",))
def refill(size: str) -> Iterator[Work]:
    """Buffers from the pool to empty descriptors; time for a buffer."""
    rx = Rx()

    def empty() -> None:
        rx.fill()
        rx.take()
        rx.drop()

    yield Work(rx.ring.refill, FRAMES, empty)
    rx.ring.reset()


@row("rx_ring__twin__refill", group="rx_refill", unit="ns", sizes=("2KiB",), peer=TWIN)
def refill_twin(size: str) -> Iterator[Work]:
    """The same in plain Python: an address from a list, a descriptor into memory."""
    mem = HostMemory(4 << 20)
    ring = mem.alloc(16 * 512)

    def once() -> None:
        free = list(range(4096, 4096 + 2048 * FRAMES, 2048))
        for slot in range(FRAMES):
            mem.write(ring + 16 * slot, struct.pack("<QQ", free.pop() + 128, 0))

    yield Work(once, FRAMES)


ROWS = (map_clean, map_clean_twin, clean_gro, clean_gro6, gro_twin, refill, refill_twin)
