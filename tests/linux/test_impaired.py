"""TCP and UDP over a bad wire: 5 % loss, reordering, duplicates, by the impair link at the TAP."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from tests.linux.peer import DATA_PORT, Family, Wire, judged, pattern, receive_all
from tests.support import require

pytestmark = pytest.mark.netns

BAD = {"loss": 0.05, "reorder": 0.05, "duplicate": 0.02, "seed": 20}


@pytest.mark.slow
@pytest.mark.parametrize("direction", ["up", "down"])
def test_stream_survives_loss_reordering_and_duplicates(
    need_linux: None, family: Family, tmp_path: Path, direction: str
) -> None:
    require.tool("tshark")
    path = tmp_path / "bad.pcapng"
    data = pattern(2_000_000)
    with Wire(ipv6=True, impair=BAD, capture=path) as wire:
        listener = wire.listen(DATA_PORT, family)
        theirs = wire.peer.socket(family=family.af)
        theirs.settimeout(250)
        theirs.connect((family.ours, DATA_PORT))
        ours, _ = listener.accept()
        ours.settimeout(250)
        sender, reader = (theirs, ours) if direction == "up" else (ours, theirs)
        worker = wire.spawn(lambda: (sender.sendall(data), sender.shutdown(socket.SHUT_WR)))
        assert receive_all(reader) == data
        worker.result()
        assert wire.impair is not None
        assert {"loss", "reorder", "duplicate"} <= set(wire.impair.events)
        theirs.close()
        ours.close()
        listener.close()
    assert list(judged(path)) == []


def test_bit_errors_are_caught_by_the_checksums(need_linux: None, family: Family) -> None:
    data = pattern(500_000, seed=8)
    with Wire(ipv6=True, impair={"corrupt": 0.01, "seed": 4}) as wire:
        listener = wire.listen(DATA_PORT, family)
        theirs = wire.peer.socket(family=family.af)
        theirs.settimeout(250)
        theirs.connect((family.ours, DATA_PORT))
        ours, _ = listener.accept()
        ours.settimeout(250)
        worker = wire.spawn(lambda: (theirs.sendall(data), theirs.shutdown(socket.SHUT_WR)))
        assert receive_all(ours) == data
        worker.result()
        back = wire.spawn(lambda: (ours.sendall(data), ours.shutdown(socket.SHUT_WR)))
        assert receive_all(theirs) == data
        back.result()
        theirs.close()
        ours.close()
        listener.close()


def test_pings_come_through_or_are_lost_never_wrong(need_linux: None, family: Family) -> None:
    ping = require.tool("ping", "iputils-ping")
    with Wire(ipv6=True, impair=BAD) as wire:
        out = wire.peer.run(
            ping, "-q", "-c", "200", "-i", "0.01", "-s", "3000", "-W", "2", family.ours, check=False
        ).stdout.decode()
    received = int(out.split(" received")[0].split()[-1])
    assert 100 < received <= 200
    assert "corrupt" not in out
