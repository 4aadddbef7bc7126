"""select(2) and poll(2) (fs/select.c) over open files of any kind.

While a call sleeps it holds the files, as in the kernel: close() in another thread ends them when
the call is over.
"""

from __future__ import annotations

import errno
from collections.abc import Collection, Sequence
from functools import partial

from stack.core import uapi
from stack.core.clock import Clock
from stack.core.errors import os_error
from stack.core.file import NR_OPEN, fput, get_file, struct_file, vfs_poll
from stack.core.time64 import NSEC_PER_SEC, USEC_PER_SEC
from stack.core.uapi import POLLHUP, POLLIN, POLLNVAL, POLLOUT, POLLPRI
from stack.net import Net

POLLIN_SET = uapi.POLLRDNORM | uapi.POLLRDBAND | POLLIN | POLLHUP | uapi.POLLERR | POLLNVAL
POLLOUT_SET = uapi.POLLWRBAND | uapi.POLLWRNORM | POLLOUT | uapi.POLLERR | POLLNVAL
POLLEX_SET = POLLPRI | POLLNVAL


def do_pollfd(file: struct_file | None, wanted: int) -> int:
    """fs/select.c: the bits of `wanted` that a file has; None: the descriptor is not open."""
    return POLLNVAL if file is None else vfs_poll(file) & wanted


def any_ready(waits: Sequence[tuple[struct_file | None, int]]) -> bool:
    """Whether one of [(file, wanted)] has a wanted bit; called after each event."""
    file: struct_file | None
    wanted: int
    for file, wanted in waits:  # noqa: SIM110 -- no generator per event
        if do_pollfd(file, wanted):
            return True
    return False


def wait_files(
    clock: Clock, waits: Sequence[tuple[struct_file | None, int]], timeout_ns: int | None
) -> list[int]:
    """Sleep until one of [(file, wanted)] has a wanted bit; returns the bits of each.

    None stands for a descriptor that is not open. Timeout 0 does not sleep, None sleeps for ever.
    """

    if timeout_ns == 0 or any_ready(waits):
        return [do_pollfd(file, wanted) for file, wanted in waits]
    files = [file for file, _ in waits if file is not None]
    queues = [file.f_op.poll_wait(file) for file in files if file.f_op.poll_wait is not None]
    for file in files:
        get_file(file)
    for queue in queues:
        queue.add(clock.wake)  # a queue wakes only registered sleepers
    try:
        clock.wait(partial(any_ready, waits), timeout_ns)
        return [do_pollfd(file, wanted) for file, wanted in waits]
    finally:
        for queue in queues:
            queue.remove(clock.wake)
        for file in files:
            fput(file)


def do_poll(
    clock: Clock, waits: Sequence[tuple[struct_file | None, int]], timeout_ns: int | None
) -> list[int]:
    """fs/select.c: `wait_files` with POLLERR and POLLHUP always wanted, as poll(2) has them."""
    always = uapi.POLLERR | POLLHUP
    return wait_files(clock, [(file, wanted | always) for file, wanted in waits], timeout_ns)


def sys_poll(
    net: Net, fds: Sequence[tuple[int, int]], timeout_ns: int | None = None
) -> list[tuple[int, int]]:
    """poll(2): [(fd, wanted)] to [(fd, bits)] of the ready ones; timeout None waits for ever.

    A negative fd is left out. Raises: OSError EINVAL, more than RLIMIT_NOFILE.
    """
    if len(fds) > NR_OPEN:
        raise os_error(errno.EINVAL, f"poll: {len(fds)} descriptors, a host has {NR_OPEN}")
    asked = [(fd, wanted) for fd, wanted in fds if fd >= 0]
    waits = [(net.fdtable.fd.get(fd), wanted) for fd, wanted in asked]
    found = do_poll(net.clock, waits, timeout_ns)
    return [(fd, bits) for (fd, _), bits in zip(asked, found, strict=True) if bits]


def sys_ppoll(
    net: Net,
    fds: Sequence[tuple[int, int]],
    timeout: tuple[int, int] | None = None,
    sigmask: object = None,
) -> list[tuple[int, int]]:
    """ppoll(2): `timeout` (seconds, ns). A host's programs block no signals: `sigmask` is unused.

    Raises: OSError EINVAL.
    """
    return sys_poll(net, fds, timespec_ns(timeout))


def timespec_ns(timeout: tuple[int, int] | None) -> int | None:
    """poll_select_set_timeout: ns of a struct timespec. Raises: OSError EINVAL."""
    if timeout is None:
        return None
    sec, nsec = timeout
    if sec < 0 or not 0 <= nsec < NSEC_PER_SEC:
        raise os_error(errno.EINVAL, f"{timeout} is no time")
    return sec * NSEC_PER_SEC + nsec


def do_select(
    net: Net,
    inp: list[int],
    outp: list[int],
    exp: list[int],
    timeout_ns: int | None,
) -> tuple[list[int], list[int], list[int]]:
    """fs/select.c: sleep until a descriptor is ready for what it is listed for; those that are.

    Raises: OSError EBADF.
    """
    wanted: dict[int, int] = {}
    for fds, bits in ((inp, POLLIN_SET), (outp, POLLOUT_SET), (exp, POLLEX_SET)):
        for fd in fds:
            wanted[fd] = wanted.get(fd, 0) | bits
    waits: list[tuple[struct_file | None, int]] = []
    for fd in wanted:
        file = net.fdtable.fd.get(fd)
        if file is None:
            raise os_error(errno.EBADF, f"select: {fd} is not open")
        waits.append((file, wanted[fd]))
    answers = wait_files(net.clock, waits, timeout_ns)
    found = dict(zip(wanted, answers, strict=True))
    return (
        [fd for fd in inp if found[fd] & POLLIN_SET],
        [fd for fd in outp if found[fd] & POLLOUT_SET],
        [fd for fd in exp if found[fd] & POLLEX_SET],
    )


def core_sys_select(
    net: Net,
    n: int,
    inp: Collection[int] | None,
    outp: Collection[int] | None,
    exp: Collection[int] | None,
    timeout_ns: int | None,
) -> tuple[list[int], list[int], list[int]]:
    """fs/select.c: descriptors below `n` count. Raises: OSError EINVAL, EBADF."""
    if n < 0:
        raise os_error(errno.EINVAL, f"select: n is {n}")

    def below(fds: Collection[int] | None) -> list[int]:
        return [] if fds is None else sorted({fd for fd in fds if 0 <= fd < n})

    return do_select(net, below(inp), below(outp), below(exp), timeout_ns)


def sys_select(
    net: Net,
    n: int,
    inp: Collection[int] | None,
    outp: Collection[int] | None,
    exp: Collection[int] | None,
    timeout: tuple[int, int] | None = None,
) -> tuple[list[int], list[int], list[int]]:
    """select(2): sets of descriptors below `n`, `timeout` (seconds, us); those that are ready.

    Raises: OSError EINVAL, EBADF.
    """
    timeout_ns: int | None = None
    if timeout is not None:
        sec, usec = timeout
        if usec < 0:
            raise os_error(errno.EINVAL, f"{timeout} is no time")
        timeout_ns = timespec_ns((sec + usec // USEC_PER_SEC, usec % USEC_PER_SEC * 1000))
    return core_sys_select(net, n, inp, outp, exp, timeout_ns)


def sys_pselect6(
    net: Net,
    n: int,
    inp: Collection[int] | None,
    outp: Collection[int] | None,
    exp: Collection[int] | None,
    timeout: tuple[int, int] | None = None,
    sigmask: object = None,
) -> tuple[list[int], list[int], list[int]]:
    """pselect(2): as select, `timeout` (seconds, ns). `sigmask` as `sys_ppoll`'s."""
    return core_sys_select(net, n, inp, outp, exp, timespec_ns(timeout))
