"""The second core: one thread of a process that NICs share to store what they send.

It works within a doorbell only (fastpath/secondcore.pyx), so it changes no result on any clock.
"""

from __future__ import annotations

import atexit
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING

from e1000emu.embed.vfio_user.beside import start_thread
from fastpath.secondcore import SecondCore

if TYPE_CHECKING:
    from e1000emu.nic import Nic

__all__ = ["share_device_thread"]


class _DeviceThread:
    """Runs while somebody shares it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._users = 0
        self._core: SecondCore | None = None
        self._thread: threading.Thread | None = None

    def join(self) -> SecondCore:
        """Take part; the first one starts the thread."""
        with self._lock:
            if self._core is None:
                core = SecondCore()
                self._thread = start_thread(core.run, "e1000emu device", None)
                self._core = core
            self._users += 1
            return self._core

    def leave(self) -> None:
        """Take part no longer; the last one ends the thread."""
        with self._lock:
            self._users -= 1
            if not self._users:
                self._end()

    def end(self) -> None:
        """End the thread, whoever still shares it: their doorbells go on alone."""
        with self._lock:
            self._end()

    def _end(self) -> None:
        if self._core is not None and self._thread is not None:
            self._core.stop()
            self._thread.join()
            self._core = self._thread = None


_shared = _DeviceThread()
atexit.register(_shared.end)  # a thread in compiled code would outlive what it works on


def share_device_thread(nic: Nic) -> Callable[[], None]:
    """Let the process's device thread store what `nic` sends; returns what ends that.

    Raises: RuntimeError, no thread can be started.
    """
    nic.tx._share(_shared.join())
    left = False

    def leave() -> None:
        nonlocal left
        if not left:
            left = True
            nic.tx._share(None)
            _shared.leave()

    return leave
