"""The PCI layer against a slot made here: sizing, binding, capabilities, delays."""

from __future__ import annotations

import errno

import pytest

from e1000emu.clock import VirtualClock
from stack.core import pci
from stack.core.workqueue import (
    cancel_delayed_work,
    mod_delayed_work,
    msleep,
    schedule_delayed_work,
    schedule_work,
    usleep_range,
    work_struct,
)
from stack.host import Host


class FakeSlot:
    """A device with a 128 KiB memory BAR, a 64-bit one, an 8-byte I/O BAR and a PM capability."""

    def __init__(self, vendor: int = 0x8086, device: int = 0x1234, *, loop: bool = False) -> None:
        self.config = bytearray(256)
        self.put(0x00, vendor, 2)
        self.put(0x02, device, 2)
        self.put(0x06, pci.PCI_STATUS_CAP_LIST, 2)
        self.put(0x34, 0x40, 1)
        self.put(0x40, 0x99, 1)
        self.put(0x41, 0x48 if not loop else 0x40, 1)
        self.put(0x48, pci.PCI_CAP_ID_PM, 1)
        self.put(0x4C, pci.PCI_D3hot, 2)
        self.masks = {0x10: 0xFFFE_0000, 0x14: 0xFFFF_C000, 0x18: 0xFFFF_FFFF, 0x1C: 0xFFFF_FFF8}
        self.fixed = {0x14: 0x4, 0x1C: 0x1}

    def put(self, off: int, value: int, size: int) -> None:
        self.config[off : off + size] = value.to_bytes(size, "little")

    def config_read(self, off: int, size: int) -> int:
        return int.from_bytes(self.config[off : off + size], "little")

    def config_write(self, off: int, value: int, size: int) -> None:
        if 0x10 <= off < 0x28:
            value = value & self.masks.get(off, 0) | self.fixed.get(off, 0)
        self.put(off, value & (1 << 8 * size) - 1, size)

    def bar_read(self, bar: int, off: int, size: int) -> int:
        return 0

    def bar_write(self, bar: int, off: int, value: int, size: int) -> None:
        return None

    def bar_size(self, bar: int) -> int:
        return 0


@pytest.fixture
def host() -> Host:
    return Host("h", clock=VirtualClock(), inet=False, drivers=False)


def driver(calls: list[str], fail: bool = False) -> pci.pci_driver:
    def probe(pdev: pci.pci_dev, ent: pci.pci_device_id) -> None:
        calls.append(f"probe {pdev.device:x} {ent.driver_data}")
        if fail:
            raise OSError(errno.EIO, "broken")

    def remove(pdev: pci.pci_dev) -> None:
        calls.append(f"remove {pdev.device:x}")

    table = (pci.pci_device_id(0x8086, 0x1234, driver_data=7),)
    return pci.pci_driver("test", table, probe, remove)


def test_bars_are_sized_and_placed(host: Host) -> None:
    slot = FakeSlot()
    pdev = pci.pci_device_add(host.machine, slot, irq=5)
    assert [res.size for res in pdev.resource] == [0x20000, 0x4000, 0, 8, 0, 0]
    assert pdev.resource[0].flags == pci.IORESOURCE_MEM
    assert pdev.resource[1].flags == pci.IORESOURCE_MEM | pci.IORESOURCE_MEM_64
    assert pdev.resource[3].flags == pci.IORESOURCE_IO
    assert slot.config_read(0x10, 4) == pdev.resource[0].start
    assert slot.config_read(0x1C, 4) == pdev.resource[3].start | 1
    assert slot.config_read(0x3C, 1) == 5
    assert pci.pci_select_bars(pdev, pci.IORESOURCE_IO) == 0b1000
    other = pci.pci_device_add(host.machine, FakeSlot(), irq=6)
    assert other.resource[0].start >= pdev.resource[0].start + 0x20000
    assert other.name != pdev.name


def test_empty_slot_is_enodev(host: Host) -> None:
    with pytest.raises(OSError, match="no device"):
        pci.pci_device_add(host.machine, FakeSlot(vendor=0xFFFF), irq=5)


@pytest.mark.parametrize("driver_first", [True, False])
def test_driver_before_device_and_device_before_driver(host: Host, driver_first: bool) -> None:
    calls: list[str] = []
    module = driver(calls)
    if driver_first:
        pci.pci_register_driver(host.machine, module)
    pdev = pci.pci_device_add(host.machine, FakeSlot(), irq=5)
    pci.pci_device_add(host.machine, FakeSlot(device=0x9999), irq=6)
    if not driver_first:
        pci.pci_register_driver(host.machine, module)
    assert calls == ["probe 1234 7"]
    assert pdev.driver is module
    pci.pci_unregister_driver(host.machine, module)
    assert calls == ["probe 1234 7", "remove 1234"]
    assert pdev.driver is None


def test_registering_twice_is_ebusy(host: Host) -> None:
    module = driver([])
    pci.pci_register_driver(host.machine, module)
    with pytest.raises(OSError, match="registered already"):
        pci.pci_register_driver(host.machine, module)


def test_failed_probe_leaves_the_device_unbound(host: Host) -> None:
    pci.pci_register_driver(host.machine, driver([], fail=True))
    with pytest.raises(OSError, match="broken"):
        pci.pci_device_add(host.machine, FakeSlot(), irq=5)
    assert host.machine.pci.devices[0].driver is None


def test_unplugged_device_is_removed_from_its_driver(host: Host) -> None:
    calls: list[str] = []
    pci.pci_register_driver(host.machine, driver(calls))
    pdev = pci.pci_device_add(host.machine, FakeSlot(), irq=5)
    pci.pci_stop_and_remove_bus_device(pdev)
    assert calls[-1] == "remove 1234"
    assert host.machine.pci.devices == []


def test_capabilities_are_found_and_a_looping_list_ends(host: Host) -> None:
    pdev = pci.pci_device_add(host.machine, FakeSlot(), irq=5)
    assert pci.pci_find_capability(pdev, pci.PCI_CAP_ID_PM) == 0x48
    assert pci.pci_find_capability(pdev, pci.PCI_CAP_ID_MSI) == 0
    looping = pci.pci_device_add(host.machine, FakeSlot(loop=True), irq=5)
    assert pci.pci_find_capability(looping, pci.PCI_CAP_ID_PM) == 0


def test_enabling_wakes_the_device_and_counts_users(host: Host) -> None:
    slot = FakeSlot()
    pdev = pci.pci_device_add(host.machine, slot, irq=5)
    pci.pci_enable_device(pdev)
    pci.pci_enable_device_mem(pdev)
    pci.pci_set_master(pdev)
    assert slot.config_read(0x4C, 2) & 3 == pci.PCI_D0
    assert slot.config_read(4, 2) & 7 == 7
    pci.pci_disable_device(pdev)
    assert slot.config_read(4, 2) & pci.PCI_COMMAND_MASTER
    pci.pci_disable_device(pdev)
    assert not slot.config_read(4, 2) & pci.PCI_COMMAND_MASTER


def test_wake_bits_and_saved_state(host: Host) -> None:
    slot = FakeSlot()
    pdev = pci.pci_device_add(host.machine, slot, irq=5)
    pci.pci_enable_wake(pdev, pci.PCI_D3hot, True)
    assert slot.config_read(0x4C, 2) & pci.PCI_PM_CTRL_PME_ENABLE
    pci.pci_save_state(pdev)
    before = bytes(slot.config[:64])
    slot.config[4:64] = bytes(60)
    pci.pci_restore_state(pdev)
    assert bytes(slot.config[4:6]) == before[4:6]
    assert bytes(slot.config[16:40]) == before[16:40]
    pci.pci_restore_state(pdev)  # nothing saved: nothing done


def test_regions_are_claimed_once(host: Host) -> None:
    pdev = pci.pci_device_add(host.machine, FakeSlot(), irq=5)
    pci.pci_request_selected_regions(pdev, 0b1001, "a")
    with pytest.raises(OSError, match="in use"):
        pci.pci_request_selected_regions(pdev, 0b0001, "b")
    pci.pci_release_selected_regions(pdev, 0b1001)
    pci.pci_request_selected_regions(pdev, 0b0001, "b")


def test_delays_pass_on_the_hosts_clock(host: Host) -> None:
    msleep(host.machine, 10)
    usleep_range(host.machine, 500, 900)
    assert host.now() == 10_500_000
    for _ in range(9):
        pci.udelay(host.machine, 50)
    assert host.now() == 10_500_000
    pci.udelay(host.machine, 50)
    assert host.now() == 11_000_000
    pci.udelay(host.machine, 3)
    pci.flush_udelay(host.machine)
    assert host.now() == 11_003_000


def test_sleeping_lets_events_run(host: Host) -> None:
    seen: list[int] = []
    host.clock.call_at(5_000_000, lambda: seen.append(host.now()))
    msleep(host.machine, 10)
    assert seen == [5_000_000]


def test_work_runs_once_and_can_be_queued_again(host: Host) -> None:
    ran: list[int] = []
    work = work_struct(host.machine, lambda: ran.append(host.now()))
    assert schedule_work(work)
    assert not schedule_work(work)
    host.clock.run_for(0)
    assert ran == [0]
    assert schedule_delayed_work(work, 1000)
    host.clock.run_for(2000)
    assert ran == [0, 1000]


def test_cancelled_and_moved_work(host: Host) -> None:
    ran: list[int] = []
    work = work_struct(host.machine, lambda: ran.append(host.now()))
    schedule_delayed_work(work, 1000)
    assert cancel_delayed_work(work)
    assert not cancel_delayed_work(work)
    host.clock.run_for(5000)
    assert ran == []
    schedule_work(work)
    cancel_delayed_work(work)
    host.clock.run_for(5000)
    assert ran == []
    schedule_delayed_work(work, 1_000_000)
    assert mod_delayed_work(work, 10)
    host.clock.run_for(2_000_000)
    assert ran == [10_010]


def test_work_queued_anew_does_not_run_at_its_old_time(host: Host) -> None:
    ran: list[int] = []
    work = work_struct(host.machine, lambda: ran.append(host.now()))
    schedule_work(work)
    cancel_delayed_work(work)
    schedule_delayed_work(work, 1000)
    host.clock.run_for(500)
    assert ran == []
    host.clock.run_for(1000)
    assert ran == [1000]


def test_work_at_once_runs_before_the_clock_is_idle(host: Host) -> None:
    ran: list[int] = []
    work = work_struct(host.machine, lambda: ran.append(1))
    mod_delayed_work(work, 0)
    host.clock.run_until_idle()
    assert ran == [1]
