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
