"""The states of a DHCPv6 client as one table, and their retransmission (RFC 8415 7.6, 15, 18.2)."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from random import Random

from stack.clients.lease_client import LeaseStates
from stack.core.time64 import NSEC_PER_SEC


class State(Enum):
    """States of the client; one with an exchange is named after its message."""

    STOPPED = "stopped"
    SOLICIT = "soliciting"
    REQUEST = "requesting"
    BOUND = "bound"
    RENEW = "renewing"
    REBIND = "rebinding"
    CONFIRM = "confirming"
    DECLINE = "declining"
    RELEASE = "releasing"
    INFORM = "asking for information"
    INFORMED = "informed"


class Event(Enum):
    """The events of the state machine."""

    START = "start"
    INFORM = "start without addresses"
    CHOSEN = "ADVERTISE chosen"
    REPLY = "REPLY"
    EMPTY = "REPLY and no address is left"
    REFUSED = "REPLY with NotOnLink or NoAddrsAvail"
    NO_BINDING = "REPLY with NoBinding"
    RETRIES = "no answer"
    T1 = "T1"
    T2 = "T2"
    EXPIRED = "last address over"
    REFRESH = "information is old"
    LINK = "link came up again"
    CONFLICT = "address in use"
    RELEASE = "release"
    STOP = "stop"


_STOP = {Event.STOP: State.STOPPED}
_ASSIGNED = {
    Event.EXPIRED: State.SOLICIT,
    Event.CONFLICT: State.DECLINE,
    Event.RELEASE: State.RELEASE,
    **_STOP,
}
TRANSITIONS: dict[State, dict[Event, State]] = {
    State.STOPPED: {Event.START: State.SOLICIT, Event.INFORM: State.INFORM},
    State.SOLICIT: {Event.CHOSEN: State.REQUEST, Event.REPLY: State.BOUND, **_STOP},
    State.REQUEST: {
        Event.REPLY: State.BOUND,
        Event.REFUSED: State.SOLICIT,
        Event.RETRIES: State.SOLICIT,
        **_ASSIGNED,  # after NO_BINDING
    },
    State.BOUND: {
        Event.T1: State.RENEW,
        Event.T2: State.REBIND,  # a late timer
        Event.LINK: State.CONFIRM,
        **_ASSIGNED,
    },
    State.RENEW: {
        Event.REPLY: State.BOUND,
        Event.NO_BINDING: State.REQUEST,
        Event.T2: State.REBIND,
        Event.LINK: State.CONFIRM,
        **_ASSIGNED,
    },
    State.REBIND: {
        Event.REPLY: State.BOUND,
        Event.NO_BINDING: State.REQUEST,
        Event.LINK: State.CONFIRM,
        **_ASSIGNED,
    },
    State.CONFIRM: {
        Event.REPLY: State.BOUND,
        Event.REFUSED: State.SOLICIT,
        Event.RETRIES: State.BOUND,  # 18.2.3: keep the addresses
        **_ASSIGNED,
    },
    State.DECLINE: {
        Event.REPLY: State.BOUND,
        Event.RETRIES: State.BOUND,
        Event.EMPTY: State.SOLICIT,
        Event.EXPIRED: State.SOLICIT,
        **_STOP,
    },
    State.RELEASE: {Event.REPLY: State.STOPPED, Event.RETRIES: State.STOPPED, **_STOP},
    State.INFORM: {Event.REPLY: State.INFORMED, **_STOP},
    State.INFORMED: {Event.REFRESH: State.INFORM, Event.LINK: State.INFORM, **_STOP},
}
"""The next state; a state ignores events without an entry."""

STATES = LeaseStates(TRANSITIONS, State.STOPPED, State.BOUND, State.RENEW, Event.T1, Event.T2)

ASSIGNED = frozenset(
    {
        State.REQUEST,
        State.BOUND,
        State.RENEW,
        State.REBIND,
        State.CONFIRM,
        State.DECLINE,
    }
)
"""States in which the interface may have leased addresses, whose lifetimes run."""


@dataclass(frozen=True, slots=True)
class Retransmit:
    """The retransmission of a message (RFC 8415 15, with its names); seconds, 0 for no limit.

    Attributes:
        delay_s: the first one waits a random time up to this.
    """

    irt_s: float
    mrt_s: float = 0
    mrc: int = 0
    mrd_s: float = 0
    delay_s: float = 0

    def first_ns(self, random: Random, *, positive: bool = False) -> int:
        """The time until the second message; `positive`: a Solicit's is never below IRT."""
        rand = random.uniform(0 if positive else -0.1, 0.1)
        return int((self.irt_s + rand * self.irt_s) * NSEC_PER_SEC)

    def next_ns(self, before_ns: int, random: Random) -> int:
        """The time until the next message after an interval of `before_ns`."""
        rt = before_ns * (2 + random.uniform(-0.1, 0.1))
        if self.mrt_s and rt > self.mrt_s * NSEC_PER_SEC:
            rt = self.mrt_s * NSEC_PER_SEC * (1 + random.uniform(-0.1, 0.1))
        return int(rt)


RETRANSMIT: dict[State, Retransmit] = {
    State.SOLICIT: Retransmit(1, 3600, delay_s=1),
    State.REQUEST: Retransmit(1, 30, mrc=10),
    State.CONFIRM: Retransmit(1, 4, mrd_s=10, delay_s=1),
    State.RENEW: Retransmit(10, 600),
    State.REBIND: Retransmit(10, 600),
    State.INFORM: Retransmit(1, 3600, delay_s=1),
    State.RELEASE: Retransmit(1, mrc=4),
    State.DECLINE: Retransmit(1, mrc=4),
}
"""RFC 8415 7.6; RENEW ends at T2, REBIND with the addresses."""
