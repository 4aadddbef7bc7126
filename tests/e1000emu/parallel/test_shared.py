"""Pipes and blocks between processes."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from e1000emu.errors import ArgumentError
from e1000emu.parallel.shared import FIRST_BYTES, MOST_RANKS, PIPE_BUF, Endpoint, SharedBlocks
from e1000emu.parallel.window import Report


@pytest.fixture
def shared() -> Iterator[SharedBlocks]:
    made = SharedBlocks(3)
    yield made
    made.close()


def report(window: int, rank: int) -> Report:
    return Report(window, rank, rank == 2, (window, 1 << 62, rank))


def test_each_rank_gets_every_report_and_its_own_parcel(shared: SharedBlocks) -> None:
    ends = [Endpoint(shared, rank) for rank in range(3)]
    ends[0].send(report(0, 0), {1: b"for 1", 2: b"for two"})
    ends[2].send(report(0, 2), {1: b"another"})
    assert ends[1].receive() == [(report(0, 0), b"for 1"), (report(0, 2), b"another")]
    assert ends[2].receive() == [(report(0, 0), b"for two")]
    assert ends[0].receive() == [(report(0, 2), b"")]


def test_a_window_with_more_than_a_block_has_room_for(shared: SharedBlocks) -> None:
    a, b = (Endpoint(shared, rank) for rank in range(2))
    for window, size in enumerate((10, FIRST_BYTES + 1, 100, 5 * FIRST_BYTES, 7, 20_000_001)):
        parcel = bytes([window]) * size
        a.send(report(window, 0), {2: b"not yours", 1: parcel})
        assert b.receive() == [(report(window, 0), parcel)]


def test_parcels_of_a_window_stay_while_the_next_is_written(shared: SharedBlocks) -> None:
    a, b = (Endpoint(shared, rank) for rank in range(2))
    a.send(report(0, 0), {1: b"first"})
    a.send(report(1, 0), {1: b"later"})
    assert [parcel for _, parcel in b.receive()] == [b"first", b"later"]


def test_the_most_ranks_have_reports_of_one_piece() -> None:
    made = SharedBlocks(MOST_RANKS)
    assert made.record_bytes <= PIPE_BUF
    made.close()
    with pytest.raises(ArgumentError, match=f"processes={MOST_RANKS + 1}; give up to {MOST_RANKS}"):
        SharedBlocks(MOST_RANKS + 1)
