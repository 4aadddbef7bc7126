"""The table of docs/programs.md, from the rows that tests/programs/test_debian.py runs."""

from __future__ import annotations

import sys
from pathlib import Path

import blocks

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from tests.programs.rows import ROWS

__all__ = ["filled"]


def shown(words: str) -> str:
    """Return a command as code in a table; empty for none."""
    words = words.replace("{{", "{").replace("}}", "}").replace("|", "\\|")
    return words and f"`{words}`"


def table() -> str:
    """Return a line for each row: client and server as they are started, families, exit status."""
    lines = []
    for name, row in ROWS.items():
        families = ", ".join("IPv6" if ":" in server else "IPv4" for _, server in row.families)
        lines.append([name, shown(row.client), shown(row.server), families, str(row.status)])
    return blocks.grid(["what", "client", "server", "over", "status"], lines)


def filled(path: Path) -> str:
    """Return the page's text with its table made anew."""
    return blocks.filled(path, {"programs": table})
