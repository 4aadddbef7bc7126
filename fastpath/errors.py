"""The base classes of exceptions for wrong use, shared by the device and the stack.

Neither package imports the other; `e1000emu.errors` lists them.
"""

from __future__ import annotations

import functools
import operator
from collections.abc import Iterable, Mapping
from typing import Any, TypeVar

T = TypeVar("T")


class E1000Error(Exception):
    """A request that cannot be fulfilled; the text has the request and a remedy."""


class ArgumentError(E1000Error, ValueError):
    """An invalid argument; the text names it, its value and the remedy."""


class ArgumentTypeError(ArgumentError, TypeError):
    """An argument of a wrong type, also a TypeError as in the standard library."""


class ArgumentRangeError(ArgumentError, OverflowError):
    """A number out of range, also an OverflowError as in the standard library."""


class LifecycleError(E1000Error):
    """The state of a device or its worker does not allow this call."""


class StaleBuild(E1000Error, ImportError):
    """The compiled modules were built from other sources; the text names them and the remedy."""


def check_type(
    where: str, name: str, value: Any, kinds: type | tuple[type, ...], takes: str
) -> None:
    """Raise ArgumentTypeError unless `value` is of `kinds`; `takes` describes the expected type."""
    if not isinstance(value, kinds):
        raise ArgumentTypeError(
            f"{where}: {name}={value!r} is of type {type(value).__name__}; give {takes}"
        )


def check_methods(where: str, name: str, value: Any, methods: Iterable[str], takes: str) -> None:
    """Raise ArgumentTypeError unless `value` has these methods: ports may be of any class.

    `takes` describes the expected type.
    """
    if not all(hasattr(value, method) for method in methods):
        raise ArgumentTypeError(
            f"{where}: {name}={value!r} is of type {type(value).__name__}; give {takes}"
        )


def check_clock(where: str, clock: Any) -> None:
    """Raise ArgumentTypeError unless `clock` has a clock's methods and returns a time."""
    takes = "a clock, such as e1000emu.VirtualClock()"
    check_methods(where, "clock", clock, ("now_ns", "call_at"), takes)


def check_callable(where: str, name: str, value: Any) -> None:
    """Raise ArgumentTypeError unless `value` can be called."""
    check_methods(where, name, value, ("__call__",), "a function")


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Return `; did you mean ping?` for a word similar to known ones, or ""."""
    import difflib

    known = list(known)
    if word.replace("_", "-") in known:  # from a command line
        return f"; did you mean {word.replace('_', '-')}?"
    near = difflib.get_close_matches(word, known, n=3)
    return f"; did you mean {' or '.join(near)}?" if near else ""


def whole_number(
    where: str,
    name: str,
    value: Any,
    low: int | None = None,
    high: int | None = None,
    *,
    unit: str = "",
    error: type[E1000Error] = ArgumentError,
) -> int:
    """Return `value` as an int (numpy's and other integers too) if it is `low` to `high`.

    Raises `error` naming `where`, the argument, the value and the range. A float is rejected
    even if integral: nanoseconds in a float have lost their last digits.
    """
    unit = f" {unit}" if unit else ""
    if low is not None and high is not None:
        range_ = f"{low} to {high}{unit}"
    elif low is not None:
        range_ = f"{low} or more{unit}"
    else:
        range_ = f"a whole number{unit and ' of' + unit}"
    try:
        number = operator.index(value)
    except TypeError:
        if isinstance(value, float) and value == value and abs(value) != float("inf"):
            remedy = f"give an int, {round(value)}"
        else:
            remedy = f"give {range_}"
        kind = type(value).__name__
        wrong = ArgumentTypeError if error is ArgumentError else error
        raise wrong(f"{where}: {name}={value!r} is a {kind}, not an int; {remedy}") from None
    if isinstance(value, bool):
        raise error(f"{where}: {name}={value!r} is a bool; give {range_}")
    if (low is not None and number < low) or (high is not None and number > high):
        raise error(f"{where}: {name}={number} is out of range; give {range_}")
    return number


def known_words(
    where: str,
    given: Mapping[str, object],
    known: Iterable[str],
    meant: Mapping[str, str] | None = None,
) -> None:
    """Reject a keyword that is not `known`, with a better message than an inner function's.

    `meant` maps words of other programs to ours. Raises ArgumentError.
    """
    for word, value in given.items():
        if word not in known:
            right = (meant or {}).get(word)
            all_of_them = ", ".join(sorted(known))
            near = did_you_mean(word, known)
            remedy = f"write {right}={value!r}" if right else f"there are: {all_of_them}{near}"
            raise ArgumentError(f"{where}: no argument {word}={value!r}; {remedy}")


COUNT_MAX, NS_MAX = 1 << 20, 1 << 40
"""Limits of a policy's numbers and times: products of two fit into 64
bits."""


def parameters(
    where: str, table: Mapping[str, tuple[int, str]], chosen: Mapping[str, Any]
) -> dict[str, int]:
    """Return a policy's parameters: the chosen value, else that in `table`.

    Raises ArgumentError for an unknown name or a value out of range.
    """
    known_words(where, chosen, table)
    return {
        name: whole_number(
            where, name, chosen.get(name, value), 0, NS_MAX if name.endswith("_ns") else COUNT_MAX
        )
        for name, (value, _) in table.items()
    }


def known_fields(cls: type[T]) -> type[T]:
    """Make a dataclass reject unknown keywords as `known_words` does."""
    where, init = cls.__name__, cls.__init__

    @functools.wraps(init)
    def checked(self: T, *args: Any, **given: Any) -> None:
        known_words(where, given, cls.__dataclass_fields__)  # type: ignore[attr-defined]
        init(self, *args, **given)

    cls.__init__ = checked  # type: ignore[method-assign, assignment]
    return cls


def real_number(
    where: str,
    name: str,
    value: Any,
    low: float,
    high: float,
    *,
    takes: str,
    error: type[E1000Error] = ArgumentError,
) -> float:
    """Return `value` as a float if it is a number of `low` to `high`; `takes` describes it.

    Raises `error` naming `where`, the argument, the value and the accepted range; NaN is rejected.
    """
    try:
        number = float(value) if not isinstance(value, str | bytes) else None
    except (TypeError, ValueError):
        number = None
    if number is None or not low <= number <= high:
        raise error(f"{where}: {name}={value!r}; give {takes}")
    return number
