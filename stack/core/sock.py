"""struct sock: the transport-layer object, its lock, backlog, wait and memory rules.

include/net/sock.h, net/core/sock.c; the additions for streams are in stream.py.

Everything here runs with the host's clock lock held. The "socket lock" is the kernel's `owned`
mark: while a caller owns a sock, packets from softirqs go to `sk_backlog` and `release_sock`
feeds them to `sk.sk_backlog_rcv`.

Callbacks: `sk_data_ready(sk)` and its three siblings are real functions (so a trace shows them).
Each calls the attribute of the same name without `sk_` (`sk.data_ready(sk)`), which starts as
`sock_def_*` and may be replaced.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from fastpath.base.bpf import bpf_prog, bpf_prog_run
from fastpath.base.skbuff import alloc_skb, pskb_trim, sk_buff, sk_buff_head, skb_orphan
from fastpath.net.inet import UdpFlow
from stack.core import fasync, sock_flags, uapi
from stack.core.drop_reason import (
    SKB_DROP_REASON_PROTO_MEM,
    SKB_DROP_REASON_SOCKET_FILTER,
    SKB_DROP_REASON_SOCKET_RCVBUFF,
    SKB_NOT_DROPPED_YET,
)
from stack.core.dst import dst_check, dst_entry, dst_hold, dst_release
from stack.core.errors import os_error
from stack.core.fasync import send_sigurg, sock_wake_async
from stack.core.netstamp import net_disable_timestamp, net_enable_timestamp
from stack.core.rows import FRESH, clone_state, i32, row, state, u8, u16, u32
from stack.core.security import security_sock_rcv_skb
from stack.core.sk_mem import (
    SK_MEM_QUANTUM,
    proto_mem,
    sk_mem_reclaim,
    sk_mem_reclaim_final,
    sk_rmem_schedule,
)
from stack.core.softirq import raise_later
from stack.core.tcp_states import TCP_CLOSE
from stack.core.timer import timer_list
from stack.core.uapi import POLL_ERR, POLL_IN, POLL_OUT, POLL_PRI
from stack.core.wait import (
    MAX_SCHEDULE_TIMEOUT,
    schedule_timeout,
    wait_queue_entry,
    wait_queue_head,
    wake_up,
    wake_up_poll,
)
from stack.net import Net

if TYPE_CHECKING:
    from stack.core.bsd_socket import socket
    from stack.core.proto import proto

# The key of a wake-up
KEY_IN = uapi.POLLIN | uapi.POLLPRI | uapi.POLLRDNORM | uapi.POLLRDBAND
KEY_OUT = uapi.POLLOUT | uapi.POLLWRNORM | uapi.POLLWRBAND

SK_CAN_REUSE = 1
SK_NO_REUSE = 0

RCV_HOARD = 1 << 16  # forward allocation that a reader keeps while more is queued
SOCK_MIN_RCVBUF = 2304
PACING_UNLIMITED = (1 << 63) - 1
"""sk_pacing_rate without a limit; where applications see it, it is ~0UL as on Linux."""
SK_PACING_NONE, SK_PACING_NEEDED, SK_PACING_FQ = 0, 1, 2
"""No pacing; by TCP's timer, for SO_MAX_PACING_RATE; by fq, by the time in each packet."""


NO_PACKETS: Final = sk_buff_head()
"""The error queue and backlog of every sock until its first packet there. It stays empty:
`sk_error_queue_of` and `sk_backlog_of` give the sock a queue of its own."""


@state
class sock_common:
    """struct sock_common: common members of sockets, requests and TIME_WAIT sockets."""

    net: Net
    """The namespace that it belongs to."""
    sk_family: u16 = row(0, hot=True)
    """AF_* that socket(2) was called with, the family of addresses that the application sees."""
    sk_state: u8 = row(TCP_CLOSE, hot=True)
    """TCP_*; datagram sockets use TCP_ESTABLISHED for connected, else TCP_CLOSE."""
    sk_bound_dev_if: int = row(0, hot=True)
    """Index of the only interface it uses (SO_BINDTODEVICE); 0: any."""


@state
class sock(sock_common):
    """struct sock. Lengths in bytes, times in ns, addresses and ports in host order."""

    sk_type: u16 = row(0, hot=True)
    """SOCK_STREAM, SOCK_DGRAM, SOCK_RAW or SOCK_SEQPACKET."""
    sk_protocol: i32 = row(0, hot=True)
    """IPPROTO_*; of a packet socket the EtherType."""
    sk_prot: proto = row(hot=True)
    """The protocol's functions."""
    sk_kern_sock: bool = row(False)
    """Created by the stack itself, not by an application."""
    sk_cookie: int = row(0, clone=FRESH, ss="sk")
    """A number that no other socket of the namespace has (SO_COOKIE)."""

    # what the application set
    sk_flags: u32 = row(sock_flags.SOCK_ZAPPED, hot=True)
    """Bits SOCK_*."""
    sk_reuse: u8 = row(SK_NO_REUSE)
    """SO_REUSEADDR: SK_CAN_REUSE or SK_NO_REUSE."""
    sk_reuseport: bool = row(False)
    """SO_REUSEPORT: sockets that all have it share a port."""
    sk_mark: u32 = row(0, ss="fwmark", hot=True)
    """SO_MARK: the mark of its packets."""
    sk_priority: u32 = row(0, clone=FRESH)
    """SO_PRIORITY: the priority of its packets, which qdiscs read."""
    sk_rcvbuf: int = row(0, ss="rb", hot=True)
    """SO_RCVBUF, bytes of truesize: packets beyond it are dropped."""
    sk_sndbuf: int = row(0, ss="tb", hot=True)
    """SO_SNDBUF, bytes of truesize: a sender waits beyond it."""
    sk_rcvlowat: int = row(1)
    """SO_RCVLOWAT: a reader is woken from so many bytes on."""
    sk_rcvtimeo_ns: int = row(MAX_SCHEDULE_TIMEOUT, hot=True)
    """SO_RCVTIMEO, ns."""
    sk_sndtimeo_ns: int = row(MAX_SCHEDULE_TIMEOUT)
    """SO_SNDTIMEO, ns."""
    sk_lingertime: int = row(0)
    """SO_LINGER: ns that close() may wait."""
    sk_peek_off: int = row(-1, hot=True)
    """SO_PEEK_OFF: where the next MSG_PEEK begins, bytes; -1: at the start."""
    sk_no_check_tx: bool = row(False, hot=True)
    """SO_NO_CHECK: UDP datagrams are sent without a checksum."""
    sk_filter: bpf_prog | None = row(hot=True)
    """Charged to sk_omem_alloc; see stack/core/filter.py."""
    sk_max_ack_backlog: int = row(0)
    """listen(): how many connections may wait for accept()."""
    sk_pacing_rate: int = row(PACING_UNLIMITED)
    """Maximum bytes per second."""
    sk_pacing_status: u8 = row(SK_PACING_NONE)
    """SK_PACING_*: who spaces the packets of TCP."""

    # queues and the memory they hold
    sk_receive_queue: sk_buff_head = row(make=sk_buff_head, clone=FRESH, hot=True)
    """Packets for recv(), in order."""
    sk_write_queue: sk_buff_head = row(make=sk_buff_head, clone=FRESH, hot=True)
    """Packets that are not sent yet."""
    sk_error_queue: sk_buff_head = row(NO_PACKETS, shared=True, clone=FRESH)
    """Packets for MSG_ERRQUEUE: ICMP errors, time stamps, zero-copy notices."""
    sk_zckey: u32 = row(0, clone=FRESH)
    """The number of the next call with MSG_ZEROCOPY."""
    sk_backlog: sk_buff_head = row(NO_PACKETS, shared=True, clone=FRESH, hot=True)
    """Packets received while a caller owned the socket."""
    sk_backlog_len: int = row(0, clone=FRESH, ss="bl")
    """Bytes of truesize in sk_backlog."""
    sk_mem: proto_mem = row(hot=True)
    """The protocol's memory account, shared by its sockets."""
    sk_freed: bool = row(False, clone=FRESH)
    """sk_free has run."""
    sk_rmem_alloc: int = row(0, clone=FRESH, ss="r", hot=True)
    """Bytes of truesize in the receive queue."""
    sk_wmem_alloc: int = row(0, clone=FRESH, ss="t", hot=True)
    """Bytes of truesize on their way through qdisc and device."""
    sk_omem_alloc: i32 = row(0, clone=FRESH, ss="o")
    """Bytes that options hold: filters, source lists, control messages."""
    sk_wmem_queued: int = row(0, clone=FRESH, ss="w")
    """Bytes of truesize that a stream's unsent and unacknowledged data takes."""
    sk_forward_alloc: int = row(0, clone=FRESH, ss="f", hot=True)
    """Bytes charged to sk_mem and not in use yet."""
    sk_drops: int = row(0, clone=FRESH, ss="d")
    """Packets dropped at the socket, most often for want of sk_rcvbuf (SO_RXQ_OVFL)."""

    # who holds it, who waits
    sk_lock_owned: bool = row(False, hot=True)
    """A caller owns the socket (lock_sock)."""
    sk_sleepers: i32 = row(0, clone=FRESH, hot=True)
    """Number of waiters in lock_sock."""
    sk_wq: wait_queue_head | None = row(
        of=lambda sk: None if sk.net.wake_clock is None else wait_queue_head(sk.net.wake_clock),
        clone=FRESH,
        hot=True,
    )
    """On a host without sleeping threads None until `sk_sleep` makes it."""
    sk_socket: socket | None = row(None, clone=FRESH, hot=True)
    """The BSD-layer object; None of an orphan and of a child before accept()."""
    sk_write_pending: i32 = row(0, clone=FRESH)
    """How many senders wait for room or for the handshake."""

    # errors, shutdown, time stamps
    sk_err: i32 = row(0, clone=FRESH, hot=True)
    """The errno that the next call reports and clears (SO_ERROR)."""
    sk_err_soft: i32 = row(0, clone=FRESH)
    """An errno that becomes sk_err only if the connection times out."""
    sk_shutdown: u8 = row(0, hot=True)
    """Bits RCV_SHUTDOWN, SEND_SHUTDOWN."""
    sk_ack_backlog: i32 = row(0, clone=FRESH)
    """How many connections wait for accept()."""
    sk_stamp_ns: int = row(-1)
    """Time of the last packet read (SIOCGSTAMP), ns since 1970; 0: unknown, -1: none was read."""
    sk_tsflags: u32 = row(0, hot=True)
    """Bits SOF_TIMESTAMPING_* (SO_TIMESTAMPING)."""
    sk_tskey: u32 = row(0)
    """The number of the next datagram with a time stamp; of TCP where counting bytes begins."""
    sk_clockid: u8 = row(0)
    """CLOCK_*: whose ns SCM_TXTIME has (SO_TXTIME)."""
    sk_txtime_deadline_mode: bool = row(False)
    """SOF_TXTIME_DEADLINE_MODE: the time is the last moment, not the moment to send."""
    sk_txtime_report_errors: bool = row(False)
    """SOF_TXTIME_REPORT_ERRORS: packets that etf drops are reported on the error queue."""
    sk_timer: timer_list | None = row(None, clone=FRESH)
    """The keepalive timer; None until it is first armed."""

    # route and flow to the peer
    sk_dst_cache: dst_entry | None = row(None, clone=FRESH, hot=True)
    """The route to the peer (sk_dst_set, sk_dst_check)."""
    sk_rx_dst: dst_entry | None = row(None, clone=FRESH)
    """The route of packets received, for early demux."""
    sk_dst_pending_confirm: bool = row(False)
    """The peer acknowledged data: the next segment confirms the neighbour."""
    sk_tx_flow: UdpFlow | None = row(None, clone=FRESH, hot=True)
    """Prebuilt headers (UDP); every setsockopt discards them."""
    sk_gso_type: u32 = row(0)
    """Bits SKB_GSO_* of its super-packets."""
    sk_gso_max_size: u32 = row(65536)
    """Bytes of the largest super-packet that the device takes."""
    sk_gso_max_segs: u32 = row(65535)
    """Segments of such a packet at most."""
    sk_gso_disabled: bool = row(False)
    """Packets must not be segmented, because each is signed (TCP_MD5SIG)."""

    # callbacks, see the methods below; sock_init_data sets them
    state_change: Callable[[Any], None] = row()
    """sk_state moved, or the socket was shut down."""
    data_ready: Callable[[Any], None] = row(hot=True)
    """sk_receive_queue got something."""
    write_space: Callable[[Any], None] = row(hot=True)
    """There is room to send again."""
    error_report: Callable[[Any], None] = row()
    """sk_err or the error queue changed."""
    destruct: Callable[[Any], None] = row()
    """Called by sk_free before the queues are purged."""
    sk_backlog_rcv: Callable[[Any, sk_buff], int] = row()
    """(sk, skb): process a packet of the backlog: sk_prot.backlog_rcv at first."""

    def __repr__(self) -> str:
        return (
            f"<{type(self).__name__} family={self.sk_family} type={self.sk_type} "
            f"protocol={self.sk_protocol} state={self.sk_state}>"
        )


# --- callbacks -----------------------------------------------------------------------------


def sk_data_ready(sk: sock) -> None:
    """Notify readers of data in `sk_receive_queue`."""
    sk.data_ready(sk)


def sk_state_change(sk: sock) -> None:
    """Notify waiters of a change of `sk_state`."""
    sk.state_change(sk)


def sk_write_space(sk: sock) -> None:
    """Notify writers that there is room again."""
    sk.write_space(sk)


def sk_error_report(sk: sock) -> None:
    """Notify waiters of a change of `sk_err` or the error queue."""
    sk.error_report(sk)


# --- flags ---------------------------------------------------------------------------------


def sock_reset_flag(sk: sock, flag: int) -> None:
    """include/net/sock.h"""
    sk.sk_flags &= ~flag


def sock_valbool_flag(sk: sock, flag: int, valbool: bool) -> None:
    """include/net/sock.h"""
    if valbool:
        sk.sk_flags |= flag
    else:
        sk.sk_flags &= ~flag


def sock_needs_netstamp(sk: sock) -> bool:
    """net/core/sock.c: whether the socket's packets come from a device."""
    return sk.sk_family != uapi.AF_UNIX


def sock_enable_timestamp(sk: sock, flag: int) -> None:
    """net/core/sock.c: packets are stamped as they come, until the socket ends."""
    if not sk.sk_flags & flag:
        previous = sk.sk_flags
        sk.sk_flags |= flag
        if sock_needs_netstamp(sk) and not previous & sock_flags.SK_FLAGS_TIMESTAMP:
            net_enable_timestamp(sk.net.machine)


def sock_disable_timestamp(sk: sock, flags: int) -> None:
    """net/core/sock.c: this socket no longer needs time stamps."""
    if sk.sk_flags & flags:
        sk.sk_flags &= ~flags
        if sock_needs_netstamp(sk) and not sk.sk_flags & sock_flags.SK_FLAGS_TIMESTAMP:
            net_disable_timestamp(sk.net.machine)


def sk_is_tcp(sk: sock) -> bool:
    """include/net/sock.h: whether it is a TCP socket of either family."""
    return sk.sk_type == uapi.SOCK_STREAM and sk.sk_protocol == uapi.IPPROTO_TCP


def ns_capable(net: Net, cap: int) -> bool:
    """kernel/capability.c: whether the host's programs have the capability `cap`: as uid 0.

    A host has one user, `Host.uid`, for all code that uses the Host object. A program that runs on
    the host loses a capability if it gives up the one that it was started with.
    """
    return net.uid == 0 and not (net.caller and has_given_up(net.caller, cap))


def has_given_up(tid: int, cap: int) -> bool:
    """Whether the machine's thread `tid` does not have a capability of this process.

    Capabilities in a user namespace of its own do not count. If this process does not have the
    capability either, it returns whether the thread has changed its user.
    """
    own, other = effective("self"), effective(str(tid))
    if own is None or other is None:
        return False
    if own[1] >> cap & 1:
        return not other[1] >> cap & 1 or own[2] != other[2]
    return own[0] != other[0]


def effective(task: str) -> tuple[int, int, str] | None:
    """The effective user, capabilities and user namespace of one in /proc; None: it has ended."""
    try:
        with open(f"/proc/{task}/status") as file:
            rows = dict(line.split(":", 1) for line in file)
        namespace = os.readlink(f"/proc/{task}/ns/user")
    except OSError:
        return None
    return int(rows["Uid"].split()[1]), int(rows["CapEff"], 16), namespace


# --- birth and death -----------------------------------------------------------------------


def sk_alloc(net: Net, family: int, priority: int, prot: proto, kern: bool = False) -> Any:
    """net/core/sock.c: a fresh sock of `prot.sock_class`; `sock_init_data` must follow.

    `priority` is the kernel's gfp mask and has no meaning here.
    """
    sk = prot.sock_class(net)
    sk.sk_family = family
    sk.sk_prot = prot
    sk.sk_kern_sock = kern
    account = prot.memory or prot.name
    mem = net.prot_mem.get(account)
    if mem is None:
        mem = net.prot_mem[account] = proto_mem()
    sk.sk_mem = mem
    mem.sockets_allocated += 1
    return sk


def sock_init_data(sock_: socket | None, sk: sock) -> None:
    """net/core/sock.c: join a new sock to its socket, and set the fields without a default."""
    net = sk.net
    sysctl = net.sysctl
    sk.sk_rcvbuf = sysctl.rmem_default
    sk.sk_sndbuf = sysctl.wmem_default
    sk.sk_socket = sock_
    if sock_ is not None:
        sk.sk_type = sock_.type
        sock_.sk = sk
    sk.sk_backlog_rcv = sk.sk_prot.backlog_rcv
    sk.state_change = sock_def_wakeup
    sk.data_ready = sock_def_readable
    sk.write_space = sock_def_write_space
    sk.error_report = sock_def_error_report
    sk.destruct = sock_def_destruct
    net.sock_cookie = sk.sk_cookie = net.sock_cookie + 1


def sock_i_ino(sk: Any) -> int:
    """net/core/sock.c: a socket's number as /proc/PID/fd has it, where a program has it, else its
    cookie; 0: no descriptor refers to it."""
    if not isinstance(sk, sock) or sk.sk_socket is None:
        return 0
    return sk.sk_socket.inode or sk.sk_cookie


def sk_clone_lock(sk: sock, priority: int = 0) -> Any:
    """net/core/sock.c: a locked child with sk's settings and empty queues (accept path)."""
    newsk: sock = clone_state(sk)
    newsk.sk_lock_owned = True
    newsk.sk_flags &= ~(sock_flags.SOCK_DONE | sock_flags.SOCK_DEAD | sock_flags.SOCK_BINDPORT_LOCK)
    # Callbacks that others set on the listener are not the child's.
    newsk.state_change = sock_def_wakeup
    newsk.data_ready = sock_def_readable
    newsk.error_report = sock_def_error_report
    newsk.sk_mem.sockets_allocated += 1
    if newsk.sk_filter is not None:
        newsk.sk_omem_alloc += newsk.sk_filter.size_bytes
    net = sk.net
    if newsk.sk_flags & sock_flags.SK_FLAGS_TIMESTAMP and sock_needs_netstamp(newsk):
        net_enable_timestamp(net.machine)
    net.sock_cookie = newsk.sk_cookie = net.sock_cookie + 1
    return newsk


def sk_free(sk: sock) -> None:
    """net/core/sock.c: last step of a sock's life; queues are purged, memory is given back."""
    if sk.sk_freed:
        return
    sk.sk_freed = True
    sock_disable_timestamp(sk, sock_flags.SK_FLAGS_TIMESTAMP)
    if sk.destruct is not None:
        sk.destruct(sk)
    sk.sk_receive_queue.purge()
    sk.sk_error_queue.purge()
    sk.sk_write_queue.purge()
    sk.sk_backlog.purge()
    sk.sk_backlog_len = 0
    sk_dst_reset(sk)
    sk.sk_rx_dst = None
    sk_mem_reclaim_final(sk)
    sk.sk_mem.sockets_allocated -= 1


def sock_orphan(sk: sock) -> None:
    """include/net/sock.h: detach from the socket and its wait queue."""
    sk.sk_flags |= sock_flags.SOCK_DEAD
    sk.sk_socket = None


def sock_graft(sk: sock, parent: socket) -> None:
    """include/net/sock.h: attach an accepted sock to its socket."""
    parent.sk = sk
    sk.sk_socket = parent


def sk_common_release(sk: sock) -> None:
    """net/core/sock.c: close of every protocol without a state machine."""
    prot = sk.sk_prot
    if prot.destroy is not None:
        prot.destroy(sk)
    if prot.unhash is not None:
        prot.unhash(sk)
    sock_orphan(sk)
    sk_free(sk)


# --- the lock ------------------------------------------------------------------------------


def lock_sock(sk: sock) -> None:
    """net/core/sock.c: own `sk`; sleeps while another caller owns it."""
    if sk.sk_lock_owned:
        __lock_sock(sk)
    sk.sk_lock_owned = True


def __lock_sock(sk: sock) -> None:
    """net/core/sock.c: sleep until `sk` is not owned."""
    sk.sk_sleepers += 1
    try:
        sk.net.clock.wait(wait_queue_entry(sk, sk_lock_free, None).ready)
    finally:
        sk.sk_sleepers -= 1


def sk_lock_free(sk: sock, seen: Any) -> bool:
    """The condition of `__lock_sock`."""
    return not sk.sk_lock_owned


def release_sock(sk: sock) -> None:
    """net/core/sock.c: drain the backlog, run the protocol's release_cb, release `sk`."""
    try:
        if sk.sk_backlog.qlen:
            __release_sock(sk)
        if sk.sk_prot.release_cb is not None:
            sk.sk_prot.release_cb(sk)
    finally:  # a signal handler may have raised in the backlog
        sk.sk_lock_owned = False
        if sk.sk_sleepers:
            wake_up(sk.sk_wq)


def __release_sock(sk: sock) -> None:
    """net/core/sock.c: feed the backlog to the protocol.

    An exception of a program's function (hook, callback) is raised when all packets are fed.
    """
    backlog = sk.sk_backlog
    raised: BaseException | None = None
    while backlog.qlen:
        try:
            while (skb := backlog.dequeue()) is not None:
                sk.sk_backlog_rcv(sk, skb)
        except BaseException as wrong:
            if raised is not None:
                raise_later(sk.net.machine, raised)
            raised = wrong
    sk.sk_backlog_len = 0
    if raised is not None:
        raise raised


def sk_flush_backlog(sk: sock) -> bool:
    """include/net/sock.h: let packets in during a long sendmsg."""
    if sk.sk_backlog.qlen:
        __release_sock(sk)
        return True
    return False


def bh_lock_sock(sk: sock) -> None:
    """include/net/sock.h: the host runs one context at a time, so nothing to take."""


def bh_unlock_sock(sk: sock) -> None:
    """include/net/sock.h"""


def sock_owned_by_user(sk: sock) -> bool:
    """include/net/sock.h: a process-context caller holds `sk` now."""
    return sk.sk_lock_owned


def sk_add_backlog(sk: sock, skb: sk_buff, limit: int) -> int:
    """include/net/sock.h: 0, or -ENOBUFS when full. Takes ownership of skb on 0."""
    if sk.sk_backlog_len + sk.sk_rmem_alloc > limit:
        return -errno.ENOBUFS
    sk_backlog_of(sk).queue_tail(skb)
    sk.sk_backlog_len += skb.truesize
    return 0


def sk_backlog_of(sk: sock) -> sk_buff_head:
    """The backlog to add a packet to; made at the first call."""
    if sk.sk_backlog is NO_PACKETS:
        sk.sk_backlog = sk_buff_head()
    return sk.sk_backlog


def sk_error_queue_of(sk: sock) -> sk_buff_head:
    """The error queue to add a message to; made at the first call."""
    if sk.sk_error_queue is NO_PACKETS:
        sk.sk_error_queue = sk_buff_head()
    return sk.sk_error_queue


def sk_backlog_rcv(sk: sock, skb: sk_buff) -> int:
    """include/net/sock.h: hand one packet to the protocol as the owner."""
    return sk.sk_backlog_rcv(sk, skb)


# --- waiting -------------------------------------------------------------------------------


def sock_rcvtimeo(sk: sock, noblock: int) -> int:
    """include/net/sock.h: ns a reader may wait (0 when it must not)."""
    return 0 if noblock else sk.sk_rcvtimeo_ns


def sock_sndtimeo(sk: sock, noblock: int) -> int:
    """include/net/sock.h: ns a writer may wait (0 when it must not)."""
    return 0 if noblock else sk.sk_sndtimeo_ns


def sock_rcvlowat(sk: sock, waitall: int, length: int) -> int:
    """include/net/sock.h: bytes that make a reader return."""
    lowat = sk.sk_rcvlowat
    return (length if waitall or length < lowat else lowat) or 1


def sk_wait_event(
    sk: sock, timeo_ns: int, condition: Callable[[Any, Any], bool], seen: Any = None
) -> int:
    """include/net/sock.h: release `sk`, sleep until condition(sk, seen) or the timeout.

    Returns the ns left, 0 when the time ran out. Call with the sock owned; it is owned again.
    """
    release_sock(sk)
    try:
        return wait_event(sk, timeo_ns, condition, seen)
    finally:
        lock_sock(sk)


def wait_event(
    sk: sock, timeo_ns: int, condition: Callable[[Any, Any], bool], seen: Any = None
) -> int:
    """Sleep on sk's wait queue without the sock's lock; the rest as `sk_wait_event`."""
    if timeo_ns <= 0:
        return timeo_ns if condition(sk, seen) else 0
    sk.sk_sleepers += 1
    try:
        return wait_until(sk, timeo_ns, condition, seen)
    finally:
        sk.sk_sleepers -= 1


def wait_until(sk: sock, timeo_ns: int, condition: Callable[[Any, Any], bool], seen: Any) -> int:
    """Sleep until condition(sk, seen) or the timeout, for a caller that counts the sleepers.

    Nearly every message begins a wait, so the entry of the last one is used again.
    """
    net = sk.net
    entry: wait_queue_entry | None = net.wait_entry
    ready: Callable[[], bool] | None = net.wait_ready
    if entry is None or ready is None:
        entry = wait_queue_entry(sk, condition, seen)
        ready = entry.ready
    else:
        net.wait_ready = None
        entry.sk = sk
        entry.condition = condition
        entry.seen = seen
    try:
        return schedule_timeout(net.clock, ready, timeo_ns)
    finally:
        entry.sk = None
        entry.seen = None
        net.wait_entry = entry
        net.wait_ready = ready


def sk_wait_data(sk: sock, timeo_ns: int, skb: sk_buff | None) -> int:
    """net/core/sock.c: wait until the receive queue's tail is no longer `skb`. Returns ns left.

    Errors, shutdown and a move to CLOSE end the wait too; the caller looks which it was.
    """
    if not sk.sk_flags & sock_flags.SOCK_FASYNC:
        return sk_wait_event(sk, timeo_ns, sk_data_came, skb)
    sk.sk_flags |= sock_flags.SOCKWQ_ASYNC_WAITDATA
    left = sk_wait_event(sk, timeo_ns, sk_data_came, skb)
    sk.sk_flags &= ~sock_flags.SOCKWQ_ASYNC_WAITDATA
    return left


def sk_data_came(sk: sock, seen: sk_buff | None) -> bool:
    """What `sk_wait_data` waits for: the receive queue's tail is no longer `seen`."""
    return bool(
        sk.sk_receive_queue.peek_tail() is not seen
        or sk.sk_err
        or sk.sk_shutdown & uapi.RCV_SHUTDOWN
        or sk.sk_state == TCP_CLOSE
        or sk.sk_flags & sock_flags.SOCK_DEAD
    )


# --- default callbacks ---------------------------------------------------------------------


def sk_sleep(sk: sock) -> wait_queue_head:
    """include/net/sock.h: the wait queue of `sk`; made at the first call."""
    wq = sk.sk_wq
    if wq is None:
        wq = sk.sk_wq = wait_queue_head(sk.net.wake_clock)
    return wq


def skwq_has_sleeper(sk: sock) -> bool:
    """include/net/sock.h: whether there are waiters, in a call or at its queue."""
    wq = sk.sk_wq
    return bool(sk.sk_sleepers or (wq is not None and wq.waiters))


def sock_def_wakeup(sk: sock) -> None:
    """net/core/sock.c: sk_state_change."""
    wake_up(sk.sk_wq)


def sock_def_error_report(sk: sock) -> None:
    """net/core/sock.c: sk_error_report."""
    wake_up_poll(sk.sk_wq, uapi.POLLERR)
    if sk.sk_flags & sock_flags.SOCK_FASYNC:
        sk_wake_async(sk, fasync.SOCK_WAKE_IO, POLL_ERR)


def sock_def_readable(sk: sock) -> None:
    """net/core/sock.c: sk_data_ready."""
    if skwq_has_sleeper(sk):
        wake_up_poll(sk.sk_wq, KEY_IN)
    if sk.sk_flags & sock_flags.SOCK_FASYNC:
        sk_wake_async(sk, fasync.SOCK_WAKE_WAITD, POLL_IN)


def sock_def_write_space(sk: sock) -> None:
    """net/core/sock.c: sk_write_space of datagram protocols: wake at half the buffer."""
    if sk.sk_wmem_alloc << 1 <= sk.sk_sndbuf:
        if skwq_has_sleeper(sk):
            wake_up_poll(sk.sk_wq, KEY_OUT)
        if sk.sk_flags & sock_flags.SOCK_FASYNC:
            sk_wake_async(sk, fasync.SOCK_WAKE_SPACE, POLL_OUT)


def sock_def_destruct(sk: sock) -> None:
    """net/core/sock.c: nothing more to undo."""


# --- signals -------------------------------------------------------------------------------


def sk_set_bit(sk: sock, bit: int) -> None:
    """include/net/sock.h: SOCKWQ_ASYNC_NOSPACE or _WAITDATA, if anybody wants signals."""
    if sk.sk_flags & sock_flags.SOCK_FASYNC:
        sk.sk_flags |= bit


def sk_wake_async(sk: sock, how: int, band: int) -> None:
    """include/net/sock.h: send SIGIO, if the application set O_ASYNC on the socket."""
    if sk.sk_flags & sock_flags.SOCK_FASYNC:
        sock = sk.sk_socket
        if sock is not None:
            sock_wake_async(sock, how, band)


def sk_send_sigurg(sk: sock) -> None:
    """net/core/sock.c: urgent data was received: SIGURG to the owner of the open file."""
    sock = sk.sk_socket
    if sock is not None and sock.file is not None and send_sigurg(sock.file):
        sk_wake_async(sk, fasync.SOCK_WAKE_URG, POLL_PRI)


# --- errors --------------------------------------------------------------------------------


def sock_error(sk: sock) -> int:
    """include/net/sock.h: take the pending error; 0 or -errno."""
    err = sk.sk_err
    if err:
        sk.sk_err = 0
        return -err
    return 0


def raise_sock_error(sk: sock) -> None:
    """Raise the pending error as OSError, if there is one."""
    err = sk.sk_err
    if err:
        sk.sk_err = 0
        raise os_error(err)


# --- memory: datagram side -----------------------------------------------------------------


# A destructor may run while the garbage collector clears an abandoned host. The sock may have lost
# its members by then, and nothing is left to account for.


def sock_wfree(skb: sk_buff) -> None:
    """net/core/sock.c: destructor of a packet that was sent."""
    sk: sock = skb.sk
    try:
        sk.sk_wmem_alloc -= skb.truesize
        flags = sk.sk_flags
        if not flags & sock_flags.SOCK_USE_WRITE_QUEUE and (
            flags & sock_flags.SOCK_FASYNC or skwq_has_sleeper(sk)
        ):
            sk_write_space(sk)
    except (AttributeError, TypeError):  # the collector took sk apart
        return


def sock_rfree(skb: sk_buff) -> None:
    """net/core/sock.c: destructor of a packet in a receive queue."""
    sk: sock = skb.sk
    truesize = skb.truesize
    try:
        sk.sk_rmem_alloc = queued = sk.sk_rmem_alloc - truesize
        sk.sk_forward_alloc = left = sk.sk_forward_alloc + truesize
        if left > SK_MEM_QUANTUM and (left > RCV_HOARD or not queued):
            sk_mem_reclaim(sk)
    except (AttributeError, TypeError):  # the collector took sk apart
        return


def skb_set_owner_w(skb: sk_buff, sk: sock) -> None:
    """net/core/sock.c: charge `skb` to sk's send buffer until it is freed."""
    skb.sk = sk
    skb.destructor = sock_wfree
    sk.sk_wmem_alloc += skb.truesize


def skb_set_owner_r(skb: sk_buff, sk: sock) -> None:
    """include/net/sock.h: charge `skb` to sk's receive buffer until it is freed."""
    if skb.destructor is not None:
        skb_orphan(skb)
    skb.sk = sk
    skb.destructor = sock_rfree
    truesize = skb.truesize
    sk.sk_rmem_alloc += truesize
    sk.sk_forward_alloc -= truesize


def sock_writeable(sk: sock) -> bool:
    """include/net/sock.h: less than half of the send buffer in flight."""
    return sk.sk_wmem_alloc < sk.sk_sndbuf >> 1


def sock_queue_rcv_skb(sk: sock, skb: sk_buff) -> int:
    """net/core/sock.c: append to the receive queue. 0, or -ENOMEM/-ENOBUFS/-EPERM.

    Takes ownership of skb on 0 only.
    """
    err = sk_filter(sk, skb)
    return err or __sock_queue_rcv_skb(sk, skb)


def sock_queue_rcv_skb_reason(sk: sock, skb: sk_buff) -> int:
    """net/core/sock.c: as sock_queue_rcv_skb; SKB_NOT_DROPPED_YET, or why it cannot be queued."""
    err = sock_queue_rcv_skb(sk, skb)
    if not err:
        return SKB_NOT_DROPPED_YET
    if err == -errno.EPERM:
        return SKB_DROP_REASON_SOCKET_FILTER
    return SKB_DROP_REASON_SOCKET_RCVBUFF if err == -errno.ENOMEM else SKB_DROP_REASON_PROTO_MEM


def __sock_queue_rcv_skb(sk: sock, skb: sk_buff) -> int:
    """net/core/sock.c: as sock_queue_rcv_skb after the filter."""
    if sk.sk_rmem_alloc >= sk.sk_rcvbuf:
        sk.sk_drops += 1
        return -errno.ENOMEM
    if not sk_rmem_schedule(sk, skb, skb.truesize):
        sk.sk_drops += 1
        return -errno.ENOBUFS
    skb.dev = None
    skb_set_owner_r(skb, sk)
    sk.sk_receive_queue.queue_tail(skb)
    if not sk.sk_flags & sock_flags.SOCK_DEAD:
        sk_data_ready(sk)
    return 0


def sk_filter(sk: sock, skb: sk_buff) -> int:
    """include/linux/filter.h: 0 to accept, -EPERM to drop."""
    if sk.sk_filter is None and sk.net.security is None:
        return 0
    return sk_filter_trim_cap(sk, skb, 1)


def sk_filter_trim_cap(sk: sock, skb: sk_buff, cap: int) -> int:
    """net/core/filter.c: ask security modules, run the filter, cut to what it wants but at least
    `cap` bytes.

    0 to accept, -EPERM (or a module's errno) to drop.
    """
    err = security_sock_rcv_skb(sk, skb)
    if err:
        return err
    prog: bpf_prog | None = sk.sk_filter
    if prog is None:
        return 0
    length = bpf_prog_run(prog, skb)
    if not length:
        return -errno.EPERM
    if length < skb.len:
        pskb_trim(skb, length if length > cap else cap)
    return 0


def sock_rmem_free(skb: sk_buff) -> None:
    """net/core/skbuff.c: destructor in the error queue (no forward allocation there)."""
    try:
        skb.sk.sk_rmem_alloc -= skb.truesize
    except AttributeError:
        return


def sock_queue_err_skb(sk: sock, skb: sk_buff) -> int:
    """net/core/skbuff.c: append to the error queue. 0 or -ENOMEM. Takes ownership on 0."""
    truesize = skb.truesize
    if sk.sk_rmem_alloc + truesize >= sk.sk_rcvbuf:
        return -errno.ENOMEM
    skb_orphan(skb)
    skb.sk = sk
    skb.destructor = sock_rmem_free
    sk.sk_rmem_alloc += truesize
    sk_error_queue_of(sk).queue_tail(skb)
    if not sk.sk_flags & sock_flags.SOCK_DEAD:
        sk_error_report(sk)
    return 0


def sock_alloc_send_skb(
    sk: sock, size_bytes: int, noblock: int | bool, headroom: int = 0
) -> sk_buff:
    """net/core/sock.c: a charged sk_buff of `size_bytes` room; waits for send memory.

    The pool is that of short heads, if it is large enough.
    Raises: OSError EPIPE, EAGAIN, ENOBUFS or the sock's pending error.
    """
    if sk.sk_wmem_alloc >= sk.sk_sndbuf or sk.sk_err or sk.sk_shutdown & uapi.SEND_SHUTDOWN:
        sock_wait_for_wmem(sk, noblock)
    pool = sk.net.skb_small_head
    if headroom + size_bytes > pool.buf_bytes:
        pool = sk.net.skb_small
    skb = alloc_skb(pool, size_bytes, headroom)
    if skb is None:
        raise os_error(errno.ENOBUFS, "no packet buffer left on the host")
    skb_set_owner_w(skb, sk)
    return skb


def sock_wait_for_wmem(sk: sock, noblock: int | bool) -> None:
    """net/core/sock.c: sleep until sk_wmem_alloc is below sk_sndbuf.

    Raises: OSError EPIPE after shutdown, EAGAIN when time is over, the pending error.
    """
    timeo_ns = sock_sndtimeo(sk, noblock)
    while True:
        raise_sock_error(sk)
        if sk.sk_shutdown & uapi.SEND_SHUTDOWN:
            raise os_error(errno.EPIPE, "socket was shut down for sending")
        if sk.sk_wmem_alloc < sk.sk_sndbuf:
            return
        sk_set_bit(sk, sock_flags.SOCKWQ_ASYNC_NOSPACE)
        if timeo_ns <= 0:
            raise os_error(errno.EAGAIN, "send buffer full")
        if sk.sk_lock_owned:
            timeo_ns = sk_wait_event(sk, timeo_ns, sock_wmem_came)
        else:
            timeo_ns = wait_event(sk, timeo_ns, sock_wmem_came)


def sock_wmem_came(sk: sock, seen: Any) -> bool:
    """The condition of `sock_wait_for_wmem`."""
    return bool(sk.sk_wmem_alloc < sk.sk_sndbuf or sk.sk_err or sk.sk_shutdown & uapi.SEND_SHUTDOWN)


def sock_kmalloc(sk: sock, size_bytes: int) -> None:
    """net/core/sock.c: charge option memory. Raises: OSError ENOBUFS above sysctl optmem_max."""
    limit = sk.net.sysctl.optmem_max
    if size_bytes > limit or sk.sk_omem_alloc + size_bytes >= limit:
        raise os_error(errno.ENOBUFS, f"option memory: sysctl optmem_max is {limit}")
    sk.sk_omem_alloc += size_bytes


def sock_kfree_s(sk: sock, size_bytes: int) -> None:
    """net/core/sock.c: give option memory back."""
    sk.sk_omem_alloc -= size_bytes


# --- cached route --------------------------------------------------------------------------


def sk_dst_set(sk: sock, dst: dst_entry | None) -> None:
    """include/net/sock.h: cache `dst` (None forgets)."""
    sk.sk_dst_pending_confirm = False
    sk.sk_tx_flow = None
    if dst is not None:
        dst_hold(dst)
    dst_release(sk.sk_dst_cache)
    sk.sk_dst_cache = dst


def sk_dst_reset(sk: sock) -> None:
    """include/net/sock.h: forget the cached dst."""
    sk_dst_set(sk, None)


def sk_dst_check(sk: sock, cookie: int = 0) -> Any:
    """net/core/sock.c: the cached dst if it is still good, else None (and forgotten)."""
    dst = sk.sk_dst_cache
    if dst is not None and dst.obsolete and dst_check(dst, cookie) is None:
        sk_dst_reset(sk)
        return None
    return dst


def sk_setup_caps(sk: sock, dst: dst_entry) -> None:
    """net/core/sock.c: cache `dst` and learn what its device can do (features, GSO sizes)."""
    sk_dst_set(sk, dst)
    dev = dst.dev
    sk.sk_gso_max_size = dev.gso_max_size
    sk.sk_gso_max_segs = 1 if sk.sk_gso_disabled else dev.gso_max_segs


def sk_gso_disable(sk: sock) -> None:
    """include/net/sock.h: from now on each packet of sk is one segment."""
    sk.sk_gso_disabled = True
    sk.sk_gso_max_segs = 1


# --- slots of proto_ops that a family does not have ----------------------------------------


def sock_no_mmap(file: object, sock: socket, vma: object) -> None:
    """net/core/sock.c"""
    raise os_error(errno.ENODEV, "sockets have no memory map")


def sock_no_sendpage(sock: socket, page: object, offset: int, size: int, flags: int) -> int:
    """net/core/sock.c (until 6.5; MSG_SPLICE_PAGES since)"""
    raise os_error(errno.EOPNOTSUPP, "sendpage is not for this protocol")


def sock_no_socketpair(sock1: socket, sock2: socket) -> None:
    """net/core/sock.c"""
    raise os_error(errno.EOPNOTSUPP, "socketpair is not for this family")


def sock_no_accept(sock_: socket, newsock: socket, flags: int, kern: bool = False) -> None:
    """net/core/sock.c"""
    raise os_error(errno.EOPNOTSUPP, "this socket type does not accept")


def sock_no_listen(sock: socket, backlog: int) -> None:
    """net/core/sock.c"""
    raise os_error(errno.EOPNOTSUPP, "this socket type does not listen")
