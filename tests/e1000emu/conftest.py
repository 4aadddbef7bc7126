"""Tests that bear witness of a register's field (`tests/e1000emu/witness.py`) are held to it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.e1000emu.witness import fields_to_witness, watched


@pytest.fixture(autouse=True)
def _witness(request: pytest.FixtureRequest) -> Iterator[None]:
    """Fail a witness that did not touch what it is named for."""
    mark = request.node.get_closest_marker("witness")
    if mark is None:
        yield
        return
    with pytest.MonkeyPatch.context() as patch:
        touched = watched(patch)
        yield
    fields = fields_to_witness()
    seen = {name for name in mark.args if touched.saw(fields[name])}
    one_by_one = hasattr(request.node, "callspec")
    if not (seen if one_by_one else len(seen) == len(mark.args)):
        missing = ", ".join(name for name in mark.args if name not in seen)
        pytest.fail(f"is a witness of {missing} and never touched that")
