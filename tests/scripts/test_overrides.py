"""scripts/stackc/overrides.py: each row says the truth, and a patch in upstream/ does the same."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import Cython
import pytest

from tests.support import require

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "scripts"))

from stackc.overrides import OVERRIDES, SWITCH, VERSION, Override  # noqa: E402

UPSTREAM = ROOT / "scripts/stackc/upstream"
IDS = [row.name for row in OVERRIDES]

CHANGED = """
import importlib, pkgutil, sys
sys.path.insert(0, sys.argv[1] + "/scripts")
import Cython.Build, Cython.Compiler
from stackc import overrides
from Cython.Compiler.Code import UtilityCode
for package in (Cython.Build, Cython.Compiler):
    for found in pkgutil.iter_modules(package.__path__, package.__name__ + "."):
        if not found.name.rpartition(".")[2] in ("Tests", "IpythonMagic"):
            importlib.import_module(found.name)
def present():
    found = {}
    for module in [m for name, m in sys.modules.items() if name.startswith("Cython.")]:
        for name, value in vars(module).items():
            found[f"{module.__name__}.{name}"] = value
            if isinstance(value, type) and value.__module__ == module.__name__:
                for inner, of in vars(value).items():
                    found[f"{module.__name__}.{name}.{inner}"] = of
    frames = UtilityCode.load_cached("AddTraceback", "Exceptions.c")
    return {name: id(of) for name, of in found.items()} | {"Utility.Exceptions.c": frames.impl}
before = present()
overrides.install("all", "stack", "one")
after = present()
print(*sorted(name.removeprefix("Cython.") for name in after if after[name] != before.get(name)))
"""


def changed(without: list[str]) -> set[str]:
    """What of Cython is another when all rows but these are installed."""
    done = subprocess.run(
        [sys.executable, "-c", CHANGED, str(ROOT)],
        env=os.environ | {SWITCH: ",".join(without)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return set(done.stdout.split())


def test_the_rows_name_all_that_is_replaced() -> None:
    assert changed([]) == {name for row in OVERRIDES for name in row.replaces}
    assert changed(IDS) == set()
    assert len(IDS) == len(set(IDS))


@pytest.mark.parametrize("row", OVERRIDES, ids=IDS)
def test_a_row_replaces_what_it_names(row: Override) -> None:
    assert changed([name for name in IDS if name != row.name]) == set(row.replaces)


@pytest.mark.parametrize("row", OVERRIDES, ids=IDS)
def test_a_row_has_a_reason_a_test_and_a_figure(row: Override) -> None:
    path, _, name = row.test.partition("::")
    assert re.search(rf"^def {name}\(", (ROOT / path).read_text(), re.M), row.test
    assert row.why.endswith(".")
    assert re.search(r"\d", row.saves), "no figure"
    if row.upstream.endswith(".patch"):
        assert (UPSTREAM / row.upstream).exists()
    else:
        assert row.upstream.startswith("No")


def test_one_minor_version_of_cython() -> None:
    build = tomllib.loads((ROOT / "pyproject.toml").read_text())["build-system"]["requires"]
    assert [word for word in build if word.startswith("cython~=" + VERSION + ".")]
    assert Cython.__version__.startswith(VERSION + ".")


@pytest.mark.parametrize(
    ("before", "switch", "said"),
    [
        ("Cython.__version__ = '3.4.0'", "", "here is 3.4.0: pip install 'cython~=3.3.0'"),
        ("", "needed,wrong", f"{SWITCH}: no such override: wrong"),
    ],
)
def test_what_is_refused(before: str, switch: str, said: str) -> None:
    program = f"import sys, Cython; sys.path.insert(0, sys.argv[1]); {before}\n"
    done = subprocess.run(
        [sys.executable, "-c", program + "from stackc.overrides import *; install()", "scripts"],
        cwd=ROOT,
        env=os.environ | {SWITCH: switch},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert said in done.stderr


def test_the_key_of_the_cache_has_these_programs_in_it() -> None:
    program = (
        "import sys; sys.path.insert(0, 'scripts'); from stackc import overrides\n"
        "from Cython.Build import Cache; overrides.install('all'); print(Cache.__version__)"
    )
    keys = []
    for switch in ("", "needed", "needed"):
        env = os.environ | {SWITCH: switch}
        done = subprocess.run(
            [sys.executable, "-c", program], cwd=ROOT, env=env, capture_output=True, text=True
        )
        keys.append(done.stdout)
    assert keys[0] != keys[1] == keys[2]
    assert all(key.startswith(VERSION) for key in keys)


SOURCES = {
    "common.pxd": """
cdef class Used:
    cdef public int field
cdef class Unused:
    cdef public Used used
""",
    "common.pyx": """
cdef class Used:
    pass
cdef class Unused:
    pass
""",
    "one.pyx": """
from common cimport Unused, Used
from cpython.type cimport type as of_cython
cpdef int again(Used it) except? -1:
    try:
        return 1 // it.field
    except ZeroDivisionError:
        raise
def view(int[:] items):
    return items[0]
""",
}
TRANSLATE = """
import sys
sys.path.insert(0, sys.argv[1] + "/scripts")
from pathlib import Path
from stackc.translate import translate
modules = {name: Path(f"{name}.pyx") for name in ("common", "one")}
translate(modules, ["common"], 2, include_path=["."], compiler_directives={"language_level": 3})
"""
MACRO = (
    r"(\n/\* None\.proto \*/\n)?"
    r"#ifndef CYTHON_WRAPPER_CODE\n  #define CYTHON_WRAPPER_CODE\n#endif\n"
)
"""Stands elsewhere in the one than in the other."""


@pytest.mark.night
@pytest.mark.slow
def test_the_patches_apply_to_cython_and_do_the_same(tmp_path: Path) -> None:
    """A patched copy of the installed Cython writes the C that the rows without the patch write."""
    require.tool("patch")
    copy = tmp_path / "patched/Cython"
    ignored = shutil.ignore_patterns("*.so", "__pycache__", "Tests")
    shutil.copytree(Path(Cython.__file__).parent, copy, ignore=ignored)
    theirs = [row for row in OVERRIDES if row.upstream.endswith(".patch")]
    patches = {row.upstream for row in theirs}
    assert patches == {path.name for path in UPSTREAM.iterdir()}
    for name in sorted(patches):
        done = subprocess.run(
            ["patch", "-p1", "--forward", "--fuzz=0", "-i", UPSTREAM / name],
            cwd=copy.parent,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, f"{name}: {done.stdout}"
    written = []
    for where, path, without in (
        ("ours", "", [row.name for row in OVERRIDES if row not in theirs]),
        ("theirs", str(copy.parent), IDS),
    ):
        (tmp_path / where).mkdir()
        for name, text in SOURCES.items():
            (tmp_path / where / name).write_text(text)
        done = subprocess.run(
            [sys.executable, "-c", TRANSLATE, str(ROOT)],
            cwd=tmp_path / where,
            env=os.environ | {SWITCH: ",".join(without), "PYTHONPATH": path},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        texts = [(tmp_path / where / f"{name}.c").read_text() for name in ("common", "one")]
        written.append([re.sub(MACRO, "", text) for text in texts])
    assert "struct __pyx_obj_6common_Unused {" not in written[0][1]
    assert written[0] == written[1]
