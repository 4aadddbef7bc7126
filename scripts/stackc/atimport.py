"""Makes the C for imports and for calls from Python smaller.

A module of the stack has some twenty imports and takes functions from as many other modules. Cython
writes out the code of each, a tenth of the C text; here each becomes a call (atimport.h). Compiled
code does not call the wrappers that parse a Python caller's arguments; `STACKC_WRAPPER` marks them
to be compiled for size.
"""

from __future__ import annotations

from typing import Any

from Cython.Compiler import ModuleNode as module_node
from Cython.Compiler import Naming
from Cython.Compiler.Code import UtilityCode
from Cython.Compiler.ExprNodes import ImportNode
from Cython.Compiler.Nodes import DefNodeWrapper, FromImportStatNode
from Cython.Compiler.StringEncoding import bytes_literal

_from_import = FromImportStatNode.generate_execution_code
_import_functions = module_node._generate_import_code
_wrapper_header = DefNodeWrapper.generate_function_header

IMPORTS = UtilityCode(
    proto="""
static int stackc_import_names(PyObject *, PyObject *const *, Py_ssize_t, PyObject *);
static int stackc_import_functions(const char *, const char *, Py_ssize_t, void (**const *)(void));
""",
    impl=f"""
#define STACKC_IMPORT_FUNCTION __Pyx_ImportFunction_{Naming.cyversion}
#include "atimport.h"
""",
    requires=[
        UtilityCode.load_cached(name, "ImportExport.c")
        for name in ("Import", "ImportFrom", "FunctionImport")
    ],
)

WRAPPER = UtilityCode(
    proto="""
#ifndef STACKC_WRAPPER
  #define STACKC_WRAPPER
#endif
"""
)


def install() -> None:
    """Patch Cython in this process to write imports and wrappers this way."""
    FromImportStatNode.generate_execution_code = _import_names
    module_node._generate_import_code = _import_functions_shortly
    DefNodeWrapper.generate_function_header = _mark_wrapper


class _Marked:
    """A wrapper's return type, with the attributes that precede the wrapper's name."""

    def __init__(self, kind: Any) -> None:
        self.kind = kind

    def declaration_code(self, name: str) -> str:
        return str(self.kind.declaration_code(f"STACKC_WRAPPER {name}"))


def _mark_wrapper(self: Any, code: Any, with_pymethdef: Any, proto_only: Any = 0) -> None:
    code.globalstate.use_utility_code(WRAPPER)
    kind = self.return_type
    self.return_type = _Marked(kind)
    try:
        _wrapper_header(self, code, with_pymethdef, proto_only)
    finally:
        self.return_type = kind


def _import_names(self: Any, code: Any) -> None:
    """`from module import a, b` among the module's statements."""
    plain = (
        isinstance(self.module, ImportNode)
        and self.module.level == 0
        and self.module.module_qualname is None
        and self.interned_items
        and not self.import_star
        and all(
            made is None
            and target.is_name
            and target.name == name
            and target.entry
            and target.entry.is_pyglobal
            and target.entry.scope.is_module_scope
            for name, target, made in self.interned_items
        )
    )
    if not plain:
        _from_import(self, code)
        return
    code.mark_pos(self.pos)
    code.globalstate.use_utility_code(IMPORTS)
    names = [code.intern_identifier(name) for name, _, _ in self.interned_items]
    into = code.name_in_module_state(Naming.moddict_cname)
    code.putln(f"{{ PyObject *const names[] = {{{', '.join(names)}}};")
    module = code.get_py_string_const(self.module.module_name.value)
    call = f"stackc_import_names({module}, names, {len(names)}, {into})"
    code.putln(f"{code.error_goto_if_neg(call, self.pos)} }}")


def _import_functions_shortly(
    code: Any, pos: Any, imports: Any, module: Any, function: str, pointer: str
) -> None:
    """Functions that are cimported from one module: (signature, name, pointer) each."""
    if not function.startswith("__Pyx_ImportFunction_"):
        _import_functions(code, pos, imports, module, function, pointer)
        return
    code.globalstate.use_utility_code(IMPORTS)
    ordered = sorted(imports)
    signatures = [
        "" if before and before[0] == signature else signature
        for before, (signature, _, _) in zip([None, *ordered], ordered, strict=False)
    ]
    start = "\0".join(signatures).encode() + b"\0"
    names = b"\0".join(name.encode() for _, name, _ in ordered)
    texts = code.get_py_string_const(bytes_literal(start + names, "utf-8"))
    pointers = ", ".join(f"(void (**)(void))&{cname}" for _, _, cname in ordered)
    code.putln(f"{{ static void (**const pointers[])(void) = {{{pointers}, NULL}};")
    where = f"{module.as_c_string_literal()}, PyBytes_AS_STRING({texts}), {len(start)}"
    code.putln(f"{code.error_goto_if_neg(f'stackc_import_functions({where}, pointers)', pos)} }}")
