"""A row in a process of its own: the stack uncompiled beside the compiled one, in the same rounds.

E1000EMU_UNCOMPILED=1 is read when the stack is imported, so the other form needs another process.
That process sets up the same case, runs it on request, and reports the CPU time by its own clock.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from importlib.machinery import EXTENSION_SUFFIXES
from typing import Any

from . import Case, Row, Unavailable, Work, row, tcp, udp

__all__ = ["ROWS", "serve"]

UNCOMPILED = "E1000EMU_UNCOMPILED"
BEGIN = "from e1000emu.cli.bench import benchmarks; benchmarks('rows.remote').serve()"


def compiled() -> bool:
    """Tell whether modules of the stack that are imported here are compiled ones."""
    suffixes = tuple(EXTENSION_SUFFIXES)
    return any(
        (getattr(module, "__file__", None) or "").endswith(suffixes)
        for name, module in list(sys.modules.items())
        if name.startswith("stack.")
    )


def serve() -> None:
    """Set up the case that the first line of standard input names; then run it as each line says.

    Answers are one line of JSON each: {"amount", "compiled"}, then CPU seconds.
    """
    from .interleave import seconds

    # A row's output goes to standard error: standard output carries the answers.
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    name, size = json.loads(sys.stdin.readline())
    original = {made.row.name: made.row for made in REMOTE}[name]
    with original.start(size) as work:
        print(json.dumps({"amount": work.amount, "compiled": compiled()}), file=answers)
        for line in sys.stdin:
            print(json.dumps(seconds(work, int(line))), file=answers)


@contextlib.contextmanager
def _process(case: Case) -> Iterator[tuple[dict[str, Any], Callable[[int], float]]]:
    """The other process: its first answer, and a function that runs the case there."""
    child = subprocess.Popen(
        [sys.executable, "-c", BEGIN],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, UNCOMPILED: "1"},
    )
    assert child.stdin is not None
    assert child.stdout is not None

    def ask(what: object) -> Any:
        assert child.stdin is not None
        assert child.stdout is not None
        child.stdin.write(json.dumps(what) + "\n")
        child.stdin.flush()
        answer = child.stdout.readline()
        if not answer:
            raise RuntimeError(f"{case.name}: the process that runs it uncompiled has ended")
        return json.loads(answer)

    try:
        yield ask([case.row.name, case.size]), ask
    finally:
        child.stdin.close()
        child.stdout.close()
        child.wait()


class Uncompiled:
    """A row of ours, run by a process whose stack is the plain sources."""

    def __init__(self, original: Row) -> None:
        self.row = original
        options: dict[str, Any] = {
            "group": original.group,
            "unit": original.unit,
            "sizes": original.quick,
            "peer": "ours, uncompiled",
            "ceiling": True,
            "extra": True,
        }
        layer, what, variant = original.name.split("__")
        self.made = row(f"{layer}__uncompiled__{what}_{variant}", **options)(self.start)

    def start(self, size: str) -> Iterator[Work]:
        """Set up."""
        if not compiled():
            raise Unavailable("the stack is not compiled here, or E1000EMU_UNCOMPILED is set")
        with _process(Case(self.row, size)) as (found, timed):
            if found["compiled"]:
                raise Unavailable(f"{UNCOMPILED}=1 changes nothing in this installation")
            yield Work(lambda: timed(1), found["amount"], timed=timed)


REMOTE = [
    Uncompiled(original)
    for original in (udp.single, udp.mmsg64, udp.gso, tcp.bulk, tcp.trip, tcp.connect)
]
ROWS = tuple(made.made for made in REMOTE)
