"""AF_UNIX; what is measured stands in `rows/unix.py`."""

from __future__ import annotations

from .rows import unix
from .sized import tests_of

globals().update(tests_of(unix.ROWS))
