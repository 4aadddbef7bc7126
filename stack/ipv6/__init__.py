"""IPv6: the code of this family only (net/ipv6)."""
