"""net/xfrm/xfrm_input.c, net/ipv4/xfrm4_input.c, esp4.c, net/ipv6/xfrm6_input.c, esp6.c.

    ip_local_deliver_finish => xfrm4_rcv        data at the header of ESP
    ip6_input_finish => xfrm6_rcv
    udp_encap_rcv => xfrm_udp_encap_rcv         ESP in UDP, at a socket with UDP_ENCAP
        xfrm_input                              state, window, limits, ESP; counts errors
            transport_input                     the packet again, without ESP
            tunnel_input                        the inner packet
            deliver                             with its states, for the policies
    icmp_unreach => esp4_err, icmpv6_notify => esp6_err     path MTU of sent packets

Decrypted packets are delivered in the same call: `net.xfrm.sec_path` has the states by which
it came, and xfrm_policy_check reads that. Handlers take ownership of their packets.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from fastpath.base.csum import csum_replace2, ip_compute_csum
from fastpath.base.skbuff import (
    CHECKSUM_NONE,
    CHECKSUM_UNNECESSARY,
    PACKET_HOST,
    consume_skb,
    sk_buff,
    skb_copy_bits,
    skb_from_bytes,
    skb_mac_header_was_set,
    skb_network_offset,
    skb_pull,
    skb_push,
    skb_reset_mac_header,
    skb_reset_network_header,
    skb_set_transport_header,
    skb_to_bytes,
)
from fastpath.net.hdr import icmp_hdr, ip_hdr_validate, iphdr_at, ipv6hdr_at, udphdr_at
from fastpath.net.hdr6 import ipv6_hdr_validate
from stack.core import drop_reason
from stack.core.dev_receive import netif_receive_skb
from stack.core.drop_reason import kfree_skb_reason
from stack.core.dst import dst_input
from stack.core.inet_ecn import INET_ECN_CE, set_mark
from stack.core.net_namespace import load_module, pernet_operations
from stack.core.netdevice import ETH_P_IP, ETH_P_IPV6
from stack.core.netfilter import NF_INET_PRE_ROUTING, NFPROTO_IPV6, nf_hook, nf_hook_list
from stack.core.rows import wide
from stack.core.uapi import AF_INET, AF_INET6, IPPROTO_IPV6
from stack.inet.espinudp import ESP_HLEN
from stack.inet.protocol import inet_add_protocol, net_protocol
from stack.inet.udp_flow import UDP_HLEN
from stack.inet.xfrm_policy import XFRM_MODE_TUNNEL, xfrm_nopolicy
from stack.ipv4 import icmp_codes
from stack.ipv4.route import ipv4_redirect, ipv4_update_pmtu
from stack.ipv6.ip6_cb import ip6cb_nhoff
from stack.ipv6.ip6_icmp import ICMPV6_PKT_TOOBIG, NDISC_REDIRECT
from stack.ipv6.protocol import (
    INET6_PROTO_FINAL,
    INET6_PROTO_NOPOLICY,
    inet6_add_protocol,
    inet6_protocol,
)
from stack.ipv6.route_learned import ip6_redirect, ip6_update_pmtu
from stack.xfrm.esp import esp_input
from stack.xfrm.xfrm_algo import EspTampered
from stack.xfrm.xfrm_output import IPPROTO_IPIP, xfrm_bundle_lookup
from stack.xfrm.xfrm_replay import (
    GOOD,
    TWICE,
    xfrm_replay_advance,
    xfrm_replay_check,
    xfrm_replay_seqhi,
)
from stack.xfrm.xfrm_state import (
    IPPROTO_ESP,
    XFRM_SA_DIR_OUT,
    XFRM_STATE_ACQ,
    XFRM_STATE_DECAP_DSCP,
    XFRM_STATE_NOECN,
    XFRM_STATE_VALID,
    netns_xfrm_state,
    states_of,
    xfrm_state,
    xfrm_state_check_expire,
    xfrm_state_lookup,
    xfrm_state_used,
)

if TYPE_CHECKING:
    from stack.machine import Machine
    from stack.net import Net

XFRM_MAX_DEPTH = 6
HEADROOM = 64
INSIDE = {IPPROTO_IPIP: (4, ETH_P_IP), IPPROTO_IPV6: (6, ETH_P_IPV6)}
"""IP version and EtherType by a tunnel's next header."""


def drop(net: Net, skb: sk_buff, counter: str) -> None:
    """Count and free a packet. Takes ownership of skb."""
    mib = net.mib.xfrm
    setattr(mib, counter, getattr(mib, counter) + 1)
    kfree_skb_reason(net, skb, drop_reason.SKB_DROP_REASON_NOT_SPECIFIED)


def xfrm4_rcv(skb: sk_buff) -> int:
    """net/ipv4/xfrm4_input.c: a packet of ESP. Takes ownership of skb."""
    xfrm_input(skb, AF_INET, 0)
    return 0


def xfrm6_rcv(skb: sk_buff) -> int:
    """net/ipv6/xfrm6_input.c: a packet of ESP. Takes ownership of skb."""
    xfrm_input(skb, AF_INET6, 0)
    return 0


def xfrm_input(skb: sk_buff, family: int, encap_type: int) -> None:
    """net/xfrm/xfrm_input.c: decrypt and deliver. Takes ownership of skb.

    Data at the header of ESP. `encap_type` not 0: a UDP header is before it.
    """
    net: Net = skb.dev.net
    off = skb_network_offset(skb)
    if skb.len < ESP_HLEN:
        return drop(net, skb, "XfrmInHdrError")
    if len(net.xfrm.sec_path) == XFRM_MAX_DEPTH:
        return drop(net, skb, "XfrmInBufferError")
    head = skb_copy_bits(skb, 0, ESP_HLEN)
    spi, low = int.from_bytes(head[:4], "big"), int.from_bytes(head[4:], "big")
    daddr: wide = iphdr_at(skb, off).daddr if family == AF_INET else ipv6hdr_at(skb, off).daddr
    x = xfrm_state_lookup(net, daddr, spi, IPPROTO_ESP, family) if spi else None
    if x is None:
        return drop(net, skb, "XfrmInNoStates")
    if x.dir == XFRM_SA_DIR_OUT:
        return drop(net, skb, "XfrmInStateDirError")
    if x.km_state != XFRM_STATE_VALID:
        larval = x.km_state == XFRM_STATE_ACQ
        return drop(net, skb, "XfrmAcquireError" if larval else "XfrmInStateInvalid")
    if (x.encap.encap_type if x.encap is not None else 0) != encap_type:
        return drop(net, skb, "XfrmInStateMismatch")
    number = xfrm_replay_seqhi(x.replay, low)
    known = xfrm_replay_check(x.replay, number)
    if known != GOOD:
        if known == TWICE:
            x.stats_replay += 1
        elif number:
            x.stats_replay_window += 1
        return drop(net, skb, "XfrmInStateSeqError")
    if not xfrm_state_check_expire(x):
        return drop(net, skb, "XfrmInStateExpired")
    assert x.esp is not None
    try:
        nexthdr, payload = esp_input(x.esp, skb_to_bytes(skb), number, x.replay.esn)
    except EspTampered:
        x.stats_integrity_failed += 1
        return drop(net, skb, "XfrmInStateProtoError")
    except ValueError:
        return drop(net, skb, "XfrmInStateProtoError")
    xfrm_state_used(x, len(payload))
    xfrm_replay_advance(x.replay, number)
    if x.encap is not None:
        check_mapping(net, skb, x, family)
    if x.mode == XFRM_MODE_TUNNEL:
        tunnel_input(net, skb, x, family, nexthdr, payload)
    else:
        transport_input(net, skb, x, family, nexthdr, payload)


def check_mapping(net: Net, skb: sk_buff, x: xfrm_state, family: int) -> None:
    """net/ipv4/esp4.c esp_input_done2: NAT gave the peer another address or port. Borrows skb.

    Key managers are notified, and change the states.
    """
    off = skb_network_offset(skb)
    saddr: wide = iphdr_at(skb, off).saddr if family == AF_INET else ipv6hdr_at(skb, off).saddr
    sport = udphdr_at(skb, -UDP_HLEN).source
    assert x.encap is not None
    if saddr != x.saddr or sport != x.encap.encap_sport:
        km = states_of(net).km_new_mapping
        if km is not None:
            km(x, saddr, sport)


def remake(net: Net, skb: sk_buff, packet: bytes) -> sk_buff | None:
    """The packet that a received one became, data at its IP header. Takes ownership of skb.

    None: out of memory, or not a packet.
    """
    mac = b""
    if skb_mac_header_was_set(skb) and skb.mac_len:
        skb_push(skb, -skb_network_offset(skb) + skb.mac_len)
        mac = skb_copy_bits(skb, 0, skb.mac_len)
    made = skb_from_bytes(net.skb_small, mac + packet, HEADROOM)
    if made is None:
        drop(net, skb, "XfrmInError")
        return None
    skb_reset_mac_header(made)
    skb_pull(made, len(mac))
    skb_reset_network_header(made)
    made.dev, made.protocol, made.pkt_type = skb.dev, skb.protocol, skb.pkt_type
    made.mac_len, made.skb_iif = len(mac), skb.skb_iif
    made.mark, made.priority, made.tstamp_ns = skb.mark, skb.priority, skb.tstamp_ns
    made.ip_summed = CHECKSUM_NONE
    return made


def transport_input(
    net: Net, skb: sk_buff, x: xfrm_state, family: int, nexthdr: int, payload: bytes
) -> None:
    """net/ipv4/xfrm4_input.c xfrm4_transport_finish, xfrm6_: the packet again, without ESP.

    Takes ownership of skb.
    """
    hlen = -skb_network_offset(skb)
    skb_push(skb, hlen)
    if x.encap is not None:
        hlen -= UDP_HLEN
    head = bytearray(skb_copy_bits(skb, 0, hlen))
    size = hlen + len(payload)
    if family == AF_INET:
        head[9] = nexthdr
        head[2:4] = size.to_bytes(2, "big")
        head[10:12] = b"\0\0"
        head[10:12] = ip_compute_csum(head).to_bytes(2, "big")
    else:
        head[ip6cb_nhoff(skb)] = nexthdr
        head[4:6] = (size - 40).to_bytes(2, "big")
    cb, dst = skb.cb, skb.dst
    made = remake(net, skb, bytes(head) + payload)
    if made is None:
        return
    bad = ip_hdr_validate(made) if family == AF_INET else ipv6_hdr_validate(made, True)
    if bad:
        kfree_skb_reason(net, made, drop_reason.SKB_DROP_REASON_IP_INHDR)
    else:
        made.cb, made.dst = cb, dst
        if x.encap is not None:  # NAT changed the addresses that its checksum covers
            made.ip_summed = CHECKSUM_UNNECESSARY
        skb_set_transport_header(made, hlen)
        deliver(net, made, x, family)
    consume_skb(skb)


def tunnel_input(
    net: Net, skb: sk_buff, x: xfrm_state, family: int, nexthdr: int, payload: bytes
) -> None:
    """net/xfrm/xfrm_input.c xfrm_inner_mode_input: the inner packet. Takes ownership of skb."""
    version, proto = INSIDE.get(nexthdr, (0, 0))
    least = 20 if version == 4 else 40
    if not version or len(payload) < least or payload[0] >> 4 != version:
        return drop(net, skb, "XfrmInStateModeError")
    off = skb_network_offset(skb)
    tos = iphdr_at(skb, off).tos if family == AF_INET else ipv6hdr_at(skb, off).priority
    made = remake(net, skb, payload)
    if made is None:
        return
    made.protocol, made.pkt_type = proto, PACKET_HOST
    if x.flags & XFRM_STATE_DECAP_DSCP:
        copy_dscp(made, version, tos)
    inner = payload[1] if version == 4 else payload[0] << 4 & 0xF0 | payload[1] >> 4
    if not x.flags & XFRM_STATE_NOECN and tos & INET_ECN_CE == INET_ECN_CE and inner & INET_ECN_CE:
        set_mark(made, proto, 0, INET_ECN_CE)
    deliver(net, made, x, 0)
    consume_skb(skb)


def copy_dscp(skb: sk_buff, version: int, tos: int) -> None:
    """include/net/dsfield.h ipv4_copy_dscp: the DSCP of the outer header becomes the inner one."""
    if version == 4:
        iph = iphdr_at(skb, 0)
        before = iph.tos
        iph.tos = tos & 0xFC | before & 3
        iph.check = csum_replace2(iph.check, before, iph.tos)
    else:
        ip6h = ipv6hdr_at(skb, 0)
        ip6h.priority = tos & 0xFC | ip6h.priority & 3


def deliver(net: Net, skb: sk_buff, x: xfrm_state, family: int) -> None:
    """Receive a packet that states decrypted; `family` 0: as from a device.

    Takes ownership of skb.
    """
    xfrm = net.xfrm
    before = xfrm.sec_path
    xfrm.sec_path = (*before, x)
    xfrm.nopolicy = False
    try:
        if not family:
            netif_receive_skb(skb)
        elif family == AF_INET:
            if (
                not net.nf_hooks[NF_INET_PRE_ROUTING]
                or nf_hook(NF_INET_PRE_ROUTING, net, None, skb, skb.dev, None, again) == 1
            ):
                dst_input(skb)
        else:
            hooks = net.ipv6.nf_hooks[NF_INET_PRE_ROUTING]
            if (
                not hooks
                or nf_hook_list(
                    *(hooks, NFPROTO_IPV6, NF_INET_PRE_ROUTING, net, None, skb),
                    *(skb.dev, None, again),
                )
                == 1
            ):
                dst_input(skb)
    finally:
        xfrm.sec_path = before
        xfrm.nopolicy = not before and xfrm_nopolicy(xfrm)


def again(net: Net, sk: object, skb: sk_buff) -> int:
    """net/ipv4/xfrm4_input.c xfrm4_rcv_encap_finish. Takes ownership of skb."""
    return dst_input(skb)


# --- errors ---------------------------------------------------------------------------------------


def esp4_err(skb: sk_buff, info: int) -> int:
    """net/ipv4/esp4.c: an ICMP error about a packet of ours, whose header is at data. Borrows skb.

    Only path MTU and redirects are accepted, and only with an SPI of ours.
    """
    net: Net = skb.dev.net
    icmph = icmp_hdr(skb)
    needed = (
        icmph.type == icmp_codes.ICMP_DEST_UNREACH and icmph.code == icmp_codes.ICMP_FRAG_NEEDED
    )
    if not needed and icmph.type != icmp_codes.ICMP_REDIRECT:
        return 0
    iph = iphdr_at(skb, 0)
    at = iph.ihl * 4
    if skb.len < at + 4:
        return 0
    spi = int.from_bytes(skb_copy_bits(skb, at, 4), "big")
    if xfrm_state_lookup(net, iph.daddr, spi, IPPROTO_ESP, AF_INET) is None:
        return 0
    if needed:
        ipv4_update_pmtu(skb, net, info, 0, IPPROTO_ESP)
    else:
        ipv4_redirect(skb, net, 0, IPPROTO_ESP)
    return 0


def esp6_err(skb: sk_buff, opt: object, kind: int, code: int, offset: int, info: int) -> int:
    """net/ipv6/esp6.c: as esp4_err. Borrows skb."""
    net: Net = skb.dev.net
    if kind not in (ICMPV6_PKT_TOOBIG, NDISC_REDIRECT) or skb.len < offset + 4:
        return 0
    spi = int.from_bytes(skb_copy_bits(skb, offset, 4), "big")
    if xfrm_state_lookup(net, ipv6hdr_at(skb, 0).daddr, spi, IPPROTO_ESP, AF_INET6) is None:
        return 0
    if kind == NDISC_REDIRECT:
        ip6_redirect(skb, net, skb.dev.ifindex)
    else:
        ip6_update_pmtu(skb, net, info, 0)
    return 0


# --- the module -----------------------------------------------------------------------------------

esp4_protocol = net_protocol(xfrm4_rcv, esp4_err, True)
esp6_protocol = inet6_protocol(xfrm6_rcv, esp6_err, flags=INET6_PROTO_NOPOLICY | INET6_PROTO_FINAL)


def xfrm_net_init(net: Net) -> None:
    """net/xfrm/xfrm_policy.c: states and ESP in a namespace."""
    net.xfrm.state = netns_xfrm_state()
    net.xfrm.bundle = xfrm_bundle_lookup
    net.xfrm.input = xfrm_input
    inet_add_protocol(net, esp4_protocol, IPPROTO_ESP)
    inet6_add_protocol(net, esp6_protocol, IPPROTO_ESP)


xfrm_net_ops = pernet_operations(init=xfrm_net_init)


def xfrm_init(machine: Machine) -> None:
    """Load the modules esp4 and esp6, once; the first state or template does."""
    load_module(machine, "esp", xfrm_net_ops)
