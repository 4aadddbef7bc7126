"""The server's side of iperf3's protocol, without sockets: events in, actions out.

A client opens a TCP connection (the control connection) and sends a cookie of 37 bytes. Both sides
send states as signed bytes, and parameters and results as JSON behind a length of four bytes:

    PARAM_EXCHANGE    ->  parameters       CREATE_STREAMS   ->  streams, each with the cookie
    TEST_START, TEST_RUNNING               <-  TEST_END
    EXCHANGE_RESULTS  ->  results, and ours back             DISPLAY_RESULTS  ->  IPERF_DONE

(arrows: the client's answers). TCP streams begin with the cookie, UDP streams with a datagram of
four bytes that is answered. Source: iperf3's programs 3.1 to 3.18. Numbers are big-endian, except
in those four bytes, which have the client's byte order. Times are ns.
"""

from __future__ import annotations

import json
import struct
from dataclasses import dataclass, field
from typing import Any

from stack.core.time64 import NSEC_PER_SEC

TEST_START = 1
TEST_RUNNING = 2
TEST_END = 4
PARAM_EXCHANGE = 9
CREATE_STREAMS = 10
SERVER_TERMINATE = 11
CLIENT_TERMINATE = 12
EXCHANGE_RESULTS = 13
DISPLAY_RESULTS = 14
IPERF_DONE = 16
ACCESS_DENIED = -1
SERVER_ERROR = -2

IEUNIMP = 13
IERECVPARAMS = 114
IERECVRESULTS = 117

COOKIE_BYTES = 37
PARAMS_MAX = 8192
RESULTS_MAX = 1 << 18
STREAMS_MAX = 128
BLOCK_MAX = 1 << 20
TIME_MAX_S = 86400
OMIT_MAX_S = 600
GRACE_NS = 10 * NSEC_PER_SEC
"""Ns that a client may take for its answers, its streams and the end of the test."""
WAITING_MAX = 64
"""Maximum connections without a cookie yet."""

UDP_CONNECT = {
    struct.pack("<I", 0x36373839): struct.pack("<I", 0x39383736),
    struct.pack(">I", 0x36373839): struct.pack(">I", 0x39383736),
    struct.pack("<I", 123456789): struct.pack("<I", 987654321),
    struct.pack(">I", 123456789): struct.pack(">I", 987654321),
}
"""The datagrams that open a UDP stream and answer it: from iperf3 3.10 on, and up to 3.9."""
LIMITS = ("num", "blockcount")
UDP_HEAD32 = struct.Struct(">III")
UDP_HEAD64 = struct.Struct(">IIQ")


class _RefusedError(Exception):
    """The client's message is wrong: SERVER_ERROR with this number of iperf3's."""

    def __init__(self, code: int, text: str) -> None:
        super().__init__(text)
        self.code = code


@dataclass(frozen=True, slots=True)
class Send:
    """Send these bytes on a control connection at once; close it if they do not fit."""

    conn: int
    data: bytes


@dataclass(frozen=True, slots=True)
class SendTo:
    """Send a datagram to a client's UDP socket."""

    to: Any
    data: bytes


@dataclass(frozen=True, slots=True)
class Close:
    """Close a connection that the core has dropped."""

    conn: int


@dataclass(frozen=True, slots=True)
class Start:
    """The test runs: these streams send (`sender`), the others are read."""

    streams: tuple[Stream, ...]


@dataclass(frozen=True, slots=True)
class Stop:
    """The test is over: count the bytes that have arrived, then stop all streams.

    `text` is the reason, "" if it was reported before.
    """

    text: str
    streams: tuple[Stream, ...] = ()


Action = Send | SendTo | Close | Start | Stop


@dataclass(frozen=True, slots=True)
class Parameters:
    """A client's parameters that affect the server. `rate` in bit/s, 0: any.

    `counted`: a number of bytes or blocks ends the test, so all of them must arrive.
    """

    udp: bool
    parallel: int
    block_bytes: int
    time_s: float
    omit_s: float
    rate: int
    reverse: bool
    both: bool
    counters64: bool
    counted: bool = False


def parse_parameters(message: Any) -> Parameters:
    """Check a client's parameters. Raises: _RefusedError."""

    def number(name: str, low: float, high: float, default: float) -> float:
        value = message.get(name, default)
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise _RefusedError(IERECVPARAMS, f"{name}: {value!r} is no number")
        if not low <= value <= high:
            raise _RefusedError(IERECVPARAMS, f"{name}: {value} is not in {low}...{high}")
        return value

    if not isinstance(message, dict):
        raise _RefusedError(IERECVPARAMS, "the parameters are no JSON object")
    udp = bool(message.get("udp"))
    if message.get("sctp") or not (udp or message.get("tcp")):
        raise _RefusedError(IEUNIMP, "neither TCP nor UDP")
    counters64 = bool(message.get("udp_counters_64bit"))
    omit_s = number("omit", 0, OMIT_MAX_S, 0)
    least = (UDP_HEAD64 if counters64 else UDP_HEAD32).size if udp else 1
    return Parameters(
        udp=udp,
        parallel=int(number("parallel", 1, STREAMS_MAX, 1)),
        block_bytes=int(number("len", least, 65507 if udp else BLOCK_MAX, 1460 if udp else 131072)),
        time_s=number("time", 0, TIME_MAX_S, 0),
        omit_s=omit_s,
        rate=int(number("bandwidth", 0, 1 << 63, 0)),
        reverse=bool(message.get("reverse")),
        both=bool(message.get("bidirectional")),
        counters64=counters64,
        # Each side leaves out the first seconds by its own clock: the counts are not the same then.
        counted=not udp and not omit_s and any(number(n, 0, 1 << 63, 0) for n in LIMITS),
    )


@dataclass(slots=True, eq=False)
class Stream:
    """One stream of the test and its counters. `peer`: its connection, or UDP address."""

    peer: Any
    params: Parameters
    id: int = 0
    sender: bool = False
    over: bool = False
    """Stopped: neither sent nor counted."""
    size: int = 0
    """Bytes sent or received since the last omitted second."""
    packets: int = 0
    errors: int = 0
    omitted_packets: int = 0
    omitted_errors: int = 0
    jitter_s: float = 0.0
    transit_s: float | None = None
    retransmits: int = -1
    """Retransmitted segments of a sending TCP stream; -1: unknown."""

    def take(self, datagram: bytes | memoryview, wall_s: float) -> None:
        """Count a datagram that arrived at `wall_s`: losses, order, jitter (RFC 1889, 6.3.1)."""
        head = UDP_HEAD64 if self.params.counters64 else UDP_HEAD32
        if len(datagram) < head.size:
            return
        sec, usec, number = head.unpack_from(datagram)
        self.size += len(datagram)
        if number > self.packets:
            self.errors += number - 1 - self.packets
            self.packets = number
        elif self.errors > self.omitted_errors:
            self.errors -= 1  # reordered: it was counted as lost
        transit = wall_s - (sec + usec / 1e6)
        if self.transit_s is not None:
            self.jitter_s += (abs(transit - self.transit_s) - self.jitter_s) / 16
        self.transit_s = transit

    def head(self, wall_s: float) -> bytes:
        """The header of the next datagram that we send."""
        self.packets += 1
        usec = int(wall_s * 1e6)
        if self.params.counters64:
            return UDP_HEAD64.pack(usec // 1_000_000 & 0xFFFFFFFF, usec % 1_000_000, self.packets)
        return UDP_HEAD32.pack(
            usec // 1_000_000 & 0xFFFFFFFF, usec % 1_000_000, self.packets & 0xFFFFFFFF
        )

    def omit(self) -> None:
        """Reset the counters."""
        self.size = 0
        self.jitter_s = 0.0
        self.omitted_packets, self.omitted_errors = self.packets, self.errors

    def result(self, duration_s: float) -> dict[str, Any]:
        """The stream's results for the client."""
        return {
            "id": self.id,
            "bytes": self.size,
            "retransmits": self.retransmits,
            "jitter": self.jitter_s,
            "errors": self.errors,
            "omitted_errors": self.omitted_errors,
            "packets": self.packets,
            "omitted_packets": self.omitted_packets,
            "start_time": 0,
            "end_time": duration_s,
        }


@dataclass(slots=True)
class _Test:
    """The one test of a server."""

    control: int
    cookie: bytes
    state: int = PARAM_EXCHANGE
    unread: bytearray = field(default_factory=bytearray)
    params: Parameters | None = None
    streams: list[Stream] = field(default_factory=list)
    started_ns: int = 0
    omit_until_ns: int = 0
    ended_ns: int = 0
    deadline_ns: int = 0
    awaited: dict[Any, int] = field(default_factory=dict)
    """How many bytes the client has sent on each stream that we still read, by peer."""
    arrived: int = 0
    """How many of these bytes had arrived at the last deadline."""


class Iperf3Server:
    """A server of one test at a time; further clients get ACCESS_DENIED, as from iperf3 -s.

    Connections are numbers that the caller chooses, ascending in order of accept(). The caller must
    call `timer` at `deadline_ns` (0: not at all).
    """

    def __init__(self) -> None:
        self._cookies: dict[int, bytearray] = {}
        self._test: _Test | None = None
        self.tests = 0

    @property
    def deadline_ns(self) -> int:
        """The time to call `timer` (ns); 0: not at all."""
        test = self._test
        if test is None:
            return 0
        return min(test.deadline_ns, test.omit_until_ns or test.deadline_ns)

    @property
    def udp(self) -> bool:
        """Whether UDP streams are expected or running."""
        return self._test is not None and self._test.params is not None and self._test.params.udp

    @property
    def draining(self) -> bool:
        """Whether to call `counted` when bytes of a stream were counted."""
        return self._test is not None and bool(self._test.awaited)

    def wants(self, conn: int) -> int:
        """How many bytes to read of a connection for `received`; 0: a stream, or closed."""
        if conn in self._cookies:
            return COOKIE_BYTES - len(self._cookies[conn])
        return 4096 if self._test is not None and conn == self._test.control else 0

    # --- events --------------------------------------------------------------------------------

    def accepted(self, conn: int) -> list[Action]:
        """A TCP connection was accepted."""
        if len(self._cookies) >= WAITING_MAX:
            oldest = next(iter(self._cookies))
            del self._cookies[oldest]
            self._cookies[conn] = bytearray()
            return [Close(oldest)]
        self._cookies[conn] = bytearray()
        return []

    def received(self, conn: int, data: bytes, now_ns: int) -> list[Action]:
        """Bytes of a cookie or of the control connection."""
        cookie = self._cookies.get(conn)
        if cookie is not None:
            cookie += data
            if len(cookie) < COOKIE_BYTES:
                return []
            del self._cookies[conn]
            return self._introduced(conn, bytes(cookie), now_ns)
        test = self._test
        if test is None or conn != test.control:
            return []
        test.unread += data
        actions: list[Action] = []
        try:
            self._control(test, now_ns, actions)
        except _RefusedError as error:
            actions.append(Send(conn, struct.pack(">bII", SERVER_ERROR, error.code, 0)))
            actions += self._end(str(error))
        return actions

    def lost(self, conn: int, now_ns: int) -> list[Action]:
        """A connection ended, by itself or by an error."""
        self._cookies.pop(conn, None)
        test = self._test
        if test is None:
            return []
        if conn == test.control:
            return self._end("the client is gone")
        if test.awaited.pop(conn, None) is not None:
            return self._drained(test, now_ns)
        if test.state == CREATE_STREAMS and any(s.peer == conn for s in test.streams):
            return [Send(test.control, _state(SERVER_TERMINATE)), *self._end("a stream is gone")]
        return []

    def datagram(self, source: Any, data: bytes | memoryview, now_ns: int) -> list[Action]:
        """A datagram of no running stream: it may open one."""
        test = self._test
        answer = UDP_CONNECT.get(bytes(data))
        if test is None or not self.udp or answer is None:
            return []
        if any(s.peer == source for s in test.streams):
            return [SendTo(source, answer)]  # the first answer was lost
        if test.state != CREATE_STREAMS:
            return []
        return [SendTo(source, answer), *self._add_stream(test, source, now_ns)]

    def timer(self, now_ns: int) -> list[Action]:
        """`deadline_ns` has come."""
        test = self._test
        if test is None:
            return []
        if test.omit_until_ns and now_ns >= test.omit_until_ns:
            test.omit_until_ns = 0
            test.started_ns = now_ns
            for stream in test.streams:
                stream.omit()
        if now_ns >= test.deadline_ns and test.awaited:
            arrived = sum(stream.size for stream in test.streams)
            if arrived > test.arrived:
                test.arrived = arrived
                test.deadline_ns = now_ns + GRACE_NS
                return []
            test.awaited.clear()
            return self._drained(test, now_ns)
        if now_ns >= test.deadline_ns:
            return [Send(test.control, _state(SERVER_TERMINATE)), *self._end("the client is late")]
        return []

    def counted(self, now_ns: int) -> list[Action]:
        """More bytes of a stream were counted while the core is `draining`."""
        test = self._test
        return [] if test is None else self._drained(test, now_ns)

    # --- the protocol --------------------------------------------------------------------------

    def _introduced(self, conn: int, cookie: bytes, now_ns: int) -> list[Action]:
        """A connection sent its cookie: begin a test, add a stream to it, or refuse."""
        test = self._test
        if test is None:
            self._test = _Test(conn, cookie, deadline_ns=now_ns + GRACE_NS)
            self.tests += 1
            return [Send(conn, _state(PARAM_EXCHANGE))]
        if test.state == CREATE_STREAMS and cookie == test.cookie and not self.udp:
            return self._add_stream(test, conn, now_ns)
        return [Send(conn, _state(ACCESS_DENIED)), Close(conn)]

    def _add_stream(self, test: _Test, peer: Any, now_ns: int) -> list[Action]:
        params = test.params
        assert params is not None
        test.streams.append(Stream(peer, params))
        wanted = params.parallel * (2 if params.both else 1)
        if len(test.streams) < wanted:
            return []
        if not params.udp:
            test.streams.sort(key=lambda stream: stream.peer)  # as they were accepted
        for at, stream in enumerate(test.streams):
            stream.id = at + 1 if not at else at + 2  # iperf3's numbering: 1, 3, 4, 5 ...
            stream.sender = params.reverse or (params.both and at >= params.parallel)
        test.state = TEST_RUNNING
        test.started_ns = now_ns
        if params.omit_s:
            test.omit_until_ns = now_ns + int(params.omit_s * NSEC_PER_SEC)
        # A test that bytes or blocks limit (time 0) has no duration.
        length_s = params.time_s + params.omit_s if params.time_s else TIME_MAX_S
        test.deadline_ns = now_ns + int(length_s * NSEC_PER_SEC) + GRACE_NS
        running = _state(TEST_START) + _state(TEST_RUNNING)
        return [Send(test.control, running), Start(tuple(test.streams))]

    def _control(self, test: _Test, now_ns: int, actions: list[Action]) -> None:
        """Handle the complete messages among the control connection's bytes.

        Raises: _RefusedError.
        """
        while test is self._test and test.unread:
            if test.state == PARAM_EXCHANGE:
                message = _take_json(test.unread, PARAMS_MAX, IERECVPARAMS)
                if message is None:
                    break
                test.params = parse_parameters(message[0])
                test.state = CREATE_STREAMS
                test.deadline_ns = now_ns + GRACE_NS
                actions.append(Send(test.control, _state(CREATE_STREAMS)))
            elif test.state == EXCHANGE_RESULTS:
                message = _take_json(test.unread, RESULTS_MAX, IERECVRESULTS)
                if message is None:
                    break
                test.state = DISPLAY_RESULTS
                test.deadline_ns = now_ns + GRACE_NS
                test.awaited = _bytes_sent(test, message[0])
                actions += self._drained(test, now_ns)
            else:
                actions += self._state_came(test, now_ns)

    def _state_came(self, test: _Test, now_ns: int) -> list[Action]:
        (state,) = struct.unpack("b", test.unread[:1])
        del test.unread[:1]
        if state == TEST_END and test.state == TEST_RUNNING:
            test.ended_ns = now_ns
            test.omit_until_ns = 0
            test.deadline_ns = now_ns + GRACE_NS
            # Closed first: a client that reads whole blocks waits for the rest of one.
            over = self._stop(test, "test over", [s for s in test.streams if not _drains(s)])
            test.state = EXCHANGE_RESULTS
            return [*over, Send(test.control, _state(EXCHANGE_RESULTS))]
        if state == IPERF_DONE and test.state == DISPLAY_RESULTS:
            return self._end("done")
        if state == CLIENT_TERMINATE:
            return self._end("the client has terminated")
        raise _RefusedError(110, f"state {state} in state {test.state}")  # IEMESSAGE

    def _drained(self, test: _Test, now_ns: int) -> list[Action]:
        """Answer with our results, once all that the client has sent is counted."""
        for stream in test.streams:
            if stream.size >= test.awaited.get(stream.peer, 0):
                test.awaited.pop(stream.peer, None)
        if test.awaited:
            return []
        rest = [stream for stream in test.streams if _drains(stream)]
        if rest:
            test.ended_ns = now_ns
        test.deadline_ns = now_ns + GRACE_NS
        results = self._results(test) + _state(DISPLAY_RESULTS)
        return [*self._stop(test, "", rest), Send(test.control, results)]

    def _stop(self, test: _Test, text: str, streams: list[Stream]) -> list[Action]:
        """End these streams, of TCP with their connections; those that are over stay so."""
        streams = [stream for stream in streams if not stream.over]
        for stream in streams:
            stream.over = True
        stop = [Stop(text, tuple(streams))] if text or streams else []
        return [*stop, *(Close(stream.peer) for stream in streams if not stream.params.udp)]

    def _results(self, test: _Test) -> bytes:
        seconds = (test.ended_ns - test.started_ns) / NSEC_PER_SEC
        text = json.dumps(
            {
                "cpu_util_total": 0.0,
                "cpu_util_user": 0.0,
                "cpu_util_system": 0.0,
                "sender_has_retransmits": max(int(s.retransmits >= 0) for s in test.streams),
                "streams": [stream.result(seconds) for stream in test.streams],
            }
        ).encode()
        return len(text).to_bytes(4, "big") + text

    def _end(self, text: str) -> list[Action]:
        """Drop the test and close its connections."""
        test = self._test
        assert test is not None
        self._test = None
        return [*self._stop(test, text, test.streams), Close(test.control)]


def _drains(stream: Stream) -> bool:
    """Whether the stream is read until all data of the client has arrived."""
    return stream.params.counted and not stream.sender


def _bytes_sent(test: _Test, results: Any) -> dict[Any, int]:
    """The client's byte count of the streams that are read to their end."""
    rows = results.get("streams") if isinstance(results, dict) else None
    sent: dict[int, int] = {}
    for row in rows if isinstance(rows, list) else ():
        number, size = (row.get("id"), row.get("bytes")) if isinstance(row, dict) else (None, None)
        if isinstance(number, int) and isinstance(size, int):
            sent[number] = size
    wanted = (stream for stream in test.streams if _drains(stream) and stream.id in sent)
    return {stream.peer: sent[stream.id] for stream in wanted}


def _state(number: int) -> bytes:
    return struct.pack("b", number)


def _take_json(unread: bytearray, most: int, code: int) -> tuple[Any] | None:
    """Take a message of JSON off `unread`; None while it is not complete. Raises: _RefusedError."""
    if len(unread) < 4:
        return None
    length = int.from_bytes(unread[:4], "big")
    if length > most:
        raise _RefusedError(code, f"a message of {length} bytes, more than {most}")
    if len(unread) < 4 + length:
        return None
    text = bytes(unread[4 : 4 + length])
    del unread[: 4 + length]
    try:
        return (json.loads(text),)
    except (ValueError, RecursionError) as error:
        raise _RefusedError(code, f"no JSON: {error}") from None
