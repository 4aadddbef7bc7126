"""/proc/net/tcp, udp, raw and their IPv6 twins, sockstat: the sockets of a net."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from functools import partial

from stack.core.bsd_socket import socket
from stack.core.rows import wide
from stack.core.sock import sock_i_ino
from stack.core.tcp_states import TCP_LISTEN, TCP_NEW_SYN_RECV, TCP_SYN_RECV, TCP_TIME_WAIT
from stack.core.time64 import TICK_NS
from stack.core.uapi import AF_INET, AF_INET6
from stack.inet.af_ops import inet_ehash_entries
from stack.inet.inet_connection_sock import (
    ICSK_TIME_LOSS_PROBE,
    ICSK_TIME_PROBE0,
    ICSK_TIME_REO_TIMEOUT,
    ICSK_TIME_RETRANS,
    request_sock,
)
from stack.inet.inet_sock import inet_sock
from stack.inet.inet_timewait_sock import inet_timewait_sock
from stack.inet.tcp_sock import M32, TCP_INFINITE_SSTHRESH, tcp_sock
from stack.inet.udp_hash import udp_port_socks
from stack.net import Net
from stack.proc.text import le_word, le_words, text

ICSK_TIMERS = (
    ICSK_TIME_RETRANS,
    ICSK_TIME_PROBE0,
    ICSK_TIME_LOSS_PROBE,
    ICSK_TIME_REO_TIMEOUT,
)
V4_MAPPED = 0xFFFF << 32

AnyTcp = tcp_sock | request_sock | inet_timewait_sock

# For each family: how wide TCP's lines are, and the columns that name the ends.
WIDTH = {AF_INET: 149, AF_INET6: 0}
ENDS = {
    AF_INET: "local_address rem_address   ",
    AF_INET6: "local_address                         remote_address                        ",
}


def tcp_sockets(net: Net) -> Iterator[AnyTcp]:
    """Listeners, then everything in ehash (connections, requests, TIME_WAIT), in order."""
    info = net.tcp_hashinfo
    for port in sorted(info.lhash2):
        yield from info.lhash2[port]
    seen: set[int] = set()
    for sk in inet_ehash_entries(info):
        if id(sk) not in seen:
            seen.add(id(sk))
            yield sk


def udp_sockets(net: Net) -> Iterator[inet_sock]:
    """The UDP sockets by port."""
    for port in sorted(net.udp_table.ports):
        yield from udp_port_socks(net, port)


def raw_sockets(net: Net) -> Iterator[inet_sock]:
    """The raw sockets by protocol."""
    for _, bucket in sorted(net.raw_hash.items()):
        yield from bucket


def ping_sockets(net: Net) -> Iterator[inet_sock]:
    """The ping sockets by identifier."""
    for _, bucket in sorted(net.ping_table.items()):
        yield from bucket


def shown_address(sk: AnyTcp | inet_sock, addr: wide) -> wide:
    """An address of the socket, a v4-mapped one as IPv6 text on an IPv6 socket."""
    if sk.sk_family == AF_INET6 and sk.sk_af.family == AF_INET:
        return V4_MAPPED | addr
    return addr


def _ends(sk: AnyTcp | inet_sock) -> str:
    word = le_word if sk.sk_family == AF_INET else le_words
    local, remote = shown_address(sk, sk.inet_rcv_saddr), shown_address(sk, sk.inet_daddr)
    return f"{word(local)}:{sk.inet_num:04X} {word(remote)}:{sk.inet_dport:04X}"


def _timer(sk: tcp_sock) -> tuple[int, int]:
    """(kind, ticks left) of the timer that is shown."""
    now = sk.net.now()
    if sk.icsk_pending in ICSK_TIMERS:
        kind = 4 if sk.icsk_pending == ICSK_TIME_PROBE0 else 1
        return kind, max(0, sk.icsk_timeout - now) // TICK_NS
    timer = sk.sk_timer
    if timer is not None and timer.pending:
        return 2, max(0, timer.expires - now) // TICK_NS
    return 0, 0


def sockets_in_use(net: Net) -> int:
    """net/socket.c: sock_inuse_get of the sockets that descriptors refer to."""
    files = net.fdtable.fd.values()
    return len({id(f.private_data) for f in files if isinstance(f.private_data, socket)})


def queues(sk: tcp_sock) -> tuple[int, int]:
    """(receive queue, send queue) of a connection in bytes; of a listener (waiting, backlog)."""
    if sk.sk_state == TCP_LISTEN:
        return sk.sk_ack_backlog, sk.sk_max_ack_backlog
    unread = (sk.rcv_nxt - sk.copied_seq) & M32
    return (0 if unread > M32 >> 1 else unread), (sk.write_seq - sk.snd_una) & M32


def _tcp_sock(sk: tcp_sock) -> str:
    """net/ipv4/tcp_ipv4.c: get_tcp4_sock, from the state on."""
    unread, unacked = queues(sk)
    if sk.sk_state == TCP_LISTEN:
        unacked = 0
    kind, left = _timer(sk)
    ssthresh = -1 if sk.snd_ssthresh >= TCP_INFINITE_SSTHRESH else sk.snd_ssthresh
    return (
        f"{sk.sk_state:02X} {unacked:08X}:{unread:08X} {kind:02X}:{left:08X} "
        f"{sk.icsk_retransmits:08X} {0:5d} {sk.icsk_probes_out:8d} {sock_i_ino(sk)} 1 0 "
        f"{sk.icsk_rto // TICK_NS} {sk.icsk_ack_ato // TICK_NS} 0 {sk.snd_cwnd} {ssthresh}"
    )


def _tcp_row(sk: AnyTcp) -> str:
    if isinstance(sk, inet_timewait_sock):
        timer = sk.tw_timer
        left = max(0, timer.expires - sk.net.now()) // TICK_NS if timer.pending else 0
        return (
            f"{sk.tw_substate:02X} {0:08X}:{0:08X} {3:02X}:{left:08X} {0:08X} {0:5d} {0:8d} 0 3 0"
        )
    if isinstance(sk, request_sock):
        return (
            f"{TCP_SYN_RECV:02X} {0:08X}:{0:08X} {1:02X}:{0:08X} "
            f"{sk.num_timeout:08X} {0:5d} {0:8d} 0 0 0"
        )
    return _tcp_sock(sk)


def _tcp(net: Net, family: int) -> str:
    """net/ipv4/tcp_ipv4.c: tcp4_seq_show, net/ipv6/tcp_ipv6.c: tcp6_seq_show."""
    width = WIDTH[family]
    head = f"  sl  {ENDS[family]}st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode"
    lines = [f"{head:<{width}}"]
    mine = (sk for sk in tcp_sockets(net) if sk.sk_family == family)
    for number, sk in enumerate(mine):
        lines.append(f"{f'{number:4d}: {_ends(sk)} {_tcp_row(sk)}':<{width}}")
    return text(lines)


def _datagram(
    net: Net,
    sockets: Callable[[Net], Iterator[inet_sock]],
    family: int,
    slot: str = "  sl",
    digits: int = 5,
    width: int = 0,
) -> str:
    """net/ipv4/udp.c, raw.c, ping.c: udp4_seq_show, raw_seq_show, ping_v4_seq_show; and IPv6's."""
    head = (
        f"{slot}  {ENDS[family]}st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout "
        "inode ref pointer drops"
    )
    lines = [f"{head:<{width}}"]
    for number, sk in enumerate(sk for sk in sockets(net) if sk.sk_family == family):
        row = (
            f"{number:{digits}d}: {_ends(sk)} {sk.sk_state:02X} {sk.sk_wmem_alloc:08X}:"
            f"{sk.sk_rmem_alloc:08X} {0:02X}:{0:08X} {0:08X} {0:5d} {0:8d} {sock_i_ino(sk)} 2 0 "
            f"{sk.sk_drops}"
        )
        lines.append(f"{row:<{width}}")
    return text(lines)


FILES: dict[str, Callable[[Net], str]] = {
    "tcp": partial(_tcp, family=AF_INET),
    "tcp6": partial(_tcp, family=AF_INET6),
    "udp": partial(_datagram, sockets=udp_sockets, family=AF_INET, slot="   sl", width=127),
    "udp6": partial(_datagram, sockets=udp_sockets, family=AF_INET6),
    "raw": partial(_datagram, sockets=raw_sockets, family=AF_INET, digits=4),
    "raw6": partial(_datagram, sockets=raw_sockets, family=AF_INET6),
    "icmp": partial(_datagram, sockets=ping_sockets, family=AF_INET, width=127),
    "icmp6": partial(_datagram, sockets=ping_sockets, family=AF_INET6),
}
"""The files that list sockets, a line each; icmp has the ping sockets."""


def _count(sockets: Iterable[AnyTcp | inet_sock], family: int) -> int:
    return sum(1 for sk in sockets if sk.sk_family == family)


def sockstat(net: Net) -> str:
    """net/ipv4/proc.c: sockstat_seq_show. Memory is in pages of 4096 bytes."""
    states = [sk.sk_state for sk in tcp_sockets(net) if sk.sk_family == AF_INET]
    remnants = states.count(TCP_TIME_WAIT)
    live = len(states) - remnants - states.count(TCP_NEW_SYN_RECV)
    mem = {name: pool.memory_allocated // 4096 for name, pool in net.prot_mem.items()}
    tcp_mem = net.prot_mem.get("TCP")
    orphans = tcp_mem.orphan_count if tcp_mem is not None else 0
    return text(
        [
            f"sockets: used {sockets_in_use(net)}",
            f"TCP: inuse {live} orphan {orphans} tw {remnants} "
            f"alloc {tcp_mem.sockets_allocated if tcp_mem is not None else 0} "
            f"mem {mem.get('TCP', 0)}",
            f"UDP: inuse {_count(udp_sockets(net), AF_INET)} mem {mem.get('UDP', 0)}",
            "UDPLITE: inuse 0",
            f"RAW: inuse {_count(raw_sockets(net), AF_INET)}",
            f"FRAG: inuse {len(net.ipv4.frags.queues)} memory {net.ipv4.frags.mem}",
        ]
    )


def sockstat6(net: Net) -> str:
    """net/ipv6/proc.c: sockstat6_seq_show."""
    live = sum(
        1
        for sk in tcp_sockets(net)
        if sk.sk_family == AF_INET6 and sk.sk_state not in (TCP_TIME_WAIT, TCP_NEW_SYN_RECV)
    )
    return text(
        [
            f"TCP6: inuse {live}",
            f"UDP6: inuse {_count(udp_sockets(net), AF_INET6)}",
            "UDPLITE6: inuse 0",
            f"RAW6: inuse {_count(raw_sockets(net), AF_INET6)}",
            f"FRAG6: inuse {len(net.ipv6.frags.queues)} memory {net.ipv6.frags.mem}",
        ]
    )


def packet(net: Net) -> str:
    """net/packet/af_packet.c: packet_seq_show."""
    lines = ["sk               RefCnt Type Proto  Iface R Rmem   User   Inode"]
    for sk in net.packet_sklist:
        lines.append(
            f"{0:016x} {2 + sk.running:<6d} {sk.sk_type:<4d} {sk.num:04x}   "
            f"{sk.ifindex:<5d} {sk.running:d} {sk.sk_rmem_alloc:<6d} {net.uid:<6d} "
            f"{sock_i_ino(sk):<6d}"
        )
    return text(lines)


def netlink(net: Net) -> str:
    """net/netlink/af_netlink.c: netlink_native_seq_show."""
    lines = [
        "sk               Eth Pid        Groups   Rmem     Wmem     Dump  Locks    Drops    Inode"
    ]
    for sk in net.nl_table.sockets:
        groups = sum(1 << (number - 1) for number in sk.groups if number <= 32)
        lines.append(
            f"{0:016x} {sk.sk_protocol:<3d} {sk.portid:<10d} {groups:08x} {sk.sk_rmem_alloc:<8d} "
            f"{sk.sk_wmem_alloc:<8d} {sk.cb is not None:<5d} {2:<8d} {sk.sk_drops:<8d} "
            f"{sock_i_ino(sk):<8d}"
        )
    return text(lines)
