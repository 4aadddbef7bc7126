"""The private functions of Cython that stackc replaces: one row for each change.

No public interface of Cython allows this, so another version may differ. Therefore
pyproject.toml takes one minor version of Cython, and `install` refuses any other.

`E1000EMU_STACKC_WITHOUT=NAME,NAME` leaves rows out of a build; `python -m scripts.stackc measure
NAME` translates and compiles some modules with a row and without.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import NamedTuple

import Cython

from . import narrow, needed, paths, wrappers
from .paths import SWITCH

VERSION = "3.3"
TRACEBACKS = (
    "tests/stack/test_tracebacks.py::test_a_traceback_of_compiled_code_is_that_of_its_sources"
)


class Override(NamedTuple):
    """The replaced function, the reason, its test and its gain."""

    name: str
    install: Callable[[], None]
    replaces: tuple[str, ...]
    """Below `Cython`: module, class, name."""
    why: str
    test: str
    saves: str
    """Measured with Cython 3.3.1, GCC 12 and Python 3.11."""
    upstream: str
    """The patch in `upstream/` that would do the same, or why it does not belong in Cython."""
    of: str = "all"
    """Modules it applies to: "all", with those of fastpath; "stack"; "one": in each module's own
    process, because it can write one module only."""

    def shown(self) -> str:
        """The row as text."""
        lines = [self.name, *(f"  Cython.{name}" for name in self.replaces), f"  {self.why}"]
        rest = (("saves", self.saves), ("test", self.test), ("upstream", self.upstream))
        return "\n".join([*lines, *(f"  {word}: {text}" for word, text in rest)])


OVERRIDES = (
    Override(
        name="key",
        install=paths.install_key,
        replaces=("Build.Cache.__version__",),
        why="Cython's cache knows of no program that changes Cython. A build would take C that an "
        "older stackc wrote.",
        test="tests/scripts/test_overrides.py::test_the_key_of_the_cache_has_these_programs_in_it",
        saves="0 s: it is for correctness",
        upstream="No patch: Cython has no such programs.",
    ),
    Override(
        name="names",
        install=paths.install_names,
        replaces=(
            "Build.Cache.file_hash",
            "Compiler.Scanning.FileSourceDescriptor.get_relative_path",
        ),
        why="The C and the keys of the cache have the absolute paths of Cython's own files, so "
        "each environment would translate and compile everything again.",
        test="tests/scripts/test_stackc.py"
        "::test_an_environment_elsewhere_takes_what_another_one_wrote",
        saves="2.2 s for each of 158 modules in every further environment: nothing is translated",
        upstream="own-files.patch",
    ),
    Override(
        name="unseen",
        install=paths.install_unseen,
        replaces=(
            "Compiler.Code.CCodeWriter.put_add_traceback",
            "Compiler.Nodes.FuncDefNode.generate_function_definitions",
        ),
        why="A traceback has a second entry for each function that Python calls, and one for each "
        "call through a slot. With this it is that of the uncompiled run.",
        test=TRACEBACKS,
        saves="0.2 % of the C; it is for what a reader of a traceback sees",
        upstream="wrapper-frames.patch",
    ),
    Override(
        name="reraise",
        install=paths.install_reraise,
        replaces=(
            "Compiler.Code.CCodeWriter.error_goto",
            "Compiler.Nodes.ReraiseStatNode.generate_execution_code",
            "Utility.Exceptions.c",
        ),
        why="A bare `raise` adds an entry to the traceback, which it does not in Python.",
        test=TRACEBACKS,
        saves="0 % of the C; it is for what a reader of a traceback sees",
        upstream="reraise.patch",
    ),
    Override(
        name="frames",
        install=paths.install_frames,
        replaces=("Utility.Exceptions.c",),
        why="An entry of a traceback has the path of a source below the tree. Python shows the "
        "line's text only if the program runs in that directory (tracefile.h).",
        test=TRACEBACKS,
        saves="0 % of the C; it is for what a reader of a traceback sees",
        upstream="No patch: Cython cannot know where a module's source is installed.",
    ),
    Override(
        name="narrow",
        install=narrow.install,
        replaces=(
            "Compiler.Symtab.CClassScope.declare_var",
            "Compiler.ExprNodes.AttributeNode.calculate_result_code",
            "Compiler.ExprNodes.AttributeNode.generate_assignment_code",
            "Compiler.ModuleNode.ModuleNode.generate_objstruct_definition",
        ),
        why="Fields of 8, 16 and 32 bits that are computed with in 64. C would compute in 32, and "
        "store what does not fit without a word.",
        test="tests/scripts/test_stackc.py::test_rules_mean_the_same_compiled",
        saves="30 % of a TCP socket (1,440 bytes instead of 2,046), 28 % of a UDP one (632, 876)",
        upstream="No patch: Cython's C types compute as C's do.",
        of="stack",
    ),
    Override(
        name="needed",
        install=needed.install,
        replaces=(
            "Compiler.ModuleNode.ModuleNode.generate_type_import_code_for_module",
            "Compiler.ModuleNode.ModuleNode.generate_declarations_for_modules",
        ),
        why="A module declares and imports all classes of a module that it cimports: two hundred "
        "of stack._state.",
        test="tests/scripts/test_stackc.py"
        "::test_a_module_has_the_classes_that_it_uses_and_no_others",
        saves="16 % of the C, 4 % of the machine code (stack.ipv4.ip_output: 40,795 lines, not "
        "48,424)",
        upstream="unused-types.patch",
        of="one",
    ),
    Override(
        name="wrappers",
        install=wrappers.install,
        replaces=("Compiler.Nodes.DefNodeWrapper.generate_function_header",),
        why="The functions that parse a Python caller's arguments get attributes of their own "
        "(build.py, WRAPPER): compiled callers do not use them.",
        test="tests/scripts/test_stackc.py::test_wrappers_have_attributes_of_their_own",
        saves="16 % of the C compiler's time for a hot module (stack.core.dev_receive: 1.5 s, "
        "not 1.8), 2 % of its machine code",
        upstream="wrapper-macro.patch",
        of="stack",
    ),
)


def left_out() -> list[str]:
    """The names in E1000EMU_STACKC_WITHOUT. Raises: SystemExit: one is not a row."""
    names = [name for name in os.environ.get(SWITCH, "").split(",") if name]
    unknown = sorted(set(names) - {"nothing"} - {row.name for row in OVERRIDES})
    if unknown:
        raise SystemExit(f"{SWITCH}: no such override: {', '.join(unknown)}")
    return sorted(names)


def install(*of: str) -> None:
    """Change Cython in this process by the rows for these modules ("all", "stack", "one").

    Raises: SystemExit: Cython is not the version whose private functions these are.
    """
    if Cython.__version__.split(".")[:2] != VERSION.split("."):
        raise SystemExit(
            f"scripts/stackc replaces private functions of Cython {VERSION}; here is "
            f"{Cython.__version__}: pip install 'cython~={VERSION}.0'"
        )
    without = left_out()
    for row in OVERRIDES:
        if row.of in of and row.name not in without:
            row.install()
