"""docs/tests.md names for each module of the tree the test files that exercise it."""

from __future__ import annotations

from tests.index import PAGE, ROOT, cells, modules, page, ranked, rows, standing


def test_each_module_has_a_row_and_no_other() -> None:
    """A new module is recorded before it is handed in; a row of one that is gone misleads."""
    found = rows(PAGE.read_text())
    assert set(found) == set(modules()), "python -m tests.index record TESTS; ... write"


def test_each_module_has_a_test() -> None:
    """A module that no test runs or imports is either dead or untested."""
    assert {module for module, tests in rows(PAGE.read_text()).items() if not tests} == set()


def test_each_named_file_exists() -> None:
    """A row must not lead to a file that was renamed or removed."""
    named = {test for tests in rows(PAGE.read_text()).values() for test in tests}
    assert [test for test in sorted(named) if not (ROOT / "tests" / test).is_file()] == []


def test_the_most_telling_file_comes_first() -> None:
    """Lines that every file runs say less than a few that one file alone runs."""
    general = {"stack/a.py": [1, 2, 3, 4, 5, 6]}
    notes = {
        "test_narrow.py": {"stack/a.py": [7, 8, 9, 10]},
        **{f"test_general{number}.py": general for number in range(20)},
    }
    assert ranked(notes, "stack/a.py") == ["test_narrow.py"]


def test_writing_from_a_part_of_the_suite_keeps_the_other_rows() -> None:
    """Who has recorded the tests of a new module alone adds its row alone."""
    text = PAGE.read_text()
    assert page({}, standing(text)) == text
    module = next(iter(modules()))
    gone = text.replace(cells(text)[module][0], "`test_gone.py`")
    assert module not in standing(gone)


def test_files_that_say_as_much_come_in_the_order_of_their_names() -> None:
    """The parts of the suite are recorded one by one, in any order."""
    notes = {name: {"stack/a.py": [1, 2]} for name in ("test_b.py", "test_c.py", "test_a.py")}
    assert ranked(notes, "stack/a.py") == ["test_a.py", "test_b.py", "test_c.py"]
