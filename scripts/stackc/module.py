"""One module: its text for Cython, line by line as in the source, and its declarations.

    tree.generate
      own_names, tree.resolve     the origin of each name, for all modules
      declare                     the Signature of each function that compiled callers reach
      Translator.write            one module: `_function` and `_class` for each definition
        _locals, _find_kinds      C types of variables; which hold a `@state` object
        _expressions              translate a body's expressions, by kind of node
          _constant, _call        a constant's value; a direct call
          _slot_call              a call through a field (slots.py)
        _text, _pxd               the .pyx with all edits applied, and the .pxd beside it

The text is never generated from the tree. A Translator collects `edits`, places in the text with
their replacements, and `_text` applies them, so that lines stay in place. A Module is the
result of reading a source; it is fixed after `resolve` and `declare`. Read
Signature, `_function`, then `_expressions`. README.md beside this file describes the output.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from .constants import Constants
from .nodes import children, walk
from .slots import CLOCKS, Caller, Key, Slots, shapes_line
from .slots import MODULE as SLOTS_MODULE
from .types import EXCEPT, OBJECT, ExtensionTypes, alias_of, cimport

_C_INT_MAX = (1 << 31) - 1
_C_LONG_MAX = (1 << 63) - 1
# Types of sk_buff fields that are plain objects for fastpath: `_as_TYPE` of CHECKED checks them.
_OF_A_PACKET = {
    "dev": ("stack.core.netdevice", "net_device"),
    "dst": ("stack.core.dst", "dst_entry"),
}
CHECKED = "stack._checked"
NARROW = ("fastpath.wide", "narrow")
"""Says to type checkers that a `wide` fits; no call in C, which checks when it converts."""
_SCOPES = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)
_INNER = (*_SCOPES, ast.GeneratorExp, ast.ClassDef)
_NAMES = {
    ast.FunctionDef: "a function",
    ast.AsyncFunctionDef: "a coroutine",
    ast.Lambda: "a lambda",
    ast.GeneratorExp: "a generator expression",
    ast.Yield: "a yield",
    ast.YieldFrom: "a yield",
    ast.Await: "an await",
    ast.ClassDef: "a class",
}
_NO_CPDEF = tuple(_NAMES)
"""Syntax that Cython does not support in a cpdef function."""


@dataclass(frozen=True)
class Signature:
    """A function that compiled callers reach directly: `cpdef RESULT name(PARAMS)`."""

    name: str
    result: str
    params: tuple[tuple[str, str, bool], ...]
    """(C type, name, has a default)"""

    def declaration(self) -> str:
        """The line of the .pxd."""
        params = ", ".join(f"{t} {n}" + ("=*" if d else "") for t, n, d in self.params)
        tail = f" {EXCEPT[self.result]}" if self.result in EXCEPT else ""
        result = "" if self.result == OBJECT else self.result + " "
        return f"cpdef {result}{self.name}({params}){tail}"


@dataclass
class Module:
    """A source of the stack as `scan` saw it."""

    name: str
    text: bytes
    tree: ast.Module
    origin: dict[str, tuple[str, str]] = field(default_factory=dict)
    """Where each name of the module's scope is defined: imports resolved, own ones included."""
    runtime: set[str] = field(default_factory=set)
    """The names that exist when the module runs (not only for type checkers)."""
    signatures: dict[str, Signature] = field(default_factory=dict)
    modules: set[str] = field(default_factory=set)
    """The cimports of its declarations."""


def own_names(tree: ast.Module) -> Iterator[tuple[ast.ImportFrom, bool]]:
    """The from-imports of a module, and whether each is executed."""
    for node in tree.body:
        if isinstance(node, ast.ImportFrom):
            yield node, True
        elif isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            for inner in node.body:
                if isinstance(inner, ast.ImportFrom):
                    yield inner, False


def declare(module: Module, types: ExtensionTypes) -> None:
    """Find the functions that become cpdef: those whose name is never bound again."""
    again = _bound_again(module.tree)
    for node in module.tree.body:
        if isinstance(node, ast.FunctionDef) and not _why_python(node, again):
            module.signatures[node.name] = _signature(node, module, types)


def fallbacks(tree: ast.Module) -> list[tuple[int, str, str]]:
    """The functions of a module that stay Python functions: line, name, reason of each."""
    again = _bound_again(tree)
    functions = [n for n in tree.body if isinstance(n, (ast.FunctionDef, ast.AsyncFunctionDef))]
    reasons = [(n.lineno, n.name, _why_python(n, again)) for n in functions]
    return [found for found in reasons if found[2]]


def _why_python(node: ast.FunctionDef | ast.AsyncFunctionDef, again: set[str]) -> str:
    """Why a module's function cannot be cpdef, "" if it can."""
    a = node.args
    if isinstance(node, ast.AsyncFunctionDef):
        return "is a coroutine"
    if node.name in again:
        return "its name is bound twice"
    if node.decorator_list:
        return "has a decorator"
    for name, found in (
        ("a *", a.vararg),
        ("a **", a.kwarg),
        ("a keyword-only", a.kwonlyargs),
        ("a positional-only", a.posonlyargs),
    ):
        if found:
            return f"has {name} argument"
    for statement in node.body:
        for inner in walk(statement):
            if isinstance(inner, _NO_CPDEF):
                return f"contains {_NAMES[type(inner)]} (line {inner.lineno})"  # type: ignore[attr-defined]
    return ""


def _bound_again(tree: ast.Module) -> set[str]:
    """The names that a module binds other than by one `def`; their values are known at run time."""
    again: set[str] = set()
    defined: set[str] = set()
    todo: list[ast.AST] = list(tree.body)
    while todo:
        node = todo.pop()
        match node:
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name):
                again |= {name} & defined
                defined.add(name)
            case ast.ClassDef(name=name):
                again.add(name)
            case ast.Import(names=names) | ast.ImportFrom(names=names):
                again |= {alias.asname or alias.name for alias in names}
            case _:
                again |= _stored(node)
                todo += children(node)
    for node in walk(tree):
        if isinstance(node, ast.Global):
            again.update(node.names)
    return again


def _signature(node: ast.FunctionDef, module: Module, types: ExtensionTypes) -> Signature:
    a = node.args
    first_default = len(a.args) - len(a.defaults)
    params = tuple(
        (types.c_type(p.annotation, module.origin, module.modules), p.arg, i >= first_default)
        for i, p in enumerate(a.args)
    )
    result = types.c_type(node.returns, module.origin, module.modules)
    return Signature(node.name, result, params)


def _variables(node: ast.FunctionDef, module: Module, types: ExtensionTypes) -> dict[str, str]:
    """The C types of the local variables that the source annotates and that no closure shares."""
    found: dict[str, str] = {}
    captured: set[str] = set()
    todo: list[ast.AST] = list(node.body)
    while todo:
        inner = todo.pop()
        if isinstance(inner, _INNER):
            # Cython hands the declarations of a function on to those in it
            captured |= {n.id for n in walk(inner) if isinstance(n, ast.Name)}
            continue
        match inner:
            case ast.AnnAssign(target=ast.Name(id=name), annotation=annotation):
                kind = types.c_type(annotation, module.origin, module.modules)
                if kind == OBJECT and not _any_number(annotation):
                    kind = ""  # Cython infers these as well: bytes, tuple ...
                found[name] = kind if found.get(name, kind) == kind else OBJECT
        todo += children(inner)
    for name in [*captured, *(p.arg for p in _parameters(node))]:
        found.pop(name, None)
    return {name: kind.replace("long long", "longlong") for name, kind in found.items() if kind}


def _any_number(annotation: ast.expr) -> bool:
    """Whether a variable holds numbers beyond C's types, for which Cython must not infer one."""
    names = {inner.id for inner in walk(annotation) if isinstance(inner, ast.Name)}
    return bool(names & {"wide", "int", "bool", "float"}) and not any(
        isinstance(inner, ast.Subscript) for inner in walk(annotation)
    )


def _parameters(node: ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda) -> list[ast.arg]:
    a = node.args
    rest = [p for p in (a.vararg, a.kwarg) if p is not None]
    return [*a.posonlyargs, *a.args, *a.kwonlyargs, *rest]


def checked_types(state: Mapping[tuple[str, str], str]) -> str:
    """The text of CHECKED.pxd: `_as_TYPE(o)` is `o` of that type, or None, or a TypeError.

    (A cast `<TYPE?>` refuses None.) Not in _state.pxd, or every module would contain them.
    """
    kinds = [state[where] for where in _OF_A_PACKET.values() if where in state]
    state_module = alias_of("stack._state")
    functions = [
        f"cdef inline {state_module}.{kind} _as_{kind}(object o):\n    return o" for kind in kinds
    ]
    top = "# What packets refer to; written by scripts/stackc."
    return "\n\n".join([top, cimport("stack._state"), *functions]) + "\n"


class Translator:
    """Writes one module; `all_modules` are those that get compiled, by name."""

    def __init__(
        self,
        module: Module,
        all_modules: Mapping[str, Module],
        types: ExtensionTypes,
        constants: Constants,
        state: Mapping[tuple[str, str], str],
        slots: Slots,
    ) -> None:
        self.module = module
        self.all = all_modules
        self.types = types
        self.constants = constants
        self.state = state
        self.edits: list[tuple[int, int, str]] = []
        self.direct: set[tuple[str, str]] = set()
        self.packets: set[str] = set()
        self.checked: set[str] = set()
        self.slots = slots
        self.callers: dict[str, Caller] = {}
        self.kinds: dict[str, Key] = {}
        self.held: dict[str, tuple[Key, str]] = {}
        lines = module.text.splitlines(keepends=True)
        self.starts = [0]
        for line in lines:
            self.starts.append(self.starts[-1] + len(line))

    def write(self) -> tuple[bytes, str]:
        """Return the .pyx and the .pxd."""
        for node in self.module.tree.body:
            if isinstance(node, ast.FunctionDef):
                self._function(node, None)
            elif isinstance(node, ast.ClassDef):
                self._class(node)
        return self._text(), self._pxd()

    # --- text ---

    def _at(self, node: ast.AST, end: bool = False) -> int:
        line = node.end_lineno if end else node.lineno  # type: ignore[attr-defined]
        col = node.end_col_offset if end else node.col_offset  # type: ignore[attr-defined]
        return self.starts[line - 1] + col

    def _replace(self, node: ast.AST, text: str) -> None:
        self.edits.append((self._at(node), self._at(node, end=True), text))

    def _around(self, node: ast.AST, before: str, after: str) -> None:
        start, end = self._at(node), self._at(node, end=True)
        self.edits.append((start, start, before))
        self.edits.append((end, end, after))

    def _text(self) -> bytes:
        source = self.module.text
        out: list[bytes] = []
        at = 0
        # at one position, closing edits precede opening ones
        for start, end, text in sorted(self.edits, key=lambda e: (e[0], e[2] != ")", e[1])):
            out += [source[at:start], text.encode()]
            at = end
        first = b"from __future__ import annotations"
        known = "; cimport cython"
        if self.checked:
            known += f"; from {CHECKED} cimport " + ", ".join(
                f"_as_{kind}" for kind in sorted(self.checked)
            )
        text = b"".join([*out, source[at:]]).replace(first, first + known.encode(), 1)
        shapes = [(s.name, s.result, s.params) for s in self.module.signatures.values()]
        ends = [shapes_line(shapes)]
        if self.callers:
            names = "slot_find, slot_takes, slot_way"
            ends += [f"from {SLOTS_MODULE} cimport {names}\n"]
            ends += sorted({f"{caller.pointer}\n" for caller in self.callers.values()})
        for _, caller in sorted(self.callers.items()):
            ends += [f"{line}\n" for line in caller.text]
        return text + "".join(ends).encode()

    def _pxd(self) -> str:
        lines = ["# What other compiled modules see; written by scripts/stackc."]
        lines += [cimport(m) for m in sorted(self.module.modules)]
        lines += [
            f"from {module} cimport {name} as _d_{name}" for module, name in sorted(self.direct)
        ]
        lines += [s.declaration() for s in self.module.signatures.values()]
        return "\n".join(lines) + "\n"

    # --- declarations ---

    def _class(self, node: ast.ClassDef) -> None:
        own = self.state.get((self.module.name, node.name))
        for item in node.body:
            if isinstance(item, ast.FunctionDef):
                self._function(item, own if own is not None else "")
                self._supers(item, node.name)

    def _supers(self, method: ast.FunctionDef, owner: str) -> None:
        """Name the class in super(): a decorator may have made another one of it since."""
        for node in walk(method):
            match node:
                case ast.Call(func=ast.Name(id="super"), args=[], keywords=[]):
                    self._replace(node, f"super({owner}, {method.args.args[0].arg})")

    def _function(self, node: ast.FunctionDef, owner: str | None) -> None:
        """`owner` is None for a module's function, "" for a method, else its extension type."""
        for default in [*node.args.defaults, *[d for d in node.args.kw_defaults if d]]:
            self._expressions(default, set())
        signature = self.module.signatures.get(node.name) if owner is None else None
        static = any(
            isinstance(d, ast.Name) and d.id in ("staticmethod", "classmethod")
            for d in node.decorator_list
        )
        static = static or node.name == "__new__"
        for i, param in enumerate(node.args.args):
            if signature is not None:
                kind = signature.params[i][0]
            elif owner and i == 0 and not static:
                kind = f"{alias_of('stack._state')}.{owner}"
                self.module.modules.add("stack._state")
            elif param.annotation is not None:
                kind = self.types.c_type(param.annotation, self.module.origin, self.module.modules)
            else:
                continue
            self._replace(param, param.arg if kind == OBJECT else f"{kind} {param.arg}")
        if signature is not None:
            start = self._at(node)
            result = "" if signature.result == OBJECT else " " + signature.result
            self.edits.append((start, start + 3, "cpdef" + result))
            if node.returns is not None:
                arrow = self.module.text.rindex(b"->", 0, self._at(node.returns))
                tail = EXCEPT.get(signature.result, "")
                self.edits.append((arrow, self._at(node.returns, end=True), tail))
        variables = _variables(node, self.module, self.types)
        self._locals(node, variables)
        hidden = _bound_names(node)
        own = signature.params if signature is not None else ()
        self.packets = {n for kind, n, _ in own if kind.endswith(".sk_buff")}
        self.packets |= {n for n, kind in variables.items() if kind.endswith(".sk_buff")}
        self._find_kinds(node, owner)
        for statement in node.body:
            self._expressions(statement, hidden)

    def _locals(self, node: ast.FunctionDef, variables: Mapping[str, str]) -> None:
        """Declare a function's variables on the line above it, so that no line moves.

        Raises: SyntaxError: that line is neither empty nor a comment.
        """
        if not variables:
            return
        line = min(n.lineno for n in [node, *node.decorator_list]) - 1
        start, end = self.starts[line - 1], self.starts[line] - 1
        above = self.module.text[start:end].strip()
        if above and not above.startswith(b"#"):
            raise SyntaxError(
                f"{self.module.name}, line {line}: {node.name}() declares variables, "
                "for which an empty line has to be above it"
            )
        types = ", ".join(f"{name}={kind}" for name, kind in variables.items())
        self.edits.append((start, end, " " * node.col_offset + f"@cython.locals({types})"))

    # --- slots ---

    def _find_kinds(self, node: ast.FunctionDef, owner: str | None) -> None:
        """Find the names of a function that hold objects of state classes or values of slots."""
        self.kinds, self.held = {}, {}
        for param in node.args.args:
            self._name_kind(param.arg, self.slots.state_class(param.annotation, self.module.name))
        if owner and node.args.args and node.name != "__new__":
            own = next((key for key, name in self.state.items() if name == owner), None)
            self._name_kind(node.args.args[0].arg, own)
        stores: dict[str, int] = {}
        for inner in walk(node):
            if isinstance(inner, ast.Name) and isinstance(inner.ctx, ast.Store):
                stores[inner.id] = stores.get(inner.id, 0) + 1
        assigned: list[tuple[int, str, ast.expr]] = []
        for inner in walk(node):
            match inner:
                case ast.AnnAssign(target=ast.Name(id=name), annotation=annotation):
                    self._name_kind(name, self.slots.state_class(annotation, self.module.name))
                case ast.Assign(targets=[ast.Name(id=name)], value=value) if stores[name] == 1:
                    assigned.append((inner.lineno, name, value))
        for _, name, value in sorted(assigned, key=lambda each: each[0]):
            if name in self.kinds:
                continue
            self._name_kind(name, self._kind(value))
            slot = self._slot(value)
            if slot is not None:
                self.held[name] = slot

    def _name_kind(self, name: str, kind: Key | None) -> None:
        if kind is not None:
            self.kinds[name] = kind

    def _kind(self, node: ast.expr) -> Key | None:
        """The state class of an expression's value, or one of CLOCKS, where the source says it."""
        match node:
            case ast.Name(id=name):
                return self.kinds.get(name)
            case ast.Attribute(value=ast.Name(id=base), attr=attr) if base in self.packets:
                kind = _OF_A_PACKET.get(attr)
                return kind if kind in self.slots.classes else None
            case ast.Attribute(value=value, attr=attr):
                owner = self._kind(value)
                found = self.slots.field_type(owner, attr) if owner is not None else None
                return found if isinstance(found, tuple) else None
        return None

    def _slot(self, node: ast.expr) -> tuple[Key, str] | None:
        """The slot that an expression reads, or whose function a name holds."""
        match node:
            case ast.Name(id=name):
                return self.held.get(name)
            case ast.Attribute(value=value, attr=attr):
                owner = self._kind(value)
                if owner is not None and isinstance(self.slots.field_type(owner, attr), ast.expr):
                    return owner, attr
        return None

    def _slot_call(self, node: ast.Call) -> bool:
        """Call a slot's function through C, when the slot's annotation gives the C types."""
        slot = self._slot(node.func)
        if slot is None or not node.args or node.keywords:
            return False
        if any(isinstance(arg, ast.Starred) for arg in node.args):
            return False
        caller = self.slots.caller(*slot, len(node.args))
        if caller is None:
            return False
        start, end = self._at(node), self._at(node.func, end=True)
        self.edits.append((start, start, f"{caller.name}("))
        paren = self.module.text.index(b"(", end)
        self.edits.append((paren, paren + 1, ", "))
        self.callers[caller.name] = caller
        self.module.modules |= caller.modules
        return True

    # --- expressions ---

    def _expressions(self, node: ast.AST, hidden: set[str]) -> None:
        """Constants as literals, direct calls, and C arithmetic only where it cannot overflow."""
        match node:
            case ast.match_case():
                for child in [*node.body, *([node.guard] if node.guard else [])]:
                    self._expressions(child, hidden)
                return
            case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.Lambda():
                bound = _bound_names(node)
                body = [node.body] if isinstance(node, ast.Lambda) else node.body
                for child in [*node.args.defaults, *[d for d in node.args.kw_defaults if d]]:
                    self._expressions(child, hidden)
                packets, self.packets = self.packets, self.packets - bound
                for child in body:
                    self._expressions(child, hidden | bound)
                self.packets = packets
                return
            case ast.AnnAssign():
                # _locals has seen the annotation
                self._expressions(node.target, hidden)
                if node.value is not None:
                    self._expressions(node.value, hidden)
                return
            case ast.JoinedStr():
                return
            case ast.AugAssign(target=target, op=op, value=value) if _plain(
                target
            ) and self._may_overflow(target, op, value):
                # x <<= n: x = <object>(x) << (n)
                at = self.module.text.index(b"=", self._at(target, end=True))
                start, end = self._at(target, end=True), self._at(node, end=True)
                sign = self.module.text[start:at].decode().strip()
                power = isinstance(op, ast.Pow)
                left = "(" * power + f"<object>({ast.unparse(target)})" + ")" * power
                text = f" = {left} {sign} ("
                self.edits += [(start, at + 1, text), (end, end, ")")]
                self._expressions(value, hidden)
                return
            case ast.AugAssign(target=target, op=ast.LShift(), value=value):
                # a checked shift rejects negative values, a product does not: x *= 1LL << (n)
                start = self._at(target, end=True)
                at = self.module.text.index(b"=", start)
                self.edits += [
                    (start, at + 1, " *= 1LL << ("),
                    (self._at(node, True),) * 2 + (")",),
                ]
                self._expressions(value, hidden)
                return
            case ast.AugAssign(target=ast.Attribute()):
                # Cython forgets the type of `f(x).name += 1`, so the target stays as it is
                self._expressions(node.value, hidden)
                return
            case ast.Constant(value=value) if type(value) is int:
                if _C_INT_MAX < value <= _C_LONG_MAX:
                    self._replace(node, f"{value}LL")
                return
            case ast.Name(id=name, ctx=ast.Load()) if name not in hidden:
                value = self._constant(node)
                if value is not None:
                    self._replace(node, value)
                return
            case ast.Attribute(value=ast.Name(id=base), attr=attr, ctx=ast.Load()) if (
                base in self.packets and attr in _OF_A_PACKET
            ):
                kind = self.types.state.get(_OF_A_PACKET[attr])
                if kind is not None:
                    self._around(node, f"_as_{kind}(", ")")
                    self.checked.add(kind)
                return
            case ast.Attribute(value=ast.Name(id=base)) if base not in hidden:
                value = self._constant(node)
                if value is not None and isinstance(node.ctx, ast.Load):
                    self._replace(node, value)
                    return
            case ast.Call(func=ast.Name(id="super"), args=[]):
                return
            case ast.Call(func=ast.Attribute(attr="now_ns", value=clock), args=[], keywords=[]) if (
                self._kind(clock) in CLOCKS
            ):
                # any clock's time, without a call where the clock is fastpath's
                self.edits.append((self._at(node), self._at(node), "_d_clock_ns("))
                self.edits.append((self._at(clock, end=True), self._at(node, end=True), ")"))
                self.direct.add(("fastpath.base.eventq", "clock_ns"))
                self._expressions(clock, hidden)
                return
            case ast.Call(func=ast.Name(id=name) as called, args=[_]) if (
                name not in hidden and self.module.origin.get(name) == NARROW
            ):
                self._replace(called, "")  # the parentheses stay
            case ast.Call() if self._slot_call(node):
                pass
            case ast.Call(func=ast.Name(id=name)) if name not in hidden:
                self._call(node)
                for child in [*node.args, *node.keywords]:
                    self._expressions(child, hidden)
                return
            case ast.UnaryOp(op=ast.USub(), operand=operand):
                if self.constants.fold(self.module.name, operand) is None:
                    # a difference is checked, a sign is not: -(-2**63)
                    start, end = self._at(node), self._at(node, end=True)
                    self.edits += [(start, start + 1, "(0 - "), (end, end, ")")]
            case ast.BinOp(op=ast.Mod(), right=ast.Name() | ast.Attribute() as right):
                if self.constants.fold(self.module.name, right) is None:
                    # -2**63 by -1 stops a processor; the remainder by -1 is 0
                    self._around(node, "(", f" if {ast.unparse(right)} != -1 else 0)")
            case ast.BinOp(left=left, op=op, right=right):
                if isinstance(op, ast.LShift) and not self._may_overflow(left, op, right):
                    # a checked shift rejects negative values, a product does not
                    at = self.module.text.index(b"<<", self._at(left, end=True))
                    self._around(left, "(", ")")
                    self.edits.append((at, at + 2, "* (1LL <<"))
                    self.edits.append((self._at(node, end=True),) * 2 + (")",))
                elif self._may_overflow(left, op, right):
                    power = isinstance(op, ast.Pow)  # binds closer than a cast
                    self._around(left, "(" * power + "<object>(", ")" + ")" * power)
        for child in children(node):
            self._expressions(child, hidden)

    def _constant(self, node: ast.expr) -> str | None:
        value = self.constants.fold(self.module.name, node)
        if value is None or not -_C_LONG_MAX <= value <= _C_LONG_MAX:
            return None
        text = str(value) if abs(value) <= _C_INT_MAX else f"{value}LL"
        return text if value >= 0 else f"({text})"

    def _may_overflow(self, left: ast.expr, op: ast.operator, right: ast.expr) -> bool:
        known = [self._bound(side) for side in (left, right)]
        match op:
            case ast.LShift():
                return known[1] is None or not 0 <= known[1] <= 31
            case ast.RShift():
                return known[1] is None or not 0 <= known[1] <= 62
            case ast.Pow():
                return True
            case ast.Mod():
                return not known[1]
            case ast.Mult():
                # a time in ns by a rate can pass 2**63; by a plain number below a million it cannot
                return all(value is None or abs(value) > 1_000_000 for value in known)
        return False

    def _bound(self, node: ast.expr) -> int | None:
        """The upper bound of a number: the constant itself, or the mask applied to it."""
        value = self.constants.fold(self.module.name, node)
        match node:
            case ast.BinOp(left=left, op=ast.BitAnd(), right=right) if value is None:
                masks = [self.constants.fold(self.module.name, side) for side in (left, right)]
                value = min((m for m in masks if m is not None and m >= 0), default=None)
        return value

    def _call(self, node: ast.Call) -> None:
        name = node.func.id  # type: ignore[attr-defined]
        if node.keywords or any(isinstance(arg, ast.Starred) for arg in node.args):
            return
        where = self.module.origin.get(name)
        if where is None or where[0] == self.module.name or name not in self.module.runtime:
            return
        target = self.all.get(where[0])
        if where in self.types.functions or (target is not None and where[1] in target.signatures):
            self.direct.add(where)
            self._replace(node.func, f"_d_{where[1]}")


def _plain(node: ast.expr) -> bool:
    """Whether an expression may be written twice: a name, or an attribute of one."""
    return isinstance(node, ast.Name) or (isinstance(node, ast.Attribute) and _plain(node.value))


def _bound_names(node: ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda) -> set[str]:
    """The names that a function binds, and those in it."""
    names = {p.arg for p in _parameters(node)}
    for inner in walk(node):
        if inner is not node:
            names |= _stored(inner)
    return names


def _stored(node: ast.AST) -> set[str]:
    """The names that a node itself binds."""
    match node:
        case ast.Name(id=name, ctx=ast.Store() | ast.Del()):
            return {name}
        case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
            return {name}
        case ast.ExceptHandler(name=str(name)) | ast.MatchAs(name=str(name)):
            return {name}
        case ast.MatchStar(name=str(name)) | ast.MatchMapping(rest=str(name)):
            return {name}
        case ast.Import(names=names) | ast.ImportFrom(names=names):
            return {(alias.asname or alias.name).split(".")[0] for alias in names}
    return set()
