"""The C ABI: programs in C and C++, built with every warning an error and run under sanitizers."""

from __future__ import annotations

import importlib.metadata
import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Callable
from pathlib import Path

import pytest

from e1000emu.embed.capi import Built, CapiError, build
from e1000emu.embed.capi.build import NIC
from tests.support import in_ci, require, run_to_end

ROOT = Path(__file__).resolve().parents[3]
HERE = Path(__file__).resolve().parent / "capi"
EXAMPLES = ROOT / "examples" / "baremetal"
CAPI = ROOT / "e1000emu" / "embed" / "capi"
DRIVER = EXAMPLES / "e1000_min.c"

SANITIZE = ["-fsanitize=address,undefined", "-fno-sanitize-recover=all", "-fno-omit-frame-pointer"]
STRICT = ["-Wall", "-Wextra", "-Werror", "-pedantic"]
CHECKS = re.findall(r'^    \{"(\w+)", test_\w+\},$', (HERE / "conformance.c").read_text(), re.M)
PLANTED = ["planted_overflow", "planted_leak"]


LSAN_FAILED = "LeakSanitizer has encountered a fatal error"


# glibc's blocks of thread-local memory have a header that libasan takes for its own allocator's.
# Then LeakSanitizer reads wherever the bytes before such a block point to, and dies of it.
ASAN_OPTIONS = "intercept_tls_get_addr=0:detect_leaks="


def run(*command: str | Path, **env: str) -> subprocess.CompletedProcess[str]:
    """Run a program with an environment that knows nothing of this project.

    LeakSanitizer's tracer may lose a race for a thread that ends: then the program runs again.
    """
    for _ in range(3):
        done = subprocess.run(
            [str(word) for word in command],
            cwd="/",
            env={"PATH": os.environ["PATH"], "ASAN_OPTIONS": f"{ASAN_OPTIONS}1", **env},
            capture_output=True,
            text=True,
            timeout=240,
            check=False,
        )
        if LSAN_FAILED not in done.stderr:
            break
    return done


def compile_(*command: str | Path) -> None:
    done = run_to_end(command)
    assert done.returncode == 0, done.stderr


def said(done: subprocess.CompletedProcess[str]) -> str:
    return f"exit {done.returncode}\n{done.stdout[-4000:]}\n{done.stderr[-8000:]}"


@pytest.fixture(scope="module")
def gcc() -> str:
    return require.tool("gcc")


@pytest.fixture(scope="module")
def library(gcc: str, tmp_path_factory: pytest.TempPathFactory) -> Built:
    """The library as users build it, its C half without a warning."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CFLAGS", "-Werror")
        return build(tmp_path_factory.mktemp("capi"), cc=gcc)


@pytest.fixture(scope="module")
def sanitized(gcc: str, tmp_path_factory: pytest.TempPathFactory) -> Built:
    """The library with its C half instrumented."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CFLAGS", " ".join(["-Werror", "-O1", *SANITIZE]))
        return build(tmp_path_factory.mktemp("capi-asan"), cc=gcc)


@pytest.fixture(scope="module")
def conformance(gcc: str, sanitized: Built) -> Path:
    program = sanitized.directory / "conformance"
    warn = ["-std=c11", *STRICT[:3]]  # it casts numbers to handles, which is what it is about
    flags = ["-g", "-O1", *warn, *SANITIZE, f"-I{EXAMPLES}", *sanitized.cflags]
    compile_(
        gcc, *flags, HERE / "conformance.c", DRIVER, *sanitized.libs, "-pthread", "-o", program
    )
    return program


@pytest.fixture(scope="module")
def leaks(conformance: Path) -> bool:
    """Whether LeakSanitizer works here: it must be allowed to trace its own process."""
    works = LSAN_FAILED not in run(conformance, "time").stderr
    assert works or not in_ci()
    return works


@pytest.fixture(scope="module")
def probe(gcc: str, library: Built) -> Path:
    program = library.directory / "probe"
    flags = ["-std=c99", *STRICT, *library.cflags]
    compile_(gcc, *flags, HERE / "probe.c", *library.libs, "-o", program)
    return program


# --- programs ------------------------------------------------------------------------------------


@pytest.mark.parametrize("check", [name for name in CHECKS if name not in PLANTED])
def test_conformance(conformance: Path, leaks: bool, tmp_path: Path, check: str) -> None:
    env = {"ASAN_OPTIONS": f"{ASAN_OPTIONS}{leaks:d}"}
    if check == "fork":
        # CPython makes its locks anew in a child and lets the old ones go.
        (tmp_path / "lsan.supp").write_text("leak:PyThread_allocate_lock\n")
        env["LSAN_OPTIONS"] = f"suppressions={tmp_path / 'lsan.supp'}:print_suppressions=0"
    done = run(conformance, check, **env)
    assert done.returncode == 0, said(done)
    assert done.stderr == ""


def test_the_list_of_checks_is_the_programs_own(conformance: Path) -> None:
    assert run(conformance, "--list").stdout.split() == CHECKS
    assert run(conformance, "no such check").returncode == 2


def test_two_processes_see_the_same(conformance: Path) -> None:
    first, second = (run(conformance, "determinism").stdout for _ in range(2))
    assert re.fullmatch(r"[0-9a-f]{16}\n", first)
    assert first == second


def test_an_overflow_in_the_driver_is_found(conformance: Path) -> None:
    done = run(conformance, "planted_overflow")
    assert done.returncode != 0
    assert "heap-buffer-overflow" in done.stderr
    assert "in e1000_min_queue" in done.stderr


def test_a_leak_of_the_program_is_found_and_none_of_python(conformance: Path, leaks: bool) -> None:
    if not leaks:
        pytest.skip("LeakSanitizer may not trace; run without a debugger, allow ptrace")
    done = run(conformance, "planted_leak")
    assert done.returncode != 0
    assert "LeakSanitizer: detected memory leaks" in done.stderr
    assert "in power_on" in done.stderr
    assert "in 1 object(s)" in done.stderr
    assert "1 allocation(s)" in done.stderr


def test_cpp_program(gcc: str, sanitized: Built, leaks: bool) -> None:
    gxx = require.tool("g++")
    driver, program = (sanitized.directory / name for name in ("min.o", "over_capi_cpp"))
    flags = ["-g", "-O1", *STRICT, *SANITIZE]
    compile_(gcc, "-std=c99", *flags, "-c", DRIVER, "-o", driver)
    source = EXAMPLES / "over_capi.cpp"
    flags += ["-std=c++17", *sanitized.cflags]
    compile_(gxx, *flags, source, driver, *sanitized.libs, "-o", program)
    done = run(program, ASAN_OPTIONS=f"{ASAN_OPTIONS}{leaks:d}")
    assert done.returncode == 0, said(done)
    assert done.stderr == ""
    assert done.stdout.splitlines()[0] == "came back: hello, C++, 1 interrupt"
    assert "use one of 82540EM" in done.stdout


def test_c_example_and_its_benchmark(gcc: str, library: Built) -> None:
    program = library.directory / "over_capi"
    flags = ["-std=c11", "-O2", *STRICT, *library.cflags]
    compile_(gcc, *flags, EXAMPLES / "over_capi.c", DRIVER, *library.libs, "-o", program)
    done = run(program)
    assert done.returncode == 0, said(done)
    assert '64 bytes, "hello, wire"' in done.stdout
    assert "received:    64 bytes" in done.stdout
    assert "complains of: nothing" in done.stdout
    done = run(program, "--bench")
    assert done.returncode == 0, said(done)
    rates = re.findall(r"([\d.]+) million/s", done.stdout)
    assert len(rates) == 4
    assert all(float(rate) > 0 for rate in rates)


def test_plugin_that_loads_the_library_for_itself(gcc: str, library: Built) -> None:
    program = library.directory / "plugin"
    flags = ["-std=c11", *STRICT, *library.cflags]
    compile_(gcc, *flags, HERE / "plugin.c", "-ldl", "-o", program)
    done = run(program, library.library)
    assert done.stdout == "a NIC\n", said(done)
    assert done.returncode == 0


@pytest.mark.parametrize("compiler", ["gcc -x c -std=c99", "g++ -x c++ -std=c++11"])
def test_header_is_clean_by_itself(library: Built, tmp_path: Path, compiler: str) -> None:
    program, *options = compiler.split()
    require.tool(program)
    source = tmp_path / "header"
    source.write_text(
        "#include <e1000emu.h>\n#include <e1000emu.h>\n"
        "struct e1000emu_options made(void);\nstruct e1000emu_options made(void)\n"
        "{ struct e1000emu_options options = E1000EMU_OPTIONS_INIT; return options; }\n"
    )
    compile_(program, *options, *STRICT, *library.cflags, "-c", source, "-o", tmp_path / "o")


def test_driver_needs_no_libc(gcc: str, tmp_path: Path) -> None:
    target = tmp_path / "driver.o"
    for optimize in ("-O0", "-O3"):
        flags = ["-std=c99", "-ffreestanding", "-fno-pic", optimize, *STRICT]
        compile_(gcc, *flags, "-c", DRIVER, "-o", target)
        symbols = run(require.tool("nm", "binutils"), "-u", target).stdout.split()
        assert [s for s in symbols if s != "U"] == ["e1000_min_read32", "e1000_min_write32"]


def test_library_shows_only_what_the_header_has(library: Built) -> None:
    done = run(require.tool("nm", "binutils"), "-D", "--defined-only", library.library)
    shown = {line.split()[-1] for line in done.stdout.splitlines()}
    declared = set(re.findall(r"^E1000EMU_API [^;]*?(e1000emu_\w+)\(", HEADER_TEXT, re.M))
    assert len(declared) > 30
    assert shown - {"_cffi_pypyinit__e1000emu", "PyInit__e1000emu"} == declared


HEADER_TEXT = (CAPI / "e1000emu.h").read_text()


# --- which Python --------------------------------------------------------------------------------


def test_program_needs_no_environment(probe: Path) -> None:
    done = subprocess.run([probe], env={}, cwd="/", capture_output=True, text=True, check=False)
    version = f"{importlib.metadata.version('e1000emu')} (Python {sys.version.split()[0]})"
    assert done.stdout == f"100e8086, version {version}\n", said(done)
    assert done.stderr == ""


def test_pythons_own_variables_do_not_matter(probe: Path, tmp_path: Path) -> None:
    (tmp_path / "e1000emu.py").write_text("raise SystemExit('not this one')")
    done = run(probe, PYTHONPATH=str(tmp_path), PYTHONHOME="/nonexistent", PYTHONSTARTUP="/x")
    assert done.returncode == 0, said(done)


def other_package(tmp_path: Path) -> Path:
    """A copy of the package whose C half is of another version."""
    shutil.copytree(ROOT / "e1000emu", tmp_path / "e1000emu", ignore=lambda d, n: ["__pycache__"])
    with (tmp_path / "e1000emu/embed/capi" / NIC.sources[-1].name).open("a") as shim:
        shim.write("/* another */\n")
    return tmp_path


def test_another_version_of_the_package_is_refused(probe: Path, tmp_path: Path) -> None:
    done = run(probe, other_package(tmp_path))
    assert done.returncode == 1, said(done)
    first, second = done.stdout.splitlines()
    assert first == second
    assert first.startswith("E1000EMU_EPYTHON: E1000Error: libe1000emu.so was built from another")
    assert str(tmp_path) in first
    assert done.stderr == ""


def test_environment_comes_before_the_option(probe: Path, tmp_path: Path) -> None:
    done = run(probe, other_package(tmp_path), E1000EMU_PYTHONPATH=str(ROOT))
    assert done.returncode == 0, said(done)


def test_package_that_does_not_import_says_why(probe: Path, tmp_path: Path) -> None:
    (tmp_path / "e1000emu").mkdir()
    (tmp_path / "e1000emu/__init__.py").write_text("import no_such_module")
    done = run(probe, E1000EMU_PYTHONPATH=str(tmp_path))
    assert done.returncode == 1, said(done)
    assert "No module named 'no_such_module'; set E1000EMU_PYTHONPATH" in done.stdout
    assert done.stderr == ""


def test_missing_standard_library_is_one_clear_error(probe: Path) -> None:
    done = run(probe, E1000EMU_PYTHONHOME="/nonexistent")
    assert done.returncode == 1
    first, second = done.stdout.splitlines()
    assert first == second
    assert "no standard library of Python" in first
    assert "/nonexistent/lib/python3." in first
    assert "set E1000EMU_PYTHONHOME" in first
    assert done.stderr == ""


def test_standard_library_may_be_named(probe: Path) -> None:
    done = run(probe, E1000EMU_PYTHONHOME=sys.base_prefix)
    assert done.returncode == 0, said(done)


IN_PYTHON = """
import ctypes, datetime, sys
for _ in range(10):  # gives the capsule type a version tag, for which cffi's start would wait
    getattr(datetime.datetime_CAPI, "anything", None)
library = ctypes.CDLL(sys.argv[1])
library.e1000emu_create.restype = ctypes.c_void_p
library.e1000emu_last_error.restype = ctypes.c_char_p
nic = library.e1000emu_create(None)
if not nic:
    sys.exit(library.e1000emu_last_error().decode())
value = ctypes.c_uint64()
assert library.e1000emu_config_read(ctypes.c_void_p(nic), ctypes.c_uint64(0), 4,
                                    ctypes.byref(value)) == 0
print(f"{value.value:08x}", "e1000emu" in sys.modules)
assert library.e1000emu_destroy(ctypes.c_void_p(nic)) == 0
"""


@pytest.mark.parametrize("interpreter", ["environment", "base"])
def test_process_that_has_a_python(library: Built, interpreter: str) -> None:
    """Its own Python serves; without the packages on its path they are found, too."""
    base = Path(sys.base_prefix) / "bin" / f"python3.{sys.version_info[1]}"
    program = sys.executable if interpreter == "environment" else str(base)
    done = run(program, "-I", "-c", IN_PYTHON, library.library)
    assert done.returncode == 0, said(done)
    assert done.stdout == "100e8086 True\n"


def test_process_with_another_python_is_refused(library: Built) -> None:
    other = "3.13" if sys.version_info[1] == 11 else "3.11"
    found = run_to_end([ROOT / "scripts/python-for", other])
    if found.returncode:
        require.tool(f"python{other}")
    done = run(found.stdout.strip(), "-I", "-c", IN_PYTHON, library.library)
    assert done.returncode == 1, said(done)
    assert f"this process runs Python {other}" in done.stderr
    assert "build it with the Python that loads it" in done.stderr


# --- building ------------------------------------------------------------------------------------


def test_build_that_is_current_is_left_alone(gcc: str, tmp_path: Path) -> None:
    built = build(tmp_path, cc=gcc)
    before = built.library.stat().st_ino
    assert build(tmp_path, cc=gcc) == built
    assert built.library.stat().st_ino == before
    built.header.unlink()
    build(tmp_path, cc=gcc)
    assert built.header.exists()
    assert built.library.stat().st_ino != before
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        ".libe1000emu",
        "e1000emu.h",
        "libe1000emu.so",
    ]


def test_build_says_what_is_missing(
    gcc: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(CapiError, match=r"no C compiler 'no-such-cc'; apt-get install gcc"):
        build(tmp_path, cc="no-such-cc")
    monkeypatch.setenv("CFLAGS", "-fno-such-flag")
    with pytest.raises(CapiError, match=r"(?s)shim\.c.*fails:.*no-such-flag"):
        build(tmp_path, cc=gcc)
    monkeypatch.delenv("CFLAGS")
    with monkeypatch.context() as patch:
        patch.setattr(sysconfig, "get_path", lambda name: str(tmp_path))
        with pytest.raises(CapiError, match=r"no Python\.h in .*; install the headers"):
            build(tmp_path, cc=gcc)
    known: Callable[[str], object] = sysconfig.get_config_var
    fake = {"LIBDIR": str(tmp_path), "LIBPL": str(tmp_path)}
    with monkeypatch.context() as patch:
        patch.setattr(sysconfig, "get_config_var", lambda name: fake.get(name, known(name)))
        patch.setattr(sys, "base_prefix", str(tmp_path))
        with pytest.raises(CapiError, match=r"no shared libpython .*--enable-shared"):
            build(tmp_path, cc=gcc)
    assert not (tmp_path / "libe1000emu.so").exists()


def test_command_prints_flags_for_a_shell(gcc: str, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "e1000emu", "capi", "--out", str(tmp_path / "with space")]

    def output(*more: str) -> str:
        return run_to_end([*command, *more], cwd=ROOT, check=True).stdout

    report = json.loads(output("--json"))
    assert Path(report["library"]).exists()
    assert Path(report["header"]).exists()
    assert output("--cflags") == f"'-I{tmp_path}/with space'\n"
    assert output("--cflags", "--libs").count("with space") == 3
    assert "cc program.c" in output()


def test_every_function_of_the_header_is_documented() -> None:
    for match in re.finditer(r"^E1000EMU_API .*$", HEADER_TEXT, re.M):
        before = HEADER_TEXT[: match.start()].rstrip().splitlines()[-1]
        # a comment, or its sibling under the same comment
        assert before.endswith(("*/", ");")), match[0]


def test_error_codes_are_the_same_on_both_sides() -> None:
    from e1000emu.embed.capi import host

    codes = dict(re.findall(r"E1000EMU_(E\w+) = (-\d+)", HEADER_TEXT))
    assert len(codes) == 11
    for name, value in codes.items():
        if hasattr(host, name):
            assert getattr(host, name) == int(value)
    assert host.code_of(RuntimeError()) == int(codes["EINTERNAL"])
    assert host.code_of(MemoryError()) == int(codes["ENOMEM"])


# --- the example ---------------------------------------------------------------------------------


def test_pytest_example(gcc: str, tmp_path: Path) -> None:
    done = run_to_end(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_driver.py"],
        cwd=shutil.copytree(EXAMPLES, tmp_path / "baremetal"),
        env={"PYTHONPATH": str(ROOT)},
    )
    assert done.returncode == 0, said(done)
    assert re.search(r"\b9 passed", done.stdout)
