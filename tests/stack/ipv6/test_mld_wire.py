"""stack/ipv6/mld_messages.py: against scapy, and against any bytes."""

from __future__ import annotations

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

from stack.inet.mc_filter import CHANGE_TO_EXCLUDE, MODE_IS_EXCLUDE, mc_time_code
from stack.ipv6.mld_messages import (
    GREC_LEN,
    MLD2_REPORT_LEN,
    MldMessage,
    MldQuery,
    MldRecord,
    MldReport,
    mld2_split,
    mldv2_mrc,
)
from tests.stack.ipv6.test_nd_wire import addresses, text

sources = st.lists(addresses, max_size=6).map(tuple)
records = st.builds(MldRecord, st.integers(1, 6), addresses, sources)


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


@given(st.lists(records, max_size=5).map(tuple))
def test_version_2_report(given_records: tuple[MldRecord, ...]) -> None:
    report = MldReport(given_records)
    there = ICMPv6MLReport2(report.pack())
    assert there.records_number == len(given_records)
    seen = []
    record = there.records[0] if there.records else None
    while isinstance(record, ICMPv6MLDMultAddrRec):  # scapy nests what follows as payload
        seen.append((record.rtype, record.dst, record.sources))
        record = record.payload
    assert seen == [
        (r.kind, text(r.group), [text(addr) for addr in r.sources]) for r in given_records
    ]
    assert MldReport.parse(report.pack()) == report
    for short in range(len(report.pack())):
        cut = MldReport.parse(report.pack()[:short])
        assert cut is None or not given_records


@given(st.binary(max_size=300))
def test_any_bytes_end(data: bytes) -> None:
    for kind in (MldQuery, MldMessage, MldReport):
        kind.parse(data)


@given(
    st.lists(
        st.builds(
            MldRecord, st.integers(1, 6), addresses, st.lists(addresses, max_size=40).map(tuple)
        ),
        max_size=20,
    ),
    st.integers(MLD2_REPORT_LEN + GREC_LEN + 16, 700),
)
def test_split_keeps_every_source_and_the_limit(given_records: list[MldRecord], room: int) -> None:
    reports = list(mld2_split(given_records, room))
    assert all(len(report.pack()) <= room for report in reports)
    sent = [record for report in reports for record in report.records]
    limit = (room - MLD2_REPORT_LEN - GREC_LEN) // 16
    for record in given_records:
        mine = [sent.pop(0)]
        cut = record.kind in (MODE_IS_EXCLUDE, CHANGE_TO_EXCLUDE)
        wanted = record.sources[:limit] if cut else record.sources
        while sum(len(r.sources) for r in mine) < len(wanted):
            mine.append(sent.pop(0))
        assert {(r.kind, r.group) for r in mine} == {(record.kind, record.group)}
        assert tuple(s for r in mine for s in r.sources) == wanted
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
