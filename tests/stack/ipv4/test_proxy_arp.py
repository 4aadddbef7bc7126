"""stack/ipv4/arp.py answers for the addresses of others."""

from __future__ import annotations

import pytest

from stack.core.neigh_gc import pneigh_create, pneigh_delete
from tests.stack.ipv4.net import ME, ME_MAC, PEER, PEER_MAC, SEC, Net, ip4, one_host

BEYOND, NOWHERE, SAME_WIRE = "10.1.0.2", "10.7.0.1", "10.0.0.77"


def router(**sysctl: int) -> Net:
    return one_host(addrs=(f"{ME}/24", "10.1.0.1/24"), sysctl={"ip_forward": 1, **sysctl})


def asked(net: Net, target: str, *, to: bytes = b"\xff" * 6, within: int = SEC) -> list[bytes]:
    """ARP replies to PEER's request for `target` on the first wire."""
    body = b"\0\1\x08\0\6\4\0\1" + PEER_MAC + ip4(PEER).to_bytes(4, "big")
    body += bytes(6) + ip4(target).to_bytes(4, "big")
    net.frames()
    net.wire.receive((to + PEER_MAC + b"\x08\x06" + body).ljust(60, b"\0"))
    net.run(within)
    return [f for f in net.frames() if f[12:14] == b"\x08\x06" and f[20:22] == b"\0\2"]


def test_an_entry_is_answered_for_with_our_address() -> None:
    net = router()
    assert asked(net, BEYOND) == []
    pneigh_create(net.host.arp_tbl, ip4(BEYOND), net.wire.dev)
    (reply,) = asked(net, BEYOND)
    assert reply[:6] == reply[32:38] == PEER_MAC
    assert reply[6:12] == reply[22:28] == ME_MAC
    assert reply[28:32] == ip4(BEYOND).to_bytes(4, "big")
    assert pneigh_delete(net.host.arp_tbl, ip4(BEYOND), net.wire.dev)
    assert asked(net, BEYOND) == []


def test_an_entry_of_another_interface_does_not_count() -> None:
    net = router()
    pneigh_create(net.host.arp_tbl, ip4(BEYOND), net.wires[1].dev)
    assert asked(net, BEYOND) == []
    pneigh_create(net.host.arp_tbl, ip4(BEYOND), None)
    assert len(asked(net, BEYOND)) == 1


@pytest.mark.parametrize(
    ("sysctl", "target"),
    [
        ({"ip_forward": 0, "proxy_arp": 1}, BEYOND),
        ({"proxy_arp": 1}, NOWHERE),
        ({"proxy_arp": 1}, SAME_WIRE),
        ({"proxy_arp_pvlan": 1}, BEYOND),
    ],
    ids=["no router", "no route", "on its wire", "not on its wire"],
)
def test_what_is_not_answered(sysctl: dict[str, int], target: str) -> None:
    assert asked(router(**sysctl), target) == []


def test_a_broadcast_waits_and_a_unicast_does_not() -> None:
    """The station itself is to answer first (neigh/default/proxy_delay)."""
    net = router(proxy_arp=1)
    assert asked(net, BEYOND, within=0) == []
    assert len(asked(net, BEYOND, within=SEC)) == 2
    assert len(asked(net, BEYOND, to=ME_MAC, within=0)) == 1
    net.wire.dev.ip_ptr.arp_parms.proxy_delay = 0
    assert len(asked(net, BEYOND, within=0)) == 1


def test_few_wait() -> None:
    net = router(proxy_arp=1)
    qlen = net.wire.dev.ip_ptr.arp_parms.proxy_qlen
    for _ in range(qlen + 9):
        asked(net, BEYOND, within=0)
    net.run(SEC)
    assert len(net.frames()) == qlen
    assert net.drops() == {"SKB_DROP_REASON_NEIGH_QUEUEFULL": 9}
