"""The figures of large labs: hosts beside Linux's namespaces, clients beside ns-3's."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support import require

ROOT = Path(__file__).resolve().parents[2]


def namespaces() -> str:
    """Return the names of this machine's network namespaces and interfaces."""
    shown = [("ip", "netns", "list"), ("ip", "-brief", "link")]
    done = [
        subprocess.run(command, capture_output=True, text=True, check=True) for command in shown
    ]
    return "".join(each.stdout for each in done)


@pytest.mark.netns
def test_hosts_beside_namespaces_which_are_gone_afterwards() -> None:
    require.netns()
    done = subprocess.run(
        [sys.executable, str(ROOT / "benchmarks" / "lab_hosts.py"), "5"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found = re.findall(r"^(\S.*?) +([0-9.]+) ms +(-?[0-9.]+) MiB a host$", done.stdout, re.M)
    assert [kind for kind, _, _ in found] == ["82540EM", "light (TAP)", "Linux namespaces"]
    assert all(float(ms) > 0 for _, ms, _ in found)
    assert "e1k-lab" not in namespaces()


def test_ns3_runs_the_same_clients(tmp_path: Path) -> None:
    require.tool("g++")
    require.header("ns3/core-module.h", "libns3-dev")
    source = ROOT / "benchmarks" / "peers" / "ns3_lab.cc"
    libraries = ("applications", "point-to-point", "internet", "network", "core")
    subprocess.run(
        ["g++", "-std=c++17", str(source), "-o", "lab", *(f"-lns3-{name}" for name in libraries)],
        cwd=tmp_path,
        check=True,
    )
    shown = subprocess.run(
        ["./lab", "20", "5"], cwd=tmp_path, capture_output=True, text=True, check=True
    ).stdout
    found = dict(line.split() for line in shown.splitlines())
    assert found["clients"] == "20"
    assert int(found["events"]) > 1000
    # 64 kbit/s each for five seconds, less what is under way
    assert 0.9 * 20 * 8000 * 5 < int(found["bytes"]) <= 20 * 8000 * 5
