"""Code shared by both IP families: connections, hash tables, TCP, UDP, ping and raw sockets."""
