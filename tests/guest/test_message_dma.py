"""A guest whose RAM QEMU does not share: all DMA goes by messages of vfio-user."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from e1000emu.clock import RealClock
from e1000emu.guest import GuestImage, GuestLinux, VfioUserNic
from e1000emu.links import Tap
from tests.guest.setup import (
    all_traffic,
    configure,
    offered,
    ping,
    self_test,
    trouble,
    wait_carrier,
)
from tests.linux.peer import Peer
from tests.support import Rig, kept, require

pytestmark = [pytest.mark.netns, pytest.mark.slow]


class Plain(Rig):
    """`guest` runs without a memory backend, its NIC in front of a TAP of the namespace `peer`."""

    def __init__(self, image: GuestImage, directory: Path) -> None:
        with ExitStack() as stack:
            self.peer = kept(stack, Peer())
            self.clock = kept(stack, RealClock())
            tap = kept(stack, Tap(self.peer.tap_name, self.clock))
            self.peer.adopt(tap.name)
            self.said: list[str] = []
            self.server = stack.enter_context(
                offered(directory / "nic", tap, self.clock, report=self.said.append)
            )
            self.guest = GuestLinux(image, nic=VfioUserNic(directory / "nic"), shared_memory=False)
            stack.callback(self.guest.close)
            configure(self.guest)
            self._stack = stack.pop_all()


@pytest.fixture(scope="module")
def plain(image: GuestImage, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Plain]:
    require.taps()
    with Plain(image, tmp_path_factory.mktemp("plain")) as made:
        yield made


@pytest.fixture(autouse=True)
def no_trouble(plain: Plain) -> Iterator[None]:
    """After each test the guest's log is clean, and QEMU has refused no DMA."""
    yield
    assert trouble(plain.guest) == []
    assert plain.server.counters()["dma_errors"] == 0
    assert plain.guest.qemu_messages() == ""


def test_no_memory_is_shared_and_the_user_is_told(plain: Plain) -> None:
    assert plain.server.memory.mapped_bytes == 0
    assert plain.server.memory.message_bytes > 500 << 20
    assert sum("without a file descriptor" in line for line in plain.said) == 1
    ping(plain.guest)
    assert plain.server.counters()["dma_reads"] > 0
    assert plain.server.counters()["dma_writes"] > 0


def test_content_arrives_whole_both_ways(plain: Plain) -> None:
    all_traffic(plain.guest, plain.peer)


def test_self_test(plain: Plain) -> None:
    self_test(plain.guest)
    wait_carrier(plain.guest)
    all_traffic(plain.guest, plain.peer)


def test_down_and_up_under_traffic(plain: Plain) -> None:
    guest = plain.guest
    job = guest.spawn("ping -f -w 8 10.9.0.1")
    for _ in range(5):
        guest.run("ip link set eth0 down; ip link set eth0 up").check()
        wait_carrier(guest)
    job.wait()
    all_traffic(guest, plain.peer)


def test_reboot(plain: Plain) -> None:
    plain.guest.reboot()
    configure(plain.guest)
    all_traffic(plain.guest, plain.peer)
