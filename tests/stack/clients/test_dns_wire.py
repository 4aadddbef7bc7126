"""Names and messages of DNS: read, written, against scapy and tshark, and hostile bytes."""

from __future__ import annotations

import contextlib
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from scapy.layers.dns import DNS, DNSQR, DNSRR

from stack.clients.action import MessageError
from stack.clients.dns_answer import read_answer
from stack.clients.dns_wire import (
    FLAG_RD,
    DnsMessage,
    Question,
    Record,
    RRType,
    opt_record,
    parse_head,
)
from stack.clients.dnsname import (
    Name,
    emit_name,
    name_from_text,
    name_to_text,
    parse_name,
    parse_names,
    reverse_name,
    wire_length,
)
from tests.stack.clients.dissect import tshark

U16, U32 = st.integers(0, 0xFFFF), st.integers(0, 0xFFFFFFFF)
LABELS = st.binary(min_size=1, max_size=63)
NAMES = st.lists(LABELS, max_size=8).map(tuple).filter(lambda name: wire_length(name) <= 255)
FEW = st.sampled_from([(), (b"a",), (b"b", b"a"), (b"www", b"example", b"org"), (b"org",)])
OWNERS = st.one_of(NAMES, FEW)
QUESTIONS = st.builds(Question, OWNERS, U16, U16)
TTL = st.integers(0, 0x7FFFFFFF)
RECORDS = st.one_of(
    st.builds(Record, OWNERS, st.just(1), st.just(1), TTL, U32),
    st.builds(Record, OWNERS, st.just(28), st.just(1), TTL, st.integers(0, (1 << 128) - 1)),
    st.builds(Record, OWNERS, st.sampled_from([2, 5, 12]), st.just(1), TTL, OWNERS),
    st.builds(Record, OWNERS, st.sampled_from([16, 33, 99]), U16, TTL, st.binary(max_size=300)),
)
SECTIONS = st.lists(RECORDS, max_size=4).map(tuple)
MESSAGES = st.builds(
    DnsMessage, U16, U16, st.lists(QUESTIONS, max_size=3).map(tuple), SECTIONS, SECTIONS, SECTIONS
)


@given(MESSAGES)
def test_round_trip(message: DnsMessage) -> None:
    assert DnsMessage.parse(message.emit()) == message


@given(NAMES)
def test_text_of_a_name_round_trips(name: Name) -> None:
    text = name_to_text(name)
    assert text.isascii()
    assert text.isprintable()
    assert name_from_text(text) == name
    assert name_from_text(text + ("." if name else "")) == name


@given(st.text(max_size=80))
def test_any_text_is_a_name_or_refused(text: str) -> None:
    with contextlib.suppress(MessageError):
        assert wire_length(name_from_text(text)) <= 255


def test_names_compress_into_what_stood_before() -> None:
    out = bytearray(12)
    seen: dict[Name, int] = {}
    emit_name(name_from_text("a.example.org"), out, seen)
    emit_name(name_from_text("b.example.org"), out, seen)
    emit_name(name_from_text("example.org"), out, seen)
    assert bytes(out[12:]) == b"\1a\7example\3org\0" + b"\1b\xc0\x0e" + b"\xc0\x0e"
    name, after = parse_name(bytes(out), 27)
    assert (name_to_text(name), after) == ("b.example.org", 31)


def test_international_names() -> None:
    assert name_from_text("bücher.example") == (b"xn--bcher-kva", b"example")


def test_escapes() -> None:
    assert name_from_text(r"a\.b.c\032d") == (b"a.b", b"c d")
    assert name_to_text((b"a.b", b"c d\\")) == r"a\.b.c\032d\\"


@pytest.mark.parametrize("text", ["a..b", ".", "..", ".a", "a\\", "a\\1", "a\\999", "x" * 64])
def test_text_that_is_no_name(text: str) -> None:
    if text == ".":
        assert name_from_text(text) == ()
        return
    with pytest.raises(MessageError, match="no domain name"):
        name_from_text(text)


def test_reverse_names() -> None:
    assert name_to_text(reverse_name(0xC0000201, 32)) == "1.2.0.192.in-addr.arpa"
    text = name_to_text(reverse_name(0x20010DB8 << 96 | 1, 128))
    assert text == "1" + ".0" * 23 + ".8.b.d.0.1.0.0.2.ip6.arpa"


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (b"", "ends beyond 0"),
        (b"\3ab", "ends beyond 3"),
        (b"\1a", "ends beyond 2"),
        (b"\xc0", "pointer at 0 ends beyond 1"),
        (b"\xc0\x00", "points to 0, not before 0"),
        (b"\1a\xc0\x00", "points to 0, not before 0"),
        (b"\xc0\x02\xc0\x00", "points to 2, not before 0"),
        (b"\x40abc", "type 1"),
        (b"\x80abc", "type 2"),
        ((b"\x3f" + b"a" * 63) * 4 + b"\0", "more than 255 bytes"),
    ],
)
def test_bad_names(data: bytes, text: str) -> None:
    with pytest.raises(MessageError, match=text):
        parse_name(data, 0)


def test_pointers_that_go_back_and_forth_end() -> None:
    # each pointer points before the piece that it ends, so at most as often as there are bytes
    chain = b"\0" + b"".join((0xC000 | max(i - 2, 0)).to_bytes(2, "big") for i in range(1, 8001, 2))
    assert parse_name(chain, len(chain) - 2) == ((), len(chain))


@given(st.lists(NAMES.filter(bool), max_size=5).map(tuple))
def test_lists_of_names(names: tuple[Name, ...]) -> None:
    out = bytearray()
    seen: dict[Name, int] = {}
    for name in names:
        emit_name(name, out, seen)
    assert parse_names(bytes(out)) == names


def test_reads_what_scapy_writes() -> None:
    made = DNS(
        id=7,
        qr=1,
        rcode=0,
        qd=DNSQR(qname="www.example.org.", qtype="AAAA"),
        an=[
            DNSRR(rrname="www.example.org.", type="CNAME", rdata="x.example.org.", ttl=5),
            DNSRR(rrname="x.example.org.", type="AAAA", rdata="2001:db8::1", ttl=6),
        ],
    )
    message = DnsMessage.parse(bytes(made))
    assert message.questions == (Question(name_from_text("www.example.org"), RRType.AAAA),)
    assert message.answers[0].data == name_from_text("x.example.org")
    assert message.answers[1].data == 0x20010DB8 << 96 | 1
    verdict = read_answer(message, message.questions[0])
    assert verdict is not None
    assert verdict.records == (message.answers[1],)


def test_scapy_and_tshark_read_what_we_write(tmp_path: Path) -> None:
    name, alias = name_from_text("www.example.org"), name_from_text("a.example.org")
    query = DnsMessage(
        0x1234, FLAG_RD, (Question(alias, RRType.A),), additionals=(opt_record(1232),)
    )
    reply = DnsMessage(
        0x1234,
        0x8180,
        query.questions,
        (Record(alias, RRType.CNAME, 1, 60, name), Record(name, RRType.A, 1, 60, 0xC0000201)),
        additionals=(opt_record(4096),),
    )
    seen = DNS(reply.emit())
    assert [rr.rdata for rr in seen.an] == [b"www.example.org.", "192.0.2.1"]
    fields = ["dns.id", "dns.qry.name", "dns.a", "dns.cname", "dns.rr.udp_payload_size"]
    rows = tshark(tmp_path / "dns.pcap", [query.emit()], 40000, 53, fields)
    rows += tshark(tmp_path / "dns2.pcap", [reply.emit()], 53, 40000, fields)
    assert rows[0] == ["0x1234", "a.example.org", "", "", "1232"]
    assert rows[1] == ["0x1234", "a.example.org", "192.0.2.1", "www.example.org", "4096"]


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (bytes(11), "11 bytes are no DNS message"),
        (bytes(4) + b"\0\1" + bytes(6), "ends beyond 12"),
        (bytes(4) + b"\0\1" + bytes(6) + b"\0\0\1", "question"),
        (bytes(6) + b"\0\1" + bytes(4) + b"\0" + bytes(9), "the record at 12 ends beyond"),
        (bytes(6) + b"\0\1" + bytes(4) + b"\0\0\1\0\1\0\0\0\0\0\3abc", "has 3 bytes"),
        (bytes(6) + b"\0\1" + bytes(4) + b"\0\0\1\0\1\0\0\0\0\0\4abc", "1 bytes too late"),
        (bytes(6) + b"\0\1" + bytes(4) + b"\0\0\5\0\1\0\0\0\0\0\3\1a\0\0", ""),
        (bytes(6) + b"\0\1" + bytes(4) + b"\0\0\5\0\1\0\0\0\0\0\4\1a\0\0", "ends at 26"),
        (bytes(6) + b"\0\1" + bytes(4) + b"\0\0\5\0\1\0\0\0\0\0\2\1a\0\0", "ends beyond 25"),
    ],
)
def test_what_is_no_message_says_why(data: bytes, text: str) -> None:
    if not text:
        DnsMessage.parse(data)
        return
    with pytest.raises(MessageError, match=text):
        DnsMessage.parse(data)


@pytest.mark.fuzz
@given(st.binary(max_size=400), st.integers(0, 5), st.integers(0, 200))
@example(b"\xc0\x0c" * 100, 1, 100)
def test_hostile_bytes_raise_nothing_else(body: bytes, questions: int, answers: int) -> None:
    head = bytes(4) + questions.to_bytes(2, "big") + answers.to_bytes(2, "big") + bytes(4)
    for data in (body, head + body):
        with contextlib.suppress(MessageError):
            message = DnsMessage.parse(data)
            read_answer(message, Question((b"a",), 1))
        with contextlib.suppress(MessageError):
            parse_head(data)
        with contextlib.suppress(MessageError):
            parse_names(data)


@given(MESSAGES, st.data())
def test_cut_and_bent_messages_raise_nothing_else(message: DnsMessage, data: st.DataObject) -> None:
    raw = bytearray(message.emit())
    at = data.draw(st.integers(0, len(raw) - 1))
    raw[at] ^= data.draw(st.integers(1, 255))
    for bent in (bytes(raw), message.emit()[:at]):
        with contextlib.suppress(MessageError):
            DnsMessage.parse(bent)
