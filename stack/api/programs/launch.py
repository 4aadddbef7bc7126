"""Become a program under a filter: `python -I -S launch.py FD FILTER PROGRAM ARGS...`.

Runs in the child. It writes to descriptor FD the future number of the filter's listener; the
parent takes the listener from there (pidfd_getfd(2)). With the filter, any call may stop until
the parent answers. It imports little, so that a program starts fast.
"""

import ctypes
import os
import sys

PR_SET_NO_NEW_PRIVS = 38
SECCOMP_SET_MODE_FILTER = 1
NEW_LISTENER, WAIT_KILLABLE_RECV = 1 << 3, 1 << 5
SYS_SECCOMP = {"x86_64": 317, "aarch64": 277}
CANNOT_RUN, NOT_FOUND = 126, 127
IGNORED = (13, 25)
"""SIGPIPE and SIGXFSZ, which Python ignores. The modules signal and contextlib take 10 ms."""


class sock_fprog(ctypes.Structure):
    """struct sock_fprog of linux/filter.h."""

    _fields_ = (("len", ctypes.c_ushort), ("filter", ctypes.c_void_p))


def fail(what: str, why: str) -> None:
    """Exit with a line on why the program does not run."""
    os.write(2, f"{what}: {why}\n".encode())
    os._exit(CANNOT_RUN)


def main(pipe: int, insns: bytes, program: list[str]) -> None:
    """Install the filter, then execute."""
    libc = ctypes.CDLL(None, use_errno=True)
    code = ctypes.create_string_buffer(insns, len(insns))
    fprog = sock_fprog(len(insns) // 8, ctypes.addressof(code))
    call = ctypes.c_long(SYS_SECCOMP[os.uname().machine])
    flags = ctypes.c_ulong(NEW_LISTENER | WAIT_KILLABLE_RECV)
    os.set_inheritable(pipe, False)
    number = os.open("/dev/null", os.O_RDONLY)
    os.close(number)  # the lowest free number
    os.write(pipe, b"%d" % number)
    if libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0):
        fail("prctl(PR_SET_NO_NEW_PRIVS)", os.strerror(ctypes.get_errno()))
    if libc.syscall(call, SECCOMP_SET_MODE_FILTER, flags, ctypes.byref(fprog)) < 0:
        fail("seccomp(SECCOMP_SET_MODE_FILTER)", os.strerror(ctypes.get_errno()))
    # Stops until the parent has the listener, which exec closes here; the pipe has no reader then.
    try:  # noqa: SIM105
        os.write(pipe, b"\n")
    except OSError:
        pass
    for number in IGNORED:
        libc.signal(number, None)  # SIG_DFL
    try:
        os.execvp(program[0], program)
    except FileNotFoundError as exc:
        os.write(2, f"{program[0]}: {exc.strerror}\n".encode())
        os._exit(NOT_FOUND)
    except OSError as exc:
        fail(program[0], str(exc.strerror))


if __name__ == "__main__":
    main(int(sys.argv[1]), bytes.fromhex(sys.argv[2]), sys.argv[3:])
