"""A board with optics under Linux's own driver: what ethtool says, light that goes and comes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest

from e1000emu.guest import GuestImage
from e1000emu.registers.models import MODELS
from tests.guest.setup import OnTap, ping, self_test, wait_carrier
from tests.support import require

pytestmark = [pytest.mark.netns, pytest.mark.slow]


@pytest.fixture(scope="module", params=[name for name, part in MODELS.items() if part.fiber])
def fiber(request: pytest.FixtureRequest, image: GuestImage) -> Iterator[OnTap]:
    """Boot a guest with the board in front of a TAP."""
    require.taps()
    with OnTap(replace(image, kernel=image.packed or image.kernel), request.param) as made:
        yield made


def test_linux_brings_the_fibre_up(fiber: OnTap) -> None:
    guest = fiber.guest
    text = guest.run("ethtool eth0").check().stdout
    for line in ("Port: FIBRE", "Speed: 1000Mb/s", "Duplex: Full", "Link detected: yes"):
        assert line in text
    txcw, rxcw = fiber.registers("TXCW", "RXCW")
    assert txcw >> 31
    assert rxcw >> 31
    ping(guest)
    with fiber.clock.lock:
        fiber.nic.link_changed(False, 1000, True)
    wait_carrier(guest, up=False)
    assert "Link detected: no" in guest.run("ethtool eth0").stdout
    with fiber.clock.lock:
        fiber.nic.link_changed(True, 1000, True)
    wait_carrier(guest)
    ping(guest)
    fiber.assert_no_trouble()


def test_self_test_offline(fiber: OnTap) -> None:
    """Linux loops an 82544's frames back at the transceiver. On an 82545 it asks the PHY for that,
    which a board with optics has not: 13, none of the frames came back."""
    if fiber.model == "82545EM-fiber":
        self_test(fiber.guest, Loopback="13")
    else:
        self_test(fiber.guest)
    wait_carrier(fiber.guest)
    ping(fiber.guest)
    with fiber.clock.lock:
        fiber.nic.misuse.clear()
