"""The rows of the benchmarks: their names, their peers, and pytest-benchmark running them."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

import pytest

from benchmarks.rows import UNITS, Case, Unavailable, Work, every_row, peer, size_bytes
from benchmarks.rows import interleave as il
from e1000emu.cli import bench
from e1000emu.cli.bench_compare import load
from tests.support import plain_environment

ROOT = Path(__file__).resolve().parents[2]
CASES = [case for row in every_row() for case in row.cases()]
ONE_RUN = ("-q", "--benchmark-min-rounds=1", "--benchmark-max-time=0.001")


def run_pytest(*words: str, cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [
            sys.executable,
            "-m",
            "pytest",
            "-p",
            "no:cacheprovider",
            str(ROOT / "benchmarks"),
            *words,
        ],
        capture_output=True,
        text=True,
        cwd=cwd,
        env=plain_environment(),
        check=False,
    )


def test_every_case_is_a_benchmark_of_pytest_and_has_the_house_name() -> None:
    listed = run_pytest("--collect-only", "-q").stdout
    items = set(re.findall(r"::bench_(\S+)$", listed, re.MULTILINE))
    assert items == {case.name for case in CASES}
    assert len(CASES) == len(items)
    for name in items:
        assert re.fullmatch(r"[a-z]+(_[a-z]+)*(__[a-z0-9]+(_[a-z0-9]+)*){2}\[\d+[KM]?i?B\]", name)


def test_every_group_has_ours_and_a_peer_in_one_unit() -> None:
    groups: dict[str, list[Case]] = defaultdict(list)
    for case in CASES:
        groups[case.group].append(case)
    for members in groups.values():
        assert any(c.row.peer is None for c in members)
        assert any(c.row.peer is not None and not c.row.ceiling for c in members)
        assert len({c.unit for c in members}) == 1
    quick = {case.group for row in every_row() for case in row.cases(quick=True)}
    assert {group.split("[")[0] for group in quick} == {group.split("[")[0] for group in groups}


def test_a_run_does_the_same_amount_throughout_a_group() -> None:
    # else pytest-benchmark, which compares the times of runs, would show wrong ratios
    amounts: dict[str, set[float]] = defaultdict(set)
    for case in (c for row in every_row() for c in row.cases(quick=True)):
        try:
            with case.start() as work:
                amounts[case.group].add(work.amount)
        except Unavailable:
            continue
    assert {group: found for group, found in amounts.items() if len(found) > 1} == {}


def test_headline_rows_exist() -> None:
    assert set(bench.HEADLINE) <= {c.name for row in every_row() for c in row.cases(quick=True)}


def test_rates_come_with_the_saved_file_and_compare_reads_it(tmp_path: Path) -> None:
    out = tmp_path / "rates.json"
    words = ("-k", "bench_csum and 64B", f"--benchmark-json={out}", *ONE_RUN)
    done = run_pytest(*words)
    assert done.returncode == 0, done.stdout
    entries = {entry["name"]: entry for entry in json.loads(out.read_text())["benchmarks"]}
    entry = entries["bench_csum__partial__best[64B]"]
    assert entry["group"] == "csum[64B]"
    assert entry["options"]["timer"] == "process_time"
    extra = entry["extra_info"]
    rate = extra["amount"] / entry["stats"]["median"] / UNITS[extra["unit"]].scale
    assert extra["rate"] == pytest.approx(rate)
    assert entries["bench_csum__peer__loop_sse2[64B]"]["extra_info"]["peer"] == "C loop_sse2"
    sample = load(out)["csum__partial__best[64B]"]
    assert sample.unit == "GB/s"
    assert sample.median == pytest.approx(extra["rate"])


def test_save_compare_and_histogram_work_as_their_users_know_them(tmp_path: Path) -> None:
    words = ("-k", "mmio__twin", *ONE_RUN)
    assert run_pytest(*words, "--benchmark-save=first", cwd=tmp_path).returncode == 0
    assert list(tmp_path.glob(".benchmarks/*/0001_first.json"))
    histogram = f"--benchmark-histogram={tmp_path / 'h'}"
    done = run_pytest(*words, "--benchmark-compare", histogram, cwd=tmp_path)
    assert done.returncode == 0, done.stdout
    assert "(0001_first)" in done.stdout
    assert list(tmp_path.glob("h*.svg"))


def test_without_a_compiler_the_peers_are_left_out_and_that_is_said(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    used = bench.benchmarks("rows.peer")  # which an editable installation imports from elsewhere
    monkeypatch.setenv("CC", "no-such-cc")
    used.load.cache_clear()
    said: list[str] = []
    found = bench.rows(quick=True, only="csum__partial__best[64B]", rounds=1, progress=said.append)
    assert [row["name"] for row in found] == ["csum__partial__best[64B]"]
    assert found[0]["ratio"] is None
    reason = "no C compiler 'no-such-cc'; apt-get install gcc libc6-dev, or set CC"
    assert said[0] == "csum[64B] …"
    assert f"without csum__peer__loop_avx2: {reason}" in said


def test_a_compiler_that_fails_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CC", "false --loudly")
    peer.load.cache_clear()
    with pytest.raises(Unavailable, match="false --loudly does not compile ring_copy"):
        peer.load("ring_copy")


def test_preparation_is_not_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0

    def spend(seconds: float) -> None:
        nonlocal now
        now += seconds

    monkeypatch.setattr(il, "clock", lambda: now)
    assert il.seconds(Work(lambda: spend(2), 1), 3) == 6
    assert il.seconds(Work(lambda: spend(2), 1, prepare=lambda: spend(100)), 3) == 6


def test_ratios_are_of_the_same_round_and_above_one_when_ours_is_better() -> None:
    by_name = {case.name: case for case in CASES}
    ours = il.Figure(by_name["skb__alloc__free[128B]"], [10.0, 30.0, 20.0])
    twin = il.Figure(by_name["skb__twin__alloc_free[128B]"], [20.0, 30.0, 80.0])
    row = il.as_row(ours, il.best_peer([ours, twin]))
    assert (row["value"], row["peer_value"], row["ratio"]) == (20.0, 30.0, 1.5)
    assert row["ratio_rounds"] == [2.0, 1.0, 4.0]
    assert row["lower_is_better"]


def test_the_ceiling_is_no_peer_and_the_hardest_peer_is_taken() -> None:
    by_name = {case.name: case for case in CASES}
    model = il.Figure(by_name["device__peer__ring_model[60B]"], [1.0])
    copy = il.Figure(by_name["device__peer__ring_copy[60B]"], [9.0])
    assert il.best_peer([model, copy]) is model
    loops = [
        il.Figure(by_name[f"csum__peer__{n}[64B]"], [v])
        for n, v in (("loop_sse2", 1.0), ("loop_avx2", 2.0))
    ]
    assert il.best_peer(loops) is loops[1]
    assert il.best_peer([]) is None


@pytest.mark.parametrize(("text", "value"), [("60B", 60), ("64KiB", 65536), ("1MiB", 1 << 20)])
def test_sizes_read_as_bytes(text: str, value: int) -> None:
    assert size_bytes(text) == value
    with pytest.raises(ValueError, match="does not end"):
        size_bytes("60")
