"""Datagrams; the rows are in `rows/udp.py`."""

from __future__ import annotations

from .rows import udp
from .sized import tests_of

globals().update(tests_of(udp.ROWS))
