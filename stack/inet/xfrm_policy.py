"""IPsec policies for received, forwarded and sent packets (net/xfrm/xfrm_policy.c).

    ip_route_output_flow -> xfrm_lookup     an outgoing flow: allowed, blocked, or a bundle
        netns_xfrm.bundle                   ... which stack/xfrm makes of states by templates
    xfrm_policy_check                       a received packet: __xfrm_policy_check
        decode_session, xfrm_policy_lookup, policy_fits
    ip_forward -> xfrm_route_forward        a forwarded packet: its flow is looked up

The policies of a direction are tried in order of priority, and the first whose selector matches
applies. A packet that no policy matches is allowed, unless it came out of a tunnel. A socket may
have a policy of its own for each direction (xfrm_user_policy), which is tried first. So a key
daemon can bypass the policies. State: `net.xfrm`. A decrypted packet is delivered in one call,
during which `net.xfrm.sec_path` has its states. Without policies a check costs one test.
"""

from __future__ import annotations

import errno
import ipaddress
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from fastpath.base.skbuff import sk_buff, skb_copy_bits, skb_network_offset
from fastpath.net.hdr import iphdr_at, ipv6hdr_at
from fastpath.net.hdr6 import ipv6_skip_exthdr
from stack.core.dst import DST_NOXFRM
from stack.core.errors import os_error
from stack.core.netdevice import IFF_LOOPBACK
from stack.core.rows import row, state, wide
from stack.core.sock import sk_dst_reset
from stack.core.sockopt_table import opt_bytes
from stack.core.time64 import NSEC_PER_SEC
from stack.core.uapi import (
    AF_INET,
    AF_INET6,
    IPPROTO_ICMP,
    IPPROTO_ICMPV6,
    IPPROTO_TCP,
    IPPROTO_UDP,
)
from stack.inet.flow import flowi
from stack.net import Net

if TYPE_CHECKING:
    from stack.inet.inet_sock import inet_sock
    from stack.ipv4.devinet import in_device
    from stack.ipv6.if_inet6 import inet6_dev
    from stack.xfrm.xfrm_state import netns_xfrm_state, xfrm_state

# include/uapi/linux/xfrm.h
XFRM_POLICY_IN = 0
XFRM_POLICY_OUT = 1
XFRM_POLICY_FWD = 2
XFRM_POLICY_MAX = 3
XFRM_POLICY_ALLOW = 0
XFRM_POLICY_BLOCK = 1
XFRM_MODE_TRANSPORT = 0
XFRM_MODE_TUNNEL = 1
XFRM_INF = 0xFFFFFFFFFFFFFFFF
"""No limit of packets or bytes."""

IP_OFFSET = 0x1FFF
PAGE_SIZE = 4096


@state
class xfrm_selector:
    """struct xfrm_selector: the packets that a policy matches.

    0 as protocol, interface, prefix length or mask of a port matches any.
    """

    family: int
    saddr: wide = 0
    prefixlen_s: int = 0
    daddr: wide = 0
    prefixlen_d: int = 0
    proto: int = 0
    sport: int = 0
    dport: int = 0
    ifindex: int = 0
    sport_mask: int = 0xFFFF
    dport_mask: int = 0xFFFF
    user: int = 0


@state
class xfrm_lifetime_cfg:
    """struct xfrm_lifetime_cfg: limits; soft ones only warn. Times in s, 0: none."""

    soft_byte_limit: wide = XFRM_INF
    hard_byte_limit: wide = XFRM_INF
    soft_packet_limit: wide = XFRM_INF
    hard_packet_limit: wide = XFRM_INF
    soft_add_expires_seconds: wide = 0
    hard_add_expires_seconds: wide = 0
    soft_use_expires_seconds: wide = 0
    hard_use_expires_seconds: wide = 0


@state
class xfrm_lifetime_cur:
    """struct xfrm_lifetime_cur: usage so far. Times are s since 1970, 0: never."""

    bytes: int = 0
    packets: int = 0
    add_time: int = 0
    use_time: int = 0


@state
class xfrm_tmpl:
    """struct xfrm_tmpl: which state transforms a policy's packets; 0 in most fields: any.

    `family` is that of the addresses of both ends (encap_family).
    """

    family: int
    daddr: wide = 0
    saddr: wide = 0
    spi: int = 0
    proto: int = 0
    reqid: int = 0
    mode: int = XFRM_MODE_TRANSPORT
    share: int = 0
    optional: bool = False
    aalgos: int = 0xFFFFFFFF
    ealgos: int = 0xFFFFFFFF
    calgos: int = 0xFFFFFFFF


@state
class xfrm_policy:
    """struct xfrm_policy. `packets` counts the packets and flows that it decided about.

    `xfrm_vec` are its templates, the innermost transform first. `dead`: it was deleted.
    """

    selector: xfrm_selector
    dir: int
    action: int = XFRM_POLICY_ALLOW
    priority: int = 0
    xfrm_vec: tuple[xfrm_tmpl, ...] = ()
    index: int = 0
    flags: int = 0
    share: int = 0
    type: int = 0
    lft: xfrm_lifetime_cfg = row(make=xfrm_lifetime_cfg)
    curlft: xfrm_lifetime_cur = row(make=xfrm_lifetime_cur)
    packets: int = row(0)
    dead: bool = row(False)


def new_xfrm_policies() -> list[list[xfrm_policy]]:
    """An empty list of policies for each direction."""
    return [[] for _ in range(XFRM_POLICY_MAX)]


@state
class netns_xfrm:
    """struct netns_xfrm: the policies of a namespace by direction, in order."""

    policy: list[list[xfrm_policy]] = row(make=new_xfrm_policies)
    nopolicy: bool = row(True)
    """True while there are no policies and no decrypted packet is being delivered."""
    sec_path: tuple[xfrm_state, ...] = row(())
    """The states that decrypted the packet being delivered, the outermost first."""
    policy_all: list[xfrm_policy] = row(make=list)
    """All policies, from the oldest to the newest."""
    idx_generator: int = row(0)
    genid: int = row(0)
    """Number of changes of policies and states."""
    bundle: Callable[[Net, flowi, xfrm_policy, Any], Any] | None = row()
    """xfrm_bundle_lookup of stack/xfrm; None: not needed so far."""
    input: Callable[[sk_buff, int, int], None] | None = row()
    """xfrm_input of stack/xfrm: `input(skb, family, encap_type)`, data at the header of ESP."""
    state: netns_xfrm_state | None = row()
    """The states; None: none was ever created."""
    default: list[int] = row(make=lambda: [XFRM_POLICY_ALLOW] * XFRM_POLICY_MAX)
    """The action if no policy matches, by direction."""
    compile_policy: Callable[[int, int, bytes], xfrm_policy] | None = row()
    """xfrm_compile_policy of stack/netlink: the policy of a family's option (its number, bytes)."""
    sk_policies: bool = row(False)
    """Whether a socket has, or had, policies of its own."""
    changed: list[Callable[[], Any]] = row(make=list)
    """Functions that drop cached routes when a policy changes (rt_genid_bump_all)."""


def selector(
    src: str = "0.0.0.0/0",
    dst: str = "0.0.0.0/0",
    proto: int = 0,
    sport: int = 0,
    dport: int = 0,
    ifindex: int = 0,
) -> xfrm_selector:
    """A selector as `ip xfrm policy` has it, of prefixes of one family ("::/0" for any of IPv6).

    Raises: ValueError: no prefix, two families, a number out of its range.
    """
    s, d = ipaddress.ip_network(src, strict=False), ipaddress.ip_network(dst, strict=False)
    if s.version != d.version:
        if s.prefixlen and d.prefixlen:
            raise ValueError(f"src {src} and dst {dst} are of two families")
        version = d.version if d.prefixlen else s.version
        whole = ipaddress.ip_network("0.0.0.0/0" if version == 4 else "::/0")
        s, d = (s, whole) if s.version == version else (whole, d)
    for name, value, high in (
        ("proto", proto, 255),
        ("sport", sport, 65535),
        ("dport", dport, 65535),
    ):
        if not 0 <= value <= high:
            raise ValueError(f"{name} {value}: 0 to {high}")
    family = AF_INET if s.version == 4 else AF_INET6
    sa, da = int(s.network_address), int(d.network_address)
    masks = 0xFFFF if sport else 0, 0xFFFF if dport else 0
    ends = sa, s.prefixlen, da, d.prefixlen
    return xfrm_selector(family, *ends, proto, sport, dport, ifindex, *masks)


def xfrm_policy_insert(net: Net, pol: xfrm_policy) -> xfrm_policy:
    """net/xfrm/xfrm_policy.c: add a policy, behind those of the same or a lower priority value.

    Raises: ValueError: there is no such direction or action.
    """
    if not 0 <= pol.dir < XFRM_POLICY_MAX:
        raise ValueError(f"direction {pol.dir}: XFRM_POLICY_IN (0), OUT (1) or FWD (2)")
    if pol.action not in (XFRM_POLICY_ALLOW, XFRM_POLICY_BLOCK):
        raise ValueError(f"action {pol.action}: XFRM_POLICY_ALLOW (0) or XFRM_POLICY_BLOCK (1)")
    chain = net.xfrm.policy[pol.dir]
    at = len(chain)
    while at and chain[at - 1].priority > pol.priority:
        at -= 1
    net.xfrm.policy[pol.dir] = [*chain[:at], pol, *chain[at:]]
    net.xfrm.policy_all.append(pol)
    pol.index = xfrm_gen_index(net, pol.dir, pol.index)
    pol.curlft.add_time = real_seconds(net)
    xfrm_changed(net)
    return pol


def real_seconds(net: Net) -> int:
    """ktime_get_real_seconds: the host's clock, s since 1970."""
    return net.machine.realtime_ns() // NSEC_PER_SEC


def xfrm_gen_index(net: Net, direction: int, wanted: int) -> int:
    """net/xfrm/xfrm_policy.c: the number of a new policy: `wanted` if that is free and not 0."""
    taken = {one.index for one in net.xfrm.policy_all[:-1]}
    while not wanted or wanted in taken:
        wanted = net.xfrm.idx_generator | direction or 8
        net.xfrm.idx_generator += 8
    return wanted


def xfrm_nopolicy(xfrm: netns_xfrm) -> bool:
    """The value of `nopolicy` while no decrypted packet is being delivered."""
    return not xfrm.policy_all and not any(xfrm.default) and not xfrm.sk_policies


def xfrm_changed(net: Net) -> None:
    """A policy or state was added, changed or removed: flows are looked up again."""
    xfrm = net.xfrm
    xfrm.genid += 1
    xfrm.nopolicy = xfrm_nopolicy(xfrm)
    for forget in xfrm.changed:
        forget()


def xfrm_policy_delete(net: Net, pol: xfrm_policy) -> None:
    """net/xfrm/xfrm_policy.c: remove a policy; no error when it is absent."""
    pol.dead = True
    net.xfrm.policy[pol.dir] = [one for one in net.xfrm.policy[pol.dir] if one is not pol]
    net.xfrm.policy_all = [one for one in net.xfrm.policy_all if one is not pol]
    xfrm_changed(net)


def xfrm_policy_flush(net: Net) -> None:
    """net/xfrm/xfrm_policy.c: remove all policies."""
    for pol in net.xfrm.policy_all:
        pol.dead = True
    net.xfrm.policy = new_xfrm_policies()
    net.xfrm.policy_all = []
    xfrm_changed(net)


def xfrm_user_policy(optname: int, sk: inet_sock, optval: Any) -> None:
    """net/xfrm/xfrm_state.c: IP_XFRM_POLICY of a socket. None removes the policies.

    Raises: OSError EINVAL, EMSGSIZE, EOPNOTSUPP.
    """
    net = sk.net
    policies: list[xfrm_policy | None] = [None, None]
    if optval is not None:
        data = opt_bytes(optval)
        if not 0 < len(data) <= PAGE_SIZE:
            raise os_error(errno.EMSGSIZE, f"a policy of {len(data)} bytes")
        if net.xfrm.compile_policy is None:
            raise os_error(errno.EINVAL, "there is no NETLINK_XFRM")
        pol = net.xfrm.compile_policy(sk.sk_family, optname, data)
        pol.index = xfrm_gen_index(net, XFRM_POLICY_MAX + pol.dir, 0)
        pol.curlft.add_time = real_seconds(net)
        if sk.sk_policy is not None:
            policies = list(sk.sk_policy)
        policies[pol.dir] = pol
        net.xfrm.sk_policies = True
    sk.sk_policy = tuple(policies) if any(policies) else None
    xfrm_changed(net)
    sk_dst_reset(sk)


def xfrm_sk_policy_lookup(sk: Any, direction: int, fl: flowi, ifindex: int) -> xfrm_policy | None:
    """net/xfrm/xfrm_policy.c: the socket's own policy, if it matches the flow."""
    if sk is None or sk.sk_policy is None or direction > XFRM_POLICY_OUT:
        return None
    pol: xfrm_policy | None = sk.sk_policy[direction]
    if pol is None or not xfrm_selector_match(pol.selector, fl, ifindex):
        return None
    pol.packets += 1
    return pol


def xfrm_selector_match(sel: xfrm_selector, fl: flowi, ifindex: int) -> bool:
    """net/xfrm/xfrm_policy.c: whether the selector matches this flow."""
    if sel.family != fl.family:
        return False
    bits = 32 if sel.family == AF_INET else 128
    return (
        (fl.saddr ^ sel.saddr) >> (bits - sel.prefixlen_s) == 0
        and (fl.daddr ^ sel.daddr) >> (bits - sel.prefixlen_d) == 0
        and (not sel.proto or sel.proto == fl.flowi_proto)
        and not (sel.sport ^ fl.fl_sport) & sel.sport_mask
        and not (sel.dport ^ fl.fl_dport) & sel.dport_mask
        and (not sel.ifindex or sel.ifindex == ifindex)
    )


def xfrm_policy_lookup(net: Net, fl: flowi, direction: int, ifindex: int) -> xfrm_policy | None:
    """net/xfrm/xfrm_policy.c: the first policy that matches a flow; None: the flow is allowed."""
    for pol in net.xfrm.policy[direction]:
        if xfrm_selector_match(pol.selector, fl, ifindex):
            pol.packets += 1
            return pol
    return None


def decode_session(skb: sk_buff, family: int) -> flowi | None:
    """net/xfrm/xfrm_policy.c: the flow of a packet by its headers; None when they are cut off.

    Ports are 0 for protocols other than TCP and UDP, and for fragments other than the first. Type
    and code of an ICMP message are in their place.
    """
    off = skb_network_offset(skb)
    if family == AF_INET:
        iph = iphdr_at(skb, off)
        fl = flowi(AF_INET, iph.daddr, iph.saddr, flowi_proto=iph.protocol)
        at = off + iph.ihl * 4
        first = not iph.frag_off & IP_OFFSET
    else:
        ip6h = ipv6hdr_at(skb, off)
        fl = flowi(AF_INET6, ip6h.daddr, ip6h.saddr)
        at, fl.flowi_proto, frag_off = ipv6_skip_exthdr(skb, off + 40, ip6h.nexthdr)
        first = at >= 0 and not frag_off & ~7
    if first and fl.flowi_proto in (IPPROTO_TCP, IPPROTO_UDP):
        if skb.len < at + 8:
            return None
        ports = skb_copy_bits(skb, at, 4)  # skb.data may be at the payload already, behind `at`
        fl.fl_sport, fl.fl_dport = ports[0] << 8 | ports[1], ports[2] << 8 | ports[3]
    elif first and fl.flowi_proto in (IPPROTO_ICMP, IPPROTO_ICMPV6) and skb.len >= at + 2:
        ports = skb_copy_bits(skb, at, 2)
        fl.fl_sport, fl.fl_dport = ports[0], ports[1]
    return fl


def __xfrm_policy_check(
    net: Net, sk: inet_sock | None, direction: int, skb: sk_buff, family: int
) -> bool:
    """net/xfrm/xfrm_policy.c: whether the policies allow the packet; rejected ones are counted.

    It must match the selectors of the states that decrypted it, and the states the templates.
    """
    xfrm = net.xfrm
    mib = net.mib.xfrm
    path = xfrm.sec_path
    own = sk is not None and sk.sk_policy is not None
    if not xfrm.policy[direction] and not path and not xfrm.default[direction] and not own:
        return True
    fl = decode_session(skb, family)
    if fl is None:
        mib.XfrmInHdrError += 1
        return False
    iif = skb.dev.ifindex if skb.dev is not None else 0
    for x in path:
        if x.sel.family and not xfrm_selector_match(x.sel, fl, iif):
            mib.XfrmInStateMismatch += 1
            return False
    pol = xfrm_sk_policy_lookup(sk, direction, fl, iif)
    if pol is None:
        pol = xfrm_policy_lookup(net, fl, direction, iif)
    if pol is None:
        if xfrm.default[direction] or secpath_has_nontransport(path, 0):
            mib.XfrmInNoPols += 1
            return False
        return True
    pol.curlft.use_time = real_seconds(net)
    if pol.action == XFRM_POLICY_BLOCK:
        mib.XfrmInPolBlock += 1
        return False
    if not policy_fits(pol, path):
        mib.XfrmInTmplMismatch += 1
        return False
    return True


def policy_fits(pol: xfrm_policy, path: tuple[xfrm_state, ...]) -> bool:
    """net/xfrm/xfrm_policy.c (in __xfrm_policy_check): whether its states match the templates."""
    at = 0
    for tmpl in reversed(pol.xfrm_vec):
        at = xfrm_policy_ok(tmpl, path, at)
        if at < 0:
            return False
    return not secpath_has_nontransport(path, at)


def xfrm_policy_ok(tmpl: xfrm_tmpl, path: tuple[xfrm_state, ...], start: int) -> int:
    """net/xfrm/xfrm_policy.c: where in the path the next template begins; -1: no match."""
    missing = -1
    if tmpl.optional:
        if tmpl.mode == XFRM_MODE_TRANSPORT:
            return start
        missing = start
    for at in range(start, len(path)):
        if xfrm_state_ok(tmpl, path[at]):
            return at + 1
        if path[at].mode != XFRM_MODE_TRANSPORT:
            break
    return missing


def xfrm_state_ok(tmpl: xfrm_tmpl, x: xfrm_state) -> bool:
    """net/xfrm/xfrm_policy.c: whether the state matches the template."""
    if x.proto != tmpl.proto or x.mode != tmpl.mode:
        return False
    if (tmpl.spi and x.spi != tmpl.spi) or (tmpl.reqid and x.reqid != tmpl.reqid):
        return False
    if x.mode == XFRM_MODE_TRANSPORT:
        return True
    ends = (not tmpl.saddr or x.saddr == tmpl.saddr) and (not tmpl.daddr or x.daddr == tmpl.daddr)
    return x.family == tmpl.family and ends


def secpath_has_nontransport(path: tuple[xfrm_state, ...], start: int) -> bool:
    """net/xfrm/xfrm_policy.c: whether the packet was in a tunnel, from `start` of its path on."""
    for at in range(start, len(path)):  # noqa: SIM110 -- no generator per packet
        if path[at].mode != XFRM_MODE_TRANSPORT:
            return True
    return False


def xfrm_policy_check(sk: inet_sock | None, direction: int, skb: sk_buff, family: int) -> bool:
    """include/net/xfrm.h: whether the packet may be delivered or forwarded."""
    net: Net = skb.dev.net
    if net.xfrm.nopolicy:
        return True
    own = sk is not None and sk.sk_policy is not None and sk.sk_policy[XFRM_POLICY_IN] is not None
    if not own and policy_disabled(net, skb, direction, family):
        return True
    return __xfrm_policy_check(net, sk, direction, skb, family)


def policy_disabled(net: Net, skb: sk_buff, direction: int, family: int) -> bool:
    """include/net/xfrm.h __xfrm_check_dev_nopolicy: sysctl disable_policy.

    IPv4's is of the interface that received the packet, IPv6's of the one whose address it is for.
    """
    if family == AF_INET:
        in_dev: in_device | None = skb.dev.ip_ptr
        own = in_dev is not None and in_dev.cnf.disable_policy
        return bool(own or net.ipv4.devconf_all.disable_policy)
    idev: inet6_dev | None = skb.dst.rt6i_idev if direction == XFRM_POLICY_IN and skb.dst else None
    return idev is not None and bool(idev.cnf.disable_policy or net.ipv6.devconf_all.disable_policy)


def xfrm4_policy_check(sk: inet_sock | None, direction: int, skb: sk_buff) -> bool:
    """include/net/xfrm.h: xfrm_policy_check of IPv4."""
    return xfrm_policy_check(sk, direction, skb, AF_INET)


def xfrm6_policy_check(sk: inet_sock | None, direction: int, skb: sk_buff) -> bool:
    """include/net/xfrm.h: xfrm_policy_check of IPv6."""
    return xfrm_policy_check(sk, direction, skb, AF_INET6)


def xfrm_lookup(net: Net, fl: flowi, dst: Any, sk: inet_sock | None = None) -> Any:
    """net/xfrm/xfrm_policy.c: the route of a flow with the route `dst`: `dst`, or a bundle.

    `sk`: the socket whose policy is tried first.

    Raises: OSError EPERM: a policy forbids it, which is counted; and as netns_xfrm.bundle.
    """
    xfrm = net.xfrm
    if xfrm.nopolicy or not fl.flowi_proto:
        return dst
    pol = xfrm_sk_policy_lookup(sk, XFRM_POLICY_OUT, fl, fl.flowi_oif)
    if pol is None and not dst.flags & DST_NOXFRM:
        pol = xfrm_policy_lookup(net, fl, XFRM_POLICY_OUT, fl.flowi_oif)
    if pol is None:
        if not xfrm.default[XFRM_POLICY_OUT] or dst.dev.flags & IFF_LOOPBACK:
            return dst
        net.mib.xfrm.XfrmOutPolBlock += 1
        raise os_error(errno.EPERM, "no policy allows it")
    pol.curlft.use_time = real_seconds(net)
    if pol.action == XFRM_POLICY_BLOCK:
        net.mib.xfrm.XfrmOutPolBlock += 1
        raise os_error(errno.EPERM, "a policy forbids it")
    if not pol.xfrm_vec or xfrm.bundle is None:
        return dst
    return xfrm.bundle(net, fl, pol, dst)


def xfrm_route_forward(net: Net, skb: sk_buff, family: int, ifindex: int) -> bool:
    """net/xfrm/xfrm_policy.c __xfrm_route_forward: whether a packet may be forwarded.

    Its route becomes a bundle if a policy requires it.
    """
    if net.xfrm.nopolicy or skb.dst.flags & DST_NOXFRM:
        return True
    fl = decode_session(skb, family)
    if fl is None:
        net.mib.xfrm.XfrmFwdHdrError += 1
        return False
    fl.flowi_oif = ifindex
    try:
        skb.dst = xfrm_lookup(net, fl, skb.dst)
    except OSError:
        return False
    return True
