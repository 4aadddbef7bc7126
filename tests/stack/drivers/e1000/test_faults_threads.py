"""Hardware that fails while a thread of its own works it: our driver survives that too."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from e1000emu.clock import RealClock
from e1000emu.device.nic import Nic
from e1000emu.embed.vfio_user.beside import GuardedClock, start_thread
from e1000emu.insight.explain import reasons
from e1000emu.insight.faults import Faults
from e1000emu.links.handover import Handover, guard_port
from e1000emu.links.pair import pair
from fastpath.base.skbuff import skb_to_bytes
from fastpath.nic.datapath import NOTICE_CONTROL, DataPath
from fastpath.nic.irqblock import EventLine
from stack.core.dev import dev_close, dev_open
from stack.drivers.e1000.main import e1000_init_module
from stack.host import Host
from tests.stack.core.wire import heard
from tests.stack.drivers.e1000.machine import ETH_P_TEST, MAC_A, MAC_B, Machine, plug

MS = 1_000_000
WAIT_S = 120
"""Long enough for a machine with other work; no test waits this long for what comes."""

CASES: dict[str, tuple[Faults, dict[str, int]]] = {
    "interrupts late": (Faults(irq_late=0.5, irq_late_ns=5 * MS), {"irq_late": 5}),
    "interrupts lost": (Faults(irq_lost=0.1), {"irq_lost": 1}),
    "fifo overruns": (Faults(overrun=0.2), {"overrun": 10}),
    "late write-back": (Faults(writeback_ns=3 * MS), {"writeback": 10}),
    "aborts of sent descriptors": (
        Faults(abort=(("tx-descriptor", 5), ("tx-descriptor", 20))), {"abort tx-descriptor": 2}
    ),
    "aborts of sent data": (Faults(abort=(("tx-data", 20),)), {"abort tx-data": 1}),
    "aborts of receive descriptors": (
        Faults(abort=(("rx-descriptor", 5), ("rx-descriptor", 20))), {"abort rx-descriptor": 2}
    ),
    "aborts of received data": (Faults(abort=(("rx-data", 20),)), {"abort rx-data": 1}),
    "everything": (
        Faults(
            flap_ns=300 * MS, down_ns=20 * MS, phy_busy=0.1, irq_late=0.2, overrun=0.05,
            writeback_ns=MS, irq_lost=0.02,
            abort=(("tx-descriptor", 30), ("tx-data", 50), ("rx-descriptor", 30), ("rx-data", 50)),
        ),
        {"overrun": 2, "writeback": 10, "flap": 1},
    ),
}  # fmt: skip


class Beside:
    """The slot of a device with threads: each access holds its path, as the server's do."""

    def __init__(self, slot: Any, path: DataPath) -> None:
        self._slot = slot
        self._path = path

    def __getattr__(self, name: str) -> Any:
        fn = getattr(self._slot, name)
        if not callable(fn):
            return fn

        def held(*args: Any) -> Any:
            with self._path:
                return fn(*args)

        return held


class Threaded:
    """Our driver on a device that a thread works, and a machine on a clock at the cable's end."""

    def __init__(self, faults: Faults) -> None:
        self.clock = clock = RealClock()
        end_a, end_b = pair(clock)
        guarded = GuardedClock(clock)
        self.host = host = Host("a", clock=clock, inet=False, drivers=False)
        self.line, self.irq = EventLine(), host.irq_line(10)
        self.fd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self.line.attach(self.fd)
        self.link = Handover(end_a, clock=clock)
        self.nic = nic = Nic(
            memory=host.dma_table(), irq=self.line, link=self.link, clock=guarded, mac=MAC_A,
            autoneg_ns=0, faults=faults,
        )  # fmt: skip
        self.data = DataPath(nic.tx, nic.rx, nic.interrupts, self.link.lend())
        guarded.guard = self.data
        guard_port(self.link, self.data)
        with self.data:
            self.data.attach(self.line)
            nic.defer_doorbells()
        clock.add_reader(self.fd, self._interrupt)
        clock.add_reader(self.data.fileno(), self._notices)
        self.thread = start_thread(self.data.run, "faults data", None)
        e1000_init_module(host.machine)
        dev = host.pci_add(Beside(nic.slot, self.data), irq=10)
        assert dev is not None
        received = heard(host, ETH_P_TEST, skb_to_bytes)
        self.a = Machine(host, nic, dev, clock, end_a, received, [])  # type: ignore[arg-type]
        self.b = plug(clock, end_b, name="b", mac=MAC_B, autoneg_ns=0)
        with clock.lock:
            for machine in (self.a, self.b):
                assert dev_open(machine.dev) == 0
        self.until(self.works)

    def _interrupt(self) -> None:
        """The eventfd is readable: a pulse of the line, then the next one may come."""
        os.eventfd_read(self.fd)
        self.irq.set_level(True)
        self.irq.set_level(False)
        with self.data:
            self.line.let()

    def _notices(self) -> None:
        with self.data:
            what, tx_flags, rx_causes, _ = self.data.take_notices()
            self.nic.noticed(tx_flags, rx_causes, True)
            if what & NOTICE_CONTROL:
                self.data.receive_control()

    def run(self, ns: int = MS) -> None:
        with self.clock.lock:
            self.clock.run(timeout_ns=ns)

    def until(self, done: Callable[[], bool]) -> None:
        end = time.monotonic() + WAIT_S
        while not done():
            assert time.monotonic() < end, self.why()

    def why(self) -> Any:
        with self.clock.lock, self.data:
            faults = self.nic.faults
            return [r.text for r in reasons(self.nic)], faults and list(faults.log)[-20:]

    def exchange(self, payload: bytes) -> None:
        """A few packets each way, and a little time."""
        with self.clock.lock:
            for _ in range(3):
                self.a.send(b"to b" + payload, dst=MAC_B)
                self.b.send(b"to a" + payload, dst=MAC_A)
        self.run(2 * MS)

    def works(self) -> bool:
        """Whether packets cross both ways, now."""
        self.a.received.clear()
        self.b.received.clear()
        for _ in range(20):
            self.exchange(bytes(60))
        return any(f.startswith(b"to b") for f in self.b.received) and any(
            f.startswith(b"to a") for f in self.a.received
        )

    def injected(self) -> dict[str, int]:
        assert self.nic.faults is not None
        with self.clock.lock, self.data:
            return dict(self.nic.faults.counts)

    def change(self, faults: Faults) -> None:
        assert self.nic.faults is not None
        with self.clock.lock, self.data:
            self.nic.faults.change(faults)

    def close(self) -> None:
        with self.clock.lock:
            dev_close(self.a.dev)
            dev_close(self.b.dev)
        self.data.halt()
        self.thread.join()
        with self.clock.lock:
            with self.data:
                self.nic.halt()
            self.clock.remove_reader(self.fd)
            self.clock.remove_reader(self.data.fileno())
            self.data.close()
            os.close(self.fd)
        self.clock.close()


@contextmanager
def threaded(faults: Faults) -> Iterator[Threaded]:
    made = Threaded(faults)
    try:
        yield made
    finally:
        made.close()


@pytest.mark.parametrize("name", CASES)
def test_the_driver_survives(name: str) -> None:
    faults, wanted = CASES[name]
    with threaded(Faults()) as made:
        made.change(faults)

        def injected() -> bool:
            made.exchange(bytes(100))
            counts = made.injected()
            return all(counts.get(kind, 0) >= n for kind, n in wanted.items())

        made.until(injected)
        made.change(Faults())
        made.until(made.works)
        # as good as new: nothing that was wrong has stayed
        with made.clock.lock:
            dev_close(made.a.dev)
            assert dev_open(made.a.dev) == 0
        made.until(made.works)
