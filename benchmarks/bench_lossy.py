"""A stream over a wire that loses frames or is long; the rows are in `rows/lossy.py`."""

from __future__ import annotations

from .rows import lossy
from .sized import tests_of

globals().update(tests_of(lossy.ROWS))
