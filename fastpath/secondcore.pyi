from fastpath.macpath import Second

class SecondCore(Second):
    """Stores pieces of engine runs in the thread that calls `run`.

    Any number of NICs may share one, also on several clocks: who comes while it is busy does
    without.
    """

    spin_ns: int
    """How long the thread looks for the next piece before it sleeps."""
    patience: int
    """In how many runs in a row it may be no help before it is left alone for a while."""
    runs: int
    skipped: int
    alone: int
    waits: int
    wakes: int
    sleeps: int
    def __init__(self) -> None: ...
    def run(self) -> None:
        """Work until `stop`.  Call from a thread of its own; releases the GIL all the time."""
    def stop(self) -> None:
        """Let `run` return; a doorbell that is at work finishes alone."""
    def counters(self) -> dict[str, int]:
        """Return what happened so far.

        Engine runs shared, not shared, in which the thread was no help, that waited for it; and
        how often it was woken and slept.
        """
