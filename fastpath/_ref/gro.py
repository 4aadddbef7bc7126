"""Plain-Python twin of ``fastpath.net.gro``: Ethernet frames as bytes in, merged packets out."""

from __future__ import annotations

from dataclasses import dataclass, field

from fastpath._ref.csum import csum_fold, csum_partial
from fastpath._ref.gso import (
    SKB_GSO_TCP_FIXEDID,
    SKB_GSO_TCPV4,
    SKB_GSO_TCPV6,
    SKB_GSO_UDP_L4,
    pseudo_header,
)

MERGED, HELD, NORMAL = 0, 2, 3
UDP_MAX_FRAMES = 128


@dataclass(slots=True)
class Packet:
    """A packet for the stack: its bytes, and its number of frames."""

    data: bytes
    gso_size: int = 0
    gso_segs: int = 0
    gso_type: int = 0


@dataclass(slots=True)
class Headers:
    """A parsed frame; `net` is everything from the network header on, without padding."""

    eth: bytes
    net: bytes
    l4: int
    pay: int
    proto: int
    v6: bool
    plain: bool
    psh: bool = False

    @property
    def key(self) -> tuple[bytes, bytes, bytes, int]:
        """The key that distinguishes flows."""
        addresses = self.net[8:40] if self.v6 else self.net[12:20]
        return self.eth, addresses, self.net[self.l4 : self.l4 + 4], self.proto

    @property
    def payload(self) -> bytes:
        """Bytes after the transport header."""
        return self.net[self.pay :]

    @property
    def ident(self) -> int:
        """IPv4 identification."""
        return int.from_bytes(self.net[4:6], "big")

    @property
    def seq(self) -> int:
        """TCP sequence number."""
        return int.from_bytes(self.net[self.l4 + 4 : self.l4 + 8], "big")

    def constant(self) -> tuple[object, ...]:
        """The fields that all frames of a packet must share, besides the key."""
        ip = (self.net[:4], self.net[7]) if self.v6 else (self.net[1], self.net[6], self.net[8])
        t = self.net[self.l4 : self.pay]
        if self.proto == 17:
            return *ip, t[6:8] != b"\0\0"
        return *ip, t[8:13], t[13] & ~0x08, t[14:16], t[20:]

    def sum_ok(self) -> bool:
        """Whether the transport checksum is correct."""
        if self.proto == 17 and self.net[self.l4 + 6 : self.l4 + 8] == b"\0\0":
            return not self.v6
        body = self.net[self.l4 :]
        acc = csum_partial(pseudo_header(self.net, self.proto, len(body)), 0)
        return csum_fold(csum_partial(body, acc)) == 0


def parse(frame: bytes) -> Headers | None:
    """None if the frame cannot be merged."""
    eth, p = frame[:14], frame[14:]
    if frame[12:14] == b"\x08\x00":
        if len(p) < 28 or p[0] != 0x45 or int.from_bytes(p[6:8], "big") & 0x3FFF:
            return None
        total, l4, proto, v6 = int.from_bytes(p[2:4], "big"), 20, p[9], False
    elif frame[12:14] == b"\x86\xdd":
        if len(p) < 48 or p[0] >> 4 != 6:
            return None
        total, l4, proto, v6 = 40 + int.from_bytes(p[4:6], "big"), 40, p[6], True
    else:
        return None
    if total > len(p) or total < l4 + 8:
        return None
    p = p[:total]
    if proto == 6:
        if total < l4 + 20:
            return None
        doff = (p[l4 + 12] >> 4) * 4
        if not 20 <= doff <= total - l4:
            return None
        flags = p[l4 + 13]
        plain = total > l4 + doff and flags & ~0x48 == 0x10 and p[l4 + 12] & 0x0E == 0
        return Headers(eth, p, l4, l4 + doff, proto, v6, plain, bool(flags & 8))
    if proto == 17:
        if int.from_bytes(p[l4 + 4 : l4 + 6], "big") != total - l4:
            return None
        return Headers(eth, p, l4, l4 + 8, proto, v6, total > l4 + 8)
    return None


@dataclass(slots=True)
class Flow:
    """A held packet."""

    first: Headers
    count: int = 1
    id_step: int | None = None
    psh: bool = False
    payloads: list[bytes] = field(default_factory=list)

    @property
    def mss(self) -> int:
        """Payload bytes of the first frame."""
        return len(self.first.payload)

    @property
    def length(self) -> int:
        """Network-layer bytes so far."""
        return self.first.pay + sum(map(len, self.payloads))

    def continued_by(self, h: Headers) -> bool:
        """Whether `h` is the next frame, and segmentation would restore it."""
        f = self.first
        if len(h.payload) > self.mss or h.constant() != f.constant() or h.pay != f.pay:
            return False
        if not h.v6:
            step = (h.ident - f.ident) & 0xFFFF
            counts = self.id_step in (None, 1) and step == self.count & 0xFFFF
            fixed = self.id_step in (None, 0) and step == 0 and bool(h.net[6] & 0x40)
            if not counts and not fixed:
                return False
        return h.proto == 17 or h.seq == (f.seq + sum(map(len, self.payloads))) & 0xFFFFFFFF

    def join(self, h: Headers) -> None:
        """Append the payload of `h`."""
        if not h.v6 and self.id_step is None:
            self.id_step = 1 if (h.ident - self.first.ident) & 0xFFFF == 1 else 0
        self.psh |= h.psh
        self.count += 1
        self.payloads.append(h.payload)

    def packet(self) -> Packet:
        """The finished packet; its transport check is the folded pseudo header."""
        f = self.first
        body = b"".join(self.payloads)
        if self.count == 1:
            return Packet(f.eth + f.net)
        n = bytearray(f.net[: f.pay])
        total, l4 = f.pay + len(body), f.l4
        if f.v6:
            n[4:6] = (total - 40 if total - 40 <= 0xFFFF else 0).to_bytes(2, "big")
        else:
            n[2:4] = (total if total <= 0xFFFF else 0).to_bytes(2, "big")
            n[10:12] = b"\0\0"
            n[10:12] = csum_fold(csum_partial(bytes(n[:20]), 0)).to_bytes(2, "big")
        # the length part of the pseudo header may exceed 16 bits here
        length = total - l4
        acc = csum_partial(pseudo_header(bytes(n), f.proto, 0), 0)
        acc = csum_partial(length.to_bytes(4, "big"), acc)
        check = (~csum_fold(acc) & 0xFFFF).to_bytes(2, "big")
        kind = SKB_GSO_TCP_FIXEDID if self.id_step == 0 else 0
        if f.proto == 6:
            n[l4 + 13] |= 0x08 * self.psh
            n[l4 + 16 : l4 + 18] = check
            kind |= SKB_GSO_TCPV6 if f.v6 else SKB_GSO_TCPV4
        else:
            n[l4 + 4 : l4 + 6] = length.to_bytes(2, "big")
            if n[l4 + 6 : l4 + 8] != b"\0\0":
                n[l4 + 6 : l4 + 8] = check
            kind |= SKB_GSO_UDP_L4
        return Packet(f.eth + bytes(n) + body, self.mss, self.count, kind)


class GroTable:
    """Held packets, oldest first."""

    def __init__(
        self,
        max_bytes: int = 524288,
        *,
        max_flows: int = 32,
        tcp: bool = True,
        udp: bool = True,
    ) -> None:
        self.max_bytes, self.max_flows, self.tcp, self.udp = max_bytes, max_flows, tcp, udp
        self.flows: list[Flow] = []

    def _take_out(self, flow: Flow, out: list[Packet]) -> None:
        self.flows.remove(flow)
        out.append(flow.packet())

    def _flush_udp(self, out: list[Packet]) -> None:
        """Deliver held datagrams before any other."""
        for flow in self.flows.copy():
            if flow.first.proto == 17:
                self._take_out(flow, out)

    def receive(self, frame: bytes, out: list[Packet], *, verified: bool = False) -> int:
        """Process one frame."""
        h = parse(frame)
        if h is None:
            self._flush_udp(out)
        if h is None or not (self.tcp if h.proto == 6 else self.udp):
            out.append(Packet(frame))
            return NORMAL
        if h.proto == 17 and (frame[0] & 1 or len(frame) != 14 + len(h.net)):
            h.plain = False
        flow = next((f for f in self.flows if f.first.key == h.key), None)
        bad_ip = not h.v6 and csum_fold(csum_partial(h.net[:20], 0)) != 0
        if bad_ip or (h.plain and not verified and not h.sum_ok()):
            out.append(Packet(frame))
            return NORMAL
        if flow:
            n = flow.length + len(h.payload)
            fits = n <= self.max_bytes and (
                h.proto == 6 or (n <= 0xFFFF and flow.count < UDP_MAX_FRAMES)
            )
            if h.plain and flow.continued_by(h) and fits:
                flow.join(h)
                if h.psh or len(h.payload) < flow.mss:
                    self._take_out(flow, out)
                return MERGED
            if h.proto == 6:
                self._take_out(flow, out)
        if h.proto == 17:
            self._flush_udp(out)
        if not h.plain or h.psh:
            out.append(Packet(frame))
            return NORMAL
        if len(self.flows) == self.max_flows:
            self._take_out(self.flows[0], out)
        self.flows.append(Flow(h, payloads=[h.payload]))
        return HELD

    def flush(self, out: list[Packet]) -> int:
        """Deliver everything held."""
        n = len(self.flows)
        while self.flows:
            self._take_out(self.flows[0], out)
        return n
