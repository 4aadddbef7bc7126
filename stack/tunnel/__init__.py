"""net/ipv4/ip_tunnel.c and beside: devices that carry packets in other packets."""
