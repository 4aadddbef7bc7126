"""Who offers which port."""

from __future__ import annotations

import inspect

import pytest

from e1000emu import ports
from e1000emu.clock import RealClock, VirtualClock
from e1000emu.device.bars import Slot
from e1000emu.device.management import Management
from e1000emu.device.nic import Nic
from e1000emu.links import PairEnd
from e1000emu.testing.recorders import RecordingController, RecordingLine, RecordingLink
from fastpath.base.dma import DmaTable

OFFERS = [
    (ports.LinkPort, Nic),
    (ports.PciSlot, Slot),
    (ports.Link, PairEnd),
    (ports.Link, RecordingLink),
    (ports.InterruptLine, RecordingLine),
    (ports.ManagementController, RecordingController),
    (ports.ManagementPort, Management),
    (ports.Clock, VirtualClock),
    (ports.Clock, RealClock),
    (ports.DmaMemory, DmaTable),
]


@pytest.mark.parametrize(("port", "kind"), OFFERS, ids=lambda c: c.__name__)
def test_every_method_of_the_port_is_offered(port: type, kind: type) -> None:
    wanted = [n for n, v in vars(port).items() if inspect.isfunction(v) and n[0] != "_"]
    have = set(dir(kind)) | set(getattr(kind, "__slots__", ()))
    have = have.union(*(inspect.get_annotations(base) for base in kind.__mro__))
    assert [n for n in wanted if n not in have] == []
