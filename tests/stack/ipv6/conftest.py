"""What the tests of IPv6 share."""

from __future__ import annotations

import pytest

from tests.stack.ipv6.net import Net6, one_host6


@pytest.fixture
def net() -> Net6:
    """A host with a recording interface. Files with other wishes have their own."""
    return one_host6()
