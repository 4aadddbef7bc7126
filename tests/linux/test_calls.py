"""The same calls on the kernel's sockets and on ours: the same answers, but for the known ones.

docs/differences.md lists those; tests/linux/calls/ has the tables.
"""

from __future__ import annotations

from typing import Any

import pytest

from tests.linux.calls.known import holds, known, unknown, vanished
from tests.linux.calls.run import differing, linux, ours
from tests.linux.calls.tables import TABLES
from tests.support import require

pytestmark = pytest.mark.netns

LEAST = 4000
"""Calls that all tables make together: one that makes fewer compares less than it says."""
SHOWN = 40


@pytest.fixture(scope="module")
def kernel() -> dict[str, Any]:
    """What the kernel of this machine says to every table."""
    require.netns()
    return linux(list(TABLES))


@pytest.mark.parametrize("table", TABLES)
def test_calls_come_to_the_same(kernel: dict[str, Any], table: str) -> None:
    release = kernel["kernel"]
    found = differing(kernel["rows"][table], ours(table, kernel["sysctl"]))
    new = unknown(found, release)
    told = "\n".join(
        f"{name}: Linux {found[name][0]!r}, ours {found[name][1]!r}" for name in new[:SHOWN]
    )
    assert not new, f"{len(new)} calls differ from Linux {release}:\n{told}"
    gone = vanished(found, release, [table])
    assert not gone, f"no call differs so any more; take it out of differences.toml: {gone}"


def test_the_tables_are_long(kernel: dict[str, Any]) -> None:
    assert sum(map(len, kernel["rows"].values())) >= LEAST


def test_every_known_difference_names_calls_of_a_table() -> None:
    for row in known():
        assert row.rows or row.name.startswith("`ip")  # no table of calls asks netlink
        assert row.reason
        for pattern in row.rows:
            assert pattern.split("/")[0] in TABLES, f"{row.name}: {pattern}"


def test_a_difference_must_be_known_and_what_is_known_must_differ() -> None:
    call = "creation/socket(2, 0x2, 136)"
    assert differing({call: 0, "same": 1}, {call: "EPROTONOSUPPORT", "same": 1}) == {
        call: (0, "EPROTONOSUPPORT")
    }
    assert differing({"only Linux's": 0}, {}) == {"only Linux's": (0, "(not called)")}
    assert unknown([call, "creation/socket(2, 0x2, 17)"], "6.18") == ["creation/socket(2, 0x2, 17)"]
    gone = vanished([call], "6.18", ["creation"])
    assert "UDP-Lite: creation/socket(10, 0x2, 136)" in gone
    assert f"UDP-Lite: {call}" not in gone


@pytest.mark.parametrize(
    ("release", "rule", "is_so"),
    [
        ("6.18.44-fc", ">=6.6", True),
        ("6.1.0", ">=6.6", False),
        ("7.0-rc1", "<7.1", True),
        ("7.1", "<7.1", False),
    ],
)
def test_rows_of_some_kernels_only(release: str, rule: str, is_so: bool) -> None:
    assert holds(release, rule) is is_so
