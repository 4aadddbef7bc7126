"""A host with one emulated NIC: on a recording link, or two of them on a cable."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from e1000emu.clock import VirtualClock
from e1000emu.device.nic import Nic
from e1000emu.insight.faults import Faults
from e1000emu.links.pair import pair
from e1000emu.testing.recorders import RecordingLink
from fastpath._ref.gso import segment
from fastpath.base.csum import csum_ipv6_magic
from fastpath.base.skbuff import (
    CHECKSUM_PARTIAL,
    SKB_GSO_TCPV4,
    SKB_GSO_TCPV6,
    SKB_GSO_UDP_L4,
    alloc_skb,
    skb_add_data,
    skb_from_bytes,
    skb_put_data,
    skb_set_network_header,
    skb_set_transport_header,
    skb_to_bytes,
)
from stack.core.dev import dev_open
from stack.core.dev_queue import dev_queue_xmit
from stack.core.netdevice import net_device
from stack.core.pci import pci_dev
from stack.drivers.e1000.e1000 import e1000_adapter
from stack.host import Host
from tests.fastpath.frames import tcp as frame_tcp
from tests.fastpath.frames import udp as frame_udp
from tests.stack.core.wire import heard

MAC_A = b"\x52\x54\x00\x00\x00\x01"
MAC_B = b"\x52\x54\x00\x00\x00\x02"
ETH_P_TEST = 0x88B5  # IEEE 802 local experimental
MILLISECOND = 1_000_000
SECOND = 1_000_000_000
FD00_1 = 0xFD00 << 112 | 1


@dataclass(slots=True)
class Machine:
    """Host, NIC, interface; and what the interface received of ETH_P_TEST."""

    host: Host
    nic: Nic
    dev: net_device
    clock: VirtualClock
    link: Any
    received: list[bytes]
    vlans: list[int]

    @property
    def adapter(self) -> e1000_adapter:
        return self.dev.priv

    @property
    def pdev(self) -> pci_dev:
        return self.adapter.pdev

    def reg(self, offset: int) -> int:
        return self.nic.slot.bar_read(0, offset, 4)

    def send(self, payload: bytes, *, dst: bytes = b"\xff" * 6, vlan: int | None = None) -> int:
        """Send one frame of ETH_P_TEST through qdisc and driver."""
        frame = dst + self.dev.dev_addr + ETH_P_TEST.to_bytes(2, "big") + payload
        pool = self.host.skb_small if len(frame) < 1900 else self.host.skb_pages
        skb = skb_from_bytes(pool, frame, 16)
        assert skb is not None
        skb.dev = self.dev
        skb.protocol = ETH_P_TEST
        if vlan is not None:
            skb.vlan_proto = 0x8100
            skb.vlan_tci = vlan
        return dev_queue_xmit(skb)

    def run(self, duration_ns: int = MILLISECOND) -> None:
        self.clock.run_for(duration_ns)

    def buffers_in_use(self) -> int:
        host = self.host
        return host.skb_small.in_use + host.skb_pages.in_use + host.skb_small_head.in_use


def plug(
    clock: Any,
    link: Any,
    *,
    name: str = "a",
    mac: bytes = MAC_A,
    autoneg_ns: int = SECOND,
    faults: Faults | None = None,
    model: str = "82540EM",
    wide_bars: bool = False,
    flash: bytes | None = None,
    **params: int,
) -> Machine:
    """Build a machine whose interface exists and is down."""
    from stack.drivers.e1000.main import e1000_init_module

    host = Host(name, clock=clock, inet=False, drivers=False)
    nic = Nic(
        memory=host.dma_table(),
        irq=host.irq_line(10),
        link=link,
        clock=clock,
        model=model,
        mac=mac,
        autoneg_ns=autoneg_ns,
        faults=faults,
        wide_bars=wide_bars,
        flash=flash,
    )
    e1000_init_module(host.machine, **params)
    dev = host.pci_add(nic.slot, irq=10)
    assert dev is not None
    return Machine(host, nic, dev, clock, link, heard(host, ETH_P_TEST, skb_to_bytes), [])


def recorded(*, up: bool = True, **params: Any) -> Machine:
    """One machine on a recording link, with its carrier unless `up` is false."""
    machine = plug(VirtualClock(), RecordingLink(), **params)
    if up:
        bring_up(machine)
    return machine


def bring_up(machine: Machine) -> None:
    assert dev_open(machine.dev) == 0
    assert machine.host.wait_carrier(machine.dev.name)


def cabled(**params: Any) -> tuple[Machine, Machine]:
    """Two machines on a cable, both with carrier."""
    clock = VirtualClock()
    end_a, end_b = pair(clock)
    a = plug(clock, end_a, name="a", mac=MAC_A, **params)
    b = plug(clock, end_b, name="b", mac=MAC_B, **params)
    for machine in (a, b):
        bring_up(machine)
    clock.run_for(SECOND)
    return a, b


def ipv4_super_packet(
    machine: Machine, payload: bytes, *, mss: int, udp: bool = False, dst: bytes = MAC_B
) -> Any:
    """A GSO sk_buff 10.0.0.1 -> 10.0.0.2 as TCP or UDP would hand it down; data at Ethernet."""
    l4 = (
        bytes.fromhex("1f40 2328 0000 0000")
        if udp
        else bytes.fromhex("1f40 2328 0000 0001 0000 0002 5018 2000 0000 0000")
    )
    total = 20 + len(l4) + len(payload)
    ip = bytes.fromhex("4500") + (total & 0xFFFF if total < 65536 else 0).to_bytes(2, "big")
    ip += bytes.fromhex("0007 4000 40") + (b"\x11" if udp else b"\x06") + b"\0\0"
    ip += bytes([10, 0, 0, 1, 10, 0, 0, 2])
    skb = alloc_skb(machine.host.skb_small, 1600, 32)
    assert skb is not None
    skb_put_data(skb, dst + machine.dev.dev_addr + b"\x08\x00" + ip + l4)
    assert skb_add_data(skb, machine.host.skb_pages, payload, 0, len(payload)) == len(payload)
    skb_set_network_header(skb, 14)
    skb_set_transport_header(skb, 34)
    skb.protocol = 0x0800
    skb.dev = machine.dev
    skb.ip_summed = CHECKSUM_PARTIAL
    skb.csum_start = skb.transport_header
    skb.csum_offset = 6 if udp else 16
    skb.gso_type = SKB_GSO_UDP_L4 if udp else SKB_GSO_TCPV4
    skb.gso_size = mss
    skb.gso_segs = -(-len(payload) // mss)
    return skb


def ipv6_super_packet(
    host: Host, dev: net_device, payload: bytes, *, mss: int, udp: bool = False, dst: bytes = MAC_B
) -> Any:
    """A sk_buff fd00::1 -> ::2 as TCP or UDP hands it down; data at Ethernet. mss 0: no GSO."""
    build = frame_udp if udp else frame_tcp
    whole = bytearray(build(b"", v6=True, src=FD00_1, sport=40000, dport=9))
    size = len(whole) - 54 + len(payload)
    whole[:14] = dst + dev.dev_addr + b"\x86\xdd"
    whole[18:20] = (size if size < 65536 else 0).to_bytes(2, "big")
    at = 60 if udp else 70
    check = ~csum_ipv6_magic(FD00_1, 2, size, 17 if udp else 6) & 0xFFFF
    whole[at : at + 2] = check.to_bytes(2, "big")
    if udp:
        whole[58:60] = (size if size < 65536 else 0).to_bytes(2, "big")
    skb = alloc_skb(host.skb_small, 1600, 32)
    assert skb is not None
    skb_put_data(skb, bytes(whole))
    assert skb_add_data(skb, host.skb_pages, payload, 0, len(payload)) == len(payload)
    skb_set_network_header(skb, 14)
    skb_set_transport_header(skb, 54)
    skb.protocol = 0x86DD
    skb.dev = dev
    skb.ip_summed = CHECKSUM_PARTIAL
    skb.csum_start = skb.transport_header
    skb.csum_offset = at - 54
    if mss:
        skb.gso_type = SKB_GSO_UDP_L4 if udp else SKB_GSO_TCPV6
        skb.gso_size = mss
        skb.gso_segs = -(-len(payload) // mss)
    return skb


def ipv6_frames(
    dev: net_device, payload: bytes, mss: int, *, udp: bool = False, dst: bytes = MAC_B
) -> list[bytes]:
    """The frames an ipv6_super_packet stands for, by the twins."""
    build = frame_udp if udp else frame_tcp
    super_frame = build(b"", v6=True, src=FD00_1, sport=40000, dport=9) + payload
    kind = SKB_GSO_UDP_L4 if udp else SKB_GSO_TCPV6
    frames = segment(super_frame, 14, 54, mss, kind)
    return [dst + dev.dev_addr + frame[12:] for frame in frames]
