"""Two net_devices wired to each other: the device layer without a NIC in between."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from e1000emu.clock import VirtualClock
from fastpath.base.skbuff import consume_skb, kfree_skb, skb_from_bytes, skb_to_bytes
from stack.core.dev import dev_open, register_netdev
from stack.core.dev_receive import dev_add_pack
from stack.core.napi import (
    napi_complete_done,
    napi_disable,
    napi_enable,
    napi_gro_receive,
    napi_schedule,
    netif_napi_add,
)
from stack.core.netdevice import (
    NETDEV_TX_BUSY,
    NETDEV_TX_OK,
    napi_struct,
    net_device_ops,
    packet_type,
)
from stack.ethernet.eth import alloc_etherdev, eth_mac_addr, eth_type_trans, eth_validate_addr
from stack.host import Host

QUIET6 = {"net.ipv6.conf.default.addr_gen_mode": 1}
"""Sysctls of a host whose frames are counted: without an address IPv6 sends nothing unasked."""


class WireDevice:
    """The private part of a wired interface: keeps what was sent, delivers by the clock."""

    def __init__(self, dev: Any) -> None:
        self.dev = dev
        self.peer: WireDevice | None = None
        self.sent: list[bytes] = []
        self.more: list[bool] = []
        self.inbox: list[bytes] = []
        self.latency_ns = 1000
        self.busy = 0  # refuse this many packets
        self.drop: Callable[[bytes], bool] = lambda frame: False
        self.napi = napi_struct()

    def open(self, dev: Any) -> int:
        napi_enable(self.napi)
        return 0

    def stop(self, dev: Any) -> int:
        napi_disable(self.napi)
        self.inbox.clear()
        return 0

    def start_xmit(self, skb: Any, dev: Any) -> int:
        if self.busy:
            self.busy -= 1
            return NETDEV_TX_BUSY
        frame = skb_to_bytes(skb)
        self.more.append(dev.xmit_more)
        self.sent.append(frame)
        dev.stats.tx_packets += 1
        dev.stats.tx_bytes += len(frame)
        consume_skb(skb)
        if self.peer is not None and not self.drop(frame):
            clock = dev.net.clock
            peer = self.peer
            clock.call_at(clock.now_ns() + self.latency_ns, lambda: peer.receive(frame))
        return NETDEV_TX_OK

    def receive(self, frame: bytes) -> None:
        """The wire brings a frame: interrupt, then NAPI."""
        self.inbox.append(frame)
        line = self.dev.net.irq_line(10)
        line.set_level(True)

    def interrupt(self, irq: int, dev: Any) -> int:
        self.dev.net.irq_line(10).set_level(False)
        napi_schedule(self.napi)
        return 1

    def poll(self, napi: napi_struct, budget: int) -> int:
        work = 0
        dev = self.dev
        while self.inbox and work < budget:
            frame = self.inbox.pop(0)
            skb = skb_from_bytes(dev.net.skb_small, frame, 64)
            work += 1
            if skb is None:
                dev.stats.rx_dropped += 1
                continue
            dev.stats.rx_packets += 1
            dev.stats.rx_bytes += len(frame)
            skb.protocol = eth_type_trans(skb, dev)
            napi_gro_receive(napi, skb)
        if work < budget:
            napi_complete_done(napi, work)
        return work


def add_wire_device(host: Host, mac: bytes) -> WireDevice:
    """Register an interface eth%d of the kind above; it is not up yet."""
    from stack.core.irq import request_irq

    dev = alloc_etherdev(host, WireDevice)
    wire: WireDevice = dev.priv
    dev.netdev_ops = net_device_ops(
        ndo_open=wire.open,
        ndo_stop=wire.stop,
        ndo_start_xmit=wire.start_xmit,
        ndo_set_mac_address=eth_mac_addr,
        ndo_validate_addr=eth_validate_addr,
    )
    dev.dev_addr = mac
    netif_napi_add(dev, wire.napi, wire.poll)
    assert register_netdev(dev) == 0
    request_irq(host.machine, 10, wire.interrupt, wire)
    return wire


def heard(
    net: Any,
    proto: int,
    look: Callable[[Any], Any],
    dev: Any = None,
    *,
    ignore_outgoing: bool = False,
) -> list[Any]:
    """What `look` says of each packet that a handler of the namespace gets from now on."""
    seen: list[Any] = []

    def func(skb: Any, dev: Any, pt: Any, orig_dev: Any) -> int:
        seen.append(look(skb))
        consume_skb(skb)
        return 0

    dev_add_pack(net, packet_type(proto, func, dev, ignore_outgoing=ignore_outgoing))
    return seen


def wired_pair(
    clock: Any = None, *, inet: bool = False, up: bool = True
) -> tuple[Any, Host, Host, WireDevice, WireDevice]:
    """(clock, host a, host b, a's device, b's device), joined by a wire."""
    clock = VirtualClock() if clock is None else clock
    hosts = [Host(name=n, clock=clock, inet=inet, drivers=False, sysctl=QUIET6) for n in ("a", "b")]
    wires = [
        add_wire_device(host, b"\x02\x00\x00\x00\x00" + bytes([i + 1]))
        for i, host in enumerate(hosts)
    ]
    wires[0].peer, wires[1].peer = wires[1], wires[0]
    if up:
        for wire in wires:
            assert dev_open(wire.dev) == 0
    return clock, hosts[0], hosts[1], wires[0], wires[1]


def frame_skb(
    wire: WireDevice, payload: bytes, *, proto: int = 0x88B5, dst: bytes | None = None
) -> Any:
    """An sk_buff holding a complete frame from `wire` to its peer (or `dst`)."""
    dev = wire.dev
    if dst is None:
        dst = wire.peer.dev.dev_addr if wire.peer is not None else b"\xff" * 6
    data = dst + dev.dev_addr + proto.to_bytes(2, "big") + payload
    skb = skb_from_bytes(dev.net.skb_small, data, 64)
    assert skb is not None
    skb.dev = dev
    skb.protocol = proto
    return skb


def assert_no_leak(*hosts: Host) -> None:
    """Close the hosts; every buffer of their pools must be back."""
    for host in hosts:
        host.close()
    for host in hosts:
        assert host.skb_small.in_use == 0, f"{host.name}: {host.skb_small.in_use} buffers leaked"
        assert host.skb_pages.in_use == 0, f"{host.name}: {host.skb_pages.in_use} pages leaked"
        heads = host.skb_small_head.in_use
        assert heads == 0, f"{host.name}: {heads} small heads leaked"


__all__ = [
    "WireDevice",
    "add_wire_device",
    "assert_no_leak",
    "frame_skb",
    "kfree_skb",
    "wired_pair",
]
