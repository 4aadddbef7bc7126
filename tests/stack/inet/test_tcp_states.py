"""The TCP state machine as a table, and the stack walked through every state by every event."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import stack.inet
from stack.core.tcp_states import (
    NEW_STATE,
    STATE_NAMES,
    TCP_ACTION_FIN,
    TCP_CLOSE,
    TCP_CLOSE_WAIT,
    TCP_CLOSING,
    TCP_ESTABLISHED,
    TCP_FIN_WAIT1,
    TCP_FIN_WAIT2,
    TCP_LAST_ACK,
    TCP_LISTEN,
    TCP_STATE_MASK,
    TCP_SYN_RECV,
    TCP_SYN_SENT,
    TCP_TIME_WAIT,
    TRANSITIONS,
    TcpEvent,
    tcp_check_transition,
    tcp_next_state,
    transitions_dot,
)
from stack.core.uapi import AF_INET
from stack.inet.tcp_done import tcp_set_state
from tests.stack.inet.tcpnet import ACK, FIN, MS, RST, SYN, A, B, S, Sock, TcpNet, build_segment

ALL_PAIRS = [(state, event) for state in STATE_NAMES for event in TcpEvent]


@pytest.mark.parametrize(("state", "event"), ALL_PAIRS)
def test_every_pair_has_a_next_state(state: int, event: TcpEvent) -> None:
    nxt = tcp_next_state(state, event)
    assert nxt in STATE_NAMES
    if event not in TRANSITIONS[state]:
        assert nxt == state


def test_every_state_can_be_reached_and_left() -> None:
    reached = {t for row in TRANSITIONS.values() for t in row.values()}
    assert reached == set(STATE_NAMES)
    for state, row in TRANSITIONS.items():
        assert any(t != state for t in row.values()), STATE_NAMES[state]


def test_rst_closes_every_synchronized_state() -> None:
    for state, row in TRANSITIONS.items():
        if state not in (TCP_CLOSE, TCP_LISTEN):
            assert row[TcpEvent.RCV_RST] == TCP_CLOSE


def test_new_state_gives_fin_only_where_one_is_owed() -> None:
    """RFC 9293 3.10.4: CLOSE in SYN-RECEIVED, ESTABLISHED and CLOSE-WAIT sends a FIN."""
    owed = {s for s, v in NEW_STATE.items() if v & TCP_ACTION_FIN and v & ~TCP_STATE_MASK}
    assert owed == {TCP_SYN_RECV, TCP_ESTABLISHED, TCP_CLOSE_WAIT}
    assert NEW_STATE[TCP_ESTABLISHED] & TCP_STATE_MASK == TCP_FIN_WAIT1
    assert NEW_STATE[TCP_CLOSE_WAIT] & TCP_STATE_MASK == TCP_LAST_ACK
    assert NEW_STATE[TCP_LISTEN] & TCP_STATE_MASK == TCP_CLOSE


@pytest.mark.parametrize("old", STATE_NAMES)
def test_a_step_that_no_event_makes_is_refused(old: int) -> None:
    legal = {old, *TRANSITIONS[old].values()}
    for new in STATE_NAMES:
        if new in legal:
            tcp_check_transition(old, new)
        else:
            with pytest.raises(ValueError, match=f"{STATE_NAMES[old]} to {STATE_NAMES[new]}"):
                tcp_check_transition(old, new)


def test_tcp_set_state_keeps_the_state_when_it_refuses() -> None:
    with TcpNet() as net:
        sk = Sock(net, net.a).sk
        with pytest.raises(ValueError, match="CLOSE to TIME_WAIT"):
            tcp_set_state(sk, TCP_TIME_WAIT)
        assert sk.sk_state == TCP_CLOSE


def test_one_place_writes_the_state_of_a_connection() -> None:
    """Objects are born in a state; after that inet_sk_set_state alone writes sk_state."""
    writers = set()
    root = Path(stack.inet.__file__).parent
    for path in [*root.glob("tcp*.py"), *root.glob("inet_*.py"), *root.parent.glob("ip*/tcp_*.py")]:
        for function in ast.walk(ast.parse(path.read_text())):
            if not isinstance(function, ast.FunctionDef):
                continue
            for node in ast.walk(function):
                targets = node.targets if isinstance(node, ast.Assign) else ()
                if any(isinstance(t, ast.Attribute) and t.attr == "sk_state" for t in targets):
                    writers.add(function.name)
    assert writers == {"inet_csk_clone_lock", "inet_sk_set_state"}


def test_diagram_names_all_states() -> None:
    dot = transitions_dot()
    for name in STATE_NAMES.values():
        assert name in dot


# --- the stack itself, put into each state against a scripted peer ------------------------


class Peer:
    """The far end as a script: host a is the stack, the peer speaks raw segments from b."""

    def __init__(self, *, timestamps: bool = False) -> None:
        self.net = TcpNet(latency_ns=MS, sysctl={"tcp_timestamps": int(timestamps)})
        self.net.wires[0].peer, self.wire_b = None, self.net.wires[0].peer
        self.out: list = []
        self.iss = 5000
        self.net.wires[0].net = self.net
        self.sock: Sock | None = None

    def take(self) -> list:
        """Segments the stack sent since the last call."""
        from tests.stack.inet.tcpnet import parse_segment

        frames, self.net.wires[0].sent = self.net.wires[0].sent, []
        found = [parse_segment(f, self.net.clock.now_ns()) for f in frames]
        return [s for s in found if s is not None]

    def give(self, flags: int, seq: int, ack: int = 0, payload: bytes = b"", **kw) -> list:
        """The peer sends; returns what the stack answers at once."""
        self.net.inject(
            build_segment(B, 80, self.port, seq, ack, flags, payload=payload, **kw), None
        )
        self.net.clock.run_for(10_000)
        return self.take()

    def close(self) -> None:
        for wire in self.net.wires:
            wire.peer = None
        self.net.close()

    def inject_frame(self, packet: bytes) -> None:
        frame = self.net.wires[0].dev.dev_addr + self.wire_b.dev.dev_addr + b"\x08\0" + packet
        self.net.wires[0].receive(frame)

    def open(self) -> None:
        net = self.net
        net.inject = lambda packet, to=None: self.inject_frame(packet)  # type: ignore[assignment]
        self.sock = Sock(net, net.a)
        self.sock.connect(B, 80)
        syn = self.take()[0]
        assert syn.flags == SYN
        self.port, self.isn = syn.sport, syn.seq

    def to(self, state: int) -> None:
        """Bring the stack's socket into `state`; snd/rcv are kept for the next segments."""
        self.open()
        self.rcv = self.iss  # what the stack expects next
        self.snd = self.isn + 1  # what the peer expects next
        if state == TCP_SYN_SENT:
            return
        if state == TCP_SYN_RECV:
            self.give(SYN, self.iss)
            self.rcv = self.iss + 1
            return
        self.give(SYN | ACK, self.iss, self.isn + 1)
        self.rcv = self.iss + 1
        assert self.sock is not None
        if state == TCP_ESTABLISHED:
            return
        if state == TCP_CLOSE_WAIT:
            self.give(FIN | ACK, self.rcv, self.snd)
            self.rcv += 1
            return
        if state == TCP_LAST_ACK:
            self.give(FIN | ACK, self.rcv, self.snd)
            self.rcv += 1
            self.sock.shutdown(2)
            self.take()
            self.snd += 1
            return
        self.sock.shutdown(2)
        self.take()
        self.snd += 1
        if state == TCP_FIN_WAIT1:
            return
        if state == TCP_CLOSING:
            self.give(FIN | ACK, self.rcv, self.snd - 1)
            self.rcv += 1
            return
        self.give(ACK, self.rcv, self.snd)
        if state == TCP_FIN_WAIT2:
            return
        self.give(FIN | ACK, self.rcv, self.snd)
        self.rcv += 1

    @property
    def state(self) -> int:
        """State of the socket, or of the TIME_WAIT remnant in its place."""
        assert self.sock is not None
        key = (AF_INET, B, 80, A, self.port)
        there = self.net.a.tcp_hashinfo.ehash.get(key)
        if there is not None and there is not self.sock.sk:
            return there.sk_state
        return self.sock.sk.sk_state


WALK = [
    TCP_SYN_SENT,
    TCP_SYN_RECV,
    TCP_ESTABLISHED,
    TCP_FIN_WAIT1,
    TCP_FIN_WAIT2,
    TCP_CLOSE_WAIT,
    TCP_CLOSING,
    TCP_LAST_ACK,
    TCP_TIME_WAIT,
]


def in_state(state: int) -> Peer:
    peer = Peer()
    peer.to(state)
    assert STATE_NAMES[peer.state] == STATE_NAMES[state]
    return peer


@pytest.mark.parametrize("state", WALK, ids=lambda s: STATE_NAMES[s])
def test_rst_in_window_ends_the_connection(state: int) -> None:
    peer = in_state(state)
    if state == TCP_SYN_SENT:
        peer.give(RST | ACK, 0, peer.isn + 1)
    else:
        peer.give(RST, peer.rcv)
    assert peer.state == tcp_next_state(state, TcpEvent.RCV_RST) == TCP_CLOSE
    peer.close()


@pytest.mark.parametrize("state", WALK[1:], ids=lambda s: STATE_NAMES[s])
def test_rst_beside_the_window_changes_nothing(state: int) -> None:
    """RFC 5961 3.2: outside the window ignored, inside but not exact: a challenge ACK."""
    peer = in_state(state)
    assert not [s for s in peer.give(RST, peer.rcv + 10_000_000) if s.flags & RST]
    assert peer.state == state
    if state != TCP_TIME_WAIT:
        answer = peer.give(RST, peer.rcv + 1)
        assert peer.state == state
        assert [s.flags for s in answer] == [ACK]
    peer.close()


@pytest.mark.parametrize("state", WALK[1:], ids=lambda s: STATE_NAMES[s])
def test_syn_on_a_connection_is_challenged(state: int) -> None:
    """RFC 5961 4.2."""
    peer = in_state(state)
    answer = peer.give(SYN, peer.rcv)
    assert peer.state == state
    assert all(s.flags == ACK for s in answer)
    assert answer
    peer.close()


@pytest.mark.parametrize("state", WALK[1:], ids=lambda s: STATE_NAMES[s])
def test_fin_moves_on_as_the_table_says(state: int) -> None:
    peer = in_state(state)
    ack = peer.snd if state not in (TCP_FIN_WAIT1, TCP_CLOSING, TCP_LAST_ACK) else peer.snd - 1
    again = state in (TCP_CLOSE_WAIT, TCP_CLOSING, TCP_LAST_ACK, TCP_TIME_WAIT)
    seq = peer.rcv - 1 if again else peer.rcv
    before = state
    if state == TCP_SYN_RECV:
        # The ACK in the segment first completes the handshake.
        before = tcp_next_state(state, TcpEvent.RCV_ACK_OF_SYN)
    answer = peer.give(FIN | ACK, seq, ack)
    assert STATE_NAMES[peer.state] == STATE_NAMES[tcp_next_state(before, TcpEvent.RCV_FIN)]
    if not again:
        peer.net.run(300 * MS)
        answer += peer.take()
        assert any(s.flags & ACK and s.ack == peer.rcv + 1 for s in answer)
    peer.close()


@pytest.mark.parametrize(
    "state", [TCP_FIN_WAIT1, TCP_CLOSING, TCP_LAST_ACK], ids=lambda s: STATE_NAMES[s]
)
def test_ack_of_our_fin_moves_on_as_the_table_says(state: int) -> None:
    peer = in_state(state)
    peer.give(ACK, peer.rcv, peer.snd)
    assert peer.state == tcp_next_state(state, TcpEvent.RCV_ACK_OF_FIN)
    peer.close()


@pytest.mark.parametrize("state", WALK, ids=lambda s: STATE_NAMES[s])
def test_ack_of_data_never_sent_changes_nothing(state: int) -> None:
    peer = in_state(state)
    answer = peer.give(ACK, peer.rcv, peer.snd + 100_000)
    assert peer.state == state
    if state in (TCP_SYN_SENT, TCP_SYN_RECV):
        assert [s.flags & RST for s in answer] == [RST]
    else:
        assert not any(s.flags & RST for s in answer)
    peer.close()


@pytest.mark.parametrize("state", WALK, ids=lambda s: STATE_NAMES[s])
def test_silence_ends_every_state_that_waits_for_the_peer(state: int) -> None:
    """Retransmissions run out, 2 MSL is over; then no timer is left."""
    peer = in_state(state)
    sock = peer.sock
    if state in (TCP_ESTABLISHED, TCP_CLOSE_WAIT):
        sock.send(b"unheard")
    elif state == TCP_FIN_WAIT2:
        sock.close()  # an orphan's FIN_WAIT2 ends by tcp_fin_timeout
    peer.net.run(2000 * S)
    peer.take()
    assert peer.state == TCP_CLOSE
    assert not peer.net.a.tcp_hashinfo.ehash
    if state != TCP_FIN_WAIT2:
        sock.close()
    assert peer.net.a.machine.timers.active == 0
    peer.close()


@pytest.mark.parametrize("state", WALK, ids=lambda s: STATE_NAMES[s])
def test_close_in_every_state(state: int) -> None:
    peer = in_state(state)
    before = peer.sock.sk.sk_state
    peer.sock.close()
    sent = peer.take()
    expected = NEW_STATE[before] & TCP_STATE_MASK
    if before == TCP_FIN_WAIT2:
        assert peer.state in (TCP_TIME_WAIT, TCP_FIN_WAIT2)  # as an orphan, in a small socket
    elif state != TCP_TIME_WAIT:
        assert peer.state == expected
    fin_due = bool(NEW_STATE[before] & ~TCP_STATE_MASK)
    assert any(s.flags & FIN for s in sent) == fin_due
    peer.net.run(2000 * S)
    peer.take()
    assert not peer.net.a.tcp_hashinfo.ehash
    peer.close()


def test_simultaneous_open() -> None:
    """RFC 9293 figure 7: both SYNs cross."""
    peer = in_state(TCP_SYN_SENT)
    answer = peer.give(SYN, peer.iss)
    assert [s.flags for s in answer] == [SYN | ACK]
    assert answer[0].seq == peer.isn
    assert answer[0].ack == peer.iss + 1
    assert peer.state == TCP_SYN_RECV
    peer.give(SYN | ACK, peer.iss, peer.isn + 1)
    assert peer.state == TCP_ESTABLISHED
    peer.rcv = peer.iss + 1
    peer.give(ACK, peer.rcv, peer.isn + 1, payload=b"hello")
    assert peer.sock.recv() == b"hello"
    peer.give(RST, peer.rcv + 5)
    peer.close()


def test_half_open_connection_is_discovered() -> None:
    """RFC 9293 3.5.1 figure 9: an ACK for a socket nobody knows gets a RST."""
    peer = Peer()
    peer.net.inject = lambda packet, to=None: peer.inject_frame(packet)  # type: ignore[assignment]
    peer.port = 4711
    answer = peer.give(ACK, 1000, 777, payload=b"old")
    assert [(s.flags, s.seq) for s in answer] == [(RST, 777)]
    answer = peer.give(SYN, 1000)
    assert [(s.flags, s.seq, s.ack) for s in answer] == [(RST | ACK, 0, 1001)]
    assert peer.give(RST, 1000) == []
    peer.close()
