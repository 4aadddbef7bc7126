"""A router's advertisements on one interface, without I/O (RFC 4861 6.2), as by radvd.

    core = RouterAdvertiser(config, random=Random(1), lladdr=mac)
    for action in core.start(now_ns): ...
    core.timer(now_ns)                       # at the time of the last SetTimer
    core.solicited(source, now_ns)           # a valid router solicitation arrived
    core.heard(advertisement, options, now_ns)   # another router's advertisement

The runner carries out the actions: `Advertise` a message, `SetTimer`, log `Inconsistent`. It must
validate received messages as RFC 4861 6.1 requires (the stack's ndisc does).
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from random import Random
from typing import TypeAlias

from fastpath.errors import ArgumentError
from fastpath.wide import wide
from stack.clients.action import SetTimer
from stack.core.time64 import NSEC_PER_SEC
from stack.ipv6.addr import IN6ADDR_ANY, IN6ADDR_LINKLOCAL_ALLNODES, format_addr6
from stack.ipv6.nd_messages import RouterAdvertisement
from stack.ipv6.nd_options import (
    ICMPV6_ROUTER_PREF_INVALID,
    ND_OPT_SOURCE_LL_ADDR,
    dnssl,
    ndisc_fill_addr_option,
    ndisc_options,
    opt_mtu,
    prefix_info,
    rdnss,
    route_info,
)

# RFC 4861 10
MAX_INITIAL_RTR_ADVERT_INTERVAL_S = 16
MAX_INITIAL_RTR_ADVERTISEMENTS = 3
MAX_FINAL_RTR_ADVERTISEMENTS = 3
MIN_DELAY_BETWEEN_RAS_S = 3
MAX_RA_DELAY_TIME_NS = NSEC_PER_SEC // 2
MAX_UNICAST_PER_INTERVAL = 20  # unicast answers between two multicasts, a limit against floods


@dataclass(frozen=True, slots=True)
class AdvertiserConfig:
    """The router configuration variables of RFC 4861 6.2.1, in the units of the messages.

    `default_lifetime_s` None: three times the maximum interval; 0: no default router. Lifetimes of
    prefixes, routes and servers are constant, as the RFC's default has it.
    """

    prefixes: tuple[prefix_info, ...] = ()
    routes: tuple[route_info, ...] = ()
    rdnss: tuple[rdnss, ...] = ()
    dnssl: tuple[dnssl, ...] = ()
    max_interval_s: float = 600
    min_interval_s: float | None = None
    managed: bool = False
    other: bool = False
    link_mtu: int = 0
    reachable_time_ms: int = 0
    retrans_timer_ms: int = 0
    hop_limit: int = 64
    default_lifetime_s: int | None = None
    preference: int = 0
    unicast: bool = False
    """Answer a solicitation with a source address by unicast, after the random delay."""
    source_lladdr: bool = True

    def __post_init__(self) -> None:
        """Raises: ArgumentError (a ValueError) naming the variable and what RFC 4861 allows."""
        if not 4 <= self.max_interval_s <= 1800:
            raise ArgumentError(f"max_interval_s {self.max_interval_s}: RFC 4861 takes 4 to 1800 s")
        if not 3 <= self.min_s <= 0.75 * self.max_interval_s:
            limit = 0.75 * self.max_interval_s
            raise ArgumentError(f"min_interval_s {self.min_s}: RFC 4861 takes 3 to {limit} s")
        life = self.default_lifetime_s
        if life is not None and life and not self.max_interval_s <= life <= 9000:
            low = self.max_interval_s
            raise ArgumentError(f"default_lifetime_s {life}: RFC 4861 takes 0, or {low} to 9000 s")
        if not 0 <= self.preference <= 3 or self.preference == ICMPV6_ROUTER_PREF_INVALID:
            raise ArgumentError(
                f"preference {self.preference}: 0 medium, 1 high or 3 low (RFC 4191)"
            )
        for prefix in self.prefixes:
            if prefix.prefered > prefix.valid:
                text = f"{format_addr6(prefix.prefix)}/{prefix.prefix_len}"
                raise ArgumentError(f"prefix {text}: preferred for longer than it is valid")

    @property
    def min_s(self) -> float:
        """MinRtrAdvInterval: a third of the maximum unless set, at least 3 s."""
        if self.min_interval_s is not None:
            return self.min_interval_s
        return max(3, 0.33 * self.max_interval_s) if self.max_interval_s >= 9 else 3

    @property
    def lifetime_s(self) -> int:
        """AdvDefaultLifetime."""
        if self.default_lifetime_s is not None:
            return self.default_lifetime_s
        return int(3 * self.max_interval_s)


@dataclass(frozen=True, slots=True)
class Advertise:
    """Send `message` (ICMPv6, checksum 0) from the link-local address to `daddr`."""

    message: bytes
    daddr: wide


@dataclass(frozen=True, slots=True)
class Inconsistent:
    """Another router advertises something else (RFC 4861 6.2.7): what, ours, theirs."""

    what: str
    ours: int
    theirs: int


Action: TypeAlias = Advertise | SetTimer | Inconsistent


@dataclass(slots=True)
class RouterAdvertiser:
    """One advertising interface. See the module's text for its events."""

    config: AdvertiserConfig
    random: Random
    lladdr: bytes = b""
    running: bool = False
    sent_initial: int = 0
    _last_multicast: int | None = None
    _next_multicast: int | None = None
    _unicast: dict[wide, int] = field(default_factory=dict)

    def start(self, now_ns: int) -> list[Action]:
        """Begin to advertise on the interface (RFC 4861 6.2.4): the first RA is sent at once."""
        self.running = True
        self.sent_initial = 0
        self._next_multicast = now_ns
        return self.timer(now_ns)

    def stop(self, now_ns: int, *, final: int = MAX_FINAL_RTR_ADVERTISEMENTS) -> list[Action]:
        """Cease to advertise (RFC 4861 6.2.5), after up to three RAs with router lifetime 0."""
        if not self.running:
            return []
        self.running = False
        self._unicast.clear()
        self._next_multicast = None
        farewell = Advertise(self.message(lifetime_s=0), IN6ADDR_LINKLOCAL_ALLNODES)
        return [farewell] * final

    def solicited(self, source: wide, now_ns: int) -> list[Action]:
        """A router solicitation arrived (RFC 4861 6.2.6): answer within half a second.

        By multicast at most every MIN_DELAY_BETWEEN_RAS; by unicast at most a bounded number
        between two of those.
        """
        if not self.running:
            return []
        delay = self.random.randrange(MAX_RA_DELAY_TIME_NS)
        if self.config.unicast and source != IN6ADDR_ANY:
            at = self._unicast.get(source, 0)
            if not at and len(self._unicast) < MAX_UNICAST_PER_INTERVAL:
                self._unicast[source] = now_ns + delay
            if at >= 0 and source in self._unicast:
                return self._set_timer()
            # A repeated solicitation, or too many: answer all of them by one multicast.
        at = now_ns + delay
        if self._last_multicast is not None:
            at = max(at, self._last_multicast + MIN_DELAY_BETWEEN_RAS_S * NSEC_PER_SEC + delay)
        if self._next_multicast is None or at < self._next_multicast:
            self._next_multicast = at
        return self._set_timer()

    def heard(
        self, theirs: RouterAdvertisement, options: ndisc_options, now_ns: int
    ) -> list[Action]:
        """Another router's RA arrived: compare the fields that must agree (RFC 4861 6.2.7)."""
        mine = self.advertisement()
        out: list[Action] = []

        def compare(what: str, ours: int, other: int, *, unset: bool = True) -> None:
            if ours != other and (not unset or (ours and other)):
                out.append(Inconsistent(what, ours, other))

        compare("hop limit", mine.hop_limit, theirs.hop_limit)
        compare("managed flag", mine.managed, theirs.managed, unset=False)
        compare("other flag", mine.other, theirs.other, unset=False)
        compare("reachable time", mine.reachable_time, theirs.reachable_time)
        compare("retransmission timer", mine.retrans_timer, theirs.retrans_timer)
        compare("MTU", self.config.link_mtu, options.mtu or 0)
        known = {(p.prefix, p.prefix_len): p for p in self.config.prefixes}
        for prefix in options.prefixes:
            ours = known.get((prefix.prefix, prefix.prefix_len))
            if ours is not None:
                compare("preferred lifetime", ours.prefered, prefix.prefered, unset=False)
                compare("valid lifetime", ours.valid, prefix.valid, unset=False)
        return out

    def timer(self, now_ns: int) -> list[Action]:
        """The time of the last SetTimer has come: send what is due."""
        out: list[Action] = []
        if not self.running:
            return out
        for source, at in tuple(self._unicast.items()):
            if at <= now_ns:
                # The entry stays until the next multicast, so that a flood is bounded.
                self._unicast[source] = -1
                if at >= 0:
                    out.append(Advertise(self.message(), source))
        if self._next_multicast is not None and self._next_multicast <= now_ns:
            out.append(Advertise(self.message(), IN6ADDR_LINKLOCAL_ALLNODES))
            self.sent_initial += 1
            self._last_multicast = now_ns
            self._unicast = {a: at for a, at in self._unicast.items() if at >= 0}
            low, high = self.config.min_s, self.config.max_interval_s
            wait_s = self.random.uniform(low, high)
            if self.sent_initial < MAX_INITIAL_RTR_ADVERTISEMENTS:
                wait_s = min(wait_s, MAX_INITIAL_RTR_ADVERT_INTERVAL_S)
            self._next_multicast = now_ns + int(wait_s * NSEC_PER_SEC)
        return out + self._set_timer()

    def _set_timer(self) -> list[Action]:
        due = [at for at in self._unicast.values() if at >= 0]
        if self._next_multicast is not None:
            due.append(self._next_multicast)
        return [SetTimer(min(due))] if due else []

    def advertisement(self, lifetime_s: int | None = None) -> RouterAdvertisement:
        """The fixed part of an RA."""
        config = self.config
        life = config.lifetime_s if lifetime_s is None else lifetime_s
        return RouterAdvertisement(
            config.hop_limit,
            config.managed,
            config.other,
            False,
            # RFC 4191 2.2: 00 with a router lifetime of 0
            config.preference if life else 0,
            life,
            config.reachable_time_ms,
            config.retrans_timer_ms,
        )

    def message(self, lifetime_s: int | None = None) -> bytes:
        """The whole RA. `lifetime_s` 0: the router ceases to advertise."""
        config = self.config
        options = b""
        if config.source_lladdr and self.lladdr:
            options += ndisc_fill_addr_option(ND_OPT_SOURCE_LL_ADDR, self.lladdr)
        if config.link_mtu:
            options += opt_mtu(config.link_mtu)
        options += b"".join(prefix.pack() for prefix in config.prefixes)
        for each in (config.routes, config.rdnss, config.dnssl):
            for option in each:
                options += (replace(option, lifetime=0) if lifetime_s == 0 else option).pack()
        return self.advertisement(lifetime_s).pack(options)
