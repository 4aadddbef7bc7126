"""One line for a frame, where no tcpdump is installed: source, destination, protocol, length."""

from __future__ import annotations

import ipaddress
import struct
from datetime import UTC, datetime

from e1000emu.capture import Record

ETHERTYPES = {0x0800: "IP", 0x86DD: "IP6", 0x0806: "ARP", 0x8100: "802.1Q", 0x88A8: "802.1ad"}
PROTOCOLS = {1: "ICMP", 2: "IGMP", 6: "TCP", 17: "UDP", 58: "ICMP6"}
ICMP = {0: "echo reply", 3: "unreachable", 5: "redirect", 8: "echo request", 11: "time exceeded"}
ICMP6 = {
    1: "unreachable",
    2: "packet too big",
    3: "time exceeded",
    128: "echo request",
    129: "echo reply",
    133: "router solicitation",
    134: "router advertisement",
    135: "neighbor solicitation",
    136: "neighbor advertisement",
    143: "multicast listener report v2",
}
TCP_FLAGS = ((2, "S"), (1, "F"), (4, "R"), (8, "P"), (32, "U"), (64, "E"), (128, "W"), (16, "."))


def frame_line(record: Record, *, link_level: bool = False) -> str:
    """A frame in one line, like the start of tcpdump -n's; `link_level` is its -e.

    A truncated or malformed frame is shown as such; it never raises.
    """
    when = datetime.fromtimestamp(record.when_ns // 1_000_000_000, UTC)
    stamp = f"{when:%H:%M:%S}.{record.when_ns // 1000 % 1_000_000:06d}"
    data = record.data
    if len(data) < 14:
        return f"{stamp} [|ether] length {record.length}"
    kind = int.from_bytes(data[12:14], "big")
    head = ""
    if link_level:
        shown = ETHERTYPES.get(kind, f"{kind:#06x}")
        head = f"{data[6:12].hex(':')} > {data[:6].hex(':')}, {shown}, length {record.length}: "
    off = 14
    while kind in (0x8100, 0x88A8) and len(data) >= off + 4:
        tci, kind = struct.unpack_from(">HH", data, off)
        head += f"vlan {tci & 0xFFF}, p {tci >> 13}, "
        off += 4
    try:
        said = _packet(kind, data[off:])
    except (struct.error, IndexError, ValueError):
        said = f"[|{ETHERTYPES.get(kind, hex(kind))}]"
    return f"{stamp} {head}{said or f'ethertype {kind:#06x}, length {record.length}'}"


def _packet(kind: int, data: bytes) -> str:
    if kind == 0x0806:
        return _arp(data)
    if kind == 0x0800:
        ihl, total = (data[0] & 15) * 4, int.from_bytes(data[2:4], "big")
        source, to = (str(ipaddress.IPv4Address(data[n : n + 4])) for n in (12, 16))
        later = int.from_bytes(data[6:8], "big") & 0x1FFF
        if later:
            return f"IP {source} > {to}: {_named(data[9])} fragment at {later * 8}"
        return f"IP {_transport(data[9], source, to, data[ihl:], total - ihl)}"
    if kind == 0x86DD:
        size = int.from_bytes(data[4:6], "big")
        source, to = (str(ipaddress.IPv6Address(data[n : n + 16])) for n in (8, 24))
        proto, rest = data[6], data[40:]
        while proto in (0, 43, 60):
            step = (rest[1] + 1) * 8
            proto, rest, size = rest[0], rest[step:], size - step
        return f"IP6 {_transport(proto, source, to, rest, size)}"
    return ""


def _arp(data: bytes) -> str:
    operation = int.from_bytes(data[6:8], "big")
    sender, target = (str(ipaddress.IPv4Address(data[n : n + 4])) for n in (14, 24))
    if operation == 1:
        return f"ARP, Request who-has {target} tell {sender}"
    if operation == 2:
        return f"ARP, Reply {sender} is-at {data[8:14].hex(':')}"
    return f"ARP, operation {operation}"


def _named(proto: int) -> str:
    return PROTOCOLS.get(proto, f"ip-proto-{proto}")


def _transport(proto: int, source: str, to: str, data: bytes, size: int) -> str:
    if proto == 6:
        sport, dport, seq, ack, off, flags, window = struct.unpack_from(">HHIIBBH", data)
        length = size - (off >> 4) * 4
        text = "".join(letter for bit, letter in TCP_FLAGS if flags & bit) or "none"
        said = f", seq {seq}:{seq + length & 0xFFFFFFFF}" if length else f", seq {seq}"
        said += f", ack {ack}" if flags & 16 else ""
        ends = f"{source}.{sport} > {to}.{dport}"
        return f"{ends}: Flags [{text}]{said}, win {window}, length {length}"
    if proto == 17:
        sport, dport = struct.unpack_from(">HH", data)
        return f"{source}.{sport} > {to}.{dport}: UDP, length {size - 8}"
    if proto in (1, 58):
        kind = data[0]
        what = (ICMP if proto == 1 else ICMP6).get(kind, f"type {kind} code {data[1]}")
        if what.startswith("echo"):
            what += ", id {}, seq {}".format(*struct.unpack_from(">HH", data, 4))
        return f"{source} > {to}: {_named(proto)} {what}, length {size}"
    return f"{source} > {to}: {_named(proto)}, length {size}"


def hex_lines(data: bytes) -> list[str]:
    """Bytes in hexadecimal and ASCII, 16 a line, as tcpdump -X."""
    lines = []
    for at in range(0, len(data), 16):
        row = data[at : at + 16]
        pairs = " ".join(row[n : n + 2].hex() for n in range(0, len(row), 2))
        text = "".join(chr(c) if 32 <= c < 127 else "." for c in row)
        lines.append(f"\t{at:#06x}:  {pairs:<39}  {text}")
    return lines
