"""Requests and answers over one connection, measured in two kinds of time."""

import time

from e1000emu.lab import two_hosts
from stack.socket import create_connection, create_server

a, b = two_hosts(latency_ns=1_000_000, rate_bps=10**9, impair={"loss": 0.01}, seed=1)
with a, b, create_server(b, ("10.0.0.2", 80)) as listener:
    client = create_connection(a, ("10.0.0.2", 80))
    server, _ = listener.accept()
    cpu_s, virtual_ns = time.process_time(), a.clock.now_ns()
    for _ in range(1000):
        client.sendall(b"GET")
        server.sendall(bytes(1000) if server.recv(100) else b"")
        client.recv(1000)
    print(f"{1000e9 / (a.clock.now_ns() - virtual_ns):.1f} requests a second of virtual time")
    print(
        f"{1000 / (time.process_time() - cpu_s):.0f} requests a second of this machine's CPU time"
    )
