"""Our DHCPv4 server on a host of ours serves our client on another, in virtual time."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from e1000emu.capture import read_capture
from e1000emu.clock import VirtualClock
from e1000emu.lab import Lab, two_hosts
from fastpath.errors import ArgumentError
from stack.clients.dhcp4_pool import Dhcp4ServerConfig, Subnet
from stack.clients.dhcp4_request import Dhcp4Config
from stack.core.netdevice import ETH_P_ARP
from stack.host import Host
from stack.services.dhcpd import Dhcpd
from stack.services.run_dhcp4 import Dhcp4Runner
from tests.stack.clients.simulation import SECOND

NET = 0x0A000000
CONFIG = Dhcp4ServerConfig(NET + 1, (Subnet(NET + 50, NET + 59, 24),), lease_s=600)


@pytest.fixture
def hosts() -> Iterator[tuple[Host, Host]]:
    a, b = two_hosts(addrs=("10.0.0.99/24", "10.0.0.1/24"))
    a.addr_del("eth0", "10.0.0.99/24")
    with a, b:
        yield a, b
    clock: Any = a.clock
    clock.close()


def client(host: Host, **config: Any) -> Dhcp4Runner:
    runner = Dhcp4Runner(host, host.dev("eth0"), config=Dhcp4Config(probes=1, **config))
    runner.start()
    assert runner.wait(30 * SECOND)
    return runner


def wait(host: Host, seconds: int) -> None:
    clock: Any = host.clock
    clock.run_until(clock.now_ns() + seconds * SECOND)


def test_client_gets_renews_and_releases_a_lease(a: Host, b: Host) -> None:
    service = b.dhcpd("eth0", CONFIG)
    with pytest.raises(OSError, match="Address already in use"):
        b.dhcpd("eth0", CONFIG)
    with pytest.raises(OSError, match="no interface"):
        b.dhcpd("eth9", CONFIG)
    runner = client(a)
    assert runner.lease is not None
    assert runner.lease.address == NET + 50
    wait(a, 3600)  # six leases long
    assert list(service.core.leases(a.clock.now_ns())) == [NET + 50]
    runner.stop()
    wait(a, 1)
    assert service.core.leases(a.clock.now_ns()) == {}
    service.stop()
    b.dhcpd("eth0", CONFIG).stop()


def test_without_raw_sockets_nothing_stays_open() -> None:
    with Host(clock=VirtualClock(), uid=1000) as host:
        host.add_dummy("d0", up=True)
        host.ifconfig("d0", "10.0.0.1/24")
        with pytest.raises(PermissionError):
            host.dhcpd("d0", CONFIG)
        assert not host.fdtable.fd


def test_stopped_services_leave_nothing_with_the_host(a: Host, b: Host) -> None:
    machines = a.machine, b.machine
    before = [len(machine._on_close) for machine in machines]
    for _ in range(3):
        service = b.dhcpd("eth0", CONFIG)
        client(a).stop()
        service.stop()
        service.stop()
    assert [len(machine._on_close) for machine in machines] == before


def test_range_and_addresses_are_taken_as_text(a: Host, b: Host) -> None:
    mac = bytes(a.dev("eth0").dev_addr).hex(":")
    b.dhcpd(
        "eth0", "10.0.0.50-10.0.0.59", router="10.0.0.1", dns=["10.0.0.1", "10.0.0.2"],
        domain="example.org", reserved={mac: "10.0.0.7"}, lease_s=600, ping_ns=0,
    )  # fmt: skip
    lease = client(a).lease
    assert lease is not None
    assert (lease.address, lease.prefixlen, lease.server) == (NET + 7, 24, NET + 1)
    assert lease.routes == ((0, 0, NET + 1),)
    assert lease.dns == (NET + 1, NET + 2)
    assert lease.domain == "example.org"


@pytest.mark.parametrize(
    ("addresses", "options", "text"),
    [
        ("10.0.0.50", {}, "is no range; write 10.0.0.50-10.0.0.99"),
        ("10.0.0.50-x", {}, "addresses='x'; give an address such as"),
        ("10.9.0.50-10.9.0.60", {}, r"eth0 has no address in the network of 10.9.0.50.*ifconfig"),
        ("10.0.0.50-10.0.1.60", {}, "last=10.0.1.60 is no host of 10.0.0.0/24"),
        ("10.0.0.50-10.0.0.60", {"dns": "10.0.0.1"}, "dns"),
        ("10.0.0.50-10.0.0.60", {"domain": "x" * 64}, "domain='xxx.*"),
        ("10.0.0.50-10.0.0.60", {"reserved": {"52:54": "10.0.0.7"}}, "give a MAC such as"),
        ("10.0.0.50-10.0.0.60", {"lease": 5}, "no argument lease=5"),
        ("10.0.0.50-10.0.0.60", {"lease_s": -5}, "lease_s=-5 is out of range"),
        (CONFIG, {"lease_s": 5}, "lease_s beside a configuration"),
        (None, {}, "a range or a Dhcp4ServerConfig"),
    ],
)
def test_wrong_arguments_are_named(
    hosts: tuple[Host, Host], addresses: Any, options: Any, text: str
) -> None:
    with pytest.raises((ArgumentError, TypeError), match=text):
        hosts[1].dhcpd("eth0", addresses, **options)
    assert isinstance(hosts[1].dhcpd("eth0", CONFIG), Dhcpd)  # nothing is left taken


def test_address_that_answers_a_ping_is_not_offered() -> None:
    with Lab() as lab:
        server, other, host = (lab.host(name) for name in ("server", "other", "host"))
        lab.lan("10.0.0.0/24", server, other, host)
        host.addr_del("eth0", "10.0.0.3/24")
        service = server.dhcpd("eth0", "10.0.0.2-10.0.0.9")  # 10.0.0.2 is other's
        lease = client(host).lease
        assert lease is not None
        assert lease.address == NET + 3
        assert service.core.messages == {"DISCOVER": 1, "OFFER": 1, "REQUEST": 1, "ACK": 1}
        service.stop()


def test_a_client_that_stopped_starts_again(a: Host, b: Host) -> None:
    """The interface's packet handler, which is removed, does not take IP's along."""
    b.dhcpd("eth0", CONFIG)
    runner = client(a, broadcast=True)
    for _ in range(2):
        runner.stop()
        runner.start()
        assert runner.wait(30 * SECOND)


def test_unicast_answers_go_to_the_clients_mac(tmp_path: Any) -> None:
    """A client without the broadcast flag hears what is addressed to it, and has its lease."""
    path = tmp_path / "dhcp.pcapng"
    a, b = two_hosts(addrs=("10.0.0.99/24", "10.0.0.1/24"), capture=path)
    a.addr_del("eth0", "10.0.0.99/24")
    with a, b:
        b.dhcpd("eth0", "10.0.0.50-10.0.0.59", ping_ns=0)
        runner = Dhcp4Runner(a, a.dev("eth0"), config=Dhcp4Config(probes=0))
        runner.start()
        wait(a, 2)
        assert runner.lease is not None
        assert runner.lease.address == NET + 50
        heard = [handler.type for handler in a.dev("eth0").ptype_specific]
        assert heard == [ETH_P_ARP]  # not IPv4 any more
        mac = bytes(a.dev("eth0").dev_addr)
    frames = [frame.data for frame in read_capture(path)]
    offers = [f for f in frames if f[12:14] == b"\x08\x00" and f[34:38] == b"\x00\x43\x00\x44"]
    assert offers
    assert all((f[:6], f[30:34]) == (mac, bytes((10, 0, 0, 50))) for f in offers)
