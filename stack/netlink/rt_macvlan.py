"""drivers/net/macvlan.c: IFLA_MACVLAN_*: devices of macvlan by RTM_NEWLINK."""

from __future__ import annotations

import errno
from typing import Any

from stack.core.dev import dev_mc_add, dev_mc_del, dev_set_promiscuity, dev_uc_add, dev_uc_del
from stack.core.netdevice import ETH_ALEN, net_device
from stack.core.uapi import NLM_F_REPLACE
from stack.drivers.macvlan import (
    macvlan_common_newlink,
    macvlan_flush_sources,
    macvlan_hash_add_source,
    macvlan_hash_del_source,
    macvlan_link_ops,
    update_port_bc_queue_len,
)
from stack.drivers.macvlan_dev import (
    MACVLAN_DEFAULT_BC_QUEUE_LEN,
    MACVLAN_FLAG_NODST,
    MACVLAN_FLAG_NOPROMISC,
    MACVLAN_MODE_NAMES,
    MACVLAN_MODE_PASSTHRU,
    MACVLAN_MODE_SOURCE,
    MACVLAN_MODE_VEPA,
    macvlan_dev,
)
from stack.drivers.stacked import stacked_get_iflink
from stack.net import Net
from stack.netlink.nlattr import (
    BINARY,
    NESTED,
    NLA_HDRLEN,
    NLA_TYPE_MASK,
    REJECT,
    S32,
    U16,
    U32,
    Attr,
    Attrs,
    AttrTable,
    NlError,
    nest,
    nla_for_each,
)
from stack.netlink.rt_kind_row import (
    link_kind,
    link_name,
    lower_link,
    validate_address,
    validate_ether,
    validate_mtu,
)

MACVLAN_MACADDR_ADD, MACVLAN_MACADDR_DEL, MACVLAN_MACADDR_FLUSH, MACVLAN_MACADDR_SET = range(4)
IFLA_MACVLAN_MACADDR = 4
MAX_ADDR_LEN = 32
GOLDEN_RATIO_64 = 0x61C8864680B583EB
MACVLAN = AttrTable(
    "IFLA_MACVLAN",
    Attr("IFLA_MACVLAN_MODE", 1, U32),
    Attr("IFLA_MACVLAN_FLAGS", 2, U16),
    Attr("IFLA_MACVLAN_MACADDR_MODE", 3, U32),
    Attr("IFLA_MACVLAN_MACADDR", IFLA_MACVLAN_MACADDR, BINARY, MAX_ADDR_LEN),
    Attr("IFLA_MACVLAN_MACADDR_DATA", 5, NESTED),
    Attr("IFLA_MACVLAN_MACADDR_COUNT", 6, U32),
    Attr("IFLA_MACVLAN_BC_QUEUE_LEN", 7, U32),
    Attr("IFLA_MACVLAN_BC_QUEUE_LEN_USED", 8, REJECT),
    Attr("IFLA_MACVLAN_BC_CUTOFF", 9, S32),
)


def macvlan_validate(tb: Attrs, data: Attrs | None) -> None:
    """Validate the values, independent of the device. Raises: NlError."""
    validate_ether(tb, data)
    if data is None:
        return
    known = MACVLAN_FLAG_NOPROMISC | MACVLAN_FLAG_NODST
    if data.get("IFLA_MACVLAN_FLAGS", 0) & ~known:
        raise NlError(errno.EINVAL)
    if data.get("IFLA_MACVLAN_MODE", MACVLAN_MODE_VEPA) not in MACVLAN_MODE_NAMES.values():
        raise NlError(errno.EINVAL)
    if data.get("IFLA_MACVLAN_MACADDR_MODE", 0) > MACVLAN_MACADDR_SET:
        raise NlError(errno.EINVAL)
    validate_address(data, name="IFLA_MACVLAN_MACADDR")
    if "IFLA_MACVLAN_MACADDR_COUNT" in data:
        raise NlError(errno.EINVAL)


def named_sources(data: Attrs) -> list[bytes]:
    """The source addresses of a request: IFLA_MACVLAN_MACADDR, and those of MACADDR_DATA."""
    found = [data["IFLA_MACVLAN_MACADDR"]] if "IFLA_MACVLAN_MACADDR" in data else []
    rest: bytes = data.get("IFLA_MACVLAN_MACADDR_DATA", b"")
    for kind, at, end in nla_for_each(rest):
        if kind & NLA_TYPE_MASK == IFLA_MACVLAN_MACADDR and end - at == NLA_HDRLEN + ETH_ALEN:
            found.append(rest[at + NLA_HDRLEN : end])
    return found


def one_source(data: Attrs) -> bytes:
    """The source address to add or delete. Raises: NlError EINVAL: there is none."""
    if "IFLA_MACVLAN_MACADDR" not in data:
        raise NlError(errno.EINVAL)
    addr: bytes = data["IFLA_MACVLAN_MACADDR"]
    return addr


def macvlan_changelink_sources(vlan: macvlan_dev, data: Attrs) -> None:
    """`macaddr add|del|flush|set`. Raises: NlError EINVAL."""
    mode = data["IFLA_MACVLAN_MACADDR_MODE"]
    if mode == MACVLAN_MACADDR_ADD:
        macvlan_hash_add_source(vlan, one_source(data))
    elif mode == MACVLAN_MACADDR_DEL:
        macvlan_hash_del_source(vlan, one_source(data))
    else:
        macvlan_flush_sources(vlan)
        if mode == MACVLAN_MACADDR_SET:
            for addr in named_sources(data):
                macvlan_hash_add_source(vlan, addr)


def macvlan_new(net: Net, tb: Attrs, data: Attrs) -> net_device:
    """macvlan_newlink. Raises: OSError."""
    validate_mtu(tb)
    lower = lower_link(net, tb)
    sources: list[bytes] | None = None
    if "IFLA_MACVLAN_MACADDR_MODE" in data:
        mode = data["IFLA_MACVLAN_MACADDR_MODE"]
        sources = named_sources(data) if mode == MACVLAN_MACADDR_SET else []
        if mode in (MACVLAN_MACADDR_ADD, MACVLAN_MACADDR_DEL):
            addr = one_source(data)
            sources = [addr] if mode == MACVLAN_MACADDR_ADD else []
    return macvlan_common_newlink(
        net,
        link_name(tb, "macvlan"),
        lower,
        data.get("IFLA_MACVLAN_MODE", MACVLAN_MODE_VEPA),
        data.get("IFLA_MACVLAN_FLAGS", 0),
        mtu=tb.get("IFLA_MTU"),
        mac=tb.get("IFLA_ADDRESS"),
        sources=sources,
        bc_queue_len=data.get("IFLA_MACVLAN_BC_QUEUE_LEN", MACVLAN_DEFAULT_BC_QUEUE_LEN),
        bc_cutoff=data.get("IFLA_MACVLAN_BC_CUTOFF"),
    )


def macvlan_fdb_check(dev: net_device, addr: bytes) -> None:
    """Only mode passthru takes unicast addresses besides its own. Raises: NlError EOPNOTSUPP."""
    vlan: macvlan_dev = dev.priv
    if not vlan.port.passthru and not addr[0] & 1:
        raise NlError(errno.EOPNOTSUPP)


def macvlan_fdb_add(dev: net_device, tb: Attrs, nud: int, flags: int, nlflags: int) -> None:
    """ndo_fdb_add: add a receive address. Raises: NlError EOPNOTSUPP, EEXIST."""
    addr: bytes = tb["NDA_LLADDR"]
    macvlan_fdb_check(dev, addr)
    if nlflags & NLM_F_REPLACE:
        raise NlError(errno.EOPNOTSUPP)
    if addr in (dev.mc if addr[0] & 1 else dev.uc):
        raise NlError(errno.EEXIST)
    (dev_mc_add if addr[0] & 1 else dev_uc_add)(dev, addr)


def macvlan_fdb_del(dev: net_device, tb: Attrs) -> None:
    """ndo_fdb_del. Raises: NlError EOPNOTSUPP, ENOENT."""
    addr: bytes = tb["NDA_LLADDR"]
    macvlan_fdb_check(dev, addr)
    if addr not in (dev.mc if addr[0] & 1 else dev.uc):
        raise NlError(errno.ENOENT)
    (dev_mc_del if addr[0] & 1 else dev_uc_del)(dev, addr)


def macvlan_changelink(dev: net_device, tb: Attrs, data: Attrs) -> None:
    """`ip link set DEV type macvlan ...`. Raises: NlError EINVAL."""
    vlan: macvlan_dev = dev.priv
    mode = data.get("IFLA_MACVLAN_MODE", vlan.mode)
    if (mode == MACVLAN_MODE_PASSTHRU) != (vlan.mode == MACVLAN_MODE_PASSTHRU):
        raise NlError(errno.EINVAL)
    if mode != vlan.mode:
        macvlan_flush_sources(vlan)
    if "IFLA_MACVLAN_FLAGS" in data:
        flags = data["IFLA_MACVLAN_FLAGS"]
        if vlan.port.passthru and (flags ^ vlan.flags) & MACVLAN_FLAG_NOPROMISC:
            dev_set_promiscuity(vlan.lowerdev, -1 if flags & MACVLAN_FLAG_NOPROMISC else 1)
        vlan.flags = flags
    if "IFLA_MACVLAN_BC_QUEUE_LEN" in data:
        vlan.bc_queue_len_req = data["IFLA_MACVLAN_BC_QUEUE_LEN"]
        update_port_bc_queue_len(vlan.port)
    if "IFLA_MACVLAN_BC_CUTOFF" in data:
        vlan.port.bc_cutoff = data["IFLA_MACVLAN_BC_CUTOFF"]
    vlan.mode = mode
    if "IFLA_MACVLAN_MACADDR_MODE" in data:
        if mode != MACVLAN_MODE_SOURCE:
            raise NlError(errno.EINVAL)
        macvlan_changelink_sources(vlan, data)


def macvlan_eth_hash(addr: bytes) -> int:
    """The kernel's bucket of an address, which orders source addresses in a dump."""
    value = int.from_bytes(addr, "little") << 16
    return (value * GOLDEN_RATIO_64 & (1 << 64) - 1) >> 56


def macvlan_fill_info(dev: net_device) -> dict[str, Any]:
    """IFLA_INFO_DATA; sources by bucket, the last one first."""
    vlan: macvlan_dev = dev.priv
    sources = sorted(vlan.sources, key=macvlan_eth_hash)
    told = b"".join([nest(IFLA_MACVLAN_MACADDR, addr) for addr in sources])
    cutoff = vlan.port.bc_cutoff
    return {
        "IFLA_MACVLAN_MODE": vlan.mode,
        "IFLA_MACVLAN_FLAGS": vlan.flags,
        "IFLA_MACVLAN_MACADDR_COUNT": len(vlan.sources),
        "IFLA_MACVLAN_MACADDR_DATA": told or None,
        "IFLA_MACVLAN_BC_QUEUE_LEN": vlan.bc_queue_len_req,
        "IFLA_MACVLAN_BC_QUEUE_LEN_USED": U32.put(vlan.port.bc_queue_len_used),
        "IFLA_MACVLAN_BC_CUTOFF": cutoff if cutoff != 1 else None,
    }


MACVLAN_ROW = link_kind(
    macvlan_link_ops,
    macvlan_new,
    MACVLAN,
    macvlan_validate,
    macvlan_changelink,
    macvlan_fill_info,
    stacked_get_iflink,
    fdb_add=macvlan_fdb_add,
    fdb_del=macvlan_fdb_del,
)
