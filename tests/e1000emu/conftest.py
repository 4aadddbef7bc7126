"""Tests that bear witness of a register's field (`tests/e1000emu/witness.py`) are held to it."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from typing import Any

import pytest

from e1000emu.clock import RealClock
from e1000emu.device.nic import Nic
from e1000emu.testing.bench import Bench
from e1000emu.testing.guest import GuestRings
from tests.e1000emu.common import running
from tests.e1000emu.witness import Blinder, Place, fields_to_witness, names_of


class Blind(pytest.Function):
    """A witness with a field that does nothing: it has to fail, or it has not seen the field."""

    place: Place
    failed = False

    def setup(self) -> None:
        """Set the fixtures up; one that fails has seen the field too."""
        try:
            super().setup()
        except (Exception, pytest.fail.Exception):
            self.failed = True

    def runtest(self) -> None:
        """Run the test. Raises: pytest.fail.Exception when it does not."""
        if not self.failed:
            try:
                super().runtest()
            except (Exception, pytest.fail.Exception):
                return
            pytest.fail(f"passes when {self.place.name} does nothing", pytrace=False)


@pytest.hookimpl(wrapper=True)
def pytest_pycollect_makeitem() -> Generator[None, Any, Any]:
    """Put behind each witness one that is blind, for each of its fields."""
    found = yield
    if not isinstance(found, list):
        return found
    return [one for item in found for one in (item, *_blinds(item))]


def _blinds(item: pytest.Function) -> Iterator[Blind]:
    fields = fields_to_witness()
    callspec = getattr(item, "callspec", None)
    params = callspec.params if callspec is not None else {}
    for name in names_of(list(item.iter_markers("witness")), params):
        if name not in fields:
            continue  # test_witnesses.py tells
        blind: Blind = Blind.from_parent(
            item.parent,
            name=f"{item.name}-without-{name}",
            callspec=callspec,
            fixtureinfo=item._fixtureinfo,
            originalname=item.originalname,
        )
        blind.place = fields[name]
        yield blind


@pytest.fixture
def clock() -> Iterator[RealClock]:
    """A clock of the machine's time that whoever waits runs. Files with other wishes have theirs"""
    made = RealClock()
    yield made
    made.close()


@pytest.fixture
def bench() -> Bench:
    """A NIC that the fake driver has brought up. Files with other wishes have their own."""
    return running()


@pytest.fixture
def nic(bench: Bench) -> Nic:
    """The NIC of the file's bench."""
    return bench.nic


@pytest.fixture
def guest(bench: Bench) -> GuestRings:
    """The fake driver of the file's bench."""
    return bench.guest


@pytest.fixture(autouse=True)
def _blindness(request: pytest.FixtureRequest) -> Iterator[None]:
    """Come between software and the devices of a blind witness."""
    if not isinstance(request.node, Blind):
        yield
        return
    with pytest.MonkeyPatch.context() as patch:
        Blinder(request.node.place).install(patch)
        yield
