"""Per-host IPv4 state, and settings of one interface (include/net/netns/ipv4.h)."""

from __future__ import annotations

from collections.abc import Callable
from struct import unpack
from typing import TYPE_CHECKING

from fastpath.base.intmap import IntMap
from fastpath.net.inet import IpIdents
from stack.core.rows import row, state, wide
from stack.ipv4.devconf import EITHER, LARGER, OWN, RULES, ipv4_devconf

if TYPE_CHECKING:
    from random import Random

    from fastpath.base.skbuff import sk_buff
    from stack.core.sock import sock
    from stack.core.timer import timer_list
    from stack.inet.icmp_limit import icmp_global_state, inet_peer
    from stack.inet.inet_fragment import fqdir
    from stack.inet.inet_sock import inet_sock
    from stack.inet.ipmr_base import mr_table
    from stack.ipv4.devinet import in_device, in_ifaddr
    from stack.ipv4.fib import fib_alias
    from stack.ipv4.ip_fragment import ipq
    from stack.ipv4.route import fib_nh_exception, rtable
    from stack.net import Net


@state
class ipv4_steps:
    """Functions of upper layers: input and output functions of routes, icmp_send, and the function
    that creates the routes of an address.

    Those for packets return 0, a drop reason or a negative errno, as dst.input and dst.output. None
    of them raises.
    """

    local_deliver: Callable[[sk_buff], int]
    forward: Callable[[sk_buff], int]
    output: Callable[[Net, sock | None, sk_buff], int]
    mc_output: Callable[[Net, sock | None, sk_buff], int]
    icmp_send: Callable[[sk_buff, int, int, int], None]
    fib_add_ifaddr: Callable[[in_ifaddr], None]
    fib_del_ifaddr: Callable[[in_ifaddr, in_ifaddr | None], None]
    fib_modify_prefix_metric: Callable[[in_ifaddr, int], None]


IP_IDENTS = 1024


def ip_idents_init(random: Random) -> tuple[int, ...]:
    """net/ipv4/route.c ip_rt_init: the values of `IP_IDENTS` getrandbits(16), in one call."""
    words = random.getrandbits(32 * IP_IDENTS).to_bytes(4 * IP_IDENTS, "little")
    return unpack(f"<{2 * IP_IDENTS}H", words)[1::2]


@state
class netns_ipv4:
    """struct netns_ipv4: caches, generators and rate limits of one host."""

    net: Net
    steps: ipv4_steps
    devconf_all: ipv4_devconf = row(of=lambda ipv4: ipv4.net.sysctl.conf["all"])
    devconf_dflt: ipv4_devconf = row(of=lambda ipv4: ipv4.net.sysctl.conf["default"])
    rt_cache_out: dict[tuple[wide, ...], rtable] = row(make=dict)
    rth_input: IntMap[rtable] = row(make=IntMap)
    rth_checked: IntMap[rtable] = row(make=IntMap)
    """By rth_key: input routes of our addresses whose packets need fib_validate_source."""
    rth_forwards: bool = row(False)
    """True once a next hop has a cached route for forwarding (nh_rth_input)."""
    own_addresses: IntMap[list[fib_alias]] = row(make=IntMap)
    rt_by_flow: bool = row(False)
    """Output routes are cached by mark, protocol and ports too: there are rules with conditions, or
    several next hops among which the ports choose."""
    fib_multipath: bool = row(False)
    """Whether there is, or was, a route with several next hops."""
    rt_by_daddr: dict[int, list[tuple[wide, ...]]] = row(make=dict)
    rt_genid: int = row(0)
    early_demux: IntMap[Callable[[sk_buff], object]] = row(make=IntMap)
    """By protocol: the early_demux functions that the sysctls allow."""
    fnhe: dict[int, fib_nh_exception] = row(make=dict)
    in_martian_src: int = row(0)
    in_martian_dst: int = row(0)
    # struct rt_cache_stat: lookups of received and own packets that missed the caches.
    in_slow_tot: int = row(0)
    in_slow_mc: int = row(0)
    in_no_route: int = row(0)
    in_brd: int = row(0)
    out_slow_tot: int = row(0)
    out_slow_mc: int = row(0)
    ip_idents: IpIdents = row(of=lambda ipv4: IpIdents(ip_idents_init(ipv4.net.random)))
    peers: dict[wide, inet_peer] = row(make=dict)

    # Set by ipfrag_init and icmp_init.
    frags: fqdir[ipq] = row()
    icmp_global: icmp_global_state = row()
    icmp_sk: inet_sock = row()
    addr_chk_timer: timer_list | None = row()
    """Timer that removes expired addresses; created with the first address with a lifetime."""
    mrt: mr_table | None = row()
    """Multicast routing; created when a program first uses it."""


def in_dev_conf(in_dev: in_device, name: str) -> int:
    """include/linux/inetdevice.h IN_DEV_*: the effective value, from `all` and the interface."""
    rule = RULES[name]
    own = int(getattr(in_dev.cnf, name))
    if rule == OWN:
        return own
    every = int(getattr(in_dev.dev.net.ipv4.devconf_all, name))
    if rule == LARGER:
        return max(every, own)
    return (every or own) if rule == EITHER else (every and own)


def in_dev_rx_redirects(in_dev: in_device) -> bool:
    """include/linux/inetdevice.h IN_DEV_RX_REDIRECTS: whether redirects are accepted."""
    every, own = in_dev.dev.net.ipv4.devconf_all.accept_redirects, in_dev.cnf.accept_redirects
    return bool(every and own if in_dev.cnf.forwarding else every or own)


def in_dev_forward(in_dev: in_device) -> bool:
    """include/linux/inetdevice.h IN_DEV_FORWARD."""
    return bool(in_dev.cnf.forwarding)
