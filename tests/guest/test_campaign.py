"""The built-in campaign `guests`: one kernel, one part, two sets of module parameters."""

from __future__ import annotations

from pathlib import Path

import pytest

from e1000emu.campaign import Campaign, run
from e1000emu.campaign.builtin import guests
from tests.guest.setup import prepared

pytestmark = pytest.mark.slow


@pytest.mark.night
def test_guests(tmp_path: Path) -> None:
    prepared()
    axes = {"kernel": ["trixie"], "model": ["82540EM"], "parameters": list(guests.PARAMETERS[:2])}
    few = Campaign("guests", axes=axes, limits=guests.campaign.limits, again=0)
    report = run(few, guests.case, executor="processes:1", results=tmp_path / "r.jsonl")
    assert report.ok, report.failures
    assert all("3 received" in outcome.output for outcome in report.outcomes)
    assert "bytes from 10.9.0.1" in report.outcomes[0].output
