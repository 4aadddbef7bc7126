"""What is made of results: matrices, pages, tables, replays; and the command that does so."""

from __future__ import annotations

import html.parser
import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from e1000emu.campaign import CampaignError, read, run
from e1000emu.campaign.report import Report
from e1000emu.errors import E1000Error
from tests.e1000emu.campaign import cases
from tests.support import require

ROOT = Path(__file__).parents[3]
FILE = str(Path(cases.__file__))


def command(*words: str, code: int = 0, cwd: Path | None = None) -> str:
    """Return what `e1000emu WORDS` says, both ways."""
    found = subprocess.run(
        [sys.executable, "-m", "e1000emu", *words],
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert found.returncode == code, found.stdout
    return found.stdout


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Reports of the pure campaign and of that with two hosts, in one directory."""
    where = tmp_path_factory.mktemp("done")
    with ThreadPoolExecutor(2) as executor:
        return {
            campaign.name: run(
                campaign, executor=executor, results=where / f"{campaign.name}.jsonl"
            )
            for campaign in (cases.PURE, cases.HOSTS)
        }


def test_a_matrix_counts_what_passed(done: Any) -> None:
    matrix = done["pure"].matrix("faults", "model")
    assert matrix.total.tolist() == matrix.passed.tolist() == [[5, 5], [5, 5]]
    assert np.array_equal(matrix.numpy(), np.ones((2, 2)))
    assert str(matrix).splitlines() == [
        "              82540EM  82544GC",
        "None          5/5      5/5",
        "irq_lost=0.2  5/5      5/5",
    ]
    assert matrix.arrow().to_pydict()["passed"] == [5, 5, 5, 5]
    with pytest.raises(E1000Error, match="no axis 'modle'"):
        done["pure"].matrix("modle", "seed")


def test_pairs_without_a_case_are_empty(done: Any) -> None:
    report = done["pure"]
    half = Report(report.header, [o for o in report.outcomes if o.number < 15])
    matrix = half.matrix("model", "faults")
    assert matrix.total.tolist() == [[5, 5], [5, 0]]
    assert np.isnan(matrix.numpy()[1, 1])
    assert not half.ok
    assert "15 of 20 cases" in str(half)


def test_a_page_needs_nothing_else_and_shows_hostile_text(done: Any) -> None:
    report = done["hosts"]
    report.outcomes[1].output = "<script>alert(1)</script>"
    page = report.html()

    class Parser(html.parser.HTMLParser):
        def __init__(self) -> None:
            super().__init__()
            self.open: list[str] = []

        def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
            assert tag not in ("script", "link", "img", "iframe")
            assert not {name for name, _ in attrs} & {"src", "href"}
            if tag != "meta":
                self.open.append(tag)

        def handle_endtag(self, tag: str) -> None:
            assert self.open.pop() == tag

    parser = Parser()
    parser.feed(page)
    assert parser.open == []
    assert "AssertionError: one" in page
    assert "82544GC" in done["pure"].html("model", "faults")


def test_a_page_of_one_axis_has_no_matrix(done: Any) -> None:
    report = done["hosts"]
    assert "<table>" not in report.html()
    with pytest.raises(E1000Error, match="no axis"):
        report.html(rows="seed")


def test_tables_have_a_row_for_each_case(done: Any, tmp_path: Path) -> None:
    from pyarrow import parquet

    path = tmp_path / "t.parquet"
    done["pure"].parquet(path)
    table = parquet.read_table(path)
    assert table.num_rows == 20
    assert table["figure sent"].to_pylist() == [o.figures["sent"] for o in done["pure"].outcomes]
    assert all(np.isnan(table["figure worst"].to_pylist()))  # a number, though JSON has it as text
    assert set(table["model"].to_pylist()) == {"82540EM", "82544GC"}
    assert table["digest frames"][0].as_py() == done["pure"].outcomes[0].digest["frames"]


def test_a_failure_is_replayed_with_recordings_and_captures(done: Any, tmp_path: Path) -> None:
    failure = done["hosts"].first_failure()
    assert failure.case.seed == 1
    replay = failure.replay(tmp_path / "replay")
    assert replay.answer.status == "failed"
    for part in ("frames", "counters", "end"):  # looking does not change them
        assert replay.answer.digest[part] == failure.outcome.digest[part]
    names = ["a.rec", "b.rec", "cable.pcapng", "explain.txt", "output.txt"]
    assert sorted(path.name for path in replay.directory.iterdir()) == names
    command("replay", str(replay.directory / "a.rec"))
    tshark = require.tool("tshark")
    capture = str(replay.directory / "cable.pcapng")
    read_ = [tshark, "-r", capture, "-Y", "udp.length == 109", "-T", "fields", "-e", "udp.port"]
    found = subprocess.run(read_, capture_output=True, text=True, check=True)
    assert "7" in found.stdout.replace(",", " ").split()


def test_without_its_case_file_a_failure_cannot_run(done: Any) -> None:
    report = Report(*read(done["hosts"].path))
    with pytest.raises(CampaignError, match="needs the case file"):
        report.first_failure()
    with pytest.raises(CampaignError, match="nothing failed"):
        done["pure"].first_failure()


def test_the_command_reads_what_was_done(done: Any, tmp_path: Path) -> None:
    def said(*words: str, code: int = 0) -> str:
        return command("campaign", *words, code=code)

    pure, hosts = str(done["pure"].path), str(done["hosts"].path)
    assert said("status", pure).startswith("pure: 20 cases: 20 passed")
    assert json.loads(said("status", hosts, "--json"))["failed"] == 1
    assert "replay" in said("status", hosts)
    page = tmp_path / "p.html"
    text = said("report", pure, "--rows", "model", "--columns", "faults", "--html", str(page))
    assert "82544GC  5/5" in text
    assert page.read_text().startswith("<!doctype html>")
    assert len(json.loads(said("report", pure, "--json"))) == 20
    assert "go together" in said("report", pure, "--rows", "model", code=2)
    assert "'fautls'" in said("run", "fautls", code=2)
    assert "no such file" in said("run", "missing.py", code=2)
    assert "several" in said("run", FILE, code=2)
    assert "no campaign 'X'" in said("run", f"{FILE}:X", code=2)


def test_the_command_replays_and_shrinks(tmp_path: Path) -> None:
    words = ("campaign", "replay", f"{FILE}:SIXES", "--case", "0", "--shrink")
    found = command(*words, code=1, cwd=tmp_path)
    assert "case 0 (number_of=50, faults=none, steps=[3, 6]): failed" in found
    assert (tmp_path / "sixes-case-0" / "explain.txt").exists()
