"""Hosts of ours in real time, and the output of programs on them."""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import Iterator
from typing import Any

from e1000emu.clock import RealClock
from e1000emu.lab import two_hosts
from stack.api.programs import spawn
from stack.host import Host


@contextlib.contextmanager
def real_host(name: str = "h", **options: Any) -> Iterator[Host]:
    """A host with the machine's clock in a thread."""
    with (
        contextlib.closing(RealClock().start()) as clock,
        Host(name, clock=clock, **options) as host,
    ):
        yield host


@contextlib.contextmanager
def real_hosts(**options: Any) -> Iterator[tuple[Host, Host]]:
    """Two of them on a wire."""
    with contextlib.closing(RealClock().start()) as clock:
        a, b = two_hosts(clock, **options)
        with a, b:
            yield a, b


def run_script(host: Host, script: str, **options: Any) -> str:
    """The output of a shell script on a host; `options` are those of spawn."""
    with spawn(host, ["sh", "-c", script], stdout=subprocess.PIPE, **options) as program:
        out, _ = program.communicate(timeout=120)
    return str(out.decode())
