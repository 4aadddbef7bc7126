"""The entries of a topology file, and the error for an invalid one."""

from __future__ import annotations

from types import NoneType
from typing import Any

import msgspec

from e1000emu.lab.hosts import DEFAULT_MODEL
from e1000emu.topology.toml import Path as KeyPath

Quantity = str | int | float
MOST_SHOWN = 60
NO_NIC = "none"


class Wrong(Exception):
    """An error at `path`; it is caught inside this package."""

    def __init__(self, path: KeyPath, why: str, value: Any = NoneType) -> None:
        super().__init__(why)
        self.path = path
        self.why = why
        self.value = value

    def __str__(self) -> str:
        key = "".join(
            f"[{word}]" if isinstance(word, int) else f".{word}" for word in self.path
        ).removeprefix(".")
        if self.value is NoneType:
            return f"{key}: {self.why}" if key else self.why
        shown = repr(self.value)
        if len(shown) > MOST_SHOWN:
            shown = f"{shown[:MOST_SHOWN]}..."
        return f"{key} = {shown}: {self.why}"


class Node(msgspec.Struct, kw_only=True, omit_defaults=True):
    """A host, a router (a host that forwards) or a switch; with `count` several equal ones."""

    kind: str = "host"
    """"host", "router" or "switch"."""
    count: int | None = None
    """NAME1 to NAMEcount; None: one node named NAME."""
    nic: str = DEFAULT_MODEL
    """The model of its NICs; "none": simple devices without rings and interrupts."""
    addresses: dict[str, str | list[str]] = {}
    """Interface -> addresses with prefix lengths. For several nodes those of the first: the others
    get the following ones."""
    routes: list[str] = []
    """Arguments of `ip route add`."""
    sysctl: dict[str, int | str] = {}
    run: list[str] = []
    """Programs started at the topology's `start` (e1000emu.topology.programs)."""


class Link(msgspec.Struct, kw_only=True, omit_defaults=True):
    """A cable between two interfaces, or several equal ones; per direction.

    Units are those of `tc`, except that `bps` is bits per second.
    """

    endpoints: list[str]
    """Two of NODE, NODE:INTERFACE, GROUP*; else the node's next free interface."""
    delay: Quantity = 0
    """Numbers are seconds."""
    jitter: Quantity = 0
    rate: Quantity | None = None
    """Numbers are bit/s."""
    loss: Quantity = 0
    """Share of the frames: 0.1% or 0.001."""
    reorder: Quantity = 0
    duplicate: Quantity = 0
    corrupt: Quantity = 0
    queue: int | None = None
    """Maximum number of frames on the cable; beyond it a host waits, a switch drops."""
    mtu: int | None = None


class Entries(msgspec.Struct, kw_only=True, omit_defaults=True):
    """The content of a topology file."""

    name: str = ""
    seed: int | str = 0
    start: Quantity = "3s"
    """The virtual time at which programs begin: links are then up and IPv6 addresses valid."""
    loops: bool = False
    """Allow loops of switches, in which broadcasts circulate forever."""
    nodes: dict[str, Node] = {}
    links: list[Link] = []
