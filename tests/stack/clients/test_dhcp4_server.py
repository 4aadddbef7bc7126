"""The DHCPv4 server's core: rules of RFC 2131 4.3, many clients, hostile bytes."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from fastpath.errors import ArgumentError
from stack.clients.action import NEVER, SetTimer
from stack.clients.dhcp4_pool import Dhcp4ServerConfig, Subnet
from stack.clients.dhcp4_server import MAX_PINGS, Action, Dhcp4Server, Ping, Reply
from stack.clients.dhcp4_wire import BOOTREQUEST, Dhcp4Message, MessageType, Option

SECOND = 1_000_000_000
NET = 0x0A000000
SERVER = NET + 1
MACS = [bytes((2, 0, 0, 0, 0, n)) for n in range(8)]
SUBNET = Subnet(NET + 10, NET + 13, 24, by_mac={MACS[7]: NET + 12})


def server(**kw: Any) -> Dhcp4Server:
    return Dhcp4Server(Dhcp4ServerConfig(SERVER, (SUBNET,), **{"ping_ns": 0} | kw))


def ask(
    type_: MessageType,
    mac: bytes = MACS[0],
    *,
    server: int = 0,
    wanted: int = 0,
    ciaddr: int = 0,
    giaddr: int = 0,
    more: dict[int, bytes] | None = None,
) -> bytes:
    options: dict[int, bytes] = {Option.MESSAGE_TYPE: bytes((type_,))}
    if server:
        options[Option.SERVER_ID] = server.to_bytes(4, "big")
    if wanted:
        options[Option.REQUESTED_ADDRESS] = wanted.to_bytes(4, "big")
    options |= more or {}
    return Dhcp4Message(BOOTREQUEST, 7, mac, ciaddr=ciaddr, giaddr=giaddr, options=options).emit()


def one(actions: list[Action]) -> Dhcp4Message:
    (reply,) = actions
    assert isinstance(reply, Reply)
    return Dhcp4Message.parse(reply.data)


def lease(core: Dhcp4Server, mac: bytes, now: int = 0) -> int:
    offer = one(core.received(ask(MessageType.DISCOVER, mac), now))
    wanted = offer.yiaddr
    ack = one(core.received(ask(MessageType.REQUEST, mac, server=SERVER, wanted=wanted), now))
    assert (offer.type, ack.type, ack.yiaddr) == (MessageType.OFFER, MessageType.ACK, wanted)
    return wanted


def test_lease_has_times_and_is_renewed_to_the_clients_address() -> None:
    core = server(lease_s=800)
    address = lease(core, MACS[0])
    (reply,) = core.received(ask(MessageType.REQUEST, ciaddr=address), 500 * SECOND)
    ack = Dhcp4Message.parse(reply.data)
    assert (reply.daddr, reply.dport, ack.type) == (address, 68, MessageType.ACK)
    assert [ack.number(code, 4) for code in (51, 58, 59)] == [800, 400, 700]
    assert core.leases(1299 * SECOND) == {address: b"\x01" + MACS[0]}
    assert core.leases(1300 * SECOND) == {}


def test_reserved_address_is_its_clients_alone() -> None:
    core = server()
    assert {lease(core, mac) for mac in MACS[:3]} == {NET + 10, NET + 11, NET + 13}
    assert core.received(ask(MessageType.DISCOVER, MACS[3], wanted=NET + 12), 0) == []
    assert lease(core, MACS[7]) == NET + 12
    # the same card with another client id must not share it
    other = ask(MessageType.DISCOVER, MACS[7], more={Option.CLIENT_ID: b"\x00two"})
    assert core.received(other, 0) == []


def test_init_reboot_is_confirmed_refused_or_left_to_another_server() -> None:
    core = server()
    address = lease(core, MACS[0])
    assert one(core.received(ask(MessageType.REQUEST, wanted=address), 0)).type == MessageType.ACK
    (nak,) = core.received(ask(MessageType.REQUEST, MACS[1], wanted=0x0B000001), 0)
    assert Dhcp4Message.parse(nak.data).type == MessageType.NAK
    assert nak.daddr == 0xFFFFFFFF
    assert core.received(ask(MessageType.REQUEST, MACS[1], wanted=NET + 11), 0) == []


def test_request_for_another_server_frees_the_offer() -> None:
    core = server()
    address = one(core.received(ask(MessageType.DISCOVER), 0)).yiaddr
    assert core.received(ask(MessageType.REQUEST, server=SERVER + 1, wanted=address), 1) == []
    got = one(core.received(ask(MessageType.DISCOVER, MACS[1], wanted=address), 2))
    assert got.yiaddr == address


def test_declined_address_rests_and_a_released_one_is_free() -> None:
    core = server(decline_s=100)
    address = lease(core, MACS[0])
    core.received(ask(MessageType.DECLINE, server=SERVER, wanted=address), 0)
    assert core.leases(0) == {}
    taken = [lease(core, mac) for mac in MACS[:2]]
    assert address not in taken
    assert core.received(ask(MessageType.DISCOVER, MACS[2]), 99 * SECOND) == []
    assert one(core.received(ask(MessageType.DISCOVER, MACS[2]), 100 * SECOND)).yiaddr == address
    core.received(ask(MessageType.RELEASE, MACS[1], server=SERVER, ciaddr=taken[1]), 101 * SECOND)
    got = one(core.received(ask(MessageType.DISCOVER, MACS[3]), 102 * SECOND))
    assert got.yiaddr == taken[1]


def test_relayed_client_gets_its_links_subnet_and_the_agents_option() -> None:
    far = Subnet(0x0A010002, 0x0A010009, 24)
    core = Dhcp4Server(Dhcp4ServerConfig(SERVER, (SUBNET, far), ping_ns=0))
    more = {82: b"\x01\x02ab", Option.PARAMETER_LIST: b"\x01\x03"}
    (reply,) = core.received(ask(MessageType.DISCOVER, giaddr=0x0A010001, more=more), 0)
    offer = Dhcp4Message.parse(reply.data)
    assert (reply.daddr, reply.dport) == (0x0A010001, 67)
    assert offer.yiaddr == far.first
    assert list(offer.options.items())[-1] == (82, b"\x01\x02ab")
    assert core.received(ask(MessageType.DISCOVER, giaddr=0x0B000001), 0) == []


def test_inform_gets_parameters_without_a_lease() -> None:
    (reply,) = server().received(ask(MessageType.INFORM, ciaddr=NET + 99), 0)
    ack = Dhcp4Message.parse(reply.data)
    assert (ack.type, ack.yiaddr, reply.daddr) == (MessageType.ACK, 0, NET + 99)
    assert Option.LEASE_TIME not in ack.options


def test_relayed_client_renews_past_its_agent() -> None:
    far = Subnet(0x0A010002, 0x0A010009, 24)
    core = Dhcp4Server(Dhcp4ServerConfig(SERVER, (SUBNET, far), ping_ns=0))
    agent = 0x0A010001
    address = one(core.received(ask(MessageType.DISCOVER, giaddr=agent), 0)).yiaddr
    taken = ask(MessageType.REQUEST, server=SERVER, wanted=address, giaddr=agent)
    assert one(core.received(taken, 0)).type == MessageType.ACK
    (reply,) = core.received(ask(MessageType.REQUEST, ciaddr=address), SECOND)
    assert isinstance(reply, Reply)
    assert (Dhcp4Message.parse(reply.data).type, reply.daddr) == (MessageType.ACK, address)
    core.received(ask(MessageType.RELEASE, server=SERVER, ciaddr=address), 2 * SECOND)
    assert core.leases(2 * SECOND) == {}
    # it has moved to a link of another agent: refused, by way of that agent, which broadcasts
    near = ask(MessageType.REQUEST, wanted=address, giaddr=NET + 2)
    (reply,) = core.received(near, 3 * SECOND)
    assert isinstance(reply, Reply)
    nak = Dhcp4Message.parse(reply.data)
    assert (nak.type, nak.flags, reply.daddr) == (MessageType.NAK, 0x8000, NET + 2)


def test_client_without_the_broadcast_flag_gets_a_unicast_to_its_mac() -> None:
    core = server()
    for flags, mac in ((0, MACS[0]), (0x8000, b"")):
        query = replace(Dhcp4Message.parse(ask(MessageType.DISCOVER)), flags=flags)
        (reply,) = core.received(query.emit(), 0)
        assert isinstance(reply, Reply)
        assert (reply.mac, reply.daddr) == (mac, NET + 10 if mac else 0xFFFFFFFF)
        assert Dhcp4Message.parse(reply.data).flags == flags


def test_client_may_ask_for_a_time_within_the_limits() -> None:
    def given(asked: int, **limits: int) -> int | None:
        more = {Option.LEASE_TIME: asked.to_bytes(4, "big")}
        return one(server(lease_s=600, **limits).received(ask(MessageType.DISCOVER, more=more), 0)
                   ).number(Option.LEASE_TIME, 4)  # fmt: skip

    assert [given(n) for n in (1, 300, 601, 0xFFFFFFFF)] == [120, 300, 600, 600]
    assert given(0xFFFFFFFF, max_lease_s=0xFFFFFFFF) == 0xFFFFFFFF
    assert given(5, min_lease_s=3) == 5


def test_address_is_pinged_before_it_is_offered_to_a_new_client() -> None:
    core = server(ping_ns=SECOND, decline_s=100)
    assert core.received(ask(MessageType.DISCOVER), 0) == [Ping(NET + 10), SetTimer(SECOND)]
    assert core.received(ask(MessageType.DISCOVER), SECOND // 2) == []  # it is asked already
    assert core.echo_received(NET + 99, SECOND // 2) == []
    actions = core.echo_received(NET + 10, SECOND // 2)
    assert actions == [Ping(NET + 11), SetTimer(SECOND * 3 // 2)]
    assert core.timer(SECOND) == [SetTimer(SECOND * 3 // 2)]
    reply, timer = core.timer(SECOND * 3 // 2)
    assert (one([reply]).yiaddr, timer) == (NET + 11, SetTimer(NEVER))
    # the client is known now: its offer needs no ping; the address in use rests
    assert one(core.received(ask(MessageType.DISCOVER), 2 * SECOND)).yiaddr == NET + 11
    assert core.received(ask(MessageType.DISCOVER, MACS[1]), 3 * SECOND)[0] == Ping(NET + 13)


def test_flood_of_clients_takes_no_more_than_the_pool_and_not_for_long() -> None:
    core = server(ping_ns=SECOND, offer_s=10)
    for n in range(5000):
        core.received(ask(MessageType.DISCOVER, n.to_bytes(6, "big")), n * 1000)
    (pool,) = core._pools
    assert len(pool.bindings) == len(pool.clients) == len(core._probed) == 3
    assert len(pool._ends) <= 100
    assert core.messages["no address left"] == 4997
    core.timer(5 * SECOND)
    assert lease(core_without_ping(core), MACS[0], 11 * SECOND) == NET + 10


def core_without_ping(core: Dhcp4Server) -> Dhcp4Server:
    core.config = replace(core.config, ping_ns=0)
    return core


def test_many_pings_at_once_give_way_to_offers() -> None:
    wide = Subnet(NET + 0x100, NET + 0xFFFF - 1, 16)
    core = Dhcp4Server(Dhcp4ServerConfig(SERVER, (wide,)))
    kinds = [
        type(core.received(ask(MessageType.DISCOVER, n.to_bytes(6, "big")), 0)[0])
        for n in range(MAX_PINGS + 5)
    ]
    assert kinds == [Ping] * MAX_PINGS + [Reply] * 5


def test_unknown_client_is_refused_by_an_authoritative_server_alone() -> None:
    stale = ask(MessageType.REQUEST, MACS[1], wanted=NET + 11)
    assert server().received(stale, 0) == []
    assert one(server(authoritative=True).received(stale, 0)).type == MessageType.NAK


def test_options_come_in_the_clients_order_and_go_where_there_is_room() -> None:
    options = {
        Option.ROUTER: bytes(4), Option.DNS_SERVERS: bytes(4), Option.DOMAIN_NAME: b"d" * 10,
        Option.DOMAIN_SEARCH: b"s" * 120, 43: b"v" * 255, 224: b"x" * 40, 225: b"y" * 250,
    }  # fmt: skip
    core = Dhcp4Server(Dhcp4ServerConfig(SERVER, (replace(SUBNET, options=options),), ping_ns=0))
    wish = bytes((43, 119, 15, 3, 224, 225, 6))
    more = {Option.PARAMETER_LIST: wish, 82: b"\x01\x02ab"}
    query = ask(MessageType.DISCOVER, giaddr=NET + 2, more=more)
    (reply,) = core.received(query, 0)
    assert isinstance(reply, Reply)
    assert len(reply.data) <= 576 - 28
    offer = Dhcp4Message.parse(reply.data)
    asked = [code for code in offer.options if code in wish]
    assert sorted(asked) == sorted(set(wish) - {225})  # what fits nowhere is left out
    assert offer.options[Option.OVERLOAD] == b"\x03"
    assert reply.data.rstrip(b"\0").endswith(b"\x52\x04\x01\x02ab\xff")  # RFC 3046 2.1
    # a client that takes more gets all of it, in its order
    more[Option.MAX_MESSAGE_SIZE] = (1500).to_bytes(2, "big")
    query = ask(MessageType.DISCOVER, giaddr=NET + 2, more=more)
    offer = one(core.received(query, 0))
    assert [code for code in offer.options if code in wish] == list(wish)
    assert Option.OVERLOAD not in offer.options


def test_scapy_reads_the_overloaded_answer() -> None:
    scapy = pytest.importorskip("scapy.layers.dhcp")
    core = Dhcp4Server(
        Dhcp4ServerConfig(
            SERVER, (replace(SUBNET, options={6: bytes(8), 43: b"v" * 255}),), ping_ns=0
        )
    )
    more = {Option.CLIENT_ID: b"\x00me"}
    (reply,) = core.received(ask(MessageType.DISCOVER, more=more), 0)
    assert isinstance(reply, Reply)
    bootp = scapy.BOOTP(reply.data)
    told = dict(o[:2] for o in bootp[scapy.DHCP].options if isinstance(o, tuple))
    assert (told["message-type"], told["server_id"], told["lease_time"]) == (2, "10.0.0.1", 3600)
    assert (bootp.yiaddr, told["subnet_mask"]) == ("10.0.0.10", "255.255.255.0")
    assert told["client_id"] == b"\x00me"  # RFC 6842
    assert told["vendor_specific"] == b"v" * 255


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: Subnet(NET, NET + 5, 24), "first=10.0.0.0 is no host of 10.0.0.0/24"),
        (lambda: Subnet(NET + 5, NET + 256 + 5, 24), "last=10.0.1.5 is no host"),
        (lambda: Subnet(NET + 9, NET + 5, 24), "above last=10.0.0.5; swap"),
        (lambda: replace(SUBNET, prefixlen=31), "prefixlen=31"),
        (lambda: replace(SUBNET, by_client_id={b"x": NET + 12}), "two clients"),
        (lambda: replace(SUBNET, options={0: b""}), "option=0"),
        (lambda: replace(SUBNET, options={255: b""}), "option=255"),
        (lambda: replace(SUBNET, options={51: bytes(4)}), "option 51 is set by the server"),
        (lambda: replace(SUBNET, options={43: b"x" * 1025}), "1024 is the most"),
        (lambda: Dhcp4ServerConfig(SERVER, (SUBNET, SUBNET)), "overlap"),
        (lambda: Dhcp4ServerConfig(0x0B000001, (SUBNET,)), "11.0.0.1 is in none.*relayed=True"),
        (lambda: Dhcp4ServerConfig(NET, (SUBNET,)), "no host of its /24"),
        (lambda: Dhcp4ServerConfig(0x7F000001, (SUBNET,)), "give a host's address"),
        (lambda: server(lease_s=0), "lease_s=0"),
        (lambda: server(max_lease_s=5), "max_lease_s=5"),
    ],
)
def test_wrong_configuration_is_named(make: Any, text: str) -> None:
    with pytest.raises(ArgumentError, match=text):
        make()


def test_server_of_far_subnets_alone() -> None:
    config = Dhcp4ServerConfig(0x0B000001, (SUBNET,), relayed=True)
    core = Dhcp4Server(config)
    assert core.received(ask(MessageType.DISCOVER), 0) == []
    assert core.received(ask(MessageType.DISCOVER, giaddr=NET + 1), 0)[0] == Ping(NET + 10)
    assert core.messages == {"ignored": 1, "DISCOVER": 1}


@given(st.binary(max_size=400), st.binary(max_size=60))
def test_any_bytes_are_taken(data: bytes, options: bytes) -> None:
    core = server()
    core.received(data, 0)
    for type_ in MessageType:
        core.received(ask(type_)[:240] + bytes((53, 1, type_)) + options + b"\xff", 0)


class Clients(RuleBasedStateMachine):
    """What clients were told they have; two must never have the same address at one time."""

    def __init__(self) -> None:
        super().__init__()
        self.core = server(lease_s=100, offer_s=10, decline_s=50)
        self.now = 0
        self.offers: dict[int, int] = {}
        self.held: dict[int, tuple[int, int]] = {}  # client: address, end

    @rule(seconds=st.integers(0, 60))
    def wait(self, seconds: int) -> None:
        self.now += seconds * SECOND

    @rule(n=st.integers(0, 7), wanted=st.integers(NET, NET + 16))
    def discover(self, n: int, wanted: int) -> None:
        for reply in self.core.received(
            ask(MessageType.DISCOVER, MACS[n], wanted=wanted), self.now
        ):
            self.offers[n] = one([reply]).yiaddr

    @precondition(lambda self: self.offers)
    @rule(data=st.data())
    def select(self, data: st.DataObject) -> None:
        n = data.draw(st.sampled_from(sorted(self.offers)))
        self._request(n, ask(MessageType.REQUEST, MACS[n], server=SERVER, wanted=self.offers[n]))

    @rule(n=st.integers(0, 7), address=st.integers(NET, NET + 16), renew=st.booleans())
    def request(self, n: int, address: int, renew: bool) -> None:
        where = {"ciaddr": address} if renew else {"wanted": address}
        self._request(n, ask(MessageType.REQUEST, MACS[n], **where))

    @rule(n=st.integers(0, 7), address=st.integers(NET, NET + 16), declines=st.booleans())
    def give_back(self, n: int, address: int, declines: bool) -> None:
        if declines:
            data = ask(MessageType.DECLINE, MACS[n], server=SERVER, wanted=address)
        else:
            data = ask(MessageType.RELEASE, MACS[n], server=SERVER, ciaddr=address)
        assert self.core.received(data, self.now) == []
        if self.held.get(n, (0, 0))[0] == address:
            del self.held[n]

    def _request(self, n: int, data: bytes) -> None:
        for reply in self.core.received(data, self.now):
            answer = one([reply])
            if answer.type == MessageType.ACK:
                self.held[n] = answer.yiaddr, self.now + 100 * SECOND
            else:
                self.held.pop(n, None)

    @invariant()
    def no_address_twice(self) -> None:
        live = [address for address, end in self.held.values() if self.now < end]
        assert len(live) == len(set(live))
        assert set(live) <= set(self.core.leases(self.now))
        assert SERVER not in live
        assert all(n == 7 for n, (a, end) in self.held.items() if a == NET + 12 and end > self.now)


TestClients = Clients.TestCase
TestClients.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
