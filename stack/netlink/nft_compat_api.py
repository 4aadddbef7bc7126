"""net/netfilter/nft_compat.c: the message by which iptables queries a match or target
(NFNL_SUBSYS_NFT_COMPAT)."""

from __future__ import annotations

import errno

from stack.core.netfilter import NFPROTO_IPV4, NFPROTO_IPV6
from stack.netfilter.nft_expr_attrs import NFTA_COMPAT
from stack.netfilter.x_tables import MATCHES, TARGETS, xt_find_revision
from stack.netlink.af_netlink import netlink_reply
from stack.netlink.ct_attrs import NFGENMSG
from stack.netlink.netlink_sock import NLM_F_MULTI, nlmsg
from stack.netlink.nlattr import Attrs, NlError

NFNL_SUBSYS_NFT_COMPAT, NFNL_MSG_COMPAT_GET = 11, 0
NFPROTO_ARP, NFPROTO_BRIDGE = 3, 7


def nfnl_compat_get(nlh: nlmsg, tb: Attrs) -> None:
    """net/netfilter/nft_compat.c: the best revision of an extension, if the requested one exists.

    Raises: NlError EINVAL, ENOENT, EPROTONOSUPPORT.
    """
    if len(tb) < len(NFTA_COMPAT.by_name):
        raise NlError(errno.EINVAL)
    family = nlh.payload[0]
    name: str = tb["NFTA_COMPAT_NAME"]
    if family not in (NFPROTO_IPV4, NFPROTO_ARP, NFPROTO_BRIDGE, NFPROTO_IPV6):
        raise NlError(errno.EINVAL)
    if tb["NFTA_COMPAT_TYPE"]:
        best = xt_find_revision(TARGETS, name, family, tb["NFTA_COMPAT_REV"])
    else:
        best = xt_find_revision(MATCHES, name, family, tb["NFTA_COMPAT_REV"])
    told = {
        "NFTA_COMPAT_NAME": name,
        "NFTA_COMPAT_REV": best,
        "NFTA_COMPAT_TYPE": tb["NFTA_COMPAT_TYPE"],
    }
    payload = NFGENMSG.pack(family, 0, 0) + NFTA_COMPAT.build(told)
    netlink_reply(nlh, NFNL_SUBSYS_NFT_COMPAT << 8 | NFNL_MSG_COMPAT_GET, payload, NLM_F_MULTI)
