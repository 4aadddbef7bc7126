"""Random frames, mostly plausible: ARP, IPv4 and IPv6 with their payloads, and others.

`Generator(random.Random(seed)).frame()` gives a frame and the interface that it is for. They are
for a host with two interfaces (`MACS`). It has the addresses `OURS4` and `OURS6` and the neighbours
`NEAR4` and `NEAR6`. A frame is made from outside in: `ethernet` around what `arp`, `ipv4` or
`ipv6` makes, and `ip` or `ip6` around what one of the methods for a protocol makes. Each of them
sometimes makes an error. Fragments of a datagram follow each other (`fragments`).
Not made are what only one side has: UDP-Lite (docs/differences.md), CIPSO and CALIPSO options.
"""

from __future__ import annotations

import random
import struct
from collections.abc import Callable
from dataclasses import dataclass, field
from ipaddress import ip_address
from typing import Any

MACS = bytes.fromhex("020000000001"), bytes.fromhex("020000000101")
PEER_MACS = bytes.fromhex("020000000002"), bytes.fromhex("020000000102")
OTHER_MACS = tuple(map(bytes.fromhex, ("020000000003", "0200000000fe", "020000000099")))
UDP_PORT, TCP_PORT, RAW = 5000, 80, 253


def checksum(data: bytes) -> int:
    """The Internet checksum of some bytes."""
    total = sum(struct.unpack(f"!{(len(data) + 1) // 2}H", data + bytes(len(data) & 1)))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return total ^ 0xFFFF


def put_checksum(data: bytes, at: int, pseudo: bytes = b"") -> bytes:
    """The bytes with their checksum at an offset, if they are long enough."""
    data = data[:at] + bytes(2) + data[at + 2 :]
    return data[:at] + checksum(pseudo + data).to_bytes(2, "big") + data[at + 2 :]


def ip4(text: str) -> bytes:
    """The address's bytes."""
    return ip_address(text).packed


ip6 = ip4
OURS4 = ("10.0.0.1", "10.0.1.1")
NEAR4 = (("10.0.0.2", "10.0.0.3", "10.0.0.254"), ("10.0.1.2", "10.0.1.3", "10.0.1.9"))
FAR4 = ("10.1.0.9", "10.1.2.3", "10.2.0.1", "10.3.0.1", "10.4.0.1", "8.8.8.8", "10.0.0.77")
GROUPS4 = ("224.0.0.1", "239.1.2.3", "239.9.9.9", "224.0.0.22", "224.0.0.251")
ODD4 = (
    "255.255.255.255", "10.0.0.255", "10.0.0.0", "10.0.1.255", "0.0.0.0", "127.0.0.1", "127.1.2.3",
    "240.0.0.1", "0.0.0.5", "169.254.3.3", "224.0.0.1", "239.1.2.3", "10.0.0.1", "10.0.1.1",
)  # fmt: skip
OURS6 = ("2001:db8:1::1", "2001:db8:2::1", "fe80::1", "fe80::2")
NEAR6 = (
    ("2001:db8:1::2", "2001:db8:1::3", "fe80::fe", "fe80::99"),
    ("2001:db8:2::2", "2001:db8:2::3", "fe80::fe", "fe80::98"),
)
FAR6 = (
    "2001:db8:f1::9", "2001:db8:f2::9", "2001:db8:f3::9", "2001:db8:f4::9", "2001:4860::8",
    "2001:db8:1::77",
)  # fmt: skip
GROUPS6 = (
    "ff02::1", "ff02::2", "ff01::1", "ff02::1:ff00:1", "ff02::1:ff00:77", "ff05::1234", "ff02::16",
    "ff0e::99", "ff00::1", "ff02::fb", "ff32::1",
)  # fmt: skip
ODD6 = (
    "::", "::1", "::ffff:10.0.0.1", "2001:db8:1::", "2001:db8:2::", "fec0::1", "ff02::1", "100::1",
    "2001:db8:1::1", "2001:db8:2::1", "fe80::1", "fe80::2", "::10.0.0.2",
)  # fmt: skip


@dataclass
class Generator:
    """The frames of one seed, and data about the last one."""

    pick: random.Random
    slow: int = 0
    """Possible delay of a reply to the last frame, in ms."""
    last: bool = False
    """Whether a reply may come at any time, so that no frame follows."""
    about: str = ""
    ids: int = 0
    halves: list[tuple[int, bytes]] = field(default_factory=list)
    """Frames that are still to come: fragments."""

    def chance(self, part: float) -> bool:
        return self.pick.random() < part

    def noise(self, *lengths: int) -> bytes:
        return self.pick.randbytes(self.pick.choice(lengths or (0, 1, 4, 8, 20, 56, 200)))

    def of(self, *makers: tuple[float, Callable[[], Any]]) -> Any:
        """The result of a maker chosen by weight."""
        (maker,) = self.pick.choices([m for _, m in makers], [w for w, _ in makers])
        self.about += " " + maker.__name__.strip("_")
        return maker()

    # ---- Ethernet ----

    def frame(self) -> tuple[int, bytes]:
        """The next frame, and the interface that receives it."""
        self.slow, self.last = 0, False
        if self.halves:
            self.about = "fragment"
            return self.halves.pop(0)
        self.about = ""
        self.number = self.pick.choice((0, 0, 0, 1))
        self.to_mac = b""
        kind, packet = self.of(
            (12, self.arp), (45, self.ipv4), (50, self.ipv6), (1, self.llc), (1, self.unknown)
        )
        if self.chance(0.04) and packet and not self.slow:
            damaged = bytearray(packet)
            for _ in range(self.pick.choice((1, 1, 2))):
                damaged[self.pick.randrange(min(len(damaged), 80))] = self.pick.randrange(256)
            packet = bytes(damaged)
            self.about += " damaged"
            self.slow = 40
        if self.chance(0.03):
            packet = packet[: self.pick.randrange(len(packet) + 1)]
            self.about += " cut"
        return self.number, self.ethernet(kind, packet)

    def ethernet(self, kind: int, packet: bytes) -> bytes:
        """The frame around a packet."""
        to = self.to_mac or MACS[self.number]
        if self.chance(0.03):
            to = self.pick.choice(
                (b"\xff" * 6, *OTHER_MACS, *MACS, b"\x01\0\x5e\0\0\1", b"\x33\x33\0\0\0\1")
            )
            self.about += f" to {to.hex(':')}"
        source = PEER_MACS[self.number]
        if self.chance(0.05):
            source = self.pick.choice((*OTHER_MACS, MACS[self.number], b"\xff" * 6, bytes(6)))
            self.about += f" from {source.hex(':')}"
        tag = b""
        if self.chance(0.03):
            vid = self.pick.choice((0, 5, 5, 6, 4095))
            tag = struct.pack("!HH", self.pick.choice((0x8100, 0x8100, 0x88A8)), vid | 0x2000)
            self.about += f" vlan {tag.hex()}"
        frame = to + source + tag + struct.pack("!H", kind) + packet
        if self.chance(0.5):
            frame = frame.ljust(60, b"\0")
        if self.chance(0.03):
            frame += self.noise(1, 4, 40)
            self.about += " trailer"
        return frame

    def llc(self) -> tuple[int, bytes]:
        data = self.pick.choice(
            (b"\x42\x42\x03", b"\xaa\xaa\x03\0\0\0\x08\0", b"\xff\xff", b"\xe0\xe0\x03")
        )
        return self.pick.choice((3, 8, 38, 0, 1500)), data + self.noise()

    def unknown(self) -> tuple[int, bytes]:
        return self.pick.choice((0x88B5, 0x88CC, 0x8863, 0x22F0, 0x0600, 0x05FF)), self.noise()

    def near4(self) -> str:
        return self.pick.choice(NEAR4[self.number])

    def source4(self) -> str:
        return str(self.of(
            (30, self.near4),
            (2, lambda: self.pick.choice(FAR4)),
            (2, lambda: self.pick.choice(ODD4)),
        ))  # fmt: skip

    def dest4(self) -> str:
        return str(self.of(
            (40, lambda: OURS4[self.number]),
            (3, lambda: self.pick.choice(OURS4)),
            (8, lambda: self.pick.choice(FAR4)),
            (8, lambda: self.pick.choice(GROUPS4)),
            (5, lambda: self.pick.choice(ODD4)),
            (2, lambda: self.near4()),
        ))  # fmt: skip

    # ---- ARP ----

    def arp(self) -> tuple[int, bytes]:
        pick = self.pick
        op = pick.choice((1, 1, 1, 2, 2, 3, 4, 8, 0))
        sender, target = self.source4(), self.dest4()
        if self.chance(0.1):
            target = sender
        if self.chance(0.1):
            sender = "0.0.0.0"
        source = PEER_MACS[self.number]
        if self.chance(0.1):
            source = pick.choice((*OTHER_MACS, *MACS, bytes(6), b"\xff" * 6))
        wanted = pick.choice((bytes(6), MACS[self.number], b"\xff" * 6))
        head = [1, 0x0800, 6, 4, op]
        if self.chance(0.08):
            head[pick.randrange(4)] = pick.choice((0, 1, 4, 6, 8, 200))
        packet = struct.pack("!HHBBH", *head) + source + ip4(sender) + wanted + ip4(target)
        if self.chance(0.6):
            self.to_mac = b"\xff" * 6
        self.about += f" {op} {sender} {target}"
        return 0x0806, packet

    # ---- IPv4 ----

    def ipv4(self) -> tuple[int, bytes]:
        dest = self.dest4()
        source = self.source4()
        proto, payload = self.of(
            (20, lambda: self.udp(source, dest)),
            (25, lambda: self.icmp(source, dest)),
            (5, lambda: self.igmp(source)),
            (8, lambda: self.tcp(source, dest)),
            (3, self.unknown_proto),
        )
        if proto == 2 and self.chance(0.8):
            dest = self.pick.choice(GROUPS4)
        group = ip_address(dest).is_multicast
        if group and self.chance(0.9):
            self.to_mac = b"\x01\0\x5e" + (int(ip_address(dest)) & 0x7FFFFF).to_bytes(3, "big")
        elif (dest.endswith(".255") or dest == "0.0.0.0") and self.chance(0.9):
            self.to_mac = b"\xff" * 6
        self.about += f" {source} > {dest}"
        options = self.options() if self.chance(0.25) else b""
        if proto == 2 and self.chance(0.7):
            options = b"\x94\x04\0\0"
        if self.chance(0.12) and len(payload) > 8:
            self.fragments(source, dest, proto, payload, options)
            return 0x0800, self.halves.pop(0)[1][14:]
        return 0x0800, self.ip(source, dest, proto, payload, options, 0x4000 * self.chance(0.3))

    def ip(
        self, source: str, dest: str, proto: int, payload: bytes, options: bytes = b"",
        frag: int = 0, ident: int = -1,
    ) -> bytes:  # fmt: skip
        pick = self.pick
        ttl = pick.choice((64, 64, 64, 255, 1, 0, 2)) if proto != 2 else pick.choice((1, 1, 64, 0))
        options += bytes(-len(options) % 4)
        version, words, length = 4, 5 + len(options) // 4, 20 + len(options) + len(payload)
        tos = pick.choice((0, 0, 0, 1, 2, 3, 4, 0x10, 0xC0, 0xFF))
        if self.chance(0.04):
            self.about += " head"
            what = pick.randrange(4)
            if what == 0:
                version = pick.choice((0, 5, 6, 15))
            elif what == 1:
                words = pick.choice((0, 4, 5, 6, 10, 15))
            else:
                length += pick.choice((-length, -9, -1, 1, 8, 100))
        ident = self.ident() if ident < 0 else ident
        head = struct.pack(
            "!BBHHHBBH4s4s", version << 4 | words & 15, tos, length & 0xFFFF, ident, frag, ttl,
            proto, 0, ip4(source), ip4(dest),
        ) + options  # fmt: skip
        whole = put_checksum((head + payload)[: max(words * 4, 20)], 10)
        packet = whole + (head + payload)[len(whole) :]
        if self.chance(0.01):
            packet = packet[:10] + b"\x12\x34" + packet[12:]
            self.about += " sum"
        return packet

    def ident(self) -> int:
        self.ids += 1
        return 0x1000 + self.ids

    def fragments(self, source: str, dest: str, proto: int, payload: bytes, options: bytes) -> None:
        """Cut a datagram in pieces, which come one after another."""
        pick = self.pick
        cuts = sorted(
            pick.sample(
                range(8, len(payload) + 8, 8), min(pick.choice((1, 1, 2, 3)), len(payload) // 8)
            )
        )
        starts = [0, *cuts]
        pieces: list[list[Any]] = [
            [start, payload[start:end], end < len(payload)]
            for start, end in zip(starts, [*cuts, len(payload)], strict=True)
            if start < len(payload)
        ]
        self.spoil(pieces)
        ident = self.ident()
        for start, piece, more in pieces:
            frag = start // 8 | (0x2000 if more else 0)
            frag |= 0x4000 * self.chance(0.05)
            packet = self.ip(source, dest, proto, piece, options, frag, ident)
            self.halves.append((self.number, self.ethernet(0x0800, packet)))

    def spoil(self, pieces: list[list[Any]]) -> None:
        """Exchange, repeat, omit or change some pieces of a datagram."""
        pick = self.pick
        if self.chance(0.3):
            pick.shuffle(pieces)
        if self.chance(0.2):
            pieces.insert(pick.randrange(len(pieces)), list(pick.choice(pieces)))
        if self.chance(0.15):
            wrong = pick.choice(pieces)
            what = pick.randrange(5)
            if what == 0:
                wrong[0] = max(wrong[0] - 8, 0)
            elif what == 1:
                wrong[1] += self.noise(8, 16, 3)
            elif what == 2:
                wrong[1] = wrong[1][:-3]
            elif what == 3:
                wrong[2] = not wrong[2]
            else:
                wrong[0] = pick.choice((65528, 65512, wrong[0] + 8))

    def options(self) -> bytes:
        """Options of an IPv4 header: mostly valid ones."""
        pick = self.pick
        out = b""
        for _ in range(pick.choice((1, 1, 1, 2, 3))):
            out += self.option()
        out = out[:40]
        if self.chance(0.1) and out:
            damaged = bytearray(out)
            damaged[pick.randrange(len(damaged))] = pick.choice((0, 1, 3, 4, 7, 255))
            out = bytes(damaged)
        self.about += f" options {out.hex()}"
        return out

    def option(self) -> bytes:
        pick = self.pick
        kind = pick.choice((7, 7, 68, 68, 68, 131, 137, 148, 1, 0, 130, 136, 85, 25))
        if kind < 2:
            return bytes([kind])
        if kind in (7, 131, 137):
            hops = b"".join(
                ip4(pick.choice((*OURS4, *FAR4, *NEAR4[0], "0.0.0.0")))
                for _ in range(pick.choice((0, 1, 2, 3, 9)))
            )
            pointer = pick.choice((4, 4, 4, 8, 12, len(hops) + 4, len(hops) + 3, 0, 3, 5))
            return bytes([kind, len(hops) + 3, pointer]) + hops
        if kind == 68:
            flag = pick.choice((0, 1, 1, 3, 3, 2, 0x11, 0xF1, 0xF0))
            hops = b"".join(
                ip4(pick.choice((*OURS4, *FAR4))) + bytes(4)
                for _ in range(pick.choice((0, 1, 1, 2, 4)))
            )
            pointer = pick.choice((5, 5, 5, 9, 13, len(hops) + 5, len(hops) + 1, 0, 4))
            return bytes([kind, len(hops) + 4, pointer, flag]) + hops
        if kind == 148:
            return b"\x94\x04" + pick.choice((b"\0\0", b"\0\0", b"\0\1"))
        body = self.noise(0, 1, 2, 4, 6)
        return bytes([kind, len(body) + 2]) + body

    def unknown_proto(self) -> tuple[int, bytes]:
        return self.pick.choice((RAW, RAW, 200, 99, 0, 255, 58, 59, 60)), self.noise()

    def ports(self) -> tuple[int, int]:
        pick = self.pick
        return pick.choice((9, 53, 4000, 40000, 0)), pick.choice((UDP_PORT, UDP_PORT, 5001, 9, 0))

    def pseudo(self, source: str, dest: str, proto: int, length: int) -> bytes:
        addresses = ip4(source) + ip4(dest)
        if len(addresses) == 8:
            return addresses + struct.pack("!BBH", 0, proto, length & 0xFFFF)
        return addresses + struct.pack("!II", length, proto)

    def udp(self, source: str, dest: str) -> tuple[int, bytes]:
        data = self.noise(0, 1, 8, 30, 400)
        length = 8 + len(data)
        said = length
        if self.chance(0.08):
            said = self.pick.choice((0, 7, 8, length - 1, length + 1, 65535))
        packet = struct.pack("!HHHH", *self.ports(), said & 0xFFFF, 0) + data
        covered = said if 8 <= said <= length else length
        sent = put_checksum(packet[:covered], 6, self.pseudo(source, dest, 17, covered))
        packet = sent + packet[covered:]
        if self.chance(0.1):
            packet = (
                packet[:6]
                + self.pick.choice((b"\0\0", b"\0\0", b"\x12\x34", b"\xff\xff"))
                + packet[8:]
            )
            self.about += " udp sum"
        return 17, packet

    def tcp(self, source: str, dest: str) -> tuple[int, bytes]:
        pick = self.pick
        flags = pick.choice(
            (2, 2, 2, 0x10, 4, 0x14, 0x12, 1, 0, 3, 0x11, 0x18, 0xC2, 0x42, 0x29, 6)
        )
        options = pick.choice(
            (
                b"",
                b"\x02\x04\x05\xb4",
                b"\x02\x04\x05\xb4\x04\x02\x08\x0a\0\0\0\1\0\0\0\0\x01\x03\x03\x07",
                b"\x02\x04\0\x10",
                b"\x02\x03\x05\x01",
                b"\x08\x0a\0\0\0\1\0\0\0\5\0\0",
                b"\xfe\x04\xf9\x89",
                b"\x22\x02\1\1",
            )
        )
        words = 5 + len(options) // 4
        if self.chance(0.05):
            words = pick.choice((0, 4, 5, 15))
        data = self.noise(0, 0, 0, 1, 50)
        sport = pick.randrange(1024, 65535)
        ack = pick.choice((0, 1, 0x12345678))
        packet = (
            struct.pack(
                "!HHIIBBHHH",
                sport,
                pick.choice((TCP_PORT, TCP_PORT, 81, 0)),
                pick.getrandbits(32),
                ack,
                words << 4 & 0xFF,
                flags,
                pick.choice((0, 1000, 65535)),
                0,
                0,
            )
            + options
            + data
        )
        packet = put_checksum(packet, 16, self.pseudo(source, dest, 6, len(packet)))
        if self.chance(0.05):
            packet = packet[:16] + b"\x12\x34" + packet[18:]
        self.about += f" flags {flags:x}"
        return 6, packet

    def quoted(self, source: str, dest: str) -> bytes:
        """A packet of IPv4 that we might have sent, for an error about it."""
        pick = self.pick
        target = source if self.chance(0.5) else pick.choice((*FAR4, *NEAR4[0]))
        own = dest if dest in OURS4 and self.chance(0.9) else pick.choice(OURS4)
        proto, payload = pick.choice((
            (17, struct.pack("!HHHH", UDP_PORT, 9, 20, 0) + bytes(12)),
            (17, struct.pack("!HHHH", 5002, 7, 20, 0) + bytes(12)),
            (17, struct.pack("!HHHH", 77, 9, 20, 0) + bytes(12)),
            (1, b"\x08\0\0\0\0\x4d\0\1" + bytes(8)),
            (1, b"\x03\1\0\0\0\0\0\1" + bytes(8)),
            (6, struct.pack("!HHIIBBHHH", TCP_PORT, 999, 5, 6, 0x50, 0x10, 9, 0, 0)),
            (RAW, bytes(20)), (200, bytes(20)),
        ))  # fmt: skip
        if proto == 17 and payload[:2] == b"\x13\x8a":
            own, target = "10.0.0.1", "10.0.0.2"
        packet = self.ip(own, target, proto, payload, b"\x94\x04\0\0" * self.chance(0.1))
        if self.chance(0.15):
            packet = packet[: pick.choice((0, 8, 19, 20, 24, 27, 28))]
        return packet

    def icmp(self, source: str, dest: str) -> tuple[int, bytes]:
        pick = self.pick
        kind = pick.choice(
            (
                8,
                8,
                8,
                8,
                3,
                3,
                3,
                5,
                5,
                11,
                12,
                4,
                13,
                13,
                42,
                0,
                14,
                17,
                18,
                10,
                9,
                15,
                30,
                43,
                200,
            )
        )
        code = pick.choice((0, 0, 0, 0, 1, 2, 3, 4, 5, 13, 15, 16, 255))
        if kind in (3, 4, 5, 11, 12):
            code = pick.randrange(17) if kind == 3 else pick.choice((0, 0, 1, 2, 3))
            mtu = pick.choice((0, 68, 552, 576, 1280, 1400, 1500, 9000, 40))
            rest = {
                3: struct.pack("!HH", 0, mtu),
                5: ip4(pick.choice((*NEAR4[0], "10.0.0.77", *ODD4))),
            }.get(kind, struct.pack("!I", pick.getrandbits(32)))
            body = rest + self.quoted(source, dest)
        elif kind in (13, 14):
            body = struct.pack("!HH", 1, 2) + pick.choice(
                (bytes(12), bytes(12), bytes(11), b"", bytes(30))
            )
        elif kind == 42:
            body = struct.pack("!HBB", 1, 1, pick.choice((1, 1, 0))) + self.probe()
        else:
            body = self.noise(0, 3, 4, 4, 12, 60, 61)
            if self.chance(0.1):
                body = self.noise(1000, 1476)
        packet = put_checksum(bytes([kind, code, 0, 0]) + body, 2)
        if self.chance(0.04):
            packet = packet[:2] + b"\x12\x34" + packet[4:]
            self.about += " icmp sum"
        self.about += f" type {kind} code {code}"
        return 1, packet

    def probe(self) -> bytes:
        """The extension of an extended echo request (RFC 8335)."""
        pick = self.pick
        what = pick.choice(
            (
                (1, b"eth0\0\0\0\0"),
                (1, b"eth9\0\0\0\0"),
                (1, b"eth1"),
                (2, b"\0\0\0\1"),
                (2, b"\0\0\0\2"),
                (3, b"\0\1\4\0" + ip4(pick.choice((*OURS4, "10.0.0.2")))),
                (3, b"\0\2\x10\0" + ip6(pick.choice(OURS6))),
                (4, b"1234"),
                (1, b""),
            )
        )
        length = 4 + len(what[1])
        if self.chance(0.1):
            length = pick.choice((0, 3, 4, 100))
        data = bytes(4) + struct.pack("!HBB", length, pick.choice((3, 3, 3, 2)), what[0]) + what[1]
        data = put_checksum(b"\x20" + data[1:], 2)
        return data[: pick.choice((len(data), len(data), len(data), 5, 3, 8))]

    def igmp(self, source: str) -> tuple[int, bytes]:
        pick = self.pick
        kind = pick.choice((0x11, 0x11, 0x11, 0x12, 0x16, 0x17, 0x22, 0x13, 0x14, 0x99))
        group = ip4(pick.choice(("0.0.0.0", "0.0.0.0", *GROUPS4)))
        code = pick.choice((1, 1, 0)) if kind == 0x11 else 0
        body = bytes([kind, code, 0, 0]) + group
        if kind == 0x11:
            self.slow = 150
            if self.chance(0.6):
                count = pick.choice((0, 0, 1, 2))
                body += struct.pack("!BBH", pick.choice((2, 10, 0)), 125, count)
                body += b"".join(ip4(pick.choice(NEAR4[0])) for _ in range(count))
                if self.chance(0.05):
                    body = body[: pick.choice((9, 11, 12, 14))]
                if not code:
                    self.last = False
            elif not code:
                self.last = True
        elif kind == 0x22:
            body = struct.pack("!BBHHH", kind, 0, 0, 0, 1) + b"\4\0\0\0" + group
        packet = put_checksum(body, 2)
        if self.chance(0.05):
            packet = packet[:2] + b"\x12\x34" + packet[4:]
        self.about += f" type {kind:x} code {code}"
        return 2, packet

    # ---- IPv6 ----

    def near6(self) -> str:
        return self.pick.choice(NEAR6[self.number])

    def source6(self) -> str:
        return str(self.of(
            (30, self.near6),
            (2, lambda: self.pick.choice(FAR6)),
            (2, lambda: self.pick.choice(ODD6)),
        ))  # fmt: skip

    def dest6(self) -> str:
        own = (OURS6[0], OURS6[0], OURS6[2]) if not self.number else (OURS6[1], OURS6[3])
        return str(self.of(
            (40, lambda: self.pick.choice(own)),
            (3, lambda: self.pick.choice(OURS6)),
            (8, lambda: self.pick.choice(FAR6)),
            (8, lambda: self.pick.choice(GROUPS6)),
            (4, lambda: self.pick.choice(ODD6)),
            (2, self.near6),
        ))  # fmt: skip

    def ipv6(self) -> tuple[int, bytes]:
        self.hops = 0
        self.dest, self.source = self.dest6(), self.source6()
        kind, payload = self.of(
            (15, lambda: self.udp(self.source, self.dest)),
            (18, self.icmp6),
            (28, self.ndisc),
            (5, self.mld),
            (7, lambda: self.tcp(self.source, self.dest)),
            (4, self.unknown_header),
        )
        source, dest = self.source, self.dest
        if ip_address(dest).is_multicast and self.chance(0.95):
            self.to_mac = b"\x33\x33" + ip6(dest)[12:]
        self.about += f" {source} > {dest}"
        headers: list[tuple[int, bytes]] = []
        if kind == 58 and payload[0] in (130, 131, 132, 143) and self.chance(0.85):
            headers.append((0, b"\x05\x02\0\0\1\0"))
        elif self.chance(0.3):
            headers = [self.header() for _ in range(self.pick.choice((1, 1, 1, 2, 3)))]
        if self.chance(0.12) and len(payload) > 8:
            self.fragments6(source, dest, kind, payload, headers)
            return 0x86DD, self.halves.pop(0)[1][14:]
        return 0x86DD, self.ip6(source, dest, headers, kind, payload)

    def ip6(
        self, source: str, dest: str, headers: list[tuple[int, bytes]], kind: int, payload: bytes
    ) -> bytes:
        """A packet of IPv6 with these extension headers, which are here without their first two
        bytes."""
        pick = self.pick
        for number, body in reversed(headers):
            body += bytes(-(len(body) + 2) % 8)
            size = (len(body) + 2) // 8 - 1
            if self.chance(0.03) and number != 44:
                size = pick.choice((0, 1, 5, 255))
                self.about += " extlen"
            payload = bytes([kind, 0 if number == 44 else size]) + body + payload
            kind = number
        hops = self.hops or pick.choice((64, 64, 64, 255, 1, 0, 2))
        length, version = len(payload), 6
        if self.chance(0.03):
            length += pick.choice((-length, -9, -1, 1, 8, 100))
            self.about += " length"
        elif self.chance(0.01):
            version = pick.choice((0, 4, 5, 7))
        first = version << 28 | pick.choice((0, 0, 1, 3, 0xC0, 0xFF)) << 20
        first |= pick.choice((0, 0, 0x12345))
        head = struct.pack("!IHBB", first, length & 0xFFFF, kind, hops)
        return head + ip6(source) + ip6(dest) + payload

    def header(self) -> tuple[int, bytes]:
        """An extension header: its number, and the bytes after its length."""
        pick = self.pick
        kind = pick.choice((0, 0, 0, 60, 60, 60, 43, 43, 44, 44, 59, 135, 139, 140))
        self.about += f" ext {kind}"
        if kind in (0, 60):
            return kind, self.tlvs(kind)
        if kind == 43:
            number = pick.choice((0, 0, 2, 2, 3, 4, 5, 253))
            hops = b"".join(
                ip6(pick.choice((*OURS6, *FAR6, *NEAR6[0])))
                for _ in range(pick.choice((0, 1, 1, 2)))
            )
            return kind, bytes([number, pick.choice((0, 0, 1, 2))]) + bytes(4) + hops
        if kind == 44:
            offset = pick.choice((0, 0, 0, 0, 8, 6))
            return kind, struct.pack("!HI", offset | pick.choice((0, 0, 0, 1)), self.ident())
        return kind, self.noise(6, 14)

    def tlvs(self, kind: int) -> bytes:
        """The options of a hop-by-hop or destination options header."""
        pick = self.pick
        out = b""
        for _ in range(pick.choice((1, 1, 1, 2, 3, 9))):
            out += pick.choice(
                (
                    b"\0",
                    b"\1\0",
                    b"\1\2\0\0",
                    b"\1\4\0\0\0\0",
                    b"\1\x05\0\0\0\0\0",
                    b"\1\1\1",
                    b"\x05\x02\0\0",
                    b"\x05\x02\0\x05",
                    b"\x05\x01\0",
                    b"\x1e\x04abcd",
                    b"\x5e\x02ab",
                    b"\x9e\x02ab",
                    b"\xde\x02ab",
                    b"\xc2\x04\0\1\0\0",
                    b"\xc2\x04\0\0\0\x08",
                    b"\xc9\x10" + ip6(self.near6()),
                    b"\x31\x02ab",
                    b"\x04\x01\0",
                    b"\0\0\0",
                    b"\1\x09" + bytes(9),
                )
            )
        return out[:40]

    def unknown_header(self) -> tuple[int, bytes]:
        return self.pick.choice((RAW, RAW, 200, 99, 59, 255, 1, 2, 0, 60)), self.noise()

    def fragments6(
        self, source: str, dest: str, kind: int, payload: bytes, headers: list[tuple[int, bytes]]
    ) -> None:
        """Cut a packet in pieces, which come one after another."""
        pick = self.pick
        cuts = sorted(
            pick.sample(
                range(8, len(payload) + 8, 8), min(pick.choice((1, 1, 2, 3)), len(payload) // 8)
            )
        )
        pieces: list[list[Any]] = [
            [start, payload[start:end], end < len(payload)]
            for start, end in zip([0, *cuts], [*cuts, len(payload)], strict=True)
            if start < len(payload)
        ]
        self.spoil(pieces)
        ident = self.ident()
        headers = [row for row in headers if row[0] != 44]
        for start, piece, more in pieces:
            row = (44, struct.pack("!HI", start & 0xFFF8 | more, ident))
            packet = self.ip6(source, dest, [*headers, row], kind, piece)
            self.halves.append((self.number, self.ethernet(0x86DD, packet)))

    def quoted6(self) -> bytes:
        """A packet of IPv6 that we might have sent, for an error about it."""
        pick = self.pick
        target = self.source if self.chance(0.5) else pick.choice((*FAR6, *NEAR6[0]))
        own = self.dest if self.dest in OURS6 and self.chance(0.9) else pick.choice(OURS6)
        kind, payload = pick.choice((
            (17, struct.pack("!HHHH", UDP_PORT, 9, 20, 0) + bytes(12)),
            (17, struct.pack("!HHHH", 5002, 7, 20, 0) + bytes(12)),
            (17, struct.pack("!HHHH", 77, 9, 20, 0) + bytes(12)),
            (58, b"\x80\0\0\0\0\x4d\0\1" + bytes(8)),
            (58, b"\1\1\0\0\0\0\0\1" + bytes(8)),
            (6, struct.pack("!HHIIBBHHH", TCP_PORT, 999, 5, 6, 0x50, 0x10, 9, 0, 0)),
            (RAW, bytes(20)), (200, bytes(20)),
        ))  # fmt: skip
        if kind == 17 and payload[:2] == b"\x13\x8a":
            own, target = "2001:db8:1::1", "2001:db8:1::2"
        headers = [self.header()] if self.chance(0.2) else []
        packet = self.ip6(own, target, headers, kind, payload)
        if self.chance(0.15):
            packet = packet[: pick.choice((0, 8, 39, 40, 44, 47, 48))]
        return packet

    def sum6(self, packet: bytes) -> tuple[int, bytes]:
        """The packet of ICMPv6 with its checksum."""
        packet = put_checksum(packet, 2, self.pseudo(self.source, self.dest, 58, len(packet)))
        if self.chance(0.03):
            packet = packet[:2] + b"\x12\x34" + packet[4:]
            self.about += " sum"
        self.about += f" type {packet[0]} code {packet[1]}"
        return 58, packet

    def icmp6(self) -> tuple[int, bytes]:
        pick = self.pick
        kind = pick.choice(
            (128, 128, 128, 1, 1, 2, 2, 3, 4, 129, 139, 140, 160, 100, 127, 200, 255, 5, 0)
        )
        code = pick.choice((0, 0, 0, 1, 2, 3, 4, 6, 7, 255))
        if kind < 5:
            mtu = pick.choice((1280, 1280, 1400, 1500, 600, 0, 70000))
            body = (
                struct.pack("!I", mtu if kind == 2 else pick.choice((0, 6, 40, 99)))
                + self.quoted6()
            )
        elif kind == 160:
            body = struct.pack("!HBB", 1, 1, pick.choice((1, 1, 0))) + self.probe()
        else:
            body = self.noise(0, 3, 4, 4, 12, 60, 61)
            if self.chance(0.1):
                body = self.noise(1000, 1448)
        return self.sum6(bytes([kind, code, 0, 0]) + body)

    def nd_options(self) -> bytes:
        pick = self.pick
        out = b""
        for _ in range(pick.choice((0, 1, 1, 1, 2, 3))):
            mac = pick.choice((*PEER_MACS, *OTHER_MACS, MACS[0]))
            prefix = pick.choice(
                ("2001:db8:1::", "2001:db8:9::", "fe80::", "ff02::", "2001:db8:8::")
            )
            out += pick.choice(
                (
                    b"\1\1" + mac,
                    b"\2\1" + mac,
                    b"\1\1" + mac,
                    b"\2\1" + mac,
                    b"\3\4"
                    + struct.pack(
                        "!BBIII",
                        pick.choice((64, 64, 48, 128, 129)),
                        pick.choice((0xC0, 0x80, 0x40, 0)),
                        pick.choice((0, 7200, 86400, 0xFFFFFFFF)),
                        pick.choice((0, 3600, 0xFFFFFFFF)),
                        0,
                    )
                    + ip6(prefix),
                    b"\5\1" + struct.pack("!HI", 0, pick.choice((1280, 1400, 1500, 9000, 1279))),
                    b"\x18"
                    + struct.pack(
                        "!BBBI", 2, 64, pick.choice((0, 8, 0x18, 0x10)), pick.choice((0, 600))
                    )
                    + ip6("2001:db8:7::")[:8],
                    b"\x18" + struct.pack("!BBBI", 1, 0, 0, 600),
                    b"\x19\3" + struct.pack("!HI", 0, 600) + ip6("2001:db8:1::53"),
                    b"\x0e\1" + self.noise(6),
                    b"\x04\1" + bytes(6),
                    b"\1\2" + mac + bytes(8),
                    b"\x63\1" + bytes(6),
                    b"\1\0" + mac,
                    b"\x26\1\0\0\0\0\0\0",
                )
            )
        if self.chance(0.05):
            out = out[:-3]
        return out

    def ndisc(self) -> tuple[int, bytes]:
        pick = self.pick
        kind = pick.choice((135, 135, 135, 136, 136, 136, 133, 134, 134, 137))
        self.hops = 255 if self.chance(0.95) else 64
        code = 0 if self.chance(0.96) else 1
        target = pick.choice(
            (self.dest, *OURS6, self.source, *NEAR6[self.number], "2001:db8:1::77")
        )
        if self.chance(0.05):
            target = pick.choice((*GROUPS6, *ODD6))
        if kind == 135:
            if self.chance(0.6):
                self.dest = "ff02::1:ff" + ip_address(target).exploded[-7:]
            if self.chance(0.15):
                self.source = "::"
            body = bytes(4) + ip6(target)
        elif kind == 136:
            if self.chance(0.3):
                self.dest = "ff02::1"
            body = bytes([pick.choice((0, 0x20, 0x40, 0x60, 0x80, 0xA0, 0xE0)), 0, 0, 0]) + ip6(
                target
            )
        elif kind == 133:
            if self.chance(0.6):
                self.dest = "ff02::2"
            body = bytes(4)
        elif kind == 134:
            self.source = pick.choice(("fe80::fe", "fe80::99", "fe80::fe", self.source))
            self.dest = "ff02::1" if self.chance(0.7) else self.dest
            body = struct.pack(
                "!BBHII", pick.choice((0, 64, 1, 255)), pick.choice((0, 0x40, 0x80, 8, 0x18, 0x10)),
                pick.choice((0, 1800, 65535)), pick.choice((0, 0, 30000)), 0,
            )  # fmt: skip
            self.slow = 40
        else:
            self.source = pick.choice(("fe80::fe", "fe80::fe", "fe80::99", self.source))
            to = pick.choice((*FAR6, *FAR6, *NEAR6[0], "ff02::1"))
            body = (
                bytes(4) + ip6(pick.choice(("fe80::99", "fe80::fe", to, "2001:db8:1::3"))) + ip6(to)
            )
            self.about += f" to {to}"
        body += self.nd_options()
        if kind == 137 and self.chance(0.4):
            quote = self.quoted6()[:80]
            quote += bytes(-len(quote) % 8)
            body += bytes([4, 1 + len(quote) // 8]) + bytes(6) + quote
        if self.chance(0.03):
            body = body[: pick.choice((3, 4, 12, 19, 20))]
        self.about += f" {target}"
        return self.sum6(bytes([kind, code, 0, 0]) + body)

    def mld(self) -> tuple[int, bytes]:
        pick = self.pick
        kind = pick.choice((130, 130, 130, 131, 132, 143))
        self.slow = 40
        self.hops = 1 if self.chance(0.9) else 64
        self.source = pick.choice(("fe80::fe", "fe80::99", "fe80::fe", self.source))
        group = ip6(pick.choice(("::", "::", *GROUPS6)))
        if self.chance(0.8):
            self.dest = "ff02::1" if group == bytes(16) else str(ip_address(group))
        body = struct.pack("!HH", pick.choice((0, 1, 5)), 0) + group
        if kind == 130 and self.chance(0.6):
            count = pick.choice((0, 0, 1, 2))
            body += struct.pack("!BBH", pick.choice((2, 10, 0)), 125, count)
            body += b"".join(ip6(pick.choice(NEAR6[0])) for _ in range(count))
        elif kind == 143:
            body = struct.pack("!HH", 0, 1) + b"\4\0\0\0" + group
        if self.chance(0.05):
            body = body[: pick.choice((4, 19, 20, 22))]
        return self.sum6(bytes([kind, 0, 0, 0]) + body)
