"""One end of two PyTCP stacks, run by rows/pytcp.py: `python -O pytcp_end.py FD CLIENT|SERVER SIZE`

FD is an end of a pair of sockets that keep frames apart, where PyTCP would have its TAP. PyTCP is
one stack a process, with four threads. The server answers every datagram; the client exchanges as
many as a line of standard input says and answers with a line. Either tells its CPU seconds so far.
"""

from __future__ import annotations

import os
import sys
import threading
import time

from pytcp import config
from pytcp.lib import socket, stack
from pytcp.lib.ip4_address import Ip4Host
from pytcp.lib.mac_address import MacAddress

PORT, TRIES = 9001, 5


def started(fd: int, number: int) -> None:
    """Start the stack as 10.0.0.NUMBER on `fd`; nobody else is there to have the address."""
    config.LOG_CHANEL.clear()
    config.IP6_SUPPORT = False
    stack.packet_handler.assign_mac_address(MacAddress(f"02:00:00:00:00:{number:02x}"))
    stack.packet_handler.ip4_host.append(Ip4Host(f"10.0.0.{number}/24"))
    for part in (stack.timer, stack.arp_cache):
        part.start()
    for ring in (stack.rx_ring, stack.tx_ring):
        ring.start(fd)
    stack.packet_handler.start()


def exchange(end: socket.Socket, message: bytes) -> None:
    """Send a request until its answer is here: what is sent before ARP has answered is lost."""
    for _ in range(TRIES):
        end.sendto(message, ("10.0.0.2", PORT))
        try:
            end.recvfrom(timeout=1)
        except socket.ReceiveTimeout:
            continue
        return
    raise SystemExit("PyTCP: no answer")


def main() -> None:
    """Run the end until standard input ends."""
    fd, kind, size = int(sys.argv[1]), sys.argv[2], int(sys.argv[3])
    number = 1 if kind == "CLIENT" else 2
    started(fd, number)
    end = socket.socket(family=socket.AF_INET4, type=socket.SOCK_DGRAM)
    end.bind((f"10.0.0.{number}", PORT))
    if kind == "SERVER":

        def answer() -> None:
            while True:
                data, source = end.recvfrom()
                end.sendto(data, source)

        threading.Thread(target=answer, daemon=True).start()
    message = bytes(size)
    print("ready", flush=True)
    try:
        for line in sys.stdin:
            for _ in range(int(line)):
                exchange(end, message)
            print(time.process_time(), flush=True)
    finally:
        os._exit(0)  # its threads would be waited for


if __name__ == "__main__":
    main()
