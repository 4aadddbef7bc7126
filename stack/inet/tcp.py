"""net/ipv4/tcp.c: the socket's side of TCP: send, receive, poll, shutdown, close, disconnect.

Errors leave as OSError; the socket is locked by each call as in the kernel. Timeouts are ns.
"""

from __future__ import annotations

import errno
from functools import partial
from typing import Any

from stack.core import uapi
from stack.core.bsd_socket import socket
from stack.core.errors import os_error
from stack.core.sk_mem import proto_mem
from stack.core.sock import lock_sock, release_sock, sk_set_bit, sk_sleep, sock_rcvlowat
from stack.core.sock_flags import (
    SOCK_DEAD,
    SOCK_NOSPACE,
    SOCK_RCVBUF_LOCK,
    SOCK_URGINLINE,
    SOCK_USE_WRITE_QUEUE,
    SOCKWQ_ASYNC_NOSPACE,
)
from stack.core.stream import sk_stream_is_writeable, sk_stream_write_space
from stack.core.sysctl_net_core import NO_KEY
from stack.core.tcp_states import TCP_CLOSE, TCP_LISTEN, TCP_SYN_RECV, TCP_SYN_SENT
from stack.core.time64 import NSEC_PER_MSEC
from stack.core.timer import timer_shutdown
from stack.inet.inet_connection_sock import inet_csk_shutdown_timers
from stack.inet.inet_hashtables import inet_hashinfo, inet_put_port
from stack.inet.inet_sock import inet_sock
from stack.inet.inet_timewait_sock import inet_timewait_death_row
from stack.inet.tcp_cong import (
    tcp_assign_congestion_control,
    tcp_cleanup_congestion_control,
    tcp_register_congestion_control,
    tcp_reno,
    tcp_set_allowed_congestion_control,
    tcp_set_default_congestion_control,
)
from stack.inet.tcp_const import TCP_TICK
from stack.inet.tcp_cubic import cubictcp
from stack.inet.tcp_data import tcp_data_ready, tcp_epollin_ready, tcp_ofo_purge
from stack.inet.tcp_done import tcp_clear_xmit_timers
from stack.inet.tcp_fastopen import tcp_fastopen_active_disable_ofo_check, tcp_fastopen_keys_of
from stack.inet.tcp_output import tcp_write_queue_purge
from stack.inet.tcp_rcvbuf import tcp_set_window_clamp
from stack.inet.tcp_recvmsg import tcp_inq
from stack.inet.tcp_sock import M32, TCP_URG_VALID, tcp_sock, tcp_space_from_win
from stack.inet.tcp_timer import tcp_init_xmit_timers, tcp_tasklet_init
from stack.inet.tcp_window import tcp_sync_mss
from stack.net import Net

# --- memory -------------------------------------------------------------------------------


def tcp_enter_memory_pressure(sk: tcp_sock) -> None:
    """Memory of all sockets exceeds tcp_mem[1]: buffers stop growing, windows shrink."""
    mem = sk.sk_mem
    if not mem.memory_pressure:
        mem.memory_pressure = sk.net.clock.now_ns() or 1
        sk.net.mib.linux.TCPMemoryPressures += 1


def tcp_leave_memory_pressure(sk: tcp_sock) -> None:
    """Memory is below tcp_mem[0] again; TCPMemoryPressuresChrono counts the ms under pressure."""
    mem = sk.sk_mem
    if mem.memory_pressure:
        sk.net.mib.linux.TCPMemoryPressuresChrono += (
            sk.net.clock.now_ns() - mem.memory_pressure
        ) // NSEC_PER_MSEC
        mem.memory_pressure = 0


# --- birth --------------------------------------------------------------------------------


def tcp_init_sock(sk: tcp_sock) -> None:
    """Set up a new socket in CLOSE: timers, buffer sizes, congestion control."""
    sysctl = sk.net.sysctl
    tcp_init_xmit_timers(sk)
    sk.reordering = sysctl.tcp_reordering
    sk.icsk_rto_max = sysctl.tcp_rto_max_ms * NSEC_PER_MSEC
    sk.icsk_rto_min = (sysctl.tcp_rto_min_us * 1000 + TCP_TICK - 1) // TCP_TICK * TCP_TICK
    sk.icsk_sync_mss = tcp_sync_mss
    tcp_assign_congestion_control(sk)
    sk.write_space = sk_stream_write_space
    sk.sk_flags |= SOCK_USE_WRITE_QUEUE
    sk.sk_sndbuf = sysctl.tcp_wmem[1]
    sk.sk_rcvbuf = sysctl.tcp_rmem[1]


def tcp_v4_destroy_sock(sk: tcp_sock) -> None:
    """proto.destroy of both families (net/ipv4/tcp_ipv4.c): free timers, queues and port."""
    tcp_clear_xmit_timers(sk)
    inet_csk_shutdown_timers(sk)
    if sk.pacing_timer is not None:
        timer_shutdown(sk.pacing_timer)
    if sk.compressed_ack_timer is not None:
        timer_shutdown(sk.compressed_ack_timer)
    tcp_cleanup_congestion_control(sk)
    tcp_write_queue_purge(sk)
    tcp_fastopen_active_disable_ofo_check(sk)
    tcp_ofo_purge(sk)
    if sk.icsk_bind_hash is not None:
        inet_put_port(sk)
    sk.saved_syn = None
    sk.synack_req = None
    sk.fastopen_req = None


# --- ioctl, poll ---------------------------------------------------------------------------


def tcp_ioctl(sk: tcp_sock, cmd: int, arg: Any = None) -> int:
    """proto.ioctl: SIOCINQ, SIOCATMARK, SIOCOUTQ, SIOCOUTQNSD. Raises: OSError."""
    if cmd == uapi.SIOCINQ:
        if sk.sk_state == TCP_LISTEN:
            raise os_error(errno.EINVAL)
        lock_sock(sk)
        try:
            return tcp_inq(sk)
        finally:
            release_sock(sk)
    if cmd == uapi.SIOCATMARK:
        return int(bool(sk.urg_data) and sk.urg_seq == sk.copied_seq)
    if cmd in (uapi.SIOCOUTQ, uapi.SIOCOUTQNSD):
        if sk.sk_state == TCP_LISTEN:
            raise os_error(errno.EINVAL)
        if sk.sk_state in (TCP_SYN_SENT, TCP_SYN_RECV):
            return 0
        start = sk.snd_una if cmd == uapi.SIOCOUTQ else sk.snd_nxt
        return (sk.write_seq - start) & M32
    raise os_error(errno.ENOTTY)


def tcp_poll(file: Any, sock: socket, wait: Any) -> int:
    """proto_ops.poll: POLL* of a TCP socket. `wait`: callback to add to its queue."""
    sk: tcp_sock = sock.sk
    if wait is not None:
        sk_sleep(sk).add(wait)
    state = sk.sk_state
    if state == TCP_LISTEN:
        return uapi.POLLIN | uapi.POLLRDNORM if sk.icsk_accept_queue.rskq_accept_head else 0
    mask = 0
    shutdown = sk.sk_shutdown
    if shutdown == uapi.SHUTDOWN_MASK or state == TCP_CLOSE:
        mask |= uapi.POLLHUP
    if shutdown & uapi.RCV_SHUTDOWN:
        mask |= uapi.POLLIN | uapi.POLLRDNORM | uapi.POLLRDHUP
    if state not in (TCP_SYN_SENT, TCP_SYN_RECV) or sk.fastopen_rsk is not None:
        target = sock_rcvlowat(sk, 0, 1 << 31)
        if sk.urg_data and sk.urg_seq == sk.copied_seq and not sk.sk_flags & SOCK_URGINLINE:
            target += 1
        if tcp_epollin_ready(sk, target):
            mask |= uapi.POLLIN | uapi.POLLRDNORM
        if not shutdown & uapi.SEND_SHUTDOWN:
            if sk_stream_is_writeable(sk):
                mask |= uapi.POLLOUT | uapi.POLLWRNORM
            else:
                sk_set_bit(sk, SOCKWQ_ASYNC_NOSPACE)
                sk.sk_flags |= SOCK_NOSPACE
        else:
            mask |= uapi.POLLOUT | uapi.POLLWRNORM
        if sk.urg_data & TCP_URG_VALID:
            mask |= uapi.POLLPRI
    elif sk.defer_connect:
        mask |= uapi.POLLOUT | uapi.POLLWRNORM  # the first write sends the SYN
    if sk.sk_err or sk.sk_error_queue.qlen:
        mask |= uapi.POLLERR
    return mask


def tcp_set_rcvlowat(sk: tcp_sock, val: int) -> int:
    """proto_ops.set_rcvlowat: grow the receive buffer so that it can hold `val` bytes.

    A buffer that SO_RCVBUF set stays, and bounds `val`.
    """
    locked = sk.sk_flags & SOCK_RCVBUF_LOCK
    cap = sk.sk_rcvbuf if locked else sk.net.sysctl.tcp_rmem[2]
    val = min(val, cap >> 1)
    sk.sk_rcvlowat = val or 1
    if not sk.sk_flags & SOCK_DEAD and sk.sk_state not in (TCP_CLOSE, TCP_LISTEN):
        tcp_data_ready(sk)
    space = tcp_space_from_win(sk, val)
    if space > sk.sk_rcvbuf and not locked:
        sk.sk_rcvbuf = space
        if sk.window_clamp and sk.window_clamp < val:
            tcp_set_window_clamp(sk, val)
    return 0


def tcp_init_mem(net: Net) -> None:
    """net/ipv4/tcp.c: bound the memory of all sockets together by sysctl tcp_mem (4 KiB pages).

    Without the bound, sockets that nobody reads could hold all of a driver's receive buffers.
    """
    if "TCP" in net.prot_mem:
        return  # set up by the machine's first namespace
    tcp_tasklet_init(net.machine)
    mem = net.prot_mem["TCP"] = proto_mem()

    def written(pages: tuple[int, int, int]) -> None:
        mem.sysctl_mem = [n << 12 for n in pages]

    net.sysctl.on_write("tcp_mem", written)


def tcp_fastopen_key_written(net: Net, value: str) -> None:
    """proc_tcp_fastopen_key: the namespace's keys."""
    net.tcp_fastopen_ctx = tcp_fastopen_keys_of(value)


def tcp_init(net: Net) -> None:
    """net/ipv4/tcp.c: TCP's tables and sysctls of one host."""
    tcp_init_mem(net)
    net.tcp_hashinfo = inet_hashinfo()
    net.tcp_death_row = inet_timewait_death_row()
    net.syncookie_secret = (net.random.randbytes(16), net.random.randbytes(16))
    net.tcp_challenge = (0, 0)
    net.tcp_tw_isn = 0
    net.tcp_metrics = {}
    net.tcp_fastopen_ctx = ()
    net.tfo_active_disable_stamp = 0
    net.tfo_active_disable_times = 0
    net.sysctl.on_write("tcp_fastopen_key", partial(tcp_fastopen_key_written, net), now=False)
    if net.sysctl.tcp_fastopen_key != NO_KEY:
        tcp_fastopen_key_written(net, net.sysctl.tcp_fastopen_key)

    def blackhole_timeout_written(seconds: int) -> None:
        net.tfo_active_disable_times = 0

    net.sysctl.on_write("tcp_fastopen_blackhole_timeout_sec", blackhole_timeout_written)
    net.tcp_cong_list = {}
    allowed = net.sysctl.tcp_allowed_congestion_control
    for module in (tcp_reno, cubictcp()):
        tcp_register_congestion_control(net, module)
    net.sysctl.publish("tcp_allowed_congestion_control", allowed)
    for knob, written in (
        ("tcp_allowed_congestion_control", tcp_set_allowed_congestion_control),
        ("tcp_congestion_control", tcp_set_default_congestion_control),
    ):
        net.sysctl.on_write(knob, partial(written, net))
    net.tcp_ctl_sk = inet_sock(net)
    if net.sysctl.ip_no_pmtu_disc:
        net.tcp_ctl_sk.pmtudisc = uapi.IP_PMTUDISC_DONT
