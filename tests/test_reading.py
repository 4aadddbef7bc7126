"""A long file opens with how it works: who calls in, the order of the calls, the state it keeps."""

from __future__ import annotations

import ast
from pathlib import Path

ROOT = Path(__file__).parents[1]
LONG = 300
OPENING = 5

WAITING = {
    "scripts/stackc/module.py": "its README says how the translator works",
    "stack/core/sockopt.py": "the options become a table",
    "stack/inet/tcp_sockopt.py": "the options become a table",
    "stack/inet/udp.py": "one way down for a datagram",
    "stack/ipv4/tcp_ipv4.py": "one receive path for TCP",
    "stack/ipv4/udp.py": "one way down for a datagram",
    "stack/ipv6/ipv6_sockglue.py": "the options become a table",
    "stack/ipv6/udp.py": "one way down for a datagram",
}
"""Files that are being rewritten, and by what; each gets its opening with that change."""


def openings() -> dict[str, tuple[int, int]]:
    """Return the lines of each file, and those of its docstring."""
    found = {}
    for path in [*(ROOT / "stack").rglob("*.py"), *(ROOT / "scripts/stackc").rglob("*.py")]:
        text = path.read_text()
        opening = ast.get_docstring(ast.parse(text)) or ""
        name = path.relative_to(ROOT).as_posix()
        found[name] = len(text.splitlines()), len(opening.splitlines())
    return found


def test_a_file_of_more_than_300_lines_opens_with_how_it_works() -> None:
    """Linters see that a docstring is there, but not that it says enough for so long a file."""
    found = openings()
    short = {name for name, (lines, opening) in found.items() if lines > LONG and opening < OPENING}
    assert short <= set(WAITING), "write who calls in, the order of the calls, what state is kept"


def test_no_file_waits_that_has_its_opening() -> None:
    """The list of those that wait only shrinks."""
    found = openings()
    short = {name for name, (lines, opening) in found.items() if lines > LONG and opening < OPENING}
    assert set(WAITING) <= short
