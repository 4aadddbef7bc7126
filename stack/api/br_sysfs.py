"""bridge/, brif/ and brport/ below /sys/class/net (net/bridge/br_sysfs_br.c, br_sysfs_if.c).

They show and set what NETLINK_ROUTE has as IFLA_BR_* and IFLA_BRPORT_*; brctl(8) uses them.
"""

from __future__ import annotations

import errno
import struct
from collections.abc import Callable, Mapping
from typing import Any

from stack.bridge.br_private import br_port_get, net_bridge
from stack.core.errors import os_error
from stack.core.netdevice import net_device
from stack.netlink.nlattr import Attrs
from stack.netlink.rt_attrs import TICK_NS
from stack.netlink.rt_kinds import br_changelink, br_fill_info, br_setport, brport_fill

FDB_ENTRY = struct.Struct("=6sBBIBxxx")
"""struct __fdb_entry: address, port, whether it is the bridge's own, ticks since it was seen."""


def _text(value: Any) -> str:
    return str(int(value))


def _hex(value: int) -> str:
    return f"{value:#x}"


def _id(value: bytes) -> str:
    """A bridge's number: priority and address."""
    return f"{value[:2].hex()}.{value[2:].hex()}"


def _mac(value: bytes) -> str:
    return value.hex(":")


BRIDGE: dict[str, tuple[str, Callable[[Any], str], bool]] = {
    "ageing_time": ("AGEING_TIME", _text, True),
    "bridge_id": ("BRIDGE_ID", _id, False),
    "forward_delay": ("FORWARD_DELAY", _text, True),
    "gc_timer": ("GC_TIMER", _text, False),
    "group_addr": ("GROUP_ADDR", _mac, True),
    "group_fwd_mask": ("GROUP_FWD_MASK", _hex, True),
    "hash_elasticity": ("MCAST_HASH_ELASTICITY", _text, True),
    "hash_max": ("MCAST_HASH_MAX", _text, True),
    "hello_time": ("HELLO_TIME", _text, True),
    "hello_timer": ("HELLO_TIMER", _text, False),
    "max_age": ("MAX_AGE", _text, True),
    "multicast_igmp_version": ("MCAST_IGMP_VERSION", _text, True),
    "multicast_last_member_count": ("MCAST_LAST_MEMBER_CNT", _text, True),
    "multicast_last_member_interval": ("MCAST_LAST_MEMBER_INTVL", _text, True),
    "multicast_membership_interval": ("MCAST_MEMBERSHIP_INTVL", _text, True),
    "multicast_mld_version": ("MCAST_MLD_VERSION", _text, True),
    "multicast_querier": ("MCAST_QUERIER", _text, True),
    "multicast_querier_interval": ("MCAST_QUERIER_INTVL", _text, True),
    "multicast_query_interval": ("MCAST_QUERY_INTVL", _text, True),
    "multicast_query_response_interval": ("MCAST_QUERY_RESPONSE_INTVL", _text, True),
    "multicast_query_use_ifaddr": ("MCAST_QUERY_USE_IFADDR", _text, True),
    "multicast_router": ("MCAST_ROUTER", _text, True),
    "multicast_snooping": ("MCAST_SNOOPING", _text, True),
    "multicast_startup_query_count": ("MCAST_STARTUP_QUERY_CNT", _text, True),
    "multicast_startup_query_interval": ("MCAST_STARTUP_QUERY_INTVL", _text, True),
    "priority": ("PRIORITY", _text, True),
    "root_id": ("ROOT_ID", _id, False),
    "root_path_cost": ("ROOT_PATH_COST", _text, False),
    "root_port": ("ROOT_PORT", _text, False),
    "stp_state": ("STP_STATE", _text, True),
    "tcn_timer": ("TCN_TIMER", _text, False),
    "topology_change": ("TOPOLOGY_CHANGE", _text, False),
    "topology_change_detected": ("TOPOLOGY_CHANGE_DETECTED", _text, False),
    "topology_change_timer": ("TOPOLOGY_CHANGE_TIMER", _text, False),
}
PORT: dict[str, tuple[str, Callable[[Any], str], bool]] = {
    "bpdu_guard": ("GUARD", _text, True),
    "broadcast_flood": ("BCAST_FLOOD", _text, True),
    "change_ack": ("TOPOLOGY_CHANGE_ACK", _text, False),
    "config_pending": ("CONFIG_PENDING", _text, False),
    "designated_bridge": ("BRIDGE_ID", _id, False),
    "designated_cost": ("DESIGNATED_COST", _text, False),
    "designated_port": ("DESIGNATED_PORT", _text, False),
    "designated_root": ("ROOT_ID", _id, False),
    "forward_delay_timer": ("FORWARD_DELAY_TIMER", _text, False),
    "group_fwd_mask": ("GROUP_FWD_MASK", _hex, True),
    "hairpin_mode": ("MODE", _text, True),
    "hold_timer": ("HOLD_TIMER", _text, False),
    "isolated": ("ISOLATED", _text, True),
    "learning": ("LEARNING", _text, True),
    "message_age_timer": ("MESSAGE_AGE_TIMER", _text, False),
    "multicast_fast_leave": ("FAST_LEAVE", _text, True),
    "multicast_flood": ("MCAST_FLOOD", _text, True),
    "multicast_router": ("MULTICAST_ROUTER", _text, True),
    "path_cost": ("COST", _text, True),
    "port_id": ("ID", _hex, False),
    "port_no": ("NO", _hex, False),
    "priority": ("PRIORITY", _text, True),
    "root_block": ("PROTECT", _text, True),
    "state": ("STATE", _text, False),
    "unicast_flood": ("UNICAST_FLOOD", _text, True),
}
"""Files: the attribute, how it is shown, and whether it is written."""
FLUSH = {"bridge": "IFLA_BR_FDB_FLUSH", "brport": "IFLA_BRPORT_FLUSH"}
FILES: Mapping[str, dict[str, tuple[str, Callable[[Any], str], bool]]] = {
    "bridge": BRIDGE,
    "brport": PORT,
}
PREFIX = {"bridge": "IFLA_BR_", "brport": "IFLA_BRPORT_"}


def directories(dev: net_device) -> tuple[str, ...]:
    """Those of an interface."""
    found: tuple[str, ...] = ()
    if isinstance(dev.priv, net_bridge):
        found = ("bridge", "brif")
    return (*found, "brport") if br_port_get(dev) is not None else found


def ports(dev: net_device) -> tuple[str, ...]:
    """Names in brif/ of a bridge."""
    br: net_bridge = dev.priv
    return tuple(p.dev.name for p in br.port_list)


def names(directory: str) -> tuple[str, ...]:
    """Files in bridge/ or brport/."""
    return (*FILES[directory], "flush")


def mode(directory: str, name: str) -> int:
    """Permissions of a file."""
    if name == "flush":
        return 0o200
    return 0o644 if FILES[directory][name][2] else 0o444


def show(dev: net_device, directory: str, name: str) -> str:
    """A file's text. Raises: OSError EACCES: it is only written."""
    if name == "flush":
        raise os_error(errno.EACCES, f"{directory}/flush is only written")
    attr, shown, _ = FILES[directory][name]
    told = br_fill_info(dev) if directory == "bridge" else brport_fill(dev)
    return shown(told[PREFIX[directory] + attr])


def store(dev: net_device, directory: str, name: str, text: str) -> None:
    """Write a file. Raises: OSError EINVAL, ERANGE, ENETDOWN ..."""
    given = Attrs()
    if name == "flush":
        given[FLUSH[directory]] = True
    else:
        given[PREFIX[directory] + FILES[directory][name][0]] = _value(name, text)
    if directory == "bridge":
        br_changelink(dev, Attrs(), given)
    else:
        br_setport(dev, given)


def _value(name: str, text: str) -> int | bytes:
    """What was written. Raises: OSError EINVAL."""
    try:
        if name == "group_addr":
            return bytes.fromhex(text.strip().replace(":", ""))
        return number(text)
    except ValueError:
        raise os_error(errno.EINVAL, f"{text!r} is nothing for {name}") from None


def number(text: str) -> int:
    """A number of 32 bits. Raises: ValueError."""
    value = int(text.strip(), 0)
    if not 0 <= value < 1 << 32:
        raise ValueError(text)
    return value


def brforward(dev: net_device) -> str:
    """net/bridge/br_sysfs_br.c brforward_read: the addresses that are known, in binary."""
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
