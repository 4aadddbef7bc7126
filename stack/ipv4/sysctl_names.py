"""Sysctls of net.core and net.ipv4 by name."""

from __future__ import annotations

import difflib
import errno

from stack.core.sysctl_net_core import NET_CORE, NET_UNIX, NET_VRF, Sysctl, SysctlError
from stack.core.sysctl_netfilter import NET_NETFILTER
from stack.ipv4.sysctl_net_ipv4 import NET_IPV4

SYSCTLS: dict[str, Sysctl] = {
    row.name: row for row in (*NET_CORE, *NET_IPV4, *NET_NETFILTER, *NET_UNIX, *NET_VRF)
}
"""Every knob of net.core and net.ipv4 by the last part of its name, which is unique."""


def find(name: str) -> Sysctl:
    """Return the row of `tcp_sack`, `net.ipv4.tcp_sack` or `net/ipv4/tcp_sack`.

    Raises: SysctlError ENOENT, with similar names.
    """
    dotted = str(name).replace("/", ".")
    row = SYSCTLS.get(dotted.rpartition(".")[2])
    if row is not None and dotted in (row.name, row.full_name):
        return row
    full = [r.full_name for r in SYSCTLS.values()]
    close = difflib.get_close_matches(dotted, full if "." in dotted else SYSCTLS, 3)
    if row is not None:
        close = [row.full_name]
    remedy = f"did you mean {' or '.join(close)}?" if close else "docs/knobs.md lists all"
    raise SysctlError(errno.ENOENT, f"no sysctl {name!r}; {remedy}")
