"""A PCI device of one's own behind a vfio-user socket: DeviceServer, PciDevice, the example."""

from __future__ import annotations

import errno
import runpy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from e1000emu.clock import RealClock
from e1000emu.embed import DeviceServer, PciDevice
from e1000emu.embed.vfio_user import protocol as vu
from e1000emu.embed.vfio_user.protocol import Command
from e1000emu.errors import ArgumentError, E1000Error
from e1000emu.testing.recorders import RecordingLine
from fastpath.base.dma import DmaTable
from tests.e1000emu.embed.fakeclient import RAM_BASE, RAM_BYTES, FakeClient, error_of

EXAMPLE = Path(__file__).parents[3] / "examples" / "doorbell.py"
ADDRESS, LENGTH, DOORBELL, RESULT = 0x0, 0x4, 0x8, 0xC
COMMAND, MEMORY, MASTER, INTX_OFF = 0x04, 0x2, 0x4, 0x400
TEXT = b"a guest's bytes"


class Rig:
    """The example's device, served on a clock that a client runs too."""

    def __init__(self, path: Path) -> None:
        self.clock = RealClock()
        self.log: list[str] = []
        make = runpy.run_path(str(EXAMPLE))["Doorbell"]
        self.server = DeviceServer(path, make, clock=self.clock, report=self.log.append)
        self.device: Any = self.server.device
        self.path = path
        self.clients: list[FakeClient] = []

    def client(self, *, command: int = MEMORY | MASTER) -> FakeClient:
        client = FakeClient(self.path, self.clock)
        self.clients.append(client)
        started(client, command)
        return client


def started(client: FakeClient, command: int = MEMORY | MASTER) -> None:
    client.version()
    client.map_ram().write(RAM_BASE + 64, TEXT)
    client.new_trigger()
    client.config_write(0x10, 0xFEBC_0000, 4)
    client.config_write(COMMAND, command, 2)


def ring(client: FakeClient, address: int = RAM_BASE + 64, count: int = len(TEXT)) -> None:
    client.bar_write(0, ADDRESS, address, 4)
    client.bar_write(0, LENGTH, count, 4)
    client.bar_write(0, DOORBELL, 1, 4)


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    made = Rig(tmp_path / "s")
    yield made
    for client in made.clients:
        client.close()
    made.server.close()
    made.clock.close()


def test_a_host_finds_the_function(client: FakeClient) -> None:
    assert client.config_read(0x00, 4) == 0x0D00_1234
    assert client.config_read(0x08, 4) == 0xFF_0000_00
    assert client.config_read(0x3D, 1) == 1
    assert [client.bar_size(bar) for bar in range(8)] == [16, 0, 0, 0, 0, 0, 0, 256]
    client.config_write(0x10, 0xFFFF_FFFF, 4)
    assert client.config_read(0x10, 4) == 0xFFFF_FFF0
    client.config_write(0x14, 0xFFFF_FFFF, 4)
    client.config_write(0x00, 0, 4)
    assert (client.config_read(0x14, 4), client.config_read(0, 2)) == (0, 0x1234)


def test_a_doorbell_reads_memory_and_interrupts(rig: Rig, client: FakeClient) -> None:
    ring(client)
    assert client.config_read(0x06, 2) == 1 << 3
    assert client.interrupts() == 1
    assert client.bar_read(0, RESULT, 4) == sum(TEXT)
    assert client.config_read(0x06, 2) == 0
    client.unmask()
    assert client.interrupts() == 0
    ring(client, count=3)
    assert (client.bar_read(0, RESULT, 4), client.interrupts()) == (sum(TEXT[:3]), 1)
    assert rig.server.counters()["region_writes"] == 8


def test_the_command_register_decides(rig: Rig) -> None:
    client = rig.client(command=0)
    ring(client)
    assert client.bar_read(0, RESULT, 4) == 0xFFFF_FFFF
    assert client.interrupts() == 0
    client.config_write(COMMAND, MEMORY, 2)  # without bus mastering: all ones come
    ring(client, count=2)
    assert client.bar_read(0, RESULT, 4) == 2 * 0xFF
    client.unmask()
    client.interrupts()
    client.config_write(COMMAND, MEMORY | MASTER | INTX_OFF, 2)
    ring(client)
    assert (client.interrupts(), client.config_read(0x06, 2)) == (0, 1 << 3)
    client.config_write(COMMAND, MEMORY | MASTER, 2)
    assert client.interrupts() == 1


def test_no_guest_gets_past_the_device(rig: Rig, client: FakeClient) -> None:
    ring(client, address=0, count=4)
    assert client.bar_read(0, RESULT, 4) == 4 * 0xFF  # nothing is mapped there
    assert error_of(client.region_read, 0, 12, 8) == errno.EINVAL
    assert error_of(client.region_read, 1, 0, 4) == errno.EINVAL
    assert error_of(client.request, 99) == errno.ENOTSUP
    assert client.region_read(0, 1, 7) == bytes(3) + b"\4\0\0\0"  # cut where a register ends
    assert client.region_read(0, RESULT, 1) == bytes([4 * 0xFF & 0xFF])
    client.say(vu.reply(vu.Message(7, Command.DMA_READ, 0, 0, b""), bytes(16)))
    with pytest.raises(ConnectionResetError):
        client.version()
    assert "answers nothing" in rig.log[-1]


def test_who_comes_next_finds_it_as_after_a_reset(rig: Rig, client: FakeClient) -> None:
    ring(client)
    client.close()
    client = FakeClient(rig.path, rig.clock)
    rig.clients.append(client)
    client.version()
    assert (client.config_read(COMMAND, 4), client.config_read(0x10, 4)) == (0, 0)
    client.config_write(COMMAND, MEMORY, 2)
    assert [client.bar_read(0, at, 4) for at in (ADDRESS, LENGTH, RESULT)] == [0, 0, 0]
    ring(client, count=1)
    client.request(Command.DEVICE_RESET)
    assert (rig.device.registers[LENGTH], client.config_read(COMMAND, 2)) == (0, 0)


def test_a_server_that_is_closed_leaves_nothing(tmp_path: Path) -> None:
    rig = Rig(tmp_path / "s")
    with rig.server:
        with pytest.raises(E1000Error, match="another server listens there"):
            DeviceServer(rig.path, PciDevice)
        assert not rig.server.connected
    rig.server.close()
    assert not rig.path.exists()
    with pytest.raises(TypeError):  # and one whose device cannot be made
        DeviceServer(rig.path, PciDevice)
    assert not rig.path.exists()
    rig.clock.close()


@pytest.mark.parametrize(
    ("given", "error"),
    [
        ({"bars": {0: 24}}, r"bars\[0\]=24; give a power of two"),
        ({"bars": {6: 16}}, "bars=6 is out of range; give 0 to 5"),
        ({"bars": {0: 8}}, r"bars\[0\]=8 is out of range; give 16 to"),
        ({"vendor_id": 1 << 16}, "vendor_id=65536 is out of range"),
        ({"class_code": "nic"}, "class_code='nic' is a str, not an int"),
    ],
)
def test_what_no_function_can_have(given: dict[str, Any], error: str) -> None:
    ids = {"vendor_id": 1, "device_id": 2, "class_code": 3, "bars": {}} | given
    with pytest.raises(ArgumentError, match=f"PciDevice: {error}"):
        PciDevice(memory=DmaTable(), irq=RecordingLine(), **ids)


def test_a_function_without_registers_reads_zero() -> None:
    line = RecordingLine()
    device = PciDevice(
        memory=DmaTable(), irq=line, vendor_id=1, device_id=2, class_code=3, bars={1: 32}
    )
    device.config_write(COMMAND, MEMORY, 2)
    device.bar_write(1, 0, 1, 4)
    assert (device.bar_read(1, 0, 4), device.rom_read(0, 3)) == (0, bytes(3))
    device.set_interrupt(True)
    device.reset()
    assert line.rises == 1
    assert not line.level


def test_ram_is_what_the_client_maps(client: FakeClient) -> None:
    assert client.dma_unmap(RAM_BASE, RAM_BYTES) == RAM_BYTES
    ring(client, count=2)
    assert client.bar_read(0, RESULT, 4) == 2 * 0xFF
