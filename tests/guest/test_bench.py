"""`benchmarks/bench_guest.py` with two real guests: every figure is there, and nothing is left."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from benchmarks.bench_guest import MEASUREMENTS
from e1000emu.guest import GuestImage
from tests.support import require

ROOT = Path(__file__).resolve().parents[2]
SIDES = {"": {"qemu", "server"}, "peer_": {"qemu"}}
MESSAGES = {"region_reads", "posted_writes", "unmasks"}
SMALL = ("udp_guest_host_64B", "udp_host_guest_64B", "flood_frames_64B", "pktgen_64B")


def namespaces() -> set[str]:
    made = subprocess.run(["ip", "netns", "list"], capture_output=True, text=True, check=True)
    return {line.split()[0] for line in made.stdout.splitlines() if line.startswith("e1kbench-")}


def measured(path: Path, *options: str) -> list[dict[str, Any]]:
    """Run one quick round and return its rows; nothing of it is left."""
    require.taps()
    for tool, package in (("iperf3", "iperf3"), ("ping", "iputils-ping")):
        require.tool(tool, package)
    before = namespaces()
    done = subprocess.run(
        [
            *(sys.executable, str(ROOT / "benchmarks" / "bench_guest.py")),
            *("--quick", "--rounds", "1", "--json", "-o", str(path), *options),
        ],
        capture_output=True,
        text=True,
        timeout=850,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert namespaces() <= before
    rows: list[dict[str, Any]] = json.loads(path.read_text())
    return rows


@pytest.mark.night
@pytest.mark.netns
@pytest.mark.slow
@pytest.mark.timeout(900)
def test_every_figure_is_there_for_both(image: GuestImage, tmp_path: Path) -> None:
    rows = {row["name"]: row for row in measured(tmp_path / "rows.json")}
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
            assert row[f"{side}setup"] == {"cpus": 1, "receive_buffer_bytes": 8 << 20}
        assert row["ratio"] == row["ratio_rounds"][0] > 0
        assert all(row["per_second"][message] > 0 for message in MESSAGES), name


@pytest.mark.netns
@pytest.mark.night
@pytest.mark.slow
@pytest.mark.timeout(900)
def test_small_frames_with_the_buffers_that_linux_has(image: GuestImage, tmp_path: Path) -> None:
    """One processor, 208 KiB for a socket: what a user's guest has who sets nothing."""
    only = [word for name in SMALL for word in ("--only", name)]
    rows = measured(tmp_path / "rows.json", "--default-buffers", *only)
    assert [row["name"] for row in rows] == list(SMALL)
    for row in rows:
        assert row["value"] > 0
        assert row["peer_value"] > 0
        for side in SIDES:
            assert row[f"{side}setup"] == {"cpus": 1, "receive_buffer_bytes": 212992}
    # A flood is one: what comes to the program has come to the card, and most of it nowhere.
    by_name = {row["name"]: row for row in rows}
    flood = by_name["udp_host_guest_64B"]
    for side in SIDES:
        assert flood[f"{side}value"] <= flood[f"{side}per_second"]["frames"]
        assert flood[f"{side}extra"]["lost"] > 0
