"""net/netlink/af_netlink.h, uapi/linux/netlink.h: a netlink socket's state, and its numbers."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from stack.core.extack import netlink_ext_ack
from stack.core.rows import row, state
from stack.core.sock import sock

# protocols
NETLINK_ROUTE = 0
NETLINK_USERSOCK = 2
NETLINK_SOCK_DIAG = 4
NETLINK_XFRM = 6
NETLINK_NETFILTER = 12
NETLINK_GENERIC = 16

MAX_LINKS = 32

# struct nlmsghdr
NLMSGHDR = struct.Struct("=IHHII")
NLMSG_HDRLEN = NLMSGHDR.size
NLM_F_MULTI = 0x02
NLM_F_ACK = 0x04
NLM_F_ECHO = 0x08
NLM_F_DUMP_INTR = 0x10
NLM_F_DUMP_FILTERED = 0x20
NLM_F_ROOT = 0x100
NLM_F_MATCH = 0x200
NLM_F_DUMP = NLM_F_ROOT | NLM_F_MATCH
NLM_F_BULK = 0x200
NLM_F_CAPPED = 0x100
NLM_F_ACK_TLVS = 0x200
NLMSG_ERROR = 2
NLMSG_DONE = 3
NLMSG_MIN_TYPE = 0x10

# options of SOL_NETLINK
NETLINK_ADD_MEMBERSHIP = 1
NETLINK_DROP_MEMBERSHIP = 2
NETLINK_PKTINFO = 3
NETLINK_BROADCAST_ERROR = 4
NETLINK_NO_ENOBUFS = 5
NETLINK_LISTEN_ALL_NSID = 8
NETLINK_LIST_MEMBERSHIPS = 9
NETLINK_CAP_ACK = 10
NETLINK_EXT_ACK = 11
NETLINK_GET_STRICT_CHK = 12

SOCKADDR_NL_LEN = 12


@dataclass(slots=True)
class nlmsg:
    """One request: its header's fields, its payload and who sent it.

    `whole` is the message with its header, so that offsets of attributes count from its start.
    """

    type: int
    flags: int
    seq: int
    portid: int
    whole: bytes
    sk: netlink_sock
    dumped: bool = False
    """A dump was started, whose end acknowledges the request."""
    extack: netlink_ext_ack = field(default_factory=netlink_ext_ack)
    """The warning in its acknowledgement."""

    @property
    def payload(self) -> bytes:
        """The bytes after the header."""
        return self.whole[NLMSG_HDRLEN:]


@dataclass(slots=True)
class netlink_callback:
    """struct netlink_callback: a running dump.

    `messages` are those still to send, without NLM_F_MULTI. `seq()` changes whenever the
    tables that are dumped do.
    """

    nlh: nlmsg
    messages: Iterator[bytes]
    seq: Callable[[], Any] | None = None
    prev_seq: Any = None
    pending: bytes = b""
    """A message that did not fit into the last packet."""
    ended: bool = False
    wrong: OSError | None = None
    """Its result."""


@state
class netlink_sock(sock):
    """struct netlink_sock."""

    portid: int = row(0)
    """Its address; 0 until it is bound."""
    bound: bool = row(False)
    tgid: int = row(0)
    """The owning process's number in its own namespace (task_tgid_vnr); 0: none."""
    comm: str = row("")
    """The name of the thread that created it."""
    dst_portid: int = row(0)
    """The peer of connect(2); 0: the kernel."""
    connected: bool = row(False)
    """connect(2) was called: only that peer sends to this socket by unicast."""
    dst_group: int = row(0)
    groups: set[int] = row(make=set)
    """Multicast groups that it listens to, from 1 on."""
    listened: bool = row(False)
    """It joined a group once, so it has the kernel's array of groups."""
    congested: bool = row(False)
    """A message was lost, and the reader has not caught up."""
    max_recvmsg_len: int = row(0)
    """Size of the reader's largest buffer so far."""
    cb: netlink_callback | None = row()
    """The dump that is not read completely."""
    recv_pktinfo: bool = row(False)
    broadcast_error: bool = row(False)
    no_enobufs: bool = row(False)
    listen_all_nsid: bool = row(False)
    cap_ack: bool = row(False)
    ext_ack: bool = row(False)
    strict_chk: bool = row(False)


@dataclass(slots=True)
class netlink_protocol:
    """struct netlink_table: one protocol of a namespace.

    `rcv(msg)` answers one request to the kernel; None: not supported. `bind()` is called when the
    number of listeners changes.
    """

    number: int
    groups: int
    rcv: Callable[[nlmsg], None] | None = None
    nonroot_recv: bool = False
    nonroot_send: bool = False
    bind: Callable[[], None] | None = None
    input: Callable[[netlink_sock, bytes], bool] | None = None
    """Processes a program's buffer as a batch; False: it is not a batch."""
    release: Callable[[int], None] | None = None
    """Called with the port id of a closed socket (NETLINK_URELEASE)."""
    by_portid: dict[int, netlink_sock] = field(default_factory=dict)
    listeners: dict[int, list[netlink_sock]] = field(default_factory=dict)
    """Sockets by multicast group."""
    asked: nlmsg | None = None
    """The current request: notifications carry its requester."""

    def __post_init__(self) -> None:
        """Each protocol has at least 32 groups."""
        self.groups = max(self.groups, 32)


@dataclass(slots=True)
class netlink_table:
    """The netlink of a namespace: its protocols, all sockets, and the next port id to try."""

    protocols: dict[int, netlink_protocol] = field(default_factory=dict)
    sockets: list[netlink_sock] = field(default_factory=list)
    rover: int = 0
    dev_base_seq: int = 0
    """net->dev_base_seq: changes when an interface is added, removed or changed."""
    ifaddr_seq: int = 0
    """The same for the addresses of interfaces."""
    families: dict[int, Any] = field(default_factory=dict)
    """NETLINK_GENERIC: each `genl_family` by its number."""
