"""Texts in a topology: lists in braces, patterns of names, routes."""

from __future__ import annotations

import itertools
import re
from collections.abc import Sequence
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from typing import TypeVar

import msgspec

T = TypeVar("T")

MOST = 1 << 18
"""Maximum number of nodes, links, and texts from one with braces."""
QUOTED = re.compile(r"""(\\.|'[^']*'|"(?:\\.|[^"\\])*")""", re.DOTALL)
BRACES = re.compile(r"\{([^{}]*)\}")
RANGE = re.compile(r"([0-9]{1,9})\.\.([0-9]{1,9})")
ROUTE_FORM = "write for instance default via 10.0.0.254, or 10.2.0.0/16 via 10.0.0.254 dev eth0"


class Route(msgspec.Struct, frozen=True):
    """`ip route add PREFIX [via GATEWAY] [dev INTERFACE] [metric NUMBER]`."""

    prefix: str
    via: str | None = None
    dev: str | None = None
    metric: int | None = None


def braces(text: str) -> list[str]:
    """Expand `a{1..3}` or `a{1,2,3}` as a shell does; of several the last varies fastest.

    Text in quotation marks or after a backslash is unchanged.

    Raises: ValueError.
    """
    parts: list[Sequence[str]] = []
    total = 1
    for place, piece in enumerate(QUOTED.split(text)):
        if place % 2:
            parts.append([piece])
            continue
        for number, part in enumerate(BRACES.split(piece)):
            parts.append(_listed(part, MOST // total) if number % 2 else [_plain(part)])
            total *= len(parts[-1])
    return ["".join(words) for words in itertools.product(*parts)]


def _plain(part: str) -> str:
    """Read text outside braces.  Raises: ValueError."""
    if "{" in part or "}" in part:
        raise ValueError("a brace has no partner; write {1..10} or {a,b}")
    return part


def _listed(part: str, most: int) -> list[str]:
    """Expand the inside of braces, to at most `most` texts.  Raises: ValueError."""
    match = RANGE.fullmatch(part)
    if match is not None:
        first, last = int(match[1]), int(match[2])
        step = 1 if last >= first else -1
        numbers = range(first, last + step, step)
        if len(numbers) <= most:
            return [str(n) for n in numbers]
    elif "," in part:
        words = part.split(",")
        if len(words) <= most:
            return words
    else:
        raise ValueError(f"{{{part}}} is no list; write {{1..10}} or {{a,b}}")
    raise ValueError(f"it stands for more than {MOST:,} texts; write fewer")


def spread(items: Sequence[T], count: int) -> list[T]:
    """Return `count` items, with each of `items` equally often in turn.

    Raises: ValueError: not evenly divisible.
    """
    if not items or count % len(items):
        raise ValueError(f"{len(items):,} cannot be spread evenly over {count:,}")
    times = count // len(items)
    return [item for item in items for _ in range(times)]


def shares(items: Sequence[T], count: int) -> list[tuple[T, ...]]:
    """Return the items of each of `count`: several if there are more, else one, by `spread`.

    Raises: ValueError: not evenly divisible.
    """
    if len(items) <= count or len(items) % count:
        return [(item,) for item in spread(items, count)]
    each = len(items) // count
    return [tuple(items[i * each : (i + 1) * each]) for i in range(count)]


def parse_route(text: str) -> Route:
    """Read the words of `ip route add`.  Raises: ValueError."""
    prefix, *words = text.split() or [""]
    given = dict(zip(words[::2], words[1::2], strict=False))
    wrong = [word for word in words[::2] if word not in ("via", "dev", "metric")]
    if len(words) % 2 or len(given) * 2 != len(words) or wrong:
        raise ValueError(ROUTE_FORM)
    if "via" not in given and "dev" not in given:
        raise ValueError(f"it has no gateway; {ROUTE_FORM}")
    if prefix != "default":
        try:
            network = ip_network(prefix)
        except ValueError as error:
            raise ValueError(f"{error}; {ROUTE_FORM}") from None
        prefix = str(network)
    via: IPv4Address | IPv6Address | None = None
    if "via" in given:
        try:
            via = ip_address(given["via"])
        except ValueError as error:
            raise ValueError(f"{error}; {ROUTE_FORM}") from None
        if prefix != "default" and network.version != via.version:
            raise ValueError(f"{prefix} and {via} are of two families; {ROUTE_FORM}")
    metric = given.get("metric")
    if metric is not None and not (metric.isdecimal() and int(metric) < 1 << 32):
        raise ValueError(f"metric {metric} is no number; {ROUTE_FORM}")
    return Route(
        prefix,
        None if via is None else str(via),
        given.get("dev"),
        None if metric is None else int(metric),
    )
