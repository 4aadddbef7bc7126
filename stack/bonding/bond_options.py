"""drivers/net/bonding/bond_options.c: the options of a bond, one row each.

A row has the legal values, the modes that have the option, whether slaves or an open bond forbid a
change, and a function for further effects. The options are documented in
Documentation/networking/bonding.rst.
"""

from __future__ import annotations

import errno
from collections.abc import Callable
from dataclasses import dataclass

from stack.bonding.bond_3ad import bond_3ad_update_actor, bond_3ad_update_port_state
from stack.bonding.bond_main import (
    bond_change_active_slave,
    bond_mii_arm,
    bond_select_active_slave,
    bond_set_carrier,
)
from stack.bonding.bonding import (
    BOND_DEFAULT_MIIMON,
    BOND_LINK_UP,
    BOND_MODE_8023AD,
    BOND_MODE_ACTIVEBACKUP,
    BOND_MODE_ALB,
    BOND_MODE_BROADCAST,
    BOND_MODE_ROUNDROBIN,
    BOND_MODE_TLB,
    BOND_MODE_XOR,
    INT_MAX,
    BondError,
    bond_slave_get,
    bond_slave_is_up,
    bond_uses_primary,
    bonding,
    slave,
)
from stack.core.netdevice import IFF_UP, net_device, netif_running
from stack.core.timer import timer_delete

MODE_NAMES = {
    "balance-rr": BOND_MODE_ROUNDROBIN,
    "active-backup": BOND_MODE_ACTIVEBACKUP,
    "balance-xor": BOND_MODE_XOR,
    "broadcast": BOND_MODE_BROADCAST,
    "802.3ad": BOND_MODE_8023AD,
    "balance-tlb": BOND_MODE_TLB,
    "balance-alb": BOND_MODE_ALB,
}
WORDS: dict[str, tuple[str, ...]] = {
    "primary_reselect": ("always", "better", "failure"),
    "fail_over_mac": ("none", "active", "follow"),
    "xmit_policy": ("layer2", "layer3+4", "layer2+3", "encap2+3", "encap3+4", "vlan+srcmac"),
    "lacp_active": ("off", "on"),
    "lacp_fast": ("slow", "fast"),
    "ad_select": ("stable", "bandwidth", "count"),
}
"""Names of options' values, from 0."""
CALLED = {
    "xmit_hash_policy": "xmit_policy",
    "lacp_rate": "lacp_fast",
    "num_grat_arp": "num_peer_notif",
    "num_unsol_na": "num_peer_notif",
}
"""Options whose name for users is not that of the field."""
LEFT_OUT = (BOND_MODE_TLB, BOND_MODE_ALB)
"""Modes that are not supported."""
ALL_MODES = frozenset(MODE_NAMES.values())
ONLY_8023AD = frozenset({BOND_MODE_8023AD})


@dataclass(frozen=True, slots=True)
class bond_option:
    """include/net/bond_options.h. `name` is a field of bond_params, unless `set` says otherwise."""

    name: str
    legal: range
    modes: frozenset[int] = ALL_MODES
    noslaves: bool = False
    ifdown: bool = False
    ticks: bool = False
    """Given in ms, stored in ticks of miimon, rounded down (_bond_option_delay_set)."""
    set: Callable[[bonding, int], None] | None = None
    """Instead of storing the value. May raise BondError."""
    after: Callable[[bonding], None] | None = None
    """After it was stored."""


# --- effects of some options ----------------------------------------------------------------------


def bond_option_mode_set(bond: bonding, value: int) -> None:
    """drivers/net/bonding/bond_options.c: modes that need a monitor get miimon."""
    if value in LEFT_OUT:
        raise BondError(errno.EOPNOTSUPP, "balance-tlb and balance-alb are not supported")
    bond.params.mode = value
    if value == BOND_MODE_8023AD and not bond.params.miimon:
        bond.params.miimon = BOND_DEFAULT_MIIMON


def bond_option_miimon_set(bond: bonding, value: int) -> None:
    """drivers/net/bonding/bond_options.c: delays keep their number of ticks."""
    bond.params.miimon = value
    timer_delete(bond.mii_timer)
    bond.mii_epoch = bond.dev.machine.clock.now_ns()
    bond_mii_arm(bond)


def bond_option_use_carrier_set(bond: bonding, value: int) -> None:
    """drivers/net/bonding/bond_netlink.c: obsolete; the carrier is always used."""
    if value != 1:
        raise BondError(errno.EINVAL, "option obsolete, use_carrier cannot be disabled")


def bond_option_all_slaves_active_set(bond: bonding, value: int) -> None:
    """drivers/net/bonding/bond_options.c."""
    bond.params.all_slaves_active = value
    for one in bond.slave_list:
        if one.backup:
            one.inactive = not value


def bond_option_coupled_control_set(bond: bonding, value: int) -> None:
    """drivers/net/bonding/bond_options.c: collecting and distributing go together."""
    if not value:
        raise BondError(errno.EOPNOTSUPP, "independent control is not supported")


def _actor(bond: bonding) -> None:
    if bond.ad is not None:
        bond_3ad_update_actor(bond)


def _only_zero(bond: bonding, value: int) -> None:
    """A setting of ARP monitoring, which is not supported: only its default is accepted."""
    if value:
        raise BondError(errno.EOPNOTSUPP, "ARP monitoring is not supported")


# --- the table ------------------------------------------------------------------------------------

NUMBERS = range(INT_MAX + 1)
SWITCH = range(2)
ROWS = (
    bond_option("mode", range(7), noslaves=True, ifdown=True, set=bond_option_mode_set),
    bond_option("miimon", NUMBERS, set=bond_option_miimon_set),
    bond_option("updelay", NUMBERS, ticks=True),
    bond_option("downdelay", NUMBERS, ticks=True),
    bond_option("peer_notif_delay", range(300_001), ticks=True),
    bond_option("use_carrier", range(256), set=bond_option_use_carrier_set),
    bond_option("arp_interval", NUMBERS, ALL_MODES - {4, 5, 6}, set=_only_zero),
    bond_option("arp_validate", range(7), ALL_MODES - {4, 5, 6}, set=_only_zero),
    bond_option("arp_all_targets", SWITCH, set=_only_zero),
    bond_option("primary_reselect", range(3), after=bond_select_active_slave),
    bond_option("fail_over_mac", range(3), noslaves=True),
    bond_option("xmit_policy", range(6)),
    bond_option("resend_igmp", range(256)),
    bond_option("num_peer_notif", range(256)),
    bond_option("all_slaves_active", SWITCH, set=bond_option_all_slaves_active_set),
    bond_option("min_links", NUMBERS, after=bond_set_carrier),
    bond_option("lp_interval", range(1, INT_MAX + 1)),
    bond_option("packets_per_slave", range(65536), frozenset({BOND_MODE_ROUNDROBIN})),
    bond_option("lacp_active", SWITCH, ONLY_8023AD, ifdown=True, after=bond_3ad_update_port_state),
    bond_option("lacp_fast", SWITCH, ONLY_8023AD, ifdown=True, after=bond_3ad_update_port_state),
    bond_option("ad_select", range(3), ifdown=True),
    bond_option("ad_actor_sys_prio", range(1, 65536), ONLY_8023AD, after=_actor),
    bond_option("ad_user_port_key", range(1024), ONLY_8023AD, ifdown=True),
    bond_option("tlb_dynamic_lb", SWITCH, frozenset({5, 6}), ifdown=True),
    bond_option("missed_max", range(1, 256), ALL_MODES - {4, 5, 6}),
    bond_option(
        "coupled_control", SWITCH, ONLY_8023AD, ifdown=True, set=bond_option_coupled_control_set
    ),
)
OPTIONS: dict[str, bond_option] = {row.name: row for row in ROWS}


def check_deps(bond: bonding, row: bond_option) -> None:
    """bond_opt_check_deps: whether the option may change now. Raises: BondError."""
    if bond.params.mode not in row.modes:
        raise BondError(errno.EACCES, "option not supported in mode")
    if row.noslaves and bond.slave_list:
        text = "unable to set option because the bond device has slaves"
        raise BondError(errno.ENOTEMPTY, text)
    if row.ifdown and bond.dev.flags & IFF_UP:
        raise BondError(errno.EBUSY, "unable to set option because the bond is up")


def bond_opt_set(bond: bonding, name: str, value: int) -> None:
    """__bond_opt_set: check and set an option.

    Raises: BondError: EACCES, the mode does not know it; ENOTEMPTY, there are slaves; EBUSY, the
        bond is up; EINVAL, no legal value.
    """
    row = OPTIONS[name]
    check_deps(bond, row)
    if value not in row.legal:
        raise BondError(errno.EINVAL, "invalid option value")
    if row.set is not None:
        row.set(bond, value)
        return
    if row.ticks:
        if not bond.params.miimon:
            raise BondError(errno.EPERM, "")
        value //= bond.params.miimon
    setattr(bond.params, name, value)
    if row.after is not None:
        row.after(bond)


def bond_opt_set_word(bond: bonding, name: str, value: int | str) -> None:
    """An option by the name and the word that bonding.rst has. Raises: BondError, KeyError."""
    name = CALLED.get(name, name)
    if isinstance(value, str):
        words = MODE_NAMES if name == "mode" else dict(zip(WORDS[name], range(9), strict=False))
        if value not in words:
            raise BondError(errno.EINVAL, "invalid option value")
        value = words[value]
    bond_opt_set(bond, name, value)


# --- options whose values are devices or addresses ------------------------------------------------


def bond_option_primary_set(bond: bonding, dev: net_device | None) -> None:
    """drivers/net/bonding/bond_options.c: None: no primary. It may be enslaved later."""
    if not bond_uses_primary(bond):
        raise BondError(errno.EACCES, "option not supported in mode")
    bond.params.primary = dev.name if dev is not None else ""
    bond.primary_slave = next((one for one in bond.slave_list if one.dev is dev), None)
    bond.force_primary = bond.primary_slave is not None
    bond_select_active_slave(bond)


def bond_option_active_slave_set(bond: bonding, dev: net_device | None) -> None:
    """drivers/net/bonding/bond_options.c: a manual failover; None: select automatically."""
    if not bond_uses_primary(bond):
        raise BondError(errno.EACCES, "option not supported in mode")
    if dev is None:
        bond.curr_active_slave = None
        bond_select_active_slave(bond)
        return
    one = bond_slave_get(dev)
    if one is None or one.bond is not bond:
        raise BondError(errno.EINVAL, "invalid option value")
    if one is bond.curr_active_slave:
        return
    usable = bond.curr_active_slave is not None and one.link == BOND_LINK_UP
    if not usable or not bond_slave_is_up(one):
        raise BondError(errno.EINVAL, "invalid option value")
    bond_change_active_slave(bond, one)


def bond_option_ad_actor_system_set(bond: bonding, addr: bytes) -> None:
    """drivers/net/bonding/bond_options.c: the address in LACPDUs; zeros: the bond's.

    Raises: BondError.
    """
    if bond.params.mode != BOND_MODE_8023AD:
        raise BondError(errno.EACCES, "option not supported in mode")
    if addr[0] & 1:  # a group's
        raise BondError(errno.EINVAL, "invalid option value")
    bond.params.ad_actor_system = addr
    _actor(bond)


def bond_option_prio_set(bond: bonding, one: slave, prio: int) -> None:
    """drivers/net/bonding/bond_options.c: `ip link set DEV type bond_slave prio N`."""
    if not bond_uses_primary(bond):
        raise BondError(errno.EACCES, "option not supported in mode")
    one.prio = prio
    if netif_running(bond.dev):
        bond_select_active_slave(bond)
