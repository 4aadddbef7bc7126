"""Cython over many modules that all cimport the same ones.

Reading the declarations of other modules, above all those of the @state classes, would take most of
a module's time. So they are read once, and each module is translated in a process that forks after
that.
"""

from __future__ import annotations

import gc
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from Cython.Build.Cache import Cache, FingerprintFlags
from Cython.Build.Dependencies import create_dependency_tree
from Cython.Compiler.Code import UtilityCode, get_utility_dir
from Cython.Compiler.Main import Context, compile_single
from Cython.Compiler.Options import CompilationOptions
from Cython.Utils import file_generated_by_this_cython

from . import overrides


def translate(
    modules: dict[str, Path],
    common: Sequence[str],
    jobs: int,
    *,
    cache: str | bool = False,
    **options: Any,
) -> None:
    """Write the C of each of `modules` (name -> .pyx) that is older than what it is made from.

    `common`: modules whose declarations nearly all others read. `cache` and `options` are those of
    `cythonize()`, which afterwards finds all modules up to date.

    Raises SystemExit naming the modules that Cython refuses; it has printed why.
    """
    settings = CompilationOptions(**options)
    overrides.install("all", "stack")
    context = Context.from_options(settings)
    tree = create_dependency_tree(context, quiet=True)
    stale = [name for name, pyx in modules.items() if _out_of_date(str(pyx), tree)]
    if not stale:
        return
    store = Cache(cache) if cache else None
    known = {str(modules[name].with_suffix(".pxd")) for name in common}
    # Reading all takes as long as four modules do.
    for name in [*common, *(modules if len(stale) > 4 else ())]:
        context.find_module(name)
    gc.collect()
    gc.freeze()  # a child's collection would copy every page of what was read
    stale.sort(key=lambda name: -modules[name].stat().st_size)  # start with the longest
    running: dict[int, str] = {}
    failed: list[str] = []
    sys.stdout.flush()
    try:
        for number, name in enumerate(stale, 1):
            if len(running) == jobs:
                failed += _ended(running)
            print(f"[{number}/{len(stale)}] Cythonizing {name}", flush=True)
            pid = os.fork()
            if pid == 0:
                pyx = str(modules[name])
                if not known <= tree.all_dependencies(pyx):  # leave out what it never names
                    context = Context.from_options(settings)
                _translate_and_exit(name, pyx, context, settings, tree, store)
            running[pid] = name
    finally:
        while running:
            failed += _ended(running)
    gc.unfreeze()
    if store:
        store.cleanup_cache()
    if failed:
        raise SystemExit(f"Cython refuses {', '.join(failed)}")


def read_utilities() -> None:
    """Read Cython's common code once, for all processes that fork from this one.

    It takes a quarter of a module's time.
    """
    for name in sorted(os.listdir(get_utility_dir())):
        if name.endswith((".c", ".pyx")):
            UtilityCode.load_utilities_from_file(name)


def _out_of_date(pyx: str, tree: Any) -> bool:
    written = pyx.removesuffix(".pyx") + ".c"
    if not file_generated_by_this_cython(written):
        return True
    newest, _ = tree.newest_dependency(pyx)
    return os.path.getmtime(written) < newest


def _ended(running: dict[int, str]) -> list[str]:
    """Wait for a child; return its module if that failed."""
    pid, status = os.wait()
    name = running.pop(pid)
    return [name] if status else []


def _translate_and_exit(
    name: str,
    pyx: str,
    context: Context,
    settings: CompilationOptions,
    tree: Any,
    store: Cache | None,
) -> None:
    """Translate one module in this process, and end it: 0 if that succeeded."""
    status = 1
    try:
        gc.disable()  # the process is too short for garbage to matter
        # An interrupt ends the parent, which waits for us: half a file would look up to date.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        fingerprint = None
        if store:
            dependencies = tree.all_dependencies(pyx)
            fingerprint = store.transitive_fingerprint(
                pyx, dependencies, settings, FingerprintFlags("c", False, False)
            )
        overrides.install("one")
        result = compile_single(
            pyx, settings, name, cache=store, context=context, fingerprint=fingerprint
        )
        status = int(result.num_errors > 0)
    except Exception as problem:
        print(f"{name}: {type(problem).__name__}: {problem}", file=sys.stderr)
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)
