"""Coverage of a run, as a set of numbers."""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

import e1000emu

DEVICE = Path(e1000emu.__file__).parent
NOT_THE_DEVICE = tuple(f"{DEVICE / name}/" for name in ("cli", "testing", "guest"))
MOST_BRANCHES = 1 << 16
BRANCH = 1 << 48
"""Above all numbers of lines."""


class Lines:
    """The lines of Python that ran: of the device, and of the files named beside it."""

    def __init__(self, *others: str) -> None:
        self._others = others
        self._known: dict[CodeType, int] = {}
        self.reached: set[int] = set()

    def _wanted(self, name: str) -> bool:
        if name in self._others:
            return True
        return name.startswith(f"{DEVICE}/") and not name.startswith(NOT_THE_DEVICE)

    def _call(self, frame: FrameType, event: str, arg: object) -> Any:
        number = self._known.get(frame.f_code)
        if number is None:
            wanted = self._wanted(frame.f_code.co_filename)
            number = self._known[frame.f_code] = len(self._known) + 1 << 16 if wanted else 0
        if not number:
            return None
        add = self.reached.add

        def line(frame: FrameType, event: str, arg: object) -> Any:
            add(number | frame.f_lineno)
            return line

        return line

    @contextmanager
    def on(self) -> Iterator[None]:
        """Record this thread inside the context."""
        before = sys.gettrace()
        sys.settrace(self._call)
        try:
            yield
        finally:
            sys.settrace(before)


class Branches:
    """The branches of compiled code that ran, in any thread, and roughly how often.

    They exist if branches.c is loaded and the modules are built to call it, as
    scripts/test-asan does; elsewhere there are none.
    """

    def __init__(self) -> None:
        program = ctypes.CDLL(None)
        self._take = getattr(program, "e1000emu_branches_take", None)
        self._room = (ctypes.c_uint32 * MOST_BRANCHES)()

    @property
    def there(self) -> bool:
        return self._take is not None

    def take(self) -> list[int]:
        """Return the coverage since the last call."""
        if self._take is None:
            return []
        made = self._take(self._room, MOST_BRANCHES)
        return [BRANCH | number for number in self._room[:made]]


def numbered(pairs: Iterable[tuple[str, int]], known: dict[tuple[str, int], int]) -> Iterator[int]:
    """Give each pair of a name and a count a number of its own; counts by powers of two."""
    for name, count in pairs:
        key = name, abs(count).bit_length()
        yield -1 - known.setdefault(key, len(known))
