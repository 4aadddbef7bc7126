"""drivers/net/bonding/bond_main.c: transmit through a bond, and receive from its slaves.

    bond_start_xmit             ndo_start_xmit: by the mode to one slave, or to all
        bond_xmit_hash          balance-xor, 802.3ad: a number of the frame's flow
        bond_dev_queue_xmit     into the slave's queue
    bond_handle_frame           rx_handler of a slave: the bond receives the frame

Numbers of the hash are read as a little-endian machine reads them, so flows are spread as on a PC.
"""

from __future__ import annotations

from fastpath.base import skbuff
from fastpath.base.skbuff import sk_buff, skb_clone, skb_copy_bits
from fastpath.net.hdr import eth_hdr
from stack.bonding.bond_3ad import PKT_TYPE_LACPDU, bond_3ad_lacpdu_recv
from stack.bonding.bonding import (
    BOND_LINK_UP,
    BOND_MODE_8023AD,
    BOND_MODE_ACTIVEBACKUP,
    BOND_MODE_BROADCAST,
    BOND_MODE_ROUNDROBIN,
    BOND_XMIT_POLICY_ENCAP23,
    BOND_XMIT_POLICY_ENCAP34,
    BOND_XMIT_POLICY_LAYER2,
    BOND_XMIT_POLICY_LAYER23,
    BOND_XMIT_POLICY_LAYER34,
    BOND_XMIT_POLICY_VLAN_SRCMAC,
    bond_slave_can_tx,
    bond_slave_is_up,
    bonding,
    slave,
)
from stack.core import netdevice
from stack.core.dev_queue import dev_queue_xmit
from stack.core.drop_reason import SKB_DROP_REASON_NO_TX_TARGET, kfree_skb_reason
from stack.core.if_vlan import eth_type_vlan, vlan_depth, vlan_get_protocol
from stack.core.netdevice import net_device
from stack.core.rows import narrow
from stack.core.uapi import IPPROTO_IGMP
from stack.ethernet.eth import is_link_local_ether_addr
from stack.inet.multipath import dissect, flow_keys, ip_keys

HEAD = 192
"""Bytes of a frame that a hash examines."""
IP_PROTOCOL_AT = netdevice.ETH_HLEN + 9


def bond_dev_queue_xmit(skb: sk_buff, one: slave) -> int:
    """drivers/net/bonding/bond_main.c: through a slave. NETDEV_TX_OK. Takes ownership of skb."""
    skb.dev = one.dev
    dev_queue_xmit(skb)
    return netdevice.NETDEV_TX_OK


def bond_tx_drop(skb: sk_buff, dev: net_device) -> int:
    """include/net/bonding.h: no slave can send it. NETDEV_TX_OK. Takes ownership of skb."""
    dev.stats.tx_dropped += 1
    kfree_skb_reason(dev.net, skb, SKB_DROP_REASON_NO_TX_TARGET)
    return netdevice.NETDEV_TX_OK


def bond_start_xmit(skb: sk_buff, dev: net_device) -> int:
    """drivers/net/bonding/bond_main.c: ndo_start_xmit. NETDEV_TX_OK. Takes ownership of skb."""
    bond: bonding = dev.priv
    one: slave | None
    mode = bond.params.mode
    if mode == BOND_MODE_ACTIVEBACKUP:
        one = bond.curr_active_slave
    elif mode == BOND_MODE_BROADCAST:
        return bond_xmit_broadcast(skb, dev)
    elif mode == BOND_MODE_ROUNDROBIN:
        one = bond_xmit_roundrobin_slave_get(bond, skb)
    else:
        one = None
        slaves = bond.usable_slaves
        if slaves:
            one = slaves[bond_xmit_hash(bond, skb) % len(slaves)]
    return bond_tx_drop(skb, dev) if one is None else bond_dev_queue_xmit(skb, one)


def bond_xmit_broadcast(skb: sk_buff, dev: net_device) -> int:
    """drivers/net/bonding/bond_main.c: a copy to each slave. Takes ownership of skb."""
    bond: bonding = dev.priv
    one: slave
    prev: slave | None = None
    for one in bond.slave_list:
        if one.link != BOND_LINK_UP or not bond_slave_is_up(one):
            continue
        if prev is not None:
            bond_dev_queue_xmit(skb_clone(skb), prev)
        prev = one
    return bond_tx_drop(skb, dev) if prev is None else bond_dev_queue_xmit(skb, prev)


def bond_rr_gen_slave_id(bond: bonding) -> int:
    """drivers/net/bonding/bond_main.c: a number that names the next slave."""
    each = bond.params.packets_per_slave
    if not each:
        return bond.dev.net.random.getrandbits(32)
    number = bond.rr_tx_counter
    bond.rr_tx_counter = number + 1
    return number // each


def bond_xmit_roundrobin_slave_get(bond: bonding, skb: sk_buff) -> slave | None:
    """drivers/net/bonding/bond_main.c: the slave of a frame in balance-rr.

    IGMP stays on one slave, so that the switch gets reports and leaves on the same port.
    """
    one: slave | None
    ipv4 = skb.protocol == netdevice.ETH_P_IP and skb.len > IP_PROTOCOL_AT
    if ipv4 and skb_copy_bits(skb, IP_PROTOCOL_AT, 1)[0] == IPPROTO_IGMP:
        one = bond.curr_active_slave
        if one is not None:
            return one
    slaves = bond.slave_list
    count = len(slaves)
    if not count:
        return None
    first = bond_rr_gen_slave_id(bond) % count
    for step in range(count):
        one = slaves[(first + step) % count]
        if bond_slave_can_tx(one):
            return one
    return None


# --- the hash -------------------------------------------------------------------------------------


def bond_eth_hash(head: bytes, proto: int) -> int:
    """drivers/net/bonding/bond_main.c: both addresses' last bytes and the EtherType."""
    return head[5] ^ head[11] ^ proto


def swab32(value: int) -> int:
    """include/linux/swab.h."""
    return (value & 0xFF) << 24 | (value & 0xFF00) << 8 | value >> 8 & 0xFF00 | value >> 24 & 0xFF


def bond_ip_hash(number: int, keys: flow_keys, policy: int) -> int:
    """drivers/net/bonding/bond_main.c: mix IP addresses into `number`."""
    both = keys.saddr ^ keys.daddr
    both ^= both >> 64
    number ^= swab32(narrow((both ^ both >> 32) & 0xFFFFFFFF))
    number ^= number >> 16
    number ^= number >> 8
    # Ports of one host's flows are often all even, so the lowest bit is dropped.
    if policy in (BOND_XMIT_POLICY_LAYER34, BOND_XMIT_POLICY_ENCAP34):
        return number >> 1
    return number


def bond_vlan_srcmac_hash(head: bytes, skb: sk_buff) -> int:
    """drivers/net/bonding/bond_main.c: the VLAN and the halves of the source address."""
    vid = skb.vlan_tci & netdevice.VLAN_VID_MASK if skb.vlan_proto else 0
    return vid ^ int.from_bytes(head[6:9], "big") ^ int.from_bytes(head[9:12], "big")


def bond_xmit_hash(bond: bonding, skb: sk_buff) -> int:
    """drivers/net/bonding/bond_main.c: up to 32 bits of a frame's flow. Borrows skb.

    Documentation/networking/bonding.rst has the formulas under xmit_hash_policy.
    """
    policy = bond.params.xmit_policy
    head = skb_copy_bits(skb, 0, min(HEAD, skb.len))
    if len(head) < netdevice.ETH_HLEN:
        return 0
    if policy == BOND_XMIT_POLICY_VLAN_SRCMAC:
        return bond_vlan_srcmac_hash(head, skb)
    ethertype = head[12] << 8 | head[13]
    if policy == BOND_XMIT_POLICY_LAYER2:
        return bond_eth_hash(head, ethertype)
    proto, at = ethertype, netdevice.ETH_HLEN
    if eth_type_vlan(skb.protocol):
        proto, at = vlan_get_protocol(skb), vlan_depth(skb)
    if proto not in (netdevice.ETH_P_IP, netdevice.ETH_P_IPV6):
        return bond_eth_hash(head, ethertype)
    if policy in (BOND_XMIT_POLICY_ENCAP23, BOND_XMIT_POLICY_ENCAP34):
        outer, inner = dissect(head[at:])
        keys = inner if inner is not None else outer
    else:
        found = ip_keys(head, at)
        if found is None:
            return bond_eth_hash(head, ethertype)
        keys = found[0]
    if policy in (BOND_XMIT_POLICY_LAYER23, BOND_XMIT_POLICY_ENCAP23):
        return bond_ip_hash(bond_eth_hash(head, ethertype), keys, policy)
    return bond_ip_hash(swab32(keys.sport << 16 | keys.dport), keys, policy)


# --- reception ------------------------------------------------------------------------------------


def bond_handle_frame(skb: sk_buff) -> int:
    """drivers/net/bonding/bond_main.c: the rx_handler of a slave. RX_HANDLER_*.

    An inactive slave's frames go only to handlers that are bound to the slave. Takes ownership of
    skb when RX_HANDLER_CONSUMED is returned.
    """
    dev: net_device = skb.dev
    one: slave = dev.rx_handler_data
    bond: bonding = one.bond
    if skb.pkt_type == skbuff.PACKET_LOOPBACK:
        return netdevice.RX_HANDLER_PASS
    if bond.params.mode == BOND_MODE_8023AD and skb.protocol == PKT_TYPE_LACPDU:
        bond_3ad_lacpdu_recv(skb, one)  # and then the bond or its taps receive it, as in Linux
    if one.inactive:
        if is_link_local_ether_addr(eth_hdr(skb).h_dest):
            return netdevice.RX_HANDLER_PASS
        return netdevice.RX_HANDLER_EXACT
    skb.dev = bond.dev
    return netdevice.RX_HANDLER_ANOTHER
