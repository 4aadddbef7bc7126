"""ICMP echo between our stack and a Linux kernel, fragments both ways."""

from __future__ import annotations

import re
import struct
from pathlib import Path
from socket import AF_INET, AF_INET6, IPPROTO_ICMP, IPPROTO_ICMPV6, SOCK_RAW
from typing import Any

import pytest

from fastpath.base.csum import ip_compute_csum
from tests.linux.peer import LINUX, OURS, Family, Wire, judged, pattern
from tests.support import eventually, require

pytestmark = pytest.mark.netns

# Around what fits one packet and two, of either family.
SIZES = (0, 1, 7, 8, 56, 1452, 1453, 1472, 1473, 2896, 2897, 2960, 2961, 8000, 32768, 65507)
ECHO = {AF_INET: (8, 0), AF_INET6: (128, 129)}
"""Types of the echo request and reply."""


@pytest.mark.parametrize("size", SIZES)
def test_linux_pings_us(wire: Wire, family: Family, size: int) -> None:
    assert wire.peer.ping(family.ours, size=size) >= 3


@pytest.mark.parametrize("size", SIZES)
def test_we_ping_linux(wire: Wire, family: Family, size: int) -> None:
    payload = pattern(size, seed=size)
    sock = raw_icmp(wire, family)
    with sock:
        sock.sendto(echo(family, 77, size & 0xFFFF, payload), (family.linux, 0))
        while True:
            packet, source = sock.recvfrom(70000)
            body = message(family, packet)
            reply = body[0] == ECHO[family.af][1]
            if reply and struct.unpack_from("!HH", body, 4) == (77, size & 0xFFFF):
                break
    assert source[0] == family.linux
    assert body[8:] == payload


def raw_icmp(wire: Wire, family: Family) -> Any:
    """A raw socket of ours for the family's ICMP."""
    proto = IPPROTO_ICMP if family.af == AF_INET else IPPROTO_ICMPV6
    return wire.socket(SOCK_RAW, proto, family=family.af)


def echo(family: Family, ident: int, seq: int, payload: bytes) -> bytes:
    """An echo request. ICMPv6's checksum is the socket's to write (RFC 3542, 3.1)."""
    request = bytearray(struct.pack("!BBHHH", ECHO[family.af][0], 0, 0, ident, seq) + payload)
    if family.af == AF_INET:
        struct.pack_into("!H", request, 2, ip_compute_csum(request))
    return bytes(request)


def message(family: Family, packet: bytes) -> bytes:
    """What a raw socket received, without the header that only IPv4's hands over."""
    return packet[(packet[0] & 15) * 4 :] if family.af == AF_INET else packet


def test_our_time_stamps_are_linuxs(wire: Wire) -> None:
    """IP time stamps of both ends in one packet: milliseconds since midnight UT."""
    ping = require.tool("ping", "iputils-ping")
    out = wire.peer.run(ping, "-n", "-c", "1", "-W", "5", "-T", "tsandaddr", OURS).stdout.decode()
    stamps = re.findall(r"(10\.9\.0\.[12])\t(-?\d+)", out.partition("TS:")[2])
    assert [addr for addr, _ in stamps] == [LINUX, OURS, OURS, LINUX]
    # ping prints the first and then differences; a minute is more than any machine pauses.
    assert all(abs(int(ms)) < 60_000 for _, ms in stamps[1:])


def test_an_echo_reply_keeps_the_code_on_both_sides(wire: Wire) -> None:
    """What Linux does with a code that is not 0, and what we do."""
    request = bytearray(struct.pack("!BBHHH", 8, 3, 0, 99, 1) + b"code")
    struct.pack_into("!H", request, 2, ip_compute_csum(request))
    ours = wire.host.socket(AF_INET, SOCK_RAW, IPPROTO_ICMP)
    ours.settimeout(10)
    with ours, wire.peer.socket(SOCK_RAW, IPPROTO_ICMP) as theirs:
        for sock, peer in ((ours, LINUX), (theirs, OURS)):
            sock.sendto(bytes(request), (peer, 0))
            while True:
                packet, (source, _) = sock.recvfrom(2000)
                body = packet[(packet[0] & 15) * 4 :]
                if source == peer and body[0] == 0 and body[4:8] == request[4:8]:
                    break
            assert (body[1], body[8:]) == (3, b"code")


def echo_replies(wire: Wire, family: Family) -> int:
    """How many echo replies the kernel has received."""
    if family.af == AF_INET6:
        text = wire.peer.run("cat", "/proc/net/snmp6").stdout.decode()
        return next(
            int(n) for k, n in map(str.split, text.splitlines()) if k == "Icmp6InEchoReplies"
        )
    text = wire.peer.run("cat", "/proc/net/snmp").stdout.decode()
    names, values = (line.split() for line in text.splitlines() if line.startswith("Icmp:"))
    return int(values[names.index("InEchoReps")])


@pytest.mark.parametrize(("count", "size"), [(2000, 56), (200, 20000)], ids=["small", "fragments"])
def test_flood_is_answered_without_loss(wire: Wire, family: Family, count: int, size: int) -> None:
    """The kernel's counters decide. ping's own buffer holds six of the long replies, ping may be
    slow to run, and it waits for the last reply no longer than for the ones before."""
    ping = require.tool("ping", "iputils-ping")
    before = echo_replies(wire, family)
    words = (ping, "-q", "-f", "-c", str(count), "-s", str(size), "-W", "5", family.ours)
    out = wire.peer.run(*words, check=False).stdout.decode()
    assert f"{count} packets transmitted" in out, out
    assert "corrupt" not in out
    eventually(lambda: echo_replies(wire, family) >= before + count, "the last reply")
    assert echo_replies(wire, family) == before + count


def test_every_frame_on_the_wire_is_well_formed(
    need_linux: None, family: Family, tmp_path: Path
) -> None:
    require.tool("tshark")
    ping = require.tool("ping", "iputils-ping")
    path = tmp_path / "ping.pcapng"
    with Wire(capture=path, ipv6=True) as wire:
        for size in (0, 56, 4000, 65507):
            wire.peer.run(ping, "-c", "1", "-W", "5", "-s", str(size), family.ours)
    assert list(judged(path)) == []
