"""IPv6 beside a Linux kernel: what is neither echo nor stream, its counters and its settings."""

from __future__ import annotations

import contextlib
import socket

import pytest

from e1000emu.clock import RealClock
from stack import proc
from stack.host import Host
from tests.linux.peer import OURS6, Peer, Wire

pytestmark = pytest.mark.netns


def test_unknown_protocols_are_reported_to_linux(wire: Wire) -> None:
    """Its raw socket of protocol 253 gets our parameter problem as EPROTO."""
    with wire.peer.socket(socket.SOCK_RAW, 253, family=socket.AF_INET6) as sock:
        sock.connect((OURS6, 0))
        sock.send(b"anybody there?")
        with pytest.raises(OSError, match="Protocol error"):
            sock.recv(100)


def test_our_counters_have_linuxs_names_in_its_order(wire: Wire) -> None:
    theirs = [
        line.split()[0]
        for line in wire.peer.run("cat", "/proc/net/snmp6").stdout.decode().splitlines()
    ]
    ours = [line.split()[0] for line in proc.read(wire.host, "snmp6").splitlines()]
    known = [name for name in ours if name in theirs]
    lacking = [name for name in ours if name not in theirs and "Type" not in name]
    # A kernel of another age may lack some of the newest.
    assert set(lacking) <= {"Ip6OutTransmits", "Icmp6OutRateLimitHost", "Icmp6InMLDv2Reports"}
    assert known == [name for name in theirs if name in ours]


def test_our_settings_begin_with_linuxs_values(wire: Wire) -> None:
    """`all` and `default` of a new namespace; a kernel of another age may lack some."""
    script = "cd /proc/sys/net/ipv6/conf; grep -s . all/* default/*"
    fresh = Peer()
    try:
        lines = fresh.run("sh", "-c", script, check=False).stdout.decode().splitlines()
    finally:
        fresh.close()
    theirs = dict(line.split(":", 1) for line in lines)
    with (
        contextlib.closing(RealClock()) as clock,
        contextlib.closing(Host("h", clock=clock)) as host,
    ):
        conf = host.ipv6.sysctl.conf
    ours = {
        f"{where}/{name}": str(value)
        for where in ("all", "default")
        for name, value in conf[where].items()
    }
    differ = {n: (ours[n], theirs[n]) for n in ours if n in theirs and ours[n] != theirs[n]}
    assert len(theirs) > 80
    assert differ == {}
