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
    _initial: dict[str, int] = {}

    if TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any: ...

        def __setattr__(self, name: str, value: int) -> None: ...

    def __init__(self) -> None:
        for name in self.__slots__:
            setattr(self, name, self._initial.get(name, 0))

    def items(self) -> Iterator[tuple[str, int]]:
        """(name, value) in Linux's order."""
        for name in self.__slots__:
            yield name, getattr(self, name)

    def nonzero(self) -> dict[str, int]:
        """The counters that moved."""
        return {name: value for name, value in self.items() if value}

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.nonzero()})"


class ipstats_mib(_Mib):
    """/proc/net/snmp `Ip:`; `Forwarding` and `DefaultTTL` mirror sysctls."""

    __slots__ = (
        "DefaultTTL",
        "ForwDatagrams",
        "Forwarding",
        "FragCreates",
        "FragFails",
        "FragOKs",
        "InAddrErrors",
        "InDelivers",
        "InDiscards",
        "InHdrErrors",
        "InReceives",
        "InUnknownProtos",
        "OutDiscards",
        "OutNoRoutes",
        "OutRequests",
        "OutTransmits",
        "ReasmFails",
        "ReasmOKs",
        "ReasmReqds",
        "ReasmTimeout",
    )
    _initial = {"Forwarding": 2, "DefaultTTL": 64}


class ipext_mib(_Mib):
    """/proc/net/netstat `IpExt:`."""

    __slots__ = (
        "InBcastOctets",
        "InBcastPkts",
        "InCEPkts",
        "InCsumErrors",
        "InECT0Pkts",
        "InECT1Pkts",
        "InMcastOctets",
        "InMcastPkts",
        "InNoECTPkts",
        "InNoRoutes",
        "InOctets",
        "InTruncatedPkts",
        "OutBcastOctets",
        "OutBcastPkts",
        "OutMcastOctets",
        "OutMcastPkts",
        "OutOctets",
        "ReasmOverlaps",
    )


class icmp_mib(_Mib):
    """/proc/net/snmp `Icmp:`."""

    __slots__ = (
        "InAddrMaskReps",
        "InAddrMasks",
        "InCsumErrors",
        "InDestUnreachs",
        "InEchoReps",
        "InEchos",
        "InErrors",
        "InMsgs",
        "InParmProbs",
        "InRedirects",
        "InSrcQuenchs",
        "InTimeExcds",
        "InTimestampReps",
        "InTimestamps",
        "OutAddrMaskReps",
        "OutAddrMasks",
        "OutDestUnreachs",
        "OutEchoReps",
        "OutEchos",
        "OutErrors",
        "OutMsgs",
        "OutParmProbs",
        "OutRateLimitGlobal",
        "OutRateLimitHost",
        "OutRedirects",
        "OutSrcQuenchs",
        "OutTimeExcds",
        "OutTimestampReps",
        "OutTimestamps",
    )


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

    __slots__ = (
        "ActiveOpens",
        "AttemptFails",
        "CurrEstab",
        "EstabResets",
        "InCsumErrors",
        "InErrs",
        "InSegs",
        "MaxConn",
        "OutRsts",
        "OutSegs",
        "PassiveOpens",
        "RetransSegs",
        "RtoAlgorithm",
        "RtoMax",
        "RtoMin",
    )
    _initial = {"RtoAlgorithm": 1, "RtoMin": 200, "RtoMax": 120000, "MaxConn": -1}


class udp_mib(_Mib):
    """/proc/net/snmp `Udp:` and `UdpLite:`."""

    __slots__ = (
        "IgnoredMulti",
        "InCsumErrors",
        "InDatagrams",
        "InErrors",
        "MemErrors",
        "NoPorts",
        "OutDatagrams",
        "RcvbufErrors",
        "SndbufErrors",
    )


class linux_mib(_Mib):
    """/proc/net/netstat `TcpExt:`."""

    __slots__ = (
        "ArpFilter",
        "BeyondWindow",
        "BusyPollRxPackets",
        "DelayedACKLocked",
        "DelayedACKLost",
        "DelayedACKs",
        "EmbryonicRsts",
        "IPReversePathFilter",
        "ListenDrops",
        "ListenOverflows",
        "LockDroppedIcmps",
        "OfoPruned",
        "OutOfWindowIcmps",
        "PAWSActive",
        "PAWSEstab",
        "PAWSOldAck",
        "PAWSTimewait",
        "PFMemallocDrop",
        "PruneCalled",
        "RcvPruned",
        "SyncookiesFailed",
        "SyncookiesRecv",
        "SyncookiesSent",
        "TCPACKSkippedChallenge",
        "TCPACKSkippedFinWait2",
        "TCPACKSkippedPAWS",
        "TCPACKSkippedSeq",
        "TCPACKSkippedSynRecv",
        "TCPACKSkippedTimeWait",
        "TCPAOBad",
        "TCPAODroppedIcmps",
        "TCPAOGood",
        "TCPAOKeyNotFound",
        "TCPAORequired",
        "TCPAbortFailed",
        "TCPAbortOnClose",
        "TCPAbortOnData",
        "TCPAbortOnLinger",
        "TCPAbortOnMemory",
        "TCPAbortOnTimeout",
        "TCPAckCompressed",
        "TCPAutoCorking",
        "TCPBacklogCoalesce",
        "TCPBacklogDrop",
        "TCPChallengeACK",
        "TCPDSACKIgnoredDubious",
        "TCPDSACKIgnoredNoUndo",
        "TCPDSACKIgnoredOld",
        "TCPDSACKOfoRecv",
        "TCPDSACKOfoSent",
        "TCPDSACKOldSent",
        "TCPDSACKRecv",
        "TCPDSACKRecvSegs",
        "TCPDSACKUndo",
        "TCPDeferAcceptDrop",
        "TCPDelivered",
        "TCPDeliveredCE",
        "TCPFastOpenActive",
        "TCPFastOpenActiveFail",
        "TCPFastOpenBlackhole",
        "TCPFastOpenCookieReqd",
        "TCPFastOpenListenOverflow",
        "TCPFastOpenPassive",
        "TCPFastOpenPassiveAltKey",
        "TCPFastOpenPassiveFail",
        "TCPFastRetrans",
        "TCPFromZeroWindowAdv",
        "TCPFullUndo",
        "TCPHPAcks",
        "TCPHPHits",
        "TCPHystartDelayCwnd",
        "TCPHystartDelayDetect",
        "TCPHystartTrainCwnd",
        "TCPHystartTrainDetect",
        "TCPKeepAlive",
        "TCPLossFailures",
        "TCPLossProbeRecovery",
        "TCPLossProbes",
        "TCPLossUndo",
        "TCPLostRetransmit",
        "TCPMD5Failure",
        "TCPMD5NotFound",
        "TCPMD5Unexpected",
        "TCPMTUPFail",
        "TCPMTUPSuccess",
        "TCPMemoryPressures",
        "TCPMemoryPressuresChrono",
        "TCPMigrateReqFailure",
        "TCPMigrateReqSuccess",
        "TCPMinTTLDrop",
        "TCPOFODrop",
        "TCPOFOMerge",
        "TCPOFOQueue",
        "TCPOrigDataSent",
        "TCPPLBRehash",
        "TCPPartialUndo",
        "TCPPureAcks",
        "TCPRcvCoalesce",
        "TCPRcvCollapsed",
        "TCPRcvQDrop",
        "TCPRenoFailures",
        "TCPRenoRecovery",
        "TCPRenoRecoveryFail",
        "TCPRenoReorder",
        "TCPReqQFullDoCookies",
        "TCPReqQFullDrop",
        "TCPRetransFail",
        "TCPSACKDiscard",
        "TCPSACKReneging",
        "TCPSACKReorder",
        "TCPSYNChallenge",
        "TCPSackFailures",
        "TCPSackMerged",
        "TCPSackRecovery",
        "TCPSackRecoveryFail",
        "TCPSackShiftFallback",
        "TCPSackShifted",
        "TCPSlowStartRetrans",
        "TCPSpuriousRTOs",
        "TCPSpuriousRtxHostQueues",
        "TCPSynRetrans",
        "TCPTSReorder",
        "TCPTimeWaitOverflow",
        "TCPTimeouts",
        "TCPToZeroWindowAdv",
        "TCPWantZeroWindowAdv",
        "TCPWinProbe",
        "TCPWqueueTooBig",
        "TCPZeroWindowDrop",
        "TSEcrRejected",
        "TW",
        "TWKilled",
        "TWRecycled",
        "TcpDuplicateDataRehash",
        "TcpTimeoutRehash",
    )


class netns_mib:
    """The kernel's `struct netns_mib`: `net.mib`, one object per group."""

    __slots__ = ("icmp", "icmpmsg", "ip", "ipext", "linux", "tcp", "udp", "udplite")

    def __init__(self) -> None:
        self.ip = ipstats_mib()
        self.ipext = ipext_mib()
        self.icmp = icmp_mib()
        self.icmpmsg = icmpmsg_mib()
        self.tcp = tcp_mib()
        self.udp = udp_mib()
        self.udplite = udp_mib()
        self.linux = linux_mib()


class rtnl_link_stats64(_Mib):
    """include/uapi/linux/if_link.h: the counters of one interface."""

    __slots__ = (
        "collisions",
        "multicast",
        "rx_bytes",
        "rx_compressed",
        "rx_crc_errors",
        "rx_dropped",
        "rx_errors",
        "rx_fifo_errors",
        "rx_frame_errors",
        "rx_length_errors",
        "rx_missed_errors",
        "rx_nohandler",
        "rx_otherhost_dropped",
        "rx_over_errors",
        "rx_packets",
        "tx_aborted_errors",
        "tx_bytes",
        "tx_carrier_errors",
        "tx_compressed",
        "tx_dropped",
        "tx_errors",
        "tx_fifo_errors",
        "tx_heartbeat_errors",
        "tx_packets",
        "tx_window_errors",
    )
