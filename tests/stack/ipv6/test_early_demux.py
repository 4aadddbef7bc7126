"""Which protocols see a packet before it is routed: what the sysctls of both families say."""

from __future__ import annotations

import pytest

from fastpath.base.skbuff import sk_buff
from stack.ipv6.protocol import inet6_add_protocol, inet6_del_protocol, inet6_protocol
from tests.stack.ipv6.conformance import v6
from tests.stack.ipv6.net import one_host6


@pytest.mark.parametrize(
    ("knobs", "nexthdr", "asked"),
    [
        ({}, 253, True),
        ({"ip_early_demux": 0}, 253, False),
        ({"tcp_early_demux": 0}, 253, True),
        ({"tcp_early_demux": 0}, 6, False),
        ({"udp_early_demux": 0}, 17, False),
        ({"udp_early_demux": 0}, 6, True),
    ],
)
@pytest.mark.parametrize("live", [False, True])
def test_early_demux(knobs: dict[str, int], nexthdr: int, asked: bool, live: bool) -> None:
    net = one_host6(sysctl=None if live else knobs)
    seen: list[int] = []

    def demux(skb: sk_buff) -> None:
        seen.append(skb.len)

    row = inet6_protocol(handler=lambda skb: 0, early_demux=demux)
    old = net.host.ipv6.inet6_protos[nexthdr]
    if old is not None:
        inet6_del_protocol(net.host, old, nexthdr)
    assert inet6_add_protocol(net.host, row, nexthdr) == 0
    if live:
        for name, value in knobs.items():
            net.host.sysctl[name] = value
    net.inject(v6(nexthdr, bytes(20)))
    assert seen == ([60] if asked else [])
    inet6_del_protocol(net.host, row, nexthdr)
    net.inject(v6(nexthdr, bytes(20)))
    assert len(seen) == asked
