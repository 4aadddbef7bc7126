"""nmap looks at a host of ours from another one: by its answers to odd packets it is Linux."""

from __future__ import annotations

import re
import subprocess

import pytest

from e1000emu.clock import VirtualClock
from e1000emu.lab import two_hosts
from fastpath.base import seccomp
from stack.api.programs import spawn
from stack.api.socket import create_server
from tests.support import require

pytestmark = pytest.mark.skipif(not seccomp.available(), reason="needs Linux's seccomp")


def test_the_fingerprint_is_linuxs() -> None:
    """Sixteen probes: sequence numbers, options, windows, ECN, flags that nobody sends, ICMP."""
    require.tool("nmap")
    said: list[str] = []
    a, b = two_hosts(VirtualClock())  # it measures times, too
    with a, b, create_server(b, ("10.0.0.2", 8000)):
        # From a fixed port, for its ports decide how far six sequence numbers of Linux's lie apart.
        # With random ones, one run in twelve is outside the range that nmap's table has seen.
        words = ["nmap", "-n", "-Pn", "-O", "-g", "40000", "-p", "8000,8001", "10.0.0.2"]
        with spawn(a, words, log=said.append, stdout=subprocess.PIPE, text=True) as program:
            out = program.communicate(timeout=1000)[0]
    assert re.search(r"^8000/tcp open .*\n8001/tcp closed ", out, re.M), out
    assert re.search(r"^OS details: Linux [45]\.", out, re.M), out
    assert said == []
