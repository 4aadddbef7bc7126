"""Lets the functions that parse a Python caller's arguments be compiled for size.

Compiled code does not call these wrappers. `CYTHON_WRAPPER_CODE` stands before their names, and
setup.py defines it (build.py, WRAPPER).
"""

from __future__ import annotations

from typing import Any

from Cython.Compiler.Code import UtilityCode
from Cython.Compiler.Nodes import DefNodeWrapper

_header = DefNodeWrapper.generate_function_header

MACRO = UtilityCode(
    proto="""
#ifndef CYTHON_WRAPPER_CODE
  #define CYTHON_WRAPPER_CODE
#endif
"""
)


def install() -> None:
    """Patch Cython in this process to mark wrappers."""
    DefNodeWrapper.generate_function_header = _mark


class _Marked:
    """A wrapper's return type, with the attributes that precede the wrapper's name."""

    def __init__(self, kind: Any) -> None:
        self.kind = kind

    def declaration_code(self, name: str) -> str:
        return str(self.kind.declaration_code(f"CYTHON_WRAPPER_CODE {name}"))


def _mark(self: Any, code: Any, with_pymethdef: Any, proto_only: Any = 0) -> None:
    code.globalstate.use_utility_code(MACRO)
    kind = self.return_type
    self.return_type = _Marked(kind)
    try:
        _header(self, code, with_pymethdef, proto_only)
    finally:
        self.return_type = kind
