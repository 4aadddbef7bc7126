"""DPDK's testpmd in the guest: a driver that polls and gives each descriptor back at once.

It sends every frame back as it came. Debian's kernel and DPDK; the em driver of Intel's.
"""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from e1000emu.clock import RealClock
from e1000emu.guest import Extra, GuestImage, GuestLinux, VfioUserNic
from e1000emu.links import pair
from e1000emu.registers.regs import reg
from fastpath.base.batch import FrameBatch
from tests.guest.setup import MAC, offered, prepared, trouble
from tests.guest.tried import Tried
from tests.support import Rig, kept

pytestmark = pytest.mark.slow

DPDK = Extra(
    name="dpdk",
    package="dpdk-dev",
    more=("librte-net-e1000-25", "librte-mempool-ring25"),
    programs=("dpdk-testpmd",),
    libraries=("librte_net_e1000.so.25", "librte_mempool_ring.so.25"),
)
RCTL = reg("RCTL").offset
RCTL_EN = reg("RCTL").mask("EN")
ROUNDS, FRAMES = 20, 1000
DESCRIPTORS = 256
"""Of each ring."""
BUFFER_BYTES = 2048
PROBE = MAC + b"\x02" + bytes(5) + b"\x88\xb6" + bytes(46)
UNDER_WAY = 128
"""Descriptors' worth of frames: testpmd drops what finds its transmit ring full."""
WAIT_NS = 60_000_000_000
BIND = """
echo 64 >/proc/sys/vm/nr_hugepages
mkdir -p /dev/hugepages /var/run
busybox mount -t hugetlbfs none /dev/hugepages
echo 8086 100e >/sys/bus/pci/drivers/uio_pci_generic/new_id
ls /dev/uio0
mkfifo /run/endless
"""
# Two logical cores on one processor: the first only waits. What it reads never ends.
TESTPMD = (
    "dpdk-testpmd --lcores '0@0,1@0' -m 96 --iova-mode=pa --no-telemetry "
    "-d librte_net_e1000.so.25 -d librte_mempool_ring.so.25 -- "
    f"--forward-mode=io --port-topology=loop --rxd={DESCRIPTORS} --txd={DESCRIPTORS} "
    "--burst=32 --max-pkt-len=9018 --enable-scatter --tx-offloads=0x8000 --mbuf-size=2176 "
    "--total-num-mbufs=4096 --no-lsc-interrupt --no-flush-rx "
    "<>/run/endless"
)


class Mirror:
    """The far end of the cable: sends frames and takes back what comes."""

    def __init__(self, end: Any, clock: RealClock) -> None:
        self.end = end
        self.clock = clock
        self.got: list[bytes] = []
        self.answered = False
        end.attach(self)

    def receive(self, batch: FrameBatch, start: int, hold: bool) -> int:
        frames = [bytes(batch[i]) for i in range(start, len(batch))]
        self.answered |= PROBE in frames
        self.got += [frame for frame in frames if frame != PROBE]
        self.clock.wake()
        return len(batch)

    def link_changed(self, up: bool, speed_mbps: int, full_duplex: bool) -> None:
        """The test waits for testpmd, not for the link."""

    def tx_ready(self) -> None:
        self.clock.wake()

    def answers(self) -> bool:
        """Whether a frame comes back within a second."""
        with self.clock.lock:
            self.end.transmit(FrameBatch([PROBE]))
            return self.clock.wait(lambda: self.answered, 1_000_000_000)

    def echo(self, frames: list[bytes]) -> list[bytes]:
        """Send `frames`, never many at once, and return what came back of them."""
        descriptors = -(-len(frames[0]) // BUFFER_BYTES)
        window = UNDER_WAY // descriptors
        with self.clock.lock:
            self.got.clear()
            sent = 0
            while len(self.got) < len(frames):
                count = min(window - (sent - len(self.got)), self.end.tx_room())
                if count > 0 and sent < len(frames):
                    self.end.transmit(FrameBatch(frames[sent : sent + count]))
                    sent += min(count, len(frames) - sent)
                    continue
                seen = len(self.got)
                if not self.clock.wait(lambda seen=seen: len(self.got) > seen, WAIT_NS):
                    break  # lost, or the ring stands still
            return list(self.got)


class OnTestpmd(Rig):
    """`guest` runs testpmd on our NIC, whose cable ends at `mirror`."""

    def __init__(self, image: GuestImage, directory: Path, shared: bool) -> None:
        with ExitStack() as stack:
            self.clock = kept(stack, RealClock())
            cable, end = pair(self.clock)
            self.mirror = Mirror(end, self.clock)
            self.said: list[str] = []
            self.server = stack.enter_context(
                offered(
                    directory / "nic", cable, self.clock, report=self.said.append, threads=shared
                )
            )
            self.guest = GuestLinux(
                image,
                nic=VfioUserNic(self.server.path),
                modules=("uio_pci_generic",),
                shared_memory=shared,
            )
            stack.callback(self.guest.close)
            self.guest.run(BIND).check()
            self.job = self.guest.spawn(TESTPMD)
            self._wait_ready()
            self._stack = stack.pop_all()

    def _wait_ready(self) -> None:
        """Until frames come back: a port that runs may still set up its link anew."""
        deadline = time.monotonic_ns() + WAIT_NS
        nic = self.server.nic
        while True:
            with self.clock.lock:
                runs = nic.link_up and nic.regs.peek(RCTL) & RCTL_EN and nic.rx.engine.tail
            if runs and self.mirror.answers():
                return
            assert self.job.completed is None, self.job.completed.stdout
            assert time.monotonic_ns() < deadline, self.job.output().decode()
            time.sleep(0.2)


@pytest.fixture(scope="module")
def dpdk_image() -> GuestImage:
    """The usual image with testpmd in it."""
    return prepared(extra=DPDK)


@pytest.fixture(scope="module", params=[True, False], ids=["shared", "messages"])
def testpmd(
    dpdk_image: GuestImage, tmp_path_factory: pytest.TempPathFactory, request: Any
) -> Iterator[OnTestpmd]:
    with OnTestpmd(dpdk_image, tmp_path_factory.mktemp("dpdk"), request.param) as made:
        yield made


@pytest.mark.parametrize("size", [60, 1514, 2052, 9000])
def test_every_frame_comes_back_as_it_went(
    testpmd: OnTestpmd, dpdk_image: GuestImage, size: int, tried: Tried
) -> None:
    # Testpmd's filter is promiscuous. Each frame differs from all others, throughout.
    for number in range(ROUNDS):
        noise = random.Random(size * ROUNDS + number).randbytes(size + FRAMES)
        frames = [
            MAC + b"\x02" + bytes(5) + b"\x88\xb5" + i.to_bytes(2, "big") + noise[i : i + size - 16]
            for i in range(FRAMES)
        ]
        back = testpmd.mirror.echo(frames)
        wrong = [i for i, (a, b) in enumerate(zip(frames, back, strict=False)) if a != b]
        assert (number, len(back), wrong[:5]) == (number, FRAMES, [])
    assert testpmd.job.completed is None
    assert trouble(testpmd.guest) == []
    assert testpmd.server.counters()["dma_errors"] == 0
    assert testpmd.server.memory.table.aborts == 0
    (version,) = (p.partition("=")[2] for p in dpdk_image.packages if p.startswith(DPDK.more[0]))
    what = f"testpmd: {ROUNDS * FRAMES} frames of {size} bytes, back unchanged"
    tried("DPDK net_e1000_em", version, "amd64", "82540EM", what)
