"""net/core/filter.c: classic BPF programs of sockets: attached, shown, detached.

A program is what setsockopt(2) takes, a struct sock_fprog with the address of its instructions, or
rows of (code, jt, jf, k). fastpath.base.bpf checks and runs it.
"""

from __future__ import annotations

import errno
import struct
from typing import Any

from fastpath.base.bpf import BPF_MAXINSNS, bpf_prog
from stack.core.errors import os_error
from stack.core.memory import read_address
from stack.core.sock import sock
from stack.core.sock_flags import SOCK_FILTER_LOCKED

SOCK_FPROG = struct.Struct("@HP")
INSN_BYTES = 8


def copy_bpf_fprog_from_user(optval: Any) -> bytes | list[Any]:
    """net/core/sock.c: the instructions of an option value.

    Raises: OSError EINVAL; EFAULT when the address in a sock_fprog cannot be read.
    """
    if isinstance(optval, list | tuple):
        if not 0 < len(optval) <= BPF_MAXINSNS:
            raise os_error(errno.EINVAL, f"a filter has 1 to {BPF_MAXINSNS} instructions")
        return list(optval)
    try:
        data = bytes(memoryview(optval))
    except TypeError:
        data = b""
    if len(data) != SOCK_FPROG.size:
        raise os_error(errno.EINVAL, f"a filter is a struct sock_fprog of {SOCK_FPROG.size} bytes")
    count, address = SOCK_FPROG.unpack(data)
    if not address or not 0 < count <= BPF_MAXINSNS:
        raise os_error(errno.EINVAL, f"a filter has 1 to {BPF_MAXINSNS} instructions")
    return read_address(address, count * INSN_BYTES)


def sk_attach_filter(sk: sock, optval: Any) -> None:
    """net/core/filter.c: attach or replace the program that filters received packets.

    Raises: OSError EPERM when locked, EINVAL, EFAULT, ENOMEM above sysctl optmem_max.
    """
    if sk.sk_flags & SOCK_FILTER_LOCKED:
        raise os_error(errno.EPERM, "the filter is locked (SO_LOCK_FILTER)")
    try:
        prog = bpf_prog(copy_bpf_fprog_from_user(optval), sk.net.random.getrandbits(64))
    except ValueError as error:
        raise os_error(errno.EINVAL, str(error)) from None
    sk_filter_charge(sk, prog)
    if sk.sk_filter is not None:
        sk.sk_omem_alloc -= sk.sk_filter.size_bytes
    sk.sk_filter = prog


def sk_filter_charge(sk: sock, prog: bpf_prog) -> None:
    """net/core/filter.c: count a program as option memory. Raises: OSError ENOMEM."""
    limit = sk.net.sysctl.optmem_max
    if prog.size_bytes > limit or sk.sk_omem_alloc + prog.size_bytes >= limit:
        raise os_error(errno.ENOMEM, f"option memory: sysctl optmem_max is {limit}")
    sk.sk_omem_alloc += prog.size_bytes


def sk_attach_bpf(sk: sock, fd: int) -> None:
    """net/core/filter.c: there are no extended BPF programs here. Raises: OSError EPERM, EBADF."""
    if sk.sk_flags & SOCK_FILTER_LOCKED:
        raise os_error(errno.EPERM, "the filter is locked (SO_LOCK_FILTER)")
    raise os_error(errno.EBADF, f"{fd} is no BPF program")


def sk_detach_filter(sk: sock) -> None:
    """net/core/filter.c. Raises: OSError EPERM when locked, ENOENT without one."""
    if sk.sk_flags & SOCK_FILTER_LOCKED:
        raise os_error(errno.EPERM, "the filter is locked (SO_LOCK_FILTER)")
    if sk.sk_filter is None:
        raise os_error(errno.ENOENT, "the socket has no filter")
    sk.sk_omem_alloc -= sk.sk_filter.size_bytes
    sk.sk_filter = None


def sk_get_filter(sk: sock, count: int) -> int | bytes:
    """net/core/filter.c: the program as struct sock_filter, or with `count` 0 how long it is.

    `count`: instructions that there is room for. Raises: OSError EINVAL, too little room.
    """
    prog = sk.sk_filter
    if prog is None:
        return 0 if not count else b""
    if not count:
        return prog.len
    if count < prog.len:
        raise os_error(errno.EINVAL, f"the filter has {prog.len} instructions")
    return prog.filter


def sk_lock_filter(sk: sock, on: bool) -> None:
    """net/core/sock.c: lock the filter permanently. Raises: OSError EPERM: cannot be unlocked."""
    if sk.sk_flags & SOCK_FILTER_LOCKED and not on:
        raise os_error(errno.EPERM, "a filter stays locked")
    if on:
        sk.sk_flags |= SOCK_FILTER_LOCKED
