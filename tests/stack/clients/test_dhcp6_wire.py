"""DHCPv6 messages: read, written, against scapy and tshark, and hostile bytes."""

from __future__ import annotations

import contextlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scapy.layers import dhcp6 as s

from stack.clients.action import MessageError
from stack.clients.dhcp6_lease import Lease6, acceptable, ia_of, information, merged
from stack.clients.dhcp6_wire import (
    Dhcp6Message,
    IaAddr,
    IaNa,
    addresses_of,
    duid_en,
    duid_ll,
    duid_llt,
    duid_uuid,
    find,
    status_of,
)
from tests.stack.clients.dissect import tshark
from tests.stack.clients.test_dhcp6 import A50, bound, make

U32 = st.integers(0, 0xFFFFFFFF)
U128 = st.integers(0, (1 << 128) - 1)
OPTIONS = st.lists(st.tuples(st.integers(0, 0xFFFF), st.binary(max_size=60)), max_size=5).map(tuple)
MESSAGES = st.builds(
    Dhcp6Message,
    st.integers(0, 255).filter(lambda t: t not in (12, 13)),
    st.integers(0, 0xFFFFFF),
    OPTIONS,
)


@given(MESSAGES)
def test_round_trip(message: Dhcp6Message) -> None:
    assert Dhcp6Message.parse(message.emit()) == message


@given(st.builds(IaNa, U32, U32, U32, OPTIONS), st.builds(IaAddr, U128, U32, U32, OPTIONS))
def test_round_trip_of_associations(ia: IaNa, address: IaAddr) -> None:
    assert IaNa.parse(ia.emit()) == ia
    assert IaAddr.parse(address.emit()) == address


def test_reads_what_scapy_writes() -> None:
    made = (
        s.DHCP6_Reply(trid=0xABCDEF)
        / s.DHCP6OptStatusCode(statuscode=4, statusmsg="away")
        / s.DHCP6OptIA_NA(
            iaid=9,
            T1=5,
            T2=8,
            ianaopts=[s.DHCP6OptIAAddress(addr="2001:db8::50", preflft=10, validlft=20)],
        )
        / s.DHCP6OptDNSServers(dnsservers=["2001:db8::1", "2001:db8::2"])
    )
    message = Dhcp6Message.parse(bytes(made))
    assert (message.type, message.xid) == (7, 0xABCDEF)
    assert status_of(message.options) == (4, "away")
    ia = ia_of(message, 9)
    assert ia is not None
    assert (ia.t1_s, ia.t2_s) == (5, 8)
    assert acceptable(ia) == [IaAddr(A50, 10, 20)]
    assert len(addresses_of(find(message.options, 23))) == 2


def test_tshark_reads_all_that_a_client_sends(tmp_path: Path) -> None:
    world = bound()
    world.server.silent = True
    world.sim.run(481)  # RENEW, REBIND
    world.do(world.client.link_changed(world.sim.now_ns))  # CONFIRM
    world.sim.run(1)
    world.server.silent = False
    world.sim.run(20)
    world.do(world.client.declined((A50,), world.sim.now_ns))
    world.sim.run(20, lambda: world.bound)
    world.do(world.client.stop(world.sim.now_ns))
    world.sim.run(20)
    other = make(world.server, rapid=True)
    other.start()
    other.sim.run(5)
    stateless = make(world.server)
    stateless.start(stateless=True)
    stateless.sim.run(5)
    sent = [*world.sent, *other.sent, *stateless.sent]
    rows = tshark(
        tmp_path / "dhcp6.pcap",
        [send.data for _, send in sent],
        546,
        547,
        ["dhcpv6.msgtype", "dhcpv6.iaaddr.ip", "dhcpv6.duidll.link_layer_addr"],
        v6=True,
    )
    assert {row[0] for row in rows} == {"1", "3", "4", "5", "6", "8", "9", "11"}
    assert all(row[2].startswith("52:54:00:12:34:56") for row in rows)
    assert all(row[1] == "" for row in rows if row[0] in ("1", "11"))
    assert all(row[1].startswith("2001:db8::5") for row in rows if row[0] not in ("1", "11"))


def test_duids_are_what_scapy_builds() -> None:
    mac = b"\2\0\0\0\0\1"
    assert duid_ll(mac) == bytes(s.DUID_LL(lladdr="02:00:00:00:00:01"))
    assert duid_llt(mac, 946_684_800 + 77) == bytes(
        s.DUID_LLT(lladdr="02:00:00:00:00:01", timeval=77)
    )
    assert duid_en(343, b"abc") == bytes(s.DUID_EN(enterprisenum=343, id=b"abc"))
    uuid = bytes(range(16))
    assert duid_uuid(uuid) == bytes(s.DUID_UUID(uuid="00010203-0405-0607-0809-0a0b0c0d0e0f"))


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (b"\7\0\0", "3 bytes are no DHCPv6 message"),
        (b"\x0c\0\0\0", "relay agent"),
        (b"\7\0\0\1\0\1\0", "3 bytes at 0 are no option"),
        (b"\7\0\0\1\0\1\0\2\0", "option 1 ends 1 bytes too late"),
    ],
)
def test_what_is_no_message_says_why(data: bytes, text: str) -> None:
    with pytest.raises(MessageError, match=text):
        Dhcp6Message.parse(data)


@pytest.mark.parametrize("size", [0, 11])
def test_short_associations(size: int) -> None:
    with pytest.raises(MessageError, match="IA_NA"):
        IaNa.parse(bytes(size))
    with pytest.raises(MessageError, match="IA Address"):
        IaAddr.parse(bytes(2 * size))


@pytest.mark.fuzz
@given(st.binary(max_size=300), OPTIONS, st.binary(max_size=60))
def test_hostile_bytes_raise_nothing_else(data: bytes, options: tuple, inner: bytes) -> None:  # type: ignore[type-arg]
    ia = (3, b"\0\0\0\7" + inner)
    for raw in (data, Dhcp6Message(7, 1, (*options, ia)).emit()):
        with contextlib.suppress(MessageError):
            message = Dhcp6Message.parse(raw)
            status_of(message.options)
            found = ia_of(message, 7)
            information(message, Lease6())
            if found is not None:
                merged(Lease6(), message, found, 0)
