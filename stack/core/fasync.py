"""O_ASYNC: signals to the owner of a file that is ready (fs/fcntl.c, net/socket.c)."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

from stack.core import signal
from stack.core.errors import os_error
from stack.core.file import FASYNC, fown_struct, struct_file
from stack.core.rows import state
from stack.core.signal import do_send_sig_info, siginfo
from stack.core.sock_flags import SOCK_FASYNC, SOCKWQ_ASYNC_NOSPACE, SOCKWQ_ASYNC_WAITDATA

if TYPE_CHECKING:
    from stack.core.bsd_socket import socket

PID = 1
"""All programs of a host are process 1 of process group 1."""
PIDTYPE_PID = 0
PIDTYPE_TGID = 1
PIDTYPE_PGID = 2

BAND_TABLE = (0x041, 0x304, 0x441, 0x008, 0x082, 0x018)
"""fs/fcntl.c band_table: EPOLL* of POLL_IN, _OUT, _MSG, _ERR, _PRI and _HUP."""
SPECIFIC_SICODES = (4, 5, 7, 8, 11, 17, 31)
"""Signals whose si_code has a meaning of their own: ILL, TRAP, BUS, FPE, SEGV, CHLD, SYS."""


@state
class fasync_struct:
    """struct fasync_struct: a descriptor whose owner receives signals."""

    fa_file: struct_file
    fa_fd: int


def fasync_helper(fd: int, file: struct_file, on: bool, fapp: list[fasync_struct]) -> int:
    """fs/fcntl.c: add `file` to the list under `fd`, or remove it. 1 when the list changed."""
    if not on:
        file.f_flags &= ~FASYNC
        for entry in fapp:
            if entry.fa_file is file:
                fapp.remove(entry)
                return 1
        return 0
    file.f_flags |= FASYNC
    for entry in fapp:
        if entry.fa_file is file:
            entry.fa_fd = fd
            return 0
    fapp.insert(0, fasync_struct(file, fd))
    return 1


def kill_fasync(fapp: list[fasync_struct], sig: int, band: int) -> None:
    """fs/fcntl.c: signal every owner on the list. `band`: POLL_IN and so on."""
    for entry in tuple(fapp):
        fown = entry.fa_file.f_owner
        if fown is not None and not (sig == signal.SIGURG and not fown.signum):
            send_sigio(entry.fa_file, fown, entry.fa_fd, band)


def send_sigio(file: struct_file, fown: fown_struct, fd: int, band: int) -> None:
    """fs/fcntl.c: send SIGIO, or the signal of F_SETSIG with the event and the descriptor."""
    if fown.pid != PID:
        return
    net = file.net
    sig = fown.signum
    if sig:
        code = band
        if sig in SPECIFIC_SICODES:
            code = signal.SI_SIGIO
        if not do_send_sig_info(net, siginfo(sig, code, BAND_TABLE[band - 1], fd)):
            return
    do_send_sig_info(net, siginfo(signal.SIGIO))


def send_sigurg(file: struct_file) -> bool:
    """fs/fcntl.c: send SIGURG to the owner of the file; False when it has none."""
    fown = file.f_owner
    if fown is None or fown.pid != PID:
        return False
    do_send_sig_info(file.net, siginfo(signal.SIGURG))
    return True


def file_f_owner(file: struct_file) -> fown_struct:
    """fs/fcntl.c file_f_owner_allocate: the file's owner, made at the first call."""
    if file.f_owner is None:
        file.f_owner = fown_struct()
    return file.f_owner


def f_setown(file: struct_file, who: int) -> None:
    """fs/fcntl.c: set the owner: process `who`, group -`who`, 0: none. Raises: OSError."""
    kind = PIDTYPE_TGID
    if who < 0:
        if who == -0x80000000:
            raise os_error(errno.EINVAL, f"{who} is no process group")
        kind = PIDTYPE_PGID
        who = -who
    __f_setown(file, who, kind)


def __f_setown(file: struct_file, pid: int, kind: int) -> None:
    """fs/fcntl.c. Raises: OSError ESRCH."""
    if pid and pid != PID:
        raise os_error(errno.ESRCH, f"no process {pid}: a host's programs are process {PID}")
    fown = file_f_owner(file)
    fown.pid = pid
    fown.pid_type = kind if pid else PIDTYPE_TGID


def f_getown(file: struct_file) -> int:
    """fs/fcntl.c: the process, or the group as a negative number; 0: nobody."""
    fown = file.f_owner
    if fown is None:
        return 0
    return -fown.pid if fown.pid_type == PIDTYPE_PGID else fown.pid


# --- sockets -------------------------------------------------------------------------------


SOCK_WAKE_IO = 0  # enum: how of sk_wake_async (include/linux/net.h)
SOCK_WAKE_WAITD = 1
SOCK_WAKE_SPACE = 2
SOCK_WAKE_URG = 3


def sock_wake_async(sock: socket, how: int, band: int) -> None:
    """net/socket.c: signal the owners of descriptors with O_ASYNC.

    SOCK_WAKE_WAITD: unless a reader waits in a call; SOCK_WAKE_SPACE: only if a writer waits.
    """
    fapp = sock.fasync_list
    if fapp is None:
        return
    sk = sock.sk
    if how == SOCK_WAKE_WAITD:
        if sk.sk_flags & SOCKWQ_ASYNC_WAITDATA:
            return
    elif how == SOCK_WAKE_SPACE:
        if not sk.sk_flags & SOCKWQ_ASYNC_NOSPACE:
            return
        sk.sk_flags &= ~SOCKWQ_ASYNC_NOSPACE
    elif how == SOCK_WAKE_URG:
        kill_fasync(fapp, signal.SIGURG, band)
        return
    kill_fasync(fapp, signal.SIGIO, band)


def sock_fasync(fd: int, file: struct_file, on: bool) -> None:
    """net/socket.c: O_ASYNC of a socket's open file. Raises: OSError EINVAL."""
    sock: socket = file.private_data
    sk = sock.sk
    if sk is None:
        raise os_error(errno.EINVAL, "the socket has ended")
    fapp = sock.fasync_list
    if fapp is None:
        fapp = sock.fasync_list = []
    fasync_helper(fd, file, on, fapp)
    if fapp:
        sk.sk_flags |= SOCK_FASYNC
    else:
        sk.sk_flags &= ~SOCK_FASYNC
