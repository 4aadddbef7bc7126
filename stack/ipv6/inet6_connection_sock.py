"""Connections over IPv6: routes, transmission, addresses (net/ipv6/inet6_connection_sock.c).

The functions of routing and output that TCP's table of operations (tcp_ipv6.py) needs.
"""

from __future__ import annotations

import errno

from fastpath.base.skbuff import kfree_skb, sk_buff
from stack.core.dst import dst_entry
from stack.core.rows import wide
from stack.core.sock import sk_dst_check, sk_dst_reset, sk_setup_caps
from stack.core.uapi import AF_INET6, IPPROTO_TCP
from stack.inet.flow import flowi
from stack.inet.inet_connection_sock import request_sock
from stack.inet.tcp_sock import tcp_sock
from stack.ipv6.ip6_output import ip6_xmit
from stack.ipv6.pinfo import ipv6_pinfo
from stack.ipv6.route import ip6_dst_lookup_flow
from stack.ipv6.rt6_info import rt6_info
from stack.ipv6.txoptions import fl6_update_dst


def inet6_csk_route_req(sk: tcp_sock, req: request_sock) -> rt6_info | None:
    """The route to the peer of a request; None, counted, when there is none."""
    np: ipv6_pinfo | None = sk.pinet6
    daddr: wide = req.inet_daddr
    if np is not None and np.opt is not None:
        daddr = fl6_update_dst(daddr, np.opt) or daddr
    fl6: flowi = flowi(
        AF_INET6,
        daddr,
        req.inet_rcv_saddr,
        req.ir_iif,
        0,
        IPPROTO_TCP,
        req.inet_dport,
        req.inet_num,
        0,
        req.sk_mark,
    )
    try:
        return ip6_dst_lookup_flow(sk.net, sk, fl6)
    except OSError:
        return None


def inet6_csk_flow(sk: tcp_sock) -> flowi:
    """The flow of the socket's packets, of its addresses, ports and flow label."""
    np: ipv6_pinfo | None = sk.pinet6
    fl6: flowi = flowi(
        AF_INET6,
        sk.inet_daddr,
        sk.inet_saddr,
        sk.sk_bound_dev_if,
        sk.tos,
        sk.sk_protocol,
        sk.inet_dport,
        sk.inet_sport,
        0,
        sk.sk_mark,
    )
    if np is not None:
        fl6.flowlabel = np.flow_label
        if np.opt is not None:
            fl6.daddr = fl6_update_dst(fl6.daddr, np.opt) or fl6.daddr
    return fl6


def inet6_csk_route_socket(sk: tcp_sock) -> int:
    """Look the socket's route up again if it is invalid. 0 or a negative errno."""
    if sk_dst_check(sk, 0) is not None:
        return 0
    try:
        dst = ip6_dst_lookup_flow(sk.net, sk, inet6_csk_flow(sk))
    except OSError as exc:
        sk_dst_reset(sk)
        return -(exc.errno or errno.EHOSTUNREACH)
    sk_setup_caps(sk, dst)
    return 0


def inet6_csk_xmit(sk: tcp_sock, skb: sk_buff, fl: flowi | None) -> int:
    """af_ops.queue_xmit: find the route, add the header, send. Takes ownership of skb."""
    dst: dst_entry | None = sk.sk_dst_cache
    if dst is None or dst.obsolete:
        err = inet6_csk_route_socket(sk)
        if err:
            sk.sk_err_soft = -err
            kfree_skb(skb)
            return err
        dst = sk.sk_dst_cache
    skb.dst = dst
    if fl is None or fl.daddr != sk.inet_daddr:
        fl = inet6_csk_flow(sk)
        sk.inet_fl = fl
        fl.daddr = sk.inet_daddr  # ip6_xmit replaces it by the first hop of a routing header
    np: ipv6_pinfo | None = sk.pinet6
    opt = None
    tclass: int = sk.tos
    if np is not None:
        opt = np.opt
        tclass = np.tclass | (sk.tos & 3)  # ECN
        fl.flowlabel = np.flow_label
    return ip6_xmit(sk, skb, fl, sk.sk_mark, opt, tclass, sk.sk_priority)
