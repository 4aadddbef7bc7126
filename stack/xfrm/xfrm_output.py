"""net/xfrm/xfrm_output.c, xfrm_policy.c, net/ipv4/xfrm4_output.c, net/ipv6/xfrm6_output.c.

    xfrm_lookup => xfrm_bundle_lookup       a policy's templates: a route that transforms
        xfrm_tmpl_resolve                   the states for them
        xfrm_bundle_create                  xfrm_dst4, xfrm_dst6; a smaller MTU
        xfrm_dst_check                      whether a cached one is still valid
    dst_output => xfrm4_output, xfrm6_output        POST_ROUTING hook
        xfrm_output                         super-packets are cut, checksums computed
            xfrm_output_one                 each state: limits, sequence number, mode, ESP
            -> ip_local_out, ip6_local_out  over `path`, the route of the result

A bundle is a route like others to its callers, with an MTU of its own. Without states for its
templates a flow gets a route that drops packets, as of Linux with xfrm_larval_drop. Functions that
take an skb own it. State: `netns_xfrm_state.bundles`, by flow, until a policy or state changes.
"""

from __future__ import annotations

import errno
import struct
from typing import Any

from fastpath.base.csum import ip_compute_csum
from fastpath.base.skbuff import (
    CHECKSUM_PARTIAL,
    consume_skb,
    sk_buff,
    skb_checksum_help,
    skb_from_bytes,
    skb_reset_network_header,
    skb_set_transport_header,
    skb_store_bits,
    skb_to_bytes,
)
from fastpath.net.hdr import ip_hdr, ip_push, ip_send_check, ipv6_hdr, ipv6_push
from stack.core import drop_reason
from stack.core.dev_xmit import gso_owners, skb_gso_set_owner
from stack.core.drop_reason import kfree_skb_reason
from stack.core.dst import (
    DST_OBSOLETE_FORCE_CHK,
    dst_check,
    dst_discard,
    dst_discard_out,
    dst_entry,
    dst_mtu,
    dst_ops,
)
from stack.core.errors import os_error
from stack.core.inet_ecn import INET_ECN_encapsulate
from stack.core.netdevice import ETH_P_IP, ETH_P_IPV6, LL_MAX_HEADER, net_device
from stack.core.netfilter import NF_INET_POST_ROUTING, NFPROTO_IPV6, nf_hook, nf_hook_list
from stack.core.rows import narrow, replace, row, state, wide
from stack.core.sock import skb_set_owner_w, sock
from stack.core.uapi import AF_INET, AF_INET6, IPPROTO_IPV6, IPPROTO_UDP, IPV6_MIN_MTU
from stack.inet.do_fragment import inet_gso_segment
from stack.inet.flow import flowi
from stack.inet.inet_sock import inet_sock
from stack.inet.udp_flow import UDP_HLEN
from stack.inet.xfrm_policy import XFRM_MODE_TUNNEL, xfrm_policy, xfrm_tmpl
from stack.ipv4 import icmp_codes
from stack.ipv4.icmp import icmp_send
from stack.ipv4.ip_errqueue import ip_local_error
from stack.ipv4.ip_output import IPSKB_REROUTED, __ip_select_ident, ip_local_out
from stack.ipv4.route import (
    IP_DF,
    ip4_dst_hoplimit,
    ip_route_output_key_hash,
    ipv4_confirm_neigh,
    ipv4_default_advmss,
    ipv4_link_failure,
    ipv4_mtu,
    rtable,
)
from stack.ipv6.ip6_cb import IP6SKB_REROUTED
from stack.ipv6.ip6_fragment import ip6_find_1stfragopt, ip6_fragment
from stack.ipv6.ip6_icmp import ICMPV6_PKT_TOOBIG, icmpv6_send
from stack.ipv6.ip6_output import ip6_local_out
from stack.ipv6.route import ip6_dst_lookup_tail
from stack.ipv6.rt6_info import ip6_default_advmss, ip6_dst_hoplimit, ip6_mtu, rt6_info
from stack.net import Net
from stack.xfrm.esp import esp_output
from stack.xfrm.xfrm_replay import xfrm_replay_overflow
from stack.xfrm.xfrm_state import (
    XFRM_SA_XFLAG_DONT_ENCAP_DSCP,
    XFRM_SA_XFLAG_OSEQ_MAY_WRAP,
    XFRM_STATE_NOECN,
    XFRM_STATE_NOPMTUDISC,
    XFRM_STATE_VALID,
    states_of,
    xfrm_state,
    xfrm_state_check_expire,
    xfrm_state_find,
    xfrm_state_mtu,
    xfrm_state_used,
)

IPPROTO_IPIP = 4
BUNDLES_MAX = 1024
TAIL_ROOM = 80


@state
class xfrm_bundle:
    """What struct xfrm_dst adds to a route of either family."""

    states: tuple[xfrm_state, ...] = ()
    route: Any = None
    """The original route."""
    path: Any = None
    """The destination of the result."""
    genid: int = 0
    path_mtu: int = row(0)


@state
class xfrm_dst4(rtable):
    """struct xfrm_dst of IPv4. A compiled class has one base, so both families have a bundle."""

    bundle: xfrm_bundle = row(make=xfrm_bundle)


@state
class xfrm_dst6(rt6_info):
    """struct xfrm_dst of IPv6."""

    bundle: xfrm_bundle = row(make=xfrm_bundle)


xfrm_dst = xfrm_dst4 | xfrm_dst6


def xfrm_dst_check(dst: xfrm_dst, cookie: int) -> xfrm_dst | None:
    """net/xfrm/xfrm_policy.c (with xfrm_bundle_ok): whether a bundle is valid. Sets its MTU."""
    made = dst.bundle
    if made.genid != dst.net.xfrm.genid or not all(
        x.km_state == XFRM_STATE_VALID for x in made.states
    ):
        return None
    if dst_check(made.route, cookie) is None or dst_check(made.path, cookie) is None:
        return None
    mtu = dst_mtu(made.path)
    if mtu != made.path_mtu:
        xfrm_init_pmtu(dst, mtu)
    return dst


def xfrm_init_pmtu(dst: xfrm_dst, mtu: int) -> None:
    """net/xfrm/xfrm_policy.c: the MTU of a bundle whose path has `mtu` bytes."""
    dst.bundle.path_mtu = mtu
    for x in reversed(dst.bundle.states):
        mtu = xfrm_state_mtu(x, mtu)
    dst.metrics = {**dst.metrics, "mtu": min(mtu, dst_mtu(dst.bundle.route))}


def xfrm_update_pmtu(
    dst: xfrm_dst, sk: sock, skb: sk_buff | None, mtu: int, confirm_neigh: bool = True
) -> None:
    """net/ipv4/xfrm4_policy.c xfrm4_update_pmtu: a smaller MTU is the path's."""
    path = dst.bundle.path
    ops = path.ops
    if ops is not None and ops.update_pmtu is not None:
        ops.update_pmtu(path, sk, skb, mtu, confirm_neigh)


xfrm4_dst_ops = dst_ops(
    family=AF_INET,
    check=xfrm_dst_check,
    mtu=ipv4_mtu,
    default_advmss=ipv4_default_advmss,
    update_pmtu=xfrm_update_pmtu,
    link_failure=ipv4_link_failure,
    confirm_neigh=ipv4_confirm_neigh,
)
xfrm6_dst_ops = dst_ops(
    family=AF_INET6,
    check=xfrm_dst_check,
    mtu=ip6_mtu,
    default_advmss=ip6_default_advmss,
    update_pmtu=xfrm_update_pmtu,
)


# --- bundles --------------------------------------------------------------------------------------


def xfrm_bundle_lookup(net: Net, fl: flowi, pol: xfrm_policy, dst: Any) -> Any:
    """net/xfrm/xfrm_policy.c: the bundle of a flow that has the route `dst`.

    Raises: OSError: there is no route to the other end of a tunnel.
    """
    table = states_of(net)
    if table.bundles_genid != net.xfrm.genid or len(table.bundles) >= BUNDLES_MAX:
        table.bundles.clear()
        table.bundles_genid = net.xfrm.genid
    ports = fl.fl_sport << 16 | fl.fl_dport
    key = pol.index, fl.family, fl.saddr, fl.daddr, fl.flowi_proto, ports, fl.flowi_mark
    found: Any = table.bundles.get(key)
    if found is not None and found.bundle.route is dst and xfrm_dst_check(found, 0) is not None:
        return found
    states = xfrm_tmpl_resolve(net, fl, pol)
    if states is None:
        net.mib.xfrm.XfrmOutNoStates += 1
        return make_blackhole(dst)
    if not states:
        return dst
    found = xfrm_bundle_create(net, states, fl, dst)
    table.bundles[key] = found
    return found


def make_blackhole(dst: Any) -> Any:
    """net/xfrm/xfrm_policy.c: a route like `dst` that drops packets and is never cached."""
    made = copy_of(dst)
    made.ops = replace(dst.ops, check=never)
    made.input, made.output = dst_discard, dst_discard_out
    return made


def never(dst: dst_entry, cookie: int) -> None:
    """dst_ops.check of a route that may not be cached."""
    return


def copy_of(dst: Any) -> Any:
    """An xfrm_dst that copies `dst`."""
    made: Any
    if isinstance(dst, rtable):
        made = xfrm_dst4(dst.dev, xfrm4_dst_ops)
        made.rt_genid, made.rt_flags, made.rt_type = dst.rt_genid, dst.rt_flags, dst.rt_type
        made.rt_is_input, made.rt_iif = dst.rt_is_input, dst.rt_iif
        made.rt_uses_gateway, made.rt_gw4 = dst.rt_uses_gateway, dst.rt_gw4
        made.rt_gw6 = dst.rt_gw6
        made.rt_src, made.rt_dst = dst.rt_src, dst.rt_dst
        made.output = xfrm4_output
    else:
        made = xfrm_dst6(dst.dev, xfrm6_dst_ops, dst.from6)
        made.rt6i_gateway, made.rt6i_flags = dst.rt6i_gateway, dst.rt6i_flags
        made.rt6i_dst, made.rt6i_plen, made.rt6i_idev = dst.rt6i_dst, dst.rt6i_plen, dst.rt6i_idev
        made.output = xfrm6_output
    made.input = dst.input
    made.metrics = dict(dst.metrics)
    made.obsolete = DST_OBSOLETE_FORCE_CHK
    return made


def xfrm_tmpl_resolve(net: Net, fl: flowi, pol: xfrm_policy) -> tuple[xfrm_state, ...] | None:
    """net/xfrm/xfrm_policy.c: the states for a policy's templates; None: one is missing."""
    daddr, saddr = fl.daddr, fl.saddr
    found = []
    for tmpl in pol.xfrm_vec:
        if tmpl.mode == XFRM_MODE_TUNNEL:
            daddr = tmpl.daddr
            saddr = tmpl.saddr or tunnel_source(net, tmpl, fl)
        x = xfrm_state_find(net, daddr, saddr, fl, tmpl, pol)
        if x is not None:
            found.append(x)
        elif not tmpl.optional:
            return None
    return tuple(found)


def tunnel_source(net: Net, tmpl: xfrm_tmpl, fl: flowi) -> wide:
    """net/xfrm/xfrm_policy.c xfrm_get_saddr: our address for a tunnel that names none; 0: none."""
    try:
        flow, _ = xfrm_dst_lookup(net, tmpl.family, tmpl.daddr, 0, fl.flowi_mark)
    except OSError:
        return 0
    return flow.saddr


def xfrm_dst_lookup(
    net: Net, family: int, daddr: wide, saddr: wide, mark: int
) -> tuple[flowi, dst_entry]:
    """net/xfrm/xfrm_policy.c: the route between the ends of a tunnel, and its flow.

    No policy is checked for it. Raises: OSError.
    """
    fl = flowi(family, daddr, saddr, flowi_mark=mark)
    if family == AF_INET:
        return fl, ip_route_output_key_hash(net, fl, None)
    return fl, ip6_dst_lookup_tail(net, None, fl, 0)


def xfrm_bundle_create(net: Net, states: tuple[xfrm_state, ...], fl: flowi, dst: Any) -> xfrm_dst:
    """net/xfrm/xfrm_policy.c: the route of a flow that these states transform. Raises: OSError."""
    path = dst
    for x in states:
        if x.mode == XFRM_MODE_TUNNEL:
            _, path = xfrm_dst_lookup(net, x.family, x.daddr, x.saddr, fl.flowi_mark)
    made: xfrm_dst = copy_of(dst)
    made.bundle = xfrm_bundle(states, dst, path, net.xfrm.genid)
    xfrm_init_pmtu(made, dst_mtu(path))
    return made


# --- output ---------------------------------------------------------------------------------------


def xfrm4_output(net: Net, sk: sock | None, skb: sk_buff) -> int:
    """net/ipv4/xfrm4_output.c: POST_ROUTING hook, then transform. Takes ownership of skb."""
    dev = skb.dst.dev
    indev: net_device | None = skb.dev
    skb.dev = dev
    skb.protocol = ETH_P_IP
    if net.nf_hooks[NF_INET_POST_ROUTING] and not skb.ip_cb_flags & IPSKB_REROUTED:
        ret = nf_hook(NF_INET_POST_ROUTING, net, sk, skb, indev, dev, xfrm_output)
        if ret != 1:
            return ret
    return xfrm_output(net, sk, skb)


def xfrm6_output(net: Net, sk: sock | None, skb: sk_buff) -> int:
    """net/ipv6/xfrm6_output.c: as xfrm4_output."""
    dev = skb.dst.dev
    indev: net_device | None = skb.dev
    skb.dev = dev
    skb.protocol = ETH_P_IPV6
    hooks = net.ipv6.nf_hooks[NF_INET_POST_ROUTING]
    if hooks and not skb.ip_cb_flags & IP6SKB_REROUTED:
        ret = nf_hook_list(
            hooks, NFPROTO_IPV6, NF_INET_POST_ROUTING, net, sk, skb, indev, dev, __xfrm6_output
        )
        if ret != 1:
            return ret
    return __xfrm6_output(net, sk, skb)


def __xfrm6_output(net: Net, sk: sock | None, skb: sk_buff) -> int:
    """net/ipv6/xfrm6_output.c: fragment packets that are too large for a tunnel."""
    dst: xfrm_dst6 = skb.dst
    if (
        not skb.gso_size
        and any(x.mode == XFRM_MODE_TUNNEL for x in dst.bundle.states)
        and skb.len > ip6_mtu(dst)
    ):
        return ip6_fragment(net, sk, skb, ip6_mtu(dst), xfrm_output)
    return xfrm_output(net, sk, skb)


def xfrm_output(net: Net, sk: sock | None, skb: sk_buff) -> int:
    """net/xfrm/xfrm_output.c: transform and send; a super-packet in segments.

    0, NET_XMIT_* or the first negative errno. Takes ownership of skb.
    """
    if not skb.gso_size:
        return xfrm_output2(net, sk, skb)
    segs = inet_gso_segment(net, skb)
    if not segs:
        net.mib.xfrm.XfrmOutError += 1
        return -errno.ENOMEM
    ret = 0
    for seg in segs:
        err = xfrm_output2(net, sk, seg)
        if err and not ret:
            ret = err
    return ret


def xfrm_output2(net: Net, sk: sock | None, skb: sk_buff) -> int:
    """net/xfrm/xfrm_output.c xfrm_output_resume: apply all states, send. Takes ownership of skb."""
    dst: xfrm_dst = skb.dst
    try:
        if skb.ip_summed == CHECKSUM_PARTIAL and not skb_checksum_help(skb):
            net.mib.xfrm.XfrmOutError += 1
            raise os_error(errno.ENOMEM)
        for x in dst.bundle.states:
            skb = xfrm_output_one(net, skb, x, dst)
    except OSError as exc:
        kfree_skb_reason(net, skb, drop_reason.SKB_DROP_REASON_NOT_SPECIFIED)
        return -(exc.errno or errno.EINVAL)
    skb.dst = dst.bundle.path
    if isinstance(dst.bundle.path, rtable):
        return ip_local_out(net, sk, skb)
    return ip6_local_out(net, sk, skb)


def xfrm_output_one(net: Net, skb: sk_buff, x: xfrm_state, dst: xfrm_dst) -> sk_buff:
    """net/xfrm/xfrm_output.c: apply one state. Takes ownership of skb.

    Data at its IP header. Raises: OSError; then the caller keeps skb. Each cause is counted.
    """
    mib = net.mib.xfrm
    packet = skb_to_bytes(skb)
    six = packet[0] >> 4 == 6
    tunnel = x.mode == XFRM_MODE_TUNNEL
    if tunnel:
        tunnel_check_size(skb, dst, six)
        hlen, nexthdr = 0, IPPROTO_IPV6 if six else IPPROTO_IPIP
    elif six:
        hlen, nhoff = ip6_find_1stfragopt(skb)
        if hlen < 0:
            mib.XfrmOutStateModeError += 1
            raise os_error(errno.EINVAL)
        nexthdr = packet[nhoff]
    else:
        hlen, nexthdr = (packet[0] & 15) * 4, packet[9]
    if x.km_state != XFRM_STATE_VALID:
        mib.XfrmOutStateInvalid += 1
        raise os_error(errno.EINVAL)
    if not xfrm_state_check_expire(x):
        mib.XfrmOutStateExpired += 1
        raise os_error(errno.EINVAL)
    r = x.replay
    if xfrm_replay_overflow(r, bool(x.extra_flags & XFRM_SA_XFLAG_OSEQ_MAY_WRAP)):
        mib.XfrmOutStateSeqError += 1
        raise os_error(errno.EOVERFLOW)
    xfrm_state_used(x, len(packet) - hlen)
    assert x.esp is not None
    esp = esp_output(x.esp, x.spi, r.oseq, r.esn, nexthdr, packet[hlen:])
    proto = x.proto
    if x.encap is not None:
        esp, proto = esp_output_udp_encap(x, packet, esp), IPPROTO_UDP
    data = packet[:hlen] + esp
    made = skb_from_bytes(net.skb_small, data, LL_MAX_HEADER + TAIL_ROOM)
    if made is None:
        mib.XfrmOutError += 1
        raise os_error(errno.ENOMEM)
    copy_metadata(skb, made)
    if tunnel:
        tunnel_header(net, made, x, packet, dst, proto)
    else:
        skb_reset_network_header(made)
        skb_set_transport_header(made, hlen)
        if six:
            skb_store_bits(made, nhoff, bytes((proto,)))
            ipv6_hdr(made).payload_len = len(data) - 40
        else:
            iph = ip_hdr(made)
            iph.protocol, iph.tot_len = proto, len(data)
            ip_send_check(iph)
    consume_skb(skb)
    return made


def copy_metadata(skb: sk_buff, made: sk_buff) -> None:
    """What a packet keeps when it is transformed: its socket, mark and priority."""
    made.dev, made.protocol = skb.dev, skb.protocol
    made.mark, made.priority, made.hash = skb.mark, skb.priority, skb.hash
    made.ignore_df = True
    if skb.destructor in gso_owners:
        made.sk = skb.sk
        skb_gso_set_owner(skb, [made])
    elif skb.sk is not None:
        skb_set_owner_w(made, skb.sk)


def tunnel_check_size(skb: sk_buff, dst: xfrm_dst, six: bool) -> None:
    """net/xfrm/xfrm_output.c xfrm4_tunnel_check_size, _6_: reject packets above the tunnel's MTU.

    Its sender is notified. Raises: OSError EMSGSIZE. Borrows skb.
    """
    mtu = dst_mtu(dst)
    if skb.len <= mtu or skb.ignore_df or (not six and not ip_hdr(skb).frag_off & IP_DF):
        return
    if six:
        icmpv6_send(skb, ICMPV6_PKT_TOOBIG, 0, max(mtu, IPV6_MIN_MTU))
    elif isinstance(skb.sk, inet_sock):
        ip_local_error(skb.sk, errno.EMSGSIZE, ip_hdr(skb).daddr, skb.sk.inet_dport, mtu)
    else:
        icmp_send(skb, icmp_codes.ICMP_DEST_UNREACH, icmp_codes.ICMP_FRAG_NEEDED, mtu)
    raise os_error(errno.EMSGSIZE)


def esp_output_udp_encap(x: xfrm_state, packet: bytes, esp: bytes) -> bytes:
    """net/ipv4/esp4.c, esp6.c: ESP after a UDP header, whose checksum is 0 over IPv4 (RFC 3948).

    `packet` is the original; in transport mode the addresses are its own.
    """
    assert x.encap is not None
    size = UDP_HLEN + len(esp)
    ports = struct.pack(">HHH", x.encap.encap_sport, x.encap.encap_dport, size)
    check = 0
    if x.family == AF_INET6:
        ends = packet[8:40]
        if x.mode == XFRM_MODE_TUNNEL:
            ends = x.saddr.to_bytes(16, "big") + x.daddr.to_bytes(16, "big")
        pseudo = ends + struct.pack(">II", size, IPPROTO_UDP)
        whole = pseudo + ports + esp
        check = ip_compute_csum(whole) or 0xFFFF
    return ports + check.to_bytes(2, "big") + esp


def tunnel_header(
    net: Net, skb: sk_buff, x: xfrm_state, inner: bytes, dst: xfrm_dst, proto: int
) -> None:
    """net/xfrm/xfrm_output.c xfrm4_tunnel_encap_add, xfrm6_tunnel_encap_add (RFC 4301 5.1.2)."""
    six = inner[0] >> 4 == 6
    inner_tos = (inner[0] << 4 & 0xF0 | inner[1] >> 4) if six else inner[1]
    outer = 0 if x.extra_flags & XFRM_SA_XFLAG_DONT_ENCAP_DSCP else inner_tos
    tos = INET_ECN_encapsulate(outer, 0 if x.flags & XFRM_STATE_NOECN else inner_tos)
    if x.family == AF_INET:
        df = IP_DF if six else (inner[6] << 8) & IP_DF
        if x.flags & XFRM_STATE_NOPMTUDISC:
            df = 0
        saddr, daddr = narrow(x.saddr), narrow(x.daddr)
        ident = 0 if df else __ip_select_ident(net, daddr, saddr, proto)
        ttl = ip4_dst_hoplimit(dst.bundle.path)
        ip_push(skb, tos, skb.len + 20, ident, df, ttl, proto, saddr, daddr)
        skb.protocol = ETH_P_IP
    else:
        hops = ip6_dst_hoplimit(dst.bundle.path)
        ipv6_push(skb, tos, 0, skb.len, proto, hops, x.saddr, x.daddr)
        skb.protocol = ETH_P_IPV6
