"""include/linux/netdevice.h, if.h, netdev_features.h: an interface, its NAPI contexts and taps.

This file is data; the functions at its end only read flags. The structures:

    net_device          an interface. dev.py opens and closes it, dev_queue.py sends through
                        `qdisc`, dev_receive.py receives through `rx_fast` and `rx_handler`
    net_device_ops      a driver's functions, called by the stack (ndo_open, ndo_start_xmit)
    napi_struct         one polling context of a driver; napi.py schedules it
    softnet_data        the machine's one "CPU": poll list, backlog, output queue, late frees
    packet_type         a protocol's receive function, or a tap
    header_ops          builds and parses the link layer's header (eth.py)
    hw_addr_list        addresses that the NIC's filter must accept, with a use count each

The frame of the constants ETH_HLEN, ETH_DATA_LEN, ETH_FRAME_LEN, VLAN_HLEN (IEEE 802.3):

    | destination 6 | source 6 | [802.1Q tag 4] | type 2 | data 46..1500 | FCS 4 |
     <------------ ETH_HLEN = 14, without the tag -------> <-- mtu ------> not in sk_buffs

The values of NETIF_F_* and of `priv_flags` are ours, their names Linux's. Read net_device first.
"""

from __future__ import annotations

import errno
from collections import deque
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, TypeAlias

from fastpath.base.intmap import IntMap
from fastpath.base.skbuff import kfree_skb, sk_buff, sk_buff_head
from fastpath.net.gro import GroTable
from stack.core.dynamic_queue_limits import dql
from stack.core.rows import row, state
from stack.core.snmp import rtnl_link_stats64
from stack.core.timer import timer_list
from stack.net import Net

if TYPE_CHECKING:
    from stack.core.ethtool import ethtool_ops
    from stack.ipv4.devinet import in_device
    from stack.ipv6.if_inet6 import inet6_dev
    from stack.machine import Machine
    from stack.sched.sch_generic import Qdisc
    from stack.sched.sch_ingress import mini_Qdisc

# include/uapi/linux/if.h
IFNAMSIZ = 16
IFF_UP = 0x1
IFF_BROADCAST = 0x2
IFF_DEBUG = 0x4
IFF_LOOPBACK = 0x8
IFF_POINTOPOINT = 0x10
IFF_NOTRAILERS = 0x20
IFF_RUNNING = 0x40
IFF_NOARP = 0x80
IFF_PROMISC = 0x100
IFF_ALLMULTI = 0x200
IFF_MASTER = 0x400
IFF_SLAVE = 0x800
IFF_MULTICAST = 0x1000
IFF_PORTSEL = 0x2000
IFF_AUTOMEDIA = 0x4000
IFF_DYNAMIC = 0x8000
IFF_LOWER_UP = 0x10000

IFF_NAMES: tuple[tuple[int, str], ...] = (
    (IFF_UP, "UP"),
    (IFF_BROADCAST, "BROADCAST"),
    (IFF_LOOPBACK, "LOOPBACK"),
    (IFF_POINTOPOINT, "POINTOPOINT"),
    (IFF_NOARP, "NOARP"),
    (IFF_RUNNING, "RUNNING"),
    (IFF_PROMISC, "PROMISC"),
    (IFF_ALLMULTI, "ALLMULTI"),
    (IFF_MASTER, "MASTER"),
    (IFF_SLAVE, "SLAVE"),
    (IFF_MULTICAST, "MULTICAST"),
    (IFF_LOWER_UP, "LOWER_UP"),
)

# include/linux/netdevice.h: net_device.priv_flags (the bits are ours, the names Linux's)
IFF_802_1Q_VLAN = 1 << 0
IFF_EBRIDGE = 1 << 1
IFF_BRIDGE_PORT = 1 << 2
IFF_DONT_BRIDGE = 1 << 3
IFF_BONDING = 1 << 4
IFF_MACVLAN_PORT = 1 << 5
IFF_L3MDEV_MASTER = 1 << 6
IFF_L3MDEV_SLAVE = 1 << 7
IFF_IPVLAN_SLAVE = 1 << 8
IFF_L3MDEV_RX_HANDLER = 1 << 9
IFF_NO_QUEUE = 1 << 10
IFF_NO_RX_HANDLER = IFF_L3MDEV_MASTER | IFF_IPVLAN_SLAVE
"""A VRF, a slave of ipvlan: no bridge and no VLAN on it (NETIF_F_VLAN_CHALLENGED)."""

# include/uapi/linux/netdevice.h: net_device.addr_assign_type
NET_ADDR_RANDOM = 1
NET_ADDR_STOLEN = 2
NET_ADDR_SET = 3

# include/uapi/linux/if_arp.h
ARPHRD_ETHER = 1
ARPHRD_TUNNEL = 768
ARPHRD_TUNNEL6 = 769
ARPHRD_LOOPBACK = 772
ARPHRD_SIT = 776
ARPHRD_IPGRE = 778
ARPHRD_IP6GRE = 823
ARPHRD_NONE = 0xFFFE

# include/uapi/linux/if_ether.h
ETH_ALEN = 6
ETH_HLEN = 14
ETH_DATA_LEN = 1500
ETH_FRAME_LEN = 1514
ETH_FCS_LEN = 4
DEFAULT_TX_QUEUE_LEN = 1000
LL_MAX_HEADER = 32
"""Room before an IP header for every link layer, with VLAN tag and padding."""
ETH_MIN_MTU = 68
ETH_MAX_MTU = 0xFFFF
ETH_P_802_3 = 0x0001
ETH_P_802_2 = 0x0004
ETH_P_ALL = 0x0003
ETH_P_IP = 0x0800
ETH_P_TEB = 0x6558
ETH_P_ARP = 0x0806
ETH_P_8021Q = 0x8100
ETH_P_PAUSE = 0x8808
ETH_P_IPV6 = 0x86DD
ETH_P_8021AD = 0x88A8
ETH_P_802_3_MIN = 0x0600
VLAN_HLEN = 4
VLAN_VID_MASK = 0x0FFF
VLAN_PRIO_SHIFT = 13

# net_device.state bits (enum netdev_state_t)
LINK_STATE_START = 1 << 0
LINK_STATE_PRESENT = 1 << 1
LINK_STATE_NOCARRIER = 1 << 2

# include/linux/netdev_features.h: the bits are ours, the names Linux's (ethtool -k in the comment)
NETIF_F_SG = 1 << 0  # tx-scatter-gather
NETIF_F_IP_CSUM = 1 << 1  # tx-checksum-ipv4
NETIF_F_HW_CSUM = 1 << 3  # tx-checksum-ip-generic
NETIF_F_IPV6_CSUM = 1 << 4  # tx-checksum-ipv6
NETIF_F_HIGHDMA = 1 << 5  # highdma
NETIF_F_FRAGLIST = 1 << 6  # tx-scatter-gather-fraglist
NETIF_F_HW_VLAN_CTAG_TX = 1 << 7  # tx-vlan-hw-insert
NETIF_F_HW_VLAN_CTAG_RX = 1 << 8  # rx-vlan-hw-parse
NETIF_F_HW_VLAN_CTAG_FILTER = 1 << 9  # rx-vlan-filter
NETIF_F_GSO = 1 << 11  # tx-generic-segmentation
NETIF_F_NETNS_LOCAL = 1 << 13  # netns-local
NETIF_F_GRO = 1 << 14  # rx-gro
NETIF_F_TSO = 1 << 16  # tx-tcp-segmentation
NETIF_F_TSO_ECN = 1 << 18  # tx-tcp-ecn-segmentation
NETIF_F_TSO_MANGLEID = 1 << 19  # tx-tcp-mangleid-segmentation
NETIF_F_TSO6 = 1 << 20  # tx-tcp6-segmentation
NETIF_F_GSO_UDP_L4 = 1 << 21  # tx-udp-segmentation
NETIF_F_RXCSUM = 1 << 22  # rx-checksum
NETIF_F_RXHASH = 1 << 23  # rx-hashing
NETIF_F_LOOPBACK = 1 << 24  # loopback
NETIF_F_RXFCS = 1 << 25  # rx-fcs
NETIF_F_RXALL = 1 << 26  # rx-all
NETIF_F_LRO = 1 << 27  # rx-lro
NETIF_F_HW_VLAN_STAG_TX = 1 << 28  # tx-vlan-stag-hw-insert
NETIF_F_HW_VLAN_STAG_RX = 1 << 29  # rx-vlan-stag-hw-parse
NETIF_F_GSO_ACCECN = 1 << 30  # tx-tcp-accecn-segmentation
NETIF_F_GSO_GRE = 1 << 32  # tx-gre-segmentation
NETIF_F_GSO_GRE_CSUM = 1 << 33  # tx-gre-csum-segmentation
NETIF_F_GSO_IPXIP4 = 1 << 34  # tx-ipxip4-segmentation
NETIF_F_GSO_IPXIP6 = 1 << 35  # tx-ipxip6-segmentation
NETIF_F_GSO_UDP_TUNNEL = 1 << 36  # tx-udp_tnl-segmentation
NETIF_F_GSO_UDP_TUNNEL_CSUM = 1 << 37  # tx-udp_tnl-csum-segmentation
NETIF_F_GSO_ENCAP_SHIFT = 26
"""From SKB_GSO_GRE to NETIF_F_GSO_GRE, and so for the five behind them."""
NETIF_F_GSO_ROBUST = 1 << 38  # tx-gso-robust
NETIF_F_FSO = 1 << 39  # tx-fcoe-segmentation
NETIF_F_GSO_PARTIAL = 1 << 40  # tx-gso-partial
NETIF_F_GSO_TUNNEL_REMCSUM = 1 << 41  # tx-tunnel-remcsum-segmentation
NETIF_F_GSO_SCTP = 1 << 42  # tx-sctp-segmentation
NETIF_F_GSO_ESP = 1 << 43  # tx-esp-segmentation
NETIF_F_GSO_FRAGLIST = 1 << 44  # tx-gso-list
NETIF_F_SCTP_CRC = 1 << 45  # tx-checksum-sctp
NETIF_F_NOCACHE_COPY = 1 << 46  # tx-nocache-copy
NETIF_F_VLAN_CHALLENGED = 1 << 47  # vlan-challenged
NETIF_F_CSUM_MASK = NETIF_F_IP_CSUM | NETIF_F_IPV6_CSUM | NETIF_F_HW_CSUM
NETIF_F_ALL_TSO = NETIF_F_TSO | NETIF_F_TSO6 | NETIF_F_TSO_ECN | NETIF_F_TSO_MANGLEID
NETIF_F_GSO_SOFTWARE = (
    NETIF_F_ALL_TSO
    | NETIF_F_GSO_ACCECN
    | NETIF_F_GSO_UDP_L4
    | NETIF_F_GSO_SCTP
    | NETIF_F_GSO_FRAGLIST
)
"""Super-packets that the stack can segment. It generates none of SCTP and no lists of packets,
but forwards them."""
NETIF_F_GSO_ENCAP_ALL = (
    NETIF_F_GSO_GRE
    | NETIF_F_GSO_GRE_CSUM
    | NETIF_F_GSO_IPXIP4
    | NETIF_F_GSO_IPXIP6
    | NETIF_F_GSO_UDP_TUNNEL
    | NETIF_F_GSO_UDP_TUNNEL_CSUM
)
NETIF_F_SOFTWARE_DEVICE = (
    NETIF_F_SG | NETIF_F_FRAGLIST | NETIF_F_HIGHDMA | NETIF_F_HW_CSUM | NETIF_F_GSO_SOFTWARE
)
"""Features of devices without hardware: packets reach them unsegmented, without checksums."""
NETIF_F_GSO_MASK = (
    NETIF_F_GSO_SOFTWARE
    | NETIF_F_GSO_ENCAP_ALL
    | NETIF_F_GSO_ROBUST
    | NETIF_F_FSO
    | NETIF_F_GSO_PARTIAL
    | NETIF_F_GSO_TUNNEL_REMCSUM
    | NETIF_F_GSO_ESP
)
"""Every kind of segmentation."""
NETIF_F_SOFT_FEATURES = NETIF_F_GSO | NETIF_F_GRO
NETIF_F_ONE_FOR_ALL = (
    NETIF_F_GSO_SOFTWARE
    | NETIF_F_GSO_ROBUST
    | NETIF_F_SG
    | NETIF_F_HIGHDMA
    | NETIF_F_FRAGLIST
    | NETIF_F_VLAN_CHALLENGED
)
"""Features that a device over several ports has if any port has them."""
NETIF_F_ALL_FOR_ALL = NETIF_F_NOCACHE_COPY | NETIF_F_FSO
"""Features that it has if all ports have them."""

NETDEV_FEATURE_STRINGS: dict[int, str] = {
    NETIF_F_SG: "tx-scatter-gather",
    NETIF_F_IP_CSUM: "tx-checksum-ipv4",
    NETIF_F_HW_CSUM: "tx-checksum-ip-generic",
    NETIF_F_IPV6_CSUM: "tx-checksum-ipv6",
    NETIF_F_HIGHDMA: "highdma",
    NETIF_F_FRAGLIST: "tx-scatter-gather-fraglist",
    NETIF_F_HW_VLAN_CTAG_TX: "tx-vlan-hw-insert",
    NETIF_F_HW_VLAN_CTAG_RX: "rx-vlan-hw-parse",
    NETIF_F_HW_VLAN_CTAG_FILTER: "rx-vlan-filter",
    NETIF_F_GSO: "tx-generic-segmentation",
    NETIF_F_NETNS_LOCAL: "netns-local",
    NETIF_F_GRO: "rx-gro",
    NETIF_F_TSO: "tx-tcp-segmentation",
    NETIF_F_TSO_ECN: "tx-tcp-ecn-segmentation",
    NETIF_F_GSO_ACCECN: "tx-tcp-accecn-segmentation",
    NETIF_F_TSO_MANGLEID: "tx-tcp-mangleid-segmentation",
    NETIF_F_TSO6: "tx-tcp6-segmentation",
    NETIF_F_GSO_ROBUST: "tx-gso-robust",
    NETIF_F_FSO: "tx-fcoe-segmentation",
    NETIF_F_GSO_GRE: "tx-gre-segmentation",
    NETIF_F_GSO_GRE_CSUM: "tx-gre-csum-segmentation",
    NETIF_F_GSO_IPXIP4: "tx-ipxip4-segmentation",
    NETIF_F_GSO_IPXIP6: "tx-ipxip6-segmentation",
    NETIF_F_GSO_UDP_TUNNEL: "tx-udp_tnl-segmentation",
    NETIF_F_GSO_UDP_TUNNEL_CSUM: "tx-udp_tnl-csum-segmentation",
    NETIF_F_GSO_PARTIAL: "tx-gso-partial",
    NETIF_F_GSO_TUNNEL_REMCSUM: "tx-tunnel-remcsum-segmentation",
    NETIF_F_GSO_SCTP: "tx-sctp-segmentation",
    NETIF_F_GSO_ESP: "tx-esp-segmentation",
    NETIF_F_GSO_UDP_L4: "tx-udp-segmentation",
    NETIF_F_GSO_FRAGLIST: "tx-gso-list",
    NETIF_F_SCTP_CRC: "tx-checksum-sctp",
    NETIF_F_NOCACHE_COPY: "tx-nocache-copy",
    NETIF_F_VLAN_CHALLENGED: "vlan-challenged",
    NETIF_F_RXCSUM: "rx-checksum",
    NETIF_F_RXHASH: "rx-hashing",
    NETIF_F_LOOPBACK: "loopback",
    NETIF_F_RXFCS: "rx-fcs",
    NETIF_F_RXALL: "rx-all",
    NETIF_F_LRO: "rx-lro",
    NETIF_F_HW_VLAN_STAG_TX: "tx-vlan-stag-hw-insert",
    NETIF_F_HW_VLAN_STAG_RX: "rx-vlan-stag-hw-parse",
}

# Return values of packet functions
NET_RX_SUCCESS = 0
NET_RX_DROP = 1
NET_XMIT_SUCCESS = 0x00
NET_XMIT_DROP = 0x01
NET_XMIT_CN = 0x02
NET_XMIT_MASK = 0x0F
NET_XMIT_STOLEN = 0x00010000
NET_XMIT_BYPASS = 0x00020000
NETDEV_TX_OK = 0x00
NETDEV_TX_BUSY = 0x10

# rx_handler_result_t
RX_HANDLER_CONSUMED = 0
RX_HANDLER_ANOTHER = 1
RX_HANDLER_EXACT = 2
RX_HANDLER_PASS = 3

# include/linux/netdevice.h enum netdev_cmd: what notifiers are told
NETDEV_UP = 1
NETDEV_DOWN = 2
NETDEV_REBOOT = 3
NETDEV_CHANGE = 4
NETDEV_REGISTER = 5
NETDEV_UNREGISTER = 6
NETDEV_CHANGEMTU = 7
NETDEV_CHANGEADDR = 8
NETDEV_GOING_DOWN = 10
NETDEV_CHANGENAME = 11
NETDEV_FEAT_CHANGE = 12
NETDEV_BONDING_FAILOVER = 13
NETDEV_PRE_UP = 14
NETDEV_NOTIFY_PEERS = 20
NETDEV_CHANGEUPPER = 21
NETDEV_RESEND_IGMP = 23
NETDEV_PRECHANGEMTU = 24
NOTIFY_BAD = 0x8002

# NAPI states
NAPI_STATE_SCHED = 1 << 0
NAPI_STATE_MISSED = 1 << 1
NAPI_STATE_DISABLE = 1 << 2
NAPI_POLL_WEIGHT = 64

# Linux allows 8 * 65535 (BIG TCP). This holds half a MiB in whole segments and their headers, so
# that a write of a MiB is two packets, not three.
GSO_MAX_SIZE = 520 * 1024
GSO_LEGACY_MAX_SIZE = 65536
GSO_MAX_SEGS = 65535

# dev.queue_state
QUEUE_STATE_DRV_XOFF = 1 << 0
"""The driver's ring has no room (netif_stop_queue)."""
QUEUE_STATE_STACK_XOFF = 1 << 1
"""The ring holds as many bytes as it may (netdev_sent_queue)."""

# dev.reg_state
NETREG_UNINITIALIZED = 0
NETREG_REGISTERED = 1
NETREG_UNREGISTERED = 2
NETREG_RELEASED = 3


SkbList: TypeAlias = "list[sk_buff]"
"""Under this name no builtin container for the compiler: slots that take one are called in C."""


@state
class packet_type:
    """A protocol handler or tap: `func(skb, dev, pt, orig_dev) -> int` takes ownership of skb.

    `type` is an EtherType (host order) or ETH_P_ALL; `dev` limits it to one interface.
    `af_packet_priv` is the owner: a socket, which does not see its own packets, or an object for
    which `id_match(af_packet_priv, sk)` tells whether it owns `sk`.
    `list_func(skbs, pt, orig_dev)` takes ownership of several packets of one `orig_dev`; without it
    each of them goes to `func`.
    """

    type: int
    func: Callable[[sk_buff, net_device, packet_type, net_device], int]
    dev: net_device | None = None
    af_packet_priv: Any = None
    ignore_outgoing: bool = False
    list_func: Callable[[SkbList, packet_type, net_device], None] | None = None
    id_match: Callable[[Any, Any], bool] | None = None


def no_poll(napi: napi_struct, budget: int) -> int:
    """`poll` of a context before netif_napi_add."""
    return 0


@state
class napi_struct:
    """One NAPI context: `poll(napi, budget) -> work done` runs while it is scheduled."""

    poll: Callable[[napi_struct, int], int] = no_poll
    dev: net_device = row()
    machine: Machine = row()
    sd: softnet_data = row()
    """The machine's softnet_data, whose poll list the context joins."""
    weight: int = row(NAPI_POLL_WEIGHT)
    state: int = row(0)
    gro: GroTable | None = row()
    """GRO of a driver whose ring does not merge."""
    ring_gro: GroTable | None = row()
    """GRO of a driver that merges while it cleans its ring."""
    rx_list: list[sk_buff] = row(make=list)
    """Packets that left GRO and wait for gro_normal_list."""
    rx_count: int = row(0)
    """Frames in `rx_list`: a merged packet counts once per frame."""


def backlog_napi(sd: softnet_data) -> napi_struct:
    """The NAPI context of the backlog (loopback, veth); its poll function is set later."""
    napi = napi_struct()
    napi.machine = sd.machine
    napi.sd = sd
    return napi


@state
class softnet_data:
    """Per-CPU packet state (a machine has one): poll list, output queue, backlog, late frees."""

    machine: Machine
    poll_list: list[napi_struct] = row(make=list)
    output_queue: deque[Qdisc] = row(make=deque)
    completion_queue: sk_buff_head = row(make=sk_buff_head)
    input_pkt_queue: sk_buff_head = row(make=sk_buff_head)
    process_queue: sk_buff_head = row(make=sk_buff_head)
    backlog: napi_struct = row(of=backlog_napi)
    processed: int = row(0)
    dropped: int = row(0)
    time_squeeze: int = row(0)
    in_net_rx_action: bool = row(False)
    xmit_recursion: int = row(0)
    mirred_nest: int = row(0)
    """Depth of actions on the call stack that pass a packet to another device."""


def no_start_xmit(skb: sk_buff, dev: net_device) -> int:
    """`ndo_start_xmit` of a device without a driver: drop skb. Takes ownership of skb."""
    kfree_skb(skb)
    return NETDEV_TX_OK


@state
class net_hotdata:
    """include/net/hotdata.h: settings of the machine, copied from its first namespace's sysctls."""

    dev_tx_weight: int = row(0)
    max_backlog: int = row(0)
    netdev_budget: int = row(0)
    gro_normal_batch: int = row(0)
    netstamp_needed: int = row(0)
    """Number of sockets that need time stamps (netstamp_needed_key of net/core/dev.c)."""
    default_qdisc: Callable[[net_device], Qdisc] | None = row()
    """default_qdisc_ops: makes an interface's discipline; None: pfifo_fast."""
    tcf_sw_enabled: int = row(0)
    """tcf_sw_enabled_key: number of filter protos that packets can reach."""


@state
class net_device_ops:
    """The driver's functions, by the kernel's names; None = not offered.

    `ndo_start_xmit(skb, dev) -> NETDEV_TX_OK | NETDEV_TX_BUSY` takes ownership of skb unless BUSY.
    Those that return an int return 0 or -errno, except `ndo_fix_features` and
    `ndo_features_check`: the features that hold. None of them raises.
    """

    ndo_change_carrier: Callable[[net_device, bool], int] | None = None
    ndo_change_mtu: Callable[[net_device, int], int] | None = None
    ndo_change_rx_flags: Callable[[net_device, int], None] | None = None
    ndo_features_check: Callable[[sk_buff, net_device, int], int] | None = None
    ndo_fix_features: Callable[[net_device, int], int] | None = None
    ndo_get_stats64: Callable[[net_device], rtnl_link_stats64 | None] | None = None
    ndo_init: Callable[[net_device], int] | None = None
    ndo_open: Callable[[net_device], int] | None = None
    ndo_set_features: Callable[[net_device, int], int] | None = None
    ndo_set_mac_address: Callable[[net_device, bytes], int] | None = None
    ndo_set_rx_mode: Callable[[net_device], None] | None = None
    ndo_start_xmit: Callable[[sk_buff, net_device], int] = no_start_xmit
    ndo_stop: Callable[[net_device], int] | None = None
    ndo_tx_timeout: Callable[[net_device], None] | None = None
    ndo_uninit: Callable[[net_device], None] | None = None
    ndo_validate_addr: Callable[[net_device], int] | None = None
    ndo_vlan_rx_add_vid: Callable[[net_device, int, int], int] | None = None
    ndo_vlan_rx_kill_vid: Callable[[net_device, int, int], int] | None = None


@state
class rtnl_link_ops:
    """include/net/rtnetlink.h: a kind of device that software makes; `dellink(dev)` ends one."""

    kind: str
    dellink: Callable[[net_device], None]


@state
class vlan_info:
    """net/8021q/vlan.h: the VLANs of a real device; keys are vlan_proto << 16 | VLAN id."""

    vlan_group: dict[int, net_device] = row(make=dict)
    vid_list: dict[int, int] = row(make=dict)
    """Number of users of an id, also in the hardware's filter."""


@state
class header_ops:
    """Link-layer header functions (include/linux/netdevice.h).

    `create(skb, dev, type, daddr, saddr, len) -> int`, `parse(skb) -> bytes`,
    `cache(neigh, hh, type)`, `cache_update(hh, dev, haddr)`.
    """

    create: Callable[[sk_buff, net_device, int, Any, Any, int], int]
    parse: Callable[[sk_buff], bytes] | None = None
    cache: Callable[..., int] | None = None
    cache_update: Callable[..., None] | None = None


class hw_addr_list:
    """include/linux/netdevice.h netdev_hw_addr_list: addresses with a use count, in order."""

    __slots__ = ("_count", "global_use")

    def __init__(self) -> None:
        self._count: dict[bytes, int] = {}
        self.global_use: set[bytes] = set()
        """Addresses of SIOCADDMULTI, which counts one user at most."""

    def add(self, addr: bytes) -> bool:
        """Count one more user; True when the address is new."""
        self._count[addr] = count = self._count.get(addr, 0) + 1
        return count == 1

    def remove(self, addr: bytes) -> bool:
        """Count one user fewer; True when the address is gone."""
        count = self._count.get(addr, 0)
        if count > 1:
            self._count[addr] = count - 1
            return False
        return self._count.pop(addr, None) is not None

    def clear(self) -> None:
        self._count.clear()
        self.global_use.clear()

    def __iter__(self) -> Iterator[bytes]:
        return iter(tuple(self._count))

    def users(self, addr: bytes) -> int:
        """Number of users of this address."""
        return self._count.get(addr, 0)

    def __len__(self) -> int:
        return len(self._count)

    def __contains__(self, addr: object) -> bool:
        return addr in self._count


@state
class net_device:
    """One network interface. Members carry the kernel's names; made by `alloc_netdev_mqs`."""

    net: Net
    """The namespace that it is in."""
    name: str
    """Its name in the namespace: eth0."""
    machine: Machine = row(of=lambda dev: dev.net.machine)
    """Unlike `net` it never changes: a device cannot move to another machine."""
    ifindex: int = row(0)
    """Its number in the namespace."""
    altnames: list[str] = row(make=list)
    """Other names that find it (`ip link property add`)."""
    ifalias: bytes = row(b"")
    """A text about it, for people; b"": none."""
    group: int = row(0)
    """The number of the interfaces that `ip link set group` changes together."""
    mtu: int = row(0)
    """Bytes of the largest packet, without the link-layer header."""
    min_mtu: int = row(0)
    """The smallest MTU that may be set, bytes."""
    max_mtu: int = row(0)
    """The largest; 0: no limit."""
    type: int = row(0)
    """ARPHRD_*: the kind of link."""
    hard_header_len: int = row(0)
    """Bytes of the link-layer header."""
    needed_headroom: int = row(0)
    """Bytes that the driver wants before that header."""
    addr_len: int = row(0)
    """Bytes of a link-layer address."""
    dev_addr: bytes = row(b"")
    """The address in use."""
    perm_addr: bytes = row(b"")
    """The address that the hardware came with."""
    addr_assign_type: int = row(0)
    """NET_ADDR_*: origin of dev_addr."""
    broadcast: bytes = row(b"")
    """The link's broadcast address."""
    flags: int = row(0)
    """Bits IFF_* as set; dev_get_flags adds what follows from the state."""
    gflags: int = row(0)
    """Of IFF_PROMISC and IFF_ALLMULTI those that user space has set."""
    features: int = row(0)
    """Bits NETIF_F_* in use."""
    hw_features: int = row(0)
    """Those that ethtool may change."""
    wanted_features: int = row(0)
    """Features that were requested."""
    vlan_features: int = row(0)
    """Features that VLANs above inherit."""
    priv_flags: int = row(0)
    """Bits IFF_* that programs do not see: bridge port, VLAN ..."""
    virtual: bool = row(False)
    """Made by software: it ends with its namespace."""
    rtnl_link_ops: rtnl_link_ops | None = row()
    """How `ip link del` ends it; hardware has none."""
    tso_max_size: int = row(GSO_LEGACY_MAX_SIZE)
    """Bytes of the largest super-packet that it can take."""
    tso_max_segs: int = row(GSO_MAX_SEGS)
    """Segments of such a packet at most."""
    gso_max_size: int = row(GSO_LEGACY_MAX_SIZE)
    """Bytes of the largest super-packet that it gets."""
    gso_max_segs: int = row(GSO_MAX_SEGS)
    """Segments of such a packet at most."""
    gro_max_size: int = row(GSO_MAX_SIZE)
    """Bytes of the largest packet that GRO makes of its frames."""
    tx_queue_len: int = row(DEFAULT_TX_QUEUE_LEN)
    """Packets that the qdisc holds; 0 from `setup`: it has none (IFF_NO_QUEUE)."""
    qdisc: Qdisc = row()
    """The queueing discipline."""
    qdisc_sleeping: Qdisc | None = row()
    """The discipline that runs again when the carrier is back."""
    ingress_queue: Qdisc | None = row()
    """`ingress` or `clsact`; a noop after `tc` removed one or looked for one; else None."""
    tcx_ingress: mini_Qdisc | None = row()
    """Filters for what it receives; None: there are none."""
    tcx_egress: mini_Qdisc | None = row()
    """Filters for what it sends; None: there are none."""
    queue_state: int = row(0)
    """Bits QUEUE_STATE_*: why nothing is passed to the driver now."""
    dql: dql | None = row()
    """How many bytes its ring may hold; None: the driver does not report sent bytes."""
    trans_timeout: int = row(0)
    """How often its queue stayed stopped for too long."""
    xmit_more: bool = row(False)
    """More packets follow at once, so the driver need not ring the doorbell."""
    trans_start: int = row(0)
    """When a packet was last passed to the driver, ns."""
    watchdog_timeo: int = row(0)
    """How long the queue may stay stopped before ndo_tx_timeout, ns."""
    watchdog_timer: timer_list | None = row()
    """Looks for a queue that stays stopped."""
    state: int = row(LINK_STATE_PRESENT)
    """Bits LINK_STATE_*."""
    carrier_up_count: int = row(0)
    """How often the carrier came, and (`carrier_down_count`) went, since it was registered."""
    carrier_down_count: int = row(0)
    """See `carrier_up_count`."""
    reg_state: int = row(NETREG_UNINITIALIZED)
    """NETREG_*."""
    stats: rtnl_link_stats64 = row(make=rtnl_link_stats64)
    """Counters that the stack and most drivers move."""
    netdev_ops: net_device_ops = row(make=net_device_ops)
    """The driver's functions."""
    ethtool_ops: ethtool_ops | None = row()
    """The driver's functions for ethtool; None: not offered."""
    header_ops: header_ops | None = row()
    """Link-layer header functions; None: it has no header."""
    rx_handler: Callable[[sk_buff], int] | None = row()
    """Receives each packet before the protocols: for instance a bridge's; None: none."""
    rx_handler_data: Any = row()
    """What rx_handler keeps about the device."""
    rx_fast: IntMap[packet_type] = row(make=IntMap)
    """The handler of each protocol that needs no slow path (netif_receive_skb)."""
    xmit_simple: bool = row(False)
    """See netdev_xmit_simple."""
    ptype_specific: list[packet_type] = row(make=list)
    """Handlers and taps of this device alone."""
    ip_ptr: in_device | None = row()
    """Its IPv4 part; None: no IPv4."""
    ip6_ptr: inet6_dev | None = row()
    """Its IPv6 part; None: no IPv6."""
    priv: Any = row()
    """The driver's private object."""
    napi_list: list[napi_struct] = row(make=list)
    """Its NAPI contexts."""
    uc: hw_addr_list = row(make=hw_addr_list)
    """Unicast addresses that it receives besides dev_addr."""
    mc: hw_addr_list = row(make=hw_addr_list)
    """Multicast addresses that it receives."""
    synced: tuple[set[bytes], set[bytes]] = row(make=lambda: (set(), set()))
    """The addresses of `uc` and `mc` that the lower device has (dev_addresses_sync)."""
    promiscuity: int = row(0)
    """Number of users of promiscuous mode."""
    allmulti: int = row(0)
    """Number of users of all-multicast mode."""
    vlan_info: vlan_info | None = row()
    """The VLANs above it; None: there were none."""
    vlan_ingress: dict[int, int] | None = row()
    """On a VLAN device: skb.priority by the priority (PCP) of the tag."""
    upper: list[net_device] = row(make=list)
    """Devices above this one (its VLANs, its bridge); `lower` are those below."""
    lower: list[net_device] = row(make=list)
    """Devices below this one."""
    master: net_device | None = row()
    """The one of `upper` that gets all received packets: for instance a bridge."""

    def __repr__(self) -> str:
        return f"<net_device {self.name} ifindex {self.ifindex} flags {flag_names(self)}>"


def flag_names(dev: net_device) -> str:
    """The flags as `ip link` prints them."""
    flags = dev_get_flags(dev)
    return ",".join(name for bit, name in IFF_NAMES if flags & bit)


def netif_queue_stopped(dev: net_device) -> bool:
    """include/linux/netdevice.h: the driver has stopped its queue."""
    return bool(dev.queue_state & QUEUE_STATE_DRV_XOFF)


def netif_running(dev: net_device) -> bool:
    """include/linux/netdevice.h: opened."""
    return bool(dev.state & LINK_STATE_START)


def netif_carrier_ok(dev: net_device) -> bool:
    """include/linux/netdevice.h: the link is up."""
    return not dev.state & LINK_STATE_NOCARRIER


def netif_device_present(dev: net_device) -> bool:
    """include/linux/netdevice.h: not detached (suspended)."""
    return bool(dev.state & LINK_STATE_PRESENT)


def netdev_priv(dev: net_device) -> Any:
    """include/linux/netdevice.h: the driver's private object."""
    return dev.priv


def dev_get_flags(dev: net_device) -> int:
    """net/core/dev.c: flags as user space sees them."""
    own = IFF_PROMISC | IFF_ALLMULTI
    flags = dev.flags & ~(own | IFF_RUNNING | IFF_LOWER_UP) | dev.gflags & own
    if netif_running(dev) and netif_carrier_ok(dev):
        flags |= IFF_RUNNING | IFF_LOWER_UP
    return flags


def net_xmit_errno(code: int) -> int:
    """include/linux/netdevice.h: NET_XMIT_CN is no error, anything else is -ENOBUFS."""
    return 0 if code == NET_XMIT_CN else -errno.ENOBUFS
