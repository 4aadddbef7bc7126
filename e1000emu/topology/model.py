"""The topology file: nodes and links, with the terms of containerlab, Mininet and tc.

    name = "two-tiers"
    [nodes.server]
    addresses = {eth0 = "10.0.0.1/24"}
    [nodes.client]
    count = 1000                            # client1 ... client1000
    addresses = {eth0 = "10.0.4.1/22"}      # and the following ones
    [nodes.s1]
    kind = "switch"
    [[links]]
    endpoints = ["client*", "s1"]
    delay = "2ms"

`{1..10}` in a text expands to ten texts, as in a shell. Fewer texts than nodes or links are spread
evenly over them in turn. More texts are divided equally among the nodes.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self, get_type_hints

import msgspec

from e1000emu.errors import ArgumentError
from e1000emu.topology.entries import Entries, Link, Node, Wrong
from e1000emu.topology.flat import Flat, flatten
from e1000emu.topology.toml import Path as KeyPath
from e1000emu.topology.toml import key_lines
from fastpath.errors import did_you_mean


class TopologyError(ArgumentError):
    """An invalid topology; the text has file, line, key, value and remedy."""


class Topology(Entries):
    """Nodes and links; `flat` returns them expanded."""

    @classmethod
    def read(cls, path: str | Path) -> Self:
        """Read and check a TOML file.  Raises: TopologyError, OSError."""
        data = Path(path).read_bytes()
        try:
            text = data.decode("utf-8")
        except UnicodeDecodeError as error:
            line = data.count(b"\n", 0, error.start) + 1
            raise TopologyError(
                f"{path}:{line}: byte {data[error.start]:#x} is no UTF-8; write the file as UTF-8"
            ) from None
        return cls.from_text(text, file=str(path))

    @classmethod
    def from_text(cls, text: str, *, file: str = "topology") -> Self:
        """Read and check the text of a TOML file; errors name it `file`.  Raises: TopologyError."""
        try:
            data = tomllib.loads(text)
        except tomllib.TOMLDecodeError as error:
            raise TopologyError(f"{file}: no TOML: {error}") from None
        except (RecursionError, ValueError) as error:  # too deep nesting; too long number
            raise TopologyError(f"{file}: no TOML that can be read: {error}") from None
        try:
            made = convert(data, cls)
            flatten(made)
        except Wrong as wrong:
            lines, path = key_lines(text), wrong.path
            while path and path not in lines:
                path = path[:-1]
            raise TopologyError(f"{file}:{lines.get(path, 1)}: {wrong}") from None
        return made

    def flat(self) -> Flat:
        """Check it, and return all nodes and links.  Raises: TopologyError."""
        try:
            return flatten(convert(msgspec.to_builtins(self), type(self)))
        except (TypeError, ValueError) as error:  # not convertible by msgspec
            raise TopologyError(f"Topology {self.name!r}: {error}") from None
        except Wrong as wrong:
            raise TopologyError(f"Topology {self.name!r}: {wrong}") from None


MEANT = {
    "bw": "rate",
    "bandwidth": "rate",
    "latency": "delay",
    "limit": "queue",
    "max_queue_size": "queue",
    "type": "kind",
    "model": "nic",
    "exec": "run",
    "topology": "nodes",
}
"""Terms of Mininet, tc and containerlab with other names here."""
GIVE = {
    "name": 'text, such as "two-tiers"',
    "seed": "a whole number or text",
    "loops": "true or false",
    "nodes": "tables [nodes.NAME]",
    "links": "tables [[links]]",
    "kind": '"host", "router" or "switch"',
    "count": "a whole number, 1 or more",
    "nic": 'a model such as "82540EM", or "none"',
    "addresses": 'a table such as {eth0 = "10.0.0.1/24"}',
    "routes": 'a list such as ["default via 10.0.0.254"]',
    "sysctl": 'a table such as {"net.ipv4.tcp_sack" = 0}',
    "run": 'a list such as ["ping -c 3 10.0.0.2"]',
    "endpoints": 'two, such as ["client*:eth0", "s1"]',
    "queue": "a whole number of frames, 1 or more",
    "mtu": "a whole number of bytes",
}
INT64 = 1 << 63


def convert(data: Mapping[str, Any], cls: type[Any], at: KeyPath = ()) -> Any:
    """Return the struct of plain `data`.  Raises: Wrong."""
    fields = get_type_hints(cls)
    made: dict[str, Any] = {}
    for key, value in data.items():
        if key not in fields:
            near = (
                f"; write {MEANT[key]}" if MEANT.get(key) in fields else did_you_mean(key, fields)
            )
            raise Wrong((*at, key), f"there is no such key; there are: {', '.join(fields)}{near}")
        give = GIVE.get(key, "a number or text with a unit")
        if key == "nodes" and isinstance(value, Mapping):
            made[key] = {
                name: _struct(node, Node, (*at, key, name)) for name, node in value.items()
            }
        elif key == "links" and isinstance(value, list):
            made[key] = [_struct(link, Link, (*at, key, i)) for i, link in enumerate(value)]
        else:
            try:
                made[key] = msgspec.convert(value, fields[key])
            except (msgspec.ValidationError, OverflowError):
                raise Wrong((*at, key), f"give {give}", value) from None
            if isinstance(value, int) and not -INT64 <= value < INT64:
                raise Wrong((*at, key), "it is too large", value)
    if cls is Link and "endpoints" not in made:
        raise Wrong(at, f"it has no endpoints; give {GIVE['endpoints']}")
    return cls(**made)


def _struct(value: Any, cls: type[Any], at: KeyPath) -> Any:
    if not isinstance(value, Mapping):
        raise Wrong(at, "give a table", value)
    return convert(value, cls, at)
