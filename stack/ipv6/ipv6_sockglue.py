"""IPPROTO_IPV6 options (net/ipv6/ipv6_sockglue.c; RFC 3493, RFC 3542, RFC 5014).

    tcp, udp, raw, ping: setsockopt => ipv6_setsockopt -> do_ipv6_setsockopt -> set_option
                         getsockopt => ipv6_getsockopt -> get_option

The options are the rows of IPV6_LEVEL; those about groups are in mcast_sockopt.py. The functions
before the table are setters and getters of rows. The state is `ipv6_pinfo` (`np_of(sk)`): settings
for sent packets, control messages for received ones, and extension headers (`opt`). IPPROTO_IP
options of an AF_INET6 socket are for its IPv4 packets. IPV6_ADDRFORM (ipv6_addrform) converts the
socket to AF_INET. Read the rows first.
"""

from __future__ import annotations

import errno
from functools import partial
from typing import Any

from stack.core import uapi
from stack.core.errors import os_error
from stack.core.l3mdev import sk_dev_equal_l3scope
from stack.core.rows import rows_of
from stack.core.sock import lock_sock, release_sock, sk_dst_reset
from stack.core.sockopt_table import (
    ADMIN,
    ON_OFF,
    RAW,
    Level,
    SockOpt,
    get_option,
    need_device,
    number,
    only,
    opt_bytes,
    opt_int,
    opt_raw,
    opt_struct,
    set_option,
    swapped,
    swapped_int,
    switch,
)
from stack.core.tcp_states import TCP_CLOSE, TCP_ESTABLISHED, TCP_LISTEN
from stack.core.uapi import AF_INET, CAP_NET_ADMIN, CAP_NET_RAW, IPV6_MIN_MTU, SOL_IP, SOL_IPV6
from stack.inet.af_ops import af_ops_of
from stack.inet.inet_sock import inet_sock
from stack.inet.mroute_sockopt import mroute_socket
from stack.inet.raw import ra_control, ra_has
from stack.inet.tcp_sock import tcp_sock
from stack.inet.xfrm_policy import xfrm_user_policy
from stack.ipv4.ip_sockglue import DATAGRAMS, PKTINFO6, ip_get_mtu, ip_getsockopt, ip_setsockopt
from stack.ipv6.ip6_cmsg import CMSG_IPV6, MTUINFO, check_opt_hdr, with_header
from stack.ipv6.ip6_flowlabel import ipv6_flowlabel_opt, ipv6_flowlabel_opt_get
from stack.ipv6.ip6_output import ip6_autoflowlabel
from stack.ipv6.ip6mr import ip6mr_ops
from stack.ipv6.ip6mr_sockopt import MRT6_OPTIONS
from stack.ipv6.mcast_sockopt import GROUP_OPTIONS
from stack.ipv6.pinfo import IPV6_PMTUDISC_DONT, IPV6_PMTUDISC_OMIT, ipv6_pinfo, np_of, rxopt
from stack.ipv6.saddr import (
    IPV6_PREFER_SRC_CGA,
    IPV6_PREFER_SRC_COA,
    IPV6_PREFER_SRC_HOME,
    IPV6_PREFER_SRC_NONCGA,
    IPV6_PREFER_SRC_PUBLIC,
    IPV6_PREFER_SRC_PUBTMP_DEFAULT,
    IPV6_PREFER_SRC_TMP,
)
from stack.ipv6.txoptions import ipv6_txoptions

ipv6_families: dict[int, Any] = {}
"""For IPV6_ADDRFORM: protocol number -> (struct proto, proto_ops) of IPv4."""


def short_is_off(optval: Any) -> int:
    """The value of an on/off option whose length Linux does not check: off if it is too short."""
    return opt_int(optval) if isinstance(optval, int) or len(opt_bytes(optval)) >= 4 else 0


# --- setters and getters ------------------------------------------------------------------------


def ipv6_rxopt_changed(sk: inet_sock) -> None:
    """Update the bit that says whether the socket enabled any control message."""
    rx = np_of(sk).rxopt
    sk.cmsg_flags &= ~CMSG_IPV6
    if any(getattr(rx, name) for name in rows_of(rxopt)):
        sk.cmsg_flags |= CMSG_IPV6


def ipv6_set_opt_hdr(kind: int, sk: inet_sock, optval: Any) -> None:
    """net/ipv6/ipv6_sockglue.c: an extension header of every packet, none for no bytes.

    Raises: OSError EINVAL, EPERM.
    """
    header = b"" if optval is None else opt_bytes(optval)
    if not len(header) & 7:
        header = check_opt_hdr(sk.net, kind, header)
    if len(header) & 7 or len(header) > 8 * 255:
        raise os_error(errno.EINVAL, f"an extension header of {len(header)} bytes")
    np = np_of(sk)
    ipv6_update_options(sk, np, with_header(np.opt, kind, header))


def ipv6_update_options(sk: inet_sock, np: ipv6_pinfo, opt: ipv6_txoptions | None) -> None:
    """net/ipv6/ipv6_sockglue.c: set every packet's extension headers; a stream adapts its MSS."""
    np.opt = opt
    if isinstance(sk, tcp_sock):
        sk.icsk_ext_hdr_len = opt.tot_len if opt is not None else 0
        if sk.sk_state not in (TCP_CLOSE, TCP_LISTEN):
            sk.icsk_sync_mss(sk, sk.icsk_pmtu_cookie)
    sk_dst_reset(sk)


def ipv6_sock_set_addr_preferences(sk: inet_sock, val: int) -> None:
    """RFC 5014: set the preferred kinds of source address, at most one of each group."""
    for group in (
        (IPV6_PREFER_SRC_TMP, IPV6_PREFER_SRC_PUBLIC, IPV6_PREFER_SRC_PUBTMP_DEFAULT),
        (IPV6_PREFER_SRC_COA, IPV6_PREFER_SRC_HOME),
        (IPV6_PREFER_SRC_CGA, IPV6_PREFER_SRC_NONCGA),
    ):
        if sum(bool(val & bit) for bit in group) > 1:
            raise os_error(errno.EINVAL, f"address preferences {val:#x} exclude each other")
    np_of(sk).srcprefs = val & (IPV6_PREFER_SRC_TMP | IPV6_PREFER_SRC_PUBLIC | IPV6_PREFER_SRC_COA)


def ipv6_set_pktinfo(sk: inet_sock, optval: Any) -> None:
    """IPV6_PKTINFO as an option: the interface of every datagram (RFC 3542 6.1).

    As on Linux, its address does not set the source.
    """
    _, ifindex = PKTINFO6.unpack_from(opt_struct(optval, PKTINFO6.size))
    if not sk_dev_equal_l3scope(sk, ifindex):
        raise os_error(errno.EINVAL, "the socket is bound to another interface")
    np_of(sk).sticky_ifindex = ifindex


def ipv6_set_router_alert(sk: inet_sock, val: int) -> None:
    """IPV6_ROUTER_ALERT: receive forwarded packets with this alert (RFC 2711); -1: none."""
    if sk.sk_type != uapi.SOCK_RAW or sk.inet_num != uapi.IPPROTO_RAW:
        raise os_error(errno.ENOPROTOOPT, "IPV6_ROUTER_ALERT is for raw sockets of IPPROTO_RAW")
    ra_control(sk.net.ipv6.ra_chain, sk, val)


def ipv6_addrform(sk: inet_sock, family: int) -> None:
    """IPV6_ADDRFORM: make a socket with a v4-mapped peer an AF_INET one (RFC 2553, obsolete).

    Raises: OSError EADDRNOTAVAIL, ENOTCONN, EBUSY, ENOPROTOOPT.
    """
    if family != AF_INET:
        raise os_error(errno.EINVAL, "IPV6_ADDRFORM takes AF_INET")
    if sk.sk_type == uapi.SOCK_RAW:
        raise os_error(errno.ENOPROTOOPT, "IPV6_ADDRFORM is for streams and datagrams")
    made = ipv6_families.get(sk.sk_protocol)
    if made is None:
        raise os_error(errno.ENOPROTOOPT, "IPV6_ADDRFORM is for TCP and UDP")
    if sk.sk_state != TCP_ESTABLISHED:
        raise os_error(errno.ENOTCONN, "only a connected socket changes its family")
    if sk.sk_ipv6only or sk.sk_af.family != AF_INET:
        raise os_error(errno.EADDRNOTAVAIL, "the peer is no v4-mapped address")
    prot, ops, icsk_af_ops = made
    for af in af_ops_of.values():
        af.mc_drop_socket(sk)
    sk.sk_prot = prot
    if icsk_af_ops is not None:
        sk.icsk_af_ops = icsk_af_ops  # type: ignore[attr-defined]
    if sk.sk_socket is not None:
        sk.sk_socket.ops = ops
    sk.sk_family = AF_INET
    sk.pinet6 = None
    sk.cmsg_flags &= ~CMSG_IPV6
    sk.sk_backlog_rcv = prot.backlog_rcv


def ipv6_get_addrform(sk: inet_sock) -> int:
    """IPV6_ADDRFORM. Raises: OSError ENOPROTOOPT, ENOTCONN."""
    if sk.sk_protocol not in (uapi.IPPROTO_UDP, uapi.IPPROTO_TCP):
        raise os_error(errno.ENOPROTOOPT, "IPV6_ADDRFORM is for TCP and UDP")
    if sk.sk_state != TCP_ESTABLISHED:
        raise os_error(errno.ENOTCONN, "not connected")
    return sk.sk_family


not_bound = only("inet_num", (0,), errno.EINVAL, "IPV6_V6ONLY comes before bind()")


def ipv6_set_mtu(sk: inet_sock, val: int) -> None:
    """IPV6_MTU: the longest packet to send, 0: the path MTU. Raises: OSError EINVAL."""
    if val and val < IPV6_MIN_MTU:
        raise os_error(errno.EINVAL, f"an MTU of {val}; at least {IPV6_MIN_MTU}")
    np_of(sk).frag_size = val


def ipv6_get_pathmtu(sk: inet_sock) -> bytes:
    """IPV6_PATHMTU: struct ip6_mtuinfo, without an address as on Linux. Raises: ENOTCONN."""
    return MTUINFO.pack(bytes(28), ip_get_mtu(sk))


def ipv6_purge_unless_recverr(sk: inet_sock) -> None:
    """IPV6_RECVERR was set: when it is off, discard the queued errors."""
    if not np_of(sk).recverr:
        sk.sk_error_queue.purge()


def ipv6_set_flowlabel(sk: inet_sock, optval: Any) -> None:
    """IPV6_FLOWLABEL_MGR; the label it leased is written into a bytearray. Raises: OSError."""
    ipv6_flowlabel_opt(sk, optval if isinstance(optval, bytearray) else opt_bytes(optval))


def ipv6_sock_set_tclass(sk: inet_sock, val: int) -> None:
    """IPV6_TCLASS; -1: 0. TCP sets the ECN bits of a stream."""
    np = np_of(sk)
    val = max(val, 0)
    if sk.sk_type == uapi.SOCK_STREAM:
        val = val & ~3 | np.tclass & 3
    if np.tclass != val:
        np.tclass = val
        sk_dst_reset(sk)


def ipv6_set_autoflowlabel(sk: inet_sock, val: int) -> None:
    """IPV6_AUTOFLOWLABEL"""
    np = np_of(sk)
    np.autoflowlabel, np.autoflowlabel_set = bool(val), True


def ipv6_get_autoflowlabel(sk: inet_sock) -> bool:
    """IPV6_AUTOFLOWLABEL: the socket's, else the namespace's."""
    return ip6_autoflowlabel(sk.net, np_of(sk))


def ipv6_get_addr_preferences(sk: inet_sock) -> int:
    """IPV6_ADDR_PREFERENCES"""
    prefs = np_of(sk).srcprefs
    val = prefs & (IPV6_PREFER_SRC_TMP | IPV6_PREFER_SRC_PUBLIC) or IPV6_PREFER_SRC_PUBTMP_DEFAULT
    return val | (prefs & IPV6_PREFER_SRC_COA or IPV6_PREFER_SRC_HOME)


need_datagrams = only("sk_type", DATAGRAMS, errno.ENOPROTOOPT, "streams do not multicast")


def ipv6_set_multicast_if(sk: inet_sock, optval: Any) -> None:
    """IPV6_MULTICAST_IF. Raises: OSError ENOPROTOOPT, ENODEV, EINVAL."""
    need_datagrams(sk)
    ifindex = opt_int(optval)
    if ifindex and ifindex not in sk.net.dev_by_index:
        raise os_error(errno.ENODEV, f"no device with index {ifindex}")
    if ifindex and not sk_dev_equal_l3scope(sk, ifindex):
        raise os_error(errno.EINVAL, "the socket is bound to another interface")
    np_of(sk).mcast_oif = ifindex


def ipv6_check_unicast_if(sk: inet_sock, ifindex: int) -> None:
    """IPV6_UNICAST_IF: not on a bound socket. Raises: OSError EADDRNOTAVAIL, EINVAL."""
    need_device(sk, ifindex)
    if ifindex and sk.sk_bound_dev_if:
        raise os_error(errno.EINVAL, "the socket is bound to an interface")


def ipv6_set_multicast_hops(sk: inet_sock, optval: Any) -> None:
    """IPV6_MULTICAST_HOPS; -1: 1. Raises: OSError ENOPROTOOPT, EINVAL."""
    need_datagrams(sk)
    hops = opt_int(optval)
    if not -1 <= hops <= 255:
        raise os_error(errno.EINVAL, f"hop limit {hops} is not between -1 and 255")
    np_of(sk).mcast_hops = 1 if hops == -1 else hops


def ipv6_sticky_header(part: str, sk: inet_sock) -> bytes:
    """An extension header of every packet, b"" for none."""
    opt = np_of(sk).opt
    return getattr(opt, part) if opt is not None else b""


# --- the table ----------------------------------------------------------------------------------


def received(name: str, member: str, what: str, **more: Any) -> SockOpt:
    """A row for an option that enables a control message, a field of rxopt."""
    return switch(name, f"pinet6.rxopt.{member}", what, then=ipv6_rxopt_changed, **more)


def header(name: str, part: str, what: str) -> SockOpt:
    """A row for an extension header of every packet, a field of ipv6_txoptions."""
    setter = partial(ipv6_set_opt_hdr, getattr(uapi, name))
    getter = partial(ipv6_sticky_header, part)
    return SockOpt(name, what, "2.6.14", takes=opt_raw, set=setter, get=getter)


# fmt: off
IPV6_LEVEL = Level("IPPROTO_IPV6", SOL_IPV6, vars(uapi), (
    received("IPV6_2292DSTOPTS", "odstopts", "as IPV6_RECVDSTOPTS, with the numbers of RFC 2292"),
    received("IPV6_2292HOPLIMIT", "rxohlim", "as IPV6_RECVHOPLIMIT, with the numbers of RFC 2292"),
    received("IPV6_2292HOPOPTS", "ohopopts", "as IPV6_RECVHOPOPTS, with the numbers of RFC 2292"),
    received("IPV6_2292PKTINFO", "rxoinfo", "as IPV6_RECVPKTINFO, with the numbers of RFC 2292"),
    received("IPV6_2292RTHDR", "osrcrt", "as IPV6_RECVRTHDR, with the numbers of RFC 2292"),
    SockOpt("IPV6_ADDRFORM", "a socket with a v4-mapped peer becomes an AF_INET one",
        set=ipv6_addrform, get=ipv6_get_addrform),
    SockOpt("IPV6_ADDR_PREFERENCES", "temporary, public or home source addresses (RFC 5014)",
        "2.6.26", set=ipv6_sock_set_addr_preferences, get=ipv6_get_addr_preferences),
    SockOpt("IPV6_AUTOFLOWLABEL", "flow labels made of addresses and ports", "3.17",
        takes=short_is_off, set=ipv6_set_autoflowlabel, get=ipv6_get_autoflowlabel),
    switch("IPV6_DONTFRAG", "pinet6.dontfrag",
        "datagrams that are too long are refused, not fragmented", since="2.6.35",
        takes=short_is_off),
    header("IPV6_DSTOPTS", "dst1opt", "destination options of every packet"),
    received("IPV6_FLOWINFO", "rxflow", "traffic class and flow label as a control message"),
    switch("IPV6_FLOWINFO_SEND", "pinet6.sndflow", "use the flow labels of destination addresses"),
    SockOpt("IPV6_FLOWLABEL_MGR", "lease, renew or release a flow label",
        takes=opt_raw, set=ipv6_set_flowlabel, room=32,
        get=lambda sk: ipv6_flowlabel_opt_get(sk, 0).pack()),
    switch("IPV6_FREEBIND", "freebind", "bind to an address that is not local (yet)", since="4.15"),
    header("IPV6_HOPOPTS", "hopopt", "hop-by-hop options of every packet"),
    number("IPV6_MINHOPCOUNT", "min_hopcount", range(256),
        "drop segments with a lower hop limit", since="2.6.35"),
    SockOpt("IPV6_MTU", "get: path MTU of a connected socket; set: the longest packet to send",
        set=ipv6_set_mtu, get=ip_get_mtu),
    number("IPV6_MTU_DISCOVER", "pinet6.pmtudisc",
        range(IPV6_PMTUDISC_DONT, IPV6_PMTUDISC_OMIT + 1),
        "fragment, refuse or believe the path MTU: IPV6_PMTUDISC_*"),
    switch("IPV6_MULTICAST_ALL", "pinet6.mc_all", "datagrams of groups that others joined",
        since="4.20"),
    number("IPV6_MULTICAST_HOPS", "pinet6.mcast_hops", None, "hop limit of datagrams to groups",
        takes=opt_raw, set=ipv6_set_multicast_hops),
    number("IPV6_MULTICAST_IF", "pinet6.mcast_oif", None, "interface of datagrams to groups",
        takes=opt_raw, set=ipv6_set_multicast_if),
    switch("IPV6_MULTICAST_LOOP", "pinet6.mc_loop", "own datagrams to groups come back",
        legal=ON_OFF),
    SockOpt("IPV6_PATHMTU", "path MTU and destination of a connected socket", "2.6.35",
        get=ipv6_get_pathmtu, room=MTUINFO.size),
    SockOpt("IPV6_PKTINFO", "interface of every datagram; its address is ignored", "2.6.14",
        takes=opt_raw, set=ipv6_set_pktinfo),
    received("IPV6_RECVDSTOPTS", "dstopts", "destination options as a control message",
        since="2.6.14"),
    switch("IPV6_RECVERR", "pinet6.recverr", "errors of ICMPv6 in the error queue (MSG_ERRQUEUE)",
        then=ipv6_purge_unless_recverr),
    switch("IPV6_RECVERR_RFC4884", "pinet6.recverr_rfc4884",
        "errors in the queue say where their extensions begin", since="5.9", legal=ON_OFF),
    received("IPV6_RECVFRAGSIZE", "recvfragsize", "largest fragment as a control message",
        since="4.10", takes=short_is_off),
    received("IPV6_RECVHOPLIMIT", "rxhlim", "hop limit as a control message", since="2.6.14"),
    received("IPV6_RECVHOPOPTS", "hopopts", "hop-by-hop options as a control message",
        since="2.6.14"),
    received("IPV6_RECVORIGDSTADDR", "rxorigdstaddr",
        "destination address and port as a control message", since="2.6.37"),
    received("IPV6_RECVPATHMTU", "rxpmtu", "a path MTU that was too small as a control message",
        since="2.6.35"),
    received("IPV6_RECVPKTINFO", "rxinfo", "destination address and interface as a control message",
        since="2.6.14"),
    received("IPV6_RECVRTHDR", "srcrt", "routing header as a control message", since="2.6.14"),
    received("IPV6_RECVTCLASS", "rxtclass", "traffic class as a control message", since="2.6.14"),
    SockOpt("IPV6_ROUTER_ALERT", "take packets with this router alert that pass through",
        sockets=RAW, set=ipv6_set_router_alert,
        get=lambda sk: ra_has(sk.net.ipv6.ra_chain, sk)),
    header("IPV6_RTHDR", "srcrt", "routing header of every packet (types 2 and 4)"),
    header("IPV6_RTHDRDSTOPTS", "dst0opt", "destination options before the routing header"),
    number("IPV6_TCLASS", "pinet6.tclass", range(-1, 256), "traffic class of packets",
        since="2.6.14", set=ipv6_sock_set_tclass),
    switch("IPV6_TRANSPARENT", "transparent", "use addresses that are not local (root)",
        since="2.6.37", caps=(CAP_NET_ADMIN, CAP_NET_RAW), free=(0,)),
    number("IPV6_UNICAST_HOPS", "pinet6.hop_limit", range(-1, 256), "hop limit of packets",
        get=lambda sk: sk.pinet6.hop_limit if sk.pinet6.hop_limit >= 0
            else sk.net.ipv6.devconf_all.hop_limit),
    number("IPV6_UNICAST_IF", "pinet6.ucast_oif", None,
        "interface of packets where nothing else names one", since="3.4",
        takes=swapped_int, check=ipv6_check_unicast_if, shows=swapped),
    switch("IPV6_V6ONLY", "sk_ipv6only", "do not accept IPv4", may_set=not_bound),
    SockOpt("IPV6_XFRM_POLICY", "IPsec policy of this socket, as IP_XFRM_POLICY",
        takes=opt_raw, caps=ADMIN, set=partial(xfrm_user_policy, uapi.IPV6_XFRM_POLICY)),
    *GROUP_OPTIONS,
    *MRT6_OPTIONS,
), length_first=False)
# fmt: on


def ipv6_setsockopt(sk: inet_sock, level: int, optname: int, optval: Any) -> None:
    """net/ipv6/ipv6_sockglue.c. Raises: OSError ENOPROTOOPT, EINVAL, ..."""
    if level == SOL_IP and sk.sk_type != uapi.SOCK_RAW:
        ip_setsockopt(sk, level, optname, optval)
        return
    if level != SOL_IPV6:
        raise os_error(errno.ENOPROTOOPT, f"unknown option level {level}")
    lock_sock(sk)
    try:
        if uapi.MRT6_INIT <= optname <= uapi.MRT6_FLUSH:
            mroute_socket(ip6mr_ops, sk)
        sk.sk_tx_flow = None
        do_ipv6_setsockopt(sk, level, optname, optval)
    finally:
        release_sock(sk)


def do_ipv6_setsockopt(sk: inet_sock, level: int, optname: int, optval: Any) -> None:
    """net/ipv6/ipv6_sockglue.c: IPPROTO_IPV6, sock owned. Raises: OSError."""
    set_option(IPV6_LEVEL, sk, optname, optval)


def ipv6_getsockopt(sk: inet_sock, level: int, optname: int, optlen: int) -> Any:
    """net/ipv6/ipv6_sockglue.c: an int or bytes. Raises: OSError ENOPROTOOPT, ENOTCONN."""
    if level == SOL_IP and sk.sk_type != uapi.SOCK_RAW:
        return ip_getsockopt(sk, level, optname, optlen)
    if level != SOL_IPV6:
        raise os_error(errno.ENOPROTOOPT, f"unknown option level {level}")
    if uapi.MRT6_INIT <= optname <= uapi.MRT6_FLUSH:
        mroute_socket(ip6mr_ops, sk)
    return get_option(IPV6_LEVEL, sk, optname, optlen)
