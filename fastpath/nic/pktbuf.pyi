"""Stub of the compiled module; the docstrings are in pktbuf.pyx."""

from fastpath.nic.regfile import RegHook

class PacketBuffer(RegHook):
    exact: bool
    """PBM was looked at: every frame leaves its bytes, not only the first eight of a run."""
    def divide(self, rx_bytes: int) -> None: ...
    @property
    def tx_words(self) -> int:
        """Words of the transmit FIFO."""
    def tx_wait(self, frames: int, words: int, move: bool = True) -> None:
        """Set how many frames, of how many words, wait between head and tail. Without `move` the
        head is not changed, since software may have written it."""
    def pointers(self, tx: bool = False) -> tuple[int, int, int, int, int]: ...
    def memory(self) -> bytes: ...
    def state(self) -> bytes: ...
    def load(self, data: bytes) -> None: ...
