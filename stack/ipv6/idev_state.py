"""An interface's state of neighbour discovery, address configuration and MLD (struct inet6_dev).

The code is in addrconf_dad.py, addrconf_prefix.py, ndisc_router.py and mld.py.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from stack.core.rows import wide
from stack.core.timer import timer_list

if TYPE_CHECKING:
    from stack.ipv6.if_inet6 import ifmcaddr6, inet6_ifaddr
    from stack.ipv6.nd_messages import RouterAdvertisement
    from stack.ipv6.nd_options import ndisc_options

SEC = 1_000_000_000


class nd_state:
    """Router discovery and SLAAC of one interface. Times in ns, lifetimes in s.

    `dns_servers` and `dns_search` are the name servers and search domains of RAs (RFC 8106), with
    the time when each ends (None: never). `on_rs(source)` and `on_ra(source, message, options)` are
    called for messages that pass RFC 4861's checks, for an advertising router (stack/services).
    """

    __slots__ = (
        "desync_factor",
        "dns_search",
        "dns_servers",
        "on_ra",
        "on_rs",
        "ra_mtu",
        "ra_refused",
        "redirects",
        "rs_interval",
        "rs_probes",
        "rs_timer",
        "stable_secret",
        "tempaddr_list",
    )

    def __init__(self) -> None:
        self.rs_timer: timer_list | None = None
        self.rs_interval = 0
        self.rs_probes = 0
        self.ra_mtu = 0
        self.ra_refused = 0  # routes, addresses and servers of RAs beyond the limits
        self.desync_factor = 0
        self.stable_secret = b""
        self.tempaddr_list: list[inet6_ifaddr] = []
        self.dns_servers: dict[int, int | None] = {}
        self.dns_search: dict[str, int | None] = {}
        self.redirects: dict[wide, int] = {}  # receiver: time of the last redirect to it
        self.on_rs: Callable[[wide], None] | None = None
        self.on_ra: Callable[[wide, RouterAdvertisement, ndisc_options], None] | None = None


class mld_state:
    """MLD of one interface (members mc_* of struct inet6_dev). Times in ns.

    `tomb` holds groups without listeners whose last change is still to be repeated.
    """

    __slots__ = (
        "dad_count",
        "dad_timer",
        "gq_timer",
        "ifc_timer",
        "maxdelay",
        "qi",
        "qri",
        "qrv",
        "tomb",
        "v1_seen",
    )

    def __init__(self, qrv: int) -> None:
        self.v1_seen = 0  # the time until which a version 1 router counts as present
        self.qrv = qrv
        self.qi = 125 * SEC
        self.qri = 10 * SEC
        self.maxdelay = 0
        self.tomb: dict[wide, ifmcaddr6] = {}
        self.dad_count = 0
        self.gq_timer: timer_list | None = None
        self.ifc_timer: timer_list | None = None
        self.dad_timer: timer_list | None = None
