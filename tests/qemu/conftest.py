"""Our driver on QEMU's network cards: one machine for a file, started when first asked for."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.qemu.machine import Machine
from tests.support import require


@pytest.fixture(scope="module", params=["stream", "dgram"])
def machine(request: pytest.FixtureRequest) -> Iterator[Machine]:
    """Two hosts: one on QEMU's e1000, one on our NIC, a cable between them."""
    require.tool("qemu-system-x86_64", "qemu-system-x86")
    with Machine(framing=request.param) as made:
        made.up()
        yield made
