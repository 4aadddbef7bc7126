"""The function that an executor runs: some cases, each by a fork server of this worker."""

from __future__ import annotations

import atexit
import os
import socket
import subprocess
import tempfile
import threading
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

import msgspec

from e1000emu.campaign.case import Limits
from e1000emu.campaign.forkserver import Answer, Request, Target, receive, send, start
from e1000emu.campaign.results import program
from e1000emu.record.recording import Reader, RecordingError, describe

LAST_EVENTS = 20
END_S = 10.0
"""A fork server whose pipe was closed has ended by then, with all that it started."""

Key = tuple[Target, str]
"""What a fork server has imported: the case file and, for one run, all that the file imports."""

_idle: list[tuple[Key, subprocess.Popen[bytes]]] = []
_lock = threading.Lock()


class Task(msgspec.Struct):
    """Cases for one worker; plain values, so that any executor can carry it."""

    target: Target
    cases: list[bytes]
    """Pickled: values only."""
    program: str
    """The hash of the program that the results are for."""
    seconds: float
    memory_bytes: int
    exclusive: bool = False
    avoid: str = ""
    """The name of a worker that must not run it."""
    wait_s: float = 0.0
    """How long that worker waits before it declines, s."""
    session: str = ""
    """Differs between runs: the files that a fork server has imported may have changed since."""


class Done(NamedTuple):
    """The result of one case, and its worker."""

    answer: Answer
    worker: str


def name() -> str:
    """Return the name of this worker, which no other has."""
    return f"{socket.gethostname()}:{os.getpid()}"


def _end(server: subprocess.Popen[bytes]) -> None:
    """Close a server's pipe: it kills what runs, and ends."""
    assert server.stdin is not None
    assert server.stdout is not None
    with suppress(BrokenPipeError):
        server.stdin.close()
    try:
        server.wait(END_S)
    except subprocess.TimeoutExpired:
        server.kill()  # while it imports; a child would go with it
        server.wait()
    server.stdout.close()


def end_servers(*, keep: Key | None = None) -> None:
    """End this process's idle fork servers, but those of `keep`."""
    with _lock:
        gone = [server for key, server in _idle if key != keep]
        _idle[:] = [entry for entry in _idle if entry[0] == keep]
    for server in gone:
        _end(server)


atexit.register(end_servers)


def _take(key: Key) -> subprocess.Popen[bytes]:
    """Return an idle fork server of `key`, or a new one."""
    end_servers(keep=key)
    with _lock:
        while _idle:
            _, server = _idle.pop()
            if server.poll() is None:
                return server
    # Not by `multiprocessing`: workers of Dask are daemons, which may not have children.
    return start("e1000emu.campaign.forkserver")


def run_case(
    target: Target,
    case: bytes,
    limits: Limits,
    *,
    directory: str = "",
    processor: int | None = None,
    session: str = "",
) -> Answer:
    """Run one pickled case in a child process and return its result."""
    key = target, session
    request = Request(target, case, limits.seconds, limits.memory_bytes, directory, processor)
    for _ in range(2):  # an idle server may have been ended from outside
        server = _take(key)
        assert server.stdin is not None
        assert server.stdout is not None
        try:
            send(server.stdin, request)
            answer: Answer = receive(server.stdout, Answer)
        except (EOFError, BrokenPipeError):
            _end(server)
        except BaseException:
            _end(server)
            raise
        else:
            with _lock:
                _idle.append((key, server))
            return answer
    return Answer("crashed", text="its fork server ended, twice; is the machine out of memory?")


def work(task: Task) -> list[Done] | None:
    """Run the task's cases one after the other; None: another worker is to do it."""
    if task.avoid == name():
        time.sleep(task.wait_s)
        return None
    if task.program != program():
        text = f"it runs another program ({program()}, not {task.program}); install the same one"
        return [Done(Answer("unusable", text=text), name())] * len(task.cases)
    limits = Limits(task.seconds, task.memory_bytes)
    done = []
    with _processor(task.exclusive) as processor:
        for case in task.cases:
            answer = run_case(task.target, case, limits, processor=processor, session=task.session)
            if answer.status in ("crashed", "memory", "timeout"):
                answer.told = _last_events(task, case, limits)
            done.append(Done(answer, name()))
    return done


def _last_events(task: Task, case: bytes, limits: Limits) -> list[str]:
    """Run a case that left no result once more, with recordings; return the end of each."""
    said = []
    with tempfile.TemporaryDirectory(prefix="e1000emu-campaign-") as directory:
        again = run_case(task.target, case, limits, directory=directory, session=task.session)
        said.append(f"run again: {again.status} {again.signal}".rstrip())
        for path in sorted(Path(directory).glob("*.rec")):
            try:
                events = deque(Reader(path, partial=True), LAST_EVENTS)
            except RecordingError as error:
                said.append(str(error))
                continue
            said += [f"{path.stem} {e.number}: {describe(e.kind, e.args)}" for e in events]
    return said


@contextmanager
def _processor(exclusive: bool) -> Iterator[int | None]:
    """Take a processor of this machine that no other exclusive case has, and wait for one."""
    if not exclusive:
        yield None
        return
    processors = sorted(os.sched_getaffinity(0))
    # An abstract address is a lock of this machine (network namespace) that ends with its holder.
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as lock:
        while True:
            found = next((number for number in processors if _locked(lock, number)), None)
            if found is not None:
                break
            time.sleep(0.05)
        yield found


def _locked(lock: socket.socket, number: int) -> bool:
    try:
        lock.bind(f"\0e1000emu-campaign-cpu{number}")
    except OSError:
        return False
    return True
