"""The socket options: what each does, for which sockets, and whether it can be set.

docs/knobs.md is generated from this table. A test checks that it has a row for each option that
setsockopt or getsockopt does not refuse with ENOPROTOOPT, and that the option works as described.
"""

from __future__ import annotations

from dataclasses import dataclass

from stack.core import uapi
from stack.inet import tcp_sock

ANY, TCP, UDP, RAW = "any", "TCP", "UDP", "raw"
RW, R, W = "get set", "get", "set"


@dataclass(frozen=True, slots=True)
class SockOpt:
    """One option: `level` and `number` as setsockopt(2) has them, `sockets` that take it."""

    name: str
    level: int
    number: int
    what: str
    access: str = RW
    sockets: str = ANY


def _sol_socket(name: str, what: str, access: str = RW, sockets: str = ANY) -> SockOpt:
    return SockOpt(name, uapi.SOL_SOCKET, getattr(uapi, name), what, access, sockets)


def _ip(name: str, what: str, access: str = RW, sockets: str = ANY) -> SockOpt:
    return SockOpt(name, uapi.SOL_IP, getattr(uapi, name), what, access, sockets)


def _ip6(name: str, what: str, access: str = RW, sockets: str = ANY) -> SockOpt:
    return SockOpt(name, uapi.SOL_IPV6, getattr(uapi, name), what, access, sockets)


def _tcp(name: str, what: str, access: str = RW) -> SockOpt:
    return SockOpt(name, uapi.SOL_TCP, getattr(tcp_sock, name), what, access, TCP)


def _udp(name: str, what: str) -> SockOpt:
    return SockOpt(name, uapi.SOL_UDP, getattr(uapi, name), what, RW, UDP)


SOCKET_OPTIONS = (
    _sol_socket("SO_ACCEPTCONN", "whether the socket listens", R),
    _sol_socket("SO_ATTACH_BPF", "EBADF: there are no extended BPF programs", W),
    _sol_socket("SO_ATTACH_FILTER", "a classic BPF program for what is received; get: the program"),
    _sol_socket("SO_BINDTODEVICE", "use one interface, by name"),
    _sol_socket("SO_BINDTOIFINDEX", "use one interface, by index"),
    _sol_socket("SO_BPF_EXTENSIONS", "how many ancillary loads a filter has", R),
    _sol_socket("SO_BROADCAST", "may send to broadcast addresses"),
    _sol_socket("SO_BUF_LOCK", "buffers whose size stays: 1 sending, 2 receiving"),
    _sol_socket("SO_COOKIE", "a number that no other socket of the host has", R),
    _sol_socket("SO_DEBUG", "log changes of a TCP socket's state (logger stack.inet.tcp_done)"),
    _sol_socket("SO_DETACH_FILTER", "no filter any more", W),
    _sol_socket("SO_DOMAIN", "AF_INET", R),
    _sol_socket("SO_DONTROUTE", "to directly connected networks only"),
    _sol_socket("SO_ERROR", "the pending error, which is cleared", R),
    _sol_socket("SO_KEEPALIVE", "probe a silent peer"),
    _sol_socket("SO_LINGER", "close() waits for unsent data, or resets"),
    _sol_socket("SO_LOCK_FILTER", "the filter stays, for ever"),
    _sol_socket("SO_MARK", "mark of packets (skb.mark, for netfilter hooks)"),
    _sol_socket("SO_MAX_PACING_RATE", "bytes a second at most, by internal pacing", RW, TCP),
    _sol_socket("SO_MEMINFO", "memory in use, nine numbers", R),
    _sol_socket("SO_NO_CHECK", "send without UDP checksum"),
    _sol_socket("SO_OOBINLINE", "urgent data stays in the stream"),
    _sol_socket("SO_PEEK_OFF", "where MSG_PEEK begins"),
    _sol_socket("SO_PEERCRED", "process, user and group of an AF_UNIX peer; else 0 and -1", R),
    _sol_socket("SO_PEERGROUPS", "its further groups, of which there are none", R),
    _sol_socket("SO_PEERNAME", "the peer's address as a struct sockaddr", R),
    _sol_socket("SO_PRIORITY", "band of the queueing discipline"),
    _sol_socket("SO_PROTOCOL", "IPPROTO_TCP ...", R),
    _sol_socket("SO_RCVBUF", "receive buffer, doubled, at most 2 * rmem_max"),
    _sol_socket("SO_RCVBUFFORCE", "the same without the limit", W),
    _sol_socket("SO_RCVLOWAT", "bytes that make a reader wake"),
    _sol_socket("SO_RCVTIMEO", "how long a receive may wait"),
    _sol_socket("SO_RCVTIMEO_NEW", "the same as SO_RCVTIMEO"),
    _sol_socket("SO_REUSEADDR", "share a local address that waits or is not listened on"),
    _sol_socket("SO_REUSEPORT", "several sockets on one port, packets spread among them"),
    _sol_socket("SO_RXQ_OVFL", "datagrams lost so far, as a control message"),
    _sol_socket("SO_SELECT_ERR_QUEUE", "poll() says POLLPRI for the error queue"),
    _sol_socket("SO_SNDBUF", "send buffer, doubled, at most 2 * wmem_max"),
    _sol_socket("SO_SNDBUFFORCE", "the same without the limit", W),
    _sol_socket("SO_SNDLOWAT", "1", R),
    _sol_socket("SO_SNDTIMEO", "how long a send may wait"),
    _sol_socket("SO_SNDTIMEO_NEW", "the same as SO_SNDTIMEO"),
    _sol_socket("SO_TIMESTAMP", "time of arrival in us, as a control message"),
    _sol_socket("SO_TIMESTAMPNS", "time of arrival in ns, as a control message"),
    _sol_socket("SO_TIMESTAMPNS_NEW", "the same as SO_TIMESTAMPNS, its message by this number"),
    _sol_socket("SO_TIMESTAMP_NEW", "the same as SO_TIMESTAMP, its message by this number"),
    _sol_socket("SO_TYPE", "SOCK_STREAM ...", R),
    _sol_socket("SO_ZEROCOPY", "MSG_ZEROCOPY sends from the caller's memory (TCP and UDP)"),
)

MCAST_OPTIONS = {
    "MCAST_BLOCK_SOURCE": "no datagrams of a group from this sender",
    "MCAST_JOIN_GROUP": "join a group of either family",
    "MCAST_JOIN_SOURCE_GROUP": "datagrams of a group from this sender only",
    "MCAST_LEAVE_GROUP": "leave a group of either family",
    "MCAST_LEAVE_SOURCE_GROUP": "take a sender off that list",
    "MCAST_MSFILTER": "all senders of a group at once",
    "MCAST_UNBLOCK_SOURCE": "datagrams of a group from this sender again",
}
IP_OPTIONS = (
    _ip("IP_ADD_MEMBERSHIP", "join a group", W),
    _ip("IP_ADD_SOURCE_MEMBERSHIP", "join one source of a group", W),
    _ip("IP_BIND_ADDRESS_NO_PORT", "bind() with port 0 leaves the port to connect()"),
    _ip("IP_BLOCK_SOURCE", "no more of one source of a group", W),
    _ip("IP_CHECKSUM", "checksum of the payload, as a control message"),
    _ip("IP_DROP_MEMBERSHIP", "leave a group", W),
    _ip("IP_DROP_SOURCE_MEMBERSHIP", "leave one source of a group", W),
    _ip("IP_FREEBIND", "bind() takes addresses that are not ours"),
    _ip("IP_HDRINCL", "the program brings the IP header", RW, RAW),
    _ip("IP_LOCAL_PORT_RANGE", "ports that may be chosen: high << 16 | low"),
    _ip("IP_MINTTL", "packets with a smaller TTL are dropped (TCP, RFC 5082)"),
    _ip("IP_MSFILTER", "all senders of a group at once", W),
    _ip("IP_MTU", "path MTU of a connected socket", R),
    _ip("IP_MTU_DISCOVER", "DF, and what a path MTU does"),
    _ip("IP_MULTICAST_ALL", "datagrams of groups that others joined"),
    _ip("IP_MULTICAST_IF", "interface of datagrams to groups"),
    _ip("IP_MULTICAST_LOOP", "own datagrams to groups come back"),
    _ip("IP_MULTICAST_TTL", "TTL of datagrams to groups"),
    _ip("IP_OPTIONS", "IP options of every packet"),
    _ip("IP_ORIGDSTADDR", "destination of a datagram, as a control message"),
    _ip("IP_PKTINFO", "interface and destination, as a control message"),
    _ip("IP_PKTOPTIONS", "a stream's control messages", R, TCP),
    _ip("IP_PROTOCOL", "port, or protocol of a raw socket", R),
    _ip("IP_RECVERR", "ICMP errors on the error queue"),
    _ip("IP_RECVFRAGSIZE", "largest fragment of a datagram, as a control message"),
    _ip("IP_RECVOPTS", "IP options of a datagram, as a control message"),
    _ip("IP_RECVTOS", "TOS of a datagram, as a control message"),
    _ip("IP_RECVTTL", "TTL of a datagram, as a control message"),
    _ip("IP_RETOPTS", "IP options for an answer, as a control message"),
    _ip("IP_ROUTER_ALERT", "take router-alert packets that pass through", RW, RAW),
    _ip("IP_TOS", "TOS of packets"),
    _ip("IP_TRANSPARENT", "bind() and send with any address"),
    _ip("IP_TTL", "TTL of packets"),
    _ip("IP_UNBLOCK_SOURCE", "a blocked source again", W),
    _ip("IP_UNICAST_IF", "interface of datagrams to hosts"),
    *(
        SockOpt(f"{name} (IPv4)", uapi.SOL_IP, getattr(uapi, name), what, W)
        for name, what in MCAST_OPTIONS.items()
    ),
)

TCP_OPTIONS = (
    _tcp("TCP_CONGESTION", "congestion control, by name"),
    _tcp("TCP_CORK", "full segments only, until it is off"),
    _tcp("TCP_DEFER_ACCEPT", "accept() when data has come, seconds"),
    _tcp("TCP_DELACK_MAX_US", "longest delay of an ACK, us"),
    _tcp("TCP_INFO", "struct tcp_info", R),
    _tcp("TCP_INQ", "bytes still waiting, as a control message"),
    _tcp("TCP_KEEPCNT", "keepalive probes without an answer"),
    _tcp("TCP_KEEPIDLE", "seconds of silence before the first keepalive probe"),
    _tcp("TCP_KEEPINTVL", "seconds between keepalive probes"),
    _tcp("TCP_LINGER2", "seconds in FIN_WAIT_2 after close()"),
    _tcp("TCP_MAXSEG", "largest segment, bytes"),
    _tcp("TCP_NODELAY", "no Nagle delay of small segments"),
    _tcp("TCP_NOTSENT_LOWAT", "unsent bytes below which the socket is writable"),
    _tcp("TCP_QUICKACK", "ACK at once, or delayed as in a dialogue"),
    _tcp("TCP_RTO_MAX_MS", "longest retransmission timeout, ms"),
    _tcp("TCP_RTO_MIN_US", "shortest retransmission timeout, us"),
    _tcp("TCP_SAVED_SYN", "the headers of the SYN, once", R),
    _tcp("TCP_SAVE_SYN", "a listener keeps them for its children"),
    _tcp("TCP_SYNCNT", "SYN retransmissions"),
    _tcp("TCP_THIN_LINEAR_TIMEOUTS", "no backoff while few packets are out"),
    _tcp("TCP_TIMESTAMP", "the timestamp of now", R),
    _tcp("TCP_USER_TIMEOUT", "ms that sent data may stay unacknowledged"),
    _tcp("TCP_WINDOW_CLAMP", "largest window that is offered"),
)

UDP_OPTIONS = (
    _udp("UDP_CORK", "sends make one datagram, until it is off"),
    _udp("UDP_GRO", "merged datagrams in one read"),
    _udp("UDP_SEGMENT", "one send makes datagrams of this size"),
)

RAW_OPTIONS = (
    SockOpt("ICMP_FILTER", uapi.SOL_RAW, uapi.ICMP_FILTER, "ICMP types not wanted", RW, RAW),
)

IPV6_OPTIONS = (
    _ip6("IPV6_2292DSTOPTS", "as IPV6_RECVDSTOPTS, with the numbers of RFC 2292"),
    _ip6("IPV6_2292HOPLIMIT", "as IPV6_RECVHOPLIMIT, with the numbers of RFC 2292"),
    _ip6("IPV6_2292HOPOPTS", "as IPV6_RECVHOPOPTS, with the numbers of RFC 2292"),
    _ip6("IPV6_2292PKTINFO", "as IPV6_RECVPKTINFO, with the numbers of RFC 2292"),
    _ip6("IPV6_2292RTHDR", "as IPV6_RECVRTHDR, with the numbers of RFC 2292"),
    _ip6("IPV6_ADDRFORM", "a socket with a v4-mapped peer becomes an AF_INET one"),
    _ip6("IPV6_ADDR_PREFERENCES", "temporary, public or home source addresses (RFC 5014)"),
    _ip6("IPV6_AUTOFLOWLABEL", "flow labels made of addresses and ports"),
    _ip6("IPV6_CHECKSUM", "where the kernel puts a checksum", RW, RAW),
    _ip6("IPV6_DONTFRAG", "datagrams that are too long are refused, not fragmented"),
    _ip6("IPV6_DSTOPTS", "destination options of every packet"),
    _ip6("IPV6_FLOWINFO", "traffic class and flow label as a control message"),
    _ip6("IPV6_FLOWINFO_SEND", "flow labels in addresses count"),
    _ip6("IPV6_FLOWLABEL_MGR", "lease a flow label, renew it, give it back"),
    _ip6("IPV6_FREEBIND", "bind to an address that is not here (yet)"),
    _ip6("IPV6_HDRINCL", "packets bring their IPv6 header", RW, RAW),
    _ip6("IPV6_HOPOPTS", "hop-by-hop options of every packet"),
    _ip6("IPV6_JOIN_ANYCAST", "have an anycast address", W),
    _ip6("IPV6_JOIN_GROUP", "join a group", W),
    _ip6("IPV6_LEAVE_ANYCAST", "give an anycast address up", W),
    _ip6("IPV6_LEAVE_GROUP", "leave a group", W),
    _ip6("IPV6_MINHOPCOUNT", "drop segments with a lower hop limit", RW),
    _ip6("IPV6_MTU", "get: path MTU of a connected socket; set: the longest packet to send"),
    _ip6("IPV6_MTU_DISCOVER", "fragment, refuse or believe the path MTU: IPV6_PMTUDISC_*"),
    _ip6("IPV6_MULTICAST_ALL", "datagrams of groups that others joined"),
    _ip6("IPV6_MULTICAST_HOPS", "hop limit of datagrams to groups"),
    _ip6("IPV6_MULTICAST_IF", "interface of datagrams to groups"),
    _ip6("IPV6_MULTICAST_LOOP", "own datagrams to groups come back"),
    _ip6("IPV6_PATHMTU", "path MTU and destination of a connected socket", R),
    _ip6("IPV6_PKTINFO", "source address and interface of every datagram", W),
    _ip6("IPV6_RECVDSTOPTS", "destination options as a control message"),
    _ip6("IPV6_RECVERR", "errors of ICMPv6 in the error queue (MSG_ERRQUEUE)"),
    _ip6("IPV6_RECVFRAGSIZE", "largest fragment as a control message"),
    _ip6("IPV6_RECVHOPLIMIT", "hop limit as a control message"),
    _ip6("IPV6_RECVHOPOPTS", "hop-by-hop options as a control message"),
    _ip6("IPV6_RECVORIGDSTADDR", "destination address and port as a control message"),
    _ip6("IPV6_RECVPATHMTU", "a path MTU that was too small as a control message"),
    _ip6("IPV6_RECVPKTINFO", "destination address and interface as a control message"),
    _ip6("IPV6_RECVRTHDR", "routing header as a control message"),
    _ip6("IPV6_RECVTCLASS", "traffic class as a control message"),
    _ip6("IPV6_ROUTER_ALERT", "take packets with this router alert that pass through", RW, RAW),
    _ip6("IPV6_RTHDR", "routing header of every packet (types 2 and 4)"),
    _ip6("IPV6_RTHDRDSTOPTS", "destination options before the routing header"),
    _ip6("IPV6_TCLASS", "traffic class of packets"),
    _ip6("IPV6_TRANSPARENT", "use addresses that are not here (root)"),
    _ip6("IPV6_UNICAST_HOPS", "hop limit of packets"),
    _ip6("IPV6_UNICAST_IF", "interface of packets where nothing else names one"),
    _ip6("IPV6_V6ONLY", "leave IPv4 to other sockets"),
    *(_ip6(name, what, W) for name, what in MCAST_OPTIONS.items()),
    SockOpt(
        "ICMPV6_FILTER", uapi.SOL_ICMPV6, uapi.ICMPV6_FILTER, "ICMPv6 types not wanted", RW, RAW
    ),
)

SOCKOPTS = (*SOCKET_OPTIONS, *IP_OPTIONS, *TCP_OPTIONS, *UDP_OPTIONS, *RAW_OPTIONS, *IPV6_OPTIONS)
