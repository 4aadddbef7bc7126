"""What an executor runs: some cases, each by a fork server of this worker."""

from __future__ import annotations

import fcntl
import os
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import msgspec

from e1000emu.campaign.case import Limits
from e1000emu.campaign.forkserver import Answer, Request, Target, receive, send
from e1000emu.campaign.results import program
from e1000emu.recording import Reader, RecordingError, describe

__all__ = ["Done", "Task", "name", "run_case", "work"]

LAST_EVENTS = 20

_idle: list[subprocess.Popen[bytes]] = []
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
    """The name of a worker that is not to do it."""


class Done(NamedTuple):
    """What became of one case, and who did it."""

    answer: Answer
    worker: str


def name() -> str:
    """Return the name of this worker: unlike any other's."""
    return f"{socket.gethostname()}:{os.getpid()}"


def _start() -> subprocess.Popen[bytes]:
    # Not by `multiprocessing`: workers of Dask are daemons, which may not have children.
    return subprocess.Popen(
        [sys.executable, "-c", "from e1000emu.campaign.forkserver import main; main()"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)},
    )


def run_case(
    target: Target,
    case: bytes,
    limits: Limits,
    *,
    directory: str = "",
    processor: int | None = None,
) -> Answer:
    """Run one pickled case in a child process and return what became of it."""
    with _lock:
        server = _idle.pop() if _idle else None
    if server is None or server.poll() is not None:
        server = _start()
    assert server.stdin is not None
    assert server.stdout is not None
    request = Request(target, case, limits.seconds, limits.memory_bytes, directory, processor)
    try:
        send(server.stdin, request)
        answer: Answer = receive(server.stdout, Answer)
    except (EOFError, BrokenPipeError):
        server.kill()
        server.wait()
        return Answer("crashed", text="the fork server ended; its messages are the worker's")
    except BaseException:
        server.kill()  # its child goes with the pipe
        server.wait()
        raise
    with _lock:
        _idle.append(server)
    return answer


def work(task: Task) -> list[Done] | None:
    """Run the task's cases one after the other; None: another worker is to do it."""
    if task.avoid == name():
        time.sleep(0.01)
        return None
    if task.program != program():
        text = f"it runs another program ({program()}, not {task.program}); install the same one"
        return [Done(Answer("unusable", text=text), name())] * len(task.cases)
    limits = Limits(task.seconds, task.memory_bytes)
    done = []
    with _processor(task.exclusive) as processor:
        for case in task.cases:
            answer = run_case(task.target, case, limits, processor=processor)
            if answer.status in ("crashed", "memory", "timeout"):
                answer.told = _last_events(task.target, case, limits)
            done.append(Done(answer, name()))
    return done


def _last_events(target: Target, case: bytes, limits: Limits) -> list[str]:
    """Run a case that left nothing once more, recording; return the end of each recording."""
    said = []
    with tempfile.TemporaryDirectory(prefix="e1000emu-campaign-") as directory:
        again = run_case(target, case, limits, directory=directory)
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
    while True:
        for number in processors:
            path = Path(tempfile.gettempdir(), f"e1000emu-campaign-{os.getuid()}-cpu{number}")
            with open(path, "ab") as lock:
                try:
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    continue
                yield number
                return
        time.sleep(0.05)
