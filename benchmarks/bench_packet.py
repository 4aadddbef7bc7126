"""AF_PACKET; the rows are in `rows/packet.py`."""

from __future__ import annotations

from .rows import packet
from .sized import tests_of

globals().update(tests_of(packet.ROWS))
