"""Guards of shared memory: a shortened file reads as zeros; every other SIGBUS is what it was."""

from __future__ import annotations

import mmap
import os
import signal
import sys
import threading
from collections.abc import Iterator

import pytest

from fastpath.nic.busguard import SLOTS, BusGuard
from tests.support import run_to_end

PAGE = mmap.PAGESIZE
PAGES = 64


@pytest.fixture
def shared() -> Iterator[tuple[int, mmap.mmap]]:
    """A memfd of `PAGES` pages, each begun with its number, and a mapping of it."""
    fd = os.memfd_create("shared")
    os.ftruncate(fd, PAGES * PAGE)
    for n in range(PAGES):
        os.pwrite(fd, bytes([n + 1]) * 8, n * PAGE)
    area = mmap.mmap(fd, PAGES * PAGE)
    yield fd, area
    area.close()
    os.close(fd)


def test_what_is_gone_reads_as_zeros_and_is_counted(shared: tuple[int, mmap.mmap]) -> None:
    fd, area = shared
    guard = BusGuard(area)
    os.ftruncate(fd, 10 * PAGE)
    assert area[9 * PAGE] == 10
    assert guard.faults == 0
    assert area[10 * PAGE : 10 * PAGE + 8] == bytes(8)
    assert area[PAGES * PAGE - 1] == 0
    assert guard.faults == 2
    area[20 * PAGE + 5] = 7  # writes go to memory that is nobody else's
    assert area[20 * PAGE + 5] == 7
    assert guard.faults == 3
    os.ftruncate(fd, PAGES * PAGE)
    assert os.pread(fd, 8, 20 * PAGE) == bytes(8)
    guard.close()
    guard.close()
    assert guard.faults == 3


def test_larger_pages_are_replaced_whole_and_never_beyond_the_end(
    shared: tuple[int, mmap.mmap],
) -> None:
    fd, area = shared
    guard = BusGuard(memoryview(area)[: 24 * PAGE], 16 * PAGE)
    os.ftruncate(fd, PAGE)
    assert area[3 * PAGE] == 0
    assert area[0] == 0  # replaced together with the page that was missing
    assert guard.faults == 1
    assert area[23 * PAGE] == 0
    assert guard.faults == 2
    guard.close()


def test_other_threads_are_covered_too(shared: tuple[int, mmap.mmap]) -> None:
    fd, area = shared
    guard = BusGuard(area)
    os.ftruncate(fd, 0)
    seen: list[int] = []

    def look(first: int) -> None:
        seen.extend(area[n * PAGE] for n in range(first, PAGES, 4))

    threads = [threading.Thread(target=look, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert seen == [0] * PAGES
    assert guard.faults == PAGES
    guard.close()


def test_a_slot_is_used_again_and_counts_anew(shared: tuple[int, mmap.mmap]) -> None:
    fd, area = shared
    os.ftruncate(fd, 0)
    for _ in range(SLOTS + 10):
        guard = BusGuard(area)
        guard.close()
    guard = BusGuard(area)
    assert guard.faults == 0
    assert area[0] == 0
    assert guard.faults == 1
    guard.close()


def test_slots_run_out_with_an_error() -> None:
    area = bytearray(PAGE)
    held = [BusGuard(area) for _ in range(SLOTS - 100)]
    with pytest.raises(OSError, match="No space left"):
        held += [BusGuard(area) for _ in range(101)]
    for guard in held:
        guard.close()
    BusGuard(area).close()


def test_arguments_that_cannot_be_are_refused() -> None:
    for page in (0, 3, 4097):
        with pytest.raises(ValueError, match="power of two"):
            BusGuard(bytearray(PAGE), page)
    with pytest.raises(ValueError, match="empty"):
        BusGuard(b"")
    guard = BusGuard(bytearray(PAGE))
    assert guard.faults == 0
    guard.close()


PROLOGUE = """
import faulthandler, mmap, os, signal, sys
from fastpath.nic.busguard import BusGuard
fd = os.memfd_create("x")
os.ftruncate(fd, 8192)
area, other = mmap.mmap(fd, 8192), mmap.mmap(fd, 8192)
"""


@pytest.mark.parametrize(
    ("program", "words"),
    [
        ("guard = BusGuard(area); os.ftruncate(fd, 0); other[0]", ""),
        ("guard = BusGuard(area); guard.close(); os.ftruncate(fd, 0); area[0]", ""),
        ("guard = BusGuard(area); os.kill(os.getpid(), signal.SIGBUS)", ""),
        (
            "faulthandler.enable(); guard = BusGuard(area); os.ftruncate(fd, 0); other[0]",
            "Fatal Python error: Bus error",
        ),
        (
            "guard = BusGuard(area); faulthandler.enable(); g = BusGuard(area[:]);"
            "os.ftruncate(fd, 0); other[0]",
            "Fatal Python error: Bus error",
        ),
    ],
)
def test_any_other_bus_error_still_ends_the_process(program: str, words: str) -> None:
    done = run_to_end(
        [sys.executable, "-c", PROLOGUE + program],
        env={"ASAN_OPTIONS": "detect_leaks=0:handle_sigbus=0"},
    )
    assert done.returncode == -signal.SIGBUS, done.stderr
    assert words in done.stderr


def test_a_handler_that_was_put_over_ours_is_put_back_under_it() -> None:
    program = """
guard = BusGuard(area)
faulthandler.enable()
second = BusGuard(other)
os.ftruncate(fd, 0)
print(area[0], other[0], guard.faults, second.faults)
"""
    done = run_to_end([sys.executable, "-c", PROLOGUE + program])
    assert done.stdout == "0 0 1 1\n", done.stderr
