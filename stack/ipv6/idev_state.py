"""An interface's state of neighbour discovery, address configuration and MLD (struct inet6_dev).

The code is in addrconf_dad.py, addrconf_prefix.py, ndisc_router.py and mld.py.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from stack.core.rows import row, state, wide
from stack.core.timer import timer_list

if TYPE_CHECKING:
    from stack.ipv6.if_inet6 import ifmcaddr6, inet6_ifaddr
    from stack.ipv6.nd_messages import RouterAdvertisement
    from stack.ipv6.nd_options import ndisc_options


@state
class nd_state:
    """Router discovery and SLAAC of one interface. Times in ns, lifetimes in s.

    `dns_servers` and `dns_search` are the name servers and search domains of RAs (RFC 8106), with
    the time when each ends (None: never). `on_rs(source)` and `on_ra(source, message, options)` are
    called for messages that pass RFC 4861's checks, for an advertising router (stack/services).
    """

    rs_timer: timer_list = row()
    rs_interval: int = row(0)
    rs_probes: int = row(0)
    ra_refused: int = row(0)
    """Count of routes, addresses and servers of RAs rejected because of the limits."""
    desync_factor: int = row(0)
    token: wide = row(0)
    """The interface identifier of SLAAC addresses (`ip token set`); 0: none."""
    stable_secret: bytes = row(b"")
    tempaddr_list: list[inet6_ifaddr] = row(make=list)
    dns_servers: dict[int, int | None] = row(make=dict)
    dns_search: dict[str, int | None] = row(make=dict)
    on_rs: Callable[[wide], None] | None = row()
    on_ra: Callable[[wide, RouterAdvertisement, ndisc_options], None] | None = row()


@state
class mld_state:
    """MLD of one interface (members mc_* of struct inet6_dev). Times in ns.

    `tomb` holds groups without listeners whose last change still has to be repeated.
    """

    qrv: int
    v1_seen: int = row(0)
    """The time until which a version 1 router counts as present."""
    qi: int = row(125_000_000_000)
    qri: int = row(10_000_000_000)
    maxdelay: int = row(0)
    tomb: dict[wide, ifmcaddr6] = row(make=dict)
    dad_count: int = row(0)
    gq_timer: timer_list = row()
    ifc_timer: timer_list = row()
    dad_timer: timer_list = row()
