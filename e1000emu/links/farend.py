"""Signals that a PHY receives from the far end besides frames (802.3 28, 40.5)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, fields
from typing import Any

from e1000emu.errors import ArgumentError
from fastpath.errors import check_type, known_fields, whole_number

NULL_PAGE = 0x2001
"""The null message page, sent by an end without more pages while the other has some."""
PAIRS = (2, 4)


@known_fields
@dataclass(frozen=True, slots=True, kw_only=True)
class FarEnd:
    """What the far end of a link advertises, and its cable: a link's attribute `far_end`, or None.

    Speeds and duplex are the link's (`speed_mbps`, `full_duplex`). A NIC reads it when it
    begins to negotiate. Raises: ArgumentError.
    """

    selector: int = 1
    """The selector field: 1 is IEEE 802.3; other values prevent an agreement."""
    pause: bool = True
    asm_dir: bool = False
    """With `pause`, its advertised PAUSE mode (table 28B-2)."""
    remote_fault: bool = False
    negotiates: bool = True
    """A fibre's far end sends /C/ ordered sets until both agree; else idles from the beginning."""
    next_pages: tuple[int, ...] = ()
    """The next pages that it sends if we have some too, without the toggle bit."""
    master: bool | None = None
    """At 1000 Mb/s it requires to be master, or slave; None: it accepts either role."""
    pairs: int = 4
    """Pairs of the cable. With 2 an attempt at 1000 Mb/s fails."""
    on_page: Callable[[int], object] | None = field(default=None, compare=False)
    """Called with our base page and each next page."""

    def __post_init__(self) -> None:
        whole_number("FarEnd", "selector", self.selector, 0, 31)
        if self.pairs not in PAIRS:
            raise ArgumentError(f"FarEnd: pairs={self.pairs!r}; a cable has 2 or 4")
        check_type("FarEnd", "next_pages", self.next_pages, (tuple, list), "a tuple of pages")
        for number, page in enumerate(self.next_pages):
            whole_number("FarEnd", f"next_pages[{number}]", page, 0, 0xFFFF)


def as_plain(far_end: FarEnd | None) -> dict[str, Any] | None:
    """Return it as plain data, for `from_plain`."""
    if far_end is None:
        return None
    return {f.name: getattr(far_end, f.name) for f in fields(far_end) if f.name != "on_page"}


def from_plain(data: dict[str, Any] | None) -> FarEnd | None:
    """Return the far end of the data from `as_plain`."""
    if data is None:
        return None
    return FarEnd(**{**data, "next_pages": tuple(data["next_pages"])})
