"""What test_nflog.py and test_nft_trace.py share: a Python program that listens, and two links."""

from __future__ import annotations

CAPTURE = """
import socket, struct, sys

def attributes(data):
    at = 0
    while len(data) - at >= 4:
        length, kind = struct.unpack_from("=HH", data, at)
        yield NAMES[kind & 0x3FFF], data[at + 4 : at + length]
        at += length + 3 & ~3

def no_more(listener):
    listener.setblocking(False)
    try:
        print("one more:", listener.recv(1 << 16))
    except BlockingIOError:
        pass
    listener.settimeout(20)

def udp(address, *ports, family=socket.AF_INET, size=5):
    with socket.socket(family, socket.SOCK_DGRAM) as s:
        s.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 22)
        for port in ports:
            try:
                s.sendto(b"x" * size, (address, port))
            except OSError as e:
                print(e)
"""
"""The program defines NAMES, of attributes by number."""
LINKS = """
ip link add w0 type veth peer name w1; ip link add x0 type veth peer name x1
for dev in w0 w1 x0 x1; do
    ip link set $dev address 02:00:00:00:00:0$((i += 1)) addrgenmode none up
done
ip addr add 10.7.0.1/24 dev w1; ip addr add 10.8.0.1/24 dev x0
ip addr add 2001:db8:7::1/64 dev w1 nodad; ip addr add 2001:db8:8::1/64 dev x0 nodad
ip neigh add 10.8.0.2 lladdr 02:00:00:00:00:09 dev x0
ip neigh add 2001:db8:8::9 lladdr 02:00:00:00:00:09 dev x0
"""
"""Packets into w0 are forwarded to x0, where a neighbour of each family is known."""
