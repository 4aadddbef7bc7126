"""A guest's Linux on our NIC: what it is booted from, and which parts are tried.

In CI a guest that cannot be prepared fails the tests; elsewhere they are skipped with the reason.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace

import pytest

from e1000emu.guest import GuestImage
from tests.support import require

pytest.register_assert_rewrite("tests.guest.setup")

from tests.guest.setup import OnTap, prepared  # noqa: E402
from tests.guest.tried import VARIABLE, Trial, Tried, store  # noqa: E402

KERNELS = {"82540EM": "trixie", "82545EM": "bookworm", "82544GC": "trixie"}
"""Whose kernel drives which part: 6.12 and 6.1; test_command.py has the newest."""


@pytest.fixture(scope="session")
def image() -> GuestImage:
    """Kernel, initramfs and QEMU."""
    return prepared()


@pytest.fixture(scope="session", params=list(KERNELS))
def model(request: pytest.FixtureRequest) -> str:
    """Return each part with copper; test_fiber.py has the others."""
    name: str = request.param
    return name


@pytest.fixture(scope="session")
def on_tap(model: str) -> Iterator[OnTap]:
    """One booted guest for all tests of a part: its NIC is here, in front of a TAP with a Linux
    behind it."""
    require.taps()
    require.tool("tshark")
    image = prepared(kernel=KERNELS[model])
    with OnTap(replace(image, kernel=image.packed or image.kernel), model) as made:  # it will sleep
        yield made


TRIALS: list[Trial] = []


@pytest.fixture
def tried(request: pytest.FixtureRequest) -> Tried:
    """Take down a driver that has worked."""
    name = f"{request.path.name}::{request.node.name}"

    def take(
        driver: str,
        version: str,
        architecture: str,
        model: str,
        what: str,
        result: str = "works",
    ) -> None:
        TRIALS.append(Trial(driver, version, architecture, model, what, result, name))

    return take


def pytest_sessionfinish() -> None:
    """Write docs/tried.json, when that is asked for."""
    if os.environ.get(VARIABLE) and TRIALS:
        store(TRIALS)


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests that share a guest are together, those that end it last."""

    def turn(item: pytest.Item) -> tuple[str, bool]:
        if not isinstance(item, pytest.Function) or "on_tap" not in item.fixturenames:
            return "", False
        return item.callspec.params["model"], item.path.name == "test_wake.py"

    items.sort(key=turn)
