"""Choosing a congestion control: sysctls, TCP_CONGESTION, routes, and who may."""

from __future__ import annotations

import errno
from typing import Any

import pytest

from stack.core.sysctl_net_core import SysctlError
from stack.inet import tcp_sock as opt
from stack.inet.tcp_close import tcp_disconnect
from stack.inet.tcp_cong import (
    TCP_CONG_NON_RESTRICTED,
    tcp_congestion_ops,
    tcp_register_congestion_control,
    tcp_reno,
    tcp_unregister_congestion_control,
)
from stack.inet.tcp_cubic import cubic_params, cubictcp
from stack.ipv6.addr import format_addr6
from stack.ipv6.route_config import fib6_dump, ip6_route_add
from tests.stack.inet.tcpnet import S, Sock, TcpNet, transfer
from tests.stack.ipv6.tcpnet6 import A6, B6, TcpNet6


def chosen(sock: Sock) -> str:
    return bytes(sock.getsockopt(opt.TCP_CONGESTION)).rstrip(b"\0").decode()


def module(name: str, **more: Any) -> tcp_congestion_ops:
    functions = {"cong_avoid": tcp_reno.cong_avoid, **more}
    return tcp_congestion_ops(name, tcp_reno.ssthresh, tcp_reno.undo_cwnd, **functions)


def test_modules_are_listed_in_the_order_of_registration() -> None:
    with TcpNet() as net:
        sysctl = net.a.sysctl
        assert sysctl.tcp_available_congestion_control == "reno cubic"
        assert tcp_register_congestion_control(net.a, module("slow")) == 0
        assert sysctl.tcp_available_congestion_control == "reno cubic slow"
        assert sysctl.tcp_allowed_congestion_control == "reno cubic"
        free = module("free")
        free.flags = TCP_CONG_NON_RESTRICTED
        assert tcp_register_congestion_control(net.a, free) == 0
        assert sysctl.tcp_allowed_congestion_control == "reno cubic free"
        assert net.b.sysctl.tcp_available_congestion_control == "reno cubic"
        tcp_unregister_congestion_control(net.a, free)
        assert sysctl.tcp_available_congestion_control == "reno cubic slow"
        assert sysctl.tcp_allowed_congestion_control == "reno cubic"


def test_a_module_lacks_nothing_and_is_registered_once() -> None:
    with TcpNet() as net:
        assert tcp_register_congestion_control(net.a, module("x", cong_avoid=None)) == -errno.EINVAL
        assert tcp_register_congestion_control(net.a, module("cubic")) == -errno.EEXIST


@pytest.mark.parametrize("uid", [0, 1000])
def test_only_root_chooses_what_is_not_allowed(uid: int) -> None:
    """net/ipv4/tcp_cong.c tcp_set_congestion_control: EPERM without CAP_NET_ADMIN."""
    with TcpNet() as net:
        assert tcp_register_congestion_control(net.a, module("slow")) == 0
        net.a.uid = uid
        sock = net.socket(net.a)
        if uid:
            with pytest.raises(PermissionError):
                sock.setsockopt(opt.TCP_CONGESTION, b"slow")
            assert chosen(sock) == "cubic"
        else:
            sock.setsockopt(opt.TCP_CONGESTION, b"slow")
            assert chosen(sock) == "slow"
        sock.setsockopt(opt.TCP_CONGESTION, b"reno")
        with pytest.raises(FileNotFoundError):
            sock.setsockopt(opt.TCP_CONGESTION, b"none")
        net.a.sysctl.tcp_congestion_control = "slow"
        assert net.a.sysctl.tcp_allowed_congestion_control == "reno cubic slow"
        sock.setsockopt(opt.TCP_CONGESTION, b"slow")
        net.a.sysctl.tcp_allowed_congestion_control = "cubic"
        if uid:
            sock.setsockopt(opt.TCP_CONGESTION, b"slow")  # what it has already
            with pytest.raises(PermissionError):
                sock.setsockopt(opt.TCP_CONGESTION, b"reno")


def test_a_wrong_list_of_the_allowed_changes_nothing() -> None:
    with TcpNet() as net:
        with pytest.raises(SysctlError, match="reno cubic") as info:
            net.a.sysctl.tcp_allowed_congestion_control = "cubic vegas"
        assert info.value.errno == errno.ENOENT
        assert net.a.sysctl.tcp_allowed_congestion_control == "reno cubic"


def test_a_child_has_the_default_unless_the_listener_chose() -> None:
    """net/ipv4/tcp_minisocks.c tcp_ca_openreq_child."""
    with TcpNet() as net:
        listener = net.listening()
        net.b.sysctl.tcp_congestion_control = "reno"
        names = []
        socks = [listener]
        for choice in (None, b"cubic"):
            if choice is not None:
                listener.setsockopt(opt.TCP_CONGESTION, choice)
            client = net.client()
            net.run(S)
            child = listener.accept()
            names.append(chosen(child))
            socks += [client, child]
        assert names == ["reno", "cubic"]


def test_a_choice_outlives_the_connection() -> None:
    """net/ipv4/tcp.c tcp_disconnect: the module stays, without its state."""
    with TcpNet() as net:
        client, _server = net.pair()
        client.setsockopt(opt.TCP_CONGESTION, b"reno")
        client.setsockopt(opt.TCP_CONGESTION, b"cubic")
        before = client.sk.icsk_ca_priv
        net.a.sysctl.tcp_congestion_control = "reno"
        tcp_disconnect(client.sk, 0)
        assert chosen(client) == "cubic"
        assert client.sk.icsk_ca_priv is not before
        net.run(S)


def test_a_route_chooses_for_both_ends() -> None:
    """`ip route ... congctl NAME`, which Linux keeps as RTAX_CC_ALGO."""
    with TcpNet() as net:
        for host, peer in ((net.a, "10.0.0.2/32"), (net.b, "10.0.0.1/32")):
            host.route_add(peer, dev=host.dev_by_index[2].name, congctl="reno")
        client, server = net.pair()
        assert (chosen(client), chosen(server)) == ("reno", "reno")
        assert transfer(net, client, server, bytes(100_000), close=False) == bytes(100_000)
        with pytest.raises(OSError, match="reno cubic") as info:
            net.a.route_add("10.7.0.0/16", dev=net.a.dev_by_index[2].name, congctl="vegas")
        assert info.value.errno == errno.EINVAL


def test_a_route_of_ipv6_chooses_too() -> None:
    with TcpNet6() as net:
        for host, peer in ((net.a, B6), (net.b, A6)):
            device = net.wires[0 if host is net.a else 1].dev.name
            ip6_route_add(host, f"{format_addr6(peer)}/128", dev=device, congctl="reno")
            assert "reno" in {row["congctl"] for row in fib6_dump(host)}
        client, server = net.pair()
        assert (chosen(client), chosen(server)) == ("reno", "reno")
        assert transfer(net, client, server, bytes(50_000), close=False) == bytes(50_000)


def test_a_module_with_other_parameters_is_another_row() -> None:
    with TcpNet() as net:
        mild = cubictcp(cubic_params(beta=900), "mild")
        assert tcp_register_congestion_control(net.a, mild) == 0
        client, server = net.pair()
        client.setsockopt(opt.TCP_CONGESTION, b"mild")
        client.sk.snd_cwnd = 1000
        assert client.sk.icsk_ca_ops.ssthresh(client.sk) == 1000 * 900 // 1024
        server.sk.snd_cwnd = 1000
        assert server.sk.icsk_ca_ops.ssthresh(server.sk) == 1000 * 717 // 1024
