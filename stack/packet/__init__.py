"""Packet sockets: whole frames of an interface (net/packet)."""
