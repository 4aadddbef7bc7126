"""All modules: scan the sources, write changed ones below a directory."""

from __future__ import annotations

import ast
from pathlib import Path

from .constants import Constants
from .module import CHECKED, Module, Translator, checked_types, declare, own_names
from .overrides import left_out
from .slots import MODULE as SLOTS_MODULE
from .slots import PXD, Slots
from .state import MODULE as STATE_MODULE
from .state import StateClass, StateModule, state_classes
from .types import ExtensionTypes


def compiled_modules() -> dict[str, str]:
    """The modules of the protocol path that `compiled.txt` lists -> "hot", "cold" or ""."""
    modules = {}
    lines = (Path(__file__).parent / "compiled.txt").read_text().splitlines()
    for number, line in enumerate(lines, 1):
        name, *mark = line.partition("#")[0].split() or [""]
        if mark not in ([], ["hot"], ["cold"]):
            raise SystemExit(f"compiled.txt:{number}: neither `hot` nor `cold`: {line}")
        if name:
            modules[name] = "".join(mark)
    return modules


def generate(root: Path, out: Path, wanted: list[str]) -> dict[str, Path]:
    """Write the .pyx and .pxd of `wanted` and of the state below `out`; return the .pyx by module.

    Files are touched only when their text changes, so their builds stay up to date.
    """
    modules: dict[str, Module] = {}
    classes: dict[tuple[str, str], StateClass] = {}
    for path in sorted((root / "stack").rglob("*.py")):
        name = ".".join(path.relative_to(root).with_suffix("").parts).removesuffix(".__init__")
        text = path.read_bytes()
        module = modules[name] = Module(name, text, ast.parse(text, str(path)))
        for cls in state_classes(name, module.tree):
            classes[name, cls.name] = cls
    resolve(modules)
    state = {key: key[1] for key in classes}
    if len(set(state.values())) != len(state):
        raise SyntaxError(f"two @state classes of one name: {sorted(state)}")
    types = ExtensionTypes(root, state)
    constants = Constants(root, {name: module.tree for name, module in modules.items()})
    origins = {name: module.origin for name, module in modules.items()}
    written: dict[str, Path] = {}
    narrow = "narrow" not in left_out()
    pyx, pxd = StateModule(classes, types, origins, narrow).write()
    written[STATE_MODULE] = _write(out, STATE_MODULE, pyx.encode(), pxd)
    _write_if_changed(out / (CHECKED.replace(".", "/") + ".pxd"), checked_types(state).encode())
    unknown = [name for name in wanted if name not in modules]
    if unknown:
        raise SystemExit(f"compiled.txt names modules that are not there: {unknown}")
    chosen = {name: modules[name] for name in wanted}
    for module in chosen.values():
        declare(module, types)
    slots = Slots(classes, types, origins)
    for name, module in chosen.items():
        text, declarations = Translator(module, chosen, types, constants, state, slots).write()
        written[name] = _write(out, name, text, declarations)
    _write_if_changed(out / (SLOTS_MODULE.replace(".", "/") + ".pxd"), PXD.encode())
    return written


def resolve(modules: dict[str, Module]) -> None:
    """Fill in the origin of each module's names, through re-exports."""
    direct: dict[str, dict[str, tuple[str, str]]] = {}
    for name, module in modules.items():
        names = direct[name] = {}
        for node, executed in own_names(module.tree):
            if node.module and not node.level:
                for alias in node.names:
                    names[alias.asname or alias.name] = (node.module, alias.name)
                    if executed:
                        module.runtime.add(alias.asname or alias.name)
        for item in module.tree.body:
            if isinstance(item, (ast.ClassDef, ast.FunctionDef)):
                names[item.name] = (name, item.name)
    for name, module in modules.items():
        for own, where in direct[name].items():
            seen = set()
            while where not in seen and where[0] in direct and where[1] in direct[where[0]]:
                seen.add(where)
                where = direct[where[0]][where[1]]
            module.origin[own] = where


def _write(out: Path, module: str, pyx: bytes, pxd: str) -> Path:
    path = out / (module.replace(".", "/") + ".pyx")
    for folder in [path.parent, *path.parent.parents]:
        if folder == out:
            break
        folder.mkdir(parents=True, exist_ok=True)
        package = folder / "__init__.pxd"
        if not package.exists():
            package.write_text("")
    for target, text in ((path, pyx), (path.with_suffix(".pxd"), pxd.encode())):
        _write_if_changed(target, text)
    return path


def _write_if_changed(path: Path, text: bytes) -> None:
    if not path.exists() or path.read_bytes() != text:
        path.write_bytes(text)
