"""RTM_GETNETCONF, RTM_GETNSID: settings of interfaces (net/ipv4/devinet.c, net/ipv6/addrconf.c).

net/core/net_namespace.c has the ids of namespaces, which there are none of here.
"""

from __future__ import annotations

import errno
import struct
from collections.abc import Iterator
from typing import Any

from stack.core.uapi import AF_INET, AF_INET6, RTM_NEWNETCONF, RTM_NEWNSID
from stack.ipv4.devconf import ipv4_devconf
from stack.ipv6.devconf import ipv6_devconf
from stack.net import Net
from stack.netlink.af_netlink import netlink_reply, nlmsg_part
from stack.netlink.netlink_sock import NLMSG_HDRLEN, nlmsg
from stack.netlink.nlattr import NlError
from stack.netlink.rt_attrs import NETCONFA, NETNSA

NETCONFA_IFINDEX_ALL, NETCONFA_IFINDEX_DEFAULT = -1, -2
NETCONFMSG = struct.Struct("=B3x")
NETNSA_NSID_NOT_ASSIGNED = -1


def inet_netconf_fill(index: int, cnf: ipv4_devconf) -> dict[str, Any]:
    """net/ipv4/devinet.c inet_netconf_fill_devconf."""
    return {
        "NETCONFA_IFINDEX": index,
        "NETCONFA_FORWARDING": cnf.forwarding,
        "NETCONFA_RP_FILTER": cnf.rp_filter,
        "NETCONFA_MC_FORWARDING": cnf.mc_forwarding,
        "NETCONFA_BC_FORWARDING": cnf.bc_forwarding,
        "NETCONFA_PROXY_NEIGH": cnf.proxy_arp,
        "NETCONFA_IGNORE_ROUTES_WITH_LINKDOWN": cnf.ignore_routes_with_linkdown,
    }


def inet6_netconf_fill(index: int, cnf: ipv6_devconf) -> dict[str, Any]:
    """net/ipv6/addrconf.c inet6_netconf_fill_devconf."""
    return {
        "NETCONFA_IFINDEX": index,
        "NETCONFA_FORWARDING": int(cnf.forwarding),
        "NETCONFA_MC_FORWARDING": int(cnf.mc_forwarding),
        "NETCONFA_PROXY_NEIGH": int(cnf.proxy_ndp),
        "NETCONFA_IGNORE_ROUTES_WITH_LINKDOWN": cnf.ignore_routes_with_linkdown,
    }


def netconfs(net: Net, family: int) -> Iterator[dict[str, Any]]:
    """The settings of each device, then those of all and those of new ones."""
    devices = sorted(net.dev_base_head, key=lambda dev: dev.ifindex)
    if family == AF_INET:
        for dev in devices:
            if dev.ip_ptr is not None:
                yield inet_netconf_fill(dev.ifindex, dev.ip_ptr.cnf)
        yield inet_netconf_fill(NETCONFA_IFINDEX_ALL, net.ipv4.devconf_all)
        yield inet_netconf_fill(NETCONFA_IFINDEX_DEFAULT, net.ipv4.devconf_dflt)
        return
    for dev in devices:
        if dev.ip6_ptr is not None:
            yield inet6_netconf_fill(dev.ifindex, dev.ip6_ptr.cnf)
    yield inet6_netconf_fill(NETCONFA_IFINDEX_ALL, net.ipv6.devconf_all)
    yield inet6_netconf_fill(NETCONFA_IFINDEX_DEFAULT, net.ipv6.devconf_dflt)


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
        for attrs in netconfs(sk.net, each):
            yield nlmsg_part(nlh, RTM_NEWNETCONF, NETCONFMSG.pack(each) + NETCONFA.build(attrs))


def rtnl_net_getid(nlh: nlmsg) -> None:
    """net/core/net_namespace.c: RTM_GETNSID: no namespace has an id here.

    Which namespace a program's descriptor is cannot be seen. Raises: NlError ESRCH, EINVAL.
    """
    tb = NETNSA.parse(nlh.whole, NLMSG_HDRLEN + NETCONFMSG.size)
    if "NETNSA_PID" in tb:
        raise tb.wrong("NETNSA_PID", "Peer netns reference is invalid", errno.ESRCH)
    if "NETNSA_FD" not in tb:
        raise NlError(errno.EINVAL, "Peer netns reference is missing")
    payload = NETCONFMSG.pack(0) + NETNSA.build({"NETNSA_NSID": NETNSA_NSID_NOT_ASSIGNED})
    netlink_reply(nlh, RTM_NEWNSID, payload)


def rtnl_net_dumpid(nlh: nlmsg) -> Iterator[bytes]:
    """net/core/net_namespace.c: RTM_GETNSID of all: a namespace has given no ids."""
    return iter(())
