"""DHCPv4 messages: read, written, against scapy and tshark, and hostile bytes."""

from __future__ import annotations

import contextlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scapy.layers.dhcp import BOOTP, DHCP

from stack.clients.action import MessageError
from stack.clients.dhcp4_lease import lease_of, usable
from stack.clients.dhcp4_wire import (
    Dhcp4Message,
    MessageType,
    Option,
    address_list,
    classless_routes,
)
from tests.stack.clients.dissect import tshark
from tests.stack.clients.test_dhcp4 import bound, make

U32 = st.integers(0, 0xFFFFFFFF)
OPTIONS = st.dictionaries(
    st.integers(1, 254).filter(lambda code: code != Option.OVERLOAD),
    st.binary(max_size=600),
    max_size=6,
)
MESSAGES = st.builds(
    Dhcp4Message,
    op=st.sampled_from([1, 2]),
    xid=U32,
    chaddr=st.binary(max_size=16),
    htype=st.integers(0, 255),
    hops=st.integers(0, 255),
    secs=st.integers(0, 0xFFFF),
    flags=st.integers(0, 0xFFFF),
    ciaddr=U32,
    yiaddr=U32,
    siaddr=U32,
    giaddr=U32,
    sname=st.binary(max_size=64).map(lambda b: b.partition(b"\0")[0]),
    file=st.binary(max_size=128).map(lambda b: b.partition(b"\0")[0]),
    options=OPTIONS,
)


@given(MESSAGES)
def test_round_trip(message: Dhcp4Message) -> None:
    data = message.emit()
    assert len(data) >= 300
    assert Dhcp4Message.parse(data) == message


def test_reads_what_scapy_writes() -> None:
    made = BOOTP(op=2, xid=7, chaddr=b"\2\0\0\0\0\1", yiaddr="10.0.0.9", siaddr="10.0.0.1") / DHCP(
        options=[
            ("message-type", "ack"),
            ("server_id", "10.0.0.1"),
            ("lease_time", 600),
            ("subnet_mask", "255.255.254.0"),
            ("name_server", "1.1.1.1", "8.8.8.8"),
            "end",
        ]
    )
    message = Dhcp4Message.parse(bytes(made))
    assert (message.type, message.yiaddr) == (MessageType.ACK, 0x0A000009)
    assert message.chaddr[:6] == b"\2\0\0\0\0\1"
    assert message.address(Option.SERVER_ID) == 0x0A000001
    assert address_list(message.options[Option.DNS_SERVERS]) == (0x01010101, 0x08080808)
    assert usable(message)
    assert lease_of(message, 0).prefixlen == 23


def test_tshark_reads_all_that_a_client_sends(tmp_path: Path) -> None:
    world = bound()  # DISCOVER, REQUEST
    world.sim.run(1801)  # a renewal
    client = world.client
    client.config = type(client.config)(hostname="emu", probes=3)
    world.do(client.arp_received(b"\2\0\0\0\0\2", 0x0A000032, 0, world.sim.now_ns))
    world.do(client.arp_received(b"\2\0\0\0\0\2", 0x0A000032, 0, world.sim.now_ns))  # DECLINE
    world.sim.run(60, lambda: world.bound)
    world.do(client.stop(world.sim.now_ns))  # RELEASE
    world.do(client.inform(0x0A000099, world.sim.now_ns))
    rows = tshark(
        tmp_path / "dhcp.pcap",
        [send.data for _, send in world.sent],
        68,
        67,
        ["dhcp.option.dhcp", "dhcp.ip.client", "dhcp.option.requested_ip_address",
         "dhcp.option.hostname", "dhcp.hw.mac_addr"],
    )  # fmt: skip
    assert [row[0] for row in rows] == ["1", "3", "3", "4", "1", "3", "7", "8"]
    assert rows[1][1:3] == ["0.0.0.0", "10.0.0.50"]
    assert rows[2][1:3] == ["10.0.0.50", ""]
    assert rows[3][1:3] == ["0.0.0.0", "10.0.0.50"]
    assert rows[5][3] == "emu"
    assert rows[7][1] == "10.0.0.153"
    assert all(row[4].startswith("52:54:00:12:34:56") for row in rows)


def test_scapy_reads_a_split_option_as_one() -> None:
    world = make()
    long = bytes(range(256)) * 2
    data = Dhcp4Message(1, 1, world.client.mac, options={53: b"\1", 43: long}).emit()
    pieces = [value for code, value in BOOTP(data)[DHCP].options[1:-1] if code != "pad"]
    assert b"".join(pieces) == long
    assert Dhcp4Message.parse(data).options[43] == long


def test_overloaded_fields_hold_options() -> None:
    base = Dhcp4Message(2, 1, b"\2\0\0\0\0\1", options={53: b"\2", 52: b"\3"}).emit()
    data = bytearray(base)
    data[108 : 108 + 6] = bytes((15, 3)) + b"org" + b"\xff"  # file
    data[44 : 44 + 8] = bytes((12, 4)) + b"host" + b"\xff\x01"  # sname
    message = Dhcp4Message.parse(bytes(data))
    assert message.options[15] == b"org"
    assert message.options[12] == b"host"
    assert message.file == message.sname == b""


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (lambda d: d[:239], "239 bytes are no DHCP message"),
        (lambda d: b"\3" + d[1:], "op 3"),
        (lambda d: d[:2] + b"\x11" + d[3:], "hlen 17"),
        (lambda d: d[:236] + b"\x63\x82\x53\x64" + d[240:], "magic cookie 63825364"),
        (lambda d: d[:240] + b"\x35", "option 53 at the end of options has no length"),
        (lambda d: d[:240] + b"\x35\x02\x01", "option 53 ends 1 bytes beyond options"),
        (lambda d: d[:240] + b"\x34\x01\x04\xff", "option 52"),
        (lambda d: d[:240] + b"\x34\x02\x01\x01\xff", "option 52"),
        (lambda d: d[:108] + b"\x0c\xff" + d[110:240] + b"\x34\x01\x01\xff", "beyond file"),
    ],
)
def test_what_is_no_message_says_why(change: object, text: str) -> None:
    data = Dhcp4Message(2, 1, b"\2\0\0\0\0\1", options={53: b"\2"}).emit()
    with pytest.raises(MessageError, match=text):
        Dhcp4Message.parse(change(data))  # type: ignore[operator]


@pytest.mark.fuzz
@given(st.binary(max_size=700), st.booleans())
def test_hostile_bytes_raise_nothing_else(tail: bytes, framed: bool) -> None:
    head = Dhcp4Message(2, 1, b"\2\0\0\0\0\1").emit()[:240]
    with contextlib.suppress(MessageError):
        message = Dhcp4Message.parse(head + tail if framed else tail)
        usable(message)
        lease_of(message, 0)


@given(st.lists(st.tuples(U32, st.integers(0, 32), U32), max_size=20))
def test_classless_routes_round_trip(routes: list[tuple[int, int, int]]) -> None:
    value = b""
    wanted = []
    for network, length, via in routes:
        network &= 0xFFFFFFFF << (32 - length) & 0xFFFFFFFF
        octets = (length + 7) // 8
        value += bytes((length,)) + network.to_bytes(4, "big")[:octets] + via.to_bytes(4, "big")
        wanted.append((network, length, via))
    assert classless_routes(value) == tuple(wanted)


@pytest.mark.parametrize("value", ["21", "18 0a0000 0a0000", "00 0a00", "20 0a000001 0a0000"])
def test_bad_classless_routes_are_refused(value: str) -> None:
    with pytest.raises(MessageError):
        classless_routes(bytes.fromhex(value.replace(" ", "")))


@given(st.lists(U32, max_size=8).map(tuple))
def test_address_lists(addresses: tuple[int, ...]) -> None:
    value = b"".join(address.to_bytes(4, "big") for address in addresses)
    assert address_list(value) == addresses
    assert address_list(value + b"\1") == ()
