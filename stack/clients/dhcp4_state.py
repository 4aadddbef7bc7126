"""The states of a DHCPv4 client as one table: RFC 2131 figure 5 with the address check."""

from __future__ import annotations

from enum import Enum

from stack.clients.lease_client import LeaseStates


class State(Enum):
    """RFC 2131 figure 5, CHECKING and HELD_OFF, INFORMING and INFORMED for an INFORM (4.4.3)."""

    STOPPED = "stopped"
    SELECTING = "selecting"
    REQUESTING = "requesting"
    REBOOTING = "rebooting"
    CHECKING = "checking"
    BOUND = "bound"
    RENEWING = "renewing"
    REBINDING = "rebinding"
    HELD_OFF = "held off"
    INFORMING = "informing"
    INFORMED = "informed"


class Event(Enum):
    """The events of the state machine."""

    START = "start"
    REBOOT = "start with an address"
    INFORM = "inform"
    OFFER = "OFFER"
    ACK = "ACK"
    RENUMBERED = "ACK of another address"
    NAK = "NAK"
    CONFLICT = "address in use"
    FREE = "address is free"
    RETRIES = "no answer"
    T1 = "T1"
    T2 = "T2"
    EXPIRED = "lease over"
    RESTART = "pause over"
    STOP = "stop"


_STOP = {Event.STOP: State.STOPPED}
_REQUESTED = {
    Event.ACK: State.CHECKING,
    Event.NAK: State.HELD_OFF,
    Event.RETRIES: State.SELECTING,
    **_STOP,
}
_LEASED = {Event.EXPIRED: State.SELECTING, Event.CONFLICT: State.HELD_OFF, **_STOP}
_EXTENDED = {
    Event.ACK: State.BOUND,
    Event.RENUMBERED: State.CHECKING,
    Event.NAK: State.HELD_OFF,
    **_LEASED,
}
TRANSITIONS: dict[State, dict[Event, State]] = {
    State.STOPPED: {
        Event.START: State.SELECTING,
        Event.REBOOT: State.REBOOTING,
        Event.INFORM: State.INFORMING,
    },
    State.SELECTING: {Event.OFFER: State.REQUESTING, **_STOP},
    State.REQUESTING: _REQUESTED,
    State.REBOOTING: _REQUESTED,
    State.CHECKING: {Event.FREE: State.BOUND, **_LEASED},
    # A late timer may find T2 or the expiry in BOUND.
    State.BOUND: {Event.T1: State.RENEWING, Event.T2: State.REBINDING, **_LEASED},
    State.RENEWING: {Event.T2: State.REBINDING, **_EXTENDED},
    State.REBINDING: _EXTENDED,
    State.HELD_OFF: {Event.RESTART: State.SELECTING, **_STOP},
    State.INFORMING: {Event.ACK: State.INFORMED, Event.RETRIES: State.STOPPED, **_STOP},
    State.INFORMED: _STOP,
}
"""The next state; a state ignores events without an entry."""

STATES = LeaseStates(TRANSITIONS, State.STOPPED, State.BOUND, State.RENEWING, Event.T1, Event.T2)

HAS_ADDRESS = frozenset({State.BOUND, State.RENEWING, State.REBINDING})
TIMED = HAS_ADDRESS | {State.CHECKING}
SENDS = frozenset(
    {
        State.SELECTING,
        State.REQUESTING,
        State.REBOOTING,
        State.RENEWING,
        State.REBINDING,
        State.INFORMING,
    }
)
