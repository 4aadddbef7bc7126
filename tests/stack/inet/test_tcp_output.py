"""What TCP sends when: Nagle's rule, the peer's window to the byte, TIME_WAIT's answers."""

from __future__ import annotations

import pytest

from stack.core.tcp_states import TCP_CLOSE, TCP_ESTABLISHED, TCP_FIN_WAIT2, TCP_TIME_WAIT
from stack.inet import tcp_sock as opt
from tests.stack.inet.tcpnet import ACK, FIN, MS, RST
from tests.stack.inet.test_tcp_states import Peer


def in_state(state: int) -> Peer:
    peer = Peer()
    peer.to(state)
    peer.take()
    return peer


def end(peer: Peer) -> None:
    assert peer.sock is not None
    peer.give(RST, peer.sock.sk.rcv_nxt)
    peer.close()


def sent(peer: Peer) -> list[bytes]:
    """Payloads the stack sent since the last call, without asking for more time."""
    return [bytes(s.payload) for s in peer.take()]


def test_nagle_holds_the_second_small_segment_until_the_first_is_acknowledged() -> None:
    peer = in_state(TCP_ESTABLISHED)
    peer.sock.send(b"a" * 10)
    assert sent(peer) == [b"a" * 10]
    peer.sock.send(b"b" * 10)
    peer.sock.send(b"c" * 10)
    assert sent(peer) == []
    answer = peer.give(ACK, peer.rcv, peer.snd + 10)
    assert [bytes(s.payload) for s in answer] == [b"b" * 10 + b"c" * 10]
    end(peer)


def test_nodelay_sends_each_small_segment_at_once() -> None:
    peer = in_state(TCP_ESTABLISHED)
    peer.sock.setsockopt(opt.TCP_NODELAY, 1)
    for piece in (b"a", b"b", b"c"):
        peer.sock.send(piece)
        assert sent(peer) == [piece]
    end(peer)


def test_setting_nodelay_lets_go_what_waits() -> None:
    peer = in_state(TCP_ESTABLISHED)
    peer.sock.send(b"a")
    peer.sock.send(b"b")
    assert sent(peer) == [b"a"]
    peer.sock.setsockopt(opt.TCP_NODELAY, 1)
    assert sent(peer) == [b"b"]
    end(peer)


def test_a_full_segment_in_flight_does_not_hold_a_small_one() -> None:
    """Minshall's variant: only a small segment in flight holds the next small one."""
    peer = in_state(TCP_ESTABLISHED)
    mss = peer.sock.sk.mss_cache
    peer.sock.send(b"F" * mss)
    peer.sock.send(b"s")
    assert sent(peer) == [b"F" * mss, b"s"]
    peer.sock.send(b"t")
    assert sent(peer) == []
    end(peer)


@pytest.mark.parametrize(
    ("window", "size", "payloads"),
    [(1000, 1000, [536, 464]), (1000, 1001, [536, 464]), (100, 100, [100]), (100, 101, [])],
)
def test_the_peers_window_is_kept_to_the_byte(window: int, size: int, payloads: list[int]) -> None:
    peer = in_state(TCP_ESTABLISHED)
    assert peer.sock.sk.mss_cache == 536  # the peer's SYN had no options
    peer.sock.setsockopt(opt.TCP_NODELAY, 1)
    peer.give(ACK, peer.rcv, peer.snd, window=window)
    peer.sock.send(b"x" * size)
    assert [len(p) for p in sent(peer)] == payloads
    end(peer)


def test_a_reset_ends_time_wait_unless_rfc_1337_is_on() -> None:
    peer = in_state(TCP_TIME_WAIT)
    peer.net.a.sysctl.tcp_rfc1337 = 1
    assert peer.give(RST, peer.rcv) == []
    assert peer.state == TCP_TIME_WAIT
    peer.net.a.sysctl.tcp_rfc1337 = 0
    assert peer.give(RST, peer.rcv) == []
    assert peer.state == TCP_CLOSE
    peer.close()


@pytest.mark.parametrize(("late", "flags"), [(b"", ACK), (b"late", RST)])
def test_closed_socket_takes_the_fin_alone_and_resets_data(late: bytes, flags: int) -> None:
    peer = in_state(TCP_FIN_WAIT2)
    peer.sock.close()
    answer = peer.give(FIN | ACK, peer.rcv, peer.snd, payload=late)
    assert len(answer) == 1
    assert answer[0].flags & (ACK | RST) & flags
    assert bool(answer[0].flags & RST) == (flags == RST)
    peer.net.clock.run_for(61_000 * MS)
    peer.close()
