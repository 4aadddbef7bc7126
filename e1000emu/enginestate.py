"""The ring engines' state field by field: what a snapshot holds of `RxEngine` and `TxEngine`.

An engine gives and takes the bytes of its C structure, which are those of one build. Here they get
names, so that a field may be added or go: what a state does not have is as after a reset, what this
version does not know is left out. Behind the structure stands what the engine itself describes, the
FIFO or the unfinished frame (fastpath/rxring.pyx, txring.pyx, `state`).
"""

from __future__ import annotations

import struct
from typing import Any

__all__ = ["RX", "TX", "Layout"]

_VERSION = "engine_version"
_REST = "rest"


class Layout:
    """A C structure's fields in order, each with its code in `struct`."""

    def __init__(self, name: str, fields: tuple[tuple[str, str], ...]) -> None:
        self.name = name
        self._names = [field for field, _ in fields]
        self._struct = struct.Struct("=" + "".join(code for _, code in fields))
        self._pad = -self._struct.size % 8
        """The structure begins with 64 bits, so its size is a multiple of theirs."""
        self.size = self._struct.size + self._pad

    def unpack(self, data: bytes) -> dict[str, Any]:
        """Return an engine's state by name.  Raises: ValueError."""
        if len(data) < 4 + self.size:
            raise ValueError(f"{self.name}: {len(data)} bytes, {4 + self.size} at least")
        values = self._struct.unpack_from(data, 4)
        named = dict(zip(self._names, values, strict=True))
        named[_VERSION] = int.from_bytes(data[:4], "little")
        named[_REST] = data[4 + self.size :]
        return named

    def pack(self, state: dict[str, Any] | bytes, fresh: bytes) -> bytes:
        """Return what the engine takes, for a field that is missing as in the state `fresh`.

        A state of snapshots of version 1 is bytes already.  Raises: ValueError.
        """
        if isinstance(state, bytes):
            return state
        known = self.unpack(fresh)
        known[_REST] = b""
        known |= {name: value for name, value in state.items() if name in known}
        try:
            head = struct.pack("<I", known[_VERSION])
            body = self._struct.pack(*(known[name] for name in self._names))
        except struct.error as error:
            raise ValueError(f"{self.name}: {error}") from None
        rest = known[_REST]
        if not isinstance(rest, bytes):
            raise ValueError(f"{self.name}: {_REST} is no bytes")
        return head + body + bytes(self._pad) + rest


def _context(name: str) -> tuple[tuple[str, str], ...]:
    """Return the fields of a transmit context (`tx_context`)."""
    small = tuple((f"{name}.{part}", "B") for part in ("ipcss", "ipcso", "tucss", "tucso"))
    ends = ((f"{name}.ipcse", "H"), (f"{name}.tucse", "H"), (f"{name}.paylen", "I"))
    return (*small, *ends, (f"{name}.mss", "H"), (f"{name}.hdrlen", "B"), (f"{name}.tucmd", "B"))


def _words(*names: str) -> tuple[tuple[str, str], ...]:
    return tuple((name, "I") for name in names)


RX = Layout(
    "rx.engine",
    (
        ("base", "Q"),
        *_words("len", "head", "tail", "rctl", "rxdctl", "rxcsum", "rsrpd", "vet", "vme"),
        *_words("fifo_bytes", "pad_runts", "ipv6_csum", "causes", "fifo_off"),
    ),
)
"""`rx_state` of fastpath/rxring.pxd."""

TX = Layout(
    "tx.engine",
    (
        ("base", "Q"),
        *_words("len", "head", "tail", "tctl", "txdctl", "vet", "vme", "rps", "max_frame"),
        *_context("normal"),
        *_context("tso"),
        *_words("phase", "have", "css", "popts", "dcmd", "special"),
        *_context("frame"),
        *_words("desc_off", "hdr_have", "seg_pay", "seg_sum", "seg_index", "pay_sent"),
        *_words("pay_left", "tso_bad"),
        ("hdr", "256s"),
    ),
)
"""`tx_state` of fastpath/txring.pxd."""
