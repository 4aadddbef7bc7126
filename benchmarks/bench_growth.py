"""Flows and connections by their number; the rows are in `rows/growth.py`."""

from __future__ import annotations

from .rows import growth
from .sized import tests_of

globals().update(tests_of(growth.ROWS))
