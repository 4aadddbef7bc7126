"""Flow keys and hashes of packets (net/core/flow_dissector.c)."""

from typing_extensions import Buffer

from fastpath.skbuff import sk_buff

def jhash_3words(a: int, b: int, c: int, initval: int) -> int:
    """Bob Jenkins' lookup3 of three words (include/linux/jhash.h)."""

def inet_ehashfn(laddr: int, lport: int, faddr: int, fport: int, secret: int) -> int: ...
def skb_get_hash(skb: sk_buff, secret: int = 0) -> int:
    """Symmetric-free 32-bit flow hash, never 0; kept in skb.hash. Works from network_header."""

def flow_key(frame: Buffer) -> tuple[int, int, int, int, int, int, int, int, int] | None:
    """(l3_proto, ip_proto, saddr, daddr, sport, dport, l4_off, payload_off, payload_len) of an
    Ethernet frame; ports 0 for fragments and other protocols; None when malformed or not IP."""

def flow_hash_many(
    arena: Buffer, offsets: Buffer, lengths: Buffer, out: Buffer, secret: int = 0
) -> int:
    """Hash many frames of one arena in one call: uint32 arrays in, uint32 hashes out (0 = not IP).

    Returns the number of IP frames. ValueError when a frame lies outside the arena.
    """
