"""AF_UNIX: sockets between the programs of one host (net/unix)."""
