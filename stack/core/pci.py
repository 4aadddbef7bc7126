"""PCI as a driver sees it (drivers/pci): devices, drivers, BARs, configuration space, delays.

A driver reaches its device only through a *slot*: an object with ``config_read``,
``config_write``, ``bar_read``, ``bar_write`` and ``bar_size``. An emulated NIC is one; an adapter
to another emulator may be another.
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from stack.core.errors import os_error
from stack.core.rows import row, state
from stack.core.time64 import NSEC_PER_USEC
from stack.core.workqueue import UDELAY_DEBT_NS, msleep, sleep_ns

if TYPE_CHECKING:
    from stack.machine import Machine


PCI_ANY_ID = 0xFFFF_FFFF

# linux/pci_regs.h
PCI_VENDOR_ID = 0x00
PCI_DEVICE_ID = 0x02
PCI_COMMAND = 0x04
PCI_COMMAND_IO = 0x1
PCI_COMMAND_MEMORY = 0x2
PCI_COMMAND_MASTER = 0x4
PCI_COMMAND_INTX_DISABLE = 0x400
PCI_STATUS = 0x06
PCI_STATUS_CAP_LIST = 0x10
PCI_REVISION_ID = 0x08
PCI_BASE_ADDRESS_0 = 0x10
PCI_SUBSYSTEM_VENDOR_ID = 0x2C
PCI_SUBSYSTEM_ID = 0x2E
PCI_CAPABILITY_LIST = 0x34
PCI_INTERRUPT_LINE = 0x3C
PCI_CAP_ID_PM = 0x01
PCI_CAP_ID_MSI = 0x05
PCI_PM_CTRL = 4
PCI_PM_CTRL_STATE_MASK = 0x3
PCI_PM_CTRL_PME_ENABLE = 0x100
PCI_PM_CTRL_PME_STATUS = 0x8000

PCI_STD_NUM_BARS = 6
IORESOURCE_IO = 0x100
IORESOURCE_MEM = 0x200
IORESOURCE_MEM_64 = 0x10_0000

PCI_D0 = 0
PCI_D3hot = 3

MMIO_WINDOW = 0xFEB0_0000
"""The bus address of memory BARs. Any works, since accesses name the BAR and an offset."""
IO_WINDOW = 0xC000


class PciSlot(Protocol):
    """The interface of a device to the bus."""

    def config_read(self, off: int, size: int) -> int: ...

    def config_write(self, off: int, value: int, size: int) -> None: ...

    def bar_read(self, bar: int, off: int, size: int) -> int: ...

    def bar_write(self, bar: int, off: int, value: int, size: int) -> None: ...

    def bar_size(self, bar: int) -> int: ...


@dataclass(frozen=True, slots=True)
class pci_device_id:
    """One row of a driver's id table (linux/mod_devicetable.h)."""

    vendor: int
    device: int
    subvendor: int = PCI_ANY_ID
    subdevice: int = PCI_ANY_ID
    driver_data: int = 0


@dataclass(slots=True)
class resource:
    """One BAR: bus address, bytes and IORESOURCE_* (linux/ioport.h). Size 0: no such BAR."""

    start: int = 0
    size: int = 0
    flags: int = 0


@dataclass(slots=True)
class pci_driver:
    """A driver's entry points (linux/pci.h).

    `probe(pdev, ent)` returns None or raises ``OSError``; `remove(pdev)` undoes it.
    """

    name: str
    id_table: Sequence[pci_device_id]
    probe: Callable[[pci_dev, pci_device_id], None]
    remove: Callable[[pci_dev], None]
    shutdown: Callable[[pci_dev], None] | None = None
    suspend: Callable[[pci_dev], None] | None = None
    resume: Callable[[pci_dev], None] | None = None
    params: Any = None  # the module's parameters


@state
class pci_bus:
    """The one bus of a host: its devices and drivers (pci_bus_type)."""

    devices: list[pci_dev] = row(make=list)
    drivers: list[pci_driver] = row(make=list)
    next_mmio: int = row(MMIO_WINDOW)
    next_io: int = row(IO_WINDOW)
    udelay_debt_ns: int = row(0)


@state
class pci_dev:
    """A device on the bus (linux/pci.h). ``bar_read``/``bar_write`` are the slot's own.

    A new one has the ids of the device behind `slot`; its BARs are not set up yet.
    """

    machine: Machine
    slot: PciSlot
    irq: int
    devfn: int
    bar_read: Callable[[int, int, int], int] = row(of=lambda pdev: pdev.slot.bar_read)
    bar_write: Callable[[int, int, int, int], None] = row(of=lambda pdev: pdev.slot.bar_write)
    vendor: int = row(of=lambda pdev: pdev.slot.config_read(PCI_VENDOR_ID, 2))
    device: int = row(of=lambda pdev: pdev.slot.config_read(PCI_DEVICE_ID, 2))
    revision: int = row(of=lambda pdev: pdev.slot.config_read(PCI_REVISION_ID, 1))
    subsystem_vendor: int = row(of=lambda pdev: pdev.slot.config_read(PCI_SUBSYSTEM_VENDOR_ID, 2))
    subsystem_device: int = row(of=lambda pdev: pdev.slot.config_read(PCI_SUBSYSTEM_ID, 2))
    resource: list[resource] = row(make=lambda: [resource() for _ in range(PCI_STD_NUM_BARS)])
    regions: set[int] = row(make=set)
    driver: pci_driver | None = row()
    driver_data: Any = row()
    enable_cnt: int = row(0)
    saved_config: list[int] | None = row()

    @property
    def name(self) -> str:
        """The device's address as ``lspci`` prints it."""
        return f"0000:00:{self.devfn >> 3:02x}.{self.devfn & 7}"

    def __repr__(self) -> str:
        return f"pci_dev({self.name} [{self.vendor:04x}:{self.device:04x}] irq {self.irq})"


# -- enumeration -----------------------------------------------------------------------------------


def pci_device_add(machine: Machine, slot: PciSlot, *, irq: int) -> pci_dev:
    """drivers/pci/probe.c: enumerate the device behind `slot`, place its BARs, bind a driver.

    Returns the device, bound or not (``pdev.driver``).

    Raises: OSError: ENODEV when nothing answers; whatever the driver's probe raises.
    """
    bus = machine.pci
    if slot.config_read(PCI_VENDOR_ID, 2) in (0, 0xFFFF):
        raise os_error(errno.ENODEV, "pci: no device answers in this slot")
    pdev = pci_dev(machine, slot, irq, devfn=(3 + len(bus.devices)) << 3)
    pci_read_bases(pdev)
    pci_assign_resources(pdev)
    pci_write_config_byte(pdev, PCI_INTERRUPT_LINE, irq & 0xFF)
    bus.devices.append(pdev)
    for driver in bus.drivers:
        if pci_bus_add_device(pdev, driver):
            break
    return pdev


def pci_stop_and_remove_bus_device(pdev: pci_dev) -> None:
    """drivers/pci/remove.c: unbind the driver and take the device off the bus (hot unplug)."""
    _unbind(pdev)
    pdev.machine.pci.devices.remove(pdev)


def pci_read_bases(pdev: pci_dev) -> None:
    """drivers/pci/probe.c: size each BAR by writing all ones and reading back."""
    index = 0
    while index < PCI_STD_NUM_BARS:
        where = PCI_BASE_ADDRESS_0 + 4 * index
        old = pci_read_config_dword(pdev, where)
        pci_write_config_dword(pdev, where, 0xFFFF_FFFF)
        probed = pci_read_config_dword(pdev, where)
        pci_write_config_dword(pdev, where, old)
        step = 1
        if probed not in (0, 0xFFFF_FFFF):
            res = pdev.resource[index]
            if probed & 1:
                res.flags = IORESOURCE_IO
                res.size = (~(probed & ~0x3 | 0xFFFF_0000) & 0xFFFF_FFFF) + 1
            else:
                res.flags = IORESOURCE_MEM
                res.size = (~(probed & ~0xF) & 0xFFFF_FFFF) + 1
                if probed & 0x6 == 0x4:
                    res.flags |= IORESOURCE_MEM_64
                    step = 2
        index += step


def pci_assign_resources(pdev: pci_dev) -> None:
    """drivers/pci/setup-res.c: give every BAR an address and write it."""
    bus = pdev.machine.pci
    for index, res in enumerate(pdev.resource):
        if not res.size:
            continue
        if res.flags & IORESOURCE_IO:
            res.start = -(-bus.next_io // res.size) * res.size
            bus.next_io = res.start + res.size
        else:
            res.start = -(-bus.next_mmio // res.size) * res.size
            bus.next_mmio = res.start + res.size
        pci_write_config_dword(pdev, PCI_BASE_ADDRESS_0 + 4 * index, res.start)
        if res.flags & IORESOURCE_MEM_64:
            pci_write_config_dword(pdev, PCI_BASE_ADDRESS_0 + 4 * index + 4, res.start >> 32)


def pci_match_id(ids: Sequence[pci_device_id], pdev: pci_dev) -> pci_device_id | None:
    """drivers/pci/pci-driver.c: find the row of `ids` that fits the device."""
    for ent in ids:
        if (
            ent.vendor in (PCI_ANY_ID, pdev.vendor)
            and ent.device in (PCI_ANY_ID, pdev.device)
            and ent.subvendor in (PCI_ANY_ID, pdev.subsystem_vendor)
            and ent.subdevice in (PCI_ANY_ID, pdev.subsystem_device)
        ):
            return ent
    return None


def pci_bus_add_device(pdev: pci_dev, driver: pci_driver) -> bool:
    """Bind `driver` to `pdev` when its id table has it: probe is called (drivers/base/dd.c)."""
    if pdev.driver is not None:
        return False
    ent = pci_match_id(driver.id_table, pdev)
    if ent is None:
        return False
    pdev.driver = driver
    try:
        driver.probe(pdev, ent)
    except BaseException:
        pdev.driver = None
        raise
    return True


def pci_register_driver(machine: Machine, driver: pci_driver) -> None:
    """drivers/pci/pci-driver.c __pci_register_driver: probe every device that the driver knows."""
    bus = machine.pci
    if driver in bus.drivers:
        raise os_error(errno.EBUSY, f"pci: driver {driver.name!r} is registered already")
    bus.drivers.append(driver)
    for pdev in list(bus.devices):
        pci_bus_add_device(pdev, driver)


def pci_unregister_driver(machine: Machine, driver: pci_driver) -> None:
    """drivers/pci/pci-driver.c: remove the driver from its devices and forget it."""
    bus = machine.pci
    for pdev in list(bus.devices):
        if pdev.driver is driver:
            _unbind(pdev)
    bus.drivers.remove(driver)


def _unbind(pdev: pci_dev) -> None:
    if pdev.driver is not None:
        pdev.driver.remove(pdev)
        pdev.driver = None


def pci_set_drvdata(pdev: pci_dev, data: Any) -> None:
    """linux/pci.h."""
    pdev.driver_data = data


def pci_get_drvdata(pdev: pci_dev) -> Any:
    """linux/pci.h."""
    return pdev.driver_data


# -- configuration space ---------------------------------------------------------------------------


def pci_read_config_byte(pdev: pci_dev, where: int) -> int:
    """drivers/pci/access.c."""
    return pdev.slot.config_read(where, 1)


def pci_read_config_word(pdev: pci_dev, where: int) -> int:
    """drivers/pci/access.c."""
    return pdev.slot.config_read(where, 2)


def pci_read_config_dword(pdev: pci_dev, where: int) -> int:
    """drivers/pci/access.c."""
    return pdev.slot.config_read(where, 4)


def pci_write_config_byte(pdev: pci_dev, where: int, value: int) -> None:
    """drivers/pci/access.c."""
    pdev.slot.config_write(where, value & 0xFF, 1)


def pci_write_config_word(pdev: pci_dev, where: int, value: int) -> None:
    """drivers/pci/access.c."""
    pdev.slot.config_write(where, value & 0xFFFF, 2)


def pci_write_config_dword(pdev: pci_dev, where: int, value: int) -> None:
    """drivers/pci/access.c."""
    pdev.slot.config_write(where, value & 0xFFFF_FFFF, 4)


def pci_find_capability(pdev: pci_dev, cap: int) -> int:
    """drivers/pci/pci.c: return the offset of capability `cap`, 0 when absent."""
    if not pci_read_config_word(pdev, PCI_STATUS) & PCI_STATUS_CAP_LIST:
        return 0
    where = pci_read_config_byte(pdev, PCI_CAPABILITY_LIST) & ~3
    for _ in range(48):  # a list that loops ends here (PCI_FIND_CAP_TTL)
        if where < 0x40:
            return 0
        if pci_read_config_byte(pdev, where) == cap:
            return where
        where = pci_read_config_byte(pdev, where + 1) & ~3
    return 0


def pci_select_bars(pdev: pci_dev, flags: int) -> int:
    """drivers/pci/pci.c: return the mask of BARs that have one of `flags`."""
    mask = 0
    for index, res in enumerate(pdev.resource):
        if res.size and res.flags & flags:
            mask |= 1 << index
    return mask


def pci_request_selected_regions(pdev: pci_dev, bars: int, name: str) -> None:
    """drivers/pci/pci.c: claim the BARs of mask `bars`.

    Raises: OSError: EBUSY when one is claimed already.
    """
    wanted = {index for index in range(PCI_STD_NUM_BARS) if bars >> index & 1}
    if wanted & pdev.regions:
        raise os_error(errno.EBUSY, f"{name}: BARs {sorted(wanted & pdev.regions)} are in use")
    pdev.regions |= wanted


def pci_release_selected_regions(pdev: pci_dev, bars: int) -> None:
    """drivers/pci/pci.c."""
    pdev.regions -= {index for index in range(PCI_STD_NUM_BARS) if bars >> index & 1}


def pci_resource_len(pdev: pci_dev, bar: int) -> int:
    """linux/pci.h: bytes of `bar`, 0 when absent."""
    return pdev.resource[bar].size


def pci_resource_flags(pdev: pci_dev, bar: int) -> int:
    """linux/pci.h: IORESOURCE_* of `bar`."""
    return pdev.resource[bar].flags


def pci_enable_device(pdev: pci_dev) -> None:
    """drivers/pci/pci.c: power the device up and turn its memory and I/O decoding on."""
    _enable(pdev, PCI_COMMAND_MEMORY | PCI_COMMAND_IO)


def pci_enable_device_mem(pdev: pci_dev) -> None:
    """drivers/pci/pci.c: power the device up and turn memory decoding on."""
    _enable(pdev, PCI_COMMAND_MEMORY)


def _enable(pdev: pci_dev, bits: int) -> None:
    pdev.enable_cnt += 1
    pci_set_power_state(pdev, PCI_D0)
    command = pci_read_config_word(pdev, PCI_COMMAND)
    pci_write_config_word(pdev, PCI_COMMAND, command & ~PCI_COMMAND_INTX_DISABLE | bits)


def pci_disable_device(pdev: pci_dev) -> None:
    """drivers/pci/pci.c: the last user turns bus mastering off."""
    pdev.enable_cnt = max(0, pdev.enable_cnt - 1)
    if not pdev.enable_cnt:
        pci_clear_master(pdev)


def pci_set_master(pdev: pci_dev) -> None:
    """drivers/pci/pci.c: let the device do DMA."""
    command = pci_read_config_word(pdev, PCI_COMMAND)
    pci_write_config_word(pdev, PCI_COMMAND, command | PCI_COMMAND_MASTER)


def pci_clear_master(pdev: pci_dev) -> None:
    """drivers/pci/pci.c: forbid DMA."""
    command = pci_read_config_word(pdev, PCI_COMMAND)
    pci_write_config_word(pdev, PCI_COMMAND, command & ~PCI_COMMAND_MASTER)


def pci_set_power_state(pdev: pci_dev, state: int) -> None:
    """drivers/pci/pci.c: write the PM capability's power state; silently nothing without it."""
    where = pci_find_capability(pdev, PCI_CAP_ID_PM)
    if where:
        control = pci_read_config_word(pdev, where + PCI_PM_CTRL)
        if control & PCI_PM_CTRL_STATE_MASK != state:
            # PME_STATUS clears when written with one: leave it.
            control &= ~(PCI_PM_CTRL_STATE_MASK | PCI_PM_CTRL_PME_STATUS)
            pci_write_config_word(pdev, where + PCI_PM_CTRL, control | state)
            msleep(pdev.machine, 10)  # D3hot to D0 takes 10 ms (PCI PM 1.1, 5.6.1)


def pci_enable_wake(pdev: pci_dev, state: int, enable: bool) -> None:
    """drivers/pci/pci.c: let the device raise PME from `state`."""
    where = pci_find_capability(pdev, PCI_CAP_ID_PM)
    if not where:
        return
    control = pci_read_config_word(pdev, where + PCI_PM_CTRL) & ~PCI_PM_CTRL_PME_ENABLE
    control |= PCI_PM_CTRL_PME_STATUS | (PCI_PM_CTRL_PME_ENABLE if enable else 0)
    pci_write_config_word(pdev, where + PCI_PM_CTRL, control)


def pci_save_state(pdev: pci_dev) -> None:
    """drivers/pci/pci.c: remember the 64 bytes of the header."""
    pdev.saved_config = [pci_read_config_dword(pdev, 4 * i) for i in range(16)]


def pci_restore_state(pdev: pci_dev) -> None:
    """drivers/pci/pci.c: write back what `pci_save_state` remembered, command register last."""
    if pdev.saved_config is None:
        return
    for index in (*range(15, 3, -1), 3, 1):
        pci_write_config_dword(pdev, 4 * index, pdev.saved_config[index])
    pdev.saved_config = None


def pci_pm_suspend(pdev: pci_dev) -> None:
    """drivers/pci/pci-driver.c: let the driver put the device to sleep."""
    if pdev.driver is not None and pdev.driver.suspend is not None:
        pdev.driver.suspend(pdev)


def pci_pm_resume(pdev: pci_dev) -> None:
    """drivers/pci/pci-driver.c: let the driver wake the device."""
    if pdev.driver is not None and pdev.driver.resume is not None:
        pdev.driver.resume(pdev)


# -- time ------------------------------------------------------------------------------------------


def udelay(machine: Machine, usecs: int) -> None:
    """Delay `usecs` (linux/delay.h).

    Short delays are added up and slept in pieces of 0.5 ms, since a bit-banged EEPROM asks for
    thousands of them. Call `flush_udelay` where the device needs the time to have passed.
    """
    bus = machine.pci
    bus.udelay_debt_ns += usecs * NSEC_PER_USEC
    if bus.udelay_debt_ns >= UDELAY_DEBT_NS:
        flush_udelay(machine)


def flush_udelay(machine: Machine) -> None:
    """Let the pending time of `udelay` pass."""
    bus = machine.pci
    debt, bus.udelay_debt_ns = bus.udelay_debt_ns, 0
    if debt:
        sleep_ns(machine, debt)
