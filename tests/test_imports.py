"""The one direction of dependence between the packages."""

from __future__ import annotations

import ast
import functools
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import grimp
import pytest

ROOT = Path(__file__).parent.parent
PACKAGES = ("fastpath", "e1000emu", "stack")
# The layer that joins device and stack; nothing of the device may rest on it.
TOP = (
    "e1000emu.__main__",
    "e1000emu.campaign",
    "e1000emu.cli",
    "e1000emu.lab",
    "e1000emu.parallel",
    "e1000emu.topology",
)


def in_top(module: str) -> bool:
    return any(module == t or module.startswith(t + ".") for t in TOP)


def test_import_linter_contracts_hold() -> None:
    run = subprocess.run(
        [Path(sys.executable).parent / "lint-imports", "--no-cache"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stdout + run.stderr


def test_nothing_below_imports_the_top_layer() -> None:
    graph = grimp.build_graph(*PACKAGES, cache_dir=None)
    wrong = [
        f"{module} -> {target}"
        for module in graph.modules
        if not in_top(module)
        for target in graph.find_modules_directly_imported_by(module)
        if in_top(target)
    ]
    assert wrong == []


def test_compiled_sources_import_only_their_own_package() -> None:
    pattern = re.compile(r"^\s*(?:from|cimport|import)\s+(e1000emu|stack)\b", re.MULTILINE)
    sources = [*ROOT.glob("fastpath/*/*.pyx"), *ROOT.glob("fastpath/*/*.pxd")]
    assert sources
    assert [str(p) for p in sources if pattern.search(p.read_text())] == []


def test_the_rooms_of_fastpath_are_siblings_over_base() -> None:
    may = {"base": {"base"}, "nic": {"base", "nic"}, "net": {"base", "net"}}
    room = re.compile(r"^\s*(?:from|cimport|import)\s+fastpath\.(base|nic|net)\b", re.MULTILINE)
    wrong = [
        f"{path.relative_to(ROOT)} -> {found}"
        for path in [*ROOT.glob("fastpath/*/*.pyx"), *ROOT.glob("fastpath/*/*.pxd")]
        for found in room.findall(path.read_text())
        if found not in may[path.parent.name]
    ]
    assert wrong == []


def test_every_directory_of_modules_is_a_typed_package() -> None:
    for package in PACKAGES:
        assert (ROOT / package / "py.typed").exists()
        for module in (ROOT / package).rglob("*.py"):
            if "__pycache__" not in module.parts:
                assert (module.parent / "__init__.py").exists(), module


# --- stack/: modules form a DAG, layers one direction ---------------------------------------

# What a folder of stack/ may import besides itself. stack/net.py and stack/machine.py, the fields
# of a namespace and of its machine, count as core, as do attributes (lib/nlattr.c). "sysctl" are
# the modules with all knobs, "" the rest at the top: the host, and the short names stack.socket and
# stack.aio. Only annotations look upward (TYPE_CHECKING).
CORE = {"core", "ethernet", "sched"}
AS_CORE = {"stack.machine", "stack.net", "stack.netlink.nlattr"}
SYSCTL = {"stack.sysctl", "stack.sysctl_fields"}
MAY_IMPORT = {
    "core": CORE,
    "ethernet": CORE,
    "sched": CORE,
    "bonding": {*CORE, "inet"},
    "bridge": {*CORE, "inet", "ipv4", "ipv6"},
    "drivers": {*CORE, "inet", "ipv4", "ipv6"},
    "vlan": CORE,
    "clients": {"core", "inet"},
    "inet": CORE,
    "unix": CORE,
    "ipv4": {*CORE, "inet"},
    "ipv6": {*CORE, "inet", "ipv4"},
    "xtp": {*CORE, "inet", "ipv4"},
    "netfilter": {*CORE, "inet", "ipv4", "ipv6"},
    "services": {*CORE, "clients", "inet", "ipv4", "ipv6"},
    "packet": CORE,
    "tunnel": {*CORE, "inet", "ipv4", "ipv6"},
    "xfrm": {*CORE, "inet", "ipv4", "ipv6", "tunnel"},
    "proc": {*CORE, "inet", "ipv4", "ipv6", "netfilter", "packet", "unix", "xtp"},
    "netlink": {
        *(*CORE, "inet", "ipv4", "ipv6", "packet", "unix", "proc"),
        *("bonding", "bridge", "drivers", "netfilter", "tunnel", "vlan", "xfrm"),
    },
    "sysctl": {"core", "ipv4", "ipv6"},
}
BELOW = set(MAY_IMPORT)
MAY_IMPORT |= {"api": BELOW, "": {*BELOW, "api"}, "tools": {*BELOW, "api", ""}}


def layer(module: str) -> str:
    parts = module.split(".")
    if module in AS_CORE:
        return "core"
    if module in SYSCTL:
        return "sysctl"
    return parts[1] if len(parts) > 2 or (ROOT / "stack" / parts[-1]).is_dir() else ""


@pytest.fixture(scope="module")
def graph() -> dict[str, set[str]]:
    """What each module of stack/ imports when it runs."""
    found = grimp.build_graph("stack", cache_dir=None, exclude_type_checking_imports=True)
    return {m: set(found.find_modules_directly_imported_by(m)) for m in found.modules}


def cycles(graph: dict[str, set[str]]) -> list[list[str]]:
    """The strongly connected components of more than one module (Tarjan)."""
    number: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    found: list[list[str]] = []

    def visit(module: str) -> None:
        number[module] = low[module] = len(number)
        stack.append(module)
        for target in sorted(graph[module]):
            if target not in number:
                visit(target)
                low[module] = min(low[module], low[target])
            elif target in stack:
                low[module] = min(low[module], number[target])
        if low[module] == number[module]:
            at = stack.index(module)
            if len(stack) - at > 1:
                found.append(sorted(stack[at:]))
            del stack[at:]

    for module in sorted(graph):
        if module not in number:
            visit(module)
    return found


def late_imports(path: Path) -> Iterator[str]:
    """The imports of a file that do not stand at its top: in a function, or below a definition."""
    tree = ast.parse(path.read_text())
    name = ".".join(path.relative_to(ROOT).with_suffix("").parts)
    defined = False
    for node in tree.body:
        if isinstance(node, ast.Import | ast.ImportFrom) and defined:
            yield f"bottom {name}: {_target(node)}"
        defined |= isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)
    for function in ast.walk(tree):
        if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            for node in ast.walk(function):
                if isinstance(node, ast.Import | ast.ImportFrom):
                    yield f"inside {name}: {_target(node)}"


@functools.cache
def late_imports_below(directory: Path) -> frozenset[str]:
    return frozenset(line for path in directory.rglob("*.py") for line in late_imports(path))


def _target(node: ast.Import | ast.ImportFrom) -> str:
    return node.module or "." if isinstance(node, ast.ImportFrom) else node.names[0].name


def offenders(graph: dict[str, set[str]]) -> set[str]:
    """All that is wrong with the imports of stack/, a line each."""
    found = {f"cycle {module}" for cycle in cycles(graph) for module in cycle}
    for module, targets in graph.items():
        allowed = {layer(module), *MAY_IMPORT[layer(module)]}
        below = targets - {"stack"}  # the package itself, which says whether it is compiled
        found |= {f"upward {module} -> {t}" for t in below if layer(t) not in allowed}
    return found | late_imports_below(ROOT / "stack")


@pytest.mark.parametrize("package", ["fastpath", "e1000emu"])
def test_no_modules_of_the_other_packages_import_each_other_in_a_circle(package: str) -> None:
    """Not for type checkers either: imports under TYPE_CHECKING count."""
    found = grimp.build_graph(package, cache_dir=None)
    graph = {m: set(found.find_modules_directly_imported_by(m)) for m in found.modules}
    assert cycles(graph) == []


def test_the_modules_of_the_stack_form_a_dag_of_layers(graph: dict[str, set[str]]) -> None:
    assert sorted(offenders(graph)) == []


@pytest.mark.parametrize(
    ("made", "wrong"),
    [
        ({"stack.core.a": {"stack.core.b"}, "stack.core.b": set()}, set()),
        (
            {"stack.core.a": {"stack.core.b"}, "stack.core.b": {"stack.core.a"}},
            {"cycle stack.core.a", "cycle stack.core.b"},
        ),
        (
            {"stack.inet.a": {"stack.ipv4.b"}, "stack.ipv4.b": set()},
            {"upward stack.inet.a -> stack.ipv4.b"},
        ),
        (
            {"stack.core.a": {"stack.net"}, "stack.net": {"stack.sysctl"}, "stack.sysctl": set()},
            {"upward stack.net -> stack.sysctl"},
        ),
        (
            {
                "stack.api.a": {"stack.host"},
                "stack.host": {"stack.tools.b"},
                "stack.tools.b": set(),
            },
            {"upward stack.api.a -> stack.host", "upward stack.host -> stack.tools.b"},
        ),
        (
            {
                "stack.host": {"stack.ipv6.a"},
                "stack.ipv6.a": {"stack.inet.b"},
                "stack.inet.b": set(),
            },
            set(),
        ),
    ],
)
def test_what_is_wrong_is_found(made: dict[str, set[str]], wrong: set[str]) -> None:
    found = {line for line in offenders(made) if not line.startswith(("inside", "bottom"))}
    assert found == wrong


def test_late_imports_are_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(f"{__name__}.ROOT", tmp_path)
    path = tmp_path / "late.py"
    path.write_text("import a\ndef f():\n    from b import c\nimport d\n")
    assert set(late_imports(path)) == {"inside late: b", "bottom late: d"}
