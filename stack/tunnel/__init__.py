"""net/ipv4/ip_tunnel.c and others: tunnel devices."""
