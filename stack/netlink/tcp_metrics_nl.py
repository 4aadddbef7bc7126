"""net/ipv4/tcp_metrics.c: the family "tcp_metrics" of NETLINK_GENERIC, which `ip tcp_metrics` uses.

It shows and deletes the cached metrics of peers (stack/inet/tcp_metrics.py).
"""

from __future__ import annotations

import errno
from collections.abc import Iterator
from socket import htonl, ntohl
from typing import Any

from stack.core.rows import wide
from stack.core.time64 import NSEC_PER_MSEC
from stack.core.uapi import AF_INET, AF_INET6
from stack.inet.tcp_metrics import tcp_metrics_block
from stack.net import Net
from stack.netlink.genetlink import (
    ADMIN,
    genl_family,
    genl_op,
    genl_register_family,
    genlmsg_part,
    genlmsg_reply,
)
from stack.netlink.netlink_sock import nlmsg
from stack.netlink.nlattr import (
    BINARY,
    IN6,
    LIBERAL,
    NESTED,
    U16,
    U32,
    U64,
    Attr,
    Attrs,
    AttrTable,
    NlError,
)

TCP_METRICS_ID = 22
CMD_GET, CMD_DEL = 1, 2
V4_MAPPED = 0xFFFF
ADDR = ("ADDR_IPV4", "ADDR_IPV6")
SADDR = ("SADDR_IPV4", "SADDR_IPV6")
TCP_METRICS_VALS = AttrTable(
    "TCP_METRIC",
    *(
        Attr(name, number, U32)
        for number, name in enumerate(
            ("RTT", "RTTVAR", "SSTHRESH", "CWND", "REORDERING", "RTT_US", "RTTVAR_US"), 1
        )
    ),
)
TCP_METRICS = AttrTable(
    "TCP_METRICS_ATTR",
    Attr("ADDR_IPV4", 1, U32),
    Attr("ADDR_IPV6", 2, BINARY, legal=range(16, 17)),
    Attr("AGE", 3, U64, told=True),
    Attr("VALS", 6, NESTED, inner=TCP_METRICS_VALS, told=True),
    Attr("FOPEN_MSS", 7, U16, told=True),
    Attr("FOPEN_SYN_DROPS", 8, U16, told=True),
    Attr("FOPEN_SYN_DROP_TS", 9, U64, told=True),
    Attr("FOPEN_COOKIE", 10, BINARY, told=True),
    Attr("SADDR_IPV4", 11, U32),
    Attr("SADDR_IPV6", 12, BINARY, legal=range(16, 17)),
)
Key = tuple[int, wide, wide]
"""(family, saddr, daddr)."""


def tcp_metrics_vals(tm: tcp_metrics_block) -> dict[str, int]:
    """TCP_METRICS_ATTR_VALS: the known metrics. RTT and RTTVAR without _US are ms."""
    vals = {
        "RTT_US": tm.rtt,
        "RTT": max(tm.rtt // 1000, min(tm.rtt, 1)),
        "RTTVAR_US": tm.rttvar,
        "RTTVAR": max(tm.rttvar // 1000, min(tm.rttvar, 1)),
        "SSTHRESH": tm.ssthresh,
        "CWND": tm.cwnd,
        "REORDERING": tm.reordering,
    }
    return {name: value for name, value in vals.items() if value}


def tcp_metrics_fill_info(net: Net, key: Key, tm: tcp_metrics_block) -> bytes:
    """net/ipv4/tcp_metrics.c: the attributes of a peer. Times are ms ago."""
    tfom = tm.tcpm_fastopen
    family, saddr, daddr = key
    now: int = net.clock.now_ns()
    put: Any = htonl if family == AF_INET else IN6.put
    kind = 0 if family == AF_INET else 1
    told: dict[str, Any] = {
        ADDR[kind]: put(daddr),
        SADDR[kind]: put(saddr),
        "AGE": (now - tm.tcpm_stamp) // NSEC_PER_MSEC,
        "VALS": tcp_metrics_vals(tm) or None,
        "FOPEN_MSS": tfom.mss or None,
        "FOPEN_COOKIE": tfom.cookie.val or None,
    }
    if tfom.syn_loss:
        told["FOPEN_SYN_DROPS"] = min(tfom.syn_loss, 0xFFFF)
        told["FOPEN_SYN_DROP_TS"] = (now - tfom.last_syn_loss) // NSEC_PER_MSEC
    return TCP_METRICS.build(told)


def parse_nl_addr(tb: Attrs, names: tuple[str, str]) -> tuple[int, wide] | None:
    """net/ipv4/tcp_metrics.c: (family, address) of a request; None: it names none."""
    if names[0] in tb:
        return AF_INET, ntohl(tb[names[0]])
    if names[1] not in tb:
        return None
    addr = IN6.get(tb[names[1]])
    return (AF_INET, addr & 0xFFFFFFFF) if addr >> 32 == V4_MAPPED else (AF_INET6, addr)


def of_peer(net: Net, tb: Attrs, dst: tuple[int, wide]) -> list[Key]:
    """The cached metrics of a destination, from the request's source, if given."""
    src = parse_nl_addr(tb, SADDR)
    return [
        key
        for key in net.tcp_metrics
        if (key[0], key[2]) == dst and (src is None or (key[0], key[1]) == src)
    ]


def tcp_metrics_nl_cmd_get(nlh: nlmsg, tb: Attrs) -> None:
    """net/ipv4/tcp_metrics.c. Raises: NlError EAFNOSUPPORT: no address, ESRCH: an unknown one."""
    net = nlh.sk.net
    dst = parse_nl_addr(tb, ADDR)
    if dst is None:
        raise NlError(errno.EAFNOSUPPORT)
    found = of_peer(net, tb, dst)
    if not found:
        raise NlError(errno.ESRCH)
    told = tcp_metrics_fill_info(net, found[-1], net.tcp_metrics[found[-1]])
    genlmsg_reply(nlh, tcp_metrics_nl_family, CMD_GET, told)


def tcp_metrics_nl_dump(nlh: nlmsg, tb: Attrs) -> Iterator[bytes]:
    """net/ipv4/tcp_metrics.c: all peers."""
    net = nlh.sk.net
    for key, tm in list(net.tcp_metrics.items()):
        told = tcp_metrics_fill_info(net, key, tm)
        yield genlmsg_part(nlh, tcp_metrics_nl_family, CMD_GET, told)


def tcp_metrics_nl_cmd_del(nlh: nlmsg, tb: Attrs) -> None:
    """net/ipv4/tcp_metrics.c: delete a destination, or all. Raises: NlError ESRCH."""
    net = nlh.sk.net
    dst = parse_nl_addr(tb, ADDR)
    if dst is None:
        net.tcp_metrics.clear()
        return
    found = of_peer(net, tb, dst)
    for key in found:
        del net.tcp_metrics[key]
    if not found:
        raise NlError(errno.ESRCH)


tcp_metrics_nl_family = genl_family(
    TCP_METRICS_ID,
    "tcp_metrics",
    1,
    (
        genl_op(
            CMD_GET,
            tcp_metrics_nl_cmd_get,
            tcp_metrics_nl_dump,
            TCP_METRICS,
            validate=LIBERAL,
            dump_policy=False,
        ),
        genl_op(CMD_DEL, tcp_metrics_nl_cmd_del, None, TCP_METRICS, ADMIN, LIBERAL),
    ),
    maxattr=13,
    resv_start_op=CMD_DEL + 1,
)


def tcp_metrics_net_init(net: Net) -> None:
    """net/ipv4/tcp_metrics.c: the family in a namespace."""
    genl_register_family(net, tcp_metrics_nl_family)
