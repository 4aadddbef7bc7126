"""Explicit congestion notification, both ends (RFC 3168, include/net/tcp_ecn.h)."""

from __future__ import annotations

import contextlib
from collections.abc import Callable

import pytest

from fastpath.base.csum import ip_compute_csum
from stack.inet.tcp_sock import TCP_CA_CWR
from tests.stack.inet.tcpnet import (
    ACK,
    MS,
    RST,
    SYN,
    A,
    B,
    Segment,
    TcpNet,
    build_segment,
    transfer,
)

ECE, CWR = 0x40, 0x80
NOT_ECT, ECT_0, CE = 0, 2, 3


def marking(net: TcpNet, which: Callable[[Segment], bool]) -> list[Segment]:
    """Mark CE what `which` chooses and is ECT, as a router does; the marked segments."""
    marked: list[Segment] = []

    def router(segment: Segment) -> bytes | bool:
        if segment.tos & 3 == ECT_0 and which(segment):
            marked.append(segment)
            return segment.with_tos(segment.tos | CE)
        return True

    net.filter = router
    return marked


@pytest.mark.parametrize("ours", [0, 1, 2])
@pytest.mark.parametrize("theirs", [0, 1, 2])
@pytest.mark.parametrize("cookies", [0, 2])
def test_the_handshake_agrees_as_the_sysctls_say(ours: int, theirs: int, cookies: int) -> None:
    with TcpNet(sysctl={"tcp_ecn": ours, "tcp_syncookies": cookies}) as net:
        net.b.sysctl.tcp_ecn = theirs
        a, b = net.pair()
        syn = next(s for s in net.log if s.flags & SYN)
        synack = next(s for s in net.log if s.flags & (SYN | ACK) == SYN | ACK)
        agreed = ours == 1 and theirs > 0
        assert syn.flags & (ECE | CWR) == (ECE | CWR if ours == 1 else 0)
        assert synack.flags & (ECE | CWR) == (ECE if agreed else 0)
        assert [s.tos & 3 for s in net.log] == [NOT_ECT] * len(net.log)
        assert bool(a.sk.ecn_flags) == bool(b.sk.ecn_flags) == agreed
        assert transfer(net, a, b, bytes(100_000)) == bytes(100_000)
        data = [s.tos & 3 for s in net.log if s.payload]
        assert set(data) == {ECT_0 if agreed else NOT_ECT}
        assert {s.tos & 3 for s in net.log if not s.payload} == {NOT_ECT}


def test_a_syn_that_is_ect_gets_no_ecn() -> None:
    with TcpNet(sysctl={"tcp_ecn": 1}) as net:
        net.filter = lambda s: s.with_tos(ECT_0) if s.flags & (SYN | ACK) == SYN else True
        a, b = net.pair()
        assert not a.sk.ecn_flags
        assert not b.sk.ecn_flags


@pytest.mark.parametrize("fallback", [0, 1])
def test_a_lost_syn_goes_again_without_asking(fallback: int) -> None:
    lost: list[Segment] = []
    with TcpNet(sysctl={"tcp_ecn": 1, "tcp_ecn_fallback": fallback}) as net:
        net.filter = lambda s: not (s.flags & SYN and not lost and not lost.append(s))
        a, _b = net.pair()
        asked = [s.flags & (ECE | CWR) for s in net.log if s.flags & (SYN | ACK) == SYN]
        assert asked == [ECE | CWR, 0 if fallback else ECE | CWR]
        assert bool(a.sk.ecn_flags) != bool(fallback)


def test_ece_until_cwr_and_one_reduction_per_round_trip() -> None:
    """A mark is echoed in every ACK until CWR; the sender halves once; nothing is retransmitted."""
    sysctl = {"tcp_ecn": 1, "tcp_congestion_control": "reno"}
    with TcpNet(latency_ns=20 * MS, sysctl=sysctl, gso=False) as net:
        a, b = net.pair()
        transfer(net, a, b, bytes(200_000), close=False)
        before = a.sk.snd_cwnd
        once: list[Segment] = []
        marked = marking(net, lambda s: bool(s.payload) and not once and not once.append(s))
        start = len(net.log)
        transfer(net, a, b, bytes(400_000), close=False)
        new = net.log[start:]
        assert len(marked) == 1
        cwr = [i for i, s in enumerate(new) if s.flags & CWR]
        assert len(cwr) == 1, "CWR goes once"
        assert new[cwr[0]].src == A
        assert new[cwr[0]].payload
        ece = [i for i, s in enumerate(new) if s.flags & ECE]
        assert ece
        assert all(new[i].src == B for i in ece)
        first = ece[0]
        acks = [s for s in new[first : cwr[0]] if s.src == B]
        assert all(s.flags & ECE for s in acks), "ECE stays until CWR is seen"
        last = new[ece[-1]].time_ns
        assert last <= new[cwr[0]].time_ns + 21 * MS, "and ends with it"
        assert a.sk.snd_ssthresh < before
        assert not a.sk.total_retrans
        assert a.host.mib.tcp.RetransSegs == 0
        assert 0 < a.host.mib.linux.TCPDeliveredCE < a.host.mib.linux.TCPDelivered


def test_marks_keep_the_window_down_without_a_loss() -> None:
    plain = congested(0)
    every = congested(8)
    assert every < plain / 2


def congested(every: int) -> int:
    """The window after 2 MB with every n-th packet marked."""
    with TcpNet(latency_ns=5 * MS, sysctl={"tcp_ecn": 1}, gso=False) as net:
        a, b = net.pair()
        count = [0]

        def which(segment: Segment) -> bool:
            count[0] += 1
            return bool(every) and count[0] % (every * 40) == 0

        marking(net, which)
        assert transfer(net, a, b, bytes(2_000_000), close=False) == bytes(2_000_000)
        assert not a.sk.total_retrans
        window = int(a.sk.snd_cwnd)
        net.finish(a, b)
        return window


def test_the_state_is_cwr_while_the_window_comes_down() -> None:
    states = set()
    with TcpNet(latency_ns=20 * MS, sysctl={"tcp_ecn": 1}, gso=False) as net:
        a, b = net.pair()
        marked = marking(net, lambda s: bool(s.payload) and s.seq % 13 == 0)
        data = bytes(300_000)
        sent = 0
        while len(b.recv_all()) or sent < len(data) or a.sk.packets_out:
            if sent < len(data):
                with contextlib.suppress(BlockingIOError):
                    sent += a.send(data[sent : sent + 60_000])
            net.clock.step()
            states.add(a.sk.icsk_ca_state)
        assert marked
        assert TCP_CA_CWR in states


def test_retransmissions_are_not_ect_and_a_loss_sends_cwr() -> None:
    lost: list[Segment] = []
    with TcpNet(latency_ns=10 * MS, sysctl={"tcp_ecn": 1}, gso=False) as net:
        a, b = net.pair()

        def drop_one(segment: Segment) -> bool:
            if len(segment.payload) > 1000 and len(net.log) > 40 and not lost:
                lost.append(segment)
                return False
            return True

        net.filter = drop_one
        assert transfer(net, a, b, bytes(300_000)) == bytes(300_000)
        again = [s for s in net.log if s.payload and s.seq == lost[0].seq and s.src == A][1:]
        assert [s.tos & 3 for s in again] == [NOT_ECT] * len(again)
        assert again
        assert any(s.flags & CWR and s.payload for s in net.log)


@pytest.mark.parametrize("gso", [False, True])
def test_cwr_is_on_the_first_segment_of_a_super_packet_only(gso: bool) -> None:
    with TcpNet(latency_ns=5 * MS, sysctl={"tcp_ecn": 1}, gso=gso) as net:
        a, b = net.pair()
        marking(net, lambda s: bool(s.payload) and s.seq % 31 == 0)
        assert transfer(net, a, b, bytes(3_000_000)) == bytes(3_000_000)
        cwr = [s for s in net.log if s.flags & CWR and not s.flags & SYN]
        ece = [s for s in net.log if s.flags & ECE and not s.flags & SYN]
        assert cwr
        assert ece
        # one for each reduction, not one for each segment that left together
        assert len({s.time_ns for s in cwr}) == len(cwr)


def test_tcp_info_says_so() -> None:
    with TcpNet(sysctl={"tcp_ecn": 1}) as net:
        a, b = net.pair()
        transfer(net, a, b, bytes(5000), close=False)
        assert a.getsockopt(11)[5] & 24 == 8, "TCPI_OPT_ECN"
        assert b.getsockopt(11)[5] & 24 == 24, "TCPI_OPT_ECN_SEEN too, at the receiver"


@pytest.mark.parametrize("dsfield", [0xB8 | ECT_0, 0xB8 | CE])
def test_a_reset_is_never_ect(dsfield: int) -> None:
    """It has the class of what it answers, and not its ECN field."""
    with TcpNet() as net:
        stray = bytearray(build_segment(A, 9, 9, 1, 1, ACK))
        stray[1], stray[10:12] = dsfield, bytes(2)
        stray[10:12] = ip_compute_csum(stray[:20]).to_bytes(2, "big")
        net.inject(bytes(stray), net.b)
        net.run(100 * MS)
        assert [(s.flags & RST, s.tos) for s in net.log] == [(RST, 0xB8)]
