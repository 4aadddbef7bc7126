"""Lines of a TOML document's keys, judged by tomllib's values."""

from __future__ import annotations

import json
import tomllib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from e1000emu.topology.toml import Path, key_lines

TRICKY = '''\
name = "a # no comment" # x = 1
a.b."c d" = 3
[nodes.'x']
run = [
  "a # b",
  """m
 ""z""",
  {q = 1, r = [1,2]},
]
d = 1979-05-27 07:32:00.5
[[links]]
e = ["a","b"]
[[links]]
e = 1.5
[links.sub]
z = \'\'\'a
[no.table]
b\'\'\'
'''


def paths(value: Any, path: Path = ()) -> set[Path]:
    """Return every key and element of a document."""
    found = {path} if path else set()
    if isinstance(value, dict):
        items: Any = value.items()
    else:
        items = enumerate(value) if isinstance(value, list) else ()
    for key, each in items:
        found |= paths(each, (*path, key))
    return found


@pytest.mark.parametrize(
    ("path", "line"),
    [
        (("name",), 1),
        (("a", "b", "c d"), 2),
        (("nodes", "x"), 3),
        (("nodes", "x", "run"), 4),
        (("nodes", "x", "run", 1), 6),
        (("nodes", "x", "run", 2, "r", 1), 8),
        (("nodes", "x", "d"), 10),
        (("links", 1), 13),
        (("links", 1, "sub", "z"), 16),
    ],
)
def test_lines_of_keys_and_elements(path: Path, line: int) -> None:
    for text in (TRICKY, TRICKY.replace("\n", "\r\n")):
        assert key_lines(text)[path] == line


def test_it_finds_what_tomllib_finds_in_a_tricky_document() -> None:
    assert set(key_lines(TRICKY)) == paths(tomllib.loads(TRICKY))


words = st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=8)
values = st.recursive(
    st.integers(-9, 9) | words | st.booleans() | st.floats(0, 9),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(words, inner, max_size=3),
    max_leaves=8,
)


def written(value: Any, gap: str) -> str:
    """Return `value` in TOML; `gap` is put where arrays may have line ends."""
    if isinstance(value, list):
        return f"[{gap}" + f",{gap}".join(written(v, gap) for v in value) + f"{gap}]"
    if isinstance(value, dict):
        pairs = (
            f"{json.dumps(k, ensure_ascii=False)} = {written(v, gap)}" for k, v in value.items()
        )
        return "{" + ", ".join(pairs) + "}"
    if isinstance(value, float):
        return repr(value)
    return json.dumps(value, ensure_ascii=False)


@given(
    st.dictionaries(words, st.dictionaries(words, values, max_size=3), max_size=3),
    st.lists(st.dictionaries(words, values, max_size=2), max_size=3),
    st.sampled_from(["", " ", "\n", " # [x]\n\n"]),
)
def test_it_finds_what_tomllib_finds(
    tables: dict[str, dict[str, Any]], array: list[dict[str, Any]], gap: str
) -> None:
    lines, expected = [], {}
    for name, table in [*tables.items(), *(("[]", row) for row in array)]:
        head = json.dumps(name, ensure_ascii=False)
        if name == "[]":
            lines.append('[["[]"]]')
        else:
            lines.append(f"[{head}]")
        for key, value in table.items():
            expected[len(lines) + 1 + "\n".join(lines).count("\n") - len(lines) + 1] = key
            lines.append(f"{json.dumps(key, ensure_ascii=False)} = {written(value, gap)}")
    text = "\n".join(lines)
    try:
        data = tomllib.loads(text)
    except tomllib.TOMLDecodeError:  # the same table twice
        return
    found = key_lines(text)
    assert set(found) == paths(data)
    by_line = {line: path[-1] for path, line in found.items() if path[-1] == expected.get(line)}
    assert by_line == expected
