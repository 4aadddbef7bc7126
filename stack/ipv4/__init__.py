"""IPv4: the code of this family only (net/ipv4)."""
