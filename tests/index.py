"""Which test files exercise which module: how docs/tests.md is written.

    python -m tests.index record tests/stack/core -n 2     # any arguments of pytest
    python -m tests.index write                            # or rewrite

`record` runs these tests uncompiled and notes in build/tests-index.json which lines of `stack` and
`e1000emu` each test file runs. Only lines inside functions count, because an import runs the
others. It replaces earlier data of these files and keeps the rest, so a part of the
suite at a time is enough. `write` adds missing rows from this data: those of new modules,
and of those whose test files were removed. `rewrite` renews all rows, for which the whole suite
must be recorded.

A row names at most five files. A line that few files run says more about a test than one that every
packet passes. So a line that N files run counts 1/N for each of them. Files with less than a tenth
of the sum of the first one are left out. Without data (a child process or a guest runs
the module), the row names files that import the module, else files that name its functions.
"""

from __future__ import annotations

import ast
import functools
import json
import os
import re
import subprocess
import sys
import tempfile
from collections import Counter, defaultdict
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs/tests.md"
NOTES = ROOT / "build/tests-index.json"
PACKAGES = ("stack", "e1000emu")
FILES = 5
LEAST = 0.1

ELSEWHERE = {
    "e1000emu/campaign/builtin/bench.py": ["e1000emu/campaign/test_builtin.py"],
    "e1000emu/campaign/builtin/qemu.py": ["e1000emu/campaign/test_builtin.py"],
    "e1000emu/cli/capi.py": ["e1000emu/embed/test_capi.py"],
    "e1000emu/cli/replay.py": ["e1000emu/record/test_record.py"],
    "e1000emu/cli/signals.py": ["e1000emu/cli/test_up.py", "e1000emu/cli/test_vfio_user.py"],
    "e1000emu/parallel/supervisor.py": ["e1000emu/parallel/test_simulate.py"],
    "stack/inet/inet_ops.py": ["stack/core/test_bsd_socket.py"],
}
"""Files that run modules in a process of their own, or while they are imported, and that neither
import nor name what these define."""

INTRO = """# Where a module's tests are

Tests are named by behaviour, so a module and its tests need not share a name. This page says which
test files exercise a module most: that of its name, if there is one, then the most telling first.
Modules of constants have no row. It is written by
`python -m tests.index write` from a recorded run of the suite, and `tests/test_index.py` checks
that each module has a row and that each file exists. Paths of tests begin in `tests/`. A file in
*italics* was not seen to run a line of the module's functions: it imports the module or names a
function of it. That is so where a child process or a guest runs the module, and where the run that
was recorded left the test out.
"""


@functools.cache
def modules() -> tuple[str, ...]:
    """Return the paths of all modules that have a function."""
    return tuple(
        path.relative_to(ROOT).as_posix()
        for package in PACKAGES
        for path in sorted((ROOT / package).rglob("*.py"))
        if re.search(r"^ *(async )?def ", path.read_text(), re.MULTILINE)
    )


def mirror(module: str) -> str | None:
    """Return the test file that has the module's name, if there is one."""
    path = Path(module)
    name = path.parent.name if path.stem == "__init__" else path.stem
    where = f"{path.parent.as_posix()}/test_{name}.py"
    return where if (ROOT / "tests" / where).exists() else None


def inside(path: Path) -> set[int]:
    """Return the lines of a module's functions."""
    return {
        line
        for function in ast.walk(ast.parse(path.read_text()))
        if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef)
        for line in range(function.body[0].lineno, (function.end_lineno or 0) + 1)
    }


def named() -> dict[str, list[str]]:
    """Return by module the test files that import it, else those that name its definitions."""
    words: dict[str, set[str]] = {}
    imports: dict[str, set[str]] = defaultdict(set)
    for path in sorted((ROOT / "tests").rglob("test_*.py")):
        test = path.relative_to(ROOT / "tests").as_posix()
        text = path.read_text()
        words[test] = set(re.findall(r"\w+", text))
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and node.module:
                names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
            else:
                continue
            for name in names:
                imports[name.replace(".", "/") + ".py"].add(test)
                imports[name.replace(".", "/") + "/__init__.py"].add(test)
    return {
        module: sorted(imports[module])[:FILES] if module in imports else naming(words, own)
        for module, own in definitions().items()
    }


def naming(words: dict[str, set[str]], own: set[str]) -> list[str]:
    """Return the test files that name most of these functions and classes."""
    counts = {test: len(own & found) for test, found in words.items() if own & found}
    return sorted(counts, key=lambda test: (-counts[test], test))[:FILES]


def definitions() -> dict[str, set[str]]:
    """Return by module its functions and classes that no other module defines."""
    defined = {
        module: {
            part.name
            for part in ast.parse((ROOT / module).read_text()).body
            if isinstance(part, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)
        }
        for module in modules()
    }
    places = Counter(name for names in defined.values() for name in names)
    return {
        module: {name for name in names if places[name] == 1} for module, names in defined.items()
    }


def ranked(notes: dict[str, dict[str, list[int]]], module: str) -> list[str]:
    """Return the test files that exercise a module most, the first one first."""
    files = {test: lines[module] for test, lines in notes.items() if module in lines}
    shared: dict[int, int] = defaultdict(int)
    for lines in files.values():
        for line in lines:
            shared[line] += 1
    weights = {test: sum(1 / shared[line] for line in lines) for test, lines in files.items()}
    order = sorted(weights, key=lambda test: (-round(weights[test], 3), test))
    return [test for test in order if weights[test] >= LEAST * weights[order[0]]][:FILES]


def page(notes: dict[str, dict[str, list[int]]], known: dict[str, list[str]]) -> str:
    """Return docs/tests.md; `known` has the rows to keep."""
    lines = [INTRO]
    folder = ""
    others = named()
    for module in sorted(modules(), key=lambda path: (str(Path(path).parent), path)):
        if str(Path(module).parent) != folder:
            folder = str(Path(module).parent)
            lines.append(f"\n## {folder}\n\n| Module | Test files |\n|---|---|\n")
        found = ranked(notes, module)
        own = mirror(module)
        if own:
            found = [own, *(test for test in found if test != own)][:FILES]
        tests = [f"`{test}`" for test in found]
        if kept := known.get(module):
            tests = kept
        elif not tests:
            tests = [f"*`{test}`*" for test in others[module] or ELSEWHERE.get(module, ())]
        lines.append(f"| `{Path(module).name}` | {', '.join(tests)} |\n")
    return "".join(lines)


def cells(text: str) -> dict[str, list[str]]:
    """Return the marked-up test files of each module that the page has."""
    found = {}
    folder = ""
    for line in text.splitlines():
        if line.startswith("## "):
            folder = line.removeprefix("## ")
        elif line.startswith("| `"):
            name, tests = line.strip("| ").split(" | ")[0], line.split("|")[2].strip()
            found[f"{folder}/{name.strip('`')}"] = [test for test in tests.split(", ") if test]
    return found


def rows(text: str) -> dict[str, list[str]]:
    """Return the test files of each module that the page has."""
    return {module: [test.strip("*`") for test in tests] for module, tests in cells(text).items()}


def standing(text: str) -> dict[str, list[str]]:
    """Return the cells of the page's rows whose files are all there."""
    return {
        module: tests
        for module, tests in cells(text).items()
        if all((ROOT / "tests" / test.strip("*`")).is_file() for test in tests)
    }


# In each worker of the run that `record` starts.


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, Any, Any]:
    """Record the lines that this test and its fixtures run under its file's name."""
    cover = _cover()
    if sys.gettrace() is None:  # an earlier test used its own trace function
        cover.stop()
        cover.start()
    cover.switch_context(item.path.relative_to(ROOT / "tests").as_posix())
    try:
        return (yield)
    finally:
        cover.switch_context("")


def pytest_sessionfinish() -> None:
    """Write this process's data beside that of the others; xdist's controller has none."""
    import coverage

    if (cover := coverage.Coverage.current()) is not None:
        cover.stop()
        cover.save()


def _cover() -> Any:
    """Return this process's coverage, begun at the first call."""
    import coverage

    if (found := coverage.Coverage.current()) is None:
        found = coverage.Coverage(
            os.environ["E1000EMU_INDEX"],
            data_suffix=True,
            source_pkgs=PACKAGES,
            config_file=False,
            messages=False,
        )
        found.start()
    return found


def read(folder: str) -> dict[str, dict[str, list[int]]]:
    """Return by test file, then by module, the lines of functions that were run."""
    import coverage  # only recording needs it, not the test of the page

    functions: dict[str, set[int]] = {}
    found: dict[str, dict[str, set[int]]] = defaultdict(lambda: defaultdict(set))
    for part in Path(folder).iterdir():
        data = coverage.CoverageData(str(part))
        data.read()
        for name in data.measured_files():
            path = Path(name)
            if not path.is_relative_to(ROOT):
                continue
            module = path.relative_to(ROOT).as_posix()
            if module not in functions:
                functions[module] = inside(path)
            for line, contexts in data.contexts_by_lineno(name).items():
                if line in functions[module]:
                    for test in contexts:
                        if test:
                            found[test][module].add(line)
    return {
        test: {module: sorted(lines) for module, lines in sorted(part.items())}
        for test, part in sorted(found.items())
    }


def record(arguments: list[str]) -> int:
    """Run pytest with these arguments and add to the data; return pytest's status."""
    with tempfile.TemporaryDirectory() as folder:
        status = subprocess.run(
            [sys.executable, "-m", "pytest", "-p", "tests.index", *arguments],
            env=os.environ
            | {"E1000EMU_UNCOMPILED": "1", "E1000EMU_INDEX": f"{folder}/coverage"}
            | {"E1000EMU_EXAMPLES": os.environ.get("E1000EMU_EXAMPLES", "0.1")},
            cwd=ROOT,
        ).returncode
        new = read(folder)
    notes = json.loads(NOTES.read_text()) if NOTES.exists() else {}
    NOTES.parent.mkdir(exist_ok=True)
    NOTES.write_text(json.dumps(notes | new))
    return status


def main(arguments: list[str]) -> int:
    """Record or write."""
    match arguments:
        case ["record", *rest]:
            return record(rest)
        case ["write" | "rewrite" as how]:
            notes = json.loads(NOTES.read_text()) if NOTES.exists() else {}
            known = standing(PAGE.read_text()) if how == "write" else {}
            PAGE.write_text(page(notes, known))
            return 0
    print(__doc__, file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
