"""net/bridge/br_netlink.c: IFLA_BR_MCAST_*: settings of snooping, and queriers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from stack.bridge.br_multicast import (
    br_multicast_query_intvl,
    br_multicast_set_igmp_version,
    br_multicast_set_mld_version,
    br_multicast_set_querier,
    br_multicast_set_router,
    br_multicast_toggle,
)
from stack.bridge.br_private import net_bridge
from stack.bridge.br_stp_timer import br_timer_value
from stack.core.time64 import TICK_NS
from stack.core.timer import timer_list
from stack.netlink.nlattr import Attrs, NlError

NS_MAX = (1 << 62) - 1

BR_MCAST_SETTERS: dict[str, Callable[[net_bridge, int], int | None]] = {
    "IFLA_BR_MCAST_ROUTER": br_multicast_set_router,
    "IFLA_BR_MCAST_SNOOPING": br_multicast_toggle,
    "IFLA_BR_MCAST_QUERIER": br_multicast_set_querier,
    "IFLA_BR_MCAST_IGMP_VERSION": br_multicast_set_igmp_version,
    "IFLA_BR_MCAST_MLD_VERSION": br_multicast_set_mld_version,
}
BR_MCAST_NUMBERS = {
    "IFLA_BR_MCAST_HASH_MAX": "hash_max",
    "IFLA_BR_MCAST_LAST_MEMBER_CNT": "multicast_last_member_count",
    "IFLA_BR_MCAST_STARTUP_QUERY_CNT": "multicast_startup_query_count",
}
BR_MCAST_INTERVALS = {
    "IFLA_BR_MCAST_LAST_MEMBER_INTVL": "multicast_last_member_interval",
    "IFLA_BR_MCAST_MEMBERSHIP_INTVL": "multicast_membership_interval",
    "IFLA_BR_MCAST_QUERIER_INTVL": "multicast_querier_interval",
    "IFLA_BR_MCAST_QUERY_INTVL": "multicast_query_interval",
    "IFLA_BR_MCAST_QUERY_RESPONSE_INTVL": "multicast_query_response_interval",
    "IFLA_BR_MCAST_STARTUP_QUERY_INTVL": "multicast_startup_query_interval",
}
BR_MCAST_LIMITED = ("IFLA_BR_MCAST_QUERY_INTVL", "IFLA_BR_MCAST_STARTUP_QUERY_INTVL")
BR_MULTICAST_ELASTICITY = 16
"""The value reported for settings without effect."""


def ticks_left(timer: timer_list) -> int:
    """br_timer_value in messages: hundredths of a second."""
    return br_timer_value(timer) // TICK_NS


def br_mcast_changelink(br: net_bridge, data: Attrs) -> None:
    """net/bridge/br_netlink.c br_changelink: the settings of snooping.

    Raises: NlError EINVAL.
    """
    ctx = br.multicast_ctx
    for name, setter in BR_MCAST_SETTERS.items():
        if name in data:
            err = setter(br, data[name])
            if err:
                raise NlError(-err)
    if "IFLA_BR_MCAST_QUERY_USE_IFADDR" in data:
        ctx.use_ifaddr = bool(data["IFLA_BR_MCAST_QUERY_USE_IFADDR"])
    for name, field in BR_MCAST_NUMBERS.items():
        if name in data:
            setattr(ctx, field, data[name])
    for name, field in BR_MCAST_INTERVALS.items():
        if name in data:
            value = min(data[name], NS_MAX // TICK_NS) * TICK_NS
            setattr(
                ctx, field, br_multicast_query_intvl(value) if name in BR_MCAST_LIMITED else value
            )


def br_mcast_fill_info(br: net_bridge) -> dict[str, Any]:
    """net/bridge/br_netlink.c br_fill_info."""
    ctx = br.multicast_ctx
    found: dict[str, Any] = {
        "IFLA_BR_MCAST_ROUTER": ctx.multicast_router,
        "IFLA_BR_MCAST_SNOOPING": int(ctx.enabled),
        "IFLA_BR_MCAST_QUERY_USE_IFADDR": int(ctx.use_ifaddr),
        "IFLA_BR_MCAST_QUERIER": int(ctx.multicast_querier),
        "IFLA_BR_MCAST_HASH_ELASTICITY": BR_MULTICAST_ELASTICITY,
    }
    found |= {name: getattr(ctx, field) for name, field in BR_MCAST_NUMBERS.items()}
    found |= {
        "IFLA_BR_MCAST_IGMP_VERSION": ctx.multicast_igmp_version,
        "IFLA_BR_MCAST_MLD_VERSION": ctx.multicast_mld_version,
        "IFLA_BR_MCAST_QUERIER_STATE": br_multicast_dump_querier_state(br) or None,
    }
    ticks = {name: getattr(ctx, field) // TICK_NS for name, field in BR_MCAST_INTERVALS.items()}
    return found | ticks


def br_multicast_dump_querier_state(br: net_bridge) -> dict[str, Any]:
    """net/bridge/br_multicast.c: the querier of each family."""
    ctx = br.multicast_ctx
    found: dict[str, Any] = {}
    if not ctx.enabled:
        return found
    for name, pf, size in zip(("IP", "IPV6"), ctx.pf, (4, 16), strict=True):
        if not ctx.multicast_querier and not pf.other_query.pending:
            continue
        found[f"BRIDGE_QUERIER_{name}_ADDRESS"] = pf.querier_addr or bytes(size)
        if pf.other_query.pending:
            if pf.querier_ifindex:
                found[f"BRIDGE_QUERIER_{name}_PORT"] = pf.querier_ifindex
            found[f"BRIDGE_QUERIER_{name}_OTHER_TIMER"] = ticks_left(pf.other_query)
    return found
