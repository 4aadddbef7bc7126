"""The tables of `impair` and `faults` have every argument, with its description."""

from __future__ import annotations

import dataclasses
import inspect
import sys
from pathlib import Path

import pytest

from e1000emu.cli.params import parse_faults, parse_impair
from e1000emu.insight.faults import Faults
from e1000emu.links import Impair

DOCS = Path(__file__).resolve().parents[2] / "docs"


@pytest.fixture
def arguments(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.syspath_prepend(str(DOCS))
    yield __import__("arguments")
    for name in ("arguments", "blocks"):
        sys.modules.pop(name, None)


def test_every_argument_is_described(arguments) -> None:
    impair = set(inspect.signature(Impair).parameters) - {"link", "clock"}
    assert set(arguments.said_of_impair()) == impair
    assert set(arguments.said_of_faults()) == {field.name for field in dataclasses.fields(Faults)}


def test_what_the_tables_show_is_taken(arguments) -> None:
    for name, parse in (("impair", parse_impair), ("faults", parse_faults)):
        rows = [line.split("|")[1:-1] for line in arguments.BLOCKS[name]().splitlines()[2:]]
        assert len(rows) > 10
        for row in rows:
            python, typed, _, said = (cell.strip().strip("`") for cell in row)
            found = parse(typed)
            assert (python in found) if name == "impair" else getattr(found, python)
            assert said
