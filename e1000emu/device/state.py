"""Types of the blocks' saved states: numbers with their range, and times that can be shifted.

Each block has its own struct beside it. `record.snapshot.NicState` holds them all; decoding checks
the types and ranges that stand in the structs.
"""

from __future__ import annotations

from typing import Annotated, Any, Self

import msgspec
from msgspec import Meta

FOREVER = 1 << 62
U8 = Annotated[int, Meta(ge=0, le=0xFF)]
U16 = Annotated[int, Meta(ge=0, le=0xFFFF)]
U32 = Annotated[int, Meta(ge=0, le=0xFFFFFFFF)]
Count = Annotated[int, Meta(ge=0, le=FOREVER)]
Time = Annotated[int, Meta(ge=0, le=FOREVER, title="time")]
"""ns on the device's clock; 0: none."""
Due = Annotated[int, Meta(ge=-1, le=FOREVER, title="due")]
"""When a timer ends, ns; -1: it does not run."""


class BlockState(msgspec.Struct, kw_only=True):
    """The state of one block.  A field that is added later gets a default."""

    @classmethod
    def of(cls, block: object, **others: Any) -> Self:
        """Return the state of `block`: its attributes `_NAME`, and `others`."""
        names = [name for name in cls.__struct_fields__ if name not in others]
        return cls(**{name: getattr(block, f"_{name}") for name in names}, **others)

    def put_into(self, block: object, *but: str) -> None:
        """Set the attributes `_NAME` of `block`, except those that it makes itself."""
        for name in self.__struct_fields__:
            if name not in but:
                setattr(block, f"_{name}", getattr(self, name))

    def move(self, ns: int) -> None:
        """Move every time by `ns`."""


def moved(due_ns: int, ns: int, none: int = -1) -> int:
    """Return a time moved by `ns`; `none` and what is below means that there is none."""
    return due_ns + ns if due_ns > none else due_ns
