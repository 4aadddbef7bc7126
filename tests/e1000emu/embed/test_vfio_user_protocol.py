"""vfio-user on the wire: layouts, hostile fields, and streams cut anywhere."""

from __future__ import annotations

import errno
import json
import os
import socket
import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from e1000emu.embed.vfio_user import protocol as vu
from e1000emu.embed.vfio_user.protocol import (
    Command,
    DmaMap,
    DmaUnmap,
    IrqFlags,
    Message,
    MessageReader,
    Refused,
    RegionAccess,
    SetIrqs,
    Version,
)
from tests.support import examples

PARSERS = (
    Version.parse,
    DmaMap.parse,
    DmaUnmap.parse,
    RegionAccess.parse_read,
    RegionAccess.parse_write,
    SetIrqs.parse,
)

payloads = st.binary(max_size=64)
headers = st.tuples(
    st.integers(0, 0xFFFF), st.integers(0, 0xFFFF), payloads, st.sampled_from([0, 1, 0x10, 0x21])
)


def refused(parse: object, payload: bytes) -> Refused:
    with pytest.raises(Refused) as caught:
        parse(payload)  # type: ignore[operator]
    return caught.value


@settings(max_examples=examples(60))
@given(st.lists(headers, max_size=8), st.data())
def test_messages_do_not_depend_on_how_the_stream_is_cut(
    parts: list[tuple[int, int, bytes, int]], data: st.DataObject
) -> None:
    stream = b"".join(vu.pack(i, c, p, flags=f) for i, c, p, f in parts)
    reader, got = MessageReader(), []
    at = 0
    while at < len(stream):
        n = data.draw(st.integers(1, max(1, min(40, len(stream) - at))))
        got += reader.feed(stream[at : at + n])
        at += n
    assert not reader.error
    assert reader.pending_bytes == 0
    assert got == [Message(i, c, f, 0, p) for i, c, p, f in parts]


@settings(max_examples=examples(80))
@given(st.lists(st.binary(max_size=80), max_size=10))
def test_reader_survives_any_bytes(chunks: list[bytes]) -> None:
    reader = MessageReader(max_bytes=256)
    for chunk in chunks:
        for message in reader.feed(chunk):
            assert len(message.payload) <= 240
        assert reader.pending_bytes < 256
    if reader.error:
        assert reader.feed(vu.pack(1, 1)) == []


@settings(max_examples=examples(150))
@given(st.sampled_from(PARSERS), st.binary(max_size=80))
def test_parsers_refuse_or_accept_any_payload(parse: object, payload: bytes) -> None:
    try:
        parse(payload)  # type: ignore[operator]
        number = errno.EINVAL
    except Refused as refusal:
        number = refusal.number
    assert number in (errno.EINVAL, errno.E2BIG, errno.ENOTSUP)


@pytest.mark.parametrize("size", [0, 15, vu.MAX_MESSAGE_BYTES + 1, 0xFFFFFFFF])
def test_impossible_size_ends_the_stream_after_what_came_before(size: int) -> None:
    reader = MessageReader()
    stream = vu.pack(7, Command.DEVICE_RESET) + struct.pack("<HHIII", 8, 9, size, 0, 0)
    assert [m.id for m in reader.feed(stream)] == [7]
    assert f"{size} bytes" in reader.error
    assert reader.pending_bytes == 0


def test_descriptors_go_with_the_message_that_carried_them() -> None:
    """Over a real socket: the kernel may glue what was sent without descriptors before them."""
    ours, theirs = socket.socketpair()
    fds = [os.open("/dev/null", os.O_RDONLY) for _ in range(2)]
    with ours, theirs:
        theirs.sendall(vu.pack(1, Command.DMA_MAP, bytes(32)))
        socket.send_fds(theirs, [vu.pack(2, Command.DMA_MAP, bytes(32))], fds)
        theirs.sendall(vu.pack(3, Command.DMA_MAP, bytes(32)))
        socket.send_fds(theirs, [vu.pack(4, Command.DMA_MAP, bytes(32))[:20]], fds[:1])
        theirs.sendall(vu.pack(4, Command.DMA_MAP, bytes(32))[20:] + vu.pack(5, 1))
        theirs.shutdown(socket.SHUT_WR)
        reader, got = MessageReader(), []
        while True:
            data, taken, _, _ = socket.recv_fds(ours, 4096, 16)
            if not data:
                break
            got += reader.feed(data, taken)
    assert [(m.id, len(m.fds)) for m in got] == [(1, 0), (2, 2), (3, 0), (4, 1), (5, 0)]
    for fd in [*fds, *(fd for m in got for fd in m.fds)]:
        os.close(fd)


def test_descriptors_of_an_unfinished_message_can_be_taken_back() -> None:
    reader = MessageReader()
    assert reader.feed(vu.pack(1, 2, bytes(32))[:10], [100, 101]) == []
    assert reader.take_fds() == [100, 101]
    assert reader.take_fds() == []


def test_too_many_descriptors_end_the_stream() -> None:
    reader = MessageReader()
    reader.feed(b"\0", list(range(100, 117)))
    assert "17" not in reader.error
    assert "more than 16" in reader.error
    assert len(reader.take_fds()) == 17


def test_version_takes_what_qemu_sends_and_answers_within_its_size() -> None:
    # As QEMU 11.1.3 sends it.
    text = (
        b'{"capabilities": {"pgsizes": 4096, "max_msg_fds": 16, "max_dma_maps": 65535, '
        b'"max_data_xfer_size": 1048576, "migration": {"max_bitmap_size": 268435456, '
        b'"pgsize": 4096}, "write_multiple": true}}\0'
    )
    version = Version.parse(bytes(4) + text)
    assert (version.major, version.minor) == (0, 0)
    assert version.capabilities["max_msg_fds"] == 16
    answer = Version(0, 0, vu.SERVER_CAPABILITIES).emit(4 + len(text))
    assert len(answer) <= 4 + len(text)
    assert answer.endswith(b"\0")
    assert json.loads(answer[4:-1])["capabilities"] == vu.SERVER_CAPABILITIES


@given(st.integers(4, 200))
def test_version_answer_fits_any_room(room: int) -> None:
    answer = Version(0, 0, vu.SERVER_CAPABILITIES).emit(room)
    assert len(answer) <= room
    assert Version.parse(answer).capabilities.items() <= vu.SERVER_CAPABILITIES.items()


@pytest.mark.parametrize(
    "text",
    [b"{}", b"{\0", b"[]\0", b'{"capabilities": 3}\0', b"\xff\xfe\0", b"[" * 50000 + b"\0"],
)
def test_version_refuses_bad_json(text: bytes) -> None:
    assert refused(Version.parse, bytes(4) + text).number == errno.EINVAL


def test_version_without_json_has_no_capabilities() -> None:
    assert Version.parse(bytes(4)).capabilities == {}
    assert Version.parse(bytes(5)).capabilities == {}


def test_dma_map_reads_its_fields() -> None:
    piece = DmaMap.parse(vu.DMA_MAP.pack(32, 3, 0x1000, 0x10_0000, 0x20_0000))
    assert piece == DmaMap(3, 0x1000, 0x10_0000, 0x20_0000)
    assert piece.readable
    assert piece.writable
    assert not DmaMap.parse(vu.DMA_MAP.pack(32, 1, 0, 0, 4096)).writable


@pytest.mark.parametrize(
    "fields",
    [
        (31, 3, 0, 0, 4096),
        (32, 0, 0, 0, 4096),
        (32, 4, 0, 0, 4096),
        (32, 3, 1, 0, 4096),
        (32, 3, 0, 0x800, 4096),
        (32, 3, 0, 0, 0),
        (32, 3, 0, 0, 4097),
        (32, 3, 0, 0xFFFF_FFFF_FFFF_F000, 8192),
        (32, 3, 1 << 63, 0, 4096),
    ],
)
def test_dma_map_refuses(fields: tuple[int, ...]) -> None:
    assert refused(DmaMap.parse, vu.DMA_MAP.pack(*fields)).number == errno.EINVAL


@pytest.mark.parametrize(
    ("fields", "number"),
    [
        ((23, 0, 0, 4096), errno.EINVAL),
        ((24, 1, 0, 4096), errno.ENOTSUP),
        ((24, 4, 0, 4096), errno.EINVAL),
        ((24, 0, 0, 0), errno.EINVAL),
        ((24, 2, 0, 4096), errno.EINVAL),
        ((24, 0, 1 << 63, (1 << 63) + 1), errno.EINVAL),
    ],
)
def test_dma_unmap_refuses(fields: tuple[int, ...], number: int) -> None:
    assert refused(DmaUnmap.parse, vu.DMA_UNMAP.pack(*fields)).number == number


def test_region_write_count_must_be_what_follows() -> None:
    head = vu.REGION_ACCESS.pack(0xD8, 0, 4)
    assert RegionAccess.parse_write(head + b"abcd") == RegionAccess(0xD8, 0, 4, b"abcd")
    for data in (b"", b"abc", b"abcde"):
        refused(RegionAccess.parse_write, head + data)
    big = vu.REGION_ACCESS.pack(0, 0, vu.MAX_DATA_XFER_BYTES + 1)
    assert refused(RegionAccess.parse_read, big).number == errno.E2BIG


@pytest.mark.parametrize(
    "fields",
    [
        (20, 0x00, 0, 0, 1),
        (20, 0x03 | 0x20, 0, 0, 1),
        (20, 0x01 | 0x18, 0, 0, 1),
        (20, 0x01, 0, 0, 1),
        (20, 0x41 | 0x20, 0, 0, 1),
        (20, 0x24, 5, 0, 1),
        (20, 0x24, 0, 0, 0),
        (20, 0x22, 0, 0, 1),
        (19, 0x24, 0, 0, 1),
    ],
)
def test_set_irqs_refuses(fields: tuple[int, ...]) -> None:
    assert refused(SetIrqs.parse, vu.IRQ_SET.pack(*fields)).number == errno.EINVAL


def test_set_irqs_reads_its_fields() -> None:
    off = SetIrqs.parse(vu.IRQ_SET.pack(20, 0x21, 0, 0, 0))
    assert (off.data_kind, off.action, off.count) == (
        IrqFlags.DATA_NONE,
        IrqFlags.ACTION_TRIGGER,
        0,
    )


def test_replies_repeat_id_and_command() -> None:
    request = Message(0xABCD, Command.REGION_READ, 0, 0, b"")
    assert vu.reply(request, b"xy") == struct.pack("<HHIII", 0xABCD, 9, 18, 1, 0) + b"xy"
    assert vu.error_reply(request, 22) == struct.pack("<HHIII", 0xABCD, 9, 16, 0x21, 22)
    assert request.wants_reply
    assert not request._replace(flags=0x10).wants_reply
    assert request._replace(flags=1).is_reply
