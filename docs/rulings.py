"""The page that says where our device and QEMU's e1000 do not agree (tests/qemu/rulings.toml)."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

RULINGS = Path(__file__).resolve().parent.parent / "tests" / "qemu" / "rulings.toml"

INTRO = """# Where we and QEMU's e1000 differ

Written by `docs/generate.py` from `tests/qemu/rulings.toml`. `tests/qemu/test_differential.py`
runs the same programs (each register, interrupts, PHY and EEPROM, descriptors of every kind,
filters, checksums, and more that hypothesis makes) on our 82540EM and, through its qtest socket, on
the e1000 of QEMU 7.2. Every disagreement has a ruling by Intel's manual here, and a ruling that
nothing needs any more fails the test.

| in | what | right | SDM | why |
|---|---|---|---|---|
"""


def markdown() -> str:
    """Return docs/qemu.md."""
    lines = [INTRO]
    for ruling in tomllib.loads(RULINGS.read_text())["ruling"]:
        where, what = (
            re.sub(r"\.[*+]|\\d\+", "…", ruling[key]).replace("|", ", ")
            for key in ("program", "place")
        )
        lines.append(
            f"| {where} | {what} | {ruling['right']} | {ruling['sdm']} | {ruling['why']} |\n"
        )
    return "".join(lines)
