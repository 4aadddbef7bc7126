"""What the tests of the driver share."""

from __future__ import annotations

import pytest

from tests.stack.drivers.e1000.machine import Machine, recorded


@pytest.fixture
def machine() -> Machine:
    """A machine on a recording link, its interface up. Files with other wishes have their own."""
    return recorded()


@pytest.fixture
def down() -> Machine:
    """A machine whose interface is down."""
    return recorded(up=False)
