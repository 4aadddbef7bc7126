"""Filters: addresses, multicast hash, promiscuity, VLANs."""

from __future__ import annotations

import errno

import pytest

from stack.core.dev import (
    dev_close,
    dev_mc_add,
    dev_mc_del,
    dev_set_allmulti,
    dev_set_mtu,
    dev_set_promiscuity,
    dev_uc_add,
    dev_uc_del,
)
from stack.core.ethtool import ethtool_set_features
from stack.drivers.e1000 import defs as d
from stack.drivers.e1000.hw import e1000_hash_mc_addr
from stack.drivers.e1000.rxmode import e1000_vlan_rx_add_vid, e1000_vlan_rx_kill_vid
from tests.stack.drivers.e1000.machine import MAC_A, MAC_B, Machine, bring_up

TYPE = b"\x88\xb5"


def arrives(machine: Machine, dst: bytes, tag: bytes = b"") -> bool:
    """A frame to `dst` gets past the part's filter (the driver counts it)."""
    ring = machine.adapter.rx_ring
    before = ring.frames
    machine.link.inject(dst + MAC_B + tag + TYPE + bytes(60))
    machine.run()
    return ring.frames == before + 1


def multicast(number: int) -> bytes:
    return b"\x01\x00\x5e" + number.to_bytes(3, "big")


def test_only_our_address_and_broadcast_arrive(machine: Machine) -> None:
    assert arrives(machine, MAC_A)
    assert arrives(machine, b"\xff" * 6)
    assert not arrives(machine, MAC_B)
    assert not arrives(machine, multicast(1))


def test_unicast_list_uses_exact_entries(machine: Machine) -> None:
    extra = [b"\x02\0\0\0\0" + bytes([number]) for number in range(14)]
    for addr in extra:
        dev_uc_add(machine.dev, addr)
    assert all(arrives(machine, addr) for addr in extra)
    assert not arrives(machine, b"\x02\0\0\0\0\x63")
    dev_uc_del(machine.dev, extra[3])
    assert not arrives(machine, extra[3])
    assert arrives(machine, extra[4])


def test_more_unicast_addresses_than_entries_turn_promiscuous(machine: Machine) -> None:
    for number in range(15):
        dev_uc_add(machine.dev, b"\x02\0\0\0\0" + bytes([number]))
    assert machine.reg(d.E1000_RCTL) & d.E1000_RCTL_UPE
    assert arrives(machine, MAC_B)


def test_multicast_list_is_exact_first_and_hashed_then(machine: Machine) -> None:
    groups = [multicast(number * 7) for number in range(60)]
    for group in groups:
        dev_mc_add(machine.dev, group)
    assert all(arrives(machine, group) for group in groups)
    hashes = {e1000_hash_mc_addr(machine.adapter.hw, group) for group in groups}
    stranger = next(
        multicast(number)
        for number in range(100_000, 200_000)
        if e1000_hash_mc_addr(machine.adapter.hw, multicast(number)) not in hashes
    )
    assert not arrives(machine, stranger)
    for group in groups:
        dev_mc_del(machine.dev, group)
    assert not any(arrives(machine, group) for group in groups)


def test_all_multicast_and_promiscuous(machine: Machine) -> None:
    dev_set_allmulti(machine.dev, 1)
    assert arrives(machine, multicast(99))
    assert not arrives(machine, MAC_B)
    dev_set_allmulti(machine.dev, -1)
    assert not arrives(machine, multicast(99))
    dev_set_promiscuity(machine.dev, 1)
    assert arrives(machine, MAC_B)
    dev_set_promiscuity(machine.dev, -1)
    assert not arrives(machine, MAC_B)


def test_filters_survive_down_and_up(machine: Machine) -> None:
    dev_mc_add(machine.dev, multicast(5))
    e1000_vlan_rx_add_vid(machine.dev, 0x8100, 7)
    dev_close(machine.dev)
    bring_up(machine)
    assert arrives(machine, multicast(5))
    assert arrives(machine, MAC_A, bytes.fromhex("81000007"))
    assert not arrives(machine, MAC_A, bytes.fromhex("81000008"))


def test_filters_survive_a_change_of_mtu(machine: Machine) -> None:
    dev_mc_add(machine.dev, multicast(5))
    e1000_vlan_rx_add_vid(machine.dev, 0x8100, 7)
    assert dev_set_mtu(machine.dev, 9000) == 0
    assert machine.host.wait_carrier("eth0")
    assert arrives(machine, multicast(5))
    assert not arrives(machine, MAC_A, bytes.fromhex("81000008"))


@pytest.mark.parametrize("vid", [0, 1, 31, 32, 100, 4094, 4095])
def test_vlan_filter_lets_only_registered_ids_pass(vid: int, machine: Machine) -> None:
    tag = b"\x81\x00" + vid.to_bytes(2, "big")
    assert arrives(machine, MAC_A, tag)  # no VLAN registered: no filter
    assert e1000_vlan_rx_add_vid(machine.dev, 0x8100, (vid + 1) % 4096) == 0
    assert not arrives(machine, MAC_A, tag)
    assert e1000_vlan_rx_add_vid(machine.dev, 0x8100, vid) == 0
    assert arrives(machine, MAC_A, tag)
    assert e1000_vlan_rx_kill_vid(machine.dev, 0x8100, vid) == 0
    assert not arrives(machine, MAC_A, tag)
    assert e1000_vlan_rx_kill_vid(machine.dev, 0x8100, (vid + 1) % 4096) == 0
    assert arrives(machine, MAC_A, tag)


def test_vlan_id_out_of_range_is_einval(down: Machine) -> None:
    assert e1000_vlan_rx_add_vid(down.dev, 0x8100, 4096) == -errno.EINVAL


def test_promiscuous_mode_sees_every_vlan(machine: Machine) -> None:
    e1000_vlan_rx_add_vid(machine.dev, 0x8100, 7)
    dev_set_promiscuity(machine.dev, 1)
    assert arrives(machine, MAC_B, bytes.fromhex("81000009"))
    dev_set_promiscuity(machine.dev, -1)
    assert not arrives(machine, MAC_A, bytes.fromhex("81000009"))


def test_stripping_is_off_when_rxvlan_is_off(machine: Machine) -> None:
    ethtool_set_features(machine.dev, {"rxvlan": False})
    assert not machine.reg(d.E1000_CTRL) & d.E1000_CTRL_VME
    ethtool_set_features(machine.dev, {"rxvlan": True})
    assert machine.reg(d.E1000_CTRL) & d.E1000_CTRL_VME


def test_rx_all_keeps_bad_frames_and_rx_fcs_keeps_the_fcs(machine: Machine) -> None:
    ethtool_set_features(machine.dev, {"rx-fcs": True})
    assert machine.host.wait_carrier("eth0")
    machine.link.inject(MAC_A + MAC_B + TYPE + bytes(60))
    machine.run()
    assert [len(frame) for frame in machine.received] == [64]
    ethtool_set_features(machine.dev, {"rx-fcs": False, "rx-all": True})
    assert machine.host.wait_carrier("eth0")
    assert machine.reg(d.E1000_RCTL) & d.E1000_RCTL_SBP
    machine.received.clear()
    machine.link.inject(MAC_A + MAC_B + TYPE + bytes(60))
    machine.run()
    assert [len(frame) for frame in machine.received] == [60]
