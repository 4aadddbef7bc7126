"""Sysctls of net.core and net.ipv4 by name, and an interface's own values of them."""

from __future__ import annotations

import difflib
import errno
from typing import Any

from stack.core.sysctl_net_core import NET_CORE, NET_UNIX, NET_VRF, Sysctl, SysctlError
from stack.core.sysctl_netfilter import NET_NETFILTER
from stack.ipv4.sysctl_net_ipv4 import CONF, NET_IPV4
from stack.net import Net

SYSCTLS: dict[str, Sysctl] = {
    row.name: row for row in (*NET_CORE, *NET_IPV4, *NET_NETFILTER, *NET_UNIX, *NET_VRF)
}
"""Every knob of net.core and net.ipv4 by the last part of its name, which is unique."""

FORWARDING = "forwarding"
"""net.ipv4.conf.DEV.forwarding; for all devices it is ip_forward."""


def find(name: str) -> Sysctl:
    """Return the row of `tcp_sack`, `net.ipv4.tcp_sack` or `net/ipv4/tcp_sack`.

    Raises: SysctlError ENOENT, with the names that are close.
    """
    dotted = str(name).replace("/", ".")
    row = SYSCTLS.get(dotted.rpartition(".")[2])
    if row is not None and dotted in (
        row.name,
        row.full_name,
        row.full_name.replace(".all.", ".default."),
    ):
        return row
    full = [r.full_name for r in SYSCTLS.values()]
    close = difflib.get_close_matches(dotted, full if "." in dotted else SYSCTLS, 3)
    if row is not None:
        close = [row.full_name]
    remedy = f"did you mean {' or '.join(close)}?" if close else "docs/knobs.md lists all"
    raise SysctlError(errno.ENOENT, f"no sysctl {name!r}; {remedy}")


class ipv4_devconf(dict[str, int]):
    """net.ipv4.conf.DEV: an interface's own values, checked as the host's are."""

    __slots__ = ("_net",)

    def __init__(self, net: Net) -> None:
        super().__init__()
        self._net = net

    def __setitem__(self, name: str, value: Any) -> None:
        if name == FORWARDING:
            self._store(name, SYSCTLS["ip_forward"].parse(value))
            return
        row = find(name)
        if row.path != CONF:
            raise SysctlError(errno.ENOENT, f"{row.full_name} is not a setting of an interface")
        self._store(row.name, row.parse(value))

    def count_up(self, name: str, by: int) -> None:
        """Change a state that no program can set, of this interface alone."""
        self._store(name, self.get(name, 0) + by)

    def _store(self, name: str, value: int) -> None:
        """Store the value and call those that follow writes of the host's sysctl of this name."""
        super().__setitem__(name, value)
        self._net.sysctl.touched("ip_forward" if name == FORWARDING else name)
