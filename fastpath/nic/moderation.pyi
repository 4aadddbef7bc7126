from typing import ClassVar

class Moderation:
    name: ClassVar[str]

class AdaptiveModeration(Moderation):
    frames: int
    frames_one_way: int
    few_frames: int
    thin_ns: int
    floor_max_ns: int
    tx_wait_ns: int
    tx_silence_ns: int
    rx_silence_ns: int
    patience_max: int
    patience_lost: int
    probe_first: int
    probe_most: int
    answer_ns: int
    pause_sixteenths: int
    handler_max_ns: int
    """The parameters: `PARAMETERS` says what each is."""
    def __init__(self, **chosen: int) -> None:
        """Take what is given, else the values of `PARAMETERS`.  Raises: ArgumentError."""
    @property
    def floor_ns(self) -> int:
        """How long they wait now."""

PARAMETERS: dict[str, tuple[int, str]]
"""Parameter of `AdaptiveModeration` -> its value and the reason for it."""
POLICIES: dict[str, type[Moderation]]
"""Name -> policy."""
