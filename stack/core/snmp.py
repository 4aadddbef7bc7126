"""include/uapi/linux/snmp.h, net/ipv4/proc.c: the counters of /proc/net/snmp and /proc/net/netstat.

Each group is a class whose rows carry Linux's names in Linux's order; `net.mib.ip.InReceives += 1`
adds to a C integer in the compiled stack. Gauges that Linux computes when it prints (Forwarding
...) are filled by `stack.proc`.
"""

from __future__ import annotations

from collections.abc import Iterator

from stack.core.rows import row, rows_of, state


@state
class _Mib:
    """Counters: the rows of a subclass, in Linux's order."""

    def items(self) -> Iterator[tuple[str, int]]:
        """(name, value) in Linux's order."""
        for name in rows_of(type(self)):
            yield name, getattr(self, name)

    def nonzero(self) -> dict[str, int]:
        """The counters other than 0."""
        return {name: value for name, value in self.items() if value}

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.nonzero()})"


@state
class ipstats_mib(_Mib):
    """/proc/net/snmp `Ip:`; `Forwarding` and `DefaultTTL` mirror sysctls."""

    Forwarding: int = row(2)
    DefaultTTL: int = row(64)
    InReceives: int = row(0)
    InHdrErrors: int = row(0)
    InAddrErrors: int = row(0)
    ForwDatagrams: int = row(0)
    InUnknownProtos: int = row(0)
    InDiscards: int = row(0)
    InDelivers: int = row(0)
    OutRequests: int = row(0)
    OutDiscards: int = row(0)
    OutNoRoutes: int = row(0)
    ReasmTimeout: int = row(0)
    ReasmReqds: int = row(0)
    ReasmOKs: int = row(0)
    ReasmFails: int = row(0)
    FragOKs: int = row(0)
    FragFails: int = row(0)
    FragCreates: int = row(0)
    OutTransmits: int = row(0)


@state
class ipext_mib(_Mib):
    """/proc/net/netstat `IpExt:`."""

    InNoRoutes: int = row(0)
    InTruncatedPkts: int = row(0)
    InMcastPkts: int = row(0)
    OutMcastPkts: int = row(0)
    InBcastPkts: int = row(0)
    OutBcastPkts: int = row(0)
    InOctets: int = row(0)
    OutOctets: int = row(0)
    InMcastOctets: int = row(0)
    OutMcastOctets: int = row(0)
    InBcastOctets: int = row(0)
    OutBcastOctets: int = row(0)
    InCsumErrors: int = row(0)
    InNoECTPkts: int = row(0)
    InECT1Pkts: int = row(0)
    InECT0Pkts: int = row(0)
    InCEPkts: int = row(0)
    ReasmOverlaps: int = row(0)


@state
class icmp_mib(_Mib):
    """/proc/net/snmp `Icmp:`."""

    InMsgs: int = row(0)
    InErrors: int = row(0)
    InCsumErrors: int = row(0)
    InDestUnreachs: int = row(0)
    InTimeExcds: int = row(0)
    InParmProbs: int = row(0)
    InSrcQuenchs: int = row(0)
    InRedirects: int = row(0)
    InEchos: int = row(0)
    InEchoReps: int = row(0)
    InTimestamps: int = row(0)
    InTimestampReps: int = row(0)
    InAddrMasks: int = row(0)
    InAddrMaskReps: int = row(0)
    OutMsgs: int = row(0)
    OutErrors: int = row(0)
    OutRateLimitGlobal: int = row(0)
    OutRateLimitHost: int = row(0)
    OutDestUnreachs: int = row(0)
    OutTimeExcds: int = row(0)
    OutParmProbs: int = row(0)
    OutSrcQuenchs: int = row(0)
    OutRedirects: int = row(0)
    OutEchos: int = row(0)
    OutEchoReps: int = row(0)
    OutTimestamps: int = row(0)
    OutTimestampReps: int = row(0)
    OutAddrMasks: int = row(0)
    OutAddrMaskReps: int = row(0)


@state
class icmpmsg_mib(_Mib):
    """/proc/net/snmp `IcmpMsg:`: a counter per type, `InType8`, `OutType0` ..., made on demand."""

    intype: dict[int, int] = row(make=dict)
    outtype: dict[int, int] = row(make=dict)

    def items(self) -> Iterator[tuple[str, int]]:
        for way, counts in (("In", self.intype), ("Out", self.outtype)):
            for kind in sorted(counts):
                yield f"{way}Type{kind}", counts[kind]


@state
class tcp_mib(_Mib):
    """/proc/net/snmp `Tcp:` (RtoAlgorithm 1 = other, RtoMin/RtoMax in ms, MaxConn -1 = dynamic)."""

    RtoAlgorithm: int = row(1)
    RtoMin: int = row(200)
    RtoMax: int = row(120000)
    MaxConn: int = row(-1)
    ActiveOpens: int = row(0)
    PassiveOpens: int = row(0)
    AttemptFails: int = row(0)
    EstabResets: int = row(0)
    CurrEstab: int = row(0)
    InSegs: int = row(0)
    OutSegs: int = row(0)
    RetransSegs: int = row(0)
    InErrs: int = row(0)
    OutRsts: int = row(0)
    InCsumErrors: int = row(0)


@state
class udp_mib(_Mib):
    """/proc/net/snmp `Udp:` and `UdpLite:`."""

    InDatagrams: int = row(0)
    NoPorts: int = row(0)
    InErrors: int = row(0)
    OutDatagrams: int = row(0)
    RcvbufErrors: int = row(0)
    SndbufErrors: int = row(0)
    InCsumErrors: int = row(0)
    IgnoredMulti: int = row(0)
    MemErrors: int = row(0)


@state
class linux_mib(_Mib):
    """/proc/net/netstat `TcpExt:`."""

    SyncookiesSent: int = row(0)
    SyncookiesRecv: int = row(0)
    SyncookiesFailed: int = row(0)
    EmbryonicRsts: int = row(0)
    PruneCalled: int = row(0)
    RcvPruned: int = row(0)
    OfoPruned: int = row(0)
    OutOfWindowIcmps: int = row(0)
    LockDroppedIcmps: int = row(0)
    ArpFilter: int = row(0)
    TW: int = row(0)
    TWRecycled: int = row(0)
    TWKilled: int = row(0)
    PAWSActive: int = row(0)
    PAWSEstab: int = row(0)
    BeyondWindow: int = row(0)
    TSEcrRejected: int = row(0)
    PAWSOldAck: int = row(0)
    PAWSTimewait: int = row(0)
    DelayedACKs: int = row(0)
    DelayedACKLocked: int = row(0)
    DelayedACKLost: int = row(0)
    ListenOverflows: int = row(0)
    ListenDrops: int = row(0)
    TCPHPHits: int = row(0)
    TCPPureAcks: int = row(0)
    TCPHPAcks: int = row(0)
    TCPRenoRecovery: int = row(0)
    TCPSackRecovery: int = row(0)
    TCPSACKReneging: int = row(0)
    TCPSACKReorder: int = row(0)
    TCPRenoReorder: int = row(0)
    TCPTSReorder: int = row(0)
    TCPFullUndo: int = row(0)
    TCPPartialUndo: int = row(0)
    TCPDSACKUndo: int = row(0)
    TCPLossUndo: int = row(0)
    TCPLostRetransmit: int = row(0)
    TCPRenoFailures: int = row(0)
    TCPSackFailures: int = row(0)
    TCPLossFailures: int = row(0)
    TCPFastRetrans: int = row(0)
    TCPSlowStartRetrans: int = row(0)
    TCPTimeouts: int = row(0)
    TCPLossProbes: int = row(0)
    TCPLossProbeRecovery: int = row(0)
    TCPRenoRecoveryFail: int = row(0)
    TCPSackRecoveryFail: int = row(0)
    TCPRcvCollapsed: int = row(0)
    TCPBacklogCoalesce: int = row(0)
    TCPDSACKOldSent: int = row(0)
    TCPDSACKOfoSent: int = row(0)
    TCPDSACKRecv: int = row(0)
    TCPDSACKOfoRecv: int = row(0)
    TCPAbortOnData: int = row(0)
    TCPAbortOnClose: int = row(0)
    TCPAbortOnMemory: int = row(0)
    TCPAbortOnTimeout: int = row(0)
    TCPAbortOnLinger: int = row(0)
    TCPAbortFailed: int = row(0)
    TCPMemoryPressures: int = row(0)
    TCPMemoryPressuresChrono: int = row(0)
    TCPSACKDiscard: int = row(0)
    TCPDSACKIgnoredOld: int = row(0)
    TCPDSACKIgnoredNoUndo: int = row(0)
    TCPSpuriousRTOs: int = row(0)
    TCPMD5NotFound: int = row(0)
    TCPMD5Unexpected: int = row(0)
    TCPMD5Failure: int = row(0)
    TCPSackShifted: int = row(0)
    TCPSackMerged: int = row(0)
    TCPSackShiftFallback: int = row(0)
    TCPBacklogDrop: int = row(0)
    PFMemallocDrop: int = row(0)
    TCPMinTTLDrop: int = row(0)
    TCPDeferAcceptDrop: int = row(0)
    IPReversePathFilter: int = row(0)
    TCPTimeWaitOverflow: int = row(0)
    TCPReqQFullDoCookies: int = row(0)
    TCPReqQFullDrop: int = row(0)
    TCPRetransFail: int = row(0)
    TCPRcvCoalesce: int = row(0)
    TCPOFOQueue: int = row(0)
    TCPOFODrop: int = row(0)
    TCPOFOMerge: int = row(0)
    TCPChallengeACK: int = row(0)
    TCPSYNChallenge: int = row(0)
    TCPFastOpenActive: int = row(0)
    TCPFastOpenActiveFail: int = row(0)
    TCPFastOpenPassive: int = row(0)
    TCPFastOpenPassiveFail: int = row(0)
    TCPFastOpenListenOverflow: int = row(0)
    TCPFastOpenCookieReqd: int = row(0)
    TCPFastOpenBlackhole: int = row(0)
    TCPSpuriousRtxHostQueues: int = row(0)
    BusyPollRxPackets: int = row(0)
    TCPAutoCorking: int = row(0)
    TCPFromZeroWindowAdv: int = row(0)
    TCPToZeroWindowAdv: int = row(0)
    TCPWantZeroWindowAdv: int = row(0)
    TCPSynRetrans: int = row(0)
    TCPOrigDataSent: int = row(0)
    TCPHystartTrainDetect: int = row(0)
    TCPHystartTrainCwnd: int = row(0)
    TCPHystartDelayDetect: int = row(0)
    TCPHystartDelayCwnd: int = row(0)
    TCPACKSkippedSynRecv: int = row(0)
    TCPACKSkippedPAWS: int = row(0)
    TCPACKSkippedSeq: int = row(0)
    TCPACKSkippedFinWait2: int = row(0)
    TCPACKSkippedTimeWait: int = row(0)
    TCPACKSkippedChallenge: int = row(0)
    TCPWinProbe: int = row(0)
    TCPKeepAlive: int = row(0)
    TCPMTUPFail: int = row(0)
    TCPMTUPSuccess: int = row(0)
    TCPDelivered: int = row(0)
    TCPDeliveredCE: int = row(0)
    TCPAckCompressed: int = row(0)
    TCPZeroWindowDrop: int = row(0)
    TCPRcvQDrop: int = row(0)
    TCPWqueueTooBig: int = row(0)
    TCPFastOpenPassiveAltKey: int = row(0)
    TcpTimeoutRehash: int = row(0)
    TcpDuplicateDataRehash: int = row(0)
    TCPDSACKRecvSegs: int = row(0)
    TCPDSACKIgnoredDubious: int = row(0)
    TCPMigrateReqSuccess: int = row(0)
    TCPMigrateReqFailure: int = row(0)
    TCPPLBRehash: int = row(0)
    TCPAORequired: int = row(0)
    TCPAOBad: int = row(0)
    TCPAOKeyNotFound: int = row(0)
    TCPAOGood: int = row(0)
    TCPAODroppedIcmps: int = row(0)


@state
class ipstats6_mib(_Mib):
    """/proc/net/snmp6 `Ip6...`."""

    InReceives: int = row(0)
    InHdrErrors: int = row(0)
    InTooBigErrors: int = row(0)
    InNoRoutes: int = row(0)
    InAddrErrors: int = row(0)
    InUnknownProtos: int = row(0)
    InTruncatedPkts: int = row(0)
    InDiscards: int = row(0)
    InDelivers: int = row(0)
    OutForwDatagrams: int = row(0)
    OutRequests: int = row(0)
    OutDiscards: int = row(0)
    OutNoRoutes: int = row(0)
    ReasmTimeout: int = row(0)
    ReasmReqds: int = row(0)
    ReasmOKs: int = row(0)
    ReasmFails: int = row(0)
    FragOKs: int = row(0)
    FragFails: int = row(0)
    FragCreates: int = row(0)
    InMcastPkts: int = row(0)
    OutMcastPkts: int = row(0)
    InOctets: int = row(0)
    OutOctets: int = row(0)
    InMcastOctets: int = row(0)
    OutMcastOctets: int = row(0)
    InBcastOctets: int = row(0)
    OutBcastOctets: int = row(0)
    InNoECTPkts: int = row(0)
    InECT1Pkts: int = row(0)
    InECT0Pkts: int = row(0)
    InCEPkts: int = row(0)
    OutTransmits: int = row(0)


@state
class icmp6_mib(_Mib):
    """/proc/net/snmp6 `Icmp6...`, without the counters per type."""

    InMsgs: int = row(0)
    InErrors: int = row(0)
    OutMsgs: int = row(0)
    OutErrors: int = row(0)
    InCsumErrors: int = row(0)
    OutRateLimitHost: int = row(0)


@state
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

    def named(self) -> Iterator[tuple[str, int]]:
        """Every type with a name, also at 0."""
        for way, counts in (("In", self.intype), ("Out", self.outtype)):
            for kind, name in self.type_names.items():
                yield f"{way}{name}", counts.get(kind, 0)


@state
class xfrm_mib(_Mib):
    """/proc/net/xfrm_stat (include/uapi/linux/snmp.h LINUX_MIB_XFRM*): errors of IPsec."""

    XfrmInError: int = row(0)
    XfrmInBufferError: int = row(0)
    XfrmInHdrError: int = row(0)
    XfrmInNoStates: int = row(0)
    XfrmInStateProtoError: int = row(0)
    XfrmInStateModeError: int = row(0)
    XfrmInStateSeqError: int = row(0)
    XfrmInStateExpired: int = row(0)
    XfrmInStateMismatch: int = row(0)
    XfrmInStateInvalid: int = row(0)
    XfrmInTmplMismatch: int = row(0)
    XfrmInNoPols: int = row(0)
    XfrmInPolBlock: int = row(0)
    XfrmInPolError: int = row(0)
    XfrmOutError: int = row(0)
    XfrmOutBundleGenError: int = row(0)
    XfrmOutBundleCheckError: int = row(0)
    XfrmOutNoStates: int = row(0)
    XfrmOutStateProtoError: int = row(0)
    XfrmOutStateModeError: int = row(0)
    XfrmOutStateSeqError: int = row(0)
    XfrmOutStateExpired: int = row(0)
    XfrmOutPolBlock: int = row(0)
    XfrmOutPolDead: int = row(0)
    XfrmOutPolError: int = row(0)
    XfrmFwdHdrError: int = row(0)
    XfrmOutStateInvalid: int = row(0)
    XfrmAcquireError: int = row(0)
    XfrmOutStateDirError: int = row(0)
    XfrmInStateDirError: int = row(0)
    XfrmInIptfsError: int = row(0)
    XfrmOutNoQueueSpace: int = row(0)


@state
class netns_mib:
    """The kernel's `struct netns_mib`: `net.mib`, one object per group."""

    ip: ipstats_mib = row(make=ipstats_mib)
    ipext: ipext_mib = row(make=ipext_mib)
    ip6: ipstats6_mib = row(make=ipstats6_mib)
    icmp6: icmp6_mib = row(make=icmp6_mib)
    icmp6msg: icmp6msg_mib = row(make=icmp6msg_mib)
    icmp: icmp_mib = row(make=icmp_mib)
    icmpmsg: icmpmsg_mib = row(make=icmpmsg_mib)
    tcp: tcp_mib = row(make=tcp_mib)
    udp: udp_mib = row(make=udp_mib)
    udp6: udp_mib = row(make=udp_mib)
    udplite: udp_mib = row(make=udp_mib)
    linux: linux_mib = row(make=linux_mib)
    xfrm: xfrm_mib = row(make=xfrm_mib)


@state
class rtnl_link_stats64(_Mib):
    """include/uapi/linux/if_link.h: the counters of one interface."""

    rx_packets: int = row(0)
    tx_packets: int = row(0)
    rx_bytes: int = row(0)
    tx_bytes: int = row(0)
    rx_errors: int = row(0)
    tx_errors: int = row(0)
    rx_dropped: int = row(0)
    tx_dropped: int = row(0)
    multicast: int = row(0)
    collisions: int = row(0)
    rx_length_errors: int = row(0)
    rx_over_errors: int = row(0)
    rx_crc_errors: int = row(0)
    rx_frame_errors: int = row(0)
    rx_fifo_errors: int = row(0)
    rx_missed_errors: int = row(0)
    tx_aborted_errors: int = row(0)
    tx_carrier_errors: int = row(0)
    tx_fifo_errors: int = row(0)
    tx_heartbeat_errors: int = row(0)
    tx_window_errors: int = row(0)
    rx_compressed: int = row(0)
    tx_compressed: int = row(0)
    rx_nohandler: int = row(0)
    rx_otherhost_dropped: int = row(0)
