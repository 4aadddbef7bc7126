"""The page of the rules of misuse (e1000emu/insight/misuserules.py)."""

from __future__ import annotations

from e1000emu.insight.misuserules import RULES, cited

INTRO = """# What a driver can do wrong

Written by `docs/generate.py` from `e1000emu/insight/misuserules.py`. A real card says nothing when
its driver is wrong: frames do not move, or not on every board. Here each mistake is an event with
its register or descriptor, the section of Intel's manual and the remedy.

* In a program `nic.misuse.events()` has kinds and counts, `nic.misuse.cases()` the latest cases
  with time and values, and `nic.explain()` says why nothing moves.
* `Nic(strict=True)` raises `MisuseError` at the first mistake, for a test; it also compares the
  descriptors that it owns at each doorbell.
* `Bench(writeback_ns=2000)` (`e1000emu.testing`) shows what the device has written, and interrupts,
  so much later. A driver that does not wait for DD reads old content, and is told so.
* `e1000emu vfio-user` says at SIGUSR2 what `nic.explain()` does.
* `e1000emu explain hang FILE` says it of a state file (`vfio-user --state`). It also names bits
  that were set but that the device only stores (`e1000emu regs --coverage`);
  `nic.unmodelled.writes()` returns these. They are no mistake, but may explain one.

Before you start: `make build`, then `. .venv/bin/activate` ([Install](index.md#install)).

```console
$ e1000emu explain rules
```

*Found* says when the device checks a rule: at the **access** that breaks it, by a **run** of a
ring, or when somebody has **asked**. A strict device also makes an **audit**, at each doorbell, of
the descriptors that belong to it. *Noted when* is the condition. An event that follows from another
one, as a frame without end does from a ring that is not aligned, is shown below it.

| rule | about | found | noted when | source | remedy |
|---|---|---|---|---|---|
"""


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def markdown() -> str:
    """Return docs/misuse.md."""
    lines = [INTRO]
    for rule in RULES:
        condition, remedy = _cell(rule.condition), _cell(rule.remedy)
        cells = (f"`{rule.name}`", rule.where, rule.when, condition, cited(rule.sdm), remedy)
        lines.append(f"| {' | '.join(cells)} |\n")
    return "".join(lines)
