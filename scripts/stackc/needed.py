"""Leave unused classes of other modules out of a module's C.

Cython declares and imports every class of a module that is cimported. A module uses ten to fifty of
the stack's two hundred. The others would be a third of the C text of a small module, 14 KB of its
machine code, and most of thirty thousand imports at a program's start.

The used classes are known when all other C is written; Cython writes imports and declarations last.
A class stays if its struct, type or method table is named, or if a pointer to it is followed. So
the sizes of all structs that the code relies on are still compared at import. If a class were
missing, the C compiler would fail.
"""

from __future__ import annotations

from typing import Any

from Cython.Compiler import Naming
from Cython.Compiler.ModuleNode import ModuleImportGenerator, ModuleNode

NAMED = ("__pyx_obj_", "__pyx_ptype_", "__pyx_vtabptr_", "__pyx_vtabstruct_")
ARROW = "\x01"
_BETWEEN = {n: " " for n in range(128) if not (chr(n).isalnum() or chr(n) in "_" + ARROW)}

_declare = ModuleNode.generate_declarations_for_modules


def install() -> None:
    """Patch Cython in this process to omit them. It can then write one module only."""
    ModuleNode.generate_type_import_code_for_module = _import_types
    ModuleNode.generate_declarations_for_modules = _declare_needed


def _import_types(self: Any, module: Any, env: Any, code: Any) -> None:
    """As Cython's method, but each type's import can be removed later (`_declare_needed`)."""
    imports = self.__dict__.setdefault("stackc_imports", {})
    with ModuleImportGenerator(code) as generator:
        for entry in module.c_class_entries:
            if entry.defined_in_pxd and entry.type not in env.types_imported:
                place = code
                if _elsewhere(entry):
                    # The module is imported before this place, for the classes that stay.
                    name = entry.type.module_name.as_c_string_literal()
                    generator.imported_module(name, code.error_goto(entry.pos))
                    place = imports[entry.type] = code.insertion_point()
                self.generate_type_import_code(env, entry.type, entry.pos, place, generator)


def _declare_needed(self: Any, env: Any, modules: Any, globalstate: Any) -> None:
    imports = self.__dict__.get("stackc_imports", {})
    written = {type_: place.getvalue() for type_, place in imports.items()}
    for place in imports.values():
        place.buffer.reset()
    named, followed = _words(globalstate.rootwriter.getvalue())
    entries = [e for m in modules if m is not env for e in m.c_class_entries if _elsewhere(e)]
    needed = {e.type for e in entries if named & _names(e.type)}
    needed |= {e.type.base_type for e in env.c_class_entries}
    waiting = [t for t in needed if t]
    while waiting:
        one = waiting.pop()
        reached = [one.base_type] if one.base_type else []
        if one.scope:
            reached += [a.type for a in one.scope.var_entries if a.cname in followed]
        for type_ in reached:
            if type_.is_extension_type and type_ not in needed:
                needed.add(type_)
                waiting.append(type_)
    out = [e for e in entries if e.type not in needed]
    for entry in out:
        self.generate_objstruct_predeclaration(entry.type, globalstate["type_declarations"])
    for type_ in imports.keys() - {entry.type for entry in out}:
        imports[type_].buffer.write(written[type_])
    for module in modules:
        module.c_class_entries = [e for e in module.c_class_entries if e not in out]
        module.type_entries = [e for e in module.type_entries if e not in out]
    _declare(self, env, modules, globalstate)


def _words(text: str) -> tuple[set[str], set[str]]:
    """Names of structs, types and tables in the C; names before "->" or ")->".

    Four times as fast as regular expressions.
    """
    while ")->" in text:
        text = text.replace(")->", "->")
    words = set(text.replace("->", ARROW + " ").translate(_BETWEEN).split())
    named = {word.rstrip(ARROW) for word in words if word.startswith(NAMED)}
    return named, {word[:-1] for word in words if word.endswith(ARROW)}


def _elsewhere(entry: Any) -> bool:
    """Whether the class is of another module, and Cython declares its struct."""
    return bool(
        entry.defined_in_pxd
        and not entry.in_cinclude
        and entry.type.scope
        and not entry.type.typedef_flag
        and entry.type.objstruct_cname.startswith(Naming.objstruct_prefix)
    )


def _names(type_: Any) -> set[str]:
    names = (
        type_.objstruct_cname,
        type_.typeptr_cname,
        type_.vtabptr_cname,
        type_.vtabstruct_cname,
    )
    return {name for name in names if name}
