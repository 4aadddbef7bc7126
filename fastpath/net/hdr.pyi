# ruff: noqa: A002 - argument names are the kernel's
"""Header views and fast header writers over sk_buffs.

Compiled. A view remembers the sk_buff and the offset of its header; every access is checked against
the linear data, so a stale view raises IndexError and never touches foreign memory. Integers are in
host order, MAC addresses `bytes` of 6, IPv6 addresses 128-bit ints. A writable member takes any int
and keeps the low bits that fit.
"""

from typing import final

from fastpath.base.skbuff import sk_buff
from fastpath.wide import wide

ETH_HLEN: int
TCP_FLAG_FIN: int  # 0x01
TCP_FLAG_SYN: int  # 0x02
TCP_FLAG_RST: int  # 0x04
TCP_FLAG_PSH: int  # 0x08
TCP_FLAG_ACK: int  # 0x10
TCP_FLAG_URG: int  # 0x20
TCP_FLAG_ECE: int  # 0x40
TCP_FLAG_CWR: int  # 0x80

class header:
    """A view of one header in an sk_buff; its members are those that ``headers`` tells of it."""

@final
class ethhdr(header):
    h_dest: bytes
    h_source: bytes
    h_proto: int

@final
class vlan_ethhdr(header):
    h_dest: bytes
    h_source: bytes
    h_vlan_proto: int
    h_vlan_TCI: int
    h_vlan_encapsulated_proto: int

@final
class arphdr(header):
    """ARP for Ethernet and IPv4 (28 bytes)."""

    ar_hrd: int
    ar_pro: int
    ar_hln: int
    ar_pln: int
    ar_op: int
    ar_sha: bytes
    ar_sip: int
    ar_tha: bytes
    ar_tip: int

@final
class iphdr(header):
    version: int
    ihl: int
    tos: int
    tot_len: int
    id: int
    frag_off: int  # with the flags: 0x4000 DF, 0x2000 MF
    ttl: int
    protocol: int
    check: int
    saddr: int
    daddr: int
    options: bytes  # read-only: ihl * 4 - 20 bytes

@final
class ipv6hdr(header):
    version: int
    priority: int  # traffic class, all 8 bits
    flow_lbl: int  # 20 bits
    payload_len: int
    nexthdr: int
    hop_limit: int
    saddr: wide
    daddr: wide

@final
class icmphdr(header):
    type: int
    code: int
    checksum: int
    un: int  # the 4 bytes after the checksum as one int
    id: int
    sequence: int
    gateway: int
    mtu: int

@final
class igmphdr(header):
    type: int
    code: int
    csum: int
    group: int

@final
class udphdr(header):
    source: int
    dest: int
    len: int
    check: int

@final
class tcphdr(header):
    source: int
    dest: int
    seq: int
    ack_seq: int
    doff: int
    res1: int
    flags: int  # the 8 flag bits at once
    fin: int
    syn: int
    rst: int
    psh: int
    ack: int
    urg: int
    ece: int
    cwr: int
    window: int
    check: int
    urg_ptr: int
    options: bytes  # read-only: doff * 4 - 20 bytes

# views at the offsets recorded in the sk_buff (mac_header, network_header, transport_header)
def eth_hdr(skb: sk_buff) -> ethhdr: ...
def vlan_eth_hdr(skb: sk_buff) -> vlan_ethhdr: ...
def arp_hdr(skb: sk_buff) -> arphdr: ...
def ip_hdr(skb: sk_buff) -> iphdr: ...
def ipv6_hdr(skb: sk_buff) -> ipv6hdr: ...
def icmp_hdr(skb: sk_buff) -> icmphdr: ...
def igmp_hdr(skb: sk_buff) -> igmphdr: ...
def udp_hdr(skb: sk_buff) -> udphdr: ...
def tcp_hdr(skb: sk_buff) -> tcphdr: ...

# views at an offset from skb->data (an ICMP error's embedded packet)
def arphdr_at(skb: sk_buff, off: int) -> arphdr: ...
def igmphdr_at(skb: sk_buff, off: int) -> igmphdr: ...
def ethhdr_at(skb: sk_buff, off: int) -> ethhdr: ...
def iphdr_at(skb: sk_buff, off: int) -> iphdr: ...
def ipv6hdr_at(skb: sk_buff, off: int) -> ipv6hdr: ...
def icmphdr_at(skb: sk_buff, off: int) -> icmphdr: ...
def udphdr_at(skb: sk_buff, off: int) -> udphdr: ...
def tcphdr_at(skb: sk_buff, off: int) -> tcphdr: ...

# -- writers: push (grow at the front), fill, set *_header; ValueError without headroom ------------
def eth_header_push(skb: sk_buff, daddr: bytes, saddr: bytes, proto: int) -> None: ...
def arp_put(skb: sk_buff, op: int, sha: bytes, sip: int, tha: bytes, tip: int) -> None:
    """Append a 28-byte ARP packet at the tail; sets network_header."""

def ip_push(
    skb: sk_buff,
    tos: int,
    tot_len: int,
    id: int,
    frag_off: int,
    ttl: int,
    protocol: int,
    saddr: int,
    daddr: int,
    options: bytes = b"",
) -> None:
    """Push an IPv4 header with its checksum. `options` length must be a multiple of 4, at most 40.

    `tot_len` above 65535 is stored as 0 (super-packet: skb.len is the truth).
    """

def ipv6_push(
    skb: sk_buff,
    tclass: int,
    flow_lbl: int,
    payload_len: int,
    nexthdr: int,
    hop_limit: int,
    saddr: wide,
    daddr: wide,
) -> None: ...
def udp_push(skb: sk_buff, sport: int, dport: int, length: int, check: int) -> None:
    """Push the 8-byte header; sets transport_header. `length` above 65535 is stored as 0."""

def tcp_push(
    skb: sk_buff,
    sport: int,
    dport: int,
    seq: int,
    ack: int,
    flags: int,
    window: int,
    urg_ptr: int,
    options_bytes: bytes = b"",
) -> None:
    """Push 20 + len(options_bytes) bytes, check 0; sets transport_header. Options in 4s."""

def tcp_push_ts(
    skb: sk_buff,
    sport: int,
    dport: int,
    seq: int,
    ack: int,
    flags: int,
    window: int,
    urg_ptr: int,
    tsval: int,
    tsecr: int,
) -> None:
    """tcp_push with the aligned NOP NOP timestamps option (the common established segment)."""

def icmp_push(skb: sk_buff, type: int, code: int, un: int) -> None:
    """Push the 8-byte header and set its checksum over the whole packet; sets transport_header."""

# -- checksums -------------------------------------------------------------------------------------
def ip_fast_csum_ok(skb: sk_buff) -> bool:
    """Header checksum of the IPv4 header at network_header."""

def ip_send_check(iph: iphdr) -> None: ...
def ip_decrease_ttl(iph: iphdr) -> int:
    """Decrement TTL with incremental checksum; returns the new TTL."""

def tcp_v4_send_check(skb: sk_buff, saddr: int, daddr: int) -> None:
    """data at the TCP header. ip_summed PARTIAL: pseudo sum, csum_start/offset; else in full."""

def tcp_v6_send_check(skb: sk_buff, saddr: wide, daddr: wide) -> None: ...
def udp4_csum(skb: sk_buff, saddr: int, daddr: int) -> int:
    """UDP checksum with data at the UDP header, its check field taken as 0; 0 becomes 0xFFFF."""

def udp4_send_check(skb: sk_buff, saddr: int, daddr: int) -> None:
    """As tcp_v4_send_check for UDP."""

def udp6_send_check(skb: sk_buff, saddr: wide, daddr: wide) -> None: ...
def tcp_hdrlen(skb: sk_buff) -> int:
    """include/linux/tcp.h: bytes of the TCP header at transport_header. Raises IndexError."""

def gso_csum_prep(skb: sk_buff) -> None:
    """include/net/ip6_checksum.h tcp_v6_gso_csum_prep, for both families, TCP and UDP.

    Prepares a super-packet's headers for a device that segments it: length (and IPv4 check) 0 in
    the network header, in the transport header the sum of the pseudo header without length. Raises
    IndexError when a header is not linear.
    """

def icmp_csum(skb: sk_buff, off: int = 0) -> int:
    """Folded checksum of data[off:] (0 when a received message is right)."""

# -- fused receive helpers -------------------------------------------------------------------------
def eth_type_trans_fast(skb: sk_buff, dev_addr: bytes) -> int:
    """mac_header = data, pull 14, set pkt_type and skb.protocol; returns the protocol.

    Host order; 802.3 length fields give ETH_P_802_2 (4). Frames under 14 bytes return 0.
    """

def ip_hdr_validate(skb: sk_buff) -> int:
    """ip_rcv_core's checks, data at the IP header: 0 fine (packet trimmed to tot_len, network and
    transport header set); 1 header error; 2 bad checksum; 3 truncated (tot_len > skb.len)."""

def tcp_hdr_validate(skb: sk_buff) -> int:
    """data at the TCP header: doff in bytes (>= 20, linear), or 0 when malformed."""

def tcp_fill_cb(skb: sk_buff) -> None:
    """include/net/tcp.h: tcp_v4_fill_cb, tcp_v6_fill_cb; data at the TCP header.

    Fills seq, end_seq, ack_seq, tcp_flags, ip_dsfield and sacked = 0. ip_dsfield is the TOS of an
    IPv4 header, the traffic class of an IPv6 one. Afterwards sport, dport, l4_hlen, th_flags,
    th_window, tcp_opts, tsval and tsecr are set too: TCP need not read the header again.
    """

def tcp_parse_ts(skb: sk_buff) -> tuple[int, int] | None:
    """(tsval, tsecr) when the options are exactly the aligned timestamps form, else None."""

def tcp_hdr_fields(
    skb: sk_buff,
) -> tuple[int, int, int, int, int, int, int, int]:
    """(source, dest, seq, ack_seq, doff, flags, window, urg_ptr) at transport_header, one call."""
