"""Integer constants of modules, found in their sources without running them."""

from __future__ import annotations

import ast
import operator
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from .nodes import walk

_BINARY: dict[type[ast.operator], Callable[[int, int], int]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
    ast.LShift: operator.lshift,
    ast.RShift: operator.rshift,
    ast.BitOr: operator.or_,
    ast.BitAnd: operator.and_,
    ast.BitXor: operator.xor,
    ast.Pow: operator.pow,
}
# also TCP_CA_Open, IPV6_ADDR_COMPATv4
_CONSTANT_NAME = re.compile(r"^_*[A-Z][A-Z0-9]*(_\w*)?$")
_PYX_CONSTANT = re.compile(r"^([A-Z][A-Z0-9_]*) *= *([^#\n]+)", re.M)


def _pairs(target: ast.expr, value: ast.expr) -> Iterator[tuple[str, ast.expr]]:
    """Each name that an assignment binds to an expression of its own: also `A, B = 1, 2`."""
    if isinstance(target, ast.Name):
        yield target.id, value
    elif (
        isinstance(target, ast.Tuple)
        and isinstance(value, ast.Tuple)
        and len(target.elts) == len(value.elts)
    ):
        for name, element in zip(target.elts, value.elts, strict=True):
            yield from _pairs(name, element)


class Constants:
    """`value(module, name)` of integer constants in the modules below `root`.

    `trees`: syntax trees of modules that are parsed already.
    """

    def __init__(self, root: Path, trees: Mapping[str, ast.Module]) -> None:
        self.root = root
        self._trees = trees
        self._modules: dict[str, dict[str, ast.expr | tuple[str, str]]] = {}
        self._known: dict[tuple[str, str], int | None] = {}

    def value(self, module: str, name: str) -> int | None:
        """Return the constant's value; None if the source does not define it."""
        key = (module, name)
        if key not in self._known:
            self._known[key] = None  # a circular definition has no value
            self._known[key] = self._find(module, name)
        return self._known[key]

    def _find(self, module: str, name: str) -> int | None:
        if not _CONSTANT_NAME.match(name):
            return None
        found = self._names(module).get(name)
        if found is None:
            return None
        if isinstance(found, tuple):
            return self.value(*found)
        return self.fold(module, found)

    def fold(self, module: str, node: ast.expr) -> int | None:
        """Return the value of an expression of literals and constants."""
        match node:
            case ast.Constant(value=value) if type(value) is int:
                return value
            case ast.Name(id=name):
                return self.value(module, name)
            case ast.Attribute(value=ast.Name(id=base), attr=name):
                origin = self._names(module).get(base)
                if isinstance(origin, tuple):
                    return self.value(f"{origin[0]}.{origin[1]}", name)
            case ast.UnaryOp(op=ast.USub(), operand=operand):
                value = self.fold(module, operand)
                return None if value is None else -value
            case ast.UnaryOp(op=ast.Invert(), operand=operand):
                value = self.fold(module, operand)
                return None if value is None else ~value
            case ast.BinOp(left=left, op=op, right=right) if type(op) in _BINARY:
                a, b = self.fold(module, left), self.fold(module, right)
                if a is not None and b is not None:
                    return _BINARY[type(op)](a, b)
        return None

    def _names(self, module: str) -> dict[str, ast.expr | tuple[str, str]]:
        """The origin of each name of a module: its expression, or (module, name)."""
        if module in self._modules:
            return self._modules[module]
        names: dict[str, ast.expr | tuple[str, str]] = {}
        self._modules[module] = names
        path = self.root / module.replace(".", "/")
        if path.with_suffix(".py").exists():
            tree = self._trees.get(module) or ast.parse(path.with_suffix(".py").read_text())
            twice: set[str] = set()
            for node in tree.body:
                if isinstance(node, ast.ImportFrom) and node.module and not node.level:
                    for alias in node.names:
                        names[alias.asname or alias.name] = (node.module, alias.name)
                elif isinstance(node, ast.Assign) and len(node.targets) == 1:
                    for target, value in _pairs(node.targets[0], node.value):
                        twice |= {target} & names.keys()
                        names[target] = value
                elif (
                    isinstance(node, ast.AnnAssign)
                    and node.value
                    and isinstance(node.target, ast.Name)
                ):
                    names[node.target.id] = node.value
            for node in walk(tree):
                if isinstance(node, ast.Global):
                    twice.update(node.names)
            for name in twice:
                del names[name]
        elif path.with_suffix(".pyx").exists():
            for name, text in _PYX_CONSTANT.findall(path.with_suffix(".pyx").read_text()):
                try:
                    names[name] = ast.parse(text.strip(), mode="eval").body
                except SyntaxError:
                    continue
        return names
