"""The package's face: what `import e1000emu` offers, and what is said when it cannot work."""

from __future__ import annotations

import ast
import shutil
import sys
from pathlib import Path

import pytest

import e1000emu
import fastpath
from tests.support import run_to_end

HERE = Path(e1000emu.__file__).parent


def test_public_names_are_sorted_and_declared_for_type_checkers() -> None:
    assert e1000emu.__all__ == sorted(e1000emu.__all__, key=lambda n: (n.islower(), n))
    tree = ast.parse((HERE / "__init__.py").read_text())
    declared = {
        alias.name: node.module
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("e1000emu.")
        for alias in node.names
        if alias.name != "lazy_names"
    }
    named = {name: f"e1000emu.{m}" for m, names in e1000emu._MODULES.items() for name in names}
    assert declared == named
    assert set(e1000emu.__all__) <= set(dir(e1000emu))


def test_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="has no attribute 'Nick'"):
        e1000emu.Nick  # noqa: B018


@pytest.mark.parametrize("words", [["doctor"], ["--version"], ["regs", "RCTL"]])
def test_without_compiled_modules_one_line_names_the_remedy(
    tmp_path: Path, words: list[str]
) -> None:
    shutil.copytree(HERE, tmp_path / "e1000emu", ignore=shutil.ignore_patterns("__pycache__"))
    source = Path(fastpath.__file__).parent
    shutil.copytree(
        source, tmp_path / "fastpath", ignore=shutil.ignore_patterns("__pycache__", "gro.*.so")
    )
    done = run_to_end([sys.executable, "-m", "e1000emu", *words], cwd=tmp_path)
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert line.startswith("e1000emu: fastpath: no compiled net.gro for cpython")
    assert "pip install --force-reinstall --no-deps DIRECTORY" in line
