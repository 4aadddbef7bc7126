"""The command `e1000emu`, also `python -m e1000emu`."""

from __future__ import annotations

import sys


def main() -> None:
    """Run the command line; without the compiled modules, say so in one line that ends with the
    remedy."""
    try:
        from e1000emu.cli import main as run
    except ImportError as error:
        if error.name != "fastpath":
            raise
        sys.exit(f"e1000emu: {error}")
    run()


if __name__ == "__main__":
    main()
