"""docs/cpython.md: which of CPython's socket tests run over the stack, and why others do not."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from tests.cpython.table import CLASSES, CLASSES_LEFT_OUT, LEFT_OUT, classes

INTRO = """# CPython's own socket tests

Written by `docs/generate.py` from `tests/cpython/table.py`.

`tests/cpython` runs classes of CPython's `Lib/test/test_socket.py` (3.11 to 3.13) over
`stack.socket`: the tests import a module in place of `socket` whose sockets belong to one host. A
test that passes without using the stack counts as failed, and must be listed below.

```console
$ make test TESTS=tests/cpython PYTEST="-q -k BasicUDPTest"
```
"""


def by_reason(table: dict[str, str]) -> str:
    """A table of the names of each reason."""
    reasons: dict[str, list[str]] = {}
    for name, reason in table.items():
        reasons.setdefault(reason, []).append(name)
    rows = [
        f"| {reason} | {', '.join(f'`{name}`' for name in names)} |"
        for reason, names in reasons.items()
    ]
    return "\n".join(["| reason | |", "|---|---|", *rows])


def markdown() -> str:
    """The page."""
    parts = [INTRO, f"## What runs\n\n{len(classes())} classes:\n\n| | |\n|---|---|"]
    parts[-1] += "".join(
        f"\n| {subject} | {', '.join(f'`{name}`' for name in names)} |"
        for subject, names in CLASSES.items()
    )
    parts.append(f"## Classes that do not run\n\n{by_reason(CLASSES_LEFT_OUT)}")
    parts.append(f"## Tests of these classes that do not run\n\n{by_reason(LEFT_OUT)}")
    return "\n\n".join(part.rstrip() for part in parts) + "\n"
