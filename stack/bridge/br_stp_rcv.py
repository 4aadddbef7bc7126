"""net/bridge/br_stp_bpdu.c, net/llc/llc_input.c: reception of BPDUs at a port of a bridge.

Frames with an 802.3 length carry LLC (IEEE 802.2). Service access point 0x42, the spanning tree's,
is the only one with a receiver.
"""

from __future__ import annotations

from fastpath.base.skbuff import PACKET_OTHERHOST, consume_skb, sk_buff, skb_copy_bits
from fastpath.net.hdr import eth_hdr
from stack.bridge import br_private
from stack.bridge.br_private import br_port_get
from stack.bridge.br_stp import br_received_config_bpdu, br_received_tcn_bpdu
from stack.bridge.br_stp_bpdu import BPDU_TYPE_CONFIG, BPDU_TYPE_TCN, CONFIG, LLC, br_config_bpdu
from stack.bridge.br_stp_if import br_stp_disable_port
from stack.core.dev_receive import dev_add_pack
from stack.core.netdevice import ETH_P_802_2, IFF_UP, NET_RX_SUCCESS, net_device, packet_type
from stack.net import Net

BPDU_HEAD = bytes(3)
"""Protocol 0 and version 0."""


def llc_rcv(skb: sk_buff, dev: net_device, pt: packet_type, orig_dev: net_device) -> int:
    """net/llc/llc_input.c: a frame with an LLC header. NET_RX_SUCCESS. Takes ownership of skb."""
    if skb.pkt_type != PACKET_OTHERHOST:
        eth = eth_hdr(skb)
        pdulen: int = eth.h_proto
        dest: bytes = eth.h_dest
        if len(LLC) <= pdulen <= skb.len:
            data = skb_copy_bits(skb, 0, min(pdulen, len(LLC) + CONFIG.size))
            if data.startswith(LLC):
                br_stp_rcv(dev, dest, data[len(LLC) :])
    consume_skb(skb)
    return NET_RX_SUCCESS


def br_stp_rcv(dev: net_device, dest: bytes, data: bytes) -> None:
    """net/bridge/br_stp_bpdu.c: a BPDU came in at `dev`."""
    p = br_port_get(dev)
    if p is None or not data.startswith(BPDU_HEAD) or len(data) <= len(BPDU_HEAD):
        return
    br = p.br
    if br.stp_enabled != br_private.BR_KERNEL_STP or not br.dev.flags & IFF_UP:
        return
    if p.state == br_private.BR_STATE_DISABLED or dest != br.group_addr:
        return
    if p.flags & br_private.BR_BPDU_GUARD:
        br_stp_disable_port(p)
    elif data[3] == BPDU_TYPE_CONFIG:
        bpdu = br_config_bpdu.parse(data)
        if bpdu is not None and bpdu.message_age <= bpdu.max_age:
            br_received_config_bpdu(p, bpdu)
    elif data[3] == BPDU_TYPE_TCN:
        br_received_tcn_bpdu(p)


def br_stp_rcv_init(net: Net) -> None:
    """net/802/stp.c stp_proto_register: receive BPDUs in a namespace."""
    dev_add_pack(net, packet_type(ETH_P_802_2, llc_rcv))
