"""The file of results: torn lines, other files, other programs."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from e1000emu.campaign import CampaignError, Outcome, Status, read
from e1000emu.campaign.report import Report
from e1000emu.campaign.results import Header, Store


def header(**given: object) -> Header:
    values = {"campaign": "c", "axes": ["a"], "cases": 3, "program": "p", "release": "1"}
    return Header(**{**values, "commit": "", "source": "s", **given})  # type: ignore[arg-type]


def outcome(number: int, **given: object) -> Outcome:
    values = {"key": f"k{number}", "number": number, "values": {"a": str(number)}}
    return Outcome(**{**values, "status": Status.PASSED, **given})  # type: ignore[arg-type]


def write(path: Path, *numbers: int, first: Header | None = None) -> Store:
    store = Store(path, first or header())
    for number in numbers:
        store.add(outcome(number, text="ü\n"))
    store.close()
    return store


def test_a_file_that_was_cut_off_anywhere_goes_on(tmp_path: Path) -> None:
    whole = tmp_path / "whole.jsonl"
    write(whole, 0, 1)
    data = whole.read_bytes()
    lines = data.splitlines(keepends=True)
    ends = [len(lines[0]), len(lines[0]) + len(lines[1]), len(data)]
    for size in range(len(data) + 1):
        path = tmp_path / "cut.jsonl"
        path.write_bytes(data[:size])
        kept = sum(size >= end for end in ends[1:])
        store = write(path)
        assert [o.number for o in store.outcomes] == [0, 1][:kept], size
        write(path, *[0, 1][kept:])
        assert path.read_bytes() == data


@pytest.mark.parametrize(
    "text",
    [
        "hello",
        "hello\n",
        "{}\n",
        '{"kind":"e1000emu-campaign","version":2}\n',
        '{"kind":"another"}\n',
        "\0" * 100,
        "\n",
    ],
)
def test_a_file_of_somebody_else_stays_as_it_is(tmp_path: Path, text: str) -> None:
    path = tmp_path / "notes.txt"
    path.write_text(text)
    with pytest.raises(CampaignError, match=r"notes\.txt, line 1: .*name another file"):
        Store(path, header())
    assert path.read_text() == text
    with pytest.raises(CampaignError):
        read(path)


def test_a_line_that_is_no_result_is_named(tmp_path: Path) -> None:
    path = tmp_path / "r.jsonl"
    write(path, 0)
    path.write_bytes(path.read_bytes() + b"{}\n")
    with pytest.raises(CampaignError, match="line 3"):
        read(path)


def test_results_of_another_campaign_stay(tmp_path: Path) -> None:
    path = tmp_path / "r.jsonl"
    write(path, 0)
    for other in (header(campaign="d"), header(axes=["a", "b"])):
        with pytest.raises(CampaignError, match="campaign c over a; name another file"):
            Store(path, other)


def test_one_run_at_a_time_writes(tmp_path: Path) -> None:
    path = tmp_path / "r.jsonl"
    store = Store(path, header())
    with pytest.raises(CampaignError, match="another run"):
        Store(path, header())
    assert read(path)[0] == header()  # reading is free
    store.close()
    Store(path, header()).close()


def test_results_of_an_older_program_are_kept_and_not_counted(tmp_path: Path) -> None:
    path = tmp_path / "r.jsonl"
    write(path, 0, 1, 2)
    write(path, 0, first=header(source="t", cases=1))
    found, outcomes = read(path)
    report = Report(found, outcomes)
    assert (len(report.outcomes), report.older, report.ok) == (1, 3, True)
    write(path, first=header())  # and back again
    assert len(Report(*read(path)).outcomes) == 3


def test_a_case_that_did_two_things_is_seen_in_every_report(tmp_path: Path) -> None:
    path = tmp_path / "r.jsonl"
    store = Store(path, header(cases=1))
    store.add(outcome(0, digest={"frames": "1"}))
    store.add(outcome(0, digest={"frames": "2"}, again=True))
    store.close()
    report = Report(*read(path))
    assert not report.ok
    assert (report.confirmed, len(report.differing)) == (0, 1)
    assert "1 ran twice and did not do the same" in str(report)


def test_every_line_is_json(tmp_path: Path) -> None:
    path = tmp_path / "r.jsonl"
    write(path, 0, 1)
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert lines[0]["kind"] == "e1000emu-campaign"
    assert [line.get("number") for line in lines] == [None, 0, 1]
    assert all("source" not in line for line in lines[1:])
