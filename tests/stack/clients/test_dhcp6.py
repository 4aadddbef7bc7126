"""The DHCPv6 client against servers of scapy's layers, in virtual time (RFC 8415)."""

from __future__ import annotations

import itertools
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scapy.layers import dhcp6 as s

from stack.clients.action import SetTimer
from stack.clients.dhcp6 import Dhcp6Client, Send6
from stack.clients.dhcp6_state import ASSIGNED, RETRANSMIT, TRANSITIONS, Event, State
from stack.clients.dhcp6_wire import Dhcp6Message, IaAddr, IaNa, MessageType, Option, duid_ll
from tests.stack.clients.dhcp6_server import Client, Server, addresses
from tests.stack.clients.simulation import SECOND, Simulation
from tests.support import examples

MAC = bytes.fromhex("525400123456")
BASE = 0x20010DB8 << 96
A50, A51 = BASE | 0x50, BASE | 0x51
IAID = 7


def make(*servers: Server, sim: Simulation | None = None, rapid: bool = False) -> Client:
    core = Dhcp6Client(duid=duid_ll(MAC), iaid=IAID, random=Random(5), rapid_commit=rapid)
    return Client(sim or Simulation(), core, *(servers or (Server(),)))


def bound(server: Server | None = None) -> Client:
    world = make(server or Server())
    world.start()
    assert world.sim.run(30, lambda: world.bound)
    return world


@pytest.fixture
def world() -> Client:
    """A client that has its lease."""
    return bound()


def test_four_messages_give_an_address(world: Client) -> None:
    assert world.kinds == ["solicit", "request"]
    lease = world.configured[0].lease
    (leased,) = lease.addresses
    now = world.sim.now_ns
    assert leased.address == A50
    assert (leased.preferred_ns, leased.valid_ns) == (now + 600 * SECOND, now + 1200 * SECOND)
    # T1 and T2 left to the client: 0.5 and 0.8 of the preferred lifetime
    assert (lease.t1_ns, lease.t2_ns) == (now + 300 * SECOND, now + 480 * SECOND)
    assert lease.dns == (BASE | 1,)
    assert lease.search == ("example.org",)


def test_first_solicit_waits_and_advertisements_are_collected_for_a_second() -> None:
    low, high = Server(preference=1), Server(
        preference=9, pool=["2001:db8::99"], duid=s.DUID_LL(lladdr="02:00:00:00:00:09")
    )  # fmt: skip
    world = make(low, high)
    world.start()
    assert world.sim.run(30, lambda: world.bound)
    solicit, request = (at for at, _ in world.sent)
    assert 0 < solicit <= SECOND
    assert SECOND <= request - solicit <= 1.1 * SECOND
    assert world.client.lease.addresses[0].address == BASE | 0x99
    assert world.kinds == ["solicit", "request"]  # the other server saw the multicast


def test_preference_255_is_taken_at_once() -> None:
    world = make(Server(preference=255))
    world.start()
    assert world.sim.run(30, lambda: world.bound)
    assert world.sent[1][0] - world.sent[0][0] < SECOND // 10


def test_rapid_commit_takes_two_messages() -> None:
    world = make(Server(rapid=True), rapid=True)
    world.start()
    assert world.sim.run(30, lambda: world.bound)
    assert world.kinds == ["solicit"]


def test_reply_to_a_solicit_without_rapid_commit_is_ignored() -> None:
    world = make(Server(silent=True))
    world.start()
    world.sim.run(1.1)
    reply = world.server.reply(world.server.seen[0], ["2001:db8::50"])
    world.do(world.client.received(reply, world.sim.now_ns))
    assert not world.bound


def test_messages_hold_what_18_2_demands(world: Client) -> None:
    world.server.silent = True
    world.sim.run(500)
    world.do(world.client.link_changed(world.sim.now_ns))
    world.sim.run(2)
    seen = dict(zip(world.kinds, world.server.seen, strict=True))
    with_server = {"request", "renew"}
    for name, message in seen.items():
        assert (s.DHCP6OptServerId in message) is (name in with_server), name
        assert s.DHCP6OptElapsedTime in message
        assert message[s.DHCP6OptIA_NA].iaid == IAID
        assert (s.DHCP6OptOptReq in message) is (name != "confirm")
        asked = [a.addr for a in addresses(message)]
        assert asked == ([] if name == "solicit" else ["2001:db8::50"])
        if s.DHCP6OptOptReq in message:
            assert 82 in message[s.DHCP6OptOptReq].reqopts
    assert set(seen) == {"solicit", "request", "renew", "rebind", "confirm"}


def test_solicit_is_sent_again_at_growing_intervals_up_to_the_servers_limit() -> None:
    world = make(Server(ia_status=2, extra=[s.DHCP6OptStatusCode(), _sol_max_rt(120)]))
    world.start()
    world.sim.run(1500)
    times = [at / SECOND for at, _ in world.sent]
    gaps = [b - a for a, b in itertools.pairwise(times)]
    for before, after in itertools.pairwise(gaps):
        assert 1.9 * before <= after <= 2.1 * before or 108 <= after <= 132
    assert gaps[-1] >= 108
    elapsed = [m[s.DHCP6OptElapsedTime].elapsedtime for m in world.server.seen]
    assert elapsed == [min(int((t - times[0]) * 100 + 1e-6), 0xFFFF) for t in times]


def _sol_max_rt(seconds: int) -> Any:
    return s.DHCP6OptUnknown(optcode=82, data=seconds.to_bytes(4, "big"))


def test_request_is_given_up_after_ten_and_soliciting_begins_anew() -> None:
    world = make(Server())
    world.start()
    world.sim.run(5, lambda: world.client.state is State.REQUEST)
    world.server.silent = True
    world.sim.run(400)
    assert world.kinds[:12] == ["solicit", *["request"] * 10, "solicit"]


def test_renewal_at_t1_prolongs(world: Client) -> None:
    first = world.client.lease
    world.sim.run(301)
    assert world.kinds[2:] == ["renew"]
    assert world.client.state is State.BOUND
    assert (world.client.lease.t1_ns or 0) > (first.t2_ns or 0)
    world.sim.run(10_000)
    assert world.removed == []


def test_no_answer_renews_rebinds_then_ends() -> None:
    world = bound(Server(t1_s=100, t2_s=200))
    at = world.sim.now_ns
    world.server.silent = True
    world.sim.run(1199)
    assert world.bound
    rebind = next(t for t, k in zip(_times(world), world.kinds, strict=True) if k == "rebind")
    assert rebind - at == 200 * SECOND
    world.sim.run(2)
    assert [r.reason for r in world.removed] == ["its time is over"]
    assert world.client.state is State.SOLICIT
    world.server.silent = False
    assert world.sim.run(4000, lambda: world.bound)


def _times(world: Client) -> list[int]:
    return [at for at, _ in world.sent]


def test_rebind_is_answered_by_another_server() -> None:
    other = Server(silent=True, duid=s.DUID_LL(lladdr="02:00:00:00:00:09"))
    world = make(Server(), other)
    world.start()
    world.sim.run(30, lambda: world.bound)
    world.server.silent, other.silent = True, False
    world.sim.run(490)
    assert world.client.lease.server == bytes(other.duid)
    assert world.client.state is State.BOUND


def test_no_binding_leads_to_a_request_for_the_same_addresses(world: Client) -> None:
    world.server.ia_status = 3
    world.sim.run(301, lambda: world.client.state is State.REQUEST)
    assert [a.addr for a in addresses(world.server.seen[-1])] == ["2001:db8::50"]
    assert world.bound  # still in use
    world.server.ia_status = 0
    world.sim.run(100)
    assert world.client.state is State.BOUND
    assert world.removed == []


@pytest.mark.parametrize(("status", "ia_status"), [(4, 0), (0, 2)])
def test_request_that_is_refused_solicits_again(status: int, ia_status: int) -> None:
    world = make(Server())
    world.start()
    world.sim.run(30, lambda: world.client.state is State.REQUEST)
    world.server.status, world.server.ia_status = status, ia_status
    world.sim.run(2)
    assert world.client.state is State.SOLICIT
    world.server.status = world.server.ia_status = 0
    assert world.sim.run(60, lambda: world.bound)


def test_unspecified_failure_is_asked_again_at_the_usual_pace() -> None:
    world = make(Server())
    world.start()
    world.sim.run(30, lambda: world.client.state is State.REQUEST)
    world.server.status = 1
    world.sim.run(8)
    assert 3 <= world.kinds.count("request") <= 5
    world.server.status = 0
    assert world.sim.run(60, lambda: world.bound)


def test_valid_lifetime_of_zero_ends_an_address(world: Client) -> None:
    world.server.valid_s = world.server.preferred_s = 0
    world.sim.run(330)
    assert world.bound  # a reply that leaves nothing is no answer; RFC 8415 18.2.10.1
    world.server.valid_s, world.server.preferred_s = 1200, 600
    world.sim.run(200)
    assert world.client.state is State.BOUND


def test_duplicate_address_is_declined_and_another_asked_for(world: Client) -> None:
    world.do(world.client.declined((A50,), world.sim.now_ns))
    assert [r.addresses for r in world.removed] == [(A50,)]
    assert world.sim.run(60, lambda: world.bound)
    assert world.server.declined == ["2001:db8::50"]
    assert world.client.lease.addresses[0].address == A51
    decline = next(m for m, k in zip(world.server.seen, world.kinds, strict=True) if k == "decline")
    assert s.DHCP6OptServerId in decline


def test_decline_without_answer_is_sent_four_times(world: Client) -> None:
    world.server.silent = True
    world.do(world.client.declined((A50,), world.sim.now_ns))
    world.sim.run(60)
    assert world.kinds.count("decline") == 4
    assert world.client.state is State.SOLICIT


@pytest.mark.parametrize("silent", [False, True])
def test_release_gives_back_and_ends(silent: bool, world: Client) -> None:
    world.server.silent = silent
    world.do(world.client.stop(world.sim.now_ns))
    assert not world.bound
    world.sim.run(100)
    assert world.kinds.count("release") == (4 if silent else 1)
    assert world.client.state is State.STOPPED
    before = len(world.sent)
    world.sim.run(100_000)
    assert len(world.sent) == before


def test_confirm_after_the_link_came_back(world: Client) -> None:
    world.do(world.client.link_changed(world.sim.now_ns))
    world.sim.run(3)
    assert world.kinds[2:] == ["confirm"]
    assert world.client.state is State.BOUND
    assert world.removed == []


def test_confirm_on_another_link_takes_the_address_away(world: Client) -> None:
    world.server.status = 4
    world.do(world.client.link_changed(world.sim.now_ns))
    world.sim.run(2, lambda: world.client.state is State.SOLICIT)
    assert [r.addresses for r in world.removed] == [(A50,)]


def test_confirm_without_answer_goes_on_for_ten_seconds(world: Client) -> None:
    world.server.silent = True
    world.do(world.client.link_changed(world.sim.now_ns))
    world.sim.run(12)
    assert world.client.state is State.BOUND
    times = [t for t, k in zip(_times(world), world.kinds, strict=True) if k == "confirm"]
    assert times[-1] - times[0] < 10 * SECOND
    assert world.removed == []


def test_information_only_and_its_refresh() -> None:
    world = make(Server(extra=[s.DHCP6OptInfoRefreshTime(reftime=700)]))
    world.start(stateless=True)
    world.sim.run(3)
    assert world.kinds == ["inform"]
    assert s.DHCP6OptIA_NA not in world.server.seen[0]
    assert {32, 83} <= set(world.server.seen[0][s.DHCP6OptOptReq].reqopts)
    assert world.configured[0].lease.dns == (BASE | 1,)
    assert not world.bound
    world.sim.run(700)
    assert world.kinds == ["inform", "inform"]


def test_infinite_lifetimes_are_never_renewed() -> None:
    world = bound(Server(preferred_s=0xFFFFFFFF, valid_s=0xFFFFFFFF))
    world.sim.run(10 * 365 * 86400)
    assert len(world.sent) == 2
    assert world.bound


def test_wrong_answers_are_ignored() -> None:
    world = make(Server(silent=True))
    world.start()
    world.sim.run(1.1)
    good = Dhcp6Message.parse(
        world.server.reply(world.server.seen[0], ["2001:db8::50"], s.DHCP6_Advertise)
    )

    def without(code: int, *more: tuple[int, bytes]) -> Dhcp6Message:
        options = tuple(o for o in good.options if o[0] != code)
        return Dhcp6Message(good.type, good.xid, options + more)

    def with_ia(address: str, preferred: int = 10, valid: int = 20, **ia: int) -> Dhcp6Message:
        import ipaddress

        inner = IaAddr(int(ipaddress.IPv6Address(address)), preferred, valid).emit()
        made = IaNa(**{"iaid": IAID, "options": ((int(Option.IAADDR), inner),), **ia})  # type: ignore[arg-type]
        return without(Option.IA_NA, (int(Option.IA_NA), made.emit()))

    bad = [
        Dhcp6Message(good.type, good.xid ^ 1, good.options),
        Dhcp6Message(MessageType.RECONFIGURE, good.xid, good.options),
        without(Option.CLIENTID),
        without(Option.CLIENTID, (1, duid_ll(b"\2\0\0\0\0\7"))),
        without(Option.SERVERID),
        without(Option.IA_NA),
        without(Option.IA_NA, (3, b"\0\0\0\7")),
        with_ia("ff02::1"),
        with_ia("fe80::1"),
        with_ia("::1"),
        with_ia("2001:db8::50", preferred=30),
        with_ia("2001:db8::50", preferred=0, valid=0),
        with_ia("2001:db8::50", t1_s=9, t2_s=8),
        with_ia("2001:db8::50", iaid=IAID + 1),
    ]
    for message in bad:
        world.do(world.client.received(message.emit(), world.sim.now_ns))
        assert world.client._best is None, message
    world.do(world.client.received(with_ia("2001:db8::50").emit(), world.sim.now_ns))
    assert world.client._best is not None


@pytest.mark.parametrize("seed", range(8))
def test_a_wire_that_loses_doubles_and_reorders(seed: int) -> None:
    sim = Simulation(seed=seed, loss=0.4, duplicate=0.3, jitter_s=3)
    world = make(Server(), sim=sim)
    world.start()
    assert sim.run(4000, lambda: world.bound)
    sim.run(20_000)
    assert len(world.configured) > 10
    assert len(world.sent) < 1000


def test_every_pair_of_state_and_event_is_in_the_table_or_ignored() -> None:
    assert set(TRANSITIONS) == set(State)
    reachable = {State.STOPPED} | {t for row in TRANSITIONS.values() for t in row.values()}
    assert reachable == set(State)
    for state, row in TRANSITIONS.items():
        assert state in RETRANSMIT or state in (State.STOPPED, State.BOUND, State.INFORMED)
        for event in Event:
            client = Dhcp6Client(duid=duid_ll(MAC), iaid=IAID, random=Random(1))
            client.state = state
            assert client._step(event) is (event in row)
            assert client.state is row.get(event, state)
    assert all(Event.EXPIRED in TRANSITIONS[state] for state in ASSIGNED)


OPTIONS = st.lists(
    st.tuples(st.sampled_from([*map(int, Option), 99]), st.binary(max_size=40)), max_size=4
)
EVENTS = st.one_of(
    st.tuples(st.just("data"), st.binary(max_size=100)),
    st.tuples(st.just("good"), st.sampled_from([2, 7]), st.integers(0, 5), st.integers(0, 100)),
    st.tuples(st.just("odd"), st.sampled_from([2, 7, 10]), OPTIONS),
    st.tuples(st.just("time"), st.integers(0, 2000)),
    st.tuples(st.just("timer")),
    st.tuples(st.just("declined")),
    st.tuples(st.just("link")),
    st.tuples(st.just("stop"), st.booleans()),
    st.tuples(st.just("start"), st.booleans()),
)


@settings(max_examples=examples(150), deadline=None)
@given(st.lists(EVENTS, max_size=30))
def test_no_order_of_events_breaks_the_client(events: list[tuple[Any, ...]]) -> None:
    client = Dhcp6Client(duid=duid_ll(MAC), iaid=IAID, random=Random(1), rapid_commit=True)
    head = ((1, client.duid), (2, b"\0\3\0\1srvsrv"))
    now, timer, xid = 0, -1, 0
    for what, *values in events:
        actions: list[Any] = []
        match what:
            case "data":
                actions = client.received(values[0], now)
            case "good":
                type_, status, lifetime = values
                ia = IaNa(IAID, options=((5, IaAddr(A50, lifetime, lifetime).emit()),))
                options = (*head, (3, ia.emit()), (13, status.to_bytes(2, "big")), (14, b""))
                actions = client.received(Dhcp6Message(type_, xid, options).emit(), now)
            case "odd":
                options = (*head, *values[1])
                actions = client.received(Dhcp6Message(values[0], xid, options).emit(), now)
            case "time":
                now += values[0] * SECOND
                actions = client.timer(now)
            case "timer":
                now = max(now, timer)
                actions = client.timer(now)
            case "declined":
                actions = client.declined((A50,), now)
            case "link":
                actions = client.link_changed(now)
            case "stop":
                actions = client.stop(now, release=values[0])
            case "start":
                actions = client.start(now, stateless=values[0])
        for action in actions:
            if isinstance(action, SetTimer):
                timer = action.at_ns
                assert timer == -1 or timer >= now
            elif isinstance(action, Send6):
                xid = Dhcp6Message.parse(action.data).xid
        if client.state in RETRANSMIT or client.state is State.INFORM:
            assert timer >= now  # something will happen
