"""The driver in real time with a thread, and on an asyncio loop: sleeps, work and interrupts."""

from __future__ import annotations

import asyncio
from typing import Any

from e1000emu.clock import AsyncioClock, RealClock
from e1000emu.links.pair import pair
from stack.core import ethtool as core
from stack.core.netdevice import netif_carrier_ok
from tests.stack.drivers.e1000.machine import MAC_A, MAC_B, SECOND, Machine, plug


def two(clock: Any) -> tuple[Machine, Machine]:
    end_a, end_b = pair(clock)
    machines = (
        plug(clock, end_a, name="a", mac=MAC_A, autoneg_ns=1_000_000),
        plug(clock, end_b, name="b", mac=MAC_B, autoneg_ns=1_000_000),
    )
    for machine in machines:
        machine.host.ifconfig("eth0", up=True)
    return machines


def test_real_time_with_a_thread() -> None:
    clock = RealClock()
    clock.start()
    try:
        with clock.lock:
            a, b = two(clock)
        for machine in (a, b):
            assert machine.host.wait_carrier("eth0", 20 * SECOND)
        for number in range(100):
            with clock.lock:
                a.send(bytes([number]) * 60)
        with clock.lock:
            assert clock.wait(lambda: len(b.received) == 100, 20 * SECOND)
            assert [frame[0] for frame in b.received] == list(range(100))
            assert core.ethtool_get_stats(b.dev)["rx_packets"] == 100
            a.host.close()
            b.host.close()
    finally:
        clock.close()


def test_asyncio_loop_that_is_running() -> None:
    async def main() -> None:
        clock = AsyncioClock(asyncio.get_running_loop())
        a, b = two(clock)
        async with asyncio.timeout(20):
            while not (netif_carrier_ok(a.dev) and netif_carrier_ok(b.dev)):
                await asyncio.sleep(0.01)
            await asyncio.sleep(0.05)
            for number in range(100):
                a.send(bytes([number]) * 60)
            while len(b.received) < 100:
                await asyncio.sleep(0.01)
        a.host.close()
        b.host.close()
        clock.close()

    asyncio.run(main())
