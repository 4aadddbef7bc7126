from typing import final

@final
class FreshBytes:
    """Room for `size` bytes, not zeroed; a writable buffer until `take` makes a bytes of it."""

    size: int
    def __init__(self, size: int) -> None: ...
    def __len__(self) -> int: ...
    def __buffer__(self, flags: int, /) -> memoryview: ...
    def take(self, n: int) -> bytes:
        """The first `n` bytes (at most `size`), as a bytes object; once.

        Raises BufferError while somebody has a view, and the second time.
        """

def first_bytes(data: bytearray, n: int) -> bytes:
    """The first `n` bytes of `data`, as many as there are: a copy in one step.

    Raises TypeError without a bytearray, ValueError when `n` is negative.
    """
