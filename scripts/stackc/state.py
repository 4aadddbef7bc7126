"""The extension types of the `@state` classes, all in one module: `stack/_state.pyx`.

They are in one module because structures refer to each other in circles: a sock to its route, the
route to its device, the device to its net. Modules cannot. `stack/core/rows.py` makes the Python
class of each a subclass of its extension type when it finds the compiled module.
"""

from __future__ import annotations

import ast
from collections.abc import Mapping
from dataclasses import dataclass, field

from Cython.Compiler.Naming import reserved_cnames

from .types import NARROW, OBJECT, ExtensionTypes, alias_of, cimport

MODULE = "stack._state"
_KINDS = {
    "long long": "STATE_INT",
    "bint": "STATE_BOOL",
    "double": "STATE_DOUBLE",
    **{c_type: f"STATE_{name.upper()}" for name, c_type in NARROW.items()},
}
_SIZES = {"unsigned char": 1, "bint": 1, "unsigned short": 2, "unsigned int": 4, "int": 4}
"""Bytes of a field; 8 of all others."""
_EXTERN = """from cpython.object cimport PyObject, PyTypeObject
cdef extern from "state_fields.h":
    ctypedef struct state_row:
        pass
    ctypedef struct state_class:
        pass
    ctypedef int (*initproc)(object, object, object) except -1
    ctypedef object (*vectorcallfunc)(object, PyObject *const *, size_t, object)
    ctypedef struct PyMethodDef:
        pass
    int state_install(
        state_class *cls, PyTypeObject *type, const state_row *rows,
        initproc init, vectorcallfunc call, PyMethodDef *methods, list types,
    ) except -1
    int state_bind(PyTypeObject *type, dict rows, tuple policies) except -1
cdef extern from *:
    \"""
%s
    \"""
%s

def bind(layout, rows, policies):
    state_bind(<PyTypeObject *>layout, rows, policies)
"""


@dataclass
class StateField:
    """One field: its annotation and the place of that. Its start value is known at run time."""

    name: str
    annotation: ast.expr
    module: str
    hot: bool
    """Declared so, or a parameter of the constructor that is no 64-bit number."""


@dataclass
class StateClass:
    """One class under `@state`."""

    module: str
    name: str
    base: tuple[str, str] | None
    weakref: bool
    fields: dict[str, StateField] = field(default_factory=dict)


def state_classes(module: str, tree: ast.Module) -> list[StateClass]:
    """Return the `@state` classes of a module; bases are filled in by the caller."""
    found = []
    for node in tree.body:
        if not isinstance(node, ast.ClassDef):
            continue
        marks = [d for d in node.decorator_list if _is_state(d)]
        if not marks:
            continue
        weakref = any(
            isinstance(mark, ast.Call) and any(k.arg == "weakref" for k in mark.keywords)
            for mark in marks
        )
        made = StateClass(module, node.name, None, weakref)
        if len(node.bases) > 1:
            raise SyntaxError(f"{module}.{node.name}: a class under @state has one base at most")
        if node.bases and isinstance(node.bases[0], ast.Name):
            made.base = (module, node.bases[0].id)
        for item in node.body:
            if isinstance(item, ast.AnnAssign) and isinstance(item.target, ast.Name):
                name = item.target.id
                made.fields[name] = StateField(name, item.annotation, module, _is_hot(item))
        found.append(made)
    return found


def _is_hot(item: ast.AnnAssign) -> bool:
    if not isinstance(item.value, ast.Call):
        return item.value is None and getattr(item.annotation, "id", "") != "int"
    return any(k.arg == "hot" for k in item.value.keywords)


def _is_state(node: ast.expr) -> bool:
    if isinstance(node, ast.Call):
        node = node.func
    return isinstance(node, ast.Name) and node.id == "state"


def _c_name(name: str) -> str:
    """A field's name in the C struct: Cython's own rule, for words that C or C++ reserves."""
    return name if name not in reserved_cnames else f"__pyx_{name}"


class StateModule:
    """Writes `stack/_state.pyx` and `.pxd` for `classes`, by (module, name)."""

    def __init__(
        self,
        classes: Mapping[tuple[str, str], StateClass],
        types: ExtensionTypes,
        origins: Mapping[str, Mapping[str, tuple[str, str]]],
        narrow: bool,
    ) -> None:
        self.narrow = narrow
        self.classes = classes
        self.types = types
        self.origins = origins
        self.modules: set[str] = set()
        self.field_types: list[str] = []

    def write(self) -> tuple[str, str]:
        """Return the text of the .pyx and of the .pxd."""
        pxd: list[str] = []
        body: list[str] = []
        tables: list[str] = []
        known: list[str] = []
        installed: list[str] = []
        for key in self._bases_first():
            cls = self.classes[key]
            name = self.types.state[key]
            base = self._base(cls)
            head = (
                f"cdef class {name}({self.types.state[base]}):" if base else f"cdef class {name}:"
            )
            lines = [head]
            if base is None and cls.weakref:
                lines.append("    cdef object __weakref__")
            inherited = self._fields(base) if base else {}
            own = [
                (self._type(entry), entry.name, entry.hot)
                for entry in cls.fields.values()
                if entry.name not in inherited
            ]
            # In this order no field of either kind needs padding: objects, 64 bits, 32, 16, 8.
            own.sort(key=lambda one: (not one[2], one[0] in _KINDS, -_SIZES.get(one[0], 8)))
            lines += [f"    cdef {kind} {field_name}" for kind, field_name, _ in own]
            pxd += [*(lines if len(lines) > 1 else [*lines, "    pass"]), ""]
            body += [head, "    pass", ""]
            tables += self._table(cls)
            known += [
                f"    state_class class_{name}",
                f"    const state_row *rows_{name}",
                f"    int init_{name}(object, object, object) except -1",
                f"    object call_{name}(object, PyObject *const *, size_t, object)",
                f"    PyMethodDef *methods_{name}",
            ]
            installed.append(
                f"state_install(&class_{name}, <PyTypeObject *>{name}, rows_{name}, "
                f"<initproc>init_{name}, <vectorcallfunc>call_{name}, methods_{name}, TYPES)"
            )
            names = " ".join(cls.fields)
            installed.append(f"CLASSES[{key!r}] = ({name}, {names!r}.split())")
        imports = [cimport(m) for m in sorted(self.modules - {MODULE})]
        top = "# The extension types of the stack's state; written by scripts/stackc."
        pyx = [
            # the tables follow the structures
            "# cython: preliminary_late_includes_cy28=True, binding=False, embedsignature=False",
            "# cython: auto_pickle=False",
            top,
            _EXTERN % ("\n".join(tables), "\n".join(known)),
            "CLASSES = {}",
            f"cdef list TYPES = [{', '.join(self.field_types)}]",
            "",
        ]
        return (
            "\n".join([*pyx, *body, *installed, ""]),
            "\n".join([top, *imports, "", *pxd]),
        )

    def _table(self, cls: StateClass) -> list[str]:
        """The fields as C data (`state_row`): their names, places and kinds, their own types."""
        name = self.types.state[cls.module, cls.name]
        base = self._base(cls)
        inherited = self._fields(base) if base else {}
        struct = f"struct __pyx_obj_5stack_6_state_{name}"
        lines = [f"    STATE_CLASS({name})", f"    static const state_row rows_{name}[] = {{"]
        for entry in cls.fields.values():
            if entry.name in inherited:
                continue
            kind = self._type(entry)
            of = -1
            if kind != OBJECT and kind not in _KINDS:
                if kind not in self.field_types:
                    self.field_types.append(kind)
                of = self.field_types.index(kind)
            place = f"offsetof({struct}, {_c_name(entry.name)})"
            kind = _KINDS.get(kind, "STATE_OBJECT")
            lines.append(f'        {{"{entry.name}", {place}, {kind}, {of}}},')
        return [*lines, "        {NULL, 0, 0, 0},", "    };"]

    def _type(self, entry: StateField) -> str:
        origin = self.origins[entry.module]
        match entry.annotation:
            case ast.Name(id=name) if name in NARROW:
                return NARROW[name] if self.narrow else "long long"
        text = self.types.c_type(entry.annotation, origin, self.modules)
        return text.removeprefix(alias_of(MODULE) + ".")

    def _base(self, cls: StateClass) -> tuple[str, str] | None:
        if cls.base is None:
            return None
        where = self.origins[cls.base[0]].get(cls.base[1])
        return where if where in self.classes else None

    def _bases_first(self) -> list[tuple[str, str]]:
        done: list[tuple[str, str]] = []

        def visit(key: tuple[str, str]) -> None:
            if key in done:
                return
            base = self._base(self.classes[key])
            if base is not None:
                visit(base)
            done.append(key)

        for key in sorted(self.classes):
            visit(key)
        return done

    def _fields(self, key: tuple[str, str]) -> dict[str, StateField]:
        """All fields of a class, inherited ones first."""
        cls = self.classes[key]
        base = self._base(cls)
        return {**(self._fields(base) if base else {}), **cls.fields}
