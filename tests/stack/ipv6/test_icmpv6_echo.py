"""The shortest way through IPv6: echo request in, echo reply out."""

from __future__ import annotations

import pytest
from scapy.layers.inet6 import ICMPv6EchoReply, ICMPv6EchoRequest, IPv6

from tests.stack.ipv6.net import ME, ME_LL, PEER, PEER_LL, Net6


@pytest.mark.parametrize("size", [0, 1, 56, 1452])
def test_echo_request_is_answered_with_its_data(size: int, net: Net6) -> None:
    data = bytes(i & 255 for i in range(size))
    net.inject(IPv6(src=PEER, dst=ME, tc=0x28) / ICMPv6EchoRequest(id=5, seq=7, data=data))
    (reply,) = net.ip_sent()
    assert (reply.src, reply.dst, reply.hlim, reply.tc) == (ME, PEER, 64, 0x28)
    answer = reply[ICMPv6EchoReply]
    assert (answer.id, answer.seq, bytes(answer.data)) == (5, 7, data)
    assert net.host.mib.icmp6msg.outtype[129] == 1
    assert net.drops() == {}


def test_echo_request_to_a_link_local_address_leaves_on_its_interface(net: Net6) -> None:
    net.inject(IPv6(src=PEER_LL, dst=ME_LL) / ICMPv6EchoRequest())
    (reply,) = net.ip_sent()
    assert (reply.src, reply.dst) == (ME_LL, PEER_LL)


def test_echo_request_to_all_nodes_is_answered_from_a_unicast_address(net: Net6) -> None:
    net.inject(IPv6(src=PEER, dst="ff02::1") / ICMPv6EchoRequest())
    (reply,) = net.ip_sent()
    assert (reply.src, reply.dst) == (ME, PEER)
