"""Super-frames and the kernel as judge: what Linux cuts, what we cut and the segments are the same.

Three TAPs on a bridge in a namespace of its own. A super-frame goes into the first; the bridge
floods it, so the second, plain, gets the kernel's segments, and the third, with offloads, the
super-packet, which our compiled code cuts.
"""

from __future__ import annotations

import itertools
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from e1000emu.clock import RealClock
from e1000emu.links import Capture, Tap
from fastpath.base.batch import FB_GSO_TCPV4, FB_GSO_TCPV6, FB_GSO_UDP, FrameBatch
from tests.e1000emu.links.ports import RecordingPort
from tests.fastpath.rings import data
from tests.fastpath.test_txring_gso import Pair, datagrams, packet, tso_context, uso_context
from tests.support import quiet_ipv6, require

pytestmark = pytest.mark.netns
_serial = itertools.count()
GSO = FB_GSO_TCPV4 | FB_GSO_TCPV6 | FB_GSO_UDP
IXSM, TXSM, EOP, IFCS, TSE = 1, 2, 1, 2, 4
TS = b"\x01\x01\x08\x0a\0\0\0\1\0\0\0\2"


def ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True)


class Bridge:
    def __init__(self) -> None:
        tag = f"{os.getpid() % 100000}x{next(_serial)}"
        self.ns = f"e1k-{tag}"
        self.clock = RealClock()
        ip("netns", "add", self.ns)
        ip("-n", self.ns, "link", "add", "br0", "type", "bridge")
        self.sender, self.plain, self.offload = (
            Tap(f"{letter}{tag}", self.clock, offload=on)
            for letter, on in (("a", True), ("b", False), ("c", True))
        )
        for tap in (self.sender, self.plain, self.offload):
            ip("link", "set", tap.name, "netns", self.ns)
            quiet_ipv6(tap.name, self.ns)
            ip("-n", self.ns, "link", "set", tap.name, "master", "br0", "up")
        quiet_ipv6("br0", self.ns)
        ip("-n", self.ns, "link", "set", "br0", "up")

    def close(self) -> None:
        for tap in (self.sender, self.plain, self.offload):
            tap.close()
        self.clock.close()
        subprocess.run(["ip", "netns", "del", self.ns], check=False, capture_output=True)


@pytest.fixture
def bridge() -> Iterator[Bridge]:
    require.taps()
    made = Bridge()
    if "tso4" not in made.sender.offloads:
        made.close()
        pytest.skip("this kernel's TAP has no offloads")
    yield made
    made.close()


def engine_output(
    v6: bool, size: int, mss: int, options: bytes, flags: int, *, udp: bool = False
) -> tuple[FrameBatch, list[bytes]]:
    """What the engine makes of a TSO packet for a TAP, and the frames of the one that segments."""
    pair = Pair()
    popts = TXSM | (0 if v6 else IXSM)
    raw = datagrams(v6, size) if udp else packet(v6, size, flags, options)
    head = uso_context(v6, size, mss) if udp else tso_context(v6, size, mss, len(options))
    out = []
    for tx in (pair.ours, pair.twin):
        tx.post(head)
        pieces = [raw[at : at + 50000] for at in range(0, len(raw), 50000)]
        for i, piece in enumerate(pieces):
            cmd = IFCS | TSE | (EOP if i == len(pieces) - 1 else 0)
            tx.post(data(tx.put(piece), len(piece), cmd, popts=popts))
        tx.run()
        out.append(tx.batch)
    return out[0], list(out[1])


def of_the_flow(port: RecordingPort, want: list[bytes]) -> list[bytes]:
    """Return what `port` got of the flow of `want`: a host may send frames of its own meanwhile."""
    return [frame for frame in port.frames if frame[:12] == want[0][:12]]


@pytest.mark.parametrize("v6", [False, True])
@pytest.mark.parametrize(
    ("size", "mss", "options"),
    [(65000, 1448, TS), (130000, 1448, TS), (3000, 1460, b""), (5000, 7, b""), (60000, 8000, TS)],
)
def test_linux_and_we_cut_super_frames_into_the_engines_segments(
    bridge: Bridge, v6: bool, size: int, mss: int, options: bytes
) -> None:
    # CWR is left out: without ECN in its gso_type the kernel may cut it either way
    cut_by_all(bridge, *engine_output(v6, size, mss, options, 0x19))


@pytest.mark.parametrize("v6", [False, True])
@pytest.mark.parametrize(("size", "mss"), [(65000, 1472), (130000, 1400), (3000, 1200), (5000, 70)])
def test_linux_and_we_cut_udp_super_frames_into_the_engines_datagrams(
    bridge: Bridge, v6: bool, size: int, mss: int
) -> None:
    if not bridge.sender.caps.gso_udp:
        pytest.skip("this kernel's TAP takes no UDP super-packets (Linux 6.2)")
    cut_by_all(bridge, *engine_output(v6, size, mss, b"", 0, udp=True))


def cut_by_all(bridge: Bridge, batch: FrameBatch, want: list[bytes]) -> None:
    """Send the super-frames of `batch`; both other TAPs give the frames `want`."""
    supers = sum(bool(batch.flags(i) & GSO) for i in range(len(batch)))
    assert supers >= 1
    ports = [RecordingPort(t) for t in (bridge.sender, bridge.plain, bridge.offload)]
    n = len(batch)
    bridge.sender.transmit(batch)
    assert bridge.sender.queue.tx_packets == n
    assert bridge.sender.stats.tx_frames == len(want)
    assert bridge.sender.stats.drops == {}
    enough = lambda: all(len(of_the_flow(p, want)) >= len(want) for p in ports[1:])  # noqa: E731
    bridge.clock.run(until=enough, timeout_ns=20_000_000_000)
    padded = [f.ljust(60, b"\0") for f in want]
    assert of_the_flow(ports[1], want) == padded
    assert of_the_flow(ports[2], want) == padded
    if len(want) < 300:  # so many short ones may come in several super-packets
        assert bridge.offload.queue.rx_packets < len(want)


def test_ecn_crosses_with_cwr_on_the_first_segment_only(bridge: Bridge) -> None:
    batch, want = engine_output(False, 30000, 1448, TS, 0x99)
    ports = [RecordingPort(t) for t in (bridge.sender, bridge.plain, bridge.offload)]
    bridge.sender.transmit(batch)
    for port in ports[1:]:
        assert bridge.clock.run(
            until=lambda port=port: len(of_the_flow(port, want)) >= len(want),
            timeout_ns=20_000_000_000,
        )
        flags = [frame[47] for frame in of_the_flow(port, want)]
        assert flags == [0x90] + [0x10] * (len(want) - 2) + [0x19]


def test_wrapper_of_a_tap_takes_wire_frames_only(bridge: Bridge, tmp_path: Path) -> None:
    assert bridge.sender.caps.gso_max_bytes == 65535
    capture = Capture(bridge.sender, tmp_path / "a.pcapng")
    assert capture.caps.gso_max_bytes == 0
    capture.writer.close()
