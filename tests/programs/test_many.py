"""Programs that have ended leave nothing behind: tests/programs/many.py, with few of them."""

from __future__ import annotations

import contextlib

import pytest

from e1000emu.clock import RealClock
from fastpath.base import seccomp
from stack.host import Host
from tests.programs.many import alive, left, run, server
from tests.support import require

pytestmark = pytest.mark.skipif(not seccomp.available(), reason="needs Linux's seccomp")


def test_programs_leave_neither_descriptors_nor_objects() -> None:
    require.tool("nc.openbsd", "netcat-openbsd")
    held = alive()  # what an earlier test has left does not go meanwhile
    with (
        contextlib.closing(RealClock().start()) as clock,
        Host("solo", clock=clock) as host,
        server(host),
    ):
        run(host, 10)
        before = left(host)
        run(host, 40)
        after = left(host)
    assert (after.descriptors, after.sockets) == (before.descriptors, before.sockets)
    assert after.objects == before.objects
    del held
