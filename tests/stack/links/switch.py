"""A host with a bridge of wired ports: frames go in as bytes, and what each port sends is kept."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import pytest

from e1000emu.clock import VirtualClock
from stack.host import Host
from tests.stack.core.wire import QUIET6, WireDevice, add_wire_device

SECOND = 1_000_000_000
BROADCAST = b"\xff" * 6


def station(number: int) -> bytes:
    """The address of a station behind some port."""
    return b"\x02\x00\x00\x00\x01" + bytes([number])


def port_address(number: int) -> bytes:
    """The address of a port."""
    return b"\x02\x00\x00\x00\x00" + bytes([number + 1])


def frame(dst: bytes, src: bytes, payload: bytes = b"x" * 46, proto: int = 0x88B5) -> bytes:
    """A frame of a protocol that nobody here has."""
    return dst + src + proto.to_bytes(2, "big") + payload


class Switch:
    """`host` with br0 on `ports` devices eth0 ..., all up, IPv6 quiet."""

    def __init__(self, ports: int, *, inet: bool = False, **options: object) -> None:
        self.clock = VirtualClock()
        self.host = Host("switch", clock=self.clock, inet=inet, drivers=False, sysctl=QUIET6)
        self.wires = [add_wire_device(self.host, port_address(i)) for i in range(ports)]
        names = [wire.dev.name for wire in self.wires]
        self.bridge = self.host.add_bridge("br0", names, up=True, **options)  # type: ignore[arg-type]
        self.br = self.bridge.priv

    def send(self, port: int, data: bytes) -> list[int]:
        """A frame comes in; the ports that it leaves by, unchanged."""
        for wire in self.wires:
            wire.sent.clear()
        self.wires[port].receive(data)
        out = [i for i, wire in enumerate(self.wires) if wire.sent]
        for i in out:
            assert self.wires[i].sent == [data]
        return out

    def run_for(self, seconds: float) -> None:
        """Let time pass."""
        self.clock.run_for(int(seconds * SECOND))

    def learned(self) -> dict[bytes, int]:
        """Address -> port, of those that were learned."""
        devs = [wire.dev for wire in self.wires]
        return {
            addr: devs.index(fdb.dst.dev)
            for addr, fdb in self.br.fdb_hash.items()
            if not fdb.is_local
        }


def sent_by(wires: Iterable[WireDevice]) -> list[list[bytes]]:
    """What each has sent, and is forgotten now."""
    out = [list(wire.sent) for wire in wires]
    for wire in wires:
        wire.sent.clear()
    return out


@contextmanager
def refused(number: int) -> Iterator[None]:
    """Whatever is done inside fails with this errno."""
    with pytest.raises(OSError, match=rf"^\[Errno {number}\] "):
        yield
