"""net.ipv6.conf: settings per interface (include/linux/ipv6.h, net/ipv6/addrconf.c).

A few settings written to `all` are copied to every interface (WRITTEN_TO_ALL).
"""

from __future__ import annotations

from stack.core.devconf import devconf
from stack.core.rows import state
from stack.core.sysctl_net_core import INT_MAX, INT_MIN, NAME, UINT_MAX, Sysctl

CONF6, CONF6_DIR = "net.ipv6.conf.all", "net.ipv6.conf."


def _conf(name: str, default: int, what: str, low: int = INT_MIN, high: int = INT_MAX) -> Sysctl:
    return Sysctl(CONF6, name, default, what, low, high)


_ROWS = (
    _conf(
        "accept_dad",
        1,
        "0: no duplicate address detection; 2: also no IPv6 when the MAC's address is a duplicate",
    ),
    _conf("accept_ra", 1, "accept router advertisements; 2: also while forwarding"),
    _conf("accept_ra_defrtr", 1, "accept default routers from them"),
    _conf("accept_ra_from_local", 0, "also accept them from a local address"),
    _conf("accept_ra_min_hop_limit", 1, "smallest hop limit that is accepted from them"),
    _conf("accept_ra_min_lft", 0, "seconds; entries with a shorter lifetime are ignored", 0),
    _conf("accept_ra_mtu", 1, "accept the MTU from them"),
    _conf("accept_ra_pinfo", 1, "accept prefixes from them"),
    _conf("accept_ra_rt_info_max_plen", 0, "longest prefix of a route that is accepted from them"),
    _conf("accept_ra_rt_info_min_plen", 0, "shortest one"),
    _conf("accept_ra_rtr_pref", 1, "use the preferences of routers (RFC 4191)"),
    _conf("accept_redirects", 1, "obey redirects while not forwarding"),
    _conf(
        "accept_untracked_na",
        0,
        "a router learns from unsolicited advertisements; 2: only for its own prefixes",
        0,
        2,
    ),
    _conf(
        "addr_gen_mode",
        0,
        "interface identifiers: 0 EUI-64, 1 no link-local, 2 stable, 3 stable, random secret",
        0,
        3,
    ),
    _conf("autoconf", 1, "make addresses from prefixes"),
    _conf("dad_transmits", 1, "solicitations of a duplicate address detection", 0),
    _conf("disable_policy", 0, "no IPsec policy for packets to its addresses"),
    _conf("disable_ipv6", 0, "no IPv6 on the interface", 0, 1),
    _conf("drop_unicast_in_l2_multicast", 0, "drop unicast packets in multicast frames"),
    _conf("drop_unsolicited_na", 0, "drop unsolicited advertisements"),
    _conf(
        "enhanced_dad", 1, "add a nonce, so that looped solicitations are no duplicates (RFC 7527)"
    ),
    _conf("force_forwarding", 0, "forward what it receives, whatever `forwarding` of all is", 0, 1),
    _conf("force_mld_version", 0, "1 or 2: use this version, whichever routers use"),
    _conf("force_tllao", 0, "put the link-layer address into every advertisement"),
    _conf("forwarding", 0, "forward packets; a router neither takes RAs nor redirects"),
    _conf("hop_limit", 64, "hop limit of packets whose socket sets none", 1, 255),
    _conf("ignore_routes_with_linkdown", 0, "routes over a link without carrier are not used"),
    _conf("keep_addr_on_down", 0, "above 0: keep permanent addresses when the interface goes down"),
    _conf("max_addresses", 16, "addresses made from router advertisements; 0: no limit", 0),
    _conf("max_desync_factor", 600, "seconds by which temporary addresses differ at random", 0),
    Sysctl(CONF6, "mc_forwarding", 0, "a daemon routes packets to groups", mode=0o444),
    _conf(
        "mldv1_unsolicited_report_interval",
        10000,
        "ms between two unsolicited reports, version 1",
        1,
    ),
    _conf("mldv2_unsolicited_report_interval", 1000, "the same of version 2", 1),
    _conf("mtu", 1280, "bytes: of an interface, its MTU at first; lowered by RAs", 1280),
    _conf("ndisc_evict_nocarrier", 1, "forget neighbours when the carrier goes", 0, 1),
    _conf(
        "ndisc_notify",
        0,
        "send unsolicited advertisements when the interface comes up or its MAC changes",
    ),
    _conf("ndisc_tclass", 0, "traffic class of neighbour discovery", 0, 255),
    _conf("optimistic_dad", 0, "use addresses while their detection runs (RFC 4429)"),
    _conf("proxy_ndp", 0, "answer for addresses of neigh proxy"),
    _conf("ra_defrtr_metric", 1024, "metric of default routes from advertisements", 1, UINT_MAX),
    _conf("ra_honor_pio_life", 0, "accept a valid lifetime below two hours at once", 0, 1),
    _conf("regen_max_retry", 3, "tries to find a free temporary address"),
    _conf(
        "regen_min_advance",
        2,
        "seconds before a temporary address is deprecated at which the next one is made",
        0,
    ),
    _conf(
        "router_probe_interval", 60, "seconds between probes of a router that does not answer", 0
    ),
    _conf("router_solicitation_delay", 1, "seconds, upper bound, before the first solicitation", 0),
    _conf("router_solicitation_interval", 4, "seconds to the second one; doubles (RFC 7559)", 0),
    _conf("router_solicitation_max_interval", 3600, "longest interval, seconds", 0),
    _conf("router_solicitations", -1, "number of solicitations; -1: until a router answers", -1),
    Sysctl(
        CONF6,
        "stable_secret",
        "",
        "an IPv6 address as secret of stable addresses (RFC 7217); empty: none",
        kind=NAME,
        mode=0o600,
    ),
    _conf("suppress_frag_ndisc", 1, "drop neighbour discovery in fragments (RFC 6980)"),
    _conf("temp_prefered_lft", 86400, "seconds that a temporary address is preferred", 0),
    _conf("temp_valid_lft", 604800, "seconds that a temporary address is valid", 0),
    _conf("use_oif_addrs_only", 0, "source addresses of the outgoing interface only"),
    _conf("use_optimistic", 0, "optimistic addresses are chosen like any other"),
    _conf("use_tempaddr", 0, "1: make temporary addresses (RFC 8981); 2: and prefer them"),
)
CONF6_ROWS = {row.name: row for row in _ROWS}
"""Settings of the network layer and of neighbour discovery: the fields of `ipv6_devconf`."""

WRITTEN_TO_ALL = ("forwarding", "disable_ipv6", "force_forwarding", "ignore_routes_with_linkdown")
"""Settings that are copied from `all` to `default` and every interface."""


@state
class ipv6_devconf(devconf):
    """struct ipv6_devconf: settings of net.ipv6.conf."""

    # Those of CONF6_ROWS.
    accept_dad: int
    accept_ra: int
    accept_ra_defrtr: int
    accept_ra_from_local: int
    accept_ra_min_hop_limit: int
    accept_ra_min_lft: int
    accept_ra_mtu: int
    accept_ra_pinfo: int
    accept_ra_rt_info_max_plen: int
    accept_ra_rt_info_min_plen: int
    accept_ra_rtr_pref: int
    accept_redirects: int
    accept_untracked_na: int
    addr_gen_mode: int
    autoconf: int
    dad_transmits: int
    disable_ipv6: int
    disable_policy: int
    drop_unsolicited_na: int
    drop_unicast_in_l2_multicast: int
    enhanced_dad: int
    force_forwarding: int
    force_mld_version: int
    force_tllao: int
    forwarding: int
    hop_limit: int
    ignore_routes_with_linkdown: int
    keep_addr_on_down: int
    max_addresses: int
    max_desync_factor: int
    mc_forwarding: int
    mldv1_unsolicited_report_interval: int
    mldv2_unsolicited_report_interval: int
    mtu: int
    ndisc_evict_nocarrier: int
    ndisc_notify: int
    ndisc_tclass: int
    optimistic_dad: int
    proxy_ndp: int
    ra_defrtr_metric: int
    ra_honor_pio_life: int
    regen_max_retry: int
    regen_min_advance: int
    router_probe_interval: int
    router_solicitation_delay: int
    router_solicitation_interval: int
    router_solicitation_max_interval: int
    router_solicitations: int
    stable_secret: str
    suppress_frag_ndisc: int
    temp_prefered_lft: int
    temp_valid_lft: int
    use_oif_addrs_only: int
    use_optimistic: int
    use_tempaddr: int

    def __init__(self, label: str, template: ipv6_devconf | None = None) -> None:
        self._begin(label, CONF6_DIR, CONF6_ROWS, template)
