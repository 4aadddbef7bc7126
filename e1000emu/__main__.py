"""The command `e1000emu`, also `python -m e1000emu`."""

from __future__ import annotations

import os
import signal
import sys
import warnings

SHOWING = {
    "up": (signal.SIGUSR1,),
    "vfio-user": (signal.SIGUSR1, signal.SIGUSR2),
}
"""Commands that show something at a signal. One that comes early must wait, not end the process."""


def main() -> None:
    """Run the command line; without the compiled modules, or with those of other sources, say so in
    one line that ends with the remedy. So for a command that runs another tree's code."""
    signal.pthread_sigmask(signal.SIG_BLOCK, SHOWING.get("".join(sys.argv[1:2]), ()))
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)  # said below
            from fastpath.built import other_tree
        from e1000emu.cli import main as run
    except ImportError as error:
        if error.name not in ("fastpath", "stack"):
            raise
        sys.exit(f"e1000emu: {error}")
    if other := other_tree(os.curdir):
        print(f"e1000emu: {other}", file=sys.stderr)
    run()


if __name__ == "__main__":
    main()
