"""IPv4 and its transports (net/ipv4)."""
