"""RTM_*NEXTHOP: next hops as objects, `ip nexthop` (net/ipv4/nexthop.c).

    rtm_new_nexthop             asked_group or nexthop_create checks it, put_nexthop stores it
    rtm_del_nexthop, rtm_get_nexthop    one by its id
    rtm_dump_nexthop            all, or those that match a filter, by id
    nh_fill_node                attributes of answers and notifications

Called by rtnetlink.py. The file keeps no state; nexthop.py has the objects and updates
routes. Groups are hash-threshold or resilient ones; rt_nexthop_bucket.py reports the buckets. Next
hops of a forwarding database are not supported. Read rtm_new_nexthop first.
"""

from __future__ import annotations

import errno
from collections.abc import Iterator
from typing import Any

from stack.core import uapi
from stack.core.extack import ExtAckError
from stack.core.netdevice import IFF_UP, net_device, netif_carrier_ok
from stack.core.rows import wide
from stack.core.time64 import TICK_NS
from stack.core.uapi import (
    AF_INET,
    AF_INET6,
    AF_UNSPEC,
    NLM_F_CREATE,
    NLM_F_REPLACE,
    RTM_NEWNEXTHOP,
)
from stack.ipv4.fib import RT_TABLE_MAIN, fib_check_nh, fib_nh
from stack.ipv6.route_config import ip6_validate_gw
from stack.net import Net
from stack.netlink.af_netlink import netlink_reply, nlmsg_part
from stack.netlink.netlink_sock import nlmsg
from stack.netlink.nexthop import (
    nexthop,
    nexthop_add,
    nexthop_remove,
    nexthop_replace,
    nexthop_unused_id,
    routes6,
)
from stack.netlink.nh_res import (
    RES_DEFAULT_IDLE_TIMER,
    RES_DEFAULT_UNBALANCED_TIMER,
    nh_res_table,
    nh_res_table_alloc,
)
from stack.netlink.nlattr import STRICT, Attrs, AttrTable, NlError, invalid
from stack.netlink.rt_attrs import NH_GRP, NHA, NHA_DEL, NHA_DUMP, NHA_GET, NHA_NEW, NHMSG
from stack.netlink.rt_link import nlmsg_parse

NEXTHOP_GRP_TYPE_MPATH, NEXTHOP_GRP_TYPE_RES = 0, 1
NHA_OP_FLAG_RESP_GRP_RESVD_0 = 1 << 31
BEHIND_GROUP = ("NHA_BLACKHOLE", "NHA_OIF", "NHA_GATEWAY", "NHA_ENCAP_TYPE", "NHA_ENCAP")


def res_group_fill(table: nh_res_table, now: int) -> dict[str, int]:
    """net/ipv4/nexthop.c nla_put_nh_group_res."""
    since = table.unbalanced_since
    return {
        "NHA_RES_GROUP_BUCKETS": len(table.buckets),
        "NHA_RES_GROUP_IDLE_TIMER": table.idle_timer // TICK_NS,
        "NHA_RES_GROUP_UNBALANCED_TIMER": table.unbalanced_timer // TICK_NS,
        "NHA_RES_GROUP_UNBALANCED_TIME": (now - since) // TICK_NS if since >= 0 else 0,
    }


def nh_fill_node(nh: nexthop, now: int) -> bytes:
    """net/ipv4/nexthop.c: struct nhmsg and attributes of an object. `now`: ns."""
    head = NHMSG.pack(nh.family, nh.scope, nh.protocol, 0, nh.flags)
    if not nh.single():
        group = b"".join(
            NH_GRP.pack(member.id, weight - 1 & 0xFF, weight - 1 >> 8, 0)
            for member, weight in nh.members
        )
        kind = NEXTHOP_GRP_TYPE_MPATH if nh.res is None else NEXTHOP_GRP_TYPE_RES
        attrs: dict[str, Any] = {"NHA_ID": nh.id, "NHA_GROUP_TYPE": kind, "NHA_GROUP": group}
        attrs["NHA_OP_FLAGS"] = NHA_OP_FLAG_RESP_GRP_RESVD_0
        if nh.res is not None:
            attrs["NHA_RES_GROUP"] = res_group_fill(nh.res, now)
        return head + NHA.build(attrs)
    if nh.blackhole:
        return head + NHA.build({"NHA_ID": nh.id, "NHA_BLACKHOLE": True})
    assert nh.dev is not None
    size = 16 if nh.family == AF_INET6 else 4
    gw = int(nh.gw).to_bytes(size, "big") if nh.gw else None
    return head + NHA.build({"NHA_ID": nh.id, "NHA_OIF": nh.dev.ifindex, "NHA_GATEWAY": gw})


# --- requests -----------------------------------------------------------------------------------


def asked_group(net: Net, family: int, tb: Attrs, nameless: bool) -> list[tuple[nexthop, int]]:
    """net/ipv4/nexthop.c nh_check_attr_group; `nameless`: replace without an id.

    Raises: NlError EINVAL.
    """
    if family != AF_UNSPEC:
        raise invalid("Invalid family for group")
    if tb.get("NHA_GROUP_TYPE", NEXTHOP_GRP_TYPE_MPATH) > NEXTHOP_GRP_TYPE_RES:
        raise invalid("Invalid group type")
    data = tb["NHA_GROUP"]
    if not data or len(data) % NH_GRP.size:
        raise invalid("Invalid length for nexthop group attribute")
    entries = list(NH_GRP.iter_unpack(data))
    for i, (nhid, weight, high, reserved) in enumerate(entries):
        if reserved:
            raise invalid("Reserved field in nexthop_grp must be 0")
        if weight + (high << 8) == 0xFFFF:
            raise invalid("Invalid value for weight")
        if any(other[0] == nhid for other in entries[i + 1 :]):
            raise invalid("Nexthop id can not be used twice in a group")
    if nameless:
        raise invalid("Replace requires nexthop id")
    members = []
    for nhid, weight, high, _ in entries:
        nh = net.fib.nexthops.get(nhid)
        if nh is None:
            raise invalid("Invalid nexthop id")
        if nh.res is not None:
            raise invalid("Resilient group can not be a nexthop within a group")
        if not nh.single():
            raise invalid("Hash-threshold group can not be a nexthop within a group")
        if nh.blackhole and len(entries) > 1:
            raise invalid("Blackhole nexthop can not be used in a group with more than 1 path")
        members.append((nh, weight + (high << 8) + 1))
    resilient = tb.get("NHA_GROUP_TYPE") == NEXTHOP_GRP_TYPE_RES
    if any(name in tb for name in (*BEHIND_GROUP, *(() if resilient else ("NHA_RES_GROUP",)))):
        raise invalid("No other attributes can be set in nexthop groups")
    if "NHA_FDB" in tb:
        raise invalid("FDB nexthop group can only have fdb nexthops")
    return members


def asked_table(tb: Attrs) -> nh_res_table | None:
    """net/ipv4/nexthop.c rtm_to_nh_config_grp_res: the requested bucket settings.

    None: not a resilient group. 0 buckets or a timer of -1: not given. Raises: NlError EINVAL.
    """
    if tb.get("NHA_GROUP_TYPE") != NEXTHOP_GRP_TYPE_RES:
        return None
    given = tb.get("NHA_RES_GROUP", {})
    count = given.get("NHA_RES_GROUP_BUCKETS", -1)
    if not count:
        raise invalid("Number of buckets needs to be non-0")
    table = nh_res_table_alloc(max(count, 0))
    for name in ("idle_timer", "unbalanced_timer"):
        ticks = given.get(f"NHA_RES_GROUP_{name.upper()}")
        setattr(table, name, -1 if ticks is None else ticks * TICK_NS)
    return table


def asked_device(net: Net, tb: Attrs) -> net_device:
    """The device of NHA_OIF. Raises: NlError EINVAL, ENETDOWN."""
    dev = net.dev_by_index.get(tb["NHA_OIF"])
    if dev is None:
        raise invalid("Invalid device index")
    if not dev.flags & IFF_UP:
        raise invalid("Nexthop device is not up", errno.ENETDOWN)
    if not netif_carrier_ok(dev):
        raise invalid("Carrier for nexthop device is down", errno.ENETDOWN)
    return dev


def nexthop_create(net: Net, nh: nexthop, tb: Attrs) -> None:
    """net/ipv4/nexthop.c rtm_to_nh_config, nh_create_ipv4, nh_create_ipv6: one next hop.

    Raises: NlError EINVAL, ENETDOWN; OSError of the gateway check.
    """
    if "NHA_BLACKHOLE" in tb:
        if any(name in tb for name in BEHIND_GROUP[1:]):
            raise invalid("Blackhole attribute can not be used with gateway, oif, encap or fdb")
        nh.blackhole, nh.dev = True, net.loopback_dev
        if not net.loopback_dev.flags & IFF_UP:
            raise invalid("Device for nexthop is not up", errno.ENETDOWN)
        return
    if "NHA_OIF" not in tb:
        raise invalid("Device attribute required for non-blackhole and non-fdb nexthops")
    nh.dev = asked_device(net, tb)
    if "NHA_GATEWAY" in tb:
        if len(tb["NHA_GATEWAY"]) != (16 if nh.family == AF_INET6 else 4):
            raise invalid("Invalid gateway")
        nh.gw = int.from_bytes(tb["NHA_GATEWAY"], "big")
    elif nh.flags & uapi.RTNH_F_ONLINK:
        raise invalid("ONLINK flag can not be set for nexthop without a gateway")
    if "NHA_ENCAP" in tb or "NHA_ENCAP_TYPE" in tb:
        missing = "type" if "NHA_ENCAP_TYPE" not in tb else "attribute"
        if "NHA_ENCAP" in tb and "NHA_ENCAP_TYPE" in tb:
            raise invalid("lwt encapsulation type not supported")
        raise invalid(f"LWT encapsulation {missing} is missing")
    if nh.family == AF_INET6:
        _check_gw6(net, nh, nh.gw)
    else:
        _check_gw4(net, nh)


def _check_gw4(net: Net, nh: nexthop) -> None:
    """fib_check_nh of an object, which also finds its scope."""
    assert nh.dev is not None
    found = fib_nh(nh.dev, int(nh.gw), 1, nh.flags)
    try:
        fib_check_nh(net, found, 0, RT_TABLE_MAIN)
    except OSError as exc:
        raise invalid("Nexthop has invalid gateway", exc.errno or errno.EINVAL) from None
    nh.scope = found.nh_scope


def _check_gw6(net: Net, nh: nexthop, gw: wide) -> None:
    """fib6_nh_init of an object."""
    assert nh.dev is not None
    nh.scope = uapi.RT_SCOPE_LINK
    if nh.dev.ip6_ptr is None:
        raise invalid("IPv6 is disabled on nexthop device", errno.EACCES)
    if gw:
        try:
            ip6_validate_gw(net, gw, nh.dev, bool(nh.flags & uapi.RTNH_F_ONLINK))
        except ExtAckError as exc:
            raise NlError(exc.errno or errno.EINVAL, exc.msg) from None
        except OSError as exc:
            raise NlError(exc.errno or errno.EINVAL) from None


def rtm_new_nexthop(nlh: nlmsg) -> None:
    """net/ipv4/nexthop.c: RTM_NEWNEXTHOP. Raises: NlError."""
    net = nlh.sk.net
    values, tb = nlmsg_parse(nlh, NHMSG, NHA_NEW, STRICT)
    family, scope, protocol, reserved, flags = values
    if reserved or scope:
        raise invalid("Invalid values in ancillary header")
    if flags & ~uapi.RTNH_F_ONLINK:
        raise invalid("Invalid nexthop flags in ancillary header")
    if family not in (AF_INET, AF_INET6) and (family or "NHA_GROUP" not in tb):
        raise invalid("Invalid address family")
    if "NHA_FDB" in tb and "NHA_GROUP" not in tb:
        if any(name in tb for name in ("NHA_OIF", *BEHIND_GROUP[:1], *BEHIND_GROUP[3:])):
            raise invalid("Fdb attribute can not be used with encap, oif or blackhole")
        raise invalid("next hops of a forwarding database are not served", errno.EOPNOTSUPP)
    nh = nexthop(tb.get("NHA_ID", 0), family, protocol, flags)
    if "NHA_GROUP" in tb:
        nh.members = asked_group(net, family, tb, not nh.id and bool(nlh.flags & NLM_F_REPLACE))
        nh.res = asked_table(tb)
    elif "NHA_HW_STATS_ENABLE" in tb:
        raise invalid("Cannot enable nexthop hardware statistics for non-group nexthops")
    else:
        try:
            nexthop_create(net, nh, tb)
        except NlError:
            raise
        except OSError as exc:  # of lookups
            raise invalid(exc.strerror or "", exc.errno or errno.EINVAL) from None
    put_nexthop(net, nh, bool(nlh.flags & NLM_F_REPLACE), bool(nlh.flags & NLM_F_CREATE))


def put_nexthop(net: Net, nh: nexthop, replace: bool, create: bool) -> None:
    """net/ipv4/nexthop.c nexthop_add, insert_nexthop, replace_nexthop. Raises: NlError."""
    if not nh.id:
        if replace:
            raise invalid("Replace requires nexthop id")
        nh.id = nexthop_unused_id(net)
    old = net.fib.nexthops.get(nh.id)
    if old is None:
        if replace and not create:
            raise invalid("Replace specified without create and no entry exists", errno.ENOENT)
        if nh.res is not None:
            if not nh.res.buckets:
                raise invalid("Number of buckets not specified for nexthop group insertion")
            set_timers(nh.res, nh.res, RES_DEFAULT_IDLE_TIMER, RES_DEFAULT_UNBALANCED_TIMER)
        nexthop_add(net, nh)
        return
    if not replace:
        raise NlError(errno.EEXIST)
    if old.single() and not nh.single():
        raise invalid("Can not replace a nexthop with a nexthop group.")
    if not old.single() and nh.single():
        raise invalid("Can not replace a nexthop group with a nexthop.")
    if (old.res is None) != (nh.res is None):
        raise invalid("Can not replace a nexthop group with one of a different type.")
    if nh.res is not None and old.res is not None:
        if nh.res.buckets and len(nh.res.buckets) != len(old.res.buckets):
            raise invalid("Can not change number of buckets of a resilient nexthop group.")
        set_timers(old.res, nh.res, old.res.idle_timer, old.res.unbalanced_timer)
    if nh.blackhole and any(len(g.members) > 1 for g in net.fib.nexthops.values() if g.uses(old)):
        raise invalid("Blackhole nexthop can not be used in a group with more than 1 path")
    if nh.has(AF_INET) and any(
        each.uses(old) and routes6(net, each) for each in net.fib.nexthops.values()
    ):
        raise invalid("IPv6 routes can not use an IPv4 nexthop")
    nexthop_replace(net, old, nh)


def set_timers(table: nh_res_table, given: nh_res_table, idle: int, unbalanced: int) -> None:
    """The timers that were given, else these."""
    table.idle_timer = idle if given.idle_timer < 0 else given.idle_timer
    table.unbalanced_timer = unbalanced if given.unbalanced_timer < 0 else given.unbalanced_timer


def asked_id(nlh: nlmsg, table: AttrTable) -> Attrs:
    """net/ipv4/nexthop.c nh_valid_get_del_req: parse a request for one object. Raises: NlError."""
    values, tb = nlmsg_parse(nlh, NHMSG, table, STRICT)
    if any(values[1:]):
        raise invalid("Invalid values in header")
    if "NHA_ID" not in tb:
        raise invalid("Nexthop id is missing")
    if not tb["NHA_ID"]:
        raise invalid("Invalid nexthop id")
    return tb


def object_of(net: Net, nhid: int) -> nexthop:
    """net/ipv4/nexthop.c nexthop_find_by_id. Raises: NlError ENOENT."""
    nh = net.fib.nexthops.get(nhid)
    if nh is None:
        raise NlError(errno.ENOENT)
    return nh


def over_device(nh: nexthop, tb: Attrs) -> bool:
    """net/ipv4/nexthop.c nh_dump_filtered: whether a dump's filter accepts an object."""
    dev = nh.dev
    upper = dev.master if dev is not None else None
    oif, master = tb.get("NHA_OIF"), tb.get("NHA_MASTER")
    return (not oif or (dev is not None and dev.ifindex == oif)) and (
        not master or (upper is not None and upper.ifindex == master)
    )


def rtm_del_nexthop(nlh: nlmsg) -> None:
    """net/ipv4/nexthop.c: RTM_DELNEXTHOP. Raises: NlError."""
    net = nlh.sk.net
    nexthop_remove(net, object_of(net, asked_id(nlh, NHA_DEL)["NHA_ID"]))


def rtm_get_nexthop(nlh: nlmsg) -> None:
    """net/ipv4/nexthop.c: RTM_GETNEXTHOP of one. Raises: NlError."""
    net = nlh.sk.net
    nh = object_of(net, asked_id(nlh, NHA_GET)["NHA_ID"])
    netlink_reply(nlh, RTM_NEWNEXTHOP, nh_fill_node(nh, net.now()))


def rtm_dump_nexthop(nlh: nlmsg) -> Iterator[bytes]:
    """net/ipv4/nexthop.c: RTM_GETNEXTHOP of all, or of those of a device, a family, of groups."""
    sk = nlh.sk
    (family, *rest), tb = nlmsg_parse(nlh, NHMSG, NHA_DUMP, STRICT)
    if any(rest):
        raise invalid("Invalid values in header for nexthop dump request")
    for name in ("NHA_OIF", "NHA_MASTER"):
        if tb.get(name, 0) >> 31:
            raise invalid("Invalid device index")
    oif, master, groups = tb.get("NHA_OIF"), tb.get("NHA_MASTER"), "NHA_GROUPS" in tb
    for nhid in sorted(sk.net.fib.nexthops):
        nh = sk.net.fib.nexthops.get(nhid)
        if nh is None or (groups and nh.single()):
            continue
        if (oif or master or family) and not nh.single():
            continue
        if not over_device(nh, tb) or (oif and nh.blackhole):
            continue
        if family and nh.family != family:
            continue
        yield nlmsg_part(nlh, RTM_NEWNEXTHOP, nh_fill_node(nh, sk.net.now()))
