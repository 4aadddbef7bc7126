"""net/ipv4/tcp_fastopen.c: TCP Fast Open (RFC 7413): keys, cookies, and when not to use them.

A server gives a client a cookie: a hash of both addresses under the server's key. A later SYN that
brings the cookie may carry data, which the server's application reads before the handshake is over.

    client  tcp_connect_begin -> tcp_fastopen_defer_connect      TCP_FASTOPEN_CONNECT
            tcp_sendmsg -> tcp_sendmsg_fastopen                  MSG_FASTOPEN, or the deferred SYN
            tcp_connect -> tcp_send_syn_data -> tcp_fastopen_cookie_check
            tcp_rcv_synsent_state_process -> tcp_rcv_fastopen_synack       (tcp_input.py)
    server  tcp_conn_request -> tcp_try_fastopen                 (tcp_request.py)
                tcp_fastopen_queue_check, tcp_fastopen_cookie_gen_check    here
                tcp_fastopen_create_child
            tcp_retransmit_timer -> tcp_fastopen_synack_timer    (tcp_timer.py)
            tcp_rcv_state_process -> tcp_check_req, then reqsk_fastopen_remove

State: the namespace has its keys (`net.tcp_fastopen_ctx`) and counts paths that drop such SYNs.
A listener has a `fastopen_queue`. A client's `fastopen_req` lives while its SYN is made, a child's
`fastopen_rsk` until the handshake is over. tcp_metrics.py keeps the client's cookies.
"""

from __future__ import annotations

import errno
import struct

from fastpath.base.skbuff import sk_buff
from fastpath.net.hdr import ip_hdr, ipv6_hdr
from fastpath.net.inetkey import siphash
from stack.core.dst import dst_entry
from stack.core.errors import os_error
from stack.core.netdevice import IFF_LOOPBACK
from stack.core.tcp_states import TCPF_CLOSE, TCPF_LISTEN
from stack.core.time64 import NSEC_PER_SEC
from stack.core.uapi import AF_INET
from stack.inet.inet_connection_sock import fastopen_queue, request_sock
from stack.inet.tcp_metrics import tcp_fastopen_cache_get
from stack.inet.tcp_sock import TCPHDR_FIN, tcp_fastopen_cookie, tcp_fastopen_request, tcp_sock
from stack.net import Net

# sysctl tcp_fastopen
TFO_CLIENT_ENABLE = 1
TFO_SERVER_ENABLE = 2
TFO_CLIENT_NO_COOKIE = 4
TFO_SERVER_COOKIE_NOT_REQD = 0x200
TFO_SERVER_WO_SOCKOPT1 = 0x400

TCP_FASTOPEN_KEY_LENGTH = 16
TCP_FASTOPEN_COOKIE_SIZE = 8

# tcpi_fastopen_client_fail
TFO_COOKIE_UNAVAILABLE = 1
TFO_DATA_NOT_ACKED = 2
TFO_SYN_RETRANSMITTED = 3


# --- keys ---------------------------------------------------------------------------------


def tcp_fastopen_keys_of(text: str) -> tuple[bytes, ...]:
    """The keys that a value of sysctl tcp_fastopen_key names; the first makes cookies."""
    words = [[int(word, 16) for word in key.split("-")] for key in text.split(",")]
    return tuple(struct.pack("<4I", *key) for key in words)


def tcp_fastopen_keys_text(keys: tuple[bytes, ...]) -> str:
    """The value of sysctl tcp_fastopen_key that names `keys`."""
    return ",".join("-".join(f"{w:08x}" for w in struct.unpack("<4I", key)) for key in keys)


def tcp_fastopen_init_key_once(net: Net) -> None:
    """Create a key unless the namespace has one."""
    if not net.tcp_fastopen_ctx:
        net.tcp_fastopen_ctx = (net.random.randbytes(TCP_FASTOPEN_KEY_LENGTH),)
        net.sysctl.publish("tcp_fastopen_key", tcp_fastopen_keys_text(net.tcp_fastopen_ctx))


def tcp_fastopen_get_ctx(sk: tcp_sock) -> tuple[bytes, ...]:
    """include/net/tcp.h: the keys of a listener: its own, else the namespace's."""
    queue = sk.fastopenq
    if queue is not None and queue.ctx:
        return queue.ctx
    return sk.net.tcp_fastopen_ctx


def tcp_fastopen_queue(sk: tcp_sock) -> fastopen_queue:
    """The socket's queue, created when an option first needs it."""
    if sk.fastopenq is None:
        sk.fastopenq = fastopen_queue()
    return sk.fastopenq


def fastopen_queue_tune(sk: tcp_sock, backlog: int) -> None:
    """include/linux/tcp.h: allow `backlog` children with an unfinished handshake."""
    tcp_fastopen_queue(sk).max_qlen = min(backlog, sk.net.sysctl.somaxconn)


def tcp_fastopen_set_backlog(sk: tcp_sock, val: int) -> None:
    """TCP_FASTOPEN. Raises: OSError EINVAL."""
    if val < 0 or not (1 << sk.sk_state) & (TCPF_CLOSE | TCPF_LISTEN):
        raise os_error(errno.EINVAL, "TCP_FASTOPEN: a length, before there is a connection")
    tcp_fastopen_init_key_once(sk.net)
    fastopen_queue_tune(sk, val)


def tcp_fastopen_set_connect(sk: tcp_sock, val: int) -> None:
    """TCP_FASTOPEN_CONNECT. Raises: OSError EOPNOTSUPP, EINVAL."""
    if not sk.net.sysctl.tcp_fastopen & TFO_CLIENT_ENABLE:
        raise os_error(errno.EOPNOTSUPP, "TCP_FASTOPEN_CONNECT: sysctl tcp_fastopen has not bit 1")
    if not (1 << sk.sk_state) & TCPF_CLOSE:
        raise os_error(errno.EINVAL, "TCP_FASTOPEN_CONNECT: the socket is connected")
    sk.fastopen_connect = bool(val)


def tcp_fastopen_set_key(sk: tcp_sock, val: bytes) -> None:
    """TCP_FASTOPEN_KEY: one key or two. Raises: OSError EINVAL."""
    if len(val) not in (TCP_FASTOPEN_KEY_LENGTH, 2 * TCP_FASTOPEN_KEY_LENGTH):
        raise os_error(errno.EINVAL, f"TCP_FASTOPEN_KEY: {len(val)} bytes; a key has 16")
    size = TCP_FASTOPEN_KEY_LENGTH
    tcp_fastopen_queue(sk).ctx = tuple(val[i : i + size] for i in range(0, len(val), size))


def tcp_fastopen_listen(sk: tcp_sock, backlog: int) -> None:
    """__inet_listen_sk: sysctl tcp_fastopen may enable every listener (TFO_SERVER_WO_SOCKOPT1)."""
    wanted = TFO_SERVER_ENABLE | TFO_SERVER_WO_SOCKOPT1
    if sk.net.sysctl.tcp_fastopen & wanted != wanted:
        return
    if sk.fastopenq is None or not sk.fastopenq.max_qlen:
        tcp_fastopen_init_key_once(sk.net)
        fastopen_queue_tune(sk, backlog)


# --- the server's cookies -------------------------------------------------------------------


def tcp_fastopen_cookie_gen(key: bytes, syn: sk_buff, family: int) -> bytes:
    """__tcp_fastopen_cookie_gen_cipher: the cookie for the sender of a SYN. Borrows syn."""
    if family == AF_INET:
        iph = ip_hdr(syn)
        ends = struct.pack(">II", iph.saddr, iph.daddr)
    else:
        ip6h = ipv6_hdr(syn)
        ends = ip6h.saddr.to_bytes(16, "big") + ip6h.daddr.to_bytes(16, "big")
    return siphash(key, ends).to_bytes(TCP_FASTOPEN_COOKIE_SIZE, "little")


def tcp_fastopen_cookie_gen_check(
    sk: tcp_sock, req: request_sock, syn: sk_buff, orig: bytes
) -> tuple[int, bytes | None]:
    """Compare the cookie of a SYN with the one of each key: (which matches, the first key's).

    0: none matches; 1: the first; 2: the second, so the client needs a new cookie.
    """
    valid = None
    for number, key in enumerate(tcp_fastopen_get_ctx(sk), 1):
        cookie = tcp_fastopen_cookie_gen(key, syn, req.sk_family)
        if valid is None:
            valid = cookie
        if cookie == orig:
            return number, valid
    return 0, valid


def tcp_fastopen_queue_check(sk: tcp_sock) -> bool:
    """Whether the listener allows one more child with an unfinished handshake.

    A child ended by a RST counts for one more minute, to limit forged SYNs.
    """
    queue = sk.fastopenq
    if queue is None or not queue.max_qlen:
        return False
    if queue.qlen >= queue.max_qlen:
        if not queue.rst or queue.rst[0] > sk.net.clock.now_ns():
            sk.net.mib.linux.TCPFastOpenListenOverflow += 1
            return False
        queue.rst.popleft()
        queue.qlen -= 1
    return True


def tcp_fastopen_no_cookie(sk: tcp_sock, dst: dst_entry | None, flag: int) -> bool:
    """Whether no cookie is needed: by sysctl `flag`, socket option or route."""
    return bool(
        sk.net.sysctl.tcp_fastopen & flag
        or sk.fastopen_no_cookie
        or (dst is not None and dst.metrics.get("fastopen_no_cookie", 0))
    )


# --- the client -----------------------------------------------------------------------------


def tcp_fastopen_cookie_check(sk: tcp_sock, cookie: tcp_fastopen_cookie) -> bool:
    """Fill in `cookie` for a SYN to sk's peer; whether the SYN may carry data."""
    mss = tcp_fastopen_cache_get(sk, cookie)
    if mss:
        sk.rx_opt.mss_clamp = mss
    if tcp_fastopen_active_should_disable(sk):
        cookie.val = None
        return False
    if tcp_fastopen_no_cookie(sk, sk.sk_dst_cache, TFO_CLIENT_NO_COOKIE):
        cookie.val = None
        return True
    if cookie.val:
        return True
    sk.fastopen_client_fail = TFO_COOKIE_UNAVAILABLE
    return False


def tcp_fastopen_defer_connect(sk: tcp_sock) -> bool:
    """TCP_FASTOPEN_CONNECT: whether connect sends nothing, because the first write will.

    That needs a cookie. Without one the SYN is sent and requests it.
    """
    if not sk.fastopen_connect or sk.fastopen_req is not None:
        return False
    mss_clamp = sk.rx_opt.mss_clamp
    usable = tcp_fastopen_cookie_check(sk, tcp_fastopen_cookie())
    sk.rx_opt.mss_clamp = mss_clamp
    if usable:
        sk.defer_connect = True
        return True
    sk.fastopen_req = tcp_fastopen_request()
    return False


# --- paths that drop SYNs with data ---------------------------------------------------------


def tcp_fastopen_active_disable(net: Net) -> None:
    """A middlebox seems to drop such connections: disable Fast Open for a while."""
    if net.sysctl.tcp_fastopen_blackhole_timeout_sec:
        net.tfo_active_disable_stamp = net.clock.now_ns()
        net.tfo_active_disable_times += 1
        net.mib.linux.TCPFastOpenBlackhole += 1


def tcp_fastopen_active_should_disable(sk: tcp_sock) -> bool:
    """Whether Fast Open is disabled now; the time doubles up to 64 times the sysctl's."""
    net = sk.net
    timeout = net.sysctl.tcp_fastopen_blackhole_timeout_sec
    times = net.tfo_active_disable_times
    if not timeout or not times:
        return False
    until = net.tfo_active_disable_stamp + (timeout * NSEC_PER_SEC << min(times - 1, 6))
    if net.clock.now_ns() < until:
        return True
    sk.syn_fastopen_ch = True  # success of this one resets the count
    return False


def tcp_fastopen_active_disable_ofo_check(sk: tcp_sock) -> None:
    """The connection ends: detect a black hole (only a FIN out of order) or a success."""
    if not sk.syn_fastopen:
        return
    net = sk.net
    if not sk.data_segs_in:
        queue = sk.out_of_order_queue
        if len(queue) == 1 and queue[0].tcp_flags & TCPHDR_FIN:
            tcp_fastopen_active_disable(net)
    elif sk.syn_fastopen_ch and net.tfo_active_disable_times:
        dst = sk.sk_dst_cache
        if dst is None or not dst.dev.flags & IFF_LOOPBACK:
            net.tfo_active_disable_times = 0


def tcp_fastopen_active_detect_blackhole(sk: tcp_sock, expired: bool) -> None:
    """A timeout: the third in a row, or the last, of a connection with data in its SYN."""
    timeouts = sk.icsk_retransmits
    if (sk.syn_fastopen or sk.syn_data or sk.syn_data_acked) and (
        timeouts == 2 or (timeouts < 2 and expired)
    ):
        tcp_fastopen_active_disable(sk.net)
        sk.net.mib.linux.TCPFastOpenActiveFail += 1
