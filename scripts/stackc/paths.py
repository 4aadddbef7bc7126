"""Name files in the C by relative paths: sources by theirs in this tree, Cython's own in Cython.

File names are in the C for tracebacks, and those of Cython are in the key of its cache. Absolute
paths would differ between environments (of another interpreter, or of pip's build), so each would
translate all modules and, because the C differs, compile them again without ccache's help.

A frame of a traceback names the source as the interpreter would, once for each function. It has the
absolute path where the file exists (tracefile.h), otherwise the path in the tree.
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Any

import Cython
from Cython.Build import Cache
from Cython.Compiler.Code import CCodeWriter, UtilityCode
from Cython.Compiler.Nodes import FuncDefNode, ReraiseStatNode
from Cython.Compiler.Scanning import FileSourceDescriptor

from .module import CHECKED
from .slots import CALLER

SWITCH = "E1000EMU_STACKC_WITHOUT"
"""The rows of overrides.py that a build leaves out."""
_CYTHON = Path(Cython.__file__).parent
_FRAME = "PyCode_NewEmpty(filename, funcname, py_line)"
_FRAME_AT = "tracefile_code(filename, funcname, py_line, NAMED_CGLOBAL(moddict_cname))"
_BODIES = ("    int success = 0;\n", "    PyObject *ptype, *pvalue, *ptraceback;\n")
_LINELESS = "    if (!py_line) return;\n"
_HEADER = '#include "traceback.h"\n'

_hash = Cache.file_hash
_version = Cache.__version__
_relative_path = FileSourceDescriptor.get_relative_path
_add_traceback = CCodeWriter.put_add_traceback
_function = FuncDefNode.generate_function_definitions
_reraise = ReraiseStatNode.generate_execution_code
_error_goto = CCodeWriter.error_goto
_unseen: list[bool] = [False]
_again = False


def install_names() -> None:
    """Name files by relative paths, in the C and in the keys of Cython's cache."""
    Cache.file_hash = _file_hash
    FileSourceDescriptor.get_relative_path = _get_relative_path


def install_key() -> None:
    """Put these programs into the keys of Cython's cache."""
    Cache.__version__ = f"{_version} {_writers()}"


def install_unseen() -> None:
    """Add no frame to a traceback for functions that are not in the source."""
    CCodeWriter.put_add_traceback = _put_add_traceback
    FuncDefNode.generate_function_definitions = _generate_function


def install_reraise() -> None:
    """Add no line to a traceback for a bare `raise`."""
    CCodeWriter.error_goto = _goto_error
    ReraiseStatNode.generate_execution_code = _generate_reraise
    frames = UtilityCode.load_cached("AddTraceback", "Exceptions.c")
    if _LINELESS not in frames.impl:
        for body in _BODIES:
            assert frames.impl.count(body) == 1
            frames.impl = frames.impl.replace(body, body + _LINELESS)


def install_frames() -> None:
    """Let a frame of a traceback name its file as the interpreter would."""
    frames = UtilityCode.load_cached("AddTraceback", "Exceptions.c")
    if _FRAME_AT not in frames.impl:
        assert frames.impl.count(_FRAME) == frames.impl.count(_HEADER) == 1
        text = frames.impl.replace(_FRAME, _FRAME_AT)
        frames.impl = text.replace(_HEADER, f'{_HEADER}#include "tracefile.h"\n')


def _writers() -> str:
    """The programs that change what Cython writes, for the key of its cache."""
    sums = hashlib.sha256(os.environ.get(SWITCH, "").encode())
    for path in sorted(Path(__file__).parent.glob("*.py")):
        sums.update(path.read_bytes())
    return sums.hexdigest()


def _own(filename: str) -> Path | None:
    path = Path(filename).absolute()
    return path.relative_to(_CYTHON.parent) if path.is_relative_to(_CYTHON) else None


def _file_hash(filename: str) -> str:
    # Cython's version, which is in the key too, stands for their contents.
    own = _own(filename)
    return own.as_posix() if own else str(_hash(filename))


def _get_relative_path(self: Any) -> Path:
    own = _own(self.filename)
    if own:
        return own
    path = Path(_relative_path(self))
    if path.parts[0] == "build":  # build/stackc/stack/inet/tcp.pyx, whose lines are the source's
        source = Path(*path.parts[2:]).with_suffix(".py")
        return source if source.exists() else path
    return path


def _generate_function(self: Any, env: Any, code: Any) -> None:
    """A function that is not in the source, and the wrapper by which Python calls a cpdef one."""
    name = str(self.entry.name)
    _unseen.append(self.is_wrapper or name.startswith(CALLER) or env.qualified_name == CHECKED)
    try:
        _function(self, env, code)
    finally:
        _unseen.pop()


def _put_add_traceback(self: Any, qualified_name: Any, include_cline: bool = True) -> None:
    if not _unseen[-1]:
        _add_traceback(self, qualified_name, include_cline)


def _generate_reraise(self: Any, code: Any) -> None:
    """A bare `raise`, which adds no line: the traceback has the exception's already."""
    global _again
    _again = True
    try:
        _reraise(self, code)
    finally:
        _again = False


def _goto_error(self: Any, pos: Any, used: bool = True) -> str:
    return str(_error_goto(self, (pos[0], 0, pos[2]) if _again and pos else pos, used))
