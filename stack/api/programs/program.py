"""`spawn`: start a program on a host's network."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from fastpath.base import seccomp
from fastpath.base.eventq import JumpQueue
from fastpath.errors import ArgumentError, check_type
from stack.api.programs import filter as seccomp_filter
from stack.api.programs.calls import CALLS
from stack.api.programs.pipes import Pipes
from stack.api.programs.supervisor import Supervisor
from stack.api.programs.timecalls import TIME_CALLS
from stack.api.programs.virtual import Attached
from stack.core.clock import require_running
from stack.net import Net, check_net

LAUNCH = Path(__file__).with_name("launch.py")
PRINTED_BYTES = 1 << 12
START_S = 30.0
POLL_S = 0.001
NOTIFY = "anon_inode:seccomp notify"
TRACE = "E1000EMU_TRACE"


class Program(subprocess.Popen[Any]):
    """A running program, with the interface of `subprocess.Popen`.

    Its supervisor also serves its child processes, until the last ends or `close`.
    """

    supervisor: Supervisor
    printed = b""
    """The last output to a standard output pipe, while `ended` waits."""

    def _attached(self) -> Attached | None:
        """Object that runs while this thread waits; None: the clock runs by itself."""
        supervisor: Supervisor | None = self.__dict__.get("supervisor")
        return None if supervisor is None else supervisor.attached

    def send_signal(self, sig: int) -> None:
        """Send a signal."""
        super().send_signal(sig)
        attached = self._attached()
        if attached is not None:
            attached.soon()

    def wait(self, timeout: float | None = None) -> int:
        """Wait for the program's exit status. `timeout` is in seconds of its time.

        Raises: subprocess.TimeoutExpired.
        """
        attached = self._attached()
        if attached is None:
            return super().wait(timeout)
        self._run(attached.clock, lambda: self.poll() is not None, timeout)
        assert self.returncode is not None
        return self.returncode

    def _run(self, clock: Any, cond: Callable[[], bool], timeout: float | None) -> None:
        limit_ns = None if timeout is None else int(timeout * 1e9)
        if not clock.wait(cond, limit_ns):
            assert timeout is not None
            raise subprocess.TimeoutExpired(self.args, timeout)

    def communicate(
        self,
        input: Any = None,  # noqa: A002 - the argument's name in subprocess
        timeout: float | None = None,
    ) -> tuple[Any, Any]:
        """Give `input`, read all output, wait for the exit."""
        attached = self._attached()
        if attached is None:
            return super().communicate(input, timeout)
        moved = Pipes(self, input)

        def over() -> bool:
            if moved.move():  # the program may continue
                attached.soon()
                return False
            return moved.done() and self.poll() is not None

        try:
            self._run(attached.clock, over, timeout)
        finally:
            moved.close()
        return moved.taken(self.stdout), moved.taken(self.stderr)

    async def ended(self, *, children: bool = False) -> int:
        """Wait in an asyncio loop for the program's exit status.

        With `children` wait until its last process has ended. In virtual time, its output
        to pipes is read meanwhile, and dropped except for `printed`.
        """
        # Imported here, as most programs are awaited without asyncio.
        loop = sys.modules["asyncio"].get_running_loop()
        over = loop.create_future()
        attached = self._attached()
        if attached is None:
            if self.poll() is None:
                watched = os.pidfd_open(self.pid)
                loop.add_reader(watched, over.set_result, None)
                try:
                    await over
                finally:
                    loop.remove_reader(watched)
                    os.close(watched)
            return self.wait()
        moved = Pipes(self, None, PRINTED_BYTES)
        supervisor = self.supervisor

        def rests() -> bool:
            if moved.move():  # the program may continue
                attached.soon()
            elif self.poll() is not None:
                return supervisor.ended or not children
            return False

        def told() -> None:
            if not over.done():
                over.set_result(None)

        attached.when(rests, told)
        try:
            await over
        finally:
            attached.forget(told)
            moved.move()
            moved.close()
            self.printed = moved.last(self.stdout)
        return self.wait()

    def close(self) -> None:
        """Close its sockets that are still open; its network calls fail from now on.

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
    """Start `argv`; its network sockets, and those of its children, are sockets of `host`.

    `popen` are arguments of `subprocess.Popen` (stdin, stdout, env, cwd ...). With `trace` each
    handled call is logged to `log`, one line each; the default follows E1000EMU_TRACE=calls in
    the environment.

    Raises: ClockError: the host's clock is not running. ArgumentError: not a program, a clock
    other than a RealClock or a VirtualClock, or a system without seccomp's user notification.
    OSError.
    """
    check_net("spawn", host)
    if not isinstance(host.clock, JumpQueue):
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
    virtual = isinstance(host.clock, JumpQueue)
    if not (virtual or hasattr(host.clock, "add_reader")):
        raise ArgumentError(
            f"spawn: {type(host.clock).__name__} cannot watch what a program asks; "
            "give the hosts a RealClock or a VirtualClock"
        )
    try:
        insns = seccomp_filter.packed(virtual)
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
        if virtual:
            if host.clock.attached is None:
                host.clock.attached = Attached(host.clock)
            attached = host.clock.attached
            program.supervisor = Supervisor(host, listener, TIME_CALLS, log, trace, attached)
            attached.add(program.supervisor, program.pid)
        else:
            program.supervisor = Supervisor(host, listener, CALLS, log, trace)
        host.machine.on_close(program.close)
        program.supervisor.on_ended = lambda: host.machine.on_close_cancel(program.close)
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
