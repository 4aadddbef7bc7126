"""A DHCPv6 client without I/O (RFC 8415 18.2): one IA_NA, or information only.

    client = Dhcp6Client(duid=duid_ll(mac), iaid=1, random=Random(1))
    actions = client.start(now_ns)
    actions = client.received(datagram, now_ns)     # received on UDP port 546
    actions = client.timer(now_ns)                  # at the time of the last SetTimer

Every message is sent from the interface's link-local address, port 546, to ff02::1:2, port 547. The
address check is the interface's duplicate address detection; its runner reports addresses in use to
`declined`. The client does not accept Reconfigure messages (18.2.11).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from random import Random
from typing import TypeAlias

from fastpath.wide import wide
from stack.clients.action import NEVER, MessageError, SetTimer
from stack.clients.dhcp6_lease import Lease6, acceptable, ia_of, information, merged
from stack.clients.dhcp6_request import TO_ONE_SERVER, request6
from stack.clients.dhcp6_state import ASSIGNED, RETRANSMIT, STATES, Event, State
from stack.clients.dhcp6_wire import (
    INFINITY,
    Dhcp6Message,
    MessageType,
    Option,
    Status,
    find,
    status_of,
)
from stack.clients.lease_client import LeaseClient, due
from stack.core.time64 import NSEC_PER_SEC

MAX_PREFERENCE = 255
# RFC 8415 21.24, 21.25: range of the longest interval set by a server
MIN_MAX_RT_S, MAX_MAX_RT_S = 60, 86400
# 21.23
IRT_DEFAULT_S, IRT_MINIMUM_S = 86400, 600


@dataclass(frozen=True, slots=True)
class Send6:
    """Send `data` from port 546 to port 547 of All_DHCP_Relay_Agents_and_Servers."""

    data: bytes


@dataclass(frozen=True, slots=True)
class Configure6:
    """Use the addresses and the information of `lease`; sent again when it is renewed."""

    lease: Lease6


@dataclass(frozen=True, slots=True)
class Deconfigure6:
    """Stop using these addresses."""

    addresses: tuple[int, ...]
    reason: str


Action6: TypeAlias = Send6 | SetTimer | Configure6 | Deconfigure6


def _limit(seconds: int | None, before_s: float) -> float:
    """The longest interval after a server has sent `seconds` for it."""
    if seconds is None or not MIN_MAX_RT_S <= seconds <= MAX_MAX_RT_S:
        return before_s
    return seconds


class Dhcp6Client(LeaseClient[State, Event, Action6]):
    """One client on one interface.

    Args:
        duid: our identity (RFC 8415 11), constant for one machine.
        iaid: of our IA_NA, unique among the interfaces of the machine.
        random: of transaction ids and delays.
        rapid_commit: accept an exchange of two messages instead of four.
    """

    def __init__(
        self, *, duid: bytes, iaid: int, random: Random, rapid_commit: bool = False
    ) -> None:
        super().__init__(STATES)
        self.duid = duid
        self.iaid = iaid
        self.rapid_commit = rapid_commit
        self.lease = Lease6()
        self._random = random
        self._xid = 0
        self._began_ns = NEVER  # first message of the exchange
        self._count = 0
        self._rt_ns = 0
        self._resend_ns = NEVER
        self._refresh_ns = NEVER
        self._best: tuple[int, Dhcp6Message] | None = None
        self._asked: tuple[int, ...] = ()  # addresses in the IA_NA that is sent
        self._server = b""
        self._sol_max_rt_s = RETRANSMIT[State.SOLICIT].mrt_s
        self._inf_max_rt_s = RETRANSMIT[State.INFORM].mrt_s

    # --- events ---------------------------------------------------------------------------------

    def start(self, now_ns: int, *, stateless: bool = False) -> list[Action6]:
        """Request an address; `stateless`: only information (18.2.6)."""
        if self._step(Event.INFORM if stateless else Event.START):
            self._begin(now_ns)
        return self._done(now_ns)

    def received(self, data: bytes, now_ns: int) -> list[Action6]:
        """Handle a datagram for port 546; ignores invalid ones and those for others."""
        try:
            message = Dhcp6Message.parse(data)
        except MessageError:
            return []
        # RFC 8415 16.3, 16.10
        if (
            self._began_ns != NEVER
            and message.xid == self._xid
            and find(message.options, Option.CLIENTID) == self.duid
            and find(message.options, Option.SERVERID)
        ):
            self._take_limits(message)
            if message.type == MessageType.ADVERTISE and self.state is State.SOLICIT:
                self._advertised(message, now_ns)
            elif message.type == MessageType.REPLY:
                self._replied(message, now_ns)
        return self._done(now_ns)

    def timer(self, now_ns: int) -> list[Action6]:
        """Handle expired timers."""
        self._timer_ns = NEVER  # no timer is set
        self._expire(now_ns)
        if self._renews(self.lease, now_ns):
            self._begin(now_ns)
        if due(self._refresh_ns, now_ns) and self._step(Event.REFRESH):
            self._begin(now_ns)
        if due(self._resend_ns, now_ns):
            self._resend(now_ns)
        return self._done(now_ns)

    def declined(self, addresses: tuple[wide, ...], now_ns: int) -> list[Action6]:
        """Duplicate address detection found these addresses in use (18.2.8)."""
        ours = tuple(a.address for a in self.lease.addresses if a.address in addresses)
        if ours and self._step(Event.CONFLICT):
            self._remove(ours, "in use elsewhere")
            self._asked, self._server = ours, self.lease.server
            self._begin(now_ns)
        return self._done(now_ns)

    def link_changed(self, now_ns: int) -> list[Action6]:
        """The link went down and came up: check whether the network changed (18.2.3, 18.2.6)."""
        if self._step(Event.LINK):
            self._begin(now_ns)
        return self._done(now_ns)

    def stop(self, now_ns: int, *, release: bool = True) -> list[Action6]:
        """Stop; addresses are released (18.2.7) unless `release` is False.

        An unanswered release is retransmitted, so the timer runs for some seconds.
        """
        ours = tuple(a.address for a in self.lease.addresses)
        server = self.lease.server
        self._remove(ours, "released" if release else "stopped")
        self.lease = Lease6()
        if release and ours and self._step(Event.RELEASE):
            self._asked, self._server = ours, server
            self._begin(now_ns)
        elif self.state is not State.RELEASE or not release:
            self._step(Event.STOP)
            self._quiet()
        return self._done(now_ns)

    # --- answers --------------------------------------------------------------------------------

    def _advertised(self, message: Dhcp6Message, now_ns: int) -> None:
        """Take the best ADVERTISE before the first retransmission, or one of preference 255 at once
        (18.2.9)."""
        ia = ia_of(message, self.iaid)
        if (
            status_of(message.options)[0] != Status.SUCCESS
            or ia is None
            or status_of(ia.options)[0] != Status.SUCCESS
            or not any(a.valid_s for a in acceptable(ia))
        ):
            return
        preference = message.number(Option.PREFERENCE, 1) or 0
        if self._best is None or preference > self._best[0]:
            self._best = preference, message
        if preference == MAX_PREFERENCE or self._count > 1:
            self._choose(now_ns)

    def _choose(self, now_ns: int) -> None:
        assert self._best is not None
        message = self._best[1]
        if self._step(Event.CHOSEN):
            self._server = find(message.options, Option.SERVERID) or b""
            ia = ia_of(message, self.iaid)
            self._asked = tuple(a.address for a in acceptable(ia) if a.valid_s)
            self._begin(now_ns)

    def _replied(self, message: Dhcp6Message, now_ns: int) -> None:
        """18.2.10."""
        status = status_of(message.options)[0]
        server = find(message.options, Option.SERVERID)
        match self.state:
            case State.SOLICIT:
                if self.rapid_commit and find(message.options, Option.RAPID_COMMIT) is not None:
                    self._assigned(message, now_ns)
            case State.REQUEST | State.RENEW | State.REBIND:
                if self.state in TO_ONE_SERVER and server != self._server:
                    return
                if status == Status.NOT_ON_LINK and self.state is State.REQUEST:
                    self._refused(now_ns, "not on this link")
                elif status in (Status.SUCCESS, Status.NO_ADDRS_AVAIL, Status.NO_BINDING):
                    self._assigned(message, now_ns)
                # else 18.2.10: UnspecFail and others are retried at the usual interval
            case State.CONFIRM:
                if status == Status.SUCCESS and self._step(Event.REPLY):
                    self._quiet()
                elif status == Status.NOT_ON_LINK:
                    self._refused(now_ns, "not on this link")
            case State.DECLINE | State.RELEASE:
                if server == self._server:
                    self._ended(now_ns, Event.REPLY)
            case State.INFORM:
                if status == Status.SUCCESS and self._step(Event.REPLY):
                    self._quiet()
                    self.lease = information(message, Lease6(server or b""))
                    self._actions.append(Configure6(self.lease))
                    seconds = message.number(Option.INFORMATION_REFRESH_TIME, 4)
                    if seconds != INFINITY:
                        seconds = IRT_DEFAULT_S if seconds is None else max(seconds, IRT_MINIMUM_S)
                        self._refresh_ns = now_ns + seconds * NSEC_PER_SEC

    def _assigned(self, message: Dhcp6Message, now_ns: int) -> None:
        """Handle a REPLY that should have our IA_NA."""
        ia = ia_of(message, self.iaid)
        if ia is None:
            return
        status = status_of(ia.options)[0]
        if status == Status.SUCCESS:
            status = status_of(message.options)[0]
        if status == Status.NO_BINDING and self._step(Event.NO_BINDING):
            self._server = find(message.options, Option.SERVERID) or b""
            self._begin(now_ns)
            return
        if status in (Status.NO_ADDRS_AVAIL, Status.NOT_ON_LINK):
            self._refused(now_ns, "no address to be had")
            return
        new = merged(self.lease, message, ia, now_ns)
        if status != Status.SUCCESS or not new.addresses:
            return  # retried at the usual interval
        if self._step(Event.REPLY):
            left = {a.address for a in new.addresses}
            gone = tuple(a.address for a in self.lease.addresses if a.address not in left)
            self._remove(gone, "ended by the server")
            self.lease = new
            self._quiet()
            self._actions.append(Configure6(new))

    def _refused(self, now_ns: int, reason: str) -> None:
        if self._step(Event.REFUSED):
            self._remove(tuple(a.address for a in self.lease.addresses), reason)
            self.lease = Lease6()
            self._begin(now_ns)

    def _ended(self, now_ns: int, event: Event) -> None:
        """The exchange of a DECLINE or RELEASE has ended, answered or not."""
        if self.state is State.DECLINE and not self.lease.addresses:
            event = Event.EMPTY
        if self._step(event):
            self._quiet()
            if self.state is State.SOLICIT:
                self._begin(now_ns)

    def _take_limits(self, message: Dhcp6Message) -> None:
        """Apply SOL_MAX_RT and INF_MAX_RT of any ADVERTISE and REPLY (18.2.9, 18.2.10)."""
        self._sol_max_rt_s = _limit(message.number(Option.SOL_MAX_RT, 4), self._sol_max_rt_s)
        self._inf_max_rt_s = _limit(message.number(Option.INF_MAX_RT, 4), self._inf_max_rt_s)

    # --- addresses ------------------------------------------------------------------------------

    def _expire(self, now_ns: int) -> None:
        """Remove expired addresses; restart if none is left."""
        over = tuple(a.address for a in self.lease.addresses if due(a.valid_ns, now_ns))
        if over:
            self._remove(over, "its time is over")
            if not self.lease.addresses and self._step(Event.EXPIRED):
                self.lease = Lease6()
                self._begin(now_ns)

    def _remove(self, addresses: tuple[int, ...], reason: str) -> None:
        if addresses:
            left = tuple(a for a in self.lease.addresses if a.address not in addresses)
            self.lease = replace(self.lease, addresses=left)
            self._actions.append(Deconfigure6(addresses, reason))

    # --- requests -------------------------------------------------------------------------------

    def _begin(self, now_ns: int) -> None:
        """Begin the new state's exchange, perhaps after a random delay."""
        self._quiet()
        if self.state in (State.RENEW, State.REBIND, State.CONFIRM):
            self._asked = tuple(a.address for a in self.lease.addresses)
            self._server = self.lease.server
        self._xid = self._random.getrandbits(24)
        delay_s = RETRANSMIT[self.state].delay_s
        if delay_s:
            self._resend_ns = now_ns + int(self._random.uniform(0, delay_s) * NSEC_PER_SEC)
        else:
            self._resend(now_ns)

    def _resend(self, now_ns: int) -> None:
        """Send the state's message, the first time or again, or give up (RFC 8415 15)."""
        if self.state is State.SOLICIT and self._best is not None:
            self._choose(now_ns)
            return
        how = RETRANSMIT[self.state]
        if self.state is State.SOLICIT:
            how = replace(how, mrt_s=self._sol_max_rt_s)
        elif self.state is State.INFORM:
            how = replace(how, mrt_s=self._inf_max_rt_s)
        began = self._began_ns
        if (how.mrc and self._count >= how.mrc) or (
            how.mrd_s and began != NEVER and now_ns - began >= how.mrd_s * NSEC_PER_SEC
        ):
            self._give_up(now_ns)
            return
        if began == NEVER:
            self._began_ns = began = now_ns
            self._rt_ns = how.first_ns(self._random, positive=self.state is State.SOLICIT)
        else:
            self._rt_ns = how.next_ns(self._rt_ns, self._random)
        self._count += 1
        self._resend_ns = now_ns + self._rt_ns
        if how.mrd_s:
            self._resend_ns = min(self._resend_ns, began + int(how.mrd_s * NSEC_PER_SEC))
        message = request6(
            self.state,
            self._xid,
            self.duid,
            self.iaid,
            now_ns - began,
            server=self._server,
            addresses=self._asked,
            rapid_commit=self.rapid_commit,
        )
        self._actions.append(Send6(message.emit()))

    def _give_up(self, now_ns: int) -> None:
        match self.state:
            case State.DECLINE | State.RELEASE:
                self._ended(now_ns, Event.RETRIES)
            case State.CONFIRM:
                self._step(Event.RETRIES)
                self._quiet()
            case _:
                self._step(Event.RETRIES)
                self._remove(tuple(a.address for a in self.lease.addresses), "no server has it")
                self.lease = Lease6()
                self._begin(now_ns)

    # --- helpers --------------------------------------------------------------------------------

    def _quiet(self) -> None:
        """End the exchange."""
        self._resend_ns = self._refresh_ns = self._began_ns = NEVER
        self._count = 0
        self._best = None

    def _done(self, now_ns: int) -> list[Action6]:
        times: list[int | None] = [self._resend_ns, self._refresh_ns]
        if self.state in ASSIGNED and self.lease.addresses:
            times += [a.valid_ns for a in self.lease.addresses]
            times += self._renewal_times(self.lease)
        return self._take_actions(times, now_ns)
