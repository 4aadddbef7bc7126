"""Two threads besides the clock's: one for frequent messages, one for rings and frames.

The clock's thread keeps the control plane: it alone runs the server's and the NIC's Python code,
and holds the `DataPath` while it does. The message thread sleeps in `BusPump.recv`, where it serves
messages without Python. It passes on all others and waits. The data thread is `DataPath.run`;
without its own processor (`one_for_all`) it has work only while the message thread waits.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext, suppress
from typing import Any

from e1000emu.ports import Clock, TimerHandle
from fastpath.nic.datapath import BusPump, short_slice

BUSY_POLL_NS = 1_000_000
"""How long the message thread polls for the next message before it sleeps."""


SHARED_CPUS = 2
"""With this many processors, the guest takes one and the message thread the other."""


def one_for_all(cpus: frozenset[int] | None) -> bool:
    """Whether the message thread serves the rings too, with `cpus` to run on (None: any).

    It does so when guest and message thread leave no processor for the data thread.
    """
    if cpus is not None:
        return len(cpus) < SHARED_CPUS
    return len(os.sched_getaffinity(0)) <= SHARED_CPUS


def start_thread(
    main: Callable[[], object], name: str, cpus: frozenset[int] | None
) -> threading.Thread:
    """Start a daemon thread on `cpus`, if they exist."""

    def run() -> None:
        if cpus is not None:
            with suppress(OSError):
                os.sched_setaffinity(0, cpus)
        short_slice()
        main()

    thread = threading.Thread(target=run, name=name, daemon=True)
    thread.start()
    return thread


class GuardedClock:
    """A clock whose callbacks run while `guard` is held, for a Nic with a data thread."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self.guard: AbstractContextManager[Any] = nullcontext()
        self.lock = clock.lock
        self.now_ns = clock.now_ns
        self.cancel = clock.cancel
        self.remove_reader = clock.remove_reader
        self.wait = clock.wait
        self.wake = clock.wake

    def _guarded(self, fn: Callable[[], Any]) -> Callable[[], None]:
        def call() -> None:
            with self.guard:
                fn()

        return call

    def call_at(self, when_ns: int, fn: Callable[[], Any], **options: Any) -> TimerHandle:
        """Call `fn()` with the guard held once `when_ns` is reached."""
        return self._clock.call_at(when_ns, self._guarded(fn), **options)

    def call_soon(self, fn: Callable[[], Any]) -> None:
        """Schedule `fn()` with the guard held, in order."""
        self._clock.call_soon(self._guarded(fn))

    def add_reader(self, fd: int, fn: Callable[[], Any]) -> None:
        """Call `fn()` with the guard held whenever `fd` is readable."""
        self._clock.add_reader(fd, self._guarded(fn))


class MessageThread:
    """Reads a client's socket through `pump`; passes other messages to `take`.

    `take(data, descriptors, truncated, errno)` runs on the clock; until `proceed` is called after
    it, reading stops.
    """

    def __init__(
        self,
        pump: BusPump,
        clock: Clock,
        take: Callable[[bytes, list[int], bool, int], None],
        cpus: frozenset[int] | None = None,
    ) -> None:
        self.pump = pump
        self._clock = clock
        self._take = take
        self._ready = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._go = threading.Semaphore(0)
        self._serve = False
        self._ended = False
        self._inbox: tuple[bytes, list[int], bool, int] | None = None
        clock.add_reader(self._ready, self._hand_over)
        self._thread = start_thread(self._main, "vfio-user messages", cpus)

    def _main(self) -> None:
        while True:
            self._inbox = self.pump.recv(self._serve)
            os.eventfd_write(self._ready, 1)
            self._go.acquire()
            if self._ended:
                return

    def _hand_over(self) -> None:
        os.eventfd_read(self._ready)
        inbox, self._inbox = self._inbox, None
        if inbox is not None:
            self._take(*inbox)

    def proceed(self, serve: bool) -> None:
        """Continue reading; `serve`: the next byte begins a message."""
        self._serve = serve
        self._go.release()

    def close(self) -> list[int]:
        """End the thread; return received descriptors that were not used."""
        if self._ended:
            return []
        self._ended = True
        self.pump.stop()
        self._go.release()
        self._thread.join()
        self.pump.close()
        self._clock.remove_reader(self._ready)
        os.close(self._ready)
        inbox, self._inbox = self._inbox, None
        return inbox[1] if inbox is not None else []
