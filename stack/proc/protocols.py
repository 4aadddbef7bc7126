"""/proc/net/protocols: the kinds of sockets, and their numbers."""

from __future__ import annotations

from collections import Counter

from stack.inet.tcp_sock import tcp_sock
from stack.net import Net
from stack.proc.sockets import ping_sockets, raw_sockets, tcp_sockets, udp_sockets
from stack.proc.text import text

METHODS = (
    "close",
    "connect",
    "disconnect",
    "accept",
    "ioctl",
    "init",
    "destroy",
    "shutdown",
    "setsockopt",
    "getsockopt",
    "sendmsg",
    "recvmsg",
    "bind",
    "backlog_rcv",
    "hash",
    "unhash",
    "get_port",
    "enter_memory_pressure",
)
"""The slots of a proto in the order of the columns of /proc/net/protocols."""
LIMITED = ("TCP", "UDP")
"""Accounts of memory with a sysctl."""


def protocols(net: Net) -> str:
    """net/core/sock.c proto_seq_show: the newest first. Sizes are of our socks, memory in pages."""
    counted: Counter[str] = Counter()
    live = (sk for sk in tcp_sockets(net) if isinstance(sk, tcp_sock))
    others = (net.packet_sklist, net.nl_table.sockets, net.unx.sockets.values())
    for kind in (live, udp_sockets(net), raw_sockets(net), ping_sockets(net), *others):
        counted.update(sk.sk_prot.name for sk in kind)
    lines = [
        "protocol  size sockets  memory press maxhdr  slab module     "
        "cl co di ac io in de sh ss gs se re bi br ha uh gp em"
    ]
    for prot in reversed(net.proto_list):
        account = prot.memory or prot.name
        mem = net.prot_mem.get(account)
        pages, press = -1, "NI"
        if account in LIMITED and mem is not None:
            pages = mem.memory_allocated // 4096
        if prot.enter_memory_pressure is not None:
            press = "yes" if mem is not None and mem.memory_pressure else "no"
        has = "  ".join("n" if getattr(prot, name) is None else "y" for name in METHODS)
        lines.append(
            f"{prot.name:<9s} {prot.sock_class.__basicsize__:4d} {counted[prot.name]:6d}  "
            f"{pages:6d}   {press:<3s}   {0:5d}   {'no':<3s}  {'kernel':<10s}  {has}"
        )
    return text(lines)
