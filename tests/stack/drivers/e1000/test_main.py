"""Probe, open, close, reset, MTU, remove: e1000_main.c's control side against the emulated part."""

from __future__ import annotations

import errno

import pytest

from e1000emu.clock import VirtualClock
from e1000emu.device.nic import Nic
from e1000emu.testing.recorders import RecordingLink
from stack.core.dev import dev_close, dev_open, dev_set_mac_address, dev_set_mtu
from stack.core.irq import disable_irq, enable_irq
from stack.core.netdevice import netif_carrier_ok
from stack.core.pci import (
    IORESOURCE_IO,
    IORESOURCE_MEM,
    IORESOURCE_MEM_64,
    PCI_COMMAND,
    PCI_COMMAND_MASTER,
    pci_pm_resume,
    pci_pm_suspend,
    pci_stop_and_remove_bus_device,
)
from stack.drivers.e1000 import defs as d
from stack.drivers.e1000 import e1000 as e
from stack.drivers.e1000.main import e1000_exit_module, e1000_init_module, e1000_shutdown
from stack.host import Host
from stack.tools.trace import Tracer
from tests.stack.drivers.e1000.machine import (
    MAC_A,
    MAC_B,
    MILLISECOND,
    SECOND,
    Machine,
    bring_up,
    cabled,
)


def test_probe_makes_an_interface_with_the_eeproms_address(down: Machine) -> None:
    assert down.dev.name == "eth0"
    assert down.dev.dev_addr == down.dev.perm_addr == MAC_A
    assert down.pdev.driver is not None
    assert down.pdev.driver.name == "e1000"
    assert not netif_carrier_ok(down.dev)


def test_probe_turns_bus_mastering_on_and_remove_off(machine: Machine) -> None:
    slot = machine.nic.slot
    assert slot.config_read(PCI_COMMAND, 2) & PCI_COMMAND_MASTER
    pci_stop_and_remove_bus_device(machine.pdev)
    assert not slot.config_read(PCI_COMMAND, 2) & PCI_COMMAND_MASTER
    assert "eth0" not in machine.host.dev_by_name


def test_probe_resets_the_mac_through_the_io_bar() -> None:
    clock = VirtualClock()
    host = Host("a", clock=clock, inet=False)
    nic = Nic(memory=host.dma_table(), irq=host.irq_line(10), link=RecordingLink(), clock=clock)
    resets = nic.resets
    io_writes: list[tuple[int, int]] = []
    real = nic.io_bar.write

    def spy(off: int, value: int, size: int) -> None:
        io_writes.append((off, value))
        real(off, value, size)

    nic.io_bar.write = spy  # type: ignore[method-assign]
    assert host.pci_add(nic.slot, irq=10) is not None
    assert (0, d.E1000_CTRL) in io_writes
    assert any(off == 4 and value & d.E1000_CTRL_RST for off, value in io_writes)
    assert nic.resets > resets


@pytest.mark.parametrize("flash", [None, b"!"])
@pytest.mark.parametrize("model", ["82540EM", "82545EM", "82544GC"])
def test_windows_of_64_bits_are_found_and_work(model: str, flash: bytes | None) -> None:
    a, b = cabled(model=model, wide_bars=True, flash=flash)
    memory, upper, window, _, io, _ = a.pdev.resource
    assert memory.flags == IORESOURCE_MEM | IORESOURCE_MEM_64
    assert (memory.size, upper.size, io.size) == (0x20000, 0, 8)
    assert window.size == (64 << 10 if flash else 0)
    assert io.flags == IORESOURCE_IO
    assert a.adapter.hw.io_bar == 4
    assert a.send(b"above", dst=MAC_B) == 0
    a.run()
    assert [payload[:5] for payload in b.received] == [b"above"]
    assert a.nic.misuse.total == b.nic.misuse.total == 0


def test_probe_of_a_bad_eeprom_makes_an_interface_without_an_address() -> None:
    clock = VirtualClock()
    host = Host("a", clock=clock, inet=False)
    nic = Nic(memory=host.dma_table(), irq=host.irq_line(10), link=RecordingLink(), clock=clock)
    nic.eeprom.words[5] ^= 0x0100
    dev = host.pci_add(nic.slot, irq=10)
    assert dev is not None
    assert dev.dev_addr == dev.perm_addr == bytes(6)
    assert dev_open(dev) == -errno.EADDRNOTAVAIL
    assert dev_set_mac_address(dev, MAC_A) == 0
    assert dev_open(dev) == 0
    assert host.wait_carrier("eth0")
    assert nic.mac == MAC_A


def test_an_interface_with_a_group_address_of_the_eeprom_cannot_be_opened() -> None:
    clock = VirtualClock()
    host = Host("a", clock=clock, inet=False)
    nic = Nic(memory=host.dma_table(), irq=host.irq_line(10), link=RecordingLink(), clock=clock)
    words = nic.eeprom.words
    words[0] |= 1
    words[63] = (0xBABA - sum(words[:63])) & 0xFFFF
    dev = host.pci_add(nic.slot, irq=10)
    assert dev is not None
    assert dev_open(dev) == -errno.EADDRNOTAVAIL


def test_open_waits_for_autonegotiation_and_then_has_carrier(down: Machine) -> None:
    assert dev_open(down.dev) == 0
    assert not netif_carrier_ok(down.dev)
    assert down.host.wait_carrier("eth0")
    assert (down.adapter.link_speed, down.adapter.link_duplex) == (1000, d.FULL_DUPLEX)


def test_open_without_memory_is_enomem_and_can_be_tried_again(down: Machine) -> None:
    ram = down.host.ram
    taken = []
    size = 1 << 24
    while size >= 4096:
        try:
            taken.append((ram.alloc(size, 64), size))
        except MemoryError:
            size //= 2
    assert dev_open(down.dev) == -errno.ENOMEM
    for address, length in taken:
        ram.free(address, length)
    bring_up(down)
    down.send(bytes(50))
    assert len(down.link.take()) == 1


def test_ten_times_up_and_down_leaks_nothing_and_still_works() -> None:
    a, b = cabled()
    dev_close(a.dev)
    dev_close(b.dev)
    memory = a.host.ram.allocated_bytes, b.host.ram.allocated_bytes
    for turn in range(10):
        bring_up(a)
        bring_up(b)
        for number in range(100):
            a.send(bytes([turn, number]) * 30)
        a.run()
        assert [frame[:2] for frame in b.received] == [bytes([turn, n]) for n in range(100)]
        b.received.clear()
        dev_close(a.dev)
        dev_close(b.dev)
        assert a.buffers_in_use() == b.buffers_in_use() == 0
        assert (a.host.ram.allocated_bytes, b.host.ram.allocated_bytes) == memory


def test_close_stops_dma_and_the_interrupt(machine: Machine) -> None:
    dev_close(machine.dev)
    machine.link.inject(b"\xff" * 6 + MAC_B + b"\x88\xb5" + bytes(50))
    machine.run(5 * SECOND)
    assert machine.received == []
    assert not machine.host.irq_line(10).level
    assert not machine.reg(d.E1000_RCTL) & d.E1000_RCTL_EN


def test_close_with_frames_that_the_link_did_not_take(machine: Machine) -> None:
    machine.link.room = 0
    for _ in range(50):
        machine.send(bytes(50))
    assert machine.buffers_in_use() > 0
    dev_close(machine.dev)
    assert machine.buffers_in_use() == 0


@pytest.mark.parametrize("mtu", [46, 68, 576, 1500, 1501, 2030, 4000, 9000, 16110])
def test_change_mtu_carries_frames_of_that_size(mtu: int) -> None:
    a, b = cabled()
    for machine in (a, b):
        assert dev_set_mtu(machine.dev, mtu) == 0
        assert machine.host.wait_carrier("eth0")
    a.run(2 * SECOND)
    payload = bytes(number & 0xFF for number in range(mtu))
    for _ in range(3):
        a.send(payload)
        a.run()
    assert b.received == [payload] * 3
    assert a.buffers_in_use() == b.buffers_in_use() == 0


@pytest.mark.parametrize("mtu", [-1, 0, 45, 16111, 65535])
def test_change_mtu_refuses_what_the_part_cannot(mtu: int, down: Machine) -> None:
    assert dev_set_mtu(down.dev, mtu) == -errno.EINVAL
    assert down.dev.mtu == 1500


def test_change_mtu_while_down_is_used_at_open(down: Machine) -> None:
    assert dev_set_mtu(down.dev, 9000) == 0
    bring_up(down)
    assert down.reg(d.E1000_RCTL) & d.E1000_RCTL_LPE
    assert down.adapter.rx_buffer_len == e.E1000_RXBUFFER_4096


def test_a_long_frame_at_mtu_1500_is_dropped_and_counted(machine: Machine) -> None:
    machine.link.inject(b"\xff" * 6 + MAC_B + b"\x88\xb5" + bytes(1600))
    machine.run(3 * SECOND)
    assert machine.received == []
    assert machine.adapter.stats.roc == 1


def test_set_mac_address_moves_the_filter(machine: Machine) -> None:
    new = b"\x02\xaa\xbb\xcc\xdd\xee"
    assert dev_set_mac_address(machine.dev, new) == 0
    machine.link.inject(
        MAC_A + MAC_B + b"\x88\xb5" + b"old" * 20, new + MAC_B + b"\x88\xb5" + b"new" * 20
    )
    machine.run()
    assert machine.received == [b"new" * 20]
    assert dev_set_mac_address(machine.dev, b"\x01\x00\x5e\0\0\1") == -errno.EADDRNOTAVAIL


def test_mac_address_survives_down_and_up(machine: Machine) -> None:
    new = b"\x02\xaa\xbb\xcc\xdd\xee"
    dev_set_mac_address(machine.dev, new)
    dev_close(machine.dev)
    bring_up(machine)
    machine.link.inject(new + MAC_B + b"\x88\xb5" + bytes(50))
    machine.run()
    assert len(machine.received) == 1


def test_pulled_cable_takes_the_carrier_and_plugging_gives_it_back(machine: Machine) -> None:
    machine.link.set_carrier(False)
    machine.run(10 * MILLISECOND)
    assert not netif_carrier_ok(machine.dev)
    machine.link.set_carrier(True)
    assert machine.host.wait_carrier("eth0")
    machine.run()
    machine.send(bytes(50))
    assert len(machine.link.take()) == 1


def test_lost_interrupts_are_made_good_by_the_watchdog(machine: Machine) -> None:
    disable_irq(machine.host.machine, 10)
    machine.link.inject(b"\xff" * 6 + MAC_B + b"\x88\xb5" + bytes(50))
    machine.nic.slot.bar_read(0, d.E1000_ICR, 4)  # the cause is gone: nobody polls
    enable_irq(machine.host.machine, 10)
    machine.run(MILLISECOND)
    assert machine.received == []
    machine.run(3 * SECOND)
    assert len(machine.received) == 1


def test_shutdown_with_magic_packet_arms_the_wake_filter(machine: Machine) -> None:
    machine.adapter.wol = d.E1000_WUFC_MAG
    dev_close(machine.dev)
    wuc_wufc: dict[int, int] = {}
    real = machine.adapter.hw.bar_write

    def spy(bar: int, off: int, value: int, size: int) -> None:
        if off in (d.E1000_WUC, d.E1000_WUFC):
            wuc_wufc[off] = value
        real(bar, off, value, size)

    machine.adapter.hw.bar_write = spy
    e1000_shutdown(machine.pdev)
    assert wuc_wufc[d.E1000_WUFC] == d.E1000_WUFC_MAG
    assert wuc_wufc[d.E1000_WUC] & d.E1000_WUC_PME_EN


def test_suspend_and_resume_of_an_open_interface() -> None:
    a, b = cabled()
    memory = a.host.ram.allocated_bytes
    for _ in range(3):
        a.received.clear()
        pci_pm_suspend(a.pdev)
        assert a.nic.slot.bar_read(0, d.E1000_STATUS, 4) == 0xFFFF_FFFF  # D3: nothing decodes
        b.send(b"asleep" * 10)
        a.run(SECOND)
        assert a.received == []
        pci_pm_resume(a.pdev)
        for machine in (a, b):
            assert machine.host.wait_carrier("eth0")
        a.run(2 * SECOND)
        a.received.clear()
        b.received.clear()
        b.send(b"awake" * 12)
        a.send(b"again" * 12)
        a.run()
        assert a.received == [b"awake" * 12]
        assert b.received == [b"again" * 12]
    assert a.host.ram.allocated_bytes == memory


def test_suspend_and_resume_of_a_closed_interface(down: Machine) -> None:
    pci_pm_suspend(down.pdev)
    pci_pm_resume(down.pdev)
    bring_up(down)
    down.send(bytes(50))
    assert len(down.link.take()) == 1


def test_host_close_removes_the_device_cleanly() -> None:
    a, b = cabled()
    for _ in range(20):
        a.send(bytes(100))
    a.host.close()
    b.host.close()
    a.clock.run_for(10 * SECOND)
    assert a.buffers_in_use() == b.buffers_in_use() == 0


def test_a_day_of_watchdogs_allocates_nothing(machine: Machine) -> None:
    machine.run(10 * SECOND)
    before = machine.host.ram.allocated_bytes
    machine.run(600 * SECOND)
    assert machine.host.ram.allocated_bytes == before
    assert machine.buffers_in_use() == 0
    assert machine.adapter.hw_errors == 0


def calls_of(tracer: Tracer, order: list[str]) -> list[str]:
    """The names of `order` as they were called, each once."""
    return list(dict.fromkeys(call.name for call in tracer.calls if call.name in order))


@pytest.mark.uncompiled
def test_loading_the_module_probes_the_device_that_is_there() -> None:
    clock = VirtualClock()
    host = Host("a", clock=clock, inet=False, drivers=False)
    nic = Nic(memory=host.dma_table(), irq=host.irq_line(10), link=RecordingLink(), clock=clock)
    assert host.pci_add(nic.slot, irq=10) is None
    with Tracer(packages=("stack",)) as tracer:
        module = e1000_init_module(host.machine)
    order = [
        "e1000_init_module",
        "pci_register_driver",
        "e1000_probe",
        "alloc_etherdev",
        "alloc_etherdev_mqs",
        "alloc_netdev_mqs",
        "ether_setup",
        "e1000_sw_init",
        "e1000_reset_hw",
        "e1000_validate_eeprom_checksum",
        "e1000_read_mac_addr",
        "e1000_reset",
        "e1000_init_hw",
        "e1000_setup_link",
        "e1000_setup_copper_link",
        "register_netdev",
        "register_netdevice",
        "list_netdevice",
    ]
    assert calls_of(tracer, order) == order
    assert "eth0" in host.dev_by_name
    e1000_exit_module(host.machine, module)
    assert "eth0" not in host.dev_by_name


def test_an_unknown_parameter_loads_nothing() -> None:
    clock = VirtualClock()
    host = Host("a", clock=clock, drivers=False)
    nic = Nic(memory=host.dma_table(), irq=host.irq_line(10), link=RecordingLink(), clock=clock)
    host.pci_add(nic.slot, irq=10)
    with pytest.raises(ValueError, match="unknown parameter 'NoSuch'"):
        e1000_init_module(host.machine, NoSuch=1)
    e1000_init_module(host.machine, NAPI=0)
    assert "eth0" in host.dev_by_name


@pytest.mark.uncompiled
def test_order_of_calls_when_opening(down: Machine) -> None:
    with Tracer(packages=("stack",)) as tracer:
        dev_open(down.dev)
    order = [
        "dev_open",
        "e1000_open",
        "e1000_setup_all_tx_resources",
        "e1000_setup_all_rx_resources",
        "e1000_power_up_phy",
        "e1000_configure",
        "e1000_set_rx_mode",
        "e1000_configure_tx",
        "e1000_setup_rctl",
        "e1000_configure_rx",
        "e1000_alloc_rx_buffers",
        "e1000_request_irq",
        "napi_enable",
        "e1000_irq_enable",
        "netif_start_queue",
        "e1000_intr",
    ]
    assert calls_of(tracer, order) == order
