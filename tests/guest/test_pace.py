"""`pace`: a guest's traffic takes the time that the speed of its link asks for."""

from __future__ import annotations

import time

import pytest

from tests.guest.setup import (
    OnTap,
    content,
    ping,
    prepared,
    tcp_from_peer,
    tcp_to_peer,
    wait_carrier,
)
from tests.support import require

pytestmark = [pytest.mark.netns, pytest.mark.slow]

SPEEDS = ((10, "half"), (100, "full"))


def test_the_guests_speed_is_the_wires():
    require.taps()
    with OnTap(prepared(), "82540EM", pace=True) as on_tap:
        guest = on_tap.guest
        for speed_mbps, duplex in SPEEDS:
            guest.run(f"ethtool -s eth0 speed {speed_mbps} duplex {duplex} autoneg off").check()
            wait_carrier(guest)
            ping(guest)
            least_s = 8 * len(content()) / (speed_mbps * 1e6)
            for way in (tcp_to_peer, tcp_from_peer):
                start = time.monotonic()
                way(guest, on_tap.peer)
                assert time.monotonic() - start > least_s
        on_tap.assert_no_trouble()
        assert on_tap.tap.stats.drops == {}
