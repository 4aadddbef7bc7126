"""Each path calls the kernel's functions in the kernel's order, each from its kernel's caller.

docs/architecture.md ("Order of the kernel's calls") says where that is not as in old descriptions.
"""

from __future__ import annotations

import re
from collections import deque
from contextlib import nullcontext
from dataclasses import dataclass

import pytest

from e1000emu.cli.trace import record
from e1000emu.cli.trace_kinds import V4, V6, Scene
from e1000emu.clock import VirtualClock
from e1000emu.lab import add_nic
from e1000emu.links import pair
from stack.core.softirq import local_bh_disable, local_bh_enable
from stack.drivers.e1000.main import e1000_init_module
from stack.host import Host
from stack.socket import SOCK_DGRAM, Socket
from stack.tools.trace import Call, Tracer

pytestmark = pytest.mark.uncompiled

TO_DRIVER = """
    ip_output > ip_finish_output2 > neigh_output > dev_queue_xmit > enqueue
    qdisc_run > qdisc_restart > dequeue dev_hard_start_xmit > dev_queue_xmit_nit e1000_xmit_frame
"""
TO_DRIVER6 = TO_DRIVER.replace("ip_", "ip6_")
SEND = "sock_sendmsg > __sock_sendmsg > security_sock_sendmsg "
UDP_SEND = (
    "sys_sendto >" + SEND + "inet_sendmsg > udp_sendmsg > ip_push_pending_frames >" + TO_DRIVER
)
TCP_WRITE = "__tcp_push_pending_frames > tcp_write_xmit > tcp_transmit_skb"
TCP_SEND = (
    f"sys_send > sys_sendto > {SEND} inet_sendmsg > tcp_sendmsg > {TCP_WRITE} > ip_queue_xmit >"
    + TO_DRIVER
)
POLL = """
    e1000_intr > napi_schedule;
    net_rx_action > e1000_clean > e1000_clean_rx_irq(eth_type_trans)
"""
TO_IP = POLL + " netif_receive_skb > deliver_skb > ip_rcv > ip_rcv_finish > "
DELIVER = "ip_local_deliver > ip_local_deliver_finish > raw_local_deliver "
RECEIVE = TO_IP + " ip_route_input " + DELIVER
UDP_RECV = RECEIVE + "udp_rcv > udp_queue_rcv_skb > xfrm4_policy_check sk_data_ready"
READ = """
    sys_recvfrom > sock_recvmsg > __sock_recvmsg > security_sock_recvmsg
"""
UDP_READ = READ + "inet_recvmsg > udp_recvmsg > skb_copy_datagram_iter"
TCP_DATA = "tcp_rcv_established > tcp_ack tcp_data_queue > sk_data_ready"
TCP_READ = READ + "inet_recvmsg > tcp_recvmsg > skb_copy_datagram_iter"
TCP_RECV = f"{RECEIVE} tcp_v4_rcv > xfrm_policy_check tcp_v4_do_rcv > {TCP_DATA}; {TCP_READ}"
CONNECT = """
    sys_connect > inet_stream_connect >
        tcp_v4_connect(ip_route_connect tcp_transmit_skb > ip_queue_xmit > e1000_xmit_frame)
        e1000_intr
        tcp_v4_rcv(tcp_v4_do_rcv > tcp_rcv_state_process)
        tcp_send_ack_reflect_ect > e1000_xmit_frame
"""
ARP = """
    sys_sendto > neigh_output > dev_queue_xmit > e1000_xmit_frame;
    e1000_intr; deliver_skb > arp_rcv
"""
ICMP = """
    sys_sendto > ip_output > e1000_xmit_frame;
    ip_rcv > ip_local_deliver > icmp_rcv > xfrm4_policy_check ip_output
"""
SOCKET = """
    sys_socket > sock_create > sock_alloc inet_create > sock_init_data tcp_v4_init_sock;
    sock_close > inet_release > tcp_close > tcp_v4_destroy_sock
"""

CLOSE = f"""
    sys_close > sock_close > inet_release > tcp_close >
        tcp_close_state(tcp_set_state) tcp_send_fin({TCP_WRITE}) release_sock;
    tcp_v4_rcv > tcp_v4_do_rcv > tcp_rcv_established > tcp_ack
        tcp_data_queue > tcp_fin > tcp_set_state sk_state_change
"""
XTP = """
    sys_socket > inet_create > sock_init_data xtp_init_sock;
    sys_connect > inet_stream_connect >
        xtp_connect(ip_route_connect
            ip_queue_xmit > ip_output > dev_queue_xmit > e1000_xmit_frame)
        e1000_intr ip_rcv > ip_local_deliver > xfrm4_policy_check xtp_rcv;
    sys_accept > inet_accept > xtp_accept;
    sys_send > __sock_sendmsg > inet_sendmsg > xtp_sendmsg > ip_queue_xmit > e1000_xmit_frame;
    sys_recvfrom > __sock_recvmsg > inet_recvmsg > xtp_recvmsg > xtp_rcv > sk_data_ready;
    sys_close > sock_close > inet_release > xtp_close > ip_queue_xmit
"""
FORWARD = TO_IP + "ip_route_input ip_forward > xfrm4_policy_check ip_forward_finish >" + TO_DRIVER
ICMP_ERROR = RECEIVE + "udp_rcv > xfrm4_policy_check icmp_send >" + TO_DRIVER
TO_ERR_HANDLER = RECEIVE + "icmp_rcv > xfrm4_policy_check icmp_unreach > udp_err > sk_error_report"
RAW = """
    ip_local_deliver_finish > raw_local_deliver(raw_rcv > xfrm4_policy_check sk_data_ready)
        icmp_rcv > xfrm4_policy_check icmp_echo > icmp_reply;
    inet_recvmsg > raw_recvmsg > skb_copy_datagram_iter
"""
BLOCKED = """
    dev_queue_xmit > enqueue
        qdisc_run > qdisc_restart > dequeue > qdisc_watchdog_schedule_ns;
    qdisc_watchdog_timer > __netif_schedule;
    net_tx_action > qdisc_run > qdisc_restart > dequeue
        dev_hard_start_xmit > dev_queue_xmit_nit e1000_xmit_frame
"""
COMPLETION = "e1000_intr > e1000_clean_tx_irq dev_kfree_skb_irq; net_tx_action > sock_wfree"

LIST_POLL = """
    net_rx_action > e1000_clean > e1000_clean_tx_irq
        e1000_clean_rx_irq(eth_type_trans napi_gro_receive(gro_normal_one)
            eth_type_trans napi_gro_receive(gro_normal_one))
        napi_complete_done > gro_normal_list > netif_receive_skb_list_internal >
            __netif_receive_skb_list_core > __netif_receive_skb_list_ptype >
"""
LIST = (
    LIST_POLL
    + """
    ip_list_rcv > ip_rcv_core ip_rcv_core
    ip_sublist_rcv > ip_list_rcv_finish >
        ip_rcv_finish_core(ip_route_input) ip_rcv_finish_core(ip_route_input)
        ip_sublist_rcv_finish >
            ip_local_deliver(ip_local_deliver_finish > udp_rcv > sk_data_ready)
            ip_local_deliver(ip_local_deliver_finish > udp_rcv > sk_data_ready)
"""
)
LIST6 = (
    LIST_POLL
    + """
    ipv6_list_rcv > ip6_rcv_core ip6_rcv_core
    ip6_sublist_rcv > ip6_list_rcv_finish >
        ip6_rcv_finish_core(ip6_route_input) ip6_rcv_finish_core(ip6_route_input)
        ip6_sublist_rcv_finish >
            ip6_input(ip6_input_finish > udpv6_rcv > sk_data_ready)
            ip6_input(ip6_input_finish > udpv6_rcv > sk_data_ready)
"""
)

TO_IP6 = POLL + " netif_receive_skb > deliver_skb > ipv6_rcv > ip6_rcv_finish > ip6_route_input "
RECEIVE6 = TO_IP6 + "ip6_input > ip6_input_finish > raw6_local_deliver "
SOCKET6 = """
    sys_socket > sock_create > sock_alloc inet6_create > sock_init_data tcp_v6_init_sock;
    sock_close > inet6_release > inet_release > tcp_close > tcp_v4_destroy_sock
"""
UDP6_SEND = "sys_sendto >" + SEND + "inet_sendmsg > udpv6_sendmsg >" + TO_DRIVER6
UDP6_RECV = RECEIVE6 + "udpv6_rcv > udp_queue_rcv_skb > xfrm6_policy_check sk_data_ready"
UDP6_READ = READ + "inet_recvmsg > udpv6_recvmsg > skb_copy_datagram_iter"
TCP6_SEND = (
    f"sys_send > sys_sendto > {SEND} inet_sendmsg > tcp_sendmsg > {TCP_WRITE} > "
    "inet6_csk_xmit > ip6_xmit >" + TO_DRIVER6
)
TCP6_RECV = f"{RECEIVE6} tcp_v6_rcv > xfrm_policy_check tcp_v6_do_rcv > {TCP_DATA}; {TCP_READ}"
CONNECT6 = """
    sys_socket > sock_create > inet6_create > tcp_v6_init_sock;
    sys_connect > inet_stream_connect >
        tcp_v6_connect(tcp_transmit_skb > inet6_csk_xmit > ip6_xmit > e1000_xmit_frame)
        e1000_intr
        tcp_v6_rcv(tcp_v6_do_rcv > tcp_rcv_state_process)
        tcp_send_ack_reflect_ect > e1000_xmit_frame
"""
ND = """
    sys_sendto > udpv6_sendmsg > ip6_output > ip6_finish_output2 > neigh_output >
        ndisc_solicit > e1000_xmit_frame;
    e1000_intr; deliver_skb > ipv6_rcv > icmpv6_rcv > xfrm6_policy_check ndisc_rcv
"""
ICMP6 = """
    sys_sendto > ip6_output > e1000_xmit_frame;
    ipv6_rcv > ip6_input > icmpv6_rcv > xfrm6_policy_check ip6_output
"""
ICMP6_ERROR = RECEIVE6 + "udpv6_rcv > xfrm6_policy_check icmp6_send >" + TO_DRIVER6
TO_ERR_HANDLER6 = (
    RECEIVE6 + "icmpv6_rcv > xfrm6_policy_check icmpv6_notify > udpv6_err > sk_error_report"
)
FORWARD6 = TO_IP6 + "ip6_forward > xfrm6_policy_check ip6_forward_finish >" + TO_DRIVER6
PACKET_RECV = (
    POLL
    + """
    netif_receive_skb > deliver_skb(ip_rcv > ip_rcv_finish > ip_local_deliver)
        deliver_skb > packet_rcv > sk_data_ready;
"""
    + READ
    + "packet_recvmsg > skb_recv_datagram skb_copy_datagram_iter"
)
PACKET_SEND = f"""
    sys_send > sys_sendto > {SEND} packet_sendmsg > packet_snd >
        packet_alloc_skb(sock_alloc_send_skb) packet_fill_skb(packet_parse_headers)
        packet_xmit > dev_queue_xmit > enqueue
        qdisc_run > qdisc_restart > dequeue
        dev_hard_start_xmit > dev_queue_xmit_nit e1000_xmit_frame
"""

TO_BRIDGE = (
    POLL
    + """
    netif_receive_skb > __netif_receive_skb_core > br_handle_frame > br_handle_frame_finish >
        br_fdb_update br_fdb_find_rcu
"""
)
BRIDGE_OUT = """
    br_forward > should_deliver __br_forward > br_forward_finish > br_dev_queue_push_xmit >
        is_skb_forwardable
        dev_queue_xmit > enqueue qdisc_run > qdisc_restart > dequeue
        dev_hard_start_xmit > dev_queue_xmit_nit e1000_xmit_frame
"""
BRIDGE_RECV = (
    TO_BRIDGE
    + """
    br_pass_frame_up > netif_receive_skb > deliver_skb > ip_rcv > ip_local_deliver > udp_rcv
"""
)
FROM_UDP = """
    udp_sendmsg > ip_output > ip_finish_output2 > neigh_output > dev_queue_xmit >
        dev_hard_start_xmit > dev_queue_xmit_nit
"""
BRIDGE_SEND = FROM_UDP + "br_dev_xmit > br_fdb_find_rcu" + BRIDGE_OUT
VLAN_SEND = (
    FROM_UDP
    + """
    vlan_dev_hard_start_xmit > dev_queue_xmit > enqueue qdisc_run > qdisc_restart > dequeue
        netif_skb_features vlan_hw_offload_capable
        dev_hard_start_xmit > dev_queue_xmit_nit e1000_xmit_frame
"""
)
VLAN_RECV = (
    POLL
    + """
    netif_receive_skb > __netif_receive_skb_core(vlan_find_dev vlan_do_receive)
        deliver_skb > ip_rcv > ip_local_deliver > udp_rcv > sk_data_ready
"""
)
VETH = """
    udp_sendmsg > ip_output > ip_finish_output2 > neigh_output > dev_queue_xmit >
        dev_hard_start_xmit(dev_queue_xmit_nit veth_xmit > veth_forward_skb >
            __dev_forward_skb(is_skb_forwardable skb_scrub_packet eth_type_trans)
            netif_rx > enqueue_to_backlog)
        net_rx_action > process_backlog > __netif_receive_skb > deliver_skb > ip_rcv >
            ip_local_deliver > udp_rcv > sk_data_ready
"""


UNIX_SEND = f"""
    sys_send > sys_sendto > {SEND} unix_stream_sendmsg >
        sock_alloc_send_pskb sk_data_ready > sock_def_readable
"""
UNIX_RECV = (
    READ + "unix_stream_recvmsg > unix_stream_read_generic > skb_copy_datagram_iter sock_wfree"
)

ACCEPT = """
    sys_socket > sock_create > inet_create;
    sys_bind > sockfd_lookup inet_bind;
    sys_listen > sockfd_lookup inet_listen > inet_csk_listen_start;
    sys_accept > sockfd_lookup sock_alloc inet_accept(inet_csk_accept) inet_getname;
    sock_close > inet_release > tcp_close > tcp_set_state(inet_unhash) inet_csk_listen_stop
"""
CALLS = """
    sys_getsockname > inet_getname; sys_getpeername > inet_getname;
    sys_setsockopt > sock_common_setsockopt > tcp_setsockopt;
    sys_getsockopt > sock_common_getsockopt > tcp_getsockopt;
    sys_ioctl > inet_ioctl > tcp_ioctl; tcp_poll;
    sys_shutdown > sockfd_lookup
        inet_shutdown > tcp_shutdown(tcp_close_state tcp_send_fin) release_sock
"""
CALLS6 = CALLS.replace("inet_getname", "inet6_getname").replace("inet_ioctl", "inet6_ioctl")
MESSAGE = f"""
    sys_sendmsg > {SEND} inet_sendmsg > tcp_sendmsg;
    sys_recvmsg > sock_recvmsg > __sock_recvmsg > security_sock_recvmsg
        inet_recvmsg > tcp_recvmsg >
            sk_wait_data(tcp_v4_rcv > tcp_rcv_established > sk_data_ready)
            skb_copy_datagram_iter
"""
ACCEPT6 = (
    ACCEPT.replace("inet_create", "inet6_create")
    .replace("inet_bind", "inet6_bind")
    .replace("inet_getname", "inet6_getname")
    .replace("inet_release", "inet6_release > inet_release")
)
BACKLOG = (
    f"{TO_IP} tcp_v4_early_demux {DELIVER} tcp_v4_rcv > xfrm_policy_check sk_add_backlog;"
    "release_sock > __release_sock > tcp_v4_do_rcv > tcp_rcv_established > sk_data_ready"
)
TCP_ERROR = (
    RECEIVE
    + "icmp_rcv > xfrm4_policy_check icmp_unreach > tcp_v4_err > sk_state_change sk_error_report"
)
TCP6_ERROR = RECEIVE6 + "icmpv6_rcv > icmpv6_notify > tcp_v6_err > sk_state_change sk_error_report"
UDP_CONNECT = """
    sys_socket > sock_create > inet_create;
    sys_connect > inet_dgram_connect > ip_route_connect;
    sock_close > inet_release > udp_close > sk_common_release
"""
IGMP = RECEIVE + "xfrm4_policy_check igmp_rcv"

FAMILIES = """
    inet_init > register_pernet_subsys; inet6_init > register_pernet_subsys;
    setup_net > sock_init arp_init
        inet_init_net(proto_register sock_register inet_add_protocol inet_register_protosw
            ip_init tcp_init dev_add_pack)
        inet6_net_init > proto_register sock_register
            tcpv6_init > inet6_add_protocol inet6_register_protosw
"""
DRIVER = """
    e1000_init_module > pci_register_driver;
    e1000_probe > alloc_etherdev(alloc_etherdev_mqs > alloc_netdev_mqs > ether_setup)
        register_netdev > register_netdevice > list_netdevice;
    dev_open > __dev_open > e1000_open > e1000_setup_all_tx_resources e1000_setup_all_rx_resources
        e1000_configure(e1000_alloc_rx_buffers) e1000_request_irq napi_enable netif_start_queue
"""


SHOWN = 400
"""Calls of a trace that a failure shows."""


@dataclass
class Wanted:
    """A call that a chain names, and those that it makes, directly or through others."""

    name: str
    calls: list[Wanted]


def parse(chain: str) -> list[Wanted]:
    """Read a chain. `a > b c > d`: a calls b, then c, which calls d. `a(b) c`: c follows on a,
    which calls b. `;` ends what the first one calls.
    """
    tokens = deque(re.findall(r"\w+|[>();]", chain))
    found = parse_calls(tokens)
    assert not tokens, f"unbalanced: {chain}"
    return found


def parse_calls(tokens: deque[str]) -> list[Wanted]:
    found: list[Wanted] = []
    level = found
    while tokens and (token := tokens.popleft()) != ")":
        if token == ";":
            level = found
        elif token == ">":
            level = level[-1].calls
        elif token == "(":
            level[-1].calls += parse_calls(tokens)
        else:
            level.append(Wanted(token, []))
    return found


def assert_calls(chain: str, calls: list[Call]) -> None:
    """Fail unless the calls of `chain` are made in its order and by whom it says."""
    ends: list[int] = [len(calls)] * len(calls)
    for at, call in enumerate(calls):
        for later in range(at + 1, len(calls)):
            if calls[later].depth <= call.depth:
                ends[at] = later
                break
    furthest = 0, ""

    def match(wanted: list[Wanted], start: int, end: int, caller: str, before: int) -> bool:
        nonlocal furthest
        if not wanted:
            return True
        first, *rest = wanted
        for at in range(start, end):
            if (
                calls[at].name == first.name
                and match(first.calls, at + 1, ends[at], first.name, before + 1)
                and match(rest, ends[at], end, caller, before + 1)
            ):
                return True
        furthest = max(furthest, (before, f"{first.name}, by {caller}"))
        return False

    if not match(parse(chain), 0, len(calls), "anybody", 0):
        shown = "\n".join("  " * call.depth + call.name for call in calls[:SHOWN])
        pytest.fail(f"not called, in its place: {furthest[1]}\n{shown}")


@pytest.mark.parametrize(
    ("chain", "holds"),
    [
        ("a > b c; d", True),
        ("a(b) d", True),
        ("a > c > e; d", True),
        ("a > e d", False),  # d is nobody's
        ("b > c", False),  # b calls nobody
        ("a > c b", False),  # the other way round
        ("a > b(e) c", False),
    ],
)
def test_a_chain_says_who_calls_whom(chain, holds):
    calls = [
        Call(name, depth, "", "") for name, depth in zip("abced", (0, 1, 1, 2, 0), strict=True)
    ]
    with nullcontext() if holds else pytest.raises(pytest.fail.Exception):
        assert_calls(chain, calls)


@pytest.mark.parametrize(
    ("kind", "chains"),
    [
        ("udp-send", [UDP_SEND]),
        ("udp-recv", [UDP_RECV, UDP_READ]),
        ("tcp-send", [TCP_SEND]),
        ("tcp-recv", [TCP_RECV]),
        ("tcp-connect", [CONNECT]),
        ("arp", [ARP]),
        ("icmp", [ICMP]),
        ("socket", [SOCKET]),
        ("tcp-close", [CLOSE]),
        ("forward", [FORWARD]),
        ("icmp-error", [ICMP_ERROR, TO_ERR_HANDLER]),
        ("raw", [RAW]),
        ("packet-recv", [PACKET_RECV]),
        ("packet-send", [PACKET_SEND]),
        ("blocked-qdisc", [BLOCKED]),
        ("completion", [COMPLETION]),
        ("xtp", [XTP]),
        ("socket6", [SOCKET6]),
        ("udp6-send", [UDP6_SEND]),
        ("udp6-recv", [UDP6_RECV, UDP6_READ]),
        ("tcp6-send", [TCP6_SEND]),
        ("tcp6-recv", [TCP6_RECV]),
        ("tcp6-connect", [CONNECT6]),
        ("nd", [ND]),
        ("icmp6", [ICMP6]),
        ("icmp6-error", [ICMP6_ERROR, TO_ERR_HANDLER6]),
        ("forward6", [FORWARD6]),
        ("bridge", [TO_BRIDGE + BRIDGE_OUT]),
        ("bridge-recv", [BRIDGE_RECV]),
        ("bridge-send", [BRIDGE_SEND]),
        ("vlan-send", [VLAN_SEND]),
        ("vlan-recv", [VLAN_RECV]),
        ("veth", [VETH]),
        ("unix-send", [UNIX_SEND]),
        ("unix-recv", [UNIX_RECV]),
        ("tcp-server", [ACCEPT]),
        ("tcp6-server", [ACCEPT6]),
        ("calls", [CALLS]),
        ("calls6", [CALLS6]),
        ("message", [MESSAGE]),
        ("backlog", [BACKLOG]),
        ("tcp-error", [TCP_ERROR]),
        ("tcp6-error", [TCP6_ERROR]),
        ("udp-connect", [UDP_CONNECT]),
        ("igmp", [IGMP]),
    ],
)
def test_calls_are_the_kernels(kind, chains):
    calls = record(kind)
    for chain in chains:
        assert_calls(chain, calls)


def test_early_demux_takes_the_place_of_the_route():
    scene = Scene()
    client, server = scene.tcp()
    client.send(b"x")
    tracer = Tracer(root=None)
    with tracer:
        scene.settle(0.001)
    assert_calls("ip_rcv_finish > tcp_v4_early_demux ip_local_deliver > tcp_v4_rcv", tracer.calls)
    assert "ip_route_input" not in [call.name for call in tracer.calls]
    client.close()
    server.close()
    scene.close()


@pytest.mark.parametrize(("family", "chain"), [(V4, LIST), (V6, LIST6)], ids=["IPv4", "IPv6"])
def test_packets_of_a_poll_go_up_as_a_list(family, chain):
    scene = Scene()
    sender, first = scene.udp(family)
    second = Socket(scene.b, family.af, SOCK_DGRAM)
    second.bind((family.b, 9001))
    local_bh_disable(scene.b.machine)
    for port in (9000, 9001):
        sender.sendto(b"x", (family.b, port))
        scene.settle(0.001)
    tracer = Tracer(root=None)
    with tracer:
        local_bh_enable(scene.b.machine)
    assert_calls(chain, tracer.calls)
    for sock in (sender, first, second):
        sock.close()
    scene.close()


def test_a_trace_under_virtual_time_is_the_same_twice():
    first, second = record("tcp-connect"), record("tcp-connect")
    assert [(c.name, c.depth) for c in first] == [(c.name, c.depth) for c in second]


def test_a_host_starts_and_its_driver_finds_a_nic():
    clock = VirtualClock()
    end, _ = pair(clock)
    tracer = Tracer(root=None)
    with tracer:
        host = Host("new", clock=clock, drivers=False)
        e1000_init_module(host.machine)
        add_nic(host, end, wait=False)
    assert_calls(FAMILIES, tracer.calls)
    assert_calls(DRIVER, tracer.calls)
    host.close()
