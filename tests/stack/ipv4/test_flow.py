"""The order of calls that kernel-flow promises for datagrams, ICMP, raw and forwarded packets."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
from scapy.layers.inet import ICMP, IP, UDP
from scapy.packet import Raw

from stack.core.bsd_socket import (
    sys_bind,
    sys_close,
    sys_connect,
    sys_getsockopt,
    sys_recvfrom,
    sys_send,
    sys_sendto,
    sys_setsockopt,
    sys_shutdown,
    sys_socket,
)
from stack.core.uapi import AF_INET, IP_TTL, MSG_DONTWAIT, SHUT_RDWR, SOCK_DGRAM, SOCK_RAW, SOL_IP
from tests.stack.ipv4.net import ME, PEER, at, one_host, udp_socket

pytestmark = pytest.mark.uncompiled


@contextmanager
def recorded() -> Iterator[list[str]]:
    """Names of the functions that are entered, compiled ones included."""
    names: list[str] = []

    def hook(frame, event: str, arg) -> None:
        if event == "call":
            names.append(frame.f_code.co_name)
        elif event == "c_call":
            names.append(arg.__name__)

    sys.setprofile(hook)
    try:
        yield names
    finally:
        sys.setprofile(None)


def assert_order(names: list[str], wanted: str) -> None:
    """Each wanted name is called, in this order."""
    at = 0
    for name in wanted.split():
        assert name in names[at:], f"{name} missing after {names[:at][-3:]}"
        at += names[at:].index(name) + 1


def trace(call: Callable[[], object]) -> list[str]:
    with recorded() as names:
        call()
    return names


def test_udp_send() -> None:
    net = one_host()
    for dev in net.host.dev_base_head:
        dev.qdisc.can_bypass = False
    fd = udp_socket(net)
    names = trace(lambda: sys_sendto(net.host, fd, b"x", 0, at(PEER, 9)))
    assert_order(
        names,
        "sys_sendto sock_sendmsg __sock_sendmsg "
        "security_sock_sendmsg inet_sendmsg udp_sendmsg ip_route_output_flow ip_make_skb "
        "udp_send_skb ip_push_pending_frames ip_send_skb ip_local_out __ip_local_out dst_output "
        "ip_output ip_finish_output2 neigh_output dev_queue_xmit enqueue "
        "qdisc_run qdisc_restart dequeue dev_hard_start_xmit dev_queue_xmit_nit",
    )


def test_udp_receive() -> None:
    net = one_host()
    fd = udp_socket(net, 5000)
    packet = IP(src=PEER, dst=ME) / UDP(sport=9, dport=5000) / b"x"
    raw = sys_socket(net.host, AF_INET, SOCK_RAW, 17)
    names = trace(lambda: net.inject(packet))
    assert_order(
        names,
        "net_rx_action netif_receive_skb deliver_skb ip_rcv ip_rcv_finish ip_route_input "
        "ip_local_deliver ip_local_deliver_finish raw_local_deliver raw_rcv sk_data_ready "
        "udp_rcv udp_queue_rcv_skb xfrm4_policy_check sk_data_ready sock_def_readable",
    )
    names = trace(lambda: sys_recvfrom(net.host, fd, bytearray(9), MSG_DONTWAIT))
    assert_order(
        names,
        "sys_recvfrom sock_recvmsg __sock_recvmsg security_sock_recvmsg inet_recvmsg "
        "udp_recvmsg skb_copy_datagram_iter",
    )
    names = trace(lambda: sys_recvfrom(net.host, raw, bytearray(99), MSG_DONTWAIT))
    assert_order(names, "sys_recvfrom inet_recvmsg raw_recvmsg skb_copy_datagram_iter")


def test_life_of_a_datagram_socket() -> None:
    net = one_host()
    fds: list[int] = []
    names = trace(lambda: fds.append(sys_socket(net.host, AF_INET, SOCK_DGRAM)))
    assert_order(names, "sys_socket sock_create sock_alloc inet_create sk_alloc sock_init_data")
    fd = fds[0]
    assert_order(
        trace(lambda: sys_bind(net.host, fd, at(0, 5000))), "sys_bind sockfd_lookup inet_bind"
    )
    assert_order(
        trace(lambda: sys_connect(net.host, fd, at(PEER, 9))),
        "sys_connect inet_dgram_connect udp_connect ip4_datagram_connect ip_route_connect",
    )
    assert_order(
        trace(lambda: sys_setsockopt(net.host, fd, SOL_IP, IP_TTL, 9)),
        "sys_setsockopt sock_common_setsockopt udp_setsockopt ip_setsockopt",
    )
    assert_order(
        trace(lambda: sys_getsockopt(net.host, fd, SOL_IP, IP_TTL)),
        "sys_getsockopt sock_common_getsockopt udp_getsockopt ip_getsockopt",
    )
    assert_order(
        trace(lambda: sys_shutdown(net.host, fd, SHUT_RDWR)),
        "sys_shutdown sockfd_lookup inet_shutdown sk_state_change",
    )
    assert_order(
        trace(lambda: sys_close(net.host, fd)),
        "sys_close sock_close inet_release udp_close sk_common_release",
    )


def test_forwarded_packet() -> None:
    net = one_host(addrs=(f"{ME}/24", "10.1.0.1/24"), sysctl={"ip_forward": 1})
    names = trace(lambda: net.inject(IP(src=PEER, dst="10.1.0.9") / UDP()))
    assert_order(
        names,
        "ip_rcv ip_rcv_finish ip_route_input dst_input ip_forward ip_forward_finish dst_output "
        "ip_output ip_finish_output2 neigh_output neigh_resolve_output",
    )


def test_echo_and_errors() -> None:
    net = one_host()
    names = trace(lambda: net.inject(IP(src=PEER, dst=ME) / ICMP()))
    assert_order(
        names,
        "ip_local_deliver_finish raw_local_deliver icmp_rcv icmp_echo icmp_reply ip_append_data "
        "ip_push_pending_frames ip_send_skb ip_local_out ip_output",
    )
    names = trace(lambda: net.inject(IP(src=PEER, dst=ME) / UDP(dport=1)))
    assert_order(names, "udp_rcv icmp_send ip_append_data ip_push_pending_frames ip_output")
    fd = udp_socket(net, 5000)
    sys_connect(net.host, fd, at(PEER, 9))
    net.frames()
    sys_send(net.host, fd, b"x")
    (sent,) = net.ip_sent()
    names = trace(
        lambda: net.inject(IP(src=PEER, dst=ME) / ICMP(type=3, code=3) / Raw(bytes(sent)))
    )
    assert_order(
        names,
        "icmp_rcv icmp_unreach icmp_socket_deliver raw_icmp_error udp_err sk_error_report",
    )


def test_fragments() -> None:
    net = one_host()
    fd = udp_socket(net, 5000)
    names = trace(lambda: sys_sendto(net.host, fd, bytes(3000), 0, at(PEER, 9)))
    assert_order(
        names,
        "ip_output ip_finish_output ip_fragment ip_do_fragment ip_finish_output2 neigh_output",
    )
