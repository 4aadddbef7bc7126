"""The tables of calls that tests/linux/test_calls.py holds against Linux, on our host alone.

`make test-asan` runs them so under the sanitizers: right and wrong arguments, every family.
"""

from __future__ import annotations

import pytest

from tests.linux.calls.run import ours
from tests.linux.calls.tables import TABLES


@pytest.mark.slow
@pytest.mark.parametrize("table", TABLES)
def test_no_call_does_worse_than_to_fail(table: str) -> None:
    rows = ours(table, {})
    assert rows
    assert any(isinstance(said, str) for said in rows.values())  # the name of an errno
