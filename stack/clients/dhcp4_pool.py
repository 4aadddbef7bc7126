"""A DHCPv4 server's configuration and the bindings of a subnet."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from heapq import heapify, heappop, heappush

from fastpath.errors import ArgumentError, check_type, whole_number
from stack.clients.dhcp4_lease import INFINITE, plausible
from stack.clients.dhcp4_wire import Option
from stack.core.time64 import NSEC_PER_SEC
from stack.core.uapi import INADDR_BROADCAST

NO_CLIENT = b""
"""Client of an address in use by another host: declined, or a ping reply came."""
MAX_OPTION_VALUE = 1024
SERVERS_OWN = frozenset(
    (Option.SUBNET_MASK, Option.REQUESTED_ADDRESS, Option.LEASE_TIME, Option.OVERLOAD,
     Option.MESSAGE_TYPE, Option.SERVER_ID, Option.PARAMETER_LIST, Option.MAX_MESSAGE_SIZE,
     Option.RENEWAL_TIME, Option.REBINDING_TIME, Option.CLIENT_ID, Option.RELAY_AGENT)
)  # fmt: skip
"""Options that a subnet's configuration cannot hold."""


def dotted(address: int) -> str:
    """10.0.0.1 for 0x0a000001."""
    return ".".join(str(byte) for byte in address.to_bytes(4, "big"))


@dataclass(frozen=True, slots=True)
class Subnet:
    """A range of addresses for the clients of one link; addresses are in host order.

    Raises: ArgumentError.
    """

    first: int
    last: int
    """The range, both included."""
    prefixlen: int
    options: Mapping[int, bytes] = field(default_factory=dict)
    """Further options by code, such as ROUTER and DNS_SERVERS, as their bytes."""
    by_mac: Mapping[bytes, int] = field(default_factory=dict)
    by_client_id: Mapping[bytes, int] = field(default_factory=dict)
    """Addresses reserved for one client; they may be outside the range."""

    def __post_init__(self) -> None:
        whole_number("Subnet", "prefixlen", self.prefixlen, 1, 30)
        for name in ("first", "last"):
            whole_number("Subnet", name, getattr(self, name), 1, INADDR_BROADCAST - 1)
        if self.first > self.last:
            raise ArgumentError(
                f"Subnet: first={dotted(self.first)} is above last={dotted(self.last)}; swap them"
            )
        kept = [*self.by_mac.values(), *self.by_client_id.values()]
        for name, addresses in (("first", [self.first]), ("last", [self.last]), ("kept", kept)):
            for address in addresses:
                whole_number("Subnet", name, address, 1, INADDR_BROADCAST - 1)
                if not self.usable(address):
                    raise ArgumentError(
                        f"Subnet: {name}={dotted(address)} is no host of "
                        f"{dotted(self.first & self.mask)}/{self.prefixlen}; give one of its hosts"
                    )
        if len(set(kept)) != len(kept):
            raise ArgumentError("Subnet: an address is kept for two clients; give each its own")
        for name in ("by_mac", "by_client_id"):
            for key in getattr(self, name):
                check_type("Subnet", f"a key of {name}", key, bytes, "bytes")
        for code, value in self.options.items():
            whole_number("Subnet", "option", code, 1, 254)
            check_type("Subnet", f"option {code}", value, bytes, "its bytes")
            if len(value) > MAX_OPTION_VALUE:
                raise ArgumentError(
                    f"Subnet: option {code} has {len(value)} bytes; {MAX_OPTION_VALUE} is the most"
                )
            if code in SERVERS_OWN:
                raise ArgumentError(f"Subnet: option {code} is set by the server; leave it out")

    @property
    def mask(self) -> int:
        """The subnet mask."""
        return 0xFFFFFFFF << (32 - self.prefixlen) & 0xFFFFFFFF

    def has(self, address: int) -> bool:
        """Whether the address belongs to the subnet."""
        return not (address ^ self.first) & self.mask

    def usable(self, address: int) -> bool:
        """Whether the address is a host's: neither the subnet's own nor its broadcast."""
        host = address & ~self.mask
        return self.has(address) and 0 < host < ~self.mask & 0xFFFFFFFF and plausible(address)


@dataclass(frozen=True, slots=True)
class Dhcp4ServerConfig:
    """The configuration of a server.

    Raises: ArgumentError.
    """

    server: int
    """Its own address, option 54; it is never assigned."""
    subnets: tuple[Subnet, ...]
    """A client behind a relay agent gets the agent's subnet, others that of
    `server`."""
    lease_s: int = 3600
    """For a client that requests no time; INFINITE is a lease without end. T1 and T2 are 1/2 and
    7/8 of a lease (RFC 2131 4.4.5)."""
    min_lease_s: int = 120
    max_lease_s: int | None = None
    """Limits for a requested time; None: `lease_s` is the maximum."""
    offer_s: int = 60
    """How long an offer is reserved for its client."""
    decline_s: int = 3600
    """How long an address that another host uses is not assigned."""
    ping_ns: int = NSEC_PER_SEC
    """How long an address that is new to its client is probed before the offer (RFC 2131 3.1); 0:
    not at all."""
    authoritative: bool = False
    """Refuse an unknown client that requests an earlier address; otherwise another
    server may have it (RFC 2131 4.3.2)."""
    relayed: bool = False
    """All clients are behind relay agents: no subnet is that of `server`."""

    def __post_init__(self) -> None:
        where = "Dhcp4ServerConfig"
        whole_number(where, "server", self.server, 1, INADDR_BROADCAST - 1)
        if not plausible(self.server):
            raise ArgumentError(f"{where}: server={dotted(self.server)}; give a host's address")
        for name in ("lease_s", "min_lease_s", "offer_s", "decline_s"):
            whole_number(where, name, getattr(self, name), 1, INFINITE, unit="s")
        if self.max_lease_s is not None:
            whole_number(where, "max_lease_s", self.max_lease_s, self.min_lease_s, INFINITE)
        whole_number(where, "ping_ns", self.ping_ns, 0, 60 * NSEC_PER_SEC, unit="ns")
        for at, subnet in enumerate(self.subnets):
            check_type(where, "subnets", subnet, Subnet, "a tuple of Subnet")
            for other in self.subnets[:at]:
                if subnet.has(other.first) or other.has(subnet.first):
                    raise ArgumentError(
                        f"{where}: the subnets of {dotted(other.first)} and {dotted(subnet.first)} "
                        "overlap; give each link its own"
                    )
        own = next((subnet for subnet in self.subnets if subnet.has(self.server)), None)
        if own is None and not self.relayed:
            raise ArgumentError(
                f"{where}: server={dotted(self.server)} is in none of the subnets; add its own, or "
                "relayed=True when all clients are behind relay agents"
            )
        if own is not None and not own.usable(self.server):
            raise ArgumentError(
                f"{where}: server={dotted(self.server)} is no host of its /{own.prefixlen}"
            )

    def lease_for(self, asked_s: int | None) -> int:
        """The time of a lease, in seconds, for the requested time."""
        if asked_s is None:
            return self.lease_s
        most = self.lease_s if self.max_lease_s is None else self.max_lease_s
        return min(max(asked_s, self.min_lease_s), most)


@dataclass(slots=True)
class Binding:
    """An address's last client; `expires_ns` is None for a lease without end."""

    client: bytes
    expires_ns: int | None
    leased: bool = False
    """Acknowledged, not only offered."""

    def live(self, now_ns: int) -> bool:
        """Whether it has not expired."""
        return self.expires_ns is None or now_ns < self.expires_ns


class Pool:
    """The bindings of one subnet, at most one for each of its addresses.

    Addresses never used come first, then those that expired longest ago.
    """

    def __init__(self, subnet: Subnet, server: int) -> None:
        self.subnet = subnet
        self.server = server
        self.bindings: dict[int, Binding] = {}
        self.clients: dict[bytes, int] = {}
        self._kept = {*subnet.by_mac.values(), *subnet.by_client_id.values()}
        self._next = subnet.first
        self._ends: list[tuple[int, int]] = []  # heap of (expires_ns, address), some outdated

    def free(self, address: int, client: bytes, now_ns: int) -> bool:
        """Whether `client` may get the address now."""
        held = self.bindings.get(address)
        return address != self.server and (
            held is None or held.client == client or not held.live(now_ns)
        )

    def choose(self, client: bytes, mac: bytes, wanted: int, now_ns: int) -> int:
        """The address to offer (4.3.1): kept, held, asked for, unused, expired; 0: none left."""
        subnet = self.subnet
        kept = subnet.by_client_id.get(client, 0) or subnet.by_mac.get(mac, 0)
        for address in (kept, self.clients.get(client, 0)):
            own = address == kept or address not in self._kept
            if address and own and self.free(address, client, now_ns):
                return address
        if (
            subnet.first <= wanted <= subnet.last
            and wanted not in self._kept
            and self.free(wanted, client, now_ns)
        ):
            return wanted
        while self._next <= subnet.last:
            address = self._next
            self._next += 1
            if not (address in self._kept or address == self.server or address in self.bindings):
                return address
        while self._ends and self._ends[0][0] <= now_ns:
            end, address = heappop(self._ends)
            held = self.bindings.get(address)
            if held is not None and held.expires_ns == end and address not in self._kept:
                return address
        return 0

    def bind(self, address: int, client: bytes, expires_ns: int | None, *, leased: bool) -> None:
        """Give the address to `client`, which releases any other."""
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
