"""Starts the processes of a simulation, and ends all of them when one has ended too early.

The supervisor is a process of its own with one thread, so it can fork at any time, which its caller
perhaps cannot. When the caller exits, its end of the pipe closes, and the processes are killed.
They are also killed when the supervisor is (PR_SET_PDEATHSIG, prctl(2)).
"""

from __future__ import annotations

import contextlib
import gc
import mmap
import os
import select
import signal
import sys
import traceback
from functools import partial

import msgspec

from e1000emu.campaign.forkserver import fork, killed_by, receive, requests_and_answers, send
from e1000emu.parallel.partition import partition
from e1000emu.parallel.request import Failed, Request, attempt, place, prepare
from e1000emu.parallel.share import Done
from e1000emu.parallel.shared import Endpoint, SharedBlocks
from e1000emu.parallel.window import NEVER_NS
from e1000emu.quantities import show_duration


class Answer(msgspec.Struct):
    """The results of all ranks, or the first error."""

    done: list[Done] = []
    failed: Failed | None = None


class _Run:
    """The processes of one request, of which this one is the parent."""

    def __init__(self, request: Request) -> None:
        self.request = request
        self.simulation = prepare(request)
        self.partition = partition(self.simulation.flat, request.processes)
        ranks = range(self.partition.ranks)
        self.shared = SharedBlocks(len(ranks))
        self.clocks = mmap.mmap(-1, 8 * len(ranks))
        """For each rank the time of the next event when it began its window."""
        self.results = [os.memfd_create("result") for _ in ranks]
        self.children: dict[int, tuple[int, int]] = {}
        """pidfd -> process, rank"""

    def fork(self, rank: int) -> None:
        """Start the process of a rank."""
        child = fork(partial(self.rank, rank))
        self.children[os.pidfd_open(child)] = child, rank

    def rank(self, number: int) -> None:
        """Run a rank, in its own process, and write its result to its memfd."""

        def note(due_ns: int) -> None:
            self.clocks[8 * number : 8 * number + 8] = due_ns.to_bytes(8, "little")

        end = Endpoint(self.shared, number)
        made = attempt(self.request, self.simulation, self.partition, number, end, note)
        with open(self.results[number], "wb") as file:
            file.write(msgspec.msgpack.encode(made))
        sys.stdout.flush()
        sys.stderr.flush()

    def wait(self, caller: int) -> Answer:
        """Wait for all ranks, or for the first that fails.  Raises: EOFError, `caller` closes."""
        done: list[Done] = []
        while self.children:
            ready, _, _ = select.select([caller, *self.children], [], [])
            if caller in ready:
                raise EOFError
            for pidfd in ready:
                child, rank = self.children.pop(pidfd)
                os.close(pidfd)
                made = self.made(rank, os.waitpid(child, 0)[1])
                if isinstance(made, Failed):
                    return Answer(failed=made)
                done.append(made)
        return Answer(sorted(done, key=lambda one: one.rank))

    def made(self, rank: int, status: int) -> Done | Failed:
        """Return the result of a rank's process."""
        fd = self.results[rank]
        if status == 0:
            data = os.pread(fd, os.fstat(fd).st_size, 0)
            return msgspec.msgpack.decode(data, type=Done | Failed)
        why = f"ended with exit status {os.waitstatus_to_exitcode(status)}"
        if os.WIFSIGNALED(status):
            why = f"ended by {killed_by(status)[1]}"
        due = int.from_bytes(self.clocks[8 * rank : 8 * rank + 8], "little")
        at = "" if due == NEVER_NS else f" at about {show_duration(due)}"
        return Failed(f"{place(self.simulation, self.partition, rank)}{at}: {why}")

    def close(self) -> None:
        """Kill the processes that still run."""
        for child, _ in self.children.values():
            os.kill(child, signal.SIGKILL)  # not waited for, so the number is still the child's
        for pidfd, (child, _) in self.children.items():
            os.waitpid(child, 0)
            os.close(pidfd)
        self.children.clear()
        self.shared.close()
        for fd in self.results:
            os.close(fd)


def serve(request: Request, caller: int) -> Answer:
    """Run one request.  Raises: EOFError, `caller` closes; then all processes have ended."""
    try:
        run = _Run(request)
    except BaseException as error:
        return Answer(failed=Failed(str(error), traceback.format_exc()))
    try:
        gc.collect()
        gc.freeze()  # a collection in a child would copy the pages
        for rank in range(run.partition.ranks):
            run.fork(rank)
        return run.wait(caller)
    finally:
        run.close()


def main() -> None:
    """Serve one request from standard input."""
    requests, answers = requests_and_answers()
    with contextlib.suppress(EOFError, BrokenPipeError):
        request = receive(requests, Request)
        send(answers, serve(request, requests.fileno()))
