"""The clocks of NICs, links and hosts: virtual (deterministic), real, asyncio.

All three are the same event queue (fastpath.base.eventq): a FIFO of calls for now and a heap of
later calls. They differ only in what advances time. A `VirtualClock` jumps to the next
event. A `RealClock` sleeps in one poll loop with the links' file descriptors. An `AsyncioClock`
uses a running asyncio loop.
"""

from e1000emu.clock.aio import AsyncioClock
from e1000emu.clock.common import ClockError, SimulationDeadlock
from e1000emu.clock.real import RealClock
from e1000emu.clock.virtual import EPOCH_NS, VirtualClock
from e1000emu.quantities import SECOND_NS
from fastpath.base.eventq import EVENT_MAX_NS, EVENT_NS, INSTANT_EVENTS, TimerHandle

__all__ = [
    "EPOCH_NS",
    "EVENT_MAX_NS",
    "EVENT_NS",
    "INSTANT_EVENTS",
    "SECOND_NS",
    "AsyncioClock",
    "ClockError",
    "RealClock",
    "SimulationDeadlock",
    "TimerHandle",
    "VirtualClock",
]
