"""Names of packages that are imported when they are first asked for."""

from __future__ import annotations

import importlib
import subprocess
import sys

import pytest

import e1000emu
from e1000emu import embed


@pytest.mark.parametrize("package", [e1000emu, embed])
def test_each_public_name_is_that_of_its_module(package: object) -> None:
    modules = package._MODULES  # type: ignore[attr-defined]
    names = [(module, name) for module, group in modules.items() for name in group]
    assert sorted(name for _, name in names) == sorted(package.__all__)  # type: ignore[attr-defined]
    for module, name in names:
        if module != "unicorn":  # another package
            found = importlib.import_module(f"{package.__name__}.{module}")  # type: ignore[attr-defined]
            assert getattr(package, name) is getattr(found, name)
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        package.nothing  # type: ignore[attr-defined]  # noqa: B018


def test_nothing_is_imported_before_it_is_asked_for() -> None:
    code = "import sys, e1000emu.embed; print([m for m in sys.modules if m.startswith('fastpath')])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
