"""Reports and frames between the processes of one machine: a pipe and shared memory for each.

A report is one write of less than PIPE_BUF, so it arrives whole, and the pipe's reader sleeps until
there is one. Frames are in the sender's memory, in two blocks that are used in turn. Before a
process writes to a block again, it has the reports of all others for the window between, so nobody
reads the block any more. A block grows when it is too small.
"""

from __future__ import annotations

import mmap
import os
import struct
from collections.abc import Mapping

from e1000emu.errors import ArgumentError
from e1000emu.parallel.window import Report

FIRST_BYTES = 1 << 20
PIPE_BUF = 4096
"""Linux writes up to this many bytes to a pipe in one piece (pipe(7))."""
MOST_RANKS = 128


class SharedBlocks:
    """Pipes and blocks for `ranks` processes; make it before they are forked."""

    def __init__(self, ranks: int) -> None:
        self.ranks = ranks
        self.record_bytes = Report.size(ranks) + 8 * ranks
        if ranks > MOST_RANKS:
            raise ArgumentError(f"simulate: processes={ranks}; give up to {MOST_RANKS}")
        assert self.record_bytes <= PIPE_BUF
        self.pipes = [os.pipe() for _ in range(ranks)]
        self.blocks = [[os.memfd_create("frames") for _ in range(2)] for _ in range(ranks)]
        for fds in self.blocks:
            for fd in fds:
                os.ftruncate(fd, FIRST_BYTES)

    def close(self) -> None:
        """Close all descriptors of this process."""
        for fds in (*self.pipes, *self.blocks):
            for fd in fds:
                os.close(fd)


class Endpoint:
    """A rank's `Transport`."""

    def __init__(self, shared: SharedBlocks, rank: int) -> None:
        self.rank = rank
        self._shared = shared
        self._sizes = struct.Struct(f"<{shared.ranks}Q")
        self._pipe = shared.pipes[rank][0]
        self._others = [writer for other, (_, writer) in enumerate(shared.pipes) if other != rank]
        # (rank, 0 or 1) -> that block
        self._maps: dict[tuple[int, int], mmap.mmap] = {}

    def _map(self, rank: int, turn: int, size: int) -> mmap.mmap:
        """Return a block, of `size` bytes or more; the writer has made it that large."""
        found = self._maps.get((rank, turn))
        if found is None or len(found) < size:
            fd = self._shared.blocks[rank][turn]
            if rank == self.rank and os.fstat(fd).st_size < size:
                os.ftruncate(fd, 1 << (size - 1).bit_length())
            found = self._maps[rank, turn] = mmap.mmap(fd, 0)
        return found

    def send(self, report: Report, parcels: Mapping[int, bytes]) -> None:
        """Send the report to every other rank, with that rank's parcel."""
        sizes = [0] * self._shared.ranks
        if parcels:
            for rank, parcel in parcels.items():
                sizes[rank] = len(parcel)
            block, at = self._map(self.rank, report.window & 1, sum(sizes)), 0
            for rank, size in enumerate(sizes):
                if size:
                    block[at : at + size] = parcels[rank]
                    at += size
        record = report.pack() + self._sizes.pack(*sizes)
        for pipe in self._others:
            os.write(pipe, record)

    def receive(self) -> list[tuple[Report, bytes]]:
        """Wait for some reports of others; each with its parcel."""
        size, ranks = self._shared.record_bytes, self._shared.ranks
        data = os.read(self._pipe, 64 * size)
        found = []
        for at in range(0, len(data), size):
            report = Report.unpack(data[at : at + size], ranks)
            sizes = self._sizes.unpack_from(data, at + size - self._sizes.size)
            parcel = b""
            if sizes[self.rank]:
                begin = sum(sizes[: self.rank])
                block = self._map(report.rank, report.window & 1, sum(sizes))
                parcel = block[begin : begin + sizes[self.rank]]
            found.append((report, parcel))
        return found
