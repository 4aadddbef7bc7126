"""Per-host IPv4 state, and settings of one interface (include/net/netns/ipv4.h)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from fastpath.inet import IpIdents
from stack.ipv4.sysctl_names import FORWARDING

if TYPE_CHECKING:
    from fastpath.skbuff import sk_buff
    from stack.core.sock import sock
    from stack.inet.icmp_limit import icmp_global_state, inet_peer
    from stack.inet.inet_fragment import fqdir
    from stack.inet.inet_sock import inet_sock
    from stack.ipv4.devinet import in_device
    from stack.ipv4.ip_fragment import ipq
    from stack.ipv4.route import fib_nh_exception, rtable
    from stack.net import Net


@dataclass(slots=True, eq=False, kw_only=True)
class ipv4_steps:
    """Where packets go from a route, and how errors are told: functions of the layers above it.

    As dst.input, dst.output and ndo slots: 0, a drop reason's code or a negative errno, no raising.
    """

    local_deliver: Callable[[sk_buff], int]
    forward: Callable[[sk_buff], int]
    output: Callable[[Net, sock | None, sk_buff], int]
    mc_output: Callable[[Net, sock | None, sk_buff], int]
    icmp_send: Callable[[sk_buff, int, int, int], None]


class netns_ipv4:
    """struct netns_ipv4: caches, generators and rate limits of one host."""

    __slots__ = (
        "early_demux",
        "fnhe",
        "frags",
        "icmp_global",
        "icmp_sk",
        "in_martian_dst",
        "in_martian_src",
        "ip_idents",
        "own_addresses",
        "peers",
        "rt_by_daddr",
        "rt_cache_out",
        "rt_genid",
        "rth_checked",
        "rth_forwards",
        "rth_input",
        "secret",
        "steps",
    )

    # Set by ipfrag_init and icmp_init.
    frags: fqdir[ipq]
    icmp_global: icmp_global_state

    def __init__(self, net: Net, steps: ipv4_steps) -> None:
        self.steps = steps
        self.rt_cache_out: dict[tuple[int, ...], rtable] = {}
        self.rth_input: dict[int, rtable] = {}
        self.rth_checked: dict[int, rtable] = {}
        """By rth_key: input routes of our addresses; here where sources need a closer look."""
        self.rth_forwards = False
        """Some next hop keeps a route that packets are forwarded by."""
        self.own_addresses: dict[int, Any] = {}
        self.rt_by_daddr: dict[int, list[tuple[int, ...]]] = {}
        self.rt_genid = 0
        self.early_demux: dict[int, Callable[[sk_buff], object]] = {}
        """By protocol; what the sysctls *_early_demux leave of inet_protos."""
        self.fnhe: dict[int, fib_nh_exception] = {}
        self.in_martian_src = 0
        self.in_martian_dst = 0
        self.secret = net.random.getrandbits(48)
        self.ip_idents = IpIdents([net.random.getrandbits(16) for _ in range(1024)])
        self.icmp_sk: inet_sock | None = None
        self.peers: dict[int, inet_peer] = {}


def in_dev_conf(in_dev: in_device, name: str) -> int:
    """include/linux/inetdevice.h IN_DEV_*: a device's own setting, else the host's."""
    value = in_dev.cnf.get(name)
    return int(getattr(in_dev.dev.net.sysctl, name) if value is None else value)


def in_dev_forward(in_dev: in_device) -> bool:
    """include/linux/inetdevice.h IN_DEV_FORWARD."""
    value = in_dev.cnf.get(FORWARDING)
    return bool(in_dev.dev.net.sysctl.ip_forward if value is None else value)
