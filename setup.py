"""Build the compiled modules: ``fastpath``, the benchmarks' packet generator, and the protocol path
of ``stack`` (scripts/stackc).

Environment switches (all read here and nowhere else):

``E1000EMU_CYTHON_DEBUG=1``  bounds, division and C assertions on, ``-Og -g1``.
``E1000EMU_SANITIZE=address,undefined``  compile and link with these sanitizers (`make test-asan`;
`thread` for `make test-tsan`).
``E1000EMU_CYTHON_CACHE=DIR``  keep the C text that Cython writes there, and take it from there when
sources, declarations and directives are those it was written of: one tree, built once per
interpreter, sanitizer and package, is translated once (.ci/run), wherever each finds its Cython.
``E1000EMU_OPTIMIZE=-Og``  the C compiler's option for all modules, whatever each is worth: half of
its time, where a build is only to be tested (.ci/run, the second Python).
``E1000EMU_ONLY=csum,dma``  build these modules only (work on one kernel without building the rest);
`fastpath`: all but those of the stack.
``E1000EMU_STACKC_WITHOUT=NAME,NAME``  leave changes to Cython out (scripts/stackc/overrides.py).
"""

from __future__ import annotations

import gc
import importlib.util
import multiprocessing
import os
import re
import shlex
import shutil
import sys
import sysconfig
import time
import tomllib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from Cython.Build import cythonize
from setuptools import Extension, find_packages, setup
from setuptools.command.build_ext import build_ext

ROOT = Path(__file__).resolve().parent
sys.path.insert(0, str(ROOT / "scripts"))
from stackc import overrides  # noqa: E402 - programs of this tree
from stackc.build import (  # noqa: E402
    CALLED,
    COMPILE_FLAGS,
    OPTIMIZE,
    SHARED,
    WRAPPER,
    options,
)
from stackc.fingerprint import fingerprint  # noqa: E402
from stackc.state import MODULE as STATE_MODULE  # noqa: E402
from stackc.translate import read_utilities, translate  # noqa: E402
from stackc.tree import compiled_modules, generate  # noqa: E402

DEBUG = os.environ.get("E1000EMU_CYTHON_DEBUG", "") not in ("", "0")
OPTIMIZE_ALL = os.environ.get("E1000EMU_OPTIMIZE", "")
SANITIZE = os.environ.get("E1000EMU_SANITIZE", "")
CACHE = os.environ.get("E1000EMU_CYTHON_CACHE") or False
WITHOUT = os.environ.get(overrides.SWITCH, "")
ONLY = {name for name in os.environ.get("E1000EMU_ONLY", "").split(",") if name}
# ThreadSanitizer has no use for the stack, which has one thread at a time.
WITHOUT_STACK = SANITIZE == "thread" or "fastpath" in ONLY
ONLY.discard("fastpath")
JOBS = os.cpu_count() or 1

# `CC` decides, as for any extension. Without it setuptools takes the compiler that built this
# Python, which may not be on this machine.
if "CC" not in os.environ:
    built_with = shlex.split(str(sysconfig.get_config_var("CC") or ""))
    if not built_with or shutil.which(built_with[0]) is None:
        here = next((cc for cc in ("cc", "gcc", "clang") if shutil.which(cc)), None)
        if here is not None:
            os.environ["CC"] = here

DIRECTIVES = {
    "language_level": 3,
    "embedsignature": True,
    # Plain built-in functions: the interpreter has quicker calls for them than for Cython's own
    # function type (UDP 64 B one by one: -5 %). The signature is in the docstring.
    "binding": False,
    "boundscheck": DEBUG,
    "wraparound": False,
    "initializedcheck": DEBUG,
    # Not even in a debug build: code without the GIL could not raise, so it would not compile.
    "nonecheck": False,
    "overflowcheck": False,
    "cdivision": not DEBUG,
}


# What chooses the C compiler's options: a change here compiles those modules whose options changed.
CHOOSERS = [ROOT / "setup.py", *(ROOT / "scripts/stackc" / f for f in ("build.py", "compiled.txt"))]
# Modules of fastpath that process no single frames.
COLD = {"buildinfo", "calltrace", "hdr6", "misuselog", "sampler", "seccomp"}
STACK_BUILD = Path("build/stackc-debug" if DEBUG else "build/stackc")
if WITHOUT:  # its output must not be mistaken for a build's
    STACK_BUILD = STACK_BUILD.with_name(f"{STACK_BUILD.name}-without-{WITHOUT}")
STACK_OPTIONS = options(STACK_BUILD, DEBUG)


# Of the stack: AddressSanitizer finds wrong pointers, since it checks what is accessed.
NO_POINTERS = "-fno-sanitize=null,alignment,object-size,pointer-overflow"
# What Cython writes to load a module of the stack has no input and runs once. To watch it too takes
# the compiler 1.6 times as long. All functions are watched, and all of fastpath.
UNWATCHED = '-DCYTHON_SMALL_CODE=__attribute__((cold,no_sanitize("address","undefined")))'


def compiler_flags(optimize: str) -> tuple[list[str], list[str]]:
    """Return the options for the compiler, which include `optimize`, and for the linker."""
    if DEBUG or SANITIZE:
        # Lines and no variables: a third of the time of -O1 -g.
        flags = ["-Og", "-g1", "-Wall", "-Wno-unused-function", "-Wno-maybe-uninitialized"]
        # The last is clang's, about gcc's -Wno-maybe-uninitialized.
        flags += ["-Wno-sign-compare", "-Wno-unknown-warning-option"]
    else:
        # -g0 because most Pythons pass the -g they were built with: it made five sixths of the
        # modules. Looking for what to warn of takes a fifth of the compiler's time.
        flags = [OPTIMIZE_ALL or optimize, "-g0", "-w", "-fno-semantic-interposition"]
        # Cython's name for what runs once, when a module is loaded: half of a small module. A build
        # that is only to be tested takes it as it is, which saves a fifth of the compiler's time.
        once = "O0" if OPTIMIZE_ALL else "Og"
        flags += [f'-DCYTHON_SMALL_CODE=__attribute__((cold,optimize("{once}")))']
        # Calls of CPython go through the table of addresses, not by a stub in another cache line.
        flags += ["-fno-plt"]
    flags += ["-fno-strict-aliasing"]
    # A wheel is for use: without the table of symbols, which is for perf and debuggers, and without
    # the zeroes that put code on pages of its own.
    wheel = "bdist_wheel" in sys.argv and sys.platform == "linux"
    link = ["-s", "-Wl,-z,noseparate-code"] if wheel else []
    if SANITIZE:
        flags += [f"-fsanitize={SANITIZE}", "-fno-omit-frame-pointer", "-fno-sanitize-recover=all"]
        link += [f"-fsanitize={SANITIZE}"]
    return flags, link


def kernels() -> list[Path]:
    """Return the Cython sources: fastpath's, and the benchmarks' engine driver."""
    return [*sorted((ROOT / "fastpath").glob("*/*.pyx")), ROOT / "benchmarks/pktgen.pyx"]


def module_name(path: Path) -> str:
    """Return a kernel's name in a wheel, where the benchmarks are a package of e1000emu."""
    name = ".".join(path.relative_to(ROOT).with_suffix("").parts)
    return name.replace("benchmarks", "e1000emu._benchmarks")


def extensions() -> list[Extension]:
    """Return one extension per ``.pyx``."""
    macros = [("E1000EMU_DEBUG", "1")] if DEBUG else []
    headers = [str(p.relative_to(ROOT)) for p in sorted((ROOT / "fastpath/_c").glob("*.h"))]

    def extension(path: Path) -> Extension:
        flags, link = compiler_flags(OPTIMIZE["cold" if path.stem in COLD else "hot"])
        return Extension(
            module_name(path),
            [str(path.relative_to(ROOT))],
            include_dirs=["fastpath/_c"],
            depends=headers,
            define_macros=macros,
            extra_compile_args=flags,
            extra_link_args=link,
        )

    flags, link = compiler_flags(OPTIMIZE["hot"])
    text = SHARED.replace(".", "/") + ".c"
    shared = Extension(
        SHARED,
        [text],
        include_dirs=["fastpath/_c"],
        extra_compile_args=flags,
        extra_link_args=link,
    )
    found = [extension(path) for path in kernels() if not ONLY or path.stem in ONLY]
    if not ONLY and not SOURCES_ONLY:
        keep_only([SHARED, *(one.name for one in found)], "fastpath")
    return found if SOURCES_ONLY or (ONLY and not found) else [shared, *found]


def stack_modules() -> list[str]:
    """Return the modules of ``stack`` that are compiled now."""
    wanted = [m for m in (STATE_MODULE, *compiled_modules()) if not ONLY or m in ONLY]
    if WITHOUT_STACK:
        return []
    if not ONLY:
        keep_only(wanted, "stack")
    return wanted


def keep_only(names: Iterable[str], package: str) -> None:
    """Remove what was compiled in `package` of modules that are no longer compiled."""
    kept = set(names)
    for old in (ROOT / package).rglob("*.so"):
        if ".".join(old.relative_to(ROOT).parts).split(".cpython-")[0] not in kept:
            old.unlink()


def forget_older(texts: Iterable[Path], *writers: Path) -> None:
    """Remove the C that is older than one of the programs that write it, or choose directives."""
    since = max(path.stat().st_mtime for path in writers)
    for text in texts:
        if text.exists() and text.stat().st_mtime < since:
            text.unlink()


def write_stack(wanted: list[str]) -> None:
    """Write the C of these modules and of their common code."""
    written = generate(ROOT, STACK_BUILD, list(compiled_modules()))
    sources = {name: written[name] for name in {STATE_MODULE: 0, **dict.fromkeys(wanted)}}
    texts = [path.with_suffix(".c") for path in sources.values()]
    forget_older(texts, Path(__file__), *(ROOT / "scripts/stackc").glob("*.py"))
    translate(sources, [STATE_MODULE], JOBS, cache=CACHE, **STACK_OPTIONS)


def stack_extensions(wanted: list[str]) -> list[Extension]:
    """Return one extension per translated module of ``stack``."""
    listed = compiled_modules()

    def extension(module: str) -> Extension:
        source = STACK_BUILD / (module.replace(".", "/") + ".pyx")
        flags, link = compiler_flags(OPTIMIZE[listed.get(module, "state")])
        flags += COMPILE_FLAGS
        # The checks make them large, and little of the sanitizers' tests is spent there.
        flags += ["-O0", "-g0", NO_POINTERS, UNWATCHED] if SANITIZE else []
        plain = DEBUG or SANITIZE or module in CALLED
        wrapper = "" if plain else WRAPPER.get(listed.get(module, ""), "")
        flags += [f"-DCYTHON_WRAPPER_CODE={wrapper}"] if wrapper else []
        return Extension(
            module,
            [str(source)],
            extra_compile_args=flags,
            extra_link_args=link,
            include_dirs=["fastpath/_c", "scripts/stackc"],
            depends=[
                str(source.with_suffix(".pxd")),
                "scripts/stackc/state_fields.h",
                "scripts/stackc/slots.h",
            ],
        )

    return [extension(module) for module in wanted]


# Cython's trees are all cycles: searching them for garbage takes 40 % of the time.
gc.set_threshold(50_000, 20, 20)

# The C text depends on the directives, so builds with checks keep theirs apart; and their modules
# too, or the next wheel would take them for up to date.
BUILD_DIR = "build/cython-debug" if DEBUG else None
OPTIONS: dict[str, dict[str, object]] = {"build_ext": {"parallel": JOBS}}
if DEBUG or SANITIZE:
    OPTIONS["build"] = {"build_base": "build/debug" if DEBUG else "build/sanitize"}


def readme() -> str:
    """Return README.md for a package index, where links relative to the repository lead nowhere."""
    source = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["urls"]["Source"]

    def absolute(link: re.Match[str]) -> str:
        view = "raw" if link[1] else "blob"
        return f"{link[1]}[{link[2]}]({source}/{view}/main/{link[3]})"

    text = (ROOT / "README.md").read_text()
    return re.sub(r"(!?)\[([^\]]*)\]\((?!https?:|#)([^)]+)\)", absolute, text)


# A source distribution carries the .pyx as they are, so nothing is translated for it.
SOURCES_ONLY = {"sdist", "egg_info", "dist_info"}.intersection(sys.argv[1:])

# A wheel carries the benchmarks too, for `e1000emu bench`.
PACKAGES = find_packages(include=["fastpath*", "e1000emu*", "stack*"])


def read_built() -> Any:
    """Return fastpath/built.py, whose package cannot be imported before it is compiled."""
    spec = importlib.util.spec_from_file_location("built", ROOT / "fastpath/built.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


built = read_built()


def read_sources() -> dict[str, list[str]]:
    """Return the contents of each package's record (fastpath/built.py).

    A changed source that is not newer than what was made of it, as another one's copy, becomes so.
    """
    headers = [p for end in ("*/*.pyx", "*/*.pxd", "_c/*.h") for p in (ROOT / "fastpath").glob(end)]
    sources = {"fastpath": {str(path.relative_to(ROOT)): built.WHOLE for path in headers}}
    compiled = {name.replace(".", "/") + ".py" for name in compiled_modules()}
    names = [str(path.relative_to(ROOT)) for path in (ROOT / "stack").rglob("*.py")]
    kinds = {name: built.WHOLE if name in compiled else built.DECLARED for name in names}
    sources["stack"] = {} if WITHOUT_STACK else kinds
    for package in sources:
        record = ROOT / package / built.RECORD
        for name in built.changed(str(ROOT), package) or []:
            path = ROOT / name
            if path.exists() and path.stat().st_mtime < record.stat().st_mtime:
                os.utime(path)
    return {package: built.examine(str(ROOT), names) for package, names in sources.items()}


class BuildInPlace(build_ext):
    """Record the sources of the compiled modules, if this build succeeds.

    Modules whose C says the same as before are not compiled again.
    """

    def run(self) -> None:
        """Compile; without its record an interrupted build is refused by its package."""
        if not self.inplace or not self.extensions:
            super().run()
            return
        lines = dict(MADE_OF)
        for package, now in lines.items():
            path = ROOT / package / built.RECORD
            if ONLY and path.exists():  # of all others, what they were made of before
                kernels = (ROOT / "fastpath").glob("*/*.pyx")
                mine = {str(p.relative_to(ROOT)) for p in kernels if p.stem in ONLY}
                mine |= {name.replace(".", "/") + ".py" for name in ONLY}
                new = {line.split(" ", 4)[4]: line for line in now}
                old = path.read_text().splitlines()
                by_name = {line.split(" ", 4)[4]: line for line in old}
                lines[package] = [new[n] if n in mine & new.keys() else by_name[n] for n in by_name]
            elif ONLY:
                lines[package] = []
            if built.changed(str(ROOT), package):  # modules of old and new sources lie here now
                built.drop_record(str(ROOT), package)
        super().run()
        for package, now in lines.items():
            if now:
                built.write_record(str(ROOT), package, now)

    def build_extension(self, ext: Extension) -> None:
        """Compile a module, unless its options are the same and its C differs only in places."""
        module = Path(self.get_ext_fullpath(ext.name))
        made = Path(self.build_temp, f"{ext.name}.made")
        texts = [Path(name) for name in (*ext.sources, *ext.depends) if not name.endswith(".pxd")]
        newest = max(path.stat().st_mtime for path in (*texts, *CHOOSERS))
        if not self.force and module.exists() and module.stat().st_mtime >= newest:
            super().build_extension(ext)  # it says that it skips the module
            return
        now = fingerprint(texts, (ext.extra_compile_args, ext.extra_link_args, ext.define_macros))
        if not self.force and module.exists() and made.exists() and made.read_text() == now:
            os.utime(module)
            return
        module.unlink(missing_ok=True)  # setuptools would keep it if only its options changed
        super().build_extension(ext)
        made.parent.mkdir(parents=True, exist_ok=True)
        made.write_text(now)


def forget_failures(began: float) -> None:
    """Remove the output of a failed translation, in the cache too.

    Cython takes it for the module's C, and the compiler would say at the next build that it is not.
    """
    cache = Path(CACHE).rglob("*") if CACHE else ()
    for path in (*cache, *(ROOT / "fastpath").rglob("*.c"), *STACK_BUILD.rglob("*.c")):
        if path.is_file() and path.stat().st_mtime >= began:
            path.unlink()


def translated() -> list[Extension]:
    """Return the modules to compile, once their C is written."""
    began = time.time()
    try:
        return translate_all()
    except BaseException:
        forget_failures(began)
        raise


def translate_all() -> list[Extension]:
    """Write the C of all modules, of both packages at once; return the modules to compile."""
    found = extensions()
    stack = stack_modules()
    texts = [Path(BUILD_DIR or ".", e.sources[0]).with_suffix(".c") for e in found]
    forget_older(texts, Path(__file__), ROOT / "scripts/stackc/paths.py")
    overrides.install("all")
    read_utilities()
    # Each has a part that one processor does alone.
    beside = multiprocessing.Process(target=write_stack, args=(stack,))
    if stack:
        beside.start()
    try:
        found = cythonize(
            found,
            compiler_directives=DIRECTIVES,
            annotate=DEBUG,
            build_dir=BUILD_DIR,
            cache=CACHE,
            shared_utility_qualified_name=SHARED,
            nthreads=0 if ONLY else JOBS,
        )
    finally:
        if stack:
            beside.join()
    if not stack:
        return found
    if beside.exitcode:
        raise SystemExit(beside.exitcode)  # it has printed why
    # All are up to date: what is left is what each is told by the others. Should one be older than
    # Cython thinks right (after a build that was killed), it is written the same way.
    overrides.install("stack")
    return [*found, *cythonize(stack_extensions(stack), **STACK_OPTIONS)]


# Cython's processes are copies of this one, with its paths and its text of utilities: the way that
# was the default until Python 3.14.
multiprocessing.set_start_method("fork", force=True)

MADE_OF = {} if SOURCES_ONLY else read_sources()

setup(
    packages=[*PACKAGES, "e1000emu._benchmarks", "e1000emu._benchmarks.rows"],
    package_dir={
        "e1000emu._benchmarks": "benchmarks",
        "e1000emu._benchmarks.rows": "benchmarks/rows",
    },
    long_description=readme(),
    long_description_content_type="text/markdown",
    ext_modules=extensions() if SOURCES_ONLY else translated(),
    options=OPTIONS,
    cmdclass={"build_ext": BuildInPlace},
)
