"""Stands for stack.core.dst."""

from __future__ import annotations

from stack.core.netdevice import net_device
from stack.core.rows import row, state


@state
class dst_entry:
    """A route."""

    dev: net_device | None = row(None)
    mtu: int = row(0)
