"""Stub of the compiled module; the docstrings are in calltrace.pyx."""

from collections.abc import Callable
from types import CodeType
from typing import Any

class Classes:
    def __init__(self, wanted: Callable[[CodeType], bool]) -> None: ...

class Recorder:
    def __init__(
        self,
        classes: Classes,
        root: Callable[[CodeType, dict[str, Any]], bool] | None = None,
        roots_only: bool = False,
    ) -> None: ...
    def __enter__(self) -> Recorder: ...
    def __exit__(self, *exc: object) -> None: ...
    def calls(self) -> list[tuple[CodeType, int, int, int, int]]: ...

def available() -> bool: ...
