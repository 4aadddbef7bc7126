"""`benchmarks/bench_guest.py` with two real guests: every figure is there, and nothing is left."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.bench_guest import MEASUREMENTS
from e1000emu.guest import GuestImage
from tests.support import require

ROOT = Path(__file__).resolve().parents[2]
SIDES = {"": {"qemu", "server"}, "peer_": {"qemu"}}
MESSAGES = {"region_reads", "posted_writes", "unmasks"}


def namespaces() -> set[str]:
    made = subprocess.run(["ip", "netns", "list"], capture_output=True, text=True, check=True)
    return {line.split()[0] for line in made.stdout.splitlines() if line.startswith("e1kbench-")}


@pytest.mark.netns
@pytest.mark.slow
@pytest.mark.timeout(900)
def test_every_figure_is_there_for_both(image: GuestImage, tmp_path: Path) -> None:
    require.netns()
    require.tun()
    for tool, package in (("iperf3", "iperf3"), ("ping", "iputils-ping")):
        require.tool(tool, package)
    before = namespaces()
    path = tmp_path / "rows.json"
    done = subprocess.run(
        [
            *(sys.executable, str(ROOT / "benchmarks" / "bench_guest.py")),
            *("--quick", "--rounds", "1", "--json", "-o", str(path)),
        ],
        capture_output=True,
        text=True,
        timeout=850,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert namespaces() <= before
    rows = {row["name"]: row for row in json.loads(path.read_text())}
    assert list(rows) == [measurement.name for measurement in MEASUREMENTS]
    for name, row in rows.items():
        assert row["peer"] == f"QEMU {image.qemu.version} e1000"
        for side, processes in SIDES.items():
            (value,) = row[f"{side}rounds"]
            assert row[f"{side}value"] == value > 0, name
            assert row[f"{side}seconds"] > 0
            assert set(row[f"{side}cpu_s"]) == processes
            rates = row[f"{side}per_second"]
            assert rates["frames"] > 0, name
            assert rates["tap_packets"] > 0, name
            assert rates["interrupts"] > 0, name
            assert (set(rates) >= MESSAGES) == (side == "")
        assert row["ratio"] == row["ratio_rounds"][0] > 0
        assert all(row["per_second"][message] > 0 for message in MESSAGES), name
