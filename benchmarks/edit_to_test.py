"""Seconds from the edit of a function's body to its running test, in a copy of this tree.

Run it with ``make bench-edit``. Compiled: the build that `make build` does, and the test.
Uncompiled: the test alone, with E1000EMU_UNCOMPILED=1.
"""

from __future__ import annotations

import ast
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
EDITS = (
    ("stack/core/secure_seq.py", "secure_tcp_seq"),
    ("stack/inet/tcp_output.py", "tcp_write_xmit"),
)
"""A small module that is compiled for size and a large hot one: a function of each."""
TEST = "tests/stack/core/test_secure_seq.py"
"""A test that imports both."""
LEFT = (".git", ".venv*", ".cache", "site", "dist", "*_cache", "debug", "sanitize", "campaign*")


def edit(path: Path, function: str) -> None:
    """Add a statement to the body of `function`."""
    text = path.read_text()
    (found,) = (n for n in ast.parse(text).body if getattr(n, "name", "") == function)
    assert isinstance(found, ast.FunctionDef)
    lines = text.splitlines(keepends=True)
    lines.insert(found.body[-1].lineno - 1, "    edited = 1\n")
    path.write_text("".join(lines))


def took(where: Path, words: list[str], uncompiled: str = "0") -> tuple[float, float]:
    """Run a program in the copy, which must succeed: seconds, and those of processors."""
    environment = os.environ | {"E1000EMU_UNCOMPILED": uncompiled, "E1000EMU_CYTHON_CACHE": ""}
    before, at = os.times(), time.perf_counter()
    subprocess.run(
        [sys.executable, *words], cwd=where, env=environment, check=True, stdout=subprocess.DEVNULL
    )
    after = os.times()
    busy = sum(after[2:4]) - sum(before[2:4])
    return time.perf_counter() - at, busy


def main() -> None:
    """Edit, build, test; print how long each took."""
    with tempfile.TemporaryDirectory() as name:
        copy = Path(name) / "tree"
        shutil.copytree(ROOT, copy, ignore=shutil.ignore_patterns(*LEFT), symlinks=True)
        for path, function in EDITS:
            edit(copy / path, function)
            words = ["-m", "pytest", "-q", "-p", "no:cacheprovider", TEST]
            plain = took(copy, words, "1")
            built = took(copy, ["setup.py", "-q", "build_ext", "--inplace"])
            tested = took(copy, words)
            print(f"{path}, {function}: the body is changed")
            for what, (passed, busy) in (
                ("build", built),
                ("test", tested),
                ("test with E1000EMU_UNCOMPILED=1, without the build", plain),
            ):
                print(f"  {passed:6.1f} s, {busy:5.1f} of processors: {what}", flush=True)


if __name__ == "__main__":
    main()
