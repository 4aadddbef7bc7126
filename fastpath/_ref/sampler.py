"""The tree of sampled paths in plain Python: the twin of ``fastpath.base.sampler.Tree``."""

from __future__ import annotations


class Tree:
    """Paths of functions with the time at their ends."""

    def __init__(self, capacity: int = 1 << 12) -> None:
        if capacity < 2 or capacity & (capacity - 1):
            raise ValueError(f"Tree: capacity {capacity} is not a power of two above 1")
        self.capacity = capacity
        self.children: dict[tuple[int, int, int], int] = {}
        self.nodes = [[0, 0, 0, 0, 0]]

    def add(self, path: list[tuple[int, int]], ns: int) -> None:
        """Add `ns` to the end of `path`, a list of (kind, key) from the outermost on."""
        node = 0
        for kind, key in path:
            child = self.children.get((node, kind, key))
            if child is None:
                if len(self.nodes) == self.capacity:
                    break
                child = self.children[node, kind, key] = len(self.nodes)
                self.nodes.append([node, kind, key, 0, 0])
            node = child
        self.nodes[node][3] += ns
        self.nodes[node][4] += 1

    def rows(self) -> list[tuple[int, ...]]:
        """Return (parent, kind, key, self_ns, samples) for each node; the first is the root."""
        return [tuple(node) for node in self.nodes]
