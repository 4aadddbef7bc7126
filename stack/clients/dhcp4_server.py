"""A DHCPv4 server without I/O (RFC 2131 4.3, options of RFC 2132, relay agents of RFC 3046).

    server = Dhcp4Server(Dhcp4ServerConfig(server=address, subnets=(Subnet(...),)))
    actions = server.received(datagram, now_ns)     # received on UDP port 67
    actions = server.echo_received(address, now_ns) # an ICMP echo reply
    actions = server.timer(now_ns)                  # at the time of the last SetTimer

The timer is only for pings: a lease's end is checked when its address is needed. A client is its
option 61, or else its hardware type and address. State is bounded by the number of addresses.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TypeAlias

from stack.clients.action import NEVER, MessageError, SetTimer
from stack.clients.dhcp4_lease import INFINITE
from stack.clients.dhcp4_pool import NO_CLIENT, Dhcp4ServerConfig, Pool
from stack.clients.dhcp4_wire import (
    BOOTREPLY,
    BOOTREQUEST,
    BROADCAST_FLAG,
    CLIENT_PORT,
    HTYPE_ETHER,
    SERVER_PORT,
    Dhcp4Message,
    MessageType,
    Option,
)
from stack.core.time64 import NSEC_PER_SEC
from stack.core.uapi import INADDR_BROADCAST

MAX_ID_BYTES = 255
"""Maximum length of a client id or relay agent option."""
MAX_PINGS = 256
"""Maximum of pending pings; further offers go out without one, so a flood needs no queue."""
MIN_MESSAGE_BYTES = 576
"""Size that every client accepts (RFC 2131 2); as in option 57, with IP and UDP headers."""
MAX_MESSAGE_BYTES = 1500
HEADER_BYTES = 28


@dataclass(frozen=True, slots=True)
class Reply:
    """Send `data` from port 67 to `daddr` and `dport`; 255.255.255.255 goes to the link.

    `mac` is that of a client that cannot answer ARP yet; b"": resolve it normally.
    """

    data: bytes
    daddr: int
    dport: int
    mac: bytes = b""


@dataclass(frozen=True, slots=True)
class Ping:
    """Send an ICMP echo request to `address`; report a reply by `echo_received`."""

    address: int


Action: TypeAlias = Reply | Ping | SetTimer


@dataclass(frozen=True, slots=True)
class _Probed:
    """A DISCOVER that waits for its address's ping."""

    pool: Pool
    message: Dhcp4Message
    client: bytes
    due_ns: int


class Dhcp4Server:
    """The server of some subnets. It accepts any bytes and raises nothing."""

    def __init__(self, config: Dhcp4ServerConfig) -> None:
        self.config = config
        self.messages: Counter[str] = Counter()
        """Messages by type, those received and those sent; "ignored": not from a client, or of no
        subnet."""
        self._pools = [Pool(subnet, config.server) for subnet in config.subnets]
        self._probed: dict[int, _Probed] = {}  # by address, earliest first

    def leases(self, now_ns: int) -> dict[int, bytes]:
        """The currently leased addresses, each with its client."""
        return {
            address: held.client
            for pool in self._pools
            for address, held in pool.bindings.items()
            if held.leased and held.live(now_ns)
        }

    def received(self, data: bytes, now_ns: int) -> list[Action]:
        """Handle a datagram for port 67; ignores other messages than a client's."""
        try:
            message = Dhcp4Message.parse(data)
            type_ = MessageType(message.type)
        except (MessageError, ValueError):
            return self._ignore()
        client = message.options.get(Option.CLIENT_ID) or (
            bytes((message.htype,)) + message.chaddr if message.chaddr else NO_CLIENT
        )
        pool = self._pool(message)
        longest = max(len(client), len(message.options.get(Option.RELAY_AGENT, b"")))
        if (
            message.op != BOOTREQUEST
            or client == NO_CLIENT
            or pool is None
            or longest > MAX_ID_BYTES
        ):
            return self._ignore()
        self.messages[type_.name] += 1
        match type_:
            case MessageType.DISCOVER:
                return self._discover(pool, message, client, now_ns)
            case MessageType.REQUEST:
                return self._request(pool, message, client, now_ns)
            case MessageType.DECLINE:
                address = message.address(Option.REQUESTED_ADDRESS)
                if self._is_ours(message) and pool.clients.get(client) == address:
                    self._in_use(pool, address, now_ns)
            case MessageType.RELEASE:
                address = message.ciaddr
                if self._is_ours(message) and pool.clients.get(client) == address:
                    pool.end(address, now_ns)
            case MessageType.INFORM if pool.subnet.usable(message.ciaddr):
                return [self._reply(pool, message, MessageType.ACK)]
        return []

    def echo_received(self, address: int, now_ns: int) -> list[Action]:
        """Handle an ICMP echo reply: another host uses the address, so offer the next one."""
        probed = self._probed.pop(address, None)
        if probed is None:
            return []
        self._in_use(probed.pool, address, now_ns)
        return self._discover(probed.pool, probed.message, probed.client, now_ns)

    def timer(self, now_ns: int) -> list[Action]:
        """Offer the addresses that did not answer."""
        actions: list[Action] = []
        while self._probed:
            address, probed = next(iter(self._probed.items()))
            if probed.due_ns > now_ns:
                break
            del self._probed[address]
            if probed.pool.clients.get(probed.client) == address:
                actions.append(self._reply(probed.pool, probed.message, MessageType.OFFER, address))
        return [*actions, self._set_timer()]

    def _set_timer(self) -> SetTimer:
        return SetTimer(next((probed.due_ns for probed in self._probed.values()), NEVER))

    def _ignore(self) -> list[Action]:
        self.messages["ignored"] += 1
        return []

    def _pool(self, message: Dhcp4Message) -> Pool | None:
        """The pool of the client's link (4.3.1): by its relay agent, its own address, or ours.

        A client renews by unicast without its relay agent; its own address then gives its link.
        """
        link = message.giaddr
        if not link:
            for pool in self._pools:
                if message.ciaddr and pool.subnet.usable(message.ciaddr):
                    return pool
            link = self.config.server
        return next((pool for pool in self._pools if pool.subnet.usable(link)), None)

    def _is_ours(self, message: Dhcp4Message) -> bool:
        return message.address(Option.SERVER_ID) == self.config.server

    def _in_use(self, pool: Pool, address: int, now_ns: int) -> None:
        """Another host uses the address: reserve it for a while."""
        pool.bind(address, NO_CLIENT, now_ns + self.config.decline_s * NSEC_PER_SEC, leased=False)

    def _discover(
        self, pool: Pool, message: Dhcp4Message, client: bytes, now_ns: int
    ) -> list[Action]:
        wanted = message.address(Option.REQUESTED_ADDRESS)
        address = pool.choose(client, message.chaddr, wanted, now_ns)
        if not address:
            self.messages["no address left"] += 1
            return []
        if address in self._probed:
            return []  # a retransmission while its address is probed
        held = pool.bindings.get(address)
        new = held is None or held.client != client
        if held is None or new or not held.live(now_ns):
            until = now_ns + self.config.offer_s * NSEC_PER_SEC
            pool.bind(address, client, until, leased=False)
        if new and self.config.ping_ns and len(self._probed) < MAX_PINGS:
            due_ns = now_ns + self.config.ping_ns
            self._probed[address] = _Probed(pool, message, client, due_ns)
            return [Ping(address), self._set_timer()]
        return [self._reply(pool, message, MessageType.OFFER, address)]

    def _request(
        self, pool: Pool, message: Dhcp4Message, client: bytes, now_ns: int
    ) -> list[Action]:
        """RFC 2131 4.3.2: SELECTING has a server id, RENEWING and REBINDING have ciaddr."""
        bound = pool.clients.get(client, 0)
        selecting = Option.SERVER_ID in message.options
        if selecting and not self._is_ours(message):
            if bound and not pool.bindings[bound].leased:
                pool.end(bound, now_ns)  # it accepted another server's offer
            return []
        address = message.ciaddr or message.address(Option.REQUESTED_ADDRESS)
        if bound and address == bound and pool.free(bound, client, now_ns):
            lease_s = self._lease_s(message)
            until = None if lease_s == INFINITE else now_ns + lease_s * NSEC_PER_SEC
            pool.bind(bound, client, until, leased=True)
            return [self._reply(pool, message, MessageType.ACK, bound)]
        wrong_net = bool(address) and not pool.subnet.has(address)
        if bound or selecting or wrong_net or self.config.authoritative:
            return [self._reply(pool, message, MessageType.NAK)]
        return []  # no record of this client: another server may have one

    def _lease_s(self, message: Dhcp4Message) -> int:
        return self.config.lease_for(message.number(Option.LEASE_TIME, 4))

    def _reply(
        self, pool: Pool, message: Dhcp4Message, type_: MessageType, address: int = 0
    ) -> Reply:
        """The answer, by RFC 2131 table 3, within the client's size (option 57)."""
        self.messages[type_.name] += 1
        options: dict[int, bytes] = {
            Option.MESSAGE_TYPE: bytes((type_,)),
            Option.SERVER_ID: self.config.server.to_bytes(4, "big"),
        }
        if Option.CLIENT_ID in message.options:  # RFC 6842
            options[Option.CLIENT_ID] = message.options[Option.CLIENT_ID]
        if address:
            lease_s = self._lease_s(message)
            options[Option.LEASE_TIME] = lease_s.to_bytes(4, "big")
            if lease_s != INFINITE:
                options[Option.RENEWAL_TIME] = (lease_s // 2).to_bytes(4, "big")
                options[Option.REBINDING_TIME] = (lease_s * 7 // 8).to_bytes(4, "big")
        if type_ is not MessageType.NAK:
            options[Option.SUBNET_MASK] = pool.subnet.mask.to_bytes(4, "big")
            ours = pool.subnet.options
            # in the client's order of preference (RFC 2132 9.8)
            for code in message.options.get(Option.PARAMETER_LIST, ours):
                if code in ours:
                    options[code] = ours[code]
        if message.giaddr and Option.RELAY_AGENT in message.options:
            options[Option.RELAY_AGENT] = message.options[
                Option.RELAY_AGENT
            ]  # the last one (RFC 3046 2.1)
        daddr, dport, mac, flags = self._destination(message, type_, address)
        reply = Dhcp4Message(
            BOOTREPLY, message.xid, message.chaddr, htype=message.htype, flags=flags,
            ciaddr=message.ciaddr if type_ is MessageType.ACK else 0,
            yiaddr=address, giaddr=message.giaddr, options=options,
        )  # fmt: skip
        most = message.number(Option.MAX_MESSAGE_SIZE, 2) or 0
        most = min(max(most, MIN_MESSAGE_BYTES), MAX_MESSAGE_BYTES) - HEADER_BYTES
        return Reply(reply.emit(most), daddr, dport, mac)

    @staticmethod
    def _destination(
        message: Dhcp4Message, type_: MessageType, address: int
    ) -> tuple[int, int, bytes, int]:
        """Address, port and MAC that an answer goes to (4.1), and its flags."""
        flags = message.flags
        nak = type_ is MessageType.NAK
        if message.giaddr and (address or nak):
            # 4.3.2: a refused client may have no valid address
            return message.giaddr, SERVER_PORT, b"", flags | BROADCAST_FLAG if nak else flags
        if message.ciaddr and type_ is MessageType.ACK:
            return message.ciaddr, CLIENT_PORT, b"", flags
        mac = message.chaddr
        if nak or flags & BROADCAST_FLAG or message.htype != HTYPE_ETHER or len(mac) != 6:
            return INADDR_BROADCAST, CLIENT_PORT, b"", flags
        return address, CLIENT_PORT, mac, flags
