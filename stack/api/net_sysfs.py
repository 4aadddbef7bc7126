"""/sys/class/net: the attributes of interfaces, a file for each (net/core/net-sysfs.c).

`show(net, "eth0/mtu")` gives a file's text, `names(net, "eth0")` the names in a directory, and
`store(net, "eth0/mtu", "1400")` writes one of WRITABLE.

    eth0/NAME, statistics/NAME,     FILES, a function of the device for each; a driver may have
    queues/rx-0/NAME, tx-0/NAME     KIND_FILES and BYTE_QUEUE_LIMITS in addition (`_files`)
    br0/bridge/NAME, eth0/brport    br_sysfs: attributes of bridges and their ports
    br0/brif/eth0                   the port's brport
    eth0/master, upper_X, lower_X   another interface's directory (`link` returns the target)

Programs use stack.api.programs.sysfs. `_parts` splits a path into device and rest,
also through links. Nothing is cached: each access reads the device.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable

from stack.api import br_sysfs
from stack.core.dev import dev_get_stats, dev_set_mtu
from stack.core.dev_notifier import netdev_state_change
from stack.core.dynamic_queue_limits import DQL_MAX_LIMIT, dql
from stack.core.errors import check, os_error
from stack.core.ethtool import SPEED_UNKNOWN, ethtool_get_settings
from stack.core.netdevice import IFF_UP, LINK_STATE_NOCARRIER, net_device
from stack.core.sock import ns_capable
from stack.core.time64 import NSEC_PER_MSEC
from stack.core.uapi import CAP_NET_ADMIN
from stack.drivers.tun import tun_flags
from stack.net import Net
from stack.netlink.rt_link import dev_get_iflink, operstate

ROOT = "/sys/class/net"
DIRECTORY_MODE, FILE_BYTES = 0o755, 4096
IFALIASZ = 256
STATES = {0: "unknown", 2: "down", 3: "lowerlayerdown", 4: "testing", 5: "dormant", 6: "up"}
DUPLEX = {0: "half", 1: "full"}
DEVTYPES = ("bridge", "vlan", "vxlan")
"""Interface kinds in `uevent` (SET_NETDEV_DEVTYPE)."""
STATISTICS = (
    "collisions",
    "multicast",
    "rx_bytes",
    "rx_compressed",
    "rx_crc_errors",
    "rx_dropped",
    "rx_errors",
    "rx_fifo_errors",
    "rx_frame_errors",
    "rx_length_errors",
    "rx_missed_errors",
    "rx_nohandler",
    "rx_over_errors",
    "rx_packets",
    "tx_aborted_errors",
    "tx_bytes",
    "tx_carrier_errors",
    "tx_compressed",
    "tx_dropped",
    "tx_errors",
    "tx_fifo_errors",
    "tx_heartbeat_errors",
    "tx_packets",
    "tx_window_errors",
)


def _carrier(dev: net_device) -> str:
    """Only an interface that is up has a carrier. Raises: OSError EINVAL."""
    if not dev.flags & IFF_UP:
        raise os_error(errno.EINVAL, f"{dev.name} is down")
    return str(int(not dev.state & LINK_STATE_NOCARRIER))


def _never(dev: net_device) -> str:
    """A state that no driver here supports; the interface must be up. Raises: OSError EINVAL."""
    if not dev.flags & IFF_UP:
        raise os_error(errno.EINVAL, f"{dev.name} is down")
    return "0"


def _settings(dev: net_device) -> tuple[int, int]:
    """Speed in Mbit/s and duplex. Raises: OSError EINVAL: it is down, or the driver has none."""
    if not dev.flags & IFF_UP or dev.ethtool_ops is None:
        raise os_error(errno.EINVAL, f"{dev.name} has no speed to tell")
    try:
        found = ethtool_get_settings(dev)
    except OSError:
        raise os_error(errno.EINVAL, f"the driver of {dev.name} tells no speed") from None
    return found.speed, found.duplex


def _speed(dev: net_device) -> str:
    speed, _ = _settings(dev)
    return "-1" if speed == SPEED_UNKNOWN else str(speed)


def _iflink(dev: net_device) -> str:
    lower = dev_get_iflink(dev)
    return str(dev.ifindex if lower is None else lower.ifindex)


def _uevent(dev: net_device) -> str:
    kind = dev.rtnl_link_ops.kind if dev.rtnl_link_ops is not None else ""
    devtype = f"DEVTYPE={kind}\n" if kind in DEVTYPES else ""
    return f"{devtype}INTERFACE={dev.name}\nIFINDEX={dev.ifindex}"


def _only_of_many(dev: net_device) -> str:
    """An attribute of multiqueue interfaces only. Raises: OSError ENOENT."""
    raise os_error(errno.ENOENT, f"{dev.name} has one queue")


def _statistic(name: str) -> Callable[[net_device], str]:
    return lambda dev: str(getattr(dev_get_stats(dev), name))


FILES: dict[str, Callable[[net_device], str]] = {
    "addr_assign_type": lambda dev: str(dev.addr_assign_type),
    "addr_len": lambda dev: str(dev.addr_len),
    "address": lambda dev: (dev.dev_addr or bytes(dev.addr_len)).hex(":"),
    "broadcast": lambda dev: (dev.broadcast or bytes(dev.addr_len)).hex(":"),
    "carrier": _carrier,
    "carrier_changes": lambda dev: str(dev.carrier_up_count + dev.carrier_down_count),
    "carrier_down_count": lambda dev: str(dev.carrier_down_count),
    "carrier_up_count": lambda dev: str(dev.carrier_up_count),
    "dev_id": lambda dev: "0x0",
    "dev_port": lambda dev: "0",
    "dormant": _never,
    "duplex": lambda dev: DUPLEX.get(_settings(dev)[1], "unknown"),
    "flags": lambda dev: f"{dev.flags:#x}",
    "ifalias": lambda dev: os.fsdecode(dev.ifalias),
    "ifindex": lambda dev: str(dev.ifindex),
    "iflink": _iflink,
    "link_mode": lambda dev: "0",
    "mtu": lambda dev: str(dev.mtu),
    "netdev_group": lambda dev: str(dev.group),
    "operstate": lambda dev: STATES[operstate(dev)],
    "proto_down": lambda dev: "0",
    "speed": _speed,
    "testing": _never,
    "tx_queue_len": lambda dev: str(dev.tx_queue_len),
    "type": lambda dev: str(dev.type),
    "uevent": _uevent,
    "queues/rx-0/rps_cpus": lambda dev: "0",
    "queues/rx-0/rps_flow_cnt": lambda dev: "0",
    "queues/tx-0/traffic_class": _only_of_many,
    "queues/tx-0/tx_maxrate": lambda dev: "0",
    "queues/tx-0/tx_timeout": lambda dev: str(dev.trans_timeout),
    "queues/tx-0/xps_cpus": _only_of_many,
    "queues/tx-0/xps_rxqs": lambda dev: "0",
    **{f"statistics/{name}": _statistic(name) for name in STATISTICS},
}
LIMITS = "queues/tx-0/byte_queue_limits"


def _dql(dev: net_device) -> dql:
    """The byte queue limits of an interface with the files below (`_files`)."""
    assert dev.dql is not None
    return dev.dql


BYTE_QUEUE_LIMITS: dict[str, Callable[[net_device], str]] = {
    f"{LIMITS}/hold_time": lambda dev: str(_dql(dev).slack_hold_time // NSEC_PER_MSEC),
    f"{LIMITS}/inflight": lambda dev: str(_dql(dev).num_queued - _dql(dev).num_completed),
    f"{LIMITS}/limit": lambda dev: str(_dql(dev).limit),
    f"{LIMITS}/limit_max": lambda dev: str(_dql(dev).max_limit),
    f"{LIMITS}/limit_min": lambda dev: str(_dql(dev).min_limit),
}
KIND_FILES: dict[str, dict[str, Callable[[net_device], str]]] = {
    "tun": {
        "group": lambda dev: str(dev.priv.group),
        "owner": lambda dev: str(dev.priv.owner),
        "tun_flags": lambda dev: f"{tun_flags(dev.priv):#x}",
    },
}
"""Additional files of an interface kind (dev->sysfs_groups)."""


def _files(dev: net_device) -> dict[str, Callable[[net_device], str]]:
    """All files of an interface except those of bridges, by their relative path."""
    kind = dev.rtnl_link_ops.kind if dev.rtnl_link_ops is not None else ""
    return FILES | KIND_FILES.get(kind, {}) | (BYTE_QUEUE_LIMITS if dev.dql is not None else {})


def _store_alias(dev: net_device, text: str) -> None:
    alias = os.fsencode(text.removesuffix("\n"))
    if len(alias) >= IFALIASZ:
        raise os_error(errno.EINVAL, f"{len(alias)} bytes are too many for an alias")
    dev.ifalias = alias
    netdev_state_change(dev)


def _store_mtu(dev: net_device, text: str) -> None:
    value = br_sysfs.number(text)
    check(dev_set_mtu(dev, value), f"{dev.name} takes no MTU of {value}")


def _store_tx_queue_len(dev: net_device, text: str) -> None:
    value = br_sysfs.number(text)
    if value >> 32:
        raise os_error(errno.ERANGE, f"{value} packets are too many for a queue")
    dev.tx_queue_len = value


def _store_group(dev: net_device, text: str) -> None:
    dev.group = br_sysfs.number(text) & 0xFFFFFFFF


def _store_limit(field: str, unit: int = 1) -> Callable[[net_device, str], None]:
    """Write a field of dql (net/core/net-sysfs.c bql_set), shown in `unit`."""

    def store(dev: net_device, text: str) -> None:
        value = DQL_MAX_LIMIT if text.strip() == "max" else br_sysfs.number(text)
        if value > DQL_MAX_LIMIT:
            raise os_error(errno.EINVAL, f"{value} is more than {DQL_MAX_LIMIT}")
        setattr(_dql(dev), field, value * unit)

    return store


WRITABLE: dict[str, Callable[[net_device, str], None]] = {
    "ifalias": _store_alias,
    "mtu": _store_mtu,
    "netdev_group": _store_group,
    "tx_queue_len": _store_tx_queue_len,
    f"{LIMITS}/hold_time": _store_limit("slack_hold_time", NSEC_PER_MSEC),
    f"{LIMITS}/limit": _store_limit("limit"),
    f"{LIMITS}/limit_max": _store_limit("max_limit"),
    f"{LIMITS}/limit_min": _store_limit("min_limit"),
}


def _parts(net: Net, path: str) -> tuple[net_device | None, str]:
    """The interface and the rest of a path below /sys/class/net. Raises: OSError ENOENT."""
    name, _, rest = path.strip("/").partition("/")
    if not name:
        return None, ""
    dev = net.dev_by_name.get(name)
    if dev is None or dev.name != name:
        raise os_error(errno.ENOENT, f"no interface {name!r}")
    first, _, below = rest.partition("/")
    there = _links(dev).get(first)
    if there is not None:
        return _parts(net, f"{there.name}/{below}")
    port, _, below = below.partition("/")
    if first == "brif" and port and first in br_sysfs.directories(dev):
        if port not in br_sysfs.ports(dev):
            raise os_error(errno.ENOENT, f"{name} has no port {port!r}")
        return net.dev_by_name[port], f"brport/{below}".rstrip("/")
    return dev, rest


def _links(dev: net_device) -> dict[str, net_device]:
    """net/core/dev.c: links to the interfaces above and below."""
    found = {f"lower_{other.name}": other for other in dev.lower}
    found |= {f"upper_{other.name}": other for other in dev.upper}
    return found if dev.master is None else found | {"master": dev.master}


def link(net: Net, path: str) -> str | None:
    """The target of a symbolic link, or None. Raises: OSError ENOENT."""
    above, _, name = path.rpartition("/")
    if above:
        dev, rest = _parts(net, above)
        if dev is not None and not rest and name in _links(dev):
            return f"../{_links(dev)[name].name}"
        if dev is not None and rest == "brif" and name in br_sysfs.ports(dev):
            return f"../../{name}/brport"
    names(net, path)
    return None


def names(net: Net, path: str) -> tuple[str, ...] | None:
    """The names in a directory; None if the path is a file.

    Raises: OSError ENOENT.
    """
    dev, rest = _parts(net, path)
    if dev is None:
        return tuple(dev.name for dev in net.dev_base_head)
    files = _files(dev)
    if rest in files:
        return None
    above = f"{rest}/" if rest else ""
    below = (path.removeprefix(above).split("/")[0] for path in files if path.startswith(above))
    found = tuple(dict.fromkeys(below))
    if rest:
        return found or _bridge_names(dev, rest)
    forward = ("brforward",) if "bridge" in br_sysfs.directories(dev) else ()
    return (*found, *br_sysfs.directories(dev), *forward, *_links(dev))


def _bridge_names(dev: net_device, rest: str) -> tuple[str, ...] | None:
    """Names of the files of bridges and their ports. Raises: OSError ENOENT."""
    group, _, leaf = rest.rpartition("/")
    found = br_sysfs.directories(dev)
    if "bridge" in found and rest == "brforward":
        return None
    if rest == "brif" and rest in found:
        return br_sysfs.ports(dev)
    if rest in found:
        return tuple(br_sysfs.FILES[rest])
    if group in found and leaf in br_sysfs.FILES.get(group, ()):
        return None
    raise os_error(errno.ENOENT, f"{ROOT}/{dev.name}/{rest}")


def show(net: Net, path: str) -> str:
    """A file's text. Raises: OSError ENOENT, EISDIR; EINVAL: the value is not available now."""
    if names(net, path) is not None:
        raise os_error(errno.EISDIR, f"{ROOT}/{path}")
    dev, rest = _parts(net, path)
    assert dev is not None
    found = _files(dev).get(rest)
    if found is not None:
        return f"{found(dev)}\n"
    if rest == "brforward":
        return br_sysfs.brforward(dev)
    group, _, leaf = rest.rpartition("/")
    return f"{br_sysfs.show(dev, group, leaf)}\n"


def mode(net: Net, path: str) -> int:
    """Permissions of a file. Raises: OSError ENOENT."""
    names(net, path)
    rest = _parts(net, path)[1]
    group, _, leaf = rest.rpartition("/")
    if leaf in br_sysfs.FILES.get(group, ()):
        return br_sysfs.FILES[group][leaf][2]
    return 0o644 if rest in WRITABLE else 0o444


def store(net: Net, path: str, text: str) -> None:
    """Write a file of WRITABLE, or a file of a bridge or its port.

    Raises: OSError EPERM, EINVAL: not a number, ENOENT, and errors of the interface.
    """
    dev, rest = _parts(net, path)
    group, _, leaf = rest.rpartition("/")
    if dev is None or not mode(net, path) & 0o200:
        raise os_error(errno.EACCES, f"{ROOT}/{path} cannot be written")
    if not ns_capable(net, CAP_NET_ADMIN):
        raise os_error(errno.EPERM, "only root may configure interfaces")
    if rest in WRITABLE:
        WRITABLE[rest](dev, text)
    else:
        br_sysfs.store(dev, group, leaf, text)
