"""The command `e1000emu`, also `python -m e1000emu`."""

from __future__ import annotations

import signal
import sys

SHOWING = {
    "up": (signal.SIGUSR1,),
    "vfio-user": (signal.SIGUSR1, signal.SIGUSR2),
}
"""Commands that show something at a signal. One that comes early must wait, not end the process."""


def main() -> None:
    """Run the command line; without the compiled modules, say so in one line that ends with the
    remedy."""
    signal.pthread_sigmask(signal.SIG_BLOCK, SHOWING.get("".join(sys.argv[1:2]), ()))
    try:
        from e1000emu.cli import main as run
    except ImportError as error:
        if error.name != "fastpath":
            raise
        sys.exit(f"e1000emu: {error}")
    run()


if __name__ == "__main__":
    main()
