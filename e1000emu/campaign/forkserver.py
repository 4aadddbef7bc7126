"""Runs each case in a process of its own: imports are kept, and side effects end with the case.

A worker of any executor starts the server (`main`, in a process of its own) and sends it requests
over a pipe. The server has one thread, so it can fork at any time, which a worker of Dask or MPI
cannot. When the worker exits, its end of the pipe closes, and the child is killed. The server is a
subreaper (prctl(2)): when a case ends, the processes that it has started become children of the
server, whatever their session, and are killed too.

Both directions carry msgpack with 4 bytes of length before it (little endian).
"""

from __future__ import annotations

import contextlib
import ctypes
import faulthandler
import gc
import importlib
import importlib.util
import inspect
import math
import numbers
import os
import pickle
import resource
import select
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Callable
from functools import partial
from hashlib import sha256
from pathlib import Path
from types import ModuleType
from typing import IO, Any

import msgspec

from e1000emu.campaign.case import Case, Result
from e1000emu.cli.signals import signal_name
from e1000emu.errors import ArgumentError, E1000Error

OUTPUT_BYTES = 16 << 10
"""How much of a case's output is kept, from its end."""
GRACE_S = 10.0
"""How long a case that timed out may take to unwind its stack before it is killed, s."""
SWEEP_S = 5.0
"""How long to kill a case's processes, if it keeps starting new ones, s."""
STOPS = (signal.SIGTERM, signal.SIGHUP)
"""They end the server while it waits. While it forks or kills they are blocked, because otherwise
processes would remain."""
PR_SET_PDEATHSIG, PR_SET_CHILD_SUBREAPER = 1, 36
INT64 = 1 << 63

prctl = ctypes.CDLL(None).prctl


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
    """The result of a case."""

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


def find(function: Any, called: str) -> Target:
    """Return how other processes find a function; messages name it `called`.

    Raises: ArgumentError, they could not.
    """
    name = getattr(function, "__qualname__", "")
    try:
        file = inspect.getsourcefile(function) or ""
        text = Path(file).read_bytes()
    except (OSError, TypeError):
        file = ""
    if not file or "<" in name or not name:
        raise ArgumentError(
            f"{called}={function!r} cannot be found by another process; "
            "define the function at the top level of a file"
        )
    return Target(function.__module__, os.path.abspath(file), sha256(text).hexdigest(), name)


def load(target: Target) -> Any:
    """Return the function; its file must be the one from which the campaign was run.

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
                f"{path} is missing here, or another; put the same file on each machine, "
                "or install the package that has it"
            )
        module = import_file(path, target.sha256)
        if target.module == "__main__":
            sys.modules["__main__"] = module  # values of its classes are unpickled by that name
    value: Any = module
    for part in target.name.split("."):
        value = getattr(value, part)
    return value


def import_file(path: Path, digest: str) -> ModuleType:
    """Import a case file, whose SHA-256 is `digest`, under a name that no other file has."""
    name = f"campaign_{digest[:16]}"
    found = sys.modules.get(name)
    if found is None:
        spec = importlib.util.spec_from_file_location(name, path)
        assert spec is not None
        assert spec.loader is not None
        sys.modules[name] = found = importlib.util.module_from_spec(spec)
        sys.path.insert(0, str(path.parent))
        try:
            spec.loader.exec_module(found)
        except BaseException:
            del sys.modules[name]
            raise
    return found


def _same(path: Path, target: Target) -> bool:
    try:
        return sha256(path.read_bytes()).hexdigest() == target.sha256
    except OSError:
        return False


# --- the child -----------------------------------------------------------------------------------


def attempt(function: Any, case: Case, directory: str) -> Answer:
    """Run the case in this process, close it, and return what it did."""
    case._begin(Path(directory) if directory else None)
    status, text, result = "passed", "", Result()
    try:
        result = _checked(function(case))
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
    answer = Answer(status, figures=result.figures, text=_utf8(text.rstrip()), steps=case._steps)
    try:
        answer.told = [_utf8(line) for line in case.told()]
        if directory:
            lines = "".join(f"{line}\n" for line in answer.told)
            Path(directory, "explain.txt").write_text(lines, encoding="utf-8")
        answer.digest = case.digest()
        case.close()
    except Exception:
        if status == "passed":
            answer.status, answer.text = "failed", _utf8(traceback.format_exc().rstrip())
    return answer


def _checked(result: Any) -> Result:
    """Return a result of which JSON can carry every figure.  Raises: TypeError."""
    if result is None:
        return Result()
    if not isinstance(result, Result):
        raise TypeError(f"the case function returned {result!r}; return None or a Result")
    figures = {_utf8(str(name)): _figure(name, value) for name, value in result.figures.items()}
    return Result(bool(result.passed), figures, str(result.text))


def _figure(name: str, value: Any) -> float | int | str:
    match value:
        case str():
            return _utf8(value)
        case numbers.Integral() if -INT64 <= int(value) < INT64:
            return int(value)
        case numbers.Real():
            number = float(value)
            return number if math.isfinite(number) else str(number)
    raise TypeError(f"figure {name}={value!r}; give a number or text")


def _utf8(text: str) -> str:
    return text.encode(errors="backslashreplace").decode()


def _child(function: Any, request: Request, found: int, output: int, pipes: list[int]) -> None:
    """Run the case and write the answer to the file `found`. Closes `pipes` first."""
    for fd in pipes:
        os.close(fd)
    os.setpgid(0, 0)
    for number in STOPS:
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, STOPS)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    null = os.open(os.devnull, os.O_RDONLY)
    for fd, place in ((null, 0), (output, 1), (output, 2)):
        os.dup2(fd, place)
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(line_buffering=True)  # type: ignore[union-attr]
    faulthandler.enable(2)
    faulthandler.dump_traceback_later(request.seconds, file=2, exit=True)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    _, most = resource.getrlimit(resource.RLIMIT_AS)
    limit = request.memory_bytes
    if most != resource.RLIM_INFINITY:
        limit = min(limit, most)
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    if request.processor is not None:
        os.sched_setaffinity(0, [request.processor])
    if request.directory:
        os.chdir(request.directory)
    answer = attempt(function, pickle.loads(request.case), request.directory)
    sys.stdout.flush()
    sys.stderr.flush()
    os.write(found, msgspec.msgpack.encode(answer))


def fork(work: Callable[[], None]) -> int:
    """Return a process that does `work` and is killed with this one."""
    parent = os.getpid()
    sys.stdout.flush()
    sys.stderr.flush()
    child = os.fork()
    if child:
        return child
    code = 70
    try:
        prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() == parent:  # it may have gone before
            work()
            code = 0
    except BaseException:
        traceback.print_exc()
        sys.stderr.flush()
    finally:
        os._exit(code)


# --- the server ----------------------------------------------------------------------------------


class _Tail:
    """A pipe whose last bytes are kept."""

    def __init__(self, fd: int) -> None:
        self.fd = fd
        self.data = b""
        os.set_blocking(fd, False)

    def read(self) -> bool | None:
        """Read available data; None: nothing yet, False: end of file."""
        try:
            more = os.read(self.fd, 1 << 16)
        except BlockingIOError:
            return None
        self.data = (self.data + more)[-OUTPUT_BYTES:]
        return bool(more)

    def text(self) -> str:
        """Return it, with what is still in the pipe."""
        while self.read():
            pass
        return self.data.decode(errors="replace")


def run(function: Any, request: Request, parent: int, answers: int) -> Answer:
    """Run one request in a child; kill the child when `parent` closes.  Raises: EOFError then."""
    signal.pthread_sigmask(signal.SIG_BLOCK, STOPS)
    found = os.memfd_create("answer")
    reader, writer = os.pipe()
    begun = time.monotonic()
    child = fork(partial(_child, function, request, found, writer, [parent, answers, reader]))
    os.close(writer)
    tail = _Tail(reader)
    watch = os.pidfd_open(child)
    try:
        try:
            late = _wait(watch, parent, tail, begun + request.seconds + GRACE_S)
        finally:
            os.kill(child, signal.SIGKILL)  # not waited for, so the number is still the child's
            _, status, usage = os.wait4(child, 0)
            _sweep(child)
        late |= not os.fstat(found).st_size and time.monotonic() >= begun + request.seconds
        answer = _answer(found, status, late)
        answer.output = tail.text()
    finally:
        for fd in (watch, found, reader):
            os.close(fd)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, STOPS)
    answer.seconds = time.monotonic() - begun
    answer.cpu_seconds = usage.ru_utime + usage.ru_stime
    answer.memory_bytes = usage.ru_maxrss * 1024
    return answer


def _wait(watch: int, parent: int, tail: _Tail, end: float) -> bool:
    """Wait for the child's end; say whether it was too late.  Raises: EOFError, the worker went."""
    reading = [watch, parent, tail.fd]
    try:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, STOPS)  # one that has come raises here
        while True:
            left = end - time.monotonic()
            ready, _, _ = select.select(reading, [], [], max(0.0, left))
            if watch in ready:
                return False
            if parent in ready:
                raise EOFError
            if left <= 0:
                return True
            if tail.fd in ready and tail.read() is False:
                reading.remove(tail.fd)
    finally:
        signal.pthread_sigmask(signal.SIG_BLOCK, STOPS)


def _sweep(group: int) -> None:
    """Kill a case's remaining processes: its process group, and children of this process."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(group, signal.SIGKILL)
    end = time.monotonic() + SWEEP_S
    with contextlib.suppress(ChildProcessError, FileNotFoundError):  # a kernel without `children`
        while time.monotonic() < end:
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
            for pid in Path(f"/proc/self/task/{os.getpid()}/children").read_text().split():
                with contextlib.suppress(ProcessLookupError):
                    os.kill(int(pid), signal.SIGKILL)
            time.sleep(0.001)


def _answer(found: int, status: int, late: bool) -> Answer:
    if late:
        return Answer("timeout", text="the case took longer than its limit")
    if os.WIFSIGNALED(status):
        name, why = killed_by(status)
        return Answer("crashed", signal=name, text=f"the process ended by {why}")
    size = os.fstat(found).st_size
    try:
        answer: Answer = msgspec.msgpack.decode(os.pread(found, size, 0), type=Answer)
    except msgspec.DecodeError:
        code = os.waitstatus_to_exitcode(status)
        return Answer("crashed", text=f"the process left without a result (exit status {code})")
    return answer


def killed_by(status: int) -> tuple[str, str]:
    """Return the name of the signal that ended a process, and a text about it for people."""
    name = signal_name(os.WTERMSIG(status))
    return name, f"{name}; is the machine out of memory?" if name == "SIGKILL" else name


def start(module: str) -> subprocess.Popen[bytes]:
    """Start the `main` of a module of ours, which serves requests over a pipe."""
    return subprocess.Popen(
        [sys.executable, "-P", "-c", f"from {module} import main; main()"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(map(os.path.abspath, sys.path))},
    )


def end_by_signals() -> None:
    """Ignore SIGINT, which the caller handles; exit on the others, so that the case is killed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    for number in STOPS:
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, lambda *_: sys.exit(1))


def requests_and_answers() -> tuple[IO[bytes], IO[bytes]]:
    """Return the pipes of `start`, separate from standard output, which imports may print to."""
    end_by_signals()
    requests = os.fdopen(os.dup(0), "rb")
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    return requests, answers


def main() -> None:
    """Serve requests from standard input until it ends."""
    prctl(PR_SET_CHILD_SUBREAPER, 1)
    requests, answers = requests_and_answers()
    functions: dict[Target, Any] = {}
    with contextlib.suppress(EOFError, BrokenPipeError):
        while True:
            request = receive(requests, Request)
            try:
                function = functions.get(request.target) or load(request.target)
            except BaseException:  # a SystemExit of the file's too
                answer = Answer("unusable", text=_utf8(traceback.format_exc().rstrip()))
            else:
                if request.target not in functions:
                    functions[request.target] = function
                    # No case makes garbage of these imports, and a collection would copy their
                    # pages.
                    gc.collect()
                    gc.freeze()
                answer = run(function, request, requests.fileno(), answers.fileno())
            send(answers, answer)
