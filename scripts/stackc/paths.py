"""Name Cython's own files by their place in Cython, wherever that is installed.

Their paths are in the C, for tracebacks, and in the key by which Cython's cache finds it. With an
environment's path there, each environment (another interpreter's, the one in which pip makes a
wheel) translated all modules anew, and had C of its own, which ccache had to compile anew.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import Cython
from Cython.Build import Cache
from Cython.Compiler.Scanning import FileSourceDescriptor

_CYTHON = Path(Cython.__file__).parent

_hash = Cache.file_hash
_relative_path = FileSourceDescriptor.get_relative_path


def install() -> None:
    """Make Cython, in this process and those that fork from it, name them so."""
    Cache.file_hash = _file_hash
    FileSourceDescriptor.get_relative_path = _get_relative_path


def _own(filename: str) -> Path | None:
    path = Path(filename).absolute()
    return path.relative_to(_CYTHON.parent) if path.is_relative_to(_CYTHON) else None


def _file_hash(filename: str) -> str:
    # What is in them is known by Cython's version, which is in the key too.
    own = _own(filename)
    return own.as_posix() if own else str(_hash(filename))


def _get_relative_path(self: Any) -> Path:
    return _own(self.filename) or Path(_relative_path(self))
