"""Where CPU time goes: by layer, by function, by path; compiled kernels included.

`Profile` samples (`fastpath.base.sampler`) the CPU use of the calling thread and of threads that
are started meanwhile. Each sample is weighted with the CPU time since the one before, so that the
times of all functions add up to the CPU time used. Time without a known function is shown as such.
"""

from __future__ import annotations

import contextlib
import math
import sys
import sysconfig
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from types import FrameType
from typing import Any

from fastpath.base import sampler
from stack.tools.layers import ROOT, SHARED, layer_of
from stack.tools.symbols import Images, cython_name

# The time of the standard library and of installed packages counts for the layer of their caller.
LIBRARIES = tuple(
    dict.fromkeys(
        str(Path(sysconfig.get_path(name)).resolve()) + "/"
        for name in ("stdlib", "platstdlib", "purelib", "platlib")
    )
)
# The interpreter and the C library under it: no functions of their own in a profile.
RUNTIME = ("libpython", "python", "libc.", "libc-", "libm.", "ld-", "libgcc_s", "libpthread")
IMPORT = "import"
# Two-sided 95 %.
MARGIN = 1.96


@dataclass(frozen=True, slots=True)
class Function:
    """A function of a path. `layer` is `SHARED` when its time counts for its caller's layer; `line`
    is 0 when unknown."""

    name: str
    file: str
    layer: str
    line: int = 0


@dataclass(frozen=True, slots=True)
class Stack:
    """A path from the outermost function to the innermost, with the time spent at its end."""

    path: tuple[Function, ...]
    ns: int
    samples: int


@dataclass(slots=True)
class Share:
    """A row of a table: `ns` of self time, `total_ns` with callees, and the sampling error of
    `share` as a 95 % margin."""

    name: str
    layer: str = ""
    file: str = ""
    ns: int = 0
    total_ns: int = 0
    samples: int = 0
    share: float = 0.0
    margin: float = 0.0


def layer_of_stack(path: tuple[Function, ...]) -> str:
    """Return the layer of the innermost function that belongs to one; "" when none does.

    All calls below an import statement are "import".
    """
    if any(f.layer == IMPORT for f in path):
        return IMPORT
    return next((f.layer for f in reversed(path) if f.layer != SHARED), "")


@cache
def _python(name: str, file: str, line: int) -> Function:
    if file.startswith("<frozen importlib"):
        return Function(name, file, IMPORT, line)
    if file.startswith(LIBRARIES) or file.startswith("<") or file == "?":
        return Function(name, file, SHARED, line)
    path = Path(file)
    if path.is_absolute() and path.is_relative_to(ROOT):
        file = str(path.relative_to(ROOT))
        layer = layer_of(file)
        return Function(name, file, "application" if layer == "other" else layer, line)
    return Function(name, file, "application", line)


def _native(images: Images, address: int) -> Function | None:
    file, symbol = images.find(address)
    path = Path(file)
    if path.is_relative_to(ROOT / "fastpath") or path.is_relative_to(ROOT / "stack"):
        module = str(path.relative_to(ROOT)).partition(".")[0]
        name = cython_name(symbol, modules=module.count("/") + 1)
        if module.startswith("fastpath/"):
            source = f"{module}.pyx"
            name = name and f"{path.name.partition('.')[0]}.{name}"
            return Function(name, source, layer_of(source))
        source = f"{module}.py"
        return Function(name, source, layer_of(source) if name else SHARED)
    if not file or path.name.startswith(RUNTIME):
        return None
    return Function(f"[{path.name.partition('.')[0]}]", file, SHARED)


@dataclass
class Profile:
    """Context manager that cannot be nested; it has its results after its end.

    Raises: RuntimeError where `fastpath.base.sampler` cannot sample (`available()`) or a profile is
    running already; OSError when the system refuses.
    """

    interval_s: float = 0.001
    stacks: list[Stack] = field(default_factory=list)
    samples: int = 0
    sampled_ns: int = 0
    """CPU time of all `stacks`."""
    overhead_ns: int = 0
    """CPU time of the sampler's signal handler; in no stack."""
    interrupts_ns: int = 0
    """Estimated CPU time of the timer interrupts without the handler; spread over `stacks`."""
    cpu_ns: int = 0
    """CPU time of the profiled process, without pauses and the sampler's own."""
    _paused_ns: int = 0
    _hook: Callable[..., Any] | None = None

    @staticmethod
    def available() -> bool:
        """Tell whether this platform and Python can be sampled."""
        return sampler.available()

    def _thread_starts(self, frame: FrameType, event: str, arg: Any) -> None:
        sys.setprofile(self._hook)
        sampler.arm()

    def __enter__(self) -> Profile:
        self._hook = threading.getprofile()
        sampler.start(int(self.interval_s * 1e9))
        threading.setprofile(self._thread_starts)
        self._began = time.process_time_ns()
        return self

    def __exit__(self, *exc: object) -> None:
        ended = time.process_time_ns()
        threading.setprofile(self._hook)
        nodes, codes, totals = sampler.stop()
        self.samples, self.sampled_ns = totals["samples"], totals["sampled_ns"]
        self.overhead_ns = totals["overhead_ns"]
        self.interrupts_ns = totals["interrupt_ns"] * self.samples
        used = ended - self._began - self._paused_ns - self.overhead_ns
        self.cpu_ns = max(used, self.sampled_ns)
        self.stacks = _resolve(nodes, codes)

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """Exclude the calling thread's work inside."""
        start = time.thread_time_ns()
        sampler.pause()
        try:
            yield
        finally:
            sampler.resume()
            self._paused_ns += time.thread_time_ns() - start

    def start_at(self, first: Callable[[Function], bool]) -> None:
        """Cut the callers of the first function for which `first` is true off each stack, such as
        the code that started a script."""
        cut = []
        for stack in self.stacks:
            at = next((i for i, function in enumerate(stack.path) if first(function)), 0)
            cut.append(Stack(stack.path[at:], stack.ns, stack.samples))
        self.stacks = cut

    def leave_out(self, ours: Callable[[Function], bool]) -> None:
        """Drop stacks with a function for which `ours` is true, such as the sampler's own code."""
        kept = []
        for stack in self.stacks:
            if any(ours(function) for function in stack.path):
                self.samples -= stack.samples
                self.sampled_ns -= stack.ns
                self.cpu_ns -= stack.ns
            else:
                kept.append(stack)
        self.stacks = kept

    @property
    def unattributed_ns(self) -> int:
        """CPU time without a layer: threads that ran before or that Python did not start, and
        samples without a known function."""
        known = sum(s.ns for s in self.stacks if layer_of_stack(s.path))
        return max(0, self.cpu_ns - known)

    def layers(self) -> list[Share]:
        """Return self time by layer, most first. Shares are of the sampled time."""
        rows: dict[str, Share] = {}
        for stack in self.stacks:
            if layer := layer_of_stack(stack.path):
                row = rows.setdefault(layer, Share(layer, layer))
                row.ns += stack.ns
                row.samples += stack.samples
                for other in {f.layer for f in stack.path} - {SHARED}:
                    rows.setdefault(other, Share(other, other)).total_ns += stack.ns
        return self._finish(rows.values())

    def functions(self) -> list[Share]:
        """Return self time by function, most first."""
        rows: dict[Function, Share] = {}

        def row(function: Function) -> Share:
            return rows.setdefault(function, Share(function.name, function.layer, function.file))

        for stack in self.stacks:
            if stack.path:
                own = row(stack.path[-1])
                own.ns += stack.ns
                own.samples += stack.samples
                for function in set(stack.path):
                    row(function).total_ns += stack.ns
        return self._finish(rows.values())

    def _finish(self, rows: Any) -> list[Share]:
        found: list[Share] = list(rows)
        for row in found:
            row.share = row.ns / self.sampled_ns if self.sampled_ns else 0.0
            if row.samples:
                row.margin = MARGIN * row.share * math.sqrt((1 - row.share) / row.samples)
        return sorted(found, key=lambda row: (-row.ns, row.name))


def _resolve(nodes: list[sampler.Row], codes: list[tuple[str, str, int]]) -> list[Stack]:
    """Turn the sampler's tree into stacks with names; equal ones are joined."""
    images = Images()
    native: dict[int, Function | None] = {}
    paths: list[tuple[Function, ...]] = [()]
    found: dict[tuple[Function, ...], list[int]] = {}
    for number, (parent, kind, key, ns, samples) in enumerate(nodes):
        if number:
            if kind == sampler.PYTHON:
                function: Function | None = _python(*codes[key])
            else:
                if key not in native:
                    native[key] = _native(images, key)
                function = native[key]
            path = paths[parent]
            if function is not None and not function.name:
                # A helper that Cython generated counts for its caller in the same module.
                module = Path(function.file).stem
                inside = path and path[-1].file == function.file
                function = None if inside else Function(module, function.file, function.layer)
            if function is not None and (kind == sampler.PYTHON or path[-1:] != (function,)):
                path = (*path, function)
            paths.append(path)
        if samples:
            entry = found.setdefault(paths[number], [0, 0])
            entry[0] += ns
            entry[1] += samples
    return [Stack(path, ns, samples) for path, (ns, samples) in found.items()]
