"""Exceptions of the stack's calls: OSError with the kernel's errno and its text."""

from __future__ import annotations

import os
from functools import lru_cache


def os_error(err: int, detail: str = "") -> OSError:
    """An OSError of errno `err` (either sign): the kernel's text for it, then `detail`."""
    err = abs(err)
    return OSError(err, _text(err, detail))


def check(err: int, detail: str = "") -> None:
    """Raise the -errno that a function of the stack has returned; 0 is no error."""
    if err:
        raise os_error(err, detail)


@lru_cache(maxsize=256)
def _text(err: int, detail: str) -> str:
    return f"{os.strerror(err)}: {detail}" if detail else os.strerror(err)
