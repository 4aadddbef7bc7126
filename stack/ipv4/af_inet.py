"""The IPv4 family: its sockets and its initialization (net/ipv4/af_inet.c)."""

from __future__ import annotations

from typing import Any

from stack.core import uapi
from stack.core.bsd_socket import sock_exit_ops, sock_net_ops, sock_register, socket
from stack.core.dev_receive import dev_add_pack
from stack.core.eventpoll import eventpoll_net_ops
from stack.core.net_namespace import (
    pernet_operations,
    register_pernet_device,
    register_pernet_subsys,
)
from stack.core.netdevice import ETH_P_IP, packet_type
from stack.core.proto import net_proto_family, proto_register
from stack.core.sock import lock_sock, release_sock
from stack.core.sock_flags import SOCK_BINDADDR_LOCK
from stack.core.sockaddr import sockaddr
from stack.inet.af_ops import inet_register_af_ops
from stack.inet.early_demux import early_demux_init
from stack.inet.inet_common import (
    inet_bind_port,
    inet_check_peer,
    inet_check_port,
    inet_create_sock,
    inet_release,
    inet_start_sock,
)
from stack.inet.inet_ops import inet_proto_ops
from stack.inet.inet_sock import inet_sock
from stack.inet.pimreg import IPPROTO_PIM
from stack.inet.ping import ping_init
from stack.inet.protocol import inet_add_protocol, net_protocol, new_inet_protos
from stack.inet.protosw import (
    INET_PROTOSW_PERMANENT,
    INET_PROTOSW_REUSE,
    inet_protosw,
    inet_register_protosw,
    new_inetsw,
)
from stack.inet.raw import raw_init_net
from stack.inet.tcp import tcp_init
from stack.inet.udp import udp_init
from stack.inet.xfrm_policy import netns_xfrm
from stack.ipv4.af_ops import ipv4_af_ops
from stack.ipv4.arp import arp_net_ops
from stack.ipv4.datagram import check_bind_sockaddr, inet_bind_source
from stack.ipv4.devinet import devinet_net_ops
from stack.ipv4.fib import fib_add_ifaddr, fib_del_ifaddr, fib_modify_prefix_metric, ip_fib_init
from stack.ipv4.icmp import icmp_exit, icmp_init, icmp_rcv, icmp_send
from stack.ipv4.igmp import igmp_mc_init, igmp_protocol
from stack.ipv4.inet_ioctl import inet_compat_ioctl, inet_ioctl
from stack.ipv4.ip_forward import ip_forward
from stack.ipv4.ip_fragment import ip_frags_exit, ip_frags_init
from stack.ipv4.ip_input import ip_list_rcv, ip_local_deliver, ip_rcv
from stack.ipv4.ip_output import ip_mc_output, ip_output
from stack.ipv4.netns import ipv4_steps, netns_ipv4
from stack.ipv4.pim import pim_protocol
from stack.ipv4.ping import icmp_err, ping_prot
from stack.ipv4.raw import raw_prot
from stack.ipv4.route import ip_rt_init
from stack.ipv4.tcp_ipv4 import tcp_prot, tcp_protocol, tcp_sk_exit
from stack.ipv4.udp import udp_prot, udp_protocol
from stack.machine import Machine
from stack.net import Net


def inet_create(net: Net, sock: socket, protocol: int, kern: bool) -> None:
    """net/ipv4/af_inet.c: find (type, protocol) in inetsw and build the sock.

    Raises: OSError EINVAL, ESOCKTNOSUPPORT, EPROTONOSUPPORT, EPERM, or an error of prot->init.
    """
    inet_start_sock(sock, inet_create_sock(net, sock, uapi.PF_INET, net.inetsw, protocol, kern))


def inet_bind(sock: socket, uaddr: sockaddr, addr_len: int = 16) -> int:
    """net/ipv4/af_inet.c: local address and port. Raises: OSError."""
    sk: inet_sock = sock.sk
    if sk.sk_prot.bind is not None:
        return sk.sk_prot.bind(sk, uaddr, addr_len)
    return __inet_bind(sk, uaddr)


def __inet_bind(sk: inet_sock, uaddr: sockaddr) -> int:
    """net/ipv4/af_inet.c. Raises: OSError EADDRNOTAVAIL, EACCES, EINVAL, EADDRINUSE."""
    net = sk.net
    check_bind_sockaddr(uaddr)
    addr, snum = uaddr.addr, uaddr.port
    source = inet_bind_source(sk, addr)
    inet_check_port(net, snum)
    lock_sock(sk)
    try:
        inet_bind_port(sk, addr, source, snum)
        if addr:
            sk.sk_flags |= SOCK_BINDADDR_LOCK
        return 0
    finally:
        release_sock(sk)


def inet_getname(sock: socket, uaddr: Any, addr_len: int, peer: int) -> sockaddr:
    """net/ipv4/af_inet.c: the local address (`peer` 0) or the peer's (1; 2: a closed socket's too).

    Raises: OSError ENOTCONN.
    """
    sk = sock.sk
    if peer:
        inet_check_peer(sk, peer)
        return sockaddr(uapi.AF_INET, sk.inet_daddr, sk.inet_dport)
    return sockaddr(uapi.AF_INET, sk.inet_rcv_saddr or sk.inet_saddr, sk.inet_sport)


# --- tables --------------------------------------------------------------------------------


inet_stream_ops, inet_dgram_ops, inet_sockraw_ops = inet_proto_ops(
    uapi.PF_INET, inet_release, inet_bind, inet_getname, inet_ioctl, inet_compat_ioctl
)

inet_family_ops = net_proto_family(family=uapi.PF_INET, create=inet_create)

inetsw_array = (
    inet_protosw(
        uapi.SOCK_STREAM,
        uapi.IPPROTO_TCP,
        tcp_prot,
        inet_stream_ops,
        INET_PROTOSW_PERMANENT,
    ),
    inet_protosw(
        uapi.SOCK_DGRAM, uapi.IPPROTO_UDP, udp_prot, inet_dgram_ops, INET_PROTOSW_PERMANENT
    ),
    inet_protosw(
        uapi.SOCK_DGRAM, uapi.IPPROTO_ICMP, ping_prot, inet_sockraw_ops, INET_PROTOSW_REUSE
    ),
    inet_protosw(uapi.SOCK_RAW, uapi.IPPROTO_IP, raw_prot, inet_sockraw_ops, INET_PROTOSW_REUSE),
)

icmp_protocol = net_protocol(handler=icmp_rcv, err_handler=icmp_err, no_policy=True)


def inet_netns(net: Net) -> None:
    """Make a namespace's IPv4 state, with the input and output functions of routes."""
    steps = ipv4_steps(
        local_deliver=ip_local_deliver,
        forward=ip_forward,
        output=ip_output,
        mc_output=ip_mc_output,
        icmp_send=icmp_send,
        fib_add_ifaddr=fib_add_ifaddr,
        fib_del_ifaddr=fib_del_ifaddr,
        fib_modify_prefix_metric=fib_modify_prefix_metric,
    )
    net.ipv4 = netns_ipv4(net, steps)


def ip_init(net: Net) -> None:
    """net/ipv4/ip_output.c: routing first, then the multicast group state."""
    ip_rt_init(net)
    igmp_mc_init(net)


def inet_init_net(net: Net) -> None:
    """net/ipv4/af_inet.c: IPv4 of one namespace: sockets, protocols, routing, ICMP."""
    inet_netns(net)
    net.inet_protos = new_inet_protos()
    net.inetsw = new_inetsw()
    net.ra_chain = []
    net.xfrm = netns_xfrm()
    raw_init_net(net)
    ping_init(net)
    udp_init(net)
    for prot in (tcp_prot, udp_prot, raw_prot, ping_prot):
        proto_register(net, prot)
    sock_register(net, inet_family_ops)
    inet_add_protocol(net, icmp_protocol, uapi.IPPROTO_ICMP)
    inet_add_protocol(net, udp_protocol, uapi.IPPROTO_UDP)
    inet_add_protocol(net, igmp_protocol, uapi.IPPROTO_IGMP)
    inet_add_protocol(net, tcp_protocol, uapi.IPPROTO_TCP)
    inet_add_protocol(net, pim_protocol, IPPROTO_PIM)
    for row in inetsw_array:
        inet_register_protosw(net.inetsw, row)
    ip_init(net)
    ip_fib_init(net)
    ip_frags_init(net)
    tcp_init(net)
    early_demux_init(net, net.inet_protos, net.ipv4)
    icmp_init(net)
    net.ip_packet_type = packet_type(ETH_P_IP, ip_rcv, list_func=ip_list_rcv)
    dev_add_pack(net, net.ip_packet_type)


def inet_pre_exit(net: Net) -> None:
    """Free packets in reassembly, while the devices still work."""
    ip_frags_exit(net)
    icmp_exit(net)


af_inet_ops = pernet_operations(init=inet_init_net, pre_exit=inet_pre_exit, exit=tcp_sk_exit)


def inet_init(machine: Machine) -> None:
    """net/ipv4/af_inet.c: bring IPv4 up on a machine, in each of its namespaces."""
    inet_register_af_ops(ipv4_af_ops)
    for ops in (sock_net_ops, eventpoll_net_ops, arp_net_ops, devinet_net_ops, af_inet_ops):
        register_pernet_subsys(machine, ops)
    register_pernet_device(machine, sock_exit_ops)
