"""Interface addresses: primary and secondary, broadcast, scopes, notifiers, promotion."""

from __future__ import annotations

import errno

import pytest

from stack.core.dev import dev_close, dev_open, dev_set_mtu, unregister_netdev
from stack.core.net_namespace import register_pernet_subsys
from stack.core.uapi import RT_SCOPE_HOST
from stack.ipv4.af_inet import inet_netns
from stack.ipv4.arp import arp_net_ops
from stack.ipv4.devinet import (
    IFA_F_DEPRECATED,
    IFA_F_SECONDARY,
    NETDEV_DOWN,
    NETDEV_UP,
    devinet_net_ops,
    inet_addr_add,
    inet_addr_change,
    inet_addr_del,
    register_inetaddr_notifier,
    unregister_inetaddr_notifier,
)
from tests.stack.core.wire import wired_pair


@pytest.fixture
def dev():
    _clock, a, b, wa, _wb = wired_pair()
    inet_netns(a)
    steps = a.ipv4.steps  # there are no tables of routes
    steps.fib_add_ifaddr = steps.fib_del_ifaddr = lambda *addresses: None
    register_pernet_subsys(a.machine, arp_net_ops)
    register_pernet_subsys(a.machine, devinet_net_ops)
    yield wa.dev
    a.close()
    b.close()


def locals_of(dev):
    return [(i.ifa_local, bool(i.ifa_flags & IFA_F_SECONDARY)) for i in dev.ip_ptr.ifa_list]


def test_the_first_address_of_a_subnet_is_primary(dev):
    inet_addr_add(dev, 0x0A000001, 24)
    inet_addr_add(dev, 0x0A000002, 24)
    inet_addr_add(dev, 0x0B000001, 24)
    assert locals_of(dev) == [(0x0A000001, False), (0x0B000001, False), (0x0A000002, True)]


def test_masks_and_broadcasts(dev):
    ifa = inet_addr_add(dev, 0x0A000105, 22)
    assert (ifa.ifa_mask, ifa.ifa_broadcast) == (0xFFFFFC00, 0x0A0003FF)
    assert inet_addr_add(dev, 0x0C000001, 31).ifa_broadcast == 0
    assert inet_addr_add(dev, 0x0C000005, 32).ifa_mask == 0xFFFFFFFF
    assert inet_addr_add(dev, 0x7F000005, 8).ifa_scope == RT_SCOPE_HOST
    assert inet_addr_add(dev, 0x0D000001, 24, broadcast=0x0D0000FE).ifa_broadcast == 0x0D0000FE
    assert inet_addr_add(dev, 0x0E000001, 32, peer=0x0E000002).ifa_address == 0x0E000002


@pytest.mark.parametrize(("prefix", "err"), [(33, errno.EINVAL), (-1, errno.EINVAL)])
def test_bad_prefix_lengths(dev, prefix, err):
    with pytest.raises(OSError, match="prefix") as info:
        inet_addr_add(dev, 0x0A000001, prefix)
    assert info.value.errno == err


def test_errors(dev):
    inet_addr_add(dev, 0x0A000001, 24)
    with pytest.raises(OSError, match="exists"):
        inet_addr_add(dev, 0x0A000001, 24)
    with pytest.raises(OSError, match="assign"):
        inet_addr_del(dev, 0x0A000009, 24)
    with pytest.raises(OSError, match="Invalid"):
        inet_addr_add(dev, 0, 24)


def test_removing_the_primary_removes_its_secondaries(dev):
    for host in (1, 2, 3):
        inet_addr_add(dev, 0x0A000000 + host, 24)
    inet_addr_add(dev, 0x0B000001, 24)
    inet_addr_del(dev, 0x0A000001, 24)
    assert locals_of(dev) == [(0x0B000001, False)]


def test_or_promotes_the_first_of_them(dev):
    dev.net.sysctl.promote_secondaries = 1
    for host in (1, 2, 3):
        inet_addr_add(dev, 0x0A000000 + host, 24)
    inet_addr_del(dev, 0x0A000001, 24)
    assert locals_of(dev) == [(0x0A000002, False), (0x0A000003, True)]


def test_notifiers_hear_of_each_address(dev):
    events = []

    def notify(event, ifa):
        events.append((event, ifa.ifa_local))

    register_inetaddr_notifier(dev.net, notify)
    inet_addr_add(dev, 0x0A000001, 24)
    inet_addr_add(dev, 0x0A000002, 24)
    inet_addr_del(dev, 0x0A000001, 24)
    assert events == [
        (NETDEV_UP, 0x0A000001),
        (NETDEV_UP, 0x0A000002),
        (NETDEV_DOWN, 0x0A000002),
        (NETDEV_DOWN, 0x0A000001),
    ]
    unregister_inetaddr_notifier(dev.net, notify)
    inet_addr_add(dev, 0x0A000001, 24)
    assert len(events) == 4


def test_an_mtu_too_small_takes_ipv4_away(dev):
    inet_addr_add(dev, 0x0A000001, 24)
    dev.min_mtu = 0
    assert dev_set_mtu(dev, 60) == 0
    assert dev.ip_ptr is None
    with pytest.raises(OSError, match="too small"):
        inet_addr_add(dev, 0x0A000001, 24)
    assert dev_set_mtu(dev, 1500) == 0
    assert dev.ip_ptr is not None


def test_addresses_survive_down_and_go_with_the_device(dev):
    inet_addr_add(dev, 0x0A000001, 24)
    dev_close(dev)
    dev_open(dev)
    in_dev = dev.ip_ptr
    assert [ifa.ifa_local for ifa in in_dev.ifa_list] == [0x0A000001]
    unregister_netdev(dev)
    assert dev.ip_ptr is None
    assert in_dev.ifa_list == []


def flags_of(dev):
    return [(ifa.ifa_local & 0xFF, ifa.ifa_flags) for ifa in dev.ip_ptr.ifa_list]


def test_an_address_is_deprecated_and_removed_in_its_time(dev):
    clock, permanent = dev.net.clock, 0x80
    inet_addr_add(dev, 0x0A000001, 24, valid_lft=30, preferred_lft=10)
    inet_addr_add(dev, 0x0A000102, 24, preferred_lft=0)
    inet_addr_add(dev, 0x0A000203, 24)
    assert dev.net.ipv4.addr_chk_timer.pending
    clock.run_for(9_900_000_000)
    assert flags_of(dev) == [(1, 0), (2, permanent | IFA_F_DEPRECATED), (3, permanent)]
    clock.run_for(200_000_000)
    assert flags_of(dev)[0] == (1, IFA_F_DEPRECATED)
    clock.run_for(19_800_000_000)
    assert len(flags_of(dev)) == 3
    clock.run_for(200_000_000)
    assert [last for last, _ in flags_of(dev)] == [2, 3]
    assert not dev.net.ipv4.addr_chk_timer.pending


def test_a_lifetime_can_be_changed(dev):
    ifa = inet_addr_add(dev, 0x0A000001, 24, valid_lft=30, preferred_lft=10)
    dev.net.clock.run_for(15_000_000_000)
    assert ifa.ifa_flags == IFA_F_DEPRECATED
    inet_addr_change(ifa, 30, 20, 0, 0)
    assert not ifa.ifa_flags
    dev.net.clock.run_for(29_000_000_000)
    assert flags_of(dev) == [(1, IFA_F_DEPRECATED)]
    inet_addr_change(ifa, 0xFFFFFFFF, 0xFFFFFFFF, 0, 0)
    dev.net.clock.run_for(9_000_000_000)
    assert flags_of(dev) == [(1, 0x80)]


def test_a_host_without_lifetimes_has_no_timer(dev):
    inet_addr_add(dev, 0x0A000001, 24)
    assert dev.net.ipv4.addr_chk_timer is None
