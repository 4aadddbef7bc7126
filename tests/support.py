"""Requirements of tests: skip with the reason, or fail where CI guarantees them.

from tests.support import require

def test_tap_carries_a_frame() -> None:
    require.tun()
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import functools
import mmap
import os
import shutil
import subprocess
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NoReturn, Protocol, TypeVar

import pytest

from e1000emu.closing import Closing


def in_ci() -> bool:
    """Return whether CI is set: there all requirements of tests must be present."""
    return os.environ.get("CI", "") not in ("", "0", "false")


def missing(what: str, remedy: str) -> NoReturn:
    """Skip with the reason, or fail where CI guarantees it."""
    text = f"{what}; {remedy}"
    if in_ci():
        pytest.fail(f"CI is set, but {text}", pytrace=False)
    pytest.skip(text)


def examples(count: int) -> int:
    """Return the number of examples of a property test: `count`, or the requested share.

    `E1000EMU_EXAMPLES=0.2` is for a run that repeats another with all examples, 10
    for a long night. Raises ValueError for other text than a number.
    """
    return max(2, round(count * float(os.environ.get("E1000EMU_EXAMPLES") or 1)))


def run_to_end(
    words: Iterable[object],
    *,
    cwd: str | Path | None = None,
    env: Mapping[str, str] | None = None,
    timeout_s: float = 240,
    check: bool = False,
) -> subprocess.CompletedProcess[str]:
    """Run a program, with `env` added to ours, and return its output as text."""
    return subprocess.run(
        [str(word) for word in words],
        cwd=cwd,
        env={**os.environ, **(env or {})},
        capture_output=True,
        text=True,
        timeout=timeout_s,
        check=check,
    )


@functools.cache
def _netns_error() -> str:
    name = f"e1k-probe-{os.getpid()}"
    made = subprocess.run(["ip", "netns", "add", name], capture_output=True, text=True, check=False)
    if made.returncode:
        return made.stderr.strip() or f"ip netns add exits with {made.returncode}"
    subprocess.run(["ip", "netns", "del", name], capture_output=True, check=False)
    return ""


def quiet_ipv6(device: str, netns: str) -> None:
    """Keep the kernel from sending its own packets on `device` of the namespace `netns`.

    With IPv6 on, it sends router solicitations and multicast listener reports at any time,
    between the frames that a test counts. Raises CalledProcessError on failure.
    """
    knob = f"/proc/sys/net/ipv6/conf/{device}/disable_ipv6"
    # written by the shell, as the program sysctl and IPv6 may be missing
    script = f"[ ! -e {knob} ] || echo 1 >{knob}"
    subprocess.run(["ip", "netns", "exec", netns, "sh", "-c", script], check=True)


def plain_environment() -> dict[str, str]:
    """Return the environment for programs that a test starts, without pytest's variables.

    For example pytest-benchmark measures nothing if it believes to be a worker of pytest-xdist.
    """
    return {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}


def errno_of(call: Callable[..., object], *args: Any, **named: Any) -> int:
    """Return the errno of the OSError that a call raises, 0 if it raises none."""
    try:
        call(*args, **named)
    except OSError as error:
        return error.errno or -1
    return 0


def outcome(call: Callable[[], Any]) -> Any:
    """The result of a call, or its errno."""
    try:
        return call()
    except OSError as error:
        return f"errno {errno.errorcode.get(error.errno or 0, error.errno)}"


class SupportsClose(Protocol):
    """An object to be closed."""

    def close(self) -> object: ...


Closes = TypeVar("Closes", bound=SupportsClose)


class Rig(Closing):
    """Resources of a test on an ExitStack."""

    _stack: contextlib.ExitStack

    def close(self) -> None:
        """Close everything."""
        self._stack.close()


def kept(stack: contextlib.ExitStack, made: Closes) -> Closes:
    """Return `made`, which is closed with the stack."""
    stack.callback(made.close)
    return made


PATIENCE_S = 60.0
"""Timeout for events that are certain, even on a slow machine."""


def eventually(
    true: Callable[[], Any],
    what: object = "",
    *,
    program: subprocess.Popen[Any] | None = None,
    seconds: float = PATIENCE_S,
) -> Any:
    """Wait for a true value, and return it.

    Fails on timeout, with `what` or its result, and if `program` has ended.
    """
    deadline = time.monotonic() + seconds
    while not (value := true()):
        assert program is None or program.poll() is None, f"it has ended, without {what}"
        if time.monotonic() >= deadline:
            pytest.fail(f"never came: {what() if callable(what) else what}")
        time.sleep(0.01)
    return value


def wait_blocked(process: subprocess.Popen[str], signals: Collection[int]) -> None:
    """Wait until a process that starts blocks these signals.  Fails if it has ended."""
    wanted = sum(1 << (number - 1) for number in signals)
    for _ in range(20_000):
        assert process.poll() is None, f"it ended with {process.returncode}"
        status = Path(f"/proc/{process.pid}/status").read_text()
        if int(status.partition("SigBlk:")[2].split()[0], 16) & wanted == wanted:
            return
        time.sleep(0.001)
    pytest.fail(f"it never blocked {signals}")


HOLE_BYTES = 1 << 15


@contextlib.contextmanager
def end_of_memory(data: bytes) -> Iterator[int]:
    """The address of `data` in this process, with HOLE_BYTES of unmapped memory after it."""
    whole = max(-(-len(data) // mmap.PAGESIZE), 1) * mmap.PAGESIZE
    memory = mmap.mmap(-1, whole + HOLE_BYTES)
    start = ctypes.addressof(ctypes.c_char.from_buffer(memory))
    addr = start + whole - len(data)
    ctypes.memmove(addr, data, len(data))
    ctypes.CDLL(None).mprotect(ctypes.c_size_t(start + whole), ctypes.c_size_t(HOLE_BYTES), 0)
    yield addr


class _Require:
    """Each method returns if the machine has the feature; else it skips, or fails in CI."""

    def root(self) -> None:
        """Require the effective user root."""
        if os.geteuid() != 0:
            missing("needs root", "run the tests with sudo")

    def tool(self, name: str, package: str | None = None) -> str:
        """Require the program `name` on PATH and return its path."""
        found = shutil.which(name)
        if found is None:
            missing(f"needs {name}", f"apt-get install {package or name}")
        return found or ""

    def header(self, path: str, package: str) -> None:
        """Require a library by its header below /usr/include."""
        if not (Path("/usr/include") / path).exists():
            missing(f"needs /usr/include/{path}", f"apt-get install {package}")

    def tun(self) -> None:
        """Require root and a usable /dev/net/tun."""
        self.root()
        try:
            os.close(os.open("/dev/net/tun", os.O_RDWR | os.O_CLOEXEC))
        except OSError as error:
            missing(f"needs /dev/net/tun: {error.strerror}", "modprobe tun")

    def netns(self) -> None:
        """Require root, iproute2 and network namespaces."""
        self.root()
        self.tool("ip", "iproute2")
        error = _netns_error()
        if error:
            missing(f"needs network namespaces: {error}", "use a kernel with CONFIG_NET_NS")

    def taps(self) -> None:
        """Require network namespaces and TAPs between them."""
        self.netns()
        self.tun()


require = _Require()
