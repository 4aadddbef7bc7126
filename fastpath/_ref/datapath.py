"""Serve the frequent messages of vfio-user, in plain Python: the twin of ``datapath.BusPump``.

The compiled one does not know the protocol: `e1000emu.embed.vfio_user.hot` defines it.

`DataPath` itself has no twin: the engines work its rings, and their twins are ``_ref/txring`` and
``_ref/rxring``; the twin of its interrupt block is ``_ref/irqblock``.
"""

from __future__ import annotations

import struct
from typing import Any

HEADER = struct.Struct("<HHIII")
ACCESS = struct.Struct("<QII")
IRQS = struct.Struct("<IIIII")
NO_REPLY, REPLY, UNMASK = 0x10, 1, 0x11
SET_IRQS, REGION_READ, REGION_WRITE = 8, 9, 10


class BusPump:
    """Serve one message on a NIC that is given as functions for its hot registers.

    `nic.read(off)` returns None and `nic.write(off, value)` False for a register that is not hot.
    `nic.unmask()` unmasks INTx.
    """

    def __init__(self, nic: Any) -> None:
        self.nic = nic

    def serve(self, message: bytes) -> bytes | None:
        """Return the answer, b"" if none is wanted, None if the caller must handle it."""
        ident, command, size, flags, _ = HEADER.unpack_from(message)
        payload = message[HEADER.size : size]
        if flags & ~NO_REPLY:
            return None
        if command == REGION_READ and len(payload) == ACCESS.size:
            off, region, count = ACCESS.unpack(payload)
            value = self.nic.read(off) if (region, count) == (0, 4) else None
            if value is None:
                return None
            answer = payload + value.to_bytes(4, "little")
        elif command == REGION_WRITE and len(payload) == ACCESS.size + 4:
            off, region, count = ACCESS.unpack_from(payload)
            value = int.from_bytes(payload[ACCESS.size :], "little")
            if (region, count) != (0, 4) or not self.nic.write(off, value):
                return None
            answer = payload[: ACCESS.size]
        elif command == SET_IRQS and len(payload) == IRQS.size:
            argsz, what, index, start, count = IRQS.unpack(payload)
            if argsz != IRQS.size or (what, index, start, count) != (UNMASK, 0, 0, 1):
                return None
            self.nic.unmask()
            answer = b""
        else:
            return None
        if flags & NO_REPLY:
            return b""
        return HEADER.pack(ident, command, HEADER.size + len(answer), REPLY, 0) + answer
