"""RTM_GETNEXTHOPBUCKET: buckets of resilient groups, `ip nexthop bucket` (net/ipv4/nexthop.c)."""

from __future__ import annotations

import errno
from collections.abc import Iterator

from stack.core.time64 import TICK_NS
from stack.core.uapi import AF_UNSPEC, RTM_NEWNEXTHOPBUCKET
from stack.net import Net
from stack.netlink.af_netlink import netlink_reply, nlmsg_part
from stack.netlink.netlink_sock import nlmsg
from stack.netlink.nexthop import nexthop
from stack.netlink.nh_res import nh_res_table
from stack.netlink.nlattr import STRICT, Attrs, invalid
from stack.netlink.rt_attrs import NHA, NHA_BUCKET_DUMP, NHA_BUCKET_GET, NHMSG
from stack.netlink.rt_link import nlmsg_parse
from stack.netlink.rt_nexthop import asked_id, object_of, over_device


def nh_fill_res_bucket(nh: nexthop, at: int, now: int) -> bytes:
    """net/ipv4/nexthop.c: struct nhmsg and attributes of the bucket `at` of a group. `now`: ns."""
    table = nh.res
    assert table is not None
    member = table.buckets[at]
    bucket = {
        "NHA_RES_BUCKET_INDEX": at,
        "NHA_RES_BUCKET_NH_ID": member.id if member is not None else None,
        "NHA_RES_BUCKET_IDLE_TIME": (now - table.used[at]) // TICK_NS,
    }
    head = NHMSG.pack(AF_UNSPEC, 0, nh.protocol, 0, 0)
    return head + NHA.build({"NHA_ID": nh.id, "NHA_RES_BUCKET": bucket})


def group_of(net: Net, nhid: int) -> tuple[nexthop, nh_res_table]:
    """net/ipv4/nexthop.c nexthop_find_group_resilient. Raises: NlError ENOENT, EINVAL."""
    nh = object_of(net, nhid)
    if nh.single():
        raise invalid("Not a nexthop group")
    if nh.res is None:
        raise invalid("Nexthop group not of type resilient")
    return nh, nh.res


def rtm_get_nexthop_bucket(nlh: nlmsg) -> None:
    """net/ipv4/nexthop.c: RTM_GETNEXTHOPBUCKET of one. Raises: NlError."""
    net = nlh.sk.net
    tb = asked_id(nlh, NHA_BUCKET_GET)
    at = tb.get("NHA_RES_BUCKET", {}).get("NHA_RES_BUCKET_INDEX")
    if at is None:
        raise invalid("Bucket index is missing")
    nh, table = group_of(net, tb["NHA_ID"])
    if at >= len(table.buckets):
        raise invalid("Bucket index out of bounds", errno.ENOENT)
    netlink_reply(nlh, RTM_NEWNEXTHOPBUCKET, nh_fill_res_bucket(nh, at, net.now()))


def _wanted(member: nexthop, tb: Attrs) -> bool:
    """Whether a dump's filter accepts a bucket of this member."""
    nhid = tb.get("NHA_RES_BUCKET", {}).get("NHA_RES_BUCKET_NH_ID", 0)
    return (not nhid or member.id == nhid) and over_device(member, tb)


def rtm_dump_nexthop_bucket(nlh: nlmsg) -> Iterator[bytes]:
    """net/ipv4/nexthop.c: RTM_GETNEXTHOPBUCKET of all groups or one, by member or device."""
    net = nlh.sk.net
    values, tb = nlmsg_parse(nlh, NHMSG, NHA_BUCKET_DUMP, STRICT)
    if any(values[1:]):
        raise invalid("Invalid values in header for nexthop dump request")
    ids = [tb["NHA_ID"]] if "NHA_ID" in tb else sorted(net.fib.nexthops)
    for nhid in ids:
        if "NHA_ID" in tb:
            group_of(net, nhid)
        nh = net.fib.nexthops.get(nhid)
        if nh is None or nh.res is None:
            continue
        for at, member in enumerate(nh.res.buckets):
            if member is not None and _wanted(member, tb):
                yield nlmsg_part(nlh, RTM_NEWNEXTHOPBUCKET, nh_fill_res_bucket(nh, at, net.now()))
