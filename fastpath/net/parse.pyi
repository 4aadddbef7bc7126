"""The headers of a packet, parsed once: by the driver's receive kernel, or at the first use.

The sk_buff keeps the results: `parsed` (PARSED_… bits), inet_family, l4_proto, l3_len, l3_dsfield,
saddr and daddr (of IPv4), sport, dport, l4_hlen. Of TCP it keeps th_seq, th_ack, th_flags,
th_window, tcp_opts, tsval, tsecr. It holds while network_header and transport_header stay where
they were, until a header is pushed or written through a view.
"""

from fastpath.base.skbuff import sk_buff

PARSED_L3: int  # the network header is whole and its lengths are right
PARSED_WHOLE: int  # no fragment
PARSED_PLAIN: int  # no IPv4 options; TCP or UDP right behind IPv6's 40 bytes
PARSED_L4: int  # the TCP or UDP header is whole, options too
PARSED_IP_SUM: int  # the sum of the IPv4 header was found right

def skb_parse(skb: sk_buff) -> bool:
    """Parse the headers at network_header unless that was done; whether they are IP.

    transport_header is the caller's. ValueError when skb was freed.
    """
