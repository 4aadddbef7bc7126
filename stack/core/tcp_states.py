"""include/net/tcp_states.h: the TCP states, and the state machine of RFC 9293 as one table.

Every sock has one of these states in `sk_state`; a datagram socket is CLOSE, or ESTABLISHED when it
is connected.

`TRANSITIONS[state][event]` is the next state. The stack asks this table (through `tcp_next_state`)
wherever a FIN, an ACK of ours, a close or a shutdown moves a socket on. The documentation draws its
diagram from it, and a test walks every pair. A pair that is absent does not change the state.
`tcp_check_transition` refuses a step that no row has; inet_sk_set_state calls it.
"""

from __future__ import annotations

from enum import Enum

TCP_ESTABLISHED = 1
TCP_SYN_SENT = 2
TCP_SYN_RECV = 3
TCP_FIN_WAIT1 = 4
TCP_FIN_WAIT2 = 5
TCP_TIME_WAIT = 6
TCP_CLOSE = 7
TCP_CLOSE_WAIT = 8
TCP_LAST_ACK = 9
TCP_LISTEN = 10
TCP_CLOSING = 11
TCP_NEW_SYN_RECV = 12
TCP_MAX_STATES = 13

TCP_STATE_MASK = 0xF
TCP_ACTION_FIN = 1 << TCP_CLOSE

TCPF_ESTABLISHED = 1 << TCP_ESTABLISHED
TCPF_SYN_SENT = 1 << TCP_SYN_SENT
TCPF_SYN_RECV = 1 << TCP_SYN_RECV
TCPF_FIN_WAIT1 = 1 << TCP_FIN_WAIT1
TCPF_FIN_WAIT2 = 1 << TCP_FIN_WAIT2
TCPF_TIME_WAIT = 1 << TCP_TIME_WAIT
TCPF_CLOSE = 1 << TCP_CLOSE
TCPF_CLOSE_WAIT = 1 << TCP_CLOSE_WAIT
TCPF_LAST_ACK = 1 << TCP_LAST_ACK
TCPF_LISTEN = 1 << TCP_LISTEN
TCPF_CLOSING = 1 << TCP_CLOSING
TCPF_NEW_SYN_RECV = 1 << TCP_NEW_SYN_RECV

STATE_NAMES = {
    TCP_ESTABLISHED: "ESTABLISHED",
    TCP_SYN_SENT: "SYN_SENT",
    TCP_SYN_RECV: "SYN_RECV",
    TCP_FIN_WAIT1: "FIN_WAIT1",
    TCP_FIN_WAIT2: "FIN_WAIT2",
    TCP_TIME_WAIT: "TIME_WAIT",
    TCP_CLOSE: "CLOSE",
    TCP_CLOSE_WAIT: "CLOSE_WAIT",
    TCP_LAST_ACK: "LAST_ACK",
    TCP_LISTEN: "LISTEN",
    TCP_CLOSING: "CLOSING",
    TCP_NEW_SYN_RECV: "NEW_SYN_RECV",
}


class TcpEvent(Enum):
    """What moves the machine: user calls, segment arrivals (already judged acceptable), timers."""

    PASSIVE_OPEN = "listen()"
    ACTIVE_OPEN = "connect()"
    CLOSE = "close() or shutdown(SHUT_WR)"
    ABORT = "abort: RST sent, or a fatal error"
    RCV_SYN = "SYN arrives"
    RCV_SYN_ACK = "SYN-ACK of our SYN arrives"
    RCV_ACK_OF_SYN = "ACK of our SYN arrives"
    RCV_FIN = "FIN arrives"
    RCV_ACK_OF_FIN = "ACK of our FIN arrives"
    RCV_RST = "RST arrives"
    TIMEOUT = "retransmissions exhausted, or 2 MSL over"

    __hash__ = object.__hash__  # faster look-ups in the tables below, which packets need


E = TcpEvent

# The events of segments as globals, since an Enum's class looks up attributes by a call.
RCV_SYN = E.RCV_SYN
RCV_ACK_OF_SYN = E.RCV_ACK_OF_SYN
RCV_FIN = E.RCV_FIN
RCV_ACK_OF_FIN = E.RCV_ACK_OF_FIN

_ENDS = {E.RCV_RST: TCP_CLOSE, E.ABORT: TCP_CLOSE, E.TIMEOUT: TCP_CLOSE}
"""What ends a connection, and a request, in nearly every state."""

# RFC 9293 figure 5 and section 3.10, with Linux's NEW_SYN_RECV (a request, not yet a full socket).
TRANSITIONS: dict[int, dict[TcpEvent, int]] = {
    TCP_CLOSE: {
        E.PASSIVE_OPEN: TCP_LISTEN,
        E.ACTIVE_OPEN: TCP_SYN_SENT,
        E.CLOSE: TCP_CLOSE,
    },
    TCP_LISTEN: {
        E.RCV_SYN: TCP_NEW_SYN_RECV,
        E.CLOSE: TCP_CLOSE,
        E.ABORT: TCP_CLOSE,
    },
    TCP_NEW_SYN_RECV: {
        E.RCV_ACK_OF_SYN: TCP_SYN_RECV,
        **_ENDS,
    },
    TCP_SYN_SENT: {
        E.RCV_SYN: TCP_SYN_RECV,
        E.RCV_SYN_ACK: TCP_ESTABLISHED,
        E.CLOSE: TCP_CLOSE,
        **_ENDS,
    },
    TCP_SYN_RECV: {
        E.RCV_ACK_OF_SYN: TCP_ESTABLISHED,
        E.RCV_FIN: TCP_CLOSE_WAIT,
        E.CLOSE: TCP_FIN_WAIT1,
        **_ENDS,
    },
    TCP_ESTABLISHED: {
        E.RCV_FIN: TCP_CLOSE_WAIT,
        E.CLOSE: TCP_FIN_WAIT1,
        **_ENDS,
    },
    TCP_FIN_WAIT1: {
        E.RCV_FIN: TCP_CLOSING,
        E.RCV_ACK_OF_FIN: TCP_FIN_WAIT2,
        E.CLOSE: TCP_FIN_WAIT1,
        **_ENDS,
    },
    TCP_FIN_WAIT2: {
        E.RCV_FIN: TCP_TIME_WAIT,
        E.CLOSE: TCP_FIN_WAIT2,
        **_ENDS,
    },
    TCP_CLOSE_WAIT: {
        E.RCV_FIN: TCP_CLOSE_WAIT,
        E.CLOSE: TCP_LAST_ACK,
        **_ENDS,
    },
    TCP_CLOSING: {
        E.RCV_FIN: TCP_CLOSING,
        E.RCV_ACK_OF_FIN: TCP_TIME_WAIT,
        E.CLOSE: TCP_CLOSING,
        **_ENDS,
    },
    TCP_LAST_ACK: {
        E.RCV_FIN: TCP_LAST_ACK,
        E.RCV_ACK_OF_FIN: TCP_CLOSE,
        E.CLOSE: TCP_LAST_ACK,
        **_ENDS,
    },
    TCP_TIME_WAIT: {
        E.RCV_FIN: TCP_TIME_WAIT,
        E.RCV_SYN: TCP_NEW_SYN_RECV,
        E.RCV_RST: TCP_CLOSE,
        E.TIMEOUT: TCP_CLOSE,
    },
}

# tcp_close_state(): where a close leads, and whether our FIN is due (RFC 9293 3.10.4).
_FIN_DUE = (TCP_SYN_RECV, TCP_ESTABLISHED, TCP_CLOSE_WAIT)
NEW_STATE: dict[int, int] = {
    state: row.get(E.CLOSE, TCP_CLOSE) | (TCP_ACTION_FIN if state in _FIN_DUE else 0)
    for state, row in TRANSITIONS.items()
}


def tcp_next_state(state: int, event: TcpEvent) -> int:
    """State after `event`; the same state where the table has no row (the event is ignored)."""
    return TRANSITIONS[state].get(event, state)


_NEXT: tuple[int, ...] = tuple(
    sum(1 << new for new in {state, *TRANSITIONS.get(state, {}).values()})
    for state in range(TCP_MAX_STATES)
)
"""By state: the bits 1 << state of itself and of the states that an event leads to."""


def tcp_check_transition(old: int, new: int) -> None:
    """Raises ValueError when no event of the table leads from `old` to `new` (or `new` is `old`).

    Such a step is a defect of this stack: no packet or call of an application may cause it.
    """
    reached: int = _NEXT[old]
    if not reached & 1 << (new & 15):
        raise ValueError(f"TCP: no event leads from {STATE_NAMES[old]} to {STATE_NAMES[new]}")


def transitions_dot() -> str:
    """The machine as a Graphviz digraph, for the documentation."""
    lines = ["digraph tcp {"]
    for state, row in TRANSITIONS.items():
        for event, target in row.items():
            if event not in (E.RCV_RST, E.ABORT) and target != state:
                lines.append(
                    f'  {STATE_NAMES[state]} -> {STATE_NAMES[target]} [label="{event.value}"];'
                )
    return "\n".join([*lines, "}"]) + "\n"
