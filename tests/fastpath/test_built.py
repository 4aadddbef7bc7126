"""What was compiled of other sources is refused by the package, `doctor`, pytest and `make`; an
environment of another tree is told of, and made anew."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
import venv
from collections.abc import Callable
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path

import pytest

from fastpath import built
from tests.support import eventually

ROOT = Path(built.ROOT)
BUILD = built.make_command(os.curdir).removeprefix("make ")
"""It names the interpreter where that has an environment of its own (`.venv-3.13`)."""
PARTS = ("fastpath", "stack", "e1000emu")
FILES = ("setup.py", "pyproject.toml", "Makefile")
SOURCE = """LIMIT = 5

@state
class sk:
    a: int = row(0)

    def f(self):
        return 1

def g():
    return 2
"""


def run(where: Path, *words: str | Path, **variables: str) -> subprocess.CompletedProcess[str]:
    env = {**os.environ, "E1000EMU_UNCOMPILED": "0", **variables}
    for name in ("MAKEFLAGS", "MAKELEVEL", "PYTHON", "VENV", "DEBUG"):
        env.pop(name, None)
    return subprocess.run(
        [str(word) for word in words],
        cwd=where,
        env=env,
        capture_output=True,
        text=True,
        check=False,
    )


def python(where: Path, *words: str, **variables: str) -> subprocess.CompletedProcess[str]:
    return run(where, sys.executable, *words, **variables)


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A tree with two sources, of which its modules are compiled."""
    (tmp_path / "fastpath").mkdir()
    for name in ("setup.py", "fastpath/__init__.py", "fastpath/x.pyx"):
        (tmp_path / name).write_text("1\n")
    (tmp_path / "fastpath/facts.py").write_text(SOURCE)
    sources = {"fastpath/x.pyx": built.WHOLE, "fastpath/facts.py": built.DECLARED}
    built.write_record(str(tmp_path), "fastpath", built.examine(str(tmp_path), sources))
    return tmp_path


def edit(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


CHANGES: list[tuple[str, Callable[[Path], object], list[str]]] = [
    ("nothing", lambda _: None, []),
    ("a time", lambda tree: os.utime(tree / "fastpath/x.pyx", (1, 1)), []),
    ("a byte", lambda tree: edit(tree / "fastpath/x.pyx", "1", "2"), ["fastpath/x.pyx"]),
    ("gone", lambda tree: (tree / "fastpath/x.pyx").unlink(), ["fastpath/x.pyx"]),
    ("a body", lambda tree: edit(tree / "fastpath/facts.py", "return 1", "return 3"), []),
    ("a function", lambda tree: edit(tree / "fastpath/facts.py", "return 2", "return 3"), []),
    (
        "a constant",
        lambda tree: edit(tree / "fastpath/facts.py", "= 5", "= 6"),
        ["fastpath/facts.py"],
    ),
    (
        "a field",
        lambda tree: edit(tree / "fastpath/facts.py", "a: int", "a: u8"),
        ["fastpath/facts.py"],
    ),
]


@pytest.mark.parametrize(("what", "change", "names"), CHANGES, ids=[w for w, _, _ in CHANGES])
def test_a_source_counts_by_what_is_compiled_of_it(
    tree: Path, what: str, change: Callable[[Path], object], names: list[str]
) -> None:
    change(tree)
    assert built.changed(str(tree), "fastpath") == names
    said = built.refusal(str(tree), "fastpath")
    assert bool(said) == bool(names)
    if names:
        assert said == f"{names[0]} has changed since compiled; run: make -C {tree} {BUILD}"


def test_a_source_of_another_time_is_not_taken_apart(
    tree: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A tree that came without its times is compared by hashes, in milliseconds."""
    os.utime(tree / "fastpath/facts.py", (1, 1))
    monkeypatch.setattr(built, "_declared", None)
    assert built.changed(str(tree), "fastpath") == []


def test_many_sources_are_counted(tree: Path) -> None:
    names = [f"fastpath/n{i}.pyx" for i in range(7)]
    for name in names:
        (tree / name).write_text("1")
    lines = built.examine(str(tree), dict.fromkeys(names, built.WHOLE))
    built.write_record(str(tree), "fastpath", lines)
    for name in names:
        (tree / name).write_text("2")
    said = built.refusal(str(tree), "fastpath", ", or not")
    assert said.startswith(", ".join(names[:3]) + " and 4 more have changed since compiled; ")
    assert said.endswith(f" {BUILD}, or not")


def test_a_build_that_did_not_end_is_refused_and_an_installed_package_is_not(tree: Path) -> None:
    built.drop_record(str(tree), "fastpath")
    assert "the build of its compiled modules did not end" in built.refusal(str(tree), "fastpath")
    (tree / "setup.py").unlink()
    assert built.refusal(str(tree), "fastpath") == ""


def test_the_command_names_tree_and_interpreter(monkeypatch: pytest.MonkeyPatch) -> None:
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    monkeypatch.setattr(sys, "prefix", "/somewhere/.venv")
    assert built.make_command(os.curdir) == "make build"
    assert built.make_command("/a tree") == "make -C '/a tree' build"
    monkeypatch.setattr(sys, "prefix", f"/somewhere/.venv-{version}")
    assert built.make_command(os.curdir) == f"make build PYTHON=python{version}"


def test_a_compiled_module_that_is_not_there_is_missing(tree: Path) -> None:
    assert built.missing(str(tree), "fastpath") == ["fastpath/x"]
    (tree / f"fastpath/x{EXTENSION_SUFFIXES[0]}").touch()
    assert built.missing(str(tree), "fastpath") == []


# --- this tree ------------------------------------------------------------------------------------


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """A copy of this tree with what was compiled, as `cp -a` makes it, without its environment."""
    where = tmp_path / "copy"
    for part in PARTS:
        ignored = shutil.ignore_patterns("__pycache__", "*.c", "*.html")
        shutil.copytree(ROOT / part, where / part, ignore=ignored)
    for name in FILES:
        shutil.copy2(ROOT / name, where / name)
    return where


compiled = pytest.mark.skipif(
    os.environ.get("E1000EMU_UNCOMPILED", "0") not in ("", "0")
    or not list((ROOT / "stack/api").glob(f"socket{EXTENSION_SUFFIXES[0]}")),
    reason="about what is compiled",
)


@compiled
@pytest.mark.slow
def test_a_changed_source_of_the_stack_is_refused_wherever_it_is_used(copy: Path) -> None:
    assert python(copy, "-c", "import stack.inet.udp").returncode == 0
    source = copy / "stack/inet/udp.py"
    source.write_text(source.read_text() + "\nNEW = 1\n")
    said = (
        f"stack/inet/udp.py has changed since compiled; run: make {BUILD}, or run the sources with"
    )
    done = python(copy, "-c", "import stack.inet.udp")
    assert done.returncode == 1
    assert f"fastpath.errors.StaleBuild: {said} E1000EMU_UNCOMPILED=1" in done.stderr
    done = python(copy, "-m", "e1000emu", "demo")
    assert (done.returncode, done.stderr) == (1, f"e1000emu: {said} E1000EMU_UNCOMPILED=1\n")
    done = python(copy, "-m", "e1000emu", "doctor")
    assert done.returncode == 1
    assert "udp.py has changed since compiled" in " ".join(done.stdout.split())
    assert f"→ run: make {BUILD}, or" in " ".join(done.stdout.split())
    ran = python(copy, "-c", "import stack.inet.udp as u; print(u.NEW)", E1000EMU_UNCOMPILED="1")
    assert ran.stdout == "1\n"
    (copy / "tests").mkdir()
    for name in ("conftest.py", "support.py"):
        shutil.copy(ROOT / "tests" / name, copy / "tests")
    done = python(copy, "-m", "pytest", "-p", "no:cacheprovider", "tests")
    assert done.returncode == 4
    assert f"StaleBuild: {said}" in done.stderr


@compiled
@pytest.mark.slow
@pytest.mark.parametrize("name", ["base/csum.pyx", "base/csum.pxd", "_c/tracefile.h"])
def test_a_changed_source_of_fastpath_is_refused(copy: Path, name: str) -> None:
    source = copy / "fastpath" / name
    source.write_text(source.read_text() + "\n")
    said = f"fastpath/{name} has changed since compiled; run: make {BUILD}"
    done = python(copy, "-c", "import fastpath", E1000EMU_UNCOMPILED="1")
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == f"fastpath.errors.StaleBuild: {said}"
    for command in ("doctor", "ping"):
        done = python(copy, "-m", "e1000emu", command)
        assert (done.returncode, done.stderr) == (1, f"e1000emu: {said}\n")


def environment(tree: Path, of: Path, links: Path) -> Path:
    """An environment in `tree`: its scripts are of the one in `of`, its packages in `links`."""
    where = tree / ".venv"
    venv.create(where, with_pip=False)
    script = where / "bin/e1000emu"
    script.write_text(f"#!{of}/.venv/bin/python\nfrom e1000emu.__main__ import main\n\nmain()\n")
    script.chmod(0o755)
    packages = next(where.glob("lib/python*/site-packages"))
    finder = f"'fastpath': '{links}/fastpath'"
    (packages / "__editable___e1000emu_0_finder.py").write_text(f"MAPPING = {{{finder}}}\n")
    time = (ROOT / "setup.py").stat().st_mtime + 10**6
    for stamp in ("made", "installed", "packages-build", "packages-run", "built-release"):
        (where / f".{stamp}").touch()
        os.utime(where / f".{stamp}", (time, time))
    return where


def make(where: Path) -> str:
    done = run(where, "make", "-n", "build")
    assert done.returncode == 0, done.stderr
    return done.stdout


@compiled
@pytest.mark.slow
def test_make_builds_what_the_package_refuses_however_old_it_is(copy: Path) -> None:
    environment(copy, copy, copy)
    assert "Nothing to be done" in make(copy)
    source = copy / "stack/inet/udp.py"
    times = source.stat()
    source.write_text(source.read_text() + "\nNEW = 1\n")
    os.utime(source, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert "setup.py -q build_ext" in make(copy)
    shutil.copy2(ROOT / "stack/inet/udp.py", source)
    assert "Nothing to be done" in make(copy)
    (copy / f"fastpath/base/csum{EXTENSION_SUFFIXES[0]}").unlink()
    assert "setup.py -q build_ext" in make(copy)


@compiled
@pytest.mark.slow
def test_make_makes_an_environment_anew_that_came_with_a_copied_tree(copy: Path) -> None:
    where = environment(copy, ROOT, ROOT)
    steps = make(copy)
    assert f"{where.name} belongs to another tree: it is made anew" in steps
    assert "-m venv .venv" in steps
    assert "install" in steps
    assert "build_ext" not in steps  # what was compiled came along, and is of these sources
    assert "-m venv .venv" in make(copy)  # also after a make that did not end
    shutil.rmtree(where)
    environment(copy, copy, ROOT)
    steps = make(copy)
    assert "install -q --disable-pip-version-check --no-compile --no-deps" in steps
    assert "-m venv" not in steps
    assert "build_ext" not in steps


@pytest.mark.slow
def test_a_copied_command_says_whose_code_it_runs(copy: Path, tmp_path: Path) -> None:
    where = environment(copy, ROOT, ROOT)
    script = where / "bin/e1000emu"
    # what the kernel makes of the script's first line
    done = python(tmp_path, str(script), "--version", PYTHONPATH=str(ROOT))
    said = f"{script} runs {sys.executable} and the code of {ROOT}; run: make -C {copy} {BUILD}"
    assert (done.returncode, done.stderr) == (0, f"e1000emu: {said}\n")
    done = python(tmp_path, str(script), "doctor", PYTHONPATH=str(ROOT))
    assert done.returncode == 1
    shown = " ".join(done.stdout.split())
    assert "!! source tree" in shown
    assert f"and the code of {ROOT}" in shown
    done = python(copy, "-P", "-m", "e1000emu", "--version", PYTHONPATH=str(ROOT))
    assert done.stderr == (
        f"e1000emu: the code of {ROOT} runs, not that of {copy}; run: make {BUILD}, "
        "then .venv/bin/e1000emu\n"
    )
    assert python(copy, "-m", "e1000emu", "--version").stderr == ""
    assert python(tmp_path, "-m", "e1000emu", "--version", PYTHONPATH=str(ROOT)).stderr == ""


@pytest.mark.slow
def test_an_environment_that_is_linked_to_another_tree_is_warned_of(
    copy: Path, tmp_path: Path
) -> None:
    where = environment(copy, copy, ROOT)
    load = (
        # as the finder of an editable install does
        "import importlib.util as u, sys\n"
        f"spec = u.spec_from_file_location('fastpath', {str(ROOT / 'fastpath/__init__.py')!r},\n"
        f"    submodule_search_locations=[{str(ROOT / 'fastpath')!r}])\n"
        "sys.modules['fastpath'] = module = u.module_from_spec(spec)\n"
        "spec.loader.exec_module(module)\n"
    )
    done = run(tmp_path, where / "bin/python", "-c", load)
    assert done.returncode == 0, done.stderr
    said = f"RuntimeWarning: {where} is linked to the code of {ROOT}; run: make -C {copy} build"
    assert said in done.stderr


def test_two_makes_in_one_tree_build_once(tmp_path: Path) -> None:
    """`make build` and `make types` at once: the second waits and finds what the first has made."""
    shutil.copy2(ROOT / "Makefile", tmp_path)
    for name in ("fastpath", "scripts/stackc", "stack", "v/bin"):
        (tmp_path / name).mkdir(parents=True)
    for name in ("setup.py", "pyproject.toml", "scripts/stackc/build.py", "stack/x.py"):
        (tmp_path / name).touch()
    for name in ("scripts/stackc/compiled.txt", "fastpath/x.pyx"):
        (tmp_path / name).touch()
    for name in (".made", ".packages-build", ".packages-run", ".installed"):
        (tmp_path / "v" / name).touch()
    program = tmp_path / "v/bin/python"
    program.write_text(
        "#!/bin/sh\n"
        'case "$*" in *build_ext*) echo built >>log; until [ -e go ]; do sleep 0.05; done;; esac\n'
    )
    program.chmod(0o755)
    env = {k: v for k, v in os.environ.items() if not k.startswith("MAKE")}
    words = ["make", "VENV=v", "build"]
    first = subprocess.Popen(words, cwd=tmp_path, env=env)
    eventually((tmp_path / "log").exists, "the log", program=first)
    second = subprocess.Popen(words, cwd=tmp_path, env=env)
    time.sleep(1)  # until it waits; a slower one finds the stamp, which is right too
    (tmp_path / "go").touch()
    assert (first.wait(), second.wait()) == (0, 0)
    assert (tmp_path / "log").read_text() == "built\n"
    assert run(tmp_path, "make", "VENV=v", "build").stdout.startswith("make: Nothing to be done")
