"""include/linux/netdevice.h, if.h, netdev_features.h: an interface, its NAPI contexts and taps.

Data only; the code is in dev.py (transmit, receive, open/close) and napi.py.
"""

from __future__ import annotations

import errno
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import IntEnum
from typing import TYPE_CHECKING, Any

from fastpath.gro import GroTable
from fastpath.skbuff import kfree_skb, sk_buff, sk_buff_head
from stack.core.snmp import rtnl_link_stats64

if TYPE_CHECKING:
    from stack.core.ethtool import ethtool_ops
    from stack.core.sock import sock
    from stack.core.timer import timer_list
    from stack.ipv4.devinet import in_device
    from stack.ipv6.if_inet6 import inet6_dev
    from stack.machine import Machine
    from stack.net import Net
    from stack.sched.sch_generic import Qdisc

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
IFF_MULTICAST = 0x1000
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
    (IFF_MULTICAST, "MULTICAST"),
    (IFF_LOWER_UP, "LOWER_UP"),
)

# include/uapi/linux/if_arp.h
ARPHRD_ETHER = 1
ARPHRD_LOOPBACK = 772

# include/uapi/linux/if_ether.h
ETH_ALEN = 6
ETH_HLEN = 14
ETH_ZLEN = 60
ETH_DATA_LEN = 1500
ETH_FRAME_LEN = 1514
ETH_FCS_LEN = 4
ETH_MIN_MTU = 68
ETH_MAX_MTU = 0xFFFF
ETH_P_802_2 = 0x0004
ETH_P_ALL = 0x0003
ETH_P_LOOP = 0x0060
ETH_P_IP = 0x0800
ETH_P_ARP = 0x0806
ETH_P_8021Q = 0x8100
ETH_P_IPV6 = 0x86DD
ETH_P_8021AD = 0x88A8
ETH_P_802_3_MIN = 0x0600
VLAN_HLEN = 4
VLAN_VID_MASK = 0x0FFF

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
NETIF_F_CSUM_MASK = NETIF_F_IP_CSUM | NETIF_F_IPV6_CSUM | NETIF_F_HW_CSUM
NETIF_F_ALL_TSO = NETIF_F_TSO | NETIF_F_TSO6 | NETIF_F_TSO_ECN | NETIF_F_TSO_MANGLEID
NETIF_F_GSO_SOFTWARE = NETIF_F_ALL_TSO | NETIF_F_GSO_UDP_L4
NETIF_F_SOFT_FEATURES = NETIF_F_GSO | NETIF_F_GRO

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
    NETIF_F_TSO_MANGLEID: "tx-tcp-mangleid-segmentation",
    NETIF_F_TSO6: "tx-tcp6-segmentation",
    NETIF_F_GSO_UDP_L4: "tx-udp-segmentation",
    NETIF_F_RXCSUM: "rx-checksum",
    NETIF_F_RXHASH: "rx-hashing",
    NETIF_F_LOOPBACK: "loopback",
    NETIF_F_RXFCS: "rx-fcs",
    NETIF_F_RXALL: "rx-all",
    NETIF_F_LRO: "rx-lro",
}

# Return values of packet functions
NET_RX_SUCCESS = 0
NET_RX_DROP = 1
NET_XMIT_SUCCESS = 0x00
NET_XMIT_DROP = 0x01
NET_XMIT_CN = 0x02
NETDEV_TX_OK = 0x00
NETDEV_TX_BUSY = 0x10

# rx_handler_result_t
RX_HANDLER_CONSUMED = 0
RX_HANDLER_ANOTHER = 1
RX_HANDLER_EXACT = 2
RX_HANDLER_PASS = 3


class netdev_cmd(IntEnum):
    """include/linux/netdevice.h: what notifiers are told."""

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
    NETDEV_PRE_UP = 14
    NETDEV_PRECHANGEMTU = 24


NETDEV_UP = netdev_cmd.NETDEV_UP
NETDEV_DOWN = netdev_cmd.NETDEV_DOWN
NETDEV_REBOOT = netdev_cmd.NETDEV_REBOOT
NETDEV_CHANGE = netdev_cmd.NETDEV_CHANGE
NETDEV_REGISTER = netdev_cmd.NETDEV_REGISTER
NETDEV_UNREGISTER = netdev_cmd.NETDEV_UNREGISTER
NETDEV_CHANGEMTU = netdev_cmd.NETDEV_CHANGEMTU
NETDEV_CHANGEADDR = netdev_cmd.NETDEV_CHANGEADDR
NETDEV_GOING_DOWN = netdev_cmd.NETDEV_GOING_DOWN
NETDEV_CHANGENAME = netdev_cmd.NETDEV_CHANGENAME
NETDEV_FEAT_CHANGE = netdev_cmd.NETDEV_FEAT_CHANGE
NETDEV_PRE_UP = netdev_cmd.NETDEV_PRE_UP
NETDEV_PRECHANGEMTU = netdev_cmd.NETDEV_PRECHANGEMTU
NOTIFY_DONE = 0
NOTIFY_BAD = 0x8002

# NAPI states
NAPI_STATE_SCHED = 1 << 0
NAPI_STATE_MISSED = 1 << 1
NAPI_STATE_DISABLE = 1 << 2
NAPI_POLL_WEIGHT = 64

GSO_MAX_SIZE = 524_288  # Linux allows 8 * 65535 (BIG TCP); a power of two is kinder to pages
GSO_LEGACY_MAX_SIZE = 65536
GSO_MAX_SEGS = 65535

# dev.reg_state
NETREG_UNINITIALIZED = 0
NETREG_REGISTERED = 1
NETREG_UNREGISTERED = 2
NETREG_RELEASED = 3


class packet_type:
    """A protocol handler or tap: `func(skb, dev, pt, orig_dev) -> int` takes ownership of skb.

    `type` is an EtherType (host order) or ETH_P_ALL; `dev` limits it to one interface. `id_match`
    (a sock) keeps a tap from seeing what its own socket sent.
    """

    __slots__ = ("af_packet_priv", "dev", "func", "ignore_outgoing", "list_func", "type")

    def __init__(
        self,
        type: int,  # noqa: A002 -- the kernel's member name
        func: Callable[[sk_buff, net_device, packet_type, net_device], int],
        dev: net_device | None = None,
        *,
        af_packet_priv: sock | None = None,
        ignore_outgoing: bool = False,
    ) -> None:
        self.type = type
        self.func = func
        self.dev = dev
        self.af_packet_priv = af_packet_priv
        self.ignore_outgoing = ignore_outgoing
        self.list_func: Any = None


class napi_struct:
    """One NAPI context: `poll(napi, budget) -> work done` runs while it is scheduled."""

    __slots__ = (
        "dev",
        "gro",
        "gro_out",
        "machine",
        "napi_id",
        "poll",
        "ring_gro",
        "sd",
        "state",
        "weight",
    )

    def __init__(self, poll: Callable[[napi_struct, int], int] | None = None) -> None:
        self.dev: net_device
        self.machine: Machine
        self.sd: softnet_data  # softnet_data of the machine: where it queues
        self.poll = no_poll if poll is None else poll
        self.weight = NAPI_POLL_WEIGHT
        self.state = 0
        self.napi_id = 0
        self.gro: GroTable | None = None  # of a driver that does not merge itself
        self.ring_gro: GroTable | None = None  # of a driver that merges while it cleans its ring
        self.gro_out: list[sk_buff] = []


def no_poll(napi: napi_struct, budget: int) -> int:
    """What a context polls until netif_napi_add."""
    return 0


class softnet_data:
    """Per-CPU packet state (a machine has one): poll list, output queue, backlog, late frees."""

    __slots__ = (
        "backlog",
        "completion_queue",
        "dropped",
        "in_net_rx_action",
        "input_pkt_queue",
        "machine",
        "output_queue",
        "poll_list",
        "process_queue",
        "processed",
        "time_squeeze",
        "xmit_recursion",
    )

    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        self.poll_list: list[napi_struct] = []
        self.output_queue: deque[Qdisc] = deque()
        self.completion_queue = sk_buff_head()
        self.input_pkt_queue = sk_buff_head()
        self.process_queue = sk_buff_head()
        self.backlog = napi_struct()
        self.backlog.machine = machine
        self.backlog.sd = self
        self.processed = 0
        self.dropped = 0
        self.time_squeeze = 0
        self.in_net_rx_action = False
        self.xmit_recursion = 0


def no_start_xmit(skb: sk_buff, dev: net_device) -> int:
    """What a device without a driver sends: nothing. Takes ownership of skb."""
    kfree_skb(skb)
    return NETDEV_TX_OK


class net_hotdata:
    """include/net/hotdata.h: settings of the machine, copied from its first namespace's sysctls."""

    __slots__ = ("dev_tx_weight", "max_backlog", "netdev_budget")

    def __init__(self) -> None:
        self.dev_tx_weight = 0
        self.max_backlog = 0
        self.netdev_budget = 0


@dataclass(slots=True, kw_only=True)
class net_device_ops:
    """The driver's functions, by the kernel's names; None = not offered.

    `ndo_start_xmit(skb, dev) -> NETDEV_TX_OK | NETDEV_TX_BUSY` takes ownership of skb unless BUSY.
    Those that return an int return 0 or -errno, except `ndo_fix_features` and
    `ndo_features_check`: the features that hold. None of them raises.
    """

    ndo_change_mtu: Callable[[net_device, int], int] | None = None
    ndo_eth_ioctl: Callable[..., Any] | None = None
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


class header_ops:
    """Link-layer header functions (include/linux/netdevice.h).

    `create(skb, dev, type, daddr, saddr, len) -> int`, `parse(skb) -> bytes`,
    `cache(neigh, hh, type)`, `cache_update(hh, dev, haddr)`.
    """

    __slots__ = ("cache", "cache_update", "create", "parse")

    def __init__(
        self,
        create: Callable[..., int],
        parse: Callable[[sk_buff], bytes] | None = None,
        cache: Callable[..., int] | None = None,
        cache_update: Callable[..., None] | None = None,
    ) -> None:
        self.create = create
        self.parse = parse
        self.cache = cache
        self.cache_update = cache_update


class hw_addr_list:
    """include/linux/netdevice.h netdev_hw_addr_list: addresses with a use count, in order."""

    __slots__ = ("_count",)

    def __init__(self) -> None:
        self._count: dict[bytes, int] = {}

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

    def __iter__(self) -> Iterator[bytes]:
        return iter(tuple(self._count))

    def __len__(self) -> int:
        return len(self._count)

    def __contains__(self, addr: object) -> bool:
        return addr in self._count


class net_device:
    """One network interface. Members carry the kernel's names; made by `alloc_netdev_mqs`."""

    __slots__ = (
        "__weakref__",
        "addr_assign_type",
        "addr_len",
        "allmulti",
        "broadcast",
        "dev_addr",
        "ethtool_ops",
        "features",
        "flags",
        "gro_max_size",
        "gso_max_segs",
        "gso_max_size",
        "hard_header_len",
        "header_ops",
        "hw_enc_features",
        "hw_features",
        "ifalias",
        "ifindex",
        "ip6_ptr",
        "ip_ptr",
        "lltx",
        "machine",
        "max_mtu",
        "mc",
        "min_mtu",
        "mtu",
        "name",
        "napi_list",
        "needed_headroom",
        "net",
        "netdev_ops",
        "num_tx_queues",
        "perm_addr",
        "priv",
        "promiscuity",
        "ptype_specific",
        "qdisc",
        "qdisc_sleeping",
        "queue_stopped",
        "real_num_tx_queues",
        "reg_state",
        "rx_fast",
        "rx_handler",
        "rx_handler_data",
        "state",
        "stats",
        "trans_start",
        "trans_timeout",
        "tx_queue_len",
        "type",
        "uc",
        "uc_promisc",
        "virtual",
        "vlan_features",
        "vlan_info",
        "wanted_features",
        "watchdog_timeo",
        "watchdog_timer",
        "xmit_dst_release",
        "xmit_more",
        "xmit_simple",
    )

    def __init__(self, net: Net, name: str) -> None:
        self.net = net
        self.machine = net.machine  # stays when the device moves to another namespace
        self.name = name
        self.ifindex = 0
        self.mtu = 0
        self.min_mtu = 0
        self.max_mtu = 0
        self.type = 0
        self.hard_header_len = 0
        self.needed_headroom = 0
        self.addr_len = 0
        self.dev_addr = b""
        self.perm_addr = b""
        self.addr_assign_type = 0
        self.broadcast = b""
        self.flags = 0
        self.features = 0
        self.hw_features = 0
        self.hw_enc_features = 0
        self.wanted_features = 0
        self.vlan_features = 0
        self.virtual = False  # made by software (the kernel: it has rtnl_link_ops)
        self.gso_max_size = GSO_LEGACY_MAX_SIZE
        self.gso_max_segs = GSO_MAX_SEGS
        self.gro_max_size = GSO_MAX_SIZE
        self.tx_queue_len = 1000
        self.num_tx_queues = 1
        self.real_num_tx_queues = 1
        self.qdisc: Qdisc
        self.qdisc_sleeping: Qdisc | None = None  # what runs again when the carrier is back
        self.queue_stopped = False
        self.lltx = False
        self.xmit_dst_release = True
        self.xmit_more = False
        self.trans_start = 0
        self.trans_timeout = 0  # times that the watchdog barked
        self.watchdog_timeo = 0
        self.watchdog_timer: timer_list | None = None
        self.state = LINK_STATE_PRESENT
        self.reg_state = NETREG_UNINITIALIZED
        self.stats = rtnl_link_stats64()
        self.netdev_ops = net_device_ops()
        self.ethtool_ops: ethtool_ops | None = None
        self.header_ops: header_ops | None = None
        self.rx_handler: Callable[[sk_buff], int] | None = None
        self.rx_handler_data: Any = None
        self.rx_fast: dict[int, packet_type] = {}  # see netif_receive_skb
        self.xmit_simple = False  # see netdev_xmit_simple
        self.ptype_specific: list[packet_type] = []
        self.ip_ptr: in_device | None = None
        self.ip6_ptr: inet6_dev | None = None
        self.priv: Any = None
        self.napi_list: list[napi_struct] = []
        self.uc = hw_addr_list()
        self.mc = hw_addr_list()
        self.uc_promisc = False
        self.promiscuity = 0
        self.allmulti = 0
        self.vlan_info: dict[tuple[int, int], net_device] | None = None
        self.ifalias = ""

    def __repr__(self) -> str:
        return f"<net_device {self.name} ifindex {self.ifindex} flags {flag_names(self)}>"


def flag_names(dev: net_device) -> str:
    """The flags as `ip link` prints them."""
    flags = dev_get_flags(dev)
    return ",".join(name for bit, name in IFF_NAMES if flags & bit)


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
    flags = dev.flags & ~(IFF_RUNNING | IFF_LOWER_UP)
    if netif_running(dev) and netif_carrier_ok(dev):
        flags |= IFF_RUNNING | IFF_LOWER_UP
    return flags


def net_xmit_errno(code: int) -> int:
    """include/linux/netdevice.h: NET_XMIT_CN (2) is no error, anything else is -ENOBUFS."""
    return 0 if code == 2 else -errno.ENOBUFS
