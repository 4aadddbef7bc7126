"""Programs that have ended leave nothing behind: tests/programs/many.py, with few of them."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from fastpath.base import seccomp
from tests.support import require

pytestmark = pytest.mark.skipif(not seccomp.available(), reason="needs Linux's seccomp")

ROOT = Path(__file__).resolve().parents[2]
LEFT = re.compile(r"descriptors=(\d+), sockets=(\d+), objects=(\d+)")


def test_programs_leave_neither_descriptors_nor_objects() -> None:
    require.tool("nc.openbsd", "netcat-openbsd")
    # In a process of its own: what other tests have left comes and goes.
    command = [sys.executable, "-m", "tests.programs.many", "50"]
    printed = subprocess.run(
        command, check=True, capture_output=True, text=True, timeout=300, cwd=ROOT
    ).stdout
    _, second, *rest = LEFT.findall(printed)
    assert len(rest) == 9
    assert rest == [second] * 9, printed
