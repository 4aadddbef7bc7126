"""AF_UNIX; the rows are in `rows/unix.py`."""

from __future__ import annotations

from .rows import unix
from .sized import tests_of

globals().update(tests_of(unix.ROWS))
