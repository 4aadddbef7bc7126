"""SACK compression: one ACK for several segments out of order (net/ipv4/tcp_input.c).

The peer leaves the first segment out and sends later ones. Nothing in the RFCs but RFC 5681 4.2
speaks of these ACKs: it wants one for each segment, of which the first three matter.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from stack.core.sock import lock_sock, release_sock
from stack.core.tcp_states import TCP_CLOSE
from stack.inet.tcp_const import TCP_ATO_MIN
from stack.inet.tcp_data import tcp_compress_ack
from stack.inet.tcp_sock import TCP_QUICKACK
from stack.inet.tcp_timer import tcp_delack_timer_handler
from tests.stack.inet.tcpnet import ACK, MS, RST, SYN, Segment, TcpNet, transfer
from tests.stack.inet.test_tcp_states import Peer
from tests.stack.ipv6.tcpnet6 import TcpNet6

US = 1_000
SIZE = 500
NR, SLACK_NS = 44, 10_000
SACK_PERMITTED = b"\4\2\1\1"


class Receiver(Peer):
    """A socket that gets segments of 500 bytes, of which it ACKs none at once without need.

    Its round trip is a second, so that ACKs are held back for tcp_comp_sack_delay_ns, 1 ms.
    """

    def __init__(self, *, options: bytes = SACK_PERMITTED, **sysctl: Any) -> None:
        super().__init__()
        for name, value in sysctl.items():
            self.net.a.sysctl[name] = value
        self.open()
        self.give(SYN | ACK, self.iss, self.isn + 1, options=options)
        self.rcv, self.snd = self.iss + 1, self.isn + 1
        assert self.sock is not None
        self.sock.setsockopt(TCP_QUICKACK, 0)
        self.sk = self.sock.sk
        self.round_trips(0, 1_000_000)
        self.mib = self.net.a.mib.linux

    def round_trips(self, sender_us: int, receiver_us: int) -> None:
        """What the socket measured as the one who sends and as the one who receives; 0: nothing."""
        self.sk.srtt_us, self.sk.rcv_rtt_est_rtt_us = sender_us << 3, receiver_us << 3

    def segment(self, number: int) -> list[Segment]:
        """The n-th segment, from 0; what is answered at once."""
        return self.give(ACK, self.rcv + number * SIZE, self.snd, payload=bytes(SIZE))

    def segments(self, *numbers: int) -> int:
        """Some segments; how many ACKs are sent at once."""
        return sum(len(self.segment(number)) for number in numbers)

    def hold(self) -> None:
        """Three segments, whose ACKs leave, and a fourth, whose ACK does not."""
        assert self.segments(1, 2, 3, 4) == 3
        assert self.sk.compressed_ack == 1
        assert self.armed

    @property
    def armed(self) -> bool:
        timer = self.sk.compressed_ack_timer
        return timer is not None and timer.pending

    def held_ns(self) -> int:
        """After how long the ACK leaves that is held back."""
        start = self.net.clock.now_ns()
        assert self.net.run_until(lambda: bool(self.net.wires[0].sent))
        (ack,) = self.take()
        assert ack.ack == self.rcv
        return ack.time_ns - start


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    made = Receiver()
    yield made
    finish(made)


def finish(made: Receiver) -> None:
    if made.sk.sk_state != TCP_CLOSE:
        made.give(RST, made.sk.rcv_nxt)
    assert made.sock is not None
    made.sock.close()
    made.close()


def test_three_acks_leave_at_once_and_one_for_all_later_segments(receiver: Receiver) -> None:
    """__tcp_ack_snd_check, TCP_FASTRETRANS_THRESH; the blocks tell of all that came meanwhile."""
    assert [receiver.segments(n) for n in range(1, 11)] == [1, 1, 1] + 7 * [0]
    assert receiver.sk.compressed_ack == 7
    receiver.net.run(MS)
    (ack,) = receiver.take()
    assert ack.ack == receiver.rcv
    assert ack.sacks == [(receiver.rcv + SIZE, receiver.rcv + 11 * SIZE)]
    assert receiver.mib.TCPAckCompressed == 6
    assert receiver.sk.compressed_ack == 0
    assert not receiver.armed


def test_segments_that_follow_do_not_move_the_timer(receiver: Receiver) -> None:
    """hrtimer_is_queued: the first segment that is held back says when the ACK leaves."""
    receiver.hold()
    start = receiver.net.clock.now_ns()
    for n in range(5, 15):
        receiver.net.run(50 * US)
        assert receiver.segments(n) == 0
    elapsed = receiver.net.clock.now_ns() - start
    # `give` lets 10 us pass.
    assert receiver.held_ns() == MS + SLACK_NS - elapsed - 10 * US


@pytest.mark.parametrize(
    ("sender_us", "receiver_us", "percent", "expected_us"),
    [
        (0, 1000, 33, 330),
        (0, 1000, 5, 50),  # Linux before 6.19
        (400, 1000, 33, 132),  # the smaller one
        (1000, 400, 33, 132),
        (0, 0, 33, 0),  # nothing was measured as a receiver
        (400, 0, 33, 0),
        (0, 3000, 33, 990),
        (0, 3100, 33, 1000),  # tcp_comp_sack_delay_ns
        (0, 500, 1000, 1000),
    ],
)
def test_an_ack_is_held_back_for_a_share_of_the_round_trip(
    receiver: Receiver, sender_us: int, receiver_us: int, percent: int, expected_us: int
) -> None:
    """min(tcp_comp_sack_delay_ns, round trip * tcp_comp_sack_rtt_percent / 100), and slack."""
    sysctl = receiver.net.a.sysctl
    sysctl.tcp_comp_sack_rtt_percent = percent
    sysctl.tcp_comp_sack_slack_ns = 20 * US
    assert receiver.segments(1, 2, 3) == 3
    receiver.round_trips(sender_us, receiver_us)
    assert receiver.segments(4) == 0
    assert receiver.held_ns() == expected_us * US + 20 * US - 10 * US


@pytest.mark.parametrize("nr", [0, 1, 5])
def test_one_ack_stands_for_so_many_segments_at_most(receiver: Receiver, nr: int) -> None:
    """tcp_comp_sack_nr: the segment behind them is ACKed at once, which ends the waiting."""
    receiver.net.a.sysctl.tcp_comp_sack_nr = nr
    assert receiver.segments(1, 2, 3) == 3
    for number in range(4, 4 + 3 * (nr + 1), nr + 1):
        assert [receiver.segments(number + i) for i in range(nr + 1)] == [0] * nr + [1]
        assert not receiver.armed
        assert receiver.sk.compressed_ack == 0
    assert receiver.mib.TCPAckCompressed == 3 * nr


def test_each_new_gap_has_three_acks_at_once(receiver: Receiver) -> None:
    """compressed_ack_rcv_nxt: what is expected next is another segment now."""
    receiver.segment(5)
    receiver.segment(6)
    receiver.segment(7)
    assert receiver.segments(8) == 0
    assert receiver.segments(0) == 1, "of the three for the gap behind it"
    assert receiver.segments(9, 10) == 2
    assert receiver.segments(11, 12) == 0


def test_without_sack_each_segment_is_acked() -> None:
    """tcp_is_sack: a sender without SACK counts duplicates (RFC 5681 3.2)."""
    made = Receiver(options=b"")
    assert [made.segments(n) for n in range(1, 9)] == 8 * [1]
    assert made.sk.compressed_ack_timer is None
    finish(made)


def test_a_new_block_sends_the_ack_that_is_held_back(receiver: Receiver) -> None:
    """tcp_sack_new_ofo_skb: the option may lack room for a third block, so the two leave first."""
    first = receiver.rcv
    receiver.hold()
    assert receiver.segments(6) == 0
    (ack,) = receiver.segment(8)
    assert ack.sacks == [
        (first + 6 * SIZE, first + 7 * SIZE),
        (first + SIZE, first + 5 * SIZE),
    ]
    assert receiver.mib.TCPAckCompressed == 1
    assert not receiver.armed
    assert not receiver.sk.icsk_ack_pending, "and for the segment itself nothing is owed"


def test_a_block_that_moves_up_from_the_third_place_does_too(receiver: Receiver) -> None:
    """tcp_sack_new_ofo_skb: it has grown already, and is still the third."""
    first = receiver.rcv
    assert receiver.segments(1, 4, 7) == 3
    assert receiver.segments(8) == 0
    (ack,) = receiver.segment(2)
    assert ack.sacks == [
        (first + 7 * SIZE, first + 9 * SIZE),
        (first + 4 * SIZE, first + 5 * SIZE),
        (first + SIZE, first + 3 * SIZE),
    ]


def test_the_ack_of_a_filled_gap_replaces_it(receiver: Receiver) -> None:
    """RFC 5681 4.2, tcp_event_ack_sent: an ACK at once; none that was held back follows."""
    receiver.hold()
    receiver.segments(5)
    (ack,) = receiver.segment(0)
    assert (ack.ack, ack.sacks) == (receiver.rcv + 6 * SIZE, [])
    assert receiver.mib.TCPAckCompressed == 2
    assert not receiver.armed
    receiver.net.run(10 * MS)
    assert receiver.take() == []


def test_data_takes_it_along(receiver: Receiver) -> None:
    """tcp_event_ack_sent: any segment with an ACK is one."""
    receiver.hold()
    assert receiver.sock is not None
    receiver.sock.send(b"answer")
    (segment,) = receiver.take()
    assert segment.payload == b"answer"
    assert segment.sacks == [(receiver.rcv + SIZE, receiver.rcv + 5 * SIZE)]
    assert not receiver.armed
    assert receiver.mib.TCPAckCompressed == 1
    assert receiver.sk.compressed_ack == 0


def test_a_socket_that_may_ack_each_segment_does(receiver: Receiver) -> None:
    """tcp_in_quickack_mode comes first: the start of a connection, or TCP_QUICKACK."""
    receiver.sk.icsk_ack_pingpong = 0
    receiver.sk.icsk_ack_quick = 8
    assert [receiver.segments(n) for n in range(1, 13)] == 11 * [1] + [0]


def test_the_timer_waits_for_the_owner(receiver: Receiver) -> None:
    """tcp_compressed_ack_kick, tcp_release_cb: TCP_DELACK_TIMER_DEFERRED."""
    receiver.hold()
    lock_sock(receiver.sk)
    receiver.net.run(5 * MS)
    assert receiver.take() == []
    assert receiver.sk.compressed_ack == 1
    release_sock(receiver.sk)
    assert len(receiver.take()) == 1
    assert receiver.mib.TCPAckCompressed == 0
    assert receiver.mib.DelayedACKs == 0


def test_the_timer_of_delayed_acks_sends_it_too(receiver: Receiver) -> None:
    """tcp_delack_timer_handler."""
    receiver.hold()
    receiver.segments(5)
    tcp_delack_timer_handler(receiver.sk)
    assert len(receiver.take()) == 1
    assert receiver.mib.TCPAckCompressed == 1
    assert not receiver.armed
    assert receiver.sk.icsk_ack_ato <= TCP_ATO_MIN, "no timeout of a delayed ACK was too short"


@pytest.mark.parametrize("how", ["reset", "close", "disconnect"])
def test_nothing_is_armed_when_the_connection_is_over(receiver: Receiver, how: str) -> None:
    """tcp_clear_xmit_timers, in tcp_done, tcp_destroy_sock and tcp_disconnect."""
    receiver.hold()
    assert receiver.sock is not None
    if how == "reset":
        receiver.give(RST, receiver.rcv)
    elif how == "close":  # data is lost, so the peer gets a RST
        receiver.segments(0)
        assert receiver.segments(6, 7, 8, 9) == 3
        assert receiver.armed
        receiver.sock.close()
    else:
        lock_sock(receiver.sk)
        receiver.sk.sk_prot.disconnect(receiver.sk, 0)
        release_sock(receiver.sk)
        assert receiver.sk.compressed_ack == 0
    receiver.take()
    assert not receiver.armed
    receiver.net.run(10 * MS)
    assert receiver.take() == []


def test_a_destroyed_socket_makes_no_timer(receiver: Receiver) -> None:
    """inet_csk_shutdown_timers: the ACK would leave at once, if one could."""
    sk = receiver.sk
    sk.dup_ack_counter, sk.compressed_ack_rcv_nxt = 3, sk.rcv_nxt
    handlers, sk.icsk_handlers = sk.icsk_handlers, None
    assert not tcp_compress_ack(sk)
    assert sk.compressed_ack == 0
    sk.icsk_handlers = handlers


@pytest.mark.parametrize("slack", [0, 500 * US, (1 << 63) - 1])
def test_slack_delays_the_timer(receiver: Receiver, slack: int) -> None:
    """hrtimer_start_range_ns: nothing else interrupts the machine here. At most a second counts."""
    receiver.net.a.sysctl.tcp_comp_sack_slack_ns = slack
    receiver.hold()
    assert receiver.held_ns() == MS + min(slack, 1_000 * MS) - 10 * US


@pytest.mark.parametrize("net_of", [TcpNet, TcpNet6], ids=["IPv4", "IPv6"])
def test_a_stream_with_losses_needs_fewer_acks(net_of: type[TcpNet]) -> None:
    """Both families; and one without losses has no timer."""
    sent = {}
    for nr in (0, NR):
        with net_of(
            loss=0.01, rate_bps=200_000_000, gso=False, sysctl={"tcp_comp_sack_nr": nr}
        ) as net:
            client, server = net.pair()
            data = bytes(400 * 1448)
            assert transfer(net, client, server, data) == data
            sent[nr] = sum(not s.payload for s in net.log)
            assert bool(net.b.mib.linux.TCPAckCompressed) == bool(nr)
            for sock in (client, server):
                sock.close()
            net.run(400_000 * MS)
    assert sent[NR] < sent[0]


def test_data_in_order_makes_no_timer() -> None:
    with TcpNet() as net:
        client, server = net.pair()
        data = bytes(400 * 1448)
        assert transfer(net, client, server, data, close=False) == data
        assert client.sk.compressed_ack_timer is None
        assert server.sk.compressed_ack_timer is None
        for sock in (client, server):
            sock.close()
        net.run(400_000 * MS)
