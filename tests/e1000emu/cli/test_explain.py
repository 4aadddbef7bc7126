"""`e1000emu explain hang`: a device that does not move, out of its state file."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from e1000emu.cli.explain import command
from e1000emu.errors import SnapshotError
from e1000emu.insight.explain import idle, reasons
from e1000emu.insight.misuserules import RULES
from e1000emu.record.snapshot import save_file
from e1000emu.testing.bench import Bench
from tests.e1000emu.common import frame, rd, running, wr
from tests.e1000emu.insight.test_explain import CASES, post


def explain(*arguments: str) -> Result:
    return CliRunner().invoke(command, arguments)


def saved(bench: Bench, tmp_path: Path) -> Path:
    path = tmp_path / "state"
    save_file(bench.nic, path)
    return path


# What belongs to the bench and not to the device's state: its link and the memory.
OUTSIDE = {"room"}


@pytest.mark.parametrize("name", sorted(set(CASES) - OUTSIDE))
def test_a_file_tells_what_the_device_told(name: str, tmp_path: Path) -> None:
    act, words = CASES[name]
    bench = running()
    act(bench)
    outcome = explain("hang", str(saved(bench, tmp_path)), "--json")
    assert outcome.exit_code == 0, outcome.output
    told = json.loads(outcome.output)
    texts = [reason["text"] for reason in told["reasons"]]
    texts += [f"Misuse: {event['name']} x{event['count']}" for event in told["misuse"]]
    assert any(words in text for text in texts), told
    for reason in told["reasons"] + told["idle"]:
        assert reason["sdm"]
        assert reason["remedy"]


def test_every_reason_has_a_section_and_a_remedy() -> None:
    for act, words in CASES.values():
        bench = running()
        act(bench)
        found = reasons(bench.nic)
        assert words.startswith("Misuse") or any(words in reason.text for reason in found)
        assert all(reason.sdm and reason.remedy for reason in found + idle(bench.nic))


def test_lines_are_for_people(tmp_path: Path, bench: Bench) -> None:
    wr(bench.nic, "TCTL", 0)
    post(bench)
    outcome = explain("hang", str(saved(bench, tmp_path)))
    assert outcome.exit_code == 0
    lines = outcome.output.splitlines()
    assert lines[0] == "82540EM 52:54:00:12:34:56, link up"
    at = lines.index("Transmit: TDH=0 TDT=1 of 256 descriptors; they wait for TCTL.EN.")
    assert lines[at + 1] == "    SDM 13.4.33: set TCTL.EN"
    assert any(line.startswith("Misuse: tx-disabled x1: TDH=0 TDT=1") for line in lines)


def test_a_device_that_works_is_idle(tmp_path: Path) -> None:
    bench = running(ims=0x84)
    post(bench)
    rd(bench.nic, "ICR")
    output = explain("hang", str(saved(bench, tmp_path))).output
    assert "Nothing keeps frames or interrupts back." in output
    assert "TDH = TDT = 1: nothing is posted" in output
    assert "IMS is 0" not in output


def test_the_file_stays_as_it_is(tmp_path: Path) -> None:
    path = saved(running(), tmp_path)
    before = path.read_bytes()
    explain("hang", str(path))
    assert path.read_bytes() == before


def test_another_file_is_refused(tmp_path: Path) -> None:
    path = saved(running(), tmp_path)
    data = path.read_bytes()
    path.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    outcome = explain("hang", str(path))
    assert isinstance(outcome.exception, SnapshotError)
    assert "checksum" in str(outcome.exception)
    assert explain("hang").exit_code
    assert explain("rules", str(path)).exit_code


def test_rules_are_listed() -> None:
    rows = json.loads(explain("rules", "--json").output)
    assert [row["name"] for row in rows] == [rule.name for rule in RULES]
    assert all(row["sdm"] and row["remedy"] and row["register"] for row in rows)
    output = explain("rules").output
    for rule in RULES:
        assert f"{rule.name}: {rule.where}" in output
        assert f", when {rule.condition}\n" in output


@pytest.mark.parametrize(
    ("timer", "words"), [("RDTR", "RXT0 waits for its delay"), ("TIDV", "TXDW waits for its delay")]
)
def test_moderation_is_named(timer: str, words: str, bench: Bench) -> None:
    wr(bench.nic, timer, 500)
    if timer == "RDTR":
        bench.link.inject(frame())
    else:
        post_delayed(bench)
    assert any(words in reason.text for reason in reasons(bench.nic))


def post_delayed(bench: Bench) -> None:
    bench.guest.post_legacy(frame(), cmd=0x8B)
    bench.guest.kick()
