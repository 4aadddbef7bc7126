"""Output of commands: tables on a terminal of 80 columns or more, or a file in its place."""

from __future__ import annotations

import os
import sys

from rich.console import Console
from rich.table import Table

PIPE_COLUMNS = 132
"""The width for a pipe or a file, which have none: unbroken lines help `grep`."""


def console(*, stderr: bool = False) -> Console:
    """Return a console on what standard output (or standard error) is now."""
    stream = sys.stderr if stderr else sys.stdout
    # Closed from the start (`>&-`) it is None.
    terminal = stream is not None and stream.isatty()
    width = None if terminal or os.environ.get("COLUMNS") else PIPE_COLUMNS
    return Console(highlight=False, width=width, stderr=stderr)


def plain_table(*headings: str, right: tuple[str, ...] = (), folded: str = "") -> Table:
    """Return a table without lines; columns named in `right` hold figures.

    Only the column named `folded` breaks its text over several lines when the terminal is narrow;
    nothing is ever cut off.
    """
    table = Table(box=None, pad_edge=False)
    for heading in headings:
        table.add_column(
            heading,
            justify="right" if heading in right else "left",
            no_wrap=heading != folded,
            overflow="fold",
        )
    return table
