"""The same wire twice: two namespaces of the kernel, and two of our hosts."""

from __future__ import annotations

import mmap
import os
import socket as stdlib
import time
from collections.abc import Iterator
from typing import Any

import pytest

from e1000emu.clock import VirtualClock
from e1000emu.lab import add_nic
from e1000emu.links import pair
from stack.core.dev import dev_close, dev_open, dev_set_promiscuity
from stack.host import Host
from tests.stack.packet.kernelnet import AF_PACKET, MACS, A, B, KernelNet, World, two_nets
from tests.support import require


@pytest.fixture(scope="module")
def kernel() -> Iterator[World]:
    require.netns()
    cpus = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(cpus)})  # BY_CPU
    nets: tuple[KernelNet, KernelNet] = two_nets(MACS)

    def make(end: int, kind: int, proto: int) -> Any:
        return nets[end].socket(AF_PACKET, kind, stdlib.htons(proto))

    def set_up(end: int, up: bool) -> None:
        nets[end].set_up("eth0", up)
        while up and nets[1 - end].is_up("eth0") and not all(net.running("eth0") for net in nets):
            time.sleep(0.001)  # until then a sender's queue throws packets away

    def mapped(sock: Any, length: int, offset: int) -> Any:
        return mmap.mmap(sock.fileno(), length, offset=offset)

    yield World(make, set_up, lambda: None, mapped)
    os.sched_setaffinity(0, cpus)
    for net in nets:
        net.close()


def our_hosts() -> tuple[Host, Host]:
    clock = VirtualClock()
    links = pair(clock)
    quiet = {"net.ipv6.conf.all.disable_ipv6": 1}
    hosts = Host(name="a", clock=clock, sysctl=quiet), Host(name="b", clock=clock, sysctl=quiet)
    for host, link, mac in zip(hosts, links, (A, B), strict=True):
        add_nic(host, link, mac=mac, wait=False)
    for host in hosts:
        assert host.wait_carrier("eth0")
        dev_set_promiscuity(host.dev("eth0"), 1)  # a NIC filters by address, veth does not
    return hosts


@pytest.fixture(scope="module")
def ours() -> Iterator[World]:
    hosts = our_hosts()

    def set_up(end: int, up: bool) -> None:
        host = hosts[end]
        (dev_open if up else dev_close)(host.dev("eth0"))
        host.clock.run_for(5_000_000_000)

    def make(end: int, kind: int, proto: int) -> Any:
        return hosts[end].socket(AF_PACKET, kind, stdlib.htons(proto))

    def mapped(sock: Any, length: int, offset: int) -> Any:
        return sock.mmap(length, offset)

    yield World(make, set_up, lambda: hosts[0].clock.run_for(1_000_000), mapped)
    for host in hosts:
        host.close()
