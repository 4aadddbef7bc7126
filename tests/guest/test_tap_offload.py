"""A guest's TCP through a TAP with nothing between: super-packets, counted as on a wire."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from e1000emu.clock import RealClock
from e1000emu.guest import GuestImage
from e1000emu.links import Tap
from tests.guest.setup import (
    NUMBERS,
    WAIT_S,
    content,
    serve_and_boot,
    statistics,
    tcp_from_peer,
    tcp_to_peer,
    trouble,
    wait_carrier,
)
from tests.linux.peer import Peer
from tests.support import Rig, kept, require

pytestmark = [pytest.mark.netns, pytest.mark.slow]


class Direct(Rig):
    """A guest at 10.9.0.2 and the namespace `peer` at 10.9.0.1; `tap` is the NIC's link itself."""

    def __init__(self, image: GuestImage) -> None:
        with ExitStack() as stack:
            directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="e1000emu-")))
            self.peer = kept(stack, Peer())
            clock = kept(stack, RealClock())
            self.tap = kept(stack, Tap(self.peer.tap_name, clock))
            self.peer.adopt(self.tap.name)
            _, self.guest = serve_and_boot(stack, image, "82540EM", directory, self.tap, clock)
            self._stack = stack.pop_all()

    def counters(self) -> dict[str, int]:
        """What crossed the TAP so far, and what the driver and the far kernel counted."""
        queue, found = self.tap.queue, statistics(self.guest)
        text = self.peer.run("cat", "/proc/net/snmp").stdout.decode()
        names, values = (line.split() for line in text.splitlines() if line.startswith("Tcp:"))
        return {
            **{
                f"tap_{n}": getattr(queue, n)
                for n in ("tx_packets", "tx_frames", "rx_packets", "rx_frames")
            },
            **{n: found[n] for n in ("tx_packets", "rx_packets", "tx_tcp_seg_good")},
            "InCsumErrors": int(values[names.index("InCsumErrors")]),
        }


@pytest.fixture(scope="module")
def direct(image: GuestImage) -> Iterator[Direct]:
    require.taps()
    with Direct(image) as made:
        if "tso4" not in made.tap.offloads:
            pytest.skip("this kernel's TAP has no offloads")
        yield made


def difference(direct: Direct, before: dict[str, int]) -> dict[str, int]:
    return {name: value - before[name] for name, value in direct.counters().items()}


@pytest.mark.parametrize("tso", [True, False], ids=["tso", "no-tso"])
def test_a_tso_frame_of_the_guest_crosses_in_one_write(direct: Direct, tso: bool) -> None:
    direct.guest.run(f"ethtool -K eth0 tso {'on' if tso else 'off'}", timeout_s=WAIT_S).check()
    wait_carrier(direct.guest)
    before = direct.counters()
    tcp_to_peer(direct.guest, direct.peer)
    more = difference(direct, before)
    assert more["tap_tx_frames"] * 1460 >= len(content(NUMBERS))
    assert more["tx_packets"] == more["tap_tx_frames"]
    assert (more["tx_tcp_seg_good"] > 0) == tso
    if tso:
        assert more["tap_tx_packets"] < more["tap_tx_frames"] / 4
    else:  # what the guest cut and the ring had at once is one packet again
        assert more["tap_tx_packets"] < more["tap_tx_frames"]
    assert more["InCsumErrors"] == 0
    assert direct.tap.stats.drops == {}
    assert trouble(direct.guest) == []


def test_the_kernels_super_packets_reach_the_guest_as_frames(direct: Direct) -> None:
    queue = direct.tap.queue
    before = direct.counters()
    tcp_from_peer(direct.guest, direct.peer)
    more = difference(direct, before)
    assert more["rx_packets"] == more["tap_rx_frames"] >= len(content(NUMBERS)) // 1460
    assert more["tap_rx_packets"] < more["tap_rx_frames"] / 4
    assert queue.take_drops() == {}
    assert trouble(direct.guest) == []
