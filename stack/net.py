"""One network namespace: the kernel's `struct net`.

The fields of all subsystems are declared here. Each subsystem's `init`, registered with the machine
(stack/core/net_namespace.py), sets its own; without IPv4 its fields are unset. Everything that has
to do with a namespace imports this module, so it imports nothing that does.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from random import Random
from typing import TYPE_CHECKING, Any

from fastpath.base.dma import HostMemory
from fastpath.base.skbuff import SkbPool, sk_buff
from fastpath.errors import check_type, whole_number
from stack.core.clock import Clock, HostClock, is_threaded
from stack.core.net_namespace import cleanup_net, setup_net
from stack.core.rows import state, wide
from stack.core.snmp import netns_mib

if TYPE_CHECKING:
    from stack.clients.resolvconf import NameService
    from stack.core.eventpoll import ep_globals
    from stack.core.file import files_struct, struct_file
    from stack.core.neigh_table import neigh_table
    from stack.core.netdevice import net_device, packet_type
    from stack.core.netfilter import nf_hook_ops
    from stack.core.nf_queue import nf_queue_net
    from stack.core.proto import net_proto_family, proto
    from stack.core.readyfd import ReadyFd, ReadyHub
    from stack.core.security import security_net
    from stack.core.signal import signal_struct
    from stack.core.sk_mem import proto_mem
    from stack.core.wait import wait_queue_entry
    from stack.inet.inet_hashtables import inet_hashinfo
    from stack.inet.inet_sock import inet_sock
    from stack.inet.inet_timewait_sock import inet_timewait_death_row
    from stack.inet.ping import ping_sock
    from stack.inet.protocol import net_protocol
    from stack.inet.protosw import inet_protosw
    from stack.inet.raw import raw_sock
    from stack.inet.tcp_cong import tcp_congestion_ops
    from stack.inet.tcp_metrics import tcp_metrics_block
    from stack.inet.udp_hash import udp_table
    from stack.inet.xfrm_policy import netns_xfrm
    from stack.ipv4.devinet import in_ifaddr
    from stack.ipv4.fib import netns_fib
    from stack.ipv4.netns import netns_ipv4
    from stack.ipv6.netns import netns_ipv6
    from stack.machine import Machine
    from stack.netfilter.nf_conntrack import netns_ct
    from stack.netlink.netlink_sock import netlink_table
    from stack.packet.packet_sock import packet_fanout, packet_sock
    from stack.sched.act_api import tc_action
    from stack.sysctl import sysctl_table
    from stack.unix.unix_sock import netns_unix
    from stack.xtp.xtp_sock import xtp_net

LAST_ID = 2**32 - 2
"""The highest user or group id; the next number is INVALID_UID."""


@state(weakref=True)
class Net:
    """A network namespace of a machine: devices, addresses, routes, neighbours, sockets, sysctls.

    Args:
        machine: the machine it is on. `clock`, `lock`, `now`, `random`, `ram` and the packet pools
            are the machine's, copied here because code for each packet reads them.
        name: for messages, traces and `hostname`.
        names: its resolv.conf and hosts table (stack/api/netdb.py).
        sysctl: its knobs.
        uid, gid: user and group of the programs that open the sockets.
    """

    machine: Machine
    name: str
    hostname: str
    names: NameService
    closing: bool
    closed: bool
    uid: int
    gid: int
    caller: int
    """The thread whose system call is being processed (stack/api/programs); or 0."""
    mib: netns_mib
    gen: dict[str, Any]
    """net_generic: data of modules, by their names (stack/tunnel)."""
    sysctl: sysctl_table
    drop_reasons: dict[int, int]
    on_drop: Callable[[sk_buff, int], None] | None
    """Called with each packet that is dropped and its reason, as the kfree_skb trace point."""

    # The machine's.
    clock: HostClock
    wake_clock: Clock | None
    """The clock if several threads share it, and wake-ups must call its `wake`; else None."""
    lock: AbstractContextManager[Any]
    now: Callable[[], int]
    random: Random
    secret: bytes
    """Secret key of all hashes (core/secure_seq.py): 16 bytes."""
    ram: HostMemory
    skb_small: SkbPool
    skb_pages: SkbPool
    skb_small_head: SkbPool

    # Devices and taps: stack/core/dev.py, loopback.py.
    dev_base_head: list[net_device]
    dev_by_index: dict[int, net_device]
    dev_by_name: dict[str, net_device]
    dev_ifindex: int
    qdisc_autohandle: int
    """The last automatic handle of a discipline (sched/sch_kinds.py)."""
    qdisc_hashed: int
    """The number of child disciplines ever created (sched/sch_generic.py)."""
    tc_actions: dict[str, dict[int, tc_action]]
    """Actions of filters by kind and number (sched/act_api.py)."""
    loopback_dev: net_device
    netdev_chain: list[Callable[[int, net_device], int | None]]
    ptype_all: list[packet_type]
    ptype_base: dict[int, list[packet_type]]

    # Sockets: stack/core/bsd_socket.py, stack/api/socket.py.
    default_timeout: float | None
    epoll: ep_globals
    delayed_fput: list[struct_file]
    detached_fds: dict[int, tuple[ReadyFd, int, float | None]]
    flushing_fput: bool
    fdtable: files_struct
    net_families: list[net_proto_family | None]
    nf_hooks: list[list[nf_hook_ops]]
    nf_queue: nf_queue_net
    security: security_net | None
    prot_mem: dict[str, proto_mem]
    proto_list: list[proto]
    wait_entry: wait_queue_entry | None
    wait_ready: Callable[[], bool] | None
    """`wait_entry.ready`, bound once for all waiters; None while in use."""
    ready_hub: ReadyHub | None
    signal: signal_struct
    sock_cookie: int

    # Transport protocols: stack/inet.
    inet_protos: list[net_protocol | None]
    inetsw: list[list[inet_protosw]]
    ping_rover: int
    ping_table: dict[int, list[ping_sock]]
    raw_hash: dict[tuple[int, int], list[raw_sock]]
    syncookie_secret: tuple[bytes, bytes]
    tcp_challenge: tuple[int, int]
    tcp_cong_list: dict[str, tcp_congestion_ops]
    tcp_ctl_sk: inet_sock
    tcp_death_row: inet_timewait_death_row
    tcp_fastopen_ctx: tuple[bytes, ...]
    """Keys of TCP Fast Open; the first makes cookies."""
    tcp_hashinfo: inet_hashinfo
    tcp_metrics: dict[tuple[int, wide, wide], tcp_metrics_block]
    """By (family, source, destination): cached metrics of peers."""
    tcp_tw_isn: int
    tfo_active_disable_stamp: int
    """When a path last seemed to drop Fast Open, ns."""
    tfo_active_disable_times: int
    """Number of such events since the last success."""
    udp_table: udp_table

    # Policies and tracked connections: stack/inet/xfrm_policy.py, stack/netfilter.
    xfrm: netns_xfrm
    ct: netns_ct

    # AF_PACKET: stack/packet.
    packet_sklist: list[packet_sock]
    packet_fanout_list: list[packet_fanout]
    packet_fanout_next_id: int

    # AF_NETLINK: stack/netlink.
    nl_table: netlink_table
    rtnl: Callable[[int, Any, int], None] | None
    """`rtnl(RTM_NEWROUTE, route, NLM_F_CREATE)` and others, if there are listeners; else None."""
    ethtool_notify: Callable[[net_device, str], None] | None
    """`ethtool_notify(dev, "rings")`: a setting changed, if there are listeners; else None."""

    # IPv4: stack/ipv4.
    arp_conflicts: int
    arp_tbl: neigh_table
    fib: netns_fib
    inetaddr_chain: list[Callable[[int, in_ifaddr], Any]]
    ip_packet_type: packet_type
    ipv4: netns_ipv4
    ra_chain: list[tuple[int, Any]]

    # XTP: stack/xtp.
    xtp: xtp_net

    # IPv6: stack/ipv6.
    ipv6: netns_ipv6

    # AF_UNIX: stack/unix.
    unx: netns_unix

    def __init__(
        self,
        machine: Machine,
        name: str,
        names: NameService,
        sysctl: sysctl_table,
        *,
        uid: int = 0,
        gid: int = 0,
    ) -> None:
        self.machine = machine
        if not machine.net_namespace_list:
            machine.init_net = self
        self.name = name
        self.hostname = name
        self.names = names
        self.closed = False
        self.closing = False
        self.rtnl = self.ethtool_notify = None
        self.default_timeout = None
        self.clock = machine.clock
        self.wake_clock = machine.clock if is_threaded(machine.clock) else None
        self.lock = machine.lock
        self.now = machine.now
        self.random = machine.random
        self.secret = self.random.randbytes(16)
        self.ram = machine.ram
        self.skb_small = machine.skb_small
        self.skb_pages = machine.skb_pages
        self.skb_small_head = machine.skb_small_head
        self.mib = netns_mib()
        self.gen = {}
        self.drop_reasons = {}
        self.on_drop = None
        self.uid = whole_number("Host", "uid", uid, 0, LAST_ID)
        self.gid = whole_number("Host", "gid", gid, 0, LAST_ID)
        self.caller = 0
        self.sysctl = sysctl
        with self.lock:
            setup_net(self)

    def __repr__(self) -> str:
        names = ", ".join(dev.name for dev in self.dev_base_head)
        return f"<{type(self).__name__} {self.name}: {names}>"

    def close(self) -> None:
        """Close every socket, return the devices, free every packet. Idempotent."""
        with self.lock:
            cleanup_net(self)

    def __enter__(self) -> Net:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


def check_net(where: str, net: object) -> None:
    """Raise ArgumentTypeError unless `net`, the first argument of `where`, is a Net."""
    check_type(where, "net", net, Net, "the Host first, or one of its namespaces")
