"""The states of a device and of the worker thread that may run its rings, and the allowed calls.

`Nic` and `fastpath.nic.datapath.DataPath` each have a `Lifecycle`; their docstrings define the
calls. `TABLE` is the whole state machine: a call without an entry for a state is rejected. PAUSING
becomes PAUSED by itself when no operation is in progress.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum

from fastpath.errors import LifecycleError


class RunState(Enum):
    """The state of a device or its worker."""

    RUNNING = "running"
    PAUSING = "pausing"
    """No new operation begins; pending ones have not ended."""
    PAUSED = "paused"
    HALTED = "halted"


class Call(Enum):
    """A call that changes its state."""

    PAUSE = "pause"
    RESUME = "resume"
    RESET = "reset"
    SAVE = "state"
    RESTORE = "restore"
    HALT = "halt"


_RUNNING, _PAUSING, _PAUSED, _HALTED = RunState
TABLE: dict[Call, dict[RunState, RunState]] = {
    Call.PAUSE: {_RUNNING: _PAUSING},
    Call.RESUME: {_PAUSING: _RUNNING, _PAUSED: _RUNNING},
    Call.RESET: {_RUNNING: _RUNNING, _PAUSING: _PAUSING, _PAUSED: _PAUSED},
    Call.SAVE: {_RUNNING: _RUNNING, _PAUSED: _PAUSED},
    Call.RESTORE: {_RUNNING: _RUNNING, _PAUSED: _PAUSED},
    Call.HALT: {_RUNNING: _HALTED, _PAUSING: _HALTED, _PAUSED: _HALTED, _HALTED: _HALTED},
}
"""The state after each allowed call. SAVE and RESTORE are rejected during any operation,
in any state."""

REMEDIES = {
    _RUNNING: "pause() comes first",
    _PAUSING: "wait until run_state is PAUSED, or resume()",
    _PAUSED: "resume() comes first",
    _HALTED: "it has ended: make another one",
}
UNDER_WAY = "call it from outside, or pause() and wait until run_state is PAUSED"
QUIET = (Call.SAVE, Call.RESTORE)


class Lifecycle:
    """The state of `who`; `busy()` returns whether an operation is in progress."""

    __slots__ = ("_busy", "_state", "_who")

    def __init__(self, who: str, busy: Callable[[], bool]) -> None:
        self._who = who
        self._busy = busy
        self._state = RunState.RUNNING

    @property
    def state(self) -> RunState:
        """The current state."""
        if self._state is RunState.PAUSING and not self._busy():
            self._state = RunState.PAUSED
        return self._state

    def enter(self, call: Call) -> RunState:
        """Do `call`; return the state before it.  Raises: LifecycleError: not allowed."""
        was = self.state
        now = TABLE[call].get(was)
        if now is None:
            raise LifecycleError(f"{self._who}.{call.value}: it is {was.value}; {REMEDIES[was]}")
        if call in QUIET and self._busy():
            raise LifecycleError(f"{self._who}.{call.value}: an engine is at work; {UNDER_WAY}")
        self._state = now
        return was
