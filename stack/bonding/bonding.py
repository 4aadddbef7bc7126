"""include/net/bonding.h, include/uapi/linux/if_bonding.h: a bond, its slaves, its parameters."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from stack.core.ethtool import SPEED_UNKNOWN
from stack.core.netdevice import IFF_BONDING, IFF_SLAVE, net_device, netif_carrier_ok, netif_running
from stack.core.rows import row, state
from stack.core.snmp import rtnl_link_stats64

if TYPE_CHECKING:
    from stack.bonding.bond_3ad import ad_bond_info, ad_slave_info
    from stack.core.timer import timer_list

BOND_MODE_ROUNDROBIN = 0
BOND_MODE_ACTIVEBACKUP = 1
BOND_MODE_XOR = 2
BOND_MODE_BROADCAST = 3
BOND_MODE_8023AD = 4
BOND_MODE_TLB = 5
BOND_MODE_ALB = 6

BOND_LINK_UP = 0
BOND_LINK_FAIL = 1
"""The carrier was lost less than downdelay ago."""
BOND_LINK_DOWN = 2
BOND_LINK_BACK = 3
"""The carrier has returned less than updelay ago."""

BOND_XMIT_POLICY_LAYER2 = 0
BOND_XMIT_POLICY_LAYER34 = 1
BOND_XMIT_POLICY_LAYER23 = 2
BOND_XMIT_POLICY_ENCAP23 = 3
BOND_XMIT_POLICY_ENCAP34 = 4
BOND_XMIT_POLICY_VLAN_SRCMAC = 5

BOND_FOM_NONE = 0
BOND_FOM_ACTIVE = 1
BOND_FOM_FOLLOW = 2

BOND_PRI_RESELECT_ALWAYS = 0
BOND_PRI_RESELECT_BETTER = 1
BOND_PRI_RESELECT_FAILURE = 2

BOND_AD_STABLE = 0
BOND_AD_BANDWIDTH = 1
BOND_AD_COUNT = 2

BOND_DEFAULT_MIIMON = 100
INT_MAX = (1 << 31) - 1


class BondError(OSError):
    """A slave or an option is rejected; `text` is for the extended acknowledgement."""

    def __init__(self, err: int, text: str) -> None:
        super().__init__(err, f"{os.strerror(err)}: {text}" if text else os.strerror(err))
        self.text = text


@state
class bond_params:
    """include/net/bonding.h: what `ip link` sets. `miimon` is in ms, delays are in its ticks."""

    mode: int = row(BOND_MODE_ROUNDROBIN)
    xmit_policy: int = row(BOND_XMIT_POLICY_LAYER2)
    miimon: int = row(0)
    """How often carriers are checked; 0: never, every slave counts as up."""
    num_peer_notif: int = row(1)
    """Gratuitous ARPs and unsolicited advertisements after a failover."""
    peer_notif_delay: int = row(0)
    """Ticks of miimon between two of them."""
    updelay: int = row(0)
    """Ticks of miimon; so is `downdelay`."""
    downdelay: int = row(0)
    fail_over_mac: int = row(BOND_FOM_NONE)
    primary: str = row("")
    primary_reselect: int = row(BOND_PRI_RESELECT_ALWAYS)
    resend_igmp: int = row(1)
    all_slaves_active: int = row(0)
    """Inactive slaves receive too."""
    min_links: int = row(0)
    lp_interval: int = row(1)
    packets_per_slave: int = row(1)
    lacp_active: int = row(1)
    lacp_fast: int = row(0)
    ad_select: int = row(BOND_AD_STABLE)
    ad_actor_sys_prio: int = row(65535)
    ad_user_port_key: int = row(0)
    ad_actor_system: bytes = row(bytes(6))
    tlb_dynamic_lb: int = row(1)
    missed_max: int = row(2)
    coupled_control: int = row(1)


@state
class slave:
    """include/net/bonding.h: a device below a bond."""

    bond: bonding
    dev: net_device
    link: int = row(BOND_LINK_UP)
    """BOND_LINK_*: its link state as seen by the bond."""
    delay: int = row(0)
    """Remaining ticks of the state `link`, if it is FAIL or BACK."""
    backup: bool = row(True)
    """It sends nothing."""
    inactive: bool = row(True)
    """It receives nothing."""
    link_failure_count: int = row(0)
    perm_hwaddr: bytes = row(b"")
    """Its address before it was enslaved."""
    original_mtu: int = row(0)
    speed: int = row(SPEED_UNKNOWN)
    """Mb/s."""
    duplex: int = row(0)
    """1: full."""
    prio: int = row(0)
    slave_stats: rtnl_link_stats64 = row(make=rtnl_link_stats64)
    """Its counters when they were last added to the bond's."""
    synced: tuple[set[bytes], set[bytes]] = row(make=lambda: (set(), set()))
    """The bond's unicast and multicast addresses that it has."""
    ad: ad_slave_info | None = row()


@state
class bonding:
    """include/net/bonding.h: the private part of a bond's device."""

    dev: net_device
    params: bond_params = row(make=bond_params)
    slave_list: list[slave] = row(make=list)
    """In the order in which they were enslaved."""
    usable_slaves: list[slave] = row(make=list)
    """Those of a hash policy's choice (bond_update_slave_arr)."""
    curr_active_slave: slave | None = row()
    primary_slave: slave | None = row()
    force_primary: bool = row(False)
    """The primary was set: it becomes active regardless of primary_reselect."""
    send_peer_notif: int = row(0)
    """Remaining ticks of miimon in which peers are notified of a failover."""
    rr_tx_counter: int = row(0)
    mii_timer: timer_list = row()
    mii_epoch: int = row(0)
    """When the first tick of miimon was, ns."""
    mcast_timer: timer_list = row()
    igmp_retrans: int = row(0)
    """How often groups are still reported again."""
    bond_stats: rtnl_link_stats64 = row(make=rtnl_link_stats64)
    """Sum of all slaves' counts while they were slaves."""
    ad: ad_bond_info | None = row()


def netif_is_bond_master(dev: net_device) -> bool:
    """include/linux/netdevice.h."""
    return bool(dev.priv_flags & IFF_BONDING)


def bond_slave_get(dev: net_device) -> slave | None:
    """include/net/bonding.h bond_slave_get_rtnl: the slave that a device is."""
    return dev.rx_handler_data if dev.flags & IFF_SLAVE else None


def bond_slave_is_up(one: slave) -> bool:
    """include/net/bonding.h: opened, with a carrier."""
    dev = one.dev
    return netif_running(dev) and netif_carrier_ok(dev)


def bond_slave_can_tx(one: slave) -> bool:
    """include/net/bonding.h."""
    return one.link == BOND_LINK_UP and not one.backup and bond_slave_is_up(one)


def bond_uses_primary(bond: bonding) -> bool:
    """include/net/bonding.h: only one slave sends and receives."""
    return bond.params.mode in (BOND_MODE_ACTIVEBACKUP, BOND_MODE_TLB, BOND_MODE_ALB)


def bond_set_active_flags(one: slave) -> None:
    """include/net/bonding.h bond_set_slave_active_flags: it sends and receives."""
    one.backup = False
    one.inactive = False


def bond_set_inactive_flags(one: slave) -> None:
    """include/net/bonding.h bond_set_slave_inactive_flags: it waits."""
    one.backup = True
    if not one.bond.params.all_slaves_active:
        one.inactive = True
