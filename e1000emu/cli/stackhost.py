"""`--link stack:…`: a host of our own stack at the far end of the cable, in this process."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Any

from e1000emu.cli.addressing import DEVICE, no_router_advertisements
from e1000emu.cli.services import serve
from e1000emu.cli.stackspec import mac_for, parse_stack
from e1000emu.device.phy import AUTONEG_NS
from e1000emu.errors import E1000Error
from e1000emu.lab import add_nic
from e1000emu.links.pair import PairEnd
from stack.host import Host


class StackHost:
    """A host of our own stack on `link`, in this process, with its services running.

    Services are coroutines: they need a clock with a `loop`, as an `AsyncioClock` has, and start
    when that runs. What ends one before `close()` goes to the loop's exception handler.
    Raises: E1000Error.
    """

    def __init__(self, spec: str, link: Any, clock: Any, *, autoneg_ns: int | None = None) -> None:
        wanted = parse_stack(spec)
        if wanted.services and not hasattr(clock, "loop"):
            raise E1000Error(
                f"--link {spec!r}: services run on an AsyncioClock; give one, or leave serve= out"
            )
        self.services = wanted.services
        self._clock = clock
        self._tasks: list[asyncio.Task[None]] = []
        self.host: Host = Host(name="stack", clock=clock)
        no_router_advertisements(self.host)
        # Like a host that has been up for long, it does not give up an address that another has.
        self.host.ipv6.sysctl["net.ipv6.conf.default.accept_dad"] = 0
        try:
            add_nic(
                self.host,
                link,
                mac=mac_for(wanted.addrs[0].ip),
                mtu=wanted.mtu,
                wait=False,
                autoneg_ns=AUTONEG_NS if autoneg_ns is None else autoneg_ns,
            )
            for addr in wanted.addrs:
                self.host.ifconfig(DEVICE, str(addr))
            for gw in wanted.gws:
                self.host.route_add("default", via=str(gw), dev=DEVICE)
        except BaseException:
            self.host.close()
            raise
        for service in self.services:
            task = clock.loop.create_task(serve(self.host, service))
            task.add_done_callback(self._ended)
            self._tasks.append(task)

    def _ended(self, task: asyncio.Task[None]) -> None:
        error = None if task.cancelled() else task.exception()
        if error is not None:
            self._clock.loop.call_exception_handler({"message": str(error), "exception": error})

    def close(self) -> None:
        """End the services, take the interface down; harmless when repeated."""
        for task in self._tasks:
            task.cancel()
        if self._tasks and not self._clock.loop.is_running():
            for task in self._tasks:
                with suppress(asyncio.CancelledError, Exception):
                    self._clock.loop.run_until_complete(task)
        self._tasks.clear()
        self.host.close()


class StackLink(PairEnd):
    """One end of a cable whose other end is plugged into a `StackHost`."""

    def __init__(self, spec: str, clock: Any, *, autoneg_ns: int | None = None) -> None:
        super().__init__(clock)
        far = PairEnd(clock)
        self.peer, far.peer = far, self
        self.far = StackHost(spec, far, clock, autoneg_ns=autoneg_ns)

    def close(self) -> None:
        """Unplug, and close the host."""
        super().close()
        self.far.close()
