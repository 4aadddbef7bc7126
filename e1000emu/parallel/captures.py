"""Captures of one simulation by any number of processes, in one file with a fixed order.

Each process writes its links' frames to a spool, ordered by (time, link, sequence). At the end
the spools are merged in that order.
"""

from __future__ import annotations

import heapq
import os
import struct
from collections.abc import Iterable, Iterator
from typing import IO, TYPE_CHECKING, BinaryIO

from e1000emu.capture import DIRECTION_UNKNOWN, PcapngWriter
from fastpath.nic.linkops import epb_encode

if TYPE_CHECKING:
    from e1000emu.topology import FlatLink
    from fastpath.base.batch import FrameBatch

HEAD = struct.Struct("<qIQI")
SNAP_BYTES = 262144

Blocks = tuple[int, int, int, bytes]
"""Time (ns), number of the link, sequence on it, Enhanced Packet Blocks."""


class Spool:
    """The captured frames of one process; `path` is overwritten."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.blocks: list[Blocks] = []
        self._file: BinaryIO = open(path, "wb")  # noqa: SIM115

    def write(self) -> None:
        """Write the frames of a window, all later than those written before."""
        if self.blocks:
            self.blocks.sort()
            for when, link, sequence, data in self.blocks:
                self._file.write(HEAD.pack(when, link, sequence, len(data)) + data)
            self.blocks.clear()

    def close(self) -> None:
        """Write the rest and close the file."""
        self.write()
        self._file.close()


class LinkCapture(PcapngWriter):
    """The writer for `links.Capture` of one link: a spool, with the link's place in the file."""

    def __init__(self, spool: Spool, link: int, interface: int) -> None:
        self.frames = 0
        self._spool = spool
        self._link = link
        self._interface = interface
        self._sequence = 0

    def __repr__(self) -> str:
        return f"LinkCapture(link {self._link}, frames={self.frames})"

    def add_interface(
        self, name: str, *, speed_bps: int = 1_000_000_000, snap_bytes: int = SNAP_BYTES
    ) -> int:
        """Return the link's place in the file; it is described there by the link's own name."""
        return self._interface

    def write(
        self,
        batch: FrameBatch,
        start: int,
        stop: int,
        *,
        interface: int,
        now_ns: int,
        epoch_ns: int = 0,
        direction: int = DIRECTION_UNKNOWN,
    ) -> None:
        """Buffer frames [start, stop) of `batch`. Borrows `batch` until return."""
        if start < stop:
            data = epb_encode(
                batch, start, stop, interface, now_ns, epoch_ns, direction, SNAP_BYTES
            )
            self._spool.blocks.append((now_ns, self._link, self._sequence, data))
            self._sequence += 1
            self.frames += stop - start

    def flush(self) -> None:
        """No effect: the process writes its spool once per window."""

    def close(self) -> None:
        """No effect: other links share the spool."""


def read_spool(file: IO[bytes]) -> Iterator[Blocks]:
    """Yield the entries of a spool."""
    while head := file.read(HEAD.size):
        when, link, sequence, size = HEAD.unpack(head)
        yield when, link, sequence, file.read(size)


def merge(
    path: str | os.PathLike[str],
    links: Iterable[FlatLink],
    spools: Iterable[str | os.PathLike[str]],
) -> None:
    """Write a pcapng file of `links`, an interface each, with the content of the spools.

    Raises: LinkError, the file cannot be written.
    """
    links = list(links)
    wanted = {link.number for link in links}
    files = [open(spool, "rb") for spool in spools]  # noqa: SIM115
    try:
        with PcapngWriter(path) as writer:
            for of in links:
                writer.add_interface(str(of), snap_bytes=SNAP_BYTES)
            for _, link, _, data in heapq.merge(*map(read_spool, files)):
                if link in wanted:
                    writer.append(data)
    finally:
        for file in files:
            file.close()
