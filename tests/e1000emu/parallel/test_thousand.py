"""The scenario of a thousand hosts, divided among 1 and 8 processes, does the same."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.support import run_to_end

FILE = Path(__file__).parents[3] / "examples" / "two-tiers.toml"


def run(processes: int) -> dict[str, Any]:
    """Run it for a tenth of the time that the page shows."""
    done = run_to_end(
        [
            *(sys.executable, "-m", "e1000emu", "lab", FILE, "--for", "1s", "--json"),
            *("--processes", processes),
        ]
    )
    assert done.returncode == 0, done.stderr
    report: dict[str, Any] = json.loads(done.stdout)
    assert len(report["processes"]) == processes
    return {k: report[k] for k in ("digest", "events", "drops", "virtual_seconds", "run")}


@pytest.mark.night
@pytest.mark.timeout(600)
def test_a_thousand_hosts_do_the_same_in_any_number_of_processes() -> None:
    first = run(1)
    sent = [row["figures"]["bytes"] for row in first["run"] if row["node"] != "server"]
    assert len(sent) == 1000
    assert sum(n > 0 for n in sent) > 900  # the others have just connected
    assert first["drops"]["link: loss"] > 0
    assert run(8) == first
