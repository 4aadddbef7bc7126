"""The sampler: its tree equals the reference, and a sample names what really runs."""

from __future__ import annotations

import signal
import sys
import threading
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastpath._ref import sampler as ref
from fastpath.base import sampler

pytestmark = pytest.mark.skipif(
    not sampler.available(), reason="needs Linux and CPython 3.11 to 3.13"
)

PATHS = st.lists(
    st.tuples(
        st.lists(st.tuples(st.integers(1, 2), st.integers(0, 5)), max_size=5),
        st.integers(0, 1 << 40),
    ),
    max_size=40,
)


@given(PATHS, st.sampled_from([2, 4, 64]))
def test_tree_equals_reference(paths: list, capacity: int) -> None:
    tree, twin = sampler.Tree(capacity), ref.Tree(capacity)
    for path, ns in paths:
        tree.add(path, ns)
        twin.add(path, ns)
    assert tree.rows() == twin.rows()


@pytest.mark.parametrize("module", [sampler, ref])
@pytest.mark.parametrize("capacity", [0, 1, 3, 1000])
def test_a_capacity_that_is_no_power_of_two_is_refused(module, capacity) -> None:
    with pytest.raises(ValueError, match=f"capacity {capacity}"):
        module.Tree(capacity)


@pytest.fixture
def profile():
    """A running profile whose timer does not fire during a test; it ends with the test."""
    sampler.start(10_000_000_000)
    yield
    if sampler.running():
        sampler.stop()


def paths(found) -> list[tuple[list[str], int]]:
    """The Python functions of each path with samples, outermost first, and the samples."""
    nodes, codes, _ = found
    out = []
    for node in nodes:
        if node[4]:
            names, at = [], node
            while at is not nodes[0]:
                if at[1] == sampler.PYTHON:
                    names.append(codes[at[2]][0])
                at = nodes[at[0]]
            out.append((names[::-1], node[4]))
    return out


def here(depth: int) -> list[str]:
    """The qualified names of the callers of this function, outermost first."""
    frame, names = sys._getframe(1), []
    while frame is not None:
        names.append(frame.f_code.co_qualname)
        frame = frame.f_back
    return names[:depth][::-1]


@pytest.mark.usefixtures("profile")
def test_a_sample_is_the_call_stack_at_that_moment() -> None:
    seen = []

    def inner() -> None:
        seen.append(here(200))
        sampler.tick()

    def generator():
        inner()
        yield 1

    inner()
    list(generator())
    sorted([3, 1], key=lambda x: inner() or x)
    found = paths(sampler.stop())
    assert [names for names, _ in found] == [seen[0], seen[1], seen[2]]
    assert [samples for _, samples in found] == [1, 1, 2]
    assert seen[2][-2:] == [
        f"{test_a_sample_is_the_call_stack_at_that_moment.__name__}.<locals>.<lambda>",
        f"{test_a_sample_is_the_call_stack_at_that_moment.__name__}.<locals>.inner",
    ]


@pytest.mark.usefixtures("profile")
def test_codes_carry_file_and_first_line() -> None:
    sampler.tick()
    _, codes, _ = sampler.stop()
    own = test_codes_carry_file_and_first_line.__code__
    # the decorator's line is the first one of the code too
    assert (own.co_qualname, __file__[-255:], own.co_firstlineno) in codes


@pytest.mark.usefixtures("profile")
def test_of_a_deep_stack_the_innermost_functions_are_kept() -> None:
    def down(n: int) -> None:
        if n:
            down(n - 1)
        else:
            sampler.tick()

    down(400)
    ((names, _),) = paths(sampler.stop())
    assert len(names) == 200
    assert {name.rpartition(".")[2] for name in names} == {"down"}


@pytest.mark.usefixtures("profile")
def test_what_is_paused_is_not_sampled() -> None:
    sampler.tick()
    sampler.pause()
    sampler.tick()
    sampler.resume()
    sampler.tick()
    assert sampler.stop()[2]["samples"] == 2


@pytest.mark.usefixtures("profile")
def test_a_thread_is_sampled_from_arm_to_its_end() -> None:
    def work() -> None:
        sampler.tick()
        sampler.arm()
        sampler.arm()
        sampler.tick()

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    found = sampler.stop()
    assert found[2]["samples"] == 1
    assert paths(found)[0][0][-1].endswith("work")


@pytest.mark.usefixtures("profile")
def test_functions_that_come_and_go_do_not_disturb() -> None:
    for n in range(300):
        scope: dict = {"tick": sampler.tick}
        exec(f"def short_lived_{n}():\n    tick()\n", scope)
        scope[f"short_lived_{n}"]()
        del scope
    names = [names[-1] for names, _ in paths(sampler.stop())]
    assert names == [f"short_lived_{n}" for n in range(300)]


def test_names_beyond_ascii_and_long_ones() -> None:
    scope: dict = {"tick": sampler.tick}
    exec(f"def größe():\n    tick()\ndef {'x' * 300}():\n    tick()\n", scope)
    sampler.start(10_000_000_000)
    scope["größe"]()
    scope["x" * 300]()
    names = [names[-1] for names, _ in paths(sampler.stop())]
    assert names == ["?", "x" * 95]


def test_the_times_add_up_to_the_cpu_time() -> None:
    """Frames are pushed and popped, also over the ends of the interpreter's chunks of stack, while
    the timer fires as often as it may."""

    def fib(n: int) -> int:
        return n if n < 2 else fib(n - 1) + fib(n - 2)

    def deep(n: int) -> int:
        return deep(n - 1) + 1 if n else 0

    start = time.thread_time_ns()
    sampler.start(50_000)
    for _ in range(40):
        fib(14)
        deep(500)
    nodes, _, totals = sampler.stop()
    used = time.thread_time_ns() - start
    assert totals["samples"] > 0
    assert sum(node[3] for node in nodes) == totals["sampled_ns"]
    assert sum(node[4] for node in nodes) == totals["samples"]
    assert totals["sampled_ns"] + totals["overhead_ns"] <= used
    assert totals["interrupt_ns"] > 0


def test_threads_that_end_while_the_timer_fires() -> None:
    def work() -> None:
        sampler.arm()
        sum(range(2000))

    sampler.start(50_000)
    for _ in range(50):
        threads = [threading.Thread(target=work) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    nodes, _, totals = sampler.stop()
    assert sum(node[3] for node in nodes) == totals["sampled_ns"]


def test_the_callers_own_use_of_the_signal_comes_back() -> None:
    got = []
    before = signal.signal(signal.SIGPROF, lambda *_: got.append(1))
    try:
        sampler.start(10_000_000_000)
        sampler.tick()
        assert got == []
        sampler.stop()
        signal.raise_signal(signal.SIGPROF)
        assert got == [1]
    finally:
        signal.signal(signal.SIGPROF, before)


def test_one_profile_at_a_time() -> None:
    with pytest.raises(RuntimeError, match="no profile is running"):
        sampler.stop()
    sampler.start()
    try:
        with pytest.raises(RuntimeError, match="running already"):
            sampler.start()
    finally:
        sampler.stop()
    with pytest.raises(ValueError, match="interval of 49999 ns"):
        sampler.start(49_999)
    sampler.arm()  # without a profile: nothing
    sampler.tick()
