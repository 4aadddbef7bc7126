"""Commands about the compiled stack: which functions stay Python, and our changes to Cython."""

from __future__ import annotations

import argparse
import ast
from pathlib import Path

from Cython.Compiler.Main import compile_single
from Cython.Compiler.Options import CompilationOptions

from . import measure, overrides
from .build import options
from .module import fallbacks
from .tree import compiled_modules

ROOT = Path(__file__).resolve().parents[2]
BUILD = ROOT / "build/stackc"


def show_fallbacks(wanted: list[str]) -> None:
    """Print the functions of compiled modules that stay Python functions, each with its reason."""
    compiled = compiled_modules()
    lines = (Path(__file__).parent / "python.txt").read_text().splitlines()
    rows = (line.partition("#") for line in lines if line[:1] not in ("", "#"))
    reasons = {name.strip(): reason.strip() for name, _, reason in rows}
    for name in wanted or compiled:
        path = Path(name.replace(".", "/") + ".py")
        if not (ROOT / path).exists():
            raise SystemExit(f"{name}: no such module")
        if name not in compiled:
            print(f"{path}: not compiled: {reasons.get(name, 'no function takes packets')}")
            continue
        for line, function, reason in fallbacks(ast.parse((ROOT / path).read_text())):
            print(f"{path}:{line}: {function} {reason}")


def annotate(name: str, to: Path) -> None:
    """Write Cython's page about a module: its lines, darker the more Python's C API they call."""
    source = BUILD / (name.replace(".", "/") + ".pyx")
    if not source.exists():
        raise SystemExit(f"{name}: no {source.relative_to(ROOT)}; run: make build")
    to.mkdir(parents=True, exist_ok=True)
    overrides.install("all", "stack", "one")
    output = to / f"{name}.c"
    settings = CompilationOptions(annotate=True, output_file=str(output), **options(BUILD))
    if compile_single(str(source), settings, name).num_errors:
        raise SystemExit(f"Cython refuses {name}")
    print(output.with_suffix(".html"))


def main(words: list[str] | None = None) -> None:
    """Run one command."""
    parser = argparse.ArgumentParser(prog="python -m scripts.stackc", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    command = commands.add_parser("fallbacks", help="functions that stay Python, and why")
    command.add_argument("module", nargs="*", help="as stack.inet.tcp; default: all compiled ones")
    command = commands.add_parser("annotate", help="write Cython's page about a module")
    command.add_argument("module")
    command.add_argument("--to", type=Path, default=ROOT / "build/annotate", metavar="DIRECTORY")
    commands.add_parser("overrides", help="what is replaced in Cython, why, and what that saves")
    command = commands.add_parser("measure", help="build some modules without an override")
    command.add_argument("name", nargs="+", choices=[row.name for row in overrides.OVERRIDES])
    command.add_argument("--modules", nargs="+", default=measure.SAMPLE, metavar="MODULE")
    given = parser.parse_args(words)
    match given.command:
        case "fallbacks":
            show_fallbacks(given.module)
        case "annotate":
            annotate(given.module, given.to)
        case "overrides":
            print("\n\n".join(row.shown() for row in overrides.OVERRIDES))
        case "measure":
            measure.measure(tuple(given.name), tuple(given.modules))


if __name__ == "__main__":
    main()
