"""The configuration of a resolver: resolv.conf(5) and hosts(5).

Both are parsed as in glibc, which skips unknown words.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace

from fastpath.wide import wide
from stack.clients.action import MessageError
from stack.clients.dns_wire import DNS_PORT
from stack.clients.dnsname import Name, folded, name_from_text, name_to_text
from stack.core.sockaddr import sockaddr
from stack.core.uapi import AF_INET, AF_INET6
from stack.net import Net

# glibc's resolv.h: MAXNS, RES_MAXNDOTS, RES_MAXRETRANS, RES_MAXRETRY
MAX_SERVERS, MAX_NDOTS, MAX_TIMEOUT_S, MAX_ATTEMPTS = 3, 15, 30, 5


@dataclass(frozen=True, slots=True)
class ResolvConf:
    """The configuration of a stub resolver.

    Attributes:
        servers: queried in this order, each as many times as `attempts`.
        search: domains appended to a name with fewer dots than `ndots`, before the name itself.
        timeout_s: for the first server; longer for the others, as in glibc.
        edns_bytes: the advertised size of datagrams (RFC 6891); 0: no EDNS0.
        rotate: begin with a random server.
        use_vc: use TCP only.
    """

    servers: tuple[sockaddr, ...] = ()
    search: tuple[Name, ...] = ()
    ndots: int = 1
    timeout_s: int = 5
    attempts: int = 2
    edns_bytes: int = 1232
    rotate: bool = False
    use_vc: bool = False

    @classmethod
    def parse(cls, text: str, ifindex: Callable[[str], wide] = lambda name: 0) -> ResolvConf:
        """Read a resolv.conf; `ifindex` finds the interface in `nameserver fe80::1%eth0`.

        EDNS0 is on by default; the option `no-edns0`, which is ours, switches it off.
        """
        servers: list[sockaddr] = []
        search: list[Name] = []
        numbers = {"ndots": 1, "timeout": 5, "attempts": 2}
        limits = {"ndots": MAX_NDOTS, "timeout": MAX_TIMEOUT_S, "attempts": MAX_ATTEMPTS}
        flags: set[str] = set()
        for line in text.splitlines():
            words = line.split()
            if not words or line[0] in "#; \t":
                continue
            match words[0]:
                case "nameserver" if len(words) > 1 and len(servers) < MAX_SERVERS:
                    server = _server(words[1], ifindex)
                    if server is not None:
                        servers.append(server)
                case "search" | "domain":
                    search = list(_names(words[1:] if words[0] == "search" else words[1:2]))
                case "options":
                    for word in words[1:]:
                        key, _, value = word.partition(":")
                        if key in numbers and value.isdecimal():
                            numbers[key] = min(int(value), limits[key])
                        flags.add(word)
        return cls(
            tuple(servers),
            tuple(search),
            numbers["ndots"],
            max(numbers["timeout"], 1),
            max(numbers["attempts"], 1),
            0 if "no-edns0" in flags else 1232,
            "rotate" in flags,
            "use-vc" in flags,
        )

    def emit(self) -> str:
        """The configuration as a resolv.conf; scopes are numbers."""
        lines = []
        for server in self.servers:
            if server.family == AF_INET:
                text = str(ipaddress.IPv4Address(server.addr))
            else:
                text = str(ipaddress.IPv6Address(server.addr))
                text += f"%{server.scope_id}" if server.scope_id else ""
            lines.append(f"nameserver {text}")
        if self.search:
            lines.append("search " + " ".join(map(name_to_text, self.search)))
        options = f"options ndots:{self.ndots} timeout:{self.timeout_s} attempts:{self.attempts}"
        options += "" if self.edns_bytes else " no-edns0"
        options += " rotate" if self.rotate else ""
        options += " use-vc" if self.use_vc else ""
        return "\n".join([*lines, options]) + "\n"


def _server(text: str, ifindex: Callable[[str], wide]) -> sockaddr | None:
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return None
    if isinstance(address, ipaddress.IPv4Address):
        return sockaddr(AF_INET, int(address), DNS_PORT)
    scope = address.scope_id or "0"
    scope_id = int(scope) if scope.isdecimal() else ifindex(scope)
    return sockaddr(AF_INET6, int(address), DNS_PORT, 0, scope_id)


def _names(words: Iterable[str]) -> Iterable[Name]:
    for word in words:
        try:
            name = name_from_text(word)
        except MessageError:
            continue
        if name:
            yield name


@dataclass(slots=True)
class HostsTable:
    """Names and addresses resolved without a server, in the order of their lines."""

    entries: list[tuple[int, int, tuple[str, ...]]] = field(default_factory=list)
    """(family, host-order address, canonical name and aliases)"""

    @classmethod
    def parse(cls, text: str) -> HostsTable:
        """Read a file of hosts(5)."""
        table = cls()
        for line in text.splitlines():
            words = line.partition("#")[0].split()
            if len(words) > 1:
                try:
                    table.add(words[0], *words[1:])
                except ValueError:
                    continue
        return table

    def emit(self) -> str:
        """The table as a file of hosts(5)."""
        kinds = {AF_INET: ipaddress.IPv4Address, AF_INET6: ipaddress.IPv6Address}
        return "".join(
            f"{kinds[family](address)} {' '.join(names)}\n"
            for family, address, names in self.entries
        )

    def add(self, address: str, *names: str) -> None:
        """Add an address with its name and aliases.  Raises: ValueError: not an address."""
        ip = ipaddress.ip_address(address)
        family = AF_INET if ip.version == 4 else AF_INET6
        self.entries.append((family, int(ip), names))

    def addresses(self, name: str) -> list[tuple[int, int, str]]:
        """(family, address, canonical name) of each line with `name`."""
        try:
            wanted = folded(name_from_text(name))
        except MessageError:
            return []
        return [
            (family, address, names[0])
            for family, address, names in self.entries
            if any(_same(known, wanted) for known in names)
        ]

    def names(self, family: int, address: int) -> tuple[str, ...]:
        """Canonical name and aliases of the first line of an address; () if there is none."""
        for known_family, known, names in self.entries:
            if (known_family, known) == (family, address):
                return names
        return ()


def _same(text: str, wanted: Name) -> bool:
    try:
        return folded(name_from_text(text)) == wanted
    except MessageError:
        return False


def _localhost() -> HostsTable:
    return HostsTable.parse("127.0.0.1 localhost\n::1 localhost ip6-localhost ip6-loopback\n")


@dataclass(slots=True)
class NameService:
    """Name resolution of a network namespace: its resolv.conf and hosts.

    Without a name server only `hosts` is used. `sort`, if set, sorts destinations instead of RFC
    6724 (stack/api/destinations.py). `learned` holds the servers and domains of DHCP and router
    advertisements, by client.
    """

    conf: ResolvConf = field(default_factory=ResolvConf)
    hosts: HostsTable = field(default_factory=_localhost)
    sort: Callable[[Net, list[sockaddr]], list[sockaddr]] | None = None
    learned: dict[str, tuple[tuple[sockaddr, ...], tuple[Name, ...]]] = field(default_factory=dict)

    @property
    def current(self) -> ResolvConf:
        """`conf` with the learned servers and domains added, at most MAX_SERVERS servers."""
        servers, search = list(self.conf.servers), list(self.conf.search)
        for more_servers, more_search in self.learned.values():
            servers += [server for server in more_servers if server not in servers]
            search += [name for name in more_search if name not in search]
        return replace(self.conf, servers=tuple(servers[:MAX_SERVERS]), search=tuple(search))

    def learn(self, source: str, servers: Iterable[sockaddr], search: Iterable[str]) -> None:
        """Replace the servers and search list of `source` ("dhcp4 eth0")."""
        self.learned[source] = (tuple(servers), tuple(_names(search)))

    def forget(self, source: str) -> None:
        """Remove the servers and search list of `source`."""
        self.learned.pop(source, None)
