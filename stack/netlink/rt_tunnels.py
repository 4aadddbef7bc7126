"""IFLA_INFO_DATA of tunnels: ipip, sit, gre, gretap, ip6tnl, ip6gre, ip6gretap.

uapi/linux/if_tunnel.h has two lists of attributes, one for those with GRE and one for the others.
What both call the same, such as LOCAL and TTL, is read and told by one function. Read PARM first.
"""

from __future__ import annotations

import errno
from dataclasses import dataclass
from typing import Any

from stack.core.netdevice import net_device
from stack.core.rtnetlink import rtnl_delete_link
from stack.core.uapi import AF_INET, IPPROTO_IPV6
from stack.net import Net
from stack.netlink.nlattr import (
    BE16,
    BE32,
    FLAG,
    IN6,
    U8,
    U16,
    U32,
    Attr,
    Attrs,
    AttrTable,
    NlError,
)
from stack.netlink.rt_kind_row import link_kind, link_name, validate_ether
from stack.tunnel.gre import GRE_KEY, GRE_ROUTING, GRE_VERSION
from stack.tunnel.ip_tunnel import IPPROTO_IPIP, KINDS, ip_tunnel, ip_tunnel_parm, tunnel_kind
from stack.tunnel.tunnels import TUNNEL_OPS, tunnel_changelink, tunnel_newlink


def iptun_table(six: bool, flags: Any) -> AttrTable:
    """IFLA_IPTUN_*, with addresses of the family outside."""
    addr = IN6 if six else BE32
    return AttrTable(
        "IFLA_IPTUN",
        Attr("IFLA_IPTUN_LINK", 1, U32),
        Attr("IFLA_IPTUN_LOCAL", 2, addr),
        Attr("IFLA_IPTUN_REMOTE", 3, addr),
        Attr("IFLA_IPTUN_TTL", 4, U8),
        Attr("IFLA_IPTUN_TOS", 5, U8),
        Attr("IFLA_IPTUN_ENCAP_LIMIT", 6, U8),
        Attr("IFLA_IPTUN_FLOWINFO", 7, BE32),
        Attr("IFLA_IPTUN_FLAGS", 8, flags),
        Attr("IFLA_IPTUN_PROTO", 9, U8),
        Attr("IFLA_IPTUN_PMTUDISC", 10, U8),
        Attr("IFLA_IPTUN_ENCAP_TYPE", 15, U16),
        Attr("IFLA_IPTUN_ENCAP_FLAGS", 16, U16),
        Attr("IFLA_IPTUN_ENCAP_SPORT", 17, BE16),
        Attr("IFLA_IPTUN_ENCAP_DPORT", 18, BE16),
        Attr("IFLA_IPTUN_COLLECT_METADATA", 19, FLAG),
        Attr("IFLA_IPTUN_FWMARK", 20, U32),
    )


def gre_table(six: bool) -> AttrTable:
    """IFLA_GRE_*, with addresses of the family outside."""
    addr = IN6 if six else BE32
    return AttrTable(
        "IFLA_GRE",
        Attr("IFLA_GRE_LINK", 1, U32),
        Attr("IFLA_GRE_IFLAGS", 2, BE16),
        Attr("IFLA_GRE_OFLAGS", 3, BE16),
        Attr("IFLA_GRE_IKEY", 4, BE32),
        Attr("IFLA_GRE_OKEY", 5, BE32),
        Attr("IFLA_GRE_LOCAL", 6, addr),
        Attr("IFLA_GRE_REMOTE", 7, addr),
        Attr("IFLA_GRE_TTL", 8, U8),
        Attr("IFLA_GRE_TOS", 9, U8),
        Attr("IFLA_GRE_PMTUDISC", 10, U8),
        Attr("IFLA_GRE_ENCAP_LIMIT", 11, U8),
        Attr("IFLA_GRE_FLOWINFO", 12, BE32),
        Attr("IFLA_GRE_FLAGS", 13, U32),
        Attr("IFLA_GRE_ENCAP_TYPE", 14, U16),
        Attr("IFLA_GRE_ENCAP_FLAGS", 15, U16),
        Attr("IFLA_GRE_ENCAP_SPORT", 16, BE16),
        Attr("IFLA_GRE_ENCAP_DPORT", 17, BE16),
        Attr("IFLA_GRE_COLLECT_METADATA", 18, FLAG),
        Attr("IFLA_GRE_IGNORE_DF", 19, U8),
        Attr("IFLA_GRE_FWMARK", 20, U32),
    )


IPTUN4, SIT, IPTUN6 = iptun_table(False, U32), iptun_table(False, U16), iptun_table(True, U32)
GRE4, GRE6 = gre_table(False), gre_table(True)
POLICIES = {
    "ipip": IPTUN4,
    "sit": SIT,
    "gre": GRE4,
    "gretap": GRE4,
    "ip6tnl": IPTUN6,
    "ip6gre": GRE6,
    "ip6gretap": GRE6,
}

PARM: tuple[tuple[str, str], ...] = (
    ("LINK", "link"),
    ("LOCAL", "local"),
    ("REMOTE", "remote"),
    ("TTL", "ttl"),
    ("TOS", "tos"),
    ("ENCAP_LIMIT", "encap_limit"),
    ("FLAGS", "flags"),
    ("PROTO", "proto"),
    ("IFLAGS", "i_flags"),
    ("OFLAGS", "o_flags"),
    ("IKEY", "i_key"),
    ("OKEY", "o_key"),
    ("FWMARK", "fwmark"),
)
"""Attributes, without their prefix, and the members of ip_tunnel_parm that they set."""
SIX_ONLY = ("ENCAP_LIMIT", "FLOWINFO")
FLOWLABEL_MASK, TCLASS_SHIFT = 0xFFFFF, 20


@dataclass(frozen=True, slots=True)
class tunnel_link:
    """The functions of a row of KINDS, for one kind of tunnel."""

    kind: tunnel_kind

    @property
    def prefix(self) -> str:
        """Of the names of its attributes."""
        return "IFLA_GRE_" if self.kind.gre else "IFLA_IPTUN_"

    def validate(self, tb: Attrs, data: Attrs | None) -> None:
        """ipgre_tunnel_validate, ipip_tunnel_validate and the like. Raises: NlError."""
        if self.kind.ether:
            validate_ether(tb, data)
        if data is None:
            return
        if self.kind.gre:
            flags = data.get("IFLA_GRE_IFLAGS", 0) | data.get("IFLA_GRE_OFLAGS", 0)
            if flags & (GRE_VERSION | GRE_ROUTING):
                raise NlError(errno.EINVAL)
        proto = data.get("IFLA_IPTUN_PROTO", 0)
        if proto and proto not in (IPPROTO_IPIP, IPPROTO_IPV6):
            raise NlError(errno.EINVAL)

    def parms(self, data: Attrs) -> ip_tunnel_parm:
        """ipip_netlink_parms and the like. Raises: NlError EINVAL, EOPNOTSUPP."""
        p, prefix = ip_tunnel_parm(), self.prefix
        six = self.kind.family != AF_INET
        for name in ("COLLECT_METADATA", "ENCAP_TYPE"):
            if data.get(prefix + name):
                text = f"{prefix}{name} is not supported"
                raise data.wrong(prefix + name, text, errno.EOPNOTSUPP)
        if not self.kind.gre:
            p.proto = self.kind.protos[0]
        for name, member in PARM:
            if prefix + name in data and (six or name not in SIX_ONLY):
                setattr(p, member, data[prefix + name])
        if not p.i_flags & GRE_KEY:
            p.i_key = 0
        if not p.o_flags & GRE_KEY:
            p.o_key = 0
        if six and prefix + "FLOWINFO" in data:
            info = data[prefix + "FLOWINFO"]
            p.flowlabel, p.tos = info & FLOWLABEL_MASK, info >> TCLASS_SHIFT & 0xFF
        p.pmtudisc = bool(data.get(prefix + "PMTUDISC", 1))
        p.ignore_df = bool(data.get("IFLA_GRE_IGNORE_DF", 0))
        if p.ignore_df and p.pmtudisc and not six:
            raise NlError(errno.EINVAL)
        return p

    def newlink(self, net: Net, tb: Attrs, data: Attrs) -> net_device:
        """ip_tunnel_newlink."""
        kind = self.kind.kind
        name = link_name(tb, kind)
        dev = tunnel_newlink(net, name, kind, self.parms(data), tb.get("IFLA_ADDRESS"))
        if "IFLA_MTU" in tb and tb["IFLA_MTU"] > dev.max_mtu:
            rtnl_delete_link(dev)
            raise NlError(errno.EINVAL, "mtu greater than device maximum")
        return dev

    def changelink(self, dev: net_device, tb: Attrs, data: Attrs) -> None:
        """ip_tunnel_changelink."""
        tunnel_changelink(dev, self.parms(data), "IFLA_MTU" in tb)

    def fill_info(self, dev: net_device) -> dict[str, Any]:
        """ipip_fill_info and the like."""
        t: ip_tunnel = dev.priv
        p, prefix = t.parms, self.prefix
        known = POLICIES[self.kind.kind].by_name
        six = self.kind.family != AF_INET
        found = {
            prefix + name: getattr(p, member)
            for name, member in PARM
            if prefix + name in known
            and (six or name not in SIX_ONLY)
            and (six or name != "FLAGS" or self.kind.kind == "sit")
        }
        if six:
            found.pop(prefix + "TOS", None)
            found[prefix + "FLOWINFO"] = p.tos << TCLASS_SHIFT | p.flowlabel
        else:
            found[prefix + "PMTUDISC"] = int(p.pmtudisc)
            if self.kind.gre:
                found["IFLA_GRE_IGNORE_DF"] = int(p.ignore_df)
        found[prefix + "ENCAP_TYPE"] = 0
        found[prefix + "ENCAP_SPORT"] = 0
        found[prefix + "ENCAP_DPORT"] = 0
        found[prefix + "ENCAP_FLAGS"] = 0
        return found

    def link(self, dev: net_device) -> net_device | None:
        """ip_tunnel_get_iflink: the interface that was asked for."""
        t: ip_tunnel = dev.priv
        return t.net.dev_by_index.get(t.parms.link)

    def row(self) -> link_kind:
        """The row of KINDS."""
        return link_kind(
            TUNNEL_OPS[self.kind.kind],
            self.newlink,
            POLICIES[self.kind.kind],
            self.validate,
            self.changelink,
            self.fill_info,
            self.link,
        )


TUNNEL_ROWS = tuple(tunnel_link(kind).row() for kind in KINDS.values())
