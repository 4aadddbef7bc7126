"""What ends or stops a guest: sleep and wake-up, reboot, power off. Last of its tests, by name."""

from __future__ import annotations

import asyncio
import json
import socket
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from e1000emu.cli.wake import Wake, Waker
from e1000emu.registers.regs import reg
from tests.guest.setup import (
    GUEST,
    MAC,
    NO_WAKE_IN_LINUX,
    TROUBLE,
    WAIT_S,
    OnTap,
    configure,
    frame,
    on_parts,
    ping,
    prepared,
    tcp_from_peer,
    tcp_to_peer,
    wait_carrier,
)
from tests.support import eventually, require

pytestmark = [pytest.mark.netns, pytest.mark.slow]

MAGIC_PACKET = b"\xff" * 6 + bytes.fromhex("020000000001") + b"\x08\x42" + b"\xff" * 6 + MAC * 16


@pytest.fixture(autouse=True)
def no_trouble(request: pytest.FixtureRequest) -> Iterator[None]:
    """After each test the guest's log is clean, and its driver has done nothing wrong."""
    yield
    if "on_tap" in request.fixturenames:
        on_tap: OnTap = request.getfixturevalue("on_tap")
        if on_tap.guest.running:
            # e1000_suspend and e1000_shutdown enable the receiver for wake-up, without a ring.
            on_tap.assert_no_trouble("rx-early")


@pytest.fixture
def guest(on_tap: OnTap):
    return on_tap.guest


class Monitor:
    """QEMU's own, by QMP (QEMU's docs/interop/qmp-spec.rst)."""

    def __init__(self, sock: socket.socket) -> None:
        self._lines = sock.makefile("rwb")
        self._events: list[str] = []
        assert "QMP" in self._read()
        self.command("qmp_capabilities")

    def _read(self) -> dict[str, Any]:
        line: dict[str, Any] = json.loads(self._lines.readline())
        if "event" in line:
            self._events.append(line["event"])
        return line

    def command(self, name: str) -> None:
        """Let QEMU do something; wait until it has."""
        self._lines.write(json.dumps({"execute": name}).encode() + b"\n")
        self._lines.flush()
        while "return" not in (answer := self._read()):
            assert "error" not in answer, answer

    def wait(self, event: str) -> None:
        """Wait until QEMU has told of an event."""
        while event not in self._events:
            self._read()
        self._events.remove(event)


@contextmanager
def monitor(path: Path) -> Iterator[Monitor]:
    """Talk to QEMU."""
    with socket.socket(socket.AF_UNIX) as sock:
        sock.settimeout(WAIT_S)
        sock.connect(str(path))
        yield Monitor(sock)


@contextmanager
def waking(on_tap: OnTap) -> Iterator[tuple[list[str], list[int]]]:
    """Do what `vfio-user --wake qmp:…` does at PME#, with QEMU's other monitor.

    Yields what it said, and WUS at each PME#: the driver that was woken clears it.
    """
    loop, said, causes = asyncio.new_event_loop(), [], []
    waker = Waker(Wake("qmp", str(on_tap.second_monitor)), loop, said.append)
    thread = threading.Thread(target=loop.run_forever)
    thread.start()

    def pme(level: bool) -> None:
        if level:
            causes.append(on_tap.nic.regs.peek(reg("WUS").offset))
        waker.pme(level)

    on_tap.on_pme = pme
    try:
        yield said, causes
    finally:
        on_tap.on_pme = lambda level: None
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


@on_parts((), ("82540EM",), ("82545EM",), ("82544GC",))
def test_suspend_and_resume_of_the_device(on_tap, guest):
    """The kernel's own test of suspending: D3hot and back, with the state saved by the driver."""
    guest.run("echo devices >/sys/power/pm_test; echo mem >/sys/power/state").check()
    guest.run("echo none >/sys/power/pm_test").check()
    wait_carrier(guest)
    assert "suspend exit" in guest.dmesg()
    ping(guest)
    tcp_to_peer(guest, on_tap.peer)


def test_suspend_and_resume_under_the_newest_kernel():
    """Its virtio-serial port does not come back from this, whatever the network card is, and so the
    agent is silent afterwards. What the kernel and the command say on the console, and an answer to
    a ping from outside, tell that the NIC did."""
    require.taps()
    image = prepared(kernel="trixie-backports")
    with OnTap(replace(image, kernel=image.packed or image.kernel), "82544GC") as on_tap:
        guest = on_tap.guest
        guest.run("dmesg -n 7").check()
        asleep = "echo devices >/sys/power/pm_test; echo mem >/sys/power/state"
        guest.spawn(f"{asleep}; echo it returned $? >/dev/kmsg; ip link set eth0 up")
        eventually(lambda: "it returned" in guest.console(), guest.console, seconds=WAIT_S)
        assert "PM: suspend exit" in guest.console()
        assert "it returned 0" in guest.console()
        words = ["ping", "-c", "3", "-i", "0.2", "-w", str(int(WAIT_S)), GUEST]
        made = subprocess.run(
            ["ip", "netns", "exec", on_tap.peer.name, *words],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert made.returncode == 0, made.stdout
        assert not TROUBLE.search(guest.console())
        with on_tap.clock.lock:
            names = {event.name for event in on_tap.nic.misuse.events()}
        assert names <= {"tx-disabled", "rx-early"}


@on_parts((), ("82540EM",))
def test_a_magic_packet_wakes_the_machine_from_s3(on_tap, guest):
    """The whole machine sleeps, its processor is off, and PME# is all that is left."""
    guest.run("ethtool -s eth0 wol g").check()
    assert "[deep]" in guest.run("cat /sys/power/mem_sleep").check().stdout
    with monitor(on_tap.monitor) as qemu, waking(on_tap) as (said, causes):
        job = guest.spawn("echo mem >/sys/power/state")
        qemu.wait("SUSPEND")
        assert on_tap.registers("WUFC") == [reg("WUFC").mask("MAG")]
        on_tap.send([frame(MAC, n) for n in range(10)])
        assert not on_tap.woken.wait(0.3)
        on_tap.send([MAGIC_PACKET])
        assert on_tap.woken.wait(WAIT_S), "no PME#"
        assert causes == [reg("WUS").mask("MAG")]
        qemu.wait("WAKEUP")
        job.wait(WAIT_S).check()
    assert said == []
    assert "Waking up from system sleep state S3" in guest.dmesg()
    wait_carrier(guest)
    with on_tap.clock.lock:
        assert not on_tap.nic.wakeup.pme
    guest.run("ethtool -s eth0 wol d").check()
    ping(guest)
    tcp_to_peer(guest, on_tap.peer)
    tcp_from_peer(guest, on_tap.peer)
    on_tap.assert_no_trouble("rx-early")


def test_reboot(on_tap, guest):
    boots = guest.boots
    guest.reboot()
    assert guest.boots == boots + 1
    configure(guest)
    ping(guest)
    tcp_from_peer(guest, on_tap.peer)
    assert on_tap.server.clients == 1  # the same client all the time


def test_magic_packets_are_armed_at_shutdown(on_tap, guest):
    wakes = on_tap.model not in NO_WAKE_IN_LINUX
    if wakes:
        guest.run("ethtool -s eth0 wol g").check()
    guest.shutdown()
    wufc = on_tap.registers("WUFC")[0]
    assert wufc == reg("WUFC").mask("MAG")  # of a part without ethtool's wol as its EEPROM has it
