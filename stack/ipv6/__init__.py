"""IPv6: what only this family has (net/ipv6)."""
