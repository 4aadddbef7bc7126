"""Multicast membership: sockets' groups, and IGMP v1, v2, v3 towards routers.

net/ipv4/igmp.c; RFC 1112, 2236, 3376. The filters of a group's listeners and the reports of their
changes are in stack/inet/mc_filter.py.

    IP_ADD_MEMBERSHIP ... -> ip_mc_join_group, ip_mc_leave_group, ip_mc_source, ip_mc_msfilter
        ip_mc_change                    one listener of the interface's group changed its filter
            igmp_group_added            first one: the NIC has to pass the group
            igmp_filter_changed         report it `mr_qrv` times (igmp_start_timer)
            igmp_group_dropped          last one: leave
    igmp_timer_expire -> igmp_timer_run -> igmp_send_report, igmpv3_sendpack -> igmp_transmit
    ip_local_deliver_finish => igmp_rcv
        igmp_heard_query                answer after a random time, in the version of the query
        igmp_heard_report               another host answered (v1, v2): cancel ours
    raw_v4_input, UDP's delivery to groups -> ip_mc_sf_allow    does the socket want this sender?

    v1, v2:  | Type 1 | Max Resp Code 1 | Checksum 2 | Group Address 4 |
    v3 report: | Type 0x22 1 | 0 1 | Checksum 2 | 0 2 | Number of Group Records 2 | records |
    record:    | Record Type 1 | 0 1 | Number of Sources 2 | Multicast Address 4 | sources 4 each |

State: `inet_sock.mc_list` has a socket's groups, `in_device.mc_list` an interface's (ip_mc_list),
`igmp_state` which old version its routers speak. Read ip_mc_change first.
"""

from __future__ import annotations

import errno
from collections.abc import Collection, Iterable

from fastpath.base.csum import csum_fold, csum_partial, ip_compute_csum
from fastpath.base.skbuff import (
    CHECKSUM_UNNECESSARY,
    PACKET_BROADCAST,
    PACKET_MULTICAST,
    alloc_skb,
    consume_skb,
    pskb_may_pull,
    sk_buff,
    skb_copy_bits,
    skb_put_data,
    skb_set_transport_header,
)
from fastpath.net.hdr import ip_hdr, ip_push
from stack.core import drop_reason, netdevice, uapi
from stack.core.dev import dev_mc_add, dev_mc_del
from stack.core.dev_notifier import register_netdevice_notifier
from stack.core.drop_reason import kfree_skb_reason
from stack.core.errors import os_error
from stack.core.netdevice import net_device
from stack.core.rows import narrow, row, state
from stack.core.sock import sock_kfree_s, sock_kmalloc
from stack.core.time64 import NSEC_PER_MSEC, NSEC_PER_SEC
from stack.core.timer import TIMER_DEFERRABLE, mod_timer, timer_delete, timer_list
from stack.inet.flow import flowi
from stack.inet.inet_sock import inet_sock
from stack.inet.mc_filter import (
    ANY_SOURCE,
    MCAST_EXCLUDE,
    MCAST_INCLUDE,
    NOBODY,
    GroupRecord,
    current_record,
    ip_mc_socklist,
    mc_changes,
    mc_reports,
    mc_state,
    mc_time_code,
)
from stack.inet.protocol import net_protocol
from stack.ipv4.addr import ipv4_is_local_multicast, ipv4_is_multicast
from stack.ipv4.arp_send import arp_mc_map
from stack.ipv4.devinet import in_device
from stack.ipv4.fib import ip_dev_find
from stack.ipv4.ip_output import __ip_select_ident, ip_local_out
from stack.ipv4.mc_list import ip_mc_list, ip_mc_lookup
from stack.ipv4.netns import in_dev_conf
from stack.ipv4.pim import pim_rcv_v1
from stack.ipv4.route import IP_DF, ip_route_output_key
from stack.ipv4.rt_cache import rt_cache_flush
from stack.net import Net

IGMP_PIM = 0x14
IGMP_HOST_MEMBERSHIP_REPORT = 0x12
IGMPV2_HOST_MEMBERSHIP_REPORT = 0x16
IGMP_HOST_LEAVE_MESSAGE = 0x17
IGMPV3_HOST_MEMBERSHIP_REPORT = 0x22
IGMPV3_ALL_MCR = 0xE0000016

ROUTER_ALERT = b"\x94\x04\x00\x00"
IP_MC_SOCKLIST_BYTES = 48  # sizeof(struct ip_mc_socklist) on a 64-bit machine
QUERY_INTERVAL_NS = 125 * NSEC_PER_SEC
QUERY_RESPONSE_NS = 10 * NSEC_PER_SEC


@state
class igmp_state:
    """IGMP's state of an interface besides its groups (members mr_* of struct in_device)."""

    mr_qrv: int
    mr_gq_timer: timer_list
    mr_v1_seen: int = row(0)
    mr_v2_seen: int = row(0)


def mr(in_dev: in_device) -> igmp_state:
    """The interface's IGMP state, made on first use."""
    if in_dev.igmp is None:
        net = in_dev.dev.net
        timer = timer_list(net.machine, igmp_gq_timer_expire, TIMER_DEFERRABLE, data=in_dev)
        in_dev.igmp = igmp_state(net.sysctl.igmp_qrv, timer)
    return in_dev.igmp


def forced(in_dev: in_device, version: int) -> bool:
    """Whether force_igmp_version of `all` or of the interface forces `version`."""
    every = in_dev.dev.net.ipv4.devconf_all
    return version in (every.force_igmp_version, in_dev.cnf.force_igmp_version)


def igmp_v1_seen(in_dev: in_device) -> bool:
    """net/ipv4/igmp.c IGMP_V1_SEEN"""
    return forced(in_dev, 1) or mr(in_dev).mr_v1_seen > in_dev.dev.net.clock.now_ns()


def igmp_v2_seen(in_dev: in_device) -> bool:
    """net/ipv4/igmp.c IGMP_V2_SEEN"""
    return forced(in_dev, 2) or mr(in_dev).mr_v2_seen > in_dev.dev.net.clock.now_ns()


def unsolicited_ns(in_dev: in_device, version: int) -> int:
    """net/ipv4/igmp.c unsolicited_report_interval: ns between unsolicited reports."""
    return in_dev_conf(in_dev, f"igmpv{version}_unsolicited_report_interval") * NSEC_PER_MSEC


# --- sockets -------------------------------------------------------------------------------


def ip_mc_find_dev(net: Net, group: int, addr: int) -> net_device | None:
    """net/ipv4/igmp.c: the interface of a membership: by its address, else by the route."""
    if addr:
        return ip_dev_find(net, addr)
    try:
        return ip_route_output_key(net, flowi(uapi.AF_INET, group)).dev
    except OSError:
        return None


def ifindex_of(sk: inet_sock, group: int, ifindex: int, addr: int = 0) -> int:
    """The interface of a membership: the one named, else by address or route. Raises: ENODEV."""
    if ifindex:
        return ifindex
    dev = ip_mc_find_dev(sk.net, group, addr)
    if dev is None:
        raise os_error(errno.ENODEV, "no interface for this group")
    return dev.ifindex


def need_group(group: int) -> None:
    """Raises: OSError EINVAL."""
    if not ipv4_is_multicast(group):
        raise os_error(errno.EINVAL, "not a multicast group")


def _in_dev(sk: inet_sock, ifindex: int) -> in_device:
    """The IPv4 side of the interface of a membership. Raises: OSError ENODEV."""
    dev = sk.net.dev_by_index.get(ifindex)
    if dev is None or dev.ip_ptr is None:
        raise os_error(errno.ENODEV, "no interface for this group")
    return dev.ip_ptr


def _membership(sk: inet_sock, group: int, ifindex: int) -> ip_mc_socklist | None:
    for ml in sk.mc_list:
        if ml.multiaddr == group and ml.ifindex == ifindex:
            return ml
    return None


def ip_mc_join_group(sk: inet_sock, group: int, ifindex: int, mode: int = MCAST_EXCLUDE) -> None:
    """net/ipv4/igmp.c: join for a socket. Raises: OSError EINVAL, ENODEV, EADDRINUSE, ENOBUFS."""
    need_group(group)
    in_dev = _in_dev(sk, ifindex)
    if _membership(sk, group, ifindex) is not None:
        raise os_error(errno.EADDRINUSE, "already a member")
    if len(sk.mc_list) >= sk.net.sysctl.igmp_max_memberships:
        raise os_error(errno.ENOBUFS, "igmp_max_memberships reached")
    sock_kmalloc(sk, IP_MC_SOCKLIST_BYTES)
    ml = ip_mc_socklist(group, ifindex, mode)
    sk.mc_list = [*sk.mc_list, ml]
    ip_mc_change(in_dev, group, None, ml.state())


def ip_mc_leave_group(sk: inet_sock, group: int, ifindex: int) -> None:
    """net/ipv4/igmp.c: leave. Raises: OSError EADDRNOTAVAIL."""
    ml = _membership(sk, group, ifindex)
    if ml is None:
        raise os_error(errno.EADDRNOTAVAIL, "not a member of this group")
    sk.mc_list.remove(ml)
    sock_kfree_s(sk, IP_MC_SOCKLIST_BYTES)
    _release_membership(sk.net, ml)


def _release_membership(net: Net, ml: ip_mc_socklist) -> None:
    dev = net.dev_by_index.get(ml.ifindex)
    if dev is not None and dev.ip_ptr is not None:
        ip_mc_change(dev.ip_ptr, narrow(ml.multiaddr), ml.state(), None)


def ip_mc_drop_socket(sk: inet_sock) -> None:
    """net/ipv4/igmp.c: a socket closes: leave all its groups."""
    while sk.mc_list:
        _release_membership(sk.net, sk.mc_list.pop())


def ip_mc_source(
    sk: inet_sock, add: bool, omode: int, group: int, source: int, ifindex: int
) -> None:
    """net/ipv4/igmp.c: source-specific membership.

    `omode` MCAST_INCLUDE: (join, leave) a source; MCAST_EXCLUDE: (block, unblock) one. Raises:
    OSError EINVAL, ENODEV, EADDRNOTAVAIL, ENOBUFS.
    """
    need_group(group)
    in_dev = _in_dev(sk, ifindex)
    ml = _membership(sk, group, ifindex)
    if ml is None:
        raise os_error(errno.EINVAL, "not a member of this group")
    before = ml.state()
    ml.set_mode(omode)
    ip_mc_change(in_dev, group, before, ml.state())
    if not add and omode == MCAST_INCLUDE and ml.sflist == [source]:
        ip_mc_leave_group(sk, group, ifindex)  # the filter accepts no source
        return
    before = ml.state()
    ml.edit(add, source, sk.net.sysctl.igmp_max_msf, "igmp_max_msf")
    ip_mc_change(in_dev, group, before, ml.state())


def ip_mc_msfilter(
    sk: inet_sock, group: int, ifindex: int, addr: int, mode: int, sources: Collection[int]
) -> None:
    """net/ipv4/igmp.c: replace a membership's source filter.

    Without `ifindex` the interface is that of `addr`. Raises: OSError EINVAL, ENODEV,
    EADDRNOTAVAIL.
    """
    need_group(group)
    if mode not in (MCAST_INCLUDE, MCAST_EXCLUDE):
        raise os_error(errno.EINVAL, f"{mode} is no filter mode")
    ifindex = ifindex_of(sk, group, ifindex, addr)
    in_dev = _in_dev(sk, ifindex)
    if mode == MCAST_INCLUDE and not sources:
        ip_mc_leave_group(sk, group, ifindex)  # the filter accepts no source
        return
    ml = _membership(sk, group, ifindex)
    if ml is None:
        raise os_error(errno.EINVAL, "not a member of this group")
    before = ml.state()
    ml.replace(mode, sources)
    ip_mc_change(in_dev, group, before, ml.state())


def ip_mc_sf_allow(sk: inet_sock, loc_addr: int, rmt_addr: int, dif: int) -> bool:
    """net/ipv4/igmp.c: does the socket want datagrams of this group from this source?"""
    if not ipv4_is_multicast(loc_addr):
        return True
    for ml in sk.mc_list:
        if ml.multiaddr == loc_addr and ml.ifindex == dif:
            listed = rmt_addr in ml.sflist
            return listed if ml.sfmode == MCAST_INCLUDE else not listed
    return sk.mc_all


# --- interfaces ----------------------------------------------------------------------------


def ip_mc_change(in_dev: in_device, addr: int, old: mc_state | None, new: mc_state | None) -> None:
    """net/ipv4/igmp.c (ip_mc_add_src, ip_mc_del_src): change a listener's filter of a group.

    `old` None: the listener joins. `new` None: it leaves.
    """
    im = ip_mc_lookup(in_dev, addr)
    if im is None:
        if new is None:
            return
        im = ip_mc_list(in_dev, addr, igmp_timer_expire)
        in_dev.mc_list.insert(0, im)
        rt_cache_flush(in_dev.dev.net)  # cached routes depend on memberships
        if in_dev.dev.flags & netdevice.IFF_UP:
            igmp_group_added(im)
    before = im.change(old, new)
    if im.filter.users:
        igmp_filter_changed(im, before)
        return
    in_dev.mc_list.remove(im)
    rt_cache_flush(in_dev.dev.net)
    igmp_group_dropped(im, before)


def ip_mc_inc_group(in_dev: in_device, addr: int) -> None:
    """net/ipv4/igmp.c: the stack itself listens to a group."""
    ip_mc_change(in_dev, addr, None, ANY_SOURCE)


def ip_mc_dec_group(in_dev: in_device, addr: int) -> None:
    """net/ipv4/igmp.c: undo ip_mc_inc_group."""
    ip_mc_change(in_dev, addr, ANY_SOURCE, None)


def igmp_group_added(im: ip_mc_list) -> None:
    """net/ipv4/igmp.c: add the group to the NIC's filter."""
    dev = im.interface.dev
    if not im.loaded:
        im.loaded = True
        if dev.addr_len and not dev.flags & netdevice.IFF_LOOPBACK:
            dev_mc_add(dev, arp_mc_map(im.multiaddr, dev))


def igmp_group_unload(im: ip_mc_list) -> None:
    """Take the group out of the NIC's filter."""
    dev = im.interface.dev
    timer_delete(im.timer)
    if im.loaded:
        im.loaded = False
        if dev.addr_len and not dev.flags & netdevice.IFF_LOOPBACK:
            dev_mc_del(dev, arp_mc_map(im.multiaddr, dev))


def igmp_unreported(net: Net, group: int) -> bool:
    """Whether the group is never reported: all-hosts (RFC 3376 6), by sysctl 224.0.0.0/24."""
    return group == uapi.INADDR_ALLHOSTS_GROUP or (
        ipv4_is_local_multicast(group) and not net.sysctl.igmp_link_local_mcast_reports
    )


def igmp_reportable(im: ip_mc_list) -> bool:
    """Whether to report the group, if the device has multicast."""
    dev = im.interface.dev
    return (
        not igmp_unreported(dev.net, im.multiaddr)
        and not dev.flags & netdevice.IFF_LOOPBACK
        and bool(dev.flags & netdevice.IFF_MULTICAST)
    )


def igmp_filter_changed(im: ip_mc_list, before: mc_state) -> None:
    """net/ipv4/igmp.c (igmp_ifc_event): report a filter's change qrv times, at random intervals."""
    in_dev = im.interface
    after = im.filter.state()
    if after == before or not igmp_reportable(im) or not in_dev.dev.flags & netdevice.IFF_UP:
        return
    if igmp_v1_seen(in_dev) or igmp_v2_seen(in_dev):
        if before.empty:
            im.unsolicit_count = mr(in_dev).mr_qrv
            im.reporter = False
            igmp_start_timer(im, unsolicited_ns(in_dev, 2))
        return
    im.changes.changed(before, after, mr(in_dev).mr_qrv)
    igmp_timer_run(im)


def igmp_group_dropped(im: ip_mc_list, before: mc_state) -> None:
    """net/ipv4/igmp.c: the last listener left: tell the router."""
    in_dev = im.interface
    reporter = im.reporter
    igmp_group_unload(im)
    if not igmp_reportable(im) or not in_dev.dev.flags & netdevice.IFF_UP:
        return
    if igmp_v1_seen(in_dev):
        return
    if igmp_v2_seen(in_dev):
        if reporter:
            igmp_send_report(in_dev, IGMP_HOST_LEAVE_MESSAGE, im.multiaddr)
        return
    # The group is no longer in in_dev.mc_list; its timer repeats the leave report.
    if im.changes.changed(before, NOBODY, mr(in_dev).mr_qrv):
        igmp_timer_run(im)


def igmp_start_timer(im: ip_mc_list, max_delay_ns: int) -> None:
    """net/ipv4/igmp.c: send the next report after a random time below `max_delay_ns`."""
    net = im.interface.dev.net
    mod_timer(im.timer, net.clock.now_ns() + net.random.randrange(max(max_delay_ns, 1)))


def igmp_timer_expire(timer: timer_list) -> None:
    """net/ipv4/igmp.c"""
    igmp_timer_run(timer.data)


def igmp_timer_run(im: ip_mc_list) -> None:
    """Send what is due for a group: change records (v3), a report (v1, v2), a query's answer."""
    in_dev = im.interface
    if not in_dev.dev.flags & netdevice.IFF_UP:
        return
    changed = False
    if igmp_v1_seen(in_dev):
        igmp_send_report(in_dev, IGMP_HOST_MEMBERSHIP_REPORT, im.multiaddr)
        repeat_ns = unsolicited_ns(in_dev, 2)
    elif igmp_v2_seen(in_dev):
        igmp_send_report(in_dev, IGMPV2_HOST_MEMBERSHIP_REPORT, im.multiaddr)
        repeat_ns = unsolicited_ns(in_dev, 2)
    else:
        repeat_ns = unsolicited_ns(in_dev, 3)
        changed = bool(im.changes)
        sent = im.changes.records(im.filter.state()) if changed else im.answer()
        igmpv3_sendpack(in_dev, [(kind, im.multiaddr, src) for kind, src in sent])
    im.reporter = im.reporter or not changed  # Linux has changes reported by the interface
    if im.unsolicit_count > 0:
        im.unsolicit_count -= 1
    if im.unsolicit_count or im.changes:
        igmp_start_timer(im, repeat_ns)


def igmp_gq_timer_expire(timer: timer_list) -> None:
    """net/ipv4/igmp.c: answer a general query with all groups in one report."""
    in_dev = timer.data
    records = []
    for im in in_dev.mc_list:
        record = current_record(im.filter.state())
        if record is not None and igmp_reportable(im):
            records.append((record[0], im.multiaddr, record[1]))
    igmpv3_sendpack(in_dev, records)


# --- the wire ------------------------------------------------------------------------------


def igmp_transmit(in_dev: in_device, dst: int, payload: bytes) -> int:
    """Send an IGMP message: TTL 1, router alert, precedence (RFC 3376 4). 0 or negative errno."""
    dev = in_dev.dev
    net = dev.net
    try:
        fl4 = flowi(uapi.AF_INET, dst, 0, dev.ifindex, 0, uapi.IPPROTO_IGMP)
        rt = ip_route_output_key(net, fl4)
    except OSError as exc:
        return -(exc.errno or errno.ENETUNREACH)
    skb = alloc_skb(net.skb_small, len(payload), netdevice.LL_MAX_HEADER + 24)
    if skb is None:
        return -errno.ENOMEM
    data = bytearray(payload)
    data[2:4] = csum_fold(csum_partial(bytes(data), 0)).to_bytes(2, "big")
    skb_put_data(skb, data)
    skb_set_transport_header(skb, 0)
    skb.dst = rt
    ident = __ip_select_ident(net, dst, narrow(fl4.saddr), uapi.IPPROTO_IGMP)
    ip_push(
        skb,
        0xC0,
        len(payload) + 24,
        ident,
        IP_DF,
        1,
        uapi.IPPROTO_IGMP,
        narrow(fl4.saddr),
        dst,
        ROUTER_ALERT,
    )
    return ip_local_out(net, None, skb)


def igmp_send_report(in_dev: in_device, kind: int, group: int) -> int:
    """net/ipv4/igmp.c: a v1 or v2 report, or a v2 leave."""
    if igmp_unreported(in_dev.dev.net, group):
        return 0
    dst = uapi.INADDR_ALLRTRS_GROUP if kind == IGMP_HOST_LEAVE_MESSAGE else group
    return igmp_transmit(in_dev, dst, bytes((kind, 0, 0, 0)) + group.to_bytes(4, "big"))


def igmpv3_sendpack(in_dev: in_device, records: Iterable[GroupRecord]) -> int:
    """net/ipv4/igmp.c: version 3 reports, split by the MTU."""
    err = 0
    for report in mc_reports(IGMPV3_HOST_MEMBERSHIP_REPORT, records, in_dev.dev.mtu - 24, 4):
        err = igmp_transmit(in_dev, IGMPV3_ALL_MCR, report) or err
    return err


def igmp_rcv(skb: sk_buff) -> int:
    """net/ipv4/igmp.c: handler of protocol 2. Takes ownership of skb."""
    dev = skb.dev
    net = dev.net
    in_dev = dev.ip_ptr
    if in_dev is None or not pskb_may_pull(skb, 8):
        kfree_skb_reason(net, skb, drop_reason.SKB_DROP_REASON_IGMP_INHDR)
        return 0
    data = skb_copy_bits(skb, 0, skb.len)
    if skb.ip_summed != CHECKSUM_UNNECESSARY and ip_compute_csum(data):
        kfree_skb_reason(net, skb, drop_reason.SKB_DROP_REASON_SKB_CSUM)
        return 0
    kind = data[0]
    if kind == IGMP_PIM:
        return pim_rcv_v1(skb)
    if kind == uapi.IGMP_HOST_MEMBERSHIP_QUERY:
        if not igmp_heard_query(in_dev, skb, data):
            kfree_skb_reason(net, skb, drop_reason.SKB_DROP_REASON_IGMP_INHDR)
            return 0
    elif (
        kind in (IGMP_HOST_MEMBERSHIP_REPORT, IGMPV2_HOST_MEMBERSHIP_REPORT)
        # Another host's report makes ours unnecessary; our own come back by loopback.
        and ip_dev_find(net, ip_hdr(skb).saddr) is None
        and skb.pkt_type in (PACKET_MULTICAST, PACKET_BROADCAST)  # the router received it, too
    ):
        igmp_heard_report(in_dev, int.from_bytes(data[4:8], "big"))
    consume_skb(skb)
    return 0


def igmp_heard_report(in_dev: in_device, group: int) -> None:
    """net/ipv4/igmp.c: another host reported the group (v1, v2): cancel our report."""
    if igmp_unreported(in_dev.dev.net, group):
        return
    im = ip_mc_lookup(in_dev, group)
    if im is not None and (igmp_v1_seen(in_dev) or igmp_v2_seen(in_dev)):
        timer_delete(im.timer)
        im.reporter = False
        im.unsolicit_count = 0


def igmp_heard_query(in_dev: in_device, skb: sk_buff, data: bytes) -> bool:
    """net/ipv4/igmp.c: answer a router's query after a random time. False when malformed."""
    net = in_dev.dev.net
    now = net.clock.now_ns()
    state = mr(in_dev)
    code = data[1]
    group = int.from_bytes(data[4:8], "big")
    sources: tuple[int, ...] = ()
    if len(data) == 8:
        if code == 0:  # version 1
            max_delay = QUERY_RESPONSE_NS
            state.mr_v1_seen = now + state.mr_qrv * QUERY_INTERVAL_NS + QUERY_RESPONSE_NS
            group = 0
        else:
            max_delay = code * NSEC_PER_SEC // 10
            state.mr_v2_seen = now + state.mr_qrv * QUERY_INTERVAL_NS + QUERY_RESPONSE_NS
        for im in in_dev.mc_list:
            im.changes = mc_changes()
    elif len(data) < 12:
        return False
    elif igmp_v1_seen(in_dev):
        max_delay = QUERY_RESPONSE_NS
        group = 0
    elif igmp_v2_seen(in_dev):
        max_delay = max(mc_time_code(code), 1) * NSEC_PER_SEC // 10
    else:
        count = int.from_bytes(data[10:12], "big")
        if len(data) < 12 + 4 * count:
            return False
        max_delay = max(mc_time_code(code), 1) * NSEC_PER_SEC // 10
        qrv = data[8] & 7
        state.mr_qrv = qrv or net.sysctl.igmp_qrv
        if not group:
            if count:
                return False  # RFC 3376 4.1.9: a general query names no source
            expires = now + net.random.randrange(max_delay)
            if not state.mr_gq_timer.pending or expires < state.mr_gq_timer.expires:
                mod_timer(state.mr_gq_timer, expires)
            return True
        sources = tuple(int.from_bytes(data[12 + 4 * i : 16 + 4 * i], "big") for i in range(count))
    for im in in_dev.mc_list:
        if (group and group != im.multiaddr) or not igmp_reportable(im):
            continue
        if im.timer.pending:
            im.gsquery = im.gsquery.union(sources) if im.gsquery and sources else frozenset()
            if im.timer.expires <= now + max_delay:
                continue
        else:
            im.gsquery = frozenset(sources)
        igmp_start_timer(im, max_delay)
    return True


# --- start, stop ---------------------------------------------------------------------------


def ip_mc_up(in_dev: in_device) -> None:
    """net/ipv4/igmp.c: the interface is up: join all-hosts and every group with listeners."""
    if not in_dev.dev.flags & (netdevice.IFF_MULTICAST | netdevice.IFF_LOOPBACK):
        return
    if ip_mc_lookup(in_dev, uapi.INADDR_ALLHOSTS_GROUP) is None:
        ip_mc_inc_group(in_dev, uapi.INADDR_ALLHOSTS_GROUP)
    for im in in_dev.mc_list:
        igmp_group_added(im)
        igmp_filter_changed(im, NOBODY)


def ip_mc_rejoin_groups(in_dev: in_device) -> None:
    """net/ipv4/igmp.c: report every group again, because the switch port may have changed."""
    for im in in_dev.mc_list:
        if igmp_reportable(im):
            igmp_timer_run(im)


def ip_mc_down(in_dev: in_device) -> None:
    """net/ipv4/igmp.c: the interface went down: stop timers, empty the NIC's filter."""
    for im in in_dev.mc_list:
        igmp_group_unload(im)
    if ip_mc_lookup(in_dev, uapi.INADDR_ALLHOSTS_GROUP) is not None:
        ip_mc_dec_group(in_dev, uapi.INADDR_ALLHOSTS_GROUP)
    timer_delete(mr(in_dev).mr_gq_timer)


def igmp_netdev_event(event: int, dev: net_device) -> None:
    """net/ipv4/igmp.c"""
    in_dev = dev.ip_ptr
    if in_dev is None:
        return
    if event == netdevice.NETDEV_UP:
        ip_mc_up(in_dev)
    elif event == netdevice.NETDEV_RESEND_IGMP:
        ip_mc_rejoin_groups(in_dev)
    elif event == netdevice.NETDEV_DOWN:
        ip_mc_down(in_dev)
    elif event == netdevice.NETDEV_UNREGISTER:
        ip_mc_down(in_dev)
        in_dev.mc_list.clear()


def igmp_mc_init(net: Net) -> None:
    """net/ipv4/igmp.c: handle device events."""
    register_netdevice_notifier(net, igmp_netdev_event)


igmp_protocol = net_protocol(handler=igmp_rcv)
