"""docs/knobs.md: the sysctls and socket options, from their declarations."""

from __future__ import annotations

from collections.abc import Iterable

from stack.api.net_procsys import NEIGH_ROWS
from stack.api.sockopts import OPTIONS, RW, SockOpt
from stack.core import uapi
from stack.core.sysctl_net_core import Sysctl, ranges
from stack.core.uapi import CAP_NET_ADMIN, CAP_NET_RAW
from stack.ipv4.sysctl_names import SYSCTLS
from stack.ipv6.devconf import CONF6, CONF6_ROWS, WRITTEN_TO_ALL
from stack.ipv6.sysctl_net_ipv6 import NET_IPV6

INTRO = """# Sysctls and socket options

Written by `docs/generate.py` from the declarations in `stack/core/sysctl_net_core.py`,
`stack/core/sysctl_netfilter.py`,
`stack/ipv4/sysctl_net_ipv4.py`, `stack/ipv6/sysctl_net_ipv6.py`, `stack/ipv6/devconf.py`,
`stack/core/neigh_sysctl.py` and the tables of socket options (`stack/api/sockopts.py`).

Each one does what Linux's does. A test changes every knob, runs traffic and checks the effect on
the wire, on an errno, on a counter or on timing. The tests are in `tests/stack/knobs/`, for
AF_UNIX and AF_PACKET in the folders of the families in `tests/stack/`. A knob that does not exist
here gives the error of a kernel without it: `SysctlError` ENOENT, or ENOPROTOOPT.

## Setting them

Before you start: `make build`, then `. .venv/bin/activate` ([Install](index.md#install)).

```python
from e1000emu.lab import two_hosts

a, b = two_hosts(sysctl={"tcp_sack": 0, "net.ipv4.tcp_rmem": "4096 65536 65536"})
a.sysctl.tcp_ecn = 1  # later, as sysctl -w does
a.sysctl["net.ipv4.tcp_ecn"] = "1"
a.sysctl["net.ipv4.conf.eth0.rp_filter"] = 1
a.sysctl["net.ipv6.conf.all.forwarding"] = 1  # sysctls of IPv6 need their full names
a.uid = 1000  # ports below 1024 and raw sockets need uid 0
```

A name that does not exist and a value out of range raise `stack.sysctl.SysctlError`, an OSError
with the errno that `/proc/sys` gives. Its message names a similar sysctl, or the values allowed.
"""


OPTIONS_INTRO = """An empty cell under "takes" means any value of the option's type. An empty cell
under "since Linux" means a version before 2.6. A named capability requires uid 0.
"""
LEVEL_NAMES = {
    "SOL_SOCKET": uapi.SOL_SOCKET,
    "IPPROTO_IP": uapi.SOL_IP,
    "IPPROTO_TCP": uapi.SOL_TCP,
    "IPPROTO_UDP": uapi.SOL_UDP,
    "SOL_RAW": uapi.SOL_RAW,
    "IPPROTO_IPV6": uapi.SOL_IPV6,
    "IPPROTO_ICMPV6": uapi.SOL_ICMPV6,
    "SOL_PACKET": uapi.SOL_PACKET,
}
CAP_NAMES = {CAP_NET_ADMIN: "CAP_NET_ADMIN", CAP_NET_RAW: "CAP_NET_RAW"}


def _shown(value: object) -> str:
    if isinstance(value, tuple):
        return " ".join(map(str, value))
    if isinstance(value, frozenset):
        return ranges(value) or "none"
    return str(value)


def _takes(row: SockOpt) -> str:
    """The values of setsockopt, and required privileges."""
    words = []
    if isinstance(row.legal, range) and row.legal.stop > 1 << 30:
        words = [f"{row.legal.start} or more"]
    elif row.legal is not None:
        words = [ranges(row.legal, " to ", ", ")]
    if row.caps:
        caps = " or ".join(CAP_NAMES[cap] for cap in row.caps)
        words.append(f"{caps} but for {ranges(row.free, ' to ', ', ')}" if row.free else caps)
    return "; ".join(words)


def _default(row: Sysctl) -> str:
    return "of the memory" if callable(row.default) else _shown(row.default)


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def _table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    lines = [head, tuple("---" for _ in head), *rows]
    return "\n".join(f"| {' | '.join(map(_cell, line))} |" for line in lines) + "\n"


def markdown() -> str:
    """Return the page."""
    parts = [INTRO, "## Sysctls\n"]
    neighbours = [row.sysctl for family in NEIGH_ROWS.values() for row in family.values()]
    rows_of_all = [*SYSCTLS.values(), *NET_IPV6, *CONF6_ROWS.values(), *neighbours]
    for path in dict.fromkeys(row.path for row in rows_of_all):
        parts.append(f"### {path}\n")
        if path == CONF6:
            parts.append(
                "`conf.default` has the initial values of an interface, `conf.DEV` its current "
                "ones. `all` is separate; these are copied from it to every interface: "
                f"{', '.join(f'`{name}`' for name in WRITTEN_TO_ALL)}.\n"
            )
        elif path.endswith("neigh.default"):
            parts.append(
                "The thresholds are those of the whole table. Otherwise `default` has the initial "
                "values of an interface, `neigh.DEV` its current ones. A later change of a default "
                "reaches an interface only if the value was not set there and the interface has "
                "no IPv4 address. They are set in `/proc/sys/net`, by sysctl(8) on the host or by "
                '`stack.api.net_procsys.store(host, "ipv4/neigh/eth0/retrans_time_ms", "500")`.\n'
            )
        elif path.endswith(".all"):
            parts.append(
                "`conf.default` has the initial values of an interface, `conf.DEV` its current "
                "ones. A later change of a default reaches an interface only if the value was not "
                "set there and the interface has no address. The parentheses say how `all` and "
                "the interface's own value combine; without them only the interface's own counts. "
                "From Python a short name sets all of them: `host.sysctl.rp_filter = 1`.\n"
            )
        rows = [
            (f"`{row.name}`", _default(row), row.takes(), row.what)
            for row in sorted(rows_of_all, key=lambda r: r.name)
            if row.path == path
        ]
        parts.append(_table(("name", "default", "takes", "what it does"), rows))
    parts.append("## Socket options\n")
    parts.append(OPTIONS_INTRO)
    for title, level in LEVEL_NAMES.items():
        parts.append(f"### {title}\n")
        found = [
            (
                f"`{o.name}`",
                str(o.number),
                "" if o.access == RW else o.access + " only",
                o.sockets,
                _takes(o),
                o.since,
                o.what,
            )
            for o in sorted(OPTIONS, key=lambda o: o.name)
            if o.level == level
        ]
        head = ("name", "number", "", "sockets", "takes", "since Linux", "what it does")
        parts.append(_table(head, found))
    return "\n".join(parts)
