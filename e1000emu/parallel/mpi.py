"""Ranks of MPI, on one machine or many: one collective call per window."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NoReturn

from e1000emu.errors import E1000Error
from e1000emu.parallel.partition import Partition
from e1000emu.parallel.request import Failed, Request, attempt, spool_path
from e1000emu.parallel.share import Done, Simulation
from e1000emu.parallel.window import Report

CHUNK_BYTES = 16 << 20


def world() -> Any:
    """Return MPI's communicator of all ranks.  Raises: E1000Error, no mpi4py, no MPI library."""
    try:
        from mpi4py import MPI
    except (ImportError, RuntimeError) as error:
        raise E1000Error(
            f"simulate: mpi=True: {error}; pip install 'e1000emu[mpi]', and an MPI library: the "
            "cluster's own, Debian's libopenmpi3t64 or libmpich12, or pip install mpich"
        ) from None
    return MPI.COMM_WORLD


class MpiTransport:
    """A rank's `Transport`: reports and frames are sent in one MPI_Alltoall."""

    def __init__(self, comm: Any) -> None:
        self._comm = comm
        self._sending: list[tuple[bytes, bytes]] = []

    def send(self, report: Report, parcels: Mapping[int, bytes]) -> None:
        """Queue them for the collective call."""
        packed = report.pack()
        self._sending = [(packed, parcels.get(rank, b"")) for rank in range(self._comm.size)]

    def receive(self) -> list[tuple[Report, bytes]]:
        """Exchange with all other ranks."""
        size = self._comm.size
        found = self._comm.alltoall(self._sending)
        return [
            (Report.unpack(packed, size), parcel)
            for rank, (packed, parcel) in enumerate(found)
            if rank != self._comm.rank
        ]


def run(comm: Any, request: Request, simulation: Simulation, found: Partition) -> list[Done]:
    """Run this process's rank, and return the results of all.

    Rank 0 then has all spools. An exception ends the ranks by MPI_Abort.
    """
    made = attempt(request, simulation, found, comm.rank, MpiTransport(comm), lambda due_ns: None)
    if isinstance(made, Failed):
        _abort(comm, made)
    if request.directory:
        _gather(comm, request.directory)
    done: list[Done] = comm.allgather(made)
    return done


def _abort(comm: Any, failed: Failed) -> NoReturn:
    print(f"{failed.traceback}{failed.text}", file=sys.stderr, flush=True)
    comm.Abort(1)
    raise AssertionError


def _gather(comm: Any, directory: str) -> None:
    """Send the spools to rank 0, whose directory may differ from other machines."""
    if comm.rank:
        with spool_path(directory, comm.rank).open("rb") as file:
            while chunk := file.read(CHUNK_BYTES):
                comm.send(chunk, dest=0)
        comm.send(b"", dest=0)
        return
    for rank in range(1, comm.size):
        with Path(spool_path(directory, rank)).open("wb") as file:
            while chunk := comm.recv(source=rank):
                file.write(chunk)
