"""Clients that others wrote, replayed: messages as recorded get the answers they got."""

from __future__ import annotations

import os
import socket
from contextlib import suppress
from pathlib import Path

import pytest

from e1000emu.embed.vfio_user import protocol as vu
from e1000emu.embed.vfio_user.protocol import Command, Message, MessageReader
from tests.e1000emu.embed.fakeclient import TIMEOUT_NS, Rig

HERE = Path(__file__).parent / "clients"
RAM_BYTES = 16 << 20


def recorded(name: str) -> list[tuple[bytes, int, bytes]]:
    """Return (request, number of descriptors, answer) for each exchange in the file."""
    out: list[tuple[bytes, int, bytes]] = []
    for line in (HERE / f"{name}.txt").read_text().splitlines():
        direction, _, rest = line.partition(" ")
        words = rest.split()
        if direction == ">":
            out.append((bytes.fromhex(words[0]), len(words) - 1, b""))
            assert words[1:] in ([], ["+1"])
        elif direction == "<":
            out[-1] = (*out[-1][:2], bytes.fromhex(words[0]))
    return out


def one(data: bytes) -> Message:
    """Return the one message that `data` is."""
    (message,) = MessageReader().feed(data)
    return message


@pytest.mark.parametrize(("name", "exchanges"), [("cloud-hypervisor", 32), ("libvfio-user", 21)])
def test_recorded_messages_get_their_answers(rig: Rig, name: str, exchanges: int) -> None:
    ram = os.memfd_create("ram")
    os.ftruncate(ram, RAM_BYTES)
    trigger = os.eventfd(0, os.EFD_NONBLOCK)
    sock = socket.socket(socket.AF_UNIX)
    sock.connect(os.fspath(rig.path))
    sock.setblocking(False)
    fired = 0
    try:
        messages = recorded(name)
        assert len(messages) == exchanges
        for request, count, wanted in messages:
            asked = one(request)
            fd = ram if asked.command == Command.DMA_MAP else trigger
            socket.send_fds(sock, [request], [fd] * count)
            answer = b""

            def whole() -> bool:
                nonlocal answer
                try:
                    answer += sock.recv(1 << 16)
                except BlockingIOError:
                    return False
                return len(answer) >= vu.HEADER_BYTES

            assert rig.clock.run(whole, timeout_ns=TIMEOUT_NS)
            got, expected = one(answer), one(wanted)
            assert got[:2] == expected[:2]
            assert (got.flags, got.error) == (expected.flags, expected.error)
            if asked.command == Command.VERSION:
                # Both take what fits the size of their own request, with its NUL.
                assert got.payload[:4] == expected.payload[:4]
                assert got.payload.endswith(b"}\0")
                assert len(answer) <= len(request)
            elif asked.command == Command.REGION_READ and not asked.payload[8]:
                assert got.payload[:16] == expected.payload[:16]  # BAR0: what is read may change
                assert len(got.payload) == len(expected.payload)
            else:
                assert got.payload == expected.payload
            with suppress(BlockingIOError):
                fired += os.eventfd_read(trigger)
    finally:
        sock.close()
        os.close(ram)
        os.close(trigger)
    # ICS, held back while masked, fired by the unmask; then ICR was read and nothing fired.
    assert fired == (2 if name == "cloud-hypervisor" else 0)
    rig.clock.run(lambda: not rig.server.connected, timeout_ns=TIMEOUT_NS)
