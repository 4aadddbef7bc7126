"""Constants that the rules fold."""

SMALL = 7
LARGE = 1 << 40
HUGE = 1 << 70
NEGATIVE = -5
MASK = 0xF
LIMIT = SMALL * 100 + 1
HOOKED = 1


def hook(value: int) -> None:
    """Change a constant, which is none then."""
    global HOOKED
    HOOKED = value
