"""What no protocol family owns: sockets, devices, neighbours, timers (net/core)."""
