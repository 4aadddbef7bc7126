"""The sockets of a net as `ss -a -n -i -m` lists them.

Fields of struct sock, inet_sock and tcp_sock are shown if their row has a label (`ss="cwnd"`).
"""

from __future__ import annotations

from collections.abc import Iterable

from stack.core import tcp_states
from stack.core.rows import Row, narrow, rows_of, wide
from stack.core.sock import sock
from stack.core.time64 import NSEC_PER_MSEC
from stack.core.uapi import AF_INET6
from stack.inet.inet_sock import inet_sock
from stack.inet.inet_timewait_sock import inet_timewait_sock
from stack.inet.tcp_sock import TCP_INFINITE_SSTHRESH, tcp_sock
from stack.ipv4.fib import format_addr
from stack.ipv6.addr import format_addr6
from stack.net import Net
from stack.proc.sockets import AnyTcp, queues, raw_sockets, shown_address, tcp_sockets, udp_sockets
from stack.proc.unix import NETID, unix_ends, unix_queues, unix_sockets

STATES = {
    **{state: name.replace("_", "-") for state, name in tcp_states.STATE_NAMES.items()},
    tcp_states.TCP_ESTABLISHED: "ESTAB",
    tcp_states.TCP_FIN_WAIT1: "FIN-WAIT-1",
    tcp_states.TCP_FIN_WAIT2: "FIN-WAIT-2",
    tcp_states.TCP_CLOSE: "UNCONN",
    tcp_states.TCP_NEW_SYN_RECV: "SYN-RECV",
}
COLUMNS = "{:<5} {:<10} {:<6} {:<6} {:>24} {:>24}"
HEAD = COLUMNS.format(
    "Netid", "State", "Recv-Q", "Send-Q", "Local Address:Port", "Peer Address:Port"
)
SKMEM = ("r", "rb", "t", "tb", "f", "w", "o", "bl", "d")
NS_AS_MS = frozenset({"rto", "ato"})
AGES = frozenset({"lastsnd"})


def _labels(cls: type, skip: Iterable[str] = ()) -> list[Row]:
    return [entry for entry in rows_of(cls).values() if entry.ss and entry.ss not in skip]


MEMORY = {entry.ss: entry.name for entry in _labels(sock)}
TCP_INFO = _labels(tcp_sock, (*SKMEM, "sk", "fwmark", "tos"))


def _ipv6only(sk: AnyTcp | inet_sock) -> bool:
    return isinstance(sk, inet_sock) and sk.sk_ipv6only


def end_text(sk: AnyTcp | inet_sock, addr: wide, port: int) -> str:
    """One end of a connection: address, interface that it is bound to, port."""
    shown = shown_address(sk, addr)
    if sk.sk_family == AF_INET6:
        host = f"[{format_addr6(shown)}]" if shown else "[::]" if _ipv6only(sk) else "*"
    else:
        host = format_addr(narrow(shown))
    device = sk.net.dev_by_index.get(sk.sk_bound_dev_if)
    return f"{host}{'%' + device.name if device else ''}:{port or '*'}"


def skmem(sk: sock) -> str:
    """What `ss -m` prints: receive, send and other memory of a socket, in bytes."""
    return f"skmem:({','.join(f'{label}{getattr(sk, MEMORY[label])}' for label in SKMEM)})"


def tcp_info(sk: tcp_sock) -> str:
    """What `ss -i` prints: the congestion control, each labelled row that is not empty, and last
    the algorithm's own state, as Linux has for BBR: `cubic:(phase:avoidance,w_max:120,...)`."""
    out = [sk.icsk_ca_ops.name]
    opt = sk.rx_opt
    if opt.tstamp_ok:
        out.insert(0, "ts")
    if opt.sack_ok:
        out.insert(len(out) - 1, "sack")
    if opt.wscale_ok:
        out.append(f"wscale:{opt.snd_wscale},{opt.rcv_wscale}")
    now = sk.net.now()
    for entry in TCP_INFO:
        value = getattr(sk, entry.name)
        if not value or (entry.ss == "ssthresh" and value >= TCP_INFINITE_SSTHRESH):
            continue
        if entry.ss in AGES:
            out.append(f"{entry.ss}:{(now - value) // NSEC_PER_MSEC}")
        elif entry.ss in NS_AS_MS:
            out.append(f"{entry.ss}:{value / 1e6:g}")
        else:
            out.append(f"{entry.ss}:{value}")
    if sk.srtt_us:
        out.append(f"rtt:{sk.srtt_us / 8000:g}/{sk.mdev_us / 4000:g}")
        out.append(f"minrtt:{sk.min_rtt_us / 1000:g}")
    ca = sk.icsk_ca_ops
    if ca.get_info is not None:
        own = ",".join(f"{name}:{value}" for name, value in ca.get_info(sk).items())
        out.append(f"{ca.name}:({own})")
    return " ".join(out)


def _row(sk: AnyTcp | inet_sock, netid: str, recv: int, send: int) -> str:
    state = sk.tw_substate if isinstance(sk, inet_timewait_sock) else sk.sk_state
    local = end_text(sk, sk.inet_rcv_saddr, sk.inet_num)
    peer = end_text(sk, sk.inet_daddr, sk.inet_dport) if sk.inet_dport else _any_end(sk)
    return COLUMNS.format(netid, STATES[state], recv, send, local, peer)


def _any_end(sk: AnyTcp | inet_sock) -> str:
    if sk.sk_family == AF_INET6:
        return "[::]:*" if _ipv6only(sk) else "*:*"
    return "0.0.0.0:*"


def ss(net: Net, *, info: bool = False, memory: bool = False) -> str:
    """The sockets of `net`; with `info` a second line tells TCP's state, with `memory` skmem."""
    lines = [HEAD]
    with net.lock:
        for un in unix_sockets(net):
            lines.append(
                COLUMNS.format(
                    NETID[un.sk_type], STATES[un.sk_state], *unix_queues(un), *unix_ends(un)
                )
            )
            if memory:
                lines.append(f"\t {skmem(un)}")
        for netid, sockets in (("raw", raw_sockets(net)), ("udp", udp_sockets(net))):
            for sk in sockets:
                lines.append(_row(sk, netid, sk.sk_rmem_alloc, sk.sk_wmem_alloc))
                if memory:
                    lines.append(f"\t {skmem(sk)}")
        for some in tcp_sockets(net):
            if not isinstance(some, tcp_sock):
                lines.append(_row(some, "tcp", 0, 0))
                continue
            lines.append(_row(some, "tcp", *queues(some)))
            extra = [skmem(some)] if memory else []
            if info and some.sk_state != tcp_states.TCP_LISTEN:
                extra.append(tcp_info(some))
            if extra:
                lines.append(f"\t {' '.join(extra)}")
    return "\n".join(line.rstrip() for line in lines) + "\n"
