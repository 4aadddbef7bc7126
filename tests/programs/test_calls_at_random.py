"""Calls at random on a few sockets come to the same as on the kernel (calls_at_random.py)."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from e1000emu.clock import VirtualClock
from fastpath.base import seccomp
from stack.api.programs import spawn
from stack.host import Host

pytestmark = pytest.mark.skipif(not seccomp.available(), reason="needs Linux's seccomp")
COUNT = 60


@pytest.mark.netns  # its ports are fixed, so no two run at a time
@pytest.mark.parametrize("first", [0, 1000, 2000, 5000])
def test_calls_come_to_the_same(first: int) -> None:
    program = Path(__file__).with_name("calls_at_random.py")
    argv = [sys.executable, str(program), str(first), str(COUNT)]
    kernel = subprocess.run(argv, capture_output=True, text=True, timeout=200, check=True)
    with (
        Host("solo", clock=VirtualClock()) as host,
        spawn(host, argv, stdout=subprocess.PIPE, text=True) as running,
    ):
        said, _ = running.communicate(timeout=200)
    assert running.returncode == 0
    assert said.splitlines() == kernel.stdout.splitlines()
