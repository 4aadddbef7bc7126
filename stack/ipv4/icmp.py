"""ICMP: answers, errors in both directions, rate limits (net/ipv4/icmp.c; RFC 792, 1122, 1812).

    ip_local_deliver_finish => icmp_rcv     checksum, broadcast rules, then by type ICMP_HANDLERS:
        icmp_echo, icmp_timestamp -> icmp_reply                 requests are answered
        icmp_unreach, icmp_redirect -> icmp_socket_deliver      errors about a packet of ours
            raw_icmp_error => inet_protos[protocol].err_handler     tcp_v4_err, udp_err
        icmp_echoreply -> ping_rcv
    code that drops a packet -> icmp_send               an error to the packet's sender
    icmp_reply, icmp_send
        icmpv4_global_allow, icmpv4_xrlim_allow         rate limits: host, then destination
        icmp_push_reply -> ip_append_data, icmp_push, ip_push_pending_frames

      0                   1                   2                   3
      0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
     |     Type      |     Code      |           Checksum            |
     |   `un`: Identifier, Sequence Number; or unused, MTU, gateway  |
     |   Data; an error quotes the packet that caused it             |

State: `net.ipv4.icmp_sk` sends all messages. While it is owned, no other message is sent, so that
an error about an ICMP message causes none (icmp_xmit_lock). Read icmp_send first.
"""

from __future__ import annotations

from collections.abc import Callable

from fastpath.base.skbuff import (
    CHECKSUM_UNNECESSARY,
    PACKET_HOST,
    consume_skb,
    pskb_may_pull,
    sk_buff,
    skb_copy_bits,
    skb_network_offset,
    skb_pull,
)
from fastpath.net.hdr import icmp_csum, icmp_hdr, icmp_push, ip_hdr, iphdr_at
from stack.core import drop_reason, uapi
from stack.core.bsd_socket import sock_create_kern
from stack.core.drop_reason import kfree_skb_reason
from stack.core.l3mdev import l3mdev_master_ifindex
from stack.core.netdevice import IFF_LOOPBACK
from stack.core.rows import narrow
from stack.core.sock_flags import SOCK_USE_WRITE_QUEUE
from stack.core.time64 import NSEC_PER_MSEC
from stack.core.uapi import (
    AF_INET,
    ICMP_HLEN,
    IP_HLEN,
    IP_PMTUDISC_DONT,
    IPPROTO_ICMP,
    IPPROTO_TCP,
    IPPROTO_UDP,
    MSG_DONTWAIT,
    SOCK_RAW,
)
from stack.inet.flow import flowi
from stack.inet.icmp_limit import (
    icmp_bxm,
    icmp_global_allow,
    icmp_global_consume,
    icmp_global_state,
    icmp_glue_bits,
    icmp_xmit_lock,
    icmp_xmit_unlock,
    inet_peer_xrlim_allow,
)
from stack.inet.icmp_probe import icmp_build_probe
from stack.inet.inet_sock import inet_sock
from stack.inet.multipath import fib_multipath_hash
from stack.inet.ping import ping_rcv
from stack.inet.raw import raw_icmp_error
from stack.inet.xfrm_policy import XFRM_POLICY_IN, xfrm4_policy_check
from stack.ipv4 import icmp_codes, route
from stack.ipv4.fib import inet_addr_type, inet_select_addr
from stack.ipv4.ip_options import (
    __ip_options_echo,
    fib_compute_spec_dst,
    inet_current_timestamp,
    received_options,
)
from stack.ipv4.ip_output import (
    ip4_reply_mark,
    ip_append_data,
    ip_finish_skb,
    ip_flush_pending_frames,
    ip_push_pending_frames,
    ipcm_cookie,
)
from stack.ipv4.route import (
    inet_getpeer_v4,
    ip_route_output_key,
    ip_route_output_key_hash,
    ipv4_mtu,
    rtable,
)
from stack.net import Net

ICMP_ERROR_MTU = 576  # RFC 1812 4.3.2.3: an error is at most 576 bytes, including the quoted packet
INADDR_DUMMY = 0xC0000008  # RFC 7600: 192.0.0.8 when there is no address to answer from


# SNMP names by type (net/ipv4/proc.c icmpmibmap)
ICMP_MIB_NAMES = {
    icmp_codes.ICMP_DEST_UNREACH: "DestUnreachs",
    icmp_codes.ICMP_TIME_EXCEEDED: "TimeExcds",
    icmp_codes.ICMP_PARAMETERPROB: "ParmProbs",
    icmp_codes.ICMP_SOURCE_QUENCH: "SrcQuenchs",
    icmp_codes.ICMP_REDIRECT: "Redirects",
    icmp_codes.ICMP_ECHO: "Echos",
    icmp_codes.ICMP_ECHOREPLY: "EchoReps",
    icmp_codes.ICMP_TIMESTAMP: "Timestamps",
    icmp_codes.ICMP_TIMESTAMPREPLY: "TimestampReps",
    icmp_codes.ICMP_ADDRESS: "AddrMasks",
    icmp_codes.ICMP_ADDRESSREPLY: "AddrMaskReps",
}


def icmp_out_count(net: Net, kind: int) -> None:
    """net/ipv4/icmp.c: count one message sent."""
    icmp = net.mib.icmp
    icmp.OutMsgs += 1
    outtype = net.mib.icmpmsg.outtype
    outtype[kind] = outtype.get(kind, 0) + 1
    name = ICMP_MIB_NAMES.get(kind)
    if name is not None:
        name = "Out" + name
        setattr(icmp, name, getattr(icmp, name) + 1)


def icmp_in_count(net: Net, kind: int) -> None:
    """net/ipv4/icmp.c (ICMPMSGIN): count one message received."""
    intype = net.mib.icmpmsg.intype
    intype[kind] = intype.get(kind, 0) + 1
    name = ICMP_MIB_NAMES.get(kind)
    if name is not None:
        icmp = net.mib.icmp
        name = "In" + name
        setattr(icmp, name, getattr(icmp, name) + 1)


# --- rate limits ---------------------------------------------------------------------------


def icmpv4_mask_allow(net: Net, kind: int, code: int) -> bool:
    """net/ipv4/icmp.c: whether this type is not rate limited."""
    if kind > icmp_codes.NR_ICMP_TYPES:
        return True
    if kind == icmp_codes.ICMP_DEST_UNREACH and code == icmp_codes.ICMP_FRAG_NEEDED:
        return True  # path MTU discovery must work
    return not 1 << kind & net.sysctl.icmp_ratemask


def icmpv4_global_allow(net: Net, kind: int, code: int) -> bool:
    """net/ipv4/icmp.c: the host-wide limit."""
    return icmpv4_mask_allow(net, kind, code) or icmp_global_allow(net)


def icmpv4_xrlim_allow(net: Net, rt: rtable, daddr: int, kind: int, code: int) -> bool:
    """net/ipv4/icmp.c: the limit per destination (sysctl icmp_ratelimit, ms)."""
    if icmpv4_mask_allow(net, kind, code) or rt.dev.flags & IFF_LOOPBACK:
        return True
    if inet_peer_xrlim_allow(
        net, inet_getpeer_v4(net, daddr), net.sysctl.icmp_ratelimit * NSEC_PER_MSEC
    ):
        icmp_global_consume(net)
        return True
    net.mib.icmp.OutRateLimitHost += 1
    return False


# --- sending -------------------------------------------------------------------------------


def icmp_push_reply(
    sk: inet_sock, param: icmp_bxm, fl4: flowi, ipc: ipcm_cookie, rt: rtable
) -> None:
    """net/ipv4/icmp.c: add the ICMP and IP headers and the checksum, and send."""
    net = sk.net
    length = len(param.head) + param.data_len
    try:
        ip_append_data(
            sk, fl4, icmp_glue_bits, param, length + ICMP_HLEN, ICMP_HLEN, ipc, rt, MSG_DONTWAIT
        )
    except OSError:
        net.mib.icmp.OutErrors += 1
        return
    skb = sk.sk_write_queue.peek()
    if skb is None:
        return
    icmp_push(skb, param.type, param.code, param.un)
    # As in Linux: __ip_make_skb takes a reply's type from the flow, where icmp_reply sets none.
    reply = param.type == icmp_codes.ICMP_EXT_ECHOREPLY or not is_error(param.type)
    icmp_out_count(net, icmp_codes.ICMP_ECHOREPLY if reply else param.type)
    ip_push_pending_frames(sk, ip_finish_skb(sk, fl4))


def icmp_reply_options(net: Net, ipc: ipcm_cookie, skb: sk_buff) -> int:
    """Set address and options of a message to the sender of `skb` (borrowed).

    Returns its first hop; -1: the received options cannot be answered.
    """
    daddr: int = ip_hdr(skb).saddr
    ipc.addr = daddr
    opt = received_options(skb)
    if opt is not None:
        reply = __ip_options_echo(net, skb, opt)
        if reply is None:
            return -1
        if reply.optlen:
            ipc.opt = reply
            if reply.srr:
                daddr = reply.faddr
    return daddr


def icmp_reply(param: icmp_bxm, skb: sk_buff) -> None:
    """net/ipv4/icmp.c: answer the request `skb` (borrowed, data behind its ICMP header)."""
    rt = skb.dst
    net = rt.net
    ipc = ipcm_cookie()
    daddr = icmp_reply_options(net, ipc, skb)
    if daddr < 0 or not icmpv4_global_allow(net, param.type, param.code):
        return
    sk = icmp_xmit_lock(net.ipv4.icmp_sk)
    if sk is None:
        return
    try:
        iph = ip_hdr(skb)
        sk.tos = iph.tos
        oif = l3mdev_master_ifindex(skb.dev)
        fl4 = flowi(AF_INET, daddr, fib_compute_spec_dst(skb), oif, iph.tos & 0x1C, IPPROTO_ICMP)
        fl4.flowi_mark = ipc.sockc_mark = ip4_reply_mark(net, skb.mark)
        try:
            out = ip_route_output_key(net, fl4)
        except OSError:
            return
        if icmpv4_xrlim_allow(net, out, narrow(fl4.daddr), param.type, param.code):
            icmp_push_reply(sk, param, fl4, ipc, out)
    finally:
        icmp_xmit_unlock(sk)


def icmp_send(skb_in: sk_buff, type: int, code: int, info: int) -> None:  # noqa: A002
    """net/ipv4/icmp.c: report an error about `skb_in` to its sender (RFC 1122 3.2.2).

    Borrows skb_in: network header set, route attached. `info` = the 4 bytes behind the checksum.
    Broadcasts, non-first fragments and ICMP errors cause no error; rate limits apply.
    """
    rt = skb_in.dst
    if rt is None:
        return
    net = rt.net
    iph = ip_hdr(skb_in)
    if skb_in.pkt_type != PACKET_HOST:
        return
    if rt.rt_flags & (route.RTCF_BROADCAST | route.RTCF_MULTICAST):
        return
    if iph.frag_off & route.IP_OFFSET:
        return
    offset = skb_network_offset(skb_in)
    protocol = iph.protocol
    saddr_in = iph.saddr
    error = is_error(type)
    if error and protocol == IPPROTO_ICMP:
        at = offset + iph.ihl * 4
        if skb_in.len - at < 1:
            return
        itype = skb_copy_bits(skb_in, at, 1)[0]
        if itype > icmp_codes.NR_ICMP_TYPES or is_error(itype):
            return
    dev = skb_in.dev
    local = dev is not None and dev.flags & IFF_LOOPBACK
    if not local and not icmpv4_global_allow(net, type, code):
        return
    sk = icmp_xmit_lock(net.ipv4.icmp_sk)
    if sk is None:
        return
    try:
        saddr = iph.daddr
        if not rt.rt_flags & route.RTCF_LOCAL:
            saddr = 0
            if rt.rt_is_input and net.sysctl.icmp_errors_use_inbound_ifaddr:
                came_by = net.dev_by_index.get(rt.rt_iif)
                if came_by is not None:
                    saddr = inet_select_addr(came_by, saddr_in, uapi.RT_SCOPE_LINK)
        tos = (iph.tos & 0x1E) | 0xC0 if error else iph.tos
        param = icmp_bxm(type, code, info, skb_in, offset)
        ipc = ipcm_cookie()
        ipc.tos = tos
        daddr = icmp_reply_options(net, ipc, skb_in)
        if daddr < 0:
            return
        oif = l3mdev_master_ifindex(skb_in.dev if rt.rt_is_input else rt.dev)
        fl4 = flowi(AF_INET, daddr, saddr, oif, tos & 0x1C, IPPROTO_ICMP)
        fl4.flowi_mark = ipc.sockc_mark = ip4_reply_mark(net, skb_in.mark)
        try:
            if net.ipv4.fib_multipath:  # by the route of the packet in question
                fl4.mp_hash = fib_multipath_hash(net, fl4, skb_in)
                out = ip_route_output_key_hash(net, fl4)
            else:
                out = ip_route_output_key(net, fl4)
        except OSError:
            return
        if not icmpv4_xrlim_allow(net, out, narrow(fl4.daddr), type, code):
            return
        room = min(ipv4_mtu(out), ICMP_ERROR_MTU)
        room -= IP_HLEN + (ipc.opt.optlen if ipc.opt is not None else 0) + ICMP_HLEN
        if room <= IP_HLEN:
            return
        param.data_len = min(skb_in.len - offset, room)
        if not fl4.saddr:
            fl4.saddr = INADDR_DUMMY
        icmp_push_reply(sk, param, fl4, ipc, out)
    finally:
        icmp_xmit_unlock(sk)


# --- receiving -----------------------------------------------------------------------------


NO_ERRORS = (
    icmp_codes.ICMP_ECHOREPLY,
    icmp_codes.ICMP_ECHO,
    icmp_codes.ICMP_TIMESTAMP,
    icmp_codes.ICMP_TIMESTAMPREPLY,
    icmp_codes.ICMP_INFO_REQUEST,
    icmp_codes.ICMP_INFO_REPLY,
    icmp_codes.ICMP_ADDRESS,
    icmp_codes.ICMP_ADDRESSREPLY,
)


def is_error(kind: int) -> bool:
    """net/ipv4/icmp.c icmp_pointers[].error: whether the type is an error about another packet.

    Linux treats unknown types below NR_ICMP_TYPES as errors, too.
    """
    return kind not in NO_ERRORS


def icmp_rcv(skb: sk_buff) -> int:
    """net/ipv4/icmp.c: receive an ICMP message, data at its header. Takes ownership of skb."""
    rt = skb.dst
    net = rt.net
    if not xfrm4_policy_check(None, XFRM_POLICY_IN, skb):
        kfree_skb_reason(net, skb, drop_reason.SKB_DROP_REASON_XFRM_POLICY)
        return 0
    mib = net.mib.icmp
    mib.InMsgs += 1
    if skb.ip_summed != CHECKSUM_UNNECESSARY and icmp_csum(skb):
        mib.InCsumErrors += 1
        mib.InErrors += 1
        kfree_skb_reason(net, skb, drop_reason.SKB_DROP_REASON_ICMP_CSUM)
        return 0
    if not pskb_may_pull(skb, ICMP_HLEN):
        mib.InErrors += 1
        kfree_skb_reason(net, skb, drop_reason.SKB_DROP_REASON_PKT_TOO_SMALL)
        return 0
    icmph = icmp_hdr(skb)
    kind = icmph.type
    skb_pull(skb, ICMP_HLEN)
    icmp_in_count(net, kind)
    if kind == icmp_codes.ICMP_EXT_ECHO:
        icmp_echo(skb)
        consume_skb(skb)
        return 0
    if rt.rt_flags & (route.RTCF_BROADCAST | route.RTCF_MULTICAST):
        # RFC 1122 3.2.2.6, 3.2.2.8: requests to a group may be ignored, other messages must be.
        if kind in (icmp_codes.ICMP_ECHO, icmp_codes.ICMP_TIMESTAMP):
            if net.sysctl.icmp_echo_ignore_broadcasts:
                mib.InErrors += 1
                kfree_skb_reason(net, skb, drop_reason.SKB_DROP_REASON_INVALID_PROTO)
                return 0
        elif kind not in (icmp_codes.ICMP_ADDRESS, icmp_codes.ICMP_ADDRESSREPLY):
            mib.InErrors += 1
            kfree_skb_reason(net, skb, drop_reason.SKB_DROP_REASON_INVALID_PROTO)
            return 0
    if kind == icmp_codes.ICMP_EXT_ECHOREPLY:
        ping_rcv(skb)
        consume_skb(skb)
        return 0
    if kind > icmp_codes.NR_ICMP_TYPES:  # RFC 1122 3.2.2: unknown types are silently discarded
        mib.InErrors += 1
        kfree_skb_reason(net, skb, drop_reason.SKB_DROP_REASON_UNHANDLED_PROTO)
        return 0
    handler = ICMP_HANDLERS.get(kind)
    if handler is None or handler(skb):
        consume_skb(skb)
    else:
        mib.InErrors += 1
        kfree_skb_reason(net, skb, drop_reason.SKB_DROP_REASON_NOT_SPECIFIED)
    return 0


def icmp_echo(skb: sk_buff) -> bool:
    """net/ipv4/icmp.c: answer an echo request with its own data (RFC 1122 3.2.2.6), code included.

    RFC 792 says of the reply that only addresses, type and checksum change. An extended request is
    answered by icmp_build_probe.
    """
    net = skb.dst.net
    if net.sysctl.icmp_echo_ignore_all:
        return True
    icmph = icmp_hdr(skb)
    param = icmp_bxm(icmp_codes.ICMP_ECHOREPLY, icmph.code, icmph.un, skb, 0, skb.len)
    if icmph.type == icmp_codes.ICMP_EXT_ECHO:
        told = icmp_build_probe(net, skb, icmph.un)
        if told is None:
            return True
        param.type = icmp_codes.ICMP_EXT_ECHOREPLY
        param.code, param.un = told
    icmp_reply(param, skb)
    return True


def icmp_timestamp(skb: sk_buff) -> bool:
    """net/ipv4/icmp.c: answer a time stamp request (RFC 1122 3.2.2.8); False when too short."""
    if not pskb_may_pull(skb, 4):
        return False
    now = inet_current_timestamp(skb.dst.net).to_bytes(4, "big")
    param = icmp_bxm(icmp_codes.ICMP_TIMESTAMPREPLY, 0, icmp_hdr(skb).un, skb)
    param.head = skb_copy_bits(skb, 0, 4) + now + now
    icmp_reply(param, skb)
    return True


def icmp_echoreply(skb: sk_buff) -> bool:
    """net/ipv4/icmp.c (ping_rcv): give an echo reply to its ping socket."""
    ping_rcv(skb)
    return True


def icmp_redirect(skb: sk_buff) -> bool:
    """net/ipv4/icmp.c: a better first hop for the embedded packet; False when too short."""
    if skb.len < IP_HLEN or not pskb_may_pull(skb, IP_HLEN):
        return False
    icmp_socket_deliver(skb, icmp_hdr(skb).gateway)
    return True


def icmp_unreach(skb: sk_buff) -> bool:
    """net/ipv4/icmp.c: report unreachable, time exceeded and parameter problem to the transport.

    Data at the embedded IP header. False when malformed.
    """
    net = skb.dst.net
    if not pskb_may_pull(skb, IP_HLEN):
        return False
    icmph = icmp_hdr(skb)
    kind, code = icmph.type, icmph.code
    iph = iphdr_at(skb, 0)
    if iph.ihl < 5:
        return False
    info = 0
    if kind == icmp_codes.ICMP_DEST_UNREACH:
        if code == icmp_codes.ICMP_FRAG_NEEDED:
            mode = net.sysctl.ip_no_pmtu_disc
            if mode == 2 or (mode == 3 and not icmp_tag_validation(net, iph.protocol)):
                return True
            if mode != 1:
                info = icmph.mtu  # a router older than RFC 1191 sends 0: min_pmtu is used
        if code > icmp_codes.NR_ICMP_UNREACH:
            return True
    elif kind == icmp_codes.ICMP_PARAMETERPROB:
        info = icmph.gateway >> 24
    elif kind == icmp_codes.ICMP_TIME_EXCEEDED and code == icmp_codes.ICMP_EXC_FRAGTIME:
        return True
    # RFC 1122 3.2.2: errors about broadcasts we never sent are bogus.
    if (
        not net.sysctl.icmp_ignore_bogus_error_responses
        and inet_addr_type(net, iph.daddr) == uapi.RTN_BROADCAST
    ):
        return True
    icmp_socket_deliver(skb, info)
    return True


def icmp_tag_validation(net: Net, protocol: int) -> bool:
    """net/ipv4/icmp.c: whether the transport checks that it sent the quoted packet."""
    ipprot = net.inet_protos[protocol]
    return ipprot is not None and ipprot.icmp_strict_tag_validation


def icmp_socket_deliver(skb: sk_buff, info: int) -> None:
    """net/ipv4/icmp.c: raw sockets first, then the protocol's err_handler. Borrows skb."""
    net = skb.dst.net
    iph = iphdr_at(skb, 0)
    protocol = iph.protocol
    offset = iph.ihl * 4
    # RFC 792: at least 8 bytes of the transport header are quoted.
    if not pskb_may_pull(skb, offset + 8):
        net.mib.icmp.InErrors += 1
        return
    raw_icmp_error(skb, AF_INET, protocol, iph.daddr, iph.saddr, offset, info)
    if iph.version != 4 and protocol in (IPPROTO_TCP, IPPROTO_UDP):  # we have not sent it
        net.mib.icmp.InErrors += 1
        return
    ipprot = net.inet_protos[protocol]
    if ipprot is not None and ipprot.err_handler is not None:
        ipprot.err_handler(skb, info)


# net/ipv4/icmp.c icmp_pointers[]: handlers by type; types without a row are discarded
ICMP_HANDLERS: dict[int, Callable[[sk_buff], bool]] = {
    icmp_codes.ICMP_ECHOREPLY: icmp_echoreply,
    icmp_codes.ICMP_DEST_UNREACH: icmp_unreach,
    icmp_codes.ICMP_SOURCE_QUENCH: icmp_unreach,
    icmp_codes.ICMP_REDIRECT: icmp_redirect,
    icmp_codes.ICMP_ECHO: icmp_echo,
    icmp_codes.ICMP_TIME_EXCEEDED: icmp_unreach,
    icmp_codes.ICMP_PARAMETERPROB: icmp_unreach,
    icmp_codes.ICMP_TIMESTAMP: icmp_timestamp,
}


def inet_ctl_sock_create(net: Net, family: int, kind: int, protocol: int) -> inet_sock:
    """net/ipv4/af_inet.c: make a socket for the stack's own use, which no lookup finds."""
    sk: inet_sock = sock_create_kern(net, family, kind, protocol).sk
    if sk.sk_prot.unhash is not None:
        sk.sk_prot.unhash(sk)
    return sk


def icmp_init(net: Net) -> None:
    """net/ipv4/icmp.c: make the socket that sends, and the host-wide limit."""
    sk = inet_ctl_sock_create(net, AF_INET, SOCK_RAW, IPPROTO_ICMP)
    sk.pmtudisc = IP_PMTUDISC_DONT
    # Enough for two 64 KiB echo replies at once.
    sk.sk_sndbuf = 2 * 65536 * 2
    sk.sk_flags |= SOCK_USE_WRITE_QUEUE
    net.ipv4.icmp_sk = sk
    net.ipv4.icmp_global = icmp_global_state(net.sysctl.icmp_msgs_burst, net.clock.now_ns())


def icmp_exit(net: Net) -> None:
    """Free a message that is being built."""
    ip_flush_pending_frames(net.ipv4.icmp_sk)
