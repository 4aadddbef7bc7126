"""The page of RFCs, made of rfcs.toml."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from pathlib import Path

STATUS = ("done", "partly", "not")

INTRO = """# RFCs

Written by `docs/generate.py` from `docs/rfcs.toml`. CI checks that each test named here exists.
Rows with *partly* and *not* say what is missing.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rfc:
    """One RFC: what it is `about`, how far it is done, and which tests say so."""

    number: int
    group: str
    about: str
    status: str
    tests: tuple[str, ...] = ()
    note: str = ""


def load(path: Path | None = None) -> list[Rfc]:
    """Every row.

    Raises:
        ValueError: a row without what it needs.
    """
    path = Path(__file__).with_name("rfcs.toml") if path is None else path
    rows = []
    for raw in tomllib.loads(path.read_text())["rfc"]:
        rfc = Rfc(**{**raw, "tests": tuple(raw.get("tests", ()))})
        if rfc.status not in STATUS:
            raise ValueError(f"RFC {rfc.number}: status {rfc.status!r} is none of {STATUS}")
        if rfc.status == "not" if rfc.tests else rfc.status != "not":
            raise ValueError(f"RFC {rfc.number}: {rfc.status}, and has {len(rfc.tests)} tests")
        if rfc.status != "done" and not rfc.note:
            raise ValueError(f"RFC {rfc.number}: {rfc.status} without a note")
        rows.append(rfc)
    numbers = [rfc.number for rfc in rows]
    twice = {number for number in numbers if numbers.count(number) > 1}
    if twice:
        raise ValueError(f"rows twice: {sorted(twice)}")
    return rows


def markdown() -> str:
    """The page: a table for each group, in the order of the file."""
    rows = load()
    out = [INTRO]
    for group in dict.fromkeys(rfc.group for rfc in rows):
        out.append(f"## {group}\n\n| RFC | about | | shown by | |\n|---|---|---|---|---|")
        for rfc in sorted((r for r in rows if r.group == group), key=lambda rfc: rfc.number):
            link = f"[{rfc.number}](https://www.rfc-editor.org/rfc/rfc{rfc.number})"
            shown = "<br>".join(f"`{test.partition('::test_')[2]}`" for test in rfc.tests)
            out.append(f"| {link} | {rfc.about} | {rfc.status} | {shown} | {rfc.note} |")
        out.append("")
    return "\n".join(out).rstrip() + "\n"
