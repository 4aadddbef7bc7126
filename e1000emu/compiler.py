"""Which C compiler to call: for the C ABI, and for what the benchmarks are compared with."""

from __future__ import annotations

import os
import shlex
import shutil
import sysconfig

from e1000emu.errors import E1000Error

REMEDY = "apt-get install gcc libc6-dev, or set CC"


def c_compiler(cc: str | None = None) -> list[str]:
    """Return the words of the command: `cc`, else $CC, else cc, gcc, clang or what built Python.

    Raises: E1000Error when there is none, or what was asked for is not on PATH.
    """
    asked = cc or os.environ.get("CC", "")
    if asked:
        words = shlex.split(asked)
        if not words or shutil.which(words[0]) is None:
            raise E1000Error(f"no C compiler {asked!r}; {REMEDY}")
        return words
    built_with = shlex.split(str(sysconfig.get_config_var("CC") or ""))[:1]
    for name in ("cc", "gcc", "clang", *built_with):
        if shutil.which(name) is not None:
            return [name]
    raise E1000Error(f"no C compiler (cc, gcc, clang); {REMEDY}")
