"""Processes by a mark in their environment."""

from __future__ import annotations

import os
import time
from pathlib import Path


def marked(mark: str) -> list[int]:
    """Return the processes started with `mark` in their environment."""
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdecimal() or int(entry.name) == os.getpid():
            continue
        try:
            if mark.encode() in (entry / "environ").read_bytes():
                found.append(int(entry.name))
        except OSError:
            continue  # ended, or not ours
    return found


def wait_gone(mark: str, seconds: float = 30.0) -> list[int]:
    """Wait until none is left; return the remaining ones."""
    end = time.monotonic() + seconds
    while (left := marked(mark)) and time.monotonic() < end:
        time.sleep(0.05)
    return left


def alive(pid: int) -> bool:
    """Return whether a process runs; a zombie does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
