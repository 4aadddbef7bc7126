"""Common to DHCPv4 and DHCPv6 clients: a table of states, the times of a lease, one timer."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Generic, Protocol, TypeVar

from stack.clients.action import NEVER, SetTimer

S = TypeVar("S", bound=Enum)
E = TypeVar("E", bound=Enum)
A = TypeVar("A")


def due(at_ns: int | None, now_ns: int) -> bool:
    """Whether the time `at_ns`, if set, has passed."""
    return at_ns is not None and at_ns != NEVER and now_ns >= at_ns


@dataclass(frozen=True, slots=True)
class LeaseStates(Generic[S, E]):
    """A client's states and events: the next state of each pair, and common names.

    At T1 a `bound` client renews with its server (`renewing`), and at T2 with any server.
    """

    transitions: Mapping[S, Mapping[E, S]]
    """A state ignores events without an entry."""
    stopped: S
    bound: S
    renewing: S
    t1: E
    t2: E


class RenewedLease(Protocol):
    """The times of a lease, of the core's caller; None: never."""

    @property
    def t1_ns(self) -> int | None: ...
    @property
    def t2_ns(self) -> int | None: ...


class LeaseClient(Generic[S, E, A]):
    """The state of a client, and the actions (`A`) for its runner."""

    def __init__(self, states: LeaseStates[S, E]) -> None:
        self.state = states.stopped
        self._states = states
        self._timer_ns = NEVER
        self._actions: list[A | SetTimer] = []

    def _step(self, event: E) -> bool:
        """Move to the next state by the table; False if the state ignores the event."""
        following = self._states.transitions[self.state].get(event)
        if following is None:
            return False
        self.state = following
        return True

    def _renews(self, lease: RenewedLease, now_ns: int) -> bool:
        """Change state at T2 or T1; a late timer may find T2 while bound."""
        states = self._states
        if due(lease.t2_ns, now_ns) and self._step(states.t2):
            return True
        return self.state is states.bound and due(lease.t1_ns, now_ns) and self._step(states.t1)

    def _renewal_times(self, lease: RenewedLease) -> list[int | None]:
        """The times at which `_renews` must be called."""
        states = self._states
        t1_ns = lease.t1_ns if self.state is states.bound else None
        return [t1_ns, lease.t2_ns if self.state in (states.bound, states.renewing) else None]

    def _take_actions(self, times: Iterable[int | None], least_ns: int = 0) -> list[A | SetTimer]:
        """The actions so far; the last sets the timer to the first of `times`, if that changed.

        A time before `least_ns` counts as `least_ns`.
        """
        at = min((at for at in times if at is not None and at != NEVER), default=NEVER)
        if at != NEVER:
            at = max(at, least_ns)
        if at != self._timer_ns:
            self._timer_ns = at
            self._actions.append(SetTimer(at))
        actions, self._actions = self._actions, []
        return actions
