"""ethtool's faces: data and text, every option, also the refusals."""

from __future__ import annotations

import errno
import re
from typing import Any

import pytest

from fastpath.base.skbuff import kfree_skb, skb_from_bytes
from stack.api.ethtool import COMMANDS, LONG_COMMANDS, ethtool
from stack.core import ethtool as core
from stack.core.dev import dev_close
from stack.core.netdevice import IFF_UP
from stack.drivers.e1000 import defs as d
from stack.drivers.e1000 import e1000 as e
from stack.drivers.e1000.ethtool import e1000_gstrings_stats
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


def run(machine: Machine, *args: str) -> str:
    return ethtool(machine.host, args)


def test_driver_page() -> None:
    text = run(recorded(up=False), "-i", "eth0")
    assert text.startswith("driver: e1000\nversion: ")
    assert "bus-info: 0000:00:03.0\n" in text
    assert "supports-test: yes\n" in text


def test_feature_page_lists_every_feature_once() -> None:
    machine = recorded(up=False)
    text = run(machine, "-k", "eth0")
    for line in (
        "rx-checksumming: on",
        "tx-checksumming: on",
        "\ttx-checksum-ip-generic: on",
        "scatter-gather: on",
        "tcp-segmentation-offload: on",
        "generic-receive-offload: on",
        "large-receive-offload: off [fixed]",
        "rx-vlan-filter: on [fixed]",
        "rx-fcs: off",
        "rx-all: off",
    ):
        assert line in text.split("\n")
    names = re.findall(r"^\t?([\w-]+):", text, re.MULTILINE)[1:]
    assert len(names) == len(set(names))


def test_features_can_be_set_by_any_of_their_names() -> None:
    machine = recorded(up=False)
    run(machine, "-K", "eth0", "tso", "off")
    assert "\ttx-tcp-segmentation: off" in run(machine, "-k", "eth0")
    run(machine, "-K", "eth0", "tx-tcp-segmentation", "on")
    assert "\ttx-tcp-segmentation: on" in run(machine, "-k", "eth0")
    run(machine, "-K", "eth0", "generic-receive-offload", "off", "gso", "off")
    text = run(machine, "-k", "eth0")
    assert "generic-receive-offload: off" in text
    assert "generic-segmentation-offload: off" in text


def test_turning_scatter_gather_off_takes_segmentation_along_and_says_so() -> None:
    machine = recorded(up=False)
    text = run(machine, "-K", "eth0", "sg", "off")
    assert text.startswith("Actual changes:\n")
    assert "tx-tcp-segmentation: off\n" in text
    assert not machine.dev.features & core.OLD_FEATURES["tso"]


@pytest.mark.parametrize(
    ("args", "error"),
    [
        (("-K", "eth0", "nonsense", "on"), OSError),
        (("-K", "eth0", "lro", "on"), OSError),
        (("-K", "eth0", "tso", "maybe"), ValueError),
        (("-K", "eth0", "tso"), ValueError),
        (("-i", "eth9"), OSError),
        (("-i",), ValueError),
        ((), ValueError),
        (("--wrong", "eth0"), ValueError),
        (("-i", "eth0", "extra"), ValueError),
        (("-G", "eth0", "rx", "9999"), OSError),
        (("-G", "eth0", "rx", "0"), OSError),
        (("-G", "eth0", "mini", "1"), ValueError),
        (("-C", "eth0", "rx-usecs", "2"), OSError),
        (("-C", "eth0", "rx-usecs", "5"), OSError),
        (("-C", "eth0", "rx-usecs", "10001"), OSError),
        (("-e", "eth0", "offset", "1000"), OSError),
        (("-E", "eth0", "magic", "0x1234", "offset", "0", "value", "1"), OSError),
        (("-s", "eth0", "wol", "x"), ValueError),
        (("-s", "eth0", "wol", "a"), OSError),
        (("-s", "eth0", "autoneg", "off", "speed", "2500", "duplex", "full"), OSError),
        (("-s", "eth0", "duplex", "quarter"), ValueError),
        (("-t", "eth0", "sideways"), ValueError),
        (("-r", "eth0"), OSError),
        (("-i", "lo"), OSError),
    ],
)
def test_wrong_use_is_refused_with_one_clear_error(
    args: tuple[str, ...], error: type[Exception]
) -> None:
    machine = recorded(up=False)
    with pytest.raises(error):
        run(machine, *args)


def test_every_long_option_has_its_short_one() -> None:
    assert set(LONG_COMMANDS.values()) <= set(COMMANDS)
    machine = recorded(up=False)
    assert run(machine, "--show-ring", "eth0") == run(machine, "-g", "eth0")


def test_ring_sizes_change_while_traffic_goes_on() -> None:
    a, b = cabled()
    run(a, "-G", "eth0", "rx", "100", "tx", "60")
    assert (a.adapter.rx_ring_count, a.adapter.tx_ring_count) == (104, 64)
    text = run(a, "-g", "eth0")
    assert "TX:\t\t64\n" in text
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


def test_no_memory_for_new_rings_closes_the_interface_and_it_can_be_opened_again() -> None:
    machine = recorded()
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


def test_little_memory_makes_a_smaller_pool() -> None:
    machine = recorded(up=False)
    ram = machine.host.ram
    taken = hoard(ram, 4 << 20)
    ram.free(*taken.pop())
    bring_up(machine)
    assert 768 <= machine.adapter.rx_pool.count < e.E1000_RX_POOL_BUFFERS
    machine.send(bytes(60))
    assert len(machine.link.take()) == 1


def test_ring_sizes_change_while_down() -> None:
    machine = recorded(up=False)
    run(machine, "-G", "eth0", "rx", "4096")
    assert machine.adapter.rx_ring_count == 4096


def test_statistics_have_linuxs_names_in_linuxs_order() -> None:
    machine = recorded(up=False)
    names = list(core.ethtool_get_stats(machine.dev))
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
    assert "     rx_packets: 10\n" in run(b, "-S", "eth0")


def test_statistics_survive_down_and_up() -> None:
    a, b = cabled()
    a.send(bytes(100))
    a.run()
    dev_close(b.dev)
    assert core.ethtool_get_stats(b.dev)["rx_packets"] == 1
    assert b.dev.netdev_ops.ndo_get_stats64(b.dev).rx_packets == 1


def test_coalesce_modes_and_microseconds() -> None:
    machine = recorded()
    for usecs, itr in ((0, 0), (10, 39), (125, 488), (10000, 39062)):
        run(machine, "-C", "eth0", "rx-usecs", str(usecs))
        assert machine.reg(d.E1000_ITR) & 0xFFFF == itr
        assert f"rx-usecs:\t{usecs}\n" in run(machine, "-c", "eth0")
    for mode in (1, 3, 4):
        run(machine, "-C", "eth0", "rx-usecs", str(mode))
        assert core.ethtool_get_coalesce(machine.dev).rx_coalesce_usecs == mode
        machine.run(5 * SECOND)
        assert machine.reg(d.E1000_ITR) & 0xFFFF


def test_pause_settings() -> None:
    machine = recorded()
    text = run(machine, "-a", "eth0")
    assert text.startswith("Pause parameters for eth0:\nAutonegotiate:\ton\n")
    run(machine, "-A", "eth0", "autoneg", "off", "rx", "on", "tx", "off")
    ctrl = machine.reg(d.E1000_CTRL)
    assert ctrl & d.E1000_CTRL_RFCE
    assert not ctrl & d.E1000_CTRL_TFCE
    assert "RX:\t\ton\nTX:\t\toff\n" in run(machine, "-a", "eth0")
    run(machine, "-A", "eth0", "autoneg", "on", "rx", "off", "tx", "off")
    assert machine.host.wait_carrier("eth0")
    assert core.ethtool_get_pauseparam(machine.dev) == core.ethtool_pauseparam(True, False, False)


def test_register_dump_decodes_the_registers() -> None:
    text = run(recorded(), "-d", "eth0")
    assert text.startswith("MAC Registers\n-------------\n0x00000: CTRL (Device control register)")
    assert "      Receiver:                          enabled\n" in text
    assert "      Link speed:                        1000Mb/s\n" in text
    assert "PHY type:                                M88\n" in text


def test_register_dump_of_a_closed_interface_does_not_fail() -> None:
    assert "Receiver:                          disabled" in run(recorded(up=False), "-d", "eth0")


def test_settings_page() -> None:
    machine = recorded()
    text = run(machine, "eth0")
    assert "\tSpeed: 1000Mb/s\n\tDuplex: Full\n\tAuto-negotiation: on\n" in text
    assert "\tLink detected: yes\n" in text
    dev_close(machine.dev)
    text = run(machine, "eth0")
    assert "\tSpeed: Unknown!\n\tDuplex: Unknown! (255)\n" in text
    assert "\tLink detected: no\n" in text


@pytest.mark.parametrize(("speed", "duplex"), [(10, "half"), (10, "full"), (100, "full")])
def test_forced_speed_and_duplex(speed: int, duplex: str) -> None:
    machine = recorded()
    run(machine, "-s", "eth0", "autoneg", "off", "speed", str(speed), "duplex", duplex)
    assert machine.host.wait_carrier("eth0")
    text = run(machine, "eth0")
    assert f"\tSpeed: {speed}Mb/s\n\tDuplex: {duplex.capitalize()}\n" in text
    run(machine, "-s", "eth0", "autoneg", "on")
    assert machine.host.wait_carrier("eth0")
    assert "\tSpeed: 1000Mb/s\n" in run(machine, "eth0")


def test_wake_on_lan_letters() -> None:
    machine = recorded(up=False)
    run(machine, "-s", "eth0", "wol", "umg")
    assert machine.adapter.wol == d.E1000_WUFC_EX | d.E1000_WUFC_MC | d.E1000_WUFC_MAG
    assert "\tWake-on: umg\n" in run(machine, "eth0")
    run(machine, "-s", "eth0", "wol", "d", "msglvl", "0xf")
    assert machine.adapter.wol == 0
    assert "\tCurrent message level: 0x0000000f (15)\n" in run(machine, "eth0")


def test_eeprom_dump_and_change_keep_the_checksum() -> None:
    machine = recorded(up=False)
    assert run(machine, "-e", "eth0").startswith(
        "Offset\t\tValues\n------\t\t------\n0x0000:\t\t" + MAC_A.hex(" ")
    )
    magic = "0x100e8086"
    run(machine, "-E", "eth0", "magic", magic, "offset", "5", "value", "0x77")
    data = core.ethtool_get_eeprom(machine.dev)
    assert data[:6] == MAC_A[:5] + b"\x77"
    assert sum(int.from_bytes(data[i : i + 2], "little") for i in range(0, 128, 2)) & 0xFFFF == (
        d.EEPROM_SUM
    )
    assert core.ethtool_get_eeprom(machine.dev, 3, 2) == data[3:5]
    assert core.ethtool_get_eeprom(machine.dev, 128, 0) == b""


def test_identify_blinks_and_gives_the_leds_back() -> None:
    machine = recorded()
    before = machine.reg(d.E1000_LEDCTL)
    values = set()
    real = machine.adapter.hw.bar_write

    def spy(bar: int, off: int, value: int, size: int) -> None:
        if bar == 0 and off == d.E1000_LEDCTL:
            values.add(value)
        real(bar, off, value, size)

    machine.adapter.hw.bar_write = spy
    start = machine.clock.now_ns()
    run(machine, "-p", "eth0", "3")
    assert machine.clock.now_ns() - start == 3 * SECOND
    assert len(values) >= 2
    assert machine.reg(d.E1000_LEDCTL) == before


def test_negotiate_again() -> None:
    machine = recorded()
    run(machine, "-r", "eth0")
    assert machine.host.wait_carrier("eth0")


# -- self-test -------------------------------------------------------------------------------------


def test_all_five_self_tests_pass_on_an_open_interface_and_it_works_afterwards() -> None:
    a, b = cabled()
    text = run(a, "-t", "eth0", "offline")
    assert text == (
        "The test result is PASS\nThe test extra info:\n"
        "Register test  (offline)\t 0\nEeprom test    (offline)\t 0\n"
        "Interrupt test (offline)\t 0\nLoopback test  (offline)\t 0\n"
        "Link test   (on/offline)\t 0\n"
    )
    assert b.received == []  # nothing of the loopback test reached the wire
    assert a.host.wait_carrier("eth0")
    assert b.host.wait_carrier("eth0")
    a.run(2 * SECOND)
    a.send(b"after" * 20)
    a.run()
    assert b.received == [b"after" * 20]


def test_self_test_while_frames_arrive() -> None:
    machine = recorded()
    clock = machine.clock

    def noise() -> None:
        if machine.link.port is not None:
            machine.link.inject(b"\xff" * 6 + MAC_B + b"\x88\xb5" + bytes(100))
            clock.call_at(clock.now_ns() + 500_000, noise, background=True)

    noise()
    _, results = core.ethtool_self_test(machine.dev)
    results.pop("Loopback test  (offline)")  # the kernel's counts strangers' frames as its own
    assert not any(results.values())


def test_self_test_leaks_no_memory() -> None:
    machine = recorded()
    before = machine.host.ram.allocated_bytes
    for _ in range(3):
        assert core.ethtool_self_test(machine.dev)[0]
    assert machine.host.ram.allocated_bytes == before


def test_self_test_of_a_closed_interface_leaves_it_closed() -> None:
    machine = recorded(up=False)
    _, results = core.ethtool_self_test(machine.dev)
    assert [results[name] for name in results][:4] == [0, 0, 0, 0]
    assert machine.adapter.tx_ring is None


def test_online_test_only_looks_at_the_link() -> None:
    machine = recorded()
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
def test_a_stuck_register_bit_fails_the_register_test(reg: int, mask: int, code: int) -> None:
    machine = recorded(up=False)
    hw = machine.adapter.hw
    real = hw.bar_read
    hw.bar_read = lambda bar, off, size: real(bar, off, size) | (mask if off == reg else 0)
    _, results = core.ethtool_self_test(machine.dev)
    assert results["Register test  (offline)"] == code


def test_a_dead_interrupt_line_fails_the_interrupt_test() -> None:
    machine = recorded(up=False)
    machine.host.irq_line(10).depth += 1
    _, results = core.ethtool_self_test(machine.dev)
    assert results["Interrupt test (offline)"] == 4


def test_a_broken_loopback_fails_the_loopback_test() -> None:
    machine = recorded(up=False)
    hw = machine.adapter.hw
    real = hw.bar_write

    def deaf(bar: int, off: int, value: int, size: int) -> None:
        if bar != 0 or off != d.E1000_TDT:
            real(bar, off, value, size)

    hw.bar_write = deaf
    _, results = core.ethtool_self_test(machine.dev)
    assert results["Loopback test  (offline)"] == 13


def test_a_phy_without_hidden_pages_passes_the_loopback_test() -> None:
    """QEMU's PHY answers registers 29 and 30 with an error; the kernel does not look at it."""
    machine = recorded(up=False)
    hw = machine.adapter.hw
    real = hw.bar_read

    def without(bar: int, off: int, size: int) -> int:
        value = real(bar, off, size)
        if bar == 0 and off == d.E1000_MDIC and value >> d.E1000_MDIC_REG_SHIFT & 0x1F in (29, 30):
            value |= d.E1000_MDIC_ERROR
        return value

    hw.bar_read = without
    passed, results = core.ethtool_self_test(machine.dev)
    assert passed, results


def test_open_during_the_test_is_ebusy() -> None:
    machine = recorded(up=False)
    machine.adapter.flags |= e.E1000_TESTING
    from stack.core.dev import dev_open

    assert dev_open(machine.dev) == -errno.EBUSY
