"""net/bridge/br_stp_bpdu.c: BPDUs on the wire (IEEE 802.1D clause 9), and sending them.

A frame of 802.3: its length field counts the LLC header and the BPDU.

    | dest 01:80:C2:00:00:00 | source: the port's | length 2 | 42 42 03 | BPDU |

A configuration BPDU has 35 bytes, times in 1/256 s:

    | protocol 0, 2 | version 0 | type 0 | flags | root 8 | cost 4 | bridge 8 | port 2 |
    | message age 2 | max age 2 | hello time 2 | forward delay 2 |

A topology change notification has 4: protocol, version, type 0x80.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from fastpath.base.skbuff import alloc_skb, skb_put_data
from stack.bridge.br_private import BR_KERNEL_STP, net_bridge_port
from stack.core.dev_queue import dev_queue_xmit
from stack.core.neighbour import dev_hard_header
from stack.core.netdevice import ETH_P_802_2, net_device
from stack.sched.sch_generic import TC_PRIO_CONTROL

TICK_NS = 3_906_250
"""1/256 s."""
TICKS_MAX = 0xFFFF
LLC_SAP_BSPAN = 0x42
LLC_PDU_UI = 0x03
LLC = bytes((LLC_SAP_BSPAN, LLC_SAP_BSPAN, LLC_PDU_UI))
BPDU_TYPE_CONFIG = 0
BPDU_TYPE_TCN = 0x80
BPDU_TC = 0x01
BPDU_TCA = 0x80
CONFIG = struct.Struct(">HBBB8sI8sHHHHH")
TCN_BPDU = bytes((0, 0, 0, BPDU_TYPE_TCN))


@dataclass(frozen=True, slots=True)
class br_config_bpdu:
    """net/bridge/br_private_stp.h: a configuration BPDU; times are ns."""

    root: bytes
    root_path_cost: int
    bridge_id: bytes
    port_id: int
    message_age: int
    max_age: int
    hello_time: int
    forward_delay: int
    topology_change: bool = False
    topology_change_ack: bool = False

    @classmethod
    def parse(cls, data: bytes) -> br_config_bpdu | None:
        """Read a BPDU (behind the LLC header); None: it is too short for one."""
        if len(data) < CONFIG.size:
            return None
        _, _, _, flags, root, cost, bridge, port, *ticks = CONFIG.unpack_from(data)
        age, max_age, hello, delay = (number * TICK_NS for number in ticks)
        tc, tca = bool(flags & BPDU_TC), bool(flags & BPDU_TCA)
        return cls(root, cost, bridge, port, age, max_age, hello, delay, tc, tca)

    def emit(self) -> bytes:
        """Return its 35 bytes; parts of 1/256 s are cut off."""
        flags = BPDU_TC * self.topology_change | BPDU_TCA * self.topology_change_ack
        times = (self.message_age, self.max_age, self.hello_time, self.forward_delay)
        ticks = (min(time // TICK_NS, TICKS_MAX) for time in times)
        head = (0, 0, BPDU_TYPE_CONFIG, flags, self.root, self.root_path_cost & 0xFFFFFFFF)
        return CONFIG.pack(*head, self.bridge_id, self.port_id, *ticks)


def br_send_bpdu(p: net_bridge_port, data: bytes) -> None:
    """net/bridge/br_stp_bpdu.c: send a BPDU through a port. Nothing when memory is short."""
    dev: net_device = p.dev
    pdu = LLC + data
    headroom = dev.hard_header_len + dev.needed_headroom + 2
    skb = alloc_skb(dev.net.skb_small, len(pdu), headroom)
    if skb is None:
        return
    skb_put_data(skb, pdu)
    skb.dev = dev
    skb.protocol = ETH_P_802_2
    skb.priority = TC_PRIO_CONTROL
    dev_hard_header(skb, dev, ETH_P_802_2, p.br.group_addr, dev.dev_addr, len(pdu))
    dev_queue_xmit(skb)


def br_send_config_bpdu(p: net_bridge_port, bpdu: br_config_bpdu) -> None:
    """net/bridge/br_stp_bpdu.c."""
    if p.br.stp_enabled == BR_KERNEL_STP:
        br_send_bpdu(p, bpdu.emit())


def br_send_tcn_bpdu(p: net_bridge_port) -> None:
    """net/bridge/br_stp_bpdu.c."""
    if p.br.stp_enabled == BR_KERNEL_STP:
        br_send_bpdu(p, TCN_BPDU)
