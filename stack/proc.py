"""/proc/net as Linux prints it: dev, snmp, netstat, arp, route, tcp, udp, softnet_stat ...

`read(net, "dev")` returns the file's text; `FILES` names what there is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

from stack.core.dev import dev_get_stats
from stack.core.neigh_table import NUD_NOARP, neighbour
from stack.core.softirq import SOFTIRQ_NAMES
from stack.core.tcp_states import TCP_LISTEN, TCP_NEW_SYN_RECV, TCP_SYN_RECV, TCP_TIME_WAIT
from stack.ipv4.arp import arp_state_to_flags

USER_HZ = 100
_TICK_NS = 1_000_000_000 // USER_HZ


def dotted(addr: int) -> str:
    """Host-order int to "10.0.0.1"."""
    return ".".join(str(addr >> shift & 255) for shift in (24, 16, 8, 0))


def _le(addr: int) -> int:
    """A host-order address as a little-endian CPU prints its network-order word with %08X."""
    return int.from_bytes(addr.to_bytes(4, "big"), "little")


# --- devices -----------------------------------------------------------------------------------


def dev(net: Any) -> str:
    """net/core/net-procfs.c: dev_seq_show."""
    lines = [
        "Inter-|   Receive                                                |  Transmit",
        " face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs "
        "drop fifo colls carrier compressed",
    ]
    for device in net.dev_base_head:
        s = dev_get_stats(device)
        lines.append(
            f"{device.name:>6}: {s.rx_bytes:7d} {s.rx_packets:7d} {s.rx_errors:4d} "
            f"{s.rx_dropped + s.rx_missed_errors:4d} {s.rx_fifo_errors:4d} "
            f"{s.rx_length_errors + s.rx_over_errors + s.rx_crc_errors + s.rx_frame_errors:5d} "
            f"{s.rx_compressed:10d} {s.multicast:9d} {s.tx_bytes:8d} {s.tx_packets:7d} "
            f"{s.tx_errors:4d} {s.tx_dropped:4d} {s.tx_fifo_errors:4d} {s.collisions:5d} "
            f"{_carrier_errors(s):7d} {s.tx_compressed:10d}"
        )
    return _text(lines)


def _carrier_errors(s: Any) -> int:
    return s.tx_carrier_errors + s.tx_aborted_errors + s.tx_window_errors + s.tx_heartbeat_errors


def softnet_stat(net: Any) -> str:
    """net/core/net-procfs.c: softnet_seq_show; one line, for the one CPU of the host."""
    sd = net.machine.softnet_data
    values = [sd.processed, sd.dropped, sd.time_squeeze, *[0] * 8, sd.input_pkt_queue.qlen]
    values += [0, sd.input_pkt_queue.qlen, sd.process_queue.qlen]
    return _text([" ".join(f"{value:08x}" for value in values)])


def softirqs(net: Any) -> str:
    """fs/proc/softirqs.c."""
    lines = ["                    CPU0       "]
    lines += [
        f"{name:>12}: {count:10d}"
        for name, count in zip(SOFTIRQ_NAMES, net.machine.softirq_stats, strict=True)
    ]
    return _text(lines)


def interrupts(net: Any) -> str:
    """fs/proc/interrupts.c: line, count, handlers."""
    lines = ["           CPU0       "]
    for irq, desc in sorted(net.machine.irq_descs.items()):
        names = ", ".join(action.name for action in desc.actions)
        lines.append(f"{irq:>3}: {desc.count:10d}   level     {names}")
    return _text(lines)


# --- counters ----------------------------------------------------------------------------------


def _group(name: str, items: Iterable[tuple[str, int]]) -> list[str]:
    pairs = list(items)
    names = " ".join(key for key, _ in pairs)
    values = " ".join(str(value) for _, value in pairs)
    return [f"{name}: {names}", f"{name}: {values}"]


def snmp(net: Any) -> str:
    """net/ipv4/proc.c: snmp_seq_show."""
    mib = net.mib
    mib.ip.Forwarding = 1 if net.sysctl.ip_forward else 2
    mib.ip.DefaultTTL = net.sysctl.ip_default_ttl
    lines = _group("Ip", mib.ip.items())
    lines += _group("Icmp", mib.icmp.items())
    if mib.icmpmsg.intype or mib.icmpmsg.outtype:
        lines += _group("IcmpMsg", mib.icmpmsg.items())
    lines += _group("Tcp", mib.tcp.items())
    lines += _group("Udp", mib.udp.items())
    lines += _group("UdpLite", mib.udplite.items())
    return _text(lines)


def netstat(net: Any) -> str:
    """net/ipv4/proc.c: netstat_seq_show."""
    return _text(_group("TcpExt", net.mib.linux.items()) + _group("IpExt", net.mib.ipext.items()))


# --- neighbours and routes ---------------------------------------------------------------------


def arp(net: Any) -> str:
    """net/ipv4/arp.c: arp_seq_show."""
    lines = ["IP address       HW type     Flags       HW address            Mask     Device"]
    entries: list[neighbour] = list(net.arp_tbl)
    for n in entries:
        if n.nud_state & NUD_NOARP:
            continue
        lines.append(
            f"{dotted(n.primary_key):<16} 0x{n.dev.type:<10x}0x{arp_state_to_flags(n):<10x}"
            f"{n.ha.hex(':'):<17}     *        {n.dev.name}"
        )
    return _text(lines)


RTF_UP, RTF_GATEWAY, RTF_HOST, RTF_REJECT = 0x1, 0x2, 0x4, 0x200
RTN_LOCAL, RTN_BROADCAST, RTN_MULTICAST, RTN_UNREACHABLE, RTN_PROHIBIT = 2, 3, 5, 7, 8


def route(net: Any) -> str:
    """net/ipv4/fib_trie.c: fib_route_seq_show (main table)."""
    from stack.ipv4.fib import fib_dump

    head = "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT"
    lines = [f"{head:<127}"]
    for row in fib_dump(net):
        if row["type"] in (RTN_BROADCAST, RTN_MULTICAST):
            continue
        flags = RTF_UP
        if row["type"] in (RTN_UNREACHABLE, RTN_PROHIBIT):
            flags |= RTF_REJECT
        if row["gw"]:
            flags |= RTF_GATEWAY
        if row["plen"] == 32:
            flags |= RTF_HOST
        mask = 0xFFFFFFFF << (32 - row["plen"]) & 0xFFFFFFFF
        mtu = row["mtu"]
        line = (
            f"{row['dev'] or '*'}\t{_le(row['dst']):08X}\t{_le(row['gw']):08X}\t{flags:04X}\t0\t0\t"
            f"{row['metric']}\t{_le(mask):08X}\t{mtu + 40 if mtu else 0}\t0\t0"
        )
        lines.append(f"{line:<127}")
    return _text(lines)


# --- sockets -----------------------------------------------------------------------------------

_TCP_HEAD = (
    "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout "
    "inode"
)
_UDP_HEAD = (
    "   sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout "
    "inode ref pointer drops"
)


def tcp_sockets(net: Any) -> Iterator[Any]:
    """Listeners, then everything in ehash (connections, requests, TIME_WAIT), in order."""
    info = getattr(net, "tcp_hashinfo", None)
    if info is None:
        return
    for port in sorted(info.lhash2):
        yield from info.lhash2[port]
    seen: set[int] = set()
    for sk in info.ehash.values():
        if id(sk) not in seen:
            seen.add(id(sk))
            yield sk


def _ends(local: int, lport: int, remote: int, rport: int) -> str:
    return f"{_le(local):08X}:{lport:04X} {_le(remote):08X}:{rport:04X}"


def _timer(net: Any, sk: Any) -> tuple[int, int]:
    """(kind, ticks left) of the timer that /proc/net/tcp shows."""
    now = net.now()
    pending = getattr(sk, "icsk_pending", 0)
    timeout = getattr(sk, "icsk_timeout", 0)
    if pending in (1, 3, 5, 6):  # RETRANS, PROBE0 and kin
        return (4 if pending == 3 else 1), max(0, timeout - now) // _TICK_NS
    timer = getattr(sk, "sk_timer", None)
    if timer is not None and getattr(timer, "pending", False):
        return 2, max(0, timer.expires - now) // _TICK_NS
    return 0, 0


def tcp(net: Any) -> str:
    """net/ipv4/tcp_ipv4.c: tcp4_seq_show."""
    lines = [f"{_TCP_HEAD:<149}"]
    for number, sk in enumerate(tcp_sockets(net)):
        state = sk.sk_state
        if state == TCP_TIME_WAIT:
            timer = sk.tw_timer
            left = max(0, timer.expires - net.now()) // _TICK_NS if timer.pending else 0
            ends = _ends(sk.inet_rcv_saddr, sk.inet_num, sk.inet_daddr, sk.inet_dport)
            text = (
                f"{number:4d}: {ends} {sk.tw_substate:02X} {0:08X}:{0:08X} {3:02X}:{left:08X} "
                f"{0:08X} {0:5d} {0:8d} 0 3 0"
            )
        elif state == TCP_NEW_SYN_RECV:
            ends = _ends(sk.inet_rcv_saddr, sk.inet_num, sk.inet_daddr, sk.inet_dport)
            text = (
                f"{number:4d}: {ends} {TCP_SYN_RECV:02X} {0:08X}:{0:08X} {1:02X}:{0:08X} "
                f"{sk.num_timeout:08X} {0:5d} {0:8d} 0 0 0"
            )
        else:
            text = f"{number:4d}: " + _tcp4_sock(net, sk)
        lines.append(f"{text:<149}")
    return _text(lines)


def _tcp4_sock(net: Any, sk: Any) -> str:
    """net/ipv4/tcp_ipv4.c: get_tcp4_sock."""
    ends = _ends(sk.inet_rcv_saddr, sk.inet_num, sk.inet_daddr, sk.inet_dport)
    if sk.sk_state == TCP_LISTEN:
        tx, rx = 0, sk.sk_ack_backlog
    else:
        tx = (sk.write_seq - sk.snd_una) & 0xFFFFFFFF
        rx = (sk.rcv_nxt - sk.copied_seq) & 0xFFFFFFFF
        rx = 0 if rx > 0x7FFFFFFF else rx
    kind, left = _timer(net, sk)
    inode = sk.sk_cookie if isinstance(getattr(sk, "sk_cookie", 0), int) else 0
    return (
        f"{ends} {sk.sk_state:02X} {tx:08X}:{rx:08X} {kind:02X}:{left:08X} "
        f"{sk.icsk_retransmits:08X} {0:5d} {sk.icsk_probes_out:8d} {inode} 1 0 "
        f"{sk.icsk_rto // _TICK_NS} {sk.icsk_ack_ato // _TICK_NS} 0 "
        f"{sk.snd_cwnd} {-1 if sk.snd_ssthresh >= 0x7FFFFFFF else sk.snd_ssthresh}"
    )


def udp_sockets(net: Any) -> list[Any]:
    """The UDP sockets of the host by port."""
    table = getattr(net, "udp_table", None)
    if table is None:
        return []
    return [sk for port in sorted(table.ports) for sk in table.ports[port]]


def raw_sockets(net: Any) -> list[Any]:
    """The raw sockets of the host by protocol."""
    table = getattr(net, "raw_hash", None)
    if table is None:
        return []
    buckets = table.values() if isinstance(table, dict) else table
    return [sk for bucket in buckets for sk in bucket or ()]


def _udp4_lines(sockets: list[Any]) -> list[str]:
    """net/ipv4/udp.c: udp4_format_sock for each socket."""
    lines = [f"{_UDP_HEAD:<127}"]
    for number, sk in enumerate(sockets):
        ends = _ends(sk.inet_rcv_saddr, sk.inet_num, sk.inet_daddr, sk.inet_dport)
        inode = sk.sk_cookie if isinstance(getattr(sk, "sk_cookie", 0), int) else 0
        text = (
            f"{number:5d}: {ends} {sk.sk_state:02X} {sk.sk_wmem_alloc:08X}:{sk.sk_rmem_alloc:08X} "
            f"{0:02X}:{0:08X} {0:08X} {0:5d} {0:8d} {inode} 2 0 {sk.sk_drops}"
        )
        lines.append(f"{text:<127}")
    return lines


def udp(net: Any) -> str:
    """net/ipv4/udp.c: udp4_seq_show."""
    return _text(_udp4_lines(udp_sockets(net)))


def raw(net: Any) -> str:
    """net/ipv4/raw.c: raw_seq_show."""
    return _text(_udp4_lines(raw_sockets(net)))


FILES: dict[str, Callable[[Any], str]] = {
    "dev": dev,
    "snmp": snmp,
    "netstat": netstat,
    "arp": arp,
    "route": route,
    "tcp": tcp,
    "udp": udp,
    "raw": raw,
    "softnet_stat": softnet_stat,
    "softirqs": softirqs,
    "interrupts": interrupts,
}


def read(net: Any, name: str) -> str:
    """The text of /proc/net/`name` on host `net`.

    Raises:
        FileNotFoundError: no such file; the message lists those there are.
    """
    show = FILES.get(name)
    if show is None:
        raise FileNotFoundError(f"/proc/net/{name}: there are {', '.join(FILES)}")
    with net.lock:
        return show(net)


def _text(lines: Iterable[str]) -> str:
    return "\n".join(lines) + "\n"
