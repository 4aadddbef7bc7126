"""The extension types of the `@state` classes, all in one module: `stack/_state.pyx`.

They stand in one module because structures refer to each other in circles (a sock to its route, the
route to its device, the device to its net), which modules cannot. `stack/core/rows.py` makes the
Python class of each a subclass of its extension type when it finds the compiled module.
"""

from __future__ import annotations

import ast
from collections.abc import Mapping
from dataclasses import dataclass, field

from Cython.Compiler.Naming import reserved_cnames

from .constants import Constants
from .types import OBJECT, ExtensionTypes, alias_of, cimport

MODULE = "stack._state"
_KINDS = {"long long": "STATE_INT", "bint": "STATE_BOOL", "double": "STATE_DOUBLE"}
_EXTERN = """from cpython.object cimport PyTypeObject
cdef extern from "state_fields.h":
    ctypedef struct state_row:
        pass
    int state_install(PyTypeObject *type, const state_row *rows, list types) except -1
    int state_copy(object old, object new, const state_row *rows, bint all) except -1
cdef extern from *:
    \"""
%s
    \"""
%s"""
_ZERO = {"long long": "0", "bint": "False", "double": "0.0"}


@dataclass
class StateField:
    """One field: where it is declared, its annotation and the arguments of `row(...)`.

    `init`: the constructor has a parameter for it, `required` one without a default.
    """

    name: str
    annotation: ast.expr
    module: str
    owner: str
    init: bool = False
    required: bool = False
    default: ast.expr | None = None
    make: ast.expr | None = None
    of: ast.expr | None = None
    clone: ast.expr | None = None


@dataclass
class StateClass:
    """One class under `@state`."""

    module: str
    name: str
    base: tuple[str, str] | None
    own_init: bool
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
        own_init = any(
            isinstance(item, ast.FunctionDef) and item.name == "__init__" for item in node.body
        )
        made = StateClass(module, node.name, None, own_init, weakref)
        if len(node.bases) > 1:
            raise SyntaxError(f"{module}.{node.name}: a class under @state has one base at most")
        if node.bases and isinstance(node.bases[0], ast.Name):
            made.base = (module, node.bases[0].id)
        for item in node.body:
            if isinstance(item, ast.AnnAssign) and isinstance(item.target, ast.Name):
                made.fields[item.target.id] = _field(item, module, node.name)
        found.append(made)
    return found


def _is_state(node: ast.expr) -> bool:
    if isinstance(node, ast.Call):
        node = node.func
    return isinstance(node, ast.Name) and node.id == "state"


def _field(item: ast.AnnAssign, module: str, owner: str) -> StateField:
    assert isinstance(item.target, ast.Name)
    entry = StateField(item.target.id, item.annotation, module, owner)
    value = item.value
    if not (
        isinstance(value, ast.Call) and isinstance(value.func, ast.Name) and value.func.id == "row"
    ):
        entry.init, entry.required, entry.default = True, value is None, value
        return entry
    if value.args:
        entry.default = value.args[0]
    for keyword in value.keywords:
        if keyword.arg in ("make", "of", "clone", "default"):
            setattr(entry, keyword.arg, keyword.value)
    return entry


def _kept(entry: StateField) -> bool:
    """Whether a clone gets the original's value."""
    return entry.clone is None or ast.unparse(entry.clone) == "KEEP"


def _c_name(name: str) -> str:
    """A field's name in the C struct: Cython's own rule, for words that C or C++ reserves."""
    return name if name not in reserved_cnames else f"__pyx_{name}"


class StateModule:
    """Writes `stack/_state.pyx` and `.pxd` for `classes`, by (module, name)."""

    def __init__(
        self,
        classes: Mapping[tuple[str, str], StateClass],
        types: ExtensionTypes,
        constants: Constants,
        origins: Mapping[str, Mapping[str, tuple[str, str]]],
    ) -> None:
        self.classes = classes
        self.types = types
        self.constants = constants
        self.origins = origins
        self.modules: set[str] = set()
        self.bound: dict[str, list[str]] = {}
        self.field_types: list[str] = []

    def write(self) -> tuple[str, str]:
        """Return the text of the .pyx and of the .pxd."""
        pxd: list[str] = []
        body: list[str] = []
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
            inherited = self._rows(base) if base else {}
            lines += [
                f"    cdef {self._type(entry)} {entry.name}"
                for entry in cls.fields.values()
                if entry.name not in inherited
            ]
            lines = lines if len(lines) > 1 else [*lines, "    pass"]
            pxd += [*(lines if len(lines) > 1 else [*lines, "    pass"]), ""]
            body += [*self._class(cls, name, head), ""]
        imports = [cimport(m) for m in sorted(self.modules - {MODULE})]
        globals_ = [f"cdef object {g}" for names in self.bound.values() for g in names]
        bind = ["def bind(name, rows):"]
        for name, names in self.bound.items():
            bind.append(f"    if name == {name!r}:")
            if names:
                bind.append(f"        global {', '.join(names)}")
            bind += [
                f"        {g} = rows[{g.split('__', 2)[2]!r}].{g.split('__', 2)[0]}" for g in names
            ]
            bind.append("        return")
        tables: list[str] = []
        installed: list[str] = []
        for key in self._bases_first():
            tables += self._table(self.classes[key])
        top = "# The extension types of the stack's state; written by scripts/stackc."
        pxd_text = "\n".join([top, *imports, "", *pxd])
        for key in self._bases_first():
            name = self.types.state[key]
            names = " ".join(self.classes[key].fields)
            installed.append(f"state_install(<PyTypeObject *>{name}, rows_{name}, TYPES)")
            installed.append(f"CLASSES[{key!r}] = ({name}, {names!r}.split())")
        known = [f"    const state_row *rows_{name}" for name in self.types.state.values()]
        pyx = [
            # the tables stand behind the structures
            "# cython: preliminary_late_includes_cy28=True, binding=False, embedsignature=False",
            top,
            _EXTERN % ("\n".join(tables), "\n".join(known)),
            "",
            "CLASSES = {}",
            f"cdef list TYPES = [{', '.join(self.field_types)}]",
            "",
            "cdef object UNSET = object()",
            *globals_,
            "",
            *bind,
            "",
        ]
        return "\n".join([*pyx, *body, *installed, ""]), pxd_text

    def _table(self, cls: StateClass) -> list[str]:
        """The fields as C data (`state_row`): their names, places and kinds, their own types."""
        name = self.types.state[cls.module, cls.name]
        base = self._base(cls)
        inherited = self._rows(base) if base else {}
        struct = f"struct __pyx_obj_5stack_6_state_{name}"
        lines = [f"    static const state_row rows_{name}[] = {{"]
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
            lines.append(f'        {{"{entry.name}", {place}, {kind}, {of}, {int(_kept(entry))}}},')
        return [*lines, "        {NULL, 0, 0, 0, 0},", "    };"]

    def _type(self, entry: StateField) -> str:
        origin = self.origins[entry.module]
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

    def _line(self, key: tuple[str, str]) -> list[tuple[str, str]]:
        """The class and those it is made of, its own base first."""
        base = self._base(self.classes[key])
        return [*(self._line(base) if base else []), key]

    def _rows(self, key: tuple[str, str]) -> dict[str, StateField]:
        cls = self.classes[key]
        base = self._base(cls)
        return {**(self._rows(base) if base else {}), **cls.fields}

    def _global(self, kind: str, entry: StateField) -> str:
        owner = self.types.state[entry.module, entry.owner]
        name = f"{kind}__{owner}__{entry.name}"
        names = self.bound.setdefault(owner, [])
        if name not in names:
            names.append(name)
        return name

    def _fresh(self, target: str, entry: StateField) -> str:
        kind = self._type(entry)
        match entry.make:
            case ast.Name(id="list"):
                return f"{target}.{entry.name} = []"
            case ast.Name(id="dict"):
                return f"{target}.{entry.name} = {{}}"
            case None:
                pass
            case _:
                return f"{target}.{entry.name} = {self._global('make', entry)}()"
        if entry.of is not None:
            return f"{target}.{entry.name} = {self._global('of', entry)}({target})"
        return f"{target}.{entry.name} = {self._default(entry, kind)}"

    def _default(self, entry: StateField, kind: str) -> str:
        default = entry.default
        if default is None or (isinstance(default, ast.Constant) and default.value is None):
            return _ZERO.get(kind, "None")
        if isinstance(default, ast.Constant) and not isinstance(default.value, int):
            return repr(default.value)
        if isinstance(default, ast.Constant) and isinstance(default.value, bool):
            return repr(default.value)
        value = self.constants.fold(entry.module, default)
        if value is not None and -(1 << 63) < value < 1 << 63:
            return f"{value}LL" if kind == "long long" else str(value)
        return self._global("default", entry)

    def _class(self, cls: StateClass, name: str, head: str) -> list[str]:
        base = self._base(cls)
        base_name = self.types.state[base] if base else None
        own = cls.fields.values()
        self.bound.setdefault(name, [])
        init = [f"    {self._fresh('self', r)}" for r in own if not r.required]
        first = [f"    _init_{base_name}(self)"] if base_name else []
        out = [f"cdef int _init_{name}({name} self) except -1:", *first, *init, "    return 0", ""]
        out += [f"cdef int _clone_{name}({name} self, {name} new) except -1:"]
        out += [f"    _clone_{base_name}(self, new)"] if base_name else []
        out.append(f"    state_copy(self, new, rows_{name}, False)")
        inherited = self._rows(base) if base else {}
        for entry in own:
            match entry.clone:
                case _ if _kept(entry):
                    if entry.name in inherited:
                        out.append(f"    new.{entry.name} = self.{entry.name}")
                case ast.Name(id="FRESH"):
                    out.append(f"    {self._fresh('new', entry)}")
                case _:
                    copy = self._global("clone", entry)
                    out.append(f"    new.{entry.name} = {copy}(self.{entry.name})")
        out += ["    return 0", "", head, "    __rows__ = {}", ""]
        out += ["    def init_state(self):", f"        _init_{name}(self)", ""]
        out += [
            f"    def clone_state(self, {name} new not None):",
            f"        _clone_{name}(self, new)",
        ]
        out += ["        return new", ""]
        out += [
            "    def __copy__(self):",
            f"        cdef {name} new = type(self).__new__(type(self))",
        ]
        for part in self._line((cls.module, cls.name)):
            out.append(f"        state_copy(self, new, rows_{self.types.state[part]}, True)")
        out += ["        return new", ""]
        out += ["    def __reduce__(self):"]
        out += [f'        raise TypeError("a {name} cannot be pickled")', ""]
        if not cls.own_init:
            out += self._init(self._rows((cls.module, cls.name)))
        return out

    def _init(self, rows: dict[str, StateField]) -> list[str]:
        required, optional = [], []
        lines: list[str] = []
        for entry in rows.values():
            if not entry.init:
                continue
            kind = self._type(entry)
            typed = entry.name if kind == OBJECT else f"{kind} {entry.name}"
            if entry.required:
                required.append(typed)
            else:
                default = self._default(entry, kind)
                if default.startswith("default__"):
                    optional.append(f"{entry.name}=UNSET")
                    lines.append(
                        f"        self.{entry.name} = "
                        f"{default} if {entry.name} is UNSET else {entry.name}"
                    )
                    continue
                optional.append(f"{typed}={default}")
            lines.append(f"        self.{entry.name} = {entry.name}")
        # after the parameters, which `of` may read
        lines += [f"        {self._fresh('self', r)}" for r in rows.values() if not r.init]
        params = ", ".join(["self", *required, *optional])
        return [f"    def __init__({params}):", *(lines or ["        pass"])]
