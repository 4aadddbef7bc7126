"""What both IP families share: connections, hash tables, TCP, UDP, ping and raw sockets."""
