"""IFLA_INFO_DATA of tunnels: ipip, sit, gre, gretap, ip6tnl, ip6gre, ip6gretap.

uapi/linux/if_tunnel.h has two lists of attributes, one for those with GRE and one for the others.
Attributes in both, such as LOCAL and TTL, are parsed and built by one function. Read ATTRS first.
"""

from __future__ import annotations

import errno
from dataclasses import dataclass
from typing import Any

from stack.core.netdevice import net_device
from stack.core.rtnetlink import rtnl_delete_link
from stack.core.uapi import AF_INET, IPPROTO_IPV6, IPV6_FLOWLABEL_MASK
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
    AttrType,
    NlError,
)
from stack.netlink.rt_kind_row import link_kind, link_name, validate_ether
from stack.tunnel.gre import GRE_KEY, GRE_ROUTING, GRE_VERSION
from stack.tunnel.ip_tunnel import IPPROTO_IPIP, KINDS, ip_tunnel, ip_tunnel_parm, tunnel_kind
from stack.tunnel.tunnels import TUNNEL_OPS, tunnel_changelink, tunnel_newlink

ATTRS: tuple[tuple[str, str, AttrType, int, int], ...] = (
    ("LINK", "link", U32, 1, 1),
    ("LOCAL", "local", IN6, 2, 6),
    ("REMOTE", "remote", IN6, 3, 7),
    ("TTL", "ttl", U8, 4, 8),
    ("TOS", "tos", U8, 5, 9),
    ("ENCAP_LIMIT", "encap_limit", U8, 6, 11),
    ("FLAGS", "flags", U32, 8, 13),
    ("PROTO", "proto", U8, 9, 0),
    ("IFLAGS", "i_flags", BE16, 0, 2),
    ("OFLAGS", "o_flags", BE16, 0, 3),
    ("IKEY", "i_key", BE32, 0, 4),
    ("OKEY", "o_key", BE32, 0, 5),
    ("FWMARK", "fwmark", U32, 20, 20),
    ("FLOWINFO", "", BE32, 7, 12),
    ("PMTUDISC", "", U8, 10, 10),
    ("ENCAP_TYPE", "", U16, 15, 14),
    ("ENCAP_FLAGS", "", U16, 16, 15),
    ("ENCAP_SPORT", "", BE16, 17, 16),
    ("ENCAP_DPORT", "", BE16, 18, 17),
    ("COLLECT_METADATA", "", FLAG, 19, 18),
    ("IGNORE_DF", "", U8, 0, 19),
)
"""Name without prefix, member of ip_tunnel_parm, type, number of IFLA_IPTUN_* and of IFLA_GRE_*.

0: only the other list has it.
"""
PARM = tuple((name, member) for name, member, *_ in ATTRS if member)
"""Attributes that set a member, in the order of a dump."""


def tunnel_table(gre: bool, addr: AttrType, flags: AttrType = U32) -> AttrTable:
    """IFLA_GRE_* or IFLA_IPTUN_*, with addresses of the family outside."""
    prefix = "IFLA_GRE" if gre else "IFLA_IPTUN"
    own = {"LOCAL": addr, "REMOTE": addr, "FLAGS": flags}
    rows = ((name, numbers[gre], own.get(name, kind)) for name, _, kind, *numbers in ATTRS)
    return AttrTable(prefix, *(Attr(f"{prefix}_{name}", at, kind) for name, at, kind in rows if at))


IPTUN4, SIT = tunnel_table(False, BE32), tunnel_table(False, BE32, U16)
IPTUN6, GRE4, GRE6 = tunnel_table(False, IN6), tunnel_table(True, BE32), tunnel_table(True, IN6)
POLICIES = {
    "ipip": IPTUN4,
    "sit": SIT,
    "gre": GRE4,
    "gretap": GRE4,
    "ip6tnl": IPTUN6,
    "ip6gre": GRE6,
    "ip6gretap": GRE6,
}

SIX_ONLY = ("ENCAP_LIMIT", "FLOWINFO")
TCLASS_SHIFT = 20


@dataclass(frozen=True, slots=True)
class tunnel_link:
    """The functions of a row of KINDS, for one kind of tunnel."""

    kind: tunnel_kind

    @property
    def prefix(self) -> str:
        """The prefix of its attributes' names."""
        return "IFLA_GRE_" if self.kind.gre else "IFLA_IPTUN_"

    def validate(self, tb: Attrs, data: Attrs | None) -> None:
        """ipgre_tunnel_validate, ipip_tunnel_validate and others. Raises: NlError."""
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
        """ipip_netlink_parms and others. Raises: NlError EINVAL, EOPNOTSUPP."""
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
            p.flowlabel, p.tos = info & IPV6_FLOWLABEL_MASK, info >> TCLASS_SHIFT & 0xFF
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
        """ipip_fill_info and others."""
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
        encap = ("ENCAP_TYPE", "ENCAP_SPORT", "ENCAP_DPORT", "ENCAP_FLAGS")
        return found | {prefix + name: 0 for name in encap}

    def link(self, dev: net_device) -> net_device | None:
        """ip_tunnel_get_iflink: the requested interface."""
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
