"""Our NIC beside QEMU's e1000: tests/qemu's programs on both, a case each.

A difference without a ruling in tests/qemu/rulings.toml is a failure.  Needs qemu-system-x86_64.
"""

from __future__ import annotations

import shutil

from e1000emu.campaign import Campaign, Case, Limits
from e1000emu.campaign.builtin import of_the_tree
from e1000emu.errors import E1000Error

differential = of_the_tree("qemu", "tests.qemu.test_differential")
if shutil.which("qemu-system-x86_64") is None:
    raise E1000Error("campaign qemu: needs QEMU; run: apt-get install qemu-system-x86")

campaign = Campaign(
    "qemu",
    axes={"program": list(differential.PROGRAMS), "model": list(differential.DEVICES)},
    limits=Limits(seconds=120, memory_bytes=16 << 30),
)


@campaign.case
def case(c: Case) -> None:
    """Run one program on both cards."""
    ours, theirs = differential.Ours(c.model), differential.Qemus(c.model)
    c.watch(ours.nic)
    try:
        cards = differential.Cards(c.model, ours, theirs)
        wrong = differential.both(cards, c.program, differential.PROGRAMS[c.program], set())
    finally:
        theirs.close()
    assert not wrong, "\n".join(wrong)
