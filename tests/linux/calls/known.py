"""The differences that have a reason: differences.toml, and its use."""

from __future__ import annotations

import fnmatch
import re
import tomllib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

FILE = Path(__file__).with_name("differences.toml")


@dataclass(frozen=True)
class Difference:
    """One row: which calls (none: other tests compare), the behaviour of each side, the reason."""

    name: str
    rows: tuple[str, ...]
    linux: str
    ours: str
    reason: str
    kernel: str = ""

    def patterns(self) -> Iterator[str]:
        """Each pattern by itself; {1,2} stands for one with 1 and one with 2."""
        for row in self.rows:
            head, brace, rest = row.partition("{")
            inner, _, tail = rest.partition("}")
            for choice in inner.split(",") if brace else ("",):
                yield head + choice.strip() + tail

    def covers(self, call: str) -> bool:
        """Return whether the row covers this call."""
        return any(fnmatch.fnmatchcase(call, as_pattern(row)) for row in self.patterns())

    def applies(self, release: str) -> bool:
        """Return whether a kernel of this release behaves so."""
        return not self.kernel or all(holds(release, rule) for rule in self.kernel.split(","))


def as_pattern(row: str) -> str:
    """Return a row's pattern; brackets are literal."""
    return row.replace("[", "[[]")


def version(text: str) -> tuple[int, ...]:
    """Return the numbers a release begins with: (6, 18)."""
    return tuple(int(n) for n in re.findall(r"\d+", text)[:2])


def holds(release: str, rule: str) -> bool:
    """Return whether a release matches `>=6.6` or `<7.1`."""
    rule = rule.strip()
    if rule.startswith(">="):
        return version(release) >= version(rule)
    if rule.startswith("<"):
        return version(release) < version(rule)
    raise ValueError(f"{FILE.name}: kernel = {rule!r}; write >=6.6 or <7.1")


def known() -> tuple[Difference, ...]:
    """Return the rows of the file."""
    rows = tomllib.loads(FILE.read_text())["difference"]
    return tuple(Difference(**{**row, "rows": tuple(row["rows"])}) for row in rows)


def unknown(calls: Iterable[str], release: str) -> list[str]:
    """Return the differing calls without a row."""
    rows = [row for row in known() if row.applies(release)]
    return [call for call in calls if not any(row.covers(call) for row in rows)]


def vanished(calls: Iterable[str], release: str, tables: Iterable[str]) -> list[str]:
    """Return the patterns, `NAME: PATTERN`, of these tables without a differing call."""
    found = list(calls)
    return [
        f"{row.name}: {pattern}"
        for row in known()
        if row.applies(release)
        for pattern in row.patterns()
        if pattern.split("/")[0] in tables
        and not any(fnmatch.fnmatchcase(call, as_pattern(pattern)) for call in found)
    ]


HEAD = """# Differences from Linux

Written by `docs/generate.py` from `tests/linux/calls/differences.toml`.

A system call on a socket of this stack returns the value, bytes and errno that the kernel returns.
`tests/linux/test_calls.py` makes each call of a table twice: on the running kernel (as root, in a
network namespace of its own) and on a host with the same addresses.

* It calls `socket` with all families, types and protocols, valid and invalid.
* It calls `bind`, `connect`, `listen`, `accept`, `shutdown`, `getsockname` and `getpeername` in
  every state of a socket, with addresses of every family and length.
* It sends and receives with every `MSG_` flag.
* It tries every option of every level, control messages, `ioctl`, `poll` and numbers of buffers.

Values that each side chooses for itself (ports, identifiers, cookies, times) are masked. A call
with another result fails the test, unless a row below covers it. A row that no longer applies
fails it, too. Rows that begin with `ip` are about netlink; they are tested by
`tests/stack/netlink/test_kinds_kernel.py` and `tests/programs/test_link_kinds.py`.

This prints the calls of one table (`creation`, `naming`, `data` ...) that differ, known or not:

```sh
python -m tests.linux.calls.run creation
```


| | Linux | here | why |
|---|---|---|---|
"""


def markdown() -> str:
    """Return docs/differences.md."""
    lines = [
        f"| {row.name}{f' (Linux {row.kernel})' if row.kernel else ''} | {row.linux} | {row.ours} |"
        f" {row.reason} |\n"
        for row in known()
    ]
    return HEAD + "".join(lines).replace("<", "&lt;")
