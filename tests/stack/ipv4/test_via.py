"""RTA_VIA: routes of IPv4 over gateways of IPv6. tests/programs/test_iproute.py asks the kernel."""

from __future__ import annotations

import pytest

from e1000emu.clock import VirtualClock
from e1000emu.lab import two_hosts
from stack.core.uapi import NUD_VALID
from stack.socket import AF_INET, SOCK_DGRAM, SOCK_STREAM
from tests.stack.core.wire import assert_no_leak

IP_RECVERR = 11


@pytest.mark.parametrize("gateway", ["fe80::%d", "2001:db8::%d"])
def test_packets_of_ipv4_go_to_neighbours_of_ipv6(gateway):
    a, b = two_hosts(VirtualClock())
    for number, host, far in ((1, a, "10.7.0.2"), (2, b, "10.7.0.1")):
        host.addr_del("eth0", f"10.0.0.{number}/24")
        host.ifconfig("eth0", f"{gateway % number}/64")
        host.ifconfig("lo", f"10.7.0.{number}/32")
        host.route_add(f"{far}/32", via=gateway % (3 - number), dev="eth0", src=f"10.7.0.{number}")
    a.clock.run_for(3_000_000_000)
    with a.socket(AF_INET, SOCK_STREAM) as tx, b.socket(AF_INET, SOCK_STREAM) as listener:
        listener.bind(("10.7.0.2", 80))
        listener.listen(1)
        tx.settimeout(5)
        tx.connect(("10.7.0.2", 80))
        child, whom = listener.accept()
        assert whom[0] == "10.7.0.1"
        tx.sendall(b"x" * 200_000)
        with child:
            left = 200_000
            while left:
                left -= len(child.recv(1 << 16))
    for host in (a, b):
        assert not [n for n in host.arp_tbl.hash.values() if n.dev.name == "eth0"]
        assert any(n.nud_state & NUD_VALID for n in host.ipv6.nd_tbl.hash.values())
    assert_no_leak(a, b)


def test_a_gateway_that_does_not_answer_is_told_to_the_sender():
    a, b = two_hosts(VirtualClock())
    a.ifconfig("eth0", "fe80::1/64")
    a.clock.run_for(3_000_000_000)
    a.route_add("10.7.0.0/16", via="fe80::9", dev="eth0")
    with a.socket(AF_INET, SOCK_DGRAM) as sock:
        sock.setsockopt(0, IP_RECVERR, 1)
        sock.connect(("10.7.0.2", 9))
        sock.send(b"x")
        a.clock.run_for(5_000_000_000)
        with pytest.raises(OSError, match=r"^\[Errno 113\] "):
            sock.recv(9)
    assert_no_leak(a, b)
