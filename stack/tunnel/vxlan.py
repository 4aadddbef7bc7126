"""drivers/net/vxlan/vxlan_core.c: Ethernet frames in datagrams of UDP (RFC 7348).

    vxlan_xmit                  the forwarding table says to which hosts a frame goes
        vxlan_xmit_one          -> udp_tunnel_xmit
    udp_queue_rcv_skb => vxlan_rcv              a datagram to the port
        vxlan_snoop             the sender's station is behind the sender's host
        -> udp_tunnel_rx

    | IP 20 or 40 | UDP 8 | flags 1, reserved 3 | VNI 3, reserved 1 | frame without its FCS |
                            bit 3: the VNI counts

State: `net.gen["vxlan"]` has the sockets, by family and port, with the devices by VNI; vxlan_dev
has the table: of each station the hosts (vxlan_rdst) that it is behind. The entry of the address
of zeros is for stations that are not known, and for groups. Read vxlan_xmit first.
"""

from __future__ import annotations

import errno

from fastpath.base.skbuff import pskb_may_pull, sk_buff, skb_clone, skb_copy_bits
from stack.core import netdevice, uapi
from stack.core.dev import free_netdev, unregister_netdevice
from stack.core.dev_notifier import register_netdevice_notifier
from stack.core.dev_upper import netdev_upper_dev_link, netdev_upper_dev_unlink
from stack.core.errors import check, os_error
from stack.core.ethtool import ethtool_ops, fixed_drvinfo
from stack.core.extack import ExtAckError
from stack.core.gro_cells import gro_cell, gro_cells_destroy, gro_cells_init
from stack.core.net_namespace import load_module, pernet_operations
from stack.core.netdevice import ETH_ALEN, ETH_HLEN, net_device, net_device_ops, rtnl_link_ops
from stack.core.rows import narrow, row, state, wide
from stack.core.rtnetlink import eth_hw_addr_init, rtnl_create_link, rtnl_register_link
from stack.core.time64 import NSEC_PER_SEC
from stack.core.uapi import AF_INET, AF_INET6
from stack.core.workqueue import cancel_delayed_work, schedule_delayed_work, work_struct
from stack.ethernet.eth import (
    eth_mac_addr,
    eth_no_rx_filter,
    eth_validate_addr,
    ether_setup_software,
    is_valid_ether_addr,
)
from stack.inet.udp_hash import udp_sock
from stack.ipv4.igmp import ip_mc_join_group, ip_mc_leave_group
from stack.ipv6.addr import IPV6_ADDR_ANY, IPV6_ADDR_LINKLOCAL, IPV6_ADDR_UNICAST, ipv6_addr_type
from stack.ipv6.mcast import ipv6_sock_mc_drop, ipv6_sock_mc_join
from stack.net import Net
from stack.tunnel.udp_tunnel import (
    HEADROOM,
    TUNNEL_HLEN,
    UDP_HLEN,
    UDP_TUNNEL_FEATURES,
    drop_rx,
    drop_tx,
    is_group,
    skb_vlan_inet_prepare,
    udp_tunnel_csum_missing,
    udp_tunnel_net,
    udp_tunnel_net_of,
    udp_tunnel_open,
    udp_tunnel_outer,
    udp_tunnel_parm,
    udp_tunnel_pull,
    udp_tunnel_rx,
    udp_tunnel_sock,
    udp_tunnel_stop,
    udp_tunnel_xmit,
)

VXLAN_HF_VNI = 0x08000000
VXLAN_PORT = 8472
"""Linux's default, older than RFC 7348's 4789."""
FDB_AGE_DEFAULT_S, FDB_AGE_INTERVAL_NS = 300, 10_000_000_000
LINK_LOCAL = 0xFE80 >> 6
"""The first ten bits of fe80::/10."""
ALL_ZEROS = bytes(ETH_ALEN)


@state
class vxlan_config(udp_tunnel_parm):
    """include/net/vxlan.h: the parameters of a device.

    `remote` is where frames to unknown stations and groups go; 0: by the table only.
    """

    dst_port: int = row(VXLAN_PORT)
    vni: int = row(0)
    link: int = row(0)
    learning: bool = row(True)
    age_s: int = row(FDB_AGE_DEFAULT_S)
    addrmax: int = row(0)
    """Entries that the table may learn; 0: any number."""


@state
class vxlan_rdst:
    """A host that stations are behind."""

    remote: wide
    port: int
    vni: int
    ifindex: int = row(0)


@state
class vxlan_fdb:
    """An entry of the table. Times in ns."""

    addr: bytes
    state: int
    flags: int
    remotes: list[vxlan_rdst] = row(make=list)
    used: int = row(0)
    updated: int = row(0)


@state
class vxlan_dev:
    """include/net/vxlan.h: the private part of a device."""

    dev: net_device
    cfg: vxlan_config
    net: Net = row(of=lambda vxlan: vxlan.dev.net)
    """The namespace of the datagrams."""
    default_dst: vxlan_rdst = row(of=lambda vxlan: rdst_of(vxlan.cfg))
    """The host of `remote`, with the interface that was asked for last."""
    remote_dev: net_device | None = row()
    """The interface below; with it, this device is deleted."""
    sock: udp_tunnel_sock | None = row()
    fdb: dict[bytes, vxlan_fdb] = row(make=dict)
    age_work: work_struct | None = row()
    gro_cells: gro_cell | None = row()


def rdst_of(cfg: vxlan_config) -> vxlan_rdst:
    """The host that frames go to unless the table says otherwise."""
    rdst = vxlan_rdst(cfg.remote, cfg.dst_port, cfg.vni)
    rdst.ifindex = cfg.link
    return rdst


# --- the forwarding table -------------------------------------------------------------------------


def vxlan_fdb_create(
    vxlan: vxlan_dev, addr: bytes, nud: int, flags: int, rdst: vxlan_rdst
) -> vxlan_fdb | None:
    """A new entry; None: the table is full (addrmax)."""
    if vxlan.cfg.addrmax and len(vxlan.fdb) >= vxlan.cfg.addrmax:
        return None
    f = vxlan_fdb(addr, nud, flags)
    f.used = f.updated = vxlan.net.clock.now_ns()
    f.remotes.append(rdst)
    vxlan.fdb[addr] = f
    return f


def vxlan_fdb_find_rdst(f: vxlan_fdb, rdst: vxlan_rdst) -> vxlan_rdst | None:
    """The host of an entry that equals `rdst`."""
    for one in f.remotes:
        same = one.remote == rdst.remote and one.port == rdst.port
        if same and one.vni == rdst.vni and one.ifindex == rdst.ifindex:
            return one
    return None


def vxlan_fdb_append(vxlan: vxlan_dev, addr: bytes, rdst: vxlan_rdst) -> bool:
    """Add a host to the entry of an address; False: the table is full."""
    f = vxlan.fdb.get(addr)
    if f is None:
        nud = uapi.NUD_REACHABLE | uapi.NUD_PERMANENT
        return vxlan_fdb_create(vxlan, addr, nud, uapi.NTF_SELF, rdst) is not None
    if vxlan_fdb_find_rdst(f, rdst) is None:
        f.remotes.append(rdst)
    return True


def vxlan_fdb_remove(vxlan: vxlan_dev, addr: bytes, rdst: vxlan_rdst) -> bool:
    """Remove a host, with the last one the entry; without `remote` all. False: there is none."""
    f = vxlan.fdb.get(addr)
    if f is None:
        return False
    if rdst.remote:
        found = vxlan_fdb_find_rdst(f, rdst)
        if found is None:
            return False
        if len(f.remotes) > 1:
            f.remotes.remove(found)
            return True
    del vxlan.fdb[addr]
    return True


def vxlan_snoop(vxlan: vxlan_dev, src: wide, addr: bytes, ifindex: int) -> bool:
    """Learn that a station is behind host `src`. True: the frame must be dropped.

    A frame whose sender has no address of a station is dropped, too.
    """
    if not is_valid_ether_addr(addr):
        return True
    cfg = vxlan.cfg
    now = vxlan.net.clock.now_ns()
    f = vxlan.fdb.get(addr)
    if f is None:
        rdst = vxlan_rdst(src, cfg.dst_port, cfg.vni)
        rdst.ifindex = ifindex if cfg.family == AF_INET6 and src >> 118 == LINK_LOCAL else 0
        vxlan_fdb_create(vxlan, addr, uapi.NUD_REACHABLE, uapi.NTF_SELF, rdst)
        return False
    first = f.remotes[0]
    if first.remote == src:
        f.updated = now
        return False
    if f.state & (uapi.NUD_PERMANENT | uapi.NUD_NOARP):
        return True
    first.remote = src
    f.updated = now
    return False


def vxlan_cleanup(vxlan: vxlan_dev) -> None:
    """Remove stations that have been silent for `age_s`; run again in 10 s."""
    if vxlan.cfg.age_s:
        now, age_ns = vxlan.net.clock.now_ns(), vxlan.cfg.age_s * NSEC_PER_SEC
        for f in tuple(vxlan.fdb.values()):
            fixed = f.state & (uapi.NUD_PERMANENT | uapi.NUD_NOARP)
            fixed |= f.flags & uapi.NTF_EXT_LEARNED
            if not fixed and now - f.updated >= age_ns:
                del vxlan.fdb[f.addr]
    if vxlan.age_work is not None:
        schedule_delayed_work(vxlan.age_work, FDB_AGE_INTERVAL_NS)


# --- sending --------------------------------------------------------------------------------------


def vxlan_xmit(skb: sk_buff, dev: net_device) -> int:
    """ndo_start_xmit: to each host that the station is behind. Takes ownership of skb."""
    vxlan: vxlan_dev = dev.priv
    if not skb_vlan_inet_prepare(skb) or vxlan.sock is None:
        dev.stats.tx_dropped += 1
        return drop_tx(skb, dev)
    f = vxlan.fdb.get(skb_copy_bits(skb, 0, ETH_ALEN))
    if f is None:
        f = vxlan.fdb.get(ALL_ZEROS)
    if f is None or not f.remotes:
        dev.stats.tx_dropped += 1
        return drop_tx(skb, dev)
    f.used = vxlan.net.clock.now_ns()
    for rdst in f.remotes[1:]:
        vxlan_xmit_one(skb_clone(skb), vxlan, rdst)
    return vxlan_xmit_one(skb, vxlan, f.remotes[0])


def vxlan_xmit_one(skb: sk_buff, vxlan: vxlan_dev, rdst: vxlan_rdst) -> int:
    """Send a frame to one host. NETDEV_TX_OK. Takes ownership of skb."""
    if not rdst.remote:
        vxlan.dev.stats.tx_dropped += 1
        return drop_tx(skb, vxlan.dev)
    head = VXLAN_HF_VNI.to_bytes(4, "big") + (rdst.vni << 8).to_bytes(4, "big")
    dest = rdst.remote, rdst.port, rdst.ifindex
    return udp_tunnel_xmit(skb, vxlan.dev, vxlan.net, vxlan.cfg, head, dest)


# --- receiving ------------------------------------------------------------------------------------


def vxlan_err_lookup(vs: udp_tunnel_sock, skb: sk_buff, at: int) -> bool:
    """encap_err_lookup: whether a device has the header's VNI."""
    head = skb_copy_bits(skb, at, TUNNEL_HLEN)
    known = bool(head[0] & VXLAN_HF_VNI >> 24)
    return known and (int.from_bytes(head[4:7], "big"), 0) in vs.devs


def vxlan_rcv(vs: udp_tunnel_sock, sk: udp_sock, skb: sk_buff) -> int:
    """encap_rcv: a datagram to a port of ours, data at its UDP header. 0. Takes ownership."""
    size = UDP_HLEN + TUNNEL_HLEN
    if udp_tunnel_csum_missing(vs, sk, skb) or not pskb_may_pull(skb, size):
        return drop_rx(sk.net, skb)
    flags = int.from_bytes(skb_copy_bits(skb, UDP_HLEN, 4), "big")
    vni = int.from_bytes(skb_copy_bits(skb, UDP_HLEN + 4, 4), "big")
    vxlan: vxlan_dev | None = vs.devs.get((vni >> 8, 0))
    if not flags & VXLAN_HF_VNI or vxlan is None:
        return drop_rx(sk.net, skb)
    dev = vxlan.dev
    if flags != VXLAN_HF_VNI or vni & 0xFF:  # bits that the device has no meaning for
        dev.stats.rx_frame_errors += 1
        dev.stats.rx_errors += 1
        return drop_rx(sk.net, skb)
    saddr, tos = udp_tunnel_outer(sk, skb)
    if not udp_tunnel_pull(skb, size):
        return drop_rx(sk.net, skb)
    source = skb_copy_bits(skb, ETH_ALEN, ETH_ALEN)
    if source == dev.dev_addr:
        return drop_rx(sk.net, skb)
    if vxlan.cfg.learning and vxlan_snoop(vxlan, saddr, source, skb.skb_iif):
        return drop_rx(sk.net, skb)
    return udp_tunnel_rx(skb, dev, vxlan.net, tos)


# --- the device -----------------------------------------------------------------------------------


def vxlan_multicast_join(vxlan: vxlan_dev) -> int:
    """Join the group that the device sends to, if it is one. 0 or -errno."""
    dst = vxlan.default_dst
    if vxlan.sock is None or not is_group(vxlan.cfg.family, dst.remote):
        return 0
    sk = vxlan.sock.sock.sk
    try:
        if vxlan.cfg.family == AF_INET:
            ip_mc_join_group(sk, narrow(dst.remote), dst.ifindex)
        else:
            ipv6_sock_mc_join(sk, dst.ifindex, dst.remote)
    except OSError as error:
        if error.errno != errno.EADDRINUSE:  # another device of the port has joined
            return -(error.errno or errno.EINVAL)
    return 0


def vxlan_multicast_leave(vxlan: vxlan_dev) -> int:
    """Leave the group, unless another device of the socket is in it. 0 or -errno."""
    vs, dst = vxlan.sock, vxlan.default_dst
    if vs is None or not is_group(vxlan.cfg.family, dst.remote):
        return 0
    for other in vs.devs.values():  # vxlan_group_used
        same = other.default_dst.remote, other.default_dst.ifindex
        if other is not vxlan and same == (dst.remote, dst.ifindex):
            return 0
    sk = vs.sock.sk
    try:
        if vxlan.cfg.family == AF_INET:
            ip_mc_leave_group(sk, narrow(dst.remote), dst.ifindex)
        else:
            ipv6_sock_mc_drop(sk, dst.ifindex, dst.remote)
    except OSError as error:
        return -(error.errno or errno.EINVAL)
    return 0


def vxlan_open(dev: net_device) -> int:
    """ndo_open: the socket, the group, the collector. 0 or -errno."""
    vxlan: vxlan_dev = dev.priv
    cfg = vxlan.cfg
    vn, key = udp_tunnel_net_of(vxlan.net, "vxlan"), (cfg.vni, 0)
    err = udp_tunnel_open(vxlan, vn, key, vxlan_rcv, vxlan_err_lookup, True)
    if err:
        return err
    err = vxlan_multicast_join(vxlan)
    if err:
        udp_tunnel_stop(vxlan, vn, key)
        return err
    vxlan.age_work = work_struct(dev.machine, lambda: vxlan_cleanup(vxlan))
    if cfg.age_s:
        schedule_delayed_work(vxlan.age_work, FDB_AGE_INTERVAL_NS)
    return 0


def vxlan_stop(dev: net_device) -> int:
    """ndo_stop: forget what was learned. 0."""
    vxlan: vxlan_dev = dev.priv
    if vxlan.age_work is not None:
        cancel_delayed_work(vxlan.age_work)
        vxlan.age_work = None
    for f in tuple(vxlan.fdb.values()):
        if not f.state & (uapi.NUD_PERMANENT | uapi.NUD_NOARP):
            del vxlan.fdb[f.addr]
    vxlan_multicast_leave(vxlan)
    udp_tunnel_stop(vxlan, udp_tunnel_net_of(vxlan.net, "vxlan"), (vxlan.cfg.vni, 0))
    return 0


vxlan_netdev_ops = net_device_ops(
    ndo_open=vxlan_open,
    ndo_stop=vxlan_stop,
    ndo_start_xmit=vxlan_xmit,
    ndo_set_rx_mode=eth_no_rx_filter,
    ndo_set_mac_address=eth_mac_addr,
    ndo_validate_addr=eth_validate_addr,
)
vxlan_ethtool_ops = ethtool_ops(get_drvinfo=fixed_drvinfo("vxlan", "0.1"))


def vxlan_setup(dev: net_device) -> None:
    """Ethernet without a queue."""
    ether_setup_software(dev, vxlan_netdev_ops, vxlan_ethtool_ops)
    dev.features = UDP_TUNNEL_FEATURES
    dev.hw_features = UDP_TUNNEL_FEATURES
    dev.vlan_features = UDP_TUNNEL_FEATURES
    dev.needed_headroom = HEADROOM[AF_INET6] + netdevice.LL_MAX_HEADER


def vxlan_vni_in_use(net: Net, cfg: vxlan_config, old: vxlan_dev | None) -> bool:
    """Whether another device has the VNI, port and family (if link-local also the interface)."""
    for other in udp_tunnel_net_of(net, "vxlan").devs:
        two = other.cfg
        if other is old or two.vni != cfg.vni or two.dst_port != cfg.dst_port:
            continue
        if two.family != cfg.family or two.zero_csum6_rx != cfg.zero_csum6_rx:
            continue
        if cfg.family != AF_INET6 or cfg.local >> 118 != LINK_LOCAL or two.link == cfg.link:
            return True
    return False


def check_scopes(cfg: vxlan_config) -> None:
    """Link-local and other addresses of IPv6 do not go together. Raises: OSError EINVAL."""
    local, remote = ipv6_addr_type(cfg.local), ipv6_addr_type(cfg.remote)
    if local & IPV6_ADDR_LINKLOCAL:
        wrong = not remote & IPV6_ADDR_LINKLOCAL and remote != IPV6_ADDR_ANY
    else:
        wrong = remote == IPV6_ADDR_UNICAST | IPV6_ADDR_LINKLOCAL
    if wrong:
        raise ExtAckError(errno.EINVAL, "Invalid combination of local and remote address scopes")


def vxlan_config_validate(
    net: Net, cfg: vxlan_config, old: vxlan_dev | None = None
) -> net_device | None:
    """Check and complete the parameters; the device below, or None.

    Raises:
        OSError: EINVAL, ENODEV, EPERM, EEXIST.
    """
    load_module(net.machine, "vxlan", vxlan_net_ops)
    six = cfg.family == AF_INET6
    if is_group(cfg.family, cfg.local):
        raise ExtAckError(errno.EINVAL, "Local address cannot be multicast")
    if six:
        check_scopes(cfg)
    if cfg.label and not six:
        raise ExtAckError(errno.EINVAL, "Label attribute only applies to IPv6 VXLAN devices")
    lower = net.dev_by_index.get(cfg.link) if cfg.link else None
    if cfg.link:
        if lower is None:
            raise ExtAckError(errno.ENODEV, "Invalid local interface, device not found")
        if six and lower.ip6_ptr is not None and lower.ip6_ptr.cnf.disable_ipv6:
            raise ExtAckError(errno.EPERM, "IPv6 support disabled by administrator")
    elif is_group(cfg.family, cfg.remote):
        text = "Local interface required for multicast remote destination"
        raise ExtAckError(errno.EINVAL, text)
    elif six and cfg.local >> 118 == LINK_LOCAL:
        text = "Local interface required for link-local local/remote addresses"
        raise ExtAckError(errno.EINVAL, text)
    cfg.dst_port = cfg.dst_port or VXLAN_PORT
    cfg.age_s = cfg.age_s or FDB_AGE_DEFAULT_S
    if vxlan_vni_in_use(net, cfg, old):
        raise ExtAckError(errno.EEXIST, "A VXLAN device with the specified VNI already exists")
    return lower


def vxlan_config_apply(
    dev: net_device, cfg: vxlan_config, lower: net_device | None, mtu: int | None
) -> None:
    """Apply the parameters. `lower`: the device below, if it is new; `mtu` 0: by its MTU."""
    vxlan: vxlan_dev = dev.priv
    dst, most = vxlan.default_dst, netdevice.ETH_MAX_MTU
    dst.vni, dst.remote = cfg.vni, cfg.remote
    if lower is not None:
        dst.ifindex = cfg.link
        most = max(lower.mtu - HEADROOM[cfg.family] - ETH_HLEN, netdevice.ETH_MIN_MTU)
        if mtu == 0:
            dev.mtu = most
    dev.mtu = min(mtu or dev.mtu, most)
    vxlan.cfg = cfg


def vxlan_newlink(
    net: Net, name: str, cfg: vxlan_config, mac: bytes | None = None, mtu: int = 0
) -> net_device:
    """`ip link add NAME type vxlan id VNI ...`. Raises: OSError EEXIST, ENODEV, EADDRNOTAVAIL."""
    lower = vxlan_config_validate(net, cfg)
    dev = rtnl_create_link(net, name, vxlan_link_ops, vxlan_setup)
    vxlan = vxlan_dev(dev, cfg)
    dev.priv = vxlan
    eth_hw_addr_init(dev, mac)
    vxlan_config_apply(dev, cfg, lower, mtu)
    rtnl_register_link(dev)
    if lower is not None:
        err = netdev_upper_dev_link(lower, dev)
        if err:
            unregister_netdevice(dev)
            raise os_error(-err, f"vxlan {name}")
    vxlan.remote_dev = lower
    vxlan.gro_cells = gro_cells_init(dev)
    udp_tunnel_net_of(net, "vxlan").devs.append(vxlan)
    if cfg.remote:
        vxlan_fdb_append(vxlan, ALL_ZEROS, rdst_of(cfg))
    return dev


def vxlan_changelink(dev: net_device, cfg: vxlan_config) -> None:
    """`ip link set DEV type vxlan ...`. Raises: OSError of vxlan_config_validate, EBUSY, ENOSPC."""
    vxlan: vxlan_dev = dev.priv
    dst, before = vxlan.default_dst, vxlan.remote_dev
    lower = vxlan_config_validate(vxlan.net, cfg, vxlan)
    if lower is before:
        lower = None
    if lower is not None:
        check(netdev_upper_dev_link(lower, dev), f"{dev.name} on {lower.name}")
    moved = cfg.remote != dst.remote
    if moved:
        if cfg.remote and not vxlan_fdb_append(vxlan, ALL_ZEROS, rdst_of(cfg)):
            if lower is not None:
                netdev_upper_dev_unlink(lower, dev)
            raise os_error(errno.ENOSPC, f"{dev.name}: the table is full")
        if dst.remote:
            vxlan_fdb_remove(vxlan, ALL_ZEROS, dst)
    joins = bool(dev.flags & netdevice.IFF_UP) and (moved or dst.ifindex != cfg.link)
    err = vxlan_multicast_leave(vxlan) if joins else 0
    if cfg.age_s != vxlan.cfg.age_s and vxlan.age_work is not None:
        schedule_delayed_work(vxlan.age_work, 0)
    if lower is not None:
        if before is not None:
            netdev_upper_dev_unlink(before, dev)
        vxlan.remote_dev = lower
    vxlan_config_apply(dev, cfg, lower, None)
    check(err or (vxlan_multicast_join(vxlan) if joins else 0), f"{dev.name}: the group")


def vxlan_dellink(dev: net_device) -> None:
    """`ip link del`."""
    vxlan: vxlan_dev = dev.priv
    devs = udp_tunnel_net_of(vxlan.net, "vxlan").devs
    if vxlan in devs:
        devs.remove(vxlan)
    unregister_netdevice(dev)
    gro_cells_destroy(vxlan.gro_cells)
    if vxlan.remote_dev is not None:
        netdev_upper_dev_unlink(vxlan.remote_dev, dev)
    vxlan.fdb.clear()
    free_netdev(dev)


vxlan_link_ops = rtnl_link_ops("vxlan", vxlan_dellink)


def vxlan_netdevice_event(event: int, dev: net_device) -> int | None:
    """Delete the devices of an interface that is unregistered."""
    if event == netdevice.NETDEV_UNREGISTER:
        for vxlan in tuple(udp_tunnel_net_of(dev.net, "vxlan").devs):
            if vxlan.default_dst.ifindex == dev.ifindex:
                vxlan_dellink(vxlan.dev)
    return None


def vxlan_init_net(net: Net) -> None:
    """No devices yet."""
    net.gen["vxlan"] = udp_tunnel_net()
    register_netdevice_notifier(net, vxlan_netdevice_event)


vxlan_net_ops = pernet_operations(init=vxlan_init_net)
