"""include/uapi/linux/snmp.h, net/ipv4/proc.c: the counters of /proc/net/snmp and /proc/net/netstat.

Each group is a class whose slots carry Linux's names in Linux's order; `net.mib.ip.InReceives += 1`
is a slot update. Gauges that Linux computes when it prints (Forwarding ...) are filled by
`stack.proc`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any


class _Mib:
    """Slots of ints that start at 0 (or at `_initial`)."""

    __slots__: tuple[str, ...] = ()
    names: tuple[str, ...] = ()  # of the counters, in Linux's order
    _initial: dict[str, int] = {}

    if TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any: ...

        def __setattr__(self, name: str, value: int) -> None: ...

    def __init__(self) -> None:
        for name in self.names:
            setattr(self, name, self._initial.get(name, 0))

    def items(self) -> Iterator[tuple[str, int]]:
        """(name, value) in Linux's order."""
        for name in self.names:
            yield name, getattr(self, name)

    def nonzero(self) -> dict[str, int]:
        """The counters that moved."""
        return {name: value for name, value in self.items() if value}

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.nonzero()})"


class ipstats_mib(_Mib):
    """/proc/net/snmp `Ip:`; `Forwarding` and `DefaultTTL` mirror sysctls."""

    names = (
        "Forwarding",
        "DefaultTTL",
        "InReceives",
        "InHdrErrors",
        "InAddrErrors",
        "ForwDatagrams",
        "InUnknownProtos",
        "InDiscards",
        "InDelivers",
        "OutRequests",
        "OutDiscards",
        "OutNoRoutes",
        "ReasmTimeout",
        "ReasmReqds",
        "ReasmOKs",
        "ReasmFails",
        "FragOKs",
        "FragFails",
        "FragCreates",
        "OutTransmits",
    )
    __slots__ = names
    _initial = {"Forwarding": 2, "DefaultTTL": 64}


class ipext_mib(_Mib):
    """/proc/net/netstat `IpExt:`."""

    names = (
        "InNoRoutes",
        "InTruncatedPkts",
        "InMcastPkts",
        "OutMcastPkts",
        "InBcastPkts",
        "OutBcastPkts",
        "InOctets",
        "OutOctets",
        "InMcastOctets",
        "OutMcastOctets",
        "InBcastOctets",
        "OutBcastOctets",
        "InCsumErrors",
        "InNoECTPkts",
        "InECT1Pkts",
        "InECT0Pkts",
        "InCEPkts",
        "ReasmOverlaps",
    )
    __slots__ = names


class icmp_mib(_Mib):
    """/proc/net/snmp `Icmp:`."""

    names = (
        "InMsgs",
        "InErrors",
        "InCsumErrors",
        "InDestUnreachs",
        "InTimeExcds",
        "InParmProbs",
        "InSrcQuenchs",
        "InRedirects",
        "InEchos",
        "InEchoReps",
        "InTimestamps",
        "InTimestampReps",
        "InAddrMasks",
        "InAddrMaskReps",
        "OutMsgs",
        "OutErrors",
        "OutRateLimitGlobal",
        "OutRateLimitHost",
        "OutDestUnreachs",
        "OutTimeExcds",
        "OutParmProbs",
        "OutSrcQuenchs",
        "OutRedirects",
        "OutEchos",
        "OutEchoReps",
        "OutTimestamps",
        "OutTimestampReps",
        "OutAddrMasks",
        "OutAddrMaskReps",
    )
    __slots__ = names


class icmpmsg_mib(_Mib):
    """/proc/net/snmp `IcmpMsg:`: a counter per type, `InType8`, `OutType0` ..., made on demand."""

    __slots__ = ("intype", "outtype")

    def __init__(self) -> None:
        self.intype: dict[int, int] = {}
        self.outtype: dict[int, int] = {}

    def items(self) -> Iterator[tuple[str, int]]:
        for kind in sorted(self.intype):
            yield f"InType{kind}", self.intype[kind]
        for kind in sorted(self.outtype):
            yield f"OutType{kind}", self.outtype[kind]


class tcp_mib(_Mib):
    """/proc/net/snmp `Tcp:` (RtoAlgorithm 1 = other, RtoMin/RtoMax in ms, MaxConn -1 = dynamic)."""

    names = (
        "RtoAlgorithm",
        "RtoMin",
        "RtoMax",
        "MaxConn",
        "ActiveOpens",
        "PassiveOpens",
        "AttemptFails",
        "EstabResets",
        "CurrEstab",
        "InSegs",
        "OutSegs",
        "RetransSegs",
        "InErrs",
        "OutRsts",
        "InCsumErrors",
    )
    __slots__ = names
    _initial = {"RtoAlgorithm": 1, "RtoMin": 200, "RtoMax": 120000, "MaxConn": -1}


class udp_mib(_Mib):
    """/proc/net/snmp `Udp:` and `UdpLite:`."""

    names = (
        "InDatagrams",
        "NoPorts",
        "InErrors",
        "OutDatagrams",
        "RcvbufErrors",
        "SndbufErrors",
        "InCsumErrors",
        "IgnoredMulti",
        "MemErrors",
    )
    __slots__ = names


class linux_mib(_Mib):
    """/proc/net/netstat `TcpExt:`."""

    names = (
        "SyncookiesSent",
        "SyncookiesRecv",
        "SyncookiesFailed",
        "EmbryonicRsts",
        "PruneCalled",
        "RcvPruned",
        "OfoPruned",
        "OutOfWindowIcmps",
        "LockDroppedIcmps",
        "ArpFilter",
        "TW",
        "TWRecycled",
        "TWKilled",
        "PAWSActive",
        "PAWSEstab",
        "BeyondWindow",
        "TSEcrRejected",
        "PAWSOldAck",
        "PAWSTimewait",
        "DelayedACKs",
        "DelayedACKLocked",
        "DelayedACKLost",
        "ListenOverflows",
        "ListenDrops",
        "TCPHPHits",
        "TCPPureAcks",
        "TCPHPAcks",
        "TCPRenoRecovery",
        "TCPSackRecovery",
        "TCPSACKReneging",
        "TCPSACKReorder",
        "TCPRenoReorder",
        "TCPTSReorder",
        "TCPFullUndo",
        "TCPPartialUndo",
        "TCPDSACKUndo",
        "TCPLossUndo",
        "TCPLostRetransmit",
        "TCPRenoFailures",
        "TCPSackFailures",
        "TCPLossFailures",
        "TCPFastRetrans",
        "TCPSlowStartRetrans",
        "TCPTimeouts",
        "TCPLossProbes",
        "TCPLossProbeRecovery",
        "TCPRenoRecoveryFail",
        "TCPSackRecoveryFail",
        "TCPRcvCollapsed",
        "TCPBacklogCoalesce",
        "TCPDSACKOldSent",
        "TCPDSACKOfoSent",
        "TCPDSACKRecv",
        "TCPDSACKOfoRecv",
        "TCPAbortOnData",
        "TCPAbortOnClose",
        "TCPAbortOnMemory",
        "TCPAbortOnTimeout",
        "TCPAbortOnLinger",
        "TCPAbortFailed",
        "TCPMemoryPressures",
        "TCPMemoryPressuresChrono",
        "TCPSACKDiscard",
        "TCPDSACKIgnoredOld",
        "TCPDSACKIgnoredNoUndo",
        "TCPSpuriousRTOs",
        "TCPMD5NotFound",
        "TCPMD5Unexpected",
        "TCPMD5Failure",
        "TCPSackShifted",
        "TCPSackMerged",
        "TCPSackShiftFallback",
        "TCPBacklogDrop",
        "PFMemallocDrop",
        "TCPMinTTLDrop",
        "TCPDeferAcceptDrop",
        "IPReversePathFilter",
        "TCPTimeWaitOverflow",
        "TCPReqQFullDoCookies",
        "TCPReqQFullDrop",
        "TCPRetransFail",
        "TCPRcvCoalesce",
        "TCPOFOQueue",
        "TCPOFODrop",
        "TCPOFOMerge",
        "TCPChallengeACK",
        "TCPSYNChallenge",
        "TCPFastOpenActive",
        "TCPFastOpenActiveFail",
        "TCPFastOpenPassive",
        "TCPFastOpenPassiveFail",
        "TCPFastOpenListenOverflow",
        "TCPFastOpenCookieReqd",
        "TCPFastOpenBlackhole",
        "TCPSpuriousRtxHostQueues",
        "BusyPollRxPackets",
        "TCPAutoCorking",
        "TCPFromZeroWindowAdv",
        "TCPToZeroWindowAdv",
        "TCPWantZeroWindowAdv",
        "TCPSynRetrans",
        "TCPOrigDataSent",
        "TCPHystartTrainDetect",
        "TCPHystartTrainCwnd",
        "TCPHystartDelayDetect",
        "TCPHystartDelayCwnd",
        "TCPACKSkippedSynRecv",
        "TCPACKSkippedPAWS",
        "TCPACKSkippedSeq",
        "TCPACKSkippedFinWait2",
        "TCPACKSkippedTimeWait",
        "TCPACKSkippedChallenge",
        "TCPWinProbe",
        "TCPKeepAlive",
        "TCPMTUPFail",
        "TCPMTUPSuccess",
        "TCPDelivered",
        "TCPDeliveredCE",
        "TCPAckCompressed",
        "TCPZeroWindowDrop",
        "TCPRcvQDrop",
        "TCPWqueueTooBig",
        "TCPFastOpenPassiveAltKey",
        "TcpTimeoutRehash",
        "TcpDuplicateDataRehash",
        "TCPDSACKRecvSegs",
        "TCPDSACKIgnoredDubious",
        "TCPMigrateReqSuccess",
        "TCPMigrateReqFailure",
        "TCPPLBRehash",
        "TCPAORequired",
        "TCPAOBad",
        "TCPAOKeyNotFound",
        "TCPAOGood",
        "TCPAODroppedIcmps",
    )
    __slots__ = names


class ipstats6_mib(_Mib):
    """/proc/net/snmp6 `Ip6...`."""

    names = (
        "InReceives",
        "InHdrErrors",
        "InTooBigErrors",
        "InNoRoutes",
        "InAddrErrors",
        "InUnknownProtos",
        "InTruncatedPkts",
        "InDiscards",
        "InDelivers",
        "OutForwDatagrams",
        "OutRequests",
        "OutDiscards",
        "OutNoRoutes",
        "ReasmTimeout",
        "ReasmReqds",
        "ReasmOKs",
        "ReasmFails",
        "FragOKs",
        "FragFails",
        "FragCreates",
        "InMcastPkts",
        "OutMcastPkts",
        "InOctets",
        "OutOctets",
        "InMcastOctets",
        "OutMcastOctets",
        "InBcastOctets",
        "OutBcastOctets",
        "InNoECTPkts",
        "InECT1Pkts",
        "InECT0Pkts",
        "InCEPkts",
        "OutTransmits",
    )
    __slots__ = names


class icmp6_mib(_Mib):
    """/proc/net/snmp6 `Icmp6...`, without the counters per type."""

    names = ("InMsgs", "InErrors", "OutMsgs", "OutErrors", "InCsumErrors", "OutRateLimitHost")
    __slots__ = names


class icmp6msg_mib(icmpmsg_mib):
    """/proc/net/snmp6 `Icmp6InEchos` ... and `Icmp6InType128` ...: one counter per type."""

    type_names = {
        1: "DestUnreachs",
        2: "PktTooBigs",
        3: "TimeExcds",
        4: "ParmProblems",
        128: "Echos",
        129: "EchoReplies",
        130: "GroupMembQueries",
        131: "GroupMembResponses",
        132: "GroupMembReductions",
        133: "RouterSolicits",
        134: "RouterAdvertisements",
        135: "NeighborSolicits",
        136: "NeighborAdvertisements",
        137: "Redirects",
        143: "MLDv2Reports",
    }
    __slots__ = ()

    def named(self) -> Iterator[tuple[str, int]]:
        """Every type with a name, also at 0."""
        for kind, name in self.type_names.items():
            yield f"In{name}", self.intype.get(kind, 0)
        for kind, name in self.type_names.items():
            yield f"Out{name}", self.outtype.get(kind, 0)


class netns_mib:
    """The kernel's `struct netns_mib`: `net.mib`, one object per group."""

    __slots__ = (
        "icmp",
        "icmp6",
        "icmp6msg",
        "icmpmsg",
        "ip",
        "ip6",
        "ipext",
        "linux",
        "tcp",
        "udp",
        "udp6",
        "udplite",
    )

    def __init__(self) -> None:
        self.ip = ipstats_mib()
        self.ipext = ipext_mib()
        self.ip6 = ipstats6_mib()
        self.icmp6 = icmp6_mib()
        self.icmp6msg = icmp6msg_mib()
        self.icmp = icmp_mib()
        self.icmpmsg = icmpmsg_mib()
        self.tcp = tcp_mib()
        self.udp = udp_mib()
        self.udp6 = udp_mib()
        self.udplite = udp_mib()
        self.linux = linux_mib()


class rtnl_link_stats64(_Mib):
    """include/uapi/linux/if_link.h: the counters of one interface."""

    names = (
        "rx_packets",
        "tx_packets",
        "rx_bytes",
        "tx_bytes",
        "rx_errors",
        "tx_errors",
        "rx_dropped",
        "tx_dropped",
        "multicast",
        "collisions",
        "rx_length_errors",
        "rx_over_errors",
        "rx_crc_errors",
        "rx_frame_errors",
        "rx_fifo_errors",
        "rx_missed_errors",
        "tx_aborted_errors",
        "tx_carrier_errors",
        "tx_fifo_errors",
        "tx_heartbeat_errors",
        "tx_window_errors",
        "rx_compressed",
        "tx_compressed",
        "rx_nohandler",
        "rx_otherhost_dropped",
    )
    __slots__ = names
