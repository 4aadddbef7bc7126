"""Code independent of protocol families: sockets, devices, neighbours, timers (net/core)."""
