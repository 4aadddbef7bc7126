"""Hardware that fails: our driver survives it, or hangs for a reason that the device tells."""

from __future__ import annotations

import errno

import pytest

from e1000emu.clock import VirtualClock
from e1000emu.insight.explain import reasons
from e1000emu.insight.faults import Faults
from e1000emu.links.pair import pair
from stack.core.dev import dev_close, dev_open, dev_set_mac_address
from stack.core.pci import pci_stop_and_remove_bus_device
from tests.stack.drivers.e1000.machine import MAC_A, MAC_B, MILLISECOND, SECOND, Machine, plug

CASES: dict[str, Faults] = {
    "link flaps": Faults(flap_ns=5 * SECOND, down_ns=300 * MILLISECOND),
    "phy late": Faults(phy_busy=0.3, phy_busy_ns=MILLISECOND),
    "interrupts late": Faults(irq_late=0.5, irq_late_ns=5 * MILLISECOND),
    "interrupts lost": Faults(irq_lost=0.2),
    "fifo overruns": Faults(overrun=0.2),
    "late write-back": Faults(writeback_ns=3 * MILLISECOND),
    "resets": Faults(reset_ns=9 * SECOND),
    "abort of a sent descriptor": Faults(abort=(("tx-descriptor", 20),)),
    "abort of sent data": Faults(abort=(("tx-data", 20),)),
    "abort of a receive descriptor": Faults(abort=(("rx-descriptor", 20),)),
    "abort of received data": Faults(abort=(("rx-data", 20),)),
    "everything": Faults(
        flap_ns=20 * SECOND, phy_busy=0.1, irq_lost=0.02, irq_late=0.2, overrun=0.05,
        writeback_ns=MILLISECOND, reset_ns=25 * SECOND,
        abort=(("tx-descriptor", 30), ("tx-data", 50), ("rx-descriptor", 30), ("rx-data", 50)),
    ),
}  # fmt: skip
NEEDS_TRAFFIC = ("interrupts lost", "resets", "everything")
"""After these nothing tells the driver: only packets that stay in its ring do (tx_timeout)."""


def cable(faults: Faults) -> tuple[Machine, Machine]:
    """Two machines on a cable; the hardware of the first fails. Both are up, without a wait."""
    clock = VirtualClock()
    end_a, end_b = pair(clock)
    a = plug(clock, end_a, name="a", mac=MAC_A, faults=faults)
    b = plug(clock, end_b, name="b", mac=MAC_B)
    for machine in (a, b):
        assert dev_open(machine.dev) == 0
    clock.run_for(4 * SECOND)
    return a, b


def traffic(a: Machine, b: Machine, seconds: int, every_ns: int = 50 * MILLISECOND) -> None:
    for n in range(seconds * SECOND // every_ns):
        a.send(n.to_bytes(4, "big") + bytes(100), dst=MAC_B)
        b.send(n.to_bytes(4, "big") + bytes(100), dst=MAC_A)
        a.run(every_ns)


def works(a: Machine, b: Machine) -> bool:
    """Whether frames cross both ways, now."""
    a.received.clear()
    b.received.clear()
    a.run(SECOND)
    a.send(b"to b" * 20, dst=MAC_B)
    b.send(b"to a" * 20, dst=MAC_A)
    a.run(SECOND)
    return any(f.startswith(b"to b") for f in b.received) and any(
        f.startswith(b"to a") for f in a.received
    )


@pytest.mark.parametrize("seed", [1, 2, 3])
@pytest.mark.parametrize("name", CASES)
def test_the_driver_survives(name: str, seed: int) -> None:
    faults = CASES[name]
    a, b = cable(Faults(**{f: getattr(faults, f) for f in faults.__slots__} | {"seed": seed}))
    traffic(a, b, 60)
    injector = a.nic.faults
    assert injector is not None
    assert injector.counts, "nothing was injected"
    injector.stop()
    if name in NEEDS_TRAFFIC and not works(a, b):
        traffic(a, b, 60, every_ns=100 * MILLISECOND)
    a.run(10 * SECOND)
    assert works(a, b), (injector.log, [r.text for r in reasons(a.nic)])
    empty = a.host.ram.allocated_bytes
    dev_close(a.dev)
    assert dev_open(a.dev) == 0
    assert a.host.wait_carrier("eth0")
    assert a.host.ram.allocated_bytes == empty
    assert works(a, b)


def test_a_run_with_faults_is_the_same_each_time() -> None:
    runs = []
    for seed in (5, 5, 6):
        faults = CASES["everything"]
        a, b = cable(Faults(**{f: getattr(faults, f) for f in faults.__slots__} | {"seed": seed}))
        traffic(a, b, 20)
        assert a.nic.faults is not None
        runs.append((list(a.nic.faults.log), b.received, a.received, a.nic.state()))
    assert runs[0] == runs[1]
    assert runs[0] != runs[2]


def test_a_phy_that_never_answers_is_eio_and_can_be_tried_again() -> None:
    clock = VirtualClock()
    end_a, end_b = pair(clock)
    a = plug(clock, end_a, mac=MAC_A, faults=Faults(phy_busy=1.0, phy_busy_ns=3600 * SECOND))
    b = plug(clock, end_b, name="b", mac=MAC_B)
    assert a.adapter.hw_errors > 0
    assert dev_open(a.dev) == -errno.EIO
    assert a.nic.faults is not None
    a.nic.faults.stop()
    for machine in (a, b):
        assert dev_open(machine.dev) == 0
        assert machine.host.wait_carrier(machine.dev.name)
    assert works(a, b)


def test_an_eeprom_with_a_wrong_bit_is_said_and_an_address_mends_it() -> None:
    clock = VirtualClock()
    end_a, end_b = pair(clock)
    a = plug(clock, end_a, name="a", mac=MAC_A, faults=Faults(eeprom_bits=1, seed=3))
    b = plug(clock, end_b, name="b", mac=MAC_B)
    assert any("EEPROM: words 0 to 3F sum to" in line for line in a.nic.explain())
    assert a.dev.dev_addr == bytes(6)
    assert dev_open(a.dev) < 0
    assert dev_set_mac_address(a.dev, MAC_A) == 0
    for machine in (a, b):
        assert dev_open(machine.dev) == 0
        assert machine.host.wait_carrier("eth0")
    assert works(a, b)


def test_a_device_that_is_pulled_out_can_be_removed() -> None:
    a, b = cable(Faults(remove_ns=10 * SECOND))
    traffic(a, b, 30)
    assert a.nic.slot.bar_read(0, 8, 4) == 0xFFFFFFFF
    assert a.nic.slot.config_read(0, 4) == 0xFFFFFFFF
    assert a.nic.explain()[0].startswith("The device is gone from its slot")
    before = a.host.ram.allocated_bytes
    pci_stop_and_remove_bus_device(a.pdev)
    assert "eth0" not in a.host.dev_by_name
    assert a.host.ram.allocated_bytes < before
    assert a.buffers_in_use() == 0
