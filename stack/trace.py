"""Record the chain of calls a packet takes, with the kernel's names.

Off, tracing costs nothing: no function of the stack knows that it exists. On, the interpreter's
profile hook
(`sys.setprofile`) reports each Python function that is entered and left, and `Tracer` keeps those
that live in the
packages it was given. Every function on the packet's way carries its kernel name, so the record
*is* the kernel's
call chain.

A trace slows what it watches down (a few hundred ns per call), so its times compare calls with
each other; for
absolute rates use the benchmarks.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

from stack.layers import ROOT, layer_of

__all__ = ["Call", "Tracer"]


@dataclass(slots=True)
class Call:
    """One call: `start_ns` and `ns` on the monotonic clock, `self_ns` without the calls below
    it."""

    name: str
    depth: int
    file: str
    layer: str
    start_ns: int = 0
    ns: int = 0
    self_ns: int = 0

    def as_dict(self) -> dict[str, Any]:
        """Return the row of `e1000emu trace --format json`."""
        return {
            "name": self.name,
            "depth": self.depth,
            "file": self.file,
            "layer": self.layer,
            "ns": self.ns,
        }


def _of_the_kernel(name: str) -> bool:
    """Tell whether a function is one of the kernel's: no dunder, lambda or helper of ours."""
    if name.startswith("__"):
        return not name.endswith("__")
    return not name.startswith(("_", "<"))


class Tracer:
    """Context manager that records calls into `calls`, in call order.

    `packages` are source folders below the root; `root` is asked once for each outermost call and
    keeps or drops its whole subtree.
    Traces the calling thread only.
    """

    def __init__(
        self,
        packages: Iterable[str] = ("stack",),
        *,
        root: Callable[[str, FrameType], bool] | None = None,
    ) -> None:
        self.calls: list[Call] = []
        self._prefixes = tuple(str(ROOT / p) + "/" for p in packages)
        self._root = root
        self._known: dict[CodeType, tuple[str, str, str] | None] = {}
        self._stack: list[tuple[CodeType, Call | None]] = []
        self._muted = 0
        self._previous: Any = None

    def _classify(self, code: CodeType) -> tuple[str, str, str] | None:
        file = code.co_filename
        name = code.co_name
        if not file.startswith(self._prefixes) or file == __file__ or not _of_the_kernel(name):
            return None
        rel = str(Path(file).relative_to(ROOT))
        return name, rel, layer_of(rel)

    def _profile(self, frame: FrameType, event: str, arg: Any) -> None:
        code = frame.f_code
        if event == "call":
            try:
                known = self._known[code]
            except KeyError:
                known = self._known[code] = self._classify(code)
            if known is None:
                return
            stack = self._stack
            if self._muted or (
                not stack and self._root is not None and not self._root(known[0], frame)
            ):
                self._muted += 1
                stack.append((code, None))
                return
            call = Call(known[0], len(stack), known[1], known[2])
            self.calls.append(call)
            stack.append((code, call))
            call.start_ns = time.perf_counter_ns()
        elif event == "return":
            now = time.perf_counter_ns()
            stack = self._stack
            if not stack or stack[-1][0] is not code:
                return  # a function that was already running when the trace began
            _, done = stack.pop()
            if done is None:
                self._muted -= 1
                return
            done.ns = now - done.start_ns
            done.self_ns += done.ns
            if stack:
                parent = stack[-1][1]
                if parent is not None:
                    parent.self_ns -= done.ns

    def __enter__(self) -> Tracer:
        self._previous = sys.getprofile()
        sys.setprofile(self._profile)
        return self

    def __exit__(self, *exc: object) -> None:
        sys.setprofile(self._previous)

    def names(self) -> list[str]:
        """Return the names alone, in call order."""
        return [call.name for call in self.calls]
