"""Software segmentation of GSO super-packets (net/core/gso.c, tcp_offload.c, udp_offload.c)."""

from fastpath.base.skbuff import SkbPool, sk_buff

def skb_gso_segment(skb: sk_buff, pool: SkbPool, *, csum_partial: bool = False) -> list[sk_buff]:
    """Cut `skb` (data at the MAC header, network/transport header set, gso_size > 0) into frames.

    Borrows skb: the caller still frees it. Lengths, IP ids, checksums, sequence numbers and flags
    (PSH, FIN, CWR) are per segment; `csum_partial` leaves CHECKSUM_PARTIAL for a NIC. Segments
    keep protocol, dev, dst, priority, mark, vlan_*, queue_mapping, and skb.sk without destructor
    (accounting stays with the super-packet). IPv4 and IPv6, TCP and UDP_L4.

    Raises ValueError for a malformed packet; MemoryError when `pool` runs dry (nothing leaks).
    """

def skb_gso_network_seglen(skb: sk_buff) -> int:
    """Network-layer length of one full segment."""

def skb_gso_validate_network_len(skb: sk_buff, mtu: int) -> bool: ...
def udp_rcv_segment(skb: sk_buff, pool: SkbPool) -> list[sk_buff]:
    """Split a UDP GRO sk_buff (data at the UDP header) into datagrams, larger ones by reference.

    Takes ownership of skb (freed, also on error). Each datagram has data at its own UDP header, the
    headers in front of it as they were on the wire, and counts as verified.

    Raises ValueError for a malformed packet; MemoryError when `pool` runs dry (nothing leaks).
    """

def gro_unmerge(skb: sk_buff, pool: SkbPool) -> list[sk_buff]:
    """`udp_rcv_segment` for data at (or behind) the network header: the packets as they came.

    data of each is at its network header. Taps, hooks, raw sockets and forwarding need single
    packets. Raises as udp_rcv_segment.
    """
