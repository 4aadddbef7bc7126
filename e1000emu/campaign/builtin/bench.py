"""The rows of `e1000emu bench`, a case each, every one on a processor of its own.

Figures are ratios to the row's peer, measured in the same case; absolute rates are beside them.
A measured row counts as passed: compare two reports to see whether it is fast enough.
"""

from __future__ import annotations

from e1000emu.campaign import Campaign, Case, Limits, Result
from e1000emu.cli.bench import HEADLINE, rows

campaign = Campaign(
    "bench",
    axes={"row": list(HEADLINE), "round": range(3)},
    limits=Limits(seconds=600, memory_bytes=16 << 30),
    again=0,
    exclusive=True,
)


@campaign.case
def case(c: Case) -> Result:
    """Measure a row and its peer in turn."""
    figures: dict[str, float | int | str] = {}
    for found in rows(quick=True, only=c.row):
        figures[found["name"]] = found["value"]
        if found["name"] == c.row and found.get("ratio") is not None:
            figures["ratio"] = found["ratio"]
    return Result(figures=figures)
