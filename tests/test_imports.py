"""The one direction of dependence between the packages."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import grimp

ROOT = Path(__file__).parent.parent
PACKAGES = ("fastpath", "e1000emu", "stack")
# The layer that joins device and stack; nothing of the device may rest on it.
TOP = ("e1000emu.__main__", "e1000emu.cli", "e1000emu.lab")


def in_top(module: str) -> bool:
    return any(module == t or module.startswith(t + ".") for t in TOP)


def test_import_linter_contracts_hold() -> None:
    run = subprocess.run(
        [Path(sys.executable).parent / "lint-imports", "--no-cache"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stdout + run.stderr


def test_nothing_below_imports_the_top_layer() -> None:
    graph = grimp.build_graph(*PACKAGES, cache_dir=None)
    wrong = [
        f"{module} -> {target}"
        for module in graph.modules
        if not in_top(module)
        for target in graph.find_modules_directly_imported_by(module)
        if in_top(target)
    ]
    assert wrong == []


def test_compiled_sources_import_only_their_own_package() -> None:
    pattern = re.compile(r"^\s*(?:from|cimport|import)\s+(e1000emu|stack)\b", re.MULTILINE)
    sources = [*ROOT.glob("fastpath/*.pyx"), *ROOT.glob("fastpath/*.pxd")]
    assert sources
    assert [str(p) for p in sources if pattern.search(p.read_text())] == []


def test_every_directory_of_modules_is_a_typed_package() -> None:
    for package in PACKAGES:
        assert (ROOT / package / "py.typed").exists()
        for module in (ROOT / package).rglob("*.py"):
            if "__pycache__" not in module.parts:
                assert (module.parent / "__init__.py").exists(), module
