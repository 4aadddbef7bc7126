"""/proc/sys/net: a file for each knob (fs/proc/proc_sysctl.c).

`show(net, "ipv4/tcp_sack")` gives a file's text, `names(net, "ipv4")` the names in a directory, and
`store(net, "ipv4/tcp_sack", "0")` writes one.
"""

from __future__ import annotations

import errno
from typing import Any

from stack.core.errors import os_error
from stack.core.neigh_sysctl import DEFAULT, neigh_rows, neigh_values
from stack.core.neigh_table import neigh_table
from stack.core.sock import ns_capable
from stack.core.sysctl_net_core import KEYS, NAME, NAMES, NUMBER, Sysctl
from stack.core.uapi import CAP_NET_ADMIN
from stack.ipv4.devconf import CONF, CONF4_ROWS
from stack.ipv4.sysctl_names import SYSCTLS
from stack.ipv6.devconf import CONF6_ROWS
from stack.ipv6.sysctl_net_ipv6 import NET_IPV6
from stack.net import Net

ROOT = "/proc/sys/net"
DIRECTORY_MODE, FILE_BYTES = 0o555, 0
KNOBS: dict[str, Sysctl] = {
    row.full_name.removeprefix("net.").replace(".", "/"): row
    for row in (*SYSCTLS.values(), *NET_IPV6)
    if row.path != CONF
}
"""Files that do not belong to an interface, by their paths."""
CONF_KNOBS = {"ipv4": CONF4_ROWS, "ipv6": CONF6_ROWS}
"""Files of each directory of `FAMILY/conf`."""
NEIGH_ROWS = {family: neigh_rows(family) for family in CONF_KNOBS}
DEVICE_KNOBS = {
    **{f"{family}/conf": knobs for family, knobs in CONF_KNOBS.items()},
    **{
        f"{family}/neigh": {name: row.sysctl for name, row in rows.items()}
        for family, rows in NEIGH_ROWS.items()
    },
}
"""Files of each directory of `FAMILY/conf` and `FAMILY/neigh`."""


def _labels(net: Net, above: str) -> tuple[str, ...]:
    """The directories of `FAMILY/conf` and `FAMILY/neigh`: of interfaces, `default`, and `all`."""
    if above == "ipv6/conf":
        return tuple(net.sysctl.ipv6.conf)
    if above == "ipv4/conf":
        return tuple(net.sysctl.conf)
    tbl = _table(net, above)
    return (DEFAULT, *(parms.dev.name for parms in tbl.parms_list if parms.dev is not None))


def _table(net: Net, above: str) -> neigh_table:
    tbl = net.arp_tbl if above == "ipv4/neigh" else net.ipv6.nd_tbl
    assert tbl is not None
    return tbl


def _parts(path: str) -> tuple[str, str, str]:
    """The last two parts of a path, after the rest: ("ipv4/conf", "lo", "forwarding")."""
    place, _, name = path.rpartition("/")
    above, _, label = place.rpartition("/")
    return above, label, name


def _find(net: Net, path: str) -> Sysctl | None:
    """The knob of a file, or None."""
    row = KNOBS.get(path)
    if row is None and path.count("/") == 3:
        above, label, name = _parts(path)
        if above in DEVICE_KNOBS and label in _labels(net, above):
            return DEVICE_KNOBS[above].get(name)
    return row if row is not None and net.sysctl.has(row) else None


def names(net: Net, path: str) -> tuple[str, ...] | None:
    """The names in a directory; None if the path is a file. Raises: OSError ENOENT."""
    if _find(net, path) is not None:
        return None
    start = f"{path}/" if path else ""
    found = {
        file[len(start) :].partition("/")[0]
        for file, row in KNOBS.items()
        if file.startswith(start) and net.sysctl.has(row)
    }
    above, _, label = path.rpartition("/")
    if path in DEVICE_KNOBS:
        found.update(_labels(net, path))
    elif above in DEVICE_KNOBS and label in _labels(net, above):
        found.update(DEVICE_KNOBS[above])
    elif path in CONF_KNOBS:
        found.update(("conf", "neigh"))
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


def link(net: Net, path: str) -> str | None:
    """There are no symbolic links. Raises: OSError ENOENT."""
    names(net, path)
    return None


def mode(net: Net, path: str) -> int:
    """Permissions of a file. Raises: OSError ENOENT, EISDIR."""
    return _file(net, path).mode


def _kept(net: Net, path: str) -> tuple[Any, str]:
    """The object with a file's value, and the attribute's name."""
    above, label, name = _parts(path)
    if above.endswith("/neigh") and path not in KNOBS:
        tbl = _table(net, above)
        own = (p for p in tbl.parms_list if p.dev is not None and p.dev.name == label)
        parms = tbl.parms if label == DEFAULT else next(own)
        return neigh_values(tbl, parms, NEIGH_ROWS[above.partition("/")[0]]), name
    return net.sysctl, f"net/{path}"


def show(net: Net, path: str) -> str:
    """A file's text.

    Raises: OSError ENOENT, EISDIR; EACCES: it is write-only; EIO: it has no value yet.
    """
    row = _file(net, path)
    if not row.mode & 0o400:
        raise os_error(errno.EACCES, f"{ROOT}/{path} is only written")
    kept, name = _kept(net, path)
    value = kept[name]
    if value == "":
        raise os_error(errno.EIO, f"{ROOT}/{path} has no value")
    return f"{row.shown(value)}\n"


def store(net: Net, path: str, text: str) -> None:
    """Write a file. Raises: OSError ENOENT, EISDIR, EPERM, EACCES; EINVAL: an invalid value."""
    row = _file(net, path)
    if not ns_capable(net, CAP_NET_ADMIN):
        raise os_error(errno.EPERM, "only root may write sysctls")
    kept, name = _kept(net, path)
    if row.kind in (NAME, NAMES, KEYS):
        text = text.replace("\0", "\n").partition("\n")[0]  # proc_dostring ends there
    words = text.split()
    # proc_dointvec sets as many numbers as are given, and keeps the others.
    one = row.kind == NUMBER and row.count == 1 and words
    kept[name] = words[0] if one else text.strip()
