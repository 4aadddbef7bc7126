"""What the driver offers to ethtool, also what it refuses."""

from __future__ import annotations

import errno
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from fastpath.base.skbuff import kfree_skb, skb_from_bytes
from stack.core import ethtool as core
from stack.core.dev import dev_close
from stack.core.netdevice import IFF_UP, net_device
from stack.drivers.e1000 import defs as d
from stack.drivers.e1000 import e1000 as e
from stack.drivers.e1000.ethtool import e1000_gstrings_stats, e1000_set_link_ksettings
from stack.drivers.e1000.phy import e1000_read_phy_reg
from stack.drivers.e1000.selftest import TEST_NAMES
from tests.stack.drivers.e1000.machine import (
    MAC_A,
    MAC_B,
    MILLISECOND,
    SECOND,
    Machine,
    bring_up,
    cabled,
    recorded,
)


def set_settings(machine: Machine, **changes: Any) -> None:
    """`ethtool -s eth0` with speed, duplex or autoneg."""
    core.ethtool_set_settings(
        machine.dev, replace(core.ethtool_get_settings(machine.dev), **changes)
    )


def test_driver_info() -> None:
    info = core.ethtool_get_drvinfo(recorded(up=False).dev)
    assert (info.driver, info.bus_info, info.testinfo_len) == ("e1000", "0000:00:03.0", 5)


def test_features_and_which_are_fixed() -> None:
    found = core.ethtool_get_features(recorded(up=False).dev)
    for name, on, fixed in (
        ("rx-checksum", True, False),
        ("tx-checksum-ip-generic", True, False),
        ("tx-scatter-gather", True, False),
        ("tx-tcp-segmentation", True, False),
        ("rx-gro", True, False),
        ("rx-lro", False, True),
        ("rx-vlan-filter", True, True),
        ("rx-fcs", False, False),
        ("rx-all", False, False),
    ):
        assert found[name] == (on, fixed), name


def test_features_can_be_set_by_any_of_their_names() -> None:
    dev = recorded(up=False).dev
    for name, on in (("tso", False), ("tx-tcp-segmentation", True)):
        core.ethtool_set_features(dev, {name: on})
        assert core.ethtool_get_features(dev)["tx-tcp-segmentation"][0] is on
    core.ethtool_set_features(dev, {"generic-receive-offload": False, "gso": False})
    found = core.ethtool_get_features(dev)
    assert not found["rx-gro"][0]
    assert not found["tx-generic-segmentation"][0]


def test_turning_scatter_gather_off_takes_segmentation_along_and_says_so() -> None:
    dev = recorded(up=False).dev
    assert core.ethtool_set_features(dev, {"sg": False}) & core.OLD_FEATURES["tso"]
    assert not dev.features & core.OLD_FEATURES["tso"]


@pytest.mark.parametrize(
    ("wrong", "error"),
    [
        (lambda dev: core.ethtool_set_features(dev, {"nonsense": True}), errno.EINVAL),
        (lambda dev: core.ethtool_set_features(dev, {"lro": True}), errno.EOPNOTSUPP),
        (lambda dev: core.ethtool_set_ringparam(dev, rx=9999), errno.EINVAL),
        (lambda dev: core.ethtool_set_ringparam(dev, rx=0), errno.EINVAL),
        (lambda dev: core.ethtool_set_coalesce(dev, rx_usecs=2), errno.EINVAL),
        (lambda dev: core.ethtool_set_coalesce(dev, rx_usecs=5), errno.EINVAL),
        (lambda dev: core.ethtool_set_coalesce(dev, rx_usecs=10001), errno.EINVAL),
        (lambda dev: core.ethtool_get_eeprom(dev, 1000), errno.EINVAL),
        (lambda dev: core.ethtool_set_eeprom(dev, 0x1234, 0, b"\1"), errno.EFAULT),
        (lambda dev: core.ethtool_set_wol(dev, core.WAKE_ARP), errno.EINVAL),
        (
            lambda dev: core.ethtool_set_settings(
                dev, core.ethtool_link_ksettings(2500, core.DUPLEX_FULL, False)
            ),
            errno.EINVAL,
        ),
        (lambda dev: core.ethtool_get_drvinfo(dev.net.loopback_dev), errno.EOPNOTSUPP),
    ],
)
def test_what_cannot_be_is_refused(wrong: Callable[[net_device], object], error: int) -> None:
    with pytest.raises(OSError, match=r"eth0|lo") as refused:
        wrong(recorded(up=False).dev)
    assert refused.value.errno == error


def test_a_crossing_can_be_set_while_negotiating(machine: Machine) -> None:
    link = core.ethtool_get_settings(machine.dev)
    for crossing, bits in ((core.ETH_TP_MDI_X, 0x20), (core.ETH_TP_MDI_AUTO, 0x60)):
        link.eth_tp_mdix_ctrl = crossing
        core.ethtool_set_settings(machine.dev, link)
        control = e1000_read_phy_reg(machine.adapter.hw, d.M88E1000_PHY_SPEC_CTRL)
        assert control & d.M88E1000_PSCR_AUTO_X_MODE == bits
        assert core.ethtool_get_settings(machine.dev).eth_tp_mdix_ctrl == crossing
    forced = core.ethtool_link_ksettings(100, core.DUPLEX_FULL, autoneg=False)
    forced.eth_tp_mdix_ctrl = core.ETH_TP_MDI
    assert e1000_set_link_ksettings(machine.dev, forced) == -errno.EINVAL


def test_ring_sizes_change_while_traffic_goes_on() -> None:
    a, b = cabled()
    core.ethtool_set_ringparam(a.dev, rx=100, tx=60)
    assert (a.adapter.rx_ring_count, a.adapter.tx_ring_count) == (104, 64)
    assert core.ethtool_get_ringparam(a.dev).tx_pending == 64
    assert a.host.wait_carrier("eth0")
    a.run(2 * SECOND)
    for number in range(300):
        a.send(bytes([number & 0xFF]) * 60)
        b.send(bytes([number & 0xFF]) * 60)
        a.run(10_000)
    assert len(a.received) == len(b.received) == 300


def hoard(ram: Any, size: int) -> list[tuple[int, int]]:
    """Take all memory in pieces of `size`."""
    taken = []
    while True:
        try:
            taken.append((ram.alloc(size, 64), size))
        except MemoryError:
            return taken


def test_no_memory_for_new_rings_closes_the_interface_and_it_can_be_opened_again(
    machine: Machine,
) -> None:
    ram = machine.host.ram
    skbs = []
    # Packets in sockets keep the old pool alive, so its memory does not come back.
    for _ in range(100):
        machine.link.inject(b"\xff" * 6 + MAC_B + b"\x08\x06" + bytes(60))
    pool = machine.adapter.rx_pool
    skb = skb_from_bytes(pool, b"kept", 0)
    assert skb is not None
    skbs.append(skb)
    del pool
    taken = hoard(ram, 1 << 16)
    with pytest.raises(OSError, match="ring parameters") as error:
        core.ethtool_set_ringparam(machine.dev, rx=4096)
    assert error.value.errno == errno.ENOMEM
    assert not machine.dev.flags & IFF_UP
    machine.run(10 * SECOND)
    for address, size in taken:
        ram.free(address, size)
    kfree_skb(skbs.pop())
    bring_up(machine)
    machine.send(bytes(60))
    assert len(machine.link.take()) == 1


def test_little_memory_makes_a_smaller_pool(down: Machine) -> None:
    ram = down.host.ram
    taken = hoard(ram, 4 << 20)
    ram.free(*taken.pop())
    bring_up(down)
    assert 768 <= down.adapter.rx_pool.count < e.E1000_RX_POOL_BUFFERS
    down.send(bytes(60))
    assert len(down.link.take()) == 1


def test_ring_sizes_change_while_down(down: Machine) -> None:
    core.ethtool_set_ringparam(down.dev, rx=4096)
    assert down.adapter.rx_ring_count == 4096


def test_statistics_have_linuxs_names_in_linuxs_order(down: Machine) -> None:
    names = list(core.ethtool_get_stats(down.dev))
    assert names == [name for name, _, _ in e1000_gstrings_stats]
    assert names[:4] == ["rx_packets", "tx_packets", "rx_bytes", "tx_bytes"]
    assert names[-1] == "dropped_smbus"
    assert len(names) == 46


def test_statistics_count_what_crossed_the_wire() -> None:
    a, b = cabled()
    for _ in range(10):
        a.send(bytes(100))
    a.run()
    sent, received = core.ethtool_get_stats(a.dev), core.ethtool_get_stats(b.dev)
    assert sent["tx_packets"] == sent["tx_broadcast"] == 10
    assert received["rx_packets"] == received["rx_broadcast"] == 10
    assert sent["tx_bytes"] == received["rx_bytes"] == 10 * (114 + 4)
    stats = b.dev.netdev_ops.ndo_get_stats64(b.dev)
    assert (stats.rx_packets, stats.rx_bytes) == (10, 1140)


def test_statistics_survive_down_and_up() -> None:
    a, b = cabled()
    a.send(bytes(100))
    a.run()
    dev_close(b.dev)
    assert core.ethtool_get_stats(b.dev)["rx_packets"] == 1
    assert b.dev.netdev_ops.ndo_get_stats64(b.dev).rx_packets == 1


def test_coalesce_modes_and_microseconds(machine: Machine) -> None:
    for usecs, itr in ((0, 0), (10, 39), (125, 488), (10000, 39062)):
        core.ethtool_set_coalesce(machine.dev, rx_usecs=usecs)
        assert machine.reg(d.E1000_ITR) & 0xFFFF == itr
        assert core.ethtool_get_coalesce(machine.dev).rx_coalesce_usecs == usecs
    for mode in (1, 3, 4):
        core.ethtool_set_coalesce(machine.dev, rx_usecs=mode)
        assert core.ethtool_get_coalesce(machine.dev).rx_coalesce_usecs == mode
        machine.run(5 * SECOND)
        assert machine.reg(d.E1000_ITR) & 0xFFFF


def test_pause_settings(machine: Machine) -> None:
    assert core.ethtool_get_pauseparam(machine.dev).autoneg
    core.ethtool_set_pauseparam(machine.dev, autoneg=False, rx=True, tx=False)
    ctrl = machine.reg(d.E1000_CTRL)
    assert ctrl & d.E1000_CTRL_RFCE
    assert not ctrl & d.E1000_CTRL_TFCE
    assert core.ethtool_get_pauseparam(machine.dev) == core.ethtool_pauseparam(False, True, False)
    core.ethtool_set_pauseparam(machine.dev, autoneg=True, rx=False, tx=False)
    assert machine.host.wait_carrier("eth0")
    assert core.ethtool_get_pauseparam(machine.dev) == core.ethtool_pauseparam(True, False, False)


def test_register_dump_has_what_ethtool_decodes(machine: Machine) -> None:
    regs = core.ethtool_get_regs(machine.dev)
    assert regs.version == 1 << 24 | machine.adapter.hw.revision_id << 16 | 0x100E
    assert regs.data[0] == machine.reg(d.E1000_CTRL)
    assert regs.data[2] & d.E1000_RCTL_EN
    assert regs.data[12] == d.e1000_phy_m88


def test_register_dump_of_a_closed_interface_does_not_fail() -> None:
    assert not core.ethtool_get_regs(recorded(up=False).dev).data[2] & d.E1000_RCTL_EN


def test_settings(machine: Machine) -> None:
    link = core.ethtool_get_settings(machine.dev)
    assert (link.speed, link.duplex, link.autoneg) == (1000, core.DUPLEX_FULL, True)
    assert core.ethtool_get_link(machine.dev)
    dev_close(machine.dev)
    link = core.ethtool_get_settings(machine.dev)
    assert (link.speed, link.duplex) == (core.SPEED_UNKNOWN, core.DUPLEX_UNKNOWN)
    assert not core.ethtool_get_link(machine.dev)


@pytest.mark.parametrize(
    ("speed", "duplex"), [(10, core.DUPLEX_HALF), (10, core.DUPLEX_FULL), (100, core.DUPLEX_FULL)]
)
def test_forced_speed_and_duplex(speed: int, duplex: int, machine: Machine) -> None:
    set_settings(machine, autoneg=False, speed=speed, duplex=duplex)
    assert machine.host.wait_carrier("eth0")
    link = core.ethtool_get_settings(machine.dev)
    assert (link.speed, link.duplex, link.autoneg) == (speed, duplex, False)
    set_settings(machine, autoneg=True)
    assert machine.host.wait_carrier("eth0")
    assert core.ethtool_get_settings(machine.dev).speed == 1000


def test_wake_on_lan_and_messages(down: Machine) -> None:
    wanted = core.WAKE_UCAST | core.WAKE_MCAST | core.WAKE_MAGIC
    core.ethtool_set_wol(down.dev, wanted)
    assert down.adapter.wol == d.E1000_WUFC_EX | d.E1000_WUFC_MC | d.E1000_WUFC_MAG
    assert core.ethtool_get_wol(down.dev).wolopts == wanted
    core.ethtool_set_wol(down.dev, 0)
    assert down.adapter.wol == 0
    core.ethtool_set_msglevel(down.dev, 0xF)
    assert core.ethtool_get_msglevel(down.dev) == 0xF


def test_eeprom_dump_and_change_keep_the_checksum(down: Machine) -> None:
    assert core.ethtool_get_eeprom(down.dev)[:6] == MAC_A
    core.ethtool_set_eeprom(down.dev, 0x100E8086, 5, b"\x77")
    data = core.ethtool_get_eeprom(down.dev)
    assert data[:6] == MAC_A[:5] + b"\x77"
    assert sum(int.from_bytes(data[i : i + 2], "little") for i in range(0, 128, 2)) & 0xFFFF == (
        d.EEPROM_SUM
    )
    assert core.ethtool_get_eeprom(down.dev, 3, 2) == data[3:5]
    assert core.ethtool_get_eeprom(down.dev, 128, 0) == b""


def test_identify_blinks_and_gives_the_leds_back(machine: Machine) -> None:
    before = machine.reg(d.E1000_LEDCTL)
    values = set()
    real = machine.adapter.hw.bar_write

    def spy(bar: int, off: int, value: int, size: int) -> None:
        if bar == 0 and off == d.E1000_LEDCTL:
            values.add(value)
        real(bar, off, value, size)

    machine.adapter.hw.bar_write = spy
    start = machine.clock.now_ns()
    core.ethtool_phys_id(machine.dev, 3)
    assert machine.clock.now_ns() - start == 3 * SECOND
    assert len(values) >= 2
    assert machine.reg(d.E1000_LEDCTL) == before


def test_negotiate_again(machine: Machine) -> None:
    before = machine.dev.carrier_down_count
    core.ethtool_nway_reset(machine.dev)
    assert machine.host.wait_carrier("eth0")
    assert machine.dev.carrier_down_count == before + 1
    dev_close(machine.dev)
    core.ethtool_nway_reset(machine.dev)  # nothing to do, and no error


# -- self-test -------------------------------------------------------------------------------------


def test_all_five_self_tests_pass_on_an_open_interface_and_it_works_afterwards() -> None:
    a, b = cabled()
    passed, results = core.ethtool_self_test(a.dev)
    assert passed
    assert results == dict.fromkeys(TEST_NAMES, 0)
    assert b.received == []  # nothing of the loopback test reached the wire
    assert a.host.wait_carrier("eth0")
    assert b.host.wait_carrier("eth0")
    a.run(2 * SECOND)
    a.send(b"after" * 20)
    a.run()
    assert b.received == [b"after" * 20]


def test_self_test_while_frames_arrive(machine: Machine) -> None:
    clock = machine.clock

    def noise() -> None:
        if machine.link.port is not None:
            machine.link.inject(b"\xff" * 6 + MAC_B + b"\x88\xb5" + bytes(100))
            clock.call_at(clock.now_ns() + 500_000, noise, background=True)

    noise()
    _, results = core.ethtool_self_test(machine.dev)
    results.pop("Loopback test  (offline)")  # the kernel's counts strangers' frames as its own
    assert not any(results.values())


def test_self_test_leaks_no_memory(machine: Machine) -> None:
    before = machine.host.ram.allocated_bytes
    for _ in range(3):
        assert core.ethtool_self_test(machine.dev)[0]
    assert machine.host.ram.allocated_bytes == before


def test_self_test_without_memory_leaks_none(down: Machine) -> None:
    ram = down.host.ram
    taken = hoard(ram, 4096)
    free = [taken.pop() for _ in range(100)]  # enough for its rings, not for the buffers
    for address, size in free:
        ram.free(address, size)
    before = ram.allocated_bytes
    _, results = core.ethtool_self_test(down.dev)
    assert results["Loopback test  (offline)"] == 1
    assert ram.allocated_bytes == before


def test_self_test_of_a_phy_that_does_not_answer_ends(machine: Machine) -> None:
    hw = machine.adapter.hw
    real = hw.bar_read
    error = d.E1000_MDIC_READY | d.E1000_MDIC_ERROR
    hw.bar_read = lambda bar, off, n: error if off == d.E1000_MDIC else real(bar, off, n)
    _, results = core.ethtool_self_test(machine.dev)
    assert results["Loopback test  (offline)"] == 2
    assert not machine.adapter.flags & e.E1000_TESTING
    hw.bar_read = real
    dev_close(machine.dev)
    bring_up(machine)


def test_self_test_of_a_closed_interface_leaves_it_closed(down: Machine) -> None:
    _, results = core.ethtool_self_test(down.dev)
    assert [results[name] for name in results][:4] == [0, 0, 0, 0]
    assert down.adapter.tx_ring is None


def test_online_test_only_looks_at_the_link(machine: Machine) -> None:
    assert core.ethtool_self_test(machine.dev, offline=False)[0]
    machine.link.set_carrier(False)
    machine.run(100 * MILLISECOND)
    passed, results = core.ethtool_self_test(machine.dev, offline=False)
    assert not passed
    assert list(results.values()) == [0, 0, 0, 0, 1]


@pytest.mark.parametrize(
    ("reg", "mask", "code"),
    [(d.E1000_FCAL, 1 << 7, d.E1000_FCAL), (d.E1000_TIDV, 1, d.E1000_TIDV)],
)
def test_a_stuck_register_bit_fails_the_register_test(
    reg: int, mask: int, code: int, down: Machine
) -> None:
    hw = down.adapter.hw
    real = hw.bar_read
    hw.bar_read = lambda bar, off, size: real(bar, off, size) | (mask if off == reg else 0)
    _, results = core.ethtool_self_test(down.dev)
    assert results["Register test  (offline)"] == code


def test_a_dead_interrupt_line_fails_the_interrupt_test(down: Machine) -> None:
    down.host.irq_line(10).depth += 1
    _, results = core.ethtool_self_test(down.dev)
    assert results["Interrupt test (offline)"] == 4


def test_a_broken_loopback_fails_the_loopback_test(down: Machine) -> None:
    hw = down.adapter.hw
    real = hw.bar_write

    def deaf(bar: int, off: int, value: int, size: int) -> None:
        if bar != 0 or off != d.E1000_TDT:
            real(bar, off, value, size)

    hw.bar_write = deaf
    _, results = core.ethtool_self_test(down.dev)
    assert results["Loopback test  (offline)"] == 13


def test_a_phy_without_hidden_pages_passes_the_loopback_test(down: Machine) -> None:
    """QEMU's PHY answers registers 29 and 30 with an error; the kernel does not look at it."""
    hw = down.adapter.hw
    real = hw.bar_read

    def without(bar: int, off: int, size: int) -> int:
        value = real(bar, off, size)
        if bar == 0 and off == d.E1000_MDIC and value >> d.E1000_MDIC_REG_SHIFT & 0x1F in (29, 30):
            value |= d.E1000_MDIC_ERROR
        return value

    hw.bar_read = without
    passed, results = core.ethtool_self_test(down.dev)
    assert passed, results


def test_open_during_the_test_is_ebusy(down: Machine) -> None:
    down.adapter.flags |= e.E1000_TESTING
    from stack.core.dev import dev_open

    assert dev_open(down.dev) == -errno.EBUSY
