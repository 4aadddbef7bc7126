"""``--wake``: the action when a NIC asserts PME#, which vfio-user cannot signal."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

from e1000emu.cli.params import Parsed
from e1000emu.embed.qmp import QmpError, QmpWake

GREETING_S = 5.0
"""Timeout of QEMU's greeting: another client may use its monitor."""
READ_BYTES = 65536


@dataclass(frozen=True, slots=True)
class Wake:
    """How a guest is woken: `kind` is `qmp`, `what` a socket, or `cmd` with a command."""

    kind: str
    what: str

    def __str__(self) -> str:
        return f"{self.kind}:{self.what}"


def parse_wake(text: str) -> Wake:
    """Return the Wake of `qmp:PATH` or `cmd:COMMAND`."""
    kind, _, what = text.partition(":")
    if kind not in ("qmp", "cmd") or not what:
        raise ValueError(f"{text!r}; write qmp:PATH, the socket of QEMU's -qmp, or cmd:COMMAND")
    return Wake(kind, what)


WAKE = Parsed("qmp:PATH|cmd:COMMAND", parse_wake)


class Waker:
    """Wakes one guest whenever its NIC asserts PME#; `say` gets a line when that does not work."""

    def __init__(
        self, how: Wake, loop: asyncio.AbstractEventLoop, say: Callable[[str], None]
    ) -> None:
        self.how = how
        self._loop = loop
        self._say = say
        self._task: asyncio.Task[None] | None = None

    def pme(self, level: bool) -> None:
        """PME# has changed. Call from any thread."""
        self._loop.call_soon_threadsafe(self._changed, level)

    def _changed(self, level: bool) -> None:
        if self.how.kind == "qmp" and not level and self._task is not None:
            self._task.cancel()  # its driver is awake
        if level and (self._task is None or self._task.done()):
            self._task = self._loop.create_task(self._wake())

    async def _wake(self) -> None:
        try:
            await (self._ask_qemu() if self.how.kind == "qmp" else self._run())
        except (OSError, QmpError) as error:
            why = error.strerror or error if isinstance(error, OSError) else error
            self._say(f"--wake {self.how}: the guest is not woken: {why}")

    async def _run(self) -> None:
        process = await asyncio.create_subprocess_shell(
            self.how.what, stdin=asyncio.subprocess.DEVNULL
        )
        status = await process.wait()
        if status:
            self._say(f"--wake {self.how}: exit status {status}")

    async def _ask_qemu(self) -> None:
        reader, writer = await asyncio.open_unix_connection(self.how.what)
        try:
            client, wait_s = QmpWake(), GREETING_S
            while not client.woken:
                try:
                    data = await asyncio.wait_for(reader.read(READ_BYTES), wait_s or None)
                except TimeoutError:
                    raise QmpError("no greeting; another client has this monitor") from None
                if not data:
                    raise QmpError("QEMU has closed its monitor")
                wait_s = 0.0
                writer.write(client.received(data))
                await writer.drain()
        finally:
            writer.close()
