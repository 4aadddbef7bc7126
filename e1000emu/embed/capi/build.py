"""Build a shared object with a Python half and its header (cffi's embedding API).

`NIC` is ``libe1000emu.so``, the default `Library` of `build`.

The library is linked with the libpython of the interpreter that runs this, and keeps the
directories of its standard library and packages. So a program that loads it needs no environment.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.metadata
import importlib.util
import io
import os
import re
import shlex
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from dataclasses import dataclass
from pathlib import Path

from e1000emu.compiler import c_compiler
from e1000emu.errors import E1000Error

HERE = Path(__file__).parent
PACKAGES = HERE.parents[2]
"""The directory of the imported e1000emu."""
SHARED = ("e1000emu.h", "interpreter.h")
"""Common part of the C half of all libraries."""
NEEDED = ("fastpath", "_cffi_backend", "msgspec", "numpy")
"""Modules that the NIC imports, wherever they are installed."""
COMPILE = ("-O2", "-g", "-fPIC", "-fvisibility=hidden")
WARN = ("-std=gnu11", "-Wall", "-Wextra")
GLUE_WARN = ("-w",)  # cffi's generated code is not ours to fix


@dataclass(frozen=True, slots=True)
class Library:
    """A library: its C half in `directory` (`sources`, of which `hooks.h` and `provided.h` are also
    cffi's), its Python half, whose `serve(ffi, lib)` connects the two, and its public `header`."""

    name: str
    directory: Path
    host: str
    header: str | None = None
    shim: str = "shim.c"

    @property
    def file(self) -> str:
        """The shared object's name."""
        return f"lib{self.name}.so"

    @property
    def module(self) -> str:
        """cffi's name for the interface of both halves."""
        return f"_{self.name}"

    @property
    def sources(self) -> list[Path]:
        """The files that determine the build."""
        own = [*([self.header] if self.header else []), "hooks.h", "provided.h", self.shim]
        return list(
            dict.fromkeys([*(HERE / n for n in SHARED), *(self.directory / n for n in own)])
        )

    def init(self) -> str:
        """The Python code that runs first."""
        return f"""
from {self.module} import ffi, lib
try:
    from {self.host} import serve
    serve(ffi, lib)
except BaseException as error:
    import sys
    text = f"{{type(error).__name__}}: {{error}}"
    if isinstance(error, ImportError):
        text += "; set E1000EMU_PYTHONPATH to the directories that have it, or build the library "
        text += "anew; Python looks in " + ":".join(sys.path)
    lib.shim_error(-10, text.encode())
"""


NIC = Library("e1000emu", HERE, "e1000emu.embed.capi.host", "e1000emu.h")


class CapiError(E1000Error):
    """The shared object cannot be built here."""


@dataclass(frozen=True, slots=True)
class Built:
    """The result of `build`, and how to use it."""

    directory: Path
    of: Library = NIC

    @property
    def library(self) -> Path:
        """The shared object."""
        return self.directory / self.of.file

    @property
    def header(self) -> Path:
        """The header."""
        return self.directory / (self.of.header or self.of.file)

    @property
    def cflags(self) -> list[str]:
        """The compiler's options to find the header."""
        return [f"-I{self.directory}"]

    @property
    def libs(self) -> list[str]:
        """The linker's options, so that the program also finds the library at run time."""
        return [f"-L{self.directory}", f"-Wl,-rpath,{self.directory}", f"-l{self.of.name}"]


def fingerprint(library: Library = NIC) -> str:
    """Return an identifier of a build of the C half: a digest of its sources."""
    digest = hashlib.sha256()
    for path in library.sources:
        digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


def build(
    directory: str | os.PathLike[str], *, cc: str | None = None, library: Library = NIC
) -> Built:
    """Build the library in `directory` with its header; return their paths.

    The compiler is `cc`, else the environment's CC, else the one Python was built with; CFLAGS and
    LDFLAGS are added.  An up-to-date build is kept.  Raises: CapiError.
    """
    target = Path(directory).absolute()
    built = Built(target, library)
    compiler, include = _compiler(cc), _include()
    cflags = shlex.split(os.environ.get("CFLAGS", ""))
    ldflags = shlex.split(os.environ.get("LDFLAGS", ""))
    paths = _paths_h(library)
    stamp = "\n".join([fingerprint(library), sys.version, *compiler, *cflags, *ldflags, paths])
    mark = target / f".lib{library.name}"
    if built.library.exists() and built.header.exists() and _read(mark) == stamp:
        return built
    target.mkdir(parents=True, exist_ok=True)
    mark.unlink(missing_ok=True)
    with tempfile.TemporaryDirectory(prefix="e1000emu-capi-") as scratch:
        work = Path(scratch)
        (work / "paths.h").write_text(paths)
        glue = work / f"{library.module}.c"
        _emit(library, glue)
        found = dict.fromkeys([library.directory, HERE, work, include])
        compile_ = [*compiler, *COMPILE, *cflags, *(f"-I{path}" for path in found), "-c"]
        _run([*compile_, *WARN, str(library.directory / library.shim), "-o", str(work / "shim.o")])
        _run([*compile_, *GLUE_WARN, str(glue), "-o", str(work / "glue.o")])
        link = [*compiler, "-shared", *cflags, *ldflags, str(work / "shim.o"), str(work / "glue.o")]
        made = work / library.file
        _run([*link, "-Wl,-soname," + library.file, "-o", str(made), *_libpython()])
        # One rename each: a program that has the old library mapped keeps it.
        _install(made, built.library)
    if library.header:
        _install(library.directory / library.header, built.header)
    mark.write_text(stamp)
    return built


def check() -> None:
    """Check the requirements of `build`.  Raises: CapiError with the remedy."""
    _compiler(None)
    _include()
    _libpython()


def _compiler(cc: str | None) -> list[str]:
    try:
        return c_compiler(cc)
    except E1000Error as error:
        raise CapiError(str(error)) from None


def _include() -> Path:
    include = Path(sysconfig.get_path("include"))
    if not (include / "Python.h").exists():
        version = _version()
        raise CapiError(
            f"no Python.h in {include}; install the headers of this Python "
            f"(apt-get install python{version}-dev)"
        )
    return include


def _version() -> str:
    return f"{sys.version_info[0]}.{sys.version_info[1]}"


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""


def _install(source: Path, target: Path) -> None:
    beside = target.with_name(f".{target.name}.{os.getpid()}")
    shutil.copyfile(source, beside)
    beside.chmod(0o755 if target.suffix == ".so" else 0o644)
    beside.replace(target)


def _run(command: list[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise CapiError(f"{shlex.join(command)} fails:\n{done.stderr.strip()[-4000:]}")


def _emit(library: Library, path: Path) -> None:
    """Write cffi's half: the module, the start of Python, the trampolines of the hooks."""
    import cffi

    hooks, provided = ((library.directory / name).read_text() for name in ("hooks.h", "provided.h"))
    ffi = cffi.FFI()
    ffi.embedding_api("")
    ffi.cdef(provided)
    ffi.cdef(f'extern "Python+C" {{\n{_no_comments(hooks)}\n}}')
    ffi.set_source(
        library.module,
        """
        #include <stddef.h>
        #include <stdint.h>
        #include "provided.h"
        static int cffi_start_python(void);
        int shim_start_cffi(void) { return cffi_start_python(); }
        """,
    )
    ffi.embedding_init_code(library.init())
    with contextlib.redirect_stdout(io.StringIO()):  # it prints what it writes
        ffi.emit_c_code(str(path))


def _no_comments(text: str) -> str:
    return re.sub(r"/\*.*?\*/", "", text, flags=re.DOTALL)


def _paths_h(library: Library) -> str:
    """Return the header with the paths of this Python and its packages."""
    stdlib = sysconfig.get_path("stdlib")
    nodot = _version().replace(".", "")
    standard = [str(Path(stdlib).parent / f"python{nodot}.zip"), stdlib]
    dynload = sysconfig.get_config_var("DESTSHARED")
    if dynload:
        standard.append(str(dynload))
    packages = [str(PACKAGES)]
    for name in NEEDED:
        found = importlib.util.find_spec(name)
        assert found is not None  # this process has imported it
        assert found.origin is not None
        inside = 2 if found.submodule_search_locations else 1
        packages.append(str(Path(found.origin).parents[inside - 1]))
    packages = [p for p in dict.fromkeys(packages) if p not in standard]
    rows = {
        "VERSION": importlib.metadata.version("e1000emu"),
        "LIBRARY": library.file,
        "FINGERPRINT": fingerprint(library),
        "HOME": sys.base_prefix,
        "EXECUTABLE": sys.executable,
        "STDLIB_DIR": stdlib,
        "STDLIB": ":".join(standard),
        "PACKAGES": ":".join(packages),
    }
    return "".join(f"#define PATHS_{name} {_quote(value)}\n" for name, value in rows.items())


def _quote(value: str) -> str:
    """Return a C string, with three octal digits for anything but plain ASCII."""
    plain = "".join(
        chr(b) if 32 <= b < 127 and b not in b'"\\?' else f"\\{b:03o}" for b in os.fsencode(value)
    )
    return f'"{plain}"'


def _libpython() -> list[str]:
    """Return the linker's arguments for the libpython of this interpreter, and for finding it.

    Raises: CapiError when this Python came without one.
    """
    get = sysconfig.get_config_var
    directories = [str(d) for d in (get("LIBDIR"), get("LIBPL"), f"{sys.base_prefix}/lib") if d]
    names = dict.fromkeys(str(n) for n in (get("LDLIBRARY"), get("INSTSONAME")) if n)
    for directory in directories:
        for name in names:
            if ".so" in name and (Path(directory) / name).exists():
                return [f"{directory}/{name}", f"-Wl,-rpath,{directory}", "-lpthread"]
    raise CapiError(
        f"this Python has no shared libpython ({', '.join(names) or 'none was built'}); "
        f"apt-get install libpython{_version()}-dev, or with pyenv "
        f"PYTHON_CONFIGURE_OPTS=--enable-shared pyenv install {_version()}"
    )
