"""What TCP does with segments that are old, out of order, out of window, forged or malformed."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from stack.core.drop_reason import (
    SKB_DROP_REASON_TCP_INVALID_END_SEQUENCE,
    SKB_DROP_REASON_TCP_INVALID_SEQUENCE,
    SKB_DROP_REASON_TCP_OLD_SEQUENCE,
    SKB_DROP_REASON_TCP_OVERWINDOW,
    SKB_DROP_REASON_TCP_TOO_OLD_ACK,
)
from stack.core.tcp_states import TCP_ESTABLISHED
from stack.inet.tcp_sock import (
    after,
    before,
    between,
    s32,
    tcp_max_receive_window,
    tcp_receive_window,
)
from tests.stack.inet.tcpnet import (
    ACK,
    FIN,
    MS,
    PSH,
    RST,
    SYN,
    URG,
    A,
    B,
    S,
    TcpNet,
    build_segment,
    dest_unreach,
    transfer,
)
from tests.stack.inet.test_tcp_states import Peer
from tests.support import examples

HOST, FRAG_NEEDED = 1, 4

M32 = 0xFFFFFFFF
seqs = st.integers(0, M32)

SEND_ALL_AT_ONCE = {"tcp_wmem": (4096, 4 << 20, 4 << 20)}
"""A send buffer that takes all of a test's data in one call."""


@given(seqs, st.integers(1, 0x7FFFFFFF))
def test_sequence_order_is_modular(seq: int, distance: int) -> None:
    later = (seq + distance) & M32
    assert before(seq, later)
    assert after(later, seq)
    assert not before(later, seq)
    assert s32(later - seq) == distance


@given(seqs, st.integers(0, 0x7FFFFFFF), st.integers(0, 0x7FFFFFFF))
def test_between_is_closed(low: int, width: int, offset: int) -> None:
    seq = (low + offset) & M32
    assert between(seq, low, (low + width) & M32) == (offset <= width)


def established(**kw) -> Peer:  # type: ignore[no-untyped-def]
    peer = Peer(**kw)
    peer.to(TCP_ESTABLISHED)
    return peer


def end(peer: Peer) -> None:
    peer.give(RST, peer.sock.sk.rcv_nxt)
    peer.close()


def test_out_of_order_segments_are_joined() -> None:
    peer = established()
    order = [(20, b"cc"), (10, b"b" * 10), (0, b"a" * 10), (22, b"d")]
    for offset, payload in order[:2]:
        answer = peer.give(ACK, peer.rcv + offset, peer.snd, payload=payload)
        assert answer
        assert all(s.ack == peer.rcv for s in answer)
    assert not peer.sock.readable
    answer = peer.give(ACK, peer.rcv, peer.snd, payload=b"a" * 10)
    assert answer[-1].ack == peer.rcv + 22  # RFC 5681 4.2: the gap is filled, ACK at once
    peer.give(ACK, peer.rcv + 22, peer.snd, payload=b"d")
    assert peer.sock.recv() == b"a" * 10 + b"b" * 10 + b"ccd"
    end(peer)


@settings(max_examples=examples(150), deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.lists(st.tuples(st.integers(0, 300), st.integers(1, 120)), min_size=1, max_size=25),
    st.integers(0, M32),
    st.booleans(),
)
def test_any_overlap_gives_the_stream(pieces: list[tuple[int, int]], iss: int, sack: bool) -> None:
    """Random overlapping pieces of one stream, at any initial sequence number."""
    stream = bytes((i * 7 + 3) & 0xFF for i in range(420))
    peer = Peer()
    peer.net.a.sysctl.tcp_sack = int(sack)
    peer.iss = iss
    peer.open()
    peer.give(SYN | ACK, iss, peer.isn + 1, options=b"\x04\x02\x02\x04\x05\xb4")
    base = iss + 1
    have = bytearray(len(stream))
    for start, size in pieces:
        size = min(size, len(stream) - start)
        have[start : start + size] = b"\1" * size
        answer = peer.give(ACK, base + start, peer.isn + 1, payload=stream[start : start + size])
        prefix = have.find(0)
        prefix = len(stream) if prefix < 0 else prefix
        if answer:
            assert answer[-1].ack == (base + prefix) & M32
            for block in answer[-1].sacks:
                left = (block[0] - base) & M32
                right = (block[1] - base) & M32
                assert all(have[left:right])
    prefix = have.find(0)
    prefix = len(stream) if prefix < 0 else prefix
    assert peer.sock.recv_all() == stream[:prefix]
    end(peer)


def test_old_duplicate_is_acked_and_dropped() -> None:
    peer = established()
    peer.give(ACK, peer.rcv, peer.snd, payload=b"data")
    answer = peer.give(ACK, peer.rcv, peer.snd, payload=b"data")
    assert [s.ack for s in answer] == [peer.rcv + 4]
    assert peer.sock.recv() == b"data"
    end(peer)


def test_segment_beyond_the_window_is_refused() -> None:
    peer = established()
    answer = peer.give(ACK, peer.rcv + 5_000_000, peer.snd, payload=b"far")
    assert [s.ack for s in answer] == [peer.rcv]
    assert not peer.sock.sk.out_of_order_queue
    end(peer)


def test_the_reason_of_a_drop_says_on_which_side_of_the_window() -> None:
    peer = established()
    for _ in range(2):  # the second is acknowledged at once
        peer.give(ACK, peer.rcv, peer.snd, payload=b"data")
    reasons = peer.net.a.drop_reasons
    peer.give(ACK, peer.rcv, peer.snd, payload=b"dat")
    assert reasons[SKB_DROP_REASON_TCP_OLD_SEQUENCE] == 1
    peer.give(ACK, peer.rcv + 5_000_000, peer.snd, payload=b"far")
    assert reasons[SKB_DROP_REASON_TCP_INVALID_SEQUENCE] == 1
    assert peer.net.a.mib.linux.BeyondWindow == 1
    end(peer)


@pytest.mark.parametrize("again", [False, True], ids=["predicted", "slow"])
def test_data_that_ends_beyond_the_window_goes_into_an_empty_queue_only(again: bool) -> None:
    """Linux's tcp_sequence since 6.17. A FIN just behind the window is no such data."""
    peer = established()
    sk = peer.sock.sk
    linux, reasons = peer.net.a.mib.linux, peer.net.a.drop_reasons
    peer.give(ACK, peer.rcv, peer.snd, payload=b"data")
    sk.rcv_wup, sk.rcv_wnd = sk.rcv_nxt, 100
    sk.rcv_mwnd_seq = (sk.rcv_nxt + 100) & M32
    if again:
        sk.pred_flags = 0
    at = peer.rcv + 4
    answer = peer.give(ACK, at, peer.snd, payload=b"x" * 101)
    assert [s.ack for s in answer] == [at]
    assert (linux.BeyondWindow, reasons[SKB_DROP_REASON_TCP_INVALID_END_SEQUENCE]) == (1, 1)
    assert peer.sock.recv() == b"data"
    sk.rcv_wup, sk.rcv_wnd = sk.rcv_nxt, 100
    sk.rcv_mwnd_seq = (sk.rcv_nxt + 100) & M32
    peer.give(ACK, at, peer.snd, payload=b"x" * 101)
    assert sk.rcv_nxt == at + 101
    assert linux.BeyondWindow == 1
    sk.rcv_wup, sk.rcv_wnd, sk.rcv_mwnd_seq = sk.rcv_nxt, 0, sk.rcv_nxt
    peer.give(FIN | ACK, at + 101, peer.snd)
    assert sk.rcv_nxt == at + 102
    end(peer)


def test_a_window_that_shrank_is_kept_to_by_its_furthest_end() -> None:
    """RFC 7323 2.4: what was sent before the sender heard of it is no attack."""
    peer = established()
    sk = peer.sock.sk
    peer.give(ACK, peer.rcv, peer.snd, payload=b"data")
    sk.rcv_wup, sk.rcv_wnd = sk.rcv_nxt, 10
    assert tcp_max_receive_window(sk) > 1000
    peer.give(ACK, peer.rcv + 4, peer.snd, payload=b"x" * 1000)
    assert sk.rcv_nxt == peer.rcv + 1004
    far = sk.rcv_mwnd_seq
    sk.rcv_wup, sk.rcv_wnd = sk.rcv_nxt, 10
    answer = peer.give(ACK, sk.rcv_nxt + 500, peer.snd, payload=b"y")  # out of order: not now
    assert [s.ack for s in answer] == [peer.rcv + 1004]
    assert not sk.out_of_order_queue
    assert peer.net.a.drop_reasons[SKB_DROP_REASON_TCP_OVERWINDOW] == 1
    assert peer.net.a.mib.linux.BeyondWindow == 0
    assert not before(sk.rcv_mwnd_seq, far)
    end(peer)


def test_the_window_ends_exactly_where_it_was_offered() -> None:
    peer = established()
    sk = peer.sock.sk
    edge = peer.rcv + tcp_receive_window(sk)
    # RFC 5961 3.2: a RST inside the window but not at its left edge is challenged, outside silent
    # (the silent one first: challenges are limited in number)
    assert peer.give(RST, edge + 1) == []
    answer = peer.give(RST, edge)
    assert [(s.flags, s.ack) for s in answer] == [(ACK, peer.rcv)]
    assert peer.state == TCP_ESTABLISHED
    end(peer)


@pytest.mark.parametrize("payload", [b"", b"x"], ids=["pure", "data"])
def test_ack_of_what_was_never_sent_is_challenged_and_its_data_dropped(payload: bytes) -> None:
    """RFC 9293 3.10.7.4, RFC 5961 5.2: an ACK in answer, but not to each of a flood."""
    peer = established()
    answer = peer.give(ACK, peer.rcv, peer.snd + 1, payload=payload)
    assert [(s.flags, s.seq, s.ack) for s in answer] == [(ACK, peer.snd, peer.rcv)]
    assert not peer.sock.readable
    assert peer.sock.sk.snd_una == peer.snd
    for _ in range(5):
        assert peer.give(ACK, peer.rcv, peer.snd + 1, payload=payload) == []
    linux = peer.net.a.mib.linux
    assert (linux.TCPChallengeACK, linux.TCPACKSkippedChallenge) == (1, 5)
    peer.net.run(501 * MS)
    assert len(peer.give(ACK, peer.rcv, peer.snd + 1, payload=payload)) == 1
    end(peer)


@pytest.mark.parametrize("window", [65535, 777], ids=["predicted", "other-window"])
def test_ack_older_than_any_window_is_challenged_and_its_data_dropped(window: int) -> None:
    """RFC 5961 5.2: SND.UNA - MAX.SND.WND <= SEG.ACK, and never before the first byte.

    With the window as before the segment is one that header prediction takes.
    """
    peer = established()
    sk = peer.sock.sk
    peer.sock.send(b"a" * 100)
    peer.take()
    peer.snd += 100
    for _ in range(2):  # the second gives the window that prediction expects from then on
        peer.give(ACK, peer.rcv, peer.snd)
    peer.give(ACK, peer.rcv, peer.snd, payload=b"0")
    assert peer.sock.recv() == b"0"
    peer.rcv += 1
    peer.net.run(200 * MS)
    peer.take()
    oldest = sk.snd_una - min(sk.max_window, sk.bytes_acked)
    counted = sk.data_segs_in + 1, sk.bytes_received
    answer = peer.give(ACK, peer.rcv, oldest - 1, payload=b"x", window=window)
    assert [(s.flags, s.ack) for s in answer] == [(ACK, peer.rcv)]
    assert not peer.sock.readable
    assert (sk.data_segs_in, sk.bytes_received) == counted
    assert peer.net.a.mib.linux.TCPChallengeACK == 1
    assert peer.net.a.drop_reasons[SKB_DROP_REASON_TCP_TOO_OLD_ACK] == 1
    peer.give(ACK, peer.rcv, oldest, payload=b"y", window=window)
    assert peer.sock.recv() == b"y"
    peer.rcv += 1
    end(peer)


def test_a_pure_ack_older_than_any_window_is_challenged() -> None:
    peer = established()
    peer.sock.send(b"a" * 100)
    peer.take()
    peer.snd += 100
    for _ in range(2):
        peer.give(ACK, peer.rcv, peer.snd)
    sk = peer.sock.sk
    oldest = sk.snd_una - min(sk.max_window, sk.bytes_acked)
    assert peer.give(ACK, peer.rcv, oldest) == []
    answer = peer.give(ACK, peer.rcv, oldest - 1)
    assert [(s.flags, s.ack) for s in answer] == [(ACK, peer.rcv)]
    assert peer.net.a.drop_reasons[SKB_DROP_REASON_TCP_TOO_OLD_ACK] == 1
    end(peer)


def test_challenge_acks_are_limited_for_the_host() -> None:
    """RFC 5961 7: at most 3/2 of tcp_challenge_ack_limit a second, however many sockets."""
    peers_port = 2000
    with TcpNet(latency_ns=MS, sysctl={"tcp_challenge_ack_limit": 10}) as net:
        pairs = [net.pair(peers_port + i) for i in range(30)]
        net.run(2 * S - net.clock.now_ns() % S)  # a second of its own
        net.log.clear()
        for client, _ in pairs:
            sk = client.sk
            net.inject(build_segment(B, sk.inet_dport, sk.inet_num, sk.rcv_nxt + 1, 0, RST))
        net.run(100 * MS)
        sent = net.a.mib.linux.TCPChallengeACK
        assert 5 <= sent <= 15
        assert all(client.state == "ESTABLISHED" for client, _ in pairs)
        net.run(S)
        for client, _ in pairs:
            sk = client.sk
            net.inject(build_segment(B, sk.inet_dport, sk.inet_num, sk.rcv_nxt + 1, 0, RST))
        net.run(100 * MS)
        assert 5 <= net.a.mib.linux.TCPChallengeACK - sent <= 15
        for sock in [s for pair in pairs for s in pair]:
            sock.close()
        net.run(300 * S)


def test_no_flags_is_dropped() -> None:
    peer = established()
    assert peer.give(0, peer.rcv, peer.snd, payload=b"x") == []
    assert peer.give(PSH | URG, peer.rcv, peer.snd, payload=b"x") == []
    assert not peer.sock.readable
    end(peer)


def test_bad_checksum_is_counted() -> None:
    peer = established()
    packet = bytearray(build_segment(B, 80, peer.port, peer.rcv, peer.snd, ACK, payload=b"x"))
    packet[-1] ^= 1
    peer.inject_frame(bytes(packet))
    peer.net.run(MS)
    assert peer.net.a.mib.tcp.InCsumErrors == 1
    assert not peer.sock.readable
    end(peer)


@pytest.mark.parametrize("doff", [0, 4, 15])
def test_malformed_data_offset_is_counted(doff: int) -> None:
    """But not a header that is longer than its segment: Linux drops that without a word."""
    peer = established()
    packet = bytearray(build_segment(B, 80, peer.port, peer.rcv, peer.snd, ACK))
    packet[32] = doff << 4
    peer.inject_frame(bytes(packet))
    peer.net.run(MS)
    assert peer.net.a.mib.tcp.InErrs == (doff < 5)
    assert peer.state == TCP_ESTABLISHED
    end(peer)


@settings(max_examples=examples(200), deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.binary(max_size=40), st.sampled_from([SYN, SYN | ACK, ACK, ACK | PSH, FIN | ACK, RST]))
def test_any_options_are_survived(options: bytes, flags: int) -> None:
    """Garbage in the option area never crashes and never opens a hole."""
    peer = established()
    peer.give(flags, peer.rcv, peer.snd, payload=b"" if flags & SYN else b"y", options=options)
    assert peer.state in (1, 7, 8)
    listener = peer.net.socket(peer.net.a)
    listener.bind(999)
    listener.listen(1)
    peer.inject_frame(build_segment(B, 5, 999, 1, 0, SYN, options=options))
    peer.net.run(MS)
    peer.take()
    listener.close()
    end(peer)


@settings(max_examples=examples(100), deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.lists(
        st.tuples(
            st.integers(0, 255),
            st.integers(-3, 3),
            st.integers(-3, 3),
            st.binary(max_size=20),
            st.integers(0, 65535),
        ),
        max_size=12,
    )
)
def test_hostile_segments_never_crash(script: list) -> None:  # type: ignore[type-arg]
    """Any flags around the right sequence numbers."""
    peer = established()
    peer.sock.send(b"0123456789")
    peer.take()
    for flags, dseq, dack, payload, window in script:
        peer.give(
            flags,
            peer.rcv + dseq,
            peer.snd + dack + 5,
            payload=payload,
            window=window,
            urg=dack & 3,
        )
    peer.net.run(S)
    peer.take()
    peer.sock.recv_all() if peer.sock.sk.sk_state == 1 else None
    peer.sock.close()
    peer.net.run(3000 * S)
    peer.take()
    assert not peer.net.a.tcp_hashinfo.ehash
    peer.close()


# --- timestamps ---------------------------------------------------------------------------


def ts(value: int, echo: int) -> bytes:
    return b"\1\1\x08\x0a" + (value & M32).to_bytes(4, "big") + (echo & M32).to_bytes(4, "big")


def with_timestamps() -> tuple[Peer, int]:
    """A connection whose peer's clock reads 1000 after the handshake; (peer, what it echoes)."""
    peer = Peer(timestamps=True)
    peer.open()
    syn_ts = int.from_bytes(peer_syn_ts(peer), "big")
    peer.give(SYN | ACK, peer.iss, peer.isn + 1, options=b"\x02\x04\x05\xb4" + ts(1000, syn_ts))
    peer.rcv, peer.snd = peer.iss + 1, peer.isn + 1
    return peer, syn_ts


def peer_syn_ts(peer: Peer) -> bytes:
    # The SYN was taken by open(); its timestamp is the clock plus the connection's offset.
    sk = peer.sock.sk
    return ((sk.tcp_mstamp // MS + sk.tsoffset) & M32).to_bytes(4, "big")


def test_paws_drops_old_timestamps() -> None:
    """RFC 7323 5.3: an older TSval means an old duplicate, even inside the window."""
    peer, echo = with_timestamps()
    answer = peer.give(ACK, peer.rcv, peer.snd, payload=b"old!", options=ts(900, echo))
    assert not peer.sock.readable
    assert [s.ack for s in answer] == [peer.rcv]
    assert peer.net.a.mib.linux.PAWSEstab == 1
    peer.give(ACK, peer.rcv, peer.snd, payload=b"new!", options=ts(1001, echo))
    assert peer.sock.recv() == b"new!"
    peer.give(RST, peer.rcv + 4, options=ts(1001, echo))
    peer.close()


def test_paws_wraps_with_the_clock() -> None:
    peer, echo = with_timestamps()
    peer.give(ACK, peer.rcv, peer.snd, payload=b"a", options=ts(1000 + 0x7FFFFFFF, echo))
    assert peer.sock.recv() == b"a"
    peer.give(RST, peer.rcv + 1, options=ts(1000 + 0x7FFFFFFF, echo))
    peer.close()


def test_rst_passes_paws() -> None:
    peer, echo = with_timestamps()
    peer.give(RST, peer.rcv, options=ts(1, echo))
    assert peer.sock.state == "CLOSE"
    peer.close()


def test_timestamp_echo_follows_the_last_ack() -> None:
    """RFC 7323 4.3: data beyond a hole does not move TS.Recent."""
    peer, echo = with_timestamps()
    answer = peer.give(ACK, peer.rcv + 10, peer.snd, payload=b"late", options=ts(2000, echo))
    assert int.from_bytes(answer[-1].opt(8)[4:], "big") == 1000
    answer = peer.give(ACK, peer.rcv, peer.snd, payload=b"0123456789", options=ts(1500, echo))
    assert int.from_bytes(answer[-1].opt(8)[4:], "big") == 1500
    peer.sock.recv_all()
    peer.give(RST, peer.rcv + 14, options=ts(2000, echo))
    peer.close()


# --- windows ------------------------------------------------------------------------------


def test_sequence_numbers_wrap() -> None:
    """A transfer across 2**32 in both directions of numbering."""
    with TcpNet() as net:
        listener = net.listening(1)
        client = net.socket(net.a)
        client.sk.write_seq = M32 - 100_000
        client.connect(B, 80)
        net.run(50 * MS)
        server = listener.accept()
        data = bytes(i & 0xFF for i in range(500_000))
        assert transfer(net, client, server, data) == data


def test_sequence_wrap_with_loss() -> None:
    for sack in (0, 1):
        with TcpNet(loss=0.03, reorder=0.03, seed=5, sysctl={"tcp_sack": sack}) as net:
            listener = net.listening(1)
            client = net.socket(net.a)
            client.sk.write_seq = M32 - 60_000
            client.connect(B, 80)
            assert net.run_until(lambda c=client, b=listener: b.readable and not c.connecting)
            server = listener.accept()
            data = bytes(i % 251 for i in range(200_000))
            assert transfer(net, client, server, data) == data
            listener.close()
            server.close()
            client.close()
            net.loss = 0
            net.run(300 * S)


def test_window_never_shrinks_below_what_was_offered() -> None:
    """RFC 9293 3.8.6.2.1, checked on every ACK of a slow reader."""
    with TcpNet(sysctl={"tcp_rmem": (4096, 65536, 65536)}, gso=True) as net:
        client, server = net.pair()
        scale = server.sk.rx_opt.rcv_wscale
        sent, right_edge = 0, 0
        base = net.log[1].ack
        for _ in range(200):
            with contextlib.suppress(BlockingIOError):
                sent += client.send(b"w" * 10_000)
            net.run(20 * MS)
            with contextlib.suppress(BlockingIOError):
                server.recv(3000)
        for s in net.log[3:]:
            if s.src == B:
                edge = ((s.ack - base) & M32) + (s.window << scale)
                # A window of 0 says that a segment did not fit (ICSK_ACK_NOMEM).
                assert edge >= right_edge or not s.window
                right_edge = max(edge, right_edge)


def test_no_silly_windows() -> None:
    """RFC 9293 3.8.6.2.2: a byte-wise reader does not make the peer send tiny segments."""
    with TcpNet(sysctl={"tcp_rmem": (4096, 32768, 32768)}) as net:
        client, server = net.pair()
        client.send(b"z" * 100_000)
        net.run(S)
        start = len(net.log)
        for _ in range(6000):
            server.recv(1)
        net.run(S)
        windows = [s.window << server.sk.rx_opt.rcv_wscale for s in net.log[start:] if s.src == B]
        assert all(w == 0 or w >= 1000 for w in windows)


def test_receive_buffer_grows_with_the_application() -> None:
    """Dynamic right-sizing: a fast reader gets a larger window (within tcp_rmem)."""
    with TcpNet(latency_ns=20 * MS, sysctl={"tcp_rmem": (4096, 131072, 6 << 20)}) as net:
        client, server = net.pair()
        data = b"q" * 8_000_000
        assert transfer(net, client, server, data) == data
        assert server.sk.sk_rcvbuf > 2 * 131072


def test_small_frames_cannot_exhaust_the_receive_buffer() -> None:
    """One-byte segments hold whole ring buffers: they are collapsed, or dropped and resent."""
    with TcpNet(gso=False, sysctl={"tcp_rmem": (4096, 65536, 65536), **SEND_ALL_AT_ONCE}) as net:
        client, server = net.pair()
        client.setsockopt(1, 1)  # TCP_NODELAY
        data = bytes(i & 0xFF for i in range(3000))
        for i in range(len(data)):
            client.send(data[i : i + 1])
            if i % 20 == 0:
                net.run(MS)
        net.run(S)
        assert server.sk.sk_rmem_alloc <= 2 * 65536
        got = bytearray()
        for _ in range(400):
            got += server.recv_all()
            if len(got) == len(data):
                break
            net.run(100 * MS)
        assert bytes(got) == data


def test_out_of_order_flood_is_bounded() -> None:
    """The first segment never comes: the queue of the others stays within the buffer."""
    with TcpNet(gso=False, sysctl={"tcp_rmem": (4096, 131072, 131072), **SEND_ALL_AT_ONCE}) as net:
        client, server = net.pair()
        first = client.sk.write_seq
        net.filter = lambda s: not (s.src == A and s.payload and s.seq == first)
        client.send(b"h" * 400_000)
        net.run(3 * S)
        assert server.sk.sk_rmem_alloc <= 2 * 131072
        net.filter = None
        got = bytearray()
        for _ in range(300):
            got += server.recv_all()
            net.run(100 * MS)
        assert bytes(got) == b"h" * len(got)
        assert len(got) == 400_000


# --- path MTU -----------------------------------------------------------------------------


def test_path_mtu_discovery() -> None:
    """RFC 1191: a router's limit makes segments smaller and resends what was too large."""
    with TcpNet() as net:
        client, server = net.pair()
        limit = 1000

        def router(s):  # type: ignore[no-untyped-def]
            size = 40 + len(s.options) + len(s.payload)
            if s.src == A and size > limit:
                quoted = build_segment(A, s.sport, s.dport, s.seq, s.ack, s.flags)
                net.clock.call_at(
                    net.clock.now_ns() + MS,
                    lambda: net.inject(dest_unreach(quoted, FRAG_NEEDED, limit)),
                )
                return False
            return None

        net.filter = router
        data = bytes(i % 253 for i in range(200_000))
        assert transfer(net, client, server, data) == data
        assert client.sk.icsk_pmtu_cookie == limit
        assert client.sk.mss_cache == limit - 52
        assert net.a.mib.linux.TCPTimeouts == 0


def test_forged_icmp_outside_the_window_is_ignored() -> None:
    """RFC 5927."""
    with TcpNet() as net:
        client, _server = net.pair()
        sk = client.sk
        quoted = build_segment(A, sk.inet_sport, 80, (sk.snd_una + 99999) & M32, 0, ACK)
        net.inject(dest_unreach(quoted, FRAG_NEEDED, 600))
        assert sk.icsk_pmtu_cookie == 1500
        assert net.a.mib.linux.OutOfWindowIcmps == 1


def test_host_unreachable_is_soft_on_a_connection_and_hard_before() -> None:
    with TcpNet() as net:
        client, server = net.pair()
        sk = client.sk
        net.inject(dest_unreach(build_segment(A, sk.inet_sport, 80, sk.snd_una, 0, ACK), HOST))
        assert client.state == "ESTABLISHED"
        assert sk.sk_err == 0
        assert sk.sk_err_soft
        net.filter = lambda s: False
        other = net.client(81)
        sk2 = other.sk
        net.inject(dest_unreach(build_segment(A, sk2.inet_sport, 81, sk2.snd_una, 0, SYN), HOST))
        assert other.state == "CLOSE"
        assert sk2.sk_err == 113
        # Whatever IP_RECVERR says, as tests/linux/test_tcp.py sees it of Linux.
        assert sk2.sk_error_queue.qlen == 1
        net.filter = None
        for sock in (client, server, other):
            sock.close()
        net.run(300 * S)


def test_without_a_route_a_retransmission_backs_off_once_less() -> None:
    """RFC 6069: what finds no route was not lost by congestion. Once per retransmission."""
    with TcpNet() as net:
        client, server = net.pair()
        sk = client.sk
        net.filter = lambda s: False
        client.send(b"x")
        assert net.run_until(lambda: sk.icsk_retransmits == 3, 60 * S)
        assert sk.icsk_backoff == 3
        rto = sk.icsk_rto
        quoted = build_segment(A, sk.inet_sport, 80, sk.snd_una, 0, ACK)
        net.inject(
            dest_unreach(build_segment(A, sk.inet_sport, 80, (sk.snd_una - 1) & M32, 0, ACK), HOST)
        )
        assert (sk.icsk_backoff, sk.icsk_rto) == (3, rto)
        net.inject(dest_unreach(quoted, HOST))
        assert (sk.icsk_backoff, sk.icsk_rto) == (2, rto // 2)
        # The shorter one is over now and then: the segment goes again at once, and backs off.
        net.run(rto // 2 - MS)
        sent = sk.total_retrans
        net.inject(dest_unreach(quoted, HOST))
        assert sk.icsk_backoff == 2
        assert sk.total_retrans == sent + 1
        net.filter = None
        net.run(60 * S)
        assert server.recv_all() == b"x"
