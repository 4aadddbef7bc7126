"""The resolver against servers of scapy's layers, in virtual time."""

from __future__ import annotations

import itertools
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scapy.layers.dns import DNS, DNSQR, DNSRR

from stack.clients.action import MessageError, SetTimer
from stack.clients.dns_answer import Outcome, read_answer
from stack.clients.dns_wire import DnsMessage, Question, Record, RRType
from stack.clients.dnsname import name_from_text, name_to_text, reverse_name
from stack.clients.resolvconf import ResolvConf
from stack.clients.resolver import Finished, Lookup, SendDatagram, candidates
from tests.stack.clients.dns_server import Server, World, address, found
from tests.stack.clients.simulation import SECOND, Simulation
from tests.support import examples

WWW = {"www.example.org.": [("A", "192.0.2.1"), ("A", "192.0.2.2"), ("AAAA", "2001:db8::1")]}
A1, A2, A6 = 0xC0000201, 0xC0000202, 0x20010DB8 << 96 | 1
ORG = (name_from_text("example.org"),)


def test_both_families_are_asked_side_by_side_from_one_socket() -> None:
    world = World(Server(WWW))
    result = world.lookup("www.example.org.")
    assert found(result) == [A1, A2, A6]
    assert name_to_text(result.canonical) == "www.example.org"
    server = world.servers[address(1)]
    assert [m.qd[0].qtype for m in server.seen] == [1, 28]
    assert [at for at, _, _ in world.asked] == [0, 0]
    assert len({m.id for m in server.seen}) == 2
    assert world.most_sockets == 1
    assert [m.ar[0].rclass for m in server.seen] == [1232, 1232]  # EDNS0


def test_ids_and_sockets_differ_from_name_to_name() -> None:
    world = World(Server(), search=ORG)
    assert world.lookup("nowhere").outcome is Outcome.NO_NAME
    server = world.servers[address(1)]
    assert len({m.id for m in server.seen}) == 4
    assert world.closed == [1, 2]  # nowhere.example.org, nowhere


@pytest.mark.parametrize(
    ("zone", "outcome"),
    [
        ({}, Outcome.NO_NAME),
        ({"www.example.org.": []}, Outcome.NO_DATA),
    ],
)
def test_what_does_not_exist(zone: dict[str, Any], outcome: Outcome) -> None:
    assert World(Server(zone)).lookup("www.example.org").outcome is outcome


def test_one_family_is_enough() -> None:
    result = World(Server({"v4.example.": [("A", "192.0.2.1")]})).lookup("v4.example.")
    assert found(result) == [A1]


# --- servers --------------------------------------------------------------------------------------


def test_servers_take_turns_with_the_timeouts_of_glibc() -> None:
    world = World(*(Server(silent=True) for _ in range(3)))
    result = world.lookup("www.example.org.", (RRType.A,))
    assert result.outcome is Outcome.TRY_AGAIN
    times = [(at // SECOND, server.addr & 0xF) for at, server, _ in world.asked]
    # res_send.c with timeout 5: 5 s, then (5 << n) // 3
    assert times == [(0, 1), (5, 2), (8, 3), (14, 1), (19, 2), (22, 3)]
    assert world.sim.now_ns == 28 * SECOND
    assert len({m.id for s in world.servers.values() for m in s.seen}) == 1


def test_dead_servers_end_the_search_as_in_glibc() -> None:
    world = World(Server(silent=True), search=ORG * 3, attempts=1)
    assert world.lookup("host").outcome is Outcome.TRY_AGAIN
    assert world.sim.now_ns == 5 * SECOND


def test_only_what_was_not_answered_is_asked_again() -> None:
    server = Server(WWW)

    def lose(reply: DNS) -> DNS:
        if reply.qd[0].qtype == 28 and len(server.seen) < 3:
            reply.id ^= 1
        return reply

    server.change = lose
    world = World(server)
    assert found(world.lookup("www.example.org.")) == [A1, A2, A6]
    assert [m.qd[0].qtype for m in server.seen] == [1, 28, 28]


@pytest.mark.parametrize("rcode", [2, 4, 5])
def test_a_server_that_cannot_answer_is_left_at_once(rcode: int) -> None:
    world = World(Server(rcode=rcode, edns=rcode != 4), Server(WWW))
    assert found(world.lookup("www.example.org.")) == [A1, A2, A6]
    assert world.sim.now_ns < SECOND


def test_servfail_of_all_is_try_again() -> None:
    world = World(Server(rcode=2), Server(rcode=2))
    assert world.lookup("www.example.org.").outcome is Outcome.TRY_AGAIN
    assert world.sim.now_ns < SECOND
    assert len(world.asked) == 2 * 2 * 2


def test_servfail_of_one_name_goes_on_with_the_search_and_counts_in_the_end() -> None:
    server = Server(rcode=2)
    world = World(server, search=ORG, attempts=1)
    assert world.lookup("host").outcome is Outcome.TRY_AGAIN
    names = [m.qd[0].qname for m in server.seen]
    assert names == [b"host.example.org."] * 2 + [b"host."] * 2


def test_a_server_that_cannot_be_reached_is_left_at_once() -> None:
    world = World(Server(refuse=True), Server(WWW))
    assert found(world.lookup("www.example.org.")) == [A1, A2, A6]
    assert world.sim.now_ns < SECOND


def test_rotation_begins_with_any_server() -> None:
    firsts = set()
    for seed in range(20):
        world = World(Server(WWW), Server(WWW), Server(WWW), rotate=True)
        world.random = Random(seed)
        world.lookup("www.example.org.")
        firsts.add(world.asked[0][1].addr & 0xF)
    assert firsts == {1, 2, 3}


def test_without_a_server_nothing_is_known() -> None:
    assert World(servers=()).lookup("www").outcome is Outcome.TRY_AGAIN


def test_late_answer_of_the_first_server_is_taken() -> None:
    sim = Simulation()
    slow = Server(WWW)
    world = World(slow, Server(silent=True), sim=sim)
    carry = sim.carry
    sim.carry = lambda fn: sim.at(sim.now_ns + 3 * SECOND, fn)  # type: ignore[method-assign]
    assert found(world.lookup("www.example.org.")) == [A1, A2, A6]
    assert sim.now_ns == 6 * SECOND
    sim.carry = carry  # type: ignore[method-assign]


# --- EDNS0 and TCP --------------------------------------------------------------------------------


def test_server_without_edns_is_asked_without() -> None:
    world = World(Server(WWW, edns=False))
    assert found(world.lookup("www.example.org.")) == [A1, A2, A6]
    assert [m.arcount for m in world.servers[address(1)].seen] == [1, 1, 0, 0]
    assert world.sim.now_ns < SECOND


def test_edns_can_be_switched_off() -> None:
    world = World(Server(WWW, edns=False), edns_bytes=0)
    assert found(world.lookup("www.example.org.")) == [A1, A2, A6]
    assert [m.arcount for m in world.servers[address(1)].seen] == [0, 0]


def test_truncated_answer_is_fetched_by_tcp() -> None:
    world = World(Server(WWW, truncate=True))
    assert found(world.lookup("www.example.org.")) == [A1, A2, A6]
    assert [tcp for _, _, tcp in world.asked] == [False, False, True, True]


def test_use_vc_asks_by_tcp_only() -> None:
    world = World(Server(WWW), use_vc=True)
    assert found(world.lookup("www.example.org.")) == [A1, A2, A6]
    assert all(tcp for _, _, tcp in world.asked)


def test_tcp_that_breaks_goes_on_with_the_next_server() -> None:
    world = World(Server(WWW, truncate=True), Server(WWW))
    first = world.servers[address(1)]
    serve = world.serve

    def breaking(core: Lookup, action: Any, tcp: bool) -> None:
        if tcp:
            first.streams += 1
            world.do(core.stream(action.number, b"\0", world.sim.now_ns))
            world.do(core.stream(action.number, b"", world.sim.now_ns))
        else:
            serve(core, action, tcp)

    world.serve = breaking  # type: ignore[method-assign]
    assert found(world.lookup("www.example.org.")) == [A1, A2, A6]
    assert first.streams == 2
    assert world.sim.now_ns < SECOND


# --- names ----------------------------------------------------------------------------------------


def test_cname_chain_in_one_answer() -> None:
    zone = WWW | {
        "a.example.": [("CNAME", "b.example.")],
        "b.example.": [("CNAME", "www.example.org.")],
    }
    result = World(Server(zone)).lookup("a.example.")
    assert found(result) == [A1, A2, A6]
    assert name_to_text(result.canonical) == "www.example.org"
    assert [name_to_text(n) for n in result.aliases] == ["a.example", "b.example"]


def test_cname_chain_that_the_server_leaves_open_is_followed() -> None:
    zone = WWW | {
        "a.example.": [("CNAME", "b.example.")],
        "b.example.": [("CNAME", "www.example.org.")],
    }
    server = Server(zone, chase=False)
    result = World(server).lookup("a.example.", (RRType.A,))
    assert found(result) == [A1, A2]
    assert [m.qd[0].qname for m in server.seen] == [
        b"a.example.",
        b"b.example.",
        b"www.example.org.",
    ]


@pytest.mark.parametrize("chase", [True, False])
def test_cname_loop_ends(chase: bool) -> None:
    zone = {"a.example.": [("CNAME", "b.example.")], "b.example.": [("CNAME", "a.example.")]}
    server = Server(zone, chase=chase)
    assert World(server).lookup("a.example.", (RRType.A,)).outcome is Outcome.FAILED
    assert len(server.seen) < 12


def test_dangling_cname_is_no_name() -> None:
    zone = {"a.example.": [("CNAME", "gone.example.")]}
    result = World(Server(zone, chase=False)).lookup("a.example.", (RRType.A,))
    assert result.outcome is Outcome.NO_NAME


@pytest.mark.parametrize(
    ("name", "ndots", "wanted"),
    [
        ("host", 1, ["host.a", "host.b.c", "host"]),
        ("host.x", 1, ["host.x", "host.x.a", "host.x.b.c"]),
        ("host.x", 2, ["host.x.a", "host.x.b.c", "host.x"]),
        ("host.", 1, ["host"]),
        ("host.x.", 5, ["host.x"]),
    ],
)
def test_search_list(name: str, ndots: int, wanted: list[str]) -> None:
    conf = ResolvConf(search=(name_from_text("a"), name_from_text("b.c")), ndots=ndots)
    assert [name_to_text(n) for n in candidates(name, conf)] == wanted


def test_no_data_of_the_search_list_outlives_no_name() -> None:
    world = World(Server({"host.example.org.": []}), search=ORG)
    assert world.lookup("host").outcome is Outcome.NO_DATA


def test_names_that_are_none_are_refused_before_anything_is_sent() -> None:
    for name in ("a..b", "x" * 64, ".a", ("y" * 60 + ".") * 5):
        with pytest.raises(MessageError):
            Lookup(name, (RRType.A,), conf=ResolvConf(), random=Random(1))


def test_reverse_lookup() -> None:
    zone = {"1.2.0.192.in-addr.arpa.": [("PTR", "www.example.org.")]}
    result = World(Server(zone)).lookup(reverse_name(A1, 32), (RRType.PTR,))
    assert [r.data for r in result.records] == [name_from_text("www.example.org")]


# --- lies -----------------------------------------------------------------------------------------


def lying(change: Any) -> World:
    server = Server(WWW)
    server.change = change
    return World(server, attempts=1)


def test_wrong_id_question_or_direction_is_ignored() -> None:
    def other_id(reply: DNS) -> DNS:
        reply.id ^= 0x101
        return reply

    def other_name(reply: DNS) -> DNS:
        reply.qd = DNSQR(qname="evil.example.", qtype=1)
        return reply

    def other_type(reply: DNS) -> DNS:
        reply.qd[0].qtype = 15
        return reply

    def a_query(reply: DNS) -> DNS:
        reply.qr = 0
        return reply

    def none(reply: DNS) -> DNS:
        reply.qd, reply.qdcount = [], 0
        return reply

    def opcode(reply: DNS) -> DNS:
        reply.opcode = 4
        return reply

    for change in (other_id, other_name, other_type, a_query, none, opcode):
        world = lying(change)
        assert world.lookup("www.example.org.").outcome is Outcome.TRY_AGAIN, change
        assert world.sim.now_ns == 5 * SECOND  # waited on for the real answer


def test_question_in_another_case_is_the_same() -> None:
    def upper(reply: DNS) -> DNS:
        reply.qd = DNSQR(qname="WWW.Example.ORG.", qtype=reply.qd[0].qtype)
        return reply

    assert found(lying(upper).lookup("www.example.org.")) == [A1, A2, A6]


def test_records_that_were_not_asked_for_are_not_believed() -> None:
    def more(reply: DNS) -> DNS:
        reply.an = [
            DNSRR(rrname="evil.example.", type="A", rdata="203.0.113.9"),
            *reply.an,
            DNSRR(rrname="evil.example.", type="CNAME", rdata="www.example.org."),
        ]
        reply.ancount = len(reply.an)
        return reply

    assert found(lying(more).lookup("www.example.org.")) == [A1, A2, A6]


def test_malformed_answer_is_ignored_and_the_real_one_taken() -> None:
    world = World(Server(silent=True))
    core = world.core = Lookup("www.example.org.", (RRType.A,), conf=world.conf, random=Random(1))
    world.do(core.start(0))
    world.sim.run(1)
    query = world.servers[address(1)].seen[0]
    good = bytes(DNS(id=query.id, qr=1, qd=query.qd[0], an=DNSRR(
        rrname="www.example.org.", type="A", rdata="192.0.2.1")))  # fmt: skip
    assert core.datagram(1, good[:-1], 0) == []
    assert core.datagram(2, good, 0) == []  # not the socket
    world.do(core.datagram(1, good, 0))
    assert found(world.finished[0]) == [A1]


def test_long_chain_is_given_up() -> None:
    names = [name_from_text(f"n{i}") for i in range(40)]
    answers = [Record(a, RRType.CNAME, 1, 0, b) for a, b in itertools.pairwise(names)]
    message = DnsMessage(1, 0x8180, (Question(names[0], RRType.A),), tuple(answers))
    verdict = read_answer(message, message.questions[0])
    assert verdict is not None
    assert verdict.outcome is Outcome.FAILED


# --- a bad wire -----------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(8))
def test_a_wire_that_loses_doubles_and_reorders(seed: int) -> None:
    sim = Simulation(seed=seed, loss=0.25, duplicate=0.3, jitter_s=2)
    world = World(Server(WWW), Server(WWW, truncate=True), Server(WWW, edns=False), sim=sim,
                  attempts=5)  # fmt: skip
    for _ in range(10):
        result = world.lookup("www.example.org.", (RRType.A,))
        assert found(result) == [A1, A2]


EVENTS = st.one_of(
    st.tuples(st.just("data"), st.integers(0, 4), st.binary(max_size=80)),
    st.tuples(st.just("reply"), st.integers(0, 4), st.integers(0, 0xFFFF), st.binary(max_size=60)),
    st.tuples(st.just("stream"), st.integers(0, 6), st.binary(max_size=60)),
    st.tuples(st.just("failed"), st.integers(0, 6)),
    st.tuples(st.just("timer")),
)


@settings(max_examples=examples(200), deadline=None)
@given(st.lists(EVENTS, max_size=40), st.booleans())
def test_no_order_of_events_breaks_the_resolver(
    events: list[tuple[Any, ...]], use_vc: bool
) -> None:
    conf = ResolvConf((address(1), address(2)), search=ORG, use_vc=use_vc)
    core = Lookup("www", (RRType.A, RRType.AAAA), conf=conf, random=Random(1))
    now, timer, last = 0, -1, b""

    def take(actions: list[Any]) -> None:
        nonlocal timer, last
        for action in actions:
            if isinstance(action, SetTimer):
                timer = action.at_ns
                assert timer == -1 or timer > now
            elif isinstance(action, SendDatagram):
                last = action.data

    take(core.start(now))
    for what, *values in events:
        match what:
            case "data":
                take(core.datagram(values[0], values[1], now))
            case "reply" if last:
                head = last[:2] + (0x8000 | values[1]).to_bytes(2, "big")
                take(core.datagram(values[0], head + last[4:] + values[2], now))
            case "stream":
                take(core.stream(values[0], values[1], now))
            case "failed":
                take(core.failed(values[0], now))
            case "timer":
                now = max(now, timer)
                take(core.timer(now))
        assert core.result is not None or timer > now
    for _ in range(100):
        if core.result is not None:
            break
        now = timer
        take(core.timer(now))
    assert isinstance(core.result, Finished)
