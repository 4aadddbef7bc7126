"""Generated blocks in pages written by hand: `<!-- begin NAME -->` to `<!-- end NAME -->`."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

__all__ = ["filled", "grid"]


def filled(path: Path, blocks: Mapping[str, Callable[[], str]]) -> str:
    """Return the file's text with each block made anew. Raises KeyError for an unknown block."""

    def block(found: re.Match[str]) -> str:
        return f"{found[1]}\n\n{blocks[found[2]]()}\n\n{found[3]}"

    pattern = r"(<!-- begin (\w+) -->)\n.*?(<!-- end \2 -->)"
    return re.sub(pattern, block, path.read_text(), flags=re.DOTALL)


def grid(heads: Iterable[str], lines: Iterable[Iterable[str]]) -> str:
    """Return a Markdown table."""
    heads = list(heads)
    out = [f"| {' | '.join(heads)} |", "|" + "---|" * len(heads)]
    return "\n".join([*out, *(f"| {' | '.join(line)} |" for line in lines)])
