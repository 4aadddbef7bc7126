"""The page of the rules of misuse (e1000emu/insight/misuserules.py)."""

from __future__ import annotations

from e1000emu.insight.misuserules import RULES, cited

INTRO = """# What a driver can do wrong

Written by `docs/generate.py` from `e1000emu/insight/misuserules.py`. A real card reports no error
when its driver makes a mistake: frames just do not move, or only on some boards. Here each mistake
is an event that names the register or descriptor, the section of Intel's manual and the remedy.

* In a program, `nic.misuse.events()` returns kinds and counts, and `nic.misuse.cases()` the latest
  cases with time and values. `nic.explain()` says why no frames move.
* `Nic(strict=True)` raises `MisuseError` at the first mistake, for tests. It also checks at each
  doorbell whether the driver changed descriptors that belong to the device.
* `Bench(writeback_ns=2000)` (`e1000emu.testing`) delays write-backs and interrupts by this time. A
  driver that does not wait for DD then reads old content, which is reported.
* `e1000emu vfio-user` prints the text of `nic.explain()` at SIGUSR2.
* `e1000emu explain hang FILE` prints it for a state file (`vfio-user --state`). It also names bits
  that were set although the device only stores them (`e1000emu regs --coverage`);
  `nic.unmodelled.writes()` returns these. They are not mistakes, but may explain one.

Before you start: `make build`, then `. .venv/bin/activate` ([Install](index.md#install)).

```console
$ e1000emu explain rules
```

*Found* says when the device checks a rule. *Access*: at the access that breaks it. *Run*: when the
device processes a ring. *Asked*: when `explain` or `events` is called. *Audit*: at each doorbell of
a strict device, which compares the descriptors that belong to it. *Noted when* is the condition. An
event that is the consequence of another one is shown below it.

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
