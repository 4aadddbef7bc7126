"""What the tests of the vfio-user server share."""

from __future__ import annotations

import gc
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from e1000emu.clock import RealClock
from e1000emu.embed.vfio_user.server import VfioUserServer
from e1000emu.testing.recorders import RecordingLink
from tests.e1000emu.embed.fakeclient import FakeClient, Rig


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    """A server that listens."""
    gc.collect()  # what earlier tests left to the collector is not counted against this one
    before = len(os.listdir("/proc/self/fd"))
    clock, link, log = RealClock(), RecordingLink(), []  # type: ignore[var-annotated]
    path = tmp_path / "vfio.sock"
    server = VfioUserServer(path, link=link, clock=clock, report=log.append, autoneg_ns=0)
    made = Rig(path, clock, link, server, log, [])
    yield made
    server.close()
    for client in made.clients:
        client.close()
    clock.close()
    made.clients.clear()
    assert not path.exists()
    gc.collect()
    assert len(os.listdir("/proc/self/fd")) <= before


@pytest.fixture
def client(rig: Rig) -> FakeClient:
    """A client of the server that has said nothing yet."""
    return rig.client()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where a recording goes."""
    return tmp_path / "x"
