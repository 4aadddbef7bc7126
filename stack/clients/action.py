"""The actions that all cores share; each protocol's module adds its own."""

from __future__ import annotations

from dataclasses import dataclass

NEVER = -1


class MessageError(ValueError):
    """Invalid message of the protocol; the text describes the error.

    The only exception that the parsers of this package raise, on any input.
    """


@dataclass(frozen=True, slots=True)
class SetTimer:
    """Call `timer(now_ns)` at `at_ns` instead of at any earlier request; NEVER: not at all."""

    at_ns: int
