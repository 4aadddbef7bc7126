"""RTM_GETRULE, RTM_GETNETCONF: the rules that there are, and settings of interfaces.

net/core/fib_rules.c, net/ipv4/devinet.c, net/ipv6/addrconf.c.
"""

from __future__ import annotations

import errno
import struct
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from stack.core.netdevice import net_device
from stack.core.uapi import AF_INET, AF_INET6, RTM_NEWNETCONF, RTM_NEWNSID, RTM_NEWRULE
from stack.ipv4.netns import in_dev_conf, in_dev_forward
from stack.netlink.af_netlink import netlink_reply, nlmsg_put
from stack.netlink.netlink_sock import NLMSG_HDRLEN, nlmsg
from stack.netlink.nlattr import NlError
from stack.netlink.rt_attrs import FRA, NETCONFA, NETNSA, RTMSG
from stack.netlink.rt_link import header

if TYPE_CHECKING:
    from stack.net import Net

RULES = {
    AF_INET: ((0, 255), (32766, 254), (32767, 253)),
    AF_INET6: ((0, 255), (32766, 254)),
}
"""Priority and table of each; they cannot be changed."""
FR_ACT_TO_TBL = 1
RTPROT_KERNEL = 2
NETCONFMSG = struct.Struct("=B3x")
NETNSA_NSID_NOT_ASSIGNED = -1


def fib_nl_dumprule(nlh: nlmsg) -> Iterator[bytes]:
    """net/core/fib_rules.c: RTM_GETRULE of a family or of both."""
    sk = nlh.sk
    if sk.strict_chk:
        text = "Invalid header for fib rule dump request"
        _, *values = header(nlh, RTMSG, text)
        if any(values):
            raise NlError(errno.EINVAL, "Invalid values in header for fib rule dump request")
        if len(nlh.payload) > RTMSG.size:
            raise NlError(errno.EINVAL, "Invalid data after header in fib rule dump request")
    family = nlh.payload[0]
    if family and family not in RULES:
        raise NlError(errno.EAFNOSUPPORT)
    for each, rules in RULES.items():
        if family in (0, each):
            for priority, table in rules:
                head = RTMSG.pack(each, 0, 0, 0, table, 0, 0, FR_ACT_TO_TBL, 0)
                attrs = {
                    "FRA_TABLE": table,
                    "FRA_SUPPRESS_PREFIXLEN": 0xFFFFFFFF,
                    "FRA_PROTOCOL": RTPROT_KERNEL,
                    "FRA_PRIORITY": priority or None,
                }
                yield nlmsg_put(RTM_NEWRULE, 0, nlh.seq, sk.portid, head + FRA.build(attrs))


def _netconf(net: Net, family: int, dev: net_device) -> dict[str, Any] | None:
    """The settings of an interface, by attribute."""
    if family == AF_INET:
        in_dev = dev.ip_ptr
        if in_dev is None:
            return None
        return {
            "NETCONFA_IFINDEX": dev.ifindex,
            "NETCONFA_FORWARDING": int(in_dev_forward(in_dev)),
            "NETCONFA_RP_FILTER": in_dev_conf(in_dev, "rp_filter"),
        }
    idev = dev.ip6_ptr
    if idev is None:
        return None
    return {
        "NETCONFA_IFINDEX": dev.ifindex,
        "NETCONFA_FORWARDING": int(idev.cnf.forwarding),
        "NETCONFA_PROXY_NEIGH": int(idev.cnf.proxy_ndp),
    }


def inet_netconf_dump_devconf(nlh: nlmsg) -> Iterator[bytes]:
    """net/ipv4/devinet.c, net/ipv6/addrconf.c: RTM_GETNETCONF of every interface."""
    sk = nlh.sk
    if sk.strict_chk:
        header(nlh, NETCONFMSG, "Invalid header for netconf dump request")
        if len(nlh.payload) > NETCONFMSG.size:
            raise NlError(errno.EINVAL, "Invalid data after header in netconf dump request")
    family = nlh.payload[0]
    for each in (AF_INET, AF_INET6):
        if family not in (0, each):
            continue
        for dev in tuple(sk.net.dev_base_head):
            attrs = _netconf(sk.net, each, dev)
            if attrs is not None:
                payload = NETCONFMSG.pack(each) + NETCONFA.build(attrs)
                yield nlmsg_put(RTM_NEWNETCONF, 0, nlh.seq, sk.portid, payload)


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
