"""RTM_GETNETCONF, RTM_GETNSID: settings of interfaces (net/ipv4/devinet.c, net/ipv6/addrconf.c).

net/core/net_namespace.c has the ids of namespaces, which do not exist here.
"""

from __future__ import annotations

import errno
import struct
from collections.abc import Iterator, Mapping
from typing import Any

from stack.core.devconf import NETCONFA_IFINDEX, devconf
from stack.core.uapi import AF_INET, AF_INET6, RTM_NEWNETCONF, RTM_NEWNSID
from stack.net import Net
from stack.netlink.af_netlink import netlink_reply, nlmsg_part
from stack.netlink.netlink_sock import NLMSG_HDRLEN, nlmsg
from stack.netlink.nlattr import NlError
from stack.netlink.rt_attrs import NETCONFA, NETNSA
from stack.netlink.rt_link import only

NETCONFMSG = struct.Struct("=B3x")
NETNSA_NSID_NOT_ASSIGNED = -1


NETCONF = {
    AF_INET: {
        "forwarding": "NETCONFA_FORWARDING",
        "rp_filter": "NETCONFA_RP_FILTER",
        "mc_forwarding": "NETCONFA_MC_FORWARDING",
        "bc_forwarding": "NETCONFA_BC_FORWARDING",
        "proxy_arp": "NETCONFA_PROXY_NEIGH",
        "ignore_routes_with_linkdown": "NETCONFA_IGNORE_ROUTES_WITH_LINKDOWN",
    },
    AF_INET6: {
        "forwarding": "NETCONFA_FORWARDING",
        "mc_forwarding": "NETCONFA_MC_FORWARDING",
        "proxy_ndp": "NETCONFA_PROXY_NEIGH",
        "ignore_routes_with_linkdown": "NETCONFA_IGNORE_ROUTES_WITH_LINKDOWN",
    },
}
"""The reported settings."""
GROUPS = {AF_INET: 24, AF_INET6: 25}
"""RTNLGRP_IPV4_NETCONF, RTNLGRP_IPV6_NETCONF."""


def netconf_fill(family: int, index: int, cnf: devconf | None, only: str = "") -> bytes:
    """inet_netconf_fill_devconf, inet6_netconf_fill_devconf: all settings, or one."""
    attrs: dict[str, Any] = {"NETCONFA_IFINDEX": index}
    for name, attr in NETCONF[family].items() if cnf is not None else ():
        if not only or name == only:
            attrs[attr] = getattr(cnf, name)
    return NETCONFMSG.pack(family) + NETCONFA.build(attrs)


def netconfs(net: Net, family: int) -> Iterator[tuple[int, devconf]]:
    """Number and settings of each device, then of all and of new ones."""
    for dev in sorted(net.dev_base_head, key=lambda dev: dev.ifindex):
        idev = dev.ip_ptr if family == AF_INET else dev.ip6_ptr
        if idev is not None:
            yield dev.ifindex, idev.cnf
    conf: Mapping[str, devconf] = net.sysctl.conf if family == AF_INET else net.sysctl.ipv6.conf
    for label, index in NETCONFA_IFINDEX.items():
        yield index, conf[label]


def inet_netconf_get_devconf(nlh: nlmsg) -> None:
    """net/ipv4/devinet.c, net/ipv6/addrconf.c: RTM_GETNETCONF of one. Raises: NlError EINVAL."""
    family = nlh.payload[0] if nlh.payload else AF_INET
    name = "ipv6" if family == AF_INET6 else "ipv4"
    if nlh.sk.strict_chk and len(nlh.payload) < NETCONFMSG.size:
        raise NlError(errno.EINVAL, f"{name}: Invalid header for netconf get request")
    tb = NETCONFA.parse(nlh.whole, NLMSG_HDRLEN + NETCONFMSG.size)
    if nlh.sk.strict_chk:
        only(tb, ("NETCONFA_IFINDEX",), f"{name}: Unsupported attribute in netconf get request")
    index = tb.get("NETCONFA_IFINDEX", 0)
    found = dict(netconfs(nlh.sk.net, family)).get(index)
    if found is None:
        raise NlError(errno.EINVAL)
    netlink_reply(nlh, RTM_NEWNETCONF, netconf_fill(family, index, found))


def inet_netconf_dump_devconf(nlh: nlmsg) -> Iterator[bytes]:
    """net/ipv4/devinet.c, net/ipv6/addrconf.c: RTM_GETNETCONF of every interface."""
    sk, what = nlh.sk, "netconf dump request"
    if sk.strict_chk and len(nlh.payload) != NETCONFMSG.size:
        name = "ipv6" if nlh.payload[0] == AF_INET6 else "ipv4"
        raise NlError(errno.EINVAL, f"{name}: Invalid data after header in {what}")
    family = nlh.payload[0]
    for each in (AF_INET, AF_INET6):
        if family in (AF_INET, AF_INET6) and family != each:
            continue
        for index, cnf in netconfs(sk.net, each):
            yield nlmsg_part(nlh, RTM_NEWNETCONF, netconf_fill(each, index, cnf))


def rtnl_net_getid(nlh: nlmsg) -> None:
    """net/core/net_namespace.c: RTM_GETNSID: no namespace has an id here.

    A program's descriptor cannot be resolved to a namespace. Raises: NlError ESRCH, EINVAL.
    """
    tb = NETNSA.parse(nlh.whole, NLMSG_HDRLEN + NETCONFMSG.size)
    if "NETNSA_PID" in tb:
        raise tb.wrong("NETNSA_PID", "Peer netns reference is invalid", errno.ESRCH)
    if "NETNSA_FD" not in tb:
        raise NlError(errno.EINVAL, "Peer netns reference is missing")
    payload = NETCONFMSG.pack(0) + NETNSA.build({"NETNSA_NSID": NETNSA_NSID_NOT_ASSIGNED})
    netlink_reply(nlh, RTM_NEWNSID, payload)


def rtnl_net_dumpid(nlh: nlmsg) -> Iterator[bytes]:
    """net/core/net_namespace.c: RTM_GETNSID of all: always empty."""
    return iter(())
