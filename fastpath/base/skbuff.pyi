# ruff: noqa: A002 - argument names are the kernel's
"""Socket buffers, their queues and their buffer pools (include/linux/skbuff.h, net/core/skbuff.c).

Compiled. All offsets called ``*_header`` and ``csum_start`` count from ``skb->head``; every
``offset``/``off`` argument counts from ``skb->data``. A freed sk_buff is harmless: its length is 0
and every operation on it raises ValueError. Call with the host's lock held.
"""

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, final

if TYPE_CHECKING:
    from stack.core.dst import dst_entry
    from stack.core.netdevice import net_device
    from stack.core.sock import sock

from typing_extensions import Buffer

CHECKSUM_NONE: int  # 0
CHECKSUM_UNNECESSARY: int  # 1
CHECKSUM_COMPLETE: int  # 2
CHECKSUM_PARTIAL: int  # 3
PACKET_HOST: int  # 0
PACKET_BROADCAST: int  # 1
PACKET_MULTICAST: int  # 2
PACKET_OTHERHOST: int  # 3
PACKET_OUTGOING: int  # 4
PACKET_LOOPBACK: int  # 5
SKB_GSO_TCPV4: int  # 1 << 0
SKB_GSO_DODGY: int  # 1 << 1
SKB_GSO_TCP_ECN: int  # 1 << 2
SKB_GSO_TCP_FIXEDID: int  # 1 << 3
SKB_GSO_TCPV6: int  # 1 << 4
SKB_GSO_UDP_L4: int  # 1 << 17
MAX_SKB_FRAGS: int  # 1100: a super-packet of 1 MiB and 1460-byte segments fits
HEADER_UNSET: int  # 0xFFFFFFFF: value of a *_header that was never set

@final
class SkbPool:
    """`count` buffers of `buf_bytes` carved from host memory; each knows its DMA address.

    ``mem`` needs ``alloc(n, align)``, ``free(addr, n)`` and ``view(addr, n)`` (a writable buffer).
    The memory goes back to ``mem`` when the pool and the last buffer in use are gone.
    """

    def __init__(self, mem: Any, buf_bytes: int, count: int, *, align: int = 64) -> None: ...
    mem: Any
    buf_bytes: int
    count: int
    available: int  # buffers ready to be taken
    in_use: int  # count - available
    gets: int  # buffers ever taken
    puts: int  # buffers ever returned
    failures: int  # requests refused because the pool was empty
    dma: int  # bus address of the first buffer

@final
class sk_buff:
    """One packet: linear head plus fragments; made by alloc_skb/skb_clone/…, never directly."""

    # lengths and counts (read-only)
    len: int
    data_len: int
    nr_frags: int
    cloned: bool  # the linear data is shared with another sk_buff
    users: int  # reference count: skb_get / kfree_skb; 0 = freed
    headroom: int
    tailroom: int
    list: sk_buff_head | None  # the queue it is on
    next: sk_buff | None
    prev: sk_buff | None
    # objects
    # as the kernel's pointers: read only where they are known to be set
    @property
    def dev(self) -> net_device: ...
    @dev.setter
    def dev(self, dev: net_device | None) -> None: ...
    @property
    def sk(self) -> sock: ...
    @sk.setter
    def sk(self, sk: sock | None) -> None: ...
    @property
    def dst(self) -> Any: ...  # an rtable or rt6_info; the reader knows the family
    @dst.setter
    def dst(self, dst: dst_entry | None) -> None: ...
    cb: Any
    nfct: Any  # the tracked connection, None
    destructor: Callable[[sk_buff], object] | None  # called once when freed or orphaned
    # plain integers, readable and writable
    truesize: int
    protocol: int  # EtherType, host order
    pkt_type: int
    ip_summed: int
    csum: int  # 32-bit accumulator, host order
    csum_start: int  # offset from head
    csum_offset: int  # from csum_start
    csum_level: int
    csum_valid: int
    csum_complete_sw: int
    gso_size: int
    gso_segs: int
    gso_type: int
    mac_header: int
    network_header: int
    transport_header: int
    mac_len: int
    priority: int
    mark: int
    vlan_tci: int
    vlan_proto: int
    vlan_present: bool  # vlan_proto != 0; setting False clears tag and protocol
    tstamp_ns: int
    hash: int
    l4_hash: int
    skb_iif: int
    queue_mapping: int
    napi_id: int
    nfctinfo: int
    ignore_df: int
    peeked: int
    ooo_okay: int
    dst_pending_confirm: int
    nohdr: bool  # read-only; see skb_header_release
    # IPCB
    ip_cb_flags: int
    frag_max_size: int
    # TCP_SKB_CB
    seq: int
    end_seq: int
    ack_seq: int
    tcp_flags: int  # FIN 1, SYN 2, RST 4, PSH 8, ACK 16, URG 32, ECE 64, CWR 128
    sacked: int
    ip_dsfield: int
    tcp_gso_size: int
    tcp_gso_segs: int
    tx_tstamp_ns: int
    tx_delivered: int
    tx_delivered_mstamp_ns: int
    tx_first_tx_mstamp_ns: int
    tx_in_flight: int
    tx_is_app_limited: int
    tx_lost: int

    # what was parsed (see fastpath.net.parse), read-only
    parsed: int  # PARSED_… bits; 0 = nothing
    inet_family: int  # 2 or 10
    l3_len: int  # bytes of the network layer
    l3_dsfield: int  # type of service, traffic class
    l4_proto: int
    saddr: int  # of IPv4
    daddr: int
    sport: int  # this and below with PARSED_L4
    dport: int
    l4_hlen: int  # 8 for UDP, with options for TCP
    th_seq: int
    th_ack: int
    th_flags: int
    th_window: int
    tcp_opts: int  # 0 none, 1 aligned timestamps and nothing else, 2 others
    tsval: int  # with tcp_opts 1
    tsecr: int

    @property
    def data_offset(self) -> int:
        """skb->data - skb->head."""

    @property
    def tail_offset(self) -> int:
        """skb->tail - skb->head."""

    @property
    def data_dma(self) -> int:
        """Bus address of skb->data."""

    def frag(self, index: int) -> tuple[int, int]:
        """(DMA address, bytes) of fragment `index`."""

    def __len__(self) -> int: ...

# -- life ------------------------------------------------------------------------------------------
def alloc_skb(pool: SkbPool, size_bytes: int, headroom: int = 0) -> sk_buff | None:
    """Empty sk_buff with room for `headroom` + `size_bytes`; None when the pool is exhausted.

    Raises ValueError when the two do not fit one buffer of the pool.
    """

def skb_from_bytes(pool: SkbPool, data: Buffer, headroom: int = 0) -> sk_buff | None:
    """sk_buff holding a copy of `data` (further buffers of `pool` as frags when needed)."""

def skb_get(skb: sk_buff) -> sk_buff: ...
def skb_shared(skb: sk_buff) -> bool: ...
def kfree_skb(skb: sk_buff | None, reason: int = 0) -> None:
    """Drop one reference; at zero release all and leave its queue. `reason` is for tracers."""

def consume_skb(skb: sk_buff | None) -> None:
    """kfree_skb for a packet that reached its end successfully."""

def kfree_skb_list(skbs: list[sk_buff]) -> None: ...
def skb_orphan(skb: sk_buff) -> None:
    """Call the destructor now and detach from skb.sk."""

def skb_clone(skb: sk_buff) -> sk_buff:
    """New sk_buff sharing the data; users 1, no sk, no destructor, on no queue."""

def skb_copy(skb: sk_buff, pool: SkbPool | None = None) -> sk_buff | None:
    """Private copy of header and payload, frags too, from its pools or `pool`; None if empty."""

def pskb_copy(skb: sk_buff, pool: SkbPool | None = None) -> sk_buff | None:
    """Private linear part, shared frags."""

def skb_share_check(skb: sk_buff) -> sk_buff | None:
    """Takes ownership of skb; a clone when others hold it too."""

def skb_unshare(skb: sk_buff) -> sk_buff | None:
    """Takes ownership of skb; a copy when its data is shared; None on exhaustion (skb freed)."""

def skb_unclone(skb: sk_buff) -> bool:
    """Make the linear part private; False on exhaustion."""

def skb_cow_head(skb: sk_buff, headroom: int) -> bool:
    """Private writable header with at least `headroom` bytes before data; False on exhaustion."""

def skb_cow(skb: sk_buff, headroom: int) -> bool: ...
def pskb_expand_head(skb: sk_buff, nhead: int, ntail: int) -> bool:
    """New linear buffer with that much more head- and tailroom; False when impossible."""

def skb_header_release(skb: sk_buff) -> None:
    """Promise that this sk_buff's header part is not looked at: its clones may write headers."""

def skb_header_cloned(skb: sk_buff) -> bool: ...
def skb_cloned(skb: sk_buff) -> bool: ...

# -- pointers --------------------------------------------------------------------------------------
def skb_reserve(skb: sk_buff, n: int) -> None: ...
def skb_put(skb: sk_buff, n: int) -> None:
    """Grow the linear data by `n` (contents undefined); ValueError beyond the tailroom."""

def skb_put_zero(skb: sk_buff, n: int) -> None: ...
def skb_put_data(skb: sk_buff, data: Buffer) -> None: ...
def skb_push(skb: sk_buff, n: int) -> None: ...
def skb_push_data(skb: sk_buff, data: Buffer) -> None:
    """Push and fill in one call."""

def skb_pull(skb: sk_buff, n: int) -> None:
    """Drop `n` bytes at the front, pulling frags in as needed; ValueError when n > len."""

def skb_pull_rcsum(skb: sk_buff, n: int) -> None:
    """skb_pull that keeps a CHECKSUM_COMPLETE sum right."""

def skb_trim(skb: sk_buff, n: int) -> None:
    """Cut to `n` bytes (frags too); longer is left alone."""

def pskb_trim(skb: sk_buff, n: int) -> None: ...
def pskb_trim_rcsum(skb: sk_buff, n: int) -> None: ...
def pskb_may_pull(skb: sk_buff, n: int) -> bool:
    """True when `n` bytes are (or could be made) linear."""

def skb_headroom(skb: sk_buff) -> int: ...
def skb_tailroom(skb: sk_buff) -> int: ...
def skb_headlen(skb: sk_buff) -> int: ...
def skb_is_nonlinear(skb: sk_buff) -> bool: ...
def skb_is_gso(skb: sk_buff) -> bool: ...
def skb_gso_reset(skb: sk_buff) -> None: ...
def skb_linearize(skb: sk_buff) -> bool:
    """False when the packet does not fit one buffer (or none is left)."""

def skb_put_padto(skb: sk_buff, n: int) -> bool:
    """Zero-pad to `n` bytes; False when there is no room."""

# -- header offsets (relative to data where an offset is passed or returned) -----------------------
def skb_reset_mac_header(skb: sk_buff) -> None: ...
def skb_reset_network_header(skb: sk_buff) -> None: ...
def skb_reset_transport_header(skb: sk_buff) -> None: ...
def skb_reset_mac_len(skb: sk_buff) -> None: ...
def skb_set_mac_header(skb: sk_buff, offset: int) -> None: ...
def skb_set_network_header(skb: sk_buff, offset: int) -> None: ...
def skb_set_transport_header(skb: sk_buff, offset: int) -> None: ...
def skb_mac_offset(skb: sk_buff) -> int: ...
def skb_network_offset(skb: sk_buff) -> int: ...
def skb_transport_offset(skb: sk_buff) -> int: ...
def skb_checksum_start_offset(skb: sk_buff) -> int: ...
def skb_network_header_len(skb: sk_buff) -> int: ...
def skb_mac_header_was_set(skb: sk_buff) -> bool: ...
def skb_transport_header_was_set(skb: sk_buff) -> bool: ...

# -- bytes -----------------------------------------------------------------------------------------
def skb_copy_bits(skb: sk_buff, off: int, n: int) -> bytes:
    """Bytes off … off + n; ValueError beyond the end. Negative `off` reaches pulled headers."""

def skb_store_bits(skb: sk_buff, off: int, data: Buffer) -> None: ...
def skb_to_bytes(skb: sk_buff) -> bytes: ...
def skb_copy_datagram_iter(skb: sk_buff, offset: int, buffer: Buffer, buf_off: int, n: int) -> int:
    """Copy `n` bytes from `offset` to `buffer[buf_off:]`; linear over all calls (read cursor).

    Returns the bytes copied: fewer when skb or buffer end. ValueError on negative arguments.
    """

def skb_copy_and_csum_datagram_msg(
    skb: sk_buff, hlen: int, buffer: Buffer, buf_off: int, n: int
) -> int:
    """The same from `hlen`, verifying the whole checksum first if need be; -1 when bad."""

def skb_add_data(skb: sk_buff, pages_pool: SkbPool, buffer: Buffer, off: int, n: int) -> int:
    """Append up to `n` bytes of buffer[off:] as frags: fills the last frag's page, then new pages.

    Returns the bytes copied; fewer when the pool or the frag array (MAX_SKB_FRAGS) is full.
    """

def skb_append_linear(skb: sk_buff, buffer: Buffer, off: int, n: int) -> int:
    """Append up to `n` bytes to the linear tail (only when there are no frags); bytes copied."""

def skb_split(skb: sk_buff, skb1: sk_buff, n: int) -> None:
    """Move all bytes past `n` to the (empty) skb1. Lengths only; gso fields are the caller's."""

def skb_shift(tgt: sk_buff, skb: sk_buff, shiftlen: int) -> int:
    """Move `shiftlen` bytes from the front of skb to the end of tgt; bytes moved or 0."""

def skb_try_coalesce(to: sk_buff, frm: sk_buff) -> bool:
    """Append all of `frm`'s data to `to` by moving its buffers (no copy); then free `frm`.

    truesize of `to` grows by what moved. False (nothing changed) when the frags do not fit.
    """

def skb_append_frags(to: sk_buff, frm: sk_buff, off: int, n: int) -> bool:
    """Append bytes off … off + n of `frm` to `to` by reference; `frm` stays as it is."""

# -- checksums -------------------------------------------------------------------------------------
def skb_checksum(skb: sk_buff, off: int, n: int, acc: int = 0) -> int:
    """Unfolded sum (csum_partial) of bytes off … off + n over head and frags."""

def skb_checksum_help(skb: sk_buff) -> bool:
    """Resolve CHECKSUM_PARTIAL in software; ip_summed becomes NONE. False when malformed."""

def skb_csum_unnecessary(skb: sk_buff) -> bool: ...
def skb_checksum_init(skb: sk_buff, proto: int, saddr: int, daddr: int) -> int:
    """IPv4 tcp_v4_checksum_init: 0 = fine or to be completed later, 1 = bad. data at the L4 header.

    Leaves the pseudo-header sum in skb.csum when skb_checksum_complete has to finish the work.
    """

def skb_checksum_init_v6(skb: sk_buff, proto: int, saddr: int, daddr: int) -> int:
    """skb_checksum_init with the IPv6 pseudo header; addresses are 128-bit ints."""

def inet_checksum_init(skb: sk_buff, proto: int) -> int:
    """skb_checksum_init with the addresses of the IPv4 or IPv6 header at network_header.

    Raises IndexError when that header is not there, ValueError when it is of neither version.
    """

def skb_checksum_complete(skb: sk_buff) -> int:
    """0 when the packet's checksum is right (with skb.csum as start value), else 1."""

def skb_postpull_rcsum(skb: sk_buff, data: Buffer) -> None: ...

# -- queues ----------------------------------------------------------------------------------------
class sk_buff_head:
    """Doubly linked intrusive list of sk_buffs; holds a Python reference to each member."""

    qlen: int
    def __init__(self) -> None: ...
    def peek(self) -> sk_buff | None: ...
    def peek_tail(self) -> sk_buff | None: ...
    def queue_tail(self, skb: sk_buff) -> None:
        """Takes ownership of skb. ValueError when it is on a queue already, or freed."""
    def queue_head(self, skb: sk_buff) -> None: ...
    def dequeue(self) -> sk_buff | None: ...
    def dequeue_tail(self) -> sk_buff | None: ...
    def unlink(self, skb: sk_buff) -> None:
        """ValueError when skb is not on this queue."""
    def insert_after(self, prev: sk_buff, skb: sk_buff) -> None: ...
    def insert_before(self, next: sk_buff, skb: sk_buff) -> None: ...
    def purge(self) -> None:
        """kfree_skb every member."""
    def splice_tail_init(self, frm: sk_buff_head) -> None:
        """Move all of `frm` to the end of this queue."""
    def next(self, skb: sk_buff) -> sk_buff | None: ...
    def prev(self, skb: sk_buff) -> sk_buff | None: ...
    def is_last(self, skb: sk_buff) -> bool: ...
    def is_first(self, skb: sk_buff) -> bool: ...
    def nbytes(self) -> int:
        """Sum of len over the members."""
    def __len__(self) -> int: ...
    def __bool__(self) -> bool: ...
    def __iter__(self) -> Iterator[sk_buff]:
        """Safe against unlinking (and freeing) the current member."""
    def __reversed__(self) -> Iterator[sk_buff]: ...

def skb_queue_head_init(list: sk_buff_head) -> None: ...
def skb_queue_empty(list: sk_buff_head) -> bool: ...
def skb_queue_len(list: sk_buff_head) -> int: ...
def skb_queue_tail(list: sk_buff_head, skb: sk_buff) -> None: ...
def skb_queue_head(list: sk_buff_head, skb: sk_buff) -> None: ...
def skb_dequeue(list: sk_buff_head) -> sk_buff | None: ...
def skb_dequeue_tail(list: sk_buff_head) -> sk_buff | None: ...
def skb_peek(list: sk_buff_head) -> sk_buff | None: ...
def skb_peek_tail(list: sk_buff_head) -> sk_buff | None: ...
def skb_unlink(skb: sk_buff, list: sk_buff_head) -> None: ...
def skb_append(old: sk_buff, newsk: sk_buff, list: sk_buff_head) -> None: ...
def skb_insert_before(next: sk_buff, newsk: sk_buff, list: sk_buff_head) -> None: ...
def skb_queue_purge(list: sk_buff_head) -> None: ...
def skb_queue_next(list: sk_buff_head, skb: sk_buff) -> sk_buff | None: ...
def skb_queue_prev(list: sk_buff_head, skb: sk_buff) -> sk_buff | None: ...
def skb_queue_is_last(list: sk_buff_head, skb: sk_buff) -> bool: ...
def skb_queue_is_first(list: sk_buff_head, skb: sk_buff) -> bool: ...
def skb_queue_splice_tail_init(list: sk_buff_head, head: sk_buff_head) -> None:
    """Move all of `list` to the end of `head`."""

# the same without a lock, as the kernel spells them (do not use inside a class body: name mangling)
def __skb_queue_tail(list: sk_buff_head, skb: sk_buff) -> None: ...
def __skb_queue_head(list: sk_buff_head, skb: sk_buff) -> None: ...
def __skb_dequeue(list: sk_buff_head) -> sk_buff | None: ...
def __skb_unlink(skb: sk_buff, list: sk_buff_head) -> None: ...
def __skb_queue_after(list: sk_buff_head, prev: sk_buff, newsk: sk_buff) -> None: ...
def __skb_queue_before(list: sk_buff_head, next: sk_buff, newsk: sk_buff) -> None: ...
def __skb_queue_purge(list: sk_buff_head) -> None: ...
def __kfree_skb(skb: sk_buff) -> None: ...
def frag_array_mallocs() -> int:
    """Fragment arrays ever taken from malloc: constant in the steady state (for tests)."""
