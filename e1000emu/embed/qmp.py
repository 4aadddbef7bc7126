"""The part of QEMU's monitor protocol that wakes a guest (QEMU's docs/interop/qmp-spec.rst).

There is no I/O here: the input is bytes from the monitor, the output bytes to it.
"""

from __future__ import annotations

import json
from typing import Any

from e1000emu.errors import E1000Error

__all__ = ["QmpError", "QmpWake"]

MAX_LINE_BYTES = 1 << 20
WAITS = "SUSPEND"
"""No command is pending: the guest runs, and this event is awaited."""


class QmpError(E1000Error):
    """The other end does not speak QMP, or QEMU refuses a command."""


class QmpWake:
    """Wakes a guest that sleeps, now or as soon as it sleeps.

    PME# may be asserted before the guest sleeps: QEMU then refuses `system_wakeup`, and later
    announces the sleep by an event.
    """

    def __init__(self) -> None:
        self.woken = False
        """QEMU has resumed the guest; nothing is left to do."""
        self._line = bytearray()
        self._asked = ""
        """The command awaiting its answer, WAITS, or "" before the greeting."""
        self._slept = False
        """The guest went to sleep after `system_wakeup` was requested."""
        self._refused = ""

    def received(self, data: bytes) -> bytes:
        """Process data from the monitor; return data to send.

        Raises: QmpError.
        """
        self._line += data
        out = b""
        *lines, rest = self._line.split(b"\n")
        self._line = rest
        if len(rest) > MAX_LINE_BYTES:
            raise QmpError(f"a line of more than {MAX_LINE_BYTES} bytes; is it a QMP socket?")
        for line in lines:
            if line.strip() and not self.woken:
                out += self._message(bytes(line))
        return out

    def _message(self, line: bytes) -> bytes:
        try:
            message = json.loads(line)
        except (ValueError, RecursionError):
            message = None
        if not isinstance(message, dict):
            raise QmpError(f"{line[:40]!r} is no QMP; give the socket of QEMU's -qmp option")
        if "event" in message:
            return self._event(message["event"])
        if not self._asked:
            if "QMP" not in message:
                raise QmpError(f"{line[:40]!r} is no QMP greeting; give the socket of -qmp")
            return self._ask("qmp_capabilities")
        if "error" in message or "return" in message:
            return self._answer(message)
        return b""

    def _ask(self, command: str) -> bytes:
        self._asked = command
        return json.dumps({"execute": command}).encode() + b"\r\n"

    def _event(self, name: Any) -> bytes:
        if name == "SUSPEND":
            if self._asked == WAITS:
                return self._ask("system_wakeup")
            self._slept = True
        return b""

    def _answer(self, message: dict[str, Any]) -> bytes:
        error = message.get("error")
        match self._asked:
            case "system_wakeup" if error is None:
                self.woken = True
                return b""
            case "system_wakeup":
                self._refused = _words(error)
                return self._ask("query-status")
            case _ if error is not None:
                raise QmpError(f"{self._asked}: {_words(error)}")
            case "qmp_capabilities":
                return self._ask("system_wakeup")
            case "query-status":
                if self._slept:
                    self._slept = False
                    return self._ask("system_wakeup")
                status = message.get("return")
                if isinstance(status, dict) and status.get("status") == "suspended":
                    raise QmpError(f"system_wakeup: {self._refused}")
                self._asked = WAITS
        return b""


def _words(error: Any) -> str:
    return str(error.get("desc", error)) if isinstance(error, dict) else str(error)
