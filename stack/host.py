"""One host: a machine with one network namespace, and what one does with it from outside.

A Host is a Net (stack/net.py) on a Machine of its own (stack/machine.py), so it goes wherever a Net
is wanted. Any number of hosts live in one process and share nothing but links (and the clock that
they were given).
"""

from __future__ import annotations

import errno
import functools
import os
from collections.abc import Callable, Mapping
from typing import Any

from fastpath.dma import DmaTable, HostMemory
from fastpath.errors import whole_number
from stack.core.dev import dev_close, dev_open, dev_set_mtu
from stack.core.irq import irq_desc, irq_to_desc
from stack.core.link_watch import linkwatch_pending
from stack.core.netdevice import net_device
from stack.core.pci import PciSlot, pci_device_add
from stack.drivers.e1000.main import e1000_init_module
from stack.ipv4.af_inet import inet_init
from stack.ipv4.devinet import inet_addr_add, inet_addr_del, parse_ifaddr
from stack.ipv4.fib import ip_route_add, ip_route_del
from stack.machine import Machine
from stack.net import Net
from stack.progress import describe, progress
from stack.socket import Socket


class Host(Net):
    """A machine with a network stack.

    Args:
        name: for messages and traces.
        clock: an object as e1000emu.clock has them; hosts on one link share it.
        ram_bytes: memory for packet buffers, rings and what devices reach by DMA; committed lazily.
        seed: of every random choice (ports, sequence numbers, ids); default: derived from name.
        inet: bring up IPv4 and its sockets.
        drivers: register the PCI drivers.
        uid, gid: whose programs open the sockets. Others than root (0) may not open raw sockets,
            bind ports below sysctl ip_unprivileged_port_start, or set what needs CAP_NET_ADMIN.
        sysctl: overrides by Linux name, e.g. {"tcp_timestamps": 0} (docs/knobs.md lists them).
    """

    __slots__ = ("nics",)

    nics: dict[str, Any]
    """The devices that e1000emu.lab plugged in, by the interface's first name."""

    def __init__(
        self,
        name: str = "host",
        *,
        clock: Any,
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
            super().__init__(machine, name, uid=uid, gid=gid, sysctl=sysctl)
            watch = getattr(clock, "watch", None)
            if watch is not None and inet:
                tell = functools.partial(progress, self), functools.partial(describe, self)
                machine.on_closed(watch(machine.timers.interrupt, *tell))
            dev_open(self.loopback_dev)
            if drivers:
                e1000_init_module(machine)

    # --- the machine ----------------------------------------------------------------------------

    def realtime_ns(self, at_ns: int = 0) -> int:
        """Wall time, ns since 1970-01-01 UTC: now, or when the clock showed `at_ns`."""
        return self.machine.realtime_ns(at_ns)

    def irq_line(self, irq: int) -> irq_desc:
        """The interrupt line `irq`: give it to a device as its InterruptLine."""
        return irq_to_desc(self.machine, irq)

    def dma_table(self) -> DmaTable:
        """A new DMA table through which a device reaches this host's memory."""
        return self.machine.dma_table()

    def pci_add(self, slot: PciSlot, irq: int) -> net_device | None:
        """Plug a PCI device in; its driver probes it. The interface it made, or None."""
        with self.lock:
            before = set(self.dev_by_name)
            pci_device_add(self.machine, slot, irq=irq)
            for dev in self.dev_base_head:
                if dev.name not in before:
                    return dev
        return None

    # --- administration -------------------------------------------------------------------------

    def dev(self, name: str) -> net_device:
        """The interface called `name`.

        Raises:
            OSError: ENODEV, there is none.
        """
        dev = self.dev_by_name.get(name)
        if dev is None:
            known = ", ".join(self.dev_by_name)
            raise OSError(errno.ENODEV, f"{self.name}: no interface {name!r}; there are: {known}")
        return dev

    def ifconfig(
        self,
        name: str,
        addr: str | None = None,
        *,
        up: bool | None = None,
        mtu: int | None = None,
    ) -> None:
        """Configure an interface: `addr` "10.0.0.1/24" is added, then `mtu`, then up or down.

        Raises:
            OSError: with the kernel's errno. ArgumentError (a ValueError): no address with its
                prefix length, no whole number.
        """
        with self.lock:
            dev = self.dev(name)
            if mtu is not None:
                mtu = whole_number(f"{self.name}.ifconfig", "mtu", mtu, unit="bytes")
                _check(dev_set_mtu(dev, mtu), f"{name}: mtu {mtu}")
            if addr is not None:
                inet_addr_add(dev, *parse_ifaddr(addr))
            if up is not None:
                if up:
                    _check(dev_open(dev), f"{name}: open")
                else:
                    dev_close(dev)

    def addr_del(self, name: str, addr: str) -> None:
        """Remove an address such as "10.0.0.1/24".

        Raises:
            OSError: EADDRNOTAVAIL when the interface does not have it.
        """
        local, prefixlen = parse_ifaddr(addr)
        with self.lock:
            inet_addr_del(self.dev(name), local, prefixlen)

    def route_add(
        self, prefix: str, via: str | None = None, dev: str | None = None, **kw: Any
    ) -> None:
        """`ip route add PREFIX [via GW] [dev DEV]`; "default" or "10.0.0.0/8" as prefix."""
        with self.lock:
            ip_route_add(self, prefix, via=via, dev=dev, **kw)

    def route_del(
        self, prefix: str, via: str | None = None, dev: str | None = None, **kw: Any
    ) -> None:
        """`ip route del`."""
        with self.lock:
            ip_route_del(self, prefix, via=via, dev=dev, **kw)

    def wait_carrier(self, name: str, timeout_ns: int = 10_000_000_000) -> bool:
        """Wait until the interface's link is up (and its queue active). False after the timeout."""
        dev = self.dev(name)
        timeout_ns = whole_number("wait_carrier", "timeout_ns", timeout_ns, 0, unit="ns")
        with self.lock:
            return bool(self.clock.wait(lambda: not linkwatch_pending(dev), timeout_ns))

    def socket(self, family: int = 2, type: int = 1, proto: int = 0) -> Socket:  # noqa: A002
        """A socket of this host, with the interface of the standard library's."""
        return Socket(self, family, type, proto)

    # --- end ------------------------------------------------------------------------------------

    def on_close(self, fn: Callable[[], Any]) -> None:
        """Have `fn()` called when `close` begins, last registered first: interfaces still work."""
        self.machine.on_close(fn)

    def on_closed(self, fn: Callable[[], Any]) -> None:
        """Have `fn()` called when `close` ends, last registered first: interfaces are gone."""
        self.machine.on_closed(fn)

    def close(self) -> None:
        """Close the machine with all its namespaces. Idempotent."""
        self.machine.close()

    def __enter__(self) -> Host:
        return self


def _check(err: int, what: str) -> None:
    if err:
        raise OSError(-err, f"{what}: {os.strerror(-err)}")
