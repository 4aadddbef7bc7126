"""A DHCPv6 server made of scapy's layers: it reads the client's messages with scapy and answers."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from scapy.layers import dhcp6 as s
from scapy.packet import Packet

from tests.stack.clients.dhcp_wire import Wire

DUID = s.DUID_LL(lladdr="02:00:00:00:00:01")
KINDS = {
    s.DHCP6_Solicit: "solicit",
    s.DHCP6_Request: "request",
    s.DHCP6_Renew: "renew",
    s.DHCP6_Rebind: "rebind",
    s.DHCP6_Confirm: "confirm",
    s.DHCP6_Decline: "decline",
    s.DHCP6_Release: "release",
    s.DHCP6_InfoRequest: "inform",
}


def kind(message: Packet) -> str:
    return KINDS[type(message)]


@dataclass
class Server:
    """Gives out `pool` in order; what it sends can be changed before a test."""

    pool: list[str] = field(default_factory=lambda: ["2001:db8::50", "2001:db8::51"])
    preferred_s: int = 600
    valid_s: int = 1200
    t1_s: int = 0
    t2_s: int = 0
    preference: int | None = None
    rapid: bool = False
    silent: bool = False
    status: int = 0
    ia_status: int = 0
    extra: list[Packet] = field(default_factory=list)
    duid: Packet = field(default_factory=lambda: DUID.copy())
    seen: list[Packet] = field(default_factory=list)
    declined: list[str] = field(default_factory=list)
    released: list[str] = field(default_factory=list)

    def answer(self, data: bytes) -> bytes | None:
        message = s._dhcp6_dispatcher(data)
        self.seen.append(message)
        assert s.DHCP6OptClientId in message
        if self.silent:
            return None
        to = message.getlayer(s.DHCP6OptServerId)
        if to is not None and bytes(to.duid) != bytes(self.duid):
            return None
        asked = [o.addr for o in addresses(message)]
        match kind(message):
            case "solicit":
                if self.rapid and s.DHCP6OptRapidCommit in message:
                    return self.reply(message, asked or self.pool[:1]) + b"\0\x0e\0\0"
                return self.reply(message, self.pool[:1], s.DHCP6_Advertise)
            case "request" | "renew" | "rebind":
                return self.reply(message, [a for a in asked if a in self.pool])
            case "decline":
                self.declined += asked
                self.pool = [a for a in self.pool if a not in asked]
            case "release":
                self.released += asked
        return self.reply(message, None)

    def reply(self, message: Packet, give: list[str] | None, cls: Any = s.DHCP6_Reply) -> bytes:
        made = cls(trid=message.trid)
        made /= s.DHCP6OptClientId(duid=message[s.DHCP6OptClientId].duid)
        made /= s.DHCP6OptServerId(duid=self.duid)
        if self.preference is not None:
            made /= s.DHCP6OptPref(prefval=self.preference)
        if self.status:
            made /= s.DHCP6OptStatusCode(statuscode=self.status)
        if give is not None:
            inner: list[Packet] = [
                s.DHCP6OptIAAddress(addr=a, preflft=self.preferred_s, validlft=self.valid_s)
                for a in give
            ]
            if self.ia_status:
                inner = [s.DHCP6OptStatusCode(statuscode=self.ia_status)]
            iaid = message[s.DHCP6OptIA_NA].iaid
            made /= s.DHCP6OptIA_NA(iaid=iaid, T1=self.t1_s, T2=self.t2_s, ianaopts=inner)
        made /= s.DHCP6OptDNSServers(dnsservers=["2001:db8::1"])
        made /= s.DHCP6OptDNSDomains(dnsdomains=["example.org."])
        for option in self.extra:
            made /= option
        return bytes(made)


def addresses(message: Packet) -> list[Packet]:
    if s.DHCP6OptIA_NA not in message:
        return []
    return [o for o in message[s.DHCP6OptIA_NA].ianaopts if isinstance(o, s.DHCP6OptIAAddress)]


class Client(Wire):
    """A client of DHCPv6 and its servers."""

    @property
    def bound(self) -> bool:
        return bool(self.client.lease.addresses)

    @property
    def kinds(self) -> list[str]:
        return [kind(message) for message in self.server.seen]
