from collections.abc import Sequence
from typing import Any, Protocol

from fastpath.nic.regfile import RegFile, RegHook

class _Clock(Protocol):
    def now_ns(self) -> int: ...

WRITE_NS: int
WRITE_ALL_NS: int
PHASES: tuple[str, ...]

class Microwire:
    address_bits: int
    write_enabled: bool
    writes: int
    """Words programmed or erased, over the life of the chip."""
    def __init__(self, words: Sequence[int]) -> None: ...
    @property
    def words(self) -> list[int]:
        """The contents; write through it only to prepare a test."""
    def set_pins(self, cs: bool, sk: bool, di: bool, clock: _Clock) -> None: ...
    def data_out(self, clock: _Clock) -> bool: ...
    def state(self) -> dict[str, Any]: ...
    def load(self, state: dict[str, Any]) -> None: ...

class EecdPort(RegHook):
    chip: Microwire
    eerd_waiting: bool
    """EERD.START was written while software held the chip."""
    def _bind(
        self, regs: RegFile, words: Sequence[int], clock: _Clock, arbitrated: bool
    ) -> None: ...
    def _released(self, eecd: int) -> None: ...
