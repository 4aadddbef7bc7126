"""What a host costs by their number; the rows are in `rows/hosts.py`."""

from __future__ import annotations

from .rows import hosts
from .sized import tests_of

globals().update(tests_of(hosts.ROWS))
