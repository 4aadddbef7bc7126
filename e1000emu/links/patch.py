"""A patch cable between two links: frames from one are sent to the other."""

from __future__ import annotations

from typing import TYPE_CHECKING

from e1000emu.links.base import send_copies
from e1000emu.links.caps import close_link
from fastpath.errors import check_methods

if TYPE_CHECKING:
    from e1000emu.ports import Link
    from fastpath.base.batch import FrameBatch


class Plug:
    """The port plugged into one of the two links."""

    far: Plug

    def __init__(self, link: Link) -> None:
        self.link = link
        self.waiting = False  # frames of `link` are held until the far link has room

    def receive(self, batch: FrameBatch, start: int, hold: bool) -> int:
        """Send the frames that fit the far link. Borrows `batch` until return."""
        n = len(batch)
        start = send_copies(self.far.link, batch, start)
        if start < n and hold:
            self.waiting = True
            return start
        return n

    def tx_ready(self) -> None:
        """This link has room again: the far one may continue."""
        if self.far.waiting:
            self.far.waiting = False
            self.far.link.rx_ready()

    def link_changed(self, up: bool, speed_mbps: int, full_duplex: bool) -> None:
        """No effect: a link without a far end drops and counts its frames."""


class Patch:
    """Joins two links, for instance a port of a `Switch` and a `Tap`, until `close()`.

    A full link holds the other one back, as far as that can buffer; frames that do not
    fit are lost. Call with the clock's lock held.
    """

    def __init__(self, one: Link, other: Link) -> None:
        takes = "a link, such as an end of pair()"
        check_methods("Patch", "one", one, ("attach", "transmit"), takes)
        check_methods("Patch", "other", other, ("attach", "transmit"), takes)
        a, b = Plug(one), Plug(other)
        a.far, b.far = b, a
        self.links = (one, other)
        one.attach(a)
        try:
            other.attach(b)
        except BaseException:
            one.detach()
            raise

    def __repr__(self) -> str:
        return f"Patch({self.links[0]!r}, {self.links[1]!r})"

    def close(self) -> None:
        """Unplug both ends and close the links if they can be closed; may be repeated."""
        for link in self.links:
            link.detach()
            close_link(link)
