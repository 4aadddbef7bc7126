"""net/ethtool/common.c: names of features, link modes and the like, by the numbers of their bits.

A name's index in its set is its number in messages of NETLINK_GENERIC's ethtool family. "-" is a
bit without a name.
"""

from __future__ import annotations

from stack.core.netdevice import NETDEV_FEATURE_STRINGS

# enum ethtool_stringset
ETH_SS_PRIV_FLAGS = 2
ETH_SS_FEATURES = 4
ETH_SS_RSS_HASH_FUNCS = 5
ETH_SS_TUNABLES = 6
ETH_SS_PHY_TUNABLES = 8
ETH_SS_LINK_MODES = 9
ETH_SS_MSG_CLASSES = 10
ETH_SS_WOL_MODES = 11
ETH_SS_SOF_TIMESTAMPING = 12
ETH_SS_TS_TX_TYPES = 13
ETH_SS_TS_RX_FILTERS = 14
ETH_SS_UDP_TUNNEL_TYPES = 15
ETH_SS_STATS_STD = 16
ETH_SS_STATS_ETH_PHY = 17
ETH_SS_STATS_ETH_MAC = 18
ETH_SS_STATS_ETH_CTRL = 19
ETH_SS_STATS_RMON = 20
ETH_SS_STATS_PHY = 21
ETH_SS_TS_FLAGS = 22
ETH_SS_COUNT = 23


def _set(words: str) -> tuple[str, ...]:
    """The names of a set, separated by spaces."""
    return tuple("" if word == "-" else word for word in words.split())


STRING_SETS: dict[int, tuple[str, ...]] = {
    ETH_SS_FEATURES: _set("""
        tx-scatter-gather tx-checksum-ipv4 - tx-checksum-ip-generic tx-checksum-ipv6 highdma
        tx-scatter-gather-fraglist tx-vlan-hw-insert rx-vlan-hw-parse rx-vlan-filter
        vlan-challenged tx-generic-segmentation - - rx-gro rx-lro tx-tcp-segmentation
        tx-gso-robust tx-tcp-ecn-segmentation tx-tcp-mangleid-segmentation
        tx-tcp6-segmentation tx-fcoe-segmentation tx-gre-segmentation tx-gre-csum-segmentation
        tx-ipxip4-segmentation tx-ipxip6-segmentation tx-udp_tnl-segmentation
        tx-udp_tnl-csum-segmentation tx-gso-partial tx-tunnel-remcsum-segmentation
        tx-sctp-segmentation tx-esp-segmentation - tx-udp-segmentation tx-gso-list
        tx-tcp-accecn-segmentation tx-checksum-fcoe-crc tx-checksum-sctp rx-ntuple-filter
        rx-hashing rx-checksum tx-nocache-copy loopback rx-fcs rx-all tx-vlan-stag-hw-insert
        rx-vlan-stag-hw-parse rx-vlan-stag-filter l2-fwd-offload hw-tc-offload esp-hw-offload
        esp-tx-csum-hw-offload rx-udp_tunnel-port-offload tls-hw-tx-offload tls-hw-rx-offload
        rx-gro-hw tls-hw-record rx-gro-list macsec-hw-offload rx-udp-gro-forwarding
        hsr-tag-ins-offload hsr-tag-rm-offload hsr-fwd-offload hsr-dup-offload
    """),
    ETH_SS_RSS_HASH_FUNCS: _set("toeplitz xor crc32"),
    ETH_SS_TUNABLES: _set(
        "Unspec rx-copybreak tx-copybreak pfc-prevention-tout tx-copybreak-buf-size"
    ),
    ETH_SS_PHY_TUNABLES: _set(
        "Unspec phy-downshift phy-fast-link-down phy-energy-detect-power-down"
    ),
    ETH_SS_LINK_MODES: _set("""
        10baseT/Half 10baseT/Full 100baseT/Half 100baseT/Full 1000baseT/Half 1000baseT/Full
        Autoneg TP AUI MII FIBRE BNC 10000baseT/Full Pause Asym_Pause 2500baseX/Full Backplane
        1000baseKX/Full 10000baseKX4/Full 10000baseKR/Full 10000baseR_FEC 20000baseMLD2/Full
        20000baseKR2/Full 40000baseKR4/Full 40000baseCR4/Full 40000baseSR4/Full
        40000baseLR4/Full 56000baseKR4/Full 56000baseCR4/Full 56000baseSR4/Full
        56000baseLR4/Full 25000baseCR/Full 25000baseKR/Full 25000baseSR/Full 50000baseCR2/Full
        50000baseKR2/Full 100000baseKR4/Full 100000baseSR4/Full 100000baseCR4/Full
        100000baseLR4_ER4/Full 50000baseSR2/Full 1000baseX/Full 10000baseCR/Full
        10000baseSR/Full 10000baseLR/Full 10000baseLRM/Full 10000baseER/Full 2500baseT/Full
        5000baseT/Full None RS BASER 50000baseKR/Full 50000baseSR/Full 50000baseCR/Full
        50000baseLR_ER_FR/Full 50000baseDR/Full 100000baseKR2/Full 100000baseSR2/Full
        100000baseCR2/Full 100000baseLR2_ER2_FR2/Full 100000baseDR2/Full 200000baseKR4/Full
        200000baseSR4/Full 200000baseLR4_ER4_FR4/Full 200000baseDR4/Full 200000baseCR4/Full
        100baseT1/Full 1000baseT1/Full 400000baseKR8/Full 400000baseSR8/Full
        400000baseLR8_ER8_FR8/Full 400000baseDR8/Full 400000baseCR8/Full LLRS
        100000baseKR/Full 100000baseSR/Full 100000baseLR_ER_FR/Full 100000baseCR/Full
        100000baseDR/Full 200000baseKR2/Full 200000baseSR2/Full 200000baseLR2_ER2_FR2/Full
        200000baseDR2/Full 200000baseCR2/Full 400000baseKR4/Full 400000baseSR4/Full
        400000baseLR4_ER4_FR4/Full 400000baseDR4/Full 400000baseCR4/Full 100baseFX/Half
        100baseFX/Full 10baseT1L/Full 800000baseCR8/Full 800000baseKR8/Full 800000baseDR8/Full
        800000baseDR8_2/Full 800000baseSR8/Full 800000baseVR8/Full 10baseT1S/Full
        10baseT1S/Half 10baseT1S_P2MP/Half 10baseT1BRR/Full 200000baseCR/Full
        200000baseKR/Full 200000baseDR/Full 200000baseDR_2/Full 200000baseSR/Full
        200000baseVR/Full 400000baseCR2/Full 400000baseKR2/Full 400000baseDR2/Full
        400000baseDR2_2/Full 400000baseSR2/Full 400000baseVR2/Full 800000baseCR4/Full
        800000baseKR4/Full 800000baseDR4/Full 800000baseDR4_2/Full 800000baseSR4/Full
        800000baseVR4/Full
    """),
    ETH_SS_MSG_CLASSES: _set("""
        drv probe link timer ifdown ifup rx_err tx_err tx_queued intr tx_done rx_status
        pktdata hw wol
    """),
    ETH_SS_WOL_MODES: _set("phy ucast mcast bcast arp magic magicsecure filter"),
    ETH_SS_SOF_TIMESTAMPING: _set("""
        hardware-transmit software-transmit hardware-receive software-receive
        software-system-clock hardware-legacy-clock hardware-raw-clock option-id
        sched-transmit ack-transmit option-cmsg option-tsonly option-stats option-pktinfo
        option-tx-swhw bind-phc option-id-tcp option-rx-filter tx-completion
    """),
    ETH_SS_TS_TX_TYPES: _set("off on onestep-sync onestep-p2p"),
    ETH_SS_TS_RX_FILTERS: _set("""
        none all some ptpv1-l4-event ptpv1-l4-sync ptpv1-l4-delay-req ptpv2-l4-event
        ptpv2-l4-sync ptpv2-l4-delay-req ptpv2-l2-event ptpv2-l2-sync ptpv2-l2-delay-req
        ptpv2-event ptpv2-sync ptpv2-delay-req ntp-all
    """),
    ETH_SS_UDP_TUNNEL_TYPES: _set("vxlan geneve vxlan-gpe"),
    ETH_SS_STATS_STD: _set("eth-phy eth-mac eth-ctrl rmon phydev"),
    ETH_SS_STATS_ETH_PHY: _set("SymbolErrorDuringCarrier"),
    ETH_SS_STATS_ETH_MAC: _set("""
        FramesTransmittedOK SingleCollisionFrames MultipleCollisionFrames FramesReceivedOK
        FrameCheckSequenceErrors AlignmentErrors OctetsTransmittedOK
        FramesWithDeferredXmissions LateCollisions FramesAbortedDueToXSColls
        FramesLostDueToIntMACXmitError CarrierSenseErrors OctetsReceivedOK
        FramesLostDueToIntMACRcvError MulticastFramesXmittedOK BroadcastFramesXmittedOK
        FramesWithExcessiveDeferral MulticastFramesReceivedOK BroadcastFramesReceivedOK
        InRangeLengthErrors OutOfRangeLengthField FrameTooLongErrors
    """),
    ETH_SS_STATS_ETH_CTRL: _set(
        "MACControlFramesTransmitted MACControlFramesReceived UnsupportedOpcodesReceived"
    ),
    ETH_SS_STATS_RMON: _set(
        "etherStatsUndersizePkts etherStatsOversizePkts etherStatsFragments etherStatsJabbers"
    ),
    ETH_SS_STATS_PHY: _set("RxFrames RxOctets RxErrors TxFrames TxOctets TxErrors"),
    ETH_SS_TS_FLAGS: _set("bonded-phc-index"),
}
"""The sets that are the same for each interface."""

FEATURES = STRING_SETS[ETH_SS_FEATURES]
LINK_MODES = STRING_SETS[ETH_SS_LINK_MODES]
NUMBERED_FEATURES = {
    1 << FEATURES.index(name): ours
    for ours, name in NETDEV_FEATURE_STRINGS.items()
    if name in FEATURES
}
"""Linux's bit of a feature -> ours."""
NEVER_CHANGE = 1 << FEATURES.index("vlan-challenged")


def bits_of(names: list[str], known: tuple[str, ...]) -> int:
    """Names as a set of bits."""
    return sum(1 << known.index(name) for name in names)


def features_of(ours: int) -> int:
    """ethnl_features_to_bitmap: our bits of features as Linux's."""
    return sum(theirs for theirs, bit in NUMBERED_FEATURES.items() if ours & bit)


def our_features(theirs: int) -> int:
    """The opposite; those that we do not have are 0."""
    return sum(bit for number, bit in NUMBERED_FEATURES.items() if theirs & number)
