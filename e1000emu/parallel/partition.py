"""Which nodes share a clock, and which process runs them."""

from __future__ import annotations

import heapq
from collections import Counter, defaultdict, deque
from dataclasses import dataclass
from typing import TYPE_CHECKING

from e1000emu.errors import ArgumentError
from e1000emu.parallel.window import NEVER_NS, distances
from e1000emu.quantities import show_duration

if TYPE_CHECKING:
    from e1000emu.topology import Flat, FlatLink

LEAST_LOOKAHEAD_NS = 100_000
"""With less delay, a window has too few events for the cost of its exchange."""
UNEVEN = 1.25
"""Factor by which a process may exceed its share of interfaces, for longer delays."""

MOST_TRIES = 32
"""Number of delays tried as the minimum of cut links."""


@dataclass(frozen=True)
class Partition:
    """Nodes in clock domains, clock domains in ranks."""

    domains: tuple[tuple[str, ...], ...]
    """Nodes of each domain; the same for any number of ranks."""
    rank_of: tuple[int, ...]
    """The rank of each domain."""
    links: tuple[FlatLink, ...]
    """The links between two domains."""
    domain_of: dict[str, int]
    ranks: int

    def homes(self) -> dict[tuple[int, int], tuple[int, int]]:
        """Return rank and domain of each end, (link, side), of `links`."""
        found = {}
        for link in self.links:
            for side, (node, _) in enumerate(link.ends):
                domain = self.domain_of[node]
                found[link.number, side] = self.rank_of[domain], domain
        return found

    def ranks_of(self, link: FlatLink) -> tuple[int, int]:
        """Return the ranks at both ends of a link."""
        a, b = (self.rank_of[self.domain_of[node]] for node, _ in link.ends)
        return a, b

    def cut(self) -> list[FlatLink]:
        """Return the links between two ranks."""
        return [link for link in self.links if len(set(self.ranks_of(link))) == 2]

    def lookahead(self) -> FlatLink | None:
        """Return the cut link of the least delay."""
        return min(self.cut(), key=lambda link: link.delay_ns, default=None)

    def distances(self) -> list[list[int]]:
        """Return the distances for `Windows`."""
        return distances(self.ranks, ((*self.ranks_of(link), link.delay_ns) for link in self.cut()))

    def inner_delay_ns(self, rank: int) -> int:
        """Return the least delay of links between two domains of `rank`; NEVER_NS: none."""
        delays = [link.delay_ns for link in self.links if self.ranks_of(link) == (rank, rank)]
        return min(delays, default=NEVER_NS)

    def nodes(self, rank: int) -> list[str]:
        """Return the nodes of a rank."""
        found: list[str] = []
        for nodes, of in zip(self.domains, self.rank_of, strict=True):
            if of == rank:
                found += nodes
        return found

    def advice(self) -> str:
        """Return why more than one process brings little; "" otherwise."""
        link = self.lookahead()
        if link is None or link.delay_ns >= LEAST_LOOKAHEAD_NS:
            return ""
        return (
            f"link {link.number}, {link}, has a delay of {show_duration(link.delay_ns)}: with "
            f"less than {show_duration(LEAST_LOOKAHEAD_NS)} on each link between processes, "
            f"{self.ranks} of them are hardly faster than one"
        )


class _Sets:
    """Disjoint sets of numbers."""

    def __init__(self, count: int) -> None:
        self.above = list(range(count))

    def root(self, number: int) -> int:
        while self.above[number] != number:
            self.above[number] = self.above[self.above[number]]
            number = self.above[number]
        return number

    def join(self, a: int, b: int) -> None:
        one, other = sorted((self.root(a), self.root(b)))
        self.above[other] = one

    def groups(self) -> list[list[int]]:
        found: dict[int, list[int]] = defaultdict(list)
        for number in range(len(self.above)):
            found[self.root(number)].append(number)
        return list(found.values())


def partition(flat: Flat, ranks: int) -> Partition:
    """Divide a topology among `ranks` processes of about equal size, along the longest delays.

    Raises:
        ArgumentError: links without delay leave fewer parts than ranks.
    """
    names = list(flat.nodes)
    number_of = {name: number for number, name in enumerate(names)}
    sets = _Sets(len(names))
    joining: FlatLink | None = None
    for link in flat.links:
        if not link.delay_ns:
            sets.join(*(number_of[node] for node, _ in link.ends))
            joining = joining or link
    groups = sets.groups()
    if len(groups) < ranks:
        why = "give no more"
        if joining is not None:
            why = (
                f"link {joining.number}, {joining}, for one, has no delay, and both its ends stay "
                "in one process; give such links a delay, or fewer processes"
            )
        parts = "part" if len(groups) == 1 else "parts"
        raise ArgumentError(
            f"simulate: processes={ranks}, but this topology has {len(groups)} {parts}: {why}"
        )
    in_group = {node: domain for domain, group in enumerate(groups) for node in group}
    domain_of = {name: in_group[number] for name, number in number_of.items()}
    links = tuple(
        link for link in flat.links if len({domain_of[node] for node, _ in link.ends}) == 2
    )
    sizes = [sum(max(1, len(flat.nodes[names[n]].interfaces)) for n in group) for group in groups]
    edges = [
        (link.delay_ns, domain_of[link.ends[0][0]], domain_of[link.ends[1][0]]) for link in links
    ]
    return Partition(
        domains=tuple(tuple(names[node] for node in group) for group in groups),
        rank_of=tuple(assign(sizes, edges, ranks)),
        links=links,
        domain_of=domain_of,
        ranks=ranks,
    )


def assign(sizes: list[int], edges: list[tuple[int, int, int]], ranks: int) -> list[int]:
    """Return the rank of each domain. `edges`: delay and the two domains of each link.

    Links shorter than some delay stay inside a rank; the delay is the longest for which ranks can
    be about even.
    """
    if ranks == 1:
        return [0] * len(sizes)
    best: list[int] | None = None
    best_load = 0
    fair = max(-(-sum(sizes) // ranks), max(sizes))
    delays = sorted({edge[0] for edge in edges} | {0}, reverse=True)
    step = -(-len(delays) // MOST_TRIES)
    for delay in [*delays[:-1:step], 0]:
        sets = _Sets(len(sizes))
        for other, a, b in edges:
            if other < delay:
                sets.join(a, b)
        groups = sets.groups()
        if len(groups) < ranks:
            continue
        found = _grow(groups, sizes, edges, ranks)
        loads = [0] * ranks
        for domain, rank in enumerate(found):
            loads[rank] += sizes[domain]
        if best is None or max(loads) < best_load:
            best, best_load = found, max(loads)
        if best_load <= UNEVEN * fair:
            break
    assert best is not None
    return best


def _grow(
    groups: list[list[int]], sizes: list[int], edges: list[tuple[int, int, int]], ranks: int
) -> list[int]:
    """Fill the ranks in turn, each time with the group that has most links to it."""
    group_of = {domain: number for number, group in enumerate(groups) for domain in group}
    weight = [sum(sizes[domain] for domain in group) for group in groups]
    near: list[Counter[int]] = [Counter() for _ in groups]
    for _, a, b in edges:
        one, other = group_of[a], group_of[b]
        if one != other:
            near[one][other] += 1
            near[other][one] += 1
    heaviest = deque(sorted(range(len(groups)), key=lambda group: (-weight[group], group)))
    rank_of: dict[int, int] = {}
    total = sum(weight)
    for rank in range(ranks):
        share, load = total / (ranks - rank), 0
        links: Counter[int] = Counter()  # from a remaining group to this rank
        heap: list[tuple[int, int, int]] = []
        while len(groups) - len(rank_of) > (ranks - rank - 1 if load else 0):
            while heap and (heap[0][2] in rank_of or -heap[0][0] != links[heap[0][2]]):
                heapq.heappop(heap)
            while heaviest and heaviest[0] in rank_of:
                heaviest.popleft()
            chosen = heap[0][2] if heap else heaviest[0]
            if rank < ranks - 1 and load and load + weight[chosen] / 2 > share:
                break
            rank_of[chosen] = rank
            load += weight[chosen]
            for other, count in near[chosen].items():
                if other not in rank_of:
                    links[other] += count
                    heapq.heappush(heap, (-links[other], -weight[other], other))
        total -= load
    return [rank_of[group_of[domain]] for domain in range(len(sizes))]
