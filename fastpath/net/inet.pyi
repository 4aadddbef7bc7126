from collections.abc import Callable, Sequence
from typing import Any, TypeVar, final

from typing_extensions import Buffer

from fastpath.base.intmap import IntMap
from fastpath.base.skbuff import SkbPool, sk_buff, sk_buff_head
from fastpath.wide import wide

_T = TypeVar("_T")

class IpIdents:
    """The generators of IPv4 identifications (net/ipv4/route.c ip_idents)."""

    def __init__(self, first: Sequence[int]) -> None:
        """`first`: the first id of each of the 1024 generators."""
    def reserve(self, slot: int, segs: int, now: int, randrange: Callable[[int], int]) -> int:
        """Take `segs` ids of generator `slot`; the first of them.

        `now` is a coarse time: when it has moved on by n ticks, up to n - 1 ids (at most 63) are
        skipped, as many as ``randrange(n)`` says.
        """

@final
class UdpFlow:
    """The prebuilt headers of the datagrams of one socket to one destination.

    `family` (2 or 10) is that of the wire; addresses and ports are in host order, `tos` and `ttl`
    also traffic class and hop limit. `flowlabel` is IPv6's; `df`, `idents` and `ident_slot`, the
    generator of identifications, are IPv4's.
    """

    family: int
    sk: Any
    dst: Any
    destructor: Any
    pool: SkbPool
    small: SkbPool | None
    """Where datagrams go that fit its buffers, while it has some."""
    room: int
    """The largest payload that fits one linear buffer and the MTU."""
    mark: int
    priority: int
    ident_slot: int
    """The generator of the identifications."""
    saddr: int
    daddr: int
    counted: bool
    """They are taken from it (not DF, or IP may clear it: RFC 6864)."""
    def __init__(
        self,
        sk: Any,
        dst: Any,
        destructor: Any,
        pool: SkbPool,
        headroom: int,
        saddr: wide,
        daddr: wide,
        sport: int,
        dport: int,
        *,
        tos: int,
        ttl: int,
        df: bool,
        ignore_df: bool,
        mark: int = 0,
        priority: int = 0,
        ident_slot: int = 0,
        idents: IpIdents | None = None,
        randrange: Callable[[int], int] | None = None,
        small: SkbPool | None = None,
        family: int = 2,
        flowlabel: int = 0,
        mtu: int = 0xFFFF,
    ) -> None: ...
    def aim(self, dport: int, flowlabel: int = 0) -> None:
        """Have the flow go to another port of the same address; `flowlabel` is IPv6's.

        Raises: ValueError, for numbers that do not fit.
        """

    def datagram(self, buffer: Buffer, off: int, n: int) -> sk_buff | None:
        """Make an sk_buff of `n` bytes of `buffer` with its UDP header; None without a buffer.

        The checksum is left to the device (CHECKSUM_PARTIAL); sk, dst, destructor, priority and
        mark are set. Raises ValueError when the bytes are not there or more than `room`.
        """
    def cuts(self, n: int, size: int) -> bool:
        """Whether `n` bytes may go as a super-packet of datagrams of `size` bytes (UDP_SEGMENT):
        more than one, not more than 128 nor 65535 bytes with headers, each within the MTU."""
    def segments(self, buffer: Any, off: int, n: int, size: int, pages: SkbPool) -> sk_buff | None:
        """A super-packet of `n` bytes of `buffer`, to be cut into datagrams of `size` bytes, with
        its UDP header; None without packet buffers.

        It is as `datagram` makes them; what does not fit one linear buffer lies in `pages`. Raises
        ValueError when the bytes are not there or `cuts` says no.
        """
    def push_ip_at(self, skb: sk_buff, now: int) -> None:
        """`push_ip` with identifications of the flow's generator at the coarse time `now`, one for
        each segment; 0 for a flow that is not `counted`.
        """
    def push_ip(self, skb: sk_buff, ident: int) -> None:
        """Push the IP header, checksum done; sets network_header and protocol.

        `ident` is IPv4's identification; IPv6 has none.
        """

def ip_route_fields(skb: sk_buff) -> tuple[int, int, int, int, int]:
    """Return (daddr, saddr, tos, protocol, plain) of the IPv4 header.

    `plain` is 2 for a whole packet without options whose frame was for this host alone, 1 for
    another whole packet, 0 for a fragment.
    """

def rth_key(daddr: int, tos: int, ifindex: int) -> int:
    """The key of a kept input route: interface, destination, type of service in one int."""

def rth_find(
    routes: IntMap[_T], own: IntMap[Any], daddr: int, saddr: int, tos: int, ifindex: int
) -> _T | None:
    """Return the kept route of a packet from a usual source, None for any other packet.

    `routes` by rth_key. A usual source is no group, broadcast, 0.0.0.0/8 nor loopback address and
    not among the `own` (what fib_validate_source asks of a device without a reverse path filter).
    """

def ip_pull_header(skb: sk_buff) -> int:
    """Move data to the transport header; the header's protocol."""

def ip_is_fragment(skb: sk_buff) -> bool:
    """Whether the IPv4 header says that this is a part of a packet (include/net/ip.h)."""

def ip6_rcv_fields(skb: sk_buff) -> tuple[int, int, bool]:
    """Return (daddr, nexthdr, strict) of the IPv6 header: what early demux and the route ask for.

    `strict`: the address means nothing without its interface (rt6_need_strict), for it is a group,
    link-local or the loopback address.
    """

def ip6_to_group(skb: sk_buff) -> bool:
    """Whether the destination in the IPv6 header is a multicast address. data may be behind it."""

def ip6_neigh_key(skb: sk_buff, ifindex: int) -> int:
    """Return the destination's key in a neighbour table: the address << 16 | `ifindex`.

    0 for a group, and for an interface number that has more than 16 bits.
    """

def ip6_pull_header(skb: sk_buff, nhoff: int = 6) -> int:
    """Move data to the transport header; the next header's number, `nhoff` bytes into the packet.

    data may be behind the IPv6 header already. Raises IndexError when there is none, or `nhoff` is
    not before the transport header or not linear.
    """

def skb_enter_network(skb: sk_buff, ifindex: int) -> int:
    """Start the network layer at data, on interface `ifindex`: the protocol.

    -1, and nothing done, for a packet with a VLAN tag beside it.
    """

def skb_queue_owned(
    queue: sk_buff_head, skb: sk_buff, sk: Any, destructor: Any, pull: int, limit: int
) -> int:
    """Step over `pull` bytes, make `sk` the owner with `destructor`, append to `queue`: truesize.

    0, and nothing done, when skb has an owner already or its truesize is above `limit`.
    """
