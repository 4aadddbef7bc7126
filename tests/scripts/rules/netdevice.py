"""Stands for stack.core.netdevice."""

from __future__ import annotations

from stack.core.rows import row, state


@state
class net_device:
    """A device."""

    name: str
    mtu: int = row(1500)
