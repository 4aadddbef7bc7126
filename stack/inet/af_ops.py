"""The operations of an address family, which the shared protocols call for IPv4 or IPv6.

TCP, UDP, raw and ping sockets hold addresses as ints. `sk.sk_af` is the table of the family that
the socket has on the wire (`inet_saddr`, `inet_daddr`, its hash key). An AF_INET6 socket with a
v4-mapped peer has IPv4's table, while `sk.sk_family` stays AF_INET6.

Each family fills one table and registers it (`inet_register_af_ops`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol

from fastpath.base.skbuff import sk_buff
from fastpath.net.inet import UdpFlow
from fastpath.net.inetkey import inet_siphash
from stack.core.iov import msghdr
from stack.core.l3mdev import inet_bound_dev_eq
from stack.core.netdevice import net_device
from stack.core.rows import state, wide
from stack.core.secure_seq import SECURE_EHASH
from stack.core.snmp import udp_mib
from stack.core.sock import sock_common
from stack.inet.flow import flowi
from stack.inet.inet_sock import inet_cork, inet_sock
from stack.net import Net

if TYPE_CHECKING:
    from stack.inet.inet_hashtables import inet_hashinfo
    from stack.inet.inet_timewait_sock import inet_timewait_sock
    from stack.inet.udp_hash import udp_dest, udp_sock

InetKey = tuple[int, wide, int, wide, int]
"""(family, saddr, sport, daddr, dport) of the packets that a socket receives."""


class connected(Protocol):
    """The ends of a connection, which sockets, requests and TIME_WAIT remnants have."""

    sk_af: inet_af_ops
    inet_daddr: wide
    inet_dport: int
    inet_rcv_saddr: wide
    inet_num: int


@state
class inet_af_ops:
    """The operations of one family.

    Called for the family on the wire (`sk.sk_af`): `takes(sk, family)` says whether the socket also
    receives packets of the other `family` (an IPv6 socket bound to no address, not IPV6_V6ONLY).

    Called for the family of a packet; unless a line says so, skb is borrowed:
    `mc_sf_allow(sk, group, saddr, ifindex)`: whether the socket may receive a packet to this group;
    `port_unreachable(skb)`: send the ICMP error;
    `udp_mib(net)`: the counters of UDP;
    `dev_find(net, addr)`: the device with this address of ours, or None;
    `raw_input(sk, skb)`: give a raw socket a clone; 1 when the packet matches the socket, else 0;
    `raw_rcv(sk, skb)`: queue a packet on a raw socket (takes ownership of skb);
    `raw_err(sk, skb, offset, info)`: report an ICMP error to a raw socket;
    `icmp_err(sk, skb, info)`: the errno of an ICMP error and whether it is a hard one, 0 if there
    is nothing to report, as for a redirect, which is followed;
    `icmp_error(sk, skb, err, port, info, offset)`: put it on the error queue.

    Called by udp_sendmsg (stack/inet/udp_flow.py). For the socket's own family:
    `udp_family(sk, msg, length)`: the family that sends the message; it may replace
    `msg.msg_name` (raises OSError). For the family on the wire:
    `udp_route(sk, msg, af)`: the message's destination, without a flow; `af` is this table (raises
    OSError);
    `udp_make_flow(sk, dest)`: the flow of plain datagrams there, None if they need the slow path;
    `udp_flow_folds(sk, flow, fl)`: whether one super-packet is equivalent to single datagrams;
    `udp_flow_aim(sk, flow, fl)`: change the flow's destination port to that in `fl`;
    `udp_flow_xmit(sk, flow, skb, count)`: add the IP header and send `count` datagrams;
    `udp_make_skb(sk, dest, msg, size)`: a datagram without headers, None with MSG_PROBE, of `size`
    bytes with UDP's (raises OSError);
    `udp_append(sk, dest, msg, size)`: add to the corked datagram; `dest` is None and `size` without
    UDP's header for all but the first piece (raises OSError);
    `udp_send_skb(skb, fl, cork)`: add the headers and send;
    `flush_pending_frames(sk)`: discard the corked datagram. Functions that send take ownership of
    skb and return 0 or a negative errno.

    Called for the socket's own family (`sk.sk_family`). `pktinfo_prepare(sk, skb)` saves what the
    control messages of a packet need before it is queued; `cmsg_recv(msg, sk, skb, tlen, offset)`
    makes them. `recv_error(sk, msg, size)` reads the error queue (raises OSError).
    `setsockopt(sk, level, optname, optval)` and `getsockopt(sk, level, optname, optlen)`: an option
    that is not the protocol's (raise OSError).

    Called for every family when a socket is closed: `mc_drop_socket(sk)` leaves its groups.
    """

    family: int
    takes: Callable[[inet_sock | inet_timewait_sock, int], bool]
    # Any: an address, which is an int of IPv4's functions and a wide of IPv6's.
    is_loopback: Callable[[Any], bool]
    mc_sf_allow: Callable[[inet_sock, Any, Any, int], bool]
    udp_mib: Callable[[Net], udp_mib]
    dev_find: Callable[[Net, Any], net_device | None]
    udp_flow_folds: Callable[[udp_sock, UdpFlow, flowi], bool]
    udp_flow_aim: Callable[[udp_sock, UdpFlow, flowi], None]
    udp_flow_xmit: Callable[[udp_sock, UdpFlow, sk_buff, int], int]
    port_unreachable: Callable[[sk_buff], None]
    raw_input: Callable[[Any, sk_buff], int]
    raw_rcv: Callable[[Any, sk_buff], int]
    raw_err: Callable[[Any, sk_buff, int, int], None]
    icmp_err: Callable[[inet_sock, sk_buff, int], tuple[int, bool]]
    icmp_error: Callable[[inet_sock, sk_buff, int, int, int, int], None]
    udp_send_skb: Callable[[sk_buff, flowi, inet_cork], int]
    flush_pending_frames: Callable[[inet_sock], None]
    pktinfo_prepare: Callable[[inet_sock, sk_buff], None]
    cmsg_recv: Callable[[msghdr, inet_sock, sk_buff, int, int], None]
    recv_error: Callable[[inet_sock, msghdr, int], int]
    setsockopt: Callable[[Any, int, int, Any], None]
    getsockopt: Callable[[Any, int, int, int], Any]
    mc_drop_socket: Callable[[inet_sock], None]
    udp_family: Callable[[udp_sock, msghdr, int], int]
    udp_route: Callable[[udp_sock, msghdr, inet_af_ops], udp_dest]
    udp_make_flow: Callable[[udp_sock, udp_dest], UdpFlow | None]
    udp_make_skb: Callable[[udp_sock, udp_dest, msghdr, int], sk_buff | None]
    udp_append: Callable[[udp_sock, udp_dest | None, msghdr, int], None]


af_ops_of: dict[int, inet_af_ops] = {}
"""The table of an address family."""


def inet_register_af_ops(af: inet_af_ops) -> None:
    """Register a family's table under its number."""
    af_ops_of[af.family] = af


def inet_ehashfn(net: Net, key: InetKey) -> int:
    """net/ipv4/inet_hashtables.c, net/ipv4/udp.c (udp_ehashfn): a hash of 32 bits of the ends."""
    _, saddr, sport, daddr, dport = key
    return inet_siphash(net.secret, saddr, daddr, sport << 16 | dport, SECURE_EHASH)


def inet_sk_key(sk: connected) -> InetKey:
    """The key of a connected socket, request or TIME_WAIT remnant in its hash table."""
    return sk.sk_af.family, sk.inet_daddr, sk.inet_dport, sk.inet_rcv_saddr, sk.inet_num


def inet_sk_takes(sk: inet_sock, family: int) -> bool:
    """Whether packets of `family` may be for the socket."""
    af = sk.sk_af
    return af.family == family or af.takes(sk, family)


def inet_rcv_saddr_equal(sk: inet_sock, sk2: inet_sock | inet_timewait_sock) -> bool:
    """net/ipv4/inet_connection_sock.c: whether the addresses of two sockets overlap.

    A socket bound to no address receives packets to every address of its families.
    """
    af, af2 = sk.sk_af, sk2.sk_af
    a, b = sk.inet_rcv_saddr, sk2.inet_rcv_saddr
    if af is af2:
        return a == b or not a or not b
    return af.takes(sk, af2.family) or af2.takes(sk2, af.family)


# --- entries of ehash for a key (net/ipv4/inet_hashtables.c) ----------------------------------
# Entries are sockets, requests and TIME_WAIT remnants. Connections of two VRFs may have one key.


def inet_sk_bound_dev_eq(sk: sock_common, dif: int, sdif: int) -> bool:
    """include/net/inet_hashtables.h: whether a socket gets segments from this interface."""
    bound = sk.sk_bound_dev_if
    if not bound and not sdif:
        return True
    return inet_bound_dev_eq(bool(sk.net.sysctl.tcp_l3mdev_accept), bound, dif, sdif)


def inet_ehash_match(hashinfo: inet_hashinfo, key: InetKey, dif: int, sdif: int) -> Any | None:
    """The entry of a key that gets segments from this interface."""
    sk = hashinfo.ehash.get(key)
    if sk is None or inet_sk_bound_dev_eq(sk, dif, sdif):
        return sk
    return inet_ehash_twin(hashinfo, key, dif, sdif)


def inet_ehash_twin(hashinfo: inet_hashinfo, key: InetKey, dif: int, sdif: int) -> Any | None:
    """The same, for entries other than the one in `ehash`."""
    for sk in hashinfo.twins.get(key, ()):
        if inet_sk_bound_dev_eq(sk, dif, sdif):
            return sk
    return None


def inet_ehash_add(hashinfo: inet_hashinfo, key: InetKey, sk: Any) -> None:
    """Add an entry; `inet_ehash_match` has found none."""
    if key in hashinfo.ehash:
        hashinfo.twins.setdefault(key, []).append(sk)
    else:
        hashinfo.ehash[key] = sk


def inet_ehash_replace(hashinfo: inet_hashinfo, key: InetKey, old: Any, new: Any) -> bool:
    """Replace `old` by `new`; False: there is no `old`."""
    if hashinfo.ehash.get(key) is old:
        hashinfo.ehash[key] = new
        return True
    twins = hashinfo.twins.get(key, [])
    if old not in twins:
        return False
    twins[twins.index(old)] = new
    return True


def inet_ehash_remove(hashinfo: inet_hashinfo, key: InetKey, sk: Any) -> bool:
    """Remove an entry; False: it was not in the table."""
    found = hashinfo.ehash.get(key) is sk
    twins = hashinfo.twins.pop(key, []) if hashinfo.twins else None
    if not twins:
        if found:
            del hashinfo.ehash[key]
        return found
    if found:
        hashinfo.ehash[key] = twins.pop(0)
    elif sk in twins:
        twins.remove(sk)
        found = True
    if twins:
        hashinfo.twins[key] = twins
    return found


def inet_ehash_entries(hashinfo: inet_hashinfo) -> list[Any]:
    """All connections, requests and TIME_WAIT remnants."""
    found = list(hashinfo.ehash.values())
    for twins in hashinfo.twins.values():
        found.extend(twins)
    return found
