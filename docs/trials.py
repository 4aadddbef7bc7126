"""The page of tested drivers, from docs/tried.json, which the guest tests write."""

from __future__ import annotations

import json
from pathlib import Path

from blocks import grid

RECORDED = Path(__file__).resolve().parent / "tried.json"

INTRO = """# Drivers that were tried

Written by `docs/generate.py` from the results of the guest tests. Each row is a test of
`make test-guest` that passed with an unmodified driver of another project. The driver runs in QEMU
(TCG) and drives our NIC over vfio-user. Versions are Debian's.

"""


def markdown() -> str:
    """Return docs/tried.md."""
    names = ("driver", "version", "architecture", "model", "what", "result")
    rows = {tuple(row[name] for name in names): None for row in json.loads(RECORDED.read_text())}
    head = ["driver", "version", "architecture", "NIC", "what was done", "result"]
    return INTRO + grid(head, rows) + "\n"
