"""iperf3's server without sockets: the protocol's steps, what it counts, and hostile clients.

tests/linux/test_iperf3.py runs the real client against it.
"""

from __future__ import annotations

import json
import struct
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stack.services.iperf3 import (
    BLOCK_MAX,
    COOKIE_BYTES,
    GRACE_NS,
    PARAMS_MAX,
    RESULTS_MAX,
    WAITING_MAX,
    Close,
    Iperf3Server,
    Parameters,
    Send,
    SendTo,
    Start,
    Stop,
    Stream,
)
from tests.support import examples

SEC = 1_000_000_000
COOKIE = b"c" * (COOKIE_BYTES - 1) + b"\0"
OTHER = b"d" * (COOKIE_BYTES - 1) + b"\0"
TCP = {"tcp": True, "omit": 0, "time": 10, "num": 0, "parallel": 1, "len": 131072}
UDP = {"udp": True, "omit": 0, "time": 10, "parallel": 1, "len": 1448, "bandwidth": 1048576}


def state(number: int) -> bytes:
    return struct.pack("b", number)


def message(value: Any) -> bytes:
    text = json.dumps(value).encode()
    return struct.pack(">I", len(text)) + text


class Client:
    """The control connection, number 1, and the answers to it."""

    def __init__(self, params: Any = None) -> None:
        self.core = Iperf3Server()
        self.now = SEC
        self.core.accepted(1)
        self.said = b""
        self.actions: list[Any] = []
        self.tell(COOKIE)
        assert self.heard() == state(9)
        if params is not None:
            self.tell(message(params))
            assert self.heard() == state(10)

    def do(self, actions: list[Any]) -> None:
        self.actions += actions
        for action in actions:
            if isinstance(action, Send) and action.conn == 1:
                self.said += action.data

    def tell(self, data: bytes, conn: int = 1) -> None:
        self.do(self.core.received(conn, data, self.now))

    def heard(self) -> bytes:
        said, self.said = self.said, b""
        return said

    def stream(self, conn: int) -> None:
        self.do(self.core.accepted(conn))
        self.tell(COOKIE, conn)

    def of(self, kind: type) -> list[Any]:
        return [action for action in self.actions if isinstance(action, kind)]


def test_a_test_from_cookie_to_done() -> None:
    client = Client({**TCP, "parallel": 2})
    client.stream(2)
    assert client.heard() == b""
    client.stream(3)
    assert client.heard() == state(1) + state(2)
    (start,) = client.of(Start)
    assert [(s.id, s.peer, s.sender) for s in start.streams] == [(1, 2, False), (3, 3, False)]
    start.streams[0].size = 1234
    client.now += 10 * SEC
    client.tell(state(4))
    assert client.heard() == state(13)
    assert client.of(Stop)
    assert client.of(Close) == [
        Close(2),
        Close(3),
    ]  # before 13: a client may wait for a whole block
    client.tell(message({"streams": []}))
    said = client.heard()
    assert said[-1:] == state(14)
    length = int.from_bytes(said[:4], "big")
    results = json.loads(said[4:-1])
    assert length == len(said) - 5
    assert [(s["id"], s["bytes"], s["end_time"]) for s in results["streams"]] == [
        (1, 1234, 10.0),
        (3, 0, 10.0),
    ]
    client.tell(state(16))
    assert client.of(Close)[2:] == [Close(1)]
    assert client.core.deadline_ns == 0
    client.core.accepted(9)
    assert client.core.received(9, OTHER, client.now) == [Send(9, state(9))]


def counted(**more: Any) -> tuple[Client, list[Stream]]:
    """A test of a number of bytes whose client has sent all, 3,000 of them, and says so."""
    client = Client({**TCP, "time": 0, "num": 3000, "parallel": 2, **more})
    for number in range(4 if more.get("bidirectional") else 2):
        client.stream(2 + number)
    (start,) = client.of(Start)
    start.streams[0].size = 1000
    client.now += SEC
    client.heard()
    client.tell(state(4))
    assert client.heard() == state(13)
    rows = [{"id": 1, "bytes": 2000}, {"id": 3, "bytes": 1000}]
    client.tell(message({"streams": rows}))
    return client, list(start.streams)


@pytest.mark.parametrize("more", [{}, {"bidirectional": 1}, {"num": 0, "blockcount": 3}])
def test_all_that_a_client_has_sent_is_counted_before_it_hears_the_results(more: Any) -> None:
    client, streams = counted(**more)
    assert client.core.draining
    assert client.heard() == b""
    assert client.of(Close) == [Close(s.peer) for s in streams if s.sender]
    streams[0].size += 1000
    client.do(client.core.counted(client.now))
    assert client.heard() == b""
    client.now += SEC
    streams[1].size += 1000
    client.do(client.core.counted(client.now))
    results = json.loads(client.heard()[4:-1])["streams"][:2]
    assert [(s["bytes"], s["end_time"]) for s in results] == [(2000, 2.0), (1000, 2.0)]
    assert {Close(2), Close(3)} <= set(client.of(Close))
    assert not client.core.draining


@pytest.mark.parametrize(
    "rows", [5, {"id": 1}, "x", [5], [{"id": [], "bytes": 9}], [{"id": 1, "bytes": "9"}], None]
)
def test_results_that_say_nothing_of_the_streams_end_the_test(rows: Any) -> None:
    client = Client({**TCP, "time": 0, "num": 3000})
    client.stream(2)
    client.tell(state(4))
    client.heard()
    client.tell(message({"streams": rows}))
    assert client.heard()[-1:] == state(14)


@pytest.mark.parametrize("how", ["silent", "closed"])
def test_a_client_that_owes_bytes_hears_what_came(how: str) -> None:
    client, streams = counted()
    if how == "closed":
        client.do(client.core.lost(2, client.now))
        client.do(client.core.lost(3, client.now))
    else:
        client.now = client.core.deadline_ns
        streams[1].size = 500
        client.do(client.core.timer(client.now))
        assert client.heard() == b""  # something came, more may
        for _ in range(2):
            client.now = max(client.core.deadline_ns, client.now)
            client.do(client.core.timer(client.now))
    said = client.heard()
    results = json.loads(said[4 : 4 + int.from_bytes(said[:4], "big")])["streams"]
    assert [s["bytes"] for s in results] == [1000, 0 if how == "closed" else 500]
    client.tell(state(16))
    assert client.core.deadline_ns == 0


def test_bytes_may_come_one_by_one() -> None:
    client = Client()
    for byte in message(TCP):
        client.tell(bytes([byte]))
    assert client.heard() == state(10)


@pytest.mark.parametrize(
    ("more", "senders"),
    [({}, [0, 0]), ({"reverse": True}, [1, 1]), ({"bidirectional": 1}, [0, 0, 1, 1])],
)
def test_who_sends(more: dict[str, Any], senders: list[int]) -> None:
    client = Client({**TCP, "parallel": 2, **more})
    for number in range(len(senders)):
        client.stream(2 + number)
    (start,) = client.of(Start)
    assert [int(s.sender) for s in start.streams] == senders
    assert [s.id for s in start.streams] == [1, 3, 4, 5][: len(senders)]


def test_streams_are_numbered_as_they_were_accepted() -> None:
    client = Client({**TCP, "parallel": 2})
    client.core.accepted(2)
    client.core.accepted(3)
    client.tell(COOKIE, 3)
    client.tell(COOKIE, 2)
    assert [s.peer for s in client.of(Start)[0].streams] == [2, 3]


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize(("asks", "answer"), [(0x36373839, 0x39383736), (123456789, 987654321)])
def test_udp_streams_open_with_a_datagram(order: str, asks: int, answer: int) -> None:
    client = Client(UDP)
    request = struct.pack(order + "I", asks)
    client.do(client.core.datagram(("peer", 5), b"else", client.now))
    assert not client.of(SendTo)
    for _ in range(2):  # the first answer may get lost
        client.do(client.core.datagram(("peer", 5), request, client.now))
    assert client.of(SendTo) == [SendTo(("peer", 5), struct.pack(order + "I", answer))] * 2
    assert len(client.of(Start)) == 1


def test_a_second_client_is_denied() -> None:
    client = Client(TCP)
    client.do(client.core.accepted(7))
    client.tell(OTHER, 7)
    assert client.of(Send)[-1] == Send(7, state(-1))
    assert client.of(Close) == [Close(7)]
    client.stream(8)
    assert client.heard() == state(1) + state(2)


@pytest.mark.parametrize(
    "sent",
    [
        struct.pack(">I", PARAMS_MAX + 1),
        struct.pack(">I", 0xFFFFFFFF),
        struct.pack(">I", 3) + b"{{{",
        struct.pack(">I", 4) + b"\xff\xff\xff\xff",
        struct.pack(">I", 2000) + b"[" * 2000,
        message([1]),
        message({"sctp": True}),
        message({**TCP, "parallel": 129}),
        message({**TCP, "parallel": "4"}),
        message({**TCP, "len": 0}),
        message({**TCP, "len": BLOCK_MAX + 1}),
        message({**UDP, "len": 11}),
        message({**TCP, "time": -1}),
        message({**TCP, "omit": 1e9}),
        message({**TCP, "bandwidth": float("nan")}),
    ],
)
def test_wrong_parameters_are_a_server_error(sent: bytes) -> None:
    client = Client()
    client.tell(sent)
    assert client.heard()[:1] == state(-2)
    assert client.of(Close) == [Close(1)]
    assert client.core.deadline_ns == 0


def test_results_have_a_limit() -> None:
    client = Client(TCP)
    client.stream(2)
    client.tell(state(4) + struct.pack(">I", RESULTS_MAX + 1))
    assert client.heard()[:4] == state(1) + state(2) + state(13) + state(-2)


@pytest.mark.parametrize("step", range(4))
def test_a_client_that_goes_or_is_late_ends_the_test(step: int) -> None:
    for end in ("goes", "late", "terminates"):
        client = Client()
        if step:
            client.tell(message(TCP))
        if step > 1:
            client.stream(2)
        if step > 2:
            client.tell(state(4))
        assert client.core.deadline_ns
        if end == "goes":
            client.do(client.core.lost(1, client.now))
        elif end == "late":
            assert client.core.timer(client.core.deadline_ns - 1) == []
            client.do(client.core.timer(client.core.deadline_ns))
            assert client.heard()[-1:] == state(11)
        elif step in (1, 2):
            client.tell(state(12))
        else:
            continue
        assert Close(1) in client.of(Close)
        assert client.core.deadline_ns == 0
        assert client.core.received(1, b"late", client.now) == []


def test_a_running_test_may_last_as_long_as_it_said() -> None:
    client = Client({**TCP, "time": 100, "omit": 3})
    client.stream(2)
    (stream,) = client.of(Start)[0].streams
    stream.size = 5
    assert client.core.deadline_ns == client.now + 3 * SEC
    assert client.core.timer(client.core.deadline_ns) == []
    assert stream.size == 0
    assert client.core.deadline_ns == client.now + 103 * SEC + GRACE_NS


def test_connections_without_a_cookie_are_bounded() -> None:
    core = Iperf3Server()
    closed = [action for n in range(WAITING_MAX + 5) for action in core.accepted(n)]
    assert closed == [Close(n) for n in range(5)]


def udp_stream(*, wide: bool) -> Stream:
    return Stream("peer", Parameters(True, 1, 100, 1, 0, 0, False, False, wide, False), 1)


@given(st.lists(st.integers(1, 30), max_size=60), st.booleans())
def test_losses_and_order_as_iperf3_counts_them(numbers: list[int], wide: bool) -> None:
    stream = udp_stream(wide=wide)
    errors = highest = 0
    for number in numbers:
        stream.take(struct.pack(">IIQ" if wide else ">III", 5, 0, number) + bytes(50), 5.0)
        if number > highest:
            errors += number - highest - 1
            highest = number
        elif errors:
            errors -= 1
    assert (stream.errors, stream.packets) == (errors, highest)
    assert stream.size == len(numbers) * (66 if wide else 62)


def test_jitter_is_that_of_rfc_1889() -> None:
    stream = udp_stream(wide=True)
    for number, late in enumerate([0.0, 0.016, 0.0, 0.032]):
        stream.take(struct.pack(">IIQ", 1000 + number, 0, number + 1), 1000 + number + late)
    jitter = 0.0
    for change in (0.016, 0.016, 0.032):
        jitter += (change - jitter) / 16
    assert stream.jitter_s == pytest.approx(jitter)


def test_our_datagrams_read_back() -> None:
    for wide in (False, True):
        ours, theirs = udp_stream(wide=wide), udp_stream(wide=wide)
        for _ in range(5):
            theirs.take(ours.head(1_700_000_000.25), 1_700_000_000.5)
        assert (theirs.packets, theirs.errors, theirs.jitter_s) == (5, 0, 0.0)
        assert theirs.transit_s == pytest.approx(0.25)


EVENTS = st.lists(
    st.tuples(
        st.sampled_from(["accept", "data", "lost", "datagram", "timer"]),
        st.integers(1, 4),
        st.one_of(
            st.binary(max_size=80),
            st.sampled_from(
                [COOKIE, OTHER, message(TCP), message(UDP), message({**TCP, "time": 0})]
                + [state(n) for n in (1, 4, 12, 16, -1)]
                + [struct.pack("<I", 0x36373839)]
            ),
        ),
    ),
    max_size=40,
)


@settings(deadline=None, max_examples=examples(300))
@given(EVENTS)
def test_whatever_comes_the_server_serves_the_next_client(
    events: list[tuple[str, int, bytes]],
) -> None:
    """No exception, a deadline while there is a test, one end for each, and then a new test."""
    core = Iperf3Server()
    now = SEC
    for kind, conn, data in events:
        now += SEC
        if kind == "accept":
            core.accepted(conn)
        elif kind == "data":
            core.received(conn, data, now)
        elif kind == "lost":
            core.lost(conn, now)
        elif kind == "datagram":
            core.datagram(conn, data, now)
        else:
            core.timer(now)
        assert all(core.wants(n) >= 0 for n in range(6))
    while core.deadline_ns:
        core.timer(core.deadline_ns)
    core.accepted(99)
    assert core.received(99, COOKIE, now) == [Send(99, state(9))]
