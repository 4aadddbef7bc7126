"""net/bridge/br_private.h, include/uapi/linux/if_bridge.h: a bridge and its ports."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from stack.core.netdevice import IFF_BRIDGE_PORT, IFF_EBRIDGE, net_device
from stack.core.rows import row, state
from stack.core.time64 import NSEC_PER_SEC
from stack.core.timer import TIMER_DEFERRABLE, mod_timer, timer_list

if TYPE_CHECKING:
    from stack.core.workqueue import work_struct

DECISEC = NSEC_PER_SEC // 10

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
BR_BPDU_GUARD = 1 << 6
BR_ROOT_BLOCK = 1 << 7
BR_ADMIN_COST = 1 << 8
BR_MULTICAST_FAST_LEAVE = 1 << 9
BR_PORT_DEFAULT = BR_LEARNING | BR_FLOOD | BR_MCAST_FLOOD | BR_BCAST_FLOOD

BR_PKT_UNICAST = 0
BR_PKT_MULTICAST = 1
BR_PKT_BROADCAST = 2

BR_PORT_BITS = 10
BR_MAX_PORTS = 1 << BR_PORT_BITS
BR_GROUPFWD_RESTRICTED = 0x7
"""Group addresses ..:00, ..:01 and ..:02 can never be forwarded (group_fwd_mask)."""

BR_AGEING_TIME = 300 * NSEC_PER_SEC

# include/uapi/linux/if_bridge.h, br_private_stp.h: IEEE 802.1D tables 8-3 to 8-5, in ns
BR_NO_STP = 0
BR_KERNEL_STP = 1
BR_FORWARD_DELAY = 15 * NSEC_PER_SEC
BR_HELLO_TIME = 2 * NSEC_PER_SEC
BR_MAX_AGE = 20 * NSEC_PER_SEC
BR_HOLD_TIME = NSEC_PER_SEC
BR_MIN_HELLO_TIME, BR_MAX_HELLO_TIME = NSEC_PER_SEC, 10 * NSEC_PER_SEC
BR_MIN_FORWARD_DELAY, BR_MAX_FORWARD_DELAY = 2 * NSEC_PER_SEC, 30 * NSEC_PER_SEC
BR_MIN_MAX_AGE, BR_MAX_MAX_AGE = 6 * NSEC_PER_SEC, 40 * NSEC_PER_SEC
BR_MIN_PATH_COST, BR_MAX_PATH_COST = 1, 65535
BR_MAX_PORT_PRIORITY = 0xFFFF >> BR_PORT_BITS
BR_PORT_PRIORITY = 32
BR_BRIDGE_PRIORITY = 0x8000
BR_GROUP_ADDR = b"\x01\x80\xc2\x00\x00\x00"
"""Where BPDUs go to (IEEE 802.1D table 7-9)."""

# include/uapi/linux/if_bridge.h: when a port or the bridge is one that leads to a multicast router
MDB_RTR_TYPE_DISABLED = 0
MDB_RTR_TYPE_TEMP_QUERY = 1
MDB_RTR_TYPE_PERM = 2
MDB_RTR_TYPE_TEMP = 3
# net_bridge_port_group.flags
MDB_PG_FLAGS_PERMANENT = 1 << 0
MDB_PG_FLAGS_FAST_LEAVE = 1 << 2
BR_MULTICAST_HASH_MAX = 4096
BR_MULTICAST_STARTUP_INTERVAL = 31_248_000_000
"""A quarter of the query interval, in ticks of 4 ms as Debian's kernel counts them."""


@state
class bridge_mcast_port_pf:
    """struct net_bridge_mcast_port: the ip4_ or the ip6_ members."""

    own_query: timer_list = row()
    """When the next query leaves through the port, or asks the host."""
    startup_sent: int = row(0)
    """How many of the first queries, which follow each other sooner, were sent."""
    mc_router_timer: timer_list = row()


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
    priority: int = row(BR_PORT_PRIORITY)
    port_id: int = row(0)
    """The priority in 6 bits, the number in 10."""
    path_cost: int = row(100)
    designated_root: bytes = row(bytes(8))
    """The best BPDU of this segment: the root, the cost from there, and the sending bridge."""
    designated_cost: int = row(0)
    designated_bridge: bytes = row(bytes(8))
    designated_port: int = row(0)
    designated_age: int = row(0)
    """When the root sent what is recorded here (the clock's ns)."""
    topology_change_ack: bool = row(False)
    """The next BPDU acknowledges a notice of this segment."""
    config_pending: bool = row(False)
    """A BPDU waits until `hold_timer` is over."""
    forward_delay_timer: timer_list = row()
    hold_timer: timer_list = row()
    message_age_timer: timer_list = row()
    multicast_router: int = row(MDB_RTR_TYPE_TEMP_QUERY)
    mcast: list[bridge_mcast_port_pf] = row(make=list)
    """Of IPv4 and of IPv6."""
    mdb_n_entries: int = row(0)
    mdb_max_entries: int = row(0)
    """How many groups the port may have; 0: any number."""


@state
class net_bridge_port_group:
    """net/bridge/br_private.h: a port with members of a group."""

    port: net_bridge_port
    mdb: net_bridge_mdb_entry
    flags: int
    """MDB_PG_FLAGS_*."""
    rt_protocol: int
    timer: timer_list = row()
    """When the last report is too old."""


@state
class net_bridge_mdb_entry:
    """net/bridge/br_private.h: a multicast group."""

    br: net_bridge
    addr: bytes
    """Destination and, unless any will do, source: 4 or 8 bytes of IPv4, 16 or 32 of IPv6, 6 of
    Ethernet."""
    ports: list[net_bridge_port_group] = row(make=list)
    host_joined: bool = row(False)
    """The bridge's own device has joined the group."""
    timer: timer_list = row()
    """When the host's last report is too old, or the entry is removed."""


@state
class bridge_mcast_pf(bridge_mcast_port_pf):
    """struct net_bridge_mcast: the ip4_ or the ip6_ members; the host itself is asked, too."""

    other_query: timer_list = row()
    """While pending: there is another querier."""
    delay: timer_list = row()
    """While pending: the first answers are still missing, so groups are flooded."""
    querier_addr: bytes = row(b"")
    """The querier in this network; empty: none was seen yet."""
    querier_ifindex: int = row(0)
    """The port that leads to it; 0: it is the bridge."""
    mc_router_list: list[net_bridge_port] = row(make=list)
    """The router ports."""


@state
class net_bridge_mcast:
    """net/bridge/br_private.h. Times are ns."""

    br: net_bridge
    enabled: bool = row(True)
    """BROPT_MULTICAST_ENABLED: `mcast_snooping`."""
    use_ifaddr: bool = row(False)
    has_ipv6_addr: bool = row(False)
    snoopers_joined: bool = row(False)
    """The host is in the groups of all snoopers (RFC 4286)."""
    multicast_querier: bool = row(False)
    multicast_router: int = row(MDB_RTR_TYPE_TEMP_QUERY)
    multicast_igmp_version: int = row(2)
    multicast_mld_version: int = row(1)
    hash_max: int = row(BR_MULTICAST_HASH_MAX)
    multicast_last_member_count: int = row(2)
    multicast_startup_query_count: int = row(2)
    multicast_last_member_interval: int = row(NSEC_PER_SEC)
    multicast_membership_interval: int = row(260 * NSEC_PER_SEC)
    multicast_querier_interval: int = row(255 * NSEC_PER_SEC)
    multicast_query_interval: int = row(125 * NSEC_PER_SEC)
    multicast_query_response_interval: int = row(10 * NSEC_PER_SEC)
    multicast_startup_query_interval: int = row(BR_MULTICAST_STARTUP_INTERVAL)
    pf: list[bridge_mcast_pf] = row(make=list)
    """Of IPv4 and of IPv6."""
    mdb: dict[bytes, net_bridge_mdb_entry] = row(make=dict)
    """mdb_hash_tbl, by the `addr` of the entries; the oldest first."""


@state
class net_bridge_fdb_entry:
    """net/bridge/br_private.h: the port of an address; `dst` None: the bridge itself."""

    addr: bytes
    dst: net_bridge_port | None
    is_local: bool = row(False)
    is_static: bool = row(False)
    added_by_user: bool = row(False)
    flags: int = row(0)
    """Bits FDB_*."""
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
    """Ns without a frame from an address after which it is removed."""
    bridge_ageing_time: int = row(BR_AGEING_TIME)
    """The configured value: `ageing_time` differs during a topology change."""
    stp_enabled: int = row(BR_NO_STP)
    bridge_id: bytes = row(BR_BRIDGE_PRIORITY.to_bytes(2, "big") + bytes(6))
    """The priority, and the lowest address of the ports."""
    designated_root: bytes = row(BR_BRIDGE_PRIORITY.to_bytes(2, "big") + bytes(6))
    root_path_cost: int = row(0)
    root_port: int = row(0)
    """The number of the port towards the root; 0: this bridge is the root."""
    max_age: int = row(BR_MAX_AGE)
    """The root's times (ns); `bridge_` ... are used if this bridge is the root."""
    hello_time: int = row(BR_HELLO_TIME)
    forward_delay: int = row(BR_FORWARD_DELAY)
    bridge_max_age: int = row(BR_MAX_AGE)
    bridge_hello_time: int = row(BR_HELLO_TIME)
    bridge_forward_delay: int = row(BR_FORWARD_DELAY)
    group_addr: bytes = row(BR_GROUP_ADDR)
    topology_change: bool = row(False)
    """The root says that the topology changed: addresses age in `forward_delay`."""
    topology_change_detected: bool = row(False)
    """This bridge saw a change that the root does not know yet."""
    hello_timer: timer_list = row()
    tcn_timer: timer_list = row()
    topology_change_timer: timer_list = row()
    group_fwd_mask: int = row(0)
    mtu_set_by_user: bool = row(False)
    gc_work: work_struct = row()
    gc_due: int = row(0)
    """When `gc_work` runs next (the clock's ns)."""
    multicast_ctx: net_bridge_mcast = row()


def netif_is_bridge_master(dev: net_device) -> bool:
    """include/linux/netdevice.h."""
    return bool(dev.priv_flags & IFF_EBRIDGE)


def netif_is_bridge_port(dev: net_device) -> bool:
    """include/linux/netdevice.h."""
    return bool(dev.priv_flags & IFF_BRIDGE_PORT)


def br_port_get(dev: net_device) -> net_bridge_port | None:
    """net/bridge/br_private.h br_port_get_rtnl: the port that a device is."""
    return dev.rx_handler_data if netif_is_bridge_port(dev) else None


def br_timer(dev: net_device, fn: Callable[[timer_list], None], data: object) -> timer_list:
    """A timer of housekeeping: alone it does not keep a simulation going."""
    return timer_list(dev.machine, fn, TIMER_DEFERRABLE, data=data)


def mod_timer_in(timer: timer_list, delay_ns: int) -> None:
    """Arm a timer to expire in `delay_ns`."""
    mod_timer(timer, timer.machine.clock.now_ns() + delay_ns)
