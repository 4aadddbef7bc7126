"""/proc/sys/net: a file for each knob (fs/proc/proc_sysctl.c).

`show(net, "ipv4/tcp_sack")` gives a file's text, `names(net, "ipv4")` the names in a directory, and
`store(net, "ipv4/tcp_sack", "0")` writes one. Of neighbours only what all interfaces share is
there.
"""

from __future__ import annotations

import errno
from typing import Any

from stack.core.errors import os_error
from stack.core.sock import ns_capable
from stack.core.sysctl_net_core import Sysctl
from stack.core.uapi import CAP_NET_ADMIN
from stack.ipv4.sysctl_names import FORWARDING, SYSCTLS
from stack.ipv4.sysctl_net_ipv4 import CONF
from stack.ipv6.devconf import CONF_ROWS
from stack.ipv6.sysctl_net_ipv6 import NET_IPV6
from stack.net import Net

ROOT = "/proc/sys/net"
DIRECTORY_MODE, FILE_BYTES = 0o555, 0
KNOBS: dict[str, Sysctl] = {
    row.full_name.removeprefix("net.").replace(".", "/"): row
    for row in (*SYSCTLS.values(), *NET_IPV6)
    if row.path != CONF
}
"""Files outside of `conf`, by their paths."""
CONF4_KNOBS = {row.name: row for row in SYSCTLS.values() if row.path == CONF}
CONF4_KNOBS[FORWARDING] = SYSCTLS["ip_forward"]
CONF_KNOBS = {"ipv4": CONF4_KNOBS, "ipv6": {row.name: row for row in CONF_ROWS}}
"""Files of each directory of `FAMILY/conf`."""


def _labels(net: Net, family: str) -> tuple[str, ...]:
    """The directories of `FAMILY/conf`: `all`, `default`, and interfaces."""
    if family == "ipv6":
        return tuple(net.sysctl.ipv6.conf)
    interfaces = (name for name, dev in net.dev_by_name.items() if dev.ip_ptr is not None)
    return ("all", "default", *interfaces)


def _find(net: Net, path: str) -> Sysctl | None:
    """The knob of a file; None: there is no such file."""
    row = KNOBS.get(path)
    if row is None and path.count("/") == 3:
        family, conf, label, name = path.split("/")
        if conf == "conf" and family in CONF_KNOBS and label in _labels(net, family):
            return CONF_KNOBS[family].get(name)
    return row if row is not None and net.sysctl.has(row) else None


def names(net: Net, path: str) -> tuple[str, ...] | None:
    """The names in a directory; None when the path is a file's. Raises: OSError ENOENT."""
    if _find(net, path) is not None:
        return None
    found: set[str] = set()
    parts = path.split("/")
    if len(parts) in (2, 3) and parts[1] == "conf" and parts[0] in CONF_KNOBS:
        labels = _labels(net, parts[0])
        if len(parts) == 2:
            found.update(labels)
        elif parts[2] in labels:
            found.update(CONF_KNOBS[parts[0]])
    else:
        start = f"{path}/" if path else ""
        for file, row in KNOBS.items():
            if file.startswith(start) and net.sysctl.has(row):
                found.add(file[len(start) :].partition("/")[0])
        if path in CONF_KNOBS:
            found.add("conf")
    if not found:
        raise os_error(errno.ENOENT, f"{ROOT}/{path}")
    return tuple(sorted(found))


def _file(net: Net, path: str) -> Sysctl:
    """The knob of a file. Raises: OSError ENOENT, EISDIR."""
    row = _find(net, path)
    if row is None:
        names(net, path)
        raise os_error(errno.EISDIR, f"{ROOT}/{path}")
    return row


def writable(net: Net, path: str) -> bool:
    """Whether a file can be written. Raises: OSError ENOENT, EISDIR."""
    return not _file(net, path).read_only


def _kept(net: Net, path: str) -> tuple[Any, str]:
    """What keeps a file's value, and its name there."""
    family, _, rest = path.partition("/conf/")
    if family != "ipv4" or not rest:
        return net.sysctl, f"net/{path}"
    label, name = rest.split("/")
    if label in ("all", "default"):
        return net.sysctl, "ip_forward" if name == FORWARDING else name
    in_dev = net.dev_by_name[label].ip_ptr
    assert in_dev is not None
    return in_dev.cnf, name


def show(net: Net, path: str) -> str:
    """A file's text. Raises: OSError ENOENT, EISDIR."""
    row = _file(net, path)
    kept, name = _kept(net, path)
    # An interface without a value of its own has the host's.
    value = kept[name] if kept is net.sysctl or name in kept else net.sysctl[row.name]
    return f"{row.shown(value)}\n"


def store(net: Net, path: str, text: str) -> None:
    """Write a file. Raises: OSError ENOENT, EISDIR, EPERM, EACCES; EINVAL: not such a value."""
    _file(net, path)
    if not ns_capable(net, CAP_NET_ADMIN):
        raise os_error(errno.EPERM, "only root may write sysctls")
    kept, name = _kept(net, path)
    kept[name] = text.strip()
