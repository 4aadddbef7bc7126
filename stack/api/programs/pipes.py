"""Input and output of a program in virtual time: pipes without a waiting thread."""

from __future__ import annotations

import contextlib
import io
import os
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from stack.api.programs.program import Program

PIPE_BYTES = 1 << 16


class Pipes:
    """Input and output of a program in virtual time, copied when all its threads wait."""

    def __init__(self, program: Program, given: Any, most: int | None = None) -> None:
        """`most`: number of bytes kept of each pipe; None: all."""
        self._most = most
        stdin = program.stdin
        if isinstance(given, str):
            given = given.encode(getattr(stdin, "encoding", None) or "utf-8")
        self._given = memoryview(given or b"")
        self._stdin = stdin
        if stdin is not None:
            os.set_blocking(stdin.fileno(), False)
        self._taken: dict[Any, list[bytes]] = {
            file: [] for file in (program.stdout, program.stderr) if file is not None
        }
        self._open = list(self._taken)
        for file in self._open:
            os.set_blocking(file.fileno(), False)

    def move(self) -> bool:
        """Copy the available data; returns whether there was any."""
        moved = False
        if self._stdin is not None:
            try:
                if self._given:
                    self._given = self._given[os.write(self._stdin.fileno(), self._given) :]
                    moved = True
            except BlockingIOError:
                pass
            except BrokenPipeError:
                self._given = self._given[:0]
            if not self._given:
                self._stdin.close()
                self._stdin = None
                moved = True
        for file in list(self._open):
            with contextlib.suppress(BlockingIOError):
                data = os.read(file.fileno(), PIPE_BYTES)
                if data:
                    self._taken[file].append(data)
                    if self._most is not None:
                        self._taken[file] = [self.last(file)[-self._most :]]
                    moved = True
                else:
                    self._open.remove(file)
        return moved

    def done(self) -> bool:
        """Whether all output has been read."""
        return not self._open

    def close(self) -> None:
        """Close the files."""
        for file in (*self._taken, *(() if self._stdin is None else (self._stdin,))):
            file.close()

    def last(self, file: Any) -> bytes:
        """The kept output of a file."""
        return b"".join(self._taken.get(file, ()))

    def taken(self, file: Any) -> Any:
        """The program's output to one of its files; None: not captured."""
        if file is None:
            return None
        data = self.last(file)
        encoding = getattr(file, "encoding", None)
        if encoding is None:
            return data
        return io.TextIOWrapper(io.BytesIO(data), encoding, file.errors).read()
