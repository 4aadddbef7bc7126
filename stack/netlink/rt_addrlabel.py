"""net/ipv6/addrlabel.c: RTM_*ADDRLABEL: `ip addrlabel`, labels of address selection."""

from __future__ import annotations

import errno
from collections.abc import Iterator

from stack.core.uapi import AF_INET6, NLM_F_REPLACE, RTM_DELADDRLABEL, RTM_NEWADDRLABEL
from stack.ipv6.addr import MASKS6
from stack.ipv6.addrlabel import (
    IPV6_ADDR_LABEL_DEFAULT,
    NO_ROW,
    ip6addrlbl_alloc,
    ip6addrlbl_entry,
)
from stack.net import Net
from stack.netlink.af_netlink import netlink_reply, nlmsg_part
from stack.netlink.netlink_sock import nlmsg
from stack.netlink.nlattr import DEPRECATED_STRICT, LIBERAL, NlError
from stack.netlink.rt_attrs import IFADDRLBLMSG, IFAL
from stack.netlink.rt_link import header, nlmsg_parse


def ip6addrlbl_newdel(nlh: nlmsg) -> None:
    """RTM_NEWADDRLABEL, RTM_DELADDRLABEL.

    Raises: NlError EINVAL, FileExistsError, ProcessLookupError.
    """
    (_, plen, _, index, _), tb = nlmsg_parse(nlh, IFADDRLBLMSG, IFAL)
    label = tb.get("IFAL_LABEL", IPV6_ADDR_LABEL_DEFAULT)
    if plen > 128 or "IFAL_ADDRESS" not in tb or label == IPV6_ADDR_LABEL_DEFAULT:
        raise NlError(errno.EINVAL)
    net, table = nlh.sk.net, nlh.sk.net.ipv6.addrlabel
    addr = tb["IFAL_ADDRESS"]
    if nlh.type == RTM_DELADDRLABEL:
        table.remove(addr & MASKS6[plen], plen, index)
        return
    if index and index not in net.dev_by_index:
        raise NlError(errno.EINVAL)
    row = ip6addrlbl_alloc(addr, plen, label, ifindex=index)
    table.add(row, bool(nlh.flags & NLM_F_REPLACE))


def ip6addrlbl_fill(net: Net, row: ip6addrlbl_entry) -> bytes:
    """struct ifaddrlblmsg and the attributes of a row."""
    seq = net.ipv6.addrlabel.seq
    return IFADDRLBLMSG.pack(AF_INET6, row.prefixlen, 0, row.ifindex, seq) + IFAL.build(
        {"IFAL_ADDRESS": row.prefix, "IFAL_LABEL": row.label}
    )


def ip6addrlbl_dump(nlh: nlmsg) -> Iterator[bytes]:
    """RTM_GETADDRLABEL of all rows. Raises: NlError EINVAL: strict, and not all of it is 0."""
    if nlh.sk.strict_chk:
        what = "for address label dump request"
        _, *values = header(nlh, IFADDRLBLMSG, f"ipv6: Invalid header {what}")
        if any(values):
            raise NlError(errno.EINVAL, f"ipv6: Invalid values in header {what}")
        if len(nlh.payload) > IFADDRLBLMSG.size:
            raise NlError(errno.EINVAL, f"ipv6: Invalid data after header {what}")
    net = nlh.sk.net
    for row in tuple(net.ipv6.addrlabel.rows):
        yield nlmsg_part(nlh, RTM_NEWADDRLABEL, ip6addrlbl_fill(net, row))


def ip6addrlbl_get(nlh: nlmsg) -> None:
    """RTM_GETADDRLABEL: the row of an address. Raises: NlError EINVAL; ESRCH: none.

    As in Linux, rows that only match addresses of a type are not searched: ::1 finds ::/96.
    """
    _, plen, flags, index, seq = header(
        nlh, IFADDRLBLMSG, "ipv6: Invalid header for addrlabel get request"
    )
    strict = nlh.sk.strict_chk
    if strict and (flags or seq):
        raise NlError(errno.EINVAL, "ipv6: Invalid values in header for addrlabel get request")
    _, tb = nlmsg_parse(nlh, IFADDRLBLMSG, IFAL, DEPRECATED_STRICT if strict else LIBERAL)
    if strict and set(tb) - {"IFAL_ADDRESS"}:
        raise NlError(errno.EINVAL, "ipv6: Unsupported attribute in addrlabel get request")
    net = nlh.sk.net
    unknown = index and index not in net.dev_by_index
    if plen != 128 or unknown or "IFAL_ADDRESS" not in tb:
        raise NlError(errno.EINVAL)
    row = net.ipv6.addrlabel.lookup_type(tb["IFAL_ADDRESS"], 0, index)
    if row is NO_ROW:
        raise NlError(errno.ESRCH)
    netlink_reply(nlh, RTM_NEWADDRLABEL, ip6addrlbl_fill(net, row))
