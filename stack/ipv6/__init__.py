"""IPv6: what is the family's own."""
