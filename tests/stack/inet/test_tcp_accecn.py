"""Accurate ECN between two hosts of ours (RFC 9768, include/net/tcp_ecn.h)."""

from __future__ import annotations

import contextlib
import struct
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastpath.base.csum import csum_partial, csum_tcpudp_magic
from stack.inet import tcp_accecn
from stack.inet.tcp_accecn import (
    tcp_accecn_delta,
    tcp_accecn_fit,
    tcp_accecn_option,
    tcp_accecn_padded,
)
from stack.inet.tcp_sock import TCP_CA_CWR, TCP_INFINITE_SSTHRESH
from tests.stack.inet.tcpnet import ACK, FIN, MS, SYN, A, B, S, Segment, Sock, TcpNet, transfer
from tests.stack.ipv6.tcpnet6 import TcpNet6
from tests.support import examples

NOT_ECT, ECT_1, ECT_0, CE = range(4)
RFC3168, ACCECN = 1, 16
ACCECN0, ACCECN1 = 172, 174
ACE_FAIL_RECV, OPT_FAIL_RECV = 2, 8
EMPTY_SEEN, COUNTER_SEEN, FAIL_SEEN = 1, 2, 3
MODES = RFC3168 | ACCECN


def ace(segment: Segment) -> int:
    """AE, CWR and ECE."""
    return (segment.frame[46] & 1) << 2 | segment.flags >> 6


def with_ace(segment: Segment, value: int) -> bytes:
    """The frame with another ACE field."""
    tcp = bytearray(segment.frame[34:])
    tcp[12] = tcp[12] & 0xFE | value >> 2
    tcp[13] = tcp[13] & 0x3F | (value & 3) << 6
    return reframed(segment, tcp)


def with_option(segment: Segment, change: Callable[[bytes], bytes]) -> bytes:
    """The frame with another value of the AccECN option."""
    value = segment.opt(ACCECN1)
    if value is None:
        return segment.frame
    head = bytes((ACCECN1, len(value) + 2))
    tcp = bytearray(segment.frame[34:].replace(head + value, head + change(value)))
    return reframed(segment, tcp)


def reframed(segment: Segment, tcp: bytearray) -> bytes:
    tcp[16:18] = bytes(2)
    check = csum_tcpudp_magic(segment.src, segment.dst, len(tcp), 6, csum_partial(bytes(tcp)))
    tcp[16:18] = check.to_bytes(2, "big")
    return segment.frame[:34] + bytes(tcp)


def is_syn(segment: Segment) -> bool:
    return segment.flags & (SYN | ACK) == SYN


def is_synack(segment: Segment) -> bool:
    return segment.flags & (SYN | ACK) == SYN | ACK


def accurate(**more: Any) -> TcpNet:
    """Two hosts that ask for Accurate ECN."""
    sysctl = {"tcp_ecn": 3} | more.pop("sysctl", {})
    return TcpNet(sysctl=sysctl, **more)


# --- the handshake ------------------------------------------------------------------------

ASKS = {0: 0b000, 1: 0b011, 2: 0b000, 3: 0b111, 4: 0b011, 5: 0b000}
"""The ACE field of a SYN, by tcp_ecn."""


@pytest.mark.parametrize("client", range(6))
@pytest.mark.parametrize("server", range(6))
@pytest.mark.parametrize("cookies", [0, 2])
def test_the_handshake_agrees_as_the_sysctls_say(client: int, server: int, cookies: int) -> None:
    with TcpNet(sysctl={"tcp_ecn": client, "tcp_syncookies": cookies}) as net:
        net.b.sysctl.tcp_ecn = server
        a, b = net.pair()
        syn, synack, ack = net.log[:3]
        both = client == 3 and server >= 3
        mode = ACCECN if both else RFC3168 if ASKS[client] and server else 0
        assert ace(syn) == ASKS[client]
        assert ace(synack) == {ACCECN: 0b010, RFC3168: 0b001, 0: 0}[mode]
        assert ace(ack) == (0b010 if both else 0)
        assert [s.tos & 3 for s in (syn, synack, ack)] == [0, 0, ECT_0 if both else 0]
        assert (a.sk.ecn_flags & MODES, b.sk.ecn_flags & MODES) == (mode, mode)
        assert [s.opt(ACCECN1) is not None for s in (syn, synack, ack)] == [False, both, both]
        assert transfer(net, a, b, bytes(30_000)) == bytes(30_000)
        marks = {s.tos & 3 for s in net.log if not s.flags & SYN}
        assert marks == {ACCECN: {ECT_0}, RFC3168: {0, ECT_0}, 0: {0}}[mode]


@pytest.mark.parametrize("came", range(4))
def test_the_synack_tells_how_the_syn_came(came: int) -> None:
    """RFC 9768 table 2; a SYN that did not come as Not-ECT shows a path that changes it."""
    with accurate() as net:
        net.filter = lambda s: s.with_tos(came) if is_syn(s) else True
        a, b = net.pair()
        assert ace(net.log[1]) == (0b010, 0b011, 0b100, 0b110)[came]
        assert a.sk.ecn_flags & MODES == b.sk.ecn_flags & MODES == ACCECN


@pytest.mark.parametrize("came", range(4))
@pytest.mark.parametrize("fallback", [0, 1])
def test_the_last_ack_tells_how_the_synack_came(came: int, fallback: int) -> None:
    """If it was not Not-ECT the server sends no ECT, unless tcp_ecn_fallback is 0."""
    with accurate(sysctl={"tcp_ecn_fallback": fallback}) as net:
        net.filter = lambda s: s.with_tos(came) if is_synack(s) else True
        a, b = net.pair()
        assert ace(net.log[2]) == (0b010, 0b011, 0b100, 0b110)[came]
        mangled = bool(came and fallback)
        assert b.sk.accecn_fail_mode == (ACE_FAIL_RECV if mangled else 0)
        assert b.sk.delivered_ce == (came == CE and not fallback)
        transfer(net, b, a, bytes(3000), close=False)
        assert {s.tos & 3 for s in net.log if s.src == B and s.payload} == {
            NOT_ECT if mangled else ECT_0
        }
        # The client counts the mark, for its own SYN came as it was sent.
        assert a.sk.received_ce == (came == CE)


@pytest.mark.parametrize(
    ("field", "mode"),
    [(0b000, 0), (0b001, RFC3168), (0b111, 0)]
    + [(field, ACCECN) for field in (0b010, 0b011, 0b100, 0b101, 0b110)],
)
def test_the_client_falls_back_as_the_synack_says(field: int, mode: int) -> None:
    with accurate() as net:
        net.filter = lambda s: with_ace(s, field) if is_synack(s) else True
        a, _b = net.pair()
        assert a.sk.ecn_flags & MODES == mode


@pytest.mark.parametrize(
    ("field", "mode"),
    [(0b000, 0), (0b011, RFC3168), *((field, ACCECN) for field in (1, 2, 4, 5, 6, 7))],
)
def test_the_server_reads_later_kinds_of_syns_as_accurate_ecn(field: int, mode: int) -> None:
    """RFC 9768 3.1.2."""
    with accurate() as net:
        net.filter = lambda s: with_ace(s, field) if is_syn(s) else True
        _a, b = net.pair()
        assert b.sk.ecn_flags & MODES == mode


def test_a_last_ack_without_ace_shows_that_the_path_clears_it() -> None:
    with accurate() as net:
        net.filter = lambda s: with_ace(s, 0) if s.src == A and not is_syn(s) else True
        _a, b = net.pair()
        assert b.sk.accecn_fail_mode == ACE_FAIL_RECV


@pytest.mark.parametrize("zeroed", [A, B])
def test_zeroed_options_are_found_out(zeroed: int) -> None:
    """Its counts begin at 1: the end that gets 0 believes no option any more."""
    with accurate() as net:
        net.filter = lambda s: with_option(s, lambda v: bytes(len(v))) if s.src == zeroed else True
        a, b = net.pair()
        assert transfer(net, a, b, bytes(30_000), close=False) == bytes(30_000)
        deceived, fine = (b, a) if zeroed == A else (a, b)
        assert deceived.sk.saw_accecn_opt == FAIL_SEEN
        assert fine.sk.saw_accecn_opt == COUNTER_SEEN
        if deceived is a:
            assert a.sk.accecn_fail_mode == OPT_FAIL_RECV
            assert a.sk.delivered_e0_bytes == 0


def test_both_open_at_once() -> None:
    """RFC 9293 figure 7: both SYNs ask, and each SYN-ACK tells how the other SYN came."""
    with accurate() as net:
        a, b = net.socket(net.a), net.socket(net.b)
        a.bind(1000)
        b.bind(1000)
        a.connect(B, 1000)
        b.connect(A, 1000)
        net.run(1 * S)
        assert a.sk.ecn_flags & MODES == b.sk.ecn_flags & MODES == ACCECN
        assert {ace(s) for s in net.log if is_synack(s)} == {0b010}
        assert all(s.opt(ACCECN1) is not None for s in net.log if is_synack(s))


# --- counting -----------------------------------------------------------------------------


def info(sock: Sock) -> dict[str, int]:
    """The last fields of TCP_INFO."""
    raw = sock.getsockopt(11)
    names = "ce d1 d0 dce r1 r0 rce fail seen"
    values = dict(zip(names.split(), struct.unpack("=7I2H", raw[248:280]), strict=True))
    return values | {"delivered_ce": struct.unpack("=I", raw[196:200])[0]}


@pytest.mark.parametrize("option", [0, 1, 2])
@pytest.mark.parametrize("gso", [False, True])
@pytest.mark.parametrize("every", [1, 3, 17, 100])
@pytest.mark.parametrize("timestamps", [0, 1])
def test_both_ends_count_the_same_marks(
    option: int, gso: bool, every: int, timestamps: int
) -> None:
    sysctl = {"tcp_ecn_option": option, "tcp_timestamps": timestamps}
    with accurate(sysctl=sysctl, gso=gso) as net:
        a, b = net.pair()
        count = marked = marked_bytes = 0

        def router(segment: Segment) -> bytes | bool:
            nonlocal count, marked, marked_bytes
            if segment.src == A and segment.payload:
                count += 1
                if count % every == 0:
                    marked += 1
                    marked_bytes += len(segment.payload)
                    return segment.with_tos(CE)
            return True

        net.filter = router
        size = 600_000
        assert transfer(net, a, b, bytes(size), close=False) == bytes(size)
        net.run(1 * S)
        sender, receiver = info(a), info(b)
        assert marked
        assert receiver["ce"] == marked
        assert (receiver["r1"], receiver["r0"]) == (0, size - marked_bytes)
        assert receiver["rce"] == marked_bytes
        assert sender["delivered_ce"] == marked
        assert a.host.mib.linux.TCPDeliveredCE == marked
        assert not sender["fail"]
        assert not receiver["fail"]
        if option:
            counts = (sender["d1"], sender["d0"], sender["dce"])
            assert counts == (0, size - marked_bytes, marked_bytes)
        else:
            assert not any(s.opt(ACCECN1) for s in net.log)
        assert a.sk.snd_ssthresh < TCP_INFINITE_SSTHRESH, "marks reduce the window"
        assert not a.sk.total_retrans
        # Every segment told what its sender had counted by then: the last one, all.
        assert ace([s for s in net.log if s.src == B][-1]) == (5 + marked) % 8


def test_all_segments_of_a_super_packet_keep_the_ace_field() -> None:
    """CWR is a bit of it: SKB_GSO_TCP_ACCECN."""
    with accurate(latency_ns=1 * MS) as net:
        a, b = net.pair()
        once: list[Segment] = []
        # One mark for a: its field becomes 6, with CWR.
        net.filter = lambda s: (
            s.with_tos(CE) if s.src == B and s.payload and not once and not once.append(s) else True
        )
        transfer(net, b, a, bytes(100), close=False)
        net.filter = None
        start = len(net.log)
        transfer(net, a, b, bytes(200_000), close=False)
        fields = {ace(s) for s in net.log[start:] if s.src == A and s.payload}
        assert fields == {6}
        bursts = [s.time_ns for s in net.log[start:] if s.src == A and s.payload]
        assert len(set(bursts)) < len(bursts), "some left together"


def predicted(tcp_ecn: int) -> tuple[int, int]:
    """(ACKs that header prediction took, marks) of 2 MB with some packets marked."""
    sysctl = {"tcp_ecn": tcp_ecn, "tcp_ecn_option": 0}
    with TcpNet(sysctl=sysctl, gso=False) as net:
        a, b = net.pair()
        count = [0]

        def router(segment: Segment) -> bytes | bool:
            count[0] += segment.src == A
            marks = segment.src == A and count[0] % 40 == 0 and segment.tos & 3
            return segment.with_tos(CE) if marks else True

        net.filter = router
        transfer(net, a, b, bytes(2_000_000), close=False)
        assert a.sk.delivered_ce == b.sk.received_ce
        found = int(a.host.mib.linux.TCPHPAcks), int(a.sk.delivered_ce)
        net.finish(a, b)
        return found


def test_header_prediction_still_works_with_marks() -> None:
    """Without options the ACKs have one form but for the ACE field, which is predicted too."""
    plain, none = predicted(0)
    with_marks, marks = predicted(3)
    assert not none
    assert marks > 10
    assert with_marks >= plain - 3 * marks


def test_the_state_is_cwr_and_no_cwr_flag_is_queued() -> None:
    states = set()
    with accurate(latency_ns=20 * MS, gso=False) as net:
        a, b = net.pair()
        net.filter = lambda s: s.with_tos(CE) if s.payload and s.seq % 13 == 0 else True
        sent = 0
        while sent < 200_000 or a.sk.packets_out:
            if sent < 200_000:
                with contextlib.suppress(BlockingIOError):
                    sent += a.send(bytes(min(20_000, 200_000 - sent)))
            net.clock.step()
            b.recv_all()
            states.add(a.sk.icsk_ca_state)
            assert not a.sk.ecn_flags & 2, "TCP_ECN_QUEUE_CWR"
        assert TCP_CA_CWR in states


def test_a_changed_codepoint_is_acknowledged_at_once_and_twice_with_counts() -> None:
    with accurate(sysctl={"tcp_ecn_option": 1, "tcp_ecn_option_beacon": 0}, gso=False) as net:
        a, b = net.pair()
        transfer(net, a, b, bytes(60_000), close=False)
        net.run(1 * S)
        start = len(net.log)
        net.filter = lambda s: s.with_tos(CE) if s.src == A and s.payload else True
        a.send(bytes(100))
        net.run(12 * MS)
        answers = [s for s in net.log[start:] if s.src == B]
        assert answers, "no delayed ACK"
        assert answers[0].opt(ACCECN1) is not None
        net.filter = None
        for _ in range(4):
            a.send(bytes(100))
            net.run(1 * S)
        with_option = [s.opt(ACCECN1) is not None for s in net.log[start:] if s.src == B]
        assert with_option[0]
        assert not with_option[-1]


def test_the_beacon_sends_an_option_some_times_in_a_round_trip() -> None:
    def options(beacon: int) -> int:
        sysctl = {"tcp_ecn_option": 1, "tcp_ecn_option_beacon": beacon}
        with accurate(sysctl=sysctl, gso=False, latency_ns=10 * MS) as net:
            a, b = net.pair()
            transfer(net, a, b, bytes(100_000), close=False)
            start = len(net.log)
            transfer(net, a, b, bytes(1_000_000), close=False)
            found = sum(s.opt(ACCECN1) is not None for s in net.log[start:] if s.src == B)
            net.finish(a, b)
            return found

    assert options(0) <= options(1) < options(3)


def test_sack_blocks_and_the_option_share_the_header() -> None:
    """Two of the blocks stay when the counts need room; nothing is lost of either."""
    with accurate(gso=False, loss=0.05, seed=3) as net:
        a, b = net.pair()
        assert transfer(net, a, b, bytes(400_000), close=False) == bytes(400_000)
        net.run(5 * S)
        both = [s for s in net.log if s.sacks and s.opt(ACCECN1) is not None]
        assert both
        assert all(len(s.options) <= 40 for s in net.log)
        assert info(a)["d0"] == info(b)["r0"] >= 400_000


@pytest.mark.parametrize("lost", ["syn", "synack"])
def test_a_lost_handshake_segment_goes_again(lost: str) -> None:
    with accurate() as net:
        which = is_syn if lost == "syn" else is_synack
        gone: list[Segment] = []
        net.filter = lambda s: not (which(s) and not gone and not gone.append(s))
        a, b = net.pair()
        assert a.sk.ecn_flags & MODES == b.sk.ecn_flags & MODES
        assert transfer(net, a, b, bytes(3000), close=False) == bytes(3000)


# --- the estimate of wrapped ACE fields ---------------------------------------------------


def twin(
    low: int, packets: int, size: int, ce_bytes: int, mss: int, proportional: bool, thinned: bool
) -> int:
    """tcp_accecn_delta from its words: search, instead of arithmetic on bits."""
    if packets < 8:
        return low
    safest = [n for n in range(packets + 1) if n % 8 == low][-1]
    if ce_bytes < 0:
        return low if thinned else safest
    if ce_bytes == 0:
        return low
    if packets >= 16 and proportional:
        if ce_bytes >= size:
            return safest
        marked = -(-ce_bytes * packets // size)
        return min(safest, low + marked // 8 * 8)
    if ce_bytes > low * mss:
        return safest
    return low if ce_bytes < safest * mss // 2 else safest


@given(
    low=st.integers(0, 7),
    packets=st.integers(0, 200),
    mss=st.integers(1, 9000),
    share=st.floats(-0.1, 1.1),
    flags=st.tuples(st.booleans(), st.booleans()),
)
@settings(max_examples=examples(300), deadline=None)
def test_the_estimate_is_its_twins(
    low: int, packets: int, mss: int, share: float, flags: tuple[bool, bool]
) -> None:
    size = packets * mss
    ce_bytes = int(size * share) if share >= 0 else -1
    got = tcp_accecn_delta(low, packets, size, ce_bytes, mss, *flags)
    assert got == twin(low, packets, size, ce_bytes, mss, *flags)
    assert got % 8 == low
    assert got <= max(packets, 7)


@given(packets=st.integers(0, 300), data=st.data(), mss=st.integers(100, 9000))
@settings(max_examples=examples(300), deadline=None)
def test_full_packets_are_estimated_to_within_a_wrap(
    packets: int, data: st.DataObject, mss: int
) -> None:
    marked = data.draw(st.integers(0, packets))
    got = tcp_accecn_delta(marked % 8, packets, packets * mss, marked * mss, mss, True, False)
    assert (got - marked) % 8 == 0
    assert abs(got - marked) <= 8


# --- the option ---------------------------------------------------------------------------


def test_the_option_has_the_layout_of_the_rfc() -> None:
    """RFC 9768 3.2.3: ECT(1), CE, ECT(0), 24 bits each; those of ECT begin at 1."""
    counts = (0x01020304, 0x0A0B0C0D, 0xFFFFFF)
    whole = bytes((174, 11)) + bytes.fromhex("020305 0b0c0d 000000")
    for fields in range(4):
        expected = bytes((174, 2 + 3 * fields)) + whole[2 : 2 + 3 * fields]
        assert tcp_accecn_option(fields, *counts) == expected


@given(st.integers(0, 3), st.integers(0, 10), st.integers(0, 4))
@settings(max_examples=examples(200), deadline=None)
def test_the_option_fits_where_it_is_said_to(required: int, words: int, sacks: int) -> None:
    room = 4 * words
    saving = 2 if sacks else 0
    fields, blocks = tcp_accecn_fit(required, room, sacks, saving)
    if fields < 0:
        assert blocks == sacks
        assert tcp_accecn_padded(required, saving) > room
        return
    assert fields >= required
    assert blocks == sacks or blocks >= 2
    left = room + 8 * (sacks - blocks) - tcp_accecn_padded(fields, saving)
    assert left >= 0
    if fields < 3:
        assert left < tcp_accecn_padded(fields + 1, saving) - tcp_accecn_padded(fields, saving)


def test_a_count_of_24_bits_moves_the_whole_count() -> None:
    with TcpNet() as net:
        sk = net.socket(net.a).sk

        @given(st.integers(0, 0xFFFFFFFF), st.integers(-(1 << 23), (1 << 23) - 1))
        @settings(max_examples=examples(200), deadline=None)
        def moves(old: int, delta: int) -> None:
            sk.delivered_e1_bytes = sk.delivered_e0_bytes = sk.delivered_ce_bytes = old
            new = old + delta & 0xFFFFFFFF
            for ecn, name, first in (
                (ECT_1, "delivered_e1_bytes", 1),
                (ECT_0, "delivered_e0_bytes", 1),
                (CE, "delivered_ce_bytes", 0),
            ):
                got = tcp_accecn.tcp_update_ecn_bytes(sk, ecn, new + first & 0xFFFFFF)
                assert got == delta
                assert getattr(sk, name) == new

        moves()


@pytest.mark.parametrize("lost", [False, True])
@pytest.mark.parametrize("network", [TcpNet, TcpNet6])
def test_the_ack_of_time_wait_is_ect_unless_it_answers_what_is_old(
    network: type[TcpNet], lost: bool
) -> None:
    """tcp_v4_timewait_ack, tcp_v6_timewait_ack: a FIN that comes again is outside the window."""
    with network(sysctl={"tcp_ecn": 3}) as net:
        a, b = net.pair()
        fins: list[Segment] = []

        def once(segment: Segment) -> bool:
            by_b = segment.sport == 80
            if not by_b and len(fins) == 1 and lost:
                return False  # the ACK of the first FIN
            if by_b and segment.flags & FIN:
                fins.append(segment)
            return True

        a.close()
        net.run(200 * MS)
        net.filter = once
        b.close()
        net.run(2 * S)
        ack = [s for s in net.log if s.dport == 80][-1]
        assert len(fins) == 1 + lost
        assert ack.tos & 3 == (NOT_ECT if lost else ECT_0)
