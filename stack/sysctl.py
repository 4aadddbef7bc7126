"""/proc/sys/net of one host: every sysctl as an attribute, checked when it is written."""

from __future__ import annotations

import errno
import warnings
from collections.abc import Callable, Mapping
from typing import Any

from fastpath.errors import check_type
from stack.core.devconf import ALL, devconf, find_devconf
from stack.core.rows import state
from stack.core.sysctl_net_core import Sysctl, SysctlError
from stack.ipv4.devconf import (
    CONF4_DIR,
    CONF4_ROWS,
    devconf_sets,
    inet_forward_change,
    ipv4_devconf,
)
from stack.ipv4.sysctl_names import SYSCTLS, find
from stack.ipv6.sysctl_net_ipv6 import netns_sysctl_ipv6
from stack.sysctl_fields import sysctl_fields

__all__ = ["SYSCTLS", "SysctlError", "find", "sysctl_table"]

NET_IPV6_DIR = "net.ipv6."
IP_FORWARD = "ip_forward"
"""Another name of net.ipv4.conf.all.forwarding."""


def is_ipv6(name: str) -> bool:
    """Whether it is a knob of net.ipv6."""
    return name.replace("/", ".").startswith(NET_IPV6_DIR)


@state
class sysctl_table(sysctl_fields):
    """One attribute per knob, Linux's names, units and defaults; `docs/knobs.md` lists them.

    Reading is reading an attribute. Writing checks name and value as /proc/sys does and raises
    SysctlError: `host.sysctl.tcp_sack = 0`, `host.sysctl["net.ipv4.tcp_sack"] = "0"`. Those of
    IPv6 go by their full names here; `ipv6` keeps them. A setting of net.ipv4.conf by its short
    name is that of `all` when it is read; written it goes to `all`, `default` and each interface.
    """

    ipv6: netns_sysctl_ipv6
    conf: dict[str, ipv4_devconf]
    """net.ipv4.conf: `all`, `default` and the interfaces by name."""
    _first: bool
    _written: dict[str, list[Callable[[Any], Any]]]

    def __init__(
        self, ram_bytes: int, overrides: Mapping[str, Any] | None = None, *, first: bool = True
    ) -> None:
        """Start from the defaults. Only the `first` namespace has the machine's own knobs."""
        if overrides is not None:
            check_type("Host", "sysctl", overrides, Mapping, 'a mapping such as {"tcp_sack": 0}')
        store = object.__setattr__
        store(self, "_first", first)
        store(self, "ipv6", netns_sysctl_ipv6(ram_bytes))
        store(self, "conf", devconf_sets())
        self.conf[ALL].on_change(self._before_devices)
        given = {}
        for name, value in (overrides or {}).items():
            if is_ipv6(name):
                self.ipv6[name] = value
            elif not self._to_conf(name, value):
                given[self._row(name).name] = value
        store(self, "_written", {})
        for row in SYSCTLS.values():
            if not self.has(row) or self._in_conf(row.name) is not None:
                continue
            store(self, row.name, row.default(ram_bytes) if callable(row.default) else row.default)
        if "ipfrag_high_thresh" in given and "ipfrag_low_thresh" not in given:
            store(self, "ipfrag_low_thresh", 0)  # else it limits the new value (_fits)
        for name, value in given.items():
            store(self, name, self._parse(SYSCTLS[name], value))
        for name in given:
            self._fits(SYSCTLS[name], getattr(self, name))

    def __repr__(self) -> str:
        changed = [f"{n}={v!r}" for n, v in self.items() if v != SYSCTLS[n].default]
        return f"sysctl_table({', '.join(changed)})"

    def __setattr__(self, name: str, value: Any) -> None:
        if is_ipv6(name):
            self.ipv6[name] = value
            return
        if self._to_conf(name, value):
            return
        row = self._row(name)
        value = self._parse(row, value)
        self._fits(row, value)
        for fn in self._written.get(row.name, ()):
            fn(value)
        object.__setattr__(self, row.name, value)

    def __getattr__(self, name: str) -> Any:
        if name != IP_FORWARD and name not in CONF4_ROWS:
            raise AttributeError(f"no sysctl is kept as {name!r}")
        found = self._in_conf(name)
        assert found is not None
        return getattr(*found)

    def _in_conf(self, name: str) -> tuple[devconf, str] | None:
        """The set and the setting of net.ipv4.conf that a name refers to; None: no such name."""
        if name in CONF4_ROWS:
            return self.conf[ALL], name
        dotted = name.replace("/", ".")
        if dotted.startswith(CONF4_DIR):
            return find_devconf(self.conf, CONF4_DIR, dotted)
        if dotted.removeprefix("net.ipv4.") == IP_FORWARD:
            return self.conf[ALL], "forwarding"
        return None

    def _to_conf(self, name: str, value: Any) -> bool:
        """Write a setting of net.ipv4.conf; False: not one of these names."""
        if name in CONF4_ROWS:
            for conf in tuple(self.conf.values()):
                setattr(conf, name, value)
            return True
        found = self._in_conf(name)
        if found is None:
            return False
        if not name.endswith(found[1]):
            value = SYSCTLS[IP_FORWARD].parse(value)  # an error names the written value
        setattr(*found, value)
        return True

    def _before_devices(self, every: devconf, name: str, old: Any) -> None:
        """Apply the initial value of a setting of `all`."""
        if name == "forwarding":
            inet_forward_change(self.conf)

    def has(self, row: Sysctl) -> bool:
        """Whether this namespace has the knob."""
        return self._first or not row.machine

    def _row(self, name: str) -> Sysctl:
        """The row of a knob of this namespace. Raises: SysctlError ENOENT."""
        row = find(name)
        if not self.has(row):
            where = "it is one of the whole machine, in its first namespace"
            raise SysctlError(errno.ENOENT, f"no sysctl {row.full_name} here: {where}")
        return row

    def __delattr__(self, name: str) -> None:
        raise SysctlError(errno.EPERM, f"sysctl {name}: cannot be removed")

    def __getitem__(self, name: str) -> Any:
        if is_ipv6(name):
            return self.ipv6[name]
        found = self._in_conf(name)
        return getattr(*found) if found is not None else getattr(self, self._row(name).name)

    __setitem__ = __setattr__

    def items(self) -> list[tuple[str, Any]]:
        """(name, value), sorted."""
        return sorted((name, getattr(self, name)) for name, row in SYSCTLS.items() if self.has(row))

    def on_write(self, name: str, fn: Callable[[Any], Any], *, now: bool = True) -> None:
        """Call `fn(value)` now and before each later write of `name` is stored.

        An owner that keeps a copy needs it, or one that refuses values by raising SysctlError.
        Without `now` only writes call it.
        """
        self._written.setdefault(name, []).append(fn)
        if now:
            fn(getattr(self, name))

    def publish(self, name: str, value: Any) -> None:
        """Store the owner's value of `name` unchecked, also of a read-only knob."""
        object.__setattr__(self, name, value)

    def _parse(self, row: Sysctl, value: Any) -> Any:
        value = row.parse(value)
        if row.obsolete:
            warnings.warn(f"sysctl {row.full_name}: {row.obsolete}", stacklevel=4)
        return value

    def _fits(self, row: Sysctl, value: Any) -> None:
        """Check a value against other knobs, as Linux's handlers do. Raises: SysctlError EINVAL."""
        match row.name:
            case "ip_local_port_range":
                if value[0] > value[1]:
                    raise row.wrong(value, "the range is empty")
                if value[0] < self.ip_unprivileged_port_start:
                    start = self.ip_unprivileged_port_start
                    raise row.wrong(value, f"begins below ip_unprivileged_port_start, {start}")
            case "ip_unprivileged_port_start":
                if value > self.ip_local_port_range[0]:
                    low = self.ip_local_port_range[0]
                    raise row.wrong(value, f"above the start of ip_local_port_range, {low}")
            case "ipfrag_high_thresh":
                if value < self.ipfrag_low_thresh:
                    low = self.ipfrag_low_thresh
                    raise row.wrong(value, f"below ipfrag_low_thresh, {low}; write that one first")
            case "ipfrag_low_thresh":
                if value > self.ipfrag_high_thresh:
                    high = self.ipfrag_high_thresh
                    raise row.wrong(value, f"above ipfrag_high_thresh, {high}")
