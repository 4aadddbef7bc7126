"""/sys/class/net: the numbers and addresses that a program writes there."""

from __future__ import annotations

import errno

import pytest

from e1000emu.clock import VirtualClock
from stack.api import net_procsys, net_sysfs
from stack.host import Host
from tests.stack.links.switch import refused


@pytest.mark.parametrize(
    ("text", "mtu"), [("1400", 1400), ("0x578", 1400), ("02570\n", 1400), ("+1400", 1400)]
)
def test_numbers_are_read_as_the_kernel_reads_them(text: str, mtu: int) -> None:
    with Host(clock=VirtualClock()) as host:
        host.add_dummy("d0")
        net_sysfs.store(host, "d0/mtu", text)
        assert net_sysfs.show(host, "d0/mtu") == f"{mtu}\n"
        net_procsys.store(host, "ipv4/conf/d0/tag", text.lstrip("+"))
        assert net_procsys.show(host, "ipv4/conf/d0/tag") == f"{mtu}\n"


@pytest.mark.parametrize(
    ("file", "text", "number"),
    [
        ("mtu", "1_400", errno.EINVAL),
        ("mtu", "0b10101111000", errno.EINVAL),
        ("mtu", "-1", errno.EINVAL),
        ("mtu", " 1400", errno.EINVAL),
        ("mtu", str(1 << 64), errno.ERANGE),
        ("netdev_group", str(1 << 64), errno.ERANGE),
        ("tx_queue_len", str(1 << 32), errno.ERANGE),
        ("bridge/group_addr", "0180c2000004", errno.EINVAL),
        ("bridge/group_addr", "01:80:c2", errno.EINVAL),
    ],
)
def test_what_is_no_number_or_address_is_refused(file: str, text: str, number: int) -> None:
    with Host(clock=VirtualClock()) as host:
        host.add_bridge("br0")
        with refused(number):
            net_sysfs.store(host, f"br0/{file}", text)


@pytest.mark.parametrize(("text", "priority"), [("0x1000", 4096), ("8589934598", 6)])
def test_a_bridge_takes_16_bits_of_its_priority(text: str, priority: int) -> None:
    with Host(clock=VirtualClock()) as host:
        host.add_bridge("br0")
        net_sysfs.store(host, "br0/bridge/priority", text)
        assert net_sysfs.show(host, "br0/bridge/priority") == f"{priority}\n"


def test_the_longest_queue_and_a_group_address() -> None:
    with Host(clock=VirtualClock()) as host:
        host.add_bridge("br0")
        net_sysfs.store(host, "br0/tx_queue_len", str((1 << 32) - 1))
        net_sysfs.store(host, "br0/bridge/group_addr", "01:80:C2:00:00:04\n")
        assert net_sysfs.show(host, "br0/tx_queue_len") == "4294967295\n"
        assert net_sysfs.show(host, "br0/bridge/group_addr") == "01:80:c2:00:00:04\n"
