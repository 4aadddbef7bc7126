"""Flow labels that sockets lease: IPV6_FLOWLABEL_MGR (net/ipv6/ip6_flowlabel.c; RFC 6437).

A label is exclusive to one socket, or shared by a process, a user, or all. It stays reserved for
`linger` after its last user. Extension headers of a label (flr with control data) are not
supported.
"""

from __future__ import annotations

import errno
import struct
from dataclasses import dataclass

from stack.core.errors import os_error
from stack.core.rows import row, state, wide
from stack.core.sock import ns_capable
from stack.core.time64 import NSEC_PER_SEC
from stack.core.timer import TIMER_DEFERRABLE, mod_timer, timer_list
from stack.core.uapi import CAP_NET_ADMIN, IPPROTO_TCP, IPV6_FLOWLABEL_MASK
from stack.inet.inet_sock import inet_sock
from stack.ipv6.addr import IPV6_ADDR_ANY, IPV6_ADDR_MAPPED, ipv6_addr_type
from stack.ipv6.pinfo import np_of
from stack.net import Net

# include/uapi/linux/in6.h
IPV6_FL_A_GET = 0
IPV6_FL_A_PUT = 1
IPV6_FL_A_RENEW = 2
IPV6_FL_F_CREATE = 1
IPV6_FL_F_EXCL = 2
IPV6_FL_F_REFLECT = 4
IPV6_FL_F_REMOTE = 8
IPV6_FL_S_NONE = 0
IPV6_FL_S_EXCL = 1
IPV6_FL_S_PROCESS = 2
IPV6_FL_S_USER = 3
IPV6_FL_S_ANY = 255

IPV6_FLOWLABEL_STATELESS_FLAG = 0x80000
FL_MIN_LINGER = 6
FL_MAX_LINGER = 150
FL_MAX_PER_SOCK = 32
FL_MAX_SIZE = 4096


@dataclass(slots=True)
class in6_flowlabel_req:
    """struct in6_flowlabel_req. Times in seconds."""

    dst: wide = 0
    label: int = 0
    action: int = IPV6_FL_A_GET
    share: int = IPV6_FL_S_NONE
    flags: int = 0
    expires: int = 0
    linger: int = 0

    @classmethod
    def parse(cls, data: bytes | bytearray | memoryview) -> in6_flowlabel_req:
        """Parse setsockopt's value. Raises: OSError EINVAL when it has fewer than 32 bytes.

        Address and label are in network order, the rest in the machine's (little endian).
        """
        raw = bytes(data)
        if len(raw) < 32:
            raise os_error(errno.EINVAL)
        action, share, flags, expires, linger = struct.unpack("<BBHHH", raw[20:28])
        return cls(
            int.from_bytes(raw[:16], "big"),
            int.from_bytes(raw[16:20], "big"),
            action,
            share,
            flags,
            expires,
            linger,
        )

    def pack(self) -> bytes:
        """The bytes that getsockopt returns."""
        return (
            self.dst.to_bytes(16, "big")
            + self.label.to_bytes(4, "big")
            + struct.pack(
                "<BBHHHI", self.action, self.share, self.flags, self.expires, self.linger, 0
            )
        )


@dataclass(slots=True)
class ip6_flowlabel:
    """struct ip6_flowlabel: a label. `owner`: a process (its socket table) or user. Times in ns."""

    label: int
    dst: wide
    share: int
    owner: int
    linger: int = 0
    expires: int = 0
    lastuse: int = 0
    users: int = 1


@state
class netns_flowlabels:
    """The labels of one namespace, and the timer that frees unused ones."""

    gc_timer: timer_list
    labels: dict[int, ip6_flowlabel] = row(make=dict)
    has_excl: int = row(0)


def ip6_fl_gc(timer: timer_list) -> None:
    """net/ipv6/ip6_flowlabel.c: free labels whose linger time is over."""
    net: Net = timer.data
    table = net.ipv6.flowlabels
    now = net.now()
    waiting = 0
    for fl in tuple(table.labels.values()):
        if fl.users:
            continue
        if now >= max(fl.lastuse + fl.linger, fl.expires):
            fl_free(net, fl)
        else:
            waiting += 1
    if waiting:
        mod_timer(timer, now + FL_MIN_LINGER * NSEC_PER_SEC)


def fl_free(net: Net, fl: ip6_flowlabel) -> None:
    """net/ipv6/ip6_flowlabel.c: remove a label from the table."""
    table = net.ipv6.flowlabels
    if table.labels.pop(fl.label, None) is not None and fl.share <= IPV6_FL_S_EXCL:
        table.has_excl -= 1


def fl_release(net: Net, fl: ip6_flowlabel) -> None:
    """net/ipv6/ip6_flowlabel.c: release a label."""
    fl.users -= 1
    fl.lastuse = net.now()
    timer = net.ipv6.flowlabels.gc_timer
    if not fl.users and not timer.pending:
        mod_timer(timer, net.now() + FL_MIN_LINGER * NSEC_PER_SEC)


def fl6_sock_lookup(sk: inet_sock, label: int) -> ip6_flowlabel | None:
    """net/ipv6/ip6_flowlabel.c: the socket's lease of `label`; None while no label is exclusive.

    Raises: OSError ENOENT when a label is exclusive and the socket does not lease `label`.
    """
    table = sk.net.ipv6.flowlabels
    if not table.has_excl:
        return None
    label &= IPV6_FLOWLABEL_MASK
    for fl in np_of(sk).ipv6_fl_list:
        if fl.label == label:
            fl.lastuse = sk.net.now()
            return fl
    raise os_error(errno.ENOENT)


def fl6_free_socklist(sk: inet_sock) -> None:
    """net/ipv6/ip6_flowlabel.c: the socket ends."""
    np = np_of(sk)
    for fl in np.ipv6_fl_list:
        fl_release(sk.net, fl)
    np.ipv6_fl_list.clear()


def check_linger(net: Net, ttl_s: int) -> int:
    """net/ipv6/ip6_flowlabel.c: the time in ns, at least 6 s. 0: only an administrator may have
    more than 150 s."""
    if ttl_s < FL_MIN_LINGER:
        return FL_MIN_LINGER * NSEC_PER_SEC
    if ttl_s > FL_MAX_LINGER and not ns_capable(net, CAP_NET_ADMIN):
        return 0
    return ttl_s * NSEC_PER_SEC


def fl6_renew(net: Net, fl: ip6_flowlabel, linger_s: int, expires_s: int) -> None:
    """net/ipv6/ip6_flowlabel.c: keep a label longer. Raises: OSError EPERM."""
    linger = check_linger(net, linger_s)
    expires = check_linger(net, expires_s)
    if not linger or not expires:
        raise os_error(errno.EPERM)
    fl.lastuse = net.now()
    fl.linger = max(fl.linger, linger)
    fl.expires = max(fl.expires, fl.lastuse + max(expires, fl.linger))


def fl_create(sk: inet_sock, freq: in6_flowlabel_req) -> ip6_flowlabel:
    """net/ipv6/ip6_flowlabel.c: make the requested label, not in the table yet. Raises: OSError."""
    net = sk.net
    kind = ipv6_addr_type(freq.dst)
    if kind & IPV6_ADDR_MAPPED or kind == IPV6_ADDR_ANY:
        raise os_error(errno.EINVAL)
    if freq.share in (IPV6_FL_S_EXCL, IPV6_FL_S_ANY):
        owner = 0
    elif freq.share == IPV6_FL_S_PROCESS:
        owner = id(net.fdtable)  # a process has one descriptor table
    elif freq.share == IPV6_FL_S_USER:
        owner = net.uid
    else:
        raise os_error(errno.EINVAL)
    fl = ip6_flowlabel(freq.label, freq.dst, freq.share, owner)
    fl6_renew(net, fl, freq.linger, freq.expires)
    return fl


def mem_check(sk: inet_sock) -> None:
    """net/ipv6/ip6_flowlabel.c: check that there is room for a label. Raises: OSError ENOBUFS."""
    room = FL_MAX_SIZE - len(sk.net.ipv6.flowlabels.labels)
    count = len(np_of(sk).ipv6_fl_list)
    scarce = (
        count >= FL_MAX_PER_SOCK or (count and room < FL_MAX_SIZE // 2) or room < FL_MAX_SIZE // 4
    )
    if room <= 0 or (scarce and not ns_capable(sk.net, CAP_NET_ADMIN)):
        raise os_error(errno.ENOBUFS)


def ipv6_flowlabel_get(sk: inet_sock, freq: in6_flowlabel_req) -> int:
    """net/ipv6/ip6_flowlabel.c: lease a label and return it; 0: a free one. Raises: OSError.

    EEXIST, EPERM (exclusive, or another owner's), ENOENT (does not exist, and IPV6_FL_F_CREATE is
    not set), ERANGE (the range of automatic labels), EINVAL, ENOBUFS.
    """
    net, np = sk.net, np_of(sk)
    sysctl = net.ipv6.sysctl
    if freq.flags & IPV6_FL_F_REFLECT:
        if sysctl.flowlabel_consistency:
            raise os_error(errno.EPERM)
        if sk.sk_protocol != IPPROTO_TCP:
            raise os_error(errno.ENOPROTOOPT)
        np.repflow = True
        return 0
    if freq.label & ~IPV6_FLOWLABEL_MASK:
        raise os_error(errno.EINVAL)
    if sysctl.flowlabel_state_ranges and freq.label & IPV6_FLOWLABEL_STATELESS_FLAG:
        raise os_error(errno.ERANGE)
    fl = fl_create(sk, freq)
    table = net.ipv6.flowlabels
    known = table.labels.get(freq.label) if freq.label else None
    if known is not None:
        if freq.flags & IPV6_FL_F_EXCL:
            raise os_error(errno.EEXIST)
        if (
            known.share == IPV6_FL_S_EXCL
            or known.share != fl.share
            or (known.share in (IPV6_FL_S_PROCESS, IPV6_FL_S_USER) and known.owner != fl.owner)
        ):
            raise os_error(errno.EPERM)
        known.linger = max(known.linger, fl.linger)
        known.expires = max(known.expires, fl.expires)
        known.users += 1
        np.ipv6_fl_list.append(known)
        return known.label
    if not freq.flags & IPV6_FL_F_CREATE:
        raise os_error(errno.ENOENT)
    mem_check(sk)
    while not fl.label or fl.label in table.labels:
        fl.label = net.random.randrange(1, 1 << 19)
    table.labels[fl.label] = fl
    if fl.share <= IPV6_FL_S_EXCL:
        table.has_excl += 1
    np.ipv6_fl_list.append(fl)
    return fl.label


def ipv6_flowlabel_put(sk: inet_sock, freq: in6_flowlabel_req) -> None:
    """net/ipv6/ip6_flowlabel.c: give a label back. Raises: OSError ESRCH, ENOPROTOOPT."""
    np = np_of(sk)
    if freq.flags & IPV6_FL_F_REFLECT:
        if sk.sk_protocol != IPPROTO_TCP:
            raise os_error(errno.ENOPROTOOPT)
        if not np.repflow:
            raise os_error(errno.ESRCH)
        np.flow_label = 0
        np.repflow = False
        return
    for fl in np.ipv6_fl_list:
        if fl.label == freq.label:
            if freq.label == np.flow_label & IPV6_FLOWLABEL_MASK:
                np.flow_label = 0
            np.ipv6_fl_list.remove(fl)
            fl_release(sk.net, fl)
            return
    raise os_error(errno.ESRCH)


def ipv6_flowlabel_renew(sk: inet_sock, freq: in6_flowlabel_req) -> None:
    """net/ipv6/ip6_flowlabel.c: keep a label longer; an administrator may renew any.

    Raises: OSError ESRCH, EPERM.
    """
    net = sk.net
    for fl in np_of(sk).ipv6_fl_list:
        if fl.label == freq.label:
            fl6_renew(net, fl, freq.linger, freq.expires)
            return
    found = net.ipv6.flowlabels.labels.get(freq.label)
    admin = freq.share == IPV6_FL_S_NONE and ns_capable(net, CAP_NET_ADMIN)
    if admin and found is not None:
        fl6_renew(net, found, freq.linger, freq.expires)
        return
    raise os_error(errno.ESRCH)


def ipv6_flowlabel_opt(sk: inet_sock, optval: bytes | bytearray | memoryview) -> None:
    """net/ipv6/ip6_flowlabel.c: setsockopt IPV6_FLOWLABEL_MGR. Raises: OSError.

    A label chosen by the stack is written to `optval` if that is a bytearray, as the kernel writes
    to the caller's memory.
    """
    freq = in6_flowlabel_req.parse(optval)
    if freq.action == IPV6_FL_A_PUT:
        ipv6_flowlabel_put(sk, freq)
    elif freq.action == IPV6_FL_A_RENEW:
        ipv6_flowlabel_renew(sk, freq)
    elif freq.action == IPV6_FL_A_GET:
        label = ipv6_flowlabel_get(sk, freq)
        if not freq.label and not isinstance(optval, bytes):
            optval[16:20] = label.to_bytes(4, "big")
    else:
        raise os_error(errno.EINVAL)


def ipv6_flowlabel_opt_get(sk: inet_sock, flags: int) -> in6_flowlabel_req:
    """net/ipv6/ip6_flowlabel.c: getsockopt IPV6_FLOWLABEL_MGR. Raises: OSError ENOENT.

    With IPV6_FL_F_REMOTE in `flags` the label that the peer used, else the socket's own.
    """
    np = np_of(sk)
    if flags & IPV6_FL_F_REMOTE:
        return in6_flowlabel_req(label=np.rcv_flowinfo & IPV6_FLOWLABEL_MASK)
    if np.repflow:
        return in6_flowlabel_req(label=np.flow_label, flags=IPV6_FL_F_REFLECT)
    now = sk.net.now()
    for fl in np.ipv6_fl_list:
        if fl.label == np.flow_label & IPV6_FLOWLABEL_MASK:
            left = max(fl.expires - now, 0) // NSEC_PER_SEC
            return in6_flowlabel_req(
                fl.dst, fl.label, share=fl.share, expires=left, linger=fl.linger // NSEC_PER_SEC
            )
    raise os_error(errno.ENOENT)


def ip6_flowlabel_init(net: Net) -> None:
    """net/ipv6/ip6_flowlabel.c"""
    timer = timer_list(net.machine, ip6_fl_gc, TIMER_DEFERRABLE, data=net)
    net.ipv6.flowlabels = netns_flowlabels(timer)
