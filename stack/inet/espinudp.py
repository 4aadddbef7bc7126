"""ESP in UDP (RFC 3948): demultiplexing between ESP and a socket with UDP_ENCAP.

| source port 2 | destination port 2 | length 2 | checksum 2 |
| SPI 4, not 0, and the rest of ESP     or  0 4, the non-ESP marker, then IKE     or  0xFF 1 |

A key daemon's socket receives IKE on the port. UDP passes each datagram to `udp_sock.encap_rcv`.
`netns_xfrm.input` is the input function of ESP (stack/xfrm/xfrm_input.py).
"""

from __future__ import annotations

from fastpath.base.skbuff import consume_skb, sk_buff, skb_copy_bits, skb_pull
from stack.core import drop_reason
from stack.core.drop_reason import kfree_skb_reason
from stack.core.netdevice import ETH_P_IP
from stack.core.uapi import AF_INET, AF_INET6
from stack.inet.udp_flow import UDP_HLEN
from stack.inet.udp_hash import udp_sock

UDP_ENCAP_ESPINUDP = 2
ESP_HLEN = 8
MARKER = bytes(4)
KEEPALIVE = b"\xff"


def xfrm_udp_encap_rcv(sk: udp_sock, skb: sk_buff) -> int:
    """net/ipv4/xfrm4_input.c xfrm4_udp_encap_rcv, net/ipv6/xfrm6_input.c: data at the UDP header.

    0: it was ESP or a keepalive, and is consumed. 1: it is for the socket; the caller keeps it.
    """
    size = skb.len - UDP_HLEN
    head = skb_copy_bits(skb, UDP_HLEN, min(size, len(MARKER)))
    if head == KEEPALIVE:
        consume_skb(skb)
        return 0
    if size <= ESP_HLEN or head == MARKER:
        return 1
    net = sk.net
    call = net.xfrm.input
    if call is None:  # no state was ever created
        net.mib.xfrm.XfrmInNoStates += 1
        kfree_skb_reason(net, skb, drop_reason.SKB_DROP_REASON_NOT_SPECIFIED)
        return 0
    skb_pull(skb, UDP_HLEN)
    call(skb, AF_INET if skb.protocol == ETH_P_IP else AF_INET6, UDP_ENCAP_ESPINUDP)
    return 0
