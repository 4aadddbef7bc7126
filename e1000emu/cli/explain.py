"""`e1000emu explain`: says from a state file why its device does not move; lists the misuse
rules."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from e1000emu.cli.common import emit_json, report_options
from e1000emu.cli.errors import ArgumentError

if TYPE_CHECKING:
    from e1000emu.device.nic import Nic

HANG, RULES = "hang", "rules"
FOUND = {
    "access": "the access",
    "run": "a run of the ring",
    "asked": "who asks",
    "audit": "the audit of a strict device",
}


def report(nic: Nic) -> dict[str, Any]:
    """Return why `nic` does not move as plain data."""
    from e1000emu.insight.explain import idle, reasons

    found = reasons(nic)
    return {
        "model": nic.model.name,
        "mac": nic.mac.hex(":"),
        "link_up": nic.link_up,
        "reasons": [asdict(reason) for reason in found],
        "idle": [asdict(reason) for reason in idle(nic)],
        "misuse": [asdict(event) for event in nic.misuse.events()],
        "unmodelled": [asdict(w) | {"text": str(w)} for w in nic.unmodelled.writes()],
    }


def _rows() -> list[dict[str, str]]:
    from e1000emu.insight.misuserules import RULES

    return [
        {
            "name": r.name,
            "register": r.where,
            "sdm": r.sdm,
            "when": r.when,
            "condition": r.condition,
            "remedy": r.remedy,
        }
        for r in RULES
    ]


def lines(found: dict[str, Any]) -> list[str]:
    """Return a report as lines: what is wrong, then what is only idle."""
    from e1000emu.insight.explain import mark
    from e1000emu.insight.misuserules import cited

    out = [f"{found['model']} {found['mac']}, link {'up' if found['link_up'] else 'down'}"]
    wrong = [(r["text"], r["sdm"], r["remedy"]) for r in found["reasons"]]
    wrong += [
        (f"{mark(e['because'])}{e['name']} x{e['count']}: {e['last']}.", e["section"], e["remedy"])
        for e in found["misuse"]
    ]
    if not wrong:
        out.append("Nothing keeps frames or interrupts back.")
        wrong = [(r["text"], r["sdm"], r["remedy"]) for r in found["idle"]]
    for text, section, remedy in wrong:
        out += [text, f"    {cited(section)}: {remedy}"]
    stored = [f"    {w['text']}" for w in found["unmodelled"]]
    return [*out, "Bits that were set and only store:", *stored] if stored else out


@click.command()
@click.argument("what", type=click.Choice([HANG, RULES]))
@click.argument(
    "state", required=False, type=click.Path(exists=True, dir_okay=False, path_type=Path)
)
@report_options
def command(what: str, state: Path | None, as_json: bool) -> None:
    """Say why nothing moves (`hang`), or list the rules of misuse (`rules`).

    `hang` takes a file that `vfio-user --state` wrote. It looks at link, enables, rings, bus
    mastering, interrupts, moderation, PAUSE and what the driver did wrong. Each finding has the
    section of Intel's manual (317453) and the remedy. The file is not changed. A device that runs
    says the same at SIGUSR2 (`e1000emu vfio-user`), in a program `nic.explain()` does.
    """
    if what == RULES:
        if state is not None:
            raise ArgumentError("rules: takes no file")
        if as_json:
            emit_json(_rows())
            return
        from e1000emu.insight.misuserules import cited

        for row in _rows():
            click.echo(f"{row['name']}: {row['register']} ({cited(row['sdm'])})")
            click.echo(f"    noted by {FOUND[row['when']]}, when {row['condition']}")
            click.echo(f"    {row['remedy']}")
        return
    if state is None:
        raise ArgumentError("hang: name the device's state file (vfio-user --state FILE)")
    from e1000emu.insight.examine import nic_of_file

    found = report(nic_of_file(state))
    if as_json:
        emit_json(found)
    else:
        for line in lines(found):
            click.echo(line)
