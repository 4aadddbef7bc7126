"""Super-packets between our NIC and a Linux kernel: fewer system calls, the same wire."""

from __future__ import annotations

from pathlib import Path

import pytest

from e1000emu.capture import read_capture
from stack.core.ethtool import ethtool_get_stats
from tests.linux.peer import IPV4, IPV6, Family, Wire, judged, pattern, stream
from tests.support import require

pytestmark = pytest.mark.netns
BODY = pattern(6_000_000)


def transfer(wire: Wire, family: Family = IPV4) -> None:
    """Send BODY each way over one connection, one after the other."""
    ours, theirs = wire.connected(family, from_us=True)
    stream(ours, theirs, BODY)
    stream(theirs, ours, BODY)
    ours.close()
    theirs.close()


def checksum_errors(wire: Wire) -> int:
    """What the kernel counts as InCsumErrors of TCP."""
    text = wire.peer.run("cat", "/proc/net/snmp").stdout.decode()
    names, values = (line.split() for line in text.splitlines() if line.startswith("Tcp:"))
    return int(values[names.index("InCsumErrors")])


def test_tcp_crosses_in_super_packets_and_counts_as_on_a_wire(need_linux: None) -> None:
    with Wire() as wire:
        if "tso4" not in wire.tap.offloads:
            pytest.skip("this kernel's TAP has no offloads")
        transfer(wire)
        queue, stats = wire.tap.queue, wire.nic.stats
        assert queue.tx_packets < queue.tx_frames / 3
        assert queue.rx_packets < queue.rx_frames / 3
        with wire.host.lock:  # the last ACKs may be on their way
            assert wire.tap.stats.drops == {}
            assert (wire.tap.stats.tx_frames, wire.tap.stats.tx_bytes) == (
                queue.tx_frames,
                queue.tx_bytes,
            )
            assert stats["GPTC"] == queue.tx_frames
            assert stats["TOT"] == queue.tx_bytes + 4 * queue.tx_frames
        assert checksum_errors(wire) == 0


def test_tcp_over_ipv6_crosses_in_super_packets_too(need_linux: None) -> None:
    with Wire(ipv6=True) as wire:
        if "tso6" not in wire.tap.offloads:
            pytest.skip("this kernel's TAP has no offloads")
        dev = wire.host.dev_by_name["eth0"]
        good = ethtool_get_stats(dev)["rx_csum_offload_good"]
        transfer(wire, IPV6)
        queue, stats = wire.tap.queue, ethtool_get_stats(dev)
        assert queue.tx_packets < queue.tx_frames / 3
        assert queue.rx_packets < queue.rx_frames / 3
        assert wire.tap.stats.drops == {}
        assert checksum_errors(wire) == 0
        # received checksums were the NIC's work, and segments came up merged
        assert stats["rx_csum_offload_good"] - good > len(BODY) // 1440
        assert dev.priv.napi.ring_gro.merged > len(BODY) // 3000


def test_capture_above_the_tap_shows_the_frames_of_a_wire(
    need_linux: None, family: Family, tmp_path: Path
) -> None:
    require.tool("tshark")
    path = tmp_path / "wire.pcapng"
    with Wire(capture=path, ipv6=True) as wire:
        transfer(wire, family)
        # below it the segments that followed each other are one packet for the kernel again
        assert wire.tap.queue.tx_packets < wire.tap.queue.tx_frames / 3
        assert max(record.length for record in read_capture(path)) <= 1514
    assert list(judged(path)) == []
