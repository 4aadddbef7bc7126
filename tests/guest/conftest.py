"""A guest's Linux on our NIC: what it is booted from, and which parts are tried.

In CI a guest that cannot be prepared fails the tests; elsewhere they are skipped with the reason.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from e1000emu.errors import E1000Error
from e1000emu.guest import GuestImage, prepare
from e1000emu.models import MODELS
from tests.support import in_ci, require

pytest.register_assert_rewrite("tests.guest.setup")

from tests.guest.setup import OnTap  # noqa: E402


@pytest.fixture(scope="session")
def image() -> GuestImage:
    """Kernel, initramfs and QEMU, from the cache or made now."""
    try:
        return prepare()
    except E1000Error as error:
        if in_ci():
            pytest.fail(f"CI is set, but {error}", pytrace=False)
        pytest.skip(str(error))


@pytest.fixture(scope="module", params=list(MODELS))
def model(request: pytest.FixtureRequest) -> str:
    """Return each part that the emulator knows."""
    name: str = request.param
    return name


@pytest.fixture(scope="module")
def on_tap(image: GuestImage, model: str) -> Iterator[OnTap]:
    """One booted guest for a file: its NIC is here, in front of a TAP with a Linux behind it."""
    require.netns()
    require.tun()
    require.tool("tshark")
    with OnTap(image, model) as made:
        yield made
