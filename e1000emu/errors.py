"""Errors of the caller: one family of exceptions, each naming the argument and the remedy.

A guest's or a wire's mistakes never raise; they are counted (`insight.misuse`, drop counters).
"""

from __future__ import annotations

from fastpath.errors import (
    ArgumentError,
    ArgumentRangeError,
    ArgumentTypeError,
    E1000Error,
    LifecycleError,
    StaleBuild,
)

__all__ = [
    "ArgumentError",
    "ArgumentRangeError",
    "ArgumentTypeError",
    "E1000Error",
    "LifecycleError",
    "LinkError",
    "SnapshotError",
    "StaleBuild",
]


class LinkError(E1000Error):
    """A link cannot be opened or used."""


class SnapshotError(E1000Error):
    """A saved state cannot be loaded."""
