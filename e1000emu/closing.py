"""What is closed at the end of a `with`."""

from __future__ import annotations

from typing import Self


class Closing:
    """To derive from: `with` it, or `close` it in the end."""

    __slots__ = ()

    def close(self) -> object:
        """End it; the derived class says what that does."""
        raise NotImplementedError

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()
