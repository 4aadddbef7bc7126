"""Two hosts on a wire, in virtual time: a ping, a datagram, a megabyte of TCP, and the counters."""

from e1000emu.lab import pump, two_hosts
from stack import proc
from stack.socket import AF_INET, SOCK_DGRAM, Socket, create_connection, create_server

a, b = two_hosts()

# UDP: the first datagram waits in the neighbour's queue while ARP asks for the address.
server = Socket(b, AF_INET, SOCK_DGRAM)
server.bind(("10.0.0.2", 5353))
client = Socket(a, AF_INET, SOCK_DGRAM)
client.sendto(b"hello", ("10.0.0.2", 5353))
print("UDP:", server.recvfrom(100))

# TCP: blocking calls let virtual time go on until they can return. `pump` drives both ends of a
# stream from one thread.
listener = create_server(b, ("10.0.0.2", 80))
sender = create_connection(a, ("10.0.0.2", 80))
receiver, peer = listener.accept()
pieces = iter([memoryview(bytes(100_000))] * 10)
received = pump(sender, receiver, lambda: next(pieces, None), lambda piece: None)
print(f"TCP: {received} bytes from {peer} after {a.clock.now_ns() / 1e6:.3f} virtual ms")

print(proc.read(b, "snmp"))
a.close()
b.close()
