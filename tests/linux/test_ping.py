"""ICMP echo between our stack and a Linux kernel, fragments both ways."""

from __future__ import annotations

import re
import socket
import struct
from pathlib import Path

import pytest

from fastpath.csum import ip_compute_csum
from tests.linux.peer import LINUX, OURS, Wire, judged, pattern
from tests.support import require

pytestmark = pytest.mark.netns

SIZES = (0, 1, 7, 8, 56, 1471, 1472, 1473, 2960, 2961, 8000, 32768, 65507)


@pytest.mark.parametrize("size", SIZES)
def test_linux_pings_us(wire: Wire, size: int) -> None:
    ping = require.tool("ping", "iputils-ping")
    out = wire.peer.run(ping, "-c", "3", "-i", "0.05", "-W", "5", "-s", str(size), OURS)
    assert b"3 received" in out.stdout, out.stdout.decode()
    assert b"wrong" not in out.stdout


@pytest.mark.parametrize("size", SIZES)
def test_we_ping_linux(wire: Wire, size: int) -> None:
    payload = pattern(size, seed=size)
    request = bytearray(struct.pack("!BBHHH", 8, 0, 0, 77, size & 0xFFFF) + payload)
    struct.pack_into("!H", request, 2, ip_compute_csum(request))
    sock = wire.host.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP)
    sock.settimeout(10)
    try:
        sock.sendto(bytes(request), (LINUX, 0))
        while True:
            packet, (source, _) = sock.recvfrom(70000)
            body = packet[(packet[0] & 15) * 4 :]
            if body[0] == 0 and struct.unpack_from("!HH", body, 4) == (77, size & 0xFFFF):
                break
    finally:
        sock.close()
    assert source == LINUX
    assert body[8:] == payload


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
    ours = wire.host.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP)
    ours.settimeout(10)
    with ours, wire.peer.socket(socket.SOCK_RAW, socket.IPPROTO_ICMP) as theirs:
        for sock, peer in ((ours, LINUX), (theirs, OURS)):
            sock.sendto(bytes(request), (peer, 0))
            while True:
                packet, (source, _) = sock.recvfrom(2000)
                body = packet[(packet[0] & 15) * 4 :]
                if source == peer and body[0] == 0 and body[4:8] == request[4:8]:
                    break
            assert (body[1], body[8:]) == (3, b"code")


def test_flood_is_answered_without_loss(wire: Wire) -> None:
    ping = require.tool("ping", "iputils-ping")
    out = wire.peer.run(ping, "-q", "-f", "-c", "2000", "-W", "5", OURS).stdout.decode()
    assert "2000 received" in out
    assert re.search(r"\b0% packet loss", out)


def test_flood_of_fragments_is_answered(wire: Wire) -> None:
    ping = require.tool("ping", "iputils-ping")
    out = wire.peer.run(ping, "-q", "-f", "-c", "200", "-s", "20000", "-W", "5", OURS)
    assert "200 received" in out.stdout.decode()


def test_every_frame_on_the_wire_is_well_formed(need_linux: None, tmp_path: Path) -> None:
    require.tool("tshark")
    ping = require.tool("ping", "iputils-ping")
    path = tmp_path / "ping.pcapng"
    with Wire(capture=path) as wire:
        for size in (0, 56, 4000, 65507):
            wire.peer.run(ping, "-c", "1", "-W", "5", "-s", str(size), OURS)
    assert list(judged(path)) == []
