"""The judge condemns what is wrong: a judge that acquits everybody proves nothing."""

from __future__ import annotations

import pytest

from e1000emu.capture import PcapngWriter
from fastpath.base.batch import FrameBatch
from tests.judge import verdict
from tests.support import require

# written by scapy 2.8: Ether()/IP(src="10.0.0.1", dst="10.0.0.2", id=7)/UDP(1000, 2000)/b"judge me"
GOOD = bytes.fromhex(
    "ffffffffffff00000000000008004500002400070000401166c00a0000010a00000203e807d000103eb16a75646765206d65"
)


def change(frame: bytes, offset: int, value: int) -> bytes:
    """Return `frame` with one byte changed."""
    return frame[:offset] + bytes([value]) + frame[offset + 1 :]


@pytest.mark.parametrize(
    ("frame", "guilty"),
    [
        (GOOD, False),
        (change(GOOD, 24, 0), True),  # IP header checksum
        (change(GOOD, 40, 0), True),  # UDP checksum
        (change(GOOD, 45, 0), True),  # payload
        (change(GOOD, 39, 0x40), True),  # UDP length beyond the packet
        (change(GOOD, 14, 0x4F), True),  # header length beyond the packet
        (GOOD[:30], True),  # cut short
    ],
)
def test_verdict(frame, guilty, tmp_path):
    tshark = require.tool("tshark")
    path = tmp_path / "a.pcapng"
    writer = PcapngWriter(path)
    interface = writer.add_interface("eth0", speed_bps=10**9)
    writer.write(FrameBatch([frame]), 0, 1, interface=interface, now_ns=0, epoch_ns=0, direction=2)
    writer.close()
    assert bool(verdict(path, tshark)) is guilty


HEAD = "ffffffffffff0000000000000800"
# scapy: fragment(IP(src="10.0.0.1", dst="10.0.0.2", id=9) / UDP(1000, 2000) / (24 * b"a"), 16)
FIRST, LAST = (
    bytes.fromhex(HEAD + rest)
    for rest in (
        "4500002400092000401146be0a0000010a00000203e807d000204f636161616161616161",
        "4500002400090002401166bc0a0000010a00000261616161616161616161616161616161",
    )
)
# ...and with b"b"
OTHER_FIRST, OTHER_LAST = (
    bytes.fromhex(HEAD + rest)
    for rest in (
        "4500002400092000401146be0a0000010a00000203e807d0002043576262626262626262",
        "4500002400090002401166bc0a0000010a00000262626262626262626262626262626262",
    )
)


@pytest.mark.parametrize(
    ("nics", "guilty"),
    [
        ([[FIRST], [OTHER_LAST, OTHER_FIRST]], False),  # tshark takes it for the first one's end
        ([[FIRST], [OTHER_LAST], [change(GOOD, 24, 0)]], True),
        ([[FIRST, OTHER_LAST]], True),
        ([[FIRST], [LAST, change(GOOD, 40, 0)]], True),
    ],
)
def test_what_one_nic_has_sent_is_no_proof_against_another(nics, guilty, tmp_path):
    tshark = require.tool("tshark")
    path = tmp_path / "a.pcapng"
    with PcapngWriter(path) as writer:
        for frames in nics:
            interface = writer.add_interface("eth0")
            writer.write(
                FrameBatch(frames), 0, len(frames), interface=interface, now_ns=0, direction=2
            )
    assert bool(verdict(path, tshark)) is guilty
