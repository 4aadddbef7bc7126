"""Flows and connections by their number; what is measured stands in `rows/growth.py`."""

from __future__ import annotations

from .rows import growth
from .sized import tests_of

globals().update(tests_of(growth.ROWS))
