"""Under AddressSanitizer (scripts/test-asan) its runtime is preloaded into our Pythons alone.

Programs that tests start have no use for it, and some never get past their first lock with it.
"""

from __future__ import annotations

import os
import subprocess
import sys
from typing import Any

PRELOAD = "LD_PRELOAD"


class _Popen(subprocess.Popen[Any]):
    """Preloads the runtime into this Python and what is installed beside it.

    Not with -I: that Python has none of our modules, and may become another program.
    """

    runtime = ""

    def __init__(self, args: Any, *rest: Any, env: Any = None, **options: Any) -> None:
        words = [args] if isinstance(args, str | bytes | os.PathLike) else list(args)
        ours = os.fsdecode(words[0]).startswith(os.path.dirname(sys.executable))
        if ours and "-I" not in words:
            env = {PRELOAD: self.runtime, **(os.environ if env is None else env)}
        super().__init__(args, *rest, env=env, **options)


def preload_into_python_alone() -> None:
    """Keep the runtime, if one is preloaded, from programs that are no Python of ours."""
    if "asan" in os.environ.get(PRELOAD, ""):
        _Popen.runtime = os.environ.pop(PRELOAD)
        subprocess.Popen = _Popen  # type: ignore[misc]
