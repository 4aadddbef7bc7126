"""The rows of the benchmarks: their names, their peers, and pytest-benchmark running them."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from benchmarks.rows import (
    AXES,
    UNITS,
    Case,
    Row,
    Unavailable,
    Work,
    every_row,
    lossy,
    number,
    peer,
    point,
    size_bytes,
    udp,
)
from benchmarks.rows import interleave as il
from e1000emu.cli import bench
from e1000emu.cli.bench_compare import load
from stack.tools.profile import Profile
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
    names = [case.name for case in CASES if not case.row.extra]
    assert items == set(names)
    assert len(names) == len(items)
    for case in CASES:
        assert re.fullmatch(r"[a-z]+(_[a-z]+)*(__[a-z0-9]+(_[a-z0-9]+)*){2}", case.row.name)
        assert point(case.size)[1] in AXES


def test_every_group_has_ours_and_a_peer_in_one_unit() -> None:
    groups: dict[str, list[Case]] = defaultdict(list)
    for case in CASES:
        groups[case.group].append(case)
    for members in groups.values():
        assert any(c.row.peer is None for c in members)
        rivals = [c for c in members if c.row.peer is not None and not c.row.ceiling]
        assert bool(rivals) != bool(members[0].row.alone)
        assert len({c.unit for c in members}) == 1
    quick = {case.group for row in every_row() for case in row.cases(quick=True)}
    assert {group.split("[")[0] for group in quick} == {group.split("[")[0] for group in groups}


@pytest.mark.night
def test_a_run_does_the_same_amount_throughout_a_group() -> None:
    # else pytest-benchmark, which compares the times of runs, would show wrong ratios
    amounts: dict[str, set[float]] = defaultdict(set)
    for case in (c for row in every_row() for c in row.cases(quick=True)):
        if number(case.size) >= 10_000 and case.row.growth is not None:
            continue  # takes long to set up and has the amount of the others
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
    assert said[1].startswith("[1/1] checksum, 64 bytes …")
    assert f"without checksum, peer: loop AVX2: {reason}" in said


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
    with pytest.raises(ValueError, match="is no number with one of B, KiB"):
        size_bytes("60")
    with pytest.raises(ValueError, match="does not end"):
        size_bytes("60flows")


@pytest.mark.parametrize(
    ("text", "value"), [("10000flows", 10_000), ("0.1pct", 0.1), ("4KiB", 4096)]
)
def test_other_sizes_read_as_numbers_of_their_axis(text: str, value: float) -> None:
    assert number(text) == value


def figure(name: str, rounds: list[float], **options: Any) -> il.Figure:
    """A figure of a row over 1 and 10,000 flows."""
    size = options.pop("size")
    made = Row(name, "flows", "k/s", None, (size,), (size,), **options)  # type: ignore[arg-type]
    return il.Figure(next(made.cases()), rounds)


def test_growth_is_the_cost_at_the_last_size_over_that_at_the_first() -> None:
    figures = [
        figure("a__b__flat", [100.0, 100.0, 100.0], size="1flows", growth=1.5),
        figure("a__b__flat", [90.0, 80.0, 70.0], size="10000flows", growth=1.5),
        figure("a__b__grows", [100.0, 100.0, 100.0], size="1flows", growth=1.5),
        figure("a__b__grows", [50.0, 50.0, 40.0], size="10000flows", growth=1.5),
        figure("a__b__peer", [100.0, 100.0, 100.0], size="1flows", growth=0.0, peer="x"),
        figure("a__b__peer", [80.0, 80.0, 80.0], size="10000flows", growth=0.0, peer="x"),
        figure("a__b__plain", [10.0], size="64B"),
    ]
    found = {g["name"]: g for g in il.growth([il.as_row(f, None) for f in figures])}
    assert set(found) == {"a__b__flat", "a__b__grows", "a__b__peer"}
    assert found["a__b__flat"]["slope"] == 1.25
    assert found["a__b__flat"]["slope_rounds"] == [100 / 90, 100 / 70]
    assert not found["a__b__flat"]["grows"]
    assert found["a__b__grows"]["slope"] == 2.0
    assert found["a__b__grows"]["grows"]
    assert found["a__b__grows"]["last"] == "10000flows"
    assert not found["a__b__peer"]["grows"]
    assert found["a__b__peer"]["bound"] is None


def test_what_the_peers_cost_grows_is_allowed() -> None:
    figures = [
        figure("a__b__beside", [100.0] * 3, size="1flows", growth=1.5),
        figure("a__b__beside", [40.0] * 3, size="10000flows", growth=1.5),
        figure("a__b__peer", [100.0] * 3, size="1flows", growth=0.0, peer="x"),
        figure("a__b__peer", [50.0] * 3, size="10000flows", growth=0.0, peer="x"),
        figure("a__b__worse", [100.0] * 3, size="1flows", growth=1.5),
        figure("a__b__worse", [30.0] * 3, size="10000flows", growth=1.5),
        figure("a__b__elsewhere", [100.0] * 3, size="10flows", growth=1.5),
        figure("a__b__elsewhere", [50.0] * 3, size="10000flows", growth=1.5),
        figure("a__b__faster", [100.0] * 3, size="10flows", growth=0.0, peer="x"),
        figure("a__b__faster", [200.0] * 3, size="10000flows", growth=0.0, peer="x"),
    ]
    found = {g["name"]: g for g in il.growth([il.as_row(f, None) for f in figures])}
    assert (found["a__b__beside"]["peer_slope"], found["a__b__beside"]["grows"]) == (2.0, False)
    assert found["a__b__worse"]["grows"]  # 3.3 times, of 1.5 times 2
    assert found["a__b__peer"]["peer_slope"] is None
    # a peer that becomes cheaper takes nothing from the bound
    assert found["a__b__elsewhere"]["peer_slope"] == 0.5
    assert found["a__b__elsewhere"]["grows"]


def test_sizes_of_a_growing_row_are_measured_in_turn() -> None:
    order: list[str] = []

    @contextmanager
    def start(size: str) -> Iterator[Work]:
        yield Work(lambda: (order.append(size), sum(range(2000))), 1)

    made = Row("a__b__c", "g", "k/s", start, ("1flows", "9flows"), (), growth=1.5)
    il.measure(made.cases(), rounds=3)
    runs = [size for n, size in enumerate(order) if not n or order[n - 1] != size]
    assert len(runs) > 2  # one after the other they would be two


def test_an_extra_peer_is_the_rival_only_where_there_is_no_other() -> None:
    ours = figure("a__b__c", [4.0], size="64B")
    usual = figure("a__peer__x", [2.0], size="64B", peer="loopback")
    extra = figure("a__peer__y", [8.0], size="64B", peer="lwIP", extra=True)
    row = il.as_row(ours, il.best_peer([ours, usual, extra]), il.peers_of([ours, usual, extra]))
    assert (row["peer"], row["ratio"]) == ("loopback", 2.0)
    assert row["ratios"] == {"loopback": 2.0, "lwIP": 0.5}
    assert il.best_peer([ours, extra]) is extra


def test_single_operations_become_percentiles_and_a_histogram() -> None:
    found = il.distribution([*range(1000, 2000)])
    assert found["p50"] == 1499.5
    assert (found["min"], found["max"], found["samples"]) == (1000, 1999, 1000)
    assert sum(found["counts"]) == 1000
    assert len(found["edges_ns"]) == len(found["counts"]) + 1


def test_goodput_in_virtual_time_depends_on_nothing_but_the_seed() -> None:
    def facts() -> Mapping[str, float]:
        with lossy.loss.start("1pct") as work:
            assert work.prepare is not None
            assert work.facts is not None
            work.prepare()
            work.run()
            return work.facts()

    assert facts() == facts()
    assert 1 < facts()["goodput_mbit_s"] < 1000


@pytest.mark.skipif(not Profile.available(), reason="needs Linux and CPython 3.11 to 3.13")
def test_layers_add_up_to_the_time_of_an_operation() -> None:
    with udp.single.start("64B") as work:
        layers = il.by_layer(work, 0.2)
        assert layers is not None
        taken = il.seconds(work, 3) / 3 / work.amount * 1e9
    assert {"udp", "driver"} <= set(layers)
    assert 0.3 < sum(layers.values()) / taken < 3  # of one order; both are measured
