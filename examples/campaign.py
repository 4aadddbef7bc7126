"""A campaign: a driver's frames must leave, whatever the hardware does wrong.

`e1000emu campaign run examples/campaign.py`, or `python examples/campaign.py`.
"""

from dataclasses import replace

from e1000emu.campaign import Campaign, Case, Result, run
from e1000emu.insight.faults import Faults

campaign = Campaign(
    "frames-leave",
    axes={
        "model": ["82540EM", "82545EM"],
        "faults": [Faults(), Faults(writeback_ns=1_000_000), Faults(irq_lost=0.1)],
        "seed": range(8),
    },
    again=20,
)


@campaign.case
def case(c: Case) -> Result:
    bench = c.bench(model=c.model, faults=replace(c.faults, seed=c.seed))
    driver = bench.guest  # put yours here
    driver.up()
    bench.clock.run_for(3_000_000_000)  # the PHYs negotiate
    sent = []
    for frame in c.steps(bytes([c.seed]) * (60 + n) for n in range(20)):  # a shrink drops some
        driver.post_legacy(frame)
        sent.append(frame)
    driver.kick()
    bench.clock.run_for(1_000_000_000)
    assert bench.link.frames == sent
    return Result(figures={"frames": len(sent)})


if __name__ == "__main__":
    report = run(campaign)
    print(report)
    print(report.matrix("faults", "model"))
