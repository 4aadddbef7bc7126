"""One host: clock, memory, interrupts, timers, devices, sockets. The kernel's `struct net`.

Everything below the socket face calls a Host `net`. Any number of hosts live in one process and
share nothing but links (and the clock that they were given).
"""

from __future__ import annotations

import functools
import random
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from fastpath.dma import DmaTable, HostMemory
from fastpath.errors import whole_number
from fastpath.skbuff import SkbPool, sk_buff
from stack.core.dev import (
    dev_close,
    dev_open,
    dev_set_mtu,
    net_dev_init,
    unregister_netdev,
)
from stack.core.irq import irq_desc, irq_init
from stack.core.loopback import loopback_net_init
from stack.core.netdevice import net_device, netif_carrier_ok
from stack.core.ratelimit import ratelimit_state
from stack.core.snmp import netns_mib
from stack.core.softirq import run_ksoftirqd, softirq_init
from stack.core.timer import timers_init
from stack.progress import describe, progress
from stack.sysctl import sysctl_table

if TYPE_CHECKING:
    from stack.core import netdevice
    from stack.core.neigh_table import neigh_table
    from stack.core.readyfd import ReadyFd, ReadyHub
    from stack.core.socket import files_struct
    from stack.core.timer import timer_base
    from stack.socket import Socket

SKB_SMALL_BYTES = 2048
SKB_PAGE_BYTES = 32768
MIN_RAM_BYTES = 1 << 20
SKB_SMALL_HEAD_BYTES = 640
"""SKB_SMALL_HEAD_CACHE_SIZE of a 64-bit Linux; with its sk_buff a short packet counts 896 bytes."""


class Host:
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

    __slots__ = (
        "__dict__",
        "__weakref__",
        "arp_tbl",
        "clock",
        "closed",
        "dev_by_index",
        "dev_by_name",
        "drop_reasons",
        "fdtable",
        "fib",
        "hardirq_count",
        "inet_protos",
        "ipv4",
        "irq_replay",
        "irqs_disabled_count",
        "ksoftirqd_queued",
        "lock",
        "mib",
        "name",
        "now",
        "on_drop",
        "ptype_all",
        "ptype_base",
        "ram",
        "random",
        "raw_hash",
        "replay_irqs",
        "run_ksoftirqd",
        "skb_pages",
        "skb_small",
        "skb_small_head",
        "softirq_count",
        "softirq_pending",
        "softirq_stats",
        "softirq_vec",
        "softnet_data",
        "sysctl",
        "tcp_hashinfo",
        "timers",
        "timers_deferrable",
        "udp_table",
    )

    # What the subsystems' init functions set.
    arp_tbl: neigh_table | None
    dev_base_head: list[net_device]
    dev_by_index: dict[int, net_device]
    dev_by_name: dict[str, net_device]
    detached_fds: dict[int, tuple[ReadyFd, int, float | None]]
    fdtable: files_struct
    irq_descs: dict[int, irq_desc]
    linkwatch_events: list[net_device]
    nics: dict[str, Any]
    """The devices that e1000emu.lab plugged in, by interface."""
    ready_hub: ReadyHub | None
    softnet_data: netdevice.softnet_data
    timers: timer_base
    timers_deferrable: timer_base

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
        ram_bytes = whole_number("Host", "ram_bytes", ram_bytes, MIN_RAM_BYTES, unit="bytes")
        self.name = name
        self.clock = clock
        self.lock = clock.lock
        self.now = clock.now_ns
        self.closed = False
        self.random = random.Random(f"{name}" if seed is None else seed)
        self.ram = HostMemory(ram_bytes) if ram is None else ram
        ram_bytes = self.ram.size_bytes
        self.skb_small = SkbPool(
            self.ram, SKB_SMALL_BYTES, max(64, ram_bytes // 8 // SKB_SMALL_BYTES)
        )
        self.skb_pages = SkbPool(self.ram, SKB_PAGE_BYTES, max(8, ram_bytes // 4 // SKB_PAGE_BYTES))
        self.skb_small_head = SkbPool(
            self.ram, SKB_SMALL_HEAD_BYTES, max(64, ram_bytes // 16 // SKB_SMALL_HEAD_BYTES)
        )
        self.mib = netns_mib()
        self.drop_reasons: dict[int, int] = {}
        self.on_drop: Callable[[sk_buff, int], None] | None = None
        """Called with each packet that is dropped and its reason, as the kfree_skb trace point."""
        self.net_ratelimit_state = ratelimit_state()
        self.sysctl = sysctl_table(ram_bytes, sysctl)
        self.hostname = name
        self.uid = whole_number("Host", "uid", uid, 0)
        self.gid = whole_number("Host", "gid", gid, 0)
        self.arp_tbl = None
        self._on_close: list[Any] = []
        self._on_closed: list[Any] = []
        with self.lock:
            irq_init(self)
            softirq_init(self)
            self.run_ksoftirqd = lambda: run_ksoftirqd(self)
            timers_init(self)
            net_dev_init(self)
            watch = getattr(clock, "watch", None)
            if watch is not None and inet:
                tell = functools.partial(progress, self), functools.partial(describe, self)
                self.on_closed(watch(self.timers.interrupt, *tell))
            lo = loopback_net_init(self)
            if inet:
                self._init_inet()
            dev_open(lo)
            if drivers:
                from stack.drivers.e1000.main import e1000_init_module

                e1000_init_module(self)

    def _init_inet(self) -> None:
        """Bring up IPv4: neighbour tables, addresses, then inet_init with all its protocols."""
        from stack.ipv4.af_inet import inet_init
        from stack.ipv4.arp import arp_init
        from stack.ipv4.devinet import devinet_init

        devinet_init(self)
        arp_init(self)
        inet_init(self)

    def __repr__(self) -> str:
        return f"<Host {self.name}: {', '.join(self.dev_by_name)}>"

    def realtime_ns(self, at_ns: int = 0) -> int:
        """Wall time, ns since 1970-01-01 UTC: now, or when the clock showed `at_ns`."""
        wall = getattr(self.clock, "realtime_ns", time.time_ns)()
        return wall if not at_ns else wall - (self.clock.now_ns() - at_ns)

    # --- hardware -------------------------------------------------------------------------------

    def irq_line(self, irq: int) -> irq_desc:
        """The interrupt line `irq`: give it to a device as its InterruptLine."""
        desc = self.irq_descs.get(irq)
        if desc is None:
            desc = self.irq_descs[irq] = irq_desc(self, irq)
        return desc

    def dma_table(self) -> DmaTable:
        """A new DMA table through which a device reaches this host's memory."""
        table = DmaTable()
        table.add(self.ram.base, self.ram.buffer)
        return table

    def pci_add(self, slot: Any, irq: int) -> net_device | None:
        """Plug a PCI device in; its driver probes it. The interface it made, or None."""
        from stack.core.pci import pci_device_add

        with self.lock:
            before = set(self.dev_by_name)
            pci_device_add(self, slot, irq=irq)
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
        import errno

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
                from stack.ipv4.devinet import inet_addr_add, parse_ifaddr

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
        from stack.ipv4.devinet import inet_addr_del, parse_ifaddr

        local, prefixlen = parse_ifaddr(addr)
        with self.lock:
            inet_addr_del(self.dev(name), local, prefixlen)

    def route_add(
        self, prefix: str, via: str | None = None, dev: str | None = None, **kw: Any
    ) -> None:
        """`ip route add PREFIX [via GW] [dev DEV]`; "default" or "10.0.0.0/8" as prefix."""
        from stack.ipv4.fib import ip_route_add

        with self.lock:
            ip_route_add(self, prefix, via=via, dev=dev, **kw)

    def route_del(
        self, prefix: str, via: str | None = None, dev: str | None = None, **kw: Any
    ) -> None:
        """`ip route del`."""
        from stack.ipv4.fib import ip_route_del

        with self.lock:
            ip_route_del(self, prefix, via=via, dev=dev, **kw)

    def wait_carrier(self, name: str, timeout_ns: int = 10_000_000_000) -> bool:
        """Wait until the interface's link is up (and its queue active). False after the timeout."""
        dev = self.dev(name)
        timeout_ns = whole_number("wait_carrier", "timeout_ns", timeout_ns, 0, unit="ns")
        with self.lock:
            return self.clock.wait(
                lambda: netif_carrier_ok(dev) and dev not in self.linkwatch_events, timeout_ns
            )

    def socket(self, family: int = 2, type: int = 1, proto: int = 0) -> Socket:  # noqa: A002
        """A socket of this host, with the interface of the standard library's."""
        from stack.socket import Socket

        return Socket(self, family, type, proto)

    # --- end ------------------------------------------------------------------------------------

    def on_close(self, fn: Any) -> None:
        """Have `fn()` called when `close` begins, last registered first: interfaces still work."""
        self._on_close.append(fn)

    def on_closed(self, fn: Any) -> None:
        """Have `fn()` called when `close` ends, last registered first: interfaces are gone."""
        self._on_closed.append(fn)

    def close(self) -> None:
        """Close every socket and interface, stop every timer, free every packet. Idempotent."""
        if self.closed:
            return
        with self.lock:
            for fn in reversed(self._on_close):
                fn()
            self._on_close.clear()
            bus = getattr(self, "pci", None)
            if bus is not None:
                from stack.core.pci import pci_stop_and_remove_bus_device

                for pdev in list(bus.devices):
                    pci_stop_and_remove_bus_device(pdev)
            for dev in reversed(list(self.dev_base_head)):
                unregister_netdev(dev)
            if getattr(self, "tcp_hashinfo", None) is not None:
                tcp_sk_exit(self)
            if self.arp_tbl is not None:
                from stack.core.neigh_gc import neigh_table_clear

                neigh_table_clear(self.arp_tbl)
            self.closed = True
            sd = self.softnet_data
            for queue in (sd.completion_queue, sd.input_pkt_queue, sd.process_queue):
                queue.purge()
            sd.output_queue.clear()
            sd.poll_list.clear()
            self.timers.close()
            self.timers_deferrable.close()
            for fn in reversed(self._on_closed):
                fn()
            self._on_closed.clear()

    def __enter__(self) -> Host:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


def tcp_sk_exit(net: Any) -> None:
    """net/ipv4/tcp_ipv4.c: connections that outlived their descriptors end without a word."""
    from stack.core.tcp_states import TCP_NEW_SYN_RECV, TCP_TIME_WAIT
    from stack.inet.inet_timewait_sock import inet_twsk_deschedule_put
    from stack.inet.tcp_done import tcp_done

    for sk in list(net.tcp_hashinfo.ehash.values()):
        if sk.sk_state == TCP_TIME_WAIT:
            inet_twsk_deschedule_put(sk)
        elif sk.sk_state != TCP_NEW_SYN_RECV:
            tcp_done(sk)
    net.tcp_hashinfo.ehash.clear()


def _check(err: int, what: str) -> None:
    if err:
        import os

        raise OSError(-err, f"{what}: {os.strerror(-err)}")
