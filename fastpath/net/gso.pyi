from fastpath.base.skbuff import SkbPool, sk_buff

def skb_gso_segment(
    skb: sk_buff, pool: SkbPool, *, csum_partial: bool = False
) -> list[sk_buff]: ...
def skb_gso_validate_network_len(skb: sk_buff, mtu: int) -> bool: ...
def udp_rcv_segment(skb: sk_buff, pool: SkbPool) -> list[sk_buff]:
    """Split a UDP GRO sk_buff (data at the UDP header) into datagrams, larger ones by reference.

    Takes ownership of skb (freed, also on error). Each datagram has data at its own UDP header, the
    headers in front of it as they were on the wire, and counts as verified.

    Raises ValueError for a malformed packet; MemoryError when `pool` runs dry (nothing leaks).
    """

def gro_unmerge(skb: sk_buff, pool: SkbPool) -> list[sk_buff]: ...
