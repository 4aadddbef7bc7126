from typing import ClassVar

class Moderation:
    """The datasheet's: a cause waits for ITR (SDM 13.4.18) and for nothing else."""

    name: ClassVar[str]

class AdaptiveModeration(Moderation):
    """Few frames at each interrupt: the guest wants each at once. Many: let the next bring more.

    Beyond ITR frames wait so long that an interrupt brings about 128 of them, at most
    `floor_max_ns`; transmitted ones up to four times that while the ring has room. A guest that
    answers nothing gets pauses too, or it would do nothing but receive.
    """

    floor_max_ns: int
    """The longest that frames wait for an interrupt beyond what ITR asks."""
    @property
    def floor_ns(self) -> int:
        """How long they wait now."""

POLICIES: dict[str, type[Moderation]]
"""Name -> policy."""
