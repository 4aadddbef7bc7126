"""The lines of a TOML document's keys, which tomllib does not report."""

from __future__ import annotations

import re
import tomllib
from collections import Counter

Path = tuple[str | int, ...]
"""From the root to a value: keys, and indices of arrays."""

TOKEN = re.compile(
    r"""
      \#[^\n]*
    | \"{3}(?:[^\\]|\\.)*?\"{3,5}(?!\") | '{3}.*?'{3,5}(?!')
    | "(?:[^"\\\n]|\\.)*" | '[^'\n]*'
    | [\[\]{}=,.\n]
    | [^\s\[\]{}=,.\#"']+
    """,
    re.VERBOSE | re.DOTALL,
)


class _Lines:
    def __init__(self, text: str) -> None:
        self.tokens: list[tuple[str, int]] = []
        line, at = 1, 0
        for match in TOKEN.finditer(text):
            line += text.count("\n", at, match.start())
            at = match.start()
            if not match[0].startswith("#"):
                self.tokens.append((match[0], line))
        self.tokens.append(("", line))
        self.i = 0
        self.lines: dict[Path, int] = {}
        self.tables: Counter[Path] = Counter()

    @property
    def token(self) -> str:
        return self.tokens[self.i][0]

    def note(self, path: Path, line: int) -> None:
        """Record `line` for `path`, and for parents without a line."""
        self.lines[path] = self.lines.get(path, line)
        while path := path[:-1]:
            self.lines.setdefault(path, line)

    def key(self) -> list[str]:
        """Read `a.b."c d"`."""
        words = []
        while self.token not in ("]", "=", ""):
            if self.token != ".":
                words.append(next(iter(tomllib.loads(f"{self.token} = 0"))))
            self.i += 1
        return words

    def newlines(self) -> None:
        while self.token == "\n":
            self.i += 1

    def value(self, path: Path) -> None:
        """Read one value, up to the next token."""
        if self.token == "[":
            self.i += 1
            self.newlines()
            number = 0
            while self.token != "]":
                self.note((*path, number), self.tokens[self.i][1])
                self.value((*path, number))
                self.newlines()
                if self.token == ",":
                    self.i += 1
                self.newlines()
                number += 1
            self.i += 1
        elif self.token == "{":
            self.i += 1
            self.newlines()
            while self.token != "}":
                self.pair(path)
                self.newlines()
                if self.token == ",":
                    self.i += 1
                self.newlines()
            self.i += 1
        else:
            while self.token not in (",", "]", "}", "\n", ""):
                self.i += 1

    def pair(self, table: Path) -> None:
        """Read `key = value`."""
        line = self.tokens[self.i][1]
        path = (*table, *self.key())
        self.note(path, line)
        self.i += 1  # =
        self.value(path)

    def header(self) -> Path:
        """Read `[table]` or `[[table]]`; return its path."""
        line = self.tokens[self.i][1]
        array = self.tokens[self.i + 1][0] == "["
        self.i += 1 + array
        path: Path = ()
        words = self.key()
        for number, word in enumerate(words):
            path = (*path, word)
            if array and number == len(words) - 1:
                self.tables[path] += 1
                self.note(path, line)
            if path in self.tables:
                path = (*path, self.tables[path] - 1)
        self.note(path, line)
        self.i += 1 + array
        return path

    def document(self) -> dict[Path, int]:
        table: Path = ()
        self.newlines()
        while self.token:
            if self.token == "[":
                table = self.header()
            else:
                self.pair(table)
            self.newlines()
        return self.lines


def key_lines(text: str) -> dict[Path, int]:
    """Return the line, from 1, at which each key and element of a valid document begins."""
    return _Lines(text.replace("\r\n", "\n")).document()
