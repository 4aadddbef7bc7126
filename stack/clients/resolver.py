"""A stub resolver without I/O (RFC 1034 5.3.1, RFC 1035 7) that behaves as glibc's.

    lookup = Lookup("www", (RRType.A, RRType.AAAA), conf=conf, random=Random(1))
    actions = lookup.start(now_ns)
    actions = lookup.datagram(number, data, now_ns)    # of the socket that SendDatagram named
    actions = lookup.stream(number, data, now_ns)      # of the connection that OpenStream named
    actions = lookup.failed(number, now_ns)            # its server is unreachable or closed it
    actions = lookup.timer(now_ns)                     # at the time of the last SetTimer

A Lookup tries the names of the search list one after the other. For each it sends all questions to
the first server, and after a timeout the unanswered ones to the next server, in turn. Each server
has its own socket for each name, so a spoofer must guess port and id (RFC 5452). A truncated
answer is retried over TCP (RFC 7766), and without EDNS0 if the server lacks it.
"""

from __future__ import annotations

from dataclasses import dataclass
from random import Random
from typing import TypeAlias

from stack.clients.action import NEVER, MessageError, SetTimer
from stack.clients.dns_answer import Outcome, Verdict, read_answer
from stack.clients.dns_wire import (
    FLAG_QR,
    FLAG_RD,
    FLAG_TC,
    OPCODE,
    DnsMessage,
    Question,
    RCode,
    Record,
    opt_record,
    parse_head,
)
from stack.clients.dnsname import Name, checked, folded, name_from_text
from stack.clients.resolvconf import ResolvConf
from stack.core.sockaddr import sockaddr
from stack.core.time64 import NSEC_PER_SEC

MAX_RESTARTS = 8
"""Questions for the end of a CNAME chain that the server did not resolve."""


@dataclass(frozen=True, slots=True)
class SendDatagram:
    """Send `data` from UDP socket `number`; create it, connected to `server`, if it is new.

    A new one has its own random port.
    """

    number: int
    server: sockaddr
    data: bytes


@dataclass(frozen=True, slots=True)
class OpenStream:
    """Connect TCP socket `number` to `server`, send `data`, report received data."""

    number: int
    server: sockaddr
    data: bytes


@dataclass(frozen=True, slots=True)
class CloseSocket:
    """Close the UDP or TCP socket `number`."""

    number: int


@dataclass(frozen=True, slots=True)
class Finished:
    """The result of the lookup: records of the requested types, owned by `canonical`."""

    outcome: Outcome
    canonical: Name = ()
    aliases: tuple[Name, ...] = ()
    records: tuple[Record, ...] = ()


DnsAction: TypeAlias = SendDatagram | OpenStream | CloseSocket | SetTimer | Finished


@dataclass(slots=True, eq=False)
class _Query:
    """A pending question."""

    question: Question
    id: int
    edns: bool
    verdict: Verdict | None = None
    stream: int = -1
    received: bytes = b""  # of the stream
    restarts: int = 0
    failed: int = -1  # the server that could not answer; the next one is queried

    @property
    def open(self) -> bool:
        return self.verdict is None


class Lookup:
    """The lookup of record types of one name.

    Args:
        name: absolute with a dot at its end (then no search list), or a Name (likewise).
        types: queried in parallel.
        conf: servers, search list and the rest.
        random: of ids, and of the first server with `rotate`.

    Raises: MessageError: `name` is not a domain name.
    """

    def __init__(
        self, name: str | Name, types: tuple[int, ...], *, conf: ResolvConf, random: Random
    ) -> None:
        self.conf = conf
        self.result: Finished | None = None
        self._random = random
        self._types = types
        self._names = candidates(name, conf)
        self._seen: set[Outcome] = set()
        self._queries: list[_Query] = []
        self._chain: list[Name] = []
        self._heard = False  # from any server, about the current name
        self._first = random.randrange(len(conf.servers)) if conf.rotate and conf.servers else 0
        self._round = 0  # transmissions of the current name: attempt times servers
        self._sockets: dict[int, int] = {}  # number of a UDP socket: server
        self._serial = 0
        self._timer_ns = NEVER
        self._actions: list[DnsAction] = []

    # --- events ---------------------------------------------------------------------------------

    def start(self, now_ns: int) -> list[DnsAction]:
        """Query the first name."""
        if self.conf.servers:
            self._next_name(now_ns)
        else:
            self._finish(Finished(Outcome.TRY_AGAIN))
        return self._done()

    def datagram(self, number: int, data: bytes, now_ns: int) -> list[DnsAction]:
        """Handle a datagram of UDP socket `number`; ignored unless it answers a question."""
        if self.result is None and number in self._sockets:
            query = self._match(data)
            if query is not None and query.stream < 0:
                self._answered(query, data, self._sockets[number], now_ns)
        return self._done()

    def stream(self, number: int, data: bytes, now_ns: int) -> list[DnsAction]:
        """Handle bytes of TCP connection `number` (RFC 1035 4.2.2); b"": the server closed it."""
        query = self._of_stream(number)
        if query is None:
            return []
        query.received += data
        size = int.from_bytes(query.received[:2], "big")
        if len(query.received) >= 2 + size and len(query.received) > 2:
            message = query.received[2 : 2 + size]
            self._close_stream(query)
            if self._match(message) is query:
                self._answered(query, message, self._server(self._round), now_ns, tcp=True)
            else:
                self._server_failed(query, now_ns)
        elif not data:
            self._close_stream(query)
            self._server_failed(query, now_ns)
        return self._done()

    def failed(self, number: int, now_ns: int) -> list[DnsAction]:
        """Socket `number` cannot reach its server: an ICMP error, a refused connection."""
        if self.result is not None:
            return []
        query = self._of_stream(number)
        if query is not None:
            self._close_stream(query)
            self._server_failed(query, now_ns)
        elif self._sockets.get(number) == self._server(self._round):
            for query in self._queries:
                if query.open and query.stream < 0:
                    query.failed = self._round
            self._go_on(now_ns)
        return self._done()

    def timer(self, now_ns: int) -> list[DnsAction]:
        """Timeout: try the next server, or begin the next attempt."""
        due = self._timer_ns
        self._timer_ns = NEVER
        if self.result is None and due != NEVER:
            if now_ns < due:
                self._set_timer(due)
            else:
                self._next_server(now_ns)
        return self._done()

    # --- questions ------------------------------------------------------------------------------

    def _next_name(self, now_ns: int) -> None:
        """Query the next name of the search list, or finish the lookup."""
        self._close_all()
        if not self._names:
            for outcome in (Outcome.NO_DATA, Outcome.FAILED, Outcome.TRY_AGAIN):
                if outcome in self._seen:
                    self._finish(Finished(outcome))
                    return
            self._finish(Finished(Outcome.NO_NAME))
            return
        name = self._names.pop(0)
        self._chain = [name]
        self._heard = False
        self._queries = [self._query(Question(name, type_)) for type_ in self._types]
        self._round = 0
        self._ask(now_ns)

    def _query(self, question: Question) -> _Query:
        used = {query.id for query in self._queries}
        while (id_ := self._random.getrandbits(16)) in used:
            pass
        return _Query(question, id_, bool(self.conf.edns_bytes))

    def _server(self, round_: int) -> int:
        return (self._first + round_) % len(self.conf.servers)

    def _ask(self, now_ns: int) -> None:
        """Send the open questions to the current server."""
        for query in self._queries:
            if query.open:
                if self.conf.use_vc:
                    self._open_stream(query)
                else:
                    self._send(query)
        # glibc's res_send.c: 5 s for the first server, 5 << n over their number for later ones
        count = len(self.conf.servers)
        position = self._round % count
        seconds = self.conf.timeout_s << position
        if position:
            seconds = max(seconds // count, 1)
        self._set_timer(now_ns + seconds * NSEC_PER_SEC)

    def _send(self, query: _Query) -> None:
        server = self._server(self._round)
        number = next((n for n, s in self._sockets.items() if s == server), -1)
        if number < 0:
            number = self._number()
            self._sockets[number] = server
        data = self._message(query)
        self._actions.append(SendDatagram(number, self.conf.servers[server], data))

    def _open_stream(self, query: _Query) -> None:
        query.stream = self._number()
        query.received = b""
        data = self._message(query)
        framed = len(data).to_bytes(2, "big") + data
        server = self.conf.servers[self._server(self._round)]
        self._actions.append(OpenStream(query.stream, server, framed))

    def _message(self, query: _Query) -> bytes:
        more = (opt_record(self.conf.edns_bytes),) if query.edns else ()
        return DnsMessage(query.id, FLAG_RD, (query.question,), additionals=more).emit()

    def _next_server(self, now_ns: int) -> None:
        """The current server failed: query the next one."""
        for query in self._queries:
            self._close_stream(query)
        self._round += 1
        if self._round < self.conf.attempts * len(self.conf.servers):
            self._ask(now_ns)
            return
        for query in self._queries:
            if query.open:
                query.verdict = Verdict(Outcome.TRY_AGAIN)
        self._name_done(now_ns)

    # --- answers --------------------------------------------------------------------------------

    def _match(self, data: bytes) -> _Query | None:
        """The open question that a message answers: same id, same question (RFC 5452 9.1)."""
        try:
            id_, flags, questions, _, _ = parse_head(data)
        except MessageError:
            return None
        if not flags & FLAG_QR or flags & OPCODE or len(questions) > 1:
            return None
        for query in self._queries:
            if query.id != id_ or not query.open:
                continue
            if questions:
                asked, got = query.question, questions[0]
                same = folded(got.name) == folded(asked.name)
                if same and (got.type, got.class_) == (asked.type, asked.class_):
                    return query
            elif flags & 0xF in (RCode.FORMERR, RCode.NOTIMP):
                return query  # a server that cannot parse the question cannot repeat it
        return None

    def _answered(
        self, query: _Query, data: bytes, server: int, now_ns: int, *, tcp: bool = False
    ) -> None:
        self._heard = True
        flags = int.from_bytes(data[2:4], "big")
        if flags & FLAG_TC and not tcp:
            self._open_stream(query)
            self._set_timer(now_ns + self.conf.timeout_s * NSEC_PER_SEC)
            return
        try:
            message = DnsMessage.parse(data)
        except MessageError:
            return  # perhaps forged; the real answer may still come
        if query.edns and message.rcode in (RCode.FORMERR, RCode.NOTIMP, RCode.BADVERS):
            query.edns = False  # RFC 6891 7
            if tcp or self.conf.use_vc:
                self._open_stream(query)
            elif server == self._server(self._round):
                self._send(query)
            return
        verdict = read_answer(message, query.question)
        if verdict is None:
            if server == self._server(self._round):
                self._server_failed(query, now_ns)
            return
        self._chain += [name for name in verdict.chain if name not in self._chain]
        if verdict.unfinished is not None:
            query.restarts += 1
            if query.restarts > MAX_RESTARTS:
                query.verdict = Verdict(Outcome.FAILED)
            else:
                fresh = self._query(Question(verdict.unfinished, query.question.type))
                query.question, query.id = fresh.question, fresh.id
                self._open_stream(query) if self.conf.use_vc else self._send(query)
                return
        else:
            query.verdict = verdict
        self._go_on(now_ns)

    def _server_failed(self, query: _Query, now_ns: int) -> None:
        """The server reports a failure or closed the connection."""
        query.failed = self._round
        self._go_on(now_ns)

    def _go_on(self, now_ns: int) -> None:
        """Continue when no question waits for the current server."""
        waiting = [query for query in self._queries if query.open]
        if not waiting:
            self._name_done(now_ns)
        elif all(query.failed == self._round for query in waiting):
            self._next_server(now_ns)

    def _name_done(self, now_ns: int) -> None:
        """All questions of a name were answered."""
        verdicts = [query.verdict for query in self._queries if query.verdict is not None]
        records = tuple(record for verdict in verdicts for record in verdict.records)
        if records:
            canonical = next(verdict.owner for verdict in verdicts if verdict.records)
            aliases = tuple(name for name in self._chain if folded(name) != folded(canonical))
            self._finish(Finished(Outcome.FOUND, canonical, aliases, records))
            return
        outcomes = {verdict.outcome for verdict in verdicts}
        # The questions of a name may end differently: a definite answer has the lowest rank.
        for outcome in (Outcome.TRY_AGAIN, Outcome.FAILED, Outcome.NO_DATA):
            if outcome in outcomes:
                self._seen.add(outcome)
                break
        if not self._heard:
            self._names.clear()  # as in glibc: no server is reachable for the rest of the list
        self._next_name(now_ns)

    # --- sockets and the end --------------------------------------------------------------------

    def _number(self) -> int:
        self._serial += 1
        return self._serial

    def _of_stream(self, number: int) -> _Query | None:
        return next((q for q in self._queries if q.open and q.stream == number), None)

    def _close_stream(self, query: _Query) -> None:
        if query.stream >= 0:
            self._actions.append(CloseSocket(query.stream))
            query.stream = -1
            query.received = b""

    def _close_all(self) -> None:
        for query in self._queries:
            self._close_stream(query)
        self._actions += [CloseSocket(number) for number in self._sockets]
        self._sockets.clear()

    def _finish(self, result: Finished) -> None:
        self._close_all()
        self._set_timer(NEVER)
        self.result = result
        self._actions.append(result)

    def _set_timer(self, at_ns: int) -> None:
        if at_ns != self._timer_ns:
            self._timer_ns = at_ns
            self._actions.append(SetTimer(at_ns))

    def _done(self) -> list[DnsAction]:
        actions, self._actions = self._actions, []
        return actions


def candidates(name: str | Name, conf: ResolvConf) -> list[Name]:
    """The names to query, in order, as in glibc's res_search. A name with a final dot is queried
    unchanged; one with `ndots` dots or more first unchanged, others after the search list.

    Raises: MessageError: not a domain name. Names made too long by the search list are omitted.
    """
    if not isinstance(name, str):
        return [checked(name)]
    plain = name_from_text(name)
    if name.endswith(".") or not plain:
        return [plain]
    searched: list[Name] = []
    for domain in conf.search:
        try:
            searched.append(checked((*plain, *domain)))
        except MessageError:
            continue
    first = [plain] if len(plain) - 1 >= conf.ndots else []
    return [*first, *searched, *([] if first else [plain])]
