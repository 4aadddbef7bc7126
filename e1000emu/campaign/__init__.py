"""Campaigns: one function over every combination of some axes, on one machine or on many.

    from e1000emu.campaign import Campaign, Case, run

    campaign = Campaign("resets", axes={"model": ["82540EM", "82545EM"], "seed": range(1000)})

    @campaign.case
    def case(c: Case) -> None:
        bench = c.bench(model=c.model)
        bench.guest.up()
        assert bench.guest.send(b"\\xff" * 60) == 1

    if __name__ == "__main__":
        print(run(campaign))

A case is a pure function of its values: it takes randomness from a seed among them and time from a
virtual clock.  It runs in a process of its own, so that a crash or a hang is a result.  A digest
identifies its behaviour; one case in a hundred runs twice, on two workers, and must give the same.
"""

from __future__ import annotations

from e1000emu.campaign.case import Campaign, Case, Limits, Result
from e1000emu.campaign.report import Matrix, Report
from e1000emu.campaign.results import CampaignError, DigestsDiffer, Outcome, Status, read
from e1000emu.campaign.run import run
from e1000emu.campaign.shrink import shrink

__all__ = [
    "Campaign",
    "CampaignError",
    "Case",
    "DigestsDiffer",
    "Limits",
    "Matrix",
    "Outcome",
    "Report",
    "Result",
    "Status",
    "read",
    "run",
    "shrink",
]
