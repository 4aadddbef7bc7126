"""A DHCPv4 server made of scapy's layers: it reads the client's messages with scapy and answers."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from scapy.layers.dhcp import BOOTP, DHCP

from tests.stack.clients.dhcp_wire import Wire

SERVER = "10.0.0.1"


def option(message: BOOTP, name: str) -> Any:
    """The first value of an option by scapy's name; None when it is not there."""
    for entry in message[DHCP].options:
        if isinstance(entry, tuple) and entry[0] == name:
            return entry[1]
    return None


def kind(message: BOOTP) -> int:
    value = option(message, "message-type")
    assert isinstance(value, int)
    return value


@dataclass
class Server:
    """Gives out `pool` in order; what it sends can be changed before a test."""

    pool: list[str] = field(default_factory=lambda: ["10.0.0.50", "10.0.0.51", "10.0.0.52"])
    lease_s: int = 3600
    extra: list[tuple[Any, ...]] = field(default_factory=list)
    silent: bool = False
    nak: bool = False
    seen: list[BOOTP] = field(default_factory=list)
    declined: list[str] = field(default_factory=list)
    released: list[str] = field(default_factory=list)
    bound: dict[bytes, str] = field(default_factory=dict)

    def answer(self, data: bytes) -> bytes | None:
        message = BOOTP(data)
        self.seen.append(message)
        assert message.op == 1
        assert DHCP in message
        if self.silent:
            return None
        mac = bytes(message.chaddr[:6])
        match kind(message):
            case 1:
                address = self.bound.get(mac) or self.pool[0]
                return self.reply(message, "offer", address)
            case 3:
                server = option(message, "server_id")
                if server is not None and server != SERVER:
                    return None
                asked = option(message, "requested_addr") or message.ciaddr
                if self.nak or asked not in self.pool:
                    return self.reply(message, "nak", "0.0.0.0")
                self.bound[mac] = asked
                return self.reply(message, "ack", asked)
            case 4:
                self.declined.append(option(message, "requested_addr"))
                self.pool.remove(self.declined[-1])
                self.bound.pop(mac, None)
            case 7:
                self.released.append(message.ciaddr)
                self.bound.pop(mac, None)
            case 8:
                return self.reply(message, "ack", "0.0.0.0")
        return None

    def reply(self, message: BOOTP, type_: str, address: str) -> bytes:
        options: list[Any] = [("message-type", type_), ("server_id", SERVER)]
        if type_ == "nak":
            options.append(("error_message", b"not here"))
        else:
            options += [("subnet_mask", "255.255.255.0"), ("router", "10.0.0.254")]
            options += [("name_server", "10.0.0.1", "10.0.0.2"), ("domain", b"example.org")]
            if address != "0.0.0.0":
                options.append(("lease_time", self.lease_s))
        options += [*self.extra, "end"]
        made = BOOTP(
            op=2, xid=message.xid, chaddr=message.chaddr, yiaddr=address, flags=message.flags
        ) / DHCP(options=options)
        return bytes(made)


class Client(Wire):
    """A client of DHCPv4 and its server."""

    @property
    def bound(self) -> bool:
        return bool(self.client.in_use)
