"""TCP and UDP over a bad wire: 5 % loss, reordering, duplicates, by the impair link at the TAP."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Any

import pytest

from tests.linux.peer import Family, Wire, judged, pattern, stream
from tests.support import require

pytestmark = pytest.mark.netns

BAD = {"loss": 0.05, "reorder": 0.05, "duplicate": 0.02, "seed": 20}


def connected(wire: Wire, family: Family) -> tuple[Any, socket.socket]:
    """Return our end and the kernel's of a connection on which data may take long."""
    ends = wire.connected(family, from_us=False)
    for end in ends:
        end.settimeout(250)
    return ends


@pytest.mark.slow
@pytest.mark.parametrize("direction", ["up", "down"])
def test_stream_survives_loss_reordering_and_duplicates(
    need_linux: None, family: Family, tmp_path: Path, direction: str
) -> None:
    require.tool("tshark")
    path = tmp_path / "bad.pcapng"
    data = pattern(2_000_000)
    with Wire(ipv6=True, impair=BAD, capture=path) as wire:
        ours, theirs = connected(wire, family)
        stream(*((theirs, ours) if direction == "up" else (ours, theirs)), data)
        assert wire.impair is not None
        assert {"loss", "reorder", "duplicate"} <= set(wire.impair.events)
        theirs.close()
        ours.close()
    assert list(judged(path)) == []


def test_bit_errors_are_caught_by_the_checksums(need_linux: None, family: Family) -> None:
    data = pattern(500_000, seed=8)
    with Wire(ipv6=True, impair={"corrupt": 0.01, "seed": 4}) as wire:
        ours, theirs = connected(wire, family)
        stream(theirs, ours, data)
        stream(ours, theirs, data)
        theirs.close()
        ours.close()


def test_pings_come_through_or_are_lost_never_wrong(need_linux: None, family: Family) -> None:
    ping = require.tool("ping", "iputils-ping")
    with Wire(ipv6=True, impair=BAD) as wire:
        out = wire.peer.run(
            ping, "-q", "-c", "200", "-i", "0.01", "-s", "3000", "-W", "2", family.ours, check=False
        ).stdout.decode()
    received = int(out.split(" received")[0].split()[-1])
    assert 100 < received <= 200
    assert "corrupt" not in out
