"""The layer that a source file belongs to, for traces and profiles."""

from __future__ import annotations

from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

# Compiled helpers that every layer uses: their time counts for the layer that calls them.
SHARED = ""

# The first prefix that matches a file (relative to the source root) names its layer, from the wire
# up. "nic" is the emulated device, "netdev" the kernel's device layer (net/core/dev.c).
LAYERS: tuple[tuple[str, str], ...] = (
    ("e1000emu/links/", "link"),
    ("e1000emu/clock", "clock"),
    ("e1000emu/capture", "link"),
    ("e1000emu/cli/", "application"),
    ("e1000emu/lab", "application"),
    ("e1000emu/testing/", "application"),
    ("e1000emu/", "nic"),
    ("stack/drivers/", "driver"),
    ("stack/core/irq", "irq"),
    ("stack/core/softirq", "irq"),
    ("stack/core/timer", "timer"),
    ("stack/core/pci", "driver"),
    ("stack/core/neigh", "neighbour"),
    ("stack/ipv4/arp", "neighbour"),
    ("stack/ipv4/neigh", "neighbour"),
    ("stack/ipv6/ndisc", "neighbour"),
    ("stack/core/bsd_socket", "socket"),
    ("stack/core/sock", "socket"),
    ("stack/inet/inet_sock", "socket"),
    ("stack/core/iov", "socket"),
    ("stack/core/datagram", "socket"),
    ("stack/core/wait", "socket"),
    ("stack/core/dst", "ip"),
    ("stack/core/netfilter", "netfilter"),
    ("stack/core/nf_queue", "netfilter"),
    ("stack/netfilter/", "netfilter"),
    ("stack/core/", "netdev"),
    ("stack/ethernet/", "netdev"),
    ("stack/ipv4/af_inet", "inet"),
    ("stack/ipv6/af_inet6", "inet"),
    ("stack/inet/inet_common", "inet"),
    ("stack/inet/inet_fragment", "ip"),
    ("stack/inet/inet_", "tcp"),
    ("stack/inet/icsk_", "tcp"),
    ("stack/inet/sack_", "tcp"),
    ("stack/ipv6/inet6_connection_sock", "tcp"),
    ("stack/inet/tcp", "tcp"),
    ("stack/ipv4/tcp", "tcp"),
    ("stack/ipv6/tcp", "tcp"),
    ("stack/inet/udp", "udp"),
    ("stack/ipv4/udp", "udp"),
    ("stack/ipv6/udp", "udp"),
    ("stack/inet/raw", "raw"),
    ("stack/ipv4/raw", "raw"),
    ("stack/ipv6/raw", "raw"),
    ("stack/inet/ping", "icmp"),
    ("stack/ipv4/ping", "icmp"),
    ("stack/ipv6/ping", "icmp"),
    ("stack/ipv4/icmp", "icmp"),
    ("stack/ipv6/icmp", "icmp"),
    ("stack/ipv6/ip6_icmp", "icmp"),
    ("stack/packet/", "packet"),
    ("stack/inet/", "inet"),
    ("stack/ipv4/", "ip"),
    ("stack/ipv6/", "ip"),
    ("stack/xtp/", "xtp"),
    ("stack/sched/", "netdev"),
    ("stack/unix/", "unix"),
    ("stack/api/", "application"),
    ("stack/host", "irq"),
    ("stack/", "stack"),
    ("fastpath/base/buildinfo", "other"),
    ("fastpath/base/calltrace", "other"),
    ("fastpath/base/sampler", "other"),
    ("fastpath/base/dma", "nic"),
    ("fastpath/base/eventq", "nic"),
    ("fastpath/base/", SHARED),
    ("fastpath/nic/cable", "link"),
    ("fastpath/nic/linkops", "link"),
    ("fastpath/nic/tap_", "link"),
    ("fastpath/nic/wire", "link"),
    ("fastpath/net/rings_driver", "driver"),
    ("fastpath/net/gro", "netdev"),
    ("fastpath/net/gso", "netdev"),
    ("fastpath/net/", SHARED),
    ("fastpath/", "nic"),
    ("benchmarks/", "application"),
    ("examples/", "application"),
)


def layer_of(file: str) -> str:
    """Name the layer of a source file given relative to the source root (``stack/inet/udp.py`` ->
    ``udp``)."""
    for prefix, layer in LAYERS:
        if file.startswith(prefix):
            return layer
    return "other"
