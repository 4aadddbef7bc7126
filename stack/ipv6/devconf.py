"""net.ipv6.conf: what every interface has of its own (include/linux/ipv6.h, net/ipv6/addrconf.c).

Other than IPv4's, these are not looked up in two places: `all` and `default` are sets of the same
kind, an interface starts with a copy of `default`, and a few settings written to `all` go to every
interface (WRITTEN_TO_ALL).
"""

from __future__ import annotations

import errno
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from stack.core.sysctl import INT_MAX, INT_MIN, Sysctl, SysctlError

CONF6 = "net.ipv6.conf.all"


def _conf(name: str, default: int, what: str, low: int = INT_MIN, high: int = INT_MAX) -> Sysctl:
    return Sysctl(CONF6, name, default, what, low, high)


CONF_ROWS: tuple[Sysctl, ...] = (
    _conf("accept_redirects", 1, "obey redirects while not forwarding"),
    _conf("disable_ipv6", 0, "no IPv6 on the interface", 0, 1),
    _conf("drop_unicast_in_l2_multicast", 0, "drop unicast packets in multicast frames"),
    _conf("forwarding", 0, "forward packets; a router neither takes RAs nor redirects"),
    _conf("hop_limit", 64, "hop limit of packets whose socket sets none", 1, 255),
    _conf("mtu", 1280, "bytes: of an interface, its MTU at first; lowered by RAs", 1280),
)
"""The network layer's and neighbour discovery's; the slots of `ipv6_devconf` come from them."""

WRITTEN_TO_ALL = ("forwarding", "disable_ipv6")
"""What `all` passes on to `default` and every interface."""

DevconfFn = Callable[["ipv6_devconf", int], Any]


class ipv6_devconf:
    """struct ipv6_devconf: the settings of `all`, `default` or one interface.

    Reading is reading an attribute. Writing checks the value as /proc/sys does and raises
    SysctlError, then tells those that `on_write` registered.
    """

    __slots__ = (*(row.name for row in CONF_ROWS), "_written", "label")

    if TYPE_CHECKING:  # the attributes come from the rows

        def __getattr__(self, name: str) -> int: ...

    label: str
    _written: dict[str, list[DevconfFn]]

    def __init__(self, label: str, template: ipv6_devconf | None = None) -> None:
        store = object.__setattr__
        store(self, "label", label)
        store(self, "_written", {})
        for row in CONF_ROWS:
            value = row.default if template is None else getattr(template, row.name)
            store(self, row.name, value)

    def __repr__(self) -> str:
        return f"<ipv6_devconf {self.label}>"

    def __setattr__(self, name: str, value: Any) -> None:
        row = conf_row(name)
        value = row.parse(value)
        old = getattr(self, name)
        self.store(name, value)
        for fn in tuple(self._written.get(name, ())):
            fn(self, old)

    def store(self, name: str, value: int) -> None:
        """Set without a check and without telling anybody (what a router advertised)."""
        object.__setattr__(self, name, value)

    def on_write(self, name: str, fn: DevconfFn) -> None:
        """Have `fn(devconf, old value)` called after `name` was written."""
        conf_row(name)
        self._written.setdefault(name, []).append(fn)

    def items(self) -> list[tuple[str, int]]:
        """(name, value), sorted."""
        return sorted((row.name, getattr(self, row.name)) for row in CONF_ROWS)


_ROWS = {row.name: row for row in CONF_ROWS}


def conf_row(name: str) -> Sysctl:
    """The row of a setting. Raises: SysctlError ENOENT."""
    row = _ROWS.get(name)
    if row is None:
        known = ", ".join(sorted(_ROWS))
        raise SysctlError(errno.ENOENT, f"no sysctl net.ipv6.conf.*.{name}; there are: {known}")
    return row
