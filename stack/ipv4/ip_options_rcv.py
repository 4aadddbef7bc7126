"""Options of received and forwarded packets (net/ipv4/ip_options.c, ip_input.c)."""

from __future__ import annotations

import errno

from fastpath.base.skbuff import PACKET_HOST, sk_buff, skb_cow, skb_network_offset, skb_store_bits
from fastpath.net.hdr import ip_hdr, ip_send_check
from stack.core.netdevice import net_device
from stack.core.uapi import IP_HLEN, RTN_LOCAL, RTN_UNICAST
from stack.inet.inet_sock import ip_options
from stack.ipv4.icmp import icmp_send
from stack.ipv4.icmp_codes import ICMP_PARAMETERPROB
from stack.ipv4.ip_options import OptionError, fib_compute_spec_dst, ip_options_compile
from stack.ipv4.netns import in_dev_conf
from stack.ipv4.route import ip_rt_get_source
from stack.ipv4.route_input import ip_route_input


def ip_rcv_options(skb: sk_buff, dev: net_device) -> bool:
    """net/ipv4/ip_input.c: parse and apply the options of a received packet; True = drop it."""
    net = dev.net
    if not skb_cow(skb, skb.headroom):  # options are written to the header
        net.mib.ip.InDiscards += 1
        return True
    iph = ip_hdr(skb)
    skb.cb = opt = ip_options(bytes(iph.options))
    try:
        ip_options_compile(net, opt, True, fib_compute_spec_dst(skb))
    except OptionError as exc:
        ip_options_write(skb, opt)
        net.mib.ip.InHdrErrors += 1
        icmp_send(skb, ICMP_PARAMETERPROB, 0, exc.pointer << 24)
        return True
    ip_options_write(skb, opt)
    if opt.srr:
        in_dev = dev.ip_ptr
        if in_dev is None or not in_dev_conf(in_dev, "accept_source_route"):
            return True
        if ip_options_rcv_srr(skb, dev, opt):
            return True
    return False


def ip_options_write(skb: sk_buff, opt: ip_options) -> None:
    """Write a changed option area back to the packet.

    As on Linux, the header's checksum is updated only when the packet is forwarded: raw sockets
    and the quotation in an ICMP error see the sender's checksum.
    """
    if opt.is_changed:
        skb_store_bits(skb, skb_network_offset(skb) + IP_HLEN, bytes(opt.data))


def ip_options_rcv_srr(skb: sk_buff, dev: net_device, opt: ip_options) -> int:
    """net/ipv4/ip_options.c: follow a source route: 0, or -EINVAL to drop."""
    iph = ip_hdr(skb)
    rt = skb.dst
    if skb.pkt_type != PACKET_HOST:
        return -errno.EINVAL
    if rt.rt_type == RTN_UNICAST:
        if not opt.is_strictroute:
            return 0
        icmp_send(skb, ICMP_PARAMETERPROB, 0, 16 << 24)  # the destination address
        return -errno.EINVAL
    if rt.rt_type != RTN_LOCAL:
        return -errno.EINVAL
    at = opt.srr - IP_HLEN
    buf = opt.data
    ptr, space = buf[at + 2], buf[at + 1]
    nexthop = 0
    while ptr <= space:
        if ptr + 3 > space:
            icmp_send(skb, ICMP_PARAMETERPROB, 0, (opt.srr + 2) << 24)
            return -errno.EINVAL
        nexthop = int.from_bytes(buf[at + ptr - 1 : at + ptr + 3], "big")
        skb.dst = None
        reason = ip_route_input(skb, nexthop, iph.saddr, iph.tos, dev)
        rt2 = skb.dst
        if reason or rt2 is None or rt2.rt_type not in (RTN_UNICAST, RTN_LOCAL):
            skb.dst = rt
            return -errno.EINVAL
        if rt2.rt_type != RTN_LOCAL:
            break
        iph.daddr = nexthop
        opt.is_changed = True
        ptr += 4
    if ptr <= space:
        opt.srr_is_hit = True
        opt.nexthop = nexthop
        opt.is_changed = True
    return 0


def ip_forward_options(skb: sk_buff, opt: ip_options) -> None:
    """net/ipv4/ip_options.c: write the outgoing address into a forwarded packet's options."""
    rt = skb.dst
    buf = opt.data
    source = ip_rt_get_source(skb, rt).to_bytes(4, "big")
    if opt.rr_needaddr:
        at = opt.rr - IP_HLEN
        ptr = buf[at + 2]
        buf[at + ptr - 5 : at + ptr - 1] = source
        opt.is_changed = True
    if opt.srr_is_hit:
        at = opt.srr - IP_HLEN
        ptr, space = buf[at + 2], buf[at + 1]
        want = opt.nexthop.to_bytes(4, "big")
        while ptr + 3 <= space and buf[at + ptr - 1 : at + ptr + 3] != want:
            ptr += 4
        if ptr + 3 <= space:
            ip_hdr(skb).daddr = opt.nexthop
            buf[at + ptr - 1 : at + ptr + 3] = source
            buf[at + 2] = ptr + 4
            opt.is_changed = True
        # As in Linux, only with a source route. Otherwise the time stamp's address is kept.
        if opt.ts_needaddr:
            at = opt.ts - IP_HLEN
            ptr = buf[at + 2]
            buf[at + ptr - 9 : at + ptr - 5] = source
            opt.is_changed = True
    if opt.is_changed:
        ip_options_write(skb, opt)
        ip_send_check(ip_hdr(skb))
        opt.is_changed = False
