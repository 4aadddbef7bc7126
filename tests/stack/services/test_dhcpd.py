"""Our DHCPv4 server on a host of ours serves our client on another, in virtual time."""

from __future__ import annotations

from typing import Any

import pytest

from e1000emu.lab import two_hosts
from stack.clients.dhcp4_request import Dhcp4Config
from stack.clients.dhcp4_server import Dhcp4ServerConfig, Subnet
from stack.services.run_dhcp4 import Dhcp4Runner
from tests.stack.clients.simulation import SECOND

NET = 0x0A000000


def test_client_gets_renews_and_releases_a_lease() -> None:
    a, b = two_hosts(addrs=("10.0.0.99/24", "10.0.0.1/24"))
    a.addr_del("eth0", "10.0.0.99/24")
    config = Dhcp4ServerConfig(NET + 1, (Subnet(NET + 50, NET + 59, 24),), lease_s=600)
    clock: Any = a.clock
    with a, b:
        service = b.dhcpd("eth0", config)
        with pytest.raises(OSError, match="Address already in use"):
            b.dhcpd("eth0", config)
        with pytest.raises(OSError, match="no interface"):
            b.dhcpd("eth9", config)
        runner = Dhcp4Runner(a, a.dev("eth0"), config=Dhcp4Config(probes=1))
        runner.start()
        assert runner.wait(30 * SECOND)
        assert runner.lease is not None
        assert runner.lease.address == NET + 50
        clock.run_until(clock.now_ns() + 3600 * SECOND)  # six leases long
        assert list(service.core.leases(clock.now_ns())) == [NET + 50]
        runner.stop()
        clock.run_until(clock.now_ns() + SECOND)
        assert service.core.leases(clock.now_ns()) == {}
        service.stop()
        b.dhcpd("eth0", config).stop()
        clock.close()
