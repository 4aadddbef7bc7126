from collections.abc import Callable, Sequence
from typing import Any, TypeVar, final

from typing_extensions import Buffer

from fastpath.base.intmap import IntMap
from fastpath.base.skbuff import SkbPool, sk_buff, sk_buff_head
from fastpath.wide import wide

_T = TypeVar("_T")

class IpIdents:
    def __init__(self, first: Sequence[int]) -> None: ...
    def reserve(self, slot: int, segs: int, now: int, randrange: Callable[[int], int]) -> int: ...

@final
class UdpFlow:
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
    def aim(self, dport: int, flowlabel: int = 0) -> None: ...
    def datagram(self, buffer: Buffer, off: int, n: int) -> sk_buff | None: ...
    def cuts(self, n: int, size: int) -> bool: ...
    def segments(
        self, buffer: Any, off: int, n: int, size: int, pages: SkbPool
    ) -> sk_buff | None: ...
    def push_ip_at(self, skb: sk_buff, now: int) -> None: ...
    def push_ip(self, skb: sk_buff, ident: int) -> None: ...

def ip_route_fields(skb: sk_buff) -> tuple[int, int, int, int, int]: ...
def rth_key(daddr: int, tos: int, ifindex: int) -> int: ...
def rth_find(
    routes: IntMap[_T], own: IntMap[Any], daddr: int, saddr: int, tos: int, ifindex: int
) -> _T | None: ...
def ip_pull_header(skb: sk_buff) -> int: ...
def ip_is_fragment(skb: sk_buff) -> bool: ...
def ip6_rcv_fields(skb: sk_buff) -> tuple[int, int, bool]: ...
def ip6_to_group(skb: sk_buff) -> bool: ...
def ip6_neigh_key(skb: sk_buff, ifindex: int) -> int: ...
def ip6_pull_header(skb: sk_buff, nhoff: int = 6) -> int: ...
def skb_enter_network(skb: sk_buff, ifindex: int) -> int: ...
def skb_queue_owned(
    queue: sk_buff_head, skb: sk_buff, sk: Any, destructor: Any, pull: int, limit: int
) -> int: ...
