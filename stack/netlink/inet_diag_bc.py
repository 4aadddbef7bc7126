"""net/ipv4/inet_diag.c: the filters of `ss` (sport = :22, dst 10.0.0.0/8 ...) as they are sent.

A filter is a list of struct inet_diag_bc_op. Each has a code, and how many bytes to advance if
it holds and if it does not. Some are followed by their operand. A socket matches if the
end is reached exactly. A jump beyond it means no match. `audit` rejects filters that would
not end.
"""

from __future__ import annotations

import errno
import struct
from collections.abc import Callable
from typing import Any

from stack.core.sock import sock
from stack.core.sock_flags import SOCK_BINDPORT_LOCK
from stack.core.uapi import AF_INET, AF_INET6, AF_UNSPEC
from stack.netlink.nlattr import NlError
from stack.proc.sockets import shown_address

OP = struct.Struct("=BBH")
HOSTCOND = struct.Struct("=BBxxi")
MARKCOND = struct.Struct("=II")
INET_DIAG_BC_JMP = 1
S_GE, S_LE, D_GE, D_LE = 2, 3, 4, 5
INET_DIAG_BC_AUTO = 6
INET_DIAG_BC_S_COND = 7
INET_DIAG_BC_D_COND = 8
INET_DIAG_BC_DEV_COND = 9
INET_DIAG_BC_MARK_COND = 10
S_EQ, D_EQ = 11, 12
INET_DIAG_BC_CGROUP_COND = 13

PORTS: dict[int, tuple[bool, Callable[[int, int], bool]]] = {
    S_GE: (True, int.__ge__),
    S_LE: (True, int.__le__),
    D_GE: (False, int.__ge__),
    D_LE: (False, int.__le__),
    S_EQ: (True, int.__eq__),
    D_EQ: (False, int.__eq__),
}
"""(whether it tests the local port, the comparison)."""


def audit(bytecode: bytes) -> None:
    """net/ipv4/inet_diag.c inet_diag_bc_audit. Raises: NlError EINVAL."""
    if not bytecode:
        raise NlError(errno.EINVAL)
    at, size = 0, len(bytecode)
    starts = set()
    jumps = []
    while at < size:
        if size - at < OP.size:
            raise NlError(errno.EINVAL)
        code, yes, no = OP.unpack_from(bytecode, at)
        need = OP.size
        if code in (INET_DIAG_BC_S_COND, INET_DIAG_BC_D_COND):
            need = host_bytes(bytecode, at)
        elif code in PORTS or code == INET_DIAG_BC_DEV_COND:
            need = 2 * OP.size
        elif code in (INET_DIAG_BC_MARK_COND, INET_DIAG_BC_CGROUP_COND):
            need = OP.size + MARKCOND.size
        elif code > D_EQ:
            raise NlError(errno.EINVAL)
        if at + need > size or yes < need or yes & 3 or yes > size - at + 4:
            raise NlError(errno.EINVAL)
        if code:  # all except INET_DIAG_BC_NOP may jump
            if no < OP.size or no & 3 or no > size - at + 4:
                raise NlError(errno.EINVAL)
            jumps.append(at + no)
        starts.add(at)
        at += yes
    if at != size:
        raise NlError(errno.EINVAL)
    if any(to < size and to not in starts for to in jumps):
        raise NlError(errno.EINVAL)


def host_bytes(bytecode: bytes, at: int) -> int:
    """Bytes of an instruction with a struct inet_diag_hostcond. Raises: NlError EINVAL."""
    if len(bytecode) - at < OP.size + HOSTCOND.size:
        raise NlError(errno.EINVAL)
    family, prefix, _ = HOSTCOND.unpack_from(bytecode, at + OP.size)
    size = {AF_UNSPEC: 0, AF_INET: 4, AF_INET6: 16}.get(family)
    if size is None or prefix > 8 * size:
        raise NlError(errno.EINVAL)
    return OP.size + HOSTCOND.size + size


def inet_diag_bc_sk(bytecode: bytes, sk: Any) -> bool:
    """net/ipv4/inet_diag.c inet_diag_bc_run: whether a socket matches an audited filter."""
    at, size = 0, len(bytecode)
    while at < size:
        _, yes, no = OP.unpack_from(bytecode, at)
        at += yes if _holds(bytecode, at, sk) else no
    return at == size


def _holds(bytecode: bytes, at: int, sk: Any) -> bool:
    """Whether one instruction's condition holds."""
    code = bytecode[at]
    found = PORTS.get(code)
    if found is not None:
        local, compare = found
        port = sk.inet_num if local else sk.inet_dport
        return compare(port, OP.unpack_from(bytecode, at + OP.size)[2])
    if code in (INET_DIAG_BC_JMP, INET_DIAG_BC_CGROUP_COND):
        return False  # sockets here are in no control group
    if code == INET_DIAG_BC_AUTO:
        return not (isinstance(sk, sock) and sk.sk_flags & SOCK_BINDPORT_LOCK)
    if code in (INET_DIAG_BC_S_COND, INET_DIAG_BC_D_COND):
        return _host_holds(bytecode, at + OP.size, sk, code == INET_DIAG_BC_S_COND)
    if code == INET_DIAG_BC_DEV_COND:
        index: int = struct.unpack_from("=I", bytecode, at + OP.size)[0]
        return bool(index == sk.sk_bound_dev_if)
    if code == INET_DIAG_BC_MARK_COND:
        mark, mask = MARKCOND.unpack_from(bytecode, at + OP.size)
        return bool(sk.sk_mark & mask == mark)
    return True


def _host_holds(bytecode: bytes, at: int, sk: Any, local: bool) -> bool:
    """struct inet_diag_hostcond: a port (-1: any) and a prefix."""
    family, prefix, port = HOSTCOND.unpack_from(bytecode, at)
    if port not in (-1, sk.inet_num if local else sk.inet_dport):
        return False
    if not prefix:
        return family in (AF_UNSPEC, sk.sk_family)
    size = 4 if family == AF_INET else 16
    at += HOSTCOND.size
    wanted = int.from_bytes(bytecode[at : at + size], "big")
    addr = shown_address(sk, sk.inet_rcv_saddr if local else sk.inet_daddr)
    bits = 8 * size
    if family != sk.sk_family:
        # The other family: a v4-mapped address is compared with IPv4's.
        if family != AF_INET or addr >> 32 != 0xFFFF:
            return False
        addr &= 0xFFFFFFFF
    return not (addr ^ wanted) >> (bits - prefix)
