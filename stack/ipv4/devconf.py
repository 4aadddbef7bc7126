"""net.ipv4.conf: settings per interface, as rows (include/linux/inetdevice.h, net/ipv4/devinet.c).

For most settings the value of `all` and of the interface are combined (`in_dev_conf`). Times are in
ms; Linux counts jiffies.
"""

from __future__ import annotations

from typing import Any

from stack.core.devconf import ALL, DEFAULT, devconf
from stack.core.rows import state
from stack.core.sysctl_net_core import Sysctl

CONF = "net.ipv4.conf.all"
CONF4_DIR = "net.ipv4.conf."


OWN, EITHER, BOTH, LARGER = "its own", "either", "both", "the larger"
"""How the values of `all` and of the interface combine (IN_DEV_CONF_GET, ORCONF, ANDCONF,
MAXCONF)."""


def _conf(rule: str, name: str, default: int, what: str, obsolete: str = "") -> Sysctl:
    holds = what if rule == OWN else f"{what} ({rule})"
    return Sysctl(CONF, name, default, holds, obsolete=obsolete)


IDLE = "Linux keeps it and does nothing with it"


_RULES: tuple[tuple[str, tuple[tuple[Any, ...], ...]], ...] = (
    (
        OWN,
        (
            ("forwarding", 0, "forward packets that it receives; of `all` it is ip_forward"),
            (
                "igmpv2_unsolicited_report_interval",
                10000,
                "ms between unsolicited IGMPv1 and v2 reports",
            ),
            ("igmpv3_unsolicited_report_interval", 1000, "ms between unsolicited IGMPv3 reports"),
            ("ignore_routes_with_linkdown", 0, "routes over a link without carrier are not used"),
            ("medium_id", 0, "proxy_arp does not answer between interfaces of one id, nor for -1"),
            ("tag", 0, "a number for the administrator", IDLE),
        ),
    ),
    (
        EITHER,
        (
            ("accept_local", 0, "accept packets whose source is a local address"),
            ("accept_redirects", 1, "accept ICMP redirects; while forwarding both have to be set"),
            ("arp_filter", 0, "answer ARP only where a packet to the sender would go out"),
            ("disable_policy", 0, "no IPsec policy is checked for received packets"),
            ("disable_xfrm", 0, "no IPsec for sent packets"),
            ("drop_gratuitous_arp", 0, "drop gratuitous ARP"),
            ("force_igmp_version", 0, "speak IGMP version 1 or 2 only"),
            ("drop_unicast_in_l2_multicast", 0, "drop unicast packets in multicast frames"),
            ("log_martians", 0, "log packets with impossible addresses"),
            ("promote_secondaries", 0, "a secondary address replaces a deleted primary one"),
            ("proxy_arp", 0, "answer for addresses that are reached by another interface"),
            ("proxy_arp_pvlan", 0, "answer for addresses on the same wire (RFC 3069)"),
            ("route_localnet", 0, "allow packets from and to 127.0.0.0/8 on every interface"),
            ("secure_redirects", 1, "accept only redirects that name a known gateway"),
            ("send_redirects", 1, "send ICMP redirects when forwarding"),
            ("shared_media", 1, "several networks may share the wire"),
            ("src_valid_mark", 0, "the reverse path lookup uses the packet's mark"),
        ),
    ),
    (
        BOTH,
        (
            ("accept_source_route", 0, "forward and accept source-routed packets"),
            ("arp_evict_nocarrier", 1, "forget neighbours when the carrier goes"),
            ("bc_forwarding", 0, "forward directed broadcasts"),
            ("bootp_relay", 0, "kept", IDLE),
        ),
    ),
    (
        LARGER,
        (
            ("arp_accept", 0, "1: gratuitous ARP makes new entries; 2: only for local networks"),
            ("arp_announce", 0, "1, 2: requests carry an address of the interface"),
            (
                "arp_ignore",
                0,
                "0: answer for any local address; 1: the interface's; 2: those in the sender's "
                "subnet; 3: any but those of host scope; 8: none",
            ),
            ("arp_notify", 0, "gratuitous ARP when an interface comes up"),
            ("rp_filter", 0, "reverse path check: 1 strict, 2 loose"),
        ),
    ),
)
CONF4_ROWS: dict[str, Sysctl] = {
    **{spec[0]: _conf(rule, *spec) for rule, specs in _RULES for spec in specs},
    "mc_forwarding": Sysctl(
        CONF, "mc_forwarding", 0, "a daemon routes multicast packets", mode=0o444
    ),
}
RULES: dict[str, str] = {
    **{spec[0]: rule for rule, specs in _RULES for spec in specs},
    "mc_forwarding": BOTH,
}
"""OWN, EITHER, BOTH or LARGER, by name."""


@state
class ipv4_devconf(devconf):
    """struct ipv4_devconf: settings of net.ipv4.conf."""

    written: set[str]
    """Settings of an interface that a later change of the default does not overwrite."""

    # Those of CONF4_ROWS.
    accept_local: int
    accept_redirects: int
    accept_source_route: int
    arp_accept: int
    arp_announce: int
    arp_evict_nocarrier: int
    arp_filter: int
    arp_ignore: int
    arp_notify: int
    bc_forwarding: int
    bootp_relay: int
    disable_policy: int
    disable_xfrm: int
    drop_gratuitous_arp: int
    drop_unicast_in_l2_multicast: int
    force_igmp_version: int
    forwarding: int
    igmpv2_unsolicited_report_interval: int
    igmpv3_unsolicited_report_interval: int
    ignore_routes_with_linkdown: int
    log_martians: int
    mc_forwarding: int
    medium_id: int
    promote_secondaries: int
    proxy_arp: int
    proxy_arp_pvlan: int
    route_localnet: int
    rp_filter: int
    secure_redirects: int
    send_redirects: int
    shared_media: int
    src_valid_mark: int
    tag: int

    def __init__(self, label: str, template: ipv4_devconf | None = None) -> None:
        self._begin(label, CONF4_DIR, CONF4_ROWS, template)
        self.store("written", set())
        if label == DEFAULT:
            self.store("accept_source_route", 1)


def devconf_sets() -> dict[str, ipv4_devconf]:
    """Settings of a new namespace; interfaces add theirs."""
    return {label: ipv4_devconf(label) for label in (ALL, DEFAULT)}


def inet_forward_change(conf: dict[str, ipv4_devconf]) -> None:
    """net/ipv4/devinet.c: copy `forwarding` of `all` to the other sets; a router ignores
    redirects."""
    on = conf[ALL].forwarding
    conf[ALL].store("accept_redirects", int(not on))
    for other in conf.values():
        other.store("forwarding", on)
