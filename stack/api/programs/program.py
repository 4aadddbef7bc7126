"""`spawn`: start a program whose network is a host's."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fastpath.base import seccomp
from fastpath.errors import ArgumentError, check_type
from stack.api.programs import filter as seccomp_filter
from stack.api.programs.calls import CALLS
from stack.api.programs.supervisor import Supervisor
from stack.core.clock import require_running
from stack.net import check_net

if TYPE_CHECKING:
    from stack.net import Net

LAUNCH = Path(__file__).with_name("launch.py")
START_S = 30.0
POLL_S = 0.001
NOTIFY = "anon_inode:seccomp notify"
TRACE = "E1000EMU_TRACE"


class Program(subprocess.Popen[Any]):
    """A running program, as `subprocess.Popen` has it; `close` ends what serves it.

    Child processes of the program are served until `close`, after its own end, too.
    """

    supervisor: Supervisor

    def close(self) -> None:
        """Close its sockets that are still open; its calls about the network fail from now on.

        Safe to call twice.
        """
        supervisor = self.__dict__.pop("supervisor", None)
        if supervisor is not None:
            with supervisor.host.lock:
                supervisor.host.machine.on_close_cancel(self.close)
                supervisor.close()

    def __exit__(self, *exc: Any) -> None:
        try:
            super().__exit__(*exc)
        finally:
            self.close()


def _to_stderr(line: str) -> None:
    os.write(2, f"{line}\n".encode())


def spawn(
    host: Net,
    argv: Sequence[str],
    *,
    log: Callable[[str], Any] = _to_stderr,
    trace: bool | None = None,
    **popen: Any,
) -> Program:
    """Start `argv`; its sockets of the network, and those of its children, are sockets of `host`.

    `popen` are arguments of `subprocess.Popen` (stdin, stdout, env, cwd ...). With `trace` each
    call that was answered is told to `log`, one line each; by default as E1000EMU_TRACE=calls of
    the environment says.

    Raises: ClockError: the host's clock does not run by itself. ArgumentError: no program, a clock
    whose time is not real, or a system without seccomp's user notification. OSError.
    """
    check_net("spawn", host)
    with host.lock:
        require_running(host.clock, "spawn")
    return start(host, argv, log=log, trace=trace, **popen)


def start(
    host: Net,
    argv: Sequence[str],
    *,
    log: Callable[[str], Any] = _to_stderr,
    trace: bool | None = None,
    **popen: Any,
) -> Program:
    """`spawn` for a caller that runs the host's clock itself while the program runs."""
    check_type("spawn", "argv", argv, (list, tuple), "the program and its arguments")
    if not argv:
        raise ArgumentError("spawn: argv is empty; give the program and its arguments")
    if not seccomp.available():
        raise ArgumentError("spawn: programs on hosts need Linux 5.14 and its headers at build")
    if not hasattr(host.clock, "add_reader"):
        raise ArgumentError(
            f"spawn: programs run in real time, and {type(host.clock).__name__} has its own; "
            "give the hosts a RealClock"
        )
    try:
        insns = seccomp_filter.packed()
    except NotImplementedError as exc:
        raise ArgumentError(f"spawn: {exc}") from None
    if trace is None:
        trace = "calls" in os.environ.get(TRACE, "").split(",")
    read, write = os.pipe()
    command = [sys.executable, "-I", "-S", os.fspath(LAUNCH), str(write), insns.hex(), *argv]
    with contextlib.ExitStack() as undo:
        undo.callback(os.close, read)
        try:
            program = Program(command, pass_fds=(write, *popen.pop("pass_fds", ())), **popen)
        finally:
            os.close(write)
        undo.callback(program.kill)
        number = os.read(read, 16)
        if not number:
            raise OSError(f"{argv[0]}: the launcher ended with {program.wait()}")
        listener = seccomp.Listener(_listener_of(program, int(number)))
        undo.pop_all()
    os.close(read)
    with host.lock:
        program.supervisor = Supervisor(host, listener, CALLS, log, trace)
        host.machine.on_close(program.close)
    return program


def _listener_of(program: Program, number: int) -> int:
    """Take the listener from the launcher, which installs the filter now.  Raises: OSError."""
    end = time.monotonic() + START_S
    while time.monotonic() < end:
        with contextlib.suppress(OSError):
            if os.readlink(f"/proc/{program.pid}/fd/{number}") == NOTIFY:
                return seccomp.get_fd(program.pid, number)
        if program.poll() is not None:
            break
        time.sleep(POLL_S)
    raise OSError(f"no filter: the launcher ended with {program.poll()}")
