"""The sysctls of net.ipv6 (net/ipv6/sysctl_net_ipv6.c, route.c, icmp.c, reassembly.c), as rows.

Settings of an interface are in devconf.py. Times keep Linux's units: seconds, ms where the text
says so.
"""

from __future__ import annotations

import difflib
import errno
from collections.abc import Callable
from typing import Any

from stack.core.devconf import DEFAULT, devconf, find_devconf
from stack.core.rows import state
from stack.core.sysctl_net_core import INT_MAX, INT_MIN, PORTS, Sysctl, SysctlError
from stack.inet.multipath import FIELDS_ALL, FIELDS_DEFAULT
from stack.ipv4.sysctl_net_ipv4 import frag_thresholds, neigh_thresholds
from stack.ipv6.devconf import CONF6_DIR, CONF6_ROWS, WRITTEN_TO_ALL, ipv6_devconf

IPV6, ICMP6, ROUTE6 = "net.ipv6", "net.ipv6.icmp", "net.ipv6.route"
NEIGH6 = "net.ipv6.neigh.default"


def _row(
    path: str, name: str, default: Any, what: str, low: int = INT_MIN, high: int = INT_MAX
) -> Sysctl:
    return Sysctl(path, name, default, what, low, high)


NET_IPV6: tuple[Sysctl, ...] = (
    _row(IPV6, "anycast_src_echo_reply", 0, "answer echo requests from an anycast address", 0, 255),
    _row(
        IPV6,
        "auto_flowlabels",
        1,
        "0: none; 1: unless the socket disables them; 2: if the socket enables them; 3: always",
        0,
        3,
    ),
    _row(IPV6, "bindv6only", 0, "new sockets have IPV6_V6ONLY", 0, 255),
    _row(
        IPV6,
        "fib_multipath_hash_fields",
        FIELDS_DEFAULT,
        "with policy 3: bits 0-5 for source, destination, protocol, label, ports; 6-11 inside",
        1,
        FIELDS_ALL,
    ),
    _row(
        IPV6,
        "fib_multipath_hash_policy",
        0,
        "next hop by 0: addresses, label; 1: ports; 2: inner; 3: fields",
        0,
        3,
    ),
    _row(IPV6, "flowlabel_consistency", 1, "flow labels must have been leased", 0, 255),
    _row(
        IPV6,
        "flowlabel_reflect",
        0,
        "bits: answers take the label: 1 TCP's, 2 its resets, 4 echo's",
        0,
        7,
    ),
    _row(IPV6, "flowlabel_state_ranges", 1, "labels above 0x7ffff are the automatic ones", 0, 255),
    _row(IPV6, "fwmark_reflect", 0, "RST, ACKs without a socket and ICMPv6 have the mark", 0, 255),
    _row(IPV6, "ip_nonlocal_bind", 0, "bind() accepts addresses that are not local", 0, 255),
    *frag_thresholds(IPV6, "ip6frag"),
    _row(IPV6, "ip6frag_time", 60, "seconds until a packet in reassembly is given up", 0),
    _row(IPV6, "max_dst_opts_length", INT_MAX, "bytes of a destination options header"),
    _row(IPV6, "max_dst_opts_number", 8, "options in it; below 0: known ones only"),
    _row(IPV6, "max_hbh_length", INT_MAX, "bytes of a hop-by-hop options header"),
    _row(IPV6, "max_hbh_opts_number", 8, "options in it; below 0: known ones only"),
    _row(IPV6, "idgen_delay", 1, "seconds before another stable address is tried", 0),
    _row(IPV6, "idgen_retries", 3, "tries to find a free stable address", 0),
    _row(IPV6, "mld_max_msf", 64, "most sources in one filter of a socket", 0),
    _row(
        IPV6,
        "mld_qrv",
        2,
        "how many times a change of groups is reported, unless a router sets it",
        1,
    ),
    *neigh_thresholds(NEIGH6),
    _row(ICMP6, "echo_ignore_all", 0, "ignore echo requests", 0, 255),
    _row(ICMP6, "echo_ignore_anycast", 0, "ignore echo requests to an anycast address", 0, 255),
    _row(ICMP6, "echo_ignore_multicast", 0, "ignore echo requests to a group", 0, 255),
    _row(ICMP6, "error_anycast_as_unicast", 0, "errors may go to an anycast address", 0, 1),
    _row(ICMP6, "ratelimit", 1000, "ms between ICMPv6 errors to one prefix; 0: no limit", 0),
    Sysctl(
        ICMP6,
        "ratemask",
        frozenset(range(128)) - {2},
        "ICMPv6 types that are limited: by default errors other than packet too big",
        0,
        255,
        kind=PORTS,
    ),
    Sysctl(
        ROUTE6, "flush", 0, "any number: forget learned redirects and expired routes", mode=0o200
    ),
    _row(ROUTE6, "gc_interval", 30, "seconds between searches for expired routes", 0),
    _row(ROUTE6, "max_size", 4096, "most exceptions (path MTU, redirects)", 0),
    _row(ROUTE6, "min_adv_mss", 1220, "smallest MSS that is offered, bytes"),
    _row(ROUTE6, "mtu_expires", 600, "seconds for which a learned path MTU holds", 0),
)

PREFIXES = {IPV6: "", ICMP6: "icmpv6_", ROUTE6: "ip6_rt_", NEIGH6: "neigh_"}


def attribute(row: Sysctl) -> str:
    """Name of the row's attribute: `net.ipv6.icmp.ratelimit` is `icmpv6_ratelimit`."""
    return PREFIXES[row.path] + row.name


ROWS_BY_NAME = {row.full_name: row for row in NET_IPV6}
ROWS_BY_ATTRIBUTE = {attribute(row): row for row in NET_IPV6}


@state
class netns_sysctl_ipv6:
    """struct netns_sysctl_ipv6: net.ipv6 of one namespace, with the sets of net.ipv6.conf.

    Sysctls are attributes (see `attribute`). Writing one checks the value as /proc/sys does, and
    raises SysctlError if it is bad. Dotted names work too:
    `sysctl["net.ipv6.conf.eth0.forwarding"] = 1`.
    """

    conf: dict[str, ipv6_devconf]
    """`all`, `default` and, once IPv6 is up on them, the interfaces by name."""
    _written: dict[str, list[Callable[[Any], Any]]]

    # Those of ROWS_BY_ATTRIBUTE.
    anycast_src_echo_reply: int
    auto_flowlabels: int
    bindv6only: int
    fib_multipath_hash_fields: int
    fib_multipath_hash_policy: int
    flowlabel_consistency: int
    flowlabel_reflect: int
    flowlabel_state_ranges: int
    fwmark_reflect: int
    icmpv6_echo_ignore_all: int
    icmpv6_echo_ignore_anycast: int
    icmpv6_echo_ignore_multicast: int
    icmpv6_error_anycast_as_unicast: int
    icmpv6_ratelimit: int
    icmpv6_ratemask: frozenset[int]
    idgen_delay: int
    idgen_retries: int
    ip6_rt_flush: int
    ip6_rt_gc_interval: int
    ip6_rt_max_size: int
    ip6_rt_min_adv_mss: int
    ip6_rt_mtu_expires: int
    ip6frag_high_thresh: int
    ip6frag_low_thresh: int
    ip6frag_time: int
    ip_nonlocal_bind: int
    max_dst_opts_length: int
    max_dst_opts_number: int
    max_hbh_length: int
    max_hbh_opts_number: int
    mld_max_msf: int
    mld_qrv: int
    neigh_gc_thresh1: int
    neigh_gc_thresh2: int
    neigh_gc_thresh3: int

    def __init__(self, ram_bytes: int) -> None:
        store = object.__setattr__
        store(self, "_written", {})
        every = ipv6_devconf("all")
        # DAD runs if accept_dad of `all` or of the interface is set; so `all` is 0 at first
        every.store("accept_dad", 0)
        store(self, "conf", {"all": every, "default": ipv6_devconf("default")})
        for name, row in ROWS_BY_ATTRIBUTE.items():
            store(self, name, row.default(ram_bytes) if callable(row.default) else row.default)
        every.on_change(self.to_all)

    def to_all(self, conf: devconf, name: str, old: Any) -> None:
        """Copy what was written to `all` to the other sets, if it is such a setting."""
        value = getattr(conf, name)
        for other in tuple(self.conf.values()) if name in WRITTEN_TO_ALL else ():
            if other is conf or getattr(other, name) == value:
                continue
            if other.label == DEFAULT and name != "forwarding":
                other.store(name, value)  # nobody is told
            else:
                setattr(other, name, value)

    def __setattr__(self, name: str, value: Any) -> None:
        row = ROWS_BY_ATTRIBUTE.get(name)
        if row is None:
            raise SysctlError(errno.ENOENT, f"no sysctl of net.ipv6 is kept as {name!r}")
        value = row.parse(value)
        self._fits(name, row, value)
        object.__setattr__(self, name, value)
        for fn in tuple(self._written.get(name, ())):
            fn(value)

    def _fits(self, name: str, row: Sysctl, value: Any) -> None:
        if name == "ip6frag_high_thresh" and value < self.ip6frag_low_thresh:
            low = self.ip6frag_low_thresh
            raise row.wrong(value, f"below ip6frag_low_thresh, {low}; write that one first")
        if name == "ip6frag_low_thresh" and value > self.ip6frag_high_thresh:
            raise row.wrong(value, f"above ip6frag_high_thresh, {self.ip6frag_high_thresh}")

    def on_write(self, name: str, fn: Callable[[Any], Any]) -> None:
        """Have `fn(value)` called after the attribute `name` was written."""
        self._written.setdefault(name, []).append(fn)

    def __getitem__(self, name: str) -> Any:
        where, attr = self._find(name)
        return getattr(where, attr)

    def __setitem__(self, name: str, value: Any) -> None:
        where, attr = self._find(name)
        setattr(where, attr, value)

    def _find(self, name: str) -> tuple[netns_sysctl_ipv6 | devconf, str]:
        """(object, attribute) of a dotted name. Raises: SysctlError ENOENT."""
        dotted = name.replace("/", ".")
        row = ROWS_BY_NAME.get(dotted)
        if row is not None:
            return self, attribute(row)
        if dotted.startswith(CONF6_DIR):
            return find_devconf(self.conf, CONF6_DIR, dotted)
        names = [*ROWS_BY_NAME, *(f"{CONF6_DIR}all.{setting}" for setting in CONF6_ROWS)]
        close = difflib.get_close_matches(dotted, names, 3)
        remedy = f"did you mean {' or '.join(close)}?" if close else "docs/knobs.md lists all"
        raise SysctlError(errno.ENOENT, f"no sysctl {name!r}; {remedy}")

    def items(self) -> list[tuple[str, Any]]:
        """(dotted name, value) of all but net.ipv6.conf, sorted."""
        return sorted((row.full_name, getattr(self, attribute(row))) for row in NET_IPV6)
