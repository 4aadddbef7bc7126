"""A NIC that outlives its server: saved at the end, restored at the start, under one client."""

from __future__ import annotations

import os
import socket
import stat
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from e1000emu import SnapshotError
from e1000emu.clock import RealClock
from e1000emu.embed.vfio_user.protocol import Command
from e1000emu.embed.vfio_user.server import VfioUserServer
from e1000emu.errors import E1000Error
from e1000emu.testing.guest import GuestRings, Int, Reg
from e1000emu.testing.recorders import RecordingLink
from fastpath.base.dma import HostMemory
from fastpath.lifecycle import RunState
from tests.e1000emu.embed.fakeclient import RAM_BASE, RAM_BYTES, FakeClient
from tests.support import eventually

WAIT_S = 60.0


def frame(n: int) -> bytes:
    return b"\xff" * 6 + b"\x52\x54\x00\x12\x34\x56\x08\x00" + n.to_bytes(4, "big") * 20


class Machine:
    """A guest's memory and driver, which outlive every connection."""

    def __init__(self, path: Path, clock: RealClock, *, threaded: bool = False) -> None:
        self.path = path
        self.threaded = threaded
        self.clock = clock
        self.fd = os.memfd_create("guest-ram")
        os.ftruncate(self.fd, RAM_BYTES)
        self.memory = HostMemory(RAM_BYTES, base=RAM_BASE, fd=self.fd)
        self.client = self.connect()
        self.client.new_trigger()
        self.client.config_write(0x10, 0xFEBC_0000, 4)
        self.client.config_write(0x04, 0x0007, 2)
        self.guest = GuestRings(self.client, self.memory, tx_count=16, rx_count=16, step=self.step)

    def connect(self, *, shared: bool = True) -> FakeClient:
        """Shake hands and map the memory; interrupts come with `resume`."""
        client = FakeClient(self.path, self.clock)
        client.threaded = self.threaded
        client.memory = self.memory
        client.version()
        client.dma_map(RAM_BASE, RAM_BYTES, self.fd if shared else None)
        return client

    def leave(self, made: VfioUserServer) -> None:
        """Break off, and wait until the server knows."""
        self.client.close()
        self.clock.run(lambda: not made.connected, timeout_ns=10_000_000_000)

    def resume(self, *, shared: bool = True) -> FakeClient:
        """Come back as after a live update of the monitor: same guest, new connection."""
        self.client.close()
        self.client = self.guest.slot = self.connect(shared=shared)
        self.client.new_trigger()
        return self.client

    def step(self) -> None:
        self.client.settle()

    def close(self) -> None:
        self.client.close()
        os.close(self.fd)


@contextmanager
def server(tmp_path: Path, clock: RealClock, log: list[str], **options: Any) -> Iterator[Any]:
    link = RecordingLink()
    made = VfioUserServer(
        tmp_path / "nic",
        link=link,
        clock=clock,
        report=log.append,
        autoneg_ns=0,
        state=tmp_path / "state",
        **options,
    )
    try:
        yield made, link
    finally:
        made.close()


def start(machine: Machine, made: VfioUserServer, **options: Any) -> None:
    machine.guest.up(**options)
    machine.client.run(lambda: made.nic.link_up)
    machine.client.settle()


def test_traffic_goes_on_behind_a_new_server(tmp_path: Path, clock: RealClock) -> None:
    log: list[str] = []
    with server(tmp_path, clock, log) as (made, link):
        machine = Machine(tmp_path / "nic", clock)
        guest = machine.guest
        start(machine, made, ims=int(Int.RXT0))
        assert guest.send(*[frame(n) for n in range(5)]) == 5
        link.inject(*[frame(n) for n in range(10, 15)])
        assert [got.data for got in guest.receive()] == [frame(n) for n in range(10, 15)]
        assert link.take() == [frame(n) for n in range(5)]
        guest.read(Reg.ICR)
        machine.client.unmask()
        machine.client.interrupts()
        # One frame is in guest memory and its interrupt is pending when the server ends.
        link.inject(frame(15))
        before = made.nic
        stats, phy = before.stats.as_dict(), before.phy.state()
        config = before.pci.state()
    assert f"state saved to {tmp_path / 'state'}" in log[-1]
    file = tmp_path / "state"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert os.listdir(tmp_path) == ["state"]
    guest.post_legacy(frame(5))  # while nobody serves
    with server(tmp_path, clock, log) as (made, link):
        assert not file.exists()
        assert made.nic.stats.as_dict() == stats
        assert replace(made.nic.phy.state(), due_ns=0) == replace(phy, due_ns=0)
        assert made.nic.pci.state() == config
        # Nobody has mapped memory: frames wait, none is lost.
        link.inject(frame(16))
        client = machine.resume()
        assert client.interrupts() == 1  # the level that was up
        assert guest.read(Reg.ICR) & Int.RXT0
        client.unmask()
        guest.kick()
        client.settle()
        assert link.take() == [frame(5)]
        assert [got.data for got in guest.receive()] == [frame(15), frame(16)]
        for n in range(20, 60):  # around the rings
            assert guest.send(frame(n)) == 1 + (n == 20)
            assert link.take() == [frame(n)]
            link.inject(frame(n))
            client.settle()
            assert [got.data for got in guest.receive()] == [frame(n)]
        assert made.nic.stats["TPT"] == 5 + 1 + 40
        assert made.memory.table.aborts == 0
        machine.close()


def test_a_client_that_breaks_off_comes_back_to_its_nic(tmp_path: Path, clock: RealClock) -> None:
    log: list[str] = []
    with server(tmp_path, clock, log) as (made, link):
        machine = Machine(tmp_path / "nic", clock)
        guest = machine.guest
        start(machine, made, ims=int(Int.RXT0))
        assert guest.send(frame(1)) == 1
        machine.leave(made)
        assert made.nic.run_state is RunState.PAUSED
        link.inject(frame(2))
        guest.post_legacy(frame(3))
        client = machine.resume()
        assert made.nic.run_state is RunState.RUNNING
        guest.kick()
        client.settle()
        assert link.take() == [frame(1), frame(3)]
        assert [got.data for got in guest.receive()] == [frame(2)]
        assert guest.read(Reg.IMS) == Int.RXT0
        machine.close()


def test_dma_waits_for_memory_and_interrupt(tmp_path: Path, clock: RealClock) -> None:
    with server(tmp_path, clock, []) as (made, link):
        machine = Machine(tmp_path / "nic", clock)
        start(machine, made)
        machine.leave(made)
        link.inject(frame(1))
        machine.client = machine.guest.slot = client = machine.connect()
        client.config_read(0, 4)
        client.settle()
        assert made.nic.run_state is RunState.PAUSED
        assert machine.guest.receive() == []
        assert client.bar_read(0, Reg.STATUS, 4)  # a guest that polls: it runs
        client.settle()
        assert [got.data for got in machine.guest.receive()] == [frame(1)]
        machine.close()


def test_a_reset_by_the_client_ends_the_wait(tmp_path: Path, clock: RealClock) -> None:
    """QEMU does not come back to a NIC: its machine begins with a reset."""
    with server(tmp_path, clock, []) as (made, _):
        machine = Machine(tmp_path / "nic", clock)
        start(machine, made)
        machine.leave(made)
        client = FakeClient(tmp_path / "nic", clock)
        client.version()
        client.request(Command.DEVICE_RESET)
        assert made.nic.run_state is RunState.RUNNING
        assert client.config_read(4, 2) == 0
        client.close()
        machine.close()


def test_dma_by_messages_goes_on(tmp_path: Path, clock: RealClock) -> None:
    """What the first server wrote is answered before it saves; the second fetches anew."""
    log: list[str] = []
    with server(tmp_path, clock, log) as (made, link):
        machine = Machine(tmp_path / "nic", clock)
        guest = machine.guest
        client = machine.resume(shared=False)
        start(machine, made, ims=int(Int.RXT0))
        assert guest.send(frame(1)) == 1
        assert link.take() == [frame(1)]
        link.inject(frame(2))  # its DMA_WRITEs are under way
        clock.call_soon(lambda: client.poll())
        guest.post_legacy(frame(3))
        guest.kick()
    assert not any("without an answer" in line for line in log)
    with server(tmp_path, clock, log) as (made, link):
        client = machine.resume(shared=False)
        client.run(lambda: client.poll() or link.frames == [frame(3)])
        assert guest.read(Reg.ICR) & Int.RXT0
        assert [got.data for got in guest.receive()] == [frame(2)]
        client.settle()
        assert guest.send(frame(4)) == 2
        machine.close()


def test_delays_go_on_where_they_were(tmp_path: Path, clock: RealClock) -> None:
    with server(tmp_path, clock, []) as (made, link):
        machine = Machine(tmp_path / "nic", clock)
        start(machine, made, ims=int(Int.RXT0))
        machine.guest.write(Reg.RDTR, 0xFFFF)  # 67 ms
        machine.guest.read(Reg.STATUS)
        link.inject(frame(1))
    time.sleep(0.1)  # gone by for the world, not for the NIC
    before = clock.now_ns()
    with server(tmp_path, clock, []) as (made, link):
        assert made.nic.interrupts.causes & Int.RXT0 == 0
        due = made.nic.interrupts._times()[1]  # of the time when the state was loaded
        assert before < due <= clock.now_ns() + 0xFFFF * 1024
        client = machine.resume()
        client.run(lambda: client.interrupts() == 1)
        machine.close()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda data: b"", "no state of a NIC"),
        (lambda data: b"\x7fELF" + data, "no state of a NIC"),
        (lambda data: data[:-1], "damaged"),
        (lambda data: data[:500] + bytes([data[500] ^ 1]) + data[501:], "damaged"),
        (lambda data: data.replace(b"state 1 ", b"state 2 ", 1), "version 2"),
        (lambda data: data + b"x", "damaged"),
    ],
)
def test_a_file_that_is_none_is_refused_by_name(
    tmp_path: Path, clock: RealClock, change: Any, words: str
) -> None:
    with server(tmp_path, clock, []):
        pass
    file = tmp_path / "state"
    bad = change(file.read_bytes())
    file.write_bytes(bad)
    link = RecordingLink()
    with pytest.raises(SnapshotError, match=words) as caught:
        VfioUserServer(tmp_path / "nic", link=link, clock=clock, state=file)
    assert str(file) in str(caught.value)
    assert link.port is None
    assert not (tmp_path / "nic").exists()
    assert file.read_bytes() == bad


def test_another_part_or_address_is_refused(tmp_path: Path, clock: RealClock) -> None:
    with server(tmp_path, clock, []):
        pass
    other = bytes.fromhex("020000000001")
    for options in ({"mac": other},):
        with (
            pytest.raises(SnapshotError, match="--model and --mac"),
            server(tmp_path, clock, [], **options),
        ):
            pass
    with server(tmp_path, clock, []):
        pass


def test_a_state_that_cannot_be_saved_is_said_and_all_is_closed(
    tmp_path: Path, clock: RealClock
) -> None:
    link = RecordingLink()
    made = VfioUserServer(
        tmp_path / "nic", link=link, clock=clock, state=tmp_path / "none" / "state"
    )
    with pytest.raises(E1000Error, match="cannot be written"):
        made.close()
    assert link.port is None
    assert not (tmp_path / "nic").exists()
    made.close()


# --- over processes ------------------------------------------------------------------------------


class Far:
    """The far end of `--link qemu:PATH`: QEMU's framing, as a listener."""

    def __init__(self, path: Path) -> None:
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(str(path))
        self.listener.listen()
        self.frames: list[bytes] = []
        self.conn: socket.socket | None = None
        self._thread = threading.Thread(target=self._main, daemon=True)
        self._thread.start()

    def _main(self) -> None:
        while True:
            try:
                conn, _ = self.listener.accept()
            except OSError:
                return
            self.conn = conn
            with conn, conn.makefile("rb") as file:
                while len(head := file.read(4)) == 4:
                    self.frames.append(file.read(struct.unpack(">I", head)[0]))
            self.conn = None

    def send(self, data: bytes) -> None:
        assert self.conn is not None
        self.conn.sendall(struct.pack(">I", len(data)) + data)

    def wait(self, frames: list[bytes]) -> None:
        eventually(lambda: self.frames == frames, lambda: self.frames)

    def close(self) -> None:
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        self._thread.join(WAIT_S)


def serve(tmp_path: Path) -> subprocess.Popen[str]:
    made = subprocess.Popen(
        [
            *(sys.executable, "-m", "e1000emu", "vfio-user", "--json"),
            *("--socket", str(tmp_path / "nic"), "--link", f"qemu:{tmp_path / 'far'}"),
            *("--state", str(tmp_path / "state")),
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert made.stdout is not None
    assert '"ready"' in made.stdout.readline()
    return made


def test_a_new_process_goes_on_under_the_same_guest(tmp_path: Path, clock: RealClock) -> None:
    far = Far(tmp_path / "far")
    process = serve(tmp_path)
    machine = Machine(tmp_path / "nic", clock, threaded=True)
    guest = machine.guest
    guest.up(ims=int(Int.RXT0))
    machine.client.run(lambda: bool(guest.read(Reg.STATUS) & 2))  # autonegotiation takes a while
    sent: list[bytes] = []
    received: list[bytes] = []

    def round_trip(n: int) -> None:
        sent.append(frame(n))
        guest.post_legacy(frame(n))
        guest.kick()
        far.wait(sent)
        far.send(frame(1000 + n))
        until = time.monotonic() + WAIT_S
        while not (got := guest.receive()):
            assert time.monotonic() < until
            machine.client.settle()
        received.extend(one.data for one in got)
        guest.reap()

    for n in range(20):
        round_trip(n)
    registers = [guest.read(reg) for reg in (Reg.TDT, Reg.TDH, Reg.RDT, Reg.RDH, Reg.CTRL)]
    process.terminate()
    assert process.wait(WAIT_S) == 0
    process.communicate()
    process = serve(tmp_path)
    machine.resume()
    assert registers == [guest.read(reg) for reg in (Reg.TDT, Reg.TDH, Reg.RDT, Reg.RDH, Reg.CTRL)]
    assert guest.read(Reg.STATUS) & 2  # the link did not go down
    for n in range(20, 40):
        round_trip(n)
    assert received == [frame(1000 + n) for n in range(40)]
    assert guest.read(0x40D4) == 40  # TPT, over both
    process.terminate()
    assert process.wait(WAIT_S) == 0
    process.communicate()
    machine.close()
    far.close()
