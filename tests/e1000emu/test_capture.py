"""Capture files: ours read back, others' read, damaged ones refused; tshark and scapy as judges."""

from __future__ import annotations

import contextlib
import json
import struct
import subprocess
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from e1000emu.capture import DIRECTION_IN, DIRECTION_OUT, PcapngWriter, Record, read_capture
from e1000emu.errors import LinkError
from fastpath.base.batch import FrameBatch
from tests.support import examples, require

frames = st.lists(st.binary(min_size=1, max_size=200), max_size=10)

# An ARP request, as tcpdump on a Linux 6.1 host recorded it.
ARP = bytes.fromhex(
    "ffffffffffff525400123456080600010800060400015254001234560a0000010000000000000a000002"
    "000000000000000000000000000000000000"
)


def write(path: Path, *batches: list[bytes], when: int = 0, snap: int = 262144) -> None:
    with PcapngWriter(path) as out:
        interface = out.add_interface("eth0", snap_bytes=snap)
        for i, items in enumerate(batches):
            batch = FrameBatch(items)
            direction = DIRECTION_OUT if i % 2 else DIRECTION_IN
            out.write(
                batch, 0, len(batch), interface=interface, now_ns=when + i, direction=direction
            )


@given(st.lists(frames, max_size=4), st.integers(0, 2**63))
@settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
    max_examples=examples(60),
)
def test_what_is_written_is_read_back(
    tmp_path: Path, batches: list[list[bytes]], when: int
) -> None:
    path = tmp_path / "a.pcapng"
    write(path, *batches, when=when)
    want = [
        Record(when + i, data, len(data), 0, 1, DIRECTION_OUT if i % 2 else DIRECTION_IN)
        for i, items in enumerate(batches)
        for data in items
    ]
    assert list(read_capture(path)) == want


def test_snapshot_length_cuts_data_and_keeps_length(tmp_path: Path) -> None:
    path = tmp_path / "a.pcapng"
    write(path, [b"x" * 100, b"y" * 30], snap=40)
    assert [(len(r.data), r.length) for r in read_capture(path)] == [(40, 100), (30, 30)]


def test_file_grows_by_whole_blocks_after_flush(tmp_path: Path) -> None:
    path = tmp_path / "a.pcapng"
    with PcapngWriter(path) as out:
        interface = out.add_interface("eth0")
        for i in range(3):
            out.write(FrameBatch([ARP]), 0, 1, interface=interface, now_ns=i)
            out.flush()
            assert len(list(read_capture(path))) == i + 1


def test_tshark_reads_names_times_and_directions(tmp_path: Path) -> None:
    tshark = require.tool("tshark")
    path = tmp_path / "a.pcapng"
    when = 1_700_000_000_123_456_789
    with PcapngWriter(path) as out:
        for name in ("left", "right"):
            out.add_interface(name)
        batch = FrameBatch([ARP, ARP])
        out.write(batch, 0, 2, interface=0, now_ns=when, direction=DIRECTION_OUT)
        out.write(batch, 1, 2, interface=1, now_ns=when + 1, direction=DIRECTION_IN)
    fields = [
        "frame.interface_name",
        "frame.time_epoch",
        "frame.packet_flags_direction",
        "arp.dst.proto_ipv4",
        "_ws.malformed",
    ]
    command = [tshark, "-r", str(path), "-T", "json"]
    for field in fields:
        command += ["-e", field]
    text = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    rows = [p["_source"]["layers"] for p in json.loads(text)]
    assert [r["frame.interface_name"] for r in rows] == [["left"], ["left"], ["right"]]
    assert [int(r["frame.packet_flags_direction"][0], 0) for r in rows] == [2, 2, 1]
    assert {r["arp.dst.proto_ipv4"][0] for r in rows} == {"10.0.0.2"}
    assert not any("_ws.malformed" in r for r in rows)
    stamp = rows[2]["frame.time_epoch"][0]
    assert "123456790" in stamp


def test_capinfos_finds_a_strict_nanosecond_file(tmp_path: Path) -> None:
    capinfos = require.tool("capinfos", "wireshark-common")
    path = tmp_path / "a.pcapng"
    write(path, [ARP], [ARP])
    text = subprocess.run([capinfos, str(path)], check=True, capture_output=True, text=True).stdout
    assert "nanoseconds (9)" in text
    assert "Number of packets = 2" in text or "Number of packets:   2" in text


def test_scapy_reads_ours_and_we_read_scapys(tmp_path: Path) -> None:
    scapy = pytest.importorskip("scapy.all")
    ours = tmp_path / "a.pcapng"
    write(ours, [ARP, b"z" * 60])
    assert [bytes(p) for p in scapy.rdpcap(str(ours))] == [ARP, b"z" * 60]
    theirs = tmp_path / "b.pcap"
    scapy.wrpcap(str(theirs), [scapy.Ether(ARP)])
    theirs_ng = tmp_path / "c.pcapng"
    scapy.wrpcapng(str(theirs_ng), [scapy.Ether(ARP)])
    for path in (theirs, theirs_ng):
        assert [r.data for r in read_capture(path)] == [ARP]


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize(("magic", "unit"), [(0xA1B2C3D4, 1000), (0xA1B23C4D, 1)])
def test_classic_pcap_of_either_order_and_resolution(
    tmp_path: Path, order: str, magic: int, unit: int
) -> None:
    path = tmp_path / "a.pcap"
    header = struct.pack(order + "IHHiIII", magic, 2, 4, 0, 0, 65535, 1)
    record = struct.pack(order + "IIII", 12, 345, 4, 60) + b"abcd"
    path.write_bytes(header + record * 2)
    want = Record(12_000_000_000 + 345 * unit, b"abcd", 60)
    assert list(read_capture(path)) == [want, want]


def section(order: str, *blocks: bytes) -> bytes:
    body = struct.pack(order + "IHHq", 0x1A2B3C4D, 1, 0, -1)
    return block(order, 0x0A0D0D0A, body) + b"".join(blocks)


def block(order: str, kind: int, body: bytes) -> bytes:
    size = len(body) + 12
    return struct.pack(order + "II", kind, size) + body + struct.pack(order + "I", size)


@pytest.mark.parametrize("order", ["<", ">"])
def test_foreign_blocks_orders_resolutions_and_sections(tmp_path: Path, order: str) -> None:
    idb = struct.pack(order + "HHI", 1, 0, 8)
    idb2 = struct.pack(order + "HHIHHBxxxHHq", 113, 0, 0, 9, 1, 0x80 | 10, 14, 8, 5)
    idb2 += struct.pack(order + "HH", 0, 0)
    spb = struct.pack(order + "I", 20) + b"s" * 8
    epb = struct.pack(order + "IIIII", 1, 0, 512, 3, 3) + b"abc\0"
    old = struct.pack(order + "HHIIII", 0, 7, 0, 9, 4, 4) + b"wxyz"
    blocks = [
        block(order, 1, idb),
        block(order, 1, idb2),
        block(order, 0xBAD, b"skip" * 5),
        block(order, 3, spb),
        block(order, 6, epb),
        block(order, 2, old),
    ]
    path = tmp_path / "a.pcapng"
    path.write_bytes(section(order, *blocks) + section(">", block(">", 1, b"\0\1\0\0\0\0\0\0")))
    assert list(read_capture(path)) == [
        Record(0, b"s" * 8, 20),
        Record(5_500_000_000, b"abc", 3, 1, 113),
        Record(9000, b"wxyz", 4),
    ]


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (b"", "file ends inside the magic number"),
        (b"GIF8", "neither pcapng nor pcap"),
        (b"\n\r\r\n\x1c\0\0\0\0\0\0\0", "byte-order magic"),
        (section("<") + b"\1\0", "file ends inside the block header"),
        (section("<") + block("<", 1, bytes(8))[:-2], "file ends inside the block"),
        (section("<") + struct.pack("<II", 6, 13), "length 13"),
        (section("<") + struct.pack("<II", 6, 8), "length 8"),
        (section("<") + struct.pack("<II", 6, 1 << 30), "length 1073741824"),
        (section("<") + struct.pack("<III", 6, 12, 16), "two lengths"),
        (section("<") + block("<", 6, bytes(20)), "interface 0, which was not described"),
        (section("<") + block("<", 6, bytes(8)), "needs 20"),
        (section("<") + block("<", 1, bytes(4)), "shorter than 8"),
        (
            section("<")
            + block("<", 1, bytes(8))
            + block("<", 6, struct.pack("<IIIII", 0, 0, 0, 99, 99) + bytes(4)),
            "99 bytes runs past its block",
        ),
        (
            struct.pack("<IHHiIIIIIII", 0xA1B2C3D4, 2, 4, 0, 0, 100, 1, 0, 0, 1 << 31, 1 << 31),
            "longer than the snapshot length",
        ),
        (struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 100, 1) + b"x", "record header"),
    ],
)
def test_damage_is_named_with_its_place(tmp_path: Path, data: bytes, text: str) -> None:
    path = tmp_path / "bad"
    path.write_bytes(data)
    with pytest.raises(LinkError, match=text):
        list(read_capture(path))


@pytest.mark.fuzz
@given(st.binary(max_size=300), st.integers(0, 400), st.data())
@settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
    max_examples=examples(150),
)
def test_any_bytes_give_records_or_a_link_error(
    tmp_path: Path, noise: bytes, at: int, data: st.DataObject
) -> None:
    path = tmp_path / "a.pcapng"
    write(path, [ARP, b"q" * 7], [b"r" * 99])
    good = path.read_bytes()
    at = min(at, len(good))
    path.write_bytes(good[:at] + noise + good[at + data.draw(st.integers(0, 40)) :])
    with contextlib.suppress(LinkError):
        for record in read_capture(path):
            assert len(record.data) <= 1 << 24


def test_file_that_cannot_be_opened_is_named(tmp_path: Path) -> None:
    with pytest.raises(LinkError, match="No such file"):
        list(read_capture(tmp_path / "none.pcap"))
    with pytest.raises(LinkError, match="can be written"):
        PcapngWriter(tmp_path / "no" / "such.pcapng")


def test_a_full_disk_is_said_once_and_the_rest_is_not_written() -> None:
    if not Path("/dev/full").exists():
        pytest.skip("needs /dev/full")
    writer = PcapngWriter("/dev/full")
    interface = writer.add_interface("eth0")
    batch = FrameBatch([bytes(60)])
    writer.write(batch, 0, 1, interface=interface, now_ns=0)
    with pytest.raises(LinkError, match="No space left on device; give a file"):
        writer.flush()
    writer.write(batch, 0, 1, interface=interface, now_ns=1)
    writer.flush()
    writer.close()
    assert writer.frames == 1
