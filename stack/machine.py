"""One computer: clock, memory, interrupts, softirqs, timers, the packet queues of its CPU, PCI.

Nothing here belongs to a network namespace (stack/net.py); a machine runs one or several of them.
Core functions that deal with the hardware or the CPU take a Machine.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import partial
from random import Random
from types import NoneType
from typing import Any

from fastpath.base.dma import DmaTable, HostMemory
from fastpath.base.skbuff import SkbPool
from fastpath.errors import check_clock, check_type, whole_number
from fastpath.net.zerocopy import zc_page
from stack.core.clock import Clock, realtime_ns
from stack.core.dev_netns import net_dev_init
from stack.core.irq import irq_desc, replay_irqs
from stack.core.loopback import loopback_net_ops
from stack.core.net_namespace import (
    cleanup_net,
    ops_pre_exit_list,
    pernet_operations,
    register_pernet_subsys,
)
from stack.core.netdevice import net_device, net_hotdata, softnet_data
from stack.core.pci import pci_bus, pci_stop_and_remove_bus_device
from stack.core.ratelimit import ratelimit_state
from stack.core.rows import state
from stack.core.sk_mem import proto_mem
from stack.core.softirq import run_ksoftirqd, softirq_action, softirq_init, tasklet_struct
from stack.core.timer import timer_base, timers_init
from stack.core.zerocopy import zerocopy_init
from stack.net import Net

SKB_SMALL_BYTES = 2048
SKB_PAGE_BYTES = 32768
MIN_RAM_BYTES = 1 << 20
SKB_SMALL_HEAD_BYTES = 640
"""SKB_SMALL_HEAD_CACHE_SIZE of a 64-bit Linux. A short packet's truesize is then 896 bytes."""


@state(weakref=True)
class Machine:
    """A computer with one CPU and a memory that devices reach by DMA.

    Args:
        name: for messages and traces.
        clock: a clock of e1000emu.clock; machines on one link share it.
        ram_bytes: memory for packet buffers, rings and what devices reach; committed lazily.
        ram: the memory, if the caller provides it.
        seed: decides every random choice (ports, sequence numbers, ids); default: the name.
    """

    # The computer.
    name: str
    closed: bool
    clock: Clock
    lock: AbstractContextManager[Any]
    now: Callable[[], int]
    random: Random
    ram: HostMemory
    skb_small: SkbPool
    skb_pages: SkbPool
    skb_small_head: SkbPool
    pci: pci_bus

    # Callers' memory that devices read: stack/core/zerocopy.py.
    dma_tables: list[DmaTable]
    iova: int
    zc_done: list[zc_page]
    zc_kick: Callable[[], None]

    # Interrupts, bottom halves, timers: stack/core/irq.py, softirq.py, timer.py.
    irq_descs: dict[int, irq_desc]
    irqs_disabled_count: int
    irq_replay: bool
    replay_irqs: Callable[[], None]
    hardirq_count: int
    softirq_count: int
    softirq_pending: int
    softirq_vec: list[softirq_action]
    tasklet_vec: list[tasklet_struct]
    ksoftirqd_queued: bool
    raised: list[BaseException]  # softirq.py, raise_later
    run_ksoftirqd: Callable[[], None]
    timers: timer_base
    timers_deferrable: timer_base

    # Queues of packets of all namespaces: stack/core/dev.py, napi.py.
    softnet_data: softnet_data
    net_hotdata: net_hotdata
    linkwatch_events: list[net_device]
    linkwatch_run_queue: Callable[[], None]
    net_ratelimit_state: ratelimit_state

    # TCP sockets whose packets were sent: stack/inet/tcp_timer.py.
    tsq_head: list[Any]
    tsq_tasklet: tasklet_struct

    # Namespaces: stack/core/net_namespace.py.
    prot_mem: dict[str, proto_mem]
    """The memory account of each protocol, for all namespaces (stack/core/sk_mem.py)."""
    init_net: Net
    """The first one, which has the sysctls of the whole machine."""
    net_namespace_list: list[Net]
    pernet_list: list[pernet_operations]
    modules: list[str]
    """Modules that were loaded on demand: "8021q", "bridge"."""

    _on_close: list[Callable[[], Any]]
    _on_closed: list[Callable[[], Any]]

    def __init__(
        self,
        name: str,
        *,
        clock: Clock,
        ram_bytes: int = 128 << 20,
        ram: HostMemory | None = None,
        seed: int | str | None = None,
    ) -> None:
        ram_bytes = whole_number("Host", "ram_bytes", ram_bytes, MIN_RAM_BYTES, unit="bytes")
        check_type("Host", "name", name, str, "text")
        check_clock("Host", clock)
        check_type("Host", "seed", seed, (int, str, NoneType), "an int or text")
        check_type("Host", "ram", ram, (HostMemory, NoneType), "host_memory(), or None")
        self.name = name
        self.closed = False
        self.clock = clock
        self.lock = clock.lock
        self.now = clock.now_ns
        self.random = Random(f"{name}" if seed is None else seed)
        self.ram = HostMemory(ram_bytes) if ram is None else ram
        size = self.ram.size_bytes
        self.skb_small = SkbPool(self.ram, SKB_SMALL_BYTES, max(64, size // 8 // SKB_SMALL_BYTES))
        self.skb_pages = SkbPool(self.ram, SKB_PAGE_BYTES, max(8, size // 4 // SKB_PAGE_BYTES))
        self.skb_small_head = SkbPool(
            self.ram, SKB_SMALL_HEAD_BYTES, max(64, size // 16 // SKB_SMALL_HEAD_BYTES)
        )
        self.prot_mem = {}
        self.pernet_list = []
        self.modules = []
        self.net_namespace_list = []
        self._on_close = []
        self._on_closed = []

        self.irq_descs = {}
        self.irqs_disabled_count = 0
        self.irq_replay = False
        self.replay_irqs = partial(replay_irqs, self)
        self.hardirq_count = 0
        self.softirq_count = 0
        self.softirq_pending = 0
        self.ksoftirqd_queued = False
        self.raised = []
        self.run_ksoftirqd = partial(run_ksoftirqd, self)
        self.pci = pci_bus()
        self.net_ratelimit_state = ratelimit_state()
        self.linkwatch_events = []
        self.net_hotdata = net_hotdata()
        self.softnet_data = softnet_data(self)
        with self.lock:
            softirq_init(self)
            timers_init(self)
            net_dev_init(self)
            zerocopy_init(self)
            register_pernet_subsys(self, loopback_net_ops)

    def __repr__(self) -> str:
        return f"<Machine {self.name}: {len(self.net_namespace_list)} nets>"

    def realtime_ns(self, at_ns: int = 0) -> int:
        """Wall time, ns since 1970-01-01 UTC: now, or when the clock showed `at_ns`."""
        wall = realtime_ns(self.clock)
        return wall if not at_ns else wall - (self.now() - at_ns)

    def dma_table(self) -> DmaTable:
        """A new DMA table through which a device reaches this machine's memory."""
        table = DmaTable()
        table.add(self.ram.base, self.ram.buffer)
        self.dma_tables.append(table)
        return table

    def on_close(self, fn: Callable[[], Any]) -> None:
        """Call `fn()` when `close` begins, last registered first: interfaces still work."""
        self._on_close.append(fn)

    def on_close_cancel(self, fn: Callable[[], Any]) -> None:
        """Undo `on_close(fn)`; harmless when `close` has begun."""
        if fn in self._on_close:
            self._on_close.remove(fn)

    def on_closed(self, fn: Callable[[], Any]) -> None:
        """Call `fn()` when `close` ends, last registered first: interfaces are removed."""
        self._on_closed.append(fn)

    def close(self) -> None:
        """Close every namespace, unplug every device, stop every timer. Idempotent."""
        if self.closed:
            return
        with self.lock:
            for fn in self._on_close[::-1]:
                fn()
            self._on_close.clear()
            for net in reversed(self.net_namespace_list):
                ops_pre_exit_list(net)
            for pdev in list(self.pci.devices):
                pci_stop_and_remove_bus_device(pdev)
            for net in reversed(self.net_namespace_list):
                cleanup_net(net)
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
