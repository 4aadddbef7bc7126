"""A DHCPv4 server without I/O (RFC 2131 4.3, options of RFC 2132, relay agents of RFC 3046).

    server = Dhcp4Server(Dhcp4ServerConfig(server=address, subnets=(Subnet(...),)))
    replies = server.received(datagram, now_ns)     # what came to UDP port 67

Each `Reply` is sent to its `daddr` and `dport`. The server needs no timer: a lease's end is looked
at when its address is wanted. A client is its option 61, or else its hardware type and address.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from heapq import heapify, heappop, heappush

from fastpath.errors import ArgumentError
from stack.clients.action import MessageError
from stack.clients.dhcp4_wire import (
    BOOTREPLY,
    BOOTREQUEST,
    BROADCAST_FLAG,
    CLIENT_PORT,
    SERVER_PORT,
    Dhcp4Message,
    MessageType,
    Option,
)

__all__ = ["Dhcp4Server", "Dhcp4ServerConfig", "Reply", "Subnet"]

SECOND_NS = 1_000_000_000
INADDR_BROADCAST = 0xFFFFFFFF
INFINITE = 0xFFFFFFFF
RELAY_AGENT = 82
MAX_RELAY_BYTES = 255
NO_CLIENT = b""
"""Holds an address that a client declined."""
ALWAYS = frozenset(
    (Option.MESSAGE_TYPE, Option.SERVER_ID, Option.LEASE_TIME, Option.RENEWAL_TIME,
     Option.REBINDING_TIME, Option.SUBNET_MASK)
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Subnet:
    """A range of addresses for the clients of one link; addresses are in host order.

    Attributes:
        first, last: the range, both included.
        options: further options by code, such as ROUTER and DNS_SERVERS, as their bytes.
        by_mac, by_client_id: addresses kept for one client; they may lie outside the range.

    Raises: ArgumentError.
    """

    first: int
    last: int
    prefixlen: int
    options: Mapping[int, bytes] = field(default_factory=dict)
    by_mac: Mapping[bytes, int] = field(default_factory=dict)
    by_client_id: Mapping[bytes, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not 1 <= self.prefixlen <= 30:
            raise ArgumentError(f"Subnet: prefixlen {self.prefixlen}; it is 1 to 30")
        if not 0 < self.first <= self.last < INADDR_BROADCAST:
            raise ArgumentError(f"Subnet: first {self.first:#x} to last {self.last:#x} is no range")
        kept = [*self.by_mac.values(), *self.by_client_id.values()]
        if len(set(kept)) != len(kept):
            raise ArgumentError("Subnet: an address is kept for two clients; give each its own")
        for address in (self.first, self.last, *kept):
            if not self.usable(address):
                raise ArgumentError(
                    f"Subnet: {address:#010x} is no host of the /{self.prefixlen} of "
                    f"{self.first:#010x}"
                )

    @property
    def mask(self) -> int:
        return 0xFFFFFFFF << (32 - self.prefixlen) & 0xFFFFFFFF

    def has(self, address: int) -> bool:
        """Whether the address is of the subnet."""
        return not (address ^ self.first) & self.mask

    def usable(self, address: int) -> bool:
        """Whether the address is a host's: neither the subnet's own nor its broadcast."""
        host = address & ~self.mask
        return self.has(address) and 0 < host < ~self.mask & 0xFFFFFFFF


@dataclass(frozen=True, slots=True)
class Dhcp4ServerConfig:
    """What a server gives out.

    Attributes:
        server: its own address, option 54; it is never given out.
        subnets: a client behind a relay agent gets the one with the agent's address, another
            that of `server`.
        lease_s: 0xFFFFFFFF is a lease without end. T1 and T2 are 1/2 and 7/8 of it (4.4.5).
        offer_s: how long an offer is kept for its client.
        decline_s: how long a declined address is not given out.

    Raises: ArgumentError.
    """

    server: int
    subnets: tuple[Subnet, ...]
    lease_s: int = 3600
    offer_s: int = 60
    decline_s: int = 3600

    def __post_init__(self) -> None:
        for name in ("lease_s", "offer_s", "decline_s"):
            value = getattr(self, name)
            if not 1 <= value <= INFINITE:
                raise ArgumentError(f"Dhcp4ServerConfig: {name} {value}; it is 1 to 4294967295 s")
        for at, subnet in enumerate(self.subnets):
            for other in self.subnets[:at]:
                if subnet.has(other.first) or other.has(subnet.first):
                    raise ArgumentError(f"Dhcp4ServerConfig: subnets {other} and {subnet} overlap")


@dataclass(frozen=True, slots=True)
class Reply:
    """Send `data` from port 67 to `daddr` and `dport`; 255.255.255.255 goes to the link."""

    data: bytes
    daddr: int
    dport: int


@dataclass(slots=True)
class Binding:
    """An address's last client; `expires_ns` is None for a lease without end."""

    client: bytes
    expires_ns: int | None
    leased: bool = False
    """Acknowledged, not only offered."""

    def live(self, now_ns: int) -> bool:
        return self.expires_ns is None or now_ns < self.expires_ns


class _Pool:
    """The bindings of one subnet: addresses never used come first, then those expired longest."""

    def __init__(self, subnet: Subnet, server: int) -> None:
        self.subnet = subnet
        self.server = server
        self.bindings: dict[int, Binding] = {}
        self.clients: dict[bytes, int] = {}
        self.kept = {*subnet.by_mac.values(), *subnet.by_client_id.values()}
        self._next = subnet.first
        self._ends: list[tuple[int, int]] = []  # heap of (expires_ns, address), some out of date

    def free(self, address: int, client: bytes, now_ns: int) -> bool:
        """Whether `client` may have the address now."""
        held = self.bindings.get(address)
        return address != self.server and (
            held is None or held.client == client or not held.live(now_ns)
        )

    def choose(self, client: bytes, mac: bytes, wanted: int, now_ns: int) -> int:
        """The address to offer (4.3.1): kept, held, asked for, unused, expired; 0: none left."""
        subnet = self.subnet
        kept = subnet.by_client_id.get(client, 0) or subnet.by_mac.get(mac, 0)
        for address in (kept, self.clients.get(client, 0)):
            own = address == kept or address not in self.kept
            if address and own and self.free(address, client, now_ns):
                return address
        if (
            subnet.first <= wanted <= subnet.last
            and wanted not in self.kept
            and self.free(wanted, client, now_ns)
        ):
            return wanted
        while self._next <= subnet.last:
            address = self._next
            self._next += 1
            if address not in self.kept and address != self.server and address not in self.bindings:
                return address
        while self._ends and self._ends[0][0] <= now_ns:
            end, address = heappop(self._ends)
            held = self.bindings.get(address)
            if held is not None and held.expires_ns == end and address not in self.kept:
                return address
        return 0

    def bind(self, address: int, client: bytes, expires_ns: int | None, *, leased: bool) -> None:
        """Give the address to `client`, which loses any other."""
        before = self.bindings.get(address)
        if before is not None and self.clients.get(before.client) == address:
            del self.clients[before.client]
        if client != NO_CLIENT:
            other = self.clients.get(client)
            if other is not None and other != address:
                self.end(other, 0)
            self.clients[client] = address
        self.bindings[address] = Binding(client, expires_ns, leased)
        self._push(expires_ns, address)

    def end(self, address: int, now_ns: int) -> None:
        """Free the address; its client is remembered until another gets it (4.3.4)."""
        held = self.bindings[address]
        held.expires_ns, held.leased = now_ns, False
        self._push(now_ns, address)

    def _push(self, expires_ns: int | None, address: int) -> None:
        if expires_ns is not None:
            heappush(self._ends, (expires_ns, address))
        if len(self._ends) > 2 * len(self.bindings) + 64:
            self._ends = [
                (b.expires_ns, a) for a, b in self.bindings.items() if b.expires_ns is not None
            ]
            heapify(self._ends)


class Dhcp4Server:
    """The server of some subnets. It takes any bytes and raises nothing."""

    def __init__(self, config: Dhcp4ServerConfig) -> None:
        self.config = config
        self._pools = [_Pool(subnet, config.server) for subnet in config.subnets]

    def leases(self, now_ns: int) -> dict[int, bytes]:
        """The addresses that are leased now, each with its client."""
        return {
            address: held.client
            for pool in self._pools
            for address, held in pool.bindings.items()
            if held.leased and held.live(now_ns)
        }

    def received(self, data: bytes, now_ns: int) -> list[Reply]:
        """Handle a datagram for port 67; ignores what is no client's message."""
        try:
            message = Dhcp4Message.parse(data)
        except MessageError:
            return []
        if message.op != BOOTREQUEST:
            return []
        client = message.options.get(Option.CLIENT_ID) or (
            bytes((message.htype,)) + message.chaddr if message.chaddr else NO_CLIENT
        )
        link = message.giaddr or self.config.server
        pool = next((pool for pool in self._pools if pool.subnet.has(link)), None)
        relay = message.options.get(RELAY_AGENT, b"")
        if client == NO_CLIENT or pool is None or len(relay) > MAX_RELAY_BYTES:
            return []
        match message.type:
            case MessageType.DISCOVER:
                return self._discover(pool, message, client, now_ns)
            case MessageType.REQUEST:
                return self._request(pool, message, client, now_ns)
            case MessageType.DECLINE:
                address = message.address(Option.REQUESTED_ADDRESS)
                if self._is_ours(message) and pool.clients.get(client) == address:
                    until = now_ns + self.config.decline_s * SECOND_NS
                    pool.bind(address, NO_CLIENT, until, leased=False)
            case MessageType.RELEASE:
                address = message.ciaddr
                if self._is_ours(message) and pool.clients.get(client) == address:
                    pool.end(address, now_ns)
            case MessageType.INFORM if pool.subnet.usable(message.ciaddr):
                return [self._reply(pool, message, MessageType.ACK)]
        return []

    def _is_ours(self, message: Dhcp4Message) -> bool:
        return message.address(Option.SERVER_ID) == self.config.server

    def _discover(
        self, pool: _Pool, message: Dhcp4Message, client: bytes, now_ns: int
    ) -> list[Reply]:
        wanted = message.address(Option.REQUESTED_ADDRESS)
        address = pool.choose(client, message.chaddr, wanted, now_ns)
        if not address:
            return []
        held = pool.bindings.get(address)
        if held is None or held.client != client or not held.live(now_ns):
            until = now_ns + self.config.offer_s * SECOND_NS
            pool.bind(address, client, until, leased=False)
        return [self._reply(pool, message, MessageType.OFFER, address)]

    def _request(
        self, pool: _Pool, message: Dhcp4Message, client: bytes, now_ns: int
    ) -> list[Reply]:
        """RFC 2131 4.3.2: SELECTING has a server id, RENEWING and REBINDING have ciaddr."""
        bound = pool.clients.get(client, 0)
        selecting = Option.SERVER_ID in message.options
        if selecting and not self._is_ours(message):
            if bound and not pool.bindings[bound].leased:
                pool.end(bound, now_ns)  # it took another server's offer
            return []
        address = message.ciaddr or message.address(Option.REQUESTED_ADDRESS)
        if bound and address == bound and pool.free(bound, client, now_ns):
            lease_s = self.config.lease_s
            until = None if lease_s == INFINITE else now_ns + lease_s * SECOND_NS
            pool.bind(bound, client, until, leased=True)
            return [self._reply(pool, message, MessageType.ACK, bound)]
        if bound or selecting or not pool.subnet.has(address) or (
            not pool.free(address, client, now_ns)
        ):  # fmt: skip
            return [self._reply(pool, message, MessageType.NAK)]
        return []  # no record of this client: another server may have one

    def _reply(
        self, pool: _Pool, message: Dhcp4Message, type_: MessageType, address: int = 0
    ) -> Reply:
        """The answer, by RFC 2131 table 3, and where it goes (4.1)."""
        config, subnet = self.config, pool.subnet
        options: dict[int, bytes] = {
            Option.MESSAGE_TYPE: bytes((type_,)),
            Option.SERVER_ID: config.server.to_bytes(4, "big"),
        }
        nak = type_ is MessageType.NAK
        if address:
            lease_s = config.lease_s
            options[Option.LEASE_TIME] = lease_s.to_bytes(4, "big")
            if lease_s != INFINITE:
                options[Option.RENEWAL_TIME] = (lease_s // 2).to_bytes(4, "big")
                options[Option.REBINDING_TIME] = (lease_s * 7 // 8).to_bytes(4, "big")
        if not nak:
            options[Option.SUBNET_MASK] = subnet.mask.to_bytes(4, "big")
            asked = message.options.get(Option.PARAMETER_LIST)
            for code, value in subnet.options.items():
                if code not in ALWAYS and (asked is None or code in asked):
                    options[code] = value
        relay = message.options.get(RELAY_AGENT)
        if relay is not None and message.giaddr:
            options[RELAY_AGENT] = relay  # the last option (RFC 3046 2.1)
        flags = message.flags
        ciaddr = 0
        if message.giaddr:
            daddr, dport = message.giaddr, SERVER_PORT
            if nak:
                flags |= BROADCAST_FLAG  # 4.3.2: the client may have no valid address
        else:
            dport = CLIENT_PORT
            daddr = INADDR_BROADCAST  # also where a unicast would need the client's ARP entry
            if message.ciaddr and type_ is MessageType.ACK:
                daddr = message.ciaddr
        if type_ is MessageType.ACK:
            ciaddr = message.ciaddr
        reply = Dhcp4Message(
            BOOTREPLY, message.xid, message.chaddr, htype=message.htype, flags=flags,
            ciaddr=ciaddr, yiaddr=address, giaddr=message.giaddr, options=options,
        )  # fmt: skip
        return Reply(reply.emit(), daddr, dport)
