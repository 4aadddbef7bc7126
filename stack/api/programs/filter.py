"""The filter of seccomp that stops a program's calls: the list of calls and its classic BPF.

A call stops if it may concern a network socket. If the arguments rule that out
(AF_UNIX, another kind of ioctl), it continues.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Callable

from stack.core.uapi import AF_UNIX

# Numbers of the calls: x86-64, aarch64 (arch/x86/entry/syscalls/syscall_64.tbl,
# include/uapi/asm-generic/unistd.h). None: the machine has no such call.
CALLS: dict[str, tuple[int | None, int | None]] = {
    "read": (0, 63),
    "write": (1, 64),
    "open": (2, None),
    "stat": (4, None),
    "lstat": (6, None),
    "poll": (7, None),
    "mmap": (9, 222),
    "ioctl": (16, 29),
    "readv": (19, 65),
    "writev": (20, 66),
    "access": (21, None),
    "select": (23, None),
    "sendfile": (40, 71),
    "socket": (41, 198),
    "connect": (42, 203),
    "accept": (43, 202),
    "sendto": (44, 206),
    "recvfrom": (45, 207),
    "sendmsg": (46, 211),
    "recvmsg": (47, 212),
    "shutdown": (48, 210),
    "bind": (49, 200),
    "listen": (50, 201),
    "getsockname": (51, 204),
    "getpeername": (52, 205),
    "setsockopt": (54, 208),
    "getsockopt": (55, 209),
    "readlink": (89, None),
    "epoll_wait": (232, None),
    "openat": (257, 56),
    "newfstatat": (262, 79),
    "readlinkat": (267, 78),
    "faccessat": (269, 48),
    "pselect6": (270, 72),
    "ppoll": (271, 73),
    "splice": (275, 76),
    "epoll_pwait": (281, 22),
    "accept4": (288, 242),
    "recvmmsg": (299, 243),
    "sendmmsg": (307, 269),
    "statx": (332, 291),
    "io_uring_setup": (425, 425),
    "openat2": (437, 437),
    "faccessat2": (439, 439),
}
CLONES = ("clone", "fork", "vfork", "clone3")
"""Calls that create threads and processes."""
TIME_CALLS: dict[str, tuple[int | None, int | None]] = {
    "nanosleep": (35, 101),
    "getitimer": (36, 102),
    "alarm": (37, None),
    "setitimer": (38, 103),
    "clone": (56, 220),
    "fork": (57, None),
    "vfork": (58, None),
    "gettimeofday": (96, 169),
    "rt_sigtimedwait": (128, 137),
    "arch_prctl": (158, None),
    "time": (201, None),
    "futex": (202, 98),
    "set_tid_address": (218, 96),
    "clock_gettime": (228, 113),
    "clock_nanosleep": (230, 115),
    "exit_group": (231, 94),
    "timerfd_create": (283, 85),
    "timerfd_settime": (286, 86),
    "timerfd_gettime": (287, 87),
    "clone3": (435, 435),
    "epoll_pwait2": (441, 441),
}
"""Calls that also stop in virtual time."""
MACHINES = {"x86_64": (0, 0xC000003E), "aarch64": (1, 0xC00000B7)}
"""Column of CALLS, and AUDIT_ARCH_* of linux/audit.h."""

ALLOW, NOTIFY, ERRNO = 0x7FFF0000, 0x7FC00000, 0x00050000
LD, JEQ, JSET, RET, AND = 0x20, 0x15, 0x45, 0x06, 0x54
NR, ARCH, ARGS = 0, 4, 16
"""Offsets in struct seccomp_data; arguments have 64 bits, the low half first."""
ENOSYS = 38
X32 = 0x40000000
O_PATH, AT_SYMLINK_NOFOLLOW, AT_EMPTY_PATH = 0o10000000, 0x100, 0x1000
FUTEX_WAIT, FUTEX_WAIT_BITSET = 0, 9
ARCH_SET_FS = 0x1002
MAP_SHARED, MAP_ANONYMOUS = 0x1, 0x20
SIOC, FIONREAD, TIOCOUTQ = 0x8900, 0x541B, 0x5411
TUN = 0x54C0
"""Requests to /dev/net/tun have 'T' and numbers from 200. Those for terminals are lower."""

Insn = tuple[int, int, int, int]


def machine() -> tuple[int, int] | None:
    """The column of CALLS and the AUDIT_ARCH_* of this machine; None if unknown."""
    return MACHINES.get(os.uname().machine)


def numbers(virtual: bool = False) -> dict[int, str]:
    """The name of each call that may stop, by its number on this machine."""
    rows = {name: number_of(name) for name in (CALLS | TIME_CALLS if virtual else CALLS)}
    return {number: name for name, number in rows.items() if number is not None}


def number_of(name: str) -> int | None:
    """A call's number on this machine; None without one."""
    found = machine()
    return (CALLS | TIME_CALLS)[name][found[0] if found else 0]


ENDS: list[Insn] = [(RET, 0, 0, ALLOW), (RET, 0, 0, NOTIFY)]
"""End of most programs below: continue, or one instruction later stop."""
# Calls that stop only in some cases. The accumulator is free.
SPECIAL: dict[str, list[Insn]] = {
    "socket": [(LD, 0, 0, ARGS), (JEQ, 0, 1, AF_UNIX), *ENDS],
    "mmap": [
        (LD, 0, 0, ARGS + 24),
        (JSET, 1, 0, MAP_ANONYMOUS),
        (JSET, 1, 0, MAP_SHARED),
        *ENDS,
    ],
    "io_uring_setup": [(RET, 0, 0, ERRNO | ENOSYS)],
    "ioctl": [
        (LD, 0, 0, ARGS + 8),
        (JEQ, 6, 0, FIONREAD),
        (JEQ, 5, 0, TIOCOUTQ),
        (AND, 0, 0, 0xFFC0),
        (JEQ, 3, 0, TUN),
        (AND, 0, 0, 0xFF00),
        (JEQ, 1, 0, SIOC),
        *ENDS,
    ],
    **{
        name: [(LD, 0, 0, ARGS + 8 * flags), (JSET, 0, 1, mask), *ENDS]
        for name, flags, mask in (
            ("open", 1, O_PATH),
            ("openat", 2, O_PATH),
            ("newfstatat", 3, AT_EMPTY_PATH),
            ("statx", 2, AT_EMPTY_PATH),
        )
    },
    # FUTEX_WAIT and FUTEX_WAIT_BITSET with a timeout.
    "futex": [
        (LD, 0, 0, ARGS + 8),
        (AND, 0, 0, 0x7F),
        (JEQ, 1, 0, FUTEX_WAIT),
        (JEQ, 0, 5, FUTEX_WAIT_BITSET),
        (LD, 0, 0, ARGS + 24),
        (JEQ, 0, 2, 0),
        (LD, 0, 0, ARGS + 28),
        (JEQ, 1, 0, 0),
        (RET, 0, 0, NOTIFY),
        (RET, 0, 0, ALLOW),
    ],
    "arch_prctl": [(LD, 0, 0, ARGS), (JEQ, 1, 0, ARCH_SET_FS), *ENDS],
    **{
        name: [(LD, 0, 0, ARGS + 24), (JSET, 0, 1, 1 << 31), *ENDS]  # no timeout
        for name in ("epoll_wait", "epoll_pwait")
    },
}

# With a write set, as in iperf3, it does not stop. With a read set alone it does: a ring may
# have been emptied since POLLIN was shown, and the reader would then wait in vain (nmap).
SELECT: list[Insn] = [
    (LD, 0, 0, ARGS + 16),
    (JEQ, 0, 2, 0),
    (LD, 0, 0, ARGS + 20),
    (JEQ, 1, 0, 0),
    *ENDS,
]

# Without a wait it stops, so that the peer notices earlier closes at once.
EPOLL_NOW: list[Insn] = [(LD, 0, 0, ARGS + 24), (JEQ, 1, 0, 0), *ENDS]
REAL = {"select": SELECT, "pselect6": SELECT, "epoll_wait": EPOLL_NOW, "epoll_pwait": EPOLL_NOW}


def program(virtual: bool = False) -> list[Insn]:
    """The filter's instructions: (code, jt, jf, k) of struct sock_filter. `virtual`: virtual time.

    Raises: NotImplementedError for an unsupported machine.
    """
    found = machine()
    if found is None:
        raise NotImplementedError(
            f"programs run on hosts of {' and '.join(MACHINES)}; this is {os.uname().machine}"
        )
    column, arch = found
    out: list[Insn] = [
        (LD, 0, 0, ARCH),
        (JEQ, 1, 0, arch),
        (RET, 0, 0, ERRNO | ENOSYS),  # calls of another architecture (32 bits)
        (LD, 0, 0, NR),
    ]
    if column == 0:
        out += [(JSET, 0, 1, X32), (RET, 0, 0, ERRNO | ENOSYS)]
    special = SPECIAL if virtual else SPECIAL | REAL
    for name, row in (CALLS | TIME_CALLS if virtual else CALLS).items():
        number = row[column]
        if number is None:
            continue
        body = special.get(name, [(RET, 0, 0, NOTIFY)])
        out += [(JEQ, 0, len(body), number), *body]
    return [*out, (RET, 0, 0, ALLOW)]


def packed(virtual: bool = False) -> bytes:
    """The filter as an array of struct sock_filter."""
    pack: Callable[..., bytes] = struct.Struct("=HBBI").pack
    return b"".join(pack(*insn) for insn in program(virtual))
