"""Payload in a caller's memory on plain lists: the twin of ``fastpath.net.zerocopy``."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(eq=False)
class Ubuf:
    """The counts of ubuf_info: pages held by packets, and whether a byte was copied."""

    zerocopy: bool = True
    pages: list[Page] = field(default_factory=list)


@dataclass(eq=False)
class Page:
    """The bytes of one buffer sent by one call."""

    owner: Ubuf
    data: bytearray
    holders: int = 1  # the call itself


Frag = tuple[Page | None, bytes | bytearray, int, int]
"""A page or None, bytes, offset, length."""


class Packet:
    """The fragments of an sk_buff, in order."""

    def __init__(self) -> None:
        self.frags: list[Frag] = []

    def add(self, page: Page, off: int, n: int) -> None:
        """Append bytes of a page without copying."""
        page.holders += 1
        self.frags.append((page, page.data, off, n))

    def copy(self, data: bytes) -> None:
        """Append copied bytes."""
        self.frags.append((None, data, 0, len(data)))

    def clone(self) -> Packet:
        """Another packet with the same fragments."""
        other = Packet()
        for page, data, off, n in self.frags:
            other.frags.append((page, data, off, n))
            if page is not None:
                page.holders += 1
        return other

    def payload(self) -> bytes:
        """All current bytes."""
        return b"".join(bytes(data[off : off + n]) for _, data, off, n in self.frags)

    def trim(self, keep: int) -> None:
        """Keep the first bytes."""
        self._cut(0, keep)

    def pull(self, n: int) -> None:
        """Drop the first bytes."""
        self._cut(n, 1 << 62)

    def _cut(self, first: int, last: int) -> None:
        frags, self.frags = self.frags, []
        at = 0
        for page, data, off, n in frags:
            low, high = max(first - at, 0), min(last - at, n)
            at += n
            if low < high:
                self.frags.append((page, data, off + low, high - low))
            elif page is not None:
                page.holders -= 1

    def ubuf(self) -> Ubuf | None:
        """The result of skb_zcopy."""
        return next((page.owner for page, *_ in self.frags if page is not None), None)

    def orphan(self) -> None:
        """The effect of skb_orphan_frags with enough memory."""
        frags, self.frags = self.frags, []
        for page, data, off, n in frags:
            if page is not None:
                page.owner.zerocopy = False
                page.holders -= 1
            self.frags.append((None, bytes(data[off : off + n]), 0, n))

    def free(self) -> None:
        """Release everything."""
        self._cut(0, 0)
