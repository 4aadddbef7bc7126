"""Namespaces behind the NAT of their machine: each keeps its own connections (nf_reset_ct)."""

from __future__ import annotations

from e1000emu.clock import VirtualClock
from e1000emu.lab import add_nic
from e1000emu.links import pair
from fastpath.base.skbuff import alloc_skb, kfree_skb
from stack.core.dev_forward import skb_scrub_packet
from stack.host import Host
from stack.netfilter.nat import masquerade
from stack.netfilter.nf_conntrack import IP_CT_UNTRACKED
from stack.socket import create_connection, create_server
from tests.stack.core.wire import QUIET6, assert_no_leak


def test_containers_behind_a_bridge_go_out_with_the_hosts_address():
    clock = VirtualClock()
    ends = pair(clock)
    host = Host("host", clock=clock, sysctl=QUIET6 | {"ip_forward": 1})
    outside = Host("outside", clock=clock, sysctl=QUIET6)
    add_nic(host, ends[0], mac=b"\x02\0\0\0\0\1", addr="198.51.100.1/24", wait=False)
    add_nic(outside, ends[1], mac=b"\x02\0\0\0\0\2", addr="198.51.100.2/24", wait=False)
    host.add_bridge("br0", up=True)
    host.ifconfig("br0", "10.0.0.1/24")
    inside = []
    for number in (2, 3):
        net = host.netns_add(f"c{number}", sysctl=QUIET6)
        host.add_veth(f"veth{number}", (net, "eth0"), up=True)
        host.set_master(f"veth{number}", "br0")
        net.ifconfig("eth0", f"10.0.0.{number}/24")
        net.route_add("default", via="10.0.0.1")
        masquerade(net, oif="none")  # so that it tracks its own connections, too
        inside.append(net)
    masquerade(host, oif="eth0")
    assert host.wait_carrier("eth0")
    clock.run_for(1000)
    with create_server(outside, ("198.51.100.2", 80)) as listener:
        for net in inside:
            with create_connection(net, ("198.51.100.2", 80)) as client:
                server, peer = listener.accept()
                assert peer[0] == "198.51.100.1"
                client.sendall(b"out")
                assert server.recv(10) == b"out"
                server.sendall(b"in")
                assert client.recv(10) == b"in"
                server.close()
    assert_no_leak(host, outside)


def test_a_packet_that_a_veth_brings_is_nobodys_yet():
    """As nf_reset_ct does: the next firewall tracks what one left untracked. What a namespace has
    tracked is new to itself when it comes back by another device."""
    host = Host("host", clock=VirtualClock(), drivers=False, sysctl=QUIET6)
    skb = alloc_skb(host.skb_small, 100)
    assert skb is not None
    skb.nfct, skb.nfctinfo = object(), IP_CT_UNTRACKED
    skb_scrub_packet(skb, False)
    assert (skb.nfct, skb.nfctinfo) == (None, 0)
    kfree_skb(skb)
    assert_no_leak(host)
