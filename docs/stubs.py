"""Sphinx and our docstrings: what they look like, and where those of compiled modules are found.

Docstrings are plain English with code in backticks, lists, indented examples and Google's sections
(Args, Returns, Raises). `as_rst` makes reStructuredText of one that means just that: no `*args` or
`word_` in it is taken for markup, and no docstring can break the build.

The directive ``stubmodule`` describes a compiled module: names and types come from its stub
(``.pyi``), the docstrings from the module, or where it has none from the stub. Autodoc takes either
the one or the other: the stub alone has few docstrings, the module alone has C types and nothing to
say of its attributes.
"""

from __future__ import annotations

import ast
import builtins
import importlib
import inspect
import re
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

from docutils import nodes
from docutils.statemachine import StringList
from sphinx.application import Sphinx
from sphinx.config import Config
from sphinx.domains.python import ObjectEntry, PythonDomain
from sphinx.environment import BuildEnvironment
from sphinx.ext.napoleon import GoogleDocstring
from sphinx.util.docutils import SphinxDirective

from fastpath import MODULES

Definition = ast.FunctionDef | ast.ClassDef | ast.AnnAssign

# A role such as :class:`Nic` stays; code in one or two backticks; what else would be markup.
MARKUP = re.compile(r"(:\w+:`[^`]+`)|(?<!`)(`{1,2})([^`]+)\2(?!`)(?=(\w?))|([*|\\]|_\b|`)")


BULLET = re.compile(r" *(?:[*-]|\d+\.) +")
SECTION = re.compile(r" *[A-Z]\w*( \w+)?:$")


def as_rst(text: str) -> str:
    """Return a docstring as reStructuredText: code stays code, everything else is plain text."""
    return "\n".join(_lines(text.splitlines()))


def _lines(lines: list[str]) -> Iterator[str]:
    """Yield the lines, with a blank one where the indentation changes.

    Without it the text would be a definition list, or an error. What is set in after a blank line
    is an example and stays as it is. The lines of a section are napoleon's business.
    """
    expected, section, example = 0, -1, -1
    blank = True
    for line in lines:
        indent = len(line) - len(line.lstrip())
        bullet = BULLET.match(line)
        if line and indent <= section:
            section = -1
        if line and indent < example:
            example = -1
        if line and section < 0 and example < 0:
            if blank and indent > expected and not bullet:
                example = indent
                yield from (" " * expected + "::", "")
            else:
                if not blank and (indent != expected or bullet):
                    yield ""
                expected = bullet.end() if bullet else indent
                section = indent if SECTION.fullmatch(line) else -1
        blank = not line
        kept = line if example >= 0 else bullet[0] if bullet else ""
        yield kept + MARKUP.sub(_markup, line[len(kept) :])


def _markup(found: re.Match[str]) -> str:
    role, _, code, letter, special = found.groups()
    if role:
        return role
    if code:
        # a word may follow at once ("`Event`s"), which needs a separator of no width
        return f"``{code}``" + ("\\ " if letter else "")
    return f"\\{special}"


class StubModule(SphinxDirective):
    """``stubmodule:: fastpath.base.csum``: the module, its constants, functions and classes."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        """Return the nodes of the module's description."""
        name = self.arguments[0]
        module = importlib.import_module(name)
        assert module.__file__ is not None
        directory = Path(module.__file__).parent
        path = directory / f"{name.rpartition('.')[2]}.pyi"
        self.env.note_dependency(str(path))
        lines = list(describe(module, path, self.config))
        self.content = StringList(lines, source=str(path))
        return self.parse_content_to_nodes()


def describe(module: ModuleType, path: Path, config: Config) -> Iterator[str]:
    """Yield reStructuredText for `module`, whose stub is at `path`."""
    text = path.read_text()
    tree = ast.parse(text)
    yield f".. py:module:: {module.__name__}"
    yield ""
    yield from as_rst(inspect.getdoc(module) or ast.get_docstring(tree) or "").splitlines()
    yield ""
    yield from _members(tree.body, module, text.splitlines(), config, "")


def _members(
    body: list[ast.stmt], owner: object, source: list[str], config: Config, indent: str
) -> Iterator[str]:
    """Yield the public definitions of a module or class in the order of the stub."""
    for node, following in zip(body, [*body[1:], None], strict=True):
        if not isinstance(node, Definition) or _name(node).startswith("_") or _sets(node):
            continue
        inner = getattr(owner, _name(node), None)
        yield indent + f".. {_directive(node, owner)}:: {_title(node)}"
        if isinstance(node, ast.AnnAssign):
            yield indent + f"   :type: {ast.unparse(node.annotation)}"
            if inspect.ismodule(owner):
                yield indent + f"   :value: {inner!r}"
        yield ""
        doc = as_rst(_doc(node, following, inner, source))
        for line in GoogleDocstring(doc, config).lines():
            yield f"{indent}   {line}".rstrip()
        yield ""
        if isinstance(node, ast.ClassDef):
            yield from _members(node.body, inner, source, config, indent + "   ")


def _sets(node: Definition) -> bool:
    """Whether it is the setter of a property that stands above it."""
    if not isinstance(node, ast.FunctionDef):
        return False
    return any(ast.unparse(d) == f"{node.name}.setter" for d in node.decorator_list)


def _name(node: Definition) -> str:
    if isinstance(node, ast.AnnAssign):
        assert isinstance(node.target, ast.Name)
        return node.target.id
    return node.name


def _directive(node: Definition, owner: object) -> str:
    module = inspect.ismodule(owner)
    match node:
        case ast.AnnAssign():
            return "py:data" if module else "py:attribute"
        case ast.ClassDef():
            return "py:class"
        case _ if module:
            return "py:function"
    decorators = {ast.unparse(d) for d in node.decorator_list}
    for known in ("property", "staticmethod", "classmethod"):
        if known in decorators:
            return f"py:{known}"
    return "py:method"


def _title(node: Definition) -> str:
    """Return the name with its signature, without the `self` that a caller does not write."""
    if isinstance(node, ast.AnnAssign):
        return _name(node)
    if isinstance(node, ast.ClassDef):
        inits = [n for n in node.body if isinstance(n, ast.FunctionDef) and n.name == "__init__"]
        return node.name + (_arguments(inits[0]) if inits else "")
    if any(ast.unparse(d) == "property" for d in node.decorator_list):
        return node.name
    returns = f" -> {ast.unparse(node.returns)}" if node.returns else ""
    return node.name + _arguments(node) + returns


def _arguments(node: ast.FunctionDef) -> str:
    text = ast.unparse(node.args)
    return f"({re.sub(r'^(self|cls)(, |$)', '', text)})"


def _doc(node: Definition, following: ast.stmt | None, found: object, source: list[str]) -> str:
    """Return the docstring: the compiled object's, the stub's, or the comment of an attribute."""
    compiled = _compiled_doc(node, found)
    if compiled:
        return compiled
    if not isinstance(node, ast.AnnAssign):
        return ast.get_docstring(node) or ""
    match following:
        case ast.Expr(value=ast.Constant(value=str(text))):
            return inspect.cleandoc(text)
    line = source[node.lineno - 1]
    comment = line[node.end_col_offset :].strip()
    return comment.removeprefix("#").strip() if comment.startswith("#") else ""


def _compiled_doc(node: Definition, found: object) -> str:
    """Return the docstring out of the module, without the signature that Cython puts first."""
    if isinstance(node, ast.AnnAssign) and not inspect.isdatadescriptor(found):
        return ""  # a number's class has a docstring, the constant has none
    text = inspect.cleandoc(getattr(found, "__doc__", None) or "")
    first, _, rest = text.partition("\n")
    if re.match(rf"[\w.]*\b{re.escape(_name(node))}\(", first):
        text = rest.strip("\n")
    return inspect.cleandoc(text)


def _plain(
    app: Sphinx, what: str, name: str, obj: object, options: object, lines: list[str]
) -> None:
    """Take a docstring that autodoc found for plain text; napoleon gets it next."""
    lines[:] = as_rst("\n".join(lines)).split("\n")


def _skip(
    app: Sphinx, what: str, name: str, obj: object, skip: bool, options: object
) -> bool | None:
    """Leave out what a package only hands on from a compiled module: it is described there."""
    package, _, module = str(getattr(obj, "__module__", "")).partition(".")
    return True if what == "module" and package == "fastpath" and module in MODULES else None


class Python(PythonDomain):
    """Links from a name to its description, and none where that is a guess."""

    def find_obj(
        self,
        env: BuildEnvironment,
        modname: str,
        classname: str,
        name: str,
        type: str | None,  # noqa: A002 - Sphinx's name for it
        searchmode: int = 0,
    ) -> list[tuple[str, ObjectEntry]]:
        """Return what `name` may be; a search in all modules (mode 1) must find just one thing."""
        found = super().find_obj(env, modname, classname, name, type, searchmode)
        if searchmode and (len(found) > 1 or hasattr(builtins, name)):
            return []
        return found


def setup(app: Sphinx) -> dict[str, bool]:
    """Sphinx calls this."""
    app.add_domain(Python, override=True)
    app.add_directive("stubmodule", StubModule)
    app.connect("autodoc-process-docstring", _plain, priority=400)
    app.connect("autodoc-skip-member", _skip)
    return {"parallel_read_safe": True}
