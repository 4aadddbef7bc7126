"""`e1000emu bench`: the choice of rows, the comparison with an older run, the page."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from rich.console import Console

from e1000emu.cli import bench
from e1000emu.cli.bench_compare import Sample, compare, interval, load, samples
from e1000emu.cli.bench_report import page
from e1000emu.errors import E1000Error
from tests.support import require


def row(
    name: str, rounds: list[float], *, peer: str | None = "C twin", **more: Any
) -> dict[str, Any]:
    middle = sorted(rounds)[len(rounds) // 2]
    return {
        "name": name,
        "group": "group[60B]",
        "size": "60B",
        "axis": "bytes",
        "x": 60.0,
        "value": middle,
        "unit": "Mpps",
        "lower_is_better": False,
        "is_peer": peer is None,
        "peer": peer,
        "peer_value": None if peer is None else 2.0,
        "ratio": None if peer is None else middle / 2,
        "rounds": rounds,
        "peer_rounds": [2.0] * len(rounds),
        "ratio_rounds": [] if peer is None else [value / 2 for value in rounds],
        "growth": None,
        "facts": {},
        "latency_ns": None,
        "layers_ns": None,
        **more,
    }


def test_only_takes_a_part_of_a_name_and_its_peers_come_along() -> None:
    found = bench.rows(quick=True, only="csum__and_copy__best[64B]", rounds=2)
    ours, *peers = sorted(found, key=lambda r: r["is_peer"])
    assert ours["name"] == "csum__and_copy__best[64B]"
    assert len(ours["rounds"]) == len(ours["ratio_rounds"]) == 2
    assert {p["name"].split("__")[1] for p in peers} == {"peer"}
    assert ours["ratio"] == pytest.approx(ours["value"] / max(p["value"] for p in peers))
    with pytest.raises(E1000Error, match=r"csun.*they begin with csum, device"):
        bench.rows(only="csun")


def test_comparison_has_median_spread_and_ratio_with_an_interval() -> None:
    old, new = [row("a", [10.0, 11.0, 9.0])], [row("a", [20.0, 22.0, 18.0]), row("b", [1.0])]
    (found,) = compare(samples(old), new)
    assert found.ratio == 2.0
    assert found.old.as_dict() == {"median": 10.0, "min": 9.0, "max": 11.0, "iqr": 1.0}
    low, high = found.interval or (0, 0)
    assert 18 / 11 <= low < 2 < high <= 22 / 9
    assert found.beside_peer == 2.0


def test_less_time_is_better_and_turns_the_interval_round() -> None:
    was = {"a": Sample("ns", True, [10.0, 10.0, 12.0])}
    (found,) = compare(was, [row("a", [20.0, 20.0, 20.0], unit="ns", lower_is_better=True)])
    assert found.ratio == 0.5
    assert found.interval == (0.5, 0.6)


def test_two_rounds_give_no_interval_and_another_unit_no_comparison() -> None:
    assert interval([1.0, 2.0], [1.0, 2.0, 3.0]) is None
    assert compare({"a": Sample("GB/s", False, [1.0])}, [row("a", [1.0])]) == []


def test_interval_covers_what_the_rounds_vary_and_no_more() -> None:
    low, high = interval([10.0, 10.1, 9.9, 10.0, 10.05], [11.0, 11.1, 10.9, 11.05, 11.0]) or (0, 0)
    assert 1.07 < low < 1.1 < high < 1.13


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("nonsense", "not JSON"),
        ('[{"name": "x"}]', "no rounds"),
        ("[]", "no rows"),
        ("{}", "no rounds"),
        ("3", "no rounds"),
    ],
)
def test_a_file_that_holds_no_run_is_named(tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / "old.json"
    path.write_text(text)
    with pytest.raises(E1000Error, match=f"{path}.*{words}"):
        load(path)


def test_pytest_benchmarks_times_become_rates(tmp_path: Path) -> None:
    path = tmp_path / "saved.json"
    stats = {"min": 0.5, "median": 1.0, "max": 2.0}
    fast = {"name": "bench_a[1B]", "stats": stats, "extra_info": {"unit": "Mpps", "rate": 6.0}}
    slow = {"name": "bench_b[1B]", "stats": {**stats, "data": [1.0, 3.0]}}
    slow["extra_info"] = {"unit": "ns", "rate": 7.0}
    path.write_text(json.dumps({"benchmarks": [fast, slow]}))
    found = load(path)
    assert found["a[1B]"].rounds == [12.0, 6.0, 3.0]
    assert found["b[1B]"].rounds == [7.0, 21.0]


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """Let `bench` find two rows instead of measuring."""
    found = [
        row("a_row__with__a_name[60B]", [2.0, 3.0, 4.0]),
        row("p__peer__x[60B]", [2.0] * 3, peer=None),
    ]
    monkeypatch.setattr(bench, "rows", lambda **options: found)
    return found


def test_json_goes_to_stdout_and_with_o_to_the_file(
    tmp_path: Path, measured: list[dict[str, Any]]
) -> None:
    out = CliRunner().invoke(bench.command, ["--json"])
    assert json.loads(out.stdout) == measured
    path = tmp_path / "rows.json"
    out = CliRunner().invoke(bench.command, ["--json", "-o", str(path)])
    assert out.exit_code == 0
    assert json.loads(path.read_text()) == measured


def test_the_older_run_may_be_the_file_that_is_written(
    tmp_path: Path, measured: list[dict[str, Any]]
) -> None:
    path = tmp_path / "rows.json"
    path.write_text(json.dumps([row("a_row__with__a_name[60B]", [1.0, 1.0, 1.0])]))
    words = ["--json", "-o", str(path), "--compare", str(path)]
    assert CliRunner().invoke(bench.command, words).exit_code == 0
    assert json.loads(path.read_text())[0]["compared"]["ratio"] == 3.0


def test_a_record_has_machine_and_commit_and_compare_reads_it(
    tmp_path: Path, measured: list[dict[str, Any]]
) -> None:
    path = tmp_path / "recorded.json"
    assert CliRunner().invoke(bench.command, ["--record", str(path)]).exit_code == 0
    document = json.loads(path.read_text())
    assert document["rows"] == measured
    assert set(document["machine"]) == {"when", "processor", "python", "system"}
    assert document["commit"]
    assert load(path)["a_row__with__a_name[60B]"].median == 3.0


def test_compare_ends_with_status_0_however_much_slower(
    tmp_path: Path, measured: list[dict[str, Any]]
) -> None:
    path = tmp_path / "old.json"
    path.write_text(json.dumps([row("a_row__with__a_name[60B]", [300.0, 301.0, 302.0])]))
    out = CliRunner().invoke(bench.command, ["--compare", str(path), "--json"])
    assert out.exit_code == 0
    ours, peer = json.loads(out.stdout)
    assert ours["compared"]["ratio"] == pytest.approx(3 / 301)
    assert ours["compared"]["old"]["min"] == 300.0
    assert peer["compared"] is None
    assert CliRunner().invoke(bench.command, ["--compare", str(path)]).exit_code == 0


def test_tables_fit_80_columns_and_lose_nothing() -> None:
    rows = [
        row(
            "csum__partial__avx512vnni[65536B]",
            [1234.5, 1333.0, 1444.0],
            unit="Gbit/s",
            peer="C intrin_avx2",
        )
    ]
    changes = compare(samples(rows), rows)
    growths = [
        {
            "name": "stack__udp6__neighs",
            "first": "1neighs",
            "last": "10000neighs",
            "slope": 12.34,
            "slope_rounds": [11.5, 13.25],
            "peer_slope": 1.75,
            "bound": 1.5,
            "grows": True,
            "is_peer": False,
        }
    ]
    for table, words in (
        (bench.rate_table(rows), ("1,333", "Gbit/s", "617.25…722.00", "C intrin_avx2")),
        (
            bench.growth_table(growths),
            ("10000neighbours", "12.34", "11.50…13.25", "1.75", "1.5", "GROWS"),
        ),
        (bench.comparison_table(changes, Path("old.json")), ("Gbit/s", "1.00", "old.json")),
    ):
        screen = Console(width=80)
        with screen.capture() as text:
            screen.print(table)
        assert max(map(len, text.get().splitlines())) <= 80
        flat = re.sub(r"\s", "", text.get())
        assert all(re.sub(r"\s", "", word) in flat for word in words)


MARKS = ("min", "p1", "p10", "p50", "p90", "p99", "p99_9", "max")
LATENCY = {
    **dict.fromkeys(MARKS, 1000.0),
    "edges_ns": [900.0, 1000.0, 1100.0],
    "counts": [3, 1],
    "samples": 4,
}
MACHINE = {"when": "today", "processor": "2 of <some> Processor"}


def at(size: str, x: float, axis: str, group: str, **more: Any) -> dict[str, Any]:
    return {"size": size, "x": x, "axis": axis, "group": f"{group}[{size}]", **more}


def report_rows() -> list[dict[str, Any]]:
    """Rows of every kind that the page draws."""
    calls, wire = "messages of a call", "loss in per cent"
    goodput = {"goodput_mbit_s": 654.3}
    return [
        row("a__b__c[60B]", [2.0, 3.0, 4.0], layers_ns={"udp": 600.0, "ip": 400.0}),
        row("a__b__c[1514B]", [5.0, 6.0, 7.0], **at("1514B", 1514, "bytes", "group")),
        row("p__peer__<x>[60B]", [2.0, 2.0, 2.0], peer=None),
        row("a__b__m[1msgs]", [1.0, 2.0, 3.0], **at("1msgs", 1, calls, "batch")),
        row("a__b__m[32msgs]", [90.0, 91.0, 92.0], **at("32msgs", 32, calls, "batch")),
        row("a__b__t[64B]", [1.0] * 3, **at("64B", 64, "bytes", "trip"), latency_ns=LATENCY),
        row("a__b__f[1flows]", [3.0] * 3, **at("1flows", 1, "flows", "flows"), growth=1.5),
        row("a__b__f[9flows]", [1.0] * 3, **at("9flows", 9, "flows", "flows"), growth=1.5),
        row("a__b__l[0pct]", [3.0] * 3, **at("0pct", 0, wire, "loss"), facts=goodput),
        row("a__b__l[1pct]", [1.0] * 3, **at("1pct", 1, wire, "loss"), facts=goodput),
    ]


def test_report_is_one_page_that_fetches_nothing() -> None:
    rows = report_rows()
    growths = bench.benchmarks("rows.interleave").growth(rows)
    text = page(rows, compare(samples(rows), rows), growths, MACHINE)
    pictures = re.findall(r"<svg.*?</svg>", text, re.DOTALL)
    # by size, by batch, latency, layers, growth, loss, ratio, older run
    assert len(pictures) == 8
    for picture in pictures:
        ElementTree.fromstring(picture)
    titles = re.findall(r"<h2>(.*?)</h2>", text)
    assert titles == [
        "Rate by size",
        "Rate by batch",
        "Latency of single round trips",
        "Nanoseconds by layer",
        "Growth",
        "Over a wire that loses or is long",
        "Ratio to the peer",
        "Against the older run",
        "Rows",
    ]
    assert "32 messages" in pictures[1]
    assert "a: b t, 64 bytes" in pictures[2]
    assert "udp" in pictures[3]
    assert '<tr class="grows"><td>a: b f</td><td>1 flow</td><td>9 flows</td><td>3.00</td>' in text
    assert "a: b l" in pictures[5]
    assert "654.3" in text
    assert "a: b in C, 1514 bytes" in pictures[6]
    assert "__" not in re.sub(r"<(svg|style).*?</\1>", "", text, flags=re.DOTALL)
    outside = re.sub(r'xmlns(:\w+)?="[^"]*"|<metadata>.*?</metadata>', "", text, flags=re.DOTALL)
    assert re.findall(r"https?://|<script|@import|url\((?!#)", outside) == []
    assert "&lt;x&gt;" in text
    assert "<x>" not in text
    assert "<some>" not in text


def test_no_column_of_the_report_is_cut_at_1280_pixels(tmp_path: Path) -> None:
    rows = json.loads((Path(__file__).parents[3] / "benchmarks" / "recorded.json").read_text())
    found = rows["rows"]
    text = page(found, [], bench.benchmarks("rows.interleave").growth(found), MACHINE)
    widths = (
        '[...document.querySelectorAll("table, figure > svg")].map(e =>'
        " [e.scrollWidth - e.clientWidth, e.getBoundingClientRect().right])"
    )
    script = f"<script>document.body.innerText = JSON.stringify({widths})</script></html>"
    path = tmp_path / "report.html"
    path.write_text(text.replace("</html>", script))
    done = subprocess.run(
        [require.tool("chromium"), "--headless", "--no-sandbox", "--disable-gpu",
         "--disable-background-networking", f"--user-data-dir={tmp_path / 'profile'}",
         "--window-size=1280,900", "--dump-dom", path.as_uri()],
        capture_output=True, text=True, timeout=120, check=True,
    )  # fmt: skip
    shown = re.search(r"\[\[.*\]\]", done.stdout)
    assert shown is not None
    elements = json.loads(shown[0])
    assert len(elements) > 20
    for hidden, right in elements:
        assert hidden <= 0
        assert right <= 1280


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("stack__tcp__bulk[1MiB]", "stack: TCP bulk, 1 MiB"),
        ("stack__peer__udp_mmsg64_lwip[64B]", "stack, peer: UDP sendmmsg of 64 lwIP, 64 bytes"),
        ("stack__tcp__connect[1conns]", "stack: TCP connect, 1 connection"),
        ("stack__tcp__loss[1pct]", "stack: TCP loss, 1 % of loss"),
        ("udp_flows", "UDP flows"),
    ],
)
def test_names_are_words_in_reports(name: str, said: str) -> None:
    assert bench.words(name) == said


def test_a_run_says_before_how_long_and_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    bench.rows(quick=True, only="csum__and_copy", rounds=1, progress=said.append)
    head, *groups = [line for line in said if not line.startswith("without")]
    count = re.fullmatch(r"(\d+) rows in (\d+) groups, about \d+ (s|min)", head)
    assert count is not None
    for turn, line in enumerate(groups, 1):
        words = rf"\[{turn}/{count[2]}\] checksum, .* …, about \d+ (s|min) left"
        assert re.fullmatch(words, line), line
    assert len(groups) == int(count[2])


def test_report_of_few_rows_has_no_empty_figures() -> None:
    text = page([row("a__b__c[60B]", [2.0, 3.0, 4.0])], [], [], MACHINE)
    assert re.findall(r"<h2>(.*?)</h2>", text) == ["Ratio to the peer", "Rows"]


def test_report_without_matplotlib_names_the_remedy_before_it_measures(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [n for n in sys.modules if n.startswith("matplotlib")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    for name in ("e1000emu.lab.figures", "e1000emu.cli.bench_figures", "e1000emu.cli.bench_report"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    monkeypatch.setattr(bench, "rows", lambda **options: pytest.fail("measured first"))
    out = CliRunner().invoke(bench.command, ["--report", str(tmp_path / "out.html")])
    assert isinstance(out.exception, E1000Error)
    assert "pip install 'e1000emu[plot]'" in str(out.exception)
