"""The figures of README and docs/rates.md are made of benchmarks/recorded.json."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="module")
def rates() -> ModuleType:
    spec = importlib.util.spec_from_file_location("rates", ROOT / "docs" / "rates.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(ROOT / "docs")
        spec.loader.exec_module(module)
    return module


def test_a_block_is_filled_from_the_record_and_the_rest_stays(
    rates: ModuleType, tmp_path: Path
) -> None:
    page = tmp_path / "page.md"
    page.write_text("before\n<!-- begin growths -->\nstale\n<!-- end growths -->\nafter\n")
    text = rates.filled(page)
    assert text.startswith("before\n<!-- begin growths -->\n\n| row |")
    assert text.endswith("<!-- end growths -->\nafter\n")
    assert "stale" not in text
    page.write_text(text)
    assert rates.filled(page) == text


def test_a_block_that_nothing_makes_is_named(rates: ModuleType, tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("<!-- begin nonsense -->\n<!-- end nonsense -->\n")
    with pytest.raises(KeyError, match="nonsense"):
        rates.filled(page)


def test_every_group_of_rows_says_what_it_measures(rates: ModuleType) -> None:
    groups = {row.group for row in rates.benchmarks("rows").every_row()}
    assert groups == set(rates.WHAT)


def test_the_record_says_where_it_is_from_and_has_the_headline(rates: ModuleType) -> None:
    document = json.loads(rates.RECORDED.read_text())
    assert document["machine"]["when"]
    assert document["commit"]
    assert set(rates.README) <= {row["name"] for row in document["rows"]}
    for name, text in rates.README.items():
        row = next(row for row in document["rows"] if row["name"] == name)
        assert len(row["rounds"]) == 11  # Makefile, bench-record
        assert row["min"] <= row["median"] <= row["max"]
        assert f"| {text} | {rates.cell(row['value'])} " in (ROOT / "README.md").read_text()
