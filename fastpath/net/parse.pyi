from fastpath.base.skbuff import sk_buff

PARSED_L3: int  # the network header is whole and its lengths are right
PARSED_WHOLE: int  # no fragment
PARSED_PLAIN: int  # no IPv4 options; TCP or UDP right behind IPv6's 40 bytes
PARSED_L4: int  # the TCP or UDP header is whole, options too
PARSED_IP_SUM: int  # the sum of the IPv4 header was found right

def skb_parse(skb: sk_buff) -> bool: ...
