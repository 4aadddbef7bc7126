"""inetsw: the protocol and the socket operations of each (type, protocol) of a family.

include/net/protocol.h (struct inet_protosw); net/ipv4/af_inet.c and net/ipv6/af_inet6.c, which each
have a table of their own.
"""

from __future__ import annotations

import errno

from stack.core.errors import os_error
from stack.core.proto import proto, proto_ops
from stack.core.rows import state
from stack.core.uapi import IPPROTO_IP, SOCK_MAX

INET_PROTOSW_REUSE = 0x01
INET_PROTOSW_PERMANENT = 0x02


@state
class inet_protosw:
    """struct inet_protosw: joins (type, protocol) to proto and proto_ops."""

    type: int
    protocol: int
    prot: proto
    ops: proto_ops
    flags: int = 0


def new_inetsw() -> list[list[inet_protosw]]:
    """An empty table: index = socket type, each a list that is searched in order."""
    return [[] for _ in range(SOCK_MAX)]


def inet_protosw_find(
    inetsw: list[list[inet_protosw]], kind: int, protocol: int
) -> tuple[inet_protosw, int]:
    """inet_create's and inet6_create's search: the row, and the protocol's number.

    A protocol of 0 takes the row's; a row for 0 takes any. Raises: OSError ESOCKTNOSUPPORT,
    EPROTONOSUPPORT.
    """
    err = errno.ESOCKTNOSUPPORT
    for row in inetsw[kind]:
        err = errno.EPROTONOSUPPORT
        if protocol == row.protocol:
            if protocol != IPPROTO_IP:
                return row, protocol
        elif protocol == IPPROTO_IP:
            return row, row.protocol
        elif row.protocol == IPPROTO_IP:
            return row, protocol
    raise os_error(err, f"no protocol {protocol} for sockets of type {kind}")


def inet_register_protosw(inetsw: list[list[inet_protosw]], row: inet_protosw) -> None:
    """net/ipv4/af_inet.c: link a row into a family's table, behind the permanent ones of its type.

    Raises: OSError EINVAL for an illegal type, EPERM when a permanent row has the protocol.
    """
    if not 0 <= row.type < SOCK_MAX:
        raise os_error(errno.EINVAL, f"socket type {row.type} does not exist")
    rows = inetsw[row.type]
    at = 0
    for other in rows:
        if not other.flags & INET_PROTOSW_PERMANENT:
            break
        if other.protocol == row.protocol:
            raise os_error(errno.EPERM, f"protocol {row.protocol} is permanent")
        at += 1
    rows.insert(at, row)


def inet_unregister_protosw(inetsw: list[list[inet_protosw]], row: inet_protosw) -> None:
    """net/ipv4/af_inet.c. Raises: OSError EPERM for a permanent row."""
    if row.flags & INET_PROTOSW_PERMANENT:
        raise os_error(errno.EPERM, "a permanent protocol cannot be removed")
    if row in inetsw[row.type]:
        inetsw[row.type].remove(row)
