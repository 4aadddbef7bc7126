"""Streams; the rows are in `rows/tcp.py`."""

from __future__ import annotations

from .rows import tcp
from .sized import tests_of

globals().update(tests_of(tcp.ROWS))
