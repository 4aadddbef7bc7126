"""IPv4: what only this family has (net/ipv4)."""
