"""Fixtures of the tests against a Linux kernel. All of them share one xdist worker."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.linux.peer import IPV4, IPV6, Family, Wire
from tests.support import require


@pytest.fixture(scope="module")
def wire() -> Iterator[Wire]:
    """One wire for a whole file: a clean link, both families."""
    require.taps()
    with Wire(ipv6=True) as made:
        yield made


@pytest.fixture(params=[IPV4, IPV6], ids=str)
def family(request: pytest.FixtureRequest) -> Family:
    """Each of the two families."""
    made: Family = request.param
    return made


@pytest.fixture
def need_linux() -> None:
    """Require the tools of a test that creates its own wire."""
    require.taps()
