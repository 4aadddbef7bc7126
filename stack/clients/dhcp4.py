"""A DHCPv4 client without I/O (RFC 2131 4.4, RFC 5227 for the address check).

    client = Dhcp4Client(mac=mac, random=Random(1))
    actions = client.start(now_ns)
    actions = client.received(datagram, now_ns)     # received on UDP port 68
    actions = client.timer(now_ns)                  # at the time of the last SetTimer

The runner carries out the actions in order: `Send` a datagram from port 68 to port 67, `SendArp`,
`SetTimer`, `Configure` the interface with a lease, `Deconfigure` it. It passes ARP packets of the
interface to `arp_received`, for address conflict detection and defence.

TRANSITIONS is the state machine of RFC 2131 figure 5 with two more states. CHECKING is between the
ACK and the use of the address. HELD_OFF is the pause after a declined or refused address.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from random import Random
from typing import TypeAlias

from stack.clients.action import NEVER, MessageError, SetTimer
from stack.clients.dhcp4_lease import Lease, lease_of, usable
from stack.clients.dhcp4_request import Dhcp4Config, request
from stack.clients.dhcp4_state import HAS_ADDRESS, SENDS, STATES, TIMED, Event, State
from stack.clients.dhcp4_wire import BOOTREPLY, Dhcp4Message, MessageType, Option
from stack.clients.lease_client import LeaseClient, due
from stack.core.time64 import NSEC_PER_SEC
from stack.core.uapi import INADDR_BROADCAST

# RFC 2131 4.1: 4, 8 ... 64 s, each a second more or less.
FIRST_RETRY_S, LAST_RETRY_S = 4, 64
REQUEST_TRIES = 4
REBOOT_TRIES = 2
RENEW_RETRY_S = 60
# RFC 5227 1.1
PROBE_WAIT_S, PROBE_MIN_S, PROBE_MAX_S = 1.0, 1.0, 2.0
ANNOUNCE_WAIT_S, ANNOUNCE_NUM, ANNOUNCE_INTERVAL_S = 2.0, 2, 2.0
DEFEND_INTERVAL_S = 10


@dataclass(frozen=True, slots=True)
class Send:
    """Send `data` from port 68 of `saddr` (0 without an address) to port 67 of
    `daddr`; 255.255.255.255 is the interface's link."""

    data: bytes
    saddr: int
    daddr: int


@dataclass(frozen=True, slots=True)
class SendArp:
    """Send an ARP request for `address`: with sender address 0 (a probe), or with `address` itself
    (an announcement), RFC 5227 1.1."""

    address: int
    announce: bool


@dataclass(frozen=True, slots=True)
class Configure:
    """Use the address and the parameters of `lease`; sent again when the lease is renewed."""

    lease: Lease


@dataclass(frozen=True, slots=True)
class Deconfigure:
    """Stop using the lease: it was refused, expired, or another host uses the address."""

    lease: Lease
    reason: str


Action: TypeAlias = Send | SendArp | SetTimer | Configure | Deconfigure


class Dhcp4Client(LeaseClient[State, Event, Action]):
    """One client on one interface.

    Args:
        mac: of the interface, 6 bytes.
        random: of transaction ids and delays.
        config: the configuration.
    """

    def __init__(self, *, mac: bytes, random: Random, config: Dhcp4Config | None = None) -> None:
        super().__init__(STATES)
        self.mac = mac
        self.config = config or Dhcp4Config()
        self.lease: Lease | None = None
        """The last acknowledged lease; in use when `in_use`."""
        self._random = random
        self._xid = 0
        self._started_ns = 0
        self._asked_ns = 0  # first REQUEST of the exchange: the lease starts here
        self._tries = 0
        self._offer: Dhcp4Message | None = None
        self._wanted = 0  # the address of REBOOTING and INFORMING
        self._resend_ns = NEVER
        self._arp_ns = NEVER
        self._arps_left = 0
        self._defended_ns = NEVER
        self._refusals = 0

    @property
    def in_use(self) -> bool:
        """Whether the interface uses the lease's address."""
        return self.lease is not None and self.state in HAS_ADDRESS

    # --- events ---------------------------------------------------------------------------------

    def start(self, now_ns: int, address: int = 0) -> list[Action]:
        """Request a lease; with `address` the previous one (RFC 2131 4.4.2)."""
        if self._step(Event.REBOOT if address else Event.START):
            self._wanted = address
            self._begin(now_ns)
        return self._done()

    def inform(self, address: int, now_ns: int) -> list[Action]:
        """Request parameters only, for an interface that already has `address` (4.4.3)."""
        if self._step(Event.INFORM):
            self._wanted = address
            self._begin(now_ns)
        return self._done()

    def received(self, data: bytes, now_ns: int) -> list[Action]:
        """Handle a datagram for port 68; ignores invalid ones and those for others."""
        if data[4:8] != self._xid.to_bytes(4, "big"):
            return []  # unparsed, as all clients of a link receive broadcast replies
        try:
            message = Dhcp4Message.parse(data)
        except MessageError:
            return []
        if message.op == BOOTREPLY and message.chaddr == self.mac and self.state in SENDS:
            match message.type:
                case MessageType.OFFER:
                    self._got_offer(message, now_ns)
                case MessageType.ACK:
                    self._got_ack(message, now_ns)
                case MessageType.NAK:
                    self._got_nak(message, now_ns)
        return self._done()

    def timer(self, now_ns: int) -> list[Action]:
        """Handle expired timers."""
        self._timer_ns = NEVER  # no timer is set
        lease = self.lease
        if lease is not None and self.state in TIMED:
            had = self.in_use
            if due(lease.expires_ns, now_ns) and self._step(Event.EXPIRED):
                if had:
                    self._actions.append(Deconfigure(lease, "the lease is over"))
                self._begin(now_ns)
            elif self._renews(lease, now_ns):
                self._ask(now_ns)
        if due(self._arp_ns, now_ns):
            self._arp_due(now_ns)
        if due(self._resend_ns, now_ns):
            if self.state is State.HELD_OFF:
                self._step(Event.RESTART)
                self._begin(now_ns)
            else:
                self._resend(now_ns)
        return self._done()

    def wants_arp(self, sender: int, target: int) -> bool:
        """Whether `arp_received` needs a packet with these addresses."""
        return self.lease is not None and self.lease.address in (sender, target)

    def arp_received(
        self, sender_mac: bytes, sender: int, target: int, now_ns: int
    ) -> list[Action]:
        """Handle an ARP packet of the interface: another host may use our address."""
        lease = self.lease
        if lease is None or sender_mac == self.mac:
            return []
        address = lease.address
        if self.state is State.CHECKING:
            # RFC 5227 2.1.1: in use, or probed by another at the same time
            if sender == address or (sender == 0 and target == address):
                self._decline(now_ns, f"{sender_mac.hex(':')} has it")
        elif self.in_use and sender == address:
            last = self._defended_ns
            if last == NEVER or now_ns - last >= DEFEND_INTERVAL_S * NSEC_PER_SEC:
                self._defended_ns = now_ns  # RFC 5227 2.4 (b)
                self._actions.append(SendArp(address, announce=True))
            else:
                self._decline(now_ns, f"{sender_mac.hex(':')} has it and does not give way")
        return self._done()

    def stop(self, now_ns: int, *, release: bool = True) -> list[Action]:
        """Stop; a lease in use is released (RFC 2131 4.4.6) unless `release` is False."""
        lease = self.lease
        if self.in_use and lease is not None:
            if release:
                self._new_exchange(now_ns)
                self._send(
                    self._message(
                        MessageType.RELEASE,
                        now_ns,
                        {Option.SERVER_ID: lease.server.to_bytes(4, "big")},
                        ciaddr=lease.address,
                    ),
                    lease.address,
                    lease.server,
                )
            self._actions.append(Deconfigure(lease, "released" if release else "stopped"))
        self._step(Event.STOP)
        self.lease = None
        self._quiet()
        return self._done()

    # --- answers --------------------------------------------------------------------------------

    def _got_offer(self, message: Dhcp4Message, now_ns: int) -> None:
        """Request the first usable offer."""
        if not usable(message) or not self._step(Event.OFFER):
            return
        self._offer = message
        self._asked_ns = now_ns
        self._tries = 0
        self._resend(now_ns)

    def _got_ack(self, message: Dhcp4Message, now_ns: int) -> None:
        if self.state is State.INFORMING:
            if message.address(Option.SERVER_ID) and self._step(Event.ACK):
                self._quiet()
                self.lease = lease_of(message, self._asked_ns, address=self._wanted)
                self._actions.append(Configure(self.lease))
            return
        if not usable(message):
            return
        if self.state is State.REQUESTING and self._offer is not None:
            offered = self._offer.address(Option.SERVER_ID)
            if message.address(Option.SERVER_ID) != offered:
                return
        new = lease_of(message, self._asked_ns)
        if due(new.expires_ns, now_ns):
            return  # it expired before this answer came
        old = self.lease if self.in_use else None
        same = old is None or old.address == message.yiaddr
        if not self._step(Event.ACK if same else Event.RENUMBERED):
            return
        self._quiet()
        self.lease = new
        self._refusals = 0
        if old is not None:
            if same:
                self._actions.append(Configure(new))
                return
            self._actions.append(Deconfigure(old, "the server gave another address"))
        self._arps_left = self.config.probes
        if self._arps_left:
            self._arp_ns = now_ns + self._seconds(0, PROBE_WAIT_S)
        else:
            self._arp_due(now_ns)

    def _got_nak(self, message: Dhcp4Message, now_ns: int) -> None:
        server = message.address(Option.SERVER_ID)
        asked = 0
        if self.state is State.REQUESTING and self._offer is not None:
            asked = self._offer.address(Option.SERVER_ID)
        elif self.state is State.RENEWING and self.lease is not None:
            asked = self.lease.server
        if not server or (asked and server != asked):
            return
        old = self.lease if self.in_use else None
        if not self._step(Event.NAK):
            return
        if old is not None:
            text = message.text(Option.MESSAGE)
            reason = f"the server refused it{f': {text}' if text else ''}"
            self._actions.append(Deconfigure(old, reason))
        self.lease = None
        # At once the first time, then after 1, 2, 4 ... s, as a server may always refuse its
        # own offers.
        pause = 0 if not self._refusals else min(1 << self._refusals - 1, LAST_RETRY_S)
        self._refusals += 1
        self._hold_off(now_ns, pause)

    # --- the address ----------------------------------------------------------------------------

    def _arp_due(self, now_ns: int) -> None:
        """Send the next probe or announcement, or finish after the last one."""
        lease = self.lease
        assert lease is not None
        self._arp_ns = NEVER
        if self.state is State.CHECKING:
            if self._arps_left:
                self._arps_left -= 1
                self._actions.append(SendArp(lease.address, announce=False))
                wait = (
                    self._seconds(PROBE_MIN_S, PROBE_MAX_S)
                    if self._arps_left
                    else int(ANNOUNCE_WAIT_S * NSEC_PER_SEC)
                )
                self._arp_ns = now_ns + wait
                return
            self._step(Event.FREE)
            self._actions.append(Configure(lease))
            self._arps_left = ANNOUNCE_NUM if self.config.probes else 0
        if self._arps_left and self.in_use:
            self._arps_left -= 1
            self._actions.append(SendArp(lease.address, announce=True))
            if self._arps_left:
                self._arp_ns = now_ns + int(ANNOUNCE_INTERVAL_S * NSEC_PER_SEC)

    def _decline(self, now_ns: int, reason: str) -> None:
        """Another host uses the address: decline it, restart after ten seconds (3.1 (5))."""
        lease = self.lease
        had = self.in_use
        if lease is None or not self._step(Event.CONFLICT):
            return
        if had:
            self._actions.append(Deconfigure(lease, reason))
        self._new_exchange(now_ns)
        declined = {
            Option.REQUESTED_ADDRESS: lease.address.to_bytes(4, "big"),
            Option.SERVER_ID: lease.server.to_bytes(4, "big"),
        }
        self._send(self._message(MessageType.DECLINE, now_ns, declined), 0, INADDR_BROADCAST)
        self.lease = None
        self._hold_off(now_ns, self.config.decline_pause_s)

    # --- requests -------------------------------------------------------------------------------

    def _begin(self, now_ns: int) -> None:
        """Start a new exchange: DISCOVER, REQUEST after a reboot, or INFORM."""
        self._quiet()
        self._offer = None
        self.lease = None
        self._started_ns = now_ns
        self._ask(now_ns)

    def _ask(self, now_ns: int) -> None:
        self._new_exchange(now_ns)
        self._resend(now_ns)

    def _new_exchange(self, now_ns: int) -> None:
        self._xid = self._random.getrandbits(32)
        self._asked_ns = now_ns
        self._tries = 0
        if self.in_use:
            self._started_ns = now_ns

    def _resend(self, now_ns: int) -> None:
        """Send the message of the state, and schedule its retransmission."""
        limit = {State.REQUESTING: REQUEST_TRIES, State.REBOOTING: REBOOT_TRIES,
                 State.INFORMING: REQUEST_TRIES}.get(self.state)  # fmt: skip
        if limit is not None and self._tries >= limit:
            self._step(Event.RETRIES)
            if self.state is State.STOPPED:
                self._quiet()
            else:
                self._begin(now_ns)
            return
        lease, offer = self.lease, self._offer
        saddr, daddr = 0, INADDR_BROADCAST
        wanted = self._wanted.to_bytes(4, "big")
        match self.state:
            case State.SELECTING:
                message = self._message(MessageType.DISCOVER, now_ns, {})
            case State.REQUESTING:
                assert offer is not None
                options = {
                    Option.REQUESTED_ADDRESS: offer.yiaddr.to_bytes(4, "big"),
                    Option.SERVER_ID: offer.options[Option.SERVER_ID],
                }
                message = self._message(MessageType.REQUEST, now_ns, options)
            case State.REBOOTING:
                options = {Option.REQUESTED_ADDRESS: wanted}
                message = self._message(MessageType.REQUEST, now_ns, options)
            case State.INFORMING:
                message = self._message(MessageType.INFORM, now_ns, {}, ciaddr=self._wanted)
                saddr = self._wanted
            case _:  # RENEWING, REBINDING
                assert lease is not None
                saddr = lease.address
                if self.state is State.RENEWING:
                    daddr = lease.server
                message = self._message(MessageType.REQUEST, now_ns, {}, ciaddr=saddr)
        self._send(message, saddr, daddr)
        self._tries += 1
        self._resend_ns = now_ns + self._retry_delay(now_ns)

    def _retry_delay(self, now_ns: int) -> int:
        """RFC 2131 4.1, and for a lease that is renewed 4.4.5."""
        lease = self.lease
        if self.in_use and lease is not None:
            until = lease.t2_ns if self.state is State.RENEWING else lease.expires_ns
            left = 0 if until is None else until - now_ns
            return max(left // 2, RENEW_RETRY_S * NSEC_PER_SEC)
        base = min(FIRST_RETRY_S << min(self._tries - 1, 8), LAST_RETRY_S)
        return self._seconds(base - 1, base + 1)

    def _message(
        self, type_: MessageType, now_ns: int, options: Mapping[Option, bytes], *, ciaddr: int = 0
    ) -> Dhcp4Message:
        secs = (now_ns - self._started_ns) // NSEC_PER_SEC
        return request(type_, self.config, self._xid, self.mac, secs, options, ciaddr=ciaddr)

    # --- helpers --------------------------------------------------------------------------------

    def _hold_off(self, now_ns: int, seconds: int) -> None:
        self._quiet()
        if seconds:
            self._resend_ns = now_ns + seconds * NSEC_PER_SEC
        else:
            self._step(Event.RESTART)
            self._begin(now_ns)

    def _quiet(self) -> None:
        """Clear all timers except those of the lease."""
        self._resend_ns = self._arp_ns = NEVER
        self._arps_left = 0

    def _seconds(self, low: float, high: float) -> int:
        """A random time between two, in ns."""
        return int(self._random.uniform(low, high) * NSEC_PER_SEC)

    def _send(self, message: Dhcp4Message, saddr: int, daddr: int) -> None:
        self._actions.append(Send(message.emit(), saddr, daddr))

    def _done(self) -> list[Action]:
        times: list[int | None] = [self._resend_ns, self._arp_ns]
        lease = self.lease
        if lease is not None and self.state in TIMED:
            times += [lease.expires_ns, *self._renewal_times(lease)]
        return self._take_actions(times)
