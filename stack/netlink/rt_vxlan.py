"""drivers/net/vxlan/vxlan_core.c: IFLA_INFO_DATA of vxlan, and its table by RTM_*NEIGH.

    rtnl_newlink => vxlan_validate, vxlan_new -> vxlan_nl2conf -> vxlan_newlink
    rtnl_link_fill => vxlan_fill_info
    rtnl_fdb_add => vxlan_fdb_add           `bridge fdb add ADDR dev DEV dst HOST`, of NTF_SELF
    rtnl_fdb_del => vxlan_fdb_delete
    rtnl_fdb_dump => vxlan_fdb_dump

The row VXLAN_ROW at the end goes into rt_kinds.KINDS. The file keeps no state: parameters and table
are the device's (stack/tunnel/vxlan.py). Read vxlan_nl2conf first.
"""

from __future__ import annotations

import errno
from typing import Any

from stack.core import uapi
from stack.core.netdevice import ETH_ALEN, ETH_MAX_MTU, ETH_MIN_MTU, net_device
from stack.core.rows import clone_state
from stack.core.uapi import (
    AF_INET,
    AF_INET6,
    IPV6_FLOWLABEL_MASK,
    NLM_F_APPEND,
    NLM_F_CREATE,
    NLM_F_EXCL,
    NLM_F_REPLACE,
    NTF_SELF,
)
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
from stack.tunnel.vxlan import (
    vxlan_changelink,
    vxlan_config,
    vxlan_config_validate,
    vxlan_dev,
    vxlan_fdb,
    vxlan_fdb_create,
    vxlan_fdb_find_rdst,
    vxlan_fdb_remove,
    vxlan_link_ops,
    vxlan_newlink,
    vxlan_rdst,
)

CANNOT = "vxlan: cannot change {} flag"
PARMS = (
    Parm("IFLA_VXLAN_LINK", 3, U32, sets="link"),
    Parm("IFLA_VXLAN_TOS", 6, U8, sets="tos"),
    Parm("IFLA_VXLAN_TTL", 5, U8, sets="ttl"),
    Parm("IFLA_VXLAN_TTL_INHERIT", 28, FLAG, sets="ttl_inherit", fixed=CANNOT),
    Parm("IFLA_VXLAN_LABEL", 26, BE32, sets="label"),
    Parm("IFLA_VXLAN_LEARNING", 7, U8, sets="learning"),
    Parm("IFLA_VXLAN_AGEING", 8, U32, sets="age_s"),
    Parm("IFLA_VXLAN_PROXY", 11, U8, fixed=CANNOT),
    Parm("IFLA_VXLAN_RSC", 12, U8, fixed=CANNOT),
    Parm("IFLA_VXLAN_L2MISS", 13, U8, fixed=CANNOT),
    Parm("IFLA_VXLAN_L3MISS", 14, U8, fixed=CANNOT),
    Parm("IFLA_VXLAN_LIMIT", 9, U32, sets="addrmax", fixed="Cannot change limit"),
    Parm("IFLA_VXLAN_COLLECT_METADATA", 25, U8, fixed=CANNOT),
    Parm(
        "IFLA_VXLAN_PORT_RANGE", 10, UNSPEC, 4, sets="port_range", fixed="Cannot change port range"
    ),
    Parm("IFLA_VXLAN_PORT", 15, BE16, sets="dst_port", fixed="Cannot change port"),
    Parm("IFLA_VXLAN_UDP_CSUM", 18, U8, sets="udp_csum", fixed="Cannot change UDP_CSUM flag"),
    Parm("IFLA_VXLAN_UDP_ZERO_CSUM6_TX", 19, U8, sets="zero_csum6_tx", fixed=CANNOT),
    Parm("IFLA_VXLAN_UDP_ZERO_CSUM6_RX", 20, U8, sets="zero_csum6_rx", fixed=CANNOT),
    Parm("IFLA_VXLAN_REMCSUM_TX", 21, U8, fixed=CANNOT),
    Parm("IFLA_VXLAN_REMCSUM_RX", 22, U8, fixed=CANNOT),
    Parm("IFLA_VXLAN_GBP", 23, FLAG, fixed=CANNOT),
    Parm("IFLA_VXLAN_GPE", 27, FLAG, fixed=CANNOT),
    Parm("IFLA_VXLAN_REMCSUM_NOPARTIAL", 24, FLAG, fixed=CANNOT),
    Parm("IFLA_VXLAN_DF", 29, U8, sets="df"),
)
"""Parameters in the order of their checks."""
VXLAN = AttrTable(
    "IFLA_VXLAN",
    Attr("IFLA_VXLAN_ID", 1, U32),
    Attr("IFLA_VXLAN_GROUP", 2, BE32),
    Attr("IFLA_VXLAN_LOCAL", 4, BE32),
    Attr("IFLA_VXLAN_GROUP6", 16, IN6),
    Attr("IFLA_VXLAN_LOCAL6", 17, IN6),
    Attr("IFLA_VXLAN_LOCALBYPASS", 31, U8, legal=range(2)),
    *PARMS,
    last=34,
    strict_from=31,
)


def vxlan_validate(tb: Attrs, data: Attrs | None) -> None:
    """Raises: NlError."""
    validate_unicast(tb)
    if not ETH_MIN_MTU <= tb.get("IFLA_MTU", ETH_MIN_MTU) <= ETH_MAX_MTU:
        raise tb.wrong("IFLA_MTU", "MTU must be between 68 and 65535")
    if data is None:
        raise NlError(errno.EINVAL, "Required attributes not provided to perform the operation")
    if data.get("IFLA_VXLAN_ID", 0) >= 1 << 24:
        raise data.wrong("IFLA_VXLAN_ID", "VXLAN ID must be lower than 16777216", errno.ERANGE)
    validate_port_range(data, "IFLA_VXLAN_PORT_RANGE")
    if data.get("IFLA_VXLAN_DF", 0) > 2:
        raise data.wrong("IFLA_VXLAN_DF", "Invalid DF attribute")


def vxlan_nl2addrs(data: Attrs, cfg: vxlan_config, changes: bool) -> None:
    """The addresses outside, which fix the family. Raises: NlError EOPNOTSUPP, EINVAL."""
    families = set()
    for name, member in (("GROUP", "remote"), ("LOCAL", "local")):
        for tail, family in (("", AF_INET), ("6", AF_INET6)):
            addr = data.get(f"IFLA_VXLAN_{name}{tail}")
            if addr is None:
                continue
            if changes and family != cfg.family:
                group = "group address family does not match old group"
                text = group if name == "GROUP" else "local address family does not match old"
                raise NlError(errno.EOPNOTSUPP, f"New {text}")
            setattr(cfg, member, addr)
            families.add(family)
            break
    if len(families) > 1:
        raise NlError(errno.EINVAL, "Local and remote address must be from the same family")
    if families:
        cfg.family = families.pop()


def vxlan_nl2conf(tb: Attrs, data: Attrs, old: vxlan_dev | None = None) -> vxlan_config:
    """The attributes as parameters, of a new device or changing those of `old`. Raises: NlError."""
    cfg = vxlan_config() if old is None else clone_state(old.cfg)
    vni = data.get("IFLA_VXLAN_ID", cfg.vni)
    if old is not None and vni != cfg.vni:
        raise NlError(errno.EOPNOTSUPP, "Cannot change VNI")
    cfg.vni = vni
    vxlan_nl2addrs(data, cfg, old is not None)
    for row in PARMS:
        if row.name not in data:
            continue
        if old is not None and row.fixed:
            what = row.name.removeprefix("IFLA_VXLAN_")
            raise NlError(errno.EOPNOTSUPP, row.fixed.format(what))
        row.set(cfg, data)
    if old is not None and "IFLA_MTU" in tb:
        raise NlError(errno.EOPNOTSUPP, "Cannot change mtu")
    cfg.label &= IPV6_FLOWLABEL_MASK
    return cfg


def vxlan_new(net: Net, tb: Attrs, data: Attrs) -> net_device:
    """vxlan_newlink"""
    cfg = vxlan_nl2conf(tb, data)
    vxlan_config_validate(net, cfg)  # checks the name last, as register_netdevice does
    return vxlan_newlink(
        net, link_name(tb, "vxlan"), cfg, tb.get("IFLA_ADDRESS"), tb.get("IFLA_MTU", 0)
    )


def vxlan_change(dev: net_device, tb: Attrs, data: Attrs) -> None:
    """vxlan_changelink"""
    vxlan_changelink(dev, vxlan_nl2conf(tb, data, dev.priv))


def vxlan_fill_info(dev: net_device) -> dict[str, Any]:
    """vxlan_fill_info"""
    vxlan: vxlan_dev = dev.priv
    cfg = vxlan.cfg
    tail = "6" if cfg.family == AF_INET6 else ""
    found: dict[str, Any] = {
        "IFLA_VXLAN_ID": cfg.vni,
        f"IFLA_VXLAN_GROUP{tail}": cfg.remote or None,
        "IFLA_VXLAN_LINK": vxlan.default_dst.ifindex or None,
        f"IFLA_VXLAN_LOCAL{tail}": cfg.local or None,
        "IFLA_VXLAN_TTL": cfg.ttl,
        "IFLA_VXLAN_TTL_INHERIT": True if cfg.ttl_inherit else None,
        "IFLA_VXLAN_TOS": cfg.tos,
        "IFLA_VXLAN_DF": cfg.df,
        "IFLA_VXLAN_LABEL": cfg.label,
        "IFLA_VXLAN_LEARNING": int(cfg.learning),
        "IFLA_VXLAN_PROXY": 0,
        "IFLA_VXLAN_RSC": 0,
        "IFLA_VXLAN_L2MISS": 0,
        "IFLA_VXLAN_L3MISS": 0,
        "IFLA_VXLAN_COLLECT_METADATA": 0,
        "IFLA_VXLAN_AGEING": cfg.age_s,
        "IFLA_VXLAN_LIMIT": cfg.addrmax,
        "IFLA_VXLAN_PORT": cfg.dst_port,
    }
    return found | {
        "IFLA_VXLAN_UDP_CSUM": int(cfg.udp_csum),
        "IFLA_VXLAN_UDP_ZERO_CSUM6_TX": int(cfg.zero_csum6_tx),
        "IFLA_VXLAN_UDP_ZERO_CSUM6_RX": int(cfg.zero_csum6_rx),
        "IFLA_VXLAN_REMCSUM_TX": 0,
        "IFLA_VXLAN_REMCSUM_RX": 0,
        "IFLA_VXLAN_LOCALBYPASS": 1,
        "IFLA_VXLAN_PORT_RANGE": cfg.port_range,
    }


# --- the table ------------------------------------------------------------------------------------


def vxlan_fdb_parse(vxlan: vxlan_dev, tb: Attrs) -> vxlan_rdst:
    """The host that a request names. Raises: NlError."""
    cfg = vxlan.cfg
    size = {AF_INET: 4, AF_INET6: 16}[cfg.family]
    remote = 0
    if "NDA_DST" in tb:
        if len(tb["NDA_DST"]) not in (4, 16):
            raise NlError(errno.EAFNOSUPPORT, "Unsupported address family")
        if len(tb["NDA_DST"]) != size:
            raise NlError(errno.EAFNOSUPPORT)
        remote = int.from_bytes(tb["NDA_DST"], "big")
    port, vni = tb.get("NDA_PORT", cfg.dst_port), tb.get("NDA_VNI", cfg.vni)
    rdst = vxlan_rdst(remote, port, vni)
    rdst.ifindex = tb.get("NDA_IFINDEX", 0)
    if rdst.ifindex and rdst.ifindex not in vxlan.net.dev_by_index:
        raise NlError(errno.EADDRNOTAVAIL, "Invalid interface index")
    return rdst


def vxlan_fdb_add(dev: net_device, tb: Attrs, nud: int, flags: int, nlflags: int) -> None:
    """ndo_fdb_add. Raises: NlError."""
    vxlan: vxlan_dev = dev.priv
    if not nud & (uapi.NUD_PERMANENT | uapi.NUD_REACHABLE):
        raise NlError(errno.EINVAL, "Invalid neighbour state")
    if "NDA_DST" not in tb:
        raise NlError(errno.EINVAL, "Missing destination address")
    rdst = vxlan_fdb_parse(vxlan, tb)
    addr: bytes = tb["NDA_LLADDR"]
    f = vxlan.fdb.get(addr)
    if f is None:
        if not nlflags & NLM_F_CREATE:
            raise NlError(errno.ENOENT)
        if nlflags & NLM_F_REPLACE and (addr == bytes(ETH_ALEN) or addr[0] & 1):
            raise NlError(errno.EOPNOTSUPP)
        if vxlan_fdb_create(vxlan, addr, nud, flags, rdst) is None:
            raise NlError(errno.ENOSPC)
        return
    if nlflags & NLM_F_EXCL:
        raise NlError(errno.EEXIST)
    f.state, f.flags = nud, flags
    f.updated = vxlan.net.clock.now_ns()
    many = addr == bytes(ETH_ALEN) or addr[0] & 1
    if nlflags & NLM_F_REPLACE:
        if many:
            raise NlError(errno.EOPNOTSUPP)
        f.remotes = [rdst]
    elif nlflags & NLM_F_APPEND and many and vxlan_fdb_find_rdst(f, rdst) is None:
        f.remotes.append(rdst)


def vxlan_fdb_delete(dev: net_device, tb: Attrs) -> None:
    """ndo_fdb_del. Raises: NlError ENOENT."""
    vxlan: vxlan_dev = dev.priv
    if not vxlan_fdb_remove(vxlan, tb["NDA_LLADDR"], vxlan_fdb_parse(vxlan, tb)):
        raise NlError(errno.ENOENT)


def vxlan_fdb_dump(dev: net_device) -> list[tuple[int, int, dict[str, Any], tuple[int, int]]]:
    """ndo_fdb_dump: (state, flags, attributes, times of use and change) of each host."""
    vxlan: vxlan_dev = dev.priv
    return [
        (f.state, f.flags | NTF_SELF, fdb_info(vxlan, f, rdst), (f.used, f.updated))
        for f in vxlan.fdb.values()
        for rdst in f.remotes
    ]


def fdb_info(vxlan: vxlan_dev, f: vxlan_fdb, rdst: vxlan_rdst) -> dict[str, Any]:
    """vxlan_fdb_info"""
    cfg = vxlan.cfg
    size = {AF_INET: 4, AF_INET6: 16}[cfg.family]
    return {
        "NDA_LLADDR": f.addr,
        "NDA_DST": rdst.remote.to_bytes(size, "big"),
        "NDA_PORT": rdst.port if rdst.port != cfg.dst_port else None,
        "NDA_VNI": rdst.vni if rdst.vni != cfg.vni else None,
        "NDA_IFINDEX": rdst.ifindex or None,
    }


VXLAN_ROW = link_kind(
    vxlan_link_ops,
    vxlan_new,
    VXLAN,
    vxlan_validate,
    vxlan_change,
    fill_info=vxlan_fill_info,
    fdb_add=vxlan_fdb_add,
    fdb_del=vxlan_fdb_delete,
    fdb_dump=vxlan_fdb_dump,
)
