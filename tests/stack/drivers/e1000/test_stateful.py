"""Anything an administrator and a wire can do, in any order: nothing leaks, nothing is lost."""

from __future__ import annotations

import struct

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from stack.core import ethtool as core
from stack.core.dev import (
    dev_close,
    dev_mc_add,
    dev_mc_del,
    dev_open,
    dev_set_mtu,
    dev_set_promiscuity,
)
from stack.core.dev_queue import dev_queue_xmit
from stack.core.netdevice import IFF_UP, netif_carrier_ok
from tests.stack.drivers.e1000.machine import (
    MAC_A,
    MAC_B,
    MILLISECOND,
    SECOND,
    ipv4_super_packet,
    recorded,
)
from tests.support import examples


class DriverMachine(RuleBasedStateMachine):
    """One interface on a recording link."""

    def __init__(self) -> None:
        super().__init__()
        self.machine = recorded(up=False)
        self.machine.nic.phy.autoneg_ns = MILLISECOND
        self.clock = self.machine.clock
        self.empty = self.machine.host.ram.allocated_bytes
        self.number = 0
        self.promiscuous = False

    @property
    def up(self) -> bool:
        return bool(self.machine.dev.flags & IFF_UP)

    def settle(self) -> None:
        if self.machine.link.carrier:
            self.machine.host.wait_carrier("eth0", 5 * SECOND)
        self.machine.run(50 * MILLISECOND)

    @rule()
    def open(self) -> None:
        assert dev_open(self.machine.dev) == 0
        self.settle()

    @rule()
    def close(self) -> None:
        dev_close(self.machine.dev)
        assert self.machine.host.ram.allocated_bytes == self.empty

    @rule(mtu=st.sampled_from([68, 1500, 1501, 4000, 9000, 16110]))
    def change_mtu(self, mtu: int) -> None:
        assert dev_set_mtu(self.machine.dev, mtu) == 0
        if self.up:
            self.settle()

    @rule(rx=st.integers(1, 600), tx=st.integers(1, 600))
    def change_rings(self, rx: int, tx: int) -> None:
        core.ethtool_set_ringparam(self.machine.dev, rx=rx, tx=tx)
        if self.up:
            self.settle()

    @rule(
        name=st.sampled_from(["tso", "gro", "rx", "tx", "sg", "rxvlan", "rx-fcs", "gso"]),
        on=st.booleans(),
    )
    def change_feature(self, name: str, on: bool) -> None:
        core.ethtool_set_features(self.machine.dev, {name: on})
        if self.up:
            self.settle()

    @rule(usecs=st.sampled_from([0, 1, 3, 4, 10, 100]))
    def change_coalescing(self, usecs: int) -> None:
        core.ethtool_set_coalesce(self.machine.dev, rx_usecs=usecs)

    @rule(number=st.integers(0, 40))
    def join(self, number: int) -> None:
        dev_mc_add(self.machine.dev, b"\x01\0\x5e\0\0" + bytes([number]))

    @rule(number=st.integers(0, 40))
    def leave(self, number: int) -> None:
        dev_mc_del(self.machine.dev, b"\x01\0\x5e\0\0" + bytes([number]))

    @rule()
    def toggle_promiscuous(self) -> None:
        dev_set_promiscuity(self.machine.dev, -1 if self.promiscuous else 1)
        self.promiscuous = not self.promiscuous

    @rule(carrier=st.booleans())
    def cable(self, carrier: bool) -> None:
        self.machine.link.set_carrier(carrier)
        if self.up:
            self.settle()

    @rule(room=st.sampled_from([0, 1, 7, None]))
    def link_room(self, room: int | None) -> None:
        self.machine.link.open_room(room)

    @precondition(lambda self: self.up and netif_carrier_ok(self.machine.dev))
    @rule(count=st.integers(1, 80), size=st.integers(4, 1400))
    def send(self, count: int, size: int) -> None:
        machine = self.machine
        machine.link.open_room(None)
        machine.run(10 * MILLISECOND)
        machine.link.take()
        first = self.number
        for _ in range(count):
            machine.send(struct.pack(">I", self.number).ljust(min(size, machine.dev.mtu), b"."))
            self.number += 1
        machine.run(10 * MILLISECOND)
        got = [struct.unpack(">I", frame[14:18])[0] for frame in machine.link.take()]
        assert got == list(range(first, self.number))

    @precondition(lambda self: self.up and netif_carrier_ok(self.machine.dev))
    @rule(length=st.integers(1, 70_000))
    def send_super_packet(self, length: int) -> None:
        machine = self.machine
        machine.link.open_room(None)
        machine.run(10 * MILLISECOND)
        machine.link.take()
        payload = bytes(number % 251 for number in range(length))
        dev_queue_xmit(ipv4_super_packet(machine, payload, mss=1000))
        machine.run(10 * MILLISECOND)
        frames = machine.link.take()
        ends = [14 + int.from_bytes(frame[16:18], "big") for frame in frames]
        got = b"".join(frame[54:end] for frame, end in zip(frames, ends, strict=True))
        assert got == payload

    @precondition(lambda self: self.up and netif_carrier_ok(self.machine.dev))
    @rule(count=st.integers(1, 100))
    def receive(self, count: int) -> None:
        machine = self.machine
        machine.run(10 * MILLISECOND)
        machine.received.clear()
        frames = [
            MAC_A + MAC_B + b"\x88\xb5" + struct.pack(">I", number) * 12 for number in range(count)
        ]
        # As many at a time as a small ring and the part's FIFO take.
        for start in range(0, count, 40):
            machine.link.inject(*frames[start : start + 40])
            machine.run(10 * MILLISECOND)
        got = [struct.unpack(">I", frame[:4])[0] for frame in machine.received]
        assert got == list(range(count))

    @precondition(lambda self: self.machine.link.room != 0)
    @rule()
    def self_test(self) -> None:
        _, results = core.ethtool_self_test(self.machine.dev)
        assert list(results.values())[:4] == [0, 0, 0, 0]
        if self.up:
            self.settle()

    @rule(nanoseconds=st.sampled_from([0, 1000, MILLISECOND, 3 * SECOND, 20 * SECOND]))
    def pass_time(self, nanoseconds: int) -> None:
        self.machine.run(nanoseconds)

    @invariant()
    def driver_and_hardware_agree(self) -> None:
        adapter = self.machine.adapter
        assert adapter.hw_errors == 0
        assert (adapter.tx_ring is not None) == self.up
        assert not self.machine.host.irq_line(10).level or not self.up

    def teardown(self) -> None:
        machine = self.machine
        machine.host.close()
        machine.run(30 * SECOND)
        assert machine.buffers_in_use() == 0
        assert machine.host.ram.allocated_bytes == self.empty


TestDriver = DriverMachine.TestCase
TestDriver.settings = settings(max_examples=examples(25), stateful_step_count=30, deadline=None)


def test_two_drivers_on_one_host_do_not_mix() -> None:
    from e1000emu.device.nic import Nic
    from e1000emu.testing.recorders import RecordingLink

    first = recorded()
    link = RecordingLink()
    nic = Nic(
        memory=first.host.dma_table(),
        irq=first.host.irq_line(10),  # the same line: shared interrupts
        link=link,
        clock=first.clock,
        mac=MAC_B,
    )
    dev = first.host.pci_add(nic.slot, irq=10)
    assert dev is not None
    assert dev.name == "eth1"
    assert dev_open(dev) == 0
    # Two devices on one line need a wired OR; here each sets the level, so raise them in turn.
    assert first.host.wait_carrier("eth1")
    first.link.inject(MAC_A + MAC_B + b"\x88\xb5" + b"to first" * 8)
    first.run()
    link.inject(MAC_B + MAC_A + b"\x88\xb5" + b"to second" * 8)
    first.run()
    assert first.received == [b"to first" * 8, b"to second" * 8]
