"""/proc/net/dev, ptype, softnet_stat, psched, /proc/softirqs and /proc/interrupts."""

from __future__ import annotations

from stack.core.dev import dev_get_stats
from stack.core.netdevice import ETH_P_ALL
from stack.core.softirq import SOFTIRQ_NAMES
from stack.core.time64 import NSEC_PER_SEC
from stack.net import Net
from stack.proc.text import text
from stack.sched.psched import PSCHED_SHIFT


def dev(net: Net) -> str:
    """net/core/net-procfs.c: dev_seq_show."""
    lines = [
        "Inter-|   Receive                                                |  Transmit",
        " face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs "
        "drop fifo colls carrier compressed",
    ]
    for device in net.dev_base_head:
        s = dev_get_stats(device)
        carrier = s.tx_carrier_errors + s.tx_aborted_errors + s.tx_window_errors
        lines.append(
            f"{device.name:>6}: {s.rx_bytes:7d} {s.rx_packets:7d} {s.rx_errors:4d} "
            f"{s.rx_dropped + s.rx_missed_errors:4d} {s.rx_fifo_errors:4d} "
            f"{s.rx_length_errors + s.rx_over_errors + s.rx_crc_errors + s.rx_frame_errors:5d} "
            f"{s.rx_compressed:10d} {s.multicast:9d} {s.tx_bytes:8d} {s.tx_packets:7d} "
            f"{s.tx_errors:4d} {s.tx_dropped:4d} {s.tx_fifo_errors:4d} {s.collisions:5d} "
            f"{carrier + s.tx_heartbeat_errors:7d} {s.tx_compressed:10d}"
        )
    return text(lines)


def softnet_stat(net: Net) -> str:
    """net/core/net-procfs.c: softnet_seq_show; one line, for the one CPU of the host."""
    sd = net.machine.softnet_data
    values = [sd.processed, sd.dropped, sd.time_squeeze, *[0] * 8, sd.input_pkt_queue.qlen]
    values += [0, sd.input_pkt_queue.qlen, sd.process_queue.qlen]
    return text([" ".join(f"{value:08x}" for value in values)])


def psched(net: Net) -> str:
    """net/sched/sch_api.c: ns in a us, ns in a tick of packet schedulers, two resolutions."""
    return text([f"{1000:08x} {1 << PSCHED_SHIFT:08x} {1_000_000:08x} {NSEC_PER_SEC:08x}"])


def softirqs(net: Net) -> str:
    """fs/proc/softirqs.c."""
    lines = ["                    CPU0       "]
    lines += [
        f"{name:>12}: {h.count:10d}"
        for name, h in zip(SOFTIRQ_NAMES, net.machine.softirq_vec, strict=True)
    ]
    return text(lines)


def interrupts(net: Net) -> str:
    """fs/proc/interrupts.c: line, count, handlers."""
    lines = ["           CPU0       "]
    for irq, desc in sorted(net.machine.irq_descs.items()):
        names = ", ".join(action.name for action in desc.actions)
        lines.append(f"{irq:>3}: {desc.count:10d}   level     {names}")
    return text(lines)


def ptype(net: Net) -> str:
    """net/core/net-procfs.c: ptype_seq_show: the handlers of each EtherType, and the taps."""
    lines = ["Type Device      Function"]
    devices = [packet for dev in net.dev_base_head for packet in dev.ptype_specific]
    known = [packet for _, packets in sorted(net.ptype_base.items()) for packet in packets]
    for packet in (*devices, *net.ptype_all, *known):
        kind = "ALL " if packet.type == ETH_P_ALL else f"{packet.type:04x}"
        device = "" if packet.dev is None else packet.dev.name
        lines.append(f"{kind} {device:<8s} {packet.func.__name__}")
    return text(lines)
