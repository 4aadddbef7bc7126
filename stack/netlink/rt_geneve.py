"""drivers/net/geneve.c: IFLA_GENEVE_*: devices of geneve by RTM_NEWLINK.

rtnl_newlink => geneve_validate, geneve_new -> geneve_nl2info -> geneve_newlink
rtnl_changelink => geneve_change
"""

from __future__ import annotations

import errno
from typing import Any

from stack.core.netdevice import net_device
from stack.core.rows import clone_state
from stack.core.uapi import AF_INET, AF_INET6, IPV6_FLOWLABEL_MASK
from stack.ipv6.addr import IPV6_ADDR_LINKLOCAL, ipv6_addr_type
from stack.net import Net
from stack.netlink.nlattr import (
    BE16,
    BE32,
    FLAG,
    IN6,
    U8,
    U32,
    UNSPEC,
    Attr,
    Attrs,
    AttrTable,
    NlError,
)
from stack.netlink.rt_kind_row import (
    Parm,
    link_kind,
    link_name,
    validate_port_range,
    validate_unicast,
)
from stack.tunnel.geneve import (
    geneve_changelink,
    geneve_config,
    geneve_dev,
    geneve_link_ops,
    geneve_newlink,
)
from stack.tunnel.udp_tunnel import DF_INHERIT, is_group

GENEVE_N_VID = 1 << 24
CANNOT = (
    "Changing VNI, Port, endpoint IP address family, external, inner_proto_inherit, and UDP "
    "checksum attributes are not supported"
)
PARMS = (
    Parm("IFLA_GENEVE_PORT", 5, BE16, sets="dst_port", fixed=CANNOT),
    Parm("IFLA_GENEVE_PORT_RANGE", 15, UNSPEC, 4, sets="port_range", fixed=CANNOT),
    Parm("IFLA_GENEVE_COLLECT_METADATA", 6, FLAG, fixed=CANNOT),
    Parm("IFLA_GENEVE_UDP_CSUM", 8, U8, sets="udp_csum", fixed=CANNOT),
    Parm("IFLA_GENEVE_UDP_ZERO_CSUM6_TX", 9, U8, sets="zero_csum6_tx", fixed=CANNOT),
    Parm("IFLA_GENEVE_UDP_ZERO_CSUM6_RX", 10, U8, sets="zero_csum6_rx", fixed=CANNOT),
    Parm("IFLA_GENEVE_INNER_PROTO_INHERIT", 14, FLAG, fixed=CANNOT),
    Parm("IFLA_GENEVE_TOS", 4, U8, sets="tos"),
    Parm("IFLA_GENEVE_DF", 13, U8, sets="df"),
    Parm("IFLA_GENEVE_LABEL", 11, BE32, sets="label"),
)
"""Parameters; the first fixed one in a change is reported."""
GENEVE = AttrTable(
    "IFLA_GENEVE",
    Attr("IFLA_GENEVE_ID", 1, U32),
    Attr("IFLA_GENEVE_REMOTE", 2, BE32),
    Attr("IFLA_GENEVE_TTL", 3, U8),
    Attr("IFLA_GENEVE_REMOTE6", 7, IN6),
    Attr("IFLA_GENEVE_TTL_INHERIT", 12, U8),
    *PARMS,
    strict_from=14,
)


def geneve_validate(tb: Attrs, data: Attrs | None) -> None:
    """Raises: NlError."""
    validate_unicast(tb)
    if data is None:
        raise NlError(errno.EINVAL, "Not enough attributes provided to perform the operation")
    if data.get("IFLA_GENEVE_ID", 0) >= GENEVE_N_VID:
        raise data.wrong("IFLA_GENEVE_ID", "Geneve ID must be lower than 16777216", errno.ERANGE)
    if data.get("IFLA_GENEVE_DF", 0) > DF_INHERIT:
        raise data.wrong("IFLA_GENEVE_DF", "Invalid DF attribute")
    validate_port_range(data, "IFLA_GENEVE_PORT_RANGE")


def geneve_nl2addr(data: Attrs, cfg: geneve_config, changes: bool) -> None:
    """The host, which fixes the family. Raises: NlError."""
    if "IFLA_GENEVE_REMOTE" in data and "IFLA_GENEVE_REMOTE6" in data:
        raise NlError(errno.EINVAL, "Cannot specify both IPv4 and IPv6 Remote addresses")
    for name, family in (("REMOTE", AF_INET), ("REMOTE6", AF_INET6)):
        addr = data.get(f"IFLA_GENEVE_{name}")
        if addr is None:
            continue
        if changes and family != cfg.family:
            raise data.wrong(f"IFLA_GENEVE_{name}", CANNOT, errno.EOPNOTSUPP)
        which = "IPv4" if family == AF_INET else "IPv6"
        if family == AF_INET6 and ipv6_addr_type(addr) & IPV6_ADDR_LINKLOCAL:
            raise data.wrong("IFLA_GENEVE_REMOTE6", "Remote IPv6 address cannot be link-local")
        if is_group(family, addr):
            raise data.wrong(f"IFLA_GENEVE_{name}", f"Remote {which} address cannot be Multicast")
        cfg.family, cfg.remote = family, addr


def geneve_nl2info(data: Attrs, old: geneve_dev | None = None) -> geneve_config:
    """The attributes as parameters, of a new device or changing those of `old`. Raises: NlError."""
    cfg = geneve_config() if old is None else clone_state(old.cfg)
    geneve_nl2addr(data, cfg, old is not None)
    vni = data.get("IFLA_GENEVE_ID", cfg.vni)
    if old is not None and vni != cfg.vni:
        raise data.wrong("IFLA_GENEVE_ID", CANNOT, errno.EOPNOTSUPP)
    cfg.vni = vni
    if "IFLA_GENEVE_TTL_INHERIT" in data:
        cfg.ttl_inherit = bool(data["IFLA_GENEVE_TTL_INHERIT"])
    elif "IFLA_GENEVE_TTL" in data:
        cfg.ttl, cfg.ttl_inherit = data["IFLA_GENEVE_TTL"], False
    for row in PARMS:
        if row.name in data:
            if old is not None and row.fixed:
                raise data.wrong(row.name, row.fixed, errno.EOPNOTSUPP)
            row.set(cfg, data)
    cfg.label &= IPV6_FLOWLABEL_MASK
    if cfg.label and cfg.family == AF_INET:
        text = "Label attribute only applies for IPv6 Geneve devices"
        raise data.wrong("IFLA_GENEVE_LABEL", text)
    return cfg


def geneve_new(net: Net, tb: Attrs, data: Attrs) -> net_device:
    """geneve_newlink"""
    cfg, name = geneve_nl2info(data), link_name(tb, "geneve")
    return geneve_newlink(net, name, cfg, tb.get("IFLA_ADDRESS"), tb.get("IFLA_MTU", 0))


def geneve_change(dev: net_device, tb: Attrs, data: Attrs) -> None:
    """geneve_changelink"""
    geneve_changelink(dev, geneve_nl2info(data, dev.priv), tb.get("IFLA_MTU", 0))


def geneve_fill_info(dev: net_device) -> dict[str, Any]:
    """geneve_fill_info"""
    geneve: geneve_dev = dev.priv
    cfg = geneve.cfg
    found: dict[str, Any] = {"IFLA_GENEVE_ID": cfg.vni}
    if cfg.family == AF_INET:
        found["IFLA_GENEVE_REMOTE"] = cfg.remote
        found["IFLA_GENEVE_UDP_CSUM"] = int(cfg.udp_csum)
    else:
        found["IFLA_GENEVE_REMOTE6"] = cfg.remote
        found["IFLA_GENEVE_UDP_ZERO_CSUM6_TX"] = int(cfg.zero_csum6_tx)
    return found | {
        "IFLA_GENEVE_TTL": cfg.ttl,
        "IFLA_GENEVE_TOS": cfg.tos,
        "IFLA_GENEVE_LABEL": cfg.label,
        "IFLA_GENEVE_DF": cfg.df,
        "IFLA_GENEVE_PORT": cfg.dst_port,
        "IFLA_GENEVE_UDP_ZERO_CSUM6_RX": int(cfg.zero_csum6_rx),
        "IFLA_GENEVE_TTL_INHERIT": int(cfg.ttl_inherit),
        "IFLA_GENEVE_PORT_RANGE": cfg.port_range,
    }


GENEVE_ROW = link_kind(
    geneve_link_ops, geneve_new, GENEVE, geneve_validate, geneve_change, geneve_fill_info
)
