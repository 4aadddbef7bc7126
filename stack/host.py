"""One host: a machine with its first network namespace, as programs use it.

A Host is a Namespace (stack/api/netns.py), and so a Net, on a Machine of its own
(stack/machine.py). Any number of hosts live in one process and share only links and the
clock that they were given.
"""

from __future__ import annotations

import errno
import functools
from collections.abc import Callable, Mapping
from typing import Any

from fastpath.base.dma import DmaTable, HostMemory
from fastpath.errors import check_methods, check_type, whole_number
from stack.api.netns import Namespace
from stack.core.clock import Clock, watch
from stack.core.dev import dev_open
from stack.core.errors import os_error
from stack.core.irq import irq_desc, irq_to_desc
from stack.core.net_namespace import register_pernet_subsys
from stack.core.netdevice import net_device
from stack.core.pci import PciSlot, pci_device_add
from stack.drivers.e1000.main import e1000_init_module
from stack.ipv4.af_inet import inet_init
from stack.ipv6.addrconf import addrconf_register
from stack.ipv6.af_inet6 import inet6_init
from stack.ipv6.ipv6_init import ipv6_init
from stack.machine import Machine
from stack.netfilter.nf_conntrack_core import nf_conntrack_init
from stack.netlink.netlink_init import netlink_net_ops
from stack.packet.packet_init import packet_net_ops
from stack.progress import describe, progress
from stack.sched.sch_kinds import psched_net_ops
from stack.unix.af_unix import unix_net_ops
from stack.xtp.af_xtp import xtp_net_ops


class Host(Namespace):
    """A machine with a network stack.

    Args:
        name: for messages and traces.
        clock: one of those in e1000emu.clock; hosts on one link share it.
        ram_bytes: memory for packet buffers, rings and DMA of devices; committed lazily.
        seed: for every random choice (ports, sequence numbers, ids); default: derived from name.
        inet: bring up IPv4 and its sockets.
        drivers: register the PCI drivers.
        uid, gid: user and group of the programs that open the sockets. A user other than root (0)
            may not open raw sockets, bind ports below sysctl ip_unprivileged_port_start, or set
            what needs CAP_NET_ADMIN.
        sysctl: overrides by Linux name, e.g. {"tcp_timestamps": 0} (docs/knobs.md lists them).
    """

    __slots__ = ("nics",)

    nics: dict[str, Any]
    """The devices that e1000emu.lab plugged in, by the interface's first name."""

    def __init__(
        self,
        name: str = "host",
        *,
        clock: Clock,
        ram_bytes: int = 128 << 20,
        ram: HostMemory | None = None,
        seed: int | str | None = None,
        inet: bool = True,
        drivers: bool = True,
        uid: int = 0,
        gid: int = 0,
        sysctl: Mapping[str, Any] | None = None,
    ) -> None:
        machine = Machine(name, clock=clock, ram_bytes=ram_bytes, ram=ram, seed=seed)
        self.nics = {}
        with machine.lock:
            if inet:
                inet_init(machine)
                ipv6_init(machine)
                inet6_init(machine)
                addrconf_register(machine)
                later = (xtp_net_ops, packet_net_ops, netlink_net_ops, unix_net_ops, psched_net_ops)
                for ops in later:
                    register_pernet_subsys(machine, ops)
                nf_conntrack_init(machine)
            super().__init__(machine, name, uid=uid, gid=gid, sysctl=sysctl)
            if inet:
                tell = functools.partial(progress, machine), functools.partial(describe, machine)
                unwatch = watch(clock, machine.timers.interrupt, *tell)
                if unwatch is not None:
                    machine.on_closed(unwatch)
            dev_open(self.loopback_dev)
            if drivers:
                e1000_init_module(machine)

    # --- the machine ----------------------------------------------------------------------------

    def realtime_ns(self, at_ns: int = 0) -> int:
        """Wall time, ns since 1970-01-01 UTC: now, or when the clock showed `at_ns`."""
        return self.machine.realtime_ns(at_ns)

    def irq_line(self, irq: int) -> irq_desc:
        """The interrupt line `irq`: pass it to a device as its InterruptLine."""
        return irq_to_desc(self.machine, whole_number("irq_line", "irq", irq, 0))

    def dma_table(self) -> DmaTable:
        """A new DMA table through which a device reaches this host's memory."""
        return self.machine.dma_table()

    def pci_add(self, slot: PciSlot, irq: int) -> net_device | None:
        """Plug a PCI device in; its driver probes it. The new interface, or None."""
        check_methods("pci_add", "slot", slot, ("config_read",), "a PCI device, such as Nic.slot")
        with self.lock:
            before = set(self.dev_by_name)
            pci_device_add(self.machine, slot, irq=irq)
            for dev in self.dev_base_head:
                if dev.name not in before:
                    return dev
        return None

    # --- namespaces -----------------------------------------------------------------------------

    def netns_add(
        self, name: str, *, sysctl: Mapping[str, Any] | None = None, uid: int | None = None
    ) -> Namespace:
        """`ip netns add NAME`: add a network namespace to this machine; its `lo` is down.

        Raises: OSError: EEXIST, the name exists. SysctlError: see Namespace.
        """
        check_type("netns_add", "name", name, str, "text")
        with self.lock:
            if any(net.name == name for net in self.machine.net_namespace_list):
                raise os_error(errno.EEXIST, f"{self.name}: there is a namespace {name!r} already")
            uid = self.uid if uid is None else uid
            return Namespace(self.machine, name, uid=uid, gid=self.gid, sysctl=sysctl)

    def netns(self, name: str) -> Namespace:
        """The namespace called `name`. Raises: OSError: ENOENT."""
        for net in self.machine.net_namespace_list:
            if net.name == name and isinstance(net, Namespace):
                return net
        known = ", ".join(net.name for net in self.machine.net_namespace_list)
        raise os_error(errno.ENOENT, f"{self.name}: no namespace {name!r}; there are: {known}")

    # --- end ------------------------------------------------------------------------------------

    def on_close(self, fn: Callable[[], Any]) -> None:
        """Call `fn()` when `close` begins, last registered first: interfaces still work."""
        self.machine.on_close(fn)

    def on_closed(self, fn: Callable[[], Any]) -> None:
        """Call `fn()` when `close` ends, last registered first: interfaces are removed."""
        self.machine.on_closed(fn)

    def close(self) -> None:
        """Close the machine with all its namespaces. Idempotent."""
        self.machine.close()

    def __enter__(self) -> Host:
        return self
