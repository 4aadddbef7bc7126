"""The call recorder on the profile hook: the plain-Python twin of ``fastpath.base.calltrace``."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from types import CodeType, FrameType
from typing import Any


class Classes:
    """Which functions are recorded: `wanted(code)` is called once for each code object."""

    def __init__(self, wanted: Callable[[CodeType], bool]) -> None:
        self.wanted = wanted
        self.known: dict[CodeType, bool] = {}


class Recorder:
    """Context manager that records the calls of this thread into `calls()`."""

    def __init__(
        self,
        classes: Classes,
        root: Callable[[CodeType, dict[str, Any]], bool] | None = None,
        roots_only: bool = False,
    ) -> None:
        self.classes, self.root, self.roots_only = classes, root, roots_only
        self.records: list[list[Any]] = []
        # A record for a recorded call, None for a skipped one, "muted" for a root that is dropped.
        self.stack: list[tuple[FrameType, Any]] = []

    def _event(self, frame: FrameType, event: str, arg: object) -> None:
        if event == "return":
            if self.stack and self.stack[-1][0] is frame:
                _, done = self.stack.pop()
                if isinstance(done, list):
                    done[3] = time.monotonic_ns()
        elif event == "call":
            self.stack.append((frame, self._begins(frame)))

    def _begins(self, frame: FrameType) -> Any:
        code = frame.f_code
        open_calls = [record for _, record in self.stack if isinstance(record, list)]
        if any(record == "muted" for _, record in self.stack):
            return None
        if self.roots_only and open_calls:
            return None
        known = self.classes.known
        if code not in known:
            known[code] = self.classes.wanted(code)
        if not known[code]:
            if open_calls:
                open_calls[-1][4] += 1
            return None
        if not open_calls and self.root is not None:
            count = code.co_argcount + code.co_kwonlyargcount
            if not self.root(code, {n: frame.f_locals[n] for n in code.co_varnames[:count]}):
                return "muted"
        record = [code, len(open_calls), time.monotonic_ns(), 0, 0]
        self.records.append(record)
        return record

    def __enter__(self) -> Recorder:
        self.before = sys.getprofile()
        sys.setprofile(self._event)
        return self

    def __exit__(self, *exc: object) -> None:
        sys.setprofile(self.before)

    def calls(self) -> list[tuple[CodeType, int, int, int, int]]:
        """Return (code, depth, start_ns, end_ns, skipped) for each call, in the order of starts."""
        return [tuple(record) for record in self.records]
