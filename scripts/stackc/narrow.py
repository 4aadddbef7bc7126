"""Stores fields in fewer bits than C computes with.

A field declared `u8`, `u16`, `u32`, `i32` (stack/core/rows.py) or `bool` takes one, two or four
bytes of its structure. All other C code sees a `long long` or a truth value, so that sums of such
fields have 64 bits. Storing a value that does not fit is an OverflowError, as is a sum beyond 64
bits.
"""

from __future__ import annotations

from typing import Any

from Cython.Compiler import PyrexTypes
from Cython.Compiler.Code import UtilityCode
from Cython.Compiler.ExprNodes import AttributeNode
from Cython.Compiler.ModuleNode import ModuleNode
from Cython.Compiler.Symtab import CClassScope

MODULE = "stack._state"
_FIELDS = {
    PyrexTypes.c_uchar_type: "u8",
    PyrexTypes.c_ushort_type: "u16",
    PyrexTypes.c_uint_type: "u32",
    PyrexTypes.c_int_type: "i32",
}

STORE = UtilityCode(
    proto="""
static int stackc_too_wide(PY_LONG_LONG value);
#define STACKC_STORE(name, type, least, most)                          \\
    static CYTHON_INLINE CYTHON_UNUSED int stackc_store_##name(        \\
        type *field, PY_LONG_LONG value)                               \\
    {                                                                  \\
        if (unlikely(value < (least) || value > (most)))               \\
            return stackc_too_wide(value);                             \\
        *field = (type)value;                                          \\
        return 0;                                                      \\
    }
STACKC_STORE(u8, unsigned char, 0, 0xFF)
STACKC_STORE(u16, unsigned short, 0, 0xFFFF)
STACKC_STORE(u32, unsigned int, 0, 0xFFFFFFFFLL)
STACKC_STORE(i32, int, -0x80000000LL, 0x7FFFFFFFLL)
""",
    impl="""
#if defined(__GNUC__)
__attribute__((cold, noinline))
#endif
static int stackc_too_wide(PY_LONG_LONG value)
{
    PyErr_Format(PyExc_OverflowError, "%lld does not fit into the field", value);
    return 1;
}
""",
)

_declare_var = CClassScope.declare_var
_result_code = AttributeNode.calculate_result_code
_assignment = AttributeNode.generate_assignment_code
_struct = ModuleNode.generate_objstruct_definition


def install() -> None:
    """Patch Cython in this process to store fields this way."""
    CClassScope.declare_var = _declare_field
    AttributeNode.calculate_result_code = _read
    AttributeNode.generate_assignment_code = _store
    ModuleNode.generate_objstruct_definition = _define


def _declare_field(self: Any, name: str, type: Any, pos: Any, **rest: Any) -> Any:  # noqa: A002
    stored = None
    if self.outer_scope is not None and self.outer_scope.qualified_name == MODULE:
        if type in _FIELDS:
            stored, type = type, PyrexTypes.c_longlong_type  # noqa: A001
        elif type is PyrexTypes.c_bint_type:
            stored = PyrexTypes.c_uchar_type
    entry = _declare_var(self, name, type, pos, **rest)
    entry.stackc_stored = stored
    return entry


def _stored(node: Any) -> Any:
    """The C type of the field that an attribute is, None for any other."""
    return None if node.is_py_attr else getattr(node.entry, "stackc_stored", None)


def _read(self: Any) -> str:
    if _stored(self) is None:
        return str(_result_code(self))
    return f"(({self.type.empty_declaration_code()}){self.calculate_access_code()})"


def _store(self: Any, rhs: Any, code: Any, *rest: Any, **named: Any) -> None:
    stored = _stored(self)
    if stored is None:
        _assignment(self, rhs, code, *rest, **named)
        return
    self.obj.generate_evaluation_code(code)
    field, value = self.calculate_access_code(), rhs.move_result_rhs_as(self.ctype())
    if self.type is PyrexTypes.c_bint_type:
        code.putln(f"{field} = ({value}) != 0;")
    else:
        code.globalstate.use_utility_code(STORE)
        call = f"stackc_store_{_FIELDS[stored]}(&{field}, {value})"
        code.putln(code.error_goto_if(call, self.pos))
    rhs.generate_post_assignment_code(code)
    rhs.free_temps(code)
    self.obj.generate_disposal_code(code)
    self.obj.free_temps(code)


def _define(self: Any, type: Any, code: Any) -> None:  # noqa: A002
    """The struct of a class, its fields as they are stored."""
    entries = type.scope.var_entries if type.scope else []
    narrow = [(e, e.type) for e in entries if getattr(e, "stackc_stored", None) is not None]
    for entry, _ in narrow:
        entry.type = entry.stackc_stored
    try:
        _struct(self, type, code)
    finally:
        for entry, kind in narrow:
            entry.type = kind
