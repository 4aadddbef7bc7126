"""The DHCPv4 server's core: rules of RFC 2131 4.3, many clients, hostile bytes."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from fastpath.errors import ArgumentError
from stack.clients.dhcp4_server import Dhcp4Server, Dhcp4ServerConfig, Reply, Subnet
from stack.clients.dhcp4_wire import BOOTREQUEST, Dhcp4Message, MessageType, Option

SECOND = 1_000_000_000
NET = 0x0A000000
SERVER = NET + 1
MACS = [bytes((2, 0, 0, 0, 0, n)) for n in range(8)]
SUBNET = Subnet(NET + 10, NET + 13, 24, by_mac={MACS[7]: NET + 12})


def server(**kw: int) -> Dhcp4Server:
    return Dhcp4Server(Dhcp4ServerConfig(SERVER, (SUBNET,), **kw))


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
    return Dhcp4Message(
        BOOTREQUEST, 7, mac, ciaddr=ciaddr, giaddr=giaddr, options=options
    ).emit()  # fmt: skip


def one(replies: list[Reply]) -> Dhcp4Message:
    (reply,) = replies
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
    core = Dhcp4Server(Dhcp4ServerConfig(SERVER, (SUBNET, far)))
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


def test_wrong_configuration_is_named() -> None:
    with pytest.raises(ArgumentError, match="no host"):
        Subnet(NET, NET + 5, 24)
    with pytest.raises(ArgumentError, match="two clients"):
        replace(SUBNET, by_client_id={b"x": NET + 12})
    with pytest.raises(ArgumentError, match="overlap"):
        Dhcp4ServerConfig(SERVER, (SUBNET, SUBNET))
    with pytest.raises(ArgumentError, match="lease_s"):
        server(lease_s=0)


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
            self.offers[n] = Dhcp4Message.parse(reply.data).yiaddr

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
            answer = Dhcp4Message.parse(reply.data)
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
