"""Runs each case in a process of its own: what is imported stays, what a case breaks goes with it.

A worker of any executor starts this once (`main`, in a process of its own) and sends it one request
after the other over a pipe.  It has one thread, so it can fork at any time, which a
worker of Dask or MPI cannot.  A request without an answer is a child that is at work; when the
worker goes, its end of the pipe closes, and the child is killed.

Both directions carry msgpack with 4 bytes of length before it (little endian).
"""

from __future__ import annotations

import contextlib
import faulthandler
import importlib
import importlib.util
import os
import pickle
import resource
import select
import signal
import sys
import time
import traceback
from hashlib import sha256
from pathlib import Path
from types import ModuleType
from typing import IO, Any

import msgspec

from e1000emu.campaign.case import Case, Result
from e1000emu.errors import E1000Error

__all__ = ["Answer", "Request", "Target", "receive", "send"]

OUTPUT_BYTES = 16 << 10
"""So much of what a case printed is kept, its end."""
GRACE_S = 0.25
"""Between the stack that a case which takes too long leaves, and its end."""


class Target(msgspec.Struct, frozen=True):
    """Where a case function is found."""

    module: str
    file: str
    sha256: str
    name: str


class Request(msgspec.Struct):
    """One case to run."""

    target: Target
    case: bytes
    """Pickled: values only."""
    seconds: float
    memory_bytes: int
    directory: str = ""
    """Where a replay writes; empty for none."""
    processor: int | None = None


class Answer(msgspec.Struct):
    """What became of it."""

    status: str
    digest: dict[str, str] = {}
    figures: dict[str, float | int | str] = {}
    text: str = ""
    told: list[str] = []
    steps: int = 0
    signal: str = ""
    output: str = ""
    seconds: float = 0.0
    cpu_seconds: float = 0.0
    memory_bytes: int = 0


def send(file: IO[bytes], message: Any) -> None:
    """Write one message."""
    body = msgspec.msgpack.encode(message)
    file.write(len(body).to_bytes(4, "little") + body)
    file.flush()


def receive(file: IO[bytes], kind: type[Any]) -> Any:
    """Read one message.  Raises: EOFError."""
    head = file.read(4)
    size = int.from_bytes(head, "little")
    body = file.read(size) if len(head) == 4 else b""
    if len(head) < 4 or len(body) < size:
        raise EOFError
    return msgspec.msgpack.decode(body, type=kind)


def load(target: Target) -> Any:
    """Return the function; the file it stands in must be the one that the campaign was run from.

    Raises: E1000Error, and whatever the file raises when it is imported.
    """
    path = Path(target.file)
    module: ModuleType | None = None
    if target.module not in ("", "__main__"):
        with contextlib.suppress(ImportError):
            module = importlib.import_module(target.module)
    if module is None or not _same(Path(module.__file__ or ""), target):
        if not _same(path, target):
            raise E1000Error(
                f"campaign: {path} is missing here, or another; put the same file on each machine, "
                "or install the package that has it"
            )
        private = f"campaign_{target.sha256[:16]}"
        found = sys.modules.get(private)
        if found is None:
            spec = importlib.util.spec_from_file_location(private, path)
            assert spec is not None
            assert spec.loader is not None
            sys.modules[private] = found = importlib.util.module_from_spec(spec)
            sys.path.insert(0, str(path.parent))
            try:
                spec.loader.exec_module(found)
            except BaseException:
                del sys.modules[private]
                raise
            if target.module == "__main__":
                sys.modules["__main__"] = found  # values of its classes are unpickled by that name
        module = found
    value: Any = module
    for part in target.name.split("."):
        value = getattr(value, part)
    return value


def _same(path: Path, target: Target) -> bool:
    try:
        return sha256(path.read_bytes()).hexdigest() == target.sha256
    except OSError:
        return False


# --- the child -----------------------------------------------------------------------------------


def attempt(function: Any, case: Case, directory: str) -> Answer:
    """Run the case here and say what it did; the case is closed then."""
    case._begin(Path(directory) if directory else None)
    status, text, result = "passed", "", Result()
    try:
        result = function(case) or Result()
        if not result.passed:
            status = "failed"
        text = result.text
    except MemoryError:
        status, text = "memory", traceback.format_exc(limit=-3)
    except Exception:
        status, text = "failed", traceback.format_exc()
    # A case that ends the interpreter in another way (SystemExit) has failed too.
    except BaseException as error:
        status, text = "failed", f"{type(error).__name__}: {error}"
    answer = Answer(status, figures=result.figures, text=text.rstrip(), steps=case._steps)
    try:
        answer.told = case.told()
        if directory:
            Path(directory, "explain.txt").write_text("".join(f"{line}\n" for line in answer.told))
        answer.digest = case.digest()
        case.close()
    except Exception:
        if status == "passed":
            answer.status, answer.text = "failed", traceback.format_exc().rstrip()
    return answer


def _child(function: Any, request: Request, found: int, output: int) -> None:
    """Run the case, leave the answer in file `found`, and end the process."""
    os.setpgid(0, 0)
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    null = os.open(os.devnull, os.O_RDONLY)
    for fd, place in ((null, 0), (output, 1), (output, 2)):
        os.dup2(fd, place)
    faulthandler.enable(2)
    faulthandler.dump_traceback_later(request.seconds, file=2)
    # If nobody is left who would kill it.
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.setitimer(signal.ITIMER_REAL, request.seconds + 60)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_AS, (request.memory_bytes, request.memory_bytes))
    if request.processor is not None:
        os.sched_setaffinity(0, [request.processor])
    if request.directory:
        os.chdir(request.directory)
    answer = attempt(function, pickle.loads(request.case), request.directory)
    sys.stdout.flush()
    sys.stderr.flush()
    os.write(found, msgspec.msgpack.encode(answer))


def run(request: Request, parent: int) -> Answer:
    """Run one request in a child; kill the child when `parent` closes.  Raises: EOFError then."""
    function = load(request.target)
    found, output = os.memfd_create("answer"), os.memfd_create("output")
    begun = time.monotonic()
    sys.stdout.flush()
    child = os.fork()
    if child == 0:
        try:
            _child(function, request, found, output)
        finally:
            os._exit(0)
    watch = os.pidfd_open(child)
    try:
        left = request.seconds + GRACE_S
        ready, _, _ = select.select([watch, parent], [], [], left)
        late = not ready
        if watch not in ready:
            with contextlib.suppress(ProcessLookupError):
                os.kill(child, signal.SIGKILL)
        _, status, usage = os.wait4(child, 0)
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(child, signal.SIGKILL)  # what the case has started and left
        if parent in ready and watch not in ready:
            raise EOFError
        answer = _answer(found, status, late)
        size = os.fstat(output).st_size
        text = os.pread(output, OUTPUT_BYTES, max(0, size - OUTPUT_BYTES))
        answer.output = text.decode(errors="replace")
    finally:
        for fd in (watch, found, output):
            os.close(fd)
    answer.seconds = time.monotonic() - begun
    answer.cpu_seconds = usage.ru_utime + usage.ru_stime
    answer.memory_bytes = usage.ru_maxrss * 1024
    return answer


def _answer(found: int, status: int, late: bool) -> Answer:
    if late:
        return Answer("timeout", text="the case took longer than its limit")
    if os.WIFSIGNALED(status):
        name = signal.Signals(os.WTERMSIG(status)).name
        return Answer("crashed", signal=name, text=f"the process ended by {name}")
    size = os.fstat(found).st_size
    try:
        answer: Answer = msgspec.msgpack.decode(os.pread(found, size, 0), type=Answer)
    except msgspec.DecodeError:
        code = os.waitstatus_to_exitcode(status)
        return Answer("crashed", text=f"the process left without a result (exit status {code})")
    return answer


def main() -> None:
    """Serve requests from standard input until it ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the worker decides
    requests = os.fdopen(os.dup(0), "rb")
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what an import prints is no answer
    while True:
        try:
            request = receive(requests, Request)
        except EOFError:
            return
        try:
            answer = run(request, requests.fileno())
        except EOFError:
            return
        except Exception:  # the case file cannot be loaded
            answer = Answer("unusable", text=traceback.format_exc().rstrip())
        send(answers, answer)
