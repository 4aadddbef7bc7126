"""net/xfrm and net/ipv4/esp4.c, net/ipv6/esp6.c: IPsec's states and ESP (RFC 4301, RFC 4303)."""
