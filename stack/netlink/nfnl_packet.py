"""What messages of nfnetlink_log and nfnetlink_queue both tell of a packet."""

from __future__ import annotations

import struct

from fastpath.base.skbuff import sk_buff, skb_mac_header_was_set
from stack.core.netfilter import NF_INET_FORWARD, nf_hook_state
from stack.core.tcp_states import TCP_LISTEN
from stack.core.time64 import NSEC_PER_SEC
from stack.netfilter.nf_tables import nft_pktinfo
from stack.netfilter.nft_meta import skb_to_full_sk


def has_link_header(skb: sk_buff, state: nf_hook_state) -> bool:
    """Whether a packet was received with a link-layer header that is still known."""
    return state.indev is not None and skb.dev is not None and skb_mac_header_was_set(skb)


def packet_hw(skb: sk_buff) -> bytes | None:
    """struct nfulnl_msg_packet_hw, struct nfqnl_msg_packet_hw: the sender's link-layer address."""
    parse = None if skb.dev.header_ops is None else skb.dev.header_ops.parse
    if parse is None or skb.network_header == skb.mac_header:
        return None
    source = parse(skb)
    return struct.pack(">HH8s", len(source), 0, source)


def packet_timestamp(skb: sk_buff, state: nf_hook_state) -> bytes | None:
    """Seconds and microseconds of a received packet, if anybody wants the time of packets."""
    machine = state.net.machine
    if state.hook > NF_INET_FORWARD:
        return None
    if not skb.tstamp_ns and not machine.net_hotdata.netstamp_needed:
        return None
    seconds, rest = divmod(machine.realtime_ns(skb.tstamp_ns), NSEC_PER_SEC)
    return struct.pack(">QQ", seconds, rest // 1000)


def packet_has_owner(skb: sk_buff, state: nf_hook_state) -> bool:
    """Whether a user is told: that of the sender's socket, but not of a listener's SYN-ACK."""
    sk = skb_to_full_sk(nft_pktinfo(skb, state))
    return sk is not None and sk.sk_state != TCP_LISTEN
