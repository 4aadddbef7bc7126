"""UDP (net/ipv4/udp.c; RFC 768, 1122 4.1).

A received checksum is verified when the datagram is queued, not (as in Linux) when it is read: the
reader sees the same, and poll never promises a datagram that turns out bad.
"""

from __future__ import annotations

import errno
import sys
from typing import TYPE_CHECKING, Any

from fastpath.gso import udp_rcv_segment
from fastpath.hdr import ip_hdr, iphdr_at, udp4_send_check, udp_hdr, udp_push, udphdr_at
from fastpath.inet import UdpFlow, skb_queue_owned
from fastpath.inetkey import inet_key, udp_name, udp_name_consume, udp_rcv_key
from fastpath.skbuff import (
    CHECKSUM_NONE,
    CHECKSUM_PARTIAL,
    CHECKSUM_UNNECESSARY,
    SKB_GSO_UDP_L4,
    consume_skb,
    kfree_skb,
    pskb_may_pull,
    pskb_trim_rcsum,
    sk_buff,
    skb_checksum_complete,
    skb_checksum_init,
    skb_clone,
)
from stack.core.datagram import __skb_recv_datagram, datagram_poll, skb_wait_forever
from stack.core.dev_notifier import register_netdevice_notifier
from stack.core.drop_reason import (
    SKB_DROP_REASON_NO_SOCKET,
    SKB_DROP_REASON_PKT_TOO_SMALL,
    SKB_DROP_REASON_PROTO_MEM,
    SKB_DROP_REASON_SOCKET_FILTER,
    SKB_DROP_REASON_SOCKET_RCVBUFF,
    SKB_DROP_REASON_UDP_CSUM,
    kfree_skb_reason,
)
from stack.core.iov import msghdr, skb_copy_datagram_iter
from stack.core.netdevice import NETDEV_UP, NETIF_F_HW_CSUM, NETIF_F_IP_CSUM
from stack.core.rows import row, state
from stack.core.sk_mem import proto_mem_of_ram, sk_rmem_schedule
from stack.core.sock import (
    SOCK_BROADCAST,
    SOCK_DEAD,
    SOCK_LOCALROUTE,
    SOCK_RCVTSTAMP,
    SOCK_RXQ_OVFL,
    SOCK_TIMESTAMP,
    lock_sock,
    os_error,
    release_sock,
    sk_common_release,
    sk_dst_check,
    sk_dst_set,
    sk_filter,
    skb_orphan,
    sock_rfree,
    sock_wfree,
)
from stack.core.sockaddr import sockaddr
from stack.core.sockopt import int_bytes, opt_bytes, opt_int, put_cmsg, sock_recv_cmsgs
from stack.core.tcp_states import TCP_ESTABLISHED
from stack.core.uapi import (
    AF_INET,
    IP_PMTUDISC_DO,
    IP_PMTUDISC_DONT,
    IP_PMTUDISC_OMIT,
    IP_PMTUDISC_PROBE,
    IP_PMTUDISC_WANT,
    IPPROTO_UDP,
    MSG_CONFIRM,
    MSG_DONTROUTE,
    MSG_DONTWAIT,
    MSG_ERRQUEUE,
    MSG_MORE,
    MSG_NOSIGNAL,
    MSG_OOB,
    MSG_PEEK,
    MSG_PROBE,
    MSG_TRUNC,
    SIOCINQ,
    SIOCOUTQ,
    SOL_UDP,
    UDP_CORK,
    UDP_GRO,
    UDP_SEGMENT,
)
from stack.inet.af_ops import InetKey, inet_rcv_saddr_equal, inet_sk_key, inet_sk_takes
from stack.inet.datagram import check_sockaddr, ip4_datagram_connect, udp_disconnect
from stack.inet.flow import flowi
from stack.inet.inet_hashtables import inet_sk_get_local_port_range
from stack.inet.inet_sock import inet_sock
from stack.inet.protocol import net_protocol, proto
from stack.ipv4.fib import RT_SCOPE_LINK, RT_SCOPE_UNIVERSE
from stack.ipv4.icmp import (
    ICMP_DEST_UNREACH,
    ICMP_FRAG_NEEDED,
    ICMP_PARAMETERPROB,
    ICMP_PORT_UNREACH,
    ICMP_REDIRECT,
    ICMP_SOURCE_QUENCH,
    ICMP_TIME_EXCEEDED,
    NR_ICMP_UNREACH,
    icmp_err_convert,
    icmp_hdr,
    icmp_send,
)
from stack.ipv4.igmp import ip_mc_sf_allow
from stack.ipv4.ip_output import (
    LL_MAX_HEADER,
    ip_append_data,
    ip_finish_skb,
    ip_flush_pending_frames,
    ip_generic_getfrag,
    ip_make_skb,
    ip_push_pending_frames,
    ip_select_ttl,
    ip_sk_accept_pmtu,
    ipcm_cookie,
)
from stack.ipv4.ip_sockglue import (
    ip_cmsg_recv_offset,
    ip_cmsg_send,
    ip_getsockopt,
    ip_icmp_error,
    ip_recv_error,
    ip_setsockopt,
    ipv4_pktinfo_prepare,
)
from stack.ipv4.route import (
    IPTOS_RT_MASK,
    RTCF_BROADCAST,
    RTCF_MULTICAST,
    ip_route_output_flow,
    ipv4_sk_redirect,
    ipv4_sk_update_pmtu,
)

if TYPE_CHECKING:
    from stack.core.dst import dst_entry
    from stack.core.sockaddr import sockaddr
    from stack.inet.flow import flowi

UDP_HLEN = 8
IP_UDP_HLEN = 28
UDP_MAX_SEGMENTS = 128


class udp_table:
    """struct udp_table: sockets of both families by local port, connected ones by `inet_sk_key`."""

    __slots__ = ("connected", "gro_wanted", "ports")

    def __init__(self) -> None:
        self.gro_wanted = False
        self.ports: dict[int, list[Any]] = {}
        self.connected: dict[InetKey, Any] = {}


@state
class udp_sock(inet_sock):
    """struct udp_sock. `len` = bytes of the corked datagram, UDP header included."""

    corkflag: bool = row(False)
    gro_enabled: bool = row(False)
    gso_size: int = row(0)
    len: int = row(0)
    udp_tuple: InetKey | None = row()
    udp_fl4: flowi | None = row()
    """See udp_send_plain."""
    udp_fl4_rt: dst_entry | None = row()
    udp_name: sockaddr | None = row()
    """Where the datagrams of sk_tx_flow were asked to go."""
    udp_room: int = row(0)
    """The largest datagram of sk_tx_flow."""


# --- ports and look-up ---------------------------------------------------------------------


def udp_lib_lport_inuse(sk: Any, others: list[Any]) -> bool:
    """net/ipv4/udp.c: does a socket of this port conflict with sk's bind?"""
    for sk2 in others:
        if sk2 is sk:
            continue
        if sk2.sk_reuse and sk.sk_reuse:
            continue
        d1, d2 = sk.sk_bound_dev_if, sk2.sk_bound_dev_if
        if d1 and d2 and d1 != d2:
            continue
        if not inet_rcv_saddr_equal(sk, sk2):
            continue
        if sk.sk_reuseport and sk2.sk_reuseport:
            continue
        return True
    return False


def udp_lib_get_port(sk: Any, snum: int) -> int:
    """net/ipv4/udp.c: take port `snum`, or a free one for 0. 0 on success, 1 when taken."""
    net = sk.net
    ports = net.udp_table.ports
    if not snum:
        low, high = inet_sk_get_local_port_range(sk)
        span = high - low + 1
        reserved = net.sysctl.ip_local_reserved_ports
        start = net.random.randrange(span)
        for i in range(span):
            port = low + (start + i) % span
            if port in reserved:
                continue
            others = ports.get(port)
            if others is None or not udp_lib_lport_inuse(sk, others):
                snum = port
                break
        else:
            return 1
    else:
        others = ports.get(snum)
        if others is not None and udp_lib_lport_inuse(sk, others):
            return 1
    sk.inet_num = snum
    ports.setdefault(snum, []).append(sk)
    return 0


def udp_v4_get_port(sk: Any, snum: int) -> int:
    """net/ipv4/udp.c"""
    return udp_lib_get_port(sk, snum)


def udp_lib_unhash(sk: Any) -> None:
    """net/ipv4/udp.c: give the port back."""
    table = sk.net.udp_table
    udp_unhash4(sk)
    bucket = table.ports.get(sk.inet_num)
    if bucket is not None and sk in bucket:
        bucket.remove(sk)
        if not bucket:
            del table.ports[sk.inet_num]
        sk.inet_num = 0


del_from_prot_list = udp_lib_unhash  # kernel-flow.md: the old name


def udp_unhash4(sk: Any) -> None:
    """net/ipv4/udp.c: leave the table of connected sockets."""
    connected = sk.net.udp_table.connected
    if sk.udp_tuple is not None:
        if connected.get(sk.udp_tuple) is sk:
            del connected[sk.udp_tuple]
        sk.udp_tuple = None


def udp_v4_rehash(sk: Any) -> None:
    """net/ipv4/udp.c: addresses changed: find the sock under its new ones."""
    udp_unhash4(sk)
    sk.udp_fl4 = sk.udp_fl4_rt = sk.sk_tx_flow = None
    if (
        sk.sk_state == TCP_ESTABLISHED
        and sk.inet_num
        and sk.inet_rcv_saddr
        and not sk.sk_bound_dev_if
        and not sk.sk_reuseport
    ):
        key = inet_sk_key(sk)
        if key not in sk.net.udp_table.connected:
            sk.net.udp_table.connected[key] = sk
            sk.udp_tuple = key


def compute_score(sk: Any, key: InetKey, dif: int) -> int:
    """net/ipv4/udp.c: how well a sock fits a packet; -1 when not at all."""
    family, saddr, sport, daddr, _ = key
    af = sk.sk_af
    score = 1
    if af.family == family:
        score = 2
    elif not af.takes(sk, family):
        return -1
    if sk.inet_rcv_saddr:
        if sk.inet_rcv_saddr != daddr:
            return -1
        score += 64  # the kernel looks for the exact address first
    if sk.inet_daddr:
        if sk.inet_daddr != saddr:
            return -1
        score += 4
    if sk.inet_dport:
        if sk.inet_dport != sport:
            return -1
        score += 4
    if sk.sk_bound_dev_if:
        if sk.sk_bound_dev_if != dif:
            return -1
        score += 4
    return score


def __udp_lib_lookup(net: Any, key: InetKey, dif: int) -> Any:
    """net/ipv{4,6}/udp.c (__udp4_lib_lookup): the sock a datagram belongs to, or None."""
    table = net.udp_table
    if table.connected:
        sk = table.connected.get(key)
        if sk is not None:
            return sk
    bucket = table.ports.get(key[4])
    if bucket is None:
        return None
    if len(bucket) == 1:
        sk = bucket[0]
        rcv_saddr = sk.inet_rcv_saddr
        if not (
            sk.inet_daddr
            or sk.inet_dport
            or sk.sk_bound_dev_if
            or (rcv_saddr and rcv_saddr != key[3])
            or sk.sk_af.family != key[0]
        ):
            return sk  # compute_score, in place, for the usual socket
        return sk if compute_score(sk, key, dif) >= 0 else None
    best: Any = None
    badness = -1
    group: list[Any] | None = None
    for sk in bucket:
        score = compute_score(sk, key, dif)
        if score > badness:
            best, badness = sk, score
            group = [sk] if sk.sk_reuseport else None
        elif score == badness and group is not None and score >= 0 and sk.sk_reuseport:
            group.append(sk)
    if group is not None and len(group) > 1 and best.sk_state != TCP_ESTABLISHED:
        return group[hash((key, net.ipv4.secret)) % len(group)]
    return best


def udp4_lib_lookup_skb(skb: sk_buff, sport: int, dport: int) -> Any:
    """net/ipv4/udp.c: __udp4_lib_lookup for a received packet."""
    iph = ip_hdr(skb)
    dev = skb.dev
    key = AF_INET, iph.saddr, sport, iph.daddr, dport
    return __udp_lib_lookup(dev.net, key, dev.ifindex)


# --- sending -------------------------------------------------------------------------------


def udp_cmsg_send(sk: Any, msg: msghdr, ipc: ipcm_cookie) -> None:
    """net/ipv4/udp.c: control messages of a sendmsg. Raises: OSError EINVAL."""
    rest = []
    for level, kind, data in msg.msg_control or ():
        if level == SOL_UDP and kind == UDP_SEGMENT:
            raw = data if isinstance(data, int) else opt_bytes(data)
            if not isinstance(raw, int):
                if len(raw) != 2:
                    raise OSError(errno.EINVAL, "UDP_SEGMENT is a 16-bit number")
                raw = int.from_bytes(raw, sys.byteorder)
            ipc.gso_size = raw
        else:
            rest.append((level, kind, data))
    ip_cmsg_send(sk, rest, ipc)


def udp_sendmsg(sk: Any, msg: msghdr, length: int) -> int:
    """net/ipv4/udp.c: send one datagram (or, corked, a piece of one). Returns `length`.

    Raises: OSError EMSGSIZE, EOPNOTSUPP, EINVAL, EDESTADDRREQ, EACCES, EAGAIN, routing errors.
    """
    flow = sk.sk_tx_flow
    if flow is not None:
        name = msg.msg_name
        rt = sk.sk_dst_cache
        if (
            (name is sk.udp_name or name == sk.udp_name)
            and rt is sk.udp_fl4_rt
            and not (
                msg.msg_flags & ~(MSG_DONTWAIT | MSG_NOSIGNAL)
                or msg.msg_control
                or msg.more
                or rt.obsolete
                or sk.sk_err
                or sk.sk_shutdown
            )
            and length <= sk.udp_room
            and sk.sk_wmem_alloc < sk.sk_sndbuf
        ):
            # The socket's last datagram went the same way: ip_make_skb and udp_send_skb, in place.
            skb = flow.datagram(msg.buf, msg.off, length)
            if skb is None:
                raise OSError(errno.ENOBUFS, "no packet buffer left on the host")
            msg.off += length
            msg.count = 0
            sk.sk_wmem_alloc += skb.truesize
            err = ip_push_pending_frames(sk, sk.udp_fl4, skb, flow)
            if err:
                udp_send_failed(sk, err)
            else:
                sk.net.mib.udp.OutDatagrams += 1
            return length
    if length > 0xFFFF:
        raise OSError(errno.EMSGSIZE, f"{length} bytes do not fit a UDP datagram")
    net = sk.net
    flags = msg.msg_flags
    if flags & MSG_OOB:
        raise OSError(errno.EOPNOTSUPP, "UDP has no urgent data")
    corkreq = sk.corkflag or flags & MSG_MORE
    if sk.pending:
        lock_sock(sk)
        if sk.pending:
            return udp_append(sk, msg, length, None, None, None, corkreq)
        release_sock(sk)
    ulen = length + UDP_HLEN
    name = msg.msg_name
    if name is not None:
        daddr, dport = name.addr, name.port
        if name.family != AF_INET:
            check_sockaddr(name)
        if not dport:
            raise OSError(errno.EINVAL, "port 0 cannot be sent to")
        connected = False
    else:
        if sk.sk_state != TCP_ESTABLISHED:
            raise OSError(errno.EDESTADDRREQ, "no destination: not connected and no address given")
        daddr = sk.inet_daddr
        dport = sk.inet_dport
        connected = True
    if not (
        corkreq
        or msg.msg_control
        or flags & ~(MSG_DONTWAIT | MSG_NOSIGNAL)
        or sk.inet_opt is not None
        or sk.gso_size
        or sk.sk_flags & SOCK_LOCALROUTE
        or daddr >> 28 == 0xE
    ):
        return udp_send_plain(sk, msg, length, daddr, dport)
    ipc = ipcm_cookie(sk)
    ipc.gso_size = sk.gso_size
    if msg.msg_control:
        udp_cmsg_send(sk, msg, ipc)
        connected = False
    if ipc.opt is None:
        ipc.opt = sk.inet_opt
    saddr = ipc.addr
    ipc.addr = faddr = daddr
    if ipc.opt is not None and ipc.opt.srr:
        if not daddr:
            raise OSError(errno.EINVAL, "a source route needs a destination")
        faddr = ipc.opt.faddr
        connected = False
    tos = sk.tos if ipc.tos == -1 else ipc.tos
    scope = RT_SCOPE_UNIVERSE
    if (
        sk.sk_flags & SOCK_LOCALROUTE
        or flags & MSG_DONTROUTE
        or (ipc.opt is not None and ipc.opt.is_strictroute)
    ):
        scope = RT_SCOPE_LINK
        connected = False
    if daddr >> 28 == 0xE:
        if not ipc.oif:
            ipc.oif = sk.mc_index
        if not saddr:
            saddr = sk.mc_addr
        connected = False
    elif not ipc.oif:
        ipc.oif = sk.uc_index
    rt = sk_dst_check(sk, 0) if connected else None
    if rt is None:
        fl4 = flowi(
            AF_INET,
            faddr,
            saddr,
            ipc.oif,
            tos & IPTOS_RT_MASK,
            sk.sk_protocol,
            dport,
            sk.inet_sport,
            1 if sk.transparent else 0,
            ipc.sockc_mark,
            scope,
        )
        try:
            rt = ip_route_output_flow(net, fl4, sk)
        except OSError as exc:
            if exc.errno == errno.ENETUNREACH:
                net.mib.ip.OutNoRoutes += 1
            raise
        if rt.rt_flags & RTCF_BROADCAST and not sk.sk_flags & SOCK_BROADCAST:
            raise PermissionError(errno.EACCES, "sending to a broadcast needs SO_BROADCAST")
        if connected:
            sk_dst_set(sk, rt)
        if not ipc.addr:
            ipc.addr = fl4.daddr
    else:
        fl4 = flowi(
            AF_INET, faddr, saddr or rt.rt_src, ipc.oif, tos, sk.sk_protocol, dport, sk.inet_sport
        )
    if flags & MSG_CONFIRM:
        if rt.neigh is not None:
            from stack.core.neighbour import neigh_confirm

            neigh_confirm(rt.neigh)
        if flags & MSG_PROBE and not length:
            return 0
    if not corkreq:
        cork = sk.cork
        skb = ip_make_skb(sk, fl4, ip_generic_getfrag, msg, ulen, UDP_HLEN, ipc, rt, cork, flags)
        if skb is None:
            return length
        err = udp_send_skb(skb, fl4, cork)
        if err:
            raise_send_error(sk, err)
        return length
    lock_sock(sk)
    if sk.pending:
        release_sock(sk)
        raise OSError(errno.EINVAL, "another datagram is being collected on this socket")
    sk.pending = 1
    sk.len = 0
    sk.sk_tx_flow = None  # what comes next is a piece of this datagram
    return udp_append(sk, msg, length, fl4, ipc, rt, corkreq)


def udp_send_plain(sk: Any, msg: msghdr, length: int, daddr: int, dport: int) -> int:
    """udp_sendmsg's lockless path when no option, flag or control message has a say.

    The socket keeps the flow of its last datagram, and its headers ready in sk_tx_flow. They hold
    while the route is the one in sk_dst_cache and is not obsolete, and until any setsockopt.
    """
    fl4 = sk.udp_fl4
    rt = sk.sk_dst_cache
    if (
        rt is None
        or rt.obsolete
        or rt is not sk.udp_fl4_rt
        or fl4.daddr != daddr
        or fl4.fl_dport != dport
    ):
        net = sk.net
        fl4 = flowi(
            AF_INET,
            daddr,
            sk.inet_saddr,
            sk.sk_bound_dev_if or sk.uc_index,
            sk.tos & IPTOS_RT_MASK,
            IPPROTO_UDP,
            dport,
            sk.inet_sport,
            1 if sk.transparent else 0,
            sk.sk_mark,
        )
        try:
            rt = ip_route_output_flow(net, fl4, sk)
        except OSError as exc:
            if exc.errno == errno.ENETUNREACH:
                net.mib.ip.OutNoRoutes += 1
            raise
        if rt.rt_flags & RTCF_BROADCAST and not sk.sk_flags & SOCK_BROADCAST:
            raise PermissionError(errno.EACCES, "sending to a broadcast needs SO_BROADCAST")
        sk_dst_set(sk, rt)
        sk.udp_fl4 = fl4
        sk.udp_fl4_rt = rt
    udp_make_flow(sk, fl4, rt)
    sk.udp_name = msg.msg_name
    cork = sk.cork
    skb = ip_make_skb(
        sk, fl4, ip_generic_getfrag, msg, length + UDP_HLEN, UDP_HLEN, None, rt, cork, msg.msg_flags
    )
    err = udp_send_skb(skb, fl4, cork)  # type: ignore[arg-type]
    if err:
        raise_send_error(sk, err)
    return length


def udp_make_flow(sk: Any, fl4: Any, rt: Any) -> None:
    """Have the headers of a socket's datagrams to one destination ready (see udp_send_plain).

    Every socket option and every other destination forgets them.
    """
    dev = rt.dev
    sk.sk_tx_flow = None
    if (
        sk.sk_no_check_tx
        or rt.rt_flags & (RTCF_BROADCAST | RTCF_MULTICAST)
        or rt.rt_pmtu
        or rt.metrics
        or rt.rt_mtu_locked
        or not dev.features & (NETIF_F_HW_CSUM | NETIF_F_IP_CSUM)
    ):
        return
    pmtudisc = sk.pmtudisc
    slot = fl4.ident
    if slot < 0:
        slot = hash((fl4.daddr, fl4.saddr, IPPROTO_UDP, sk.net.ipv4.secret)) & 1023
        fl4.ident = slot
    sk.sk_tx_flow = flow = UdpFlow(
        sk,
        rt,
        sock_wfree,
        sk.net.skb_small,
        LL_MAX_HEADER + dev.needed_headroom + IP_UDP_HLEN,
        fl4.saddr,
        fl4.daddr,
        fl4.fl_sport,
        fl4.fl_dport,
        tos=sk.tos,
        ttl=ip_select_ttl(sk, rt),
        df=pmtudisc in (IP_PMTUDISC_WANT, IP_PMTUDISC_DO, IP_PMTUDISC_PROBE),
        ignore_df=pmtudisc < IP_PMTUDISC_DO or pmtudisc == IP_PMTUDISC_OMIT,
        mark=sk.sk_mark,
        priority=sk.sk_priority,
        ident_slot=slot,
        idents=sk.net.ipv4.ip_idents,
        randrange=sk.net.random.randrange,
        small=sk.net.skb_small_head,
    )
    sk.udp_room = min(flow.room, dev.mtu - IP_UDP_HLEN)  # a new MTU makes the route obsolete


def udp_send_failed(sk: Any, err: int) -> None:
    """What udp_send_skb does with an error of the layers below. Raises: OSError."""
    if err == -errno.ENOBUFS and not sk.recverr:
        sk.net.mib.udp.SndbufErrors += 1
        return
    raise_send_error(sk, err)


def udp_append(
    sk: Any, msg: msghdr, length: int, fl4: Any, ipc: Any, rt: Any, corkreq: int | bool
) -> int:
    """udp_sendmsg's do_append_data: add a piece; send unless more is to come. Sock owned, freed."""
    try:
        first = rt is not None
        if not first:
            fl4 = sk.cork.fl4
        ulen = length + (UDP_HLEN if first else 0)
        try:
            if sk.len + ulen > 0xFFFF:
                raise OSError(errno.EMSGSIZE, "the collected datagram became too long")
            ip_append_data(
                sk,
                fl4,
                ip_generic_getfrag,
                msg,
                ulen,
                UDP_HLEN if first else 0,
                ipc,
                rt,
                msg.msg_flags,
            )
        except OSError:
            udp_flush_pending_frames(sk)
            raise
        sk.len += ulen
        if not corkreq:
            err = udp_push_pending_frames(sk)
            if err:
                raise_send_error(sk, err)
        elif not sk.sk_write_queue.qlen:
            sk.pending = 0
        return length
    finally:
        release_sock(sk)


def raise_send_error(sk: Any, err: int) -> None:
    """Count a failed send and raise it as OSError."""
    if err == -errno.ENOBUFS:
        sk.net.mib.udp.SndbufErrors += 1
    raise os_error(err)


def udp_send_skb(skb: sk_buff, fl4: Any, cork: Any) -> int:
    """net/ipv4/udp.c: UDP header and checksum (or what the NIC needs to do it), then IP.

    0 or a negative errno. Takes ownership of skb.
    """
    sk = skb.sk
    gso_size = cork.gso_size
    if gso_size and skb.len > gso_size and not udp_prepare_gso(skb, sk, cork, gso_size):
        kfree_skb(skb)
        return -errno.EINVAL
    udp_push(skb, fl4.fl_sport, fl4.fl_dport, skb.len + UDP_HLEN, 0)
    if sk.sk_no_check_tx:
        skb.ip_summed = CHECKSUM_NONE
    else:
        udp4_send_check(skb, fl4.saddr, fl4.daddr)
    err = ip_push_pending_frames(sk, fl4, skb, cork)
    if err:
        if err == -errno.ENOBUFS and not sk.recverr:
            sk.net.mib.udp.SndbufErrors += 1
            return 0
        return err
    sk.net.mib.udp.OutDatagrams += 1
    return 0


def udp_prepare_gso(skb: sk_buff, sk: Any, cork: Any, gso_size: int) -> bool:
    """udp_send_skb's part for UDP_SEGMENT: mark a super-packet; False when it cannot be one."""
    hlen = 20 + UDP_HLEN + (cork.opt.optlen if cork.opt is not None else 0)
    if hlen + gso_size > cork.fragsize:
        return False
    segs = -(-skb.len // gso_size)
    if segs > UDP_MAX_SEGMENTS or sk.sk_no_check_tx:
        return False
    skb.ip_summed = CHECKSUM_PARTIAL
    skb.gso_size = gso_size
    skb.gso_type = SKB_GSO_UDP_L4
    skb.gso_segs = segs
    return True


def udp_push_pending_frames(sk: Any) -> int:
    """net/ipv4/udp.c: send the corked datagram. 0 or a negative errno."""
    fl4 = sk.cork.fl4
    skb = ip_finish_skb(sk, fl4)
    err = 0
    if skb is not None:
        err = udp_send_skb(skb, fl4, sk.cork)
        sk.cork.clear()
    sk.len = 0
    sk.pending = 0
    return err


def udp_flush_pending_frames(sk: Any) -> None:
    """net/ipv4/udp.c: throw the corked datagram away."""
    if sk.pending:
        sk.len = 0
        sk.pending = 0
        ip_flush_pending_frames(sk)


def udp_splice_eof(sock: Any) -> None:
    """net/ipv4/udp.c: a spliced datagram is complete."""
    sk = sock.sk
    if not sk.pending or sk.corkflag:
        return
    lock_sock(sk)
    try:
        if sk.pending and not sk.corkflag:
            udp_push_pending_frames(sk)
    finally:
        release_sock(sk)


# --- receiving -----------------------------------------------------------------------------


def udp_rcv(skb: sk_buff) -> int:
    """net/ipv4/udp.c (with __udp4_lib_rcv): handler of protocol 17: check length and checksum,
    find the socket. Takes ownership of skb.
    """
    rt = skb.dst
    net = rt.net
    key = udp_rcv_key(skb)
    if key is not None and not rt.rt_flags & (RTCF_BROADCAST | RTCF_MULTICAST):
        sk = __udp_lib_lookup(net, key, skb.dev.ifindex)
        if sk is not None:
            udp_queue_rcv_one_skb(sk, skb)
            return 0
    mib = net.mib.udp
    if not pskb_may_pull(skb, UDP_HLEN):
        mib.InErrors += 1
        kfree_skb_reason(net, skb, SKB_DROP_REASON_PKT_TOO_SMALL)
        return 0
    uh = udp_hdr(skb)
    if not skb.gso_size:
        ulen = uh.len
        size = skb.len
        if ulen != size:
            if ulen > size or ulen < UDP_HLEN:
                mib.InErrors += 1
                kfree_skb_reason(net, skb, SKB_DROP_REASON_PKT_TOO_SMALL)
                return 0
            pskb_trim_rcsum(skb, ulen)
    key = inet_key(skb)
    summed = skb.ip_summed
    if (
        summed != CHECKSUM_UNNECESSARY
        and summed != CHECKSUM_PARTIAL
        and uh.check
        and udp_csum_bad(skb, key[1], key[3])
    ):
        mib.InCsumErrors += 1
        mib.InErrors += 1
        kfree_skb_reason(net, skb, SKB_DROP_REASON_UDP_CSUM)
        return 0
    if rt.rt_flags & (RTCF_BROADCAST | RTCF_MULTICAST):
        return __udp4_lib_mcast_deliver(net, skb, key)
    sk = __udp_lib_lookup(net, key, skb.dev.ifindex)
    if sk is not None:
        udp_queue_rcv_skb(sk, skb)
        return 0
    mib.NoPorts += 1
    icmp_send(skb, ICMP_DEST_UNREACH, ICMP_PORT_UNREACH, 0)
    kfree_skb_reason(net, skb, SKB_DROP_REASON_NO_SOCKET)
    return 0


def udp_csum_bad(skb: sk_buff, saddr: int, daddr: int) -> bool:
    """net/ipv4/udp.c (udp4_csum_init, udp_lib_checksum_complete): verify in software."""
    if skb_checksum_init(skb, IPPROTO_UDP, saddr, daddr):
        return True
    return skb.ip_summed != CHECKSUM_UNNECESSARY and bool(skb_checksum_complete(skb))


def __udp4_lib_mcast_deliver(net: Any, skb: sk_buff, key: InetKey) -> int:
    """net/ipv4/udp.c: a group or broadcast: every socket that fits gets one. Takes ownership."""
    dif = skb.dev.ifindex
    takers = [sk for sk in net.udp_table.ports.get(key[4], ()) if __udp_is_mcast_sock(sk, key, dif)]
    if not takers:
        net.mib.udp.IgnoredMulti += 1
        consume_skb(skb)
        return 0
    for sk in takers[:-1]:
        copy = skb_clone(skb)
        if copy is None:
            sk.sk_drops += 1
            net.mib.udp.RcvbufErrors += 1
            net.mib.udp.InErrors += 1
            continue
        copy.dst = skb.dst
        copy.dev = skb.dev
        udp_queue_rcv_skb(sk, copy)
    udp_queue_rcv_skb(takers[-1], skb)
    return 0


def __udp_is_mcast_sock(sk: Any, key: InetKey, dif: int) -> bool:
    """net/ipv4/udp.c: does a group or broadcast datagram concern this sock?"""
    family, saddr, sport, daddr, _ = key
    if not inet_sk_takes(sk, family) or (
        (sk.inet_daddr and sk.inet_daddr != saddr)
        or (sk.inet_dport and sk.inet_dport != sport)
        or (sk.inet_rcv_saddr and sk.inet_rcv_saddr != daddr)
        or (sk.sk_bound_dev_if and sk.sk_bound_dev_if != dif)
    ):
        return False
    return ip_mc_sf_allow(sk, daddr, saddr, dif)


def udp_queue_rcv_skb(sk: Any, skb: sk_buff) -> int:
    """net/ipv4/udp.c: give a packet to a sock; a merged one is split unless UDP_GRO is on.

    Takes ownership of skb.
    """
    if not skb.gso_size or sk.gro_enabled:
        return udp_queue_rcv_one_skb(sk, skb)
    try:
        segs = udp_rcv_segment(skb, sk.net.skb_small)
    except (ValueError, MemoryError):
        sk.sk_drops += 1
        sk.net.mib.udp.InErrors += 1
        return 0
    for seg in segs:
        udp_queue_rcv_one_skb(sk, seg)
    return 0


def udp_queue_rcv_one_skb(sk: Any, skb: sk_buff) -> int:
    """net/ipv4/udp.c (with __udp_enqueue_schedule_skb): filter, queue, wake. Takes ownership."""
    if sk.sk_filter is not None and sk_filter(sk, skb):
        net = sk.net
        net.mib.udp.InErrors += 1
        sk.sk_drops += 1
        kfree_skb_reason(net, skb, SKB_DROP_REASON_SOCKET_FILTER)
        return -1
    if sk.cmsg_flags:
        ipv4_pktinfo_prepare(sk, skb)
    # One datagram may overrun the limit, so a big one always fits an empty buffer.
    if sk.sk_rmem_alloc > sk.sk_rcvbuf:
        return udp_drop_full(sk, skb, "RcvbufErrors", SKB_DROP_REASON_SOCKET_RCVBUFF)
    queue = sk.sk_receive_queue
    truesize = skb_queue_owned(queue, skb, sk, sock_rfree, UDP_HLEN, sk.sk_forward_alloc)
    if not truesize:
        truesize = skb.truesize
        if truesize > sk.sk_forward_alloc and not sk_rmem_schedule(sk, skb, truesize):
            return udp_drop_full(sk, skb, "MemErrors", SKB_DROP_REASON_PROTO_MEM)
        if skb.destructor is not None:
            skb_orphan(skb)
        skb_queue_owned(queue, skb, sk, sock_rfree, UDP_HLEN, truesize)
    sk.sk_rmem_alloc += truesize
    sk.sk_forward_alloc -= truesize
    if not sk.sk_flags & SOCK_DEAD:
        sk.sk_data_ready()
    return 0


__udp_queue_rcv_skb = udp_queue_rcv_one_skb


def udp_drop_full(sk: Any, skb: sk_buff, counter: str, reason: int) -> int:
    """Drop and count a datagram that there is no room for."""
    net = sk.net
    mib = net.mib.udp
    mib.InErrors += 1
    setattr(mib, counter, getattr(mib, counter) + 1)
    sk.sk_drops += 1
    kfree_skb_reason(net, skb, reason)
    return -1


def __skb_recv_udp(sk: Any, flags: int, off: int) -> Any:
    """net/ipv4/udp.c: (datagram, offset) or None after shutdown. Raises: OSError."""
    return __skb_recv_datagram(sk, sk.sk_receive_queue, flags, off)


def udp_recvmsg(sk: Any, msg: msghdr, length: int, flags: int) -> int:
    """net/ipv4/udp.c: read one datagram: bytes copied (its full length with MSG_TRUNC).

    Fills msg.msg_name, msg_flags and control messages. Raises: OSError.
    """
    if flags & MSG_ERRQUEUE:
        return ip_recv_error(sk, msg, length)
    off = 0
    peeking = flags & MSG_PEEK
    if not peeking and not sk.sk_err:
        skb = sk.sk_receive_queue.dequeue()
    else:
        skb = None
    if skb is None and not flags & (MSG_PEEK | MSG_DONTWAIT):
        skb = skb_wait_forever(sk)
    if skb is None:
        if peeking and sk.sk_peek_off > 0:
            off = sk.sk_peek_off
        got = __skb_recv_udp(sk, flags, off)
        if got is None:
            return 0
        skb, off = got
    if not (flags or sk.cmsg_flags or sk.gro_enabled or sk.sk_peek_off > 0) and not (
        sk.sk_flags & (SOCK_RCVTSTAMP | SOCK_TIMESTAMP | SOCK_RXQ_OVFL)
    ):
        # Nothing was asked for but the data: the rest of this function without its questions.
        copied: int = skb.len
        if length < copied:
            copied = length
            msg.msg_flags |= MSG_TRUNC
        try:
            skb_copy_datagram_iter(skb, 0, msg, copied)
        except (ValueError, BufferError, TypeError) as exc:
            kfree_skb(skb)
            raise OSError(errno.EFAULT, f"cannot write to the caller's buffer: {exc}") from exc
        sk.net.mib.udp.InDatagrams += 1
        msg.msg_name = udp_name_consume(skb, sk.sk_family)
        return copied
    ulen = skb.len
    copied = ulen - off
    if length < copied:
        copied = length
        msg.msg_flags |= MSG_TRUNC
    elif copied < ulen:
        msg.msg_flags |= MSG_TRUNC
    try:
        if copied:
            skb_copy_datagram_iter(skb, off, msg, copied)
    except (ValueError, BufferError, TypeError) as exc:
        kfree_skb(skb)
        raise OSError(errno.EFAULT, f"cannot write to the caller's buffer: {exc}") from exc
    if not peeking:
        sk.net.mib.udp.InDatagrams += 1
    elif sk.sk_peek_off >= 0:
        sk.sk_peek_off += copied
    if sk.sk_flags & (SOCK_RCVTSTAMP | SOCK_TIMESTAMP | SOCK_RXQ_OVFL):
        sock_recv_cmsgs(msg, sk, skb)
    msg.msg_name = udp_name(skb, sk.sk_family)
    if sk.gro_enabled and skb.gso_size:
        put_cmsg(msg, SOL_UDP, UDP_GRO, int_bytes(skb.gso_size))
    if sk.cmsg_flags:
        ip_cmsg_recv_offset(msg, sk, skb, UDP_HLEN, off)
    if sk.sk_peek_off > 0 and not peeking:
        sk.sk_peek_off = max(sk.sk_peek_off - ulen, 0)
    consume_skb(skb)
    return ulen if flags & MSG_TRUNC else copied


# --- errors --------------------------------------------------------------------------------


def udp_err(skb: sk_buff, info: int) -> int:
    """net/ipv4/udp.c: err_handler of protocol 17."""
    return __udp4_lib_err(skb, info)


def __udp4_lib_err(skb: sk_buff, info: int) -> int:
    """net/ipv4/udp.c: an ICMP error about a datagram of ours; data at its IP header. Borrows."""
    net = skb.dst.net
    iph = iphdr_at(skb, 0)
    hlen = iph.ihl * 4
    uh = udphdr_at(skb, hlen)
    key = AF_INET, iph.daddr, uh.dest, iph.saddr, uh.source
    sk = __udp_lib_lookup(net, key, skb.dev.ifindex if skb.dev else 0)
    if sk is None:
        net.mib.icmp.InErrors += 1
        return -errno.ENOENT
    icmph = icmp_hdr(skb)
    kind, code = icmph.type, icmph.code
    err = errno.EHOSTUNREACH
    harderr = False
    if kind == ICMP_SOURCE_QUENCH:
        return 0
    if kind == ICMP_PARAMETERPROB:
        err, harderr = errno.EPROTO, True
    elif kind == ICMP_DEST_UNREACH:
        if code == ICMP_FRAG_NEEDED:
            if ip_sk_accept_pmtu(sk):
                ipv4_sk_update_pmtu(skb, sk, info)
            if sk.pmtudisc == IP_PMTUDISC_DONT:
                return 0
            err, harderr = errno.EMSGSIZE, True
        elif code <= NR_ICMP_UNREACH:
            err, harderr = icmp_err_convert[code]
    elif kind == ICMP_REDIRECT:
        ipv4_sk_redirect(skb, sk)
        return 0
    elif kind == ICMP_TIME_EXCEEDED:
        err = errno.EHOSTUNREACH
    if not sk.recverr:
        if not harderr or sk.sk_state != TCP_ESTABLISHED:
            return 0
    else:
        ip_icmp_error(sk, skb, err, uh.dest, info, hlen + UDP_HLEN)
    sk.sk_err = err
    sk.sk_error_report()
    return 0


# --- socket calls --------------------------------------------------------------------------


def udp_init_sock(sk: Any) -> int:
    """net/ipv4/udp.c"""
    return 0


def udp_destroy_sock(sk: Any) -> None:
    """net/ipv4/udp.c: drop what was being collected."""
    sk.sk_flags |= SOCK_DEAD
    udp_flush_pending_frames(sk)


def udp_close(sk: Any, timeout: int) -> None:
    """net/ipv4/udp.c (udp_lib_close)."""
    sk_common_release(sk)


destroy_sock = sk_common_release  # kernel-flow.md: the old name


def udp_pre_connect(sk: Any, uaddr: sockaddr, addr_len: int) -> int:
    """net/ipv4/udp.c: a place for policy; everything may connect."""
    return 0


def udp_connect(sk: Any, uaddr: sockaddr, addr_len: int = 16) -> int:
    """net/ipv4/udp.c: ip4_datagram_connect with the sock owned inside. Raises: OSError."""
    return ip4_datagram_connect(sk, uaddr)


def udp_abort(sk: Any, err: int) -> int:
    """net/ipv4/udp.c: fail every call on the socket with `err`."""
    sk.sk_err = err
    sk.sk_error_report()
    udp_disconnect(sk, 0)
    return 0


def udp_ioctl(sk: Any, cmd: int, arg: Any = None) -> int:
    """net/ipv4/udp.c: SIOCINQ (length of the next datagram), SIOCOUTQ. Raises: OSError."""
    if cmd == SIOCOUTQ:
        return int(sk.sk_wmem_alloc)
    if cmd == SIOCINQ:
        skb = sk.sk_receive_queue.peek()
        return 0 if skb is None else skb.len
    raise OSError(errno.ENOTTY, f"unknown request {cmd:#x}")


def udp_poll(file: Any, sock: Any, wait: Any = None) -> int:
    """net/ipv4/udp.c"""
    return datagram_poll(file, sock, wait)


def udp_setsockopt(sk: Any, level: int, optname: int, optval: Any) -> None:
    """net/ipv4/udp.c: SOL_UDP; everything else is IP's. Raises: OSError."""
    sk.sk_tx_flow = None
    if level != SOL_UDP:
        ip_setsockopt(sk, level, optname, optval)
        return
    val = opt_int(optval)
    match optname:
        case x if x == UDP_CORK:
            sk.corkflag = bool(val)
            if not val and sk.pending:
                lock_sock(sk)
                try:
                    udp_push_pending_frames(sk)
                finally:
                    release_sock(sk)
        case x if x == UDP_SEGMENT:
            if not 0 <= val <= 0xFFFF:
                raise OSError(errno.EINVAL, "a segment size has 16 bits")
            sk.gso_size = val
        case x if x == UDP_GRO:
            sk.gro_enabled = bool(val)
            if val:
                udp_gro_enable(sk.net)
        case _:
            raise OSError(errno.ENOPROTOOPT, f"unknown SOL_UDP option {optname}")


def udp_gro_enable(net: Any) -> None:
    """net/ipv4/udp.c (udp_encap_enable): somebody reads merged datagrams: let the devices merge.

    Sockets without UDP_GRO get them split again (udp_queue_rcv_skb).
    """
    net.udp_table.gro_wanted = True
    for dev in net.dev_base_head:
        tables = [napi.gro for napi in dev.napi_list]
        tables.append(getattr(dev.priv, "gro", None))
        for table in tables:
            if table is not None:
                table.udp = True


def udp_getsockopt(sk: Any, level: int, optname: int) -> Any:
    """net/ipv4/udp.c: SOL_UDP; everything else is IP's. Raises: OSError."""
    if level != SOL_UDP:
        return ip_getsockopt(sk, level, optname)
    values = {
        UDP_CORK: int(sk.corkflag),
        UDP_SEGMENT: sk.gso_size,
        UDP_GRO: int(sk.gro_enabled),
    }
    if optname not in values:
        raise OSError(errno.ENOPROTOOPT, f"unknown SOL_UDP option {optname}")
    return values[optname]


udp_prot = proto(
    name="UDP",
    close=udp_close,
    pre_connect=udp_pre_connect,
    connect=udp_connect,
    disconnect=udp_disconnect,
    ioctl=udp_ioctl,
    init=udp_init_sock,
    destroy=udp_destroy_sock,
    setsockopt=udp_setsockopt,
    getsockopt=udp_getsockopt,
    sendmsg=udp_sendmsg,
    recvmsg=udp_recvmsg,
    backlog_rcv=__udp_queue_rcv_skb,
    unhash=udp_lib_unhash,
    rehash=udp_v4_rehash,
    get_port=udp_v4_get_port,
    put_port=udp_lib_unhash,
    diag_destroy=udp_abort,
    sock_class=udp_sock,
    h={"udp_table": lambda net: net.udp_table},
    sysctl_rmem="udp_rmem_min",
)

udp_protocol = net_protocol(handler=udp_rcv, err_handler=udp_err, no_policy=True)


def udp_init(net: Any) -> None:
    """net/ipv4/udp.c"""
    net.udp_table = udp_table()
    if "UDP" not in net.prot_mem:
        net.prot_mem["UDP"] = proto_mem_of_ram(net, 3, 7)
    register_netdevice_notifier(net, udp_netdev_event)


def udp_netdev_event(event: int, dev: Any) -> None:
    """A device that comes up has fresh merge tables."""
    if event == NETDEV_UP and dev.net.udp_table.gro_wanted:
        udp_gro_enable(dev.net)


def udp_sockets(net: Any) -> list[Any]:
    """Every UDP sock that has a port, by port (for /proc/net/udp)."""
    return [sk for port in sorted(net.udp_table.ports) for sk in net.udp_table.ports[port]]
