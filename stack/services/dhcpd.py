"""A DHCPv4 server on one interface of a host: the runner of clients/dhcp4_server.py.

    dev = host.dev("eth0")
    service = Dhcpd(dev, dhcp4_server_config(dev, "10.0.0.50-10.0.0.99"))
    service.stop()

A client that takes unicasts before it has an address gets them: its MAC is put into the ARP table
for its new address, as dnsmasq does.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from ipaddress import AddressValueError, IPv4Address
from typing import Any

from fastpath.base.csum import csum_fold, csum_partial
from fastpath.errors import ArgumentError, check_type, known_words
from stack.clients.action import MessageError, SetTimer
from stack.clients.dhcp4_pool import Dhcp4ServerConfig, Subnet
from stack.clients.dhcp4_server import Action, Dhcp4Server, Ping, Reply
from stack.clients.dhcp4_wire import SERVER_PORT, Option
from stack.clients.dnsname import name_from_text
from stack.clients.runner import CoreTimer, WatchedSocket
from stack.core import uapi
from stack.core.netdevice import net_device
from stack.core.sockaddr import sockaddr
from stack.ipv4.arp import arp_req_set
from stack.ipv4.icmp_codes import ICMP_ECHO, ICMP_ECHOREPLY

ECHO = struct.Struct("!BBHHH")
"""type code checksum id sequence"""


def dhcp4_server_config(
    dev: net_device,
    addresses: str,
    *,
    router: str | None = None,
    dns: Sequence[str] = (),
    domain: str = "",
    reserved: Mapping[str, str] | None = None,
    **settings: Any,
) -> Dhcp4ServerConfig:
    """The configuration of a server on `dev`, which gives out addresses of its own network.

    `addresses`: "10.0.0.50-10.0.0.99". `reserved`: addresses by MAC, which may lie outside that
    range. `settings`: lease_s and others of `Dhcp4ServerConfig`.

    Raises: ArgumentError.
    """
    where = "dhcpd"
    fields = Dhcp4ServerConfig.__dataclass_fields__.keys() - {"server", "subnets"}
    known_words(where, settings, fields)
    start, dash, end = addresses.partition("-")
    if not dash:
        raise ArgumentError(f"{where}: {addresses!r} is no range; write 10.0.0.50-10.0.0.99")
    first, last = _address("addresses", start), _address("addresses", end)
    in_dev = dev.ip_ptr
    own = list(in_dev.ifa_list) if in_dev is not None else []
    for ifa in own:
        if not (ifa.ifa_local ^ first) >> (32 - ifa.ifa_prefixlen):
            break
    else:
        raise ArgumentError(
            f"{where}: {dev.name} has no address in the network of {start}; add one, as in "
            f"ifconfig({dev.name!r}, '{IPv4Address(first)}/24')"
        )
    check_type(where, "dns", dns, (list, tuple), 'a list such as ["10.0.0.1"]')
    options: dict[int, bytes] = {}
    if router is not None:
        options[Option.ROUTER] = _address("router", router).to_bytes(4, "big")
    if dns:
        options[Option.DNS_SERVERS] = b"".join(_address("dns", a).to_bytes(4, "big") for a in dns)
    if domain:
        try:
            options[Option.DOMAIN_NAME] = b".".join(name_from_text(domain))
        except MessageError as exc:
            raise ArgumentError(f"{where}: domain={domain!r}: {exc}") from None
    kept = {_mac(mac): _address("reserved", addr) for mac, addr in (reserved or {}).items()}
    subnet = Subnet(first, last, ifa.ifa_prefixlen, options, kept)
    return Dhcp4ServerConfig(ifa.ifa_local, (subnet,), **settings)


def _address(name: str, text: str) -> int:
    try:
        return int(IPv4Address(text.strip()))
    except (AddressValueError, AttributeError):
        raise ArgumentError(f"dhcpd: {name}={text!r}; give an address such as 10.0.0.1") from None


def _mac(text: str) -> bytes:
    try:
        mac = bytes.fromhex(text.replace(":", " "))
    except (ValueError, AttributeError):
        mac = b""
    if len(mac) != 6:
        raise ArgumentError(f"dhcpd: reserved for {text!r}; give a MAC such as 52:54:00:12:34:56")
    return mac


class Dhcpd:
    """The server of one interface, until `stop`. Call with the host's lock held.

    Raises: OSError EADDRINUSE when port 67 of it is taken; EPERM without CAP_NET_RAW.
    """

    def __init__(self, dev: net_device, config: Dhcp4ServerConfig) -> None:
        check_type("dhcpd", "config", config, Dhcp4ServerConfig, "a range or a Dhcp4ServerConfig")
        net = dev.net
        self.net = net
        self.dev = dev
        self.core = Dhcp4Server(config)
        self._timer = CoreTimer(net, lambda now_ns: self._do(self.core.timer(now_ns)))
        self._echo_id = net.random.getrandbits(16)
        self._icmp = WatchedSocket(
            net, uapi.AF_INET, uapi.SOCK_RAW, self._echoed, uapi.IPPROTO_ICMP
        )
        self._socket = WatchedSocket(net, uapi.AF_INET, uapi.SOCK_DGRAM, self._ready)
        try:
            for sock in (self._socket, self._icmp):
                sock.setsockopt(uapi.SOL_SOCKET, uapi.SO_BINDTODEVICE, dev.name.encode())
            self._icmp.setsockopt(
                uapi.SOL_RAW, uapi.ICMP_FILTER, ~(1 << ICMP_ECHOREPLY) & 0xFFFFFFFF
            )
            self._socket.setsockopt(uapi.SOL_SOCKET, uapi.SO_BROADCAST, 1)
            self._socket.bind(sockaddr(uapi.AF_INET, 0, SERVER_PORT))
        except OSError:
            self._socket.close()
            self._icmp.close()
            raise
        net.machine.on_close(self.stop)

    def stop(self) -> None:
        """Close the sockets; the leases are dropped. Idempotent."""
        with self.net.lock:
            self._timer.set(-1)
            self._socket.close()
            self._icmp.close()
            self.net.machine.on_close_cancel(self.stop)

    def _do(self, actions: list[Action]) -> None:
        for action in actions:
            match action:
                case Reply():
                    self._send(action)
                case Ping():
                    self._ping(action.address)
                case SetTimer():
                    self._timer.set(action.at_ns)

    def _send(self, reply: Reply) -> None:
        """Send an answer; if it cannot be sent, the client will retry."""
        try:
            if reply.mac:
                arp_req_set(self.dev, reply.daddr, reply.mac, permanent=False)
            self._socket.send(reply.data, sockaddr(uapi.AF_INET, reply.daddr, reply.dport))
        except OSError:
            return

    def _ping(self, address: int) -> None:
        head = ECHO.pack(ICMP_ECHO, 0, 0, self._echo_id, 1)
        head = ECHO.pack(ICMP_ECHO, 0, csum_fold(csum_partial(head)), self._echo_id, 1)
        try:
            self._icmp.send(head, sockaddr(uapi.AF_INET, address, 0))
        except OSError:  # unreachable: the address is free
            return

    def _echoed(self, sock: WatchedSocket) -> None:
        for data, name in sock.datagrams():
            at = (data[0] & 15) * 4  # a raw socket's datagram begins with its IP header
            if len(data) >= at + ECHO.size and name is not None:
                kind, _, _, echo_id, _ = ECHO.unpack_from(data, at)
                if (kind, echo_id) == (ICMP_ECHOREPLY, self._echo_id):
                    self._do(self.core.echo_received(name.addr, self.net.now()))

    def _ready(self, sock: WatchedSocket) -> None:
        for data, _ in sock.datagrams():
            self._do(self.core.received(data, self.net.now()))
