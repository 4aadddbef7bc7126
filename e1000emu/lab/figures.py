"""Shared by all figures: matplotlib, or a clear error when it is missing."""

from __future__ import annotations

import io
from typing import Any

from e1000emu.errors import E1000Error

try:
    from matplotlib import rc_context
    from matplotlib.figure import Figure
except ImportError as error:
    raise E1000Error(
        "figures need matplotlib, which is not installed; run: pip install 'e1000emu[plot]'"
    ) from error

WIDTH_INCHES = 9.0
# Keep text as text, so that it can be searched, and make the same file from the same data.
SETTINGS = {"svg.fonttype": "none", "svg.hashsalt": "e1000emu"}
METADATA = {"Date": None, "Creator": "e1000emu"}


def new_figure(panels: int, *, height: float) -> tuple[Figure, list[Any]]:
    """Return a figure of `height` inches with so many axes above each other, one x axis for all."""
    figure = Figure(figsize=(WIDTH_INCHES, height), layout="constrained")
    axes = figure.subplots(panels, 1, sharex=True, squeeze=False)
    return figure, [row[0] for row in axes]


def svg(figure: Figure) -> str:
    """Return the figure as an <svg> element for an HTML page."""
    text = io.StringIO()
    with rc_context(SETTINGS):
        figure.savefig(text, format="svg", metadata=METADATA)
    whole = text.getvalue()
    return whole[whole.index("<svg") :]


def save(figure: Figure, path: str) -> None:
    """Write the figure in the format of the file's suffix. Raises E1000Error for an unknown one."""
    with rc_context(SETTINGS):
        try:
            figure.savefig(path, metadata=METADATA if str(path).endswith(".svg") else None)
        except ValueError as error:
            raise E1000Error(f"figure {path}: {error}") from None
