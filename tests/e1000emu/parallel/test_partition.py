"""Who shares a clock, and which process runs it."""

from __future__ import annotations

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from e1000emu.errors import ArgumentError
from e1000emu.parallel import partition
from e1000emu.parallel.partition import assign
from e1000emu.topology import Topology
from tests.e1000emu.parallel.networks import LINES
from tests.support import examples


def test_links_with_delay_divide_a_topology() -> None:
    found = partition(Topology.from_text(LINES).flat(), 3)
    assert len(found.domains) == 7
    together = Topology.from_text(LINES.replace('delay = "20us"', "")).flat()
    assert ("server", "far") in partition(together, 3).domains


def test_the_longest_delay_is_cut() -> None:
    text = LINES.replace("[nodes.server]", "[nodes.server]\ncount = 4")
    text = text.replace('"server", "far"', '"server*", "far"')
    found = partition(Topology.from_text(text).flat(), 2)
    assert [str(link) for link in found.cut()] == ["near:eth0-far:eth0"]
    assert found.distances()[0][1] == 5_000_000
    assert {found.inner_delay_ns(rank) for rank in range(2)} == {1_000_000, 20_000}


def test_domains_do_not_depend_on_the_number_of_processes() -> None:
    flat = Topology.from_text(LINES).flat()
    assert len({partition(flat, ranks).domains for ranks in range(1, 8)}) == 1


def test_more_processes_than_parts() -> None:
    with pytest.raises(ArgumentError, match="processes=8, but this topology has 7 parts: give no"):
        partition(Topology.from_text(LINES).flat(), 8)


@settings(max_examples=examples(200), deadline=None)
@given(st.data())
def test_every_rank_has_something_and_none_has_too_much(data: st.DataObject) -> None:
    sizes = data.draw(st.lists(st.integers(1, 9), min_size=1, max_size=30))
    number = st.integers(0, len(sizes) - 1)
    edges = data.draw(st.lists(st.tuples(st.integers(1, 4), number, number), max_size=60))
    ranks = data.draw(st.integers(1, len(sizes)))
    found = assign(sizes, edges, ranks)
    loads = [0] * ranks
    for domain, rank in enumerate(found):
        loads[rank] += sizes[domain]
    assert all(loads)
    assert max(loads) <= sum(sizes) / ranks + 2 * max(sizes) or ranks == 1


def test_ten_thousand_domains_are_soon_divided() -> None:
    """Each step looks at a domain's own links only; a second is a hundred times what it takes."""
    sizes = [1] * 10_000 + [100] * 100
    edges = [(1 + i % 7, i, 10_000 + i // 100) for i in range(10_000)]
    edges += [(50, 10_000 + i, 10_000 + (i + 1) % 100) for i in range(100)]
    begun = time.process_time()
    found = assign(sizes, edges, 4)
    assert time.process_time() - begun < 60
    loads = [
        sum(size for size, rank in zip(sizes, found, strict=True) if rank == r) for r in range(4)
    ]
    assert max(loads) < 1.25 * sum(sizes) / 4
    # A switch and its hosts are in one rank.
    assert sum(found[i] != found[10_000 + i // 100] for i in range(10_000)) == 0
