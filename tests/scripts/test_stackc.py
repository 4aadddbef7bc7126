"""scripts/stackc: each rule of docs/architecture.md, "Compiled or readable", in a tree of its own.

`rules/` has small modules that stand for the stack's. They are translated, compiled and held
against their own sources (`rules/check_rules.py`) in a process where `stack` is this small package.
"""

from __future__ import annotations

import ast
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import Cython
import pytest

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
sys.path.insert(0, str(ROOT / "scripts"))

from stackc.constants import Constants  # noqa: E402
from stackc.module import Module, Translator, declare  # noqa: E402
from stackc.slots import Slots  # noqa: E402
from stackc.tree import resolve  # noqa: E402
from stackc.types import ExtensionTypes  # noqa: E402

WHERE = {
    "consts": "stack/consts.py",
    "callee": "stack/callee.py",
    "rules": "stack/rules.py",
    "netdevice": "stack/core/netdevice.py",
    "dst": "stack/core/dst.py",
}
BUILD = """
import os, sys
sys.path.insert(0, sys.argv[1] + "/scripts")
from pathlib import Path
from Cython.Build import cythonize
from setuptools import Extension, setup
from stackc.build import COMPILE_FLAGS, OPTIMIZE, directives
from stackc.translate import translate
from stackc.tree import generate
out = Path("build/stackc")
modules = generate(Path.cwd(), out, ["stack.callee", "stack.rules"])
options = {"compiler_directives": directives(), "include_path": [str(out), "."]}
translate(modules, ["stack._state"], 2, **options)
sys.argv[1:] = ["-q", "build_ext", "--inplace"]
setup(
    ext_modules=cythonize(
        [
            Extension(
                name,
                [str(path)],
                include_dirs=["fastpath/_c", sys.path[0] + "/stackc"],
                extra_compile_args=[*COMPILE_FLAGS, OPTIMIZE["cold"], "-g0"],
            )
            for name, path in modules.items()
        ],
        quiet=True,
        **options,
    ),
)
"""


@pytest.mark.slow
def test_rules_mean_the_same_compiled(tmp_path: Path) -> None:
    for name, where in WHERE.items():
        target = tmp_path / where
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(HERE / f"rules/{name}.py", target)
    for name in ("__init__.py", "_sources.py", "core/__init__.py", "core/rows.py"):
        shutil.copy(ROOT / "stack" / name, tmp_path / "stack" / name)
    (tmp_path / "fastpath").symlink_to(ROOT / "fastpath")
    shutil.copy(HERE / "rules/check_rules.py", tmp_path / "test_rules.py")
    env = os.environ | {"PYTHONPATH": str(tmp_path), "E1000EMU_UNCOMPILED": "0"}
    for command in (
        [sys.executable, "-c", BUILD, str(ROOT)],
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_rules.py"],
    ):
        run = subprocess.run(
            command, cwd=tmp_path, env=env, capture_output=True, text=True, check=False
        )
        assert run.returncode == 0, run.stdout[-20000:] + run.stderr[-5000:]


TRANSLATE = """
import sys
sys.path.insert(0, sys.argv[1] + "/scripts")
from pathlib import Path
from stackc.translate import translate
modules = {name: Path(f"{name}.pyx") for name in ("common", "uses", "apart", "wrong")}
translate(modules, ["common"], 2, include_path=["."], language_level=3, cache="cache")
"""


def test_each_module_is_translated_when_it_is_older_than_what_it_reads(tmp_path: Path) -> None:
    """And what Cython refuses is named, with the others done."""
    texts = {
        "common.pxd": "cdef class Thing:\n    cdef int field\n",
        "common.pyx": "cdef class Thing:\n    pass\n",
        "uses.pyx": "from common cimport Thing\ndef of(Thing t):\n    return t.field\n",
        "apart.pyx": "def one():\n    return 1\n",
        "wrong.pyx": "def one(:\n",
    }
    for name, text in texts.items():
        (tmp_path / name).write_text(text)

    def run() -> tuple[int, list[str], str]:
        done = subprocess.run(
            [sys.executable, "-c", TRANSLATE, str(ROOT)],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
        )
        lines = [line for line in done.stdout.splitlines() if "Cythonizing" in line]
        return done.returncode, sorted(line.split()[-1] for line in lines), done.stderr

    status, done, said = run()
    assert (status, done) == (1, ["apart", "common", "uses", "wrong"])
    assert "Cython refuses wrong" in said
    assert "Expected" in said
    assert "Thing" in (tmp_path / "uses.c").read_text()
    assert "Thing" not in (tmp_path / "apart.c").read_text()  # nothing of what it never names
    (tmp_path / "wrong.pyx").write_text("def one():\n    return 2\n")
    assert run()[:2] == (0, ["wrong"])
    assert run()[:2] == (0, [])
    later = (tmp_path / "uses.c").stat().st_mtime + 5
    os.utime(tmp_path / "common.pxd", (later, later))
    assert run()[:2] == (0, ["common", "uses"])


TRANSLATE_BESIDE = """
import sys
sys.path.insert(0, sys.argv[1] + "/scripts")
from pathlib import Path
from stackc.translate import translate
options = {"include_path": ["."], "shared_utility_qualified_name": "shared", "language_level": 3}
translate({"one": Path("one.pyx")}, ["one"], 1, cache="../cache", **options)
"""


def test_an_environment_elsewhere_takes_what_another_one_wrote(tmp_path: Path) -> None:
    """As the second interpreter's does, and the one in which pip makes a wheel."""
    beside = Path(Cython.__file__).parent
    inside = tmp_path / "first/.venv/Cython"
    inside.parent.mkdir(parents=True)
    inside.symlink_to(beside)
    written = []
    for tree, cython in (("first", inside), ("second", beside)):
        where = tmp_path / tree
        where.mkdir(exist_ok=True)
        (where / "one.pxd").write_text("from libc.stdint cimport uint8_t\n")
        # a file of Cython's Includes and one of its Utility, in the table for tracebacks
        (where / "one.pyx").write_text(
            "from cpython.type cimport type\ndef first(uint8_t[:] view):\n    return view[0]\n"
        )
        subprocess.run(
            [sys.executable, "-c", TRANSLATE_BESIDE, str(ROOT)],
            cwd=where,
            env=os.environ | {"PYTHONPATH": str(cython.parent)},
            check=True,
        )
        written.append((where / "one.c").read_text())
    assert written[0] == written[1]
    table = re.findall(r'^  "(.*)",$', written[0], re.M)
    assert {"Cython/Includes/cpython/type.pxd", "Cython/Utility/MemoryView.pxd"} <= set(table)
    assert len([*(tmp_path / "cache").iterdir()]) == 1


NEEDED = {
    "common.pxd": """
cdef class Base:
    cdef public int b
cdef class Followed:
    cdef public int x
cdef class Thing(Base):
    cdef public Followed other
    cdef public Unused unused
cdef class Methods:
    cdef int call(self)
    cdef int refuse(self, Unused unused)
cdef class Parent:
    cdef public int p
cdef class Late:
    cdef public int q
cdef class Unused:
    cdef public Thing thing
""",
    "common.pyx": """
cdef class Base:
    pass
cdef class Followed:
    pass
cdef class Thing(Base):
    pass
cdef class Methods:
    cdef int call(self):
        return 7
    cdef int refuse(self, Unused unused):
        return 8
cdef class Parent:
    pass
cdef class Late:
    pass
cdef class Unused:
    pass
""",
    "uses.pyx": """
from common cimport Base, Late, Methods, Parent, Thing, Unused
cdef class Own(Parent):
    pass
def follow(Thing t):
    return t.other.x + t.b
def call(Methods m):
    return m.call()
made = Late()
""",
    "check.py": """
import common, uses
t = common.Thing()
t.other = common.Followed()
t.other.x, t.b = 40, 2
assert uses.follow(t) == 42
assert uses.call(common.Methods()) == 7
own = uses.Own()
own.p = 3
assert isinstance(own, common.Parent) and own.p == 3
assert type(uses.made) is common.Late
""",
    "build.py": """
import sys
sys.path.insert(0, sys.argv[1] + "/scripts")
from pathlib import Path
from Cython.Build import cythonize
from setuptools import Extension, setup
from stackc.translate import translate
options = {"include_path": ["."]}
modules = {name: Path(f"{name}.pyx") for name in ("common", "uses")}
translate(modules, ["common"], 2, **options)
headers = [sys.argv[1] + "/fastpath/_c"]
sys.argv[1:] = ["-q", "build_ext", "--inplace"]
made = [Extension(n, [str(p)], include_dirs=headers) for n, p in modules.items()]
setup(ext_modules=cythonize(made, **options))
""",
}


def test_a_module_has_the_classes_that_it_uses_and_no_others(tmp_path: Path) -> None:
    for name, text in NEEDED.items():
        (tmp_path / name).write_text(text)
    for words in (["build.py", str(ROOT)], ["check.py"]):
        done = subprocess.run(
            [sys.executable, *words], cwd=tmp_path, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout[-5000:] + done.stderr[-5000:]
    written = (tmp_path / "uses.c").read_text()
    imported = set(re.findall(r'__Pyx_ImportType\w*\(\w+, "common", "(\w+)"', written))
    assert imported == {"Base", "Followed", "Late", "Methods", "Parent", "Thing"}
    assert "struct __pyx_obj_6common_Unused;" in written
    assert "struct __pyx_obj_6common_Unused {" not in written


WRAPPED = """
import sys
sys.path.insert(0, sys.argv[1] + "/scripts")
from pathlib import Path
from stackc.translate import translate
translate({"one": Path("one.pyx")}, ["one"], 1, include_path=["."])
"""


def test_wrappers_have_attributes_of_their_own(tmp_path: Path) -> None:
    (tmp_path / "one.pxd").write_text("cpdef int first()\n")
    (tmp_path / "one.pyx").write_text("cpdef int first():\n    return 1\n")
    words = [sys.executable, "-c", WRAPPED, str(ROOT)]
    subprocess.run(words, cwd=tmp_path, check=True, capture_output=True)
    text = (tmp_path / "one.c").read_text()
    assert set(re.findall(r"CYTHON_WRAPPER_CODE (\w+)\(", text)) == {"__pyx_pw_3one_1first"}
    assert "static int __pyx_f_3one_first(" in text


def translated(text: str, tmp_path: Path, **others: str) -> tuple[str, str]:
    """The .pyx and .pxd of a module `stack.one` with this text, beside modules `stack.NAME`."""
    (tmp_path / "stack").mkdir(exist_ok=True)
    for name, source in {"one": text, **others}.items():
        (tmp_path / f"stack/{name}.py").write_text(source)
    module = Module("stack.one", text.encode(), ast.parse(text))
    types = ExtensionTypes(tmp_path, {})
    resolve({"stack.one": module})
    declare(module, types)
    slots = Slots({}, types, {"stack.one": module.origin})
    modules = {"stack.one": module}
    pyx, pxd = Translator(module, modules, types, Constants(tmp_path, {}), {}, slots).write()
    text, shapes = pyx.decode().rsplit("_slot_shapes = ", 1)
    assert shapes.count("\n") == 1  # a table behind the last line
    return text, pxd


def test_no_line_moves(tmp_path: Path) -> None:
    text = (HERE / "rules/rules.py").read_text()
    pyx, _ = translated(text, tmp_path)
    lines = pyx.splitlines()
    assert len(lines) == len(text.splitlines())
    for i, line in enumerate(text.splitlines()):
        if line.startswith("def "):
            name = line.split("(")[0].split()[1]
            assert f" {name}(" in lines[i]


def test_variables_need_a_line_above(tmp_path: Path) -> None:
    with pytest.raises(SyntaxError, match=r"stack\.one, line 1: method\(\) declares variables"):
        translated("class A:\n    def method(self):\n        x: int = 1\n", tmp_path)
    pyx, _ = translated("class A:\n    # why\n    def m(self):\n        x: int = 1\n", tmp_path)
    assert pyx.splitlines()[1] == "    @cython.locals(x=longlong)"


@pytest.mark.parametrize(
    ("annotation", "wanted"),
    [
        ("Table", "_c_fastpath_tables.Table"),
        ("Table | None", "_c_fastpath_tables.Table"),
        ("Table[list[int]]", "_c_fastpath_tables.Table"),
        ("Table[int] | None", "_c_fastpath_tables.Table"),
        ("Chair[int]", "object"),
        ("list[Table]", "list"),
    ],
)
def test_types_of_fastpath(annotation: str, wanted: str, tmp_path: Path) -> None:
    (tmp_path / "fastpath").mkdir()
    (tmp_path / "fastpath/tables.pxd").write_text("cdef class Table:\n    cdef int n\n")
    origin = {name: ("fastpath.tables", name) for name in ("Table", "Chair")}
    modules: set[str] = set()
    node = ast.parse(annotation, mode="eval").body
    assert ExtensionTypes(tmp_path, {}).c_type(node, origin, modules) == wanted
    assert modules == ({"fastpath.tables"} if wanted.endswith("Table") else set())


def test_a_decorator_stays_between_declaration_and_function(tmp_path: Path) -> None:
    pyx, _ = translated("\n\n@mark\ndef f():\n    x: int = 1\n", tmp_path)
    assert pyx.splitlines()[1:4] == ["@cython.locals(x=longlong)", "@mark", "def f():"]


@pytest.mark.parametrize(
    "again",
    [
        "def f(): return 2\n",
        "f = len\n",
        "if len: f = 3\n",
        "try:\n    import f\nexcept ImportError: pass\n",
        "class f: pass\n",
        "def g():\n    global f\n    f = 2\n",
        "for f in (): pass\n",
    ],
)
def test_a_name_bound_twice_stays_python(again: str, tmp_path: Path) -> None:
    _, pxd = translated("\n\ndef f() -> int:\n    return 1\n" + again, tmp_path)
    assert " f(" not in pxd
    _, pxd = translated("\n\ndef f() -> int:\n    return 1\n", tmp_path)
    assert "cpdef long long f() except? -1" in pxd


@pytest.mark.parametrize(
    ("expression", "wanted"),
    [
        ("A", "7"),
        ("B", "1099511627776LL"),
        ("C", "C"),
        ("D", "(-5)"),
        ("E", "E"),
        ("F", "2"),
        ("G", "8"),
        ("H", "H"),
        ("other.A", "7"),
        ("lower", "lower"),
        ("f'{A}'", "f'{A}'"),
        ("[A for A in x]", "[A for A in x]"),
        ("lambda A: A", "lambda A: A"),
        ("lambda B: A", "lambda B: 7"),
    ],
)
def test_constants(expression: str, wanted: str, tmp_path: Path) -> None:
    text = "from stack import other\nfrom stack.other import A, B, C, D, E, F, G, H, lower\n\n\n"
    other = "A = 7\nB = 1 << 40\nC = 1 << 64\nD = -5\nE = 1\nE = 2\nlower = 3\n"
    other += "F, G = 2, 1 << 3\nH, E = range(2)\n"
    pyx, _ = translated(text + f"def f(x):\n    return {expression}\n", tmp_path, other=other)
    assert pyx.splitlines()[-1].strip() == f"return {wanted}"


@pytest.mark.parametrize(
    "binding",
    [
        "A = x",
        "with x as A: pass",
        "for A in x: pass",
        "try: pass\n    except OSError as A: pass",
        "match x:\n        case [A]: pass",
        "match x:\n        case [*A]: pass",
        "match x:\n        case {'k': 1, **A}: pass",
        "match x:\n        case int() as A: pass",
        "import A",
        "(A := x)",
        "def A(): pass",
    ],
)
def test_a_name_that_a_function_binds_is_no_constant(binding: str, tmp_path: Path) -> None:
    text = f"A = 7\n\n\ndef f(x):\n    {binding}\n    return A\n"
    pyx, _ = translated(text, tmp_path)
    assert pyx.splitlines()[-1].strip() == "return A"


@pytest.mark.parametrize(
    ("expression", "wanted"),
    [
        ("narrow(x)", "(x)"),
        ("narrow(x or f(narrow(x >> A))) * 2", "(x or f((x >> 7))) * 2"),
        ("[narrow(x) for narrow in y]", "[narrow(x) for narrow in y]"),
    ],
)
def test_no_call_says_that_a_wide_fits(expression: str, wanted: str, tmp_path: Path) -> None:
    text = "from fastpath.wide import narrow, wide\nfrom stack.other import A\n\n\n"
    text += f"def f(x: wide, y: list[int]) -> int:\n    return {expression}\n"
    pyx, pxd = translated(text, tmp_path, other="A = 7\n")
    assert pyx.splitlines()[-1].strip() == f"return {wanted}"
    assert "cpdef long long f(object x, list y)" in pxd


@pytest.mark.parametrize(
    ("annotation", "direct"),
    [
        ("Clock", True),
        ("HostClock", True),
        ("Clock | None", True),
        ("Watch", False),
        ("Any", False),
    ],
)
def test_the_time_of_what_is_declared_a_clock(
    annotation: str, direct: bool, tmp_path: Path
) -> None:
    text = "from typing import Any\nfrom stack.core.clock import Clock, HostClock, Watch\n"
    text += f"\n\ndef f(c: {annotation}) -> int:\n    d = c\n    return c.now_ns() + d.now_ns()\n"
    pyx, _ = translated(text, tmp_path)
    said = "_d_clock_ns(c) + _d_clock_ns(d)" if direct else "c.now_ns() + d.now_ns()"
    assert pyx.splitlines()[-1].strip() == f"return {said}"


@pytest.mark.parametrize(
    ("expression", "wanted"),
    [
        ("a << 3", "(a) * (1LL << 3)"),
        ("a << b", "<object>(a) << b"),
        ("a << 32", "<object>(a) << 32"),
        ("a << -1", "<object>(a) << -1"),
        ("a << (b & 15)", "(a) * (1LL << (b & 15))"),
        ("a << (b & 63)", "<object>(a) << (b & 63)"),
        ("a >> (b & 31)", "a >> (b & 31)"),
        ("a >> 63", "<object>(a) >> 63"),
        ("a * 1000", "a * 1000"),
        ("a * b", "<object>(a) * b"),
        ("a * (b & 255)", "a * (b & 255)"),
        ("a * 10_000_000", "<object>(a) * 10_000_000"),
        ("a ** 2", "(<object>(a)) ** 2"),
        ("-a", "(0 - a)"),
        ("-(a + b)", "(0 - (a + b))"),
        ("-5", "-5"),
        ("a % 7", "a % 7"),
        ("a % b", "(a % b if b != -1 else 0)"),
        ("a % len(b)", "<object>(a) % len(b)"),
    ],
)
def test_arithmetic_that_may_pass_64_bits(expression: str, wanted: str, tmp_path: Path) -> None:
    text = f"\n\ndef f(a: int, b: int) -> int:\n    return {expression}\n"
    pyx, _ = translated(text, tmp_path)
    assert pyx.splitlines()[-1].strip() == f"return {wanted}"


@pytest.mark.parametrize(
    ("statement", "wanted"),
    [
        ("a += b", "a += b"),
        ("a <<= 3", "a *= 1LL << ( 3)"),
        ("a <<= b", "a = <object>(a) << ( b)"),
        ("a >>= (b + 1)", "a = <object>(a) >> ( (b + 1))"),
        ("a *= b", "a = <object>(a) * ( b)"),
        ("a.c *= b", "a.c = <object>(a.c) * ( b)"),
        ("a **= 2", "a = (<object>(a)) ** ( 2)"),
        ("a %= b", "a = <object>(a) % ( b)"),
        ("f(a).c += b", "f(a).c += b"),
    ],
)
def test_assignments_that_may_pass_64_bits(statement: str, wanted: str, tmp_path: Path) -> None:
    text = f"\n\ndef f(a: int, b: int) -> None:\n    {statement}\n"
    pyx, _ = translated(text, tmp_path)
    assert pyx.splitlines()[-1].strip() == wanted
