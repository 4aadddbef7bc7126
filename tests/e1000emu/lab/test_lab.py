"""The ready-made set-ups."""

from __future__ import annotations

import contextlib
import gc
from pathlib import Path
from typing import Any

import pytest

from e1000emu.clock import RealClock, VirtualClock
from e1000emu.errors import ArgumentError
from e1000emu.insight.faults import Faults
from e1000emu.lab import Lab, add_nic, close_hosts, lan, mac_address, two_hosts
from e1000emu.links import Patch, pair
from e1000emu.record.recorder import Recorder
from e1000emu.record.replay import replay
from stack.core.netdevice import IFF_UP
from stack.host import Host
from stack.socket import AF_INET, AF_INET6, SOCK_DGRAM, Socket, create_connection, create_server


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


def test_a_lan_has_as_many_hosts_as_its_network_has_room_for() -> None:
    hosts = lan(2, network="10.7.0.0/16")
    with (
        Socket(hosts[0], AF_INET, SOCK_DGRAM) as near,
        Socket(hosts[1], AF_INET, SOCK_DGRAM) as far,
    ):
        far.bind(("10.7.0.2", 7))
        near.sendto(b"x", ("10.7.0.2", 7))
        assert far.recvfrom(9)[1][0] == "10.7.0.1"
    for host in hosts:
        host.close()
    with pytest.raises(ArgumentError, match=r"count=255 is out of range; give 1 to 254"):
        lan(255)
    with pytest.raises(ArgumentError, match=r"count=7 is out of range; give 1 to 6"):
        lan(7, network="10.0.0.0/29")
    with pytest.raises(ArgumentError, match=r"network='10.0.0.300/16'"):
        lan(2, network="10.0.0.300/16")


def test_a_host_of_a_lan_does_the_same_however_many_there_are() -> None:
    found = []
    for count in (2, 12):
        hosts = lan(count)
        hosts[0].clock.run_for(10_000_000_000)  # all have announced themselves
        nics = [host.nics["eth0"] for host in hosts]
        assert {nic.link.stats.tx_frames for nic in nics} != {0}
        found.append(
            (
                {(nic.link.stats.tx_frames, nic.link.stats.rx_frames) for nic in nics},
                nics[0].interrupts.assertions,
                nics[0].regs.file.state(),
                nics[0].counters(),
            )
        )
        for host in hosts:
            host.close()
    assert found[0] == found[1]


def test_a_lan_may_be_down() -> None:
    hosts = lan(2, up=False)
    assert not any(host.dev_by_name["eth0"].flags & IFF_UP for host in hosts)
    hosts[0].ifconfig("eth0", up=True)
    assert hosts[0].wait_carrier("eth0")
    for host in hosts:
        host.close()


def test_hosts_of_a_lan_boot_at_the_same_time_on_a_clock_of_their_own() -> None:
    one, many = lan(1)[0].clock, lan(40)[0].clock
    assert one.now_ns() == many.now_ns()
    shared = VirtualClock()
    shared.call_at(10**12, lambda: None)  # somebody else's: his time does not go back
    seen = []
    shared.call_at(60_000_000, lambda: seen.append(shared.now_ns()))
    lan(40, shared)
    assert seen == [60_000_000]
    assert shared.now_ns() > 40 * 20_000_000


@pytest.mark.parametrize("make", [VirtualClock, RealClock])
def test_hosts_closed_at_once_are_closed_and_leave_nothing(make: type[Any]) -> None:
    with contextlib.closing(make()) as clock:
        hosts = lan(5, clock)
        begun_ns = clock.now_ns()
        close_hosts(hosts)
        assert all(host.machine.closed for host in hosts)
        if isinstance(clock, VirtualClock):
            assert clock.now_ns() - begun_ns < 60_000_000, "their drivers slept at the same time"
            assert clock.run_until_idle()
            assert clock.idle()
        close_hosts(hosts)


def test_a_host_that_fails_to_close_does_not_keep_the_others_open() -> None:
    hosts = lan(3)

    def fail() -> None:
        raise ValueError("the program's own")

    hosts[0].on_close(fail)
    with pytest.raises(ValueError, match="the program's own"):
        close_hosts(hosts)
    assert [host.machine.closed for host in hosts] == [False, True, True]
    with pytest.raises(ArgumentError, match="close_hosts: hosts="):
        close_hosts([None])  # type: ignore[list-item]


@pytest.mark.parametrize("enabled", [True, False])
def test_building_leaves_the_collector_as_it_was(enabled: bool) -> None:
    was = gc.isenabled()
    (gc.enable if enabled else gc.disable)()
    try:
        with pytest.raises(ArgumentError):
            lan(0)
        assert gc.isenabled() is enabled
    finally:
        (gc.enable if was else gc.disable)()


def test_neighbours_are_found_through_two_switches_that_snoop() -> None:
    with Lab() as lab:
        near = lab.lan("10.0.0.0/24", *lab.hosts("a", 2))
        far = lab.lan("10.0.0.0/24", *lab.hosts("b", 3))
        Patch(near.switch.port(), far.switch.port())
        for number, host in enumerate(lab, 1):
            host.ifconfig("eth0", f"2001:db8::{number}/64")
        lab.clock.run_for(3_000_000_000)  # duplicate address detection
        with create_server(lab["b3"], ("2001:db8::5", 80), family=AF_INET6) as listener:
            create_connection(lab["a1"], ("2001:db8::5", 80)).close()
            listener.accept()[0].close()


def test_a_lab_of_both_families_behind_a_router():
    with Lab(seed=3) as lab:
        router = lab.router("router")
        near = lab.lan(
            ["10.1.0.0/24", "2001:db8:1::/64"], router, *lab.hosts("a", 2), gateway=router
        )
        far = lab.lan(["10.2.0.0/29", "2001:db8:2::/64"], router, lab.host("b"), gateway=router)
        assert [host.name for host in lab] == ["router", "a1", "a2", "b"]
        assert len(lab) == 4
        assert near.addr(lab["a2"]) == "10.1.0.3"
        assert far.addr(lab["b"], family=6) == "2001:db8:2::2"
        assert (near.interface["router"], far.interface["router"]) == ("eth0", "eth1")
        lab.clock.run_for(3_000_000_000)  # duplicate address detection
        for family in (4, 6):
            listener = create_server(
                lab["b"], (far.addr(lab["b"], family=family), 80), family=2 if family == 4 else 10
            )
            with listener, create_connection(lab["a2"], listener.getsockname()[:2]):
                assert listener.accept()[1][0] == near.addr(lab["a2"], family=family)
        macs = [dev.dev_addr for host in lab for dev in host.dev_base_head if dev.name != "lo"]
        assert len(set(macs)) == len(macs) == 5
    assert all(host.machine.closed for host in lab)


def test_a_lab_says_what_is_wrong():
    with Lab() as lab:
        a, b = lab.hosts("h", 2)
        with pytest.raises(ArgumentError, match="there is a host 'h1' already"):
            lab.host("h1")
        with pytest.raises(KeyError, match="there are: h1, h2"):
            lab["h3"]
        with pytest.raises(ArgumentError, match="give a network such as"):
            lab.lan("10.0.0.1/24", a)
        with pytest.raises(ArgumentError, match="gateway h2 is none of the members"):
            lab.lan("10.0.0.0/24", a, gateway=b)
        with pytest.raises(ArgumentError, match="no address left for h2"):
            lab.lan("10.0.0.0/32", a, b)
        net = lab.lan("10.0.0.0/24", a)
        with pytest.raises(KeyError, match="no address of IPv6"):
            net.addr(a, family=6)


@pytest.mark.parametrize("options", [{"faults": Faults(eeprom_bits=1)}, {"mtu": 20}])
def test_nothing_stays_open_when_two_hosts_cannot_be_made(
    options: dict[str, Any], tmp_path: Path
) -> None:
    clock = VirtualClock()
    with pytest.raises(OSError) as found:  # noqa: PT011  # the driver's, or the interface's
        two_hosts(clock, capture=tmp_path / "cable.pcapng", **options)
    assert (tmp_path / "cable.pcapng").stat().st_size > 0  # closed
    assert clock.run_until_idle()
    assert clock.next_ns() is None
    del found


def test_nothing_stays_open_when_a_lan_cannot_be_made() -> None:
    clock = VirtualClock()
    with pytest.raises(OSError) as found:  # noqa: PT011
        lan(2, clock, mtu=20)
    assert clock.run_until_idle()
    assert clock.next_ns() is None
    del found


def test_the_link_of_a_card_that_no_driver_took_is_free() -> None:
    clock = VirtualClock()
    one, other = pair(clock)
    with (
        Host(name="a", clock=clock) as host,
        Host(name="b", clock=clock, drivers=False) as other_os,
    ):
        with pytest.raises(OSError, match="no driver took the 82540EM"):
            add_nic(other_os, one)
        add_nic(host, one, wait=False)
        add_nic(host, other)


def test_two_hosts_record_a_nic_each(tmp_path: Path) -> None:
    paths = [tmp_path / "a.rec", tmp_path / "b.rec"]
    recorders = [Recorder(path) for path in paths]
    a, b = two_hosts(records=recorders)
    with a, b:
        assert a.nics["eth0"] is not b.nics["eth0"]
    for recorder, path in zip(recorders, paths, strict=True):
        recorder.close()
        found = replay(path)
        assert found.divergence is None
        assert found.events > 100
