"""The ready-made set-ups."""

from __future__ import annotations

import pytest

from e1000emu.lab import add_nic, lan, mac_address, two_hosts
from e1000emu.links import pair
from stack.host import Host
from stack.socket import AF_INET, SOCK_DGRAM, Socket


def test_frames_are_in_the_peers_memory_at_the_doorbell_and_the_interrupt_is_an_event() -> None:
    a, b = two_hosts()
    with a, b, Socket(b, AF_INET, SOCK_DGRAM) as server, Socket(a, AF_INET, SOCK_DGRAM) as client:
        server.bind(("10.0.0.2", 9))
        client.sendto(b"first", ("10.0.0.2", 9))
        assert server.recv(10) == b"first"
        nic, seen = b.nics["eth0"], b.nics["eth0"].interrupts.assertions
        head = nic.rx.engine.head
        for number in range(3):
            client.sendto(bytes([number]) * 1000, ("10.0.0.2", 9))
        assert nic.rx.engine.head == head + 3
        assert nic.interrupts.assertions == seen
        b.clock.run_for(0)
        assert nic.interrupts.assertions == seen + 1
        assert [server.recv(2000)[0] for _ in range(3)] == [0, 1, 2]
        assert nic.link.stats.rx_frames == a.nics["eth0"].link.stats.tx_frames


def test_two_hosts_are_up_and_talk():
    a, b = two_hosts(names=("left", "right"), addrs=("192.168.7.1/30", "192.168.7.2/30"))
    with a, b:
        assert (a.name, b.name) == ("left", "right")
        assert a.dev("eth0").dev_addr == mac_address(0x3456)
        with a.socket(AF_INET, SOCK_DGRAM) as client, b.socket(AF_INET, SOCK_DGRAM) as server:
            server.bind(("192.168.7.2", 1))
            client.sendto(b"x", ("192.168.7.2", 1))
            assert server.recv(10) == b"x"


def test_nothing_is_left_on_the_clock_after_close():
    a, b = two_hosts()
    clock = a.clock
    a.close()
    b.close()
    assert clock.run_until_idle()
    assert clock.next_ns() is None
    assert a.skb_small.in_use == b.skb_small.in_use == 0


def test_a_host_with_two_nics():
    with Host(name="router", clock=two_hosts_clock()) as router:
        for number in range(2):
            end, _far = pair(router.clock)
            add_nic(router, end, addr=f"10.{number}.0.1/24", wait=False)
        assert list(router.dev_by_name) == ["lo", "eth0", "eth1"]
        assert set(router.nics) == {"eth0", "eth1"}


def two_hosts_clock():
    from e1000emu.clock import VirtualClock

    return VirtualClock()


def test_a_nic_without_a_cable_has_no_link():
    with Host(name="alone", clock=two_hosts_clock()) as host:
        end, _far = pair(host.clock)
        with pytest.raises(OSError, match="no link"):
            add_nic(host, end, addr="10.0.0.1/24")


def test_a_lan_on_a_switch():
    hosts = lan(4)
    sockets = [h.socket(AF_INET, SOCK_DGRAM) for h in hosts]
    for sock in sockets:
        sock.bind(("", 5))
    sockets[0].sendto(b"to four", ("10.0.0.4", 5))
    data, addr = sockets[3].recvfrom(100)
    assert (data, addr) == (b"to four", ("10.0.0.1", 5))
    for sock in sockets:
        sock.close()
    for host in hosts:
        host.close()
