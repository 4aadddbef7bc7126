"""UDP sockets of both families, their ports and lookup (net/ipv4/udp.c, net/ipv6/udp.c)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from fastpath.base.intmap import IntMap
from fastpath.base.skbuff import sk_buff
from fastpath.net.inet import UdpFlow
from fastpath.net.inethash import InetHash
from fastpath.net.inetkey import InetEnds, udp_rcv_ends
from stack.core import snmp, uapi
from stack.core.l3mdev import inet_bound_dev_eq, inet_sdif
from stack.core.rows import FRESH, row, state, wide
from stack.core.sockaddr import sockaddr
from stack.core.tcp_states import TCP_ESTABLISHED, TCP_LISTEN
from stack.inet.af_ops import InetKey, inet_af_ops, inet_ehashfn, inet_rcv_saddr_equal, inet_sk_key
from stack.inet.flow import flowi
from stack.inet.inet_hashtables import inet_free_port
from stack.inet.inet_sock import inet_sock
from stack.net import Net


@state
class udp_table:
    """struct udp_table: sockets of both families by local port, connected ones by `inet_sk_key`."""

    ports: IntMap[udp_sock] = row(make=IntMap)
    """The sockets of each port, linked by `udp_port_next`; the last one bound comes first."""
    connected: InetHash[udp_sock] = row(make=InetHash)
    connected_changed: list[Callable[[], None]] = row(make=list)
    """Called when the table of connected sockets is no longer empty, or empty again."""


@state
class udp_dest:
    """The route and headers of a socket's datagrams to one address (stack/inet/udp_flow.py)."""

    af: inet_af_ops
    """The family on the wire."""
    name: sockaddr | None
    """The address as the caller gave it; None: the connected peer."""
    fl: flowi
    rt: Any
    """The route, a dst_entry of the family."""
    ipc: Any
    """IP's parameters: ipcm_cookie or ipcm6_cookie."""
    flow: UdpFlow | None
    """The prebuilt headers of plain datagrams."""


@state
class udp_sock(inet_sock):
    """struct udp_sock."""

    udp_mib: snmp.udp_mib = row()
    """The counters of its family."""
    corkflag: bool = row(False)
    """UDP_CORK: sends add to one datagram."""
    gro_enabled: bool = row(False)
    """UDP_GRO: one recv() may return several datagrams."""
    gso_size: int = row(0)
    """UDP_SEGMENT: bytes of each datagram that a send is cut into; 0: off."""
    len: int = row(0)
    """Bytes of the corked datagram, with its UDP header."""
    udp_tuple: InetKey | None = row()
    """The key in the table of connected sockets."""
    tx_dest: udp_dest | None = row(None, clone=FRESH)
    """The destination that sk_tx_flow belongs to."""
    udp_from: sockaddr | None = row()
    """The sender of the last datagram that was read."""
    encap_rcv: Callable[[udp_sock, sk_buff], int] | None = row(None, clone=FRESH)
    """A tunnel's receive function, data at the UDP header. 1: the datagram is for the socket."""
    udp_port_next: udp_sock | None = row(None, clone=FRESH)
    """The next socket on the same port."""
    udp_portaddr: wide = row(0)
    """The address under which it is listed with its port."""


# --- ports and look-up -------------------------------------------------------------------


def udp_port_socks(net: Net, port: int) -> list[udp_sock]:
    """The sockets bound to a port, the last one bound first."""
    socks = []
    sk: udp_sock | None = net.udp_table.ports.find(port)
    while sk is not None:
        socks.append(sk)
        sk = sk.udp_port_next
    return socks


def udp_lib_lport_inuse(sk: inet_sock, others: list[Any]) -> bool:
    """net/ipv4/udp.c: whether a socket of this port conflicts with sk's bind. Also used by XTP.

    `others` are examined from the last on. The first with SO_REUSEPORT as ours decides for all.
    """
    sk2: inet_sock
    for sk2 in reversed(others):
        if sk2 is sk:
            continue
        if sk2.sk_reuse and sk.sk_reuse and sk2.sk_state != TCP_LISTEN:
            continue
        d1, d2 = sk.sk_bound_dev_if, sk2.sk_bound_dev_if
        if d1 and d2 and d1 != d2:
            continue
        if not inet_rcv_saddr_equal(sk, sk2):
            continue
        return not (sk.sk_reuseport and sk2.sk_reuseport)
    return False


def udp_port_taken(sk: udp_sock, port: int) -> bool:
    """Whether the owners of a port do not share it with sk."""
    return udp_lib_lport_inuse(sk, udp_port_socks(sk.net, port))


def udp_lib_get_port(sk: udp_sock, snum: int) -> int:
    """net/ipv4/udp.c: take port `snum`, or a free one for 0. 0 on success, 1 when taken."""
    net = sk.net
    ports = net.udp_table.ports
    if not snum:
        snum = inet_free_port(sk, udp_port_taken)
        if not snum:
            return 1
    elif udp_port_taken(sk, snum):
        return 1
    others = udp_port_socks(net, snum)
    sk.inet_num = snum
    sk.udp_portaddr = sk.inet_rcv_saddr
    if others and not (sk.sk_reuseport and sk.sk_family == uapi.AF_INET6):
        others[-1].udp_port_next = sk
    else:  # include/net/sock.h sk_add_node_rcu: reuseport groups of IPv6 come last
        sk.udp_port_next = others[0] if others else None
        ports[snum] = sk
    return 0


def udp_lib_unhash(sk: udp_sock) -> None:
    """net/ipv4/udp.c: release the port."""
    udp_unhash4(sk)
    if udp_unlink(sk):
        sk.inet_num = 0


def udp_unlink(sk: udp_sock) -> bool:
    """Remove a socket from its port's list; False when it is not in it."""
    ports = sk.net.udp_table.ports
    others = udp_port_socks(sk.net, sk.inet_num)
    if sk not in others:
        return False
    if others[0] is not sk:
        others[others.index(sk) - 1].udp_port_next = sk.udp_port_next
    elif sk.udp_port_next is not None:
        ports[sk.inet_num] = sk.udp_port_next
    else:
        del ports[sk.inet_num]
    sk.udp_port_next = None
    return True


def connected_changed(net: Net) -> None:
    """Call those that registered for changes of the connected table (early demux)."""
    for fn in net.udp_table.connected_changed:
        fn()


def udp_unhash4(sk: udp_sock) -> None:
    """net/ipv4/udp.c: leave the table of connected sockets."""
    connected = sk.net.udp_table.connected
    if sk.udp_tuple is not None:
        if connected.get(sk.udp_tuple) is sk:
            del connected[sk.udp_tuple]
            if not connected:
                connected_changed(sk.net)
        sk.udp_tuple = None


def udp_lib_rehash(sk: udp_sock) -> None:
    """net/ipv4/udp.c (udp_v4_rehash): enter the sock's new addresses into the connected table.

    With another local address it comes before the other sockets of its port.
    """
    udp_unhash4(sk)
    sk.sk_tx_flow = None
    if sk.udp_portaddr != sk.inet_rcv_saddr and udp_unlink(sk):
        sk.udp_portaddr = sk.inet_rcv_saddr
        others = udp_port_socks(sk.net, sk.inet_num)
        if others:
            others[-1].udp_port_next = sk
        else:
            sk.net.udp_table.ports[sk.inet_num] = sk
    if sk.sk_state == TCP_ESTABLISHED and sk.inet_num and sk.inet_rcv_saddr and not sk.sk_reuseport:
        key = inet_sk_key(sk)
        first = not sk.net.udp_table.connected
        sk.net.udp_table.connected[key] = sk  # of several, the last one gets all
        sk.udp_tuple = key
        if first:
            connected_changed(sk.net)


def compute_score(sk: udp_sock, ends: InetEnds, dif: int, sdif: int = 0) -> int:
    """net/ipv4/udp.c: how specifically a sock matches a packet; -1: it does not match."""
    af = sk.sk_af
    score = 1
    if af.family == ends.family:
        score = 2
    elif not af.takes(sk, ends.family):
        return -1
    if sk.inet_rcv_saddr:
        if not ends.is_to(sk.inet_rcv_saddr):
            return -1
        score += 64  # the kernel looks for the exact address first
    if sk.inet_daddr:
        if not ends.is_from(sk.inet_daddr):
            return -1
        score += 4
    if sk.inet_dport:
        if sk.inet_dport != ends.sport:
            return -1
        score += 4
    if sk.sk_bound_dev_if or sdif:
        if not udp_sk_bound_dev_eq(sk, dif, sdif):
            return -1
        if sk.sk_bound_dev_if:
            score += 4
    return score


def udp_sk_bound_dev_eq(sk: udp_sock, dif: int, sdif: int) -> bool:
    """include/net/udp.h: whether a sock gets datagrams from this interface (inet_bound_dev_eq)."""
    accept = bool(sk.net.sysctl.udp_l3mdev_accept)
    return inet_bound_dev_eq(accept, sk.sk_bound_dev_if, dif, sdif)


def udp_lib_lookup_skb(net: Net, skb: sk_buff) -> udp_sock | None:
    """net/ipv{4,6}/udp.c (udp4_lib_lookup_skb): the sock a usual datagram belongs to, or None."""
    ends = udp_rcv_ends(skb)
    if ends is None:
        return None
    return __udp_lib_lookup(net, ends, skb.skb_iif, inet_sdif(skb))


def __udp_lib_lookup(net: Net, ends: InetEnds, dif: int, sdif: int = 0) -> udp_sock | None:
    """net/ipv{4,6}/udp.c (__udp4_lib_lookup): the sock a datagram belongs to, or None."""
    table = net.udp_table
    if table.connected and not sdif:
        connected: udp_sock | None = table.connected.find(ends)
        if connected is not None and connected.sk_bound_dev_if in (0, dif):
            return connected
    sk: udp_sock | None = table.ports.find(ends.dport)
    if sk is None:
        return None
    if sk.udp_port_next is None:
        return sk if compute_score(sk, ends, dif, sdif) >= 0 else None
    same: list[udp_sock] = []
    badness = 0
    for sk in udp_port_socks(net, ends.dport):
        score = compute_score(sk, ends, dif, sdif)
        if score > badness:
            same, badness = [sk], score
        elif score == badness:
            same.append(sk)
    if not same:
        return None
    best = same[-1]  # the last one bound
    if best.sk_reuseport and best.sk_state != TCP_ESTABLISHED:
        group = [sk for sk in same if sk.sk_reuseport]
        return group[inet_ehashfn(net, ends.key()) % len(group)]
    return best
