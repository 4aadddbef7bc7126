"""The call recorder sees the calls that the interpreter's profile hook sees."""

from __future__ import annotations

import gc
import sys
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastpath._ref import calltrace as ref
from fastpath.base import calltrace

pytestmark = pytest.mark.skipif(not calltrace.available(), reason="needs CPython 3.11 to 3.13")


# A program is a tree: each node is a function by number, that calls its children and may raise.
def node(number: int, children: list, raises: bool) -> None:
    try:
        for child in children:
            FUNCTIONS[child[0]](*child)
    except KeyError:
        if number % 2:
            raise
    if raises:
        raise KeyError(number)


def kernel_send(number: int, children: list, raises: bool) -> None:
    node(number, children, raises)


def kernel_recv(number: int, children: list, raises: bool) -> None:
    node(number, children, raises)


def generating(number: int, children: list, raises: bool) -> None:
    def values():
        for child in children:
            yield FUNCTIONS[child[0]](*child)

    list(values())


FUNCTIONS = [kernel_send, kernel_recv, node, generating]
PROGRAM = st.recursive(
    st.tuples(st.integers(0, 3), st.just([]), st.booleans()),
    lambda inner: st.tuples(st.integers(0, 3), st.lists(inner, max_size=4), st.booleans()),
    max_leaves=20,
)
NAMES = st.sets(st.sampled_from(["kernel_send", "kernel_recv", "node", "generating", "values"]))


def run(module, program, names, kept, roots_only):
    """The calls of one run without their times, and whether these make sense."""
    classes = module.Classes(lambda code: code.co_name in names)
    root = None if kept is None else lambda code, arguments: arguments.get("number") in kept
    recorder = module.Recorder(classes, root, roots_only)
    # Functions of hypothesis and of coverage tools, called by the collector and for each line.
    tracing = sys.gettrace()
    sys.settrace(None)
    gc.disable()
    try:
        with recorder:
            FUNCTIONS[program[0]](*program)
    except KeyError:
        pass
    finally:
        gc.enable()
        sys.settrace(tracing)
    calls = recorder.calls()
    assert all(start <= end for _, _, start, end, _ in calls)
    # the twin, which cannot step aside, does not count what a root skips
    return [(code.co_name, depth, 0 if roots_only else n) for code, depth, _, _, n in calls]


@given(PROGRAM, NAMES, st.none() | st.sets(st.integers(0, 3)), st.booleans())
def test_recorder_equals_reference(program, names, kept, roots_only) -> None:
    args = (program, names, kept, roots_only)
    assert run(calltrace, *args) == run(ref, *args)


def plain() -> int:
    return 1


EVERY = calltrace.Classes(lambda code: code is plain.__code__)


def test_off_nothing_is_recorded_and_the_next_recorder_starts_afresh() -> None:
    with calltrace.Recorder(EVERY) as first:
        plain()
    plain()
    with calltrace.Recorder(EVERY) as second:
        plain()
        plain()
    assert (len(first.calls()), len(second.calls())) == (1, 2)


def test_other_threads_are_not_recorded() -> None:
    with calltrace.Recorder(EVERY) as recorder:
        thread = threading.Thread(target=plain)
        thread.start()
        thread.join()
    assert recorder.calls() == []


def test_an_error_of_wanted_is_raised_at_the_end() -> None:
    def wanted(code):
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError), calltrace.Recorder(calltrace.Classes(wanted)):
        plain()
    with calltrace.Recorder(EVERY) as recorder:
        plain()
    assert len(recorder.calls()) == 1


def test_an_exception_passes_through_unchanged() -> None:
    def bad() -> None:
        raise KeyError("gone")

    every = calltrace.Classes(lambda code: True)
    for roots_only in (False, True):
        with pytest.raises(KeyError, match="gone"), calltrace.Recorder(every, None, roots_only):
            bad()


def test_one_recorder_at_a_time() -> None:
    with (
        calltrace.Recorder(EVERY),
        pytest.raises(RuntimeError, match="active already"),
        calltrace.Recorder(EVERY),
    ):
        pass


def test_more_calls_and_functions_than_fit_at_first() -> None:
    scope: dict = {}
    exec("\n".join(f"def f{n}():\n    return {n}" for n in range(3000)), scope)
    functions = [scope[f"f{n}"] for n in range(3000)]
    classes = calltrace.Classes(lambda code: code.co_name.startswith("f"))
    with calltrace.Recorder(classes) as recorder:
        for function in functions * 3:
            function()
    assert [call[0].co_name for call in recorder.calls()] == [f"f{n}" for n in range(3000)] * 3


def test_no_reference_is_kept_or_lost() -> None:
    scope: dict = {}
    exec("def short_lived():\n    pass\n", scope)
    code = scope["short_lived"].__code__
    before = sys.getrefcount(code)
    recorder = calltrace.Recorder(calltrace.Classes(lambda seen: seen is code))
    with recorder:
        for _ in range(10):
            scope["short_lived"]()
    del recorder
    gc.collect()
    assert sys.getrefcount(code) == before
