"""ioctl(2) of interfaces, addresses, routes and neighbours, against the kernel's in a namespace."""

from __future__ import annotations

import functools
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from e1000emu.clock import VirtualClock
from stack.api import fcntl
from stack.host import Host
from tests.stack.core.wire import QUIET6, add_wire_device
from tests.stack.ipv4 import ioctl_program
from tests.support import require

NETNS = "calls-ioctl"
MAC = "02:00:00:00:00:01"


def ip(*args: str) -> None:
    subprocess.run(["ip", *args], check=True, capture_output=True)


@pytest.fixture
def netns() -> Iterator[str]:
    require.netns()
    name = f"{NETNS}-{id(object()) & 0xFFFF}"
    ip("netns", "add", name)
    try:
        link = ("-n", name, "link")
        ip(
            *link,
            "add",
            "far",
            "index",
            "9",
            "type",
            "veth",
            *("peer", "name", "eth0", "index", "2"),
        )
        ip(*link, "set", "eth0", "address", MAC)
        ip(*link, "set", "far", "up")
        ip(*link, "set", "lo", "up")
        yield name
    finally:
        ip("netns", "del", name)


def sockets(host: Host) -> dict[str, object]:
    return {
        "inet": host.socket(2, 2),
        "inet6": host.socket(10, 2),
        "unix": host.socket(1, 2),
        "packet": host.socket(17, 3),
    }


@pytest.mark.parametrize("program", ioctl_program.PROGRAMS)
def test_answers_are_the_kernels(program: str, netns: str) -> None:
    command = ["ip", "netns", "exec", netns, sys.executable, Path(ioctl_program.__file__), program]
    answered = subprocess.run(command, check=True, capture_output=True, text=True)
    expected = json.loads(answered.stdout)
    with Host("h", clock=VirtualClock(), sysctl=QUIET6) as host:
        dev = add_wire_device(host, bytes.fromhex(MAC.replace(":", ""))).dev
        dev.netdev_ops.ndo_set_rx_mode = lambda dev: None
        found = ioctl_program.run(program, sockets(host), functools.partial(fcntl.ioctl, host))
    wrong = [
        (at, row[:3], "kernel", row[3], "ours", mine[3])
        for at, (row, mine) in enumerate(zip(expected, found, strict=True))
        if row != mine
    ]
    assert wrong == []
