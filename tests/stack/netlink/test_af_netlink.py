"""AF_NETLINK sockets from Python: addresses, options, dumps, groups, errors, and hostile bytes."""

from __future__ import annotations

import errno
import random
import struct
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from e1000emu.clock import VirtualClock
from stack.host import Host
from stack.netlink import nlattr, rt_attrs
from stack.netlink.nlattr import BE32, DEPRECATED_STRICT, IN6, STRING, U32, Attr, AttrTable, NlError
from stack.netlink.rt_fdb import RTNLGRP_NEIGH
from stack.netlink.rtnetlink import RTNLGRP_IPV4_ROUTE, RTNLGRP_LINK
from tests.stack.netlink.requests import (
    ACK,
    DUMP,
    EXT_ACK,
    HDR,
    NLMSG_DONE,
    NLMSG_ERROR,
    REQUEST,
    SOL_NETLINK,
    Request,
    attr,
    generated,
    shape,
)
from tests.stack.netlink.tables import LEAST, TABLES
from tests.support import examples

AF_NETLINK, RAW = 16, 3
ADD_MEMBERSHIP, DROP_MEMBERSHIP, PKTINFO, NO_ENOBUFS, LIST, CAP_ACK = 1, 2, 3, 5, 9, 10
MSG_PEEK, MSG_DONTWAIT, MSG_TRUNC = 2, 0x40, 0x20
SO_RCVBUF, SOL_SOCKET = 8, 1
NEWLINK, GETLINK, NEWROUTE, GETROUTE, DELROUTE, GETADDR = 16, 18, 24, 26, 25, 22
NLM_F_DUMP_INTR = 0x10
MANY = 1000


@pytest.fixture
def host() -> Iterator[Host]:
    with Host("h", clock=VirtualClock()) as host:
        host.add_dummy("d0", up=True)
        host.ifconfig("d0", "10.0.0.1/24")
        yield host


def opened(host: Host, protocol: int = 0) -> Any:
    return host.socket(AF_NETLINK, RAW, protocol)


def links(flags: int = REQUEST | DUMP) -> bytes:
    return Request("", GETLINK, flags, bytes(16)).message(1)


def everything(sock: Any) -> list[bytes]:
    """All packets that wait."""
    found = []
    while True:
        try:
            found.append(sock.recv(1 << 16, MSG_DONTWAIT))
        except BlockingIOError:
            return found


def messages(packets: list[bytes]) -> Iterator[tuple[int, int, bytes]]:
    """(type, flags, payload) of each message."""
    for data in packets:
        at = 0
        while at < len(data):
            size, kind, flags, _, _ = HDR.unpack_from(data, at)
            yield kind, flags, data[at + HDR.size : at + size]
            at += size + 3 & ~3


def refused(sock: Any, kind: int, body: bytes, flags: int = REQUEST | ACK) -> bytes:
    """The payload of the error that answers."""
    sock.sendto(Request("", kind, flags, body).message(7), (0, 0))
    ((found, _, payload),) = messages([sock.recv(1 << 16)])
    assert found == NLMSG_ERROR
    return payload


# --- sockets ------------------------------------------------------------------------------------


def test_port_ids_are_unique(host: Host) -> None:
    a, b, c = (opened(host) for _ in range(3))
    assert a.getsockname() == (0, 0)
    a.bind((0, 0))
    b.sendto(links(), (0, 0))
    assert a.getsockname()[0] != b.getsockname()[0] != 0
    with pytest.raises(OSError, match="another socket's") as wrong:
        c.bind((a.getsockname()[0], 0))
    assert wrong.value.errno == errno.EADDRINUSE
    with pytest.raises(OSError, match="it is bound"):
        a.bind((99, 0))
    number = a.getsockname()[0]
    a.close()
    c.bind((number, 0))


@pytest.mark.parametrize(
    ("kind", "protocol", "err"),
    [(1, 0, errno.ESOCKTNOSUPPORT), (3, 9, errno.EPROTONOSUPPORT), (3, 99, errno.EPROTONOSUPPORT)],
)
def test_what_there_is_not(host: Host, kind: int, protocol: int, err: int) -> None:
    with pytest.raises(OSError, match="netlink") as wrong:
        host.socket(AF_NETLINK, kind, protocol)
    assert wrong.value.errno == err


def test_peek_tells_the_length_of_a_packet_that_is_longer_than_the_buffer(host: Host) -> None:
    sock = opened(host)
    sock.sendto(links(), (0, 0))
    full = sock.recv_into(bytearray(8), 8, MSG_PEEK | MSG_TRUNC)
    data = sock.recv(full)
    assert len(data) == full
    assert shape(data)[-1] == (NLMSG_DONE, 0)


def test_messages_of_programs_to_each_other(host: Host) -> None:
    a, b = opened(host, 2), opened(host, 2)
    b.bind((77, 0b100))
    b.setsockopt(SOL_NETLINK, PKTINFO, 1)
    a.sendto(b"hello, 77", (77, 0))
    assert b.recvfrom(99) == (b"hello, 77", a.getsockname())
    with pytest.raises(ConnectionRefusedError):  # the group hears it, the kernel does not
        a.sendto(b"a group", (0, 0b100))
    data, control, _, name = b.recvmsg(99, 99)
    assert (data, name[1]) == (b"a group", 0b100)
    assert control == [(SOL_NETLINK, PKTINFO, struct.pack("=I", 3))]
    with pytest.raises(ConnectionRefusedError):
        a.sendto(b"nobody", (78, 0))
    with pytest.raises(OSError, match="empty"):
        a.sendto(b"", (77, 0))


def test_memberships(host: Host) -> None:
    sock = opened(host)
    sock.bind((0, 1))
    sock.setsockopt(SOL_NETLINK, ADD_MEMBERSHIP, 34)
    assert sock.getsockopt(SOL_NETLINK, LIST, 16) == struct.pack("=II", 1, 2)
    sock.setsockopt(SOL_NETLINK, DROP_MEMBERSHIP, 1)
    assert sock.getsockname()[1] == 0
    for group in (0, 40, -1):
        with pytest.raises(OSError, match="no group"):
            sock.setsockopt(SOL_NETLINK, ADD_MEMBERSHIP, group)
    assert host.rtnl is not None
    sock.close()
    assert host.rtnl is None


def test_who_is_not_root_asks_only() -> None:
    with Host("h", clock=VirtualClock(), uid=1000) as host:
        sock = opened(host)
        sock.sendto(links(), (0, 0))
        assert shape(sock.recv(1 << 16))[-1] == (NLMSG_DONE, 0)
        body = rt_attrs.IFINFOMSG.pack(0, 0, 1, 0, 1)
        assert struct.unpack_from("=i", refused(sock, NEWLINK, body)) == (-errno.EPERM,)
        with pytest.raises(PermissionError):
            sock.sendto(b"x", (5, 0))


# --- errors -------------------------------------------------------------------------------------


def test_an_error_names_the_attribute(host: Host) -> None:
    sock = opened(host)
    sock.setsockopt(SOL_NETLINK, EXT_ACK, 1)
    head = rt_attrs.IFINFOMSG.pack(0, 0, 2, 0, 0)
    payload = refused(sock, NEWLINK, head + attr(4, b"\1\0"))  # IFLA_MTU of two bytes
    assert struct.unpack_from("=i", payload) == (-errno.ERANGE,)
    told = NLMSGERR_ATTRS.parse(payload, 4 + HDR.size + len(head) + 8)
    assert told == {"MSG": "Attribute failed policy validation", "OFFS": HDR.size + len(head)}
    sock.setsockopt(SOL_NETLINK, CAP_ACK, 1)
    payload = refused(sock, NEWLINK, head + attr(4, b"\1\0"))
    assert NLMSGERR_ATTRS.parse(payload, 4 + HDR.size) == told
    sock.setsockopt(SOL_NETLINK, EXT_ACK, 0)
    assert len(refused(sock, NEWLINK, head + attr(4, b"\1\0"))) == 4 + HDR.size


@pytest.mark.parametrize(
    ("kind", "value", "err"),
    [
        (43, attr(1, struct.pack("=i", 3)), -errno.EOPNOTSUPP),  # IFLA_XDP, IFLA_XDP_FD
        (43, attr(1, struct.pack("=i", -1)), 0),  # no program any more
        (63, struct.pack("=I", 1000), -errno.EOPNOTSUPP),  # IFLA_GSO_IPV4_MAX_SIZE
    ],
)
def test_what_a_link_cannot_have_is_refused(host: Host, kind: int, value: bytes, err: int) -> None:
    head = rt_attrs.IFINFOMSG.pack(0, 0, host.dev("d0").ifindex, 0, 0)
    payload = refused(opened(host), NEWLINK, head + attr(kind, value))
    assert struct.unpack_from("=i", payload) == (err,)


NLMSGERR_ATTRS = AttrTable("NLMSGERR", Attr("MSG", 1, STRING), Attr("OFFS", 2, U32))


def test_a_route_that_is_there(host: Host) -> None:
    sock = opened(host)
    sock.setsockopt(SOL_NETLINK, EXT_ACK, 1)
    body = rt_attrs.RTMSG.pack(2, 24, 0, 0, 254, 3, 253, 1, 0)
    body += rt_attrs.RTA4.build({"RTA_DST": 0x0A000000, "RTA_OIF": host.dev("d0").ifindex})
    payload = refused(sock, NEWROUTE, body, REQUEST | ACK | 0x600)
    assert struct.unpack_from("=i", payload) == (-errno.EEXIST,)
    assert len(payload) == 4 + HDR.size + len(body)  # the text of ours is for Python's callers


# --- dumps --------------------------------------------------------------------------------------


def with_routes(host: Host) -> None:
    for number in range(MANY):
        host.route_add(f"10.{64 + number // 256}.{number % 256}.0/24", dev="d0")


def test_a_long_dump_waits_for_its_reader(host: Host) -> None:
    with_routes(host)
    free = host.skb_small.available
    sock = opened(host)
    body = rt_attrs.RTMSG.pack(2, 0, 0, 0, 0, 0, 0, 0, 0)
    sock.sendto(Request("", GETROUTE, REQUEST | DUMP, body).message(1), (0, 0))
    assert free - host.skb_small.available < 40
    sock.sendto(Request("", GETROUTE, REQUEST | DUMP, body).message(2), (0, 0))
    found = list(messages(everything(sock)))
    ((_, _, busy),) = [one for one in found if one[0] == NLMSG_ERROR]
    assert struct.unpack_from("=i", busy) == (-errno.EBUSY,)
    assert [kind for kind, _, _ in found].count(NEWROUTE) > MANY
    assert found[-1][0] == NLMSG_DONE
    assert host.skb_small.available == free


def test_a_dump_tells_that_the_table_changed(host: Host) -> None:
    for number in range(200):
        host.add_dummy(f"x{number}")
    sock = opened(host)
    sock.sendto(links(), (0, 0))
    first = sock.recv(1 << 16)
    host.del_link("x0")
    rest = everything(sock)
    assert not any(flags & NLM_F_DUMP_INTR for _, flags, _ in messages([first]))
    assert list(messages(rest))[-1][1] & NLM_F_DUMP_INTR


def test_a_socket_that_ends_amid_a_dump_leaves_nothing(host: Host) -> None:
    with_routes(host)
    free = host.skb_small.available
    sock = opened(host)
    sock.sendto(Request("", GETROUTE, REQUEST | DUMP, bytes(12)).message(1), (0, 0))
    sock.recv(64)
    sock.close()
    assert host.skb_small.available == free


# --- groups -------------------------------------------------------------------------------------


def test_groups_hear_what_other_programs_change(host: Host) -> None:
    sock = opened(host)
    bits = sum(1 << group - 1 for group in (RTNLGRP_LINK, RTNLGRP_NEIGH, RTNLGRP_IPV4_ROUTE))
    sock.bind((0, bits))
    host.route_add("10.9.0.0/16", dev="d0")
    host.route_del("10.9.0.0/16")
    host.ifconfig("d0", mtu=1400)
    packets = everything(sock)
    kinds = [kind for kind, _, _ in messages(packets)]
    assert kinds == [NEWROUTE, DELROUTE, NEWLINK]
    told = list(messages(packets))[2][2]
    assert rt_attrs.IFLA.build({"IFLA_IFNAME": "d0"}) in told
    assert rt_attrs.IFLA.build({"IFLA_MTU": 1400}) in told


def test_lost_messages_are_told_once(host: Host) -> None:
    sock, calm = opened(host), opened(host)
    for each in (sock, calm):
        each.bind((0, 1 << RTNLGRP_IPV4_ROUTE - 1))
        each.setsockopt(SOL_SOCKET, SO_RCVBUF, 4096)
    calm.setsockopt(SOL_NETLINK, NO_ENOBUFS, 1)
    with_routes(host)
    with pytest.raises(OSError, match="No buffer space") as wrong:
        sock.recv(1 << 16)
    assert wrong.value.errno == errno.ENOBUFS
    for each in (sock, calm):
        assert 0 < len(everything(each)) < MANY
    host.route_add("10.9.0.0/16", dev="d0")
    assert len(everything(sock)) == 1


# --- tables -------------------------------------------------------------------------------------


def test_all_tables_are_found() -> None:
    """Those of rows of kinds, nested ones, those that a function makes."""
    names = {table.name for table in TABLES}
    assert names >= {"IFLA_VRF", "IFLA_GENEVE", "IFLA_VXLAN", "IFLA_GRE", "MDBE_ATTR", "IFLA_BR"}
    assert names >= {"RTA", "ETHTOOL_A_HEADER", "CTA", "INET_DIAG", "TCA", "NHA"}
    assert len(TABLES) > LEAST


GIVEN = {kind for kind in vars(nlattr).values() if isinstance(kind, nlattr.AttrType)}
GIVEN -= {nlattr.REJECT}


@pytest.mark.parametrize("table", TABLES, ids=lambda table: table.name)
def test_what_a_table_builds_it_parses(table: AttrTable) -> None:
    values: dict[str, Any] = {}
    for row in table.by_number.values():
        if row.told or not row.number or row.inner is not None or row.type not in GIVEN:
            continue  # of others what is parsed is not what is built
        if row.type.size:
            some = row.type.get(b"\7".ljust(row.type.size, b"\0"))
            values[row.name] = row.legal[0] if row.legal is not None else row.mask or some
        elif row.type.name == "FLAG":
            values[row.name] = True
        elif row.type is IN6:
            values[row.name] = 1 << 100
        elif row.type.name in ("STRING", "NUL_STRING"):
            values[row.name] = "name"
        else:
            values[row.name] = bytes(row.most or (row.legal[0] if row.legal is not None else 4))
    assert table.parse(table.build(values), 0, DEPRECATED_STRICT) == values


@given(st.binary(max_size=200), st.sampled_from(TABLES), st.sampled_from((0, 3, 31)))
def test_hostile_attributes(data: bytes, table: AttrTable, validate: int) -> None:
    places: list[int] = []
    try:
        places += table.parse(data, 0, validate).at.values()
    except NlError as wrong:
        places.append(max(wrong.at, 0))
    assert all(0 <= at <= max(len(data) - 4, 0) for at in places)


def test_numbers_of_the_network_are_big_endian() -> None:
    assert BE32.put(0x0A000001) == b"\x0a\0\0\1"


# --- hostile messages ---------------------------------------------------------------------------

SEEDS = list(generated())


@settings(max_examples=examples(60))
@given(st.integers(0, 1 << 32), st.sampled_from((0, 4)))
def test_hostile_messages(seed: int, protocol: int) -> None:
    """Changed requests, random bytes, many in a packet: errors at most, and nothing is kept."""
    rng = random.Random(seed)
    with Host("h", clock=VirtualClock(), seed=1) as host:
        host.add_dummy("d0", up=True)
        host.add_veth("v0", "v1", up=True)
        host.ifconfig("d0", "10.0.0.1/24")
        sock = opened(host, protocol)
        sock.setsockopt(SOL_NETLINK, EXT_ACK, seed & 1)
        free = host.skb_small.available
        for _ in range(60):
            data = bytearray()
            for _ in range(rng.randrange(1, 4)):
                data += hostile(rng, protocol)
            sock.sendto(bytes(data) or b"\0", (0, 0))
            for _ in messages_of(everything(sock)):
                pass
        assert free - host.skb_small.available < 400
        sock.close()


def messages_of(packets: list[bytes]) -> Iterator[int]:
    """Types of messages; each has to be whole."""
    for data in packets:
        at = 0
        while at < len(data):
            size, kind, _, _, _ = HDR.unpack_from(data, at)
            assert HDR.size <= size <= len(data) - at
            yield kind
            at += size + 3 & ~3


def hostile(rng: random.Random, protocol: int) -> bytes:
    """A message: a good one with bytes changed, or rubbish behind a header."""
    if rng.random() < 0.3:
        body = rng.randbytes(rng.randrange(0, 90))
        kind = rng.randrange(14, 24) if protocol else rng.randrange(14, 130)
        flags = rng.choice((1, 5, 0x301, 0x305, 0x605, rng.randrange(1 << 16)))
        return Request("", kind, flags, body).message(1)
    data = bytearray(rng.choice(SEEDS).message(1))
    if protocol:
        data[4:6] = struct.pack("=H", rng.choice((20, 21)))
        data += rng.randbytes(rng.choice((0, 20, 56, 80)))
        data[:4] = struct.pack("=I", len(data))
        data[16:18] = bytes((rng.choice((1, 2, 10, 16, 17)), rng.choice((0, 6, 17, 255))))
    for _ in range(rng.randrange(0, 6)):
        data[rng.randrange(len(data))] = rng.choice((0, 1, 2, 10, 255, rng.randrange(256)))
    return bytes(data)
