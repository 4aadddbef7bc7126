"""net/netfilter/nf_log.c: logging of packets to a group for programs.

The logger is nfnetlink_log (stack/netlink/nfnetlink_log.py), which each namespace has. Nothing is
written to the kernel's log: Linux writes there only for the first namespace, unless sysctl
net.netfilter.nf_log_all_netns is set.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from stack.core.timer import timer_list
from stack.net import Net
from stack.netfilter.nf_tables import nft_pktinfo

NFULNL_COPY_PACKET = 2
NFULNL_COPY_RANGE_MAX = 0xFFFF - 4
NFULNL_TIMEOUT_DEFAULT = 100
"""Hundredths of a second."""
NFULNL_QTHRESH_DEFAULT = 100
SKB_OVERHEAD = 320
"""sizeof(struct skb_shared_info) on Linux, at the end of a message buffer."""
NFULNL_NLBUFSIZ_DEFAULT = 4096 - SKB_OVERHEAD


@dataclass(slots=True)
class nf_loginfo:
    """struct nf_loginfo, its `u.ulog`: a rule's parameters for the logger."""

    group: int
    prefix: str
    copy_len: int | None = None
    """Maximum bytes of the packet (NF_LOG_F_COPY_LEN)."""
    qthreshold: int = 0
    """Maximum packets per message; 0: the listener's setting."""


@dataclass(slots=True, eq=False)
class nfulnl_instance:
    """struct nfulnl_instance: a group that a program has bound."""

    group_num: int
    peer_portid: int
    copy_mode: int = NFULNL_COPY_PACKET
    copy_range: int = NFULNL_COPY_RANGE_MAX
    nlbufsiz: int = NFULNL_NLBUFSIZ_DEFAULT
    flushtimeout: int = NFULNL_TIMEOUT_DEFAULT
    qthreshold: int = NFULNL_QTHRESH_DEFAULT
    flags: int = 0
    seq: int = 0
    skb: bytearray | None = None
    """Pending messages; None: there are none."""
    room: int = 0
    """Bytes that Linux's buffer would have for them."""
    qlen: int = 0
    timer: timer_list | None = None


@dataclass(slots=True, eq=False)
class nfnl_log_net:
    """struct nfnl_log_net: the bound groups of a namespace."""

    net: Net
    logfn: Callable[[nfulnl_instance, nft_pktinfo, nf_loginfo], None]
    """nfulnl_log_packet."""
    instances: dict[int, nfulnl_instance] = field(default_factory=dict)
    global_seq: int = 0


def nfnl_log_pernet(net: Net) -> nfnl_log_net:
    """net/netfilter/nfnetlink_log.c: the groups of a namespace."""
    found: nfnl_log_net = net.gen["nfnetlink_log"]
    return found


def nf_log_packet(pkt: nft_pktinfo, li: nf_loginfo) -> None:
    """net/netfilter/nf_log.c: log a packet, if the group has a listener."""
    log = nfnl_log_pernet(pkt.state.net)
    inst = log.instances.get(li.group)
    if inst is not None:
        log.logfn(inst, pkt, li)
