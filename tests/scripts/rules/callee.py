"""What rules.py calls directly."""

from __future__ import annotations


def half(value: int) -> int:
    """Floor division; raises for odd negative numbers."""
    if value < 0 and value % 2:
        raise ValueError(f"odd: {value}")
    return value // 2


def minus_one(fail: bool) -> int:
    """Return -1, which `except? -1` has to tell from an exception."""
    if fail:
        raise KeyError("failed")
    return -1


def holds(value: int) -> bool:
    """A truth value, or an exception."""
    if value == 13:
        raise ArithmeticError("thirteen")
    return value > 0


def with_default(
    value: int, more: int = 3, flag: bool = False, what: object = None
) -> list[object]:
    """Default arguments of several kinds."""
    return [value, more, flag, what]


def twice() -> str:
    """Defined again below."""
    return "first"


def twice() -> str:  # type: ignore[no-redef]  # noqa: F811
    """The one that counts."""
    return "second"


def replaced() -> str:
    """Bound to something else below."""
    return "def"


replaced = lambda: "lambda"  # noqa: E731, F811
