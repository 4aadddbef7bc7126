"""A port that records what a link does to it."""

from __future__ import annotations

from e1000emu.links import pool
from fastpath.base.batch import FrameBatch


class RecordingPort:
    """Takes up to `room` frames (None: all), answering as a NIC does; records every call."""

    def __init__(self, link: object, room: int | None = None) -> None:
        self.link = link
        self.room = room
        self.frames: list[bytes] = []
        self.times: list[int] = []
        self.flags: list[int] = []
        self.changes: list[bool] = []
        self.ready = 0
        link.attach(self)

    def receive(self, batch: FrameBatch, start: int, hold: bool) -> int:
        end = len(batch)
        if self.room is not None and hold:
            end = min(end, start + self.room)
            self.room -= end - start
        for i in range(start, end):
            self.frames.append(batch[i])
            self.flags.append(batch.flags(i))
            self.times.append(self.link.clock.now_ns())
        return end

    def give_room(self, frames: int | None) -> None:
        self.room = frames
        self.link.rx_ready()

    def link_changed(self, up: bool, speed_mbps: int, full_duplex: bool) -> None:
        self.changes.append(up)

    def tx_ready(self) -> None:
        self.ready += 1

    def send(self, *frames: bytes) -> None:
        batch = pool.get()
        for frame in frames:
            batch.append(frame)
        self.link.transmit(batch)


def frame(n: int, size: int = 60) -> bytes:
    """Return a frame that carries the number `n` after its addresses and type."""
    head = bytes.fromhex("02000000000202000000000188b5") + n.to_bytes(4, "big")
    return head + bytes((n + i) & 0xFF for i in range(size - len(head)))


def number(data: bytes) -> int:
    """Return the number stored by `frame`."""
    return int.from_bytes(data[14:18], "big")
