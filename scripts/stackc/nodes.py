"""A syntax tree's nodes: faster forms of `ast.walk` and `ast.iter_child_nodes`."""

from __future__ import annotations

import ast


def children(node: ast.AST) -> list[ast.AST]:
    """The nodes right below `node`, in the order of the source."""
    found: list[ast.AST] = []
    fields = node.__dict__
    for name in node._fields:
        value = fields.get(name)
        if isinstance(value, ast.AST):
            found.append(value)
        elif type(value) is list:
            found += [item for item in value if isinstance(item, ast.AST)]
    return found


def walk(node: ast.AST) -> list[ast.AST]:
    """`node` and all nodes below it, level by level."""
    found = [node]
    for inner in found:  # grows during the loop
        found += children(inner)
    return found
