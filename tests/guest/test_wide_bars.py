"""Windows of 64 bits: a guest's Linux places registers and flash above 4 GiB, and drives the NIC
there."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.guest.setup import (
    GUEST,
    WAIT_S,
    OnTap,
    ping,
    prepared,
    self_test,
    tcp_from_peer,
    tcp_to_peer,
    wait_carrier,
)
from tests.support import require

pytestmark = [pytest.mark.netns, pytest.mark.slow]

GIB = 1 << 30
FLASH_BYTES = 128 << 10
MEM, MEM_64, IO = 0x200, 0x10_0000, 0x100
"""IORESOURCE_* of linux/ioport.h."""
AGAIN = """
echo 1 >{device}/remove
echo 1 >/sys/bus/pci/rescan
until [ -e /sys/class/net/eth0 ]; do sleep 0.1; done
ip addr add {guest}/24 dev eth0; ip link set eth0 up
"""


@pytest.fixture(scope="module", params=[("82540EM", "trixie"), ("82545EM", "bookworm")])
def wide(request: pytest.FixtureRequest) -> Iterator[OnTap]:
    """A guest whose card has windows of 64 bits, one of them to a flash."""
    require.taps()
    model, kernel = request.param
    image = prepared(kernel=kernel)
    with OnTap(image, model, wide_bars=True, flash=b"flash".ljust(FLASH_BYTES, b"!")) as made:
        yield made


def resources(on_tap: OnTap) -> list[tuple[int, int, int]]:
    """Return (address, bytes, kind) of the six BARs, as Linux has them."""
    text = on_tap.guest.run("cat /sys/class/net/eth0/device/resource").check().stdout
    rows = [[int(word, 16) for word in line.split()] for line in text.splitlines()[:6]]
    kinds = MEM | MEM_64 | IO
    return [(at, last - at + 1 if last else 0, flags & kinds) for at, last, flags in rows]


def test_linux_finds_three_regions(wide: OnTap) -> None:
    found = [(size, kind) for _, size, kind in resources(wide)]
    memory, flash = (0x20000, MEM | MEM_64), (FLASH_BYTES, MEM | MEM_64)
    assert found == [memory, (0, 0), flash, (0, 0), (8, IO), (0, 0)]


def test_the_card_works_above_4_gib(wide: OnTap) -> None:
    """Linux looks for room for a BAR of 64 bits above 4 GiB first, when it places it itself."""
    guest = wide.guest
    device = guest.run("readlink -f /sys/class/net/eth0/device").check().stdout.strip()
    guest.run(AGAIN.format(device=device, guest=GUEST), timeout_s=WAIT_S).check()
    wait_carrier(guest)
    at = [start for start, _, _ in resources(wide)]
    assert at[0] >= 4 * GIB
    assert at[2] >= 4 * GIB
    read = wide.nic.slot.config_read
    with wide.clock.lock:
        assert read(0x10, 4) | read(0x14, 4) << 32 == at[0] | 4
        assert read(0x18, 4) | read(0x1C, 4) << 32 == at[2] | 4
        assert read(0x20, 4) == at[4] | 1
    ping(guest)
    tcp_to_peer(guest, wide.peer)
    tcp_from_peer(guest, wide.peer)
    wide.assert_no_trouble()
    self_test(guest)
    wait_carrier(guest)
    with wide.clock.lock:
        wide.nic.misuse.clear()  # the self-test writes patterns everywhere
