"""bridge/, brif/ and brport/ below /sys/class/net (net/bridge/br_sysfs_br.c, br_sysfs_if.c).

They read and write the values of IFLA_BR_* and IFLA_BRPORT_*; brctl(8) uses them.
"""

from __future__ import annotations

import errno
import re
import struct
from collections.abc import Callable
from typing import Any

from stack.bridge.br_private import br_port_get, net_bridge
from stack.core.errors import os_error
from stack.core.netdevice import net_device
from stack.core.sysctl_net_core import kstrtol
from stack.core.time64 import TICK_NS
from stack.netlink.nlattr import Attrs
from stack.netlink.rt_kinds import br_changelink, br_fill_info, br_setport, brport_fill

MAC = re.compile("([0-9a-fA-F]{2}:){5}[0-9a-fA-F]{2}")
FDB_ENTRY = struct.Struct("=6sBBIBxxx")
"""struct __fdb_entry: address, port, whether it is local, ticks since its last frame."""


def _text(value: Any) -> str:
    return str(int(value))


def _hex(value: int) -> str:
    return f"{value:#x}"


def _id(value: bytes) -> str:
    """A bridge's number: priority and address."""
    return f"{value[:2].hex()}.{value[2:].hex()}"


def _mac(value: bytes) -> str:
    return value.hex(":")


File = tuple[str, Callable[[Any], str], int]
"""A file: its attribute, format and permissions."""

BRIDGE: dict[str, File] = {
    "ageing_time": ("AGEING_TIME", _text, 0o644),
    "bridge_id": ("BRIDGE_ID", _id, 0o444),
    "flush": ("FDB_FLUSH", _text, 0o200),
    "forward_delay": ("FORWARD_DELAY", _text, 0o644),
    "gc_timer": ("GC_TIMER", _text, 0o444),
    "group_addr": ("GROUP_ADDR", _mac, 0o644),
    "group_fwd_mask": ("GROUP_FWD_MASK", _hex, 0o644),
    "hash_elasticity": ("MCAST_HASH_ELASTICITY", _text, 0o644),
    "hash_max": ("MCAST_HASH_MAX", _text, 0o644),
    "hello_time": ("HELLO_TIME", _text, 0o644),
    "hello_timer": ("HELLO_TIMER", _text, 0o444),
    "max_age": ("MAX_AGE", _text, 0o644),
    "multicast_igmp_version": ("MCAST_IGMP_VERSION", _text, 0o644),
    "multicast_last_member_count": ("MCAST_LAST_MEMBER_CNT", _text, 0o644),
    "multicast_last_member_interval": ("MCAST_LAST_MEMBER_INTVL", _text, 0o644),
    "multicast_membership_interval": ("MCAST_MEMBERSHIP_INTVL", _text, 0o644),
    "multicast_mld_version": ("MCAST_MLD_VERSION", _text, 0o644),
    "multicast_querier": ("MCAST_QUERIER", _text, 0o644),
    "multicast_querier_interval": ("MCAST_QUERIER_INTVL", _text, 0o644),
    "multicast_query_interval": ("MCAST_QUERY_INTVL", _text, 0o644),
    "multicast_query_response_interval": ("MCAST_QUERY_RESPONSE_INTVL", _text, 0o644),
    "multicast_query_use_ifaddr": ("MCAST_QUERY_USE_IFADDR", _text, 0o644),
    "multicast_router": ("MCAST_ROUTER", _text, 0o644),
    "multicast_snooping": ("MCAST_SNOOPING", _text, 0o644),
    "multicast_startup_query_count": ("MCAST_STARTUP_QUERY_CNT", _text, 0o644),
    "multicast_startup_query_interval": ("MCAST_STARTUP_QUERY_INTVL", _text, 0o644),
    "priority": ("PRIORITY", _text, 0o644),
    "root_id": ("ROOT_ID", _id, 0o444),
    "root_path_cost": ("ROOT_PATH_COST", _text, 0o444),
    "root_port": ("ROOT_PORT", _text, 0o444),
    "stp_state": ("STP_STATE", _text, 0o644),
    "tcn_timer": ("TCN_TIMER", _text, 0o444),
    "topology_change": ("TOPOLOGY_CHANGE", _text, 0o444),
    "topology_change_detected": ("TOPOLOGY_CHANGE_DETECTED", _text, 0o444),
    "topology_change_timer": ("TOPOLOGY_CHANGE_TIMER", _text, 0o444),
}
PORT: dict[str, File] = {
    "bpdu_guard": ("GUARD", _text, 0o644),
    "broadcast_flood": ("BCAST_FLOOD", _text, 0o644),
    "change_ack": ("TOPOLOGY_CHANGE_ACK", _text, 0o444),
    "config_pending": ("CONFIG_PENDING", _text, 0o444),
    "designated_bridge": ("BRIDGE_ID", _id, 0o444),
    "designated_cost": ("DESIGNATED_COST", _text, 0o444),
    "designated_port": ("DESIGNATED_PORT", _text, 0o444),
    "designated_root": ("ROOT_ID", _id, 0o444),
    "flush": ("FLUSH", _text, 0o200),
    "forward_delay_timer": ("FORWARD_DELAY_TIMER", _text, 0o444),
    "group_fwd_mask": ("GROUP_FWD_MASK", _hex, 0o644),
    "hairpin_mode": ("MODE", _text, 0o644),
    "hold_timer": ("HOLD_TIMER", _text, 0o444),
    "isolated": ("ISOLATED", _text, 0o644),
    "learning": ("LEARNING", _text, 0o644),
    "message_age_timer": ("MESSAGE_AGE_TIMER", _text, 0o444),
    "multicast_fast_leave": ("FAST_LEAVE", _text, 0o644),
    "multicast_flood": ("MCAST_FLOOD", _text, 0o644),
    "multicast_router": ("MULTICAST_ROUTER", _text, 0o644),
    "path_cost": ("COST", _text, 0o644),
    "port_id": ("ID", _hex, 0o444),
    "port_no": ("NO", _hex, 0o444),
    "priority": ("PRIORITY", _text, 0o644),
    "root_block": ("PROTECT", _text, 0o644),
    "state": ("STATE", _text, 0o444),
    "unicast_flood": ("UNICAST_FLOOD", _text, 0o644),
}
FILES = {"bridge": BRIDGE, "brport": PORT}
"""By directory."""
PREFIX = {"bridge": "IFLA_BR_", "brport": "IFLA_BRPORT_"}


def directories(dev: net_device) -> tuple[str, ...]:
    """The directories of an interface."""
    found: tuple[str, ...] = ()
    if isinstance(dev.priv, net_bridge):
        found = ("bridge", "brif")
    return (*found, "brport") if br_port_get(dev) is not None else found


def ports(dev: net_device) -> tuple[str, ...]:
    """Names in brif/ of a bridge."""
    br: net_bridge = dev.priv
    return tuple(p.dev.name for p in br.port_list)


def show(dev: net_device, directory: str, name: str) -> str:
    """A file's text. Raises: OSError EACCES: it is write-only."""
    attr, shown, mode = FILES[directory][name]
    if not mode & 0o400:
        raise os_error(errno.EACCES, f"{directory}/{name} is only written")
    told = br_fill_info(dev) if directory == "bridge" else brport_fill(dev)
    return shown(told[PREFIX[directory] + attr])


def store(dev: net_device, directory: str, name: str, text: str) -> None:
    """Write a file. Raises: OSError EINVAL, ERANGE, ENETDOWN ..."""
    given = Attrs()
    given[PREFIX[directory] + FILES[directory][name][0]] = _value(directory, name, text)
    if directory == "bridge":
        br_changelink(dev, Attrs(), given)
    else:
        br_setport(dev, given)


def _value(directory: str, name: str, text: str) -> int | bytes:
    """Parse the written text. Raises: OSError EINVAL."""
    if name == "group_addr":
        if not MAC.fullmatch(text.removesuffix("\n")):
            raise os_error(errno.EINVAL, f"{text!r} is no address")
        return bytes.fromhex(text.replace(":", ""))
    value = number(text)
    if (directory, name) == ("bridge", "priority"):
        return value & 0xFFFF  # set_priority
    if value >> 32:
        raise os_error(errno.EINVAL, f"{text!r} is no number of 32 bits")
    return value


def number(text: str) -> int:
    """lib/kstrtox.c kstrtoul: parse a written number. Raises: OSError EINVAL, ERANGE."""
    try:
        value = kstrtol(text.removesuffix("\n"))
    except ValueError:
        value = -1
    if value < 0:
        raise os_error(errno.EINVAL, f"{text!r} is no number")
    if value >> 64:
        raise os_error(errno.ERANGE, f"{text!r} has more than 64 bits")
    return value


def brforward(dev: net_device) -> str:
    """net/bridge/br_sysfs_br.c brforward_read: the forwarding table, in binary."""
    br: net_bridge = dev.priv
    now = dev.net.now()
    found = []
    for fdb in br.fdb_hash.values():
        if fdb.dst is None:
            continue
        port = fdb.dst.port_no
        age = 0 if fdb.is_static else (now - fdb.updated) // TICK_NS
        found.append(FDB_ENTRY.pack(fdb.addr, port & 0xFF, fdb.is_local, age, port >> 8))
    return b"".join(found).decode(errors="surrogateescape")
