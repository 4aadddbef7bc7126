"""Descriptors and credentials of AF_UNIX messages (net/unix/af_unix.c, net/unix/garbage.c)."""

from __future__ import annotations

import errno

from fastpath.base.skbuff import kfree_skb, sk_buff
from stack.core.errors import os_error
from stack.core.fasync import PID
from stack.core.file import NR_OPEN, fput
from stack.core.scm import NO_ID, scm_cookie, scm_fp_dup, scm_fp_list
from stack.core.sock import ns_capable, sock_wfree
from stack.core.sock_flags import SOCK_DEAD, SOCK_PASSCRED, SOCK_PASSRIGHTS
from stack.core.uapi import CAP_SYS_ADMIN, RCV_SHUTDOWN
from stack.net import Net
from stack.unix.garbage import unix_add_edges, unix_del_edges, unix_schedule_gc
from stack.unix.unix_sock import UNIXCB, unix_skb_parms, unix_sock

CAP_SYS_RESOURCE = 24


def too_many_unix_fds(net: Net) -> bool:
    """net/unix/af_unix.c: whether more descriptors are in messages than one program may open.

    The limit (RLIMIT_NOFILE) is the size of a host's descriptor table; root has no limit.
    """
    return net.unx.user_inflight > NR_OPEN and not (
        ns_capable(net, CAP_SYS_RESOURCE) or ns_capable(net, CAP_SYS_ADMIN)
    )


def unix_attach_fds(net: Net, scm: scm_cookie, skb: sk_buff) -> None:
    """net/unix/af_unix.c (with unix_prepare_fpl): move the files to the message.

    Raises: OSError ETOOMANYREFS.
    """
    if too_many_unix_fds(net):
        raise os_error(errno.ETOOMANYREFS, f"more than {NR_OPEN} descriptors are in messages")
    fpl: scm_fp_list | None = scm.fp
    if fpl is None:
        return
    UNIXCB(skb).fp = fpl
    scm.fp = None
    skb.destructor = unix_destruct_scm
    unix_schedule_gc(net, True)


def unix_check_rights(other: unix_sock, skb: sk_buff) -> None:
    """net/unix/af_unix.c (where a message is queued): check that `other` accepts descriptors.

    Raises: OSError EPERM.
    """
    if not other.sk_flags & SOCK_PASSRIGHTS and UNIXCB(skb).fp is not None:
        raise os_error(errno.EPERM, "the receiver takes no descriptors (SO_PASSRIGHTS)")


def scm_stat_add(other: unix_sock, skb: sk_buff) -> None:
    """net/unix/af_unix.c: count the descriptors of a message that is queued for `other`."""
    if skb.cb is None:
        return
    fpl: scm_fp_list | None = UNIXCB(skb).fp
    if fpl is not None:
        unix_add_edges(other.net, fpl, other)


def unix_detach_fds(net: Net, scm: scm_cookie, skb: sk_buff) -> None:
    """net/unix/af_unix.c: move the message's files to the reader."""
    parms: unix_skb_parms = UNIXCB(skb)
    fpl: scm_fp_list | None = parms.fp
    if fpl is not None:
        parms.fp = None
        scm.fp = fpl
        unix_del_edges(net, fpl)


def unix_peek_fds(scm: scm_cookie, skb: sk_buff) -> None:
    """net/unix/af_unix.c: a peeking reader gets its own descriptors."""
    fpl: scm_fp_list | None = UNIXCB(skb).fp
    if fpl is not None:
        scm.fp = scm_fp_dup(fpl)


def unix_destruct_scm(skb: sk_buff) -> None:
    """net/unix/af_unix.c: destructor of a message with descriptors: close them."""
    parms = skb.cb
    sk = skb.sk
    sock_wfree(skb)
    try:
        fpl: scm_fp_list | None = parms.fp
        net = sk.net
        if fpl is None or net.closed:
            return
        parms.fp = None
        if fpl.inflight:
            unix_del_edges(net, fpl)
        while fpl.fp:
            fput(fpl.fp.pop())
    except (AttributeError, TypeError):  # the garbage collector cleared sk
        return


def unix_scm_to_skb(scm: scm_cookie, skb: sk_buff, send_fds: bool, net: Net) -> None:
    """net/unix/af_unix.c: store credentials and, once, files in a message. Raises: OSError."""
    if scm.pid:
        parms: unix_skb_parms = UNIXCB(skb)
        parms.pid = scm.pid
        parms.uid = scm.uid
        parms.gid = scm.gid
    if send_fds and scm.fp is not None:
        unix_attach_fds(net, scm, skb)


def unix_skb_to_scm(skb: sk_buff, scm: scm_cookie) -> None:
    """net/unix/af_unix.c: take the credentials from a message."""
    parms = skb.cb
    if parms is None:
        scm.pid = 0
        scm.uid = NO_ID
        scm.gid = NO_ID
    else:
        noted: unix_skb_parms = parms
        scm.pid = noted.pid
        scm.uid = noted.uid
        scm.gid = noted.gid


def unix_skb_scm_eq(skb: sk_buff, scm: scm_cookie) -> bool:
    """net/unix/af_unix.c: whether the message has the same credentials as `scm`."""
    parms = skb.cb
    if parms is None:
        return not scm.pid and scm.uid == NO_ID
    noted: unix_skb_parms = parms
    return noted.pid == scm.pid and noted.uid == scm.uid and noted.gid == scm.gid


def unix_maybe_add_creds(skb: sk_buff, sk: unix_sock, other: unix_sock) -> None:
    """net/unix/af_unix.c: store the sender's credentials, if an end may have SO_PASSCRED."""
    if (sk.sk_flags | other.sk_flags) & SOCK_PASSCRED or other.sk_socket is None:
        parms: unix_skb_parms = UNIXCB(skb)
        if not parms.pid:
            net = sk.net
            parms.pid = PID
            parms.uid = net.uid
            parms.gid = net.gid


def unix_stream_prepare(
    sk: unix_sock, other: unix_sock, skb: sk_buff, scm: scm_cookie | None, send_fds: bool
) -> None:
    """Put descriptors and credentials into a message of a stream, before it is queued for `other`.

    Frees skb when that fails. Raises: OSError EPIPE, EPERM, ETOOMANYREFS.
    """
    try:
        if scm is not None:
            unix_scm_to_skb(scm, skb, send_fds, sk.net)
        if other.sk_flags & SOCK_DEAD or other.sk_shutdown & RCV_SHUTDOWN:
            raise unix_pipe_error()
        if scm is not None and send_fds:
            unix_check_rights(other, skb)
    except OSError:
        kfree_skb(skb)
        raise
    unix_maybe_add_creds(skb, sk, other)
    if scm is not None and send_fds:
        scm_stat_add(other, skb)


def unix_pipe_error() -> OSError:
    """The error to raise when there is no reader."""
    return os_error(errno.EPIPE, "the peer does not read any more")


# --- SO_PEERCRED ---------------------------------------------------------------------------


def init_peercred(sk: unix_sock) -> None:
    """net/unix/af_unix.c: set SO_PEERCRED to the credentials of our programs."""
    net = sk.net
    sk.sk_peer_pid = PID
    sk.sk_peer_uid = net.uid
    sk.sk_peer_gid = net.gid


def copy_peercred(sk: unix_sock, peersk: unix_sock) -> None:
    """net/unix/af_unix.c: copy SO_PEERCRED from the listener `peersk`."""
    sk.sk_peer_pid = peersk.sk_peer_pid
    sk.sk_peer_uid = peersk.sk_peer_uid
    sk.sk_peer_gid = peersk.sk_peer_gid
