"""A DHCPv4 server on one interface of a host: the runner of clients/dhcp4_server.py.

service = Dhcpd(host, "eth0", Dhcp4ServerConfig(server=address, subnets=(subnet,)))
service.stop()
"""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

from stack.clients.dhcp4_server import Dhcp4Server, Dhcp4ServerConfig
from stack.clients.dhcp4_wire import SERVER_PORT
from stack.clients.runner import WatchedSocket
from stack.core.errors import os_error
from stack.core.sockaddr import sockaddr
from stack.core.uapi import (
    AF_INET,
    SO_BINDTODEVICE,
    SO_BROADCAST,
    SOCK_DGRAM,
    SOL_SOCKET,
)

if TYPE_CHECKING:
    from stack.net import Net

__all__ = ["Dhcpd"]


class Dhcpd:
    """The server of one interface, until `stop`. Call with the host's lock held.

    Raises: OSError ENODEV without the interface; EADDRINUSE when port 67 of it is taken.
    """

    def __init__(self, net: Net, name: str, config: Dhcp4ServerConfig) -> None:
        if name not in net.dev_by_name:
            raise os_error(errno.ENODEV, f"{net.name}: no interface {name!r}")
        self.net = net
        self.core = Dhcp4Server(config)
        self._socket = WatchedSocket(net, AF_INET, SOCK_DGRAM, self._ready)
        try:
            self._socket.setsockopt(SOL_SOCKET, SO_BROADCAST, 1)
            self._socket.setsockopt(SOL_SOCKET, SO_BINDTODEVICE, name.encode())
            self._socket.bind(sockaddr(AF_INET, 0, SERVER_PORT))
        except OSError:
            self._socket.close()
            raise
        net.machine.on_close(self.stop)

    def stop(self) -> None:
        """Close the socket; the leases are forgotten. Idempotent."""
        if self._socket.fd >= 0:
            self._socket.close()

    def _ready(self, sock: WatchedSocket) -> None:
        while sock.fd >= 0:
            try:
                got = sock.receive()
            except OSError:  # an ICMP error of an earlier answer
                continue
            if got is None:
                return
            for reply in self.core.received(got[0], self.net.now()):
                try:
                    sock.send(reply.data, sockaddr(AF_INET, reply.daddr, reply.dport))
                except OSError:  # the client asks again
                    continue
