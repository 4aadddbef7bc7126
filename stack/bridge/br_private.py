"""net/bridge/br_private.h, include/uapi/linux/if_bridge.h: a bridge and its ports."""

from __future__ import annotations

from typing import TYPE_CHECKING

from stack.core.netdevice import IFF_BRIDGE_PORT, IFF_EBRIDGE, net_device
from stack.core.rows import row, state

if TYPE_CHECKING:
    from stack.core.workqueue import work_struct

NSEC_PER_SEC = 1_000_000_000

# include/uapi/linux/if_bridge.h
BR_STATE_DISABLED = 0
BR_STATE_LISTENING = 1
BR_STATE_LEARNING = 2
BR_STATE_FORWARDING = 3
BR_STATE_BLOCKING = 4
BR_STATE_NAMES = ("disabled", "listening", "learning", "forwarding", "blocking")

# net_bridge_port.flags (the bits are ours, the names Linux's)
BR_HAIRPIN_MODE = 1 << 0
BR_LEARNING = 1 << 1
BR_FLOOD = 1 << 2
BR_MCAST_FLOOD = 1 << 3
BR_BCAST_FLOOD = 1 << 4
BR_ISOLATED = 1 << 5
BR_PORT_DEFAULT = BR_LEARNING | BR_FLOOD | BR_MCAST_FLOOD | BR_BCAST_FLOOD

BR_PKT_UNICAST = 0
BR_PKT_MULTICAST = 1
BR_PKT_BROADCAST = 2

BR_PORT_BITS = 10
BR_MAX_PORTS = 1 << BR_PORT_BITS
BR_GROUPFWD_RESTRICTED = 0x7
"""Group addresses ..:00, ..:01 and ..:02 can never be forwarded (group_fwd_mask)."""

BR_AGEING_TIME = 300 * NSEC_PER_SEC
BR_FORWARD_DELAY = 15 * NSEC_PER_SEC


@state
class net_bridge_port:
    """net/bridge/br_private.h: a device that is part of a bridge."""

    br: net_bridge
    dev: net_device
    port_no: int
    state: int = row(BR_STATE_DISABLED)
    flags: int = row(BR_PORT_DEFAULT)
    group_fwd_mask: int = row(0)
    """Bit n forwards frames to 01:80:C2:00:00:0n that this port received."""


@state
class net_bridge_fdb_entry:
    """net/bridge/br_private.h: the port of an address; `dst` None: the bridge itself."""

    addr: bytes
    dst: net_bridge_port | None
    is_local: bool = row(False)
    is_static: bool = row(False)
    added_by_user: bool = row(False)
    updated: int = row(0)
    """Time of the last frame from the address (the clock's ns)."""
    used: int = row(0)
    """Time of the last frame to the address (ns)."""


@state
class net_bridge:
    """net/bridge/br_private.h."""

    dev: net_device
    port_list: list[net_bridge_port] = row(make=list)
    """The last one added comes first."""
    fdb_hash: dict[bytes, net_bridge_fdb_entry] = row(make=dict)
    fdb_max_learned: int = row(0)
    """How many addresses are learned at most; 0: any number."""
    fdb_n_learned: int = row(0)
    ageing_time: int = row(BR_AGEING_TIME)
    """Ns without a frame from an address after which it is forgotten."""
    forward_delay: int = row(BR_FORWARD_DELAY)
    topology_change: bool = row(False)
    """After a change of the topology: addresses age in `forward_delay`."""
    group_fwd_mask: int = row(0)
    bridge_addr: bytes = row(bytes(6))
    """The lowest address of the ports, which is in the bridge's id."""
    mtu_set_by_user: bool = row(False)
    gc_work: work_struct = row()


def netif_is_bridge_master(dev: net_device) -> bool:
    """include/linux/netdevice.h."""
    return bool(dev.priv_flags & IFF_EBRIDGE)


def netif_is_bridge_port(dev: net_device) -> bool:
    """include/linux/netdevice.h."""
    return bool(dev.priv_flags & IFF_BRIDGE_PORT)


def br_port_get(dev: net_device) -> net_bridge_port | None:
    """net/bridge/br_private.h br_port_get_rtnl: the port that a device is."""
    return dev.rx_handler_data if netif_is_bridge_port(dev) else None
