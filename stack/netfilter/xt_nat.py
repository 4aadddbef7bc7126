"""net/netfilter/xt_nat.c, xt_MASQUERADE.c, xt_REDIRECT.c, xt_NETMAP.c: iptables' targets of NAT."""

from __future__ import annotations

import errno
import struct

from stack.core.netfilter import (
    NF_ACCEPT,
    NF_INET_POST_ROUTING,
    NFPROTO_IPV4,
    NFPROTO_IPV6,
)
from stack.netfilter.nf_conntrack import nf_conn
from stack.netfilter.nf_nat_core import (
    HOOK2MANIP,
    NF_NAT_MANIP_DST,
    NF_NAT_MANIP_SRC,
    NF_NAT_RANGE_MAP_IPS,
    NF_NAT_RANGE_PROTO_OFFSET,
    nf_nat_range2,
    nf_nat_setup_info,
)
from stack.netfilter.nf_nat_masquerade import (
    nf_nat_masquerade,
    nf_nat_masquerade_inet_register_notifiers,
    nf_nat_masquerade_inet_unregister_notifiers,
)
from stack.netfilter.nf_nat_redirect import nf_nat_redirect
from stack.netfilter.nf_tables import nft_pktinfo
from stack.netfilter.nft_ct import nft_ct_netns_get, nft_ct_netns_put
from stack.netfilter.nft_nat import DST_HOOKS, SRC_HOOKS, nf_nat_netmap
from stack.netfilter.x_tables import (
    ANY,
    xt_mtchk_param,
    xt_register_target,
    xt_target,
)
from stack.netlink.nlattr import NlError

IPV4, IPV6 = (NFPROTO_IPV4,), (NFPROTO_IPV6,)
COMPAT_SIZE, RANGE_SIZE, RANGE2_SIZE = 20, 40, 44
"""struct nf_nat_ipv4_multi_range_compat, nf_nat_range, nf_nat_range2."""


def read_range(par: xt_mtchk_param, info: bytes, compat: bool) -> nf_nat_range2:
    """A range of addresses and ports. `compat`: the structure of iptables' first revision.

    Raises: NlError EINVAL: not exactly one range; EOPNOTSUPP: ports by an offset.
    """
    if compat:
        count, flags, low, high = struct.unpack_from("=II4s4s", info)
        if count != 1:
            raise NlError(errno.EINVAL)
        ports = struct.unpack_from(">HH", info, 16)
    else:
        flags, low, high = struct.unpack_from("=I16s16s", info)
        if flags & NF_NAT_RANGE_PROTO_OFFSET:
            raise NlError(errno.EOPNOTSUPP)
        ports = struct.unpack_from(">HH", info, 36)
        if par.family == NFPROTO_IPV4:
            low, high = low[:4], high[:4]
    return nf_nat_range2(flags, int.from_bytes(low, "big"), int.from_bytes(high, "big"), *ports)


class xt_nat_target(xt_target):
    """A target of table nat: it decides the NAT of a connection by its first packet, with a range
    of addresses and ports. EINVAL: the range has flags that the target does not take, or lacks one.
    """

    table = "nat"
    size = COMPAT_SIZE
    families = IPV4
    needs, refuses = 0, 0
    """Flags that the range must have, and must not have."""

    def __init__(self, par: xt_mtchk_param, info: bytes) -> None:
        self.range = read_range(par, info, self.size == COMPAT_SIZE)
        flags = self.range.flags
        if flags & self.needs != self.needs or flags & self.refuses:
            raise NlError(errno.EINVAL)
        nft_ct_netns_get(par.net, par.family)

    def destroy(self, par: xt_mtchk_param) -> None:
        """nf_ct_netns_put."""
        nft_ct_netns_put(par.net, par.family)

    def target(self, pkt: nft_pktinfo) -> int:
        """The verdict about the connection's first packet."""
        ct: nf_conn | None = pkt.skb.nfct
        return NF_ACCEPT if ct is None else self.setup(pkt, ct)

    def setup(self, pkt: nft_pktinfo, ct: nf_conn) -> int:
        """Decide a connection's NAT: a verdict."""
        raise NotImplementedError


class xt_snat(xt_nat_target):
    """SNAT: the connection gets another source."""

    name = "SNAT"
    hooks = SRC_HOOKS

    def setup(self, pkt: nft_pktinfo, ct: nf_conn) -> int:
        """net/netfilter/xt_nat.c xt_snat_target_v0, _v1, _v2."""
        return nf_nat_setup_info(ct, self.range, NF_NAT_MANIP_SRC)


class xt_snat_v1(xt_snat):
    """SNAT with struct nf_nat_range."""

    revision = 1
    size = RANGE_SIZE
    families = ANY


class xt_snat_v2(xt_snat):
    """SNAT with struct nf_nat_range2."""

    revision = 2
    size = RANGE2_SIZE
    families = ANY


class xt_dnat(xt_nat_target):
    """DNAT: the connection gets another destination."""

    name = "DNAT"
    hooks = DST_HOOKS

    def setup(self, pkt: nft_pktinfo, ct: nf_conn) -> int:
        """net/netfilter/xt_nat.c xt_dnat_target_v0, _v1, _v2."""
        return nf_nat_setup_info(ct, self.range, NF_NAT_MANIP_DST)


class xt_dnat_v1(xt_dnat):
    """DNAT with struct nf_nat_range."""

    revision = 1
    size = RANGE_SIZE
    families = ANY


class xt_dnat_v2(xt_dnat):
    """DNAT with struct nf_nat_range2."""

    revision = 2
    size = RANGE2_SIZE
    families = ANY


class masquerade_tg(xt_nat_target):
    """MASQUERADE: the connection gets an address of the outgoing interface as source."""

    name = "MASQUERADE"
    hooks = 1 << NF_INET_POST_ROUTING
    refuses = NF_NAT_RANGE_MAP_IPS

    def __init__(self, par: xt_mtchk_param, info: bytes) -> None:
        super().__init__(par, info)
        nf_nat_masquerade_inet_register_notifiers(par.net)

    def destroy(self, par: xt_mtchk_param) -> None:
        """net/netfilter/xt_MASQUERADE.c masquerade_tg_destroy."""
        super().destroy(par)
        nf_nat_masquerade_inet_unregister_notifiers(par.net)

    def setup(self, pkt: nft_pktinfo, ct: nf_conn) -> int:
        """net/netfilter/xt_MASQUERADE.c masquerade_tg, masquerade_tg6."""
        return nf_nat_masquerade(pkt.skb, pkt.state, ct, self.range)


class masquerade_tg6(masquerade_tg):
    """MASQUERADE of IPv6."""

    size = RANGE_SIZE
    families = IPV6


class redirect_tg4(xt_nat_target):
    """REDIRECT: the connection is to this host."""

    name = "REDIRECT"
    hooks = DST_HOOKS
    refuses = NF_NAT_RANGE_MAP_IPS

    def setup(self, pkt: nft_pktinfo, ct: nf_conn) -> int:
        """net/netfilter/xt_REDIRECT.c redirect_tg4, redirect_tg6."""
        return nf_nat_redirect(pkt.skb, pkt.state, ct, self.range)


class redirect_tg6(redirect_tg4):
    """REDIRECT of IPv6."""

    size = RANGE_SIZE
    families = IPV6


class netmap_tg4(xt_nat_target):
    """NETMAP: an address gets another network and keeps its host part. It is the destination before
    the packet is routed, or sent by this host, else the source.
    """

    name = "NETMAP"
    hooks = SRC_HOOKS | DST_HOOKS
    needs = NF_NAT_RANGE_MAP_IPS

    def setup(self, pkt: nft_pktinfo, ct: nf_conn) -> int:
        """net/netfilter/xt_NETMAP.c netmap_tg4, netmap_tg6."""
        rng = self.range
        addr = nf_nat_netmap(pkt, rng.min_addr, rng.max_addr)
        new = nf_nat_range2(rng.flags, addr, addr, rng.min_proto, rng.max_proto)
        return nf_nat_setup_info(ct, new, HOOK2MANIP(pkt.state.hook))


class netmap_tg6(netmap_tg4):
    """NETMAP of IPv6."""

    size = RANGE_SIZE
    families = IPV6


xt_register_target(xt_snat, xt_snat_v1, xt_snat_v2, xt_dnat, xt_dnat_v1, xt_dnat_v2)
xt_register_target(masquerade_tg, masquerade_tg6, redirect_tg4, redirect_tg6)
xt_register_target(netmap_tg4, netmap_tg6)
