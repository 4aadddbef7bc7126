"""stack/core/neigh_sysctl.py: what the files of neigh/DEV do to a host that asks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from stack.api import net_procsys
from stack.core.neigh_sysctl import neigh_rows
from stack.core.neigh_table import NEIGH_VARS, neigh_parms
from stack.core.sysctl_net_core import SysctlError
from stack.netlink.rt_fdb import RTNLGRP_NEIGH
from stack.socket import AF_INET, AF_NETLINK, SOCK_DGRAM, SOCK_RAW, Socket
from tests.stack.ipv4.net import ME, SEC, Net, one_host

NOBODY = "10.0.0.66"
V4, V6 = neigh_rows("ipv4"), neigh_rows("ipv6")


def set_to(net: Net, name: str, value: int, label: str = "eth0") -> None:
    net_procsys.store(net.host, f"ipv4/neigh/{label}/{name}", f"{value}\n")


def read(net: Net, name: str, label: str = "eth0") -> int:
    return int(net_procsys.show(net.host, f"ipv4/neigh/{label}/{name}"))


def asked(net: Net, seconds: float = 20, *, datagrams: int = 1) -> list[bytes]:
    """ARP requests that datagrams to a silent neighbour cause."""
    with Socket(net.host, AF_INET, SOCK_DGRAM) as sock:
        for _ in range(datagrams):
            sock.sendto(b"x" * 1000, (NOBODY, 9))
        net.run(int(seconds * SEC))
    return [f for f in net.frames() if f[12:14] == b"\x08\x06"]


def heard(net: Net) -> int:
    """Questions to a listener of netlink."""
    with Socket(net.host, AF_NETLINK, SOCK_RAW, 0) as sock:
        sock.bind((0, 1 << RTNLGRP_NEIGH - 1))
        asked(net)
        sock.setblocking(False)
        count = 0
        while True:
            try:
                count += sock.recv(9999)[4:6] == b"\x1e\0"
            except BlockingIOError:
                return count


EFFECTS: dict[str, tuple[Callable[[Net], Any], dict[int, Any]]] = {
    "mcast_solicit": (lambda net: len(asked(net)), {3: 3, 1: 1, 6: 6}),
    "retrans_time_ms": (lambda net: len(asked(net, 1.5)), {1000: 2, 200: 3, 5000: 1}),
    "retrans_time": (lambda net: len(asked(net, 1.5)), {100: 2, 20: 3, 500: 1}),
    "app_solicit": (heard, {0: 0, 2: 2}),
    "unres_qlen_bytes": (lambda net: dropped(net, 9), {212992: 0, 4000: 8}),
    "unres_qlen": (lambda net: dropped(net, 9), {101: 0, 2: 8}),
}


def dropped(net: Net, datagrams: int) -> int:
    asked(net, 0.1, datagrams=datagrams)
    return net.drops().get("SKB_DROP_REASON_NEIGH_QUEUEFULL", 0)


@pytest.mark.parametrize(
    ("name", "value"), [(name, value) for name, row in EFFECTS.items() for value in row[1]]
)
def test_effect(name: str, value: int) -> None:
    probe, seen = EFFECTS[name]
    net = one_host(addrs=(f"{ME}/24",))
    assert read(net, name) == next(iter(seen))
    set_to(net, name, value)
    assert read(net, name) == value
    assert probe(net) == seen[value]


def test_each_parameter_has_a_file() -> None:
    for rows in (V4, V6):
        assert {row.field for row in rows.values()} | {"reachable_time"} == set(NEIGH_VARS)
    plain = neigh_parms()
    for row in V4.values():
        assert getattr(plain, row.field) // row.unit == row.sysctl.default


def test_a_default_is_for_those_who_have_none_of_their_own() -> None:
    net = one_host(addrs=(f"{ME}/24", "10.1.0.1/24"))
    set_to(net, "gc_stale_time", 7, "default")
    assert read(net, "gc_stale_time", "default") == 7
    assert read(net, "gc_stale_time") == 60, "an address makes all its own"
    net.host.add_dummy("dummy0")
    assert read(net, "gc_stale_time", "dummy0") == 7
    set_to(net, "locktime", 5, "dummy0")
    for value in (11, 12):
        set_to(net, "gc_stale_time", value, "default")
        set_to(net, "locktime", value, "default")
    assert read(net, "gc_stale_time", "dummy0") == 12
    assert read(net, "locktime", "dummy0") == 5


def test_the_base_draws_the_reachable_time_anew() -> None:
    net = one_host(addrs=(f"{ME}/24",))
    parms = net.wire.dev.ip_ptr.arp_parms
    set_to(net, "base_reachable_time_ms", 4000)
    assert 2 * SEC <= parms.reachable_time < 6 * SEC
    before = parms.reachable_time
    net.run(400 * SEC)
    assert 2 * SEC <= parms.reachable_time < 6 * SEC
    assert parms.reachable_time != before


@pytest.mark.parametrize("value", ["-1", "x", "", "99999999999"])
def test_values_that_no_file_takes(value: str) -> None:
    net = one_host(addrs=(f"{ME}/24",))
    for name in V4:
        with pytest.raises(SysctlError):
            net_procsys.store(net.host, f"ipv4/neigh/eth0/{name}", value)


def test_an_interface_that_goes_takes_its_files_along() -> None:
    net = one_host(addrs=(f"{ME}/24",))
    tables = (net.host.arp_tbl, net.host.ipv6.nd_tbl)
    before = [len(tbl.parms_list) for tbl in tables]
    dev = net.host.add_dummy("dummy0")
    assert "dummy0" in net_procsys.names(net.host, "ipv4/neigh")
    assert [len(tbl.parms_list) for tbl in tables] == [n + 1 for n in before]
    net.host.del_link(dev.name)
    assert [len(tbl.parms_list) for tbl in tables] == before
    with pytest.raises(OSError, match="dummy0"):
        net_procsys.show(net.host, "ipv4/neigh/dummy0/locktime")
