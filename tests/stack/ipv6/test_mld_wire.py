"""stack/ipv6/mld_messages.py and mc_reports: against scapy, and against any bytes."""

from __future__ import annotations

from collections.abc import Iterator

from hypothesis import given
from hypothesis import strategies as st
from scapy.layers.inet6 import (
    ICMPv6MLDMultAddrRec,
    ICMPv6MLDone,
    ICMPv6MLQuery,
    ICMPv6MLQuery2,
    ICMPv6MLReport,
    ICMPv6MLReport2,
)

from stack.inet.mc_filter import (
    CHANGE_TO_EXCLUDE,
    MODE_IS_EXCLUDE,
    GroupRecord,
    mc_reports,
    mc_time_code,
)
from stack.ipv6.ip6_icmp import ICMPV6_MLD2_REPORT
from stack.ipv6.mld_messages import (
    MldMessage,
    MldQuery,
    mldv2_mrc,
)
from tests.stack.ipv6.test_nd_wire import addresses, text

sources = st.lists(addresses, max_size=6).map(tuple)
records = st.tuples(st.integers(1, 6), addresses, sources)
v4 = st.integers(0, 0xFFFFFFFF)


@given(
    addresses,
    st.integers(0, 0xFFFF),
    st.booleans(),
    st.integers(0, 7),
    st.integers(0, 255),
    sources,
)
def test_query(
    group: int, mrc: int, suppress: bool, qrv: int, qqic: int, listed: tuple[int, ...]
) -> None:
    query = MldQuery(group, mrc, 2, suppress, qrv, qqic, listed)
    there = ICMPv6MLQuery2(query.pack())
    assert (there.mrd, there.mladdr, there.S, there.QRV, there.QQIC) == (
        mrc,
        text(group),
        suppress,
        qrv,
        qqic,
    )
    assert there.sources == [text(addr) for addr in listed]
    assert MldQuery.parse(query.pack()) == query
    old = MldQuery(group, mrc, 1)
    assert ICMPv6MLQuery(old.pack()).mladdr == text(group)
    parsed = MldQuery.parse(old.pack())
    assert parsed is not None
    assert (parsed.version, parsed.group, parsed.max_delay_ms) == (1, group, mrc)


@given(addresses)
def test_version_1_report_and_done(group: int) -> None:
    assert ICMPv6MLReport(MldMessage(group).pack()).mladdr == text(group)
    assert ICMPv6MLDone(MldMessage(group, True).pack()).mladdr == text(group)
    for message in (MldMessage(group), MldMessage(group, True)):
        assert MldMessage.parse(message.pack()) == message


@given(st.lists(records, max_size=5))
def test_version_2_report(given_records: list[GroupRecord]) -> None:
    made = list(mc_reports(ICMPV6_MLD2_REPORT, given_records, 1 << 16, 16))
    assert len(made) == bool(given_records)
    for report in made:
        there = ICMPv6MLReport2(report)
        assert there.records_number == len(given_records)
        seen = []
        record = there.records[0]
        while isinstance(record, ICMPv6MLDMultAddrRec):  # scapy nests what follows as payload
            seen.append((record.rtype, record.dst, record.sources))
            record = record.payload
        assert seen == [
            (k, text(group), [text(s) for s in srcs]) for k, group, srcs in given_records
        ]


@given(st.binary(max_size=300))
def test_any_bytes_end(data: bytes) -> None:
    for kind in (MldQuery, MldMessage):
        kind.parse(data)


def parse(report: bytes, size: int) -> Iterator[GroupRecord]:
    """The records of a report of IGMPv3 or MLDv2."""
    at = 8
    for _ in range(int.from_bytes(report[6:8], "big")):
        end = at + 4 + size * (1 + int.from_bytes(report[at + 2 : at + 4], "big"))
        group, *listed = (
            int.from_bytes(report[i : i + size], "big") for i in range(at + 4, end, size)
        )
        yield report[at], group, tuple(listed)
        at = end
    assert at == len(report)


@given(
    st.lists(
        st.tuples(st.integers(1, 6), v4, st.lists(v4, max_size=40).map(tuple)),
        max_size=20,
    ),
    st.sampled_from((4, 16)),
    st.integers(8 + 4 + 2 * 16, 700),
)
def test_split_keeps_every_source_and_the_limit(
    given_records: list[GroupRecord], size: int, room: int
) -> None:
    reports = list(mc_reports(ICMPV6_MLD2_REPORT, given_records, room, size))
    assert all(len(report) <= room for report in reports)
    sent = [record for report in reports for record in parse(report, size)]
    limit = (room - 8 - 4 - size) // size
    for kind, group, listed in given_records:
        mine = [sent.pop(0)]
        wanted = listed[:limit] if kind in (MODE_IS_EXCLUDE, CHANGE_TO_EXCLUDE) else listed
        while sum(len(r[2]) for r in mine) < len(wanted):
            mine.append(sent.pop(0))
        assert {r[:2] for r in mine} == {(kind, group)}
        assert tuple(s for r in mine for s in r[2]) == wanted
    assert sent == []


def test_codes_of_times() -> None:
    # RFC 3810 5.1.3: a code from 0x8000 is (mantissa | 0x1000) << (exponent + 3)
    assert [mldv2_mrc(c) for c in (0, 1000, 0x7FFF, 0x8000, 0x8FFF, 0xFFFF)] == [
        0,
        1000,
        32767,
        32768,
        65528,
        8387584,
    ]
    assert [mc_time_code(c) for c in (0, 125, 127, 128, 255)] == [0, 125, 127, 128, 31744]
