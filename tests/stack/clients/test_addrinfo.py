"""getaddrinfo's arguments against this machine's own, for hosts that are numbers."""

from __future__ import annotations

import errno
import socket
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from stack.api.sockaddr import show
from stack.clients.addrinfo import (
    AI_ADDRCONFIG,
    AI_ALL,
    AI_CANONNAME,
    AI_NUMERICHOST,
    AI_NUMERICSERV,
    AI_PASSIVE,
    AI_V4MAPPED,
    EAI_NODATA,
    EAI_NONAME,
    AddrInfo,
    ipv4_number,
)
from stack.clients.dns_answer import Outcome
from stack.clients.dns_wire import Record, RRType
from stack.clients.dnsname import name_from_text
from stack.clients.resolvconf import HostsTable, NameService, ResolvConf
from stack.clients.resolver import Finished
from stack.core.sockaddr import sockaddr
from stack.core.uapi import AF_INET, AF_INET6
from tests.support import examples

LO = {"lo": 1}


def ifindex(text: str) -> int:
    if text in LO:
        return LO[text]
    if text.isdecimal():
        return int(text)
    raise OSError(errno.ENODEV, text)


def make(*args: Any, have: tuple[int, ...] = (), **names: Any) -> AddrInfo:
    return AddrInfo(
        *args,
        names=NameService(**names),
        ifindex=ifindex,
        configured=lambda family: family in have,
        sort=lambda addresses: addresses,
    )


def outcome(fn: Any, *args: Any) -> Any:
    """Rows without their order (RFC 6724's is another's business), or the error's code."""
    try:
        rows = fn(*args)
    except socket.gaierror as error:
        return error.errno
    except UnicodeError:
        return EAI_NONAME  # CPython's refusal of names with empty labels
    return sorted(((int(f), int(t), p, a) for f, t, p, _, a in rows), key=repr)


def ours(*args: Any) -> list[Any]:
    made = make(*args)
    assert made.lookup is None
    return [(f, t, p, n, show(a)) for f, t, p, n, a in made.rows or []]


HOSTS = st.one_of(
    st.none(),
    st.sampled_from(
        [
            "127.0.0.1",
            "127.1",
            "0x7f.1",
            "0177.0.0.1",
            "010",
            "1.2.3.4",
            "255.255.255.255",
            "256.1.1.1",
            "1.2.3.256",
            "1.2.65536",
            "1.2.65535",
            "0x",
            "08.1.1.1",
            "1.2.3.4.5",
            "",
            "::",
            "::1",
            "fe80::1",
            "fe80::1%lo",
            "fe80::1%1",
            "fe80::1%nope",
            "::1%lo",
            "::1%1",
            "ff02::1%lo",
            "ff05::1%lo",
            "::ffff:1.2.3.4",
            "::1.2.3.4",
            "1::2::3",
            "12345::",
            "*",
            "fe80::1%",
            "name",
        ]
    ),
    st.lists(st.integers(0, 300), min_size=1, max_size=5).map(lambda n: ".".join(map(str, n))),
    st.lists(st.integers(0, 0x1FFFF), min_size=1, max_size=9).map(
        lambda n: ":".join(f"{x:x}" for x in n)
    ),
)
PORTS = st.one_of(
    st.none(),
    st.integers(0, 65535),
    st.sampled_from(["", "0", "80", "http", "domain", "ntp", " 80", "+80", "nosuch", "80x", "-1"]),
)
FLAGS = st.sets(
    st.sampled_from([AI_PASSIVE, AI_CANONNAME, AI_V4MAPPED, AI_ALL, AI_NUMERICSERV, 0x100000])
).map(lambda flags: AI_NUMERICHOST | sum(flags))


@settings(max_examples=examples(400), deadline=None)
@given(
    HOSTS,
    PORTS,
    st.sampled_from([0, 2, 10, 7]),
    st.sampled_from([0, 1, 2, 3, 99]),
    st.sampled_from([0, 6, 17, 1, 99]),
    FLAGS,
)
@example("::1%lo", 1, 0, 0, 0, AI_NUMERICHOST)
@example(None, 80, 0, 0, 0, AI_PASSIVE)
def test_numeric_hosts_as_this_machine_has_them(
    host: str | None, port: Any, family: int, type_: int, proto: int, flags: int
) -> None:
    args = (host, port, family, type_, proto, flags)
    assert outcome(ours, *args) == outcome(socket.getaddrinfo, *args)


@given(st.text("0123456789abcdefxX.", max_size=20))
def test_numbers_as_inet_aton_has_them(text: str) -> None:
    try:
        wanted: int | None = int.from_bytes(socket.inet_aton(text), "big")
    except OSError:
        wanted = None
    assert ipv4_number(text) == wanted


def test_canonical_name_stands_in_the_first_row_only() -> None:
    rows = ours("127.0.0.1", 80, 0, 0, 0, AI_CANONNAME)
    assert [row[3] for row in rows] == ["127.0.0.1", "", ""]


def test_port_beyond_16_bits_is_refused() -> None:
    # glibc takes it modulo 65536, which helps nobody
    with pytest.raises(socket.gaierror, match="Servname"):
        make("127.0.0.1", 65536)


@pytest.mark.parametrize(
    ("have", "family", "wanted"),
    [
        ((AF_INET,), 0, [AF_INET]),
        ((AF_INET6,), 0, [AF_INET6]),
        ((AF_INET, AF_INET6), 0, [AF_INET6, AF_INET]),
        ((), 0, [AF_INET6, AF_INET]),
        ((AF_INET,), AF_INET6, None),
        ((AF_INET6,), AF_INET, None),
    ],
)
def test_addrconfig(have: tuple[int, ...], family: int, wanted: list[int] | None) -> None:
    args = (None, 80, family, 1, 0, AI_ADDRCONFIG)
    if wanted is None:
        with pytest.raises(socket.gaierror) as caught:
            make(*args, have=have)
        assert caught.value.errno == EAI_NONAME
    else:
        assert [row[0] for row in make(*args, have=have).rows or []] == wanted


HOSTS_TABLE = HostsTable.parse("192.0.2.1 both four\n2001:db8::1 both\n2001:db8::2 both\n")


@pytest.mark.parametrize(
    ("name", "family", "flags", "wanted"),
    [
        ("both", 0, 0, ["192.0.2.1", "2001:db8::1", "2001:db8::2"]),
        ("both", AF_INET, 0, ["192.0.2.1"]),
        ("both", AF_INET6, 0, ["2001:db8::1", "2001:db8::2"]),
        ("both", AF_INET6, AI_V4MAPPED, ["2001:db8::1", "2001:db8::2"]),
        ("both", AF_INET6, AI_V4MAPPED | AI_ALL,
         ["2001:db8::1", "2001:db8::2", "::ffff:192.0.2.1"]),
        ("four", AF_INET6, AI_V4MAPPED, ["::ffff:192.0.2.1"]),
        ("FOUR.", 0, 0, ["192.0.2.1"]),
    ],
)  # fmt: skip
def test_hosts_table(name: str, family: int, flags: int, wanted: list[str]) -> None:
    made = make(name, 80, family, 1, 0, flags | AI_CANONNAME, hosts=HOSTS_TABLE)
    assert [show(row[4])[0] for row in made.rows or []] == wanted
    assert (made.rows or [])[0][3] == "both"


CONF = ResolvConf((sockaddr(AF_INET, 1, 53),))
NAME = name_from_text("www.example.org")


def test_names_are_looked_up() -> None:
    assert make("www.example.org", 80, conf=CONF).lookup == (
        "www.example.org", (RRType.A, RRType.AAAA),
    )  # fmt: skip
    assert make("www", 80, AF_INET, conf=CONF).lookup == ("www", (RRType.A,))
    assert make("www", 80, AF_INET6, conf=CONF).lookup == ("www", (RRType.AAAA,))
    asked = make("www", 80, AF_INET6, 0, 0, AI_V4MAPPED, conf=CONF).lookup
    assert asked == ("www", (RRType.A, RRType.AAAA))
    # only numbers of the family are no names
    assert make("four", 80, AF_INET6, hosts=HOSTS_TABLE, conf=CONF).lookup is not None


def test_rows_of_an_answer() -> None:
    made = make("www", 80, 0, 1, 0, AI_CANONNAME, conf=CONF)
    records = (Record(NAME, RRType.A, 1, 9, 0xC0000201), Record(NAME, RRType.AAAA, 1, 9, 1 << 100))
    rows = made.answer(Finished(Outcome.FOUND, NAME, (), records))
    assert [(row[0], row[3], row[4].port) for row in rows] == [
        (AF_INET, "www.example.org", 80),
        (AF_INET6, "", 80),
    ]


@pytest.mark.parametrize("bad", list(Outcome)[1:])
def test_errors_of_a_lookup(bad: Outcome) -> None:
    with pytest.raises(socket.gaierror) as caught:
        make("www", 80, conf=CONF).answer(Finished(bad))
    assert caught.value.errno == bad.value


def test_answer_of_another_family_is_no_data() -> None:
    made = make("www", 80, AF_INET6, conf=CONF)
    with pytest.raises(socket.gaierror) as caught:
        made.answer(Finished(Outcome.FOUND, NAME, (), (Record(NAME, RRType.A, 1, 9, 1),)))
    assert caught.value.errno == EAI_NODATA


def test_without_a_server_the_error_says_so() -> None:
    with pytest.raises(socket.gaierror, match="no name server"):
        make("www", 80)


@pytest.mark.parametrize("args", [(1, 80), ("a", 1.5), ([], None)])
def test_arguments_of_other_kinds(args: tuple[Any, ...]) -> None:
    with pytest.raises(TypeError, match="getaddrinfo"):
        make(*args)
