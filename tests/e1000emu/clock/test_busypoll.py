"""AsyncioClock's busy_poll_ns: the loop stays awake in a conversation, and only then."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from typing import Any

import pytest

from e1000emu.clock import AsyncioClock


class Loop:
    """The calls that AsyncioClock makes of a loop, and its time."""

    def __init__(self) -> None:
        self.now = 0.0
        self.readers: dict[int, Callable[[], Any]] = {}
        self.ready: list[Callable[[], Any]] = []

    def time(self) -> float:
        return self.now

    def add_reader(self, fd: int, fn: Callable[..., Any], *args: Any) -> None:
        self.readers[fd] = lambda: fn(*args)

    def call_soon(self, fn: Callable[[], Any]) -> None:
        self.ready.append(fn)

    def turn(self, us: float) -> bool:
        """One turn that takes `us`; whether the next one would not sleep."""
        ready, self.ready = self.ready, []
        for fn in ready:
            fn()
        self.now += us / 1e6
        return bool(self.ready)


@pytest.fixture
def loop() -> Loop:
    return Loop()


def make(loop: Loop, busy_poll_ns: int) -> tuple[AsyncioClock, list[int]]:
    clock = AsyncioClock(loop, busy_poll_ns=busy_poll_ns)  # type: ignore[arg-type]
    came: list[int] = []
    clock.add_reader(3, lambda: came.append(clock.now_ns()))
    return clock, came


def test_a_loop_looks_again_after_what_came_soon_and_sleeps_after_the_time(loop: Loop) -> None:
    _, came = make(loop, 50_000)
    loop.now = 1.0
    loop.readers[3]()
    assert not loop.turn(10), "the first after a pause: who knows whether another follows"
    loop.readers[3]()
    assert len(came) == 2
    turns = 1
    while loop.turn(10):
        turns += 1
    assert turns in (5, 6), "50 us of turns of 10 us"
    loop.now += 1
    loop.readers[3]()
    assert not loop.turn(10)


def test_each_arrival_prolongs_one_spin(loop: Loop) -> None:
    make(loop, 50_000)
    for _ in range(20):
        loop.readers[3]()
        loop.turn(20)
        assert len(loop.ready) <= 1


@pytest.mark.parametrize("closed", [False, True])
def test_without_it_and_after_close_the_loop_sleeps(loop: Loop, closed: bool) -> None:
    clock, _ = make(loop, 50_000 if closed else 0)
    loop.readers[3]()
    loop.readers[3]()
    if closed:
        clock.close()
        assert loop.turn(1) is False
    assert loop.turn(1) is False


def test_a_real_loop_runs_its_other_callbacks_meanwhile() -> None:
    async def main() -> int:
        clock = AsyncioClock(asyncio.get_running_loop(), busy_poll_ns=10**9)
        r, w = os.pipe()
        done = asyncio.get_running_loop().create_future()
        count = 0

        def readable() -> None:
            nonlocal count
            os.read(r, 1)
            count += 1
            if count < 5:
                os.write(w, b"x")
            else:
                done.set_result(None)

        clock.add_reader(r, readable)
        os.write(w, b"x")
        await done
        other = asyncio.create_task(asyncio.sleep(0))
        await other
        clock.remove_reader(r)
        clock.close()
        os.close(r)
        os.close(w)
        return count

    assert asyncio.run(main()) == 5


def test_a_time_below_nothing_is_refused(loop: Loop) -> None:
    with pytest.raises(Exception, match="busy_poll_ns"):
        make(loop, -1)
