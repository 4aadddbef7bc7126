"""Descriptors and credentials in control messages (net/core/scm.c, include/net/scm.h).

A descriptor is a number of the net's own table (`Socket.host_fd`).
"""

from __future__ import annotations

import errno
import struct
from typing import Any

from stack.core import uapi
from stack.core.bsd_socket import CMSG_HDR_BYTES, socket
from stack.core.errors import os_error
from stack.core.fasync import PID
from stack.core.file import fput, get_file, struct_file
from stack.core.iov import msghdr
from stack.core.rows import row, state
from stack.core.sock import ns_capable, sock
from stack.core.sockopt import UCRED, put_cmsg
from stack.core.sockopt_table import opt_bytes
from stack.net import Net

SCM_MAX_FD = 253
NO_ID = 0xFFFFFFFF  # INVALID_UID, INVALID_GID
OVERFLOW_ID = 65534  # shown for NO_ID
FD = struct.Struct("=i")
CAP_SETGID = 6
CAP_SETUID = 7


@state
class scm_fp_list:
    """struct scm_fp_list: open files in flight; each is held (f_count)."""

    fp: list[struct_file] = row(make=list)
    edges: list[Any] = row(make=list)
    """The unix_edges of the AF_UNIX sockets among them, while `inflight`."""
    inflight: bool = row(False)
    """The message with these files waits to be received."""
    dead: bool = row(False)
    """The garbage collector of AF_UNIX frees the message."""


@state
class scm_cookie:
    """struct scm_cookie: a message's ancillary data. pid 0: no credentials."""

    fp: scm_fp_list | None = row()
    pid: int = row(0)
    uid: int = row(NO_ID)
    gid: int = row(NO_ID)


# --- sending -------------------------------------------------------------------------------


def scm_send(sock: socket, msg: msghdr) -> scm_cookie | None:
    """include/net/scm.h: parse the caller's control messages; None when there are none.

    Raises: OSError EINVAL, EBADF, EPERM, ESRCH.
    """
    if not msg.msg_control:
        return None
    return __scm_send(sock, msg)


def __scm_send(sock: socket, msg: msghdr) -> scm_cookie:
    """net/core/scm.c"""
    scm = scm_cookie()
    control: Any = msg.msg_control
    try:
        for level, kind, data in control:
            if level != uapi.SOL_SOCKET:
                continue
            if kind == uapi.SCM_RIGHTS:
                if sock.ops.family != uapi.AF_UNIX:
                    raise os_error(errno.EINVAL, "SCM_RIGHTS is AF_UNIX's")
                scm_fp_copy(sock.net, opt_bytes(data), scm)
            elif kind == uapi.SCM_CREDENTIALS:
                scm_creds_copy(sock.net, opt_bytes(data), scm)
            else:
                raise os_error(errno.EINVAL, f"control message {kind} cannot be sent")
    except BaseException:
        scm_destroy(scm)
        raise
    return scm


def scm_fp_copy(net: Net, data: bytes, scm: scm_cookie) -> None:
    """net/core/scm.c: hold the files of the descriptors. Raises: OSError EINVAL, EBADF."""
    num = len(data) >> 2
    if not num:
        return
    if num > SCM_MAX_FD:
        raise os_error(errno.EINVAL, f"{num} descriptors; SCM_MAX_FD is {SCM_MAX_FD}")
    fpl: scm_fp_list | None = scm.fp
    if fpl is None:
        fpl = scm.fp = scm_fp_list()
    if len(fpl.fp) + num > SCM_MAX_FD:
        raise os_error(errno.EINVAL, f"more than SCM_MAX_FD ({SCM_MAX_FD}) descriptors")
    for at in range(num):
        (fd,) = FD.unpack_from(data, at * 4)
        found: struct_file | None = net.fdtable.fd.get(fd)
        if found is None:
            raise os_error(errno.EBADF, f"SCM_RIGHTS: {fd} is not open on {net.name}")
        fpl.fp.append(get_file(found))


def scm_creds_copy(net: Net, data: bytes, scm: scm_cookie) -> None:
    """net/core/scm.c: SCM_CREDENTIALS. Raises: OSError EINVAL, EPERM, ESRCH."""
    if len(data) != UCRED.size:
        raise os_error(errno.EINVAL, f"struct ucred has {UCRED.size} bytes, not {len(data)}")
    pid: int
    uid: int
    gid: int
    pid, uid, gid = UCRED.unpack(data)
    scm_check_creds(net, pid, uid, gid)
    if pid != PID:
        raise os_error(errno.ESRCH, f"no process {pid}: a host's programs are process {PID}")
    scm.pid = pid
    scm.uid = uid
    scm.gid = gid


def scm_check_creds(net: Net, pid: int, uid: int, gid: int) -> None:
    """net/core/scm.c: check the credentials that a caller claims. Raises: OSError EINVAL, EPERM."""
    if uid == NO_ID or gid == NO_ID:
        raise os_error(errno.EINVAL, "no user, or no group, has the number -1")
    if (
        (pid != PID and not ns_capable(net, uapi.CAP_SYS_ADMIN))
        or (uid != net.uid and not ns_capable(net, CAP_SETUID))
        or (gid != net.gid and not ns_capable(net, CAP_SETGID))
    ):
        raise os_error(
            errno.EPERM, f"the host's user is {net.uid} of group {net.gid}, process {PID}"
        )


def scm_destroy(scm: scm_cookie | None) -> None:
    """include/net/scm.h: release the files."""
    if scm is not None:
        __scm_destroy(scm)


def __scm_destroy(scm: scm_cookie) -> None:
    """net/core/scm.c"""
    fpl: scm_fp_list | None = scm.fp
    if fpl is not None:
        scm.fp = None
        while fpl.fp:
            fput(fpl.fp.pop())


def scm_fp_dup(fpl: scm_fp_list) -> scm_fp_list:
    """net/core/scm.c: duplicate the list."""
    new = scm_fp_list()
    for file in fpl.fp:
        new.fp.append(get_file(file))
    return new


# --- receiving -----------------------------------------------------------------------------


def scm_recv_unix(sk: sock, msg: msghdr, scm: scm_cookie | None, passcred: bool) -> None:
    """net/core/scm.c: give the reader credentials and descriptors, or MSG_CTRUNC."""
    if msg.msg_control is None:
        if passcred or (scm is not None and scm.fp is not None):
            msg.msg_flags |= uapi.MSG_CTRUNC
        scm_destroy(scm)
        return
    if passcred:
        put_cmsg(msg, uapi.SOL_SOCKET, uapi.SCM_CREDENTIALS, scm_ucred(scm))
    if scm is not None and scm.fp is not None:
        scm_detach_fds(sk, msg, scm)


def scm_ucred(scm: scm_cookie | None) -> bytes:
    """struct ucred of a message; process 0 and user 65534 when nothing was noted.

    At the end of a stream there is no message: zeros, as in Linux.
    """
    if scm is None:
        return bytes(UCRED.size)
    if not scm.pid:
        return UCRED.pack(0, OVERFLOW_ID, OVERFLOW_ID)
    return UCRED.pack(scm.pid, scm.uid, scm.gid)


def scm_detach_fds(sk: sock, msg: msghdr, scm: scm_cookie) -> None:
    """net/core/scm.c: install as many descriptors as the caller has room for; close the rest."""
    net = sk.net
    fpl: scm_fp_list | None = scm.fp
    if fpl is None:
        return
    count = len(fpl.fp)
    room = (msg.msg_controllen - CMSG_HDR_BYTES) >> 2
    fdmax = min(max(room, 0), count)
    done = 0
    data = b""
    while done < fdmax:
        file: struct_file = fpl.fp[done]
        try:
            fd = net.fdtable.install(file)
        except OSError:  # EMFILE
            break
        get_file(file)
        data += FD.pack(fd)
        done += 1
    if done:
        put_cmsg(msg, uapi.SOL_SOCKET, uapi.SCM_RIGHTS, data)
    if done < count:
        msg.msg_flags |= uapi.MSG_CTRUNC
    __scm_destroy(scm)
