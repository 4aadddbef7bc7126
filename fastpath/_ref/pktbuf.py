"""The packet buffer in plain Python: the twin of ``fastpath.nic.pktbuf``."""

from __future__ import annotations

from dataclasses import dataclass

BYTES, WORDS = 64 << 10, 8192
HEADER = 16
FEW = 8


def words_of(n: int) -> int:
    """Words of a frame of `n` bytes: header and bytes, rounded up to 16 bytes."""
    return (n + HEADER + 15) // 16 * 2


@dataclass(slots=True)
class Fifo:
    """One FIFO: its share, and pointers that are offsets into it, all in words of 8 bytes."""

    base: int
    size: int
    head: int = 0
    tail: int = 0
    fill: int = 0
    count: int = 0
    taken: int = 0
    begun: int = 0

    def step(self, pointer: int, words: int) -> int:
        """Return `pointer` advanced by `words`."""
        return (pointer + words) % self.size if self.size else 0


class PacketBuffer:
    """64 KiB for two FIFOs."""

    def __init__(self) -> None:
        self._mem = bytearray(BYTES)
        self.exact = False
        self.divide(48 << 10)

    def divide(self, rx_bytes: int) -> None:
        """Give the receive FIFO `rx_bytes` and the transmit FIFO the rest."""
        size = min(rx_bytes // 8, WORDS)
        self.rx, self.tx = Fifo(0, size), Fifo(size, WORDS - size)

    def put(self, fifo: Fifo, word: int, data: bytes) -> None:
        """Write `data` from `word` of a share on, wrapping."""
        size = fifo.size * 8
        for i, byte in enumerate(data[:size]):
            self._mem[fifo.base * 8 + (word * 8 + i) % size] = byte

    def get(self, fifo: Fifo, word: int, n: int) -> bytes:
        """Read `n` bytes from `word` of a share on, wrapping."""
        size = fifo.size * 8
        return bytes(self._mem[fifo.base * 8 + (word * 8 + i) % size] for i in range(n))

    def frame(self, fifo: Fifo, data: bytes, fcs: bytes = b"", flags: int = 0) -> None:
        """Write a frame with its header at the tail."""
        data += fcs
        head = len(data).to_bytes(4, "little") + flags.to_bytes(4, "little")
        self.put(fifo, fifo.tail, head.ljust(HEADER, b"\0") + data)

    def passed(self, fifo: Fifo, words: int) -> None:
        """A frame passed without waiting."""
        fifo.head = fifo.tail = fifo.step(fifo.tail, words)

    def pointers(self, tx: bool = False) -> tuple[int, int, int, int, int]:
        """Return (head, tail, saved head, saved tail, waiting frames)."""
        f = self.tx if tx else self.rx
        head, tail = f.step(f.head, f.taken), f.step(f.tail, f.begun)
        return head, tail, f.head, f.tail, f.count

    def memory(self) -> bytes:
        """Return the 64 KiB."""
        return bytes(self._mem)
