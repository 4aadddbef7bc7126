"""Settings per interface: net.ipv4.conf and net.ipv6.conf (net/ipv4/devinet.c, addrconf.c).

`all` and `default` are sets like an interface's, which starts as a copy of `default`. Each family
defines what `all` means for an interface.
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Mapping
from typing import Any

from stack.core.rows import state
from stack.core.sysctl_net_core import Sysctl, SysctlError
from stack.core.uapi import RTM_DELNETCONF, RTM_NEWNETCONF
from stack.net import Net

ALL, DEFAULT = "all", "default"
NETCONFA_IFINDEX = {ALL: -1, DEFAULT: -2}
"""Their numbers to NETLINK_ROUTE; an interface has its own."""

DevconfFn = Callable[["devconf", str, Any], Any]


def nothing(conf: devconf, name: str, old: Any) -> None:
    """Notify no one."""


@state
class devconf:
    """struct ipv4_devconf, ipv6_devconf: the settings of `all`, `default` or one interface.

    Settings are attributes. Writing one checks the value as /proc/sys does, raises SysctlError if
    it is bad, and calls `changed(devconf, name, value before)`.
    """

    label: str
    changed: DevconfFn
    _rows: Mapping[str, Sysctl]
    _directory: str

    def _begin(
        self, label: str, directory: str, rows: Mapping[str, Sysctl], template: devconf | None
    ) -> None:
        """Start from the defaults of `rows`, or with the values of `template`."""
        store = object.__setattr__
        store(self, "label", label)
        store(self, "changed", nothing)
        store(self, "_rows", rows)
        store(self, "_directory", directory)
        for name, row in rows.items():
            store(self, name, row.default if template is None else getattr(template, name))

    def __repr__(self) -> str:
        return f"<{self._directory}{self.label}>"

    def __setattr__(self, name: str, value: Any) -> None:
        value = self.row(name).parse(value)
        old = getattr(self, name)
        self.store(name, value)
        self.changed(self, name, old)

    def row(self, name: str) -> Sysctl:
        """The row of a setting. Raises: SysctlError ENOENT."""
        row = self._rows.get(name)
        if row is None:
            known = ", ".join(sorted(self._rows))
            raise SysctlError(
                errno.ENOENT, f"no sysctl {self._directory}*.{name}; there are: {known}"
            )
        return row

    def store(self, name: str, value: Any) -> None:
        """Set a value that no program wrote, without a check and without a call of `changed`."""
        object.__setattr__(self, name, value)

    def on_change(self, fn: DevconfFn) -> None:
        """Have `fn(devconf, name, value before)` called after a setting was written."""
        object.__setattr__(self, "changed", fn)

    def items(self) -> list[tuple[str, Any]]:
        """(name, value), sorted."""
        return sorted((name, getattr(self, name)) for name in self._rows)


def find_devconf(conf: Mapping[str, devconf], directory: str, dotted: str) -> tuple[devconf, str]:
    """The set and the setting of `net.ipv4.conf.LABEL.NAME`. Raises: SysctlError ENOENT."""
    label, _, name = dotted[len(directory) :].rpartition(".")
    found = conf.get(label)
    if found is None:
        known = ", ".join(conf)
        raise SysctlError(errno.ENOENT, f"no sysctl {dotted!r}; {directory[:-1]} has: {known}")
    return found, found.row(name).name


def add_devconf(conf: dict[str, Any], mine: devconf, name: str) -> None:
    """net/core/sysctl_net_core.c sysctl_dev_name_is_allowed: an interface named `all` or `default`
    has no files."""
    mine.store("label", name)
    if name not in NETCONFA_IFINDEX:
        conf[name] = mine


def remove_devconf(conf: dict[str, Any], mine: devconf) -> None:
    """The interface was removed or renamed."""
    if conf.get(mine.label) is mine:
        del conf[mine.label]


def netconf_notify(net: Net, family: int, conf: devconf, name: str = "", index: int = 0) -> None:
    """inet_netconf_notify_devconf, inet6_netconf_notify_devconf: notify listeners of a changed
    setting, or of all settings of a new interface. `index`: the interface's, if known."""
    if net.rtnl is not None:
        index = index or NETCONFA_IFINDEX.get(conf.label) or net.dev_by_name[conf.label].ifindex
        net.rtnl(RTM_NEWNETCONF, (family, index, conf, name), 0)


def netconf_gone(net: Net, family: int, index: int) -> None:
    """The same for an interface that is removed or renamed."""
    if net.rtnl is not None:
        net.rtnl(RTM_DELNETCONF, (family, index, None, ""), 0)
