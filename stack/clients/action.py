"""The actions that all cores share; each protocol's module adds its own."""

from __future__ import annotations

from dataclasses import dataclass

NEVER = -1


class MessageError(ValueError):
    """Bytes from the wire that are no message of the protocol; the text says what and where.

    The only exception that the parsers of this package raise, whatever the bytes.
    """


@dataclass(frozen=True, slots=True)
class SetTimer:
    """Call `timer(now_ns)` at `at_ns` instead of at any earlier request; NEVER: not at all."""

    at_ns: int
