"""The campaigns that come with e1000emu: a few cases of each, as a user starts them."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from e1000emu.campaign import Campaign, Case, run
from e1000emu.campaign.builtin import conformance, faults, of_the_tree
from e1000emu.cli.campaign import builtin
from e1000emu.errors import E1000Error
from tests.support import plain_environment, require, run_to_end

ROOT = Path(__file__).parents[3]


def started(tmp_path: Path, name: str, first: int, **environment: str) -> list[dict[str, Any]]:
    """Return the rows of the first cases of a campaign, all of which must pass."""
    command = [sys.executable, "-m", "e1000emu", "campaign"]
    env = {**plain_environment(), "PYTHONPATH": str(ROOT), **environment}
    words = ["run", name, "--first", str(first), "--executor", "processes:2", "--json"]
    done = subprocess.run(
        [*command, *words], cwd=tmp_path, env=env, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert json.loads(done.stdout)["passed"] == first
    rows = subprocess.run(
        [*command, "report", name, "--json"],
        cwd=tmp_path,
        env=env,
        capture_output=True,
        text=True,
        check=True,
    )
    found: list[dict[str, Any]] = json.loads(rows.stdout)
    assert len(found) == first
    return found


def test_each_has_a_name_and_a_first_line() -> None:
    assert list(builtin()) == ["bench", "conformance", "faults", "fuzz", "guests", "qemu"]


@pytest.mark.night
def test_faults(tmp_path: Path) -> None:
    require.tool("cc", "gcc")
    few = Campaign(
        "faults",
        axes={**faults.campaign.axes, "model": ["82540EM"], "seed": [3]},
        limits=faults.campaign.limits,
        again=4,
    )
    report = run(few, faults.case, executor="processes:2", results=tmp_path / "r.jsonl")
    assert report.ok, report.failures
    stopped = {
        (outcome.values["driver"], outcome.values["faults"])
        for outcome in report.outcomes
        if outcome.text.startswith("stopped")
    }
    assert ("ours", "remove") in stopped
    assert stopped <= set(faults.STOPS)


def test_a_driver_that_stops_without_a_reason_has_failed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(faults, "STOPS", {})
    values = {"driver": "ours", "model": "82540EM", "faults": "remove", "seed": 0}
    found = faults.case(Case(0, values))
    assert found is not None
    assert not found.passed


@pytest.mark.night
def test_conformance(tmp_path: Path) -> None:
    rows = started(tmp_path, "conformance", 40)
    assert {row["family"] for row in rows} == {"ipv4", "ipv6"}


def test_conformance_sees_a_difference(monkeypatch: pytest.MonkeyPatch) -> None:
    def differs(pair: conformance.Pair) -> list[object]:
        return [pair.addrs]

    monkeypatch.setitem(conformance.BY_NAME, "udp_echo", differs)
    found = conformance.case(Case(0, {"behaviour": "udp_echo", "family": "ipv4"}))
    assert found is not None
    assert not found.passed
    assert found.text.startswith("Linux")


@pytest.mark.night
def test_fuzz_shares_what_it_found(tmp_path: Path) -> None:
    rows = started(tmp_path, "fuzz", 2, E1000EMU_FUZZ_PROGRAMS="20")
    kept = sum(row["figure kept"] for row in rows)
    corpus = [path.name for path in (tmp_path / "fuzz-corpus").iterdir()]
    assert all(name.endswith(".json") and not name.startswith(".") for name in corpus)
    assert 0 < len(corpus) <= kept


def test_fuzz_reports_the_program_that_breaks_the_device(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("E1000EMU_FUZZ_CORPUS", str(tmp_path / "corpus"))
    fuzz = of_the_tree("fuzz", "e1000emu.campaign.builtin.fuzz")
    found = fuzz.fuzzer.Found(fuzz.program.Program((("up", 0),)))
    found.__cause__ = ValueError("broken")

    def search(*given: object, **options: object) -> None:
        raise found

    monkeypatch.setattr(fuzz, "CORPUS", str(tmp_path / "corpus"))
    monkeypatch.setattr(fuzz.fuzzer.Fuzzer, "search", search)
    result = fuzz.case(Case(0, {"generation": 0, "seed": 0}))
    assert not result.passed
    assert "broken" in result.text
    assert '["up", 0]' in result.text


@pytest.mark.night
def test_qemu(tmp_path: Path) -> None:
    require.tool("qemu-system-x86_64", "qemu-system-x86")
    rows = started(tmp_path, "qemu", 4)
    assert {row["model"] for row in rows} == {"82540EM", "82545EM", "82544GC"}


def test_bench_has_ratios(tmp_path: Path) -> None:
    (row,) = started(tmp_path, "bench", 1)
    assert row["figure ratio"] > 0


def test_without_the_source_tree_they_say_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("e1000emu.campaign.builtin.is_tree", lambda root: False)
    with pytest.raises(E1000Error, match="campaign fuzz: needs the source tree"):
        of_the_tree("fuzz", "tests.support")


def test_without_qemu_it_says_so(tmp_path: Path) -> None:
    done = run_to_end(
        [sys.executable, "-m", "e1000emu", "campaign", "run", "qemu"],
        cwd=tmp_path,
        env={"PYTHONPATH": str(ROOT), "PATH": str(tmp_path)},
    )
    assert done.returncode == 1
    assert "apt-get install qemu-system-x86" in done.stderr
