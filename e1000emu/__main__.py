"""`python -m e1000emu`: the same command as `e1000emu`."""

from e1000emu.cli import main

if __name__ == "__main__":
    main()
