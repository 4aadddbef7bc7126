"""net/ipv4/inet_hashtables.c: finding TCP sockets, and giving out local ports.

`ehash` maps a key (family, foreign address and port, local address and port; `inet_sk_key`) to
the entry of that connection: a full socket, a request (NEW_SYN_RECV) or a TIME_WAIT remnant.
Connections of different VRFs may have one key; then all but the first are in `twins`.
`bhash` maps a local port to its bucket of owners, `lhash2` a local port to its listeners. Both hold
the sockets of both families, because one of IPv6 may own the port for IPv4 too.
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from fastpath.base.skbuff import sk_buff
from fastpath.net.inethash import InetHash
from fastpath.net.inetkey import inet_key
from stack.core.errors import os_error
from stack.core.l3mdev import inet_sdif, l3mdev_master_ifindex_by_index
from stack.core.rows import row, state, wide
from stack.core.secure_seq import secure_ipv4_port_ephemeral
from stack.core.sock import sock_common
from stack.core.sock_flags import SOCK_BINDADDR_LOCK
from stack.core.tcp_states import TCP_CLOSE, TCP_LISTEN, TCP_NEW_SYN_RECV, TCP_TIME_WAIT
from stack.inet.af_ops import (
    InetKey,
    inet_ehash_add,
    inet_ehash_match,
    inet_ehash_remove,
    inet_ehash_replace,
    inet_ehash_twin,
    inet_ehashfn,
    inet_sk_bound_dev_eq,
    inet_sk_key,
)
from stack.inet.inet_sock import inet_sock
from stack.inet.inet_timewait_sock import inet_twsk_deschedule_put, twsk_unique
from stack.net import Net

if TYPE_CHECKING:
    from stack.inet.inet_connection_sock import inet_connection_sock, request_sock
    from stack.inet.tcp_sock import tcp_sock


BindOwner = Any
"""An inet_connection_sock, or an inet_timewait_sock in its place."""
EhashEntry = Any
"""A tcp_sock, a request_sock or an inet_timewait_sock, distinguished by sk_state."""


@state
class inet_bind_bucket:
    """One local port and the sockets bound to it."""

    port: int
    fastreuse: int = row(-1)
    """1: each owner has SO_REUSEADDR and none listens; -1: connect() chose the port."""
    fastreuseport: int = row(-1)
    """FASTREUSEPORT_ANY: all owners have SO_REUSEPORT; FASTREUSEPORT_STRICT: one with the address
    below has; 0: neither; -1: connect() chose the port."""
    fast_family: int = row(0)
    fast_rcv_saddr: wide = row(0)
    fast_ipv6_only: bool = row(False)
    """Family, address and IPV6_V6ONLY of the owner that `fastreuseport` was set for."""
    owner: BindOwner | None = row()
    """The only owner; None when the port has no owner, or several, which are in `others`."""
    others: dict[BindOwner, None] | None = row()
    """A listener's bucket has an owner for each connection; a dict removes one in O(1)."""

    def is_free(self) -> bool:
        """Whether no socket owns the port."""
        return self.owner is None and not self.others

    def owners(self) -> Iterable[BindOwner]:
        """All owners. Do not add or remove one while iterating."""
        if self.owner is not None:
            return (self.owner,)
        return self.others or ()

    def add(self, sk: BindOwner) -> None:
        """Make `sk` an owner, if it is not one yet."""
        if self.others is not None:
            self.others[sk] = None
        elif self.owner is None:
            self.owner = sk
        elif self.owner is not sk:
            self.others = {self.owner: None, sk: None}
            self.owner = None

    def remove(self, sk: BindOwner) -> None:
        """Remove the owner `sk`. Raises: KeyError when it is none."""
        if self.others is not None:
            del self.others[sk]
        elif self.owner is sk:
            self.owner = None
        else:
            raise KeyError(sk)


@state
class inet_hashinfo:
    """The tables of one protocol on one host (kernel: `tcp_hashinfo`)."""

    ehash: InetHash[EhashEntry] = row(make=InetHash)
    bhash: dict[int, inet_bind_bucket] = row(make=dict)
    lhash2: dict[int, list[tcp_sock]] = row(make=dict)
    table_perturb: dict[tuple[int, wide, wide, int], int] = row(make=dict)
    twins: dict[InetKey, list[EhashEntry]] = row(make=dict)
    """Further entries of a key, of different VRFs; the first one of each key is in `ehash`."""


# --- lookup -------------------------------------------------------------------------------


def __inet_lookup_established(
    hashinfo: inet_hashinfo, skb: sk_buff | None, key: InetKey | None, dif: int, sdif: int
) -> EhashEntry | None:
    """The connection, request or TIME_WAIT socket that matches exactly; None when there is none.

    The key is read from the segment `skb`. Without one (for an ICMP error) it is `key`.
    """
    sk = hashinfo.ehash.get(key) if skb is None else hashinfo.ehash.find_skb(skb)
    if sk is not None and not inet_sk_bound_dev_eq(sk, dif, sdif):
        if skb is not None:
            key = inet_key(skb)
        assert key is not None, "there is no segment"
        return inet_ehash_twin(hashinfo, key, dif, sdif)
    return sk


def compute_score(sk: inet_sock, family: int, daddr: wide, dif: int, sdif: int = 0) -> int:
    """How specific a matching listener of the port is; -1 when it does not match.

    A bound address counts most, then the packet's own family, then a bound device.
    """
    af = sk.sk_af
    score = 0
    if af.family == family:
        score = 2
    elif not af.takes(sk, family):
        return -1
    if sk.inet_rcv_saddr:
        if sk.inet_rcv_saddr != daddr:
            return -1
        score += 4
    if not inet_sk_bound_dev_eq(sk, dif, sdif):
        return -1
    if sk.sk_bound_dev_if:
        score += 1
    return score


def __inet_lookup_listener(
    hashinfo: inet_hashinfo, skb: sk_buff | None, key: InetKey, dif: int, sdif: int
) -> tcp_sock | None:
    """The best listener; a reuseport group is spread by a hash of the key."""
    family, _, _, daddr, hnum = key
    group = hashinfo.lhash2.get(hnum)
    if not group:
        return None
    best: list[tcp_sock] = []
    hiscore = -1
    for sk in group:
        score = compute_score(sk, family, daddr, dif, sdif)
        if score > hiscore:
            best, hiscore = [sk], score
        elif score == hiscore and score >= 0 and sk.sk_reuseport:
            best.append(sk)
    if not best:
        return None
    if len(best) > 1 and best[0].sk_reuseport:
        return best[inet_ehashfn(best[0].net, key) % len(best)]
    return best[0]


def __inet_lookup(hashinfo: inet_hashinfo, skb: sk_buff, dif: int, sdif: int) -> EhashEntry | None:
    """Established first, then listeners."""
    sk = __inet_lookup_established(hashinfo, skb, None, dif, sdif)
    if sk is not None:
        return sk
    return __inet_lookup_listener(hashinfo, skb, inet_key(skb), dif, sdif)


def __inet_lookup_skb(hashinfo: inet_hashinfo, skb: sk_buff) -> EhashEntry | None:
    """The socket of a segment; early demux may have found it already (skb.sk)."""
    sk = skb.sk
    if sk is not None:
        destructor = skb.destructor
        if destructor is not None:
            skb.destructor = None
            destructor(skb)
        skb.sk = None
        # Early demux found the socket before the packets ahead of this one were delivered. In these
        # states it may have left the hash since, so look again.
        entry: sock_common = sk
        if entry.sk_state not in (TCP_CLOSE, TCP_TIME_WAIT, TCP_NEW_SYN_RECV):
            return sk
    return __inet_lookup(hashinfo, skb, skb.skb_iif, inet_sdif(skb))


# --- hashing ------------------------------------------------------------------------------


def inet_hash(sk: tcp_sock) -> int:
    """proto.hash: a listener goes to the listening hash, anything but CLOSE to ehash."""
    if sk.sk_state == TCP_LISTEN:
        group = sk.net.tcp_hashinfo.lhash2.setdefault(sk.inet_num, [])
        if sk not in group:
            group.append(sk)
        sk.sk_hashed = 1
    elif sk.sk_state != TCP_CLOSE:
        inet_ehash_nolisten(sk, None)
    return 0


def inet_ehash_nolisten(sk: inet_connection_sock, osk: request_sock | None) -> bool:
    """Enter sk, which is no listener, into ehash, in place of the request `osk` if given.

    False: another entry has the key, or `osk` is not there any more.
    """
    hashinfo = sk.net.tcp_hashinfo
    key: InetKey
    if osk is not None:
        key = osk.inet_tuple
        if not inet_ehash_replace(hashinfo, key, osk, sk):
            return False  # the request was dropped in the meantime
    else:
        key = inet_sk_key(sk)
        bound = sk.sk_bound_dev_if
        if inet_ehash_match(hashinfo, key, bound, bound) is not None:
            return False
        inet_ehash_add(hashinfo, key, sk)
    sk.inet_tuple = key
    sk.sk_hashed = 1
    return True


def inet_unhash(sk: tcp_sock) -> None:
    """proto.unhash."""
    if not sk.sk_hashed:
        return
    sk.sk_hashed = 0
    hashinfo = sk.net.tcp_hashinfo
    group = hashinfo.lhash2.get(sk.inet_num)
    if group and sk in group:
        group.remove(sk)
        if not group:
            del hashinfo.lhash2[sk.inet_num]
    else:
        inet_ehash_remove(hashinfo, sk.inet_tuple, sk)


# --- bind buckets -------------------------------------------------------------------------


def inet_bind_hash(sk: inet_connection_sock, tb: inet_bind_bucket, port: int) -> None:
    """Make sk an owner of the port."""
    sk.inet_num = port
    tb.add(sk)
    sk.icsk_bind_hash = tb


def inet_put_port(sk: inet_connection_sock) -> None:
    """Release the local port."""
    tb = sk.icsk_bind_hash
    if tb is None:
        return
    sk.icsk_bind_hash = None
    sk.inet_num = 0
    tb.remove(sk)
    if tb.is_free():
        sk.net.tcp_hashinfo.bhash.pop(tb.port, None)


def inet_reset_saddr(sk: inet_sock) -> None:
    """inet_bhash2_reset_saddr: forget the local address, unless bind() chose it."""
    if not sk.sk_flags & SOCK_BINDADDR_LOCK:
        sk.inet_saddr = sk.inet_rcv_saddr = 0


def __inet_inherit_port(sk: inet_connection_sock, child: inet_connection_sock) -> int:
    """An accepted connection shares its listener's port bucket."""
    tb = sk.icsk_bind_hash
    if tb is None:
        return -errno.ENOENT
    inet_bind_hash(child, tb, tb.port)
    return 0


# --- connect ------------------------------------------------------------------------------


def __inet_check_established(net: Net, sk: tcp_sock, lport: int, bound: bool) -> bool:
    """Claim the 4-tuple with local port `lport`; False when a connection has it.

    A TIME_WAIT socket gives way when the protocol's twsk_unique allows it (RFC 6191).
    """
    hashinfo = net.tcp_hashinfo
    key = (sk.sk_af.family, sk.inet_daddr, sk.inet_dport, sk.inet_rcv_saddr, lport)
    dif = sk.sk_bound_dev_if
    there = inet_ehash_match(hashinfo, key, dif, l3mdev_master_ifindex_by_index(net, dif))
    tw = None
    if there is not None:
        if there.sk_state != TCP_TIME_WAIT or not twsk_unique(sk, there, bound):
            return False
        tw = there
    sk.inet_num = lport
    sk.inet_sport = lport
    if tw is not None:
        net.mib.linux.TWRecycled += 1
        inet_twsk_deschedule_put(tw)
    inet_ehash_add(hashinfo, key, sk)
    sk.inet_tuple = key
    sk.sk_hashed = 1
    return True


def inet_sk_get_local_port_range(sk: inet_sock) -> tuple[int, int]:
    """net/ipv4/inet_connection_sock.c: (low, high) of automatic ports for this socket.

    IP_LOCAL_PORT_RANGE narrows the host's range; a bound of it outside that range is ignored.
    """
    low, high = sk.net.sysctl.ip_local_port_range
    own_low, own_high = sk.local_port_range
    if low <= own_low <= high:
        low = own_low
    if low <= own_high <= high:
        high = own_high
    return low, high


def inet_free_port(sk: inet_sock, taken: Callable[[Any, int], bool]) -> int:
    """A port of the socket's range that is neither reserved nor `taken(sk, port)`; 0: none.

    The search begins at a random port.
    """
    low, high = inet_sk_get_local_port_range(sk)
    span = high - low + 1
    reserved = sk.net.sysctl.ip_local_reserved_ports
    start = sk.net.random.randrange(span)
    for i in range(span):
        port = low + (start + i) % span
        if port not in reserved and not taken(sk, port):
            return port
    return 0


def inet_hash_connect(sk: tcp_sock) -> None:
    """Choose the local port of an active open (when none is bound) and enter ehash.

    Ports with the parity of the range's low end are tried first; bind(0) tries the others first.
    With IP_LOCAL_PORT_RANGE all ports are tried in one pass. Raises: OSError EADDRNOTAVAIL.
    """
    net = sk.net
    hinfo = net.tcp_hashinfo
    if sk.inet_num:
        if not __inet_check_established(net, sk, sk.inet_num, True):
            raise os_error(errno.EADDRNOTAVAIL)
        return
    low: int
    high: int
    low, high = inet_sk_get_local_port_range(sk)
    reserved = net.sysctl.ip_local_reserved_ports
    high += 1
    remaining: int = high - low
    step = 1 if any(sk.local_port_range) else 2
    if step == 2 and remaining > 1:
        remaining &= ~1
    perturb_key = (sk.sk_af.family, sk.inet_rcv_saddr, sk.inet_daddr, sk.inet_dport)
    known = hinfo.table_perturb.get(perturb_key)
    if known is None:
        if len(hinfo.table_perturb) > 4096:
            hinfo.table_perturb.clear()
        known = net.random.getrandbits(16)
    perturb: int = known
    # RFC 6056 algorithm 4, the double hash: where the search for this destination begins.
    first = secure_ipv4_port_ephemeral(net, sk.inet_rcv_saddr, sk.inet_daddr, sk.inet_dport)
    offset: int = ((perturb + first) & 0xFFFFFFFF) % remaining & -step
    for parity in range(step):
        for i in range(parity, remaining, step):
            port: int = low + (offset + i) % remaining
            if port in reserved:
                continue
            tb = hinfo.bhash.get(port) or inet_bind_bucket(port)
            if tb.fastreuse >= 0 or tb.fastreuseport >= 0:
                continue  # some socket bound it explicitly
            if not __inet_check_established(net, sk, port, False):
                continue
            # The next search begins behind this port.
            hinfo.table_perturb[perturb_key] = (perturb + i + step) & 0xFFFFFFFF
            # The bucket may have gone with the TIME_WAIT socket that was its last owner.
            inet_bind_hash(sk, hinfo.bhash.setdefault(port, tb), port)
            return
    raise os_error(errno.EADDRNOTAVAIL)
