"""Between contexts, IP and sockets: sending packets, timers, and updates of a socket's state."""

from __future__ import annotations

import errno

from fastpath.base.skbuff import (
    CHECKSUM_NONE,
    alloc_skb,
    kfree_skb,
    sk_buff,
    skb_add_data,
    skb_append_linear,
    skb_set_transport_header,
)
from stack.core.dst import dst_mtu
from stack.core.netdevice import LL_MAX_HEADER
from stack.core.sock import (
    sk_error_report,
    sk_free,
    sk_state_change,
    sk_write_space,
    sock_owned_by_user,
)
from stack.core.sock_flags import SOCK_DEAD, SOCK_NOSPACE
from stack.core.tcp_states import TCP_CLOSE, TCP_ESTABLISHED, TCP_SYN_SENT
from stack.core.timer import mod_timer, timer_delete, timer_list
from stack.core.uapi import AF_INET, IP_HLEN, IPPROTO_XTP, RCV_SHUTDOWN, SHUTDOWN_MASK, SOCK_DGRAM
from stack.inet.flow import flowi
from stack.inet.inet_sock import inet_sock
from stack.ipv4.ip_output import ip_build_and_send_pkt, ip_queue_xmit
from stack.ipv4.route import ip_route_output_flow, ip_sock_rt_scope, rtable
from stack.xtp import context
from stack.xtp.context import xtp_backlog, xtp_context, xtp_deadline
from stack.xtp.packet import XTP_HLEN
from stack.xtp.timeout import xtp_timeout
from stack.xtp.xtp_sock import xtp_assoc, xtp_forget_assoc, xtp_hash_assoc, xtp_sock

# --- packets out -----------------------------------------------------------------------------


def xtp_alloc_skb(sk: inet_sock, packet: bytes) -> sk_buff | None:
    """Build an sk_buff of a packet, with headroom for the lower headers; None without memory."""
    net = sk.net
    size = len(packet)
    headroom = LL_MAX_HEADER + 80
    linear = min(size, net.skb_small.buf_bytes - headroom)
    skb = alloc_skb(net.skb_small, linear, headroom)
    if skb is None:
        return None
    skb_append_linear(skb, packet, 0, linear)
    if (
        linear < size
        and skb_add_data(skb, net.skb_pages, packet, linear, size - linear) < size - linear
    ):
        kfree_skb(skb)
        return None
    skb_set_transport_header(skb, 0)
    skb.ip_summed = CHECKSUM_NONE
    return skb


def xtp_transmit(assoc: xtp_assoc, packet: bytes) -> None:
    """Send a packet of an association. A failure counts as packet loss."""
    sk = assoc.sk
    skb = xtp_alloc_skb(sk, packet)
    if skb is None:
        return
    sk.net.xtp.mib.OutPkts += 1
    if sk.sk_type == SOCK_DGRAM:
        xtp_send_to(sk, skb, assoc.saddr, assoc.daddr)
        return
    dst = sk.sk_dst_cache
    skb.ignore_df = dst is not None and len(packet) + IP_HLEN > dst_mtu(dst)
    ip_queue_xmit(sk, skb, None)


def xtp_route(sk: inet_sock, saddr: int, daddr: int) -> rtable:
    """The route to daddr. Raises: OSError as ip_route_output_flow."""
    fl4 = flowi(AF_INET, daddr, saddr, sk.sk_bound_dev_if, sk.tos & 0x1C, IPPROTO_XTP)
    fl4.flowi_mark = sk.sk_mark
    fl4.flowi_scope = ip_sock_rt_scope(sk)
    return ip_route_output_flow(sk.net, fl4, sk)


def xtp_send_to(sk: inet_sock, skb: sk_buff, saddr: int, daddr: int) -> int:
    """Send a packet outside connections. Takes ownership of skb. 0 or a negative errno."""
    try:
        rt = xtp_route(sk, saddr, daddr)
    except OSError as exc:
        kfree_skb(skb)
        return -(exc.errno or errno.EHOSTUNREACH)
    skb.dst = rt
    skb.ignore_df = skb.len + IP_HLEN > dst_mtu(rt)
    return ip_build_and_send_pkt(skb, sk, saddr, daddr, None, sk.tos)


def xtp_mss(mtu: int) -> int:
    """Bytes of data that fit a DATA packet on a path."""
    return max(mtu - IP_HLEN - XTP_HLEN, 8)


# --- associations ------------------------------------------------------------------------------


def xtp_new_assoc(sk: xtp_sock, ctx: xtp_context, saddr: int, daddr: int) -> xtp_assoc:
    """Create the association of a context, with the socket's options, a timer and table entries."""
    ctx.noerr = sk.noerr
    ctx.noflow = sk.noflow
    ctx.nocheck = sk.nocheck
    ctx.fastnak = sk.fastnak
    ctx.dreq = sk.dreq
    ctx.rate = sk.rate
    ctx.burst = sk.burst
    ctx.inrate = sk.inrate
    ctx.inburst = sk.inburst
    ctx.sort = sk.sort
    ctx.rcvbuf = sk.sk_rcvbuf
    assoc = xtp_assoc(ctx, sk, saddr, daddr)
    assoc.timer = timer_list(sk.net.machine, xtp_timer, 0, assoc)
    xtp_hash_assoc(assoc)
    return assoc


def xtp_timer(timer: timer_list) -> None:
    """The timer of an association's next deadline."""
    assoc: xtp_assoc = timer.data
    sk = assoc.sk
    if sock_owned_by_user(sk):
        assoc.timer_missed = True  # for xtp_release_cb
        return
    xtp_run_timers(assoc)


def xtp_run_timers(assoc: xtp_assoc) -> None:
    """Handle expired timers. Call with the socket owned or unowned."""
    ctx = assoc.ctx
    retransmits = ctx.retransmits
    xtp_timeout(ctx, assoc.sk.net.clock.now_ns())
    assoc.sk.net.xtp.mib.Retransmits += ctx.retransmits - retransmits
    xtp_push(assoc)


def xtp_release_cb(sk: xtp_sock) -> None:
    """proto.release_cb: run timers that expired while the socket was owned."""
    assoc = sk.assoc
    if assoc is not None and assoc.timer_missed:
        assoc.timer_missed = False
        xtp_run_timers(assoc)


def xtp_push(assoc: xtp_assoc) -> None:
    """After any change of the context: send its packets, set its timer, update its socket."""
    ctx = assoc.ctx
    while ctx.out:
        packets = ctx.out
        ctx.out = []
        for packet in packets:
            xtp_transmit(assoc, packet)
    deadline = xtp_deadline(ctx)
    if deadline:
        mod_timer(assoc.timer, deadline)
    elif assoc.timer.pending:
        timer_delete(assoc.timer)
    if assoc.sk.sk_type == SOCK_DGRAM:
        xtp_datagram_over(assoc)
    else:
        xtp_tell_socket(assoc)


def xtp_datagram_over(assoc: xtp_assoc) -> None:
    """Wake the sender of an acknowledged datagram when its context ends."""
    sk = assoc.sk
    ctx = assoc.ctx
    if ctx.state != context.XTP_CLOSED:
        return
    if not ctx.ctimer_ns:
        xtp_forget_assoc(assoc)
    if sk.pending_acks.pop(ctx.key, None) is None:
        return
    sk.sk_wmem_queued -= ctx.snd_nxt
    if ctx.err and not assoc.waited and not sk.sk_flags & SOCK_DEAD:
        sk.sk_err = ctx.err  # the sender did not wait
        sk_error_report(sk)
    sk_state_change(sk)


def xtp_tell_socket(assoc: xtp_assoc) -> None:
    """Update a stream's socket after its context: state, room for writers, the end."""
    sk = assoc.sk
    ctx = assoc.ctx
    if sk.assoc is not assoc:
        if ctx.state == context.XTP_CLOSED and not ctx.ctimer_ns:
            xtp_forget_assoc(assoc)
        return
    changed = False
    if ctx.state == context.XTP_ACTIVE and sk.sk_state == TCP_SYN_SENT:
        sk.sk_state = TCP_ESTABLISHED
        changed = True
    queued = xtp_backlog(ctx)
    if queued < sk.sk_wmem_queued:
        sk.sk_wmem_queued = queued
        if sk.sk_flags & SOCK_NOSPACE:
            sk_write_space(sk)
    sk.sk_wmem_queued = queued
    if 0 <= ctx.r_fin <= ctx.rcv_nxt and not sk.sk_shutdown & RCV_SHUTDOWN:
        sk.sk_shutdown |= RCV_SHUTDOWN
        changed = True
    if ctx.state == context.XTP_CLOSED:
        changed |= xtp_closed(assoc)
    elif sk.sk_flags & SOCK_DEAD and not ctx.orphan_ns:
        ctx.orphan_ns = sk.net.clock.now_ns() + context.XTP_ORPHAN_NS
        mod_timer(assoc.timer, xtp_deadline(ctx))
    if changed and not sk.sk_flags & SOCK_DEAD:
        sk_state_change(sk)


def xtp_closed(assoc: xtp_assoc) -> bool:
    """A stream's context has ended: set the socket's state, and free an orphan."""
    sk = assoc.sk
    ctx = assoc.ctx
    changed = False
    if sk.sk_state != TCP_CLOSE:
        sk.sk_state = TCP_CLOSE
        sk.sk_shutdown = SHUTDOWN_MASK
        changed = True
        if ctx.err and not sk.sk_flags & SOCK_DEAD:
            sk.sk_err = ctx.err
            sk_error_report(sk)
    if not ctx.ctimer_ns:
        xtp_forget_assoc(assoc)
        if sk.sk_flags & SOCK_DEAD:
            sk.assoc = None
            sk_free(sk)
    return changed
