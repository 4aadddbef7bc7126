"""Checks that compiled modules were built from the current sources.

A build in a source tree leaves `.built.ABI` in each package, for the interpreter of that name: a
line for each source, with its size, time and hash. Importing the package compares size and time,
and the hash where these differ. An installed package has no record, and nothing is compared.

`python fastpath/built.py` supplements the stamp files of `make`. It needs no compiled module and
nothing outside the standard library.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Mapping
from importlib.machinery import EXTENSION_SUFFIXES

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
RECORD = f".built{EXTENSION_SUFFIXES[0].removesuffix('.so')}"
WHOLE = "="
"""The module itself is compiled: every byte of its source counts."""
DECLARED = "~"
"""Other modules are compiled with its declarations: constants, fields of `@state` classes."""
_SHOWN = 3


def is_tree(root: str) -> bool:
    """Whether `root` is a source tree, which can be built."""
    return os.path.exists(f"{root}/setup.py") and os.path.exists(f"{root}/fastpath/__init__.py")


def make_command(root: str) -> str:
    """Return the command that builds the source tree `root` for this interpreter."""
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    own = os.path.basename(sys.prefix) == f".venv-{version}"
    try:
        there = os.path.samefile(os.curdir, root)
    except OSError:
        there = False
    if there:
        where = ""
    else:
        import shlex

        where = f" -C {shlex.quote(root)}"
    return f"make{where} build" + (f" PYTHON=python{version}" if own else "")


def fingerprint(kind: str, text: bytes, known: str = "") -> str:
    """Return the hashes of a source's text and of the relevant part. Returns the `known` ones
    for an unchanged text, since parsing the declarations takes a hundred times as long."""
    from hashlib import sha256

    whole = sha256(text).hexdigest()
    if kind == WHOLE:
        return whole
    if known.startswith(whole):
        return known
    return f"{whole}/{sha256(_declared(text)).hexdigest()}"


def _declared(text: bytes) -> bytes:
    import ast

    facts: list[str] = []
    try:
        tree = ast.parse(text)
    except SyntaxError:  # it is being edited
        return text
    for node in tree.body:
        match node:
            case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.Expr():
                continue
            case ast.ClassDef():
                fields = [item for item in node.body if isinstance(item, ast.AnnAssign)]
                if node.decorator_list:
                    facts += [
                        node.name,
                        *map(ast.dump, [*node.bases, *node.decorator_list, *fields]),
                    ]
            case _:
                facts.append(ast.dump(node))
    return "\n".join(facts).encode()


def examine(root: str, sources: Mapping[str, str]) -> list[str]:
    """Return the record's line of each of `sources`: path below `root` -> WHOLE or DECLARED."""
    lines = []
    for name, kind in sorted(sources.items()):
        path = f"{root}/{name}"
        there = os.stat(path)  # before reading, so that a later write is a change
        with open(path, "rb") as file:
            digest = fingerprint(kind, file.read())
        lines.append(f"{kind} {there.st_size} {there.st_mtime_ns} {digest} {name}")
    return lines


def changed(root: str, package: str) -> list[str] | None:
    """Return the sources changed since `package` was compiled, [] for an installed
    one; None: unknown, as the last build did not finish."""
    try:
        with open(f"{root}/{package}/{RECORD}") as file:
            lines = file.read().splitlines()
    except FileNotFoundError:
        return None if is_tree(root) else []
    other = []
    for line in lines:
        kind, size, mtime_ns, digest, name = line.split(" ", 4)
        path = f"{root}/{name}"
        try:
            there = os.stat(path)
            if there.st_mtime_ns == int(mtime_ns) and there.st_size == int(size):
                continue
            with open(path, "rb") as file:
                now = fingerprint(kind, file.read(), digest)
            same = now.rpartition("/")[2] == digest.rpartition("/")[2]
        except OSError:
            same = False
        if not same:
            other.append(name)
    return other


def refusal(root: str, package: str, remedy: str = "") -> str:
    """Return why the compiled modules of `package` must not be used, or ""."""
    names = changed(root, package)
    if names == []:
        return ""
    run = f"run: {make_command(root)}{remedy}"
    if names is None:
        return f"{package}: the build of its compiled modules did not end; {run}"
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    have = "has" if len(names) == 1 else "have"
    return f"{', '.join(names[:_SHOWN])}{more} {have} changed since compiled; {run}"


def other_tree(here: str = "") -> str:
    """Return a sentence if the code of another tree than the expected one runs, else "".

    The environment in a copied tree has links and scripts to the original. `here` is the
    start directory of a command, which may also be in another tree.
    """
    prefix = os.path.realpath(sys.prefix)
    around = os.path.dirname(prefix)
    reached = {os.path.realpath(entry) for entry in sys.path if isinstance(entry, str)}
    if around != ROOT and ROOT not in reached and is_tree(around) and is_tree(ROOT):
        return f"{prefix} is linked to the code of {ROOT}; run: {make_command(around)}"
    script = os.path.realpath(next(iter(getattr(sys, "argv", [])), ""))
    environment = os.path.dirname(os.path.dirname(script))
    if environment != prefix and os.path.exists(f"{environment}/pyvenv.cfg"):
        tree = os.path.dirname(environment)
        mend = f"run: {make_command(tree)}" if is_tree(tree) else "make that environment anew"
        return f"{script} runs {sys.executable} and the code of {ROOT}; {mend}"
    here = os.path.realpath(here) if here else ROOT
    if here != ROOT and is_tree(here) and is_tree(ROOT):
        return (
            f"the code of {ROOT} runs, not that of {here}; run: {make_command(here)}, "
            "then .venv/bin/e1000emu"
        )
    return ""


def write_record(root: str, package: str, lines: Iterable[str]) -> None:
    """Record that the modules of `package` are built from these sources (`examine`)."""
    path = f"{root}/{package}/{RECORD}"
    with open(f"{path}.new", "w") as file:
        file.writelines(f"{line}\n" for line in lines)
    os.replace(f"{path}.new", path)


def drop_record(root: str, package: str) -> None:
    """Record that a build of `package` has begun."""
    if os.path.exists(path := f"{root}/{package}/{RECORD}"):
        os.unlink(path)


def missing(root: str, package: str) -> list[str]:
    """Return the sources of `package` whose compiled modules are missing."""
    try:
        with open(f"{root}/{package}/{RECORD}") as file:
            names = [line.split(" ", 4)[4] for line in file.read().splitlines() if line[0] == WHOLE]
    except FileNotFoundError:
        return []
    stems = [
        name.removesuffix(end) for name in names for end in (".pyx", ".py") if name.endswith(end)
    ]
    return [s for s in stems if not os.path.exists(f"{root}/{s}{EXTENSION_SUFFIXES[0]}")]


def environment_state(prefix: str, root: str) -> str:
    """Return "moved" for an environment whose scripts start another's interpreter, "unlinked" for
    one whose packages are another tree's, else ""."""
    import glob
    import re

    def leads_to(pattern: str, name: str, wanted: str) -> bool:
        for path in glob.glob(f"{glob.escape(prefix)}/{name}"):
            with open(path, errors="replace") as file:
                found = re.search(pattern, file.read())
            if found and not (os.path.exists(found[1]) and os.path.samefile(found[1], wanted)):
                return False
        return True

    if not leads_to(r"(/.*)/bin/python", "bin/e1000emu", prefix):
        return "moved"
    finder = "lib/python*/site-packages/__editable___e1000emu_*_finder.py"
    return "" if leads_to(r"'fastpath': '(.*?)/fastpath'", finder, root) else "unlinked"


if __name__ == "__main__":
    if any(changed(ROOT, p) != [] or missing(ROOT, p) for p in ("fastpath", "stack")):
        print("stale")
    print(environment_state(sys.prefix, ROOT))
