"""Store the pieces of an engine run in turn: the plain-Python twin of ``fastpath.secondcore``."""

from __future__ import annotations

from typing import Any


class SecondCore:
    """Pieces of one run, in order; after a piece that is not taken whole, later ones are not
    tried."""

    def __init__(self) -> None:
        self._engine: Any = None
        self._pieces: list[Any] = []
        self._stored: list[int] = []

    def begin(self, engine: Any) -> None:
        """Serve `engine` until `settle`."""
        self._engine = engine
        self._pieces.clear()
        self._stored.clear()

    def post(self, piece: Any) -> None:
        """Store the piece after the earlier ones."""
        self._pieces.append(piece)

    def settle(self) -> None:
        """Store what is not yet stored."""
        partial = False
        for piece in self._pieces:
            done = 0 if partial else self._engine.receive(piece, 0, True)
            partial = partial or done < len(piece)
            self._stored.append(done)
        self._engine = None

    def done(self, piece: int) -> int:
        """How many frames of a piece were stored."""
        return self._stored[piece]
