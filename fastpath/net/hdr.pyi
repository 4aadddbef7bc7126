# ruff: noqa: A002 - argument names are the kernel's
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

class header: ...

@final
class ethhdr(header):
    h_dest: bytes
    h_source: bytes
    h_proto: int

@final
class arphdr(header):
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
def arp_hdr(skb: sk_buff) -> arphdr: ...
def ip_hdr(skb: sk_buff) -> iphdr: ...
def ipv6_hdr(skb: sk_buff) -> ipv6hdr: ...
def icmp_hdr(skb: sk_buff) -> icmphdr: ...
def udp_hdr(skb: sk_buff) -> udphdr: ...
def tcp_hdr(skb: sk_buff) -> tcphdr: ...

# views at an offset from skb->data (an ICMP error's embedded packet)
def iphdr_at(skb: sk_buff, off: int) -> iphdr: ...
def ipv6hdr_at(skb: sk_buff, off: int) -> ipv6hdr: ...
def icmphdr_at(skb: sk_buff, off: int) -> icmphdr: ...
def udphdr_at(skb: sk_buff, off: int) -> udphdr: ...
def tcphdr_at(skb: sk_buff, off: int) -> tcphdr: ...

# -- writers: push (grow at the front), fill, set *_header; ValueError without headroom ------------
def eth_header_push(skb: sk_buff, daddr: bytes, saddr: bytes, proto: int) -> None: ...
def arp_put(skb: sk_buff, op: int, sha: bytes, sip: int, tha: bytes, tip: int) -> None: ...
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
) -> None: ...
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
def udp_push(skb: sk_buff, sport: int, dport: int, length: int, check: int) -> None: ...
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
) -> None: ...
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
) -> None: ...
def icmp_push(skb: sk_buff, type: int, code: int, un: int) -> None: ...

# -- checksums -------------------------------------------------------------------------------------
def ip_send_check(iph: iphdr) -> None: ...
def ip_decrease_ttl(iph: iphdr) -> int: ...
def tcp_v4_send_check(skb: sk_buff, saddr: int, daddr: int) -> None: ...
def tcp_v6_send_check(skb: sk_buff, saddr: wide, daddr: wide) -> None: ...
def udp4_send_check(skb: sk_buff, saddr: int, daddr: int) -> None: ...
def udp6_send_check(skb: sk_buff, saddr: wide, daddr: wide) -> None: ...
def tcp_hdrlen(skb: sk_buff) -> int: ...
def gso_csum_prep(skb: sk_buff) -> None: ...
def icmp_csum(skb: sk_buff, off: int = 0) -> int: ...

# -- fused receive helpers -------------------------------------------------------------------------
def eth_type_trans_fast(skb: sk_buff, dev_addr: bytes) -> int: ...
def ip_hdr_validate(skb: sk_buff) -> int: ...
def tcp_hdr_validate(skb: sk_buff) -> int: ...
def tcp_fill_cb(skb: sk_buff) -> None: ...
def tcp_parse_ts(skb: sk_buff) -> tuple[int, int] | None: ...
def tcp_hdr_fields(
    skb: sk_buff,
) -> tuple[int, int, int, int, int, int, int, int]: ...
