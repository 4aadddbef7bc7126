"""net/netfilter/nft_meta.c: metadata of a packet; its mark and priority can be set.

There are no keys for route classes, security marks, net_cls control groups, bridges and VRFs.
"""

from __future__ import annotations

import errno
from collections.abc import Callable
from sys import byteorder
from typing import Any

from fastpath.base.skbuff import (
    PACKET_BROADCAST,
    PACKET_LOOPBACK,
    PACKET_MULTICAST,
    PACKET_OTHERHOST,
)
from fastpath.net.hdr import iphdr_at, ipv6hdr_at
from stack.core.netdevice import net_device
from stack.core.netfilter import NF_INET_PRE_ROUTING, NFPROTO_IPV4
from stack.core.sock import sock
from stack.core.time64 import NSEC_PER_SEC
from stack.ipv4.addr import ipv4_is_multicast
from stack.ipv6.addr import ipv6_addr_is_multicast
from stack.netfilter.nf_tables import (
    NFT_BREAK,
    NFT_PKTINFO_L4PROTO,
    nft_chain_validate_hooks,
    nft_ctx,
    nft_dump_register,
    nft_expr,
    nft_parse_register_load,
    nft_parse_register_store,
    nft_pktinfo,
    nft_register_expr,
    nft_regs,
)
from stack.netfilter.nf_tables_trace import nf_set_trace
from stack.netlink.nlattr import BE32, Attr, Attrs, AttrTable, NlError

# enum nft_meta_keys
NFT_META_LEN, NFT_META_PROTOCOL, NFT_META_PRIORITY, NFT_META_MARK = 0, 1, 2, 3
NFT_META_IIF, NFT_META_OIF, NFT_META_IIFNAME, NFT_META_OIFNAME = 4, 5, 6, 7
NFT_META_IIFTYPE, NFT_META_OIFTYPE, NFT_META_SKUID, NFT_META_SKGID = 8, 9, 10, 11
NFT_META_NFTRACE, NFT_META_NFPROTO, NFT_META_L4PROTO, NFT_META_PKTTYPE = 12, 15, 16, 19
NFT_META_CPU, NFT_META_IIFGROUP, NFT_META_OIFGROUP, NFT_META_PRANDOM = 20, 21, 22, 24
NFT_META_IIFKIND, NFT_META_OIFKIND, NFT_META_TIME_NS = 26, 27, 30
NFT_META_TIME_DAY, NFT_META_TIME_HOUR = 31, 32
IFNAMSIZ = 16
DAY_SECONDS = 86400


def number(value: int, size: int) -> bytes:
    """A number in host byte order."""
    return (value & (1 << size * 8) - 1).to_bytes(size, byteorder)


def name_bytes(name: str) -> bytes:
    """A name padded with zeros."""
    return name.encode()[: IFNAMSIZ - 1].ljust(IFNAMSIZ, b"\0")


def _kind(dev: net_device | None) -> bytes | None:
    if dev is None or dev.rtnl_link_ops is None:
        return None
    return name_bytes(dev.rtnl_link_ops.kind)


def _type(dev: net_device | None) -> bytes | None:
    return None if dev is None else number(dev.type, 2)


def _group(dev: net_device | None) -> bytes | None:
    return None if dev is None else number(dev.group, 4)


def _index(dev: net_device | None) -> bytes:
    return number(0 if dev is None else dev.ifindex, 4)


def _name(dev: net_device | None) -> bytes:
    return name_bytes("" if dev is None else dev.name)


def skb_to_full_sk(pkt: nft_pktinfo) -> sock | None:
    """include/net/request_sock.h: the full socket that owns the packet, or None.

    TCP charges an ACK without data and a SYN-ACK to no socket: the hook's state has theirs.
    """
    sk = pkt.skb.sk
    if sk is None:
        sk = pkt.state.sk
    if not isinstance(sk, sock) or sk.sk_socket is None or sk.sk_kern_sock:
        return None
    return sk


def _user(pkt: nft_pktinfo, group: bool) -> bytes | None:
    """The owner of the socket; a host has one user."""
    if skb_to_full_sk(pkt) is None:
        return None
    net = pkt.state.net
    return number(net.gid if group else net.uid, 4)


def packet_type(pkt: nft_pktinfo) -> int:
    """net/netfilter/nft_meta.c nft_meta_get_eval_pkttype_lo: for looped packets by the address."""
    kind = pkt.skb.pkt_type
    if kind != PACKET_LOOPBACK:
        return kind
    if pkt.pf == NFPROTO_IPV4:
        multicast = ipv4_is_multicast(iphdr_at(pkt.skb, 0).daddr)
    else:
        multicast = ipv6_addr_is_multicast(ipv6hdr_at(pkt.skb, 0).daddr)
    return PACKET_MULTICAST if multicast else PACKET_BROADCAST


def _seconds(pkt: nft_pktinfo) -> int:
    """Since 1970, in UTC: there is no time zone."""
    return int(pkt.state.net.machine.realtime_ns() // NSEC_PER_SEC)


def _l4proto(pkt: nft_pktinfo) -> bytes | None:
    return number(pkt.tprot, 1) if pkt.flags & NFT_PKTINFO_L4PROTO else None


KEYS: dict[int, tuple[int, Callable[[nft_pktinfo], bytes | None]]] = {
    NFT_META_LEN: (4, lambda pkt: number(pkt.skb.len, 4)),
    NFT_META_PROTOCOL: (2, lambda pkt: pkt.skb.protocol.to_bytes(2, "big")),
    NFT_META_PRIORITY: (4, lambda pkt: number(pkt.skb.priority, 4)),
    NFT_META_MARK: (4, lambda pkt: number(pkt.skb.mark, 4)),
    NFT_META_IIF: (4, lambda pkt: _index(pkt.state.indev)),
    NFT_META_OIF: (4, lambda pkt: _index(pkt.state.outdev)),
    NFT_META_IIFNAME: (IFNAMSIZ, lambda pkt: _name(pkt.state.indev)),
    NFT_META_OIFNAME: (IFNAMSIZ, lambda pkt: _name(pkt.state.outdev)),
    NFT_META_IIFTYPE: (2, lambda pkt: _type(pkt.state.indev)),
    NFT_META_OIFTYPE: (2, lambda pkt: _type(pkt.state.outdev)),
    NFT_META_SKUID: (4, lambda pkt: _user(pkt, False)),
    NFT_META_SKGID: (4, lambda pkt: _user(pkt, True)),
    NFT_META_NFPROTO: (1, lambda pkt: number(pkt.pf, 1)),
    NFT_META_L4PROTO: (1, _l4proto),
    NFT_META_PKTTYPE: (1, lambda pkt: number(packet_type(pkt), 1)),
    NFT_META_CPU: (4, lambda pkt: number(0, 4)),
    NFT_META_IIFGROUP: (4, lambda pkt: _group(pkt.state.indev)),
    NFT_META_OIFGROUP: (4, lambda pkt: _group(pkt.state.outdev)),
    NFT_META_PRANDOM: (4, lambda pkt: number(pkt.state.net.random.getrandbits(32), 4)),
    NFT_META_IIFKIND: (IFNAMSIZ, lambda pkt: _kind(pkt.state.indev)),
    NFT_META_OIFKIND: (IFNAMSIZ, lambda pkt: _kind(pkt.state.outdev)),
    NFT_META_TIME_NS: (8, lambda pkt: number(pkt.state.net.machine.realtime_ns(), 8)),
    NFT_META_TIME_DAY: (1, lambda pkt: number((_seconds(pkt) // DAY_SECONDS + 4) % 7, 1)),
    NFT_META_TIME_HOUR: (4, lambda pkt: number(_seconds(pkt) % DAY_SECONDS, 4)),
}
"""Size and reader of each key; None: the packet has no value and the rule does not match."""
SET_KEYS = {NFT_META_PRIORITY: 4, NFT_META_MARK: 4, NFT_META_PKTTYPE: 1, NFT_META_NFTRACE: 1}
"""Size of each key that a rule may set."""


class nft_meta_expr(nft_expr):
    """Read KEY (NFT_META_*) of the packet into the register DREG, or set it from SREG. A packet
    without a value ends the rule.

    EINVAL: no key, or not one register; EOPNOTSUPP: no such key, or it cannot be set.
    """

    name = "meta"
    attrs = AttrTable(
        "NFTA_META",
        Attr("NFTA_META_DREG", 1, BE32),
        Attr("NFTA_META_KEY", 2, BE32),
        Attr("NFTA_META_SREG", 3, BE32),
    )

    def __init__(self, ctx: nft_ctx, tb: Attrs) -> None:
        if "NFTA_META_KEY" not in tb:
            raise NlError(errno.EINVAL)
        self.sets = "NFTA_META_SREG" in tb
        if self.sets == ("NFTA_META_DREG" in tb):
            raise NlError(errno.EINVAL)
        self.key: int = tb["NFTA_META_KEY"]
        if self.sets:
            if self.key not in SET_KEYS:
                raise NlError(errno.EOPNOTSUPP)
            self.len = SET_KEYS[self.key]
            self.reg = nft_parse_register_load(ctx, tb["NFTA_META_SREG"], self.len)
            return
        if self.key not in KEYS:
            raise NlError(errno.EOPNOTSUPP)
        self.len, self.read = KEYS[self.key]
        self.reg = nft_parse_register_store(ctx, tb["NFTA_META_DREG"], self.len)

    def eval(self, regs: nft_regs, pkt: nft_pktinfo) -> None:
        """net/netfilter/nft_meta.c nft_meta_get_eval, nft_meta_set_eval."""
        if not self.sets:
            value = self.read(pkt)
            if value is None:
                regs.verdict = NFT_BREAK
            else:
                regs.store(self.reg, value)
            return
        given = int.from_bytes(regs.load(self.reg, self.len), byteorder)
        skb = pkt.skb
        if self.key == NFT_META_MARK:
            skb.mark = given
        elif self.key == NFT_META_PRIORITY:
            skb.priority = given
        elif self.key == NFT_META_NFTRACE:
            nf_set_trace(pkt, given != 0)
        elif skb.pkt_type <= PACKET_OTHERHOST and given <= PACKET_OTHERHOST:
            skb.pkt_type = given

    def validate(self, ctx: nft_ctx) -> None:
        """net/netfilter/nft_meta.c nft_meta_set_validate: packet types are set on reception."""
        if self.sets and self.key == NFT_META_PKTTYPE:
            nft_chain_validate_hooks(ctx, 1 << NF_INET_PRE_ROUTING)

    def dump(self, reset: bool = False) -> dict[str, Any]:
        """net/netfilter/nft_meta.c nft_meta_get_dump, nft_meta_set_dump."""
        register = nft_dump_register(self.reg)
        if self.sets:
            return {"NFTA_META_KEY": self.key, "NFTA_META_SREG": register}
        return {"NFTA_META_KEY": self.key, "NFTA_META_DREG": register}


nft_register_expr(nft_meta_expr)
