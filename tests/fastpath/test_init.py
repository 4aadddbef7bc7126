"""Which build is loaded, and what is said when one is missing."""

from __future__ import annotations

import os
import re
import sys
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path

import pytest

import fastpath
from fastpath.built import make_command
from tests.support import run_to_end

HERE = Path(fastpath.__file__).parent


def test_modules_lists_every_compiled_source() -> None:
    sources = {f"{p.parent.name}.{p.stem}" for p in HERE.glob("*/*.pyx")}
    assert set(fastpath.MODULES) == sources
    assert list(fastpath.MODULES) == sorted(fastpath.MODULES)


JUDGED = {
    "base.batch": "lists of Python",
    "base.buildinfo": "it does nothing but tell what the compiler was",
    "base.bpf": "the kernel's filters and libpcap's interpreter",
    "base.seccomp": "the kernel does all of it",
    "base.freshbytes": "slices of Python's bytes",
    "base.intmap": "Python's dict",
    "net.sockaddr": "struct",
    "nic.busguard": "the kernel's SIGBUS",
    "nic.c_abi": "programs in C (tests/e1000emu/embed/capi)",
    "nic.cable": "each frame's time, which the test computes",
    "nic.macpath": "drivers, ours and others",
    "nic.mmio": "the accesses of a slot, made by Python",
    "nic.linkops": "scapy reads the blocks, the kernel moves the datagrams",
    "nic.tap_end": "the kernel's TAP devices",
}
"""Modules without a twin, and what their tests compare them with."""


def test_every_compiled_module_has_its_stub_and_its_twin() -> None:
    for name in fastpath.MODULES:
        room, kernel = name.split(".")
        assert (HERE / room / f"{kernel}.pyi").exists(), name
        assert (HERE / "_ref" / f"{kernel}.py").exists() == (name not in JUDGED), name


def test_missing_module_fails_with_the_command_that_mends_it(tmp_path: Path) -> None:
    package = tmp_path / "fastpath"
    (package / "base").mkdir(parents=True)
    (tmp_path / "setup.py").touch()
    (package / f"base/csum{EXTENSION_SUFFIXES[0]}").touch()
    command = re.escape(make_command(str(tmp_path)))
    with pytest.raises(ImportError, match=f"no compiled base.dma for .*; run: {command}$"):
        fastpath.check_modules(str(package), ("base.csum", "base.dma"))
    fastpath.check_modules(str(package), ("base.csum",))


def test_import_without_compiled_modules_never_falls_back(tmp_path: Path) -> None:
    package = tmp_path / "fastpath"
    package.mkdir()
    for name in ("__init__.py", "built.py", "errors.py"):
        (package / name).write_text((HERE / name).read_text())
    run = run_to_end([sys.executable, "-c", "import fastpath"], cwd=tmp_path)
    assert run.returncode == 1
    # an installed package has no Makefile; a source tree has
    said = run.stderr.splitlines()[-1]
    assert "pip install --force-reinstall --no-deps DIRECTORY, with e1000emu's source" in said
    (tmp_path / "setup.py").touch()
    run = run_to_end([sys.executable, "-c", "import fastpath"], cwd=tmp_path)
    assert run.returncode == 1
    assert run.stderr.splitlines()[-1].endswith(f"; run: {make_command(os.curdir)}")


@pytest.mark.parametrize(
    ("switch", "apart"),
    [({}, False), ({"E1000EMU_CYTHON_DEBUG": "1"}, True), ({"E1000EMU_SANITIZE": "address"}, True)],
)
def test_builds_with_checks_are_kept_apart_from_the_wheels(
    switch: dict[str, str], apart: bool
) -> None:
    code = (
        "from distutils.core import run_setup;"
        "d = run_setup('setup.py', stop_after='init');"
        "b = d.get_command_obj('build'); b.ensure_finalized(); print(b.build_base)"
    )
    run = run_to_end(
        [sys.executable, "-c", f"import setuptools;{code}"],
        cwd=HERE.parent,
        env={"E1000EMU_ONLY": "nothing", **switch},
        check=True,
    )
    assert (run.stdout.splitlines()[-1] != "build") == apart


def test_self_test_of_this_build_finds_nothing() -> None:
    assert fastpath.self_test() == []


def test_build_names_compiler_and_vector_unit() -> None:
    build = fastpath.BUILD
    assert build.mode in ("release", "debug", "asan")
    assert build.compiler
    assert build.simd in build.simd_levels
    assert build.python == sys.version.split()[0]
