"""Routes and neighbours by their number; the rows are in `rows/tables.py`."""

from __future__ import annotations

from .rows import tables
from .sized import tests_of

globals().update(tests_of(tables.ROWS))
