"""Ranges that the peer has SACKed: an index of the scoreboard (RFC 6675 2).

The sk_buffs are marked. With this index, the new part of a SACK block is found without walking
them. Positions are bytes of the whole stream, which do not wrap.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right

from stack.core.rows import row, state


@state
class sack_ranges:
    """Disjoint ranges in rising order, kept as one list of edges: start, end, start, end, ..."""

    edges: list[int] = row(make=list)

    def __repr__(self) -> str:
        pairs = zip(self.edges[::2], self.edges[1::2], strict=True)
        return f"sack_ranges({', '.join(f'{a}-{b}' for a, b in pairs)})"

    def add(self, start: int, end: int) -> None:
        """Include start ... end - 1."""
        edges = self.edges
        if edges and start == edges[-1]:  # the usual case: the newest range grows
            edges[-1] = end
            return
        i, j = bisect_left(edges, start), bisect_right(edges, end)
        # An odd index lies in or at the end of a range: the union needs no edge there.
        edges[i:j] = [*(() if i & 1 else (start,)), *(() if j & 1 else (end,))]

    def gaps(self, start: int, end: int) -> list[tuple[int, int]]:
        """Return the parts of start ... end - 1 that are not included."""
        edges = self.edges
        if not edges or start >= edges[-1]:
            return [(start, end)] if start < end else []
        found = []
        i = bisect_right(edges, start)
        if i & 1:
            start = edges[i]
            i += 1
        while start < end:
            if i == len(edges) or edges[i] >= end:
                found.append((start, end))
                break
            found.append((start, edges[i]))
            start = edges[i + 1]
            i += 2
        return found

    def forget(self, below: int) -> None:
        """Remove the ranges that end at or before `below`, where SND.UNA is."""
        edges = self.edges
        if edges and edges[1] <= below:
            del edges[: bisect_right(edges, below) & ~1]

    def clear(self) -> None:
        """Remove all ranges: nothing is SACKed any more, or the peer reneged."""
        self.edges.clear()
