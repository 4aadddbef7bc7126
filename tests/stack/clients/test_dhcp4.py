"""The DHCPv4 client against a server of scapy's layers, in virtual time (RFC 2131, 5227)."""

from __future__ import annotations

import itertools
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scapy.layers.dhcp import BOOTP

from stack.clients.action import SetTimer
from stack.clients.dhcp4 import Dhcp4Client, Send
from stack.clients.dhcp4_request import Dhcp4Config
from stack.clients.dhcp4_state import HAS_ADDRESS, TRANSITIONS, Event, State
from stack.clients.dhcp4_wire import Dhcp4Message, MessageType
from tests.stack.clients.dhcp4_server import SERVER, Client, Server, kind, option
from tests.stack.clients.simulation import SECOND, Simulation
from tests.support import examples

MAC = bytes.fromhex("525400123456")
OTHER = bytes.fromhex("525400aaaaaa")
A50, A51, A60 = 0x0A000032, 0x0A000033, 0x0A00003C
SERVER_ADDR = 0x0A000001


def make(
    sim: Simulation | None = None, server: Server | None = None, probes: int = 0, **config: Any
) -> Client:
    core = Dhcp4Client(mac=MAC, random=Random(3), config=Dhcp4Config(probes=probes, **config))
    return Client(sim or Simulation(), core, server or Server())


def bound(server: Server | None = None, probes: int = 0, lease_s: int = 3600) -> Client:
    world = make(server=server or Server(lease_s=lease_s), probes=probes)
    world.start()
    assert world.sim.run(30, lambda: world.bound)
    return world


def kinds(world: Client) -> list[int]:
    return [kind(m) for m in world.server.seen]


def test_discover_offer_request_ack_gives_the_lease() -> None:
    world = bound()
    assert kinds(world) == [MessageType.DISCOVER, MessageType.REQUEST]
    (action,) = world.configured
    lease = action.lease
    assert (lease.address, lease.prefixlen, lease.server) == (A50, 24, SERVER_ADDR)
    assert lease.routes == ((0, 0, 0x0A0000FE),)
    assert lease.dns == (0x0A000001, 0x0A000002)
    assert lease.domain == "example.org"
    assert lease.broadcast == 0x0A0000FF
    asked = world.sent[1][0]
    assert lease.t1_ns == asked + 1800 * SECOND
    assert lease.t2_ns == asked + 3150 * SECOND
    assert lease.expires_ns == asked + 3600 * SECOND


def test_broadcast_answers_are_asked_for_by_a_flag() -> None:
    world = make(broadcast=True)
    world.start()
    world.sim.run(30, lambda: world.bound)
    assert [int(message.flags) for message in world.server.seen] == [0x8000, 0x8000]


def test_messages_hold_what_table_5_demands() -> None:
    world = make(hostname="emu")
    world.start()
    world.sim.run(30, lambda: world.bound)
    discover, request = world.server.seen
    assert discover.ciaddr == request.ciaddr == "0.0.0.0"
    assert int(discover.flags) == 0
    assert option(discover, "server_id") is None
    assert option(request, "requested_addr") == "10.0.0.50"
    assert option(request, "server_id") == SERVER
    assert option(request, "hostname") == b"emu"
    assert bytes(option(request, "client_id")[-6:]) == MAC
    wanted = option(request, "param_req_list")
    assert wanted.index(121) < wanted.index(3)  # RFC 3442
    assert discover.xid == request.xid  # RFC 2131 4.4.1
    assert all(len(send.data) >= 300 and send.daddr == 0xFFFFFFFF for _, send in world.sent)


def test_discover_is_sent_again_after_4_8_16_32_64_64_seconds() -> None:
    world = make(server=Server(silent=True))
    world.start()
    world.sim.run(300)
    times = [at / SECOND for at, _ in world.sent]
    gaps = [b - a for a, b in itertools.pairwise(times)]
    assert len(gaps) >= 6
    for gap, wanted in zip(gaps, (4, 8, 16, 32, 64, 64), strict=False):
        assert wanted - 1 <= gap <= wanted + 1
    assert [m.secs for m in world.server.seen] == [int(t) for t in times]


def test_request_without_answer_starts_over() -> None:
    world = make()
    world.start()
    world.sim.run(1, lambda: world.client.state is State.REQUESTING)
    world.server.silent = True
    world.sim.run(100)
    assert kinds(world)[:6] == [1, 3, 3, 3, 3, 1]
    world.server.silent = False
    assert world.sim.run(100, lambda: world.bound)


def test_lease_is_renewed_by_unicast_at_t1() -> None:
    world = bound()
    world.sim.run(1801)
    at, renew = world.sent[2]
    assert abs(at / SECOND - 1800) < 1
    assert (renew.saddr, renew.daddr) == (A50, SERVER_ADDR)
    message = world.server.seen[2]
    assert message.ciaddr == "10.0.0.50"
    # RFC 2131 table 5: neither may stand in a renewal
    assert option(message, "server_id") is None
    assert option(message, "requested_addr") is None
    assert int(message.flags) == 0
    assert world.client.state is State.BOUND
    assert world.configured[1].lease.expires_ns == at + 3600 * SECOND
    assert world.removed == []


def test_renewal_is_tried_at_half_of_what_is_left_then_rebound_then_over() -> None:
    world = bound()
    world.server.silent = True
    begin = world.sent[1][0]
    world.sim.run(3599)
    tries = [((at - begin) // SECOND, send.daddr) for at, send in world.sent[2:]]
    renew = [at for at, to in tries if to == SERVER_ADDR]
    rebind = [at for at, to in tries if to == 0xFFFFFFFF]
    assert renew == [1800, 2475, 2812, 2981, 3065, 3125]
    assert rebind == [3150, 3375, 3487, 3547]
    assert world.bound
    assert world.removed == []
    world.sim.run(2)
    assert [r.reason for r in world.removed] == ["the lease is over"]
    assert world.client.state is State.SELECTING
    world.server.silent = False
    assert world.sim.run(200, lambda: world.bound)


def test_rebinding_is_answered_by_any_server() -> None:
    world = bound()
    world.server.silent = True
    world.sim.run(3160)
    assert world.client.state is State.REBINDING
    world.server.silent = False
    world.sim.run(300)
    assert world.client.state is State.BOUND
    assert len(world.configured) == 2


def test_nak_of_a_renewal_takes_the_address_away_and_starts_over() -> None:
    world = bound()
    world.server.pool = ["10.0.0.60"]
    world.server.bound.clear()
    world.sim.run(1900)
    assert [r.reason for r in world.removed] == ["the server refused it: not here"]
    assert world.client.lease is not None
    assert world.client.lease.address == A60


def test_a_server_that_refuses_what_it_offers_is_asked_ever_more_seldom() -> None:
    world = make(server=Server(nak=True))
    world.start()
    world.sim.run(200)
    discovers = [at / SECOND for at, s in world.sent if kind(BOOTP(s.data)) == 1]
    gaps = [b - a for a, b in itertools.pairwise(discovers)]
    assert [round(gap) for gap in gaps[:8]] == [0, 1, 2, 4, 8, 16, 32, 64]


def test_nak_of_another_server_is_ignored() -> None:
    world = make()
    world.start()
    world.sim.run(1, lambda: world.client.state is State.REQUESTING)
    nak = Dhcp4Message.parse(world.server.reply(world.server.seen[0], "nak", "0.0.0.0"))
    options = dict(nak.options) | {54: b"\x0a\0\0\x09"}
    forged = Dhcp4Message(2, nak.xid, MAC, options=options)
    assert world.client.received(forged.emit(), world.sim.now_ns) == []
    assert world.client.state is State.REQUESTING


def test_reboot_asks_for_the_old_address_without_a_server_identifier() -> None:
    world = make()
    world.start(A51)
    assert world.sim.run(10, lambda: world.bound)
    assert kinds(world) == [3]
    assert option(world.server.seen[0], "server_id") is None
    assert option(world.server.seen[0], "requested_addr") == "10.0.0.51"


def test_reboot_on_another_network_is_refused_and_discovers() -> None:
    world = make()
    world.start(0xC0A80005)
    assert world.sim.run(10, lambda: world.bound)
    assert kinds(world) == [3, 1, 3]
    assert world.client.lease is not None
    assert world.client.lease.address == A50


def test_reboot_without_answer_discovers() -> None:
    world = make(server=Server(silent=True))
    world.start(A51)
    world.sim.run(30)
    assert kinds(world)[:3] == [3, 3, 1]


def test_release_is_unicast_and_carries_the_server() -> None:
    world = bound()
    world.do(world.client.stop(world.sim.now_ns))
    world.sim.run(1)
    assert world.server.released == ["10.0.0.50"]
    _, send = world.sent[-1]
    assert (send.saddr, send.daddr) == (A50, SERVER_ADDR)
    assert [r.reason for r in world.removed] == ["released"]
    assert world.client.state is State.STOPPED
    before = len(world.sent)
    world.sim.run(10_000)
    assert len(world.sent) == before


def test_inform_asks_for_parameters_only() -> None:
    world = make()
    world.do(world.client.inform(A60, 0))
    world.sim.run(1)
    assert kinds(world) == [MessageType.INFORM]
    assert world.server.seen[0].ciaddr == "10.0.0.60"
    lease = world.configured[0].lease
    assert (lease.address, lease.expires_ns) == (A60, None)
    assert lease.dns == (0x0A000001, 0x0A000002)


def test_infinite_lease_has_no_timers() -> None:
    world = bound(Server(lease_s=0xFFFFFFFF))
    world.sim.run(10 * 365 * 86400)
    assert len(world.sent) == 2
    assert world.bound


# --- the check of the address (RFC 5227) ----------------------------------------------------------


def test_address_is_probed_thrice_and_announced_twice() -> None:
    world = make(probes=3)
    world.start()
    assert world.sim.run(30, lambda: world.bound)
    world.sim.run(10)
    probes = [at for at, arp in world.arps if not arp.announce]
    announces = [at for at, arp in world.arps if arp.announce]
    assert len(probes) == 3
    assert len(announces) == 2
    assert all(SECOND <= b - a <= 2 * SECOND for a, b in itertools.pairwise(probes))
    assert announces[0] - probes[-1] == 2 * SECOND
    assert announces[1] - announces[0] == 2 * SECOND


@pytest.mark.parametrize(("sender", "target"), [(A50, 0x0A000009), (0, A50)])
def test_address_in_use_is_declined_and_another_asked_for_after_ten_seconds(
    sender: int, target: int
) -> None:
    world = make(probes=3)
    world.start()
    world.sim.run(30, lambda: world.client.state is State.CHECKING)
    at = world.sim.now_ns
    world.do(world.client.arp_received(OTHER, sender, target, at))
    assert world.client.state is State.HELD_OFF
    assert world.sim.run(30, lambda: world.bound)
    assert world.server.declined == ["10.0.0.50"]
    decline = world.server.seen[2]
    assert option(decline, "server_id") == SERVER
    assert option(decline, "param_req_list") is None  # RFC 2131 table 5
    assert decline.ciaddr == "0.0.0.0"
    assert world.sent[3][0] - at == 10 * SECOND
    assert world.configured[0].lease.address == A51
    assert world.removed == []


def test_our_own_arp_is_no_conflict() -> None:
    world = make(probes=3)
    world.start()
    world.sim.run(30, lambda: world.client.state is State.CHECKING)
    assert world.client.arp_received(MAC, 0, A50, world.sim.now_ns) == []
    assert world.sim.run(30, lambda: world.bound)


def test_address_is_defended_once_in_ten_seconds_then_given_up() -> None:
    world = bound()
    for seconds, declined in ((0, 0), (11, 0), (5, 1)):
        world.sim.run(seconds)
        world.do(world.client.arp_received(OTHER, A50, 0x0A000009, world.sim.now_ns))
        world.sim.run(0.1)
        assert len(world.server.declined) == declined
    assert [arp.announce for _, arp in world.arps] == [True, True]
    assert len(world.removed) == 1
    assert world.sim.run(30, lambda: world.bound)


# --- answers that are wrong -----------------------------------------------------------------------


def replied(world: Client, **change: Any) -> Dhcp4Message:
    """The OFFER to the first DISCOVER, changed."""
    offer = Dhcp4Message.parse(world.server.reply(world.server.seen[0], "offer", "10.0.0.50"))
    fields = {name: getattr(offer, name) for name in Dhcp4Message.__slots__}
    options = dict(offer.options) | change.pop("options", {})
    options = {code: value for code, value in options.items() if value is not None}
    return Dhcp4Message(**(fields | {"options": options} | change))


@pytest.mark.parametrize(
    "change",
    [
        {"op": 1},
        {"xid": 1},
        {"chaddr": OTHER},
        {"yiaddr": 0},
        {"yiaddr": 0xE0000001},
        {"yiaddr": 0x7F000001},
        {"yiaddr": 0xFFFFFFFF},
        {"options": {54: None}},
        {"options": {54: b"\1\2"}},
        {"options": {51: None}},
        {"options": {51: b"\0\0\0\0"}},
        {"options": {53: None}},
        {"options": {53: b"\5"}},
        {"options": {53: b"\2\2"}},
    ],
    ids=str,
)
def test_offer_that_is_none_is_ignored(change: dict[str, Any]) -> None:
    world = make(server=Server(silent=True))
    world.start()
    world.sim.run(0.1)
    assert world.client.received(replied(world, **change).emit(), world.sim.now_ns) == []
    assert world.client.state is State.SELECTING
    assert world.client.received(replied(world).emit(), world.sim.now_ns) != []


def test_times_and_masks_that_cannot_be_get_the_usual_ones() -> None:
    server = Server(extra=[("renewal_time", 3000), ("rebinding_time", 9999), ("interface-mtu", 20)])
    world = bound(server)
    lease = world.client.lease
    assert lease is not None
    begin = world.sent[1][0]
    assert (lease.t1_ns, lease.t2_ns) == (begin + 3000 * SECOND, begin + 3150 * SECOND)
    assert lease.mtu == 0


def test_classless_routes_replace_the_router() -> None:
    # RFC 3442's own examples of destination descriptors
    value = bytes.fromhex("08 0a 0a000001  18 0a0000 00000000  00 0a0000fd".replace(" ", ""))
    world = bound(Server(extra=[(121, value)]))
    assert world.client.lease is not None
    assert world.client.lease.routes == (
        (0x0A000000, 8, 0x0A000001),
        (0x0A000000, 24, 0),
        (0, 0, 0x0A0000FD),
    )


# --- a bad wire, and the machine as a whole -------------------------------------------------------


@pytest.mark.parametrize("seed", range(8))
def test_a_wire_that_loses_doubles_and_reorders(seed: int) -> None:
    sim = Simulation(seed=seed, loss=0.4, duplicate=0.3, jitter_s=3)
    world = make(sim, Server(lease_s=1200), probes=3)
    world.start()
    assert sim.run(2000, lambda: world.bound)
    sim.run(20_000)
    # never an address beyond its time, never two
    assert len(world.removed) <= len(world.configured)
    assert len(world.configured) > 10
    assert len(world.sent) < 500


def test_every_pair_of_state_and_event_is_in_the_table_or_ignored() -> None:
    assert set(TRANSITIONS) == set(State)
    reachable = {State.STOPPED} | {s for row in TRANSITIONS.values() for s in row.values()}
    assert reachable == set(State)
    for state, row in TRANSITIONS.items():
        for event in Event:
            client = Dhcp4Client(mac=MAC, random=Random(1))
            client.state = state
            assert client._step(event) is (event in row)
            assert client.state is row.get(event, state)
    for state in HAS_ADDRESS:
        assert {Event.EXPIRED, Event.CONFLICT, Event.STOP} <= set(TRANSITIONS[state])


EVENTS = st.one_of(
    st.tuples(st.just("data"), st.binary(max_size=400)),
    st.tuples(st.just("offer"), st.dictionaries(st.integers(1, 254), st.binary(max_size=20))),
    st.tuples(st.just("ack"), st.dictionaries(st.integers(1, 254), st.binary(max_size=20))),
    st.tuples(st.just("nak"), st.just({})),
    st.tuples(st.just("arp"), st.sampled_from([0, A50, A51])),
    st.tuples(st.just("time"), st.integers(0, 10_000)),
    st.tuples(st.just("stop"), st.none()),
    st.tuples(st.just("start"), st.sampled_from([0, A50])),
)


@settings(max_examples=examples(150), deadline=None)
@given(st.lists(EVENTS, max_size=30))
def test_no_order_of_events_breaks_the_client(events: list[tuple[str, Any]]) -> None:
    client = Dhcp4Client(mac=MAC, random=Random(1))
    now, timer, xid = 0, -1, 0
    types = {"offer": 2, "ack": 5, "nak": 6}
    for what, value in events:
        actions: list[Any] = []
        if what in types:
            options = {53: bytes((types[what],)), 54: b"\x0a\0\0\1", 51: b"\0\0\x0e\x10"} | value
            options[53] = bytes((types[what],))
            data = Dhcp4Message(2, xid, MAC, yiaddr=A50, options=options).emit()
            actions = client.received(data, now)
        elif what == "data":
            actions = client.received(value, now)
        elif what == "arp":
            actions = client.arp_received(OTHER, value, A50, now)
        elif what == "time":
            now = max(now, timer) if value % 2 else now + value * SECOND
            actions = client.timer(now)
        elif what == "stop":
            actions = client.stop(now)
        else:
            actions = client.start(now, value)
        for action in actions:
            if isinstance(action, SetTimer):
                timer = action.at_ns
                assert timer == -1 or timer > now
            elif isinstance(action, Send):
                xid = Dhcp4Message.parse(action.data).xid
        if client.state in (State.SELECTING, State.REQUESTING, State.RENEWING, State.CHECKING):
            assert timer > now  # something will happen
