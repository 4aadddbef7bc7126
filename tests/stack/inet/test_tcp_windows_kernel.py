"""What a connection offers in its first segments: this machine's kernel and ours."""

from __future__ import annotations

import socket as stdlib
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from e1000emu.clock import VirtualClock
from e1000emu.lab import two_hosts
from stack.host import Host
from tests.stack.packet.kernelnet import two_nets
from tests.support import require

pytestmark = pytest.mark.netns

MACS = "52:54:00:12:34:56", "52:54:00:12:34:57"
PORT = 80
AF_PACKET, ETH_P_IP = 17, 0x0800


def windows(frames: list[bytes]) -> list[tuple[int, int, int | None]]:
    """(flags, window field, window scale option) of TCP segments."""
    found = []
    for packet in frames:
        segment = packet[(packet[0] & 15) * 4 :]
        flags, window = segment[13], struct.unpack("!H", segment[14:16])[0]
        options, scale = segment[20 : (segment[12] >> 4) * 4], None
        while options and options[0]:
            if options[0] == 1:
                options = options[1:]
                continue
            if options[0] == 3:
                scale = options[2]
            options = options[options[1] :]
        found.append((flags, window, scale))
    return found


def first_segments(tap: Any, listener: Any, client: Any, connect: Callable[[], None]) -> Any:
    """Of a connection over which 100 bytes go: SYN, SYN-ACK, ACK, data, its ACK."""
    listener.bind(("10.0.0.2", PORT))
    listener.listen()
    connect()
    server, _ = listener.accept()
    client.send(bytes(100))
    assert server.recv(200) == bytes(100)
    tap.settimeout(10)
    frames: list[bytes] = []
    while len(frames) < 5:
        data = tap.recv(2000)
        if data[9] == 6:
            frames.append(data)
    for sock in (server, client, listener, tap):
        sock.close()
    return windows(frames)


def of_kernel() -> Any:
    nets = two_nets(MACS)
    try:
        for number, net in enumerate(nets, 1):
            net.run(f"ip addr add 10.0.0.{number}/24 dev eth0")
        listener = nets[1].socket(stdlib.AF_INET, stdlib.SOCK_STREAM)
        client = nets[0].socket(stdlib.AF_INET, stdlib.SOCK_STREAM)
        tap = nets[0].socket(AF_PACKET, stdlib.SOCK_DGRAM, stdlib.htons(3))
        client.settimeout(10)
        return first_segments(tap, listener, client, lambda: client.connect(("10.0.0.2", PORT)))
    finally:
        for net in nets:
            net.close()


def of_ours(most: int) -> Any:
    """With our defaults, but for the most that a buffer may become: 32 MiB since Linux 6.16."""
    with Host(clock=VirtualClock()) as host:
        least, default, _ = host.sysctl.tcp_rmem
    a, b = two_hosts(sysctl={"tcp_rmem": (least, default, most)})
    with a, b:
        listener = b.socket(stdlib.AF_INET, stdlib.SOCK_STREAM)
        client = a.socket(stdlib.AF_INET, stdlib.SOCK_STREAM)
        tap = a.socket(AF_PACKET, stdlib.SOCK_DGRAM, stdlib.htons(3))
        return first_segments(tap, listener, client, lambda: client.connect(("10.0.0.2", PORT)))


def test_first_windows_are_the_kernels() -> None:
    require.netns()
    least, default, most = map(int, Path("/proc/sys/net/ipv4/tcp_rmem").read_text().split())
    if (least, default) != (4096, 131072):
        pytest.skip("this machine has other buffers than Linux's defaults")
    assert of_ours(most) == of_kernel()
